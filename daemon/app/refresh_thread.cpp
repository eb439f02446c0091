#include "daemon/app/refresh_thread.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>

#include "daemon/interface/forwarding_sink.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kRestWhenPressed{100};
constexpr std::chrono::seconds kRetryConnection{1};
constexpr std::chrono::seconds kSuspendMin{1};
constexpr std::chrono::seconds kSuspendMax{60};
constexpr std::chrono::seconds kIdleTurn{1};  // to let go of a session that is not needed
constexpr std::chrono::seconds kLongTurn{600};
constexpr std::size_t kProblemsMax = 20;

// What the fill of an item has to have seen, as announcements say it.
std::string version_of(const Texts& texts, std::uint32_t item) {
  if (!texts.row_versions.empty() && !texts.row_versions[item].empty()) return "v" + texts.row_versions[item];
  const std::uint32_t begin = item == 0 ? 0 : texts.items[item - 1].xids_end;
  const std::uint32_t end = texts.items[item].xids_end;
  std::string text;
  for (std::uint32_t i = std::max<std::uint32_t>(begin, end > kVersionXids ? end - kVersionXids : 0); i < end; ++i) {
    const Xid xid = texts.xids[i];
    text += text.empty() ? "" : ",";
    text += is_narrow(xid) ? "~" + std::to_string(static_cast<std::uint32_t>(number(xid))) : std::to_string(number(xid));
  }
  return text;
}

}  // namespace

struct RefreshThread::State : SideState {
  explicit State(Options given) : options(std::move(given)) {}

  const Options options;

  // All below under the mutex.
  std::shared_ptr<const RuleSet> in_force;  // the rules; null: none yet, and nothing waits
  bool reloaded = false;
  SteadyTime pressed_until = SteadyTime::min();
  RefreshQueue queue{RefreshQueue::Limits{}};
  RefreshStatus status;
  std::map<std::string, std::string> problems;  // by rule; "" is that of a connection

  void count(const std::string& rule, RefreshOutcome outcome, std::uint64_t keys = 1) {
    if (keys > 0) status.by_rule[rule][static_cast<std::size_t>(outcome)] += keys;
  }

  // Those that are gone, or have no `refresh` any more, are dropped when their turn comes.
  void set_paces(const RuleSet& rules) {
    const SteadyTime now = std::chrono::steady_clock::now();
    for (const RuleInfo& rule : rules.rules()) {
      if (rule.refresh.is_set() && rule.refresh.rule.empty()) queue.set_pace(rule.name, rule.refresh.stream.empty() ? rule.refresh.per_second : 0, now);
    }
  }
};

// The thread's own: rules, connections, what is suspended.
class RefreshThread::Work {
 public:
  explicit Work(State& state) : state_(state) {}

  void run() {
    while (const std::optional<RefreshBatch> batch = next()) {
      if (!batch->entries.empty()) work(*batch);
      if (database_) database_->rest();
    }
  }

