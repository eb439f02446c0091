#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/explain.h"
#include "daemon/app/signals.h"
#include "daemon/audit/auditor.h"
#include "daemon/base/json.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/poll.h"
#include "daemon/flow/cache_rules.h"

namespace evictd {
namespace {

constexpr std::uint64_t kSamplesDefault = 1000;
constexpr std::chrono::milliseconds kBetweenPasses{500};

// What was found in all caches together.
class Report {
 public:
  Report(const RuleSet& rules, bool is_json, bool names_caches) : rules_(rules), is_json_(is_json), names_caches_(names_caches) {}

  void begin_cache(const std::string& name) { cache_ = name; }

  void found(const AuditFinding& finding) {
    counts_.add(finding.outcome);
    if (finding.outcome == AuditOutcome::kUnreadable) ++unreadable_[rule_name(finding) + ": " + finding.reason];
    if (finding.outcome == AuditOutcome::kStale) print(finding);
  }

  void print_end(const std::vector<std::string>& notes) const {
    for (const auto& [reason, count] : unreadable_) say(fmt::format("unreadable, {} times: {}", count, reason));
    for (const std::string& note : notes) say(note);
    if (is_json_) {
      JsonWriter json;
      json.begin_object().field("checked", counts_.checked()).field("fresh", counts_.fresh).field("stale", counts_.stale);
      json.field("in_flight", counts_.in_flight).field("unreadable", counts_.unreadable).end_object();
      fmt::print("{}\n", json.text());
    } else {
      fmt::print("checked {}: {} fresh, {} stale, {} in flight, {} unreadable\n", counts_.checked(), counts_.fresh, counts_.stale,
                 counts_.in_flight, counts_.unreadable);
      fmt::print("{}\n", nines_text(counts_.fresh, counts_.stale));
    }
    std::fflush(stdout);
  }

  const AuditCounts& counts() const { return counts_; }

 private:
  // Beside the answer: where it is JSON, on the other channel.
  void say(const std::string& text) const { std::fprintf(is_json_ ? stderr : stdout, "%s\n", text.c_str()); }

  std::string rule_name(const AuditFinding& finding) const { return "rule '" + rules_.rules()[finding.rule].name + "'"; }

  void print(const AuditFinding& finding) const {
    if (is_json_) {
      JsonWriter json;
      json.begin_object().field("outcome", audit_outcome_name(finding.outcome)).field("key", finding.key);
      json.field("rule", rules_.rules()[finding.rule].name).field("cache", cache_).field("reason", finding.reason);
      json.field("marker", finding.marker).field("fixed", finding.is_fixed);
      json.field("suspect_ms", static_cast<std::uint64_t>(finding.suspect_for.count())).end_object();
      fmt::print("{}\n", json.text());
    } else {
      fmt::print("stale  {}  {}{}: {}{}\n", printable_text(finding.key), rule_name(finding),
                 names_caches_ ? ", cache '" + cache_ + "'" : "", finding.reason, finding.is_fixed ? "; deleted" : "");
      if (!finding.marker.empty()) fmt::print("       its marker: {}\n", printable_text(finding.marker));
    }
    std::fflush(stdout);
  }

