// Where the lane stands among others: behind those named in LaneSpec::after, and before those who name it.
#include <algorithm>

#include "daemon/flow/lane_work.h"
#include "mapping/check.h"

namespace evictd {

void Lane::release_through(std::uint64_t number, Now now) {
  now_ = now;
  if (number == before_.gate) return;
  before_.gate = number;
  // Never a look at all that is held: of a dead edge that is a minute of the database's changes, and no other cache may wait
  // for it (G9).
  while (!before_.unbegun.empty() && before_.unbegun.front() <= before_.gate) {
    const auto found = works_.find(before_.unbegun.front() * 2);
    before_.unbegun.pop_front();
    if (found == works_.end()) continue;  // given up
    BatchWork& batch = *found->second->as_batch();
    if (!batch.begun && !batch.abandoned) begin_batch(batch);
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
  if (((before_.parked & bit) != 0) == is_parked) return;
  before_.parked ^= bit;
  if (!is_parked) return;  // what comes from now on
  for (const auto& batch : batches_) {
    if (batch->unfinished != 0) settled_before(place, {batch->number, true}, now);
  }
}

void Lane::open_settle_gate(BatchWork& batch) {
  const auto [first, last] = before_.gated.equal_range(batch.number);
  const std::vector<Gated::value_type> waiting(first, last);
  before_.gated.erase(first, last);
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

}  // namespace evictd
