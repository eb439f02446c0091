// What the catalogue says about the mapped tables.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "daemon/sources/postgres/catalogue_session.h"
#include "daemon/sources/postgres/catalogue_types.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

using Relations = std::unordered_map<Oid, RelationFacts>;

Oid oid_of(const std::string& text) { return static_cast<Oid>(std::stoul(text)); }

std::string oid_list(const Relations& relations) {
  std::string list;
  for (const auto& [oid, facts] : relations) list += fmt::format("{}{}", list.empty() ? "" : ",", oid);
  return list;
}

void read_columns(CatalogueSession& session, const Subject& subject, const PublicationFacts& publication, Relations& relations) {
  const int version = session.version();
  // Column lists are as old as PostgreSQL 15; before, every column is published.
  const std::string lists =
      version >= 150000
          ? fmt::format(
                " left join pg_publication_tables l on l.pubname = {} and l.schemaname = n.nspname"
                " and l.tablename = c.relname",
                session.quote(subject.publication))
          : "";
  const auto rows = session.query(fmt::format(
      "select a.attrelid, a.attname, a.atttypid, a.attnum,"
      " c.relreplident = 'f' or exists (select from pg_index i where i.indrelid = a.attrelid"
      "   and a.attnum = any (i.indkey) and {}),"
      " {}, {}, a.attstorage in ('x', 'e', 'm') and a.attlen < 0, {},"
      " format_type(a.atttypid, a.atttypmod), a.atttypmod, t.typcategory, a.xmin, t.typname, {},"
      // What else its row says: who altered that has written the row as well.
      " concat_ws(' ', a.attnotnull, a.atthasdef, a.attstattarget, a.attstorage,"
      "  a.attislocal, a.attinhcount, a.attacl::text, a.attoptions::text{}), {}, case when t.typcategory = 'A' then t.typelem else 0 end, {}"
      " from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = "
      "c.relnamespace join pg_type t on t.oid = a.atttypid{}"
      " where a.attrelid in ({}) and a.attnum > 0 and not a.attisdropped order by a.attrelid, "
      "a.attnum",
      kIsIdentity, version >= 120000 ? "a.attgenerated <> ''" : "false",
      // NOT NULL that is NOT VALID says nothing of the rows that are there.
      version >= kGeneratedColumnsVersion ? "not a.attnotnull or exists (select from pg_constraint v where v.conrelid = a.attrelid and v.contype = 'n'"
                                            " and v.conkey = array[a.attnum] and not v.convalidated)"
                                          : "not a.attnotnull",
      version >= 150000 ? "l.attnames is null or a.attname = any (l.attnames)" : "true",
      kLooseCollation,
      version >= 140000 ? ", a.atthasmissing, a.attidentity, a.attgenerated, a.attcompression" : "",
      version >= kGeneratedColumnsVersion ? "a.attgenerated = 'v'" : "false",
      version >= kGeneratedColumnsVersion ? "(select d.oid::text || ':' || d.xmin::text from pg_attrdef d where a.attgenerated = 'v'"
                                            " and d.adrelid = a.attrelid and d.adnum = a.attnum)"
                                          : "''",
      lists, oid_list(relations)));
  std::set<Oid> used;
  for (const auto& row : rows) used.insert(oid_of(row[2]));
  const CatalogueTypes types = read_types(session, used);
  for (const auto& row : rows) {
    RelationFacts& relation = relations.at(oid_of(row[0]));
    ColumnFacts column;
    column.name = row[1];
    column.type = oid_of(row[2]);
    column.number = std::stoi(row[3]);
    column.in_identity = row[4] == "t";
    column.is_generated = row[5] == "t";
    column.is_nullable = row[6] == "t";
    column.can_be_toasted = row[7] == "t";
    column.is_published = row[8] == "t";
    column.base_type = types.base_of(column.type);
    column.type_text = types.text_of(column.type, relation.labels);
    column.type_name = row[9];
    column.modifier = column.base_type == column.type ? std::stoi(row[10]) : types.modifier_of(column.type);
    column.category = row[11].at(0);
    column.written_by = static_cast<std::uint32_t>(std::stoul(row[12]));
    column.base_type_name = types.name_of(column.base_type, row[13]);
    column.loose_collation = row[14];
    column.traits = row[15];
    column.is_virtual = row[16] == "t";
    column.computed_by = row[18];
    // One that we create sends what is stored.
    const bool is_sent = !column.is_virtual && (!publication.exists || publication.sends_generated);
    column.breaks_identity = version >= kGeneratedColumnsVersion && column.is_generated && !is_sent;
    column.enum_labels = types.labels_of(column.base_type);
    const Oid element = types.element_of(column.type);
    column.element_type = element != 0 ? element : oid_of(row[17]);
    column.element_name = types.name_of(column.element_type, "");
    column.element_category = types.category_of(column.element_type);
    column.element_labels = types.labels_of(column.element_type);
    relation.columns.push_back(std::move(column));
  }
}

