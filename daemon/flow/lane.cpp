// Batches on their way through a cache: see the drawing in lane.h.
#include "daemon/flow/lane.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/lane_work.h"
#include "daemon/flow/walk_report.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Prompt orders waiting for room in the sink before the source is no longer read.
constexpr std::size_t kReadyMax = 32;
// Until the second purge of an edge, whose rules may have no settle of their own.
constexpr std::chrono::milliseconds kEdgeSettleMin{1000};
// What is kept for each purge that a batch asks for: which it is, and the batch's place among those who share it; twice, as
// vectors grow.
constexpr std::size_t kSharedPurgeBytes = 4 * sizeof(std::uint64_t);

Target target_of(InvalidationKind kind) {
  return kind == InvalidationKind::kKey   ? Target::kKeys
         : kind == InvalidationKind::kTag ? Target::kTags
         : kind == InvalidationKind::kSurrogate ? Target::kSurrogates
         : kind == InvalidationKind::kSemantic ? Target::kSemantic
                                                : Target::kCounters;
}

}  // namespace

Lane::Lane(LaneSpec spec, const Source& source, Observer& observer, CacheEvents events, const FlowOptions& options,
           std::shared_ptr<const RuleSet> rules)
    : spec_(std::move(spec)),
      is_edge_(spec_.sink->traits().is_edge),
      observer_(observer),
      events_(std::move(events)),
      options_(options),
      keeper_(spec_, options, source, observer, events_, now_, std::move(rules)) {
  EVICTD_CHECK(spec_.after.size() < 64);  // bits of a mask; the configuration allows fewer caches
  if (!spec_.after.empty()) before_.gate = 0;
}

Lane::~Lane() = default;

void Lane::start(Now now) {
  now_ = now;
  lacks_since_ = now.steady;
  keeper_.tell_sink();
  spec_.sink->start(now);
}

void Lane::step(Now now) {
  now_ = now;
  spec_.sink->step(now, *this);
  keeper_.watch_evictions();
  run_timers();
  tell_absence();
  if (!owes_what_was_refused()) refused_.reset();
  if (giving_up_) give_up_some();
}

void Lane::work(Now now, const Surroundings& surroundings) {
  now_ = now;
  if (surroundings.is_hurried && !std::exchange(is_hurried_, true)) release_held_purges();
  work_repairs(surroundings);
  if (ledger().streams_are_stored()) {
    // In turn: many settles come due at once where many transactions became visible at once, as after a start, and what
    // changes now must not wait for all of them, nor they for it.
    for (bool any = true; any;) {
      any = submit_one(ready_.first, Urgency::kPrompt);
      if (submit_one(ready_.again, Urgency::kPrompt)) any = true;
    }
    while (submit_one(ready_.bulk, Urgency::kBulk)) continue;
  }
  note_applied();
  pop_finished();
  if (is_connected_ && !is_parked_) keeper_.write(surroundings.is_hurried);
  graveyard_.clear();  // what was submitted has been written out by then, or is still alive
}

void Lane::wait_for(Waiting& waiting, Now now, const Surroundings& surroundings) {
  now_ = now;
  spec_.sink->wait_for(waiting);
  if (!timers_.empty()) waiting.wake_at(timers_.begin()->first);
  if (giving_up_) waiting.wake_at(SteadyTime::min());
  if (is_connected_) waiting.wake_at(keeper_.wake_at(surroundings.is_hurried));
}

void Lane::work_repairs(const Surroundings& surroundings) {
  if (is_connected_ && !is_parked_ && !repair_ticket_ && spec_.sink->has_room(Urgency::kBulk)) {
    if (const std::optional<Order> walk = keeper_.next_walk(surroundings)) {
      repair_ticket_ = next_ticket_++;
      spec_.sink->submit(*repair_ticket_, *walk);
    }
  }
  keeper_.tell_repaired();
}

void Lane::use(std::shared_ptr<const RuleSet> rules, Now now) {
  now_ = now;
  purge_turns_.forget_when();
  keeper_.use(std::move(rules));
}

std::optional<Error> Lane::refusal(const RuleInfo& rule) const {
  return acts_on(rule, spec_.name) ? spec_.sink->refusal(CacheRules::needs_of(rule)) : std::nullopt;
}

void Lane::take(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at, Now now) {
  now_ = now;
  const bool is_cut = batch->is_cut;
  if (hold(std::move(batch), visible_at) && is_cut) keeper_.prefix().carried();
}

