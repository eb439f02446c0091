#include "daemon/app/audit_thread.h"

#include <algorithm>
#include <set>

#include "daemon/interface/forwarding_sink.h"

namespace evictd {
namespace {

// Keys that wait for their first look, and for their second: those never take the place of the first.
constexpr std::size_t kInvalidatedMax = 1'000;
constexpr std::size_t kLaterMax = 2'000;
constexpr std::size_t kLastStaleMax = 20;
constexpr std::chrono::milliseconds kAfterSettle{1'000};
constexpr std::chrono::seconds kSecondLook{60};
constexpr std::chrono::milliseconds kTurn{200};
constexpr std::chrono::seconds kBetweenPasses{60};
constexpr std::chrono::seconds kRetry{5};

}  // namespace

struct AuditThread::State : SideState {
  explicit State(Options given) : options(std::move(given)) {}

  const Options options;

  // Shared, under the mutex.
  std::shared_ptr<const RuleSet> in_force;  // the rules; null: none yet
  bool reloaded = false;
  struct Invalidated {
    std::string cache;
    std::string rule;
    std::string key;
    SteadyTime at;
    SteadyTime due;
  };
  std::deque<Invalidated> invalidated;
  std::deque<Invalidated> later;
  // Cache and key of those that wait in each: a hot key is looked at once, however often it is invalidated meanwhile.
  std::set<std::pair<std::string, std::string>> waits;
  std::set<std::pair<std::string, std::string>> waits_again;
  std::uint64_t turn = 0;
  AuditStatus status;

  // The thread's own.
  std::map<std::pair<std::string, std::string>, SteadyTime> since;  // cache and key -> when it was invalidated

  bool must_begin_anew() {
    const std::lock_guard lock(mutex);
    return stopping || reloaded;
  }

  void set_problem(std::string text) {
    const std::lock_guard lock(mutex);
    status.problem = std::move(text);
  }

  void found(const RuleSet& rules, const std::string& cache, const AuditFinding& finding) {
    const std::string& rule = rules.rules()[finding.rule].name;
    double seconds = std::chrono::duration<double>(finding.suspect_for).count();
    if (const auto known = since.find({cache, finding.key}); known != since.end()) {
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - known->second).count();
    }
    const std::lock_guard lock(mutex);
    status.counts.add(finding.outcome);
    status.by_rule[{cache, rule}].add(finding.outcome);
    if (finding.outcome != AuditOutcome::kStale) return;
    const auto& bounds = AuditStatus::kStalenessBounds;
    ++status.staleness[static_cast<std::size_t>(std::lower_bound(bounds.begin(), bounds.end(), seconds) - bounds.begin())];
    status.staleness_sum += seconds;
    status.last_stale.push_front(
        {read_clocks().system, cache, rule, finding.key, finding.reason, finding.marker, seconds});
    if (status.last_stale.size() > kLastStaleMax) status.last_stale.pop_back();
  }

  // Those whose time has come. The first look of each is followed by a second, where there is room.
  std::vector<Invalidated> take_due() {
    const SteadyTime now = std::chrono::steady_clock::now();
    const std::lock_guard lock(mutex);
    std::vector<Invalidated> due;
    const auto take_from = [&](std::deque<Invalidated>& waiting, std::set<std::pair<std::string, std::string>>& names) {
      std::deque<Invalidated> rest;
      for (Invalidated& one : waiting) {
        if (one.due <= now) names.erase({one.cache, one.key});
        (one.due > now ? rest.emplace_back() : due.emplace_back()) = std::move(one);
      }
      waiting = std::move(rest);
    };
    take_from(later, waits_again);
    const std::size_t second = due.size();
    take_from(invalidated, waits);
    for (std::size_t i = second; i < due.size() && later.size() < kLaterMax; ++i) {
      if (!waits_again.insert({due[i].cache, due[i].key}).second) continue;
      Invalidated& again = later.emplace_back(due[i]);
      again.due = again.at + kSecondLook;
    }
    return due;
  }
};

namespace {

// One generation of rules and connections: until something breaks or changes.
template <typename State>
class Round {
 public:
  Round(State& state, std::shared_ptr<const RuleSet> rules) : state_(state), rules_(std::move(rules)) {}

