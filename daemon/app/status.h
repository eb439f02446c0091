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

#include "daemon/app/activity.h"
#include "daemon/base/clock.h"
#include "daemon/flow/flow.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"

namespace evictd {

struct AuditStatus;  // audit_thread.h
class KeyTrace;      // key_trace.h
struct RefreshStatus;  // refresh_thread.h

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
  std::shared_ptr<const AuditStatus> audit;  // null: `audit` is not configured
  std::vector<std::shared_ptr<const RefreshStatus>> refreshes;
  bool stopping = false;
  std::uint64_t log_dropped_lines = 0;
  std::string
      reload_problem;  // why the last SIGHUP changed nothing; empty when it did, or never came
  std::string rules_to_come;  // why rules that are to be reloaded are not in force yet; empty: there are none. Not ready
  std::shared_ptr<const ActivityView> activity;  // null where nobody gathers it
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

  // Set before anybody reads, and outlives the board; null: keys are not shown.
  void show_keys(const KeyTrace* trace) { keys_ = trace; }
  const KeyTrace* keys() const { return keys_; }

 private:
  const KeyTrace* keys_ = nullptr;
  mutable std::mutex mutex_;
  std::shared_ptr<const Status> status_;
  std::atomic<SteadyTime::duration::rep> last_turn_{0};
};

// Why traffic should not count on this evictd, one reason each; empty when it is ready.
std::vector<std::string> readiness_problems(const Status& status);
// The same of what the board shows, and whether the loop turns at all.
std::vector<std::string> readiness_problems(const StatusBoard& board, SteadyTime now);

// The state in one line, for a person.
struct Verdict {
  enum class State : std::uint8_t { kReady, kStandby, kStarting, kStopping, kNotReady } state = State::kNotReady;
  std::string line;  // "Not ready: redis is not connected (and 2 more)"
  std::vector<std::string> reasons;  // as readiness_problems()
};
Verdict verdict(const StatusBoard& board, SteadyTime now);
// "ready", "standby", "starting", "stopping", "not_ready"
std::string_view state_name(Verdict::State state);

// The page /status; without `with_rules` its list of rules is left out, which may be long.
std::string status_json(const StatusBoard& board, Now now, bool with_rules = true);

// "2026-02-03T04:05:06.789Z"
std::string time_text(SystemTime time);

}  // namespace evictd