bool Lane::hold(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at) {
  last_taken_ = batch->number;
  if (is_behind_ && is_followed_) settled_.push_back({batch->number, false});  // who stands behind it may have it
  if (is_parked_) {
    for (const Position& end : batch->ends) keeper_.prefix().missed(end);
  }
  if (is_parked_ || is_behind_) return false;
  // Sent again: for another cache's sake, or because this process or another one ended before it was acknowledged.
  const bool is_known = keeper_.prefix().is_finished(*batch);
  const bool is_replay = !is_known && keeper_.prefix().is_applied(*batch);
  keeper_.prefix().taken(*batch, !is_known && !is_replay);
  auto made = std::make_unique<BatchWork>();
  BatchWork& work = *made;
  work.id = batch->number * 2;
  work.number = batch->number;
  work.session = batch->session;
  work.rules = batch->rules;
  work.ends = batch->ends;
  work.transactions = batch->transactions;
  work.visible_at = visible_at;
  work.taken_at = now_.steady;
  work.is_replay = is_replay;
  work.bytes = sizeof(BatchWork) + (is_known ? 0 : batch->bytes);
  std::uint32_t applied_before = 0;
  if (!is_known) {
    const std::vector<RuleInfo>& rules = batch->rules->rules();
    for (const BatchPart& part : batch->parts) {
      if ((part.kind == InvalidationKind::kSurrogate) != is_edge_) continue;
      const RuleInfo& rule = rules[part.rule];
      if (!keeper_.rules().acts(batch->rules, part.rule)) continue;
      Part& progress = work.parts.emplace_back();
      progress.rule = &rule;
      progress.kind = part.kind;
      progress.target = target_of(part.kind);
      progress.texts = &part.texts;
      if (part.kind == InvalidationKind::kBump) {
        progress.waits_for_visibility = true;
      } else if (is_edge_) {
        // No edge compares versions: whatever the caches before it are filled by, it is purged again.
        progress.settle = std::max(rule.settle, kEdgeSettleMin) + spec_.origin_time;
      } else if (rule.fill == FillMode::kPlain) {
        progress.settle = rule.settle;
        if (is_replay) {
          progress.state = PartState::kApplied;
          progress.act = Act::kSettle;
          ++applied_before;
          Outcome outcome;
          outcome.replayed = part.texts.size();
          observer_.invalidations(spec_.name, rule, part.kind, outcome);
        }
      }
    }
  }
  if (!is_known) {
    for (const auto& [rule, pattern] : batch->purges) {
      const RuleInfo& info = batch->rules->rules()[rule];
      if (info.patterns[pattern].is_surrogate != is_edge_ || !keeper_.rules().acts(batch->rules, rule)) continue;
      work.purges.push_back({&info, &info.patterns[pattern]});
      work.bytes += kSharedPurgeBytes;
      if (!is_replay || !leaves_nothing(work.purges.back())) continue;
      ++applied_before;
      work.bytes += sizeof(PurgeWork) + sizeof(Part) + batch->xids.size() * sizeof(Xid);  // which it shares with none
    }
  }
  if (!visible_at) {
    work.held = static_cast<std::uint32_t>(
        std::count_if(work.parts.begin(), work.parts.end(), [](const Part& part) { return part.waits_for_visibility; }));
  }
  work.unfinished = static_cast<std::uint32_t>(work.parts.size() + work.purges.size());
  const bool acts_here = work.unfinished > 0;
  work.unsettled = work.unfinished;
  work.unsettled_before = ((std::uint64_t{1} << spec_.after.size()) - 1) & ~before_.parked;
  work.unapplied = work.unfinished - applied_before;
  if (!is_known && !batch->lookups.empty()) {
    work.holds = 1;
    ++work.unfinished;
    held_[work.number] = &work;
  }
  batches_.push_back(std::move(made));
  work.place = std::prev(batches_.end());
  held_bytes_ += work.bytes;
  held_transactions_ += work.transactions;
  works_[work.id] = &work;
  note_settled(work, 0);
  work.batch = std::move(batch);
  if (work.unfinished == 0) {
    work.begun = true;
    finished(work);
    return false;
  }
  if (work.unapplied > work.held) unapplied_[work.number] = work.batch->oldest_commit;
  if (!work.visible_at) invisible_[work.number] = &work;
  if (work.number <= before_.gate) {
    begin_batch(work);
  } else {
    before_.unbegun.push_back(work.number);
  }
  return acts_here;
}

