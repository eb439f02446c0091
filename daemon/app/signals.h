// Signals as a descriptor: SIGTERM, SIGINT and SIGHUP are blocked in every thread and read by the
// loop, so that no code of ours ever runs inside a signal handler. REQUIRES: created before any
// other thread.
#pragma once

#include <optional>

#include "mapping/error.h"

namespace evictd {

enum class Signal { kStop, kReload };

class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int descriptor() const { return descriptor_; }

  // The next signal that has arrived, if any. Never blocks.
  std::optional<Signal> next();

 private:
  int descriptor_ = -1;
};

// Tells the service manager "READY=1" and the like (sd_notify's protocol); does nothing without
// one.
void notify_service_manager(const char* state);

}  // namespace evictd