  // Empty: stopped, or the rules have changed.
  Error run() {
    Result<std::unique_ptr<AuditDatabase>> database =
        AuditDatabase::open(state_.options.database, *rules_);
    if (!database) return database.error();
    database_ = std::move(*database);
    if (Result<void> opened = open_caches(); !opened) return opened.error();
    tell_what_is_not_audited();
    std::vector<SteadyTime> next_pass(caches_.size());
    while (!state_.must_begin_anew()) {
      if (Result<void> done = look_at_invalidated(); !done) return done.error();
      for (std::size_t i = 0; i < caches_.size() && !state_.must_begin_anew(); ++i) {
        Auditor& auditor = *caches_[i].auditor;
        if (Result<void> done = auditor.review(); !done) return done.error();
        if (std::chrono::steady_clock::now() >= next_pass[i]) {
          const Result<bool> more = auditor.draw();
          if (!more) return more.error();
          if (!*more) next_pass[i] = std::chrono::steady_clock::now() + kBetweenPasses;
        }
        tell_behind(auditor);
      }
      database_->rest();
      if (!state_.sleep(kTurn)) break;
    }
    return Error{ErrorKind::kFatal, "", ""};
  }

 private:
  struct Cache {
    std::string name;
    std::unique_ptr<AuditCache> cache;
    std::unique_ptr<Auditor> auditor;
    std::uint64_t behind = 0;
  };

  Result<void> open_caches() {
    for (const AuditThread::Cache& one : state_.options.caches) {
      Result<std::unique_ptr<AuditCache>> cache = AuditCache::open(one.redis);
      if (!cache) return tl::unexpected(cache.error());
      std::vector<bool> acts;
      for (const RuleInfo& rule : rules_->rules()) {
        acts.push_back(rule.caches.empty() || std::find(rule.caches.begin(), rule.caches.end(), one.name) != rule.caches.end());
      }
      AuditOptions options;
      options.questions_per_second = state_.options.questions_per_second;
      options.shapes = key_shapes_of_cache(*rules_, one.name);
      Cache& made = caches_.emplace_back();
      made.name = one.name;
      made.cache = std::move(*cache);
      made.auditor = std::make_unique<Auditor>(
          *rules_, acts, *database_, *made.cache, options,
          [this, name = one.name](const AuditFinding& finding) { state_.found(*rules_, name, finding); },
          [this](std::chrono::milliseconds time) { return state_.sleep(time); });
    }
    return {};
  }

  void tell_what_is_not_audited() {
    std::vector<std::string> texts;
    for (std::uint32_t rule = 0; rule < rules_->rules().size(); ++rule) {
      const std::string& name = rules_->rules()[rule].name;
      for (const std::string& left_out : database_->plan(rule).left_out) texts.push_back("rule '" + name + "': " + left_out);
      if (!rules_->rules()[rule].implied_by.empty()) continue;  // told of the rule that implies it
      const std::string& problem = database_->plan(rule).problem;
      if (!problem.empty()) texts.push_back("rule '" + name + "': " + problem);
    }
    const std::lock_guard lock(state_.mutex);
    state_.status.not_audited = std::move(texts);
    state_.status.problem.clear();
  }

  void tell_behind(const Auditor& auditor) {
    const std::lock_guard lock(state_.mutex);
    std::uint64_t all = 0;
    for (const Cache& cache : caches_) all += cache.auditor->behind();
    state_.status.behind = all;
    if (!auditor.behind_reason().empty()) state_.status.behind_reason = auditor.behind_reason();
  }