// What is applied goes on record as far as there is no hole in it.
void Lane::note_applied() {
  for (const SystemTime commit : keeper_.prefix().applied_through(is_parked_ ? 0 : applied_through(), keeper_.streams())) tell_latency(commit);
}

void Lane::take_found(std::shared_ptr<const Batch> found, SteadyTime visible_at, std::uint64_t of, Now now) {
  now_ = now;
  const std::uint64_t id = found->number * 2;
  hold(std::move(found), visible_at);
  // What it is for is given up in its turn, and must not pass for whole until then.
  if (const auto waiting = held_.find(of); is_behind_ && waiting != held_.end()) waiting->second->is_incomplete = true;
  const auto taken = works_.find(id);
  if (taken == works_.end()) return;  // nothing of it acts here, or nothing is taken at all
  BatchWork& work = *taken->second->as_batch();
  found_bytes_ += work.found_bytes = work.bytes;
  const auto waiting = held_.find(of);
  if (waiting == held_.end()) return;  // finished here before: it was sent again for another cache's sake
  work.found_for = of;
  ++waiting->second->holds;
  ++waiting->second->unfinished;
}

void Lane::looked_up(std::uint64_t of, Now now) {
  now_ = now;
  let_go(of, true);
}

void Lane::let_go(std::uint64_t number, bool is_whole) {
  const auto found = held_.find(number);
  if (found == held_.end()) return;
  BatchWork& batch = *found->second;
  if (!is_whole) batch.is_incomplete = true;
  if (--batch.holds == 0) held_.erase(found);
  EVICTD_CHECK(batch.unfinished > 0);
  if (--batch.unfinished == 0) finished(batch);
}

void Lane::begin_batch(BatchWork& work) {
  work.begun = true;
  for (std::uint32_t part = 0; part < work.parts.size(); ++part) {
    if (work.parts[part].act == Act::kSettle) {  // of a replay; it may be seen to be visible before it begins
      const bool waits = work.parts[part].state == PartState::kApplied && !work.parts[part].waits_to_settle();
      if (waits) wait_for_settle(work, part);
    } else if (work.visible_at || !work.parts[part].waits_for_visibility) {
      enqueue(work, part);
    }
  }
  for (const PatternRef& purge : std::exchange(work.purges, {})) request_purge(purge, work);
}

std::uint64_t Lane::applied_through() const {
  if (is_parked_) return UINT64_MAX;
  if (is_behind_) return behind_after_;
  return unapplied_.empty() ? last_taken_ : unapplied_.begin()->first - 1;
}

// What it holds then are second deletes and renewals that are due later.
bool Lane::is_drained(SteadyTime until) const {
  if (ledger().is_under_way()) return false;
  if (works_.empty() && batches_.empty()) return true;
  const bool asks = !tickets_.empty() || !ready_.first.empty() || !ready_.again.empty() || !ready_.bulk.empty();
  const bool waits_for_others = !invisible_.empty() || !held_.empty() || !before_.unbegun.empty() || !before_.gated.empty();
  return !asks && !waits_for_others && unapplied_.empty() && !giving_up_ && !timers_.empty() && timers_.begin()->first >= until;
}

bool Lane::is_busy() const { return ready_.first.size() >= kReadyMax; }

void Lane::enqueue(Work& work, std::uint32_t part) {
  // One that was lost is owed since it was asked for first.
  if (work.parts[part].state != PartState::kUnderWay) work.parts[part].wanted_since = now_.steady;
  work.parts[part].state = PartState::kWaiting;
  const bool is_bulk = work.parts[part].target == Target::kPatterns;
  (is_bulk ? ready_.bulk : work.parts[part].act == Act::kInvalidate ? ready_.first : ready_.again).push_back({work.id, part});
  if (!is_bulk) owe(work.parts[part]);  // a walk waits for others of ours first
}

void Lane::owe(Part& part) {
  if (!part.owed) part.owed = owed_.insert(part.wanted_since);
}

void Lane::owe_no_more(Part& part) {
  if (part.owed) owed_.erase(*part.owed);
  part.owed.reset();
}

