// Gaps and their repair, purges, the record in Redis, and the acknowledgement.
//
// The order that makes a crash harmless (G1, G6):
//   gap found -> record {gap} written -> the source may do the irreversible step -> streaming -> purge, and
//   again after the settle -> record {no gap} written.
//   work finished -> record {position} written -> the source is told.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/pipeline_impl.h"
#include "mapping/check.h"

namespace evictd {

using namespace std::chrono_literals;
using Level = PipelineEvent::Level;

namespace {

// Transactions a purge names one by one; beyond, it asks of fills a snapshot newer than all of them.
constexpr std::size_t kPurgeXidsMax = 1024;
constexpr std::chrono::milliseconds kPurgeSettleMin = 1s;
// The record is written anew this often even without news, so that a Redis that forgot it has it again.
constexpr auto kRecordRefresh = 5s;

}  // namespace

void Pipeline::Impl::on_gap(const Gap& gap, bool needs_confirmation) {
  if (gap.is_expected) {
    say(Level::kInfo, gap.detail, "what is cached for these tables is purged, since nobody watched it");
  } else {
    say(Level::kError, fmt::format("gap in the change stream ({}): {}", gap.reason, gap.detail),
        "the cached values it may have touched are purged now; evictd reports ready when that is done");
  }
  begin_repair({.reason = gap.reason, .tables = gap.tables, .counted = !gap.is_expected,
                .after_connect = needs_confirmation},
               needs_confirmation);
  record_is_ours_ = true;
}

// The record as it stands in Redis. Whoever held the source before us wrote it last: what we knew is older. It is
// also the first answer to whether there was anybody.
void Pipeline::Impl::adopt_record(const std::optional<Record>& record) {
  record_ = record;
  note_stored(record);
  record_dirty_ = false;
  inherited_gap_ = record_ ? record_->gap : std::string();
  if (record_) tell_sink();
  // Found in an earlier look at the source, and not begun: the next look finds it again, if it is still there.
  std::erase_if(repairs_, [](const auto& entry) { return entry.second.after_connect && !entry.second.started; });
  if (repairs_.empty()) return;
  if (!record_) record_.emplace();
  record_->gap = repair_reasons(true);
  record_dirty_ = true;
}

void Pipeline::Impl::note_stored(const std::optional<Record>& record) {
  record_stored_.reset();
  if (record) record_stored_ = Stored{record->writer, record->sequence};
  record_unsure_after_ = record_sequence_;
}

// The record says which one it is: the last one stored, or a later one of ours whose reply did not arrive. With it,
// everything that was acknowledged is there. Any other is of before (a dump, a replica that lagged), or of somebody who
// wrote over it; deletes acknowledged long ago may then be undone.
bool Pipeline::Impl::is_rolled_back(const std::optional<Record>& found) const {
  if (!found) return record_stored_.has_value();
  const bool is_stored = record_stored_ && found->writer == record_stored_->writer && found->sequence == record_stored_->sequence;
  const bool may_be_stored = found->writer == options_.writer && found->sequence > record_unsure_after_ &&
                             found->sequence <= record_sequence_;
  return !is_stored && !may_be_stored;
}

// Redis has everything that was on record, but perhaps not what a repair did since, or one that ended and is not on
// record as ended. Purges that have not been answered are sent again anyway.
void Pipeline::Impl::repair_again(const std::string& reasons) {
  const bool is_to_come = std::any_of(repairs_.begin(), repairs_.end(), [](const auto& entry) {
    const Repair& repair = entry.second;
    return repair.tables.empty() && !repair.has_applied;
  });
  if (!is_to_come) begin_repair({.reason = reasons, .tables = {}, .counted = false, .after_connect = false}, false);
}

void Pipeline::Impl::repair_inherited_gap() {
  if (inherited_gap_.empty()) return;
  const std::string gap = std::exchange(inherited_gap_, {});
  say(Level::kWarning, fmt::format("a gap was not repaired by whoever held the source before: {}", gap));
  begin_repair({.reason = gap, .tables = {}, .counted = true, .after_connect = true}, false);
}

void Pipeline::Impl::on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) {
  if (sequence != record_wanted_) return;
  record_wanted_ = 0;
  adopt_record(record);
  source_.use_record(record_);
}

