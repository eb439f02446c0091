#include "daemon/sources/postgres/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/table_digest.h"

namespace evictd {
namespace {

constexpr int kStandbyDecodingVersion = 160'000;
std::optional<Error> unusable(const PlanInput& input) {
  const Facts& facts = *input.facts;
  const std::string& slot = input.options->slot;
  if (facts.server.wal_level != "logical") {
    return Error{ErrorKind::kUsage,
                 fmt::format("expected wal_level 'logical', got '{}'", facts.server.wal_level),
                 "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL"};
  }
  if (facts.server.is_standby && facts.server.version < kStandbyDecodingVersion) {
    return Error{ErrorKind::kUsage, "expected a primary server, got a standby",
                 "connect to the primary; with several hosts in postgres.url add "
                 "target_session_attrs=read-write"};
  }
  if (!facts.slot.exists) return std::nullopt;
  if (facts.slot.plugin != "pgoutput") {
    return Error{
        ErrorKind::kUsage,
        fmt::format("slot '{}': expected plugin 'pgoutput', got '{}'", slot, facts.slot.plugin),
        "choose another name in postgres.slot, or drop that slot"};
  }
  if (facts.slot.database != facts.server.database) {
    return Error{ErrorKind::kUsage,
                 fmt::format("slot '{}': expected database '{}', got '{}'", slot,
                             facts.server.database, facts.slot.database),
                 "slot names are unique in a whole server: choose another one in postgres.slot"};
  }
  if (facts.slot.two_phase) {
    return Error{
        ErrorKind::kUsage,
        fmt::format("slot '{}' has two_phase on: changes would come before their commit", slot),
        "drop the slot, evictd creates it as it needs it"};
  }
  return std::nullopt;
}

void plan_publication(const PlanInput& input, Plan& plan) {
  const PublicationFacts& publication = input.facts->publication;
  const std::string& name = input.options->publication;
  for (const std::string& table : *input.tables) {
    const auto found = input.facts->tables.find(table);
    if (found == input.facts->tables.end()) {
      plan.problems.push_back(fmt::format("table '{}' does not exist", table));
      continue;
    }
    Publishing publishing = plan_publishing(found->second, publication, name);
    for (const Unserved& unserved : publishing.unserved) {
      if (unserved.why == Unserved::Why::kNotOwned) plan.relations_unowned.push_back(unserved.relation);
      plan.problems.push_back(unserved.fix.empty() ? unserved.text : unserved.text + ": " + unserved.fix);
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
  const std::pair<bool, const char*> operations[] = {
      {publication.inserts, "insert"},
      {publication.updates, "update"},
      {publication.deletes, "delete"},
      {publication.truncates || input.facts->server.version < 110'000, "truncate"}};
  for (const auto& [is_published, operation] : operations) {
    if (!is_published) {
      plan.problems.push_back(fmt::format("publication '{}' does not publish {}", name, operation));
    }
  }
}

Gap whole_gap(std::string reason, std::string detail) {
  return Gap{std::move(reason), std::move(detail), {}};
}

// A gap that may concern every table, at most one: the repair is the same for all of them.
std::optional<Gap> find_whole_gap(const PlanInput& input) {
  const Facts& facts = *input.facts;
  const Known* known = input.known;
  const std::string& slot = input.options->slot;
  const bool has_record = known != nullptr && !known->epoch.empty();
  const bool epoch_changed = has_record && known->epoch != input.epoch;
  const std::string moved_server =
      epoch_changed
          ? fmt::format(" (the server changed from '{}' to '{}')", known->epoch, input.epoch)
          : "";
  if (!facts.slot.exists) {
    if (!has_record) return std::nullopt;  // the first start
    return whole_gap("slot_missing",
                     fmt::format("slot '{}' no longer exists{}", slot, moved_server));
  }
  if (facts.slot.is_lost) {
    return whole_gap("slot_lost",
                     fmt::format("slot '{}' is lost: {}", slot, facts.slot.lost_reason));
  }
  if (epoch_changed) {
    return whole_gap("epoch_changed",
                     fmt::format("expected server '{}', got '{}'", known->epoch, input.epoch));
  }
  if (!facts.publication.exists || input.slot_predates_publication) {
    return whole_gap("publication_missing", fmt::format("publication '{}' did not exist for a time",
                                                        input.options->publication));
  }
  if (!has_record) {
    return whole_gap("record_missing",
                     fmt::format("slot '{}' exists, but Redis has no record of it", slot));
  }
  if (known->identity != source_identity(facts, slot)) {
    return whole_gap("source_changed", fmt::format("expected database and slot '{}', got '{}'",
                                                   known->identity, source_identity(facts, slot)));
  }
  if (known->acknowledged && facts.slot.confirmed > *known->acknowledged) {
    return whole_gap("slot_moved", fmt::format("slot '{}' was moved from {} to {} by somebody else",
                                               slot, known->acknowledged->to_string(),
                                               facts.slot.confirmed.to_string()));
  }
  return std::nullopt;
}

void find_table_gaps(const PlanInput& input, Plan& plan) {
  const Known& known = *input.known;
  Gap recreated{"table_recreated", "", {}};
  Gap unpublished{"unpublished", "", {}};
  Gap added{"table_added", "", {}, true};
  Gap partitions{"partitions_changed", "", {}};
  Gap changed{"table_changed", "", {}};
  for (const std::string& table : *input.tables) {
    const auto found = input.facts->tables.find(table);
    if (found == input.facts->tables.end()) continue;
    const TableFacts& facts = found->second;
    const bool will_publish =
        std::find(plan.tables_to_publish.begin(), plan.tables_to_publish.end(), table) !=
        plan.tables_to_publish.end();
    const auto before = known.tables.find(table);
    if (before == known.tables.end()) {
      if (will_publish || facts.is_followed()) added.tables.push_back(table);
      continue;
    }
    // Named as not served; a gap when it is there again.
    if (!will_publish && !facts.is_followed()) continue;
    TableVerdict verdict = compare_digest(before->second, facts, input.facts->publication);
    if (will_publish && verdict != TableVerdict::kRecreated) verdict = TableVerdict::kPublication;
    switch (verdict) {
      case TableVerdict::kSame:
      case TableVerdict::kGrown:
        break;
      case TableVerdict::kRecreated:
        recreated.tables.push_back(table);
        break;
      case TableVerdict::kMembers:
        partitions.tables.push_back(table);
        break;
      case TableVerdict::kPublication:
        unpublished.tables.push_back(table);
        break;
      case TableVerdict::kChanged:
        changed.tables.push_back(table);
        break;
    }
  }
  const auto add = [&](Gap& gap, std::string_view text) {
    if (gap.tables.empty()) return;
    gap.detail = fmt::format("{}: '{}'", text, fmt::join(gap.tables, "', '"));
    plan.gaps.push_back(std::move(gap));
  };
  add(recreated, "dropped and created anew");
  add(unpublished, "not all of it was in the publication for a time");
  add(added, "the rules name tables that were not followed until now");
  add(partitions, "partitions or children were attached or removed");
  add(changed, "columns or storage were altered, which may change values without a row in the stream");
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
    return fail(ErrorKind::kUsage,
                fmt::format("cannot create publication '{}': role '{}' does not own {}", input.options->publication,
                            facts.server.role, shown_relation(plan.relations_unowned.front())),
                "as an owner of the tables: " + create_publication_statement(input.options->publication, relations));
  }
  if (auto gap = find_whole_gap(input)) {
    plan.gaps.push_back(std::move(*gap));
  } else if (input.known != nullptr && facts.slot.exists) {
    find_table_gaps(input, plan);
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

std::map<std::string, std::string> published_tables(const Facts& facts) {
  std::map<std::string, std::string> tables;
  for (const auto& [name, table] : facts.tables) {
    if (table.is_followed()) tables[name] = table_digest(table, facts.publication);
  }
  return tables;
}

}  // namespace evictd