  const RuleSet& rules_;
  bool is_json_;
  bool names_caches_;
  std::string cache_;
  AuditCounts counts_;
  std::map<std::string, std::uint64_t> unreadable_;
};

// Which rules are asked for and act on this cache.
std::vector<bool> rules_of(const RuleSet& rules, const std::string& wanted, const std::string& cache) {
  std::vector<bool> acts;
  for (const RuleInfo& rule : rules.rules()) acts.push_back((wanted.empty() || rule.name == wanted) && acts_on(rule, cache));
  return acts;
}

// Waits on the signals, so that Ctrl-C ends an audit with what it has found.
bool wait(Signals& signals, std::chrono::milliseconds time) {
  Waiting waiting;
  waiting.descriptors.push_back(pollfd{signals.descriptor(), POLLIN, 0});
  waiting.wake_at(std::chrono::steady_clock::now() + time);
  wait_for_any(waiting);
  while (const std::optional<Signal> signal = signals.next()) {
    if (*signal == Signal::kStop) return false;
  }
  return true;
}

Result<void> audit(Auditor& auditor, const CommandLine& request, const Report& report, std::uint64_t samples, Signals& signals) {
  const auto end = request.time ? std::chrono::steady_clock::now() + *request.time : SteadyTime::max();
  const std::uint64_t before = report.counts().checked();
  while (!auditor.was_stopped() && report.counts().checked() - before < samples && std::chrono::steady_clock::now() < end) {
    const Result<bool> more = auditor.draw();
    if (!more) return tl::unexpected(more.error());
    if (*more) continue;
    if (!request.time || auditor.was_stopped()) break;
    if (!wait(signals, kBetweenPasses)) break;
    if (Result<void> done = auditor.review(); !done) return done;
  }
  return auditor.finish();
}

}  // namespace

int audit_command(const CommandLine& request) {
  Signals signals;
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  if (Result<void> known = require_rule(*rules, request.rule); !known) return report(known.error());
  if (!(*config)->postgres) {
    return report(Error{ErrorKind::kUsage, "'audit' needs a PostgreSQL source: an offset in Kafka does not tell how far evictd has "
                                           "come in the database's log",
                        ""});
  }
  Result<std::unique_ptr<AuditDatabase>> database =
      AuditDatabase::open(database_address(**config), *rules);
  if (!database) return report(database.error());

  std::vector<std::string> notes;
  bool has_rule = false;
  for (std::uint32_t rule = 0; rule < rules->rules().size(); ++rule) {
    const RuleInfo& info = rules->rules()[rule];
    const std::string& problem = (*database)->plan(rule).problem;
    if (!request.rule.empty() && info.name != request.rule) continue;
    has_rule |= problem.empty();
    for (const std::string& left_out : (*database)->plan(rule).left_out) {
      notes.push_back(fmt::format("not audited: rule '{}': {}", info.name, left_out));
    }
    if (!info.implied_by.empty() && request.rule.empty()) continue;  // told of the rule that implies it
    if (!problem.empty()) notes.push_back(fmt::format("not audited: rule '{}': {}", info.name, problem));
  }
  if (!has_rule) {
    std::string text = "no rule can be audited";
    for (const std::string& note : notes) text += "\n  " + note;
    return report(Error{ErrorKind::kUsage, text, "docs/audit.md tells what a rule needs"});
  }

  Report found(*rules, request.json, (*config)->caches.size() > 1);
  AuditOptions options;
  options.questions_per_second = static_cast<double>(request.rate);
  options.fix = request.fix;
  const std::uint64_t samples = request.samples ? *request.samples : request.time ? UINT64_MAX : kSamplesDefault;
  int exit = kExitDone;
  // A cache that is away is no reason to leave the others out.
  std::vector<Error> failures;
  const bool is_one_of_several = (*config)->caches.size() > 1;
  const auto failed = [&](const CacheSettings& cache, Error why) {
    if (is_one_of_several) why.text = fmt::format("cache '{}': {}", cache.name, why.text);
    failures.push_back(std::move(why));
  };
  bool has_begun = false;
  for (const CacheSettings* next : in_order_of_filling(**config)) {
    const CacheSettings& cache = *next;
    if (cache.edge) continue;  // it has no values to look at
    const std::vector<bool> acts = rules_of(*rules, request.rule, cache.name);
    if (std::find(acts.begin(), acts.end(), true) == acts.end()) continue;
    Result<std::unique_ptr<AuditCache>> there = AuditCache::open(redis_options(**config, cache));
    const Result<std::optional<Record>> record = there ? (*there)->record() : tl::unexpected(there.error());
    if (!record) {
      failed(cache, record.error());
      continue;
    }
    if (!*record) {
      failed(cache, Error{ErrorKind::kFatal,
                          fmt::format("evictd has no record in Redis {}: nothing tells which changes it has applied", cache_text(cache)),
                          "run 'evictd run' with this configuration first"});
      continue;
    }
    has_begun = true;
    found.begin_cache(cache.name);
    options.shapes = key_shapes_of_cache(*rules, cache.name);
    Auditor auditor(*rules, acts, **database, **there, options, [&](const AuditFinding& finding) { found.found(finding); },
                    [&](std::chrono::milliseconds time) { return wait(signals, time); });
    const Result<void> done = audit(auditor, request, found, samples, signals);
    if (!done) {
      // What was judged until then stands.
      auditor.let_go();
      failed(cache, done.error());
      continue;
    }
    if (auditor.behind() > 0) {
      std::fprintf(stderr, "evictd does not follow: %llu values are older than their rows and wait for it: %s\n",
                   static_cast<unsigned long long>(auditor.behind()), auditor.behind_reason().c_str());
      exit = kExitFailed;
    }
    if (auditor.was_stopped()) break;
  }
  if (has_begun || failures.empty()) found.print_end(notes);
  for (const Error& failure : failures) exit = std::max(exit, report(failure));
  if (!failures.empty()) return exit;
  const AuditCounts& counts = found.counts();
  if (counts.stale > 0) exit = kExitFailed;
  if (counts.checked() > 0 && counts.fresh + counts.stale + counts.in_flight == 0) {
    std::fprintf(stderr, "nothing could be judged: all %llu values are unreadable\n", static_cast<unsigned long long>(counts.checked()));
    exit = kExitFailed;
  }
  if (counts.checked() == 0) {
    std::fprintf(stderr, "nothing could be judged: no key of these rules was found\n");
    exit = kExitFailed;
  }
  return exit;
}

}  // namespace evictd
