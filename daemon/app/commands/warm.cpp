#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <unordered_set>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/explain.h"
#include "daemon/app/signals.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/poll.h"
#include "daemon/audit/cache.h"
#include "daemon/flow/cache_rules.h"
#include "daemon/refresh/refresher.h"
#include "daemon/sources/postgres/live_rows.h"
#include "mapping/did_you_mean.h"
#include "mapping/mapper.h"

namespace evictd {
namespace {

constexpr std::size_t kRowsPerPage = 1000;
constexpr std::chrono::seconds kProgressEvery{5};
constexpr std::chrono::milliseconds kTurn{100};

// The keys that one rule has for rows as they are.
class KeysOfRule final : public InvalidationReceiver {
 public:
  explicit KeysOfRule(std::uint32_t rule) : rule_(rule) {}
  void key(std::uint32_t rule, std::string_view key) override {
    if (rule == rule_ && seen_.emplace(key).second) keys.emplace_back(key);
  }
  void tag(std::uint32_t, std::string_view) override {}
  void bump(std::uint32_t, std::string_view) override {}
  void surrogate_key(std::uint32_t, std::string_view) override {}
  void semantic(std::uint32_t, std::string_view) override {}
  void row_version(std::uint32_t, std::string_view) override {}
  void purge(std::uint32_t, std::uint32_t) override {}
  void unmappable(std::uint32_t, UnmappableReason, std::string_view) override {}

  std::vector<std::string> keys;

 private:
  std::uint32_t rule_;
  std::unordered_set<std::string> seen_;
};

Result<std::uint32_t> find_rule(const CommandLine& request, const RuleSet& rules) {
  std::vector<std::string_view> names;
  for (std::uint32_t rule = 0; rule < rules.rules().size(); ++rule) {
    const RuleInfo& info = rules.rules()[rule];
    names.push_back(info.name);
    if (info.name != request.rule || !info.refresh.rule.empty()) continue;
    if (info.refresh.query.empty()) {
      return fail(ErrorKind::kUsage, fmt::format("rule '{}' has no 'refresh' with a query, by which its values could be read", info.name),
                  "docs/refresh.md tells what it looks like");
    }
    return rule;
  }
  return fail(ErrorKind::kUsage, fmt::format("no rule is named '{}'", printable_text(request.rule)), did_you_mean(request.rule, names, "rules"));
}

// The rule whose table has the rows that the keys are rendered from: of keys of a joined table, the one that `via:` implies.
std::uint32_t rule_of_rows(const RuleSet& rules, std::uint32_t rule) {
  if (refresh_key(rules, rule).is_of_own_row) return rule;
  for (std::uint32_t other = 0; other < rules.rules().size(); ++other) {
    const RuleInfo& info = rules.rules()[other];
    if (info.refresh.rule == rules.rules()[rule].name && !info.key_templates.empty() && refresh_key(rules, other).is_of_own_row) return other;
  }
  return rule;
}

// One cache, filled page by page.
class Warming {
 public:
  Warming(const RuleSet& rules, std::uint32_t rule, std::uint64_t per_second, RefreshDatabase& database, RefreshCache& cache, Signals& signals)
      : rules_(rules), rule_(rule), refresher_(rules, database, cache), signals_(signals), queue_(RefreshQueue::Limits{}) {
    queue_.set_pace(name(), per_second, std::chrono::steady_clock::now());
  }

  Result<void> run(LiveRows& rows) {
    Mapper mapper(rules_);
    SteadyTime told_at = std::chrono::steady_clock::now();
    while (!stopped_) {
      const Result<std::vector<std::vector<Value>>> page = rows.next();
      if (!page) return tl::unexpected(page.error());
      if (page->empty()) break;
      rows_ += page->size();
      KeysOfRule found(rule_of_rows(rules_, rule_));
      for (const std::vector<Value>& row : *page) {
        Change change;
        change.operation = Operation::kInsert;
        change.relation = &rows.relation();
        change.new_row = row;
        mapper.map(change, found);
      }
      for (const std::string& key : found.keys) {
        if (queue_.add(name(), key, "") == RefreshQueue::Added::kDropped) count(RefreshOutcome::kDropped);
      }
      if (Result<void> done = drain(told_at); !done) return done;
    }
    return {};
  }

