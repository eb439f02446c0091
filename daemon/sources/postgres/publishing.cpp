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
  if (relation.kind == 'S') {
    return Unserved{Unserved::Why::kNoTable, relation.name, fmt::format("'{}' is a sequence: its changes are not decoded", full_name(relation.name)),
                    "take it out of the rules"};
  }
  if (relation.kind != 'r' && relation.kind != 'p') {
    return Unserved{Unserved::Why::kNoTable, relation.name,
                    fmt::format("'{}' is not a table: its changes are not decoded", full_name(relation.name)), ""};
  }
  if (relation.name.schema == "pg_catalog" || relation.name.schema == "information_schema") {
    return Unserved{Unserved::Why::kNoTable, relation.name, who + " belongs to PostgreSQL itself: its changes are not decoded", "take it out of the rules"};
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
                           const std::string& publication_name, int server_version) {
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
      IdentityProblem problem = identity_problem(*relation, publication_name);
      result.unserved.push_back({Unserved::Why::kNoIdentity, relation->name,
                                 fmt::format("{} {} and cannot be published", subject_of(*relation, facts), problem.text), std::move(problem.fix)});
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
                                                     : create_publication_statement(publication_name, {relation->name}, server_version);
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

namespace {

const ColumnFacts* find_column_that(const RelationFacts& relation, bool (*wanted)(const ColumnFacts&)) {
  const auto found = std::find_if(relation.columns.begin(), relation.columns.end(), wanted);
  return found == relation.columns.end() ? nullptr : &*found;
}

}  // namespace

IdentityProblem identity_problem(const RelationFacts& relation, const std::string& publication) {
  const std::string table = shown_relation(relation.name);
  if (const ColumnFacts* column = find_column_that(relation, [](const ColumnFacts& each) { return each.in_identity && each.is_virtual; })) {
    return {fmt::format("has a replica identity with a virtual generated column ('{}')", column->name),
            fmt::format("ALTER TABLE {} REPLICA IDENTITY DEFAULT; which wants a primary key, or REPLICA IDENTITY USING INDEX of a unique one", table)};
  }
  if (const ColumnFacts* column = find_column_that(relation, [](const ColumnFacts& each) { return each.in_identity && each.breaks_identity; })) {
    return {fmt::format("has a replica identity with a generated column that the publication does not send ('{}')", column->name),
            fmt::format("ALTER PUBLICATION {} SET (publish_generated_columns = stored);", shown_name(publication))};
  }
  return {"has no replica identity", full_identity_fix(relation, publication), true};
}

std::string full_identity_fix(const RelationFacts& relation, const std::string& publication) {
  const std::string table = shown_relation(relation.name);
  if (const ColumnFacts* column = find_column_that(relation, [](const ColumnFacts& each) { return each.is_virtual; })) {
    return fmt::format("a unique index of the columns that are needed, all NOT NULL, and ALTER TABLE {} REPLICA IDENTITY USING INDEX ...; (FULL makes UPDATE "
                       "and DELETE fail there: '{}' is a virtual generated column)", table, column->name);
  }
  const bool has_unsent = find_column_that(relation, [](const ColumnFacts& each) { return each.breaks_identity; }) != nullptr;
  return fmt::format("{}ALTER TABLE {} REPLICA IDENTITY FULL;{}",
                     has_unsent ? fmt::format("ALTER PUBLICATION {} SET (publish_generated_columns = stored); ", shown_name(publication)) : "", table,
                     relation.full_refused_by.empty() ? ""
                                                      : fmt::format(" but not before publication '{}' sends all its columns, or UPDATE and DELETE on it fail",
                                                                    relation.full_refused_by));
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

std::string publish_all_statement(const std::string& publication) {
  return fmt::format("ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');", shown_name(publication));
}

std::string create_publication_statement(const std::string& publication, const std::vector<TableName>& relations, int server_version) {
  // An empty one serves as well: tables are added when they are there.
  return fmt::format("CREATE PUBLICATION {}{}{};", shown_name(publication), relations.empty() ? "" : " FOR TABLE " + relation_list(relations),
                     server_version >= kGeneratedColumnsVersion ? " WITH (publish_generated_columns = stored)" : "");
}

}  // namespace evictd