  Result<void> look_at_invalidated() {
    // By cache and rule.
    std::map<std::pair<std::size_t, std::uint32_t>, std::vector<AuditSample>> due;
    for (auto& one : state_.take_due()) {
      const auto cache = std::find_if(caches_.begin(), caches_.end(), [&](const Cache& c) { return c.name == one.cache; });
      if (cache == caches_.end()) continue;
      for (std::uint32_t rule = 0; rule < rules_->rules().size(); ++rule) {
        const RuleInfo& info = rules_->rules()[rule];
        const AuditPlan& plan = database_->plan(rule);
        if (info.name != one.rule || !plan.problem.empty()) continue;
        for (std::size_t shape = 0; shape < plan.shapes.size(); ++shape) {
          if (!plan.can_scan(shape, info)) continue;
          std::optional<std::vector<std::string>> texts = plan.shapes[shape].read(one.key);
          if (!texts) continue;
          AuditSample sample;
          sample.rule = rule;
          sample.key = one.key;
          sample.shape = shape;
          if (plan.shapes.size() == 1) sample.texts = std::move(*texts);
          state_.since[{one.cache, one.key}] = one.at;
          due[{static_cast<std::size_t>(cache - caches_.begin()), rule}].push_back(std::move(sample));
          break;
        }
      }
    }
    constexpr std::size_t kKeysPerLook = 50;
    for (auto& [where, samples] : due) {
      for (std::size_t from = 0; from < samples.size(); from += kKeysPerLook) {
        const auto begin = samples.begin() + static_cast<std::ptrdiff_t>(from);
        const auto end = samples.begin() + static_cast<std::ptrdiff_t>(std::min(from + kKeysPerLook, samples.size()));
        Result<void> done = caches_[where.first].auditor->examine(where.second, std::vector<AuditSample>(begin, end));
        if (!done) return done;
      }
    }
    if (state_.since.size() > 10 * kInvalidatedMax) state_.since.clear();
    return {};
  }

  State& state_;
  const std::shared_ptr<const RuleSet> rules_;
  std::unique_ptr<AuditDatabase> database_;
  std::vector<Cache> caches_;
};

}  // namespace

namespace {

class ListeningSink final : public ForwardingSink {
 public:
  ListeningSink(std::unique_ptr<Sink> sink, AuditThread& audit, std::string cache)
      : ForwardingSink(std::move(sink)), audit_(audit), cache_(std::move(cache)) {}

  void submit(Ticket ticket, const Order& order) override {
    if (order.act == Act::kInvalidate && order.target == Target::kKeys) audit_.invalidated(cache_, *order.rule, *order.texts);
    ForwardingSink::submit(ticket, order);
  }

 private:
  AuditThread& audit_;
  std::string cache_;
};

}  // namespace

std::unique_ptr<Sink> AuditThread::listening(std::unique_ptr<Sink> sink, AuditThread& audit, std::string cache) {
  return std::make_unique<ListeningSink>(std::move(sink), audit, std::move(cache));
}

AuditThread::AuditThread(Options options) : state_(std::make_shared<State>(std::move(options))) {
  thread_.emplace(state_, [state = state_] { run(state); });
}

AuditThread::~AuditThread() = default;

void AuditThread::run(const std::shared_ptr<State>& state) {
  while (true) {
    std::shared_ptr<const RuleSet> rules;
    {
      std::unique_lock lock(state->mutex);
      state->changed.wait(lock, [&] { return state->stopping || state->in_force; });
      state->reloaded = false;
      if (state->stopping) break;
      rules = state->in_force;
    }
    const Error why = Round<State>(*state, std::move(rules)).run();
    if (why.text.empty()) continue;
    state->set_problem(why.text);
    if (!state->sleep(kRetry)) break;
  }
}

void AuditThread::invalidated(std::string_view cache, const RuleInfo& rule, const Texts& keys) {
  if (keys.size() == 0) return;
  const std::lock_guard lock(state_->mutex);
  if (state_->invalidated.size() >= kInvalidatedMax) return;
  // Another one of the batch each time.
  const std::size_t index = static_cast<std::size_t>(state_->turn++ % keys.size());
  if (!state_->waits.insert({std::string(cache), std::string(keys.text(index))}).second) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  // What `via:` implies has the keys of the rule that was written.
  state_->invalidated.push_back({std::string(cache), rule.implied_by.empty() ? rule.name : rule.implied_by, std::string(keys.text(index)), now,
                                 now + rule.settle + kAfterSettle});
}

void AuditThread::use(std::shared_ptr<const RuleSet> rules) {
  const std::lock_guard lock(state_->mutex);
  state_->in_force = std::move(rules);
  state_->reloaded = true;
  state_->changed.notify_all();
}

std::shared_ptr<const AuditStatus> AuditThread::status() const {
  const std::lock_guard lock(state_->mutex);
  return std::make_shared<const AuditStatus>(state_->status);
}

}  // namespace evictd
