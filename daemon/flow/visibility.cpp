#include "daemon/flow/visibility.h"

#include <algorithm>

namespace evictd {

Visibility::Visibility(std::chrono::milliseconds interval, std::chrono::milliseconds memory)
    : interval_(interval), memory_(memory) {}

void Visibility::reset(bool has_snapshots) {
  has_snapshots_ = has_snapshots;
  under_way_ = false;
  factor_ = 1;
  last_poll_ = SteadyTime::min();
  received_.clear();
  latest_.reset();
}

void Visibility::add(const Snapshot& snapshot, SteadyTime received) {
  under_way_ = false;
  latest_ = snapshot;
  latest_at_ = received;
  // Kept at a distance of memory / kRemembered: enough to say "visible for at least so long".
  if (!received_.empty() && received - received_.back().at < memory_ / kRemembered) return;
  received_.push_back({received, snapshot});
  // Only the newest of those older than the memory is still of use.
  while (received_.size() > 1 && received_[1].at + memory_ <= received) received_.pop_front();
}

bool Visibility::look(Work& work, SteadyTime now) const {
  if (work.visible_at) return true;
  if (!has_snapshots_) {
    work.visible_at = work.known_since == SteadyTime::min() ? now : std::min(now, work.known_since);
#ifdef EVICTD_BREAK_KNOWN_TOO_EARLY
    *work.visible_at -= std::chrono::milliseconds(300);
#endif
    return true;
  }
  if (!latest_) return false;
  while (work.seen < work.xids.size() &&
         (is_opaque(work.xids[work.seen]) || latest_->sees(work.xids[work.seen]))) {
    ++work.seen;
  }
  if (work.seen < work.xids.size()) return false;
  if (std::any_of(work.xids.begin(), work.xids.end(), is_opaque)) {
    // An earlier snapshot says nothing about these.
    work.visible_at = now;
    return true;
  }
  for (const Received& received : received_) {
    const auto sees = [&](Xid xid) { return received.snapshot.sees(xid); };
    if (std::all_of(work.xids.begin(), work.xids.end(), sees)) {
      work.visible_at = received.at;
      return true;
    }
  }
  work.visible_at = latest_at_;
  return true;
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
