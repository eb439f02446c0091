// Time as the pipeline sees it: read once per turn of the loop by whoever drives it, so that a test can
// drive it too. `steady` measures durations and deadlines; `system` is compared with commit times only.
#pragma once

#include <chrono>

namespace evictd {

using SteadyTime = std::chrono::steady_clock::time_point;
// Microseconds, PostgreSQL's resolution of commit times.
using SystemTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

struct Now {
  SteadyTime steady;
  SystemTime system;
};

inline Now read_clocks() {
  return Now{std::chrono::steady_clock::now(), std::chrono::time_point_cast<std::chrono::microseconds>(
                                                   std::chrono::system_clock::now())};
}

}  // namespace evictd
