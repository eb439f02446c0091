// What the process uses of the machine.
#pragma once

#include <optional>

#include "daemon/base/descriptor.h"

namespace evictd {

// What the system does not tell (no /proc, no descriptor left to ask with) is absent, never 0.
struct ProcessUse {
  std::optional<double> cpu_seconds;
  std::optional<double> virtual_bytes, resident_bytes;
  std::optional<double> open_descriptors, descriptors_max;
  std::optional<double> started;  // seconds since 1970
};

class ProcessMeter {
 public:
  ProcessMeter();
  ProcessUse read() const;  // any thread

 private:
  Descriptor memory_;  // /proc/self/statm, kept open: when descriptors run out, this is asked for
  std::optional<double> started_;
};

}  // namespace evictd
