#include "daemon/sources/postgres/drop.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <deque>
#include <iostream>
#include <set>
#include <string>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/sink_run.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/witness_key.h"

namespace evictd {
namespace {

// A slot made later does not tell what changed before it.
constexpr std::string_view kUnfollowed =
    "what changes from now on is not followed, and what is cached may go stale: empty the cache, or set 'on_first_start: purge' before the next 'evictd run'";

// True when the person agrees. Without a terminal nobody can be asked: then --yes is needed.
Result<bool> agreed(const CommandLine& request, const Config& config) {
  if (request.yes) return true;
  if (isatty(STDIN_FILENO) == 0) {
    return fail(ErrorKind::kUsage,
                "'drop' asks before it removes anything, and there is no terminal", "add --yes");
  }
  std::string redis;
  for (const CacheSettings& cache : config.caches) {
    if (!cache.edge) redis += (redis.empty() ? "" : ", ") + cache_text(cache);
  }
  std::printf(
      "This removes the slot and the publication of\n  %s\nand evictd's record from\n  Redis %s\n"
      "What changes afterwards is not followed: before the next 'evictd run', empty the cache, or set 'on_first_start: purge'.\n"
      "Go on? [y/N] ",
      source_text(config).c_str(), redis.c_str());
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  for (char& c : answer) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return answer == "y" || answer == "yes";
}

// Names beside the record that have no lifetime: where a cache asks for replicas, what it writes to see them follow; and the number
// of the last announcement on each channel. Whoever still listens there takes a number that begins anew for a gap, and drops all.
std::vector<std::string> names_beside_the_record(const Config& config, const RuleSet& rules) {
  std::set<std::string> names{witness_key(config.record_name())};
  for (const RuleInfo& rule : rules.rules()) {
    if (!rule.announce.empty()) names.insert(channel_counter(rule.announce));
  }
  return {names.begin(), names.end()};
}

// evictd's record goes the way of a cached key; what is left of it ends with its tombstone. So do the names `beside` it.
Result<void> drop_record(const Config& config, const CacheSettings& cache, const std::string& of, const std::vector<std::string>& beside,
                         Signals& signals) {
  Result<std::unique_ptr<Sink>> sink = make_redis_sink(redis_options(config, cache));
  if (!sink) return tl::unexpected(sink.error());
  const RuleInfo no_rule;
  std::vector<std::string> names{record_key(config.record_name(), of)};
  names.insert(names.end(), beside.begin(), beside.end());
  std::deque<Texts> keys;  // the orders point to them
  std::vector<Order> orders;
  for (const std::string& name : names) {
    Texts& key = keys.emplace_back();
    key.texts = name;
    key.items.push_back(Item{static_cast<std::uint32_t>(name.size()), 0});
    Order& order = orders.emplace_back();
    order.rule = &no_rule;
    order.texts = &key;
    order.is_unconditional = true;
  }
  return run_on_sink(**sink, orders, signals, [&](std::size_t index, const Outcome& outcome) {
    const char* what = index == 0 ? "the record " : "";
    if (outcome.deleted > 0) {
      fmt::print("removed {}'{}' from Redis\n", what, names[index]);
    } else if (index == 0) {
      fmt::print("the record '{}' is not in Redis\n", names[index]);
    }
  });
}

}  // namespace

int drop_command(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  if (!(*config)->postgres) {
    return report(Error{ErrorKind::kUsage, "'drop' needs a PostgreSQL source",
                        "a consumer group is removed with kafka-consumer-groups.sh --delete"});
  }
  const Result<bool> go_on = agreed(request, **config);
  if (!go_on) return report(go_on.error());
  if (!*go_on) {
    std::puts("nothing was removed");
    return kExitDone;
  }
  const Result<std::vector<std::string>> dropped =
      drop_postgres(postgres_options(**config, *rules));
  if (!dropped) return report(dropped.error());
  for (const std::string& line : *dropped) std::puts(line.c_str());
  std::fflush(stdout);
  const std::vector<std::string> beside = names_beside_the_record(**config, *rules);
  Signals signals;  // only now: Ctrl-C at the question above ends the program as usual
  for (const CacheSettings& cache : (*config)->caches) {
    if (cache.edge) continue;
    if (const Result<void> record = drop_record(**config, cache, "", beside, signals); !record) return report(record.error());
    for (const CacheSettings& edge : (*config)->caches) {  // whose records it keeps
      if (!edge.edge || edge.edge->record_in != cache.name) continue;
      if (const Result<void> record = drop_record(**config, cache, edge.name, {}, signals); !record) return report(record.error());
    }
  }
  fmt::print("{}\n", kUnfollowed);
  return kExitDone;
}

}  // namespace evictd
