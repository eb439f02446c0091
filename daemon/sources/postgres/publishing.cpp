#include "daemon/sources/postgres/publishing.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

std::string full_name(const TableName& name) { return name.schema + "." + name.table; }

// "table 'public.pay'", or "'public.cheque', which lies below 'public.pay',".
std::string subject_of(const RelationFacts& relation, const TableFacts& facts) {
  if (relation.oid == facts.table.oid) return fmt::format("table '{}'", full_name(relation.name));
  return fmt::format("'{}', which lies below '{}',", full_name(relation.name), full_name(facts.table.name));
}

// What no publication can help.
std::optional<Unserved> undecodable(const RelationFacts& relation, const TableFacts& facts) {
  const std::string who = subject_of(relation, facts);
  if (relation.kind == 'f') {
    return Unserved{Unserved::Why::kForeign, relation.name, who + " is a foreign table: its changes are not decoded", ""};
  }
  if (relation.kind != 'r' && relation.kind != 'p') {
    return Unserved{Unserved::Why::kNoTable, relation.name,
                    fmt::format("'{}' is not a table: its changes are not decoded", full_name(relation.name)), ""};
  }
  if (relation.persistence == 't') {
    return Unserved{Unserved::Why::kTemporary, relation.name, who + " is temporary: its changes are not decoded", ""};
  }
  if (relation.is_unlogged) {
    return Unserved{Unserved::Why::kUnlogged, relation.name, who + " is unlogged: its changes are not decoded",
                    fmt::format("ALTER TABLE {} SET LOGGED;", shown_relation(relation.name))};
  }
  return std::nullopt;
}

}  // namespace

Publishing plan_publishing(const TableFacts& facts, const PublicationFacts& publication,
                           const std::string& publication_name) {
  Publishing result;
  std::vector<const RelationFacts*> holders;
  if (facts.table.kind != 'p') holders.push_back(&facts.table);
  for (const RelationFacts& member : facts.members) {
    if (member.kind != 'p') holders.push_back(&member);
  }
  bool is_nothing_published = !facts.table.is_published;
  bool has_bare = false;
  std::vector<const RelationFacts*> wanted;
  for (const RelationFacts* relation : holders) {
    if (auto unserved = undecodable(*relation, facts)) {
      result.unserved.push_back(std::move(*unserved));
      continue;
    }
    if (publication.exists && relation->is_published) {
      is_nothing_published = false;
      continue;
    }
    if (!relation->has_identity()) {
      has_bare = true;
      result.unserved.push_back(
          {Unserved::Why::kNoIdentity, relation->name,
           subject_of(*relation, facts) + " has no replica identity and cannot be published",
           fmt::format("ALTER TABLE {} REPLICA IDENTITY FULL;", shown_relation(relation->name))});
      continue;
    }
    wanted.push_back(relation);
  }
  // A partitioned table stands for all its partitions, those still to come included.
  if (facts.table.kind == 'p' && is_nothing_published && !has_bare) wanted = {&facts.table};
  if (facts.table.kind == 'p' && publication.exists && !is_nothing_published && facts.table.is_published) {
    // What is missing under a published root is kept out by the server; adding it changes nothing.
    wanted.clear();
  }
  for (const RelationFacts* relation : wanted) {
    const std::string statement = publication.exists ? add_relations_statement(publication_name, {relation->name})
                                                     : create_publication_statement(publication_name, {relation->name});
    if (publication.all_tables) {
      // It is published, but as its root: PostgreSQL takes no table into such a publication.
      result.unserved.push_back(
          {Unserved::Why::kNotOurs, relation->name,
           fmt::format("{} comes under the name of the table above it, since publication '{}' is for all tables and "
                       "publish_via_partition_root is on",
                       subject_of(*relation, facts), publication_name),
           fmt::format("name the table above it in the rule, or ALTER PUBLICATION {} SET (publish_via_partition_root = false);",
                       shown_name(publication_name))});
    } else if (publication.exists && !publication.is_ours) {
      result.unserved.push_back({Unserved::Why::kNotOurs, relation->name,
                                 fmt::format("{} is not in publication '{}', which is not ours to change",
                                             subject_of(*relation, facts), publication_name),
                                 statement});
    } else if (!relation->is_owned) {
      result.unserved.push_back({Unserved::Why::kNotOwned, relation->name,
                                 fmt::format("{} is not in publication '{}', and only an owner of both may add it",
                                             subject_of(*relation, facts), publication_name),
                                 statement});
    } else {
      result.to_add.push_back(relation->name);
    }
  }
  return result;
}

std::string shown_relation(const TableName& name) { return shown_name(name.schema) + "." + shown_name(name.table); }

namespace {

std::string relation_list(const std::vector<TableName>& relations) {
  std::string list;
  for (const TableName& relation : relations) list += (list.empty() ? "ONLY " : ", ONLY ") + shown_relation(relation);
  return list;
}

}  // namespace

std::string add_relations_statement(const std::string& publication, const std::vector<TableName>& relations) {
  return fmt::format("ALTER PUBLICATION {} ADD TABLE {};", shown_name(publication), relation_list(relations));
}

std::string create_publication_statement(const std::string& publication, const std::vector<TableName>& relations) {
  // An empty one serves as well: tables are added when they are there.
  if (relations.empty()) return fmt::format("CREATE PUBLICATION {};", shown_name(publication));
  return fmt::format("CREATE PUBLICATION {} FOR TABLE {};", shown_name(publication), relation_list(relations));
}

}  // namespace evictd
