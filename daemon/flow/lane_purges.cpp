// Purges that batches ask for: one walk of a pattern at a time, and those who ask meanwhile share the next one.
#include <algorithm>

#include "daemon/flow/lane_work.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Transactions a purge names one by one; beyond, it asks of fills a snapshot newer than all of them.
constexpr std::size_t kPurgeXidsMax = 1024;
constexpr std::chrono::milliseconds kPurgeSettleMin{1000};

}  // namespace

// Its walks leave nothing in the cache that would know a replay, and counters are raised by patterns whatever they remember.
bool Lane::leaves_nothing(const PatternRef& ref) { return ref.rule->fill == FillMode::kPlain && !ref.pattern->is_bump && !ref.pattern->is_surrogate; }

void Lane::request_purge(const PatternRef& ref, BatchWork& dependent) {
  PurgeWork* purge = nullptr;
  // One whose first walk is known to be done shares none with those who still owe theirs.
  const bool is_replay = dependent.is_replay && leaves_nothing(ref);
  if (const auto waiting = purge_turns_.waiting(ref.pattern); waiting && !is_replay) {
    purge = purges_.at(*waiting).get();
  } else {
    auto made = std::make_unique<PurgeWork>();
    purge = made.get();
    purge->id = next_purge_++ * 2 + 1;
    purge->rules = dependent.rules;
    purge->ref = ref;
    const RuleInfo& info = *ref.rule;
    purge->unapplied = purge->unfinished = 1;
    Part& part = purge->parts.emplace_back();
    part.rule = &info;
    part.kind = InvalidationKind::kPurge;
    part.target = Target::kPatterns;
    const bool is_checked = info.fill == FillMode::kChecked;
    // A raised counter asks no more of readers than that they see the transaction.
    part.settle = is_edge_                      ? std::max(info.settle, kPurgeSettleMin) + spec_.origin_time
                  : purge->ref.pattern->is_bump ? kPurgeSettleMin
                  : is_checked                ? spec_.tombstone_ttl
                                              : std::max(info.settle, kPurgeSettleMin);
    works_[purge->id] = purge;
    purges_[purge->id] = std::move(made);
    if (is_replay) {
      purge->first_done = true;
      purge->unapplied = 0;
      part.state = PartState::kApplied;
      part.act = Act::kSettle;
    } else {
      if (purge_turns_.wait(ref.pattern, purge->id)) start_purge(*purge);
    }
  }
  share(*purge, dependent);
  if (is_replay) prepare_purge(*purge);
  if (is_replay) wait_for_settle(*purge, 0);
}

void Lane::share(PurgeWork& purge, BatchWork& dependent) {
  name_transactions(purge, dependent.batch->xids);
  purge.dependents.push_back(dependent.id);
  dependent.purge_ids.push_back(purge.id);
  // Visible when all who share it are; until then those that are have their second walk beside those that hang.
  std::optional<SteadyTime> partly_at = dependent.partly_at;
  if (dependent.visible_at) {
    purge.latest_visible_at = std::max(purge.latest_visible_at, *dependent.visible_at);
    if (purge.invisible == 0) {
      purge.visible_at = purge.latest_visible_at;
      return;
    }
    partly_at = dependent.visible_at;
  } else {
    ++purge.invisible;
    partly_at = std::max(partly_at, std::exchange(purge.visible_at, std::nullopt));
  }
  if (!partly_at) return;
  SteadyTime& since = purge.parts[0].partly_since;
  since = purge.partly_at ? std::min(since, *partly_at) : *partly_at;
  purge.partly_at = std::max(purge.partly_at, partly_at);
}

// Of more than can be named the newest alone is kept: a walk may wait for as long as the stream takes to fill the lane.
void Lane::name_transactions(PurgeWork& purge, const std::vector<Xid>& xids) {
  if (purge.is_unconditional) {
    for (const Xid xid : xids) purge.floor = std::max(purge.floor, xid);
    return;
  }
  purge.xids.insert(purge.xids.end(), xids.begin(), xids.end());
  if (purge.xids.size() > 2 * kPurgeXidsMax) sort_transactions(purge);
}