 private:
  // What is to be done next; a batch without entries: nothing just now. Nothing: stop.
  std::optional<RefreshBatch> next() {
    std::unique_lock lock(state_.mutex);
    if (state_.stopping) return std::nullopt;
    if (state_.reloaded) {
      state_.reloaded = false;
      state_.problems.clear();
      database_.reset();  // it goes by the rules of before
      rules_ = state_.in_force;
      suspended_.clear();
    }
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now >= state_.pressed_until && now >= away_until_) {
      if (std::optional<RefreshBatch> batch = state_.queue.take(now)) return batch;
    }
    const SteadyTime due = std::max({state_.queue.due(now), state_.pressed_until, away_until_});
    state_.changed.wait_until(lock, std::min(due, now + (database_ ? kIdleTurn : kLongTurn)));
    return RefreshBatch{};
  }

  Result<void> connect(const RuleInfo& rule) {
    if (!cache_) {
      Result<std::unique_ptr<RefreshCache>> cache = RefreshCache::open(state_.options.redis);
      if (!cache) return tl::unexpected(cache.error());
      cache_ = std::move(*cache);
    }
    if (!rule.refresh.stream.empty()) return {};
    if (!database_) {
      Result<std::unique_ptr<RefreshDatabase>> database = RefreshDatabase::make(state_.options.database, *rules_);
      if (!database) return tl::unexpected(database.error());
      database_ = std::move(*database);
    }
    return database_->connect();
  }

  void work(const RefreshBatch& batch) {
    const auto& rules = rules_->rules();
    const auto at = std::find_if(rules.begin(), rules.end(), [&](const RuleInfo& rule) { return rule.name == batch.rule; });
    if (at == rules.end() || !at->refresh.is_set()) {
      const std::lock_guard lock(state_.mutex);
      state_.count(batch.rule, RefreshOutcome::kDropped, batch.entries.size() + state_.queue.forget(batch.rule));
      return;
    }
    if (Result<void> connected = connect(*at); !connected) return away(batch, connected.error());
    if (!at->refresh.stream.empty()) return tell(*at, batch);
    std::vector<std::string> keys;
    for (const RefreshEntry& entry : batch.entries) keys.push_back(entry.key);
    const auto rule = static_cast<std::uint32_t>(at - rules.begin());
    Result<Refresher::Done> done = Refresher(*rules_, *database_, *cache_).work(rule, keys);
    if (!done) return away(batch, done.error());
    const SteadyTime now = std::chrono::steady_clock::now();
    const std::lock_guard lock(state_.mutex);
    state_.problems.erase("");
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (done->may_try_again[i] && state_.queue.retry(batch.rule, batch.entries[i], now)) continue;
      state_.count(batch.rule, done->outcomes[i]);
    }
    if (done->problem.empty()) {
      suspended_.erase(batch.rule);
      state_.problems.erase(batch.rule);
      return;
    }
    state_.problems[batch.rule] = done->problem;
    if (!done->is_query_wrong && !done->is_slow && !done->is_full) return;
    // Twice as long each time: a query that hangs is not to take the place of the others.
    std::chrono::seconds& wait = suspended_[batch.rule];
    wait = wait.count() == 0 ? kSuspendMin : std::min<std::chrono::seconds>(2 * wait, kSuspendMax);
    state_.queue.suspend(batch.rule, now + wait);
    if (done->is_query_wrong) state_.count(batch.rule, RefreshOutcome::kFailed, state_.queue.clear(batch.rule));
  }

  void tell(const RuleInfo& rule, const RefreshBatch& batch) {
    std::vector<RefreshCache::Told> keys;
    for (const RefreshEntry& entry : batch.entries) keys.push_back({entry.key, entry.version});
    const Result<std::size_t> refused = cache_->tell(rule, keys);
    if (!refused) return away(batch, refused.error());
    const std::lock_guard lock(state_.mutex);
    state_.problems.erase("");
    state_.count(batch.rule, RefreshOutcome::kTold, keys.size() - *refused);
    state_.count(batch.rule, RefreshOutcome::kFailed, *refused);
    if (*refused == 0) {
      state_.problems.erase(batch.rule);
    } else {
      state_.problems[batch.rule] = fmt::format("redis is full and takes nothing into the stream '{}'", rule.refresh.stream);
    }
  }

  // Nothing can be done without what the error is of.
  void away(const RefreshBatch& batch, const Error& error) {
    cache_.reset();
    const SteadyTime now = std::chrono::steady_clock::now();
    away_until_ = now + kRetryConnection;
    const std::lock_guard lock(state_.mutex);
    state_.problems[""] = error.text;
    for (const RefreshEntry& entry : batch.entries) {
      if (!state_.queue.retry(batch.rule, entry, now)) state_.count(batch.rule, RefreshOutcome::kFailed);
    }
  }

  State& state_;
  std::shared_ptr<const RuleSet> rules_;
  std::unique_ptr<RefreshDatabase> database_;
  std::unique_ptr<RefreshCache> cache_;
  SteadyTime away_until_ = SteadyTime::min();
  std::map<std::string, std::chrono::seconds> suspended_;  // rule -> for how long the last time
};

