#include "daemon/sources/postgres/drop.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/sink_run.h"
#include "daemon/app/commands/wiring.h"

namespace evictd {
namespace {

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
      "Go on? [y/N] ",
      source_text(config).c_str(), redis.c_str());
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

// evictd's record goes the way of a cached key; what is left of it ends with its tombstone.
Result<void> drop_record(const Config& config, const CacheSettings& cache, const std::string& of, Signals& signals) {
  Result<std::unique_ptr<Sink>> sink = make_redis_sink(redis_options(config, cache));
  if (!sink) return tl::unexpected(sink.error());
  const RuleInfo no_rule;
  Texts key;
  key.texts = record_key(config.record_name(), of);
  key.items.push_back(Item{static_cast<std::uint32_t>(key.texts.size()), 0});
  Order order;
  order.rule = &no_rule;
  order.texts = &key;
  order.is_unconditional = true;
  return run_on_sink(**sink, {order}, signals, [&](std::size_t, const Outcome& outcome) {
    if (outcome.deleted > 0) {
      fmt::print("removed the record '{}' from Redis\n", key.texts);
    } else {
      fmt::print("the record '{}' is not in Redis\n", key.texts);
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
  Signals signals;  // only now: Ctrl-C at the question above ends the program as usual
  for (const CacheSettings& cache : (*config)->caches) {
    if (cache.edge) continue;
    if (const Result<void> record = drop_record(**config, cache, "", signals); !record) return report(record.error());
    for (const CacheSettings& edge : (*config)->caches) {  // whose records it keeps
      if (!edge.edge || edge.edge->record_in != cache.name) continue;
      if (const Result<void> record = drop_record(**config, cache, edge.name, signals); !record) return report(record.error());
    }
  }
  return kExitDone;
}

}  // namespace evictd
