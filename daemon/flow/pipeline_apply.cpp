// What the sink says, and what each part of a batch does next:
//
//   fill: plain    delete ──► visible? ──► settle after visible ──► delete again ──► finished
//                     └─ visible for `settle` already when sent: finished at once
//   fill: checked  delete + tombstone ──► visible within the tombstone's margin: finished
//                     └─ invisible: renew each half lifetime, once more when visible, finished
#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/pipeline_impl.h"
#include "mapping/check.h"

namespace evictd {

using namespace std::chrono_literals;
using Level = PipelineEvent::Level;

void Pipeline::Impl::on_sink_connected(const SinkConnected& connected) {
  sink_connected_ = true;
  sink_time_ = connected.time;
  sink_time_at_ = now_.steady;
  record_under_way_ = 0;
  const bool another = connected.instance != sink_instance_;
  sink_instance_ = connected.instance;
  if (!sink_was_connected_) {
    sink_was_connected_ = true;
    say(Level::kInfo, "redis connected");
    adopt_record(connected.record);
    source_started_ = true;
    source_.start(record_, now_);
    return;
  }
  say(Level::kInfo, "redis connected again");
  if (!record_is_ours_) {
    record_wanted_ = 0;
    adopt_record(connected.record);
    source_.use_record(record_);
    return;
  }
  if (!another) return;
  // Another process or another server. What the record says was on record before it, so were all deletes
  // before it; later ones may be lost and are asked for again. If the record itself is not the last one, deletes
  // acknowledged long ago may be undone as well (a restart from an old dump, a replica promoted too early).
  if (is_rolled_back(connected.record)) {
    begin_repair({.reason = "redis_rollback", .tables = {}, .counted = true, .after_connect = false}, false);
  } else if (connected.record && !connected.record->gap.empty()) {
    repair_again(connected.record->gap);
  }
  record_dirty_ = record_.has_value();
  source_.restart(now_);
}

void Pipeline::Impl::on_sink_disconnected(const Error& error, std::string_view error_class) {
  sink_connected_ = false;
  if (record_under_way_ != 0) record_dirty_ = true;  // it may not have arrived
  record_under_way_ = 0;
  observer_.redis_error(error_class);
  observer_.reconnect("redis");
  say(Level::kWarning, error.text, error.hint);
}

void Pipeline::Impl::on_sink_failed(const Error& error) { failure_ = error; }

void Pipeline::Impl::enqueue(Work& work, std::uint32_t part) {
  work.parts[part].state = PartState::kWaiting;
  ready_.push_back({work.id, part});
}

void Pipeline::Impl::submit_ready() {
  while (sink_connected_ && !ready_.empty() && sink_.has_room()) {
    const Ready ready = ready_.front();
    ready_.pop_front();
    const auto found = alive_.find(ready.work);
    if (found == alive_.end()) continue;
    Work& work = *found->second;
    Part& part = work.parts[ready.part];
    if (part.state != PartState::kWaiting) continue;
    if (part.command.act == Act::kInvalidate) {
#ifdef EVICTD_BREAK_NO_SETTLE
      part.command.settled = part.settles();
#else
      // A delete this late is the settle delete: readers of the old row had their time already.
      part.command.settled = part.settles() && visibility_.look(work, now_.steady) &&
                             now_.steady - *work.visible_at >= part.settle;
#endif
      if (part.command.target == Target::kPattern) prepare_purge(static_cast<Purge&>(work));
    }
    part.state = PartState::kUnderWay;
    part.written_at = now_.steady;  // or a little later, by the clock of Redis
    const Ticket ticket = next_ticket_++;
    tickets_[ticket] = ready;
    sink_.submit(ticket, part.command);
  }
}

void Pipeline::Impl::on_done(Ticket ticket, const Outcome& outcome) {
  const auto found = tickets_.find(ticket);
  EVICTD_CHECK(found != tickets_.end());
  const Ready ready = found->second;
  tickets_.erase(found);
  Work& work = *alive_.at(ready.work);
  Part& part = work.parts[ready.part];
  EVICTD_CHECK(part.state == PartState::kUnderWay);
  part.state = PartState::kApplied;
  switch (part.command.act) {
    case Act::kInvalidate:
      observer_.invalidations(*part.rule, part.kind, outcome);
      part.already_settled = outcome.already_settled;
      first_act_done(work, ready.part);
      return;
    case Act::kSettle:
      observer_.settle_deletes(outcome);
      finish_part(work, ready.part);
      return;
    case Act::kRenew:
      if (part.last_renew || work.abandoned || work.visible_at) {
        finish_part(work, ready.part);
      } else {
        wait_for_timer(work, ready.part, now_.steady + options_.tombstone_ttl / 2);
      }
      return;
  }
}

void Pipeline::Impl::on_lost(Ticket ticket) {
  const auto found = tickets_.find(ticket);
  EVICTD_CHECK(found != tickets_.end());
  const Ready ready = found->second;
  tickets_.erase(found);
  Work& work = *alive_.at(ready.work);
  enqueue(work, ready.part);
  if (work.abandoned) abandon(work);
}

void Pipeline::Impl::first_act_done(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  EVICTD_CHECK(work.unapplied > 0);
  if (--work.unapplied == 0) applied(work);
  if (part.command.target == Target::kPattern) purge_first_act_done(static_cast<Purge&>(work));
  if (work.abandoned || part.command.settled) {
    finish_part(work, number);
  } else if (part.settles()) {
    if (part.command.target == Target::kKeys && part.already_settled.size() == part.command.size()) {
      finish_part(work, number);
    } else if (visibility_.look(work, now_.steady)) {
      wait_for_timer(work, number, *work.visible_at + part.settle);
    } else if (work.session == 0) {
      // A repair does not wait for ever for transactions that merely might have been lost.
      wait_for_timer(work, number, now_.steady + options_.tombstone_ttl);
    }
  } else if (visibility_.look(work, now_.steady)) {
    finish_part(work, number);  // the tombstones were written after everything was visible
  } else {
    wait_for_timer(work, number, now_.steady + options_.tombstone_ttl / 2);
  }
}

// Called once per work, when a snapshot shows that all its transactions are visible.
void Pipeline::Impl::became_visible(Work& work) {
  for (std::uint32_t number = 0; number < work.parts.size(); ++number) {
    Part& part = work.parts[number];
    if (part.waits_for_visibility && part.state == PartState::kWaiting) enqueue(work, number);
    if (part.state != PartState::kApplied) continue;  // its first delete or renewal will look again
    if (part.timer) timers_.erase(*part.timer);
    part.timer.reset();
    if (part.settles()) {
      wait_for_timer(work, number, *work.visible_at + part.settle);
    } else if (now_.steady - part.written_at <= kTombstoneMargin) {
      finish_part(work, number);
    } else {
      part.last_renew = true;
      part.command.act = Act::kRenew;
      enqueue(work, number);
    }
  }
}

void Pipeline::Impl::wait_for_timer(Work& work, std::uint32_t part, SteadyTime due) {
  EVICTD_CHECK(!work.parts[part].timer);
  work.parts[part].timer = timers_.emplace(due, std::pair(&work, part));
}

void Pipeline::Impl::run_timers() {
  while (!timers_.empty() && timers_.begin()->first <= now_.steady) {
    const auto [work, number] = timers_.begin()->second;
    timers_.erase(timers_.begin());
    Part& part = work->parts[number];
    part.timer.reset();
    if (part.settles()) {
      settle(*work, number);
    } else {
      part.command.act = Act::kRenew;
      enqueue(*work, number);
    }
  }
}

void Pipeline::Impl::settle(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  if (part.command.target == Target::kPattern) {
    auto& purge = static_cast<Purge&>(work);
    if (!purge.visible_at) {
      purge_again_when_visible(purge);
    } else if (later_purge_covers(purge)) {
      finish_part(work, number);
      return;
    }
  }
  if (part.command.target == Target::kKeys) {
    Command rest;
    rest.trust_filled = part.command.trust_filled;
    rest.channel = part.command.channel;
    auto excused = part.already_settled.begin();
    for (std::uint32_t item = 0; item < part.command.size(); ++item) {
      if (excused != part.already_settled.end() && *excused == item) {
        ++excused;
        continue;
      }
      const std::string_view text = part.command.text(item);
      if (left_to_later(work, part, Touched::hash(text), text)) continue;
      rest.texts.append(text);
      const std::uint32_t begin = item == 0 ? 0 : part.command.items[item - 1].xids_end;
      rest.xids.insert(rest.xids.end(), part.command.xids.begin() + begin,
                       part.command.xids.begin() + part.command.items[item].xids_end);
      rest.items.push_back({static_cast<std::uint32_t>(rest.texts.size()),
                            static_cast<std::uint32_t>(rest.xids.size())});
    }
    if (rest.items.empty()) {
      finish_part(work, number);
      return;
    }
    // Never larger than what it replaces, so the held bytes stay an upper bound.
    if (rest.items.size() < part.command.items.size()) part.command = std::move(rest);
    part.already_settled.clear();
  }
  part.command.act = Act::kSettle;
  enqueue(work, number);
}

// True when a later batch, unfinished and so unacknowledged, will settle this key a moment after we would: a key
// invalidated on and on settles once per such moment. Waiting longer would stretch the bound of G4.
bool Pipeline::Impl::left_to_later(const Work& work, const Part& part, std::uint64_t hash,
                                   std::string_view text) const {
  const Touched::Entry* entry = touched_.find(hash);
  if (entry == nullptr || entry->work <= work.id) return false;
  const auto found = alive_.find(entry->work);
  if (found == alive_.end()) return false;
  const Work& later = *found->second;
  if (later.abandoned || !later.visible_at || later.session != work.session) return false;
  const Part& its = later.parts[entry->part];
  const auto our_due = *work.visible_at + part.settle;
  const auto its_due = *later.visible_at + its.settle;
  // Applied, so that what a replay would excuse from settling is known.
  return its.state == PartState::kApplied && its.command.act == Act::kInvalidate && its.already_settled.empty() &&
         !its.command.settled && its.settles() && its.command.target == Target::kKeys &&
         entry->item < its.command.size() && its.command.text(entry->item) == text &&
         its_due >= our_due && its_due <= our_due + part.settle / kSettleTogether;
}

void Pipeline::Impl::note_touched(const Batch& batch) {
  for (std::uint32_t number = 0; number < batch.parts.size(); ++number) {
    const Part& part = batch.parts[number];
    if (!part.settles() || part.command.target != Target::kKeys) continue;
    for (std::uint32_t item = 0; item < part.command.size(); ++item) {
      touched_.note(Touched::hash(part.command.text(item)), batch.id, number, item);
    }
  }
}

// Every first act of the work is done in Redis: the moment that lag and latency speak of.
void Pipeline::Impl::applied(Work& work) {
  auto* batch = dynamic_cast<Batch*>(&work);
  if (batch == nullptr) return;
  unapplied_.erase(batch->id);
  for (const SystemTime commit : batch->commits) {
    observer_.invalidation_latency(now_.system - commit);
    if (!last_applied_commit_ || commit > *last_applied_commit_) last_applied_commit_ = commit;
  }
  batch->commits = {};
}

void Pipeline::Impl::finish_part(Work& work, std::uint32_t number) {
  Part& part = work.parts[number];
  EVICTD_CHECK(part.state != PartState::kFinished && part.state != PartState::kUnderWay);
  part.state = PartState::kFinished;
  if (part.timer) timers_.erase(*part.timer);
  part.timer.reset();
  part.already_settled = {};
  const Target target = part.command.target;
  part.command = {};
  if (target == Target::kPattern) purge_first_act_done(static_cast<Purge&>(work));
  EVICTD_CHECK(work.unfinished > 0);
  if (--work.unfinished == 0) finished(work);
}

void Pipeline::Impl::finished(Work& work) {
  if (work.unapplied != 0) {  // abandoned before it was applied
    work.unapplied = 0;
    unapplied_.erase(work.id);
  }
  if (auto* batch = dynamic_cast<Batch*>(&work)) {
    batch_finished(*batch);
  } else {
    purge_finished(static_cast<Purge&>(work));
  }
}

// It will be delivered again: ends as soon as nothing of it is under way.
void Pipeline::Impl::abandon(Work& work) {
  work.abandoned = true;
  for (std::uint32_t number = 0; number < work.parts.size(); ++number) {
    const PartState state = work.parts[number].state;
    if (state != PartState::kWaiting && state != PartState::kApplied) continue;
    finish_part(work, number);
    if (alive_.count(work.id) == 0) return;
  }
}

}  // namespace evictd
