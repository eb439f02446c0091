// Runs orders on a sink, one after the other, until each is done: for `evictd purge` and `evictd
// drop`, which need Redis but no flow.
#pragma once

#include <functional>
#include <vector>

#include "daemon/app/signals.h"
#include "daemon/interface/sink.h"

namespace evictd {

// Without Redis for this long, the run gives up; what was done stays done.
inline constexpr std::chrono::seconds kRedisPatience{15};

// Called after each order with its index and outcome. An order whose connection was lost is submitted
// again (G2). Ends early, with an error, when Redis stays away, refuses us, or SIGTERM or SIGINT
// arrives.
Result<void> run_on_sink(Sink& sink, const std::vector<Order>& orders, Signals& signals,
                         const std::function<void(std::size_t, const Outcome&)>& on_done);

}  // namespace evictd
