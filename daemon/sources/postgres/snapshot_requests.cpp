#include "daemon/sources/postgres/snapshot_requests.h"

namespace evictd {

void SnapshotRequests::streaming(SteadyTime now) {
  first_wanted_ = last_wanted_ = 0;
  refresh_at_ = now + kRefreshInterval;
}

void SnapshotRequests::wanted(std::uint64_t number) {
  last_wanted_ = number;
  if (first_wanted_ == 0) first_wanted_ = number;
}

bool SnapshotRequests::answers(std::uint64_t number) {
  if (first_wanted_ == 0 || number < first_wanted_) return false;
  first_wanted_ = last_wanted_ > number ? last_wanted_ : 0;
  return true;
}

bool SnapshotRequests::refreshes(SteadyTime now) {
  if (now < refresh_at_) return false;
  refresh_at_ = now + kRefreshInterval;
  return true;
}

}  // namespace evictd
