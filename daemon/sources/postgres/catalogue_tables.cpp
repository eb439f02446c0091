// What the catalogue says about the mapped tables.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "daemon/sources/postgres/catalogue_session.h"

namespace evictd {
namespace {

std::string wanted_names(CatalogueSession& session, const std::vector<std::string>& tables) {
  std::string list;
  for (const std::string& table : tables) {
    const TableName name = table_name(table);
    if (!list.empty()) list += ", ";
    list += "(" + session.quote(name.schema) + "::name, " + session.quote(name.table) + "::name)";
  }
  return list;
}

void read_columns(CatalogueSession& session, const Subject& subject,
                  std::unordered_map<Oid, RelationFacts>& relations) {
  std::string oids;
  for (const auto& [oid, facts] : relations)
    oids += fmt::format("{}{}", oids.empty() ? "" : ",", oid);
  if (oids.empty()) return;
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
      "select a.attrelid, a.attname, a.atttypid,"
      " case when t.typtype <> 'd' then a.atttypid when b.typtype <> 'd' then t.typbasetype else "
      "b.typbasetype end,"
      " c.relreplident = 'f' or exists (select from pg_index i where i.indrelid = a.attrelid"
      "   and a.attnum = any (i.indkey) and ((c.relreplident = 'd' and i.indisprimary)"
      "   or (c.relreplident = 'i' and i.indisreplident))),"
      " {}, not a.attnotnull, a.attstorage in ('x', 'e', 'm') and a.attlen < 0, {}"
      " from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = "
      "c.relnamespace"
      " join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = t.typbasetype{}"
      " where a.attrelid in ({}) and a.attnum > 0 and not a.attisdropped order by a.attrelid, "
      "a.attnum",
      version >= 120000 ? "a.attgenerated <> ''" : "false",
      version >= 150000 ? "l.attnames is null or a.attname = any (l.attnames)" : "true", lists,
      oids));
  for (const auto& row : rows) {
    ColumnFacts column;
    column.name = row[1];
    column.type = static_cast<Oid>(std::stoul(row[2]));
    column.base_type = static_cast<Oid>(std::stoul(row[3]));
    column.in_identity = row[4] == "t";
    column.is_generated = row[5] == "t";
    column.is_nullable = row[6] == "t";
    column.can_be_toasted = row[7] == "t";
    column.is_published = row[8] == "t";
    relations.at(static_cast<Oid>(std::stoul(row[0]))).columns.push_back(std::move(column));
  }
}

}  // namespace

std::map<std::string, TableFacts> read_tables(CatalogueSession& session, const Subject& subject) {
  std::map<std::string, TableFacts> tables;
  if (subject.tables.empty()) return tables;
  const auto rows = session.query(fmt::format(
      "with recursive tree(root, relation, level) as ("
      " select c.oid, c.oid, 0 from pg_class c join pg_namespace n on n.oid = c.relnamespace"
      "  where (n.nspname, c.relname) in ({0}) and c.relkind in ('r', 'p', 'v', 'm', 'f')"
      " union select t.root, i.inhrelid, t.level + 1 from tree t join pg_inherits i on i.inhparent "
      "= t.relation),"
      " published as (select * from pg_publication_tables where pubname = {1})"
      " select t.root, t.relation, t.level, n.nspname, c.relname, c.relkind, c.relpersistence = "
      "'u', c.relreplident,"
      "  p.tablename is not null, exists (select from pg_publication_rel r join pg_publication q "
      "on q.oid = r.prpubid"
      "   where q.pubname = {1} and r.prrelid = t.relation), {2},"
      // The row type is made with the table and hardly ever touched again: made by the transaction
      // that made the relation a partition.
      "  exists (select from pg_inherits i join pg_type y on y.oid = c.reltype"
      "   where i.inhrelid = t.relation and i.xmin = y.xmin)"
      " from tree t join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = "
      "c.relnamespace"
      " left join published p on p.schemaname = n.nspname and p.tablename = c.relname"
      " order by t.root, t.level, t.relation",
      wanted_names(session, subject.tables), session.quote(subject.publication),
      session.version() >= 150000 ? "p.rowfilter" : "null"));

  std::unordered_map<Oid, RelationFacts> relations;
  struct Node {
    Oid root, relation;
    bool is_listed;
  };
  std::vector<Node> nodes;
  for (const auto& row : rows) {
    RelationFacts facts;
    facts.oid = static_cast<Oid>(std::stoul(row[1]));
    facts.name = TableName{row[3], row[4]};
    facts.kind = row[5].at(0);
    facts.is_unlogged = row[6] == "t";
    facts.identity = row[7].at(0);
    facts.is_published = row[8] == "t";
    facts.row_filter = row[10];
    facts.is_born_partition = row[11] == "t";
    nodes.push_back({static_cast<Oid>(std::stoul(row[0])), facts.oid, row[9] == "t"});
    relations.emplace(facts.oid, std::move(facts));
  }
  if (subject.with_columns) read_columns(session, subject, relations);

  std::unordered_map<Oid, std::string> roots;
  for (const Node& node : nodes) {
    const RelationFacts& facts = relations.at(node.relation);
    if (node.root == node.relation) {
      const std::string name = facts.name.schema + "." + facts.name.table;
      roots[node.root] = name;
      tables[name].table = facts;
      // With publish_via_partition_root the root alone is listed; a root without partitions is not
      // listed at all.
      tables[name].is_published = facts.is_published || node.is_listed;
    } else {
      tables[roots.at(node.root)].members.push_back(facts);
    }
  }
  for (auto& [name, table] : tables) {
    if (table.table.is_published) continue;
    const auto holders = table.row_relations();
    if (holders.empty()) continue;
    table.is_published =
        std::all_of(holders.begin(), holders.end(),
                    [](const RelationFacts* relation) { return relation->is_published; });
  }
  return tables;
}

}  // namespace evictd
