// One cache's record: read, judged, written, and the repairs that follow from it. The ledger decides what a record says and is, the
// repairs what is walked and when; this is what happens around them, with the cache and with the source.
//
// The order that makes a crash harmless (G1, G6):
//   gap found -> record {gap} written -> the source may do the irreversible step -> streaming -> purge, and
//   again after the settle -> ready -> late purges -> record {no gap} written.
//   batches finished -> record {position} written -> the source is told (flow).
//
// Owned by a lane, which moves the work itself and tells what is done of it (prefix()). What was done and may be undone with its cache,
// or is to be sent again, is told back to the lane: take_wants_redelivery().
//
// One thread. Nothing blocks: records are read and written by the sink, and answered through the lane.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/flow/batch.h"
#include "daemon/flow/cache_rules.h"
#include "daemon/flow/events.h"
#include "daemon/flow/flow.h"
#include "daemon/flow/ledger.h"
#include "daemon/flow/prefix.h"
#include "daemon/flow/repair.h"
#include "daemon/interface/observer.h"

namespace evictd {

// A gap of the source's history that is found once: nothing but a record names it afterwards.
inline bool concerns_every_cache(const std::string& gap) { return gap == "epoch_changed" || gap == "stream_incomplete"; }

class RecordKeeper {
 public:
  // What a lane needs to know of the source and of the intake at each step.
  struct Surroundings {
    bool is_streaming = false;
    bool has_snapshots = false;  // the source answers for snapshots
    const std::optional<Snapshot>* snapshot = nullptr;
    SteadyTime snapshot_asked_at = SteadyTime::min();
    bool is_hurried = false;  // stopping: whatever is finished goes on record at once
  };

  // Everything passed by reference must outlive it. `now`: of the lane's call that goes on.
  RecordKeeper(const LaneSpec& spec, const FlowOptions& options, const Source& source, Observer& observer, CacheEvents& events,
               const Now& now, std::shared_ptr<const RuleSet> rules);

  const Ledger& ledger() const { return ledger_; }
  Prefix& prefix() { return prefix_; }
  const Prefix& prefix() const { return prefix_; }
  const CacheRules& rules() const { return rules_; }

  // From here on these rules hold. What changed is purged; while the record is not ours to write, it is remembered for when it is.
  void use(std::shared_ptr<const RuleSet> rules);
  // What the sink needs to know of the moment.
  void tell_sink();

  // ---- The cache.
  void cache_connected(const SinkConnected& connected);
  void cache_disconnected();
  // Looks whether it loses what its rules rely on: a gap, which stands on record from the moment it begins, and is repaired when it is over.
  void watch_evictions();
  void record_loaded(std::uint64_t sequence, const std::optional<Record>& record);
  void record_saved(std::uint64_t sequence) { ledger_.stored(sequence); }
  void record_confirmed(std::uint64_t sequence) { ledger_.confirmed(sequence); }
  // Writes the record if it is due. REQUIRES: the cache is connected.
  void write(bool is_hurried);

  // ---- The source: see Lane, which passes these on.
  void judge(const SourceFacts& facts, bool is_cache_connected);
  bool is_judged() const { return judging_ == Judging::kDone && ledger_.gaps_are_stored(); }
  bool is_judging() const { return judging_ == Judging::kReading || (judging_ == Judging::kDone && !ledger_.gaps_are_stored()); }
  // The lane has dealt with what it had in hand.
  void source_connected(const SourceConnected& connected);
  // The record speaks of a connection of the source: what is done counts.
  bool streams() const { return streaming_.has_value(); }
  void source_tables(const std::map<std::string, std::string>& tables);
  void source_streams(const std::map<std::string, std::uint64_t>& begins);
  void snapshot(const Snapshot& snapshot);
  void release();
  // The cache was parked and returns.
  void come_back(const std::map<std::string, std::uint64_t>& confirmed);

