#include "daemon/sources/kafka/snapshot_turns.h"

#include <utility>

namespace evictd {

bool SnapshotTurns::wanted() {
  if (is_own_) {
    is_wanted_next_ = true;  // the answer under way is older than this request
    return false;
  }
  is_wanted_ = true;
  return true;
}

bool SnapshotTurns::refreshes(SteadyTime now) {
  if (!latest_ || is_own_ || is_wanted_ || now - latest_at_ <= kRefresh) return false;
  is_own_ = true;
  return true;
}

SnapshotTurns::Answer SnapshotTurns::came(const Snapshot& snapshot, SteadyTime now) {
  latest_ = snapshot;
  latest_at_ = now;
  if (!std::exchange(is_own_, false)) {
    is_wanted_ = false;
    return {.is_wanted = true, .is_asked_again = false};
  }
  return {.is_wanted = false, .is_asked_again = std::exchange(is_wanted_next_, false) && wanted()};
}

Xid SnapshotTurns::id_of(std::uint32_t low) const {
  return latest_ ? widen_xid(low, latest_->xmax()) : narrow_xid(low);
}

}  // namespace evictd