bool Lane::submit_one(std::deque<OrderOf>& ready, Urgency urgency) {
  Sink& sink = *spec_.sink;
  while (is_connected_ && !ready.empty() && sink.has_room(urgency)) {
    const OrderOf next = ready.front();
    ready.pop_front();
    const auto found = works_.find(next.work);
    if (found == works_.end()) continue;
    Work& work = *found->second;
    Part& part = work.parts[next.part];
    if (part.state != PartState::kWaiting) continue;
    if (part.act == Act::kInvalidate) {
      // A delete this late is the settle delete: readers of the old row had their time already.
      part.is_settle = part.settles() && work.visible_at && now_.steady - *work.visible_at >= part.settle;
      if (part.is_settle) {  // unless the caches before it are not done
        const Gate gate = settle_gate(work);
        part.is_settle = gate.waits_for == 0 && gate.open_at <= now_.steady;
      }
    }
    Order order;
    order.act = part.act;
    order.target = part.target;
    order.is_settle = part.is_settle;
    if (PurgeWork* purge = work.as_purge()) {
      if (part.act == Act::kInvalidate) prepare_purge(*purge);
      order.patterns = std::span(&purge->ref, 1);
      order.xids = purge->xids;
      order.is_unconditional = purge->is_unconditional;
      order.floor = purge->floor;
    } else {
      order.rule = part.rule;
      order.texts = part.texts;
    }
    part.state = PartState::kUnderWay;
    owe(part);
    part.written_at = now_.steady;  // or a little later, by the clock of the cache
    if (part.settles()) part.settled_for = now_.steady - part.settle;
    const Ticket ticket = next_ticket_++;
    tickets_[ticket] = next;
    sink.submit(ticket, order);
    return true;
  }
  return false;
}

void Lane::on_done(Ticket ticket, const Outcome& outcome) {
  if (repair_ticket_ == ticket) {
    repair_ticket_.reset();
    return keeper_.walk_done(outcome);
  }
  const auto found = tickets_.find(ticket);
  EVICTD_CHECK(found != tickets_.end());
  const OrderOf order = found->second;
  tickets_.erase(found);
  Work& work = *works_.at(order.work);
  Part& part = work.parts[order.part];
  EVICTD_CHECK(part.state == PartState::kUnderWay);
  part.state = PartState::kApplied;
  owe_no_more(part);
  switch (part.act) {
    case Act::kInvalidate:
      observer_.invalidations(spec_.name, *part.rule, part.kind, outcome);
      if (PurgeWork* purge = work.as_purge()) {
        report_walk(observer_, events_, spec_.name, purge->ref, "changes", outcome, now_.steady - part.written_at);
      }
      first_act_done(work, order.part);
      return;
    case Act::kSettle:
      observer_.settle_deletes(spec_.name, outcome);
      if (work.abandoned || (work.visible_at && *work.visible_at <= part.settled_for)) {
        finish_part(work, order.part);
      } else {
        if (PurgeWork* purge = work.as_purge()) purge_settled(*purge, part.settled_for);
        wait_for_settle(work, order.part);  // that was for some of its transactions only
      }
      return;
    case Act::kRenew:
      if (PurgeWork* purge = work.as_purge(); purge != nullptr && !work.abandoned) {
        observer_.settle_deletes(spec_.name, outcome);
        report_walk(observer_, events_, spec_.name, purge->ref, "changes", outcome, now_.steady - part.written_at);
        wait_for_settle(work, order.part);
      } else if (part.last_renew || work.abandoned || (work.visible_at && *work.visible_at <= part.written_at)) {
        finish_part(work, order.part);
      } else if (work.visible_at) {
        // Became visible while the renewal was under way: the tombstone must live from there.
        part.last_renew = true;
        enqueue(work, order.part);
      } else {
        wait_for_timer(work, order.part, now_.steady + spec_.tombstone_ttl / 2);
      }
      return;
  }
}

void Lane::on_lost(Ticket ticket) {
  if (repair_ticket_ == ticket) {
    repair_ticket_.reset();
    keeper_.walk_lost();
    return;
  }
  const auto found = tickets_.find(ticket);
  EVICTD_CHECK(found != tickets_.end());
  const OrderOf order = found->second;
  tickets_.erase(found);
  Work& work = *works_.at(order.work);
  enqueue(work, order.part);
  if (work.abandoned) abandon(work);
}