void Pipeline::Impl::begin_repair(Repair repair, bool needs_confirmation) {
  if (repair.counted) observer_.gap(repair.reason);
  if (!needs_confirmation) {
    say(repair.counted ? Level::kWarning : Level::kInfo, fmt::format("purging: {}", repair.reason));
  }
  repairs_.emplace(next_repair_++, std::move(repair));
  if (!record_) record_.emplace();
  record_->gap = repair_reasons(true);
  record_dirty_ = true;
  if (needs_confirmation) {
    gap_needs_confirmation_ = true;
    gap_first_in_ = record_sequence_ + 1;  // one under way does not hold it yet
  }
}

std::string Pipeline::Impl::repair_reasons(bool with_late) const {
  std::string reasons = with_late ? inherited_gap_ : std::string();
  const auto names = [&](std::string_view reason) {
    return (", " + reasons + ", ").find(fmt::format(", {}, ", reason)) != std::string::npos;
  };
  for (const auto& [id, repair] : repairs_) {
    if ((repair.ready && !with_late) || names(repair.reason)) continue;
    if (!reasons.empty()) reasons += ", ";
    reasons += repair.reason;
  }
  return reasons;
}

void Pipeline::Impl::start_repairs() {
  if (!sink_connected_ || repairs_.empty()) return;
  std::vector<std::uint64_t> empty;
  for (auto& [id, repair] : repairs_) {
    if (repair.started) continue;
    if (repair.after_connect && (!source_connected_ || gap_needs_confirmation_)) continue;
    // The floor for fills wants a snapshot, when there is a server to give one.
    if (source_connected_ && visibility_.has_snapshots() && !visibility_.latest()) continue;
    repair.started = true;
    for (std::uint32_t rule = 0; rule < rules_->rules().size(); ++rule) {
      const RuleInfo& info = rules_->rules()[rule];
      const bool affected =
          repair.tables.empty() ||
          std::find(repair.tables.begin(), repair.tables.end(), info.qualified_table()) != repair.tables.end();
      for (std::uint32_t pattern = 0; affected && pattern < info.patterns.size(); ++pattern) {
#ifndef EVICTD_BREAK_NO_REPAIR
        request_purge(rule, pattern, nullptr, id);
#endif
      }
    }
    if (repair.purges.empty()) empty.push_back(id);
  }
  for (const std::uint64_t id : empty) repair_purge_done(id, 0);
}

void Pipeline::Impl::repair_purge_done(std::uint64_t id, std::uint64_t work) {
  const auto found = repairs_.find(id);
  EVICTD_CHECK(found != repairs_.end());
  Repair& repair = found->second;
  repair.purges.erase(work);
  repair.late_purges.erase(work);
  if (!repair.purges.empty()) return;
  if (!repair.ready) {
    repair.ready = true;
    say(Level::kInfo, fmt::format("repaired: {}", repair.reason));
    if (repair_reasons(false).empty()) observer_.gap_resolved();
  }
  if (!repair.late_purges.empty()) return;
  repairs_.erase(found);
  record_->gap = repair_reasons(true);
  record_dirty_ = true;
}

