#include "daemon/sources/postgres/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "daemon/sources/postgres/new_slot_hint.h"
#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/requirements.h"
#include "daemon/sources/postgres/table_digest.h"

namespace evictd {
namespace {

std::optional<Error> unusable(const PlanInput& input) {
  const Facts& facts = *input.facts;
  const std::string& slot = input.options->slot;
  // It is the server that has to change: waited for, as a standby is.
  if (facts.server.wal_level != "logical") {
    return Error{ErrorKind::kConnection,
                 fmt::format("expected wal_level 'logical', got '{}'", facts.server.wal_level),
                 "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL"};
  }
  // Later ones decode on standbys too, which cannot keep G3, G4 and G6 (DESIGN.md). It may be about to become the primary.
  if (facts.server.is_standby) {
    return Error{ErrorKind::kConnection, "expected a primary server, got a standby",
                 "connect to the primary; with several hosts in postgres.url add "
                 "target_session_attrs=read-write"};
  }
  if (!facts.slot.exists) return std::nullopt;
  if (facts.slot.plugin != "pgoutput") {
    return Error{
        ErrorKind::kUsage,
        fmt::format("slot '{}': expected plugin 'pgoutput', got '{}'", slot, facts.slot.plugin),
        fmt::format("choose another name in postgres.slot, or drop that slot, {}", kNewSlotHint)};
  }
  if (facts.slot.database != facts.server.database) {
    return Error{ErrorKind::kUsage,
                 fmt::format("slot '{}': expected database '{}', got '{}'", slot,
                             facts.server.database, facts.slot.database),
                 fmt::format("slot names are unique in a whole server: choose another one in postgres.slot, {}", kNewSlotHint)};
  }
  if (facts.slot.two_phase) {
    return Error{
        ErrorKind::kUsage,
        fmt::format("slot '{}' has two_phase on: changes would come before their commit", slot),
        fmt::format("drop the slot, evictd creates it as it needs it, {}", kNewSlotHint)};
  }
  return std::nullopt;
}

void plan_publication(const PlanInput& input, Plan& plan) {
  const PublicationFacts& publication = input.facts->publication;
  const std::string& name = input.options->publication;
  for (const std::string& table : *input.tables) {
    const auto found = input.facts->tables.find(table);
    if (found == input.facts->tables.end()) {
      const std::string meant = similar_table(*input.facts, table);
      plan.problems.push_back(fmt::format("table '{}' does not exist{}{}", table, meant.empty() ? "" : ": ", meant));
      continue;
    }
    Publishing publishing = plan_publishing(found->second, publication, name, input.facts->server.version);
    for (const Unserved& unserved : publishing.unserved) {
      if (unserved.why == Unserved::Why::kNotOwned) plan.relations_unowned.push_back(unserved.relation);
      plan.problems.push_back(unserved.fix.empty() ? unserved.text : unserved.text + ": " + unserved.fix);
    }
    // The cache stays true, since such an UPDATE changes nothing; but it fails because of the publication (G7).
    for (const RelationFacts* relation : found->second.row_relations()) {
      if (!publication.exists || !relation->is_published || relation->has_identity()) continue;
      if (!publication.updates && !publication.deletes) continue;
      const IdentityProblem problem = identity_problem(*relation, name);
      plan.warnings.push_back(fmt::format("'{}' is in publication '{}' and {}: PostgreSQL refuses UPDATE and DELETE on it: {}",
                                          relation->name.qualified(), name, problem.text, problem.fix));
    }
    // In the stream, a row that the filter leaves out looks like one that did not change.
    for (const RelationFacts* relation : found->second.row_relations()) {
      if (relation->row_filter.empty()) continue;
      plan.problems.push_back(fmt::format("publication '{}' sends only rows of '{}' where {}: other rows are never invalidated; publish it without a row filter",
                                          name, relation->name.qualified(), relation->row_filter));
    }
    if (publishing.to_add.empty()) continue;
    plan.tables_to_publish.push_back(table);
    for (TableName& relation : publishing.to_add) {
      // A relation may lie below several of the tables.
      auto& all = plan.relations_to_publish;
      if (std::find(all.begin(), all.end(), relation) == all.end()) all.push_back(std::move(relation));
    }
  }
  plan.create_publication = !publication.exists;
  if (!publication.exists) return;
  std::string left_out;
  const std::pair<bool, const char*> operations[] = {
      {publication.inserts, "insert"},
      {publication.updates, "update"},
      {publication.deletes, "delete"},
      {publication.truncates || input.facts->server.version < 110'000, "truncate"}};
  for (const auto& [is_published, operation] : operations) {
    if (!is_published) left_out += fmt::format("{}{}", left_out.empty() ? "" : ", ", operation);
  }
  if (!left_out.empty()) {
    plan.problems.push_back(fmt::format("publication '{}' does not publish {}: {}", name, left_out, publish_all_statement(name)));
  }
}

}  // namespace

Result<Plan> make_plan(const PlanInput& input) {
  if (auto error = unusable(input)) return tl::unexpected<Error>(std::move(*error));
  const Facts& facts = *input.facts;
  Plan plan;
  plan_publication(input, plan);
  if (input.options->temporary_slot) {
    plan.create_slot = true;
    if (facts.publication.exists) {
      for (const std::string& table : plan.tables_to_publish) {
        plan.problems.push_back(fmt::format("table '{}' is not in publication '{}': its changes are not seen",
                                            table, input.options->publication));
      }
    }
    plan.tables_to_publish.clear();
    plan.relations_to_publish.clear();
    if (plan.create_publication) {
      return fail(
          ErrorKind::kUsage,
          fmt::format("publication '{}' does not exist, and nothing is created for watching",
                      input.options->publication),
          "`evictd run` creates it; or CREATE PUBLICATION as a person who owns the tables");
    }
    return plan;
  }
  if (plan.create_publication && !plan.relations_unowned.empty()) {
    std::vector<TableName> relations = plan.relations_to_publish;
    relations.insert(relations.end(), plan.relations_unowned.begin(), plan.relations_unowned.end());
    return fail(ErrorKind::kConnection,  // somebody else may create it meanwhile
                fmt::format("cannot create publication '{}': role '{}' does not own {}", input.options->publication,
                            facts.server.role, shown_relation(plan.relations_unowned.front())),
                std::string(kWhoMayCreate) + create_publication_statement(input.options->publication, relations, facts.server.version));
  }
  // A slot older than its publication cannot be used: decoding looks into the catalogue of its own
  // past.
  plan.drop_slot = facts.slot.exists && (facts.slot.is_lost || !facts.publication.exists ||
                                         input.slot_predates_publication);
  plan.create_slot = plan.drop_slot || !facts.slot.exists;
  return plan;
}

std::string source_identity(const Facts& facts, const std::string& slot) {
  return fmt::format("{}/{}", facts.server.database_oid, slot);
}

std::string table_gap(const TableFacts& table, const PublicationFacts& publication, const std::string& before) {
  switch (compare_digest(before, table, publication)) {
    case TableVerdict::kSame:
    case TableVerdict::kGrown:
      return {};
    case TableVerdict::kRecreated:
      return "table_recreated";
    case TableVerdict::kMembers:
      return "partitions_changed";
    case TableVerdict::kPublication:
      return "unpublished";
    case TableVerdict::kChanged:
      return "table_changed";
  }
  return "table_changed";
}

SourceFacts source_facts(const PlanInput& input, const Plan& plan, const Epoch& epoch) {
  const Facts& facts = *input.facts;
  const std::string& slot = input.options->slot;
  SourceFacts found;
  found.epoch = epoch;
  found.identity = source_identity(facts, slot);
  found.has_history = facts.slot.exists;
  found.if_not_on_record = {"record_missing", fmt::format("slot '{}' exists, but this cache has no record of it", slot), {}};
  // A slot of our own, for this session only, has never been there before.
  if (!input.options->temporary_slot) found.if_on_record = Gap{"slot_missing", fmt::format("slot '{}' no longer exists", slot), {}};
  if (facts.slot.is_lost) {
    found.gaps.push_back({"slot_lost", fmt::format("slot '{}' is lost: {}", slot, facts.slot.lost_reason), {}});
  } else if (facts.slot.exists && (!facts.publication.exists || input.slot_predates_publication)) {
    found.gaps.push_back({"publication_missing",
                          fmt::format("publication '{}' did not exist for a time", input.options->publication), {}});
  }
  if (facts.slot.exists) {
    found.confirmed[kOnlyStream] = facts.slot.confirmed.value;
    found.ends[kOnlyStream] = facts.server.wal_end.value;
  }
  // What can neither be followed now nor made to be is named as a problem; it is a gap when it is there again.
  struct Compared {
    TableFacts table;
    bool will_publish = false;
  };
  auto compared = std::make_shared<std::map<std::string, Compared>>();
  for (const std::string& name : *input.tables) {
    const auto table = facts.tables.find(name);
    if (table == facts.tables.end()) continue;
    const bool will_publish = std::find(plan.tables_to_publish.begin(), plan.tables_to_publish.end(), name) !=
                              plan.tables_to_publish.end();
    if (!will_publish && !table->second.is_followed()) continue;
    found.tables[name] = table_digest(table->second, facts.publication);
    // Even an equal digest says nothing where it has to be published anew.
    if (will_publish) found.tables[name] += " to-be-published";
    compared->emplace(name, Compared{table->second, will_publish});
  }
  found.difference = [compared, publication = facts.publication](const std::string& name, const std::string& before) {
    const Compared& now = compared->at(name);
    const std::string reason = table_gap(now.table, publication, before);
    return now.will_publish && reason != "table_recreated" ? std::string("unpublished") : reason;
  };
  return found;
}

std::map<std::string, std::string> published_tables(const Facts& facts) {
  std::map<std::string, std::string> tables;
  for (const auto& [name, table] : facts.tables) {
    if (table.is_followed()) tables[name] = table_digest(table, facts.publication);
  }
  return tables;
}

}  // namespace evictd