void Lane::first_act_done(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  EVICTD_CHECK(work.unapplied > 0);
  first_acts_left(work, work.unapplied - 1);
  if (PurgeWork* purge = work.as_purge()) purge_first_act_done(*purge);
  if (work.abandoned || part.is_settle) {
    finish_part(work, number);
  } else if (part.settles()) {
    wait_for_settle(work, number);
  } else if (part.target == Target::kCounters) {
    finish_part(work, number);
  } else if (!work.visible_at) {
    wait_for_timer(work, number, now_.steady + spec_.tombstone_ttl / 2);
  } else if (*work.visible_at <= part.written_at + kTombstoneMargin) {
    finish_part(work, number);  // the tombstones outlive, by the margin, what G3 asks of them
  } else {
    // The reply was late, and the transactions became visible long after the tombstones were written.
    part.last_renew = true;
    part.act = Act::kRenew;
    enqueue(work, number);
  }
}

void Lane::became_visible(std::uint64_t number, SteadyTime since, Now now) {
  now_ = now;
  const auto found = invisible_.find(number);
  if (found == invisible_.end()) return;
  BatchWork& batch = *found->second;
  invisible_.erase(found);
  const std::vector<std::uint64_t> purge_ids = batch.purge_ids;
  now_visible(batch, since);
  for (const std::uint64_t id : purge_ids) {
    if (const auto purge = purges_.find(id); purge != purges_.end()) dependent_visible(*purge->second, since);
  }
}

void Lane::became_partly_visible(std::uint64_t number, SteadyTime since, Now now) {
  now_ = now;
  const auto found = invisible_.find(number);
  if (found == invisible_.end()) return;
  BatchWork& batch = *found->second;
  now_partly_visible(batch, since);
  for (const std::uint64_t id : batch.purge_ids) {
    if (const auto purge = purges_.find(id); purge != purges_.end() && !purge->second->visible_at) now_partly_visible(*purge->second, since);
  }
}

void Lane::now_partly_visible(Work& work, SteadyTime since) {
  for (Part& part : work.parts) {
    if (!work.partly_at || *work.partly_at <= part.settled_for) part.partly_since = since;
  }
  work.partly_at = since;
  const BatchWork* batch = work.as_batch();
  if (work.abandoned || (batch != nullptr && !batch->begun)) return;
  for (std::uint32_t number = 0; number < work.parts.size(); ++number) {
    const Part& part = work.parts[number];
    if (part.settles() && part.state == PartState::kApplied && !part.waits_to_settle()) wait_for_settle(work, number);
  }
}

// A commit may hang for hours (for a standby that has to confirm it) beside others that readers have long seen. These get
// their second delete in time; the part stays, and gets its last one when everything in it is visible. Where they become
// visible one by one, each has its own within a tenth of `settle` of the time it is due: a tenth lies between two deletes.
void Lane::wait_for_settle(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  const bool owes_some = work.partly_at && *work.partly_at > part.settled_for;
  if (!owes_some && !work.visible_at) return;
  const SteadyTime last = work.visible_at ? *work.visible_at : *work.partly_at;
  // Also where all are visible by now: the first must not wait for the last, unless one delete is in time for both.
  const SteadyTime first = owes_some ? std::max(part.partly_since, part.settled_for) : last;
  SteadyTime due = (last - first <= part.settle / 10 ? last : first) + part.settle;
  part.is_renewal = owes_renewal(work, part);
  if (part.is_renewal) {
    due = now_.steady;
  } else if (PurgeWork* purge = work.as_purge(); purge != nullptr && leaves_tombstones(*purge)) {
    // Nothing that lacks them is stored here any more, long before the second walk: who stands behind this lane need not wait.
    purge_settled(*purge, part.written_at + kTombstoneMargin);
  }
  if (part.act != Act::kInvalidate && part.settled_for != SteadyTime::min()) due = std::max(due, part.written_at + part.settle / 10);
  wait_for_timer(work, number, due);
}

bool Lane::leaves_tombstones(const PurgeWork& purge) const {
  return !is_edge_ && !purge.ref.pattern->is_bump && purge.ref.rule->fill == FillMode::kChecked;
}

// The tombstones of a purge are not renewed while a transaction of it hangs: every fill looks at one of them, so for as long as
// that nothing at all could be cached. When it becomes visible they may have ended, or end before the readers that began before
// that: it is walked at once for what was stored meanwhile, which leaves them anew. (A second walk that is due does the same.)
bool Lane::owes_renewal(Work& work, const Part& part) const {
  const PurgeWork* purge = work.as_purge();
  if (purge == nullptr || !leaves_tombstones(*purge)) return false;
  const std::optional<SteadyTime>& last = work.visible_at ? work.visible_at : work.partly_at;
  return last && *last > part.written_at + kTombstoneMargin;
}

