// What the process uses of the machine, under the names that client libraries of Prometheus agree on (prometheus.io, "Writing
// client libraries", process metrics). For metrics.cpp's use: it shows prometheus-cpp, whose registry brings none of its own.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <optional>
#include <vector>

#include "daemon/base/descriptor.h"

namespace evictd {

// Any thread. What the system does not tell (no /proc, no descriptor left to ask with) is absent, never 0.
class ProcessMetrics final : public prometheus::Collectable {
 public:
  ProcessMetrics();
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  Descriptor memory_;  // /proc/self/statm, kept open: when descriptors run out, this is asked for
  std::optional<double> started_;  // seconds since 1970
};

}  // namespace evictd
