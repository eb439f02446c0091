// Tells of a walk that has been made: the log answers "why did the hit rate fall" with one line for each pattern, and what it cost.
#pragma once

#include <string>
#include <string_view>

#include "daemon/base/clock.h"
#include "daemon/flow/events.h"
#include "daemon/interface/observer.h"
#include "daemon/interface/sink.h"

namespace evictd {

// `cache`: its name. `reason`: for a person. A line at the usual level where it touched something, or took more than a second.
void report_walk(Observer& observer, CacheEvents& events, const std::string& cache, const PatternRef& ref, std::string_view reason,
                 const Counts& counts, SteadyTime::duration took);

}  // namespace evictd
