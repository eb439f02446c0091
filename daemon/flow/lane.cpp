// Batches on their way through a cache: see the drawing in lane.h.
#include "daemon/flow/lane.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/lane_work.h"
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

SinkContext nothing_needed() {
  SinkContext needs;
  needs.is_deletes_only = true;
  return needs;
}

void add_needs(SinkContext& needs, const RuleInfo& rule) {
  if (!asks_for_deletes_only(rule)) needs.is_deletes_only = false;
  if (!rule.semantic.empty()) needs.needs_one_server = "semantic";
  if (rule.announce.empty()) return;
  if (std::find(needs.channels.begin(), needs.channels.end(), rule.announce) == needs.channels.end()) needs.channels.push_back(rule.announce);
}

}  // namespace

bool acts_on(const RuleInfo& rule, const std::string& name) {
  return rule.caches.empty() || std::find(rule.caches.begin(), rule.caches.end(), name) != rule.caches.end();
}

Lane::Lane(LaneSpec spec, const Source& source, Observer& observer, CacheEvents events, const FlowOptions& options,
           std::shared_ptr<const RuleSet> rules)
    : spec_(std::move(spec)),
      is_edge_(spec_.sink->traits().is_edge),
      source_(source),
      observer_(observer),
      events_(std::move(events)),
      options_(options),
      ledger_(fmt::format("{}/{}", options.writer, spec_.name), options.record_interval),
      repairs_({spec_.tombstone_ttl, spec_.name, is_edge_, spec_.origin_time}),
      on_first_start_(options.on_first_start) {
  use(std::move(rules), Now{});
  EVICTD_CHECK(spec_.after.size() < 64);  // bits of a mask; the configuration allows fewer caches
  if (!spec_.after.empty()) gate_ = 0;
}

Lane::~Lane() = default;

void Lane::start(Now now) {
  now_ = now;
  lacks_since_ = now.steady;
  tell_sink();
  spec_.sink->start(now);
}

void Lane::step(Now now) {
  now_ = now;
  spec_.sink->step(now, *this);
  run_timers();
  if (giving_up_) give_up_some();
}

void Lane::work(Now now, const Surroundings& surroundings) {
  now_ = now;
  if (surroundings.is_hurried && !std::exchange(is_hurried_, true)) release_held_purges();
  work_repairs(surroundings);
  if (ledger_.streams_are_stored()) {
    // In turn: many settles come due at once where many transactions became visible at once, as after a start, and what
    // changes now must not wait for all of them, nor they for it.
    for (bool any = true; any;) {
      any = submit_one(ready_, Urgency::kPrompt);
      if (submit_one(ready_again_, Urgency::kPrompt)) any = true;
    }
    while (submit_one(ready_bulk_, Urgency::kBulk)) continue;
  }
  note_applied();
  pop_finished();
  write_record(surroundings);
  graveyard_.clear();  // what was submitted has been written out by then, or is still alive
}

void Lane::wait_for(Waiting& waiting, Now now, const Surroundings& surroundings) {
  now_ = now;
  spec_.sink->wait_for(waiting);
  if (!timers_.empty()) waiting.wake_at(timers_.begin()->first);
  if (giving_up_) waiting.wake_at(SteadyTime::min());
  if (!is_connected_) return;
  waiting.wake_at(repairs_.wake_at());
  waiting.wake_at(ledger_.due(now.steady, surroundings.is_hurried));
}

void Lane::use(std::shared_ptr<const RuleSet> rules, Now now) {
  now_ = now;
  const bool is_reload = rules_ != nullptr;
  const std::map<std::string, std::uint64_t> before = is_reload ? digests() : std::map<std::string, std::uint64_t>();
  rules_ = std::move(rules);
  acts_.clear();
  needs_ = nothing_needed();
  purged_at_.clear();
  for (const RuleInfo& rule : rules_->rules()) {
    acts_.push_back(acts_on(rule, spec_.name));
    if (acts_.back()) add_needs(needs_, rule);
  }
  if (!is_reload) return;
  tell_sink();
  if (!streaming_) return;
  if (ledger_.holds()) return purge_changed_rules();
  remember_changed_rules(before);
}

