// When the stream is read, so that one read takes many rows instead of one: the server writes each row to the socket by itself. When
// 4 KiB have come within a millisecond, the next look waits one; a quiet stream is read at once. Pure.
#pragma once

#include <cstddef>

#include "daemon/base/clock.h"

namespace evictd {

class ReadPace {
 public:
  bool may_read(SteadyTime now) const { return quiet_until_ <= now; }
  SteadyTime quiet_until() const { return quiet_until_; }
  // There is more in the buffer than the last step was allowed to take: no descriptor tells of it.
  bool has_more() const { return has_more_; }

  // A step has read, and taken so many bytes. `has_more`: it was not allowed to take more.
  void took(std::size_t bytes, bool has_more, SteadyTime now);
  // A message that was held goes on: there may be more in the buffer.
  void goes_on();

 private:
  SteadyTime window_{};
  std::size_t window_bytes_ = 0;
  SteadyTime busy_until_{};
  SteadyTime quiet_until_{};
  bool has_more_ = false;
};

}  // namespace evictd
