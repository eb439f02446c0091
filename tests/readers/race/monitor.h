// What Redis executes, as MONITOR tells it: one line per command, scripts followed by what they call.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/readers/race/judge.h"

namespace evictd::race {

// Lines -> events. Only commands on the keys 'item:<row>' matter.
class MonitorParser {
 public:
  // 1339518083.107412 [0 127.0.0.1:60866] "set" "x" "1"     and [0 lua] for what a script calls
  void take(std::string_view line);

  std::vector<Event> events;

 private:
  void take_order(std::int64_t time_us);

  std::vector<std::string_view> words_;
  bool in_order_ = false;  // the last script was an invalidation of evictd's
};

// Listens from begin() until finish(), on a connection and a thread of its own.
class Monitor {
 public:
  explicit Monitor(int redis_port) : port_(redis_port) {}
  void begin();
  // Waits until everything that Redis executed before this call was heard.
  void finish();

  const std::vector<Event>& events() const { return parser_.events; }
  std::int64_t end_us() const { return end_us_; }

 private:
  void listen();

  int port_;
  MonitorParser parser_;
  std::atomic<bool> listening_ = false;
  std::int64_t end_us_ = 0;
  std::thread thread_;
};

}  // namespace evictd::race
