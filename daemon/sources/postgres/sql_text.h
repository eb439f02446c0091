// SQL as text: names and strings as a person, or the server, reads them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// 'it''s'; with a backslash in it E'...', which reads the same whatever standard_conforming_strings says.
std::string quoted_text(std::string_view text);
// The same for a command of the replication protocol, which knows no E'...' and takes a backslash as it is.
std::string quoted_option(std::string_view text);
// "My-Pub", always in quotes: for statements that we send.
std::string quoted_name(std::string_view name);
// For a person: without the quotes where none are needed.
std::string shown_name(std::string_view name);

// Whether the index i of the table c (pg_index, pg_class) is what its rows are identified by in the stream. As the server sees
// it: a key that is DEFERRABLE, or whose index is invalid, identifies nothing, and UPDATE of the table would be refused once
// it is published.
inline constexpr std::string_view kIsIdentity =
    "i.indisvalid and i.indimmediate and (c.relreplident = 'd' and i.indisprimary or c.relreplident = 'i' and i.indisreplident)";

// The collation of the column a (pg_attribute), as SQL writes it, where it takes texts for equal that differ. Before
// PostgreSQL 12 there is none, and no such column of the catalogue.
// The oids are those of none, "default" and "C", which nearly all columns have.
inline constexpr std::string_view kLooseCollation =
    "case when a.attcollation in (0, 100, 950) then '' else coalesce((select pg_catalog.format('%I.%I', m.nspname, o.collname) from"
    " pg_catalog.pg_collation o join pg_catalog.pg_namespace m on m.oid = o.collnamespace where o.oid = a.attcollation and"
    " pg_catalog.to_jsonb(o) ->> 'collisdeterministic' = 'false'), '') end";

}  // namespace evictd
