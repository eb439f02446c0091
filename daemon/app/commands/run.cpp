#include <fmt/core.h>
#include <poll.h>

#include <cstdio>
#include <system_error>

#include "daemon/app/audit_thread.h"
#include "daemon/app/refresh_thread.h"
#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/http_server.h"
#include "daemon/app/key_log.h"
#include "daemon/app/key_trace.h"
#include "daemon/app/loop.h"
#include "daemon/base/shortage.h"
#include "daemon/base/text.h"
#include "daemon/version_text.h"

namespace evictd {
namespace {

Result<std::unique_ptr<HttpServer>> start_http(const Config& config, const StatusBoard& board,
                                               const Metrics& metrics) {
  if (!config.listen) return std::unique_ptr<HttpServer>();
  return HttpServer::start(*config.listen, board, metrics);
}

std::unique_ptr<AuditThread> start_audit(const Config& config) {
  if (config.audit_rate == 0) return nullptr;
  AuditThread::Options options;
  options.database = database_address(config);
  for (const CacheSettings& cache : config.caches) {
    if (!cache.edge) options.caches.push_back({cache.name, redis_options(config, cache)});  // an edge has no values to look at
  }
  options.questions_per_second = static_cast<double>(config.audit_rate);
  return std::make_unique<AuditThread>(std::move(options));
}

// Always there: `refresh` may come with a reload. Until then it has no connection.
std::unique_ptr<RefreshThread> start_refresh(const Config& config, const CacheSettings& cache) {
  RefreshThread::Options options;
  options.cache = cache.name;
  options.redis = redis_options(config, cache);
  options.database = refresh_database_options(config);
  return std::make_unique<RefreshThread>(std::move(options));
}

constexpr int kPauseMs = 1'000;

// The exit code. An error: nothing has begun. What std::thread throws where there is none is for the caller.
Result<int> run(const CommandLine& request, Signals& signals) {
  Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return tl::unexpected(config.error());
  Result<RuleSet> rules = load_rules(**config);
  if (!rules) return tl::unexpected(rules.error());
  const Result<std::string> settings = settings_besides_rules((*config)->file);
  if (!settings) return tl::unexpected(settings.error());

  Log log((*config)->log_level, (*config)->log_format);
  const auto failed = [&log](const Error& error) -> Result<int> {
    if (error.kind == ErrorKind::kTransient) return tl::unexpected(error);
    log.error(error);
    return exit_code(error);
  };
  const std::unique_ptr<AuditThread> audit = start_audit(**config);
  std::vector<std::unique_ptr<RefreshThread>> refreshes;
  std::vector<RefreshThread*> listeners;
  const std::unique_ptr<KeyTrace> keys = (*config)->show_keys && (*config)->listen ? std::make_unique<KeyTrace>() : nullptr;
  std::vector<std::unique_ptr<Sink>> sinks;
  std::vector<LaneSpec> lanes;
  std::vector<LoopCache> caches;
  std::vector<std::string> names;
  std::string redis;
  for (const CacheSettings& cache : (*config)->caches) {
    Result<std::unique_ptr<Sink>> sink = make_sink(**config, cache);
    if (!sink) return failed(sink.error());
    const bool is_heard = audit && !cache.edge;
    sinks.push_back(is_heard ? AuditThread::listening(std::move(*sink), *audit, cache.name) : std::move(*sink));
    if (!cache.edge) {
      refreshes.push_back(start_refresh(**config, cache));
      listeners.push_back(refreshes.back().get());
      sinks.back() = RefreshThread::listening(std::move(sinks.back()), *refreshes.back());
    }
    if (log.is_debug()) sinks.back() = KeyLog::listening(std::move(sinks.back()), log, cache.name);
    if (keys) sinks.back() = KeyTrace::listening(std::move(sinks.back()), *keys, cache.name);
    lanes.push_back({cache.name, sinks.back().get(), cache.after, cache.park_after, cache.redis.tombstone_ttl,
                     cache.edge ? cache.edge->origin_time : std::chrono::milliseconds(0)});
    caches.push_back({cache.name, cache_text(cache), sinks.back().get()});
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
  board.show_keys(keys.get());
  Result<std::unique_ptr<HttpServer>> http = start_http(**config, board, metrics);
  if (!http) return failed(http.error());
  if (*http && (*http)->delay()) {
    log.warning(fmt::format("{}; evictd works without it, and tries it each second", (*http)->delay()->text), (*http)->delay()->hint);
  }

  auto identity = std::make_shared<StatusIdentity>();
  identity->version = kVersionText;
  identity->started = read_clocks().system;
  identity->source = source_text(**config);
  identity->rules_file = (*config)->rules_file.empty() ? (*config)->file : (*config)->rules_file;
  log.info(fmt::format(
      "evictd {}: {} -> Redis {}; {} for {} from {}; {}", kVersionText,
      identity->source, redis, counted(rules->rules().size(), "rule"), counted(rules->tables().size(), "table"),
      identity->rules_file,
      *http ? fmt::format("http://{}/", (*config)->listen->to_string()) : std::string("no HTTP")));

  Flow flow(std::move(*rules), **source, std::move(lanes), activity, flow_options(**config));
  Loop loop({flow, **source, std::move(caches), metrics, board, signals, log, identity,
             [&] {
               if (const auto now = settings_besides_rules((*config)->file); !now || *now != *settings) {
                 log.warning(fmt::format("'{}' is not what it was when evictd was started: a reload reads the rules alone", (*config)->file),
                             "restart evictd for all the rest");
               }
               return load_rules(**config);
             },
             Loop::kDrainMax, &activity, audit.get(), listeners});
  return loop.run();
}

// Where the machine, or a limit of the process, has nothing more to give to begin with.
Result<int> run_if_it_can(const CommandLine& request, Signals& signals) {
  try {
    return run(request, signals);
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) throw;
    return fail(ErrorKind::kTransient, fmt::format("no thread to begin with: {}", error.what()), std::string(kThreadsHint));
  }
}

}  // namespace

// It comes back to what it lacked when it began as it does to what it lacks later.
int run_command(const CommandLine& request) {
  Signals signals(Hangup::kReloads);  // before any thread
  std::string told;
  while (true) {
    const Result<int> exit = run_if_it_can(request, signals);
    if (exit) return *exit;
    if (exit.error().kind != ErrorKind::kTransient) return report(exit.error());
    if (exit.error().text != told) std::fprintf(stderr, "evictd tries each second to begin: %s\n", exit.error().to_string().c_str());
    told = exit.error().text;
    pollfd signal{signals.descriptor(), POLLIN, 0};
    (void)::poll(&signal, 1, kPauseMs);
    if (signals.next() == Signal::kStop) return kExitDone;
  }
}

}  // namespace evictd