// The row that says in which schema a relation lies. Unlike those of pg_class and pg_type it is written by SET SCHEMA alone.
std::string placed_by(std::string_view relation) {
  return fmt::format("(select d.refobjid::text || ':' || d.xmin::text from pg_depend d join pg_class dc on dc.oid = d.objid"
                     " where d.classid = 'pg_class'::regclass and d.objid = {} and d.objsubid = 0"
                     " and d.refclassid = 'pg_namespace'::regclass and d.refobjid = dc.relnamespace limit 1)",
                     relation);
}

// "16384 f 16390>16384:731,;16384 t 16390>16384:731,in 2200:712"
std::vector<PublicationWay> read_ways(const std::string& text) {
  std::vector<PublicationWay> ways;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(';', begin), text.size());
    const std::string one = text.substr(begin, end - begin);
    const std::size_t first = one.find(' ');
    ways.push_back({oid_of(one.substr(0, first)), one.at(first + 1) == 't', one.substr(first + 3)});
    begin = end + 1;
  }
  return ways;
}

// The rows of the catalogue that put each relation into the publication: its own, and those of the partitioned tables
// above it, wherever these are.
void read_publication_marks(CatalogueSession& session, const Subject& subject, const PublicationFacts& publication,
                            Relations& relations) {
  std::string more;
  if (session.version() >= 150000) {
    more = " union all select up.*, s.oid, s.xmin, true from up join pg_class c on c.oid = up.ancestor"
           " join pg_publication_namespace s on s.pnnspid = c.relnamespace join pg_publication q on q.oid = s.pnpubid"
           " where q.pubname = " +
           session.quote(subject.publication);
  }
  if (publication.all_tables) more += " union all select up.*, '0'::oid, '0'::xid, false from up";
  const auto rows = session.query(fmt::format(
      "with recursive up(relation, ancestor, level, steps) as (select oid, oid, 0, '' from pg_class where oid in ({0})"
      " union select up.relation, i.inhparent, up.level + 1,"
      "  up.steps || up.ancestor::text || '>' || i.inhparent::text || ':' || i.xmin::text || ',' from up"
      " join pg_class c on c.oid = up.ancestor and c.relispartition"
      " join pg_inherits i on i.inhrelid = up.ancestor),"
      " marks(relation, ancestor, level, steps, mark, writer, by_schema) as ("
      " select up.*, r.oid, r.xmin, false from up join pg_publication_rel r on r.prrelid = up.ancestor"
      "  join pg_publication q on q.oid = r.prpubid where q.pubname = {1}{2})"
      " select relation, string_agg(mark::text || ':' || writer::text, ',' order by mark, level),"
      "  bool_or(level > 0), (array_agg(ancestor order by level desc))[1], {3},"
      "  string_agg(ancestor::text || ' ' || case when by_schema then 't ' else 'f ' end || steps"
      "   || case when by_schema then 'in ' || coalesce({4}, '') else '' end, ';' order by level, by_schema, mark)"
      " from marks group by relation",
      oid_list(relations), session.quote(subject.publication), more,
      session.version() >= 150000 ? fmt::format("(select pg_get_expr(f.prqual, f.prrelid) from pg_publication_rel f join pg_publication g on g.oid = f.prpubid"
                                                " where g.pubname = {} and f.prrelid = (array_agg(ancestor order by level desc))[1])",
                                                session.quote(subject.publication))
                                  : "null",
      placed_by("marks.ancestor")));
  for (const auto& row : rows) {
    RelationFacts& relation = relations.at(oid_of(row[0]));
    relation.publication_marks = row[1];
    relation.ways = read_ways(row[5]);
    relation.has_inherited_marks = row[2] == "t";
    if (!publication.via_root) continue;
    relation.published_as = oid_of(row[3]);
    relation.row_filter = row[4];  // that of the table under whose name it is sent, whether or not a rule names that
  }
  for (auto& [oid, relation] : relations) {
    const bool is_covered = !relation.publication_marks.empty();
    // Published under the root's name, the partitions are not listed; nor is a partitioned table without partitions.
    const bool is_unlisted = (publication.via_root && relation.is_partition) || relation.kind == 'p';
    if (is_covered && is_unlisted) relation.is_published = true;
  }
}

}  // namespace