Purge& Pipeline::Impl::make_purge(std::shared_ptr<const RuleSet> rules, std::uint32_t rule,
                                  std::uint32_t pattern, std::uint64_t repair) {
  auto made = std::make_unique<Purge>();
  Purge& purge = *made;
  purge.id = next_work_++;
  purge.session = repair == 0 ? session_ : 0;
  purge.rules = std::move(rules);
  purge.rule = rule;
  purge.pattern = pattern;
  purge.repair = repair;
  purge.unapplied = purge.unfinished = 1;
  Part& part = purge.parts.emplace_back();
  part.rule = &purge.rules->rules()[rule];
  part.kind = InvalidationKind::kPurge;
  const Pattern& target = part.rule->patterns[pattern];
  const bool checked = part.rule->fill == FillMode::kChecked;
  part.settle = checked && repair == 0 ? options_.tombstone_ttl : std::max(part.rule->settle, kPurgeSettleMin);
  // A raised counter asks no more of readers than that they see the transaction.
  if (target.is_bump) part.settle = kPurgeSettleMin;
  part.command.target = Target::kPattern;
  part.command.pattern_of = target.is_tag    ? PatternOf::kTagSets
                            : target.is_bump ? PatternOf::kCounters
                                             : PatternOf::kKeys;
  part.command.lazy = target.is_lazy;
  part.command.channel = part.rule->announce;
  part.command.trust_filled = checked;
  part.command.texts = target.glob;
  part.command.items.push_back({static_cast<std::uint32_t>(part.command.texts.size()), 0});
  if (repair != 0) {
    part.command.unconditional = true;
    if (const auto& snapshot = visibility_.latest()) part.command.floor = Xid{number(snapshot->xmax()) - 1};
  }
  alive_[purge.id] = &purge;
  purges_[purge.id] = std::move(made);
  return purge;
}

// A purge of a repair that begins with its second act, when it becomes visible or its timer runs out.
Purge& Pipeline::Impl::make_late_purge(std::shared_ptr<const RuleSet> rules, std::uint32_t rule,
                                       std::uint32_t pattern, std::uint64_t repair) {
  Purge& purge = make_purge(std::move(rules), rule, pattern, repair);
  purge.late = true;
  purge.unapplied = 0;
  purge.first_done = true;
  purge.parts[0].state = PartState::kApplied;
  repairs_.at(repair).late_purges.insert(purge.id);
  return purge;
}

// One purge of a pattern scans at a time; those who ask meanwhile share the next one.
void Pipeline::Impl::request_purge(std::uint32_t rule, std::uint32_t pattern, Work* dependent,
                                   std::uint64_t repair) {
  if (repair != 0) {
    Purge& purge = make_purge(rules_, rule, pattern, repair);
    // A lost commit may still be hanging invisible: whatever is in progress now may be one.
    if (const auto& snapshot = visibility_.latest()) purge.xids = snapshot->in_progress();
    if (purge.xids.empty()) {
      purge.visible_at = now_.steady;
    } else {
      invisible_.push_back(purge.id);
    }
    repairs_.at(repair).purges.insert(purge.id);
    enqueue(purge, 0);
    // A checked reader that began before the gap may fill until tombstone_ttl from now, over keys that were not
    // there to be left with a tombstone.
    if (purge.parts[0].rule->fill == FillMode::kChecked) {
      Purge& late = make_late_purge(rules_, rule, pattern, repair);
      late.visible_at = now_.steady;
      wait_for_timer(late, 0, now_.steady + options_.tombstone_ttl);
    }
    return;
  }
  const std::pair<std::uint32_t, std::uint32_t> place{rule, pattern};
  const auto waiting = waiting_purges_.find(place);
  Purge& purge = waiting != waiting_purges_.end() ? *purges_.at(waiting->second) : make_purge(rules_, rule, pattern, 0);
  if (waiting == waiting_purges_.end()) {
    waiting_purges_[place] = purge.id;
    if (under_way_purges_.count(place) == 0) enqueue(purge, 0);
  }
  purge.visible_at.reset();
  purge.xids.insert(purge.xids.end(), dependent->xids.begin(), dependent->xids.end());
  purge.dependents.push_back(dependent->id);
  ++dependent->unapplied;
  ++dependent->unfinished;
}

