// What a lane gives up: all that a former connection of the source will send again, what a cache that falls behind has no room for, and
// everything where it is parked.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/lane_work.h"
#include "mapping/check.h"

namespace evictd {

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
  keeper_.prefix().ends_at(behind_after_);
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
  keeper_.prefix().stops();
  abandon_all(false);
  events_.error(fmt::format("the cache is parked: {}", why),
                "it no longer holds the database up; what its rules match is purged when it returns");
}

}  // namespace evictd
