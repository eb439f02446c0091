// The one place where a loop sleeps.
#pragma once

#include "daemon/base/waiting.h"

namespace evictd {

// Waits until a descriptor is ready or the deadline has come: ppoll(2), which is exact to the
// nanosecond where poll(2) would round a millisecond up or spin. Returns what ppoll returns.
int wait_for_any(Waiting& waiting);

}  // namespace evictd
