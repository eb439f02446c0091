// What the catalogue says of a followed table, as one text to be kept and compared. It holds what decides whether every
// change of the table's values came through the stream, down to the transactions that wrote the catalogue's rows, so
// that what was changed and put back between two looks is seen as well. Pure.
//
//   <oid>/<members>/<publication>/<columns>/<labels>/<storage>/<names>/<traits>/<ways>/<place>
//   each but the first a hash, 16 hexadecimal digits
//
// members      which relations lie below it, and the rows of pg_inherits that say so
// publication  whether and by which rows of pg_publication* each of them is published, with which operations
// columns      number, name and type of each column, with what domains, arrays and composite types are made of
// labels       of the enums among these types
// storage      whether each relation is logged, and which storage it has (see storage_mark)
// names        who wrote what names the table and its columns: a name that was changed and put back is known by it
// traits       what else is written there and says nothing of values (an owner, rights, defaults, NOT NULL, statistics)
// ways         where a row of pg_publication* is not the relation's own: the rows of pg_inherits up to the partitioned table
//              that is published, whether below the rule's table or above it; and which row put into the schema what is
//              published with a schema
// place        which row put the table into its schema
//
// A record of eight parts, without the last two, is compared by those.
//
// A name is taken for changed and put back when `names` differs and `traits` does not. (Where both do, something was altered
// that explains it; a rename between the same two looks, or while evictd was away, is then not seen.)
//
// Not part of it, since the stream tells it exactly: the replica identity. Nor what says nothing of values: indexes,
// constraints. Nor the name of the schema, whose row is written by each GRANT, also by one that changes nothing.
#pragma once

#include <map>
#include <string>

#include "daemon/sources/postgres/catalogue.h"

namespace evictd {

std::string table_digest(const TableFacts& table, const PublicationFacts& publication);

enum class TableVerdict {
  kSame,
  kGrown,        // nothing is missed: new empty members, columns or labels, each published from its beginning
  kRecreated,    // another table of that name
  kMembers,      // relations came, with whatever rows they had, went, or were away for a time
  kPublication,  // not everything was published for a time, or is not now
  kChanged,      // values may have changed without a row in the stream
};

// `before`: a digest made earlier, or the bare OID that records had at first, which tells of kRecreated only.
TableVerdict compare_digest(const std::string& before, const TableFacts& now, const PublicationFacts& publication);

// ALTER TABLE that rewrites a table gives it another TOAST table; VACUUM FULL, CLUSTER and TRUNCATE keep that, so they
// are not taken for a change of values. A table without one is known by its file, which all of them replace; so is a
// partition whose TRUNCATE is not sent, because its changes are published as its root's.
std::string storage_mark(const RelationFacts& relation, const PublicationFacts& publication);

}  // namespace evictd
