#include "daemon/sources/postgres/stream_xids.h"

#include <algorithm>

namespace evictd {

void StreamXids::saw(const Snapshot& snapshot) {
  near_ = std::max(near_, snapshot.xmax());
  if (newest_ < snapshot.xmax()) newest_ = Xid{0};
}

Xid StreamXids::begins(std::uint32_t xid) {
  current_ = widen_xid(xid, near_);
  return current_;
}

bool StreamXids::is_possible(Xid xid) const {
  const std::uint64_t id = number(xid);
  const std::uint64_t near = number(near_);
  return id <= near + kAheadMax && (near <= kBehindMax || id >= near - kBehindMax);
}

void StreamXids::commits(SteadyTime now) {
  if (current_ <= newest_) return;
  newest_ = current_;
  newest_at_ = now + kDoubt;
}

std::optional<SteadyTime> StreamXids::doubt_at() const {
  if (newest_ == Xid{0}) return std::nullopt;
  return newest_at_;
}

Xid StreamXids::doubts(SteadyTime now) {
  newest_at_ = now + kDoubt;
  return newest_;
}

void StreamXids::is_real(Xid xid) {
  if (newest_ == xid) newest_ = Xid{0};
}

}  // namespace evictd
