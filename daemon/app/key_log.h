// At `log.level: debug`, a line for each key that is ordered to be deleted: "why did this one go at 03:12?". Listens between a lane and
// its sink; at other levels it is not there. Of one order the first kKeysPerOrderMax keys are told, and how many more there are.
#pragma once

#include <memory>
#include <string>

#include "daemon/app/log.h"
#include "daemon/interface/sink.h"

namespace evictd {

class KeyLog {
 public:
  static constexpr std::size_t kKeysPerOrderMax = 100;

  // A sink that tells `log`, which must outlive it.
  static std::unique_ptr<Sink> listening(std::unique_ptr<Sink> sink, Log& log, std::string cache);
};

}  // namespace evictd