// Called once for each work, when a snapshot shows that all its transactions are visible.
void Lane::now_visible(Work& work, SteadyTime since) {
  work.visible_at = since;
  work.held = 0;
  const BatchWork* batch = work.as_batch();
  const std::uint64_t id = work.id;
  for (std::uint32_t number = 0; number < work.parts.size(); ++number) {
    Part& part = work.parts[number];
    if (part.waits_for_visibility && part.state == PartState::kWaiting && batch != nullptr && batch->begun) {
      enqueue(work, number);
    }
    if (part.state != PartState::kApplied) continue;  // its first delete or renewal will look again
    if (part.timer) timers_.erase(*part.timer);
    part.timer.reset();
    if (part.gated) before_.gated.erase(*part.gated);
    part.gated.reset();
    if (part.settles()) {
      wait_for_settle(work, number);
    } else if (since <= part.written_at + kTombstoneMargin) {
      finish_part(work, number);
      if (!works_.contains(id)) return;
    } else {
      part.last_renew = true;
      part.act = Act::kRenew;
      enqueue(work, number);
    }
  }
}

void Lane::wait_for_timer(Work& work, std::uint32_t part, SteadyTime due) {
  EVICTD_CHECK(!work.parts[part].timer);
  work.parts[part].timer = timers_.emplace(due, std::pair(&work, part));
}

void Lane::run_timers() {
  while (!timers_.empty() && timers_.begin()->first <= now_.steady) {
    const auto [work, number] = timers_.begin()->second;
    timers_.erase(timers_.begin());
    Part& part = work->parts[number];
    part.timer.reset();
    if (part.state == PartState::kWaiting) {
      enqueue(*work, number);  // a purge that was held
    } else if (part.settles() && !part.is_renewal) {
      const Gate gate = work->visible_at ? settle_gate(*work) : Gate{};
      if (gate.waits_for != 0) {
        part.gated = before_.gated.emplace(gate.waits_for, std::pair(work, number));
      } else if (gate.open_at > now_.steady) {
        wait_for_timer(*work, number, gate.open_at);
      } else {
        settle(*work, number);
      }
    } else {
      part.act = Act::kRenew;
      enqueue(*work, number);
    }
  }
}

void Lane::settle(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  // Settled meanwhile by what an earlier connection of the source had begun.
  if (const BatchWork* batch = work.as_batch(); batch != nullptr && batch->is_replay && keeper_.prefix().is_finished(*batch->batch)) {
    return finish_part(work, number);
  }
  part.act = Act::kSettle;
  enqueue(work, number);
}

// What waits for a transaction to become visible is not owed by the cache: neither lag, nor those who stand behind this
// lane, wait for it.
void Lane::first_acts_left(Work& work, std::uint32_t left) {
  work.unapplied = left;
  if (left == 0) return applied(work);
  if (const BatchWork* batch = work.as_batch(); batch != nullptr && left <= work.held) unapplied_.erase(batch->number);
}

// Every first act of the work is done in the cache: the moment that lag and latency speak of.
void Lane::applied(Work& work) {
  const BatchWork* batch = work.as_batch();
  if (batch == nullptr) return;
  unapplied_.erase(batch->number);
  if (batch->abandoned) return;  // a purge that it asked for was given up with it
  for (const SystemTime commit : batch->batch->commits) tell_latency(commit);
}

void Lane::tell_latency(SystemTime commit) {
  observer_.invalidation_latency(spec_.name, std::chrono::duration_cast<std::chrono::microseconds>(now_.system - commit));
  if (!last_applied_commit_ || commit > *last_applied_commit_) last_applied_commit_ = commit;
}

void Lane::finish_part(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  EVICTD_CHECK(part.state != PartState::kFinished && part.state != PartState::kUnderWay);
  part.state = PartState::kFinished;
  owe_no_more(part);
  if (part.timer) timers_.erase(*part.timer);
  part.timer.reset();
  if (part.gated) before_.gated.erase(*part.gated);
  part.gated.reset();
  part.texts = nullptr;
  if (PurgeWork* purge = work.as_purge()) purge_first_act_done(*purge);
  if (BatchWork* batch = work.as_batch(); batch != nullptr && !batch->abandoned) note_settled(*batch, 1);
  EVICTD_CHECK(work.unfinished > 0);
  if (--work.unfinished == 0) finished(work);
}

