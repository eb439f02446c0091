// Signals as a descriptor: SIGTERM, SIGINT and SIGHUP are blocked in every thread and read by the
// loop, so that no code of ours ever runs inside a signal handler. REQUIRES: created before any
// other thread.
#pragma once

#include <optional>

#include "mapping/error.h"

namespace evictd {

enum class Signal { kStop, kReload };

// What SIGHUP asks for: of a command that a person runs, that the terminal has gone, and it ends (unless it was started to
// ignore that, as with nohup), and waits no longer for servers (base/stop.h); of the daemon, to read its rules again.
enum class Hangup { kStops, kReloads };

class Signals {
 public:
  explicit Signals(Hangup hangup = Hangup::kStops);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int descriptor() const { return descriptor_; }

  // next() has returned kStop.
  bool has_stopped() const { return has_stopped_; }
  // The next signal that has arrived, if any. Never blocks.
  std::optional<Signal> next();

 private:
  Hangup hangup_;
  bool has_stopped_ = false;
  int descriptor_ = -1;
  int stopped_ = -1;  // an eventfd: next() has returned kStop
  int stop_ = -1;     // an epoll on both: readable from when kStop has arrived, and for good
};

// Tells the service manager "READY=1" and the like (sd_notify's protocol); does nothing without
// one.
void notify_service_manager(const char* state);

}  // namespace evictd
