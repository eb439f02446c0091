// The pipeline: source -> map -> sink, and the acknowledgement back (design, section 2). It owns every
// decision between them: batching, coalescing, settle and renew, retry, gaps, and when a position may be
// acknowledged. It has no thread, clock, socket or log of its own: whoever drives it calls step() with the
// time, so that tests/simulation can drive it through every fault with a seed.
//
// One thread calls everything here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/observer.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"
#include "daemon/base/waiting.h"
#include "mapping/rules.h"

namespace evictd {

enum class OnFirstStart { kKeep, kPurge };

// Limits (G8) and waits. The defaults are the documented ones.
struct PipelineOptions {
  // Who we are in the record: a random id of the process, so that no two daemons have the same. See Record::writer.
  std::string writer;
  OnFirstStart on_first_start = OnFirstStart::kKeep;
  std::chrono::milliseconds tombstone_ttl{60'000};
  std::string source_peer = "postgres";          // label of evictd_reconnects_total
  std::size_t batch_items_max = 2048;            // distinct keys, tags and counters of one batch
  std::size_t batch_bytes_max = 1024 * 1024;     // of one batch, its transactions included
  std::size_t held_bytes_max = 24 * 1024 * 1024;  // everything received and not yet finished
  std::size_t step_bytes_max = 256 * 1024;       // of the stream, per step
  std::chrono::milliseconds snapshot_interval{10};  // between two polls while something waits
  std::chrono::milliseconds record_interval{200};  // between two records, and so acknowledgements
};

// What somebody outside may want to know, as of the last step.
struct PipelineStatus {
  bool source_connected = false;
  bool redis_connected = false;
  bool active = false;
  std::optional<SystemTime> oldest_unapplied_commit;  // for evictd_lag_seconds; absent when none
  std::optional<SystemTime> last_applied_commit;
  std::optional<SteadyTime> last_heartbeat;
  std::uint64_t inflight_transactions = 0;  // received and not yet finished (applied and settled)
  std::uint64_t inflight_bytes = 0;
  std::string gap;  // the reason of the unresolved gap, or empty
  std::optional<Position> acknowledged;
  // Empty when ready: streaming, Redis writable, no gap. Otherwise the reasons, for a person.
  std::vector<std::string> not_ready;
};

// Something worth a log line. The driver logs it.
struct PipelineEvent {
  enum class Level { kInfo, kWarning, kError } level = Level::kInfo;
  std::string text;
  std::string hint;
};

class Pipeline {
 public:
  // Everything passed by reference must outlive the pipeline. `rules` is replaced by reload().
  Pipeline(RuleSet rules, Source& source, Sink& sink, Observer& observer, PipelineOptions options);
  ~Pipeline();

  void start(Now now);

  // A bounded piece of work on everything that is due. Never blocks.
  void step(Now now);
  void wait_for(Waiting& waiting, Now now);

  // From the next transaction on, these rules hold (SIGHUP). Tells the source the new tables.
  void reload(RuleSet rules, Now now);
  const RuleSet& rules() const;

  // Drain what is in hand (bounded by the driver's patience), record, acknowledge, then finished().
  void stop(Now now);
  bool finished() const;

  // Set when the process must end: the error says with which exit code (kFatal 1, kUsage 2).
  const std::optional<Error>& failure() const;

  PipelineStatus status() const;

  // The events since the last call, for the log.
  std::vector<PipelineEvent> take_events();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
