#include "daemon/flow/visibility.h"

#include <algorithm>
#include <iterator>

namespace evictd {

Visibility::Visibility(std::chrono::milliseconds interval, std::chrono::milliseconds memory)
    : interval_(interval), memory_(memory) {}

void Visibility::reset(bool has_snapshots) {
  has_snapshots_ = has_snapshots;
  under_way_ = is_hurried_ = false;
  factor_ = 1;
  last_poll_ = SteadyTime::min();
  received_.clear();
  latest_.reset();
  latest_asked_at_ = SteadyTime::min();
}

void Visibility::add(const Snapshot& snapshot, SteadyTime received) {
  under_way_ = false;
  latest_ = snapshot;
  latest_at_ = received;
  latest_asked_at_ = last_poll_;
  // Kept at a distance of memory / kRemembered: enough to say "visible for at least so long".
  if (!received_.empty() && received - received_.back().at < memory_ / kRemembered) return;
  received_.push_back({received, snapshot});
  // Only the newest of those older than the memory is still of use.
  while (received_.size() > 1 && received_[1].at + memory_ <= received) received_.pop_front();
}

std::optional<SteadyTime> Visibility::look(const Batch& batch, Looked& looked, SteadyTime now) const {
  if (!has_snapshots_) {
    const SteadyTime since = batch.known_since == SteadyTime::min() ? now : std::min(now, batch.known_since);
    return since;
  }
  if (!latest_) return std::nullopt;
  const std::vector<Xid>& xids = batch.xids;
  while (looked.seen < xids.size() && (is_opaque(xids[looked.seen]) || latest_->sees(xids[looked.seen]))) ++looked.seen;
  if (looked.seen < xids.size()) return std::nullopt;
  // An earlier snapshot says nothing about opaque ones.
  if (std::any_of(xids.begin(), xids.end(), is_opaque)) return now;
  for (const Received& received : received_) {
    const auto sees = [&](Xid xid) { return received.snapshot.sees(xid); };
    if (std::all_of(xids.begin(), xids.end(), sees)) return received.at;
  }
  return latest_at_;
}

bool Visibility::grew(const Batch& batch, Looked& looked) const {
  if (!latest_) return false;
  const auto is_visible = [this](Xid xid) { return is_opaque(xid) || latest_->sees(xid); };
  if (looked.hanging) return std::erase_if(*looked.hanging, is_visible) > 0 && !looked.hanging->empty();
  looked.hanging.emplace();
  std::remove_copy_if(batch.xids.begin(), batch.xids.end(), std::back_inserter(*looked.hanging), is_visible);
  std::sort(looked.hanging->begin(), looked.hanging->end());
  return !looked.hanging->empty() && looked.hanging->size() < batch.xids.size();
}

bool Visibility::is_hanging(const TransactionBegin& begin, Now now) const {
  return latest_ && !is_opaque(begin.xid) && begin.xid < latest_->xmax() && !latest_->sees(begin.xid) &&
         now.system - begin.committed(now) >= kHangs;
}

bool Visibility::poll_is_due(bool waiting, SteadyTime now) const {
  return waiting && has_snapshots_ && !under_way_ &&
         (last_poll_ == SteadyTime::min() || now >= next_poll());
}

void Visibility::poll_sent(SteadyTime now) {
  under_way_ = true;
  last_poll_ = now;
}

void Visibility::poll_helped(bool helped) {
  factor_ = helped ? 1 : std::min(factor_ * 2, kIntervalFactorMax);
}

}  // namespace evictd
