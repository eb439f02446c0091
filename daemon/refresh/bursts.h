// How many commands of the refresher go to Redis together. Redis works off what it has of one client before it looks at the next,
// so a pipeline of ten fills is a pause of half a millisecond for every reader; one at a time, readers come between. Each then costs a way
// there and back, which is short on one machine and not to a server far off. Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "daemon/base/clock.h"

namespace evictd {

class RefreshBursts {
 public:
  // Of so many that are to be sent.
  std::size_t size(std::size_t commands) const {
    const std::size_t turns = (commands + kTurnsMax - 1) / kTurnsMax;  // large lots are of rules that are in a hurry
    const auto on_the_way = static_cast<std::size_t>(shortest_ / kWayOfOne);
    return std::max<std::size_t>({turns, on_the_way, 1});
  }
  // So long did one take, there and back.
  void took(SteadyTime::duration time) {
    shortest_ = is_known_ ? std::min(shortest_, time) : time;
    is_known_ = true;
  }

 private:
  static constexpr std::size_t kTurnsMax = 10;
  // A longer way there and back is shared by the more commands.
  static constexpr std::chrono::microseconds kWayOfOne{150};

  SteadyTime::duration shortest_{};
  bool is_known_ = false;
};

}  // namespace evictd