// It is about to be sent: nobody joins it any more, and its transactions are those of all who did.
void Pipeline::Impl::prepare_purge(Purge& purge) {
  const std::pair<std::uint32_t, std::uint32_t> place{purge.rule, purge.pattern};
  if (const auto waiting = waiting_purges_.find(place);
      waiting != waiting_purges_.end() && waiting->second == purge.id) {
    waiting_purges_.erase(waiting);
    under_way_purges_[place] = purge.id;
  }
  if (purge.repair != 0) return;
  Command& command = purge.parts[0].command;
  std::sort(purge.xids.begin(), purge.xids.end());
  purge.xids.erase(std::unique(purge.xids.begin(), purge.xids.end()), purge.xids.end());
  purge.seen = 0;
  if (purge.xids.size() > kPurgeXidsMax) {
    command.unconditional = true;
    command.floor = purge.xids.back();
    command.xids.clear();
  } else {
    command.xids = purge.xids;
  }
  command.items[0].xids_end = static_cast<std::uint32_t>(command.xids.size());
  if (!visibility_.look(purge, now_.steady)) invisible_.push_back(purge.id);
}

// The repair has waited long enough to report ready; should one of the transactions still in progress be a lost
// commit after all, the pattern is purged once more when it becomes visible.
void Pipeline::Impl::purge_again_when_visible(const Purge& purge) {
  Purge& late = make_late_purge(purge.rules, purge.rule, purge.pattern, purge.repair);
  late.parts[0].command = purge.parts[0].command;
  late.xids.assign(purge.xids.begin() + static_cast<std::ptrdiff_t>(purge.seen), purge.xids.end());
  invisible_.push_back(late.id);
}

// Under `fill: checked` none does: it would keep what its own transactions are visible in, and ours may not be. Nor
// one that settles noticeably later: that would stretch the bound of G4, as for keys (left_to_later).
bool Pipeline::Impl::later_purge_covers(const Purge& purge) const {
  if (purge.parts[0].command.trust_filled && !purge.parts[0].command.unconditional) return false;
  const auto settle = purge.parts[0].settle;
  const auto latest_due = *purge.visible_at + settle + settle / kSettleTogether;
  for (auto later = purges_.upper_bound(purge.id); later != purges_.end(); ++later) {
    const Purge& other = *later->second;
    const Command& command = other.parts[0].command;
    if (!other.abandoned && other.parts[0].state == PartState::kApplied && other.repair == purge.repair && !other.late && other.visible_at && *other.visible_at >= purge.visible_at &&
        *other.visible_at + other.parts[0].settle <= latest_due && other.session == purge.session && command.act == Act::kInvalidate &&
        !command.settled && command.pattern_of == purge.parts[0].command.pattern_of && command.lazy == purge.parts[0].command.lazy &&
        command.texts == purge.parts[0].command.texts) {
      return true;
    }
  }
  return false;
}

void Pipeline::Impl::purge_first_act_done(Purge& purge) {
  if (purge.first_done) return;
  purge.first_done = true;
  if (const auto repair = repairs_.find(purge.repair); repair != repairs_.end()) repair->second.has_applied = true;
  const std::pair<std::uint32_t, std::uint32_t> place{purge.rule, purge.pattern};
  if (const auto waiting = waiting_purges_.find(place);
      waiting != waiting_purges_.end() && waiting->second == purge.id) {
    waiting_purges_.erase(waiting);  // abandoned before it was sent
  }
  if (const auto under_way = under_way_purges_.find(place);
      under_way != under_way_purges_.end() && under_way->second == purge.id) {
    under_way_purges_.erase(under_way);
    if (const auto next = waiting_purges_.find(place); next != waiting_purges_.end()) {
      enqueue(*alive_.at(next->second), 0);
    }
  }
  for (const std::uint64_t id : purge.dependents) {
    const auto dependent = alive_.find(id);
    if (dependent == alive_.end() || dependent->second->unapplied == 0) continue;
    if (--dependent->second->unapplied == 0) applied(*dependent->second);
  }
}

void Pipeline::Impl::purge_finished(Purge& purge) {
  alive_.erase(purge.id);
  const auto place = purges_.find(purge.id);
  graveyard_.push_back(std::move(place->second));
  purges_.erase(place);
  for (const std::uint64_t id : purge.dependents) {
    const auto dependent = alive_.find(id);
    if (dependent == alive_.end()) continue;
    EVICTD_CHECK(dependent->second->unfinished > 0);
    if (--dependent->second->unfinished == 0) finished(*dependent->second);
  }
  if (purge.repair != 0) repair_purge_done(purge.repair, purge.id);
}