std::map<std::string, TableFacts> read_tables(CatalogueSession& session, const Subject& subject,
                                              const PublicationFacts& publication) {
  std::map<std::string, TableFacts> tables;
  if (subject.tables.empty()) return tables;
  std::string wanted;
  // Both parts may have dots of their own: compared as one text.
  for (const std::string& table : subject.tables) wanted += (wanted.empty() ? "" : ", ") + session.quote(table);
  // Column lists are as old as PostgreSQL 15. That our own sends no generated columns is known by the column.
  std::string lists = session.version() < 150000 ? "null"
                                                 : "(select min(q.pubname) from pg_publication_rel r join pg_publication q on q.oid = r.prpubid where r.prattrs is not null"
                                                   " and (r.prrelid = c.oid or c.relispartition and r.prrelid in (select relid from pg_partition_ancestors(c.oid))))";
  if (session.version() >= kGeneratedColumnsVersion) {
    lists = fmt::format("coalesce({}, (select min(q.pubname) from pg_publication q where q.pubgencols = 'n' and q.pubname <> {}"
                        " and exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 's' and not a.attisdropped)"
                        " and exists (select from pg_publication_tables l where l.pubname = q.pubname and l.schemaname = n.nspname and l.tablename = c.relname)))",
                        lists, session.quote(subject.publication));
  }
  const auto rows = session.query(fmt::format(
      "with recursive tree(root, relation) as ("
      " select c.oid, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace"
      "  where n.nspname || '.' || c.relname in ({0}) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')"
      " union select t.root, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relation),"
      " published as (select * from pg_publication_tables where pubname = {1})"
      " select t.root, t.relation, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident,"
      "  p.tablename is not null, {2}, c.relispartition, c.relfilenode, c.reltoastrelid, c.xmin,"
      "  pg_has_role(current_user, c.relowner, 'USAGE'),"
      "  (select string_agg(i.inhparent::text || ':' || i.xmin::text, ',' order by i.inhparent) from pg_inherits i"
      "   where i.inhrelid = t.relation),"
      // Made by the transaction that put it below its parents, with a column of each that no command has touched since:
      // ATTACH and INHERIT mark all of them as inherited, in the command that writes the row of pg_inherits. What a
      // command tried to write (xmax) does not tell any more which command wrote it.
      "  not exists (select from pg_inherits i join pg_type y on y.oid = c.reltype where i.inhrelid = t.relation"
      "   and (i.xmin <> y.xmin or i.xmax <> '0'::xid or not exists ("
      "    select from pg_attribute a join pg_attribute above on above.attrelid = i.inhparent and above.attname = a.attname"
      "    where a.attrelid = t.relation and a.attnum > 0 and above.attnum > 0 and not a.attisdropped and a.xmax = '0'::xid"
      "    and a.xmin = i.xmin and a.cmin::text::bigint < i.cmin::text::bigint)))"
      "   and exists (select from pg_inherits i where i.inhrelid = t.relation), c.relowner, (select y.xmin from pg_type y where y.oid = c.reltype), {3}, {4},"
      "  exists (select from pg_inherits i join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = t.relation"
      "   and d.objsubid = 0 and d.refclassid = 'pg_namespace'::regclass and d.refobjid = c.relnamespace"
      "   where i.inhrelid = t.relation and d.xmin = i.xmin and d.xmax = '0'::xid"
      "   and d.cmin::text::bigint < i.cmin::text::bigint)"
      " from tree t join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = "
      "c.relnamespace"
      " left join published p on p.schemaname = n.nspname and p.tablename = c.relname"
      " order by t.root, t.root <> t.relation, t.relation",
      wanted, session.quote(subject.publication), session.version() >= 150000 ? "p.rowfilter" : "null", lists, placed_by("t.relation")));
  if (rows.empty()) return tables;

  Relations relations;
  std::vector<std::pair<Oid, Oid>> nodes;  // the root first, then what lies below it
  for (const auto& row : rows) {
    RelationFacts facts;
    facts.oid = oid_of(row[1]);
    facts.name = TableName{row[2], row[3]};
    facts.kind = row[4].at(0);
    facts.persistence = row[5].at(0);
    facts.is_unlogged = facts.persistence == 'u';
    facts.identity = row[6].at(0);
    facts.is_published = row[7] == "t";
    facts.row_filter = row[8];
    facts.is_partition = row[9] == "t";
    facts.file = oid_of(row[10]);
    facts.toast = oid_of(row[11]);
    facts.written_by = static_cast<std::uint32_t>(std::stoul(row[12]));
    facts.is_owned = row[13] == "t";
    facts.parents = row[14];
    facts.is_born_partition = row[15] == "t";
    facts.owner = oid_of(row[16]);
    facts.named_by = row[17].empty() ? 0 : static_cast<std::uint32_t>(std::stoul(row[17]));
    facts.full_refused_by = row[18];
    facts.placed_by = row[19];
    facts.is_born_in_schema = row[20] == "t";
    nodes.emplace_back(oid_of(row[0]), facts.oid);
    relations.emplace(facts.oid, std::move(facts));
  }
  read_publication_marks(session, subject, publication, relations);
  if (subject.with_columns) read_columns(session, subject, publication, relations);

  std::unordered_map<Oid, std::string> roots;
  for (const auto& [root, oid] : nodes) {
    const RelationFacts& facts = relations.at(oid);
    if (root == oid) {
      const std::string name = facts.name.schema + "." + facts.name.table;
      roots[root] = name;
      tables[name].table = facts;
    } else {
      tables[roots.at(root)].members.push_back(facts);
    }
  }
  for (auto& [name, table] : tables) {
    const auto holders = table.row_relations();
    table.is_published = holders.empty()
                             ? table.table.is_published
                             : std::all_of(holders.begin(), holders.end(), [](const RelationFacts* relation) {
                                 return relation->is_published;
                               });
  }
  return tables;
}

}  // namespace evictd
