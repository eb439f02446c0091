// The metrics that are read from the status when somebody asks, rather than counted. A file of its
// own beside metrics.cpp, and for its use only: it shows prometheus-cpp.
#pragma once

#include <prometheus/metric_family.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/app/status.h"

namespace evictd {

// `gap_reasons`: those whose series is there before they first happen.
void append_status_metrics(std::vector<prometheus::MetricFamily>& out, const Status& status,
                           const std::vector<std::string>& gap_reasons, Now now,
                           SteadyTime::duration silence);

}  // namespace evictd