void Lane::finished(Work& work) {
  work.unapplied = 0;
  if (BatchWork* batch = work.as_batch()) {
    batch_finished(*batch);
  } else {
    purge_finished(*work.as_purge());
  }
}

// Finished batches merge with finished neighbours, so that what waits behind one hung transaction stays small.
void Lane::batch_finished(BatchWork& batch) {
  const std::uint64_t found_for = batch.found_for;
  const bool is_whole = !batch.abandoned && !batch.is_incomplete;
  if (batch.unsettled != 0 && is_followed_) settled_.push_back({batch.number, false});
  works_.erase(batch.id);
  invisible_.erase(batch.number);
  held_bytes_ -= batch.bytes - sizeof(BatchWork);
  found_bytes_ -= std::exchange(batch.found_bytes, 0);
  batch.bytes = sizeof(BatchWork);
  batch.parts = std::vector<Part>();
  batch.purge_ids = std::vector<std::uint64_t>();
  batch.batch.reset();
  if (batch.place != batches_.begin()) {
    const auto previous = std::prev(batch.place);
    if ((*previous)->unfinished == 0) merge_into(batch, previous);
  }
  if (const auto next = std::next(batch.place); next != batches_.end() && (*next)->unfinished == 0) {
    merge_into(**next, batch.place);
  }
  if (found_for != 0) let_go(found_for, is_whole);
}

void Lane::merge_into(BatchWork& batch, Batches::iterator earlier) {
  BatchWork& merged = **earlier;
  if (merged.session != batch.session || merged.abandoned != batch.abandoned ||
      merged.is_incomplete != batch.is_incomplete) {
    return;
  }
  for (const Position& end : merged.ends) {
    const bool known = std::any_of(batch.ends.begin(), batch.ends.end(),
                                   [&](const Position& later) { return later.stream == end.stream; });
    if (!known) batch.ends.push_back(end);
  }
  batch.transactions += merged.transactions;
  batch.taken_at = std::min(batch.taken_at, merged.taken_at);
  held_bytes_ -= merged.bytes;
  graveyard_.push_back(std::move(*earlier));
  batches_.erase(earlier);
}

// One that was given up (a cache that fell behind) is a hole: what follows it may be finished, but is not all there is.
void Lane::pop_finished() {
  while (!batches_.empty() && batches_.front()->unfinished == 0) {
    BatchWork& batch = *batches_.front();
    keeper_.prefix().over({batch.number, &batch.ends, !batch.abandoned && !batch.is_incomplete, batch.session == session_}, keeper_.streams());
    held_transactions_ -= batch.transactions;
    held_bytes_ -= batch.bytes;
    graveyard_.push_back(std::move(batches_.front()));
    batches_.pop_front();
  }
}

void Lane::keepalive(const Position& position) {
  if (is_parked_) return keeper_.prefix().missed(position);
  if (is_behind_) return;
  const bool is_in_hand = std::any_of(batches_.begin(), batches_.end(),
                                      [&](const auto& batch) { return batch->session == session_; });
  if (!is_in_hand) keeper_.prefix().reached(position, keeper_.streams());
}

// What is dropped now was owed since its commit.
void Lane::note_lack() {
  if (lacks_since_) return;
  const std::optional<SystemTime> oldest = oldest_unapplied();
  const SystemTime::duration age = oldest ? now_.system - *oldest : SystemTime::duration(0);
  lacks_since_ = now_.steady - std::max(age, SystemTime::duration(0));
}

void Lane::everything_is_received() {
  if (keeper_.is_whole() && !is_parked_ && !is_behind_) lacks_since_.reset();
}

std::optional<SystemTime> Lane::oldest_unapplied() const {
  for (const auto& [number, commit] : unapplied_) {
    if (commit) return commit;
  }
  return std::nullopt;
}

// Asked at each step: what a frozen cache has piled up must not be walked for it, or every other cache waits (G9).
std::optional<SteadyTime> Lane::waiting_since() const {
  return owed_.empty() ? std::nullopt : std::optional(*owed_.begin());
}

}  // namespace evictd
