#include <fmt/core.h>

#include <cstdio>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/live_lookups.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/config.h"
#include "daemon/app/explain.h"
#include "daemon/app/row_keys.h"
#include "daemon/app/watch_text.h"
#include "daemon/base/plain_text.h"
#include "daemon/flow/cache_rules.h"
#include "daemon/flow/lane.h"
#include "daemon/sinks/redis/doctor/similar.h"
#include "daemon/sources/postgres/live_rows.h"

namespace evictd {
namespace {

// What the indexes of the caches say now of the orders of a row.
std::string similarity_text(const Config& config, const RuleSet& rules, const ExplainReceiver& receiver) {
  std::string text;
  for (const auto& [number, order] : receiver.semantic_orders()) {
    const RuleInfo& rule = rules.rules()[number];
    const std::optional<SemanticOrder> read = read_semantic_order(order, rule.semantic);
    if (!read) continue;
    for (const CacheSettings& cache : config.caches) {
      if (cache.edge || !acts_on(rule, cache.name)) continue;
      const SemanticInfo& info = rule.semantic[read->entry];
      text += fmt::format("  {}{}\n", printable_text(semantic_order_text(info, *read)), config.caches.size() > 1 ? ", in cache '" + cache.name + "'" : "");
      const Result<std::unique_ptr<BlockingClient>> client = BlockingClient::open(redis_options(config, cache));
      text += client ? nearest_text(**client, info, *read) : fmt::format("         {}\n", client.error().text);
    }
  }
  return text;
}

// One row that is in the table now.
Result<std::string> explain_row(const CommandLine& request, const Config& config, const RuleSet& rules, Mapper& mapper, const Relation& relation,
                                const std::vector<Value>& row, LiveLookups& lookups) {
  const auto find_joined = [&](std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) {
    std::vector<std::vector<std::string>> of_one;
    for (const std::string_view value : values) of_one.push_back({std::string(value)});
    return lookups.ask(rule, lookup, std::move(of_one));
  };
  ExplainReceiver receiver(rules, find_joined);
  Change change;
  change.operation = request.has_operation ? request.operation : Operation::kDelete;
  change.relation = &relation;
  const bool has_old = change.operation != Operation::kInsert;
  const bool has_new = change.operation != Operation::kDelete;
  std::vector<Value> changed = row;
  std::vector<std::string> texts;
  if (!request.new_row.empty()) {
    if (Result<void> done = change_row(request.new_row, relation, changed, texts); !done) return tl::unexpected(done.error());
  }
  const std::vector<Value> old = sent_old_row(relation, row, has_new ? changed : std::vector<Value>());
  if (has_old) change.old_row = old;
  if (has_new) change.new_row = changed;
  if (request.has_operation) {
    mapper.map(change, receiver);
  } else {
    map_row(rules, mapper, relation, row, receiver);
  }
  return explain_text(fmt::format("{} of {}  {}", request.has_operation ? operation_name(request.operation) : "row",
                                  relation.qualified_name(), row_text(change)),
                      receiver) +
         similarity_text(config, rules, receiver);
}

int explain_live_rows(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  Result<RuleSet> loaded = load_rules(**config);
  if (!loaded) return report(loaded.error());
  const auto rules = std::make_shared<const RuleSet>(std::move(*loaded));
  LiveRowsWanted wanted;
  const Result<TableName> table = find_mapped_table(*rules, request.table);
  if (!table) return report(table.error());
  wanted.table = table->qualified();
  wanted.where = request.where;
  wanted.page = request.limit;
  const DatabaseAddress database = database_address(**config);
  if (database.url.empty()) {
    return report(Error{ErrorKind::kUsage, "'--from-table' needs PostgreSQL", "set postgres.url, or kafka.postgres_url"});
  }
  Result<std::unique_ptr<LiveRows>> live = LiveRows::open(database, wanted);
  if (!live) return report(live.error());
  const Result<std::unique_ptr<LiveLookups>> lookups = LiveLookups::open(database, rules);
  if (!lookups) return report(lookups.error());
  const Result<std::vector<std::vector<Value>>> rows = (*live)->next();
  if (!rows) return report(rows.error());
  Mapper mapper(*rules);
  for (const std::vector<Value>& row : *rows) {
    const Result<std::string> text = explain_row(request, **config, *rules, mapper, (*live)->relation(), row, **lookups);
    if (!text) return report(text.error());
    std::fputs(text->c_str(), stdout);
  }
  if (rows->empty()) fmt::print("no row of {} is there{}\n", wanted.table, request.where.empty() ? "" : " for this --where");
  if (rows->size() == request.limit) fmt::print("the first {} rows; --limit shows more\n", request.limit);
  return kExitDone;
}

}  // namespace

int explain_command(const CommandLine& request) {
  if (request.from_table) return explain_live_rows(request);
  const Result<RuleSet> rules = load_rules_only(request.config);
  if (!rules) return report(rules.error());
  const Result<std::string> answer = explain(request, *rules);
  if (!answer) return report(answer.error());
  std::fputs(answer->c_str(), stdout);
  return kExitDone;
}

}  // namespace evictd