  // ---- Repairs.
  void open_repair(Repairs::Wanted wanted);
  // The walk to be made now, as an order; absent: none. REQUIRES: the cache is connected, and none is under way.
  std::optional<Order> next_walk(const Surroundings& surroundings);
  void walk_done(const Outcome& outcome);
  void walk_lost() { repairs_.lost(); }
  // Puts on record, and says, what has come of them.
  void tell_repaired();
  bool waits_for_visibility() const { return repairs_.waits_for_visibility(); }
  std::set<std::string> gap_reasons() const;
  // Judged in a connection that goes on, and purged: the cache lacks nothing but what is in hand.
  bool is_whole() const { return streaming_ && judging_ == Judging::kDone && repairs_.reasons(false).empty(); }
  // There are other caches: a gap that is repaired here stays on record until they have on theirs what it means for them, or
  // nobody would know of it after a kill.
  void set_beside_others() { is_beside_others_ = true; }
  const std::set<std::string>& repaired_gaps() const { return repaired_gaps_; }
  void close_repaired_gaps();
  // The reason of a gap that this cache's record tells, and that concerns every cache.
  struct ForAll {
    std::string gap;
    bool is_new = true;  // false: left by whoever held the source before, who may have told the others
  };
  std::optional<ForAll> take_for_all() { return std::exchange(for_all_, std::nullopt); }
  // What another cache's record has told.
  void hear(const ForAll& told);
  // The cache has a gap that nobody would know of after a kill.
  bool has_untold(const std::string& gap) const { return heard_.contains(gap) || ledger_.is_untold(gap); }
  // When there is something to do by the clock alone; max(): never.
  SteadyTime wake_at(bool is_hurried) const;

  // ---- For the lane, since the last call.
  // The source has to send again what is not on record here.
  bool take_wants_redelivery() { return std::exchange(wants_redelivery_, false); }
  // Repairs became over: whoever stands behind this cache has to be purged again.
  bool take_repaired() { return std::exchange(has_repaired_, false); }

 private:
  enum class Judging { kNone, kAway, kReading, kDone };

  void found_on_connection(const SinkConnected& connected, bool is_another_process);
  void note_what_is_left(Ledger::Found found, const std::set<std::string>& dropped);
  void judge_now();
  void repair_lost_parts(bool after_connect);
  void forget_unrecorded();
  void begin_repairs_again();
  void repair_what_another_knows(const std::string& reason, bool after_connect);
  void purge_changed_rules();
  void remember_changed_rules(const std::map<std::string, std::uint64_t>& before);
  std::chrono::milliseconds cache_time() const;

  const LaneSpec& spec_;
  Observer& observer_;
  CacheEvents& events_;
  const Now& now_;
  const OnFirstStart on_first_start_;

  CacheRules rules_;
  // Tables whose rules were others for a time while the record was not ours to write: purged as soon as it is.
  std::set<std::string> rules_changed_meanwhile_;

  Ledger ledger_;
  Prefix prefix_;
  Repairs repairs_;
  bool has_repaired_ = false;
  bool is_beside_others_ = false;
  std::set<std::string> repaired_gaps_;  // still on record, see set_beside_others()
  std::optional<ForAll> for_all_;
  std::set<std::string> heard_;  // from other caches' records, while our own is read
  bool wants_redelivery_ = false;

  // The cache.
  std::optional<std::string> instance_;       // absent: it was never there
  std::chrono::milliseconds cache_time_{0};   // its clock at cache_time_at_
  SteadyTime cache_time_at_{};
  bool is_losing_keys_ = false;
  std::uint64_t load_ = 0;                    // the newest read of the record; older answers are ignored

  // The source.
  std::optional<SourceConnected> streaming_;  // since when the record speaks of it; absent: not judged yet
  std::optional<Snapshot> snapshot_;          // the latest of this connection
  Judging judging_ = Judging::kNone;
  std::optional<SourceFacts> facts_;  // judged against as soon as the record is known; kept until the source streams
  std::set<std::string> anothers_gaps_;  // on the record that was read, which another process wrote; until they are judged
};

}  // namespace evictd