std::optional<Error> Lane::refusal(const RuleInfo& rule) const {
  if (!acts_on(rule, spec_.name)) return std::nullopt;
  SinkContext needs = nothing_needed();
  add_needs(needs, rule);
  return spec_.sink->refusal(needs);
}

void Lane::take(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at, Now now) {
  now_ = now;
  const bool is_cut = batch->is_cut;
  if (hold(std::move(batch), visible_at) && is_cut) is_carried_ = true;
}

bool Lane::hold(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at) {
  last_taken_ = batch->number;
  if (is_behind_ && is_followed_) settled_.push_back({batch->number, false});  // who stands behind it may have it
  if (is_parked_ || is_behind_) return false;
  // Sent again: for another cache's sake, or because this process or another one ended before it was acknowledged.
  const bool is_known = is_finished(*batch);
  const bool is_replay = !is_known && is_applied(*batch);
  if (!batch->ends.empty()) {
    unnoted_.push_back({batch->number, batch->ends});
    if (std::exchange(is_carried_, false) && !is_known && !is_replay) unnoted_.back().carried_commit = batch->carried_commit;
  }
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
      if (batch->rules == rules_ ? !acts_[part.rule] : !acts_on(rule, spec_.name)) continue;
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
      if (info.patterns[pattern].is_surrogate != is_edge_ || !acts_on(info, spec_.name)) continue;
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
  work.unsettled_before = ((std::uint64_t{1} << spec_.after.size()) - 1) & ~parked_before_;
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
  if (work.number <= gate_) {
    begin_batch(work);
  } else {
    unbegun_.push_back(work.number);
  }
  return acts_here;
}

// Every transaction in it is known to be finished here (or applied), as far as what we know reaches.
bool Lane::is_finished(const Batch& batch) const {
  return reaches(batch, [this](const std::string& name, std::uint64_t value) { return ledger_.is_finished(name, value); });
}

bool Lane::is_applied(const Batch& batch) const {
  return reaches(batch, [this](const std::string& name, std::uint64_t value) { return ledger_.is_applied(name, value); });
}

template <typename Knows>
bool Lane::reaches(const Batch& batch, const Knows& knows) const {
  if (batch.ends.empty() && !batch.is_cut) return false;
  // One that goes on in the next batch has no end yet; but what is known reaches ends only, and its end is the first one
  // beyond its place.
  if (batch.is_cut && !(batch.cut_at && knows(source_.stream_name(batch.cut_at->stream), batch.cut_at->value + 1))) return false;
  return std::all_of(batch.ends.begin(), batch.ends.end(),
                     [&](const Position& end) { return knows(source_.stream_name(end.stream), end.value); });
}