  bool was_stopped() const { return stopped_; }
  std::uint64_t of(RefreshOutcome outcome) const { return counts_[static_cast<std::size_t>(outcome)]; }
  std::string text() const {
    std::string list;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] > 0) list += fmt::format("{}{} {}", list.empty() ? ": " : ", ", counts_[i], refresh_outcome_name(static_cast<RefreshOutcome>(i)));
    }
    return fmt::format("{} rows{}", rows_, list);
  }

 private:
  const std::string& name() const { return rules_.rules()[rule_].name; }
  void count(RefreshOutcome outcome) { ++counts_[static_cast<std::size_t>(outcome)]; }

  // Until no key waits.
  Result<void> drain(SteadyTime& told_at) {
    while (queue_.size() > 0 && !stopped_) {
      const SteadyTime now = std::chrono::steady_clock::now();
      if (now - told_at > kProgressEvery) {
        told_at = now;
        std::fprintf(stderr, "%s\n", text().c_str());
      }
      const std::optional<RefreshBatch> batch = queue_.take(now);
      if (!batch) {
        wait_until(std::min(queue_.due(now), now + kTurn));
        continue;
      }
      std::vector<std::string> keys;
      for (const RefreshEntry& entry : batch->entries) keys.push_back(entry.key);
      const Result<Refresher::Done> done = refresher_.work(rule_, keys);
      if (!done) return tl::unexpected(done.error());
      for (std::size_t i = 0; i < keys.size(); ++i) {
        if (!done->may_try_again[i] || !queue_.retry(name(), batch->entries[i], now)) count(done->outcomes[i]);
      }
      if (!done->problem.empty()) return fail(done->is_query_wrong ? ErrorKind::kUsage : ErrorKind::kFatal, done->problem);
      wait_until(now);
    }
    return {};
  }

  void wait_until(SteadyTime time) {
    Waiting waiting;
    waiting.descriptors.push_back(pollfd{signals_.descriptor(), POLLIN, 0});
    waiting.wake_at(time);
    wait_for_any(waiting);
    while (const std::optional<Signal> signal = signals_.next()) stopped_ |= *signal == Signal::kStop;
  }

  const RuleSet& rules_;
  std::uint32_t rule_;
  Refresher refresher_;
  Signals& signals_;
  RefreshQueue queue_;
  std::array<std::uint64_t, kRefreshOutcomes> counts_{};
  std::uint64_t rows_ = 0;
  bool stopped_ = false;
};

// Values that nobody deletes when their rows change are worse than none.
Result<void> require_record(const Config& config, const CacheSettings& cache) {
  Result<std::unique_ptr<AuditCache>> there = AuditCache::open(redis_options(config, cache));
  if (!there) return tl::unexpected(there.error());
  const Result<std::optional<Record>> record = (*there)->record();
  if (!record) return tl::unexpected(record.error());
  if (*record) return {};
  return fail(ErrorKind::kFatal, fmt::format("evictd has no record in Redis {}: nothing would delete these values when their rows change", cache_text(cache)),
              "run 'evictd run' with this configuration first");
}

}  // namespace

int warm_command(const CommandLine& request) {
  Signals signals;
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  const Result<std::uint32_t> rule = find_rule(request, *rules);
  if (!rule) return report(rule.error());
  const RuleInfo& info = rules->rules()[*rule];
  for (const CacheSettings& cache : (*config)->caches) {
    if (cache.edge || !acts_on(info, cache.name)) continue;
    if (Result<void> is_there = require_record(**config, cache); !is_there) return report(is_there.error());
    Result<std::unique_ptr<RefreshDatabase>> database = RefreshDatabase::make(refresh_database_options(**config), *rules);
    if (!database) return report(database.error());
    for (const Result<void>& ready : {(*database)->connect(), (*database)->prepare(*rule)}) {
      if (!ready) return report(ready.error());
    }
    Result<std::unique_ptr<RefreshCache>> there = RefreshCache::open(redis_options(**config, cache));
    if (!there) return report(there.error());
    LiveRowsWanted wanted;
    wanted.table = rules->rules()[rule_of_rows(*rules, *rule)].qualified_table();
    wanted.where = request.where;
    wanted.page = kRowsPerPage;
    Result<std::unique_ptr<LiveRows>> rows = LiveRows::open(database_address(**config), wanted);
    if (!rows) return report(rows.error());
    Warming warming(*rules, *rule, request.per_second.value_or(info.refresh.per_second), **database, **there, signals);
    const Result<void> done = warming.run(**rows);
    fmt::print("{}{}\n", (*config)->caches.size() > 1 ? "cache '" + cache.name + "': " : "", warming.text());
    std::fflush(stdout);
    if (!done) return report(done.error());
    if (warming.was_stopped()) {
      std::fprintf(stderr, "stopped before the end; what is filled is filled\n");
      return kExitFailed;
    }
  }
  return kExitDone;
}

}  // namespace evictd
