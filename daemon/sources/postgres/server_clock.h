// Ours and the server's clock, which may differ by hours: when something that the server dates was, by ours. Pure.
#pragma once

#include <algorithm>
#include <optional>

#include "daemon/base/clock.h"

namespace evictd {

// Each message of the stream says when it was sent. The least that one of a connection took, by both clocks, is how they differ: what
// took longer waited on its way, or the server's clock was set back, which makes a commit look older until a message of our own is back.
class ServerClock {
 public:
  void forget() { least_.reset(); }

  // A message that was sent at `sent`, by the server's clock, is read.
  void heard(SystemTime sent, SteadyTime now) {
    if (!is_possible(sent)) return;
    const SystemTime::duration took = ours(now) - sent.time_since_epoch();
    least_ = least_ ? std::min(*least_, took) : took;
  }

  // A message of our own was emitted at `emitted` or later, committed at `committed` by the server's clock, and is read. It waited for no
  // longer than that: what the clocks would differ by beyond it is a clock that was set back.
  void came_back(SystemTime committed, SteadyTime emitted, SteadyTime now) {
    if (!is_possible(committed) || !least_) return;
    if (*least_ < ours(emitted) - committed.time_since_epoch()) least_ = ours(now) - committed.time_since_epoch();
  }

  // When `time` was by our clock, at most now; none: not known.
  std::optional<SteadyTime> ours_at(SystemTime time, SteadyTime now) const {
    if (!least_ || !is_possible(time)) return std::nullopt;
    const SystemTime::duration age = ours(now) - *least_ - time.time_since_epoch();
    return now - std::clamp(age, SystemTime::duration(0), kAgeMax);
  }

 private:
  // Beyond it a date is made up, and sums of it could overflow.
  static constexpr SystemTime::duration kAgeMax = std::chrono::hours(24 * 366 * 100);

  static bool is_possible(SystemTime time) { return time.time_since_epoch() > -4 * kAgeMax && time.time_since_epoch() < 4 * kAgeMax; }
  static SystemTime::duration ours(SteadyTime time) {
    return std::chrono::duration_cast<SystemTime::duration>(time.time_since_epoch());
  }

  std::optional<SystemTime::duration> least_;
};

}  // namespace evictd
