// The status board: how the loop tells the rest of the process how things stand. The loop publishes
// an immutable snapshot; HTTP threads read the newest one. Nobody else ever touches the flow.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/flow/flow.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"

namespace evictd {

// What stays the same while the process runs. No secrets: addresses only.
struct StatusIdentity {
  std::string version;
  SystemTime started;
  std::string source;  // "postgres localhost:5432/shop, slot 'evictd', publication 'evictd'"
  std::string rules_file;
};

struct StatusRule {
  std::string name;
  std::string table;
  std::string place;  // "rules.yaml:14:5"
};

// What a cache itself says.
struct StatusSink {
  std::string name;
  std::string address;  // "localhost:6379/0"
  SinkStatus sink;
};

struct Status {
  std::shared_ptr<const StatusIdentity> identity;
  std::shared_ptr<const std::vector<StatusRule>> rules;
  FlowStatus flow;
  SourceStatus source;
  std::vector<StatusSink> sinks;  // in the order of FlowStatus::lanes
  bool stopping = false;
  std::uint64_t log_dropped_lines = 0;
  std::string
      reload_problem;  // why the last SIGHUP changed nothing; empty when it did, or never came
};

// The loop has turned within this time, or the process is not alive.
inline constexpr std::chrono::seconds kLoopSilenceMax{10};

class StatusBoard {
 public:
  void publish(std::shared_ptr<const Status> status);
  // Null before the first publish.
  std::shared_ptr<const Status> read() const;

  void turned(SteadyTime now) { last_turn_.store(now.time_since_epoch().count()); }
  SteadyTime last_turn() const { return SteadyTime(SteadyTime::duration(last_turn_.load())); }
  bool is_alive(SteadyTime now) const { return now - last_turn() <= kLoopSilenceMax; }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Status> status_;
  std::atomic<SteadyTime::duration::rep> last_turn_{0};
};

// Why traffic should not count on this evictd, one reason each; empty when it is ready.
std::vector<std::string> readiness_problems(const StatusBoard& board, SteadyTime now);

std::string status_json(const StatusBoard& board, Now now);

// "2026-02-03T04:05:06.789Z"
std::string time_text(SystemTime time);

}  // namespace evictd
