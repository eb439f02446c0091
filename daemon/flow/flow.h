// The flow: one intake, a lane for each cache, and the acknowledgement back to the source. It has no thread, clock, socket
// or log of its own: whoever drives it calls step() with the time, so that tests/simulation can drive it through every fault.
//
//                                    ┌─► Lane 'eu' ─► Sink      each lane: its own progress, settles, repairs, record, lag
//   Source ─► Intake ─► Batch ───────┼─► Lane 'us' ─► Sink
//      ▲      (map once)             └─► Lane 'edge' ─► Sink    after: [eu, us]
//      └── acknowledge(the least position that every lane which is not parked has on record)
//
// One thread calls everything here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/waiting.h"
#include "daemon/flow/events.h"
#include "daemon/interface/observer.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"
#include "mapping/rules.h"

namespace evictd {

enum class OnFirstStart { kKeep, kPurge };

// When a cache that is away, or cannot keep up, no longer holds the database up: it is parked, and purged on its return.
struct ParkAfter {
  std::optional<std::chrono::milliseconds> age;   // of the oldest change it has not on record
  std::optional<std::uint64_t> wal_bytes;         // retained for it
  // Parked before PostgreSQL gives the slot up (max_slot_wal_keep_size), whatever the others say.
  bool before_slot_is_lost = true;
};

// One cache. `sink` must outlive the flow.
struct LaneSpec {
  std::string name;
  Sink* sink = nullptr;
  std::vector<std::string> after;  // names of lanes that must have applied the same transactions first
  ParkAfter park_after = {};
  std::chrono::milliseconds tombstone_ttl{60'000};  // of its sink
  // Of an edge: how long a response may take from its last read of a cache before it until the edge has it. Its second
  // purge comes that much after the settle, and after the second deletes of the caches it stands behind.
  std::chrono::milliseconds origin_time{0};
};

// Limits (G8) and waits. The defaults are the documented ones.
struct FlowOptions {
  OnFirstStart on_first_start = OnFirstStart::kKeep;
  std::string writer = "0000000000000000";       // id of this process in records, see Record::writer
  std::string source_peer = "postgres";          // label of evictd_reconnects_total
  std::size_t batch_items_max = 2048;            // distinct keys, tags and counters of one batch
  std::size_t batch_bytes_max = 1024 * 1024;     // of one batch, its transactions included
  std::size_t held_bytes_max = 24 * 1024 * 1024; // received and not yet finished, by each lane
  std::size_t step_bytes_max = 256 * 1024;       // of the stream, per step
  std::size_t given_up_per_step = 64;            // batches of a cache that falls behind: the others wait for no more of them
  std::chrono::milliseconds snapshot_interval{10};  // between two polls while something waits
  std::chrono::milliseconds record_interval{200};   // between two records, and so acknowledgements
  // The stream counts as current for so long after the last sign of life of the source.
  std::chrono::milliseconds current_for{30'000};
};

// One lane, as of the last step.
struct LaneStatus {
  std::string name;
  bool is_connected = false;
  bool is_parked = false;
  bool is_behind = false;  // overflowed: waits to be sent again what it had no room for
  std::optional<SystemTime> oldest_unapplied_commit;
  // evictd_lag_seconds; absent while this process stands by.
  std::optional<std::chrono::microseconds> lag;
  std::optional<SystemTime> last_applied_commit;
  std::uint64_t held_transactions = 0;  // received and not yet finished
  std::uint64_t held_bytes = 0;
  std::set<std::string> gaps;           // reasons of what is not repaired
  std::vector<std::string> not_ready;   // why, for a person; empty: ready
};

struct FlowStatus {
  bool source_connected = false;
  bool active = false;  // streams, and nobody else does
  bool standby = false;
  std::optional<SteadyTime> last_heartbeat;
  std::uint64_t inflight_transactions = 0;  // of the lane that holds most
  std::uint64_t inflight_bytes = 0;
  std::optional<Position> acknowledged;
  std::vector<LaneStatus> lanes;
  std::vector<std::string> not_ready;  // of the source and of all lanes; empty: ready
};

class Flow {
 public:
  // Everything passed by reference must outlive the flow. `rules` is replaced by reload(). REQUIRES: lanes have distinct
  // names, `after` names others of them, without a circle.
  Flow(RuleSet rules, Source& source, std::vector<LaneSpec> lanes, Observer& observer, FlowOptions options);
  ~Flow();

  void start(Now now);

  // A bounded piece of work on everything that is due. Never blocks.
  void step(Now now);
  void wait_for(Waiting& waiting, Now now);

  // From the next transaction on, these rules hold (SIGHUP). Tells the source the new tables; what new or changed rules
  // match is purged.
  void reload(RuleSet rules, Now now);
  const RuleSet& rules() const;
  // The same, for others who go by them: in force until the next reload().
  std::shared_ptr<const RuleSet> shared_rules() const;
  // Why a cache cannot serve these rules, as far as is known by now: they are not to be taken over then.
  std::optional<Error> refusal(const RuleSet& rules) const;

  // Drain what is in hand, record, acknowledge, then finished(). `until`: the driver's patience. What is due later than that is
  // left to its redelivery at once: nothing is read meanwhile, and who waits for our place would wait in vain.
  void stop(Now now, SteadyTime until = SteadyTime::max());
  bool finished() const;

  // Set when the process must end: the error says with which exit code (kFatal 1, kUsage 2).
  const std::optional<Error>& failure() const;

  FlowStatus status() const;

  // The events since the last call, for the log.
  std::vector<FlowEvent> take_events();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
