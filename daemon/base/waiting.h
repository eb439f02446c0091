// What a source or sink waits for between two steps. The loop gathers these, calls poll(2) once, and then
// steps everybody; a step with nothing to do is cheap and allowed at any time.
#pragma once

#include <poll.h>

#include <vector>

#include "daemon/base/clock.h"

namespace evictd {

struct Waiting {
  std::vector<pollfd> descriptors;            // appended to by every part
  SteadyTime deadline = SteadyTime::max();    // the earliest time somebody wants a step
  void wake_at(SteadyTime time) {
    if (time < deadline) deadline = time;
  }
};

}  // namespace evictd
