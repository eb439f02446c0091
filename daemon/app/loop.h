// The loop of `evictd run`: turns the flow, waits with poll(2), listens to signals, logs what
// it has to say, and publishes the status. Takes its parts, so that a test can hand it
// fakes. One thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/app/log.h"
#include "daemon/app/metrics.h"
#include "daemon/flow/flow.h"
#include "daemon/app/signals.h"
#include "daemon/app/status.h"

namespace evictd {

// One cache, for the status.
struct LoopCache {
  std::string name;
  std::string address;  // for people, without secrets
  const Sink* sink = nullptr;
};

class AuditThread;
class RefreshThread;

class Loop {
 public:
  // How long a stop waits for what is in hand; then the rest is delivered again at the next start
  // (G1).
  static constexpr std::chrono::seconds kDrainMax{10};

  struct Parts {
    Flow& flow;
    Source& source;
    // The caches, in the order of the configuration.
    std::vector<LoopCache> caches;
    Metrics& metrics;
    StatusBoard& board;
    Signals& signals;
    Log& log;
    std::shared_ptr<const StatusIdentity> identity;
    // Reads the rules again. What it or the source then says against them is logged, and the old rules stay.
    std::function<Result<RuleSet>()> read_rules;
    std::chrono::milliseconds drain_max = kDrainMax;
    Activity* activity = nullptr;  // what the status page shows; null: it does without
    AuditThread* audit = nullptr;  // null: not configured
    std::vector<RefreshThread*> refreshes = {};  // one for each cache of Redis
  };
  explicit Loop(Parts parts);

  // Until stopped or failed. Returns the exit code.
  int run();

 private:
  void take_signals(Now now);
  void begin_stop(Now now);
  void reload(Now now);
  bool refused_by_cache(Now now);
  void refuse_rules(const Error& error, Now now);
  void put_off_rules(const Error& error, Now now);
  void tell_not_reloaded(const Error& error, const std::string& consequence, Now now);
  void finish_reload(Now now);
  void log_events(Now now);
  void publish(Now now);
  // What the auditor and the refreshers say; a problem is logged when it comes.
  void read_side_threads(Status& status, Now now);
  void wait(Now now);
  void take_rules();

  Parts parts_;
  RepeatGuard repeats_;
  std::shared_ptr<const std::vector<StatusRule>> rules_;
  std::optional<RuleSet> new_rules_;  // read, and being compared with the tables
  std::optional<SteadyTime> reload_on_at_;  // when what could not be done just now is tried again
  SteadyTime reload_tried_at_{};
  std::string reload_problem_;
  std::vector<std::string> side_problems_;  // of auditor and refreshers, that were there when last looked at
  std::shared_ptr<const ActivityView> activity_;  // as of the last sample
  std::vector<pollfd> descriptors_;  // kept between turns for its memory
  SteadyTime published_at_{};
  bool published_ = false;  // in this turn
  bool signals_came_ = false;
  bool stopping_ = false;
  bool exit_at_once_ = false;
  SteadyTime stop_deadline_{};
};

}  // namespace evictd