// What is applied goes on record as far as there is no hole in it.
void Lane::note_applied() {
  const std::uint64_t through = std::min(is_parked_ ? 0 : applied_through(), noted_through_max_);
  while (!unnoted_.empty() && unnoted_.front().number <= through) {
    if (streaming_) {
      for (const Position& end : unnoted_.front().ends) ledger_.applied(end, source_.stream_name(end.stream));
    }
    if (unnoted_.front().carried_commit) tell_latency(*unnoted_.front().carried_commit);
    unnoted_.pop_front();
  }
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

void Lane::release_through(std::uint64_t number, Now now) {
  now_ = now;
  if (number == gate_) return;
  gate_ = number;
  // Never a look at all that is held: of a dead edge that is a minute of the database's changes, and no other cache may wait
  // for it (G9).
  while (!unbegun_.empty() && unbegun_.front() <= gate_) {
    const auto found = works_.find(unbegun_.front() * 2);
    unbegun_.pop_front();
    if (found == works_.end()) continue;  // given up
    BatchWork& batch = *found->second->as_batch();
    if (!batch.begun && !batch.abandoned) begin_batch(batch);
  }
}

std::uint64_t Lane::applied_through() const {
  if (is_parked_) return UINT64_MAX;
  if (is_behind_) return behind_after_;
  return unapplied_.empty() ? last_taken_ : unapplied_.begin()->first - 1;
}

bool Lane::is_busy() const { return ready_.size() >= kReadyMax; }

void Lane::enqueue(Work& work, std::uint32_t part) {
  // One that was lost is owed since it was asked for first.
  if (work.parts[part].state != PartState::kUnderWay) work.parts[part].wanted_since = now_.steady;
  work.parts[part].state = PartState::kWaiting;
  const bool is_bulk = work.parts[part].target == Target::kPatterns;
  (is_bulk ? ready_bulk_ : work.parts[part].act == Act::kInvalidate ? ready_ : ready_again_).push_back({work.id, part});
  if (!is_bulk) owe(work.parts[part]);  // a walk waits for others of ours first
}

void Lane::owe(Part& part) {
  if (!part.owed) part.owed = owed_.insert(part.wanted_since);
}

void Lane::owe_no_more(Part& part) {
  if (part.owed) owed_.erase(*part.owed);
  part.owed.reset();
}

bool Lane::submit_one(std::deque<Ready>& ready, Urgency urgency) {
  Sink& sink = *spec_.sink;
  while (is_connected_ && !ready.empty() && sink.has_room(urgency)) {
    const Ready next = ready.front();
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
    return walk_done(outcome);
  }
  const auto found = tickets_.find(ticket);
  EVICTD_CHECK(found != tickets_.end());
  const Ready ready = found->second;
  tickets_.erase(found);
  Work& work = *works_.at(ready.work);
  Part& part = work.parts[ready.part];
  EVICTD_CHECK(part.state == PartState::kUnderWay);
  part.state = PartState::kApplied;
  owe_no_more(part);
  switch (part.act) {
    case Act::kInvalidate:
      observer_.invalidations(spec_.name, *part.rule, part.kind, outcome);
      if (PurgeWork* purge = work.as_purge()) {
        tell_purge(purge->ref, "changes", outcome, part.written_at);
      }
      first_act_done(work, ready.part);
      return;
    case Act::kSettle:
      observer_.settle_deletes(spec_.name, outcome);
      if (work.abandoned || (work.visible_at && *work.visible_at <= part.settled_for)) {
        finish_part(work, ready.part);
      } else {
        if (PurgeWork* purge = work.as_purge()) purge_settled(*purge, part.settled_for);
        wait_for_settle(work, ready.part);  // that was for some of its transactions only
      }
      return;
    case Act::kRenew:
      if (PurgeWork* purge = work.as_purge(); purge != nullptr && !work.abandoned) {
        observer_.settle_deletes(spec_.name, outcome);
        tell_purge(purge->ref, "changes", outcome, part.written_at);
        wait_for_settle(work, ready.part);
      } else if (part.last_renew || work.abandoned || (work.visible_at && *work.visible_at <= part.written_at)) {
        finish_part(work, ready.part);
      } else if (work.visible_at) {
        // Became visible while the renewal was under way: the tombstone must live from there.
        part.last_renew = true;
        enqueue(work, ready.part);
      } else {
        wait_for_timer(work, ready.part, now_.steady + spec_.tombstone_ttl / 2);
      }
      return;
  }
}

void Lane::on_lost(Ticket ticket) {
  if (repair_ticket_ == ticket) {
    repair_ticket_.reset();
    repairs_.lost();
    return;
  }
  const auto found = tickets_.find(ticket);
  EVICTD_CHECK(found != tickets_.end());
  const Ready ready = found->second;
  tickets_.erase(found);
  Work& work = *works_.at(ready.work);
  enqueue(work, ready.part);
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
    if (part.gated) gated_.erase(*part.gated);
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

// Each batch by itself: what it leaves in the caches before this lane is gone with its own second delete there. A response
// may still be on its way that was made from what one of them held until then, so origin_time passes before the second purge.
Lane::Gate Lane::settle_gate(Work& work) {
  if (spec_.after.empty()) return {};
  if (const BatchWork* batch = work.as_batch()) {
    if (batch->unsettled_before != 0) return {batch->number, {}};
    return {0, batch->settled_before_at == SteadyTime::min() ? SteadyTime::min() : batch->settled_before_at + spec_.origin_time};
  }
  PurgeWork& purge = *work.as_purge();
  for (; purge.settled_before < purge.dependents.size(); ++purge.settled_before) {
    const auto found = works_.find(purge.dependents[purge.settled_before]);
    if (found == works_.end() || found->second->abandoned) continue;
    const BatchWork& batch = *found->second->as_batch();
    if (batch.unsettled_before != 0) return {batch.number, {}};
    purge.settled_before_at = std::max(purge.settled_before_at, batch.settled_before_at);
  }
  return {0, purge.settled_before_at == SteadyTime::min() ? SteadyTime::min() : purge.settled_before_at + spec_.origin_time};
}

void Lane::settled_before(std::size_t place, const Settled& settled, Now now) {
  now_ = now;
  const auto found = works_.find(settled.number * 2);
  if (found == works_.end()) return;  // nothing of it is owed here
  BatchWork& batch = *found->second->as_batch();
  if (!settled.is_whole) {
    batch.is_lost_before = true;
    if (batch.session != session_) abandon_with_purges(batch);  // what is sent again is on its way
    return;
  }
  const std::uint64_t bit = std::uint64_t{1} << place;
  if ((batch.unsettled_before & bit) == 0) return;
  batch.unsettled_before &= ~bit;
  if (batch.unsettled_before != 0) return;
  batch.settled_before_at = now_.steady;
  open_settle_gate(batch);
}

void Lane::parked_before(std::size_t place, bool is_parked, Now now) {
  now_ = now;
  const std::uint64_t bit = std::uint64_t{1} << place;
  if (((parked_before_ & bit) != 0) == is_parked) return;
  parked_before_ ^= bit;
  if (!is_parked) return;  // what comes from now on
  for (const auto& batch : batches_) {
    if (batch->unfinished != 0) settled_before(place, {batch->number, true}, now);
  }
}

void Lane::open_settle_gate(BatchWork& batch) {
  const auto [first, last] = gated_.equal_range(batch.number);
  const std::vector<Gated::value_type> waiting(first, last);
  gated_.erase(first, last);
  for (const auto& [number, of] : waiting) {
    const auto& [work, part] = of;
    work->parts[part].gated.reset();
    wait_for_timer(*work, part, now_.steady + spec_.origin_time);
  }
}

// A lane before this one gave up what this one has in hand: neither ever does its second delete. It is sent again to both.
bool Lane::is_lost_before(Work& work) const {
  if (const BatchWork* batch = work.as_batch()) return batch->unsettled_before != 0 && batch->is_lost_before;
  const std::vector<std::uint64_t>& dependents = work.as_purge()->dependents;
  return std::any_of(dependents.begin(), dependents.end(), [this](std::uint64_t id) {
    const auto found = works_.find(id);
    return found != works_.end() && !found->second->abandoned && is_lost_before(*found->second);
  });
}

// So many more of its parts, or of the purges it asked for, have had the second delete that its transactions ask for. Called
// once with 0, when it is taken.
void Lane::note_settled(BatchWork& batch, std::uint32_t parts) {
  EVICTD_CHECK(batch.unsettled >= parts);
  batch.unsettled -= parts;
  if (batch.unsettled == 0 && is_followed_) settled_.push_back({batch.number, true});
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
        part.gated = gated_.emplace(gate.waits_for, std::pair(work, number));
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
  if (const BatchWork* batch = work.as_batch(); batch != nullptr && batch->is_replay && is_finished(*batch->batch)) {
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
  if (part.gated) gated_.erase(*part.gated);
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

// The contiguous finished prefix is what may go on record (G1); never past an unfinished transaction, and never a
// position of an earlier connection, which may speak of another history.
void Lane::pop_finished() {
  while (!batches_.empty() && batches_.front()->unfinished == 0) {
    BatchWork& batch = *batches_.front();
    // One that was given up (a cache that fell behind) ends the prefix for this connection: what follows it may be
    // finished, but is not all there is. Unless a purge answers for it.
    const bool is_given_up = batch.abandoned || batch.is_incomplete;
    if (batch.session == session_ && is_given_up && batch.number > purged_through_) is_prefix_broken_ = true;
    if (batch.session == session_ && !is_given_up && !is_prefix_broken_ && streaming_) {
      for (const Position& end : batch.ends) ledger_.finished(end, source_.stream_name(end.stream));
    }
    // What an earlier connection began is told to nobody, and known: its redelivery owes nothing.
    if (batch.session != session_) {
      if (is_given_up) is_earlier_prefix_broken_ = true;
      if (!is_earlier_prefix_broken_ && streaming_) {
        for (const Position& end : batch.ends) ledger_.finished_earlier(end, source_.stream_name(end.stream));
      }
    }
    held_transactions_ -= batch.transactions;
    held_bytes_ -= batch.bytes;
    graveyard_.push_back(std::move(batches_.front()));
    batches_.pop_front();
  }
}

void Lane::keepalive(const Position& position) {
  if (is_parked_ || is_behind_ || is_prefix_broken_ || !streaming_) return;
  const bool is_in_hand = std::any_of(batches_.begin(), batches_.end(),
                                      [&](const auto& batch) { return batch->session == session_; });
  if (!is_in_hand) ledger_.finished(position, source_.stream_name(position.stream));
}

// Ends as soon as nothing of it is under way.
void Lane::abandon(Work& work) {
  const bool is_first = !std::exchange(work.abandoned, true);
  const std::uint64_t id = work.id;
  // Whatever else was done for those who share a walk, its second one is not.
  if (const PurgeWork* purge = work.as_purge(); purge != nullptr && is_first) {
    for (const std::uint64_t dependent : purge->dependents) {
      if (const auto found = works_.find(dependent); found != works_.end()) found->second->as_batch()->is_incomplete = true;
    }
  }
  if (BatchWork* batch = work.as_batch()) {
    unapplied_.erase(batch->number);
    open_settle_gate(*batch);  // nobody tells of it any more, and a walk that is shared with others may wait there
  }
  if (BatchWork* batch = work.as_batch(); batch != nullptr && batch->holds > 0) {
    held_.erase(batch->number);
    work.unfinished -= std::exchange(batch->holds, 0);
    if (work.unfinished == 0) return finished(work);
  }
  if (BatchWork* batch = work.as_batch(); batch != nullptr && !batch->begun) {
    // Its purges were not asked for yet.
    batch->begun = true;
    for (const PatternRef& purge : std::exchange(batch->purges, {})) {
      if (!batch->is_replay || !leaves_nothing(purge)) --work.unapplied;
      --work.unfinished;
    }
    if (work.unfinished == 0) return finished(work);
  }
  for (std::uint32_t number = 0; number < work.parts.size(); ++number) {
    const PartState state = work.parts[number].state;
    if (state != PartState::kWaiting && state != PartState::kApplied) continue;
    finish_part(work, number);
    if (!works_.contains(id)) return;
  }
}

void Lane::abandon_all(bool keep_settles) {
  giving_up_.reset();
  std::vector<std::uint64_t> ids;
  ids.reserve(works_.size());
  for (const auto& [id, work] : works_) ids.push_back(id);
  // Batches before the purges they ask for: a purge that is given up no longer holds its batches up, which must not make them
  // look applied.
  std::sort(ids.begin(), ids.end(), [](std::uint64_t left, std::uint64_t right) {
    return std::pair(is_purge_id(left), left) < std::pair(is_purge_id(right), right);
  });
  for (const std::uint64_t id : ids) {
    const auto found = works_.find(id);
    if (found != works_.end()) give_up(*found->second, keep_settles);  // else ended meanwhile
  }
}

void Lane::give_up(Work& work, bool keep_settles) {
  PurgeWork* purge = work.as_purge();
  if (keep_settles && work.unapplied == 0 && purge != nullptr && !purge->visible_at) settle_for_kept(*purge);
  if (!keep_settles || work.unapplied > 0 || !work.visible_at || is_lost_before(work)) return abandon(work);
  // What is looked up for it is given up, and comes again with it.
  BatchWork* batch = work.as_batch();
  if (batch == nullptr || batch->holds == 0) return;
  batch->is_incomplete = true;
  held_.erase(batch->number);
  batch->unfinished -= std::exchange(batch->holds, 0);
  if (batch->unfinished == 0) finished(*batch);
}

// Of a cache that fell behind. In the order of abandon_all(), so that the first piece ends the prefix of what is finished.
void Lane::give_up_some() {
  for (std::size_t left = options_.given_up_per_step; left > 0 && giving_up_->next <= giving_up_->last; --left) {
    const auto found = works_.find(giving_up_->next++ * 2);
    if (found != works_.end() && found->first != giving_up_->kept_id) give_up(*found->second, true);
  }
  if (giving_up_->next <= giving_up_->last) return;
  const std::optional<std::uint64_t> kept_id = std::exchange(giving_up_, std::nullopt)->kept_id;
  std::vector<std::uint64_t> kept;
  if (const auto found = kept_id ? works_.find(*kept_id) : works_.end(); found != works_.end()) kept = found->second->as_batch()->purge_ids;
  std::vector<std::uint64_t> ids;
  for (const auto& [id, purge] : purges_) {
    if (std::find(kept.begin(), kept.end(), id) == kept.end()) ids.push_back(id);
  }
  for (const std::uint64_t id : ids) {
    if (const auto found = works_.find(id); found != works_.end()) give_up(*found->second, true);
  }
}

// A purge that waits for a batch that is given up goes on for those that are not: they owe its second walk.
void Lane::settle_for_kept(PurgeWork& purge) {
  std::optional<SteadyTime> latest;
  for (const std::uint64_t id : purge.dependents) {
    const auto dependent = works_.find(id);
    if (dependent == works_.end() || dependent->second->abandoned) continue;
    if (!dependent->second->visible_at) return;
    latest = std::max(latest, dependent->second->visible_at);
  }
  if (latest) now_visible(purge, *latest);
}

// The batch first, as in abandon_all().
void Lane::abandon_with_purges(BatchWork& batch) {
  std::vector<std::uint64_t> ids{batch.id};
  ids.insert(ids.end(), batch.purge_ids.begin(), batch.purge_ids.end());
  for (const std::uint64_t id : ids) {
    if (const auto work = works_.find(id); work != works_.end()) abandon(*work->second);
  }
}

// The oldest batch that is not applied, while the cache is at it. It goes on to its end, and on record, whatever is given up
// behind it: its walks may take longer than the stream takes to fill the lane, and begun anew at each redelivery they would
// never come to an end.
const Lane::BatchWork* Lane::batch_in_work() const {
  if (!is_connected_ || unapplied_.empty()) return nullptr;
  const auto found = works_.find(unapplied_.begin()->first * 2);
  const BatchWork* batch = found == works_.end() ? nullptr : found->second->as_batch();
  return batch != nullptr && batch->begun && !batch->abandoned && batch->holds == 0 ? batch : nullptr;
}

void Lane::fall_behind() {
  if (is_behind_) return;
  // Those who stand behind this lane wait with it.
  behind_after_ = applied_through();
  noted_through_max_ = std::min(noted_through_max_, behind_after_);
  is_behind_ = true;
  note_lack();
  events_.warning(fmt::format("the cache cannot keep up or is away: more than the {} bytes that were held for it wait in the source", held_bytes_),
                  "it is asked for again as soon as the cache takes it; no other cache waits for it");
  const BatchWork* in_work = batch_in_work();
  giving_up_ = {batches_.empty() ? last_taken_ + 1 : batches_.front()->number, last_taken_, in_work ? std::optional(in_work->id) : std::nullopt};
  give_up_some();
}

void Lane::park(std::string why) {
  if (is_parked_) return;
  is_parked_ = true;
  is_behind_ = false;
  note_lack();
  unnoted_.clear();
  abandon_all(false);
  events_.error(fmt::format("the cache is parked: {}", why),
                "it no longer holds the database up; what its rules match is purged when it returns");
}

// What is dropped now was owed since its commit.
void Lane::note_lack() {
  if (lacks_since_) return;
  const std::optional<SystemTime> oldest = oldest_unapplied();
  const SystemTime::duration age = oldest ? now_.system - *oldest : SystemTime::duration(0);
  lacks_since_ = now_.steady - std::max(age, SystemTime::duration(0));
}

void Lane::everything_is_received() {
  if (streaming_ && judging_ == Judging::kDone && !is_parked_ && !is_behind_ && repairs_.reasons(false).empty()) {
    lacks_since_.reset();
  }
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
