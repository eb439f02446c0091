#include <fmt/core.h>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/http_server.h"
#include "daemon/app/loop.h"
#include "daemon/version_text.h"

namespace evictd {
namespace {

Result<std::unique_ptr<HttpServer>> start_http(const Config& config, const StatusBoard& board,
                                               const Metrics& metrics) {
  if (!config.listen) return std::unique_ptr<HttpServer>();
  return HttpServer::start(*config.listen, board, metrics);
}

}  // namespace

int run_command(const CommandLine& request) {
  Signals signals;  // before any thread
  Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());

  Log log((*config)->log_level, (*config)->log_format);
  const auto failed = [&log](const Error& error) {
    log.error(error);
    return exit_code(error);
  };
  std::vector<std::unique_ptr<Sink>> sinks;
  std::vector<LaneSpec> lanes;
  std::vector<LoopCache> caches;
  std::vector<std::string> names;
  std::string redis;
  for (const CacheSettings& cache : (*config)->caches) {
    Result<std::unique_ptr<Sink>> sink = make_redis_sink(redis_options(**config, cache));
    if (!sink) return failed(sink.error());
    sinks.push_back(std::move(*sink));
    lanes.push_back({cache.name, sinks.back().get(), cache.after, cache.park_after, cache.redis.tombstone_ttl});
    caches.push_back({cache.name, redis_text(cache), sinks.back().get()});
    names.push_back(cache.name);
    if (!redis.empty()) redis += ", ";
    redis += (*config)->caches.size() == 1 ? caches.back().address : cache.name + " " + caches.back().address;
  }
  Result<std::unique_ptr<Source>> source = make_source(**config, *rules, log);
  if (!source) return failed(source.error());

  Metrics metrics(kVersionText, (*config)->postgres ? "postgres" : "kafka", names);
  Activity activity(metrics, names);
  StatusBoard board;
  board.turned(read_clocks().steady);
  Result<std::unique_ptr<HttpServer>> http = start_http(**config, board, metrics);
  if (!http) return failed(http.error());

  auto identity = std::make_shared<StatusIdentity>();
  identity->version = kVersionText;
  identity->started = read_clocks().system;
  identity->source = source_text(**config);
  identity->rules_file = (*config)->rules_file.empty() ? (*config)->file : (*config)->rules_file;
  log.info(fmt::format(
      "evictd {}: {} -> Redis {}; {} rules for {} tables from {}; {}", kVersionText,
      identity->source, redis, rules->rules().size(), rules->tables().size(),
      identity->rules_file,
      *http ? fmt::format("http://{}/", (*config)->listen->to_string()) : std::string("no HTTP")));

  Flow flow(std::move(*rules), **source, std::move(lanes), activity, flow_options(**config));
  Loop loop({flow, **source, std::move(caches), metrics, board, signals, log, identity,
             [&config] { return load_rules(**config); }, Loop::kDrainMax, &activity});
  return loop.run();
}

}  // namespace evictd