namespace {

class RefreshingSink final : public ForwardingSink {
 public:
  RefreshingSink(std::unique_ptr<Sink> sink, RefreshThread& refresh) : ForwardingSink(std::move(sink)), refresh_(refresh) {}

  void step(Now now, SinkHandler& handler) override {
    ForwardingSink::step(now, handler);
    if (!has_room(Urgency::kPrompt)) refresh_.pressed();
  }
  void submit(Ticket ticket, const Order& order) override {
    if (order.target == Target::kKeys && order.rule->refresh.is_set()) under_way_[ticket] = {order.rule, order.texts};
    ForwardingSink::submit(ticket, order);
  }
  void stop() override {
    under_way_.clear();
    ForwardingSink::stop();
  }

 private:
  void on_done(Ticket ticket, const Outcome& outcome) override {
    // What the order points to is there until it ends.
    if (const auto order = under_way_.find(ticket); order != under_way_.end()) {
      if (!outcome.hits.empty()) refresh_.hit(*order->second.first, *order->second.second, outcome.hits);
      under_way_.erase(order);
    }
    ForwardingSink::on_done(ticket, outcome);
  }
  void on_lost(Ticket ticket) override {
    under_way_.erase(ticket);
    ForwardingSink::on_lost(ticket);
  }

  RefreshThread& refresh_;
  std::unordered_map<Ticket, std::pair<const RuleInfo*, const Texts*>> under_way_;
};

}  // namespace

std::unique_ptr<Sink> RefreshThread::listening(std::unique_ptr<Sink> sink, RefreshThread& refresh) {
  return std::make_unique<RefreshingSink>(std::move(sink), refresh);
}

RefreshThread::RefreshThread(Options options) : state_(std::make_shared<State>(std::move(options))) {
  state_->status.cache = state_->options.cache;
  thread_.emplace(state_, [state = state_] { run(state); });
}

RefreshThread::~RefreshThread() = default;

void RefreshThread::run(const std::shared_ptr<State>& state) {
  Work(*state).run();
}

void RefreshThread::hit(const RuleInfo& rule, const Texts& keys, const std::vector<std::uint32_t>& items) {
  // What `via:` implies of a joined table makes the keys of the rule as written.
  const std::string& name = rule.refresh.rule.empty() ? rule.name : rule.refresh.rule;
  const std::lock_guard lock(state_->mutex);
  for (const std::uint32_t item : items) {
    switch (state_->queue.add(name, keys.text(item), rule.refresh.stream.empty() ? std::string() : version_of(keys, item))) {
      case RefreshQueue::Added::kQueued:
        break;
      case RefreshQueue::Added::kCoalesced:
        state_->count(name, RefreshOutcome::kCoalesced);
        break;
      case RefreshQueue::Added::kDropped:
        state_->count(name, RefreshOutcome::kDropped);
        break;
    }
  }
  state_->changed.notify_all();
}

void RefreshThread::pressed() {
  const std::lock_guard lock(state_->mutex);
  state_->pressed_until = std::chrono::steady_clock::now() + kRestWhenPressed;
}

void RefreshThread::use(std::shared_ptr<const RuleSet> rules) {
  const std::lock_guard lock(state_->mutex);
  state_->reloaded = true;
  state_->set_paces(*rules);
  state_->in_force = std::move(rules);
  state_->changed.notify_all();
}

std::shared_ptr<const RefreshStatus> RefreshThread::status() const {
  const std::lock_guard lock(state_->mutex);
  auto status = std::make_shared<RefreshStatus>(state_->status);
  status->waiting = state_->queue.size();
  for (const auto& [rule, problem] : state_->problems) {
    if (status->problems.size() == kProblemsMax) break;
    status->problems.push_back(rule.empty() ? problem : fmt::format("rule '{}': {}", rule, problem));
  }
  return status;
}

}  // namespace evictd