void Lane::sort_transactions(PurgeWork& purge) {
  std::sort(purge.xids.begin(), purge.xids.end());
  purge.xids.erase(std::unique(purge.xids.begin(), purge.xids.end()), purge.xids.end());
  if (purge.xids.size() <= kPurgeXidsMax) return;
  purge.is_unconditional = true;
  purge.floor = purge.xids.back();
  purge.xids = std::vector<Xid>();
}

// Visible when all who share it are.
void Lane::dependent_visible(PurgeWork& purge, SteadyTime since) {
  EVICTD_CHECK(purge.invisible > 0);
  --purge.invisible;
  purge.latest_visible_at = std::max(purge.latest_visible_at, since);
  if (purge.visible_at) return;  // others were given up, see settle_for_kept()
  if (purge.invisible == 0) {
    now_visible(purge, purge.latest_visible_at);
  } else {
    now_partly_visible(purge, since);
  }
}

// Its turn has come. By a row whose value is not sent, or by any row of a rule with `purge:`, walks of one pattern keep their distance
// nevertheless. Nothing is acknowledged before it, so lag tells of the wait.
void Lane::start_purge(PurgeWork& purge) {
  const RuleInfo& rule = *purge.ref.rule;
  const SteadyTime due = purge_turns_.due(purge.ref.pattern, rule.purge_every, now_.steady);
  if (due <= now_.steady || is_hurried_) return enqueue(purge, 0);
  purge.held_until = due;
  purge.parts[0].wanted_since = now_.steady;
  wait_for_timer(purge, 0, due);
  observer_.purge_held(spec_.name, rule);
}

// A stop does not wait for them.
void Lane::release_held_purges() {
  for (const auto& [id, purge] : purges_) {
    if (!purge->is_held()) continue;
    Part& part = purge->parts[0];
    timers_.erase(*part.timer);
    part.timer.reset();
    enqueue(*purge, 0);
  }
}

// It is about to be sent: nobody joins it any more, and its transactions are those of all who did.
void Lane::prepare_purge(PurgeWork& purge) {
  purge_turns_.sent(purge.ref.pattern, purge.id, now_.steady);
  if (!purge.is_unconditional) sort_transactions(purge);
}

void Lane::purge_first_act_done(PurgeWork& purge) {
  if (purge.first_done) return;
  purge.first_done = true;
  if (const auto next = purge_turns_.done(purge.ref.pattern, purge.id)) start_purge(*purges_.at(*next));
  for (const std::uint64_t id : purge.dependents) {
    const auto dependent = works_.find(id);
    if (dependent == works_.end() || dependent->second->unapplied == 0) continue;
    first_acts_left(*dependent->second, dependent->second->unapplied - 1);
  }
}

// It was walked again for those of its transactions that were visible by then; others hang.
void Lane::purge_settled(PurgeWork& purge, SteadyTime settled_for) {
  for (const std::uint64_t id : purge.dependents) {
    const auto dependent = works_.find(id);
    if (dependent == works_.end() || !dependent->second->visible_at || *dependent->second->visible_at > settled_for) continue;
    if (purge.settled.insert(id).second) note_settled(*dependent->second->as_batch(), 1);
  }
}

void Lane::purge_finished(PurgeWork& purge) {
  works_.erase(purge.id);
  const auto place = purges_.find(purge.id);
  const std::vector<std::uint64_t> dependents = purge.dependents;
  const std::set<std::uint64_t> settled = std::move(purge.settled);
  const bool is_whole = !purge.abandoned;
  graveyard_.push_back(std::move(place->second));
  purges_.erase(place);
  for (const std::uint64_t id : dependents) {
    const auto dependent = works_.find(id);
    if (dependent == works_.end()) continue;
    // (Of one that was given up while it hung, this was the first walk alone: see settle_for_kept().)
    if (is_whole && !settled.contains(id) && !dependent->second->abandoned) note_settled(*dependent->second->as_batch(), 1);
    EVICTD_CHECK(dependent->second->unfinished > 0);
    if (--dependent->second->unfinished == 0) finished(*dependent->second);
  }
}

}  // namespace evictd