// Finished batches merge with finished neighbours, so that what waits behind one hung transaction stays small.
void Pipeline::Impl::batch_finished(Batch& batch) {
  alive_.erase(batch.id);
  held_bytes_ -= batch.bytes - sizeof(Batch);
  batch.bytes = sizeof(Batch);
  batch.parts = {};
  batch.xids = {};
  batch.commits = {};
  if (batch.place != batches_.begin()) {
    const auto previous = std::prev(batch.place);
    if ((*previous)->unfinished == 0) merge_into(batch, previous);
  }
  if (const auto next = std::next(batch.place); next != batches_.end() && (*next)->unfinished == 0) {
    merge_into(**next, batch.place);
  }
}

void Pipeline::Impl::merge_into(Batch& batch, std::list<std::unique_ptr<Batch>>::iterator earlier) {
  Batch& merged = **earlier;
  if (merged.session != batch.session || merged.abandoned != batch.abandoned) return;
  for (const Position& end : merged.ends) {
    const bool known = std::any_of(batch.ends.begin(), batch.ends.end(),
                                   [&](const Position& later) { return later.stream == end.stream; });
    if (!known) batch.ends.push_back(end);
  }
  batch.transactions += merged.transactions;
  held_bytes_ -= merged.bytes;
  graveyard_.push_back(std::move(*earlier));
  batches_.erase(earlier);
}

// The contiguous finished prefix is what may be acknowledged (G1); never past an unfinished transaction, and
// never a position of an earlier connection, which may speak of another history.
void Pipeline::Impl::pop_finished() {
  while (!batches_.empty() && batches_.front()->unfinished == 0) {
    Batch& batch = *batches_.front();
    if (batch.session == session_ && source_connected_ && !batch.abandoned) {
      for (const Position& end : batch.ends) done_[end.stream] = std::max(done_[end.stream], end.value);
    }
    finished_transactions_ += batch.transactions;
    held_bytes_ -= batch.bytes;
    graveyard_.push_back(std::move(batches_.front()));
    batches_.pop_front();
  }
}

SteadyTime Pipeline::Impl::record_due() const {
  if (!record_is_ours_) return SteadyTime::max();
  if (record_dirty_ || record_written_at_ == SteadyTime::min()) return now_.steady;
  if (done_ != acknowledged_) return stopping_ ? now_.steady : record_written_at_ + options_.record_interval;
  return source_connected_ ? record_written_at_ + kRecordRefresh : SteadyTime::max();
}

void Pipeline::Impl::write_record() {
  if (!sink_connected_ || !record_ || record_under_way_ != 0 || record_due() > now_.steady) return;
  for (const auto& [stream, position] : done_) {
    std::uint64_t& recorded = record_->acknowledged[source_.stream_name(stream)];
    recorded = std::max(recorded, position);
  }
  record_positions_ = done_;
  record_session_ = session_;
  record_under_way_ = ++record_sequence_;
  record_dirty_ = false;
  record_written_at_ = now_.steady;
  record_->writer = options_.writer;
  record_->sequence = record_sequence_;
  sink_.save_record(*record_, record_under_way_);
}

void Pipeline::Impl::on_record_saved(std::uint64_t sequence) {
  if (sequence != record_under_way_) return;
  record_under_way_ = 0;
  record_stored_ = Stored{options_.writer, sequence};
  record_unsure_after_ = sequence;
  if (gap_needs_confirmation_ && sequence >= gap_first_in_) {
    gap_needs_confirmation_ = false;
    source_.confirm_gap();
  }
  if (record_session_ != session_ || !source_connected_) return;
  for (const auto& [stream, position] : record_positions_) {
    std::uint64_t& told = acknowledged_[stream];
    if (position <= told) continue;
    told = position;
    source_.acknowledge({stream, position});
  }
}

}  // namespace evictd
