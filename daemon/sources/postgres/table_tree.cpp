#include "daemon/sources/postgres/table_tree.h"

#include <fmt/format.h>

#include <memory>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

// A catalogue that is locked, or hangs, is asked again.
constexpr auto kAnswerMax = std::chrono::seconds(10);

// Everything below the roots, and the roots themselves at level 0. A relation with two parents comes once for each root.
std::string tree_of(const std::string& roots) {
  return fmt::format(
      "with recursive tree(root, relation) as ("
      " select c.oid, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace"
      "  where n.nspname || '.' || c.relname in ({})"
      " union select t.root, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relation) ",
      roots);
}

Result<TableTree> read_tree(Catalogue& catalogue, const std::vector<std::string>& tables, const std::string& publication) {
  TableTree tree;
  if (tables.empty()) return tree;
  std::string roots;
  for (const std::string& table : tables) roots += (roots.empty() ? "" : ", ") + quoted_text(table);
  const auto below = catalogue.query(
      tree_of(roots) +
      "select n.nspname || '.' || c.relname, rn.nspname, r.relname, c.relispartition, c.relkind from tree t"
      " join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = c.relnamespace"
      " join pg_class r on r.oid = t.root join pg_namespace rn on rn.oid = r.relnamespace"
      " where t.root <> t.relation order by 1, 2, 3");
  if (!below) return tl::unexpected(below.error());
  for (const auto& row : *below) {
    tree.above[row[0]].push_back({row[1], row[2]});
    if (row[3] != "t") tree.children.insert(row[0]);
    if (row[4] == "p") tree.partitioned.insert(row[0]);
  }
  // The column is there since PostgreSQL 15.
  const auto filtered = catalogue.query(
      tree_of(roots) +
      "select distinct p.schemaname || '.' || p.tablename from pg_publication_tables p"
      " join pg_namespace n on n.nspname = p.schemaname"
      " join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename"
      " join tree t on t.relation = c.oid where p.pubname = " +
      quoted_text(publication) + " and to_jsonb(p) ->> 'rowfilter' is not null order by 1");
  if (!filtered) return tl::unexpected(filtered.error());
  for (const auto& row : *filtered) tree.filtered.push_back(row[0]);
  return tree;
}

}  // namespace

AskTableTree ask_table_tree(const Conninfo& conninfo, const std::string& publication) {
  return [catalogue = std::make_shared<Catalogue>(conninfo, kAnswerMax), publication](const std::vector<std::string>& tables) {
    auto tree = read_tree(*catalogue, tables, publication);
    catalogue->disconnect();
    return tree;
  };
}

}  // namespace evictd
