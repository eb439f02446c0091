// Repairs: the gaps of one cache on their way from found to purged. Pure: says what to walk and when; the lane does it.
//
//   open() ─► streaming, a snapshot ─► walk all patterns ─► visible, settle ─► walk again ─► ready ─► late walks ─► closed
//
// One walk serves all patterns of a repair, and gaps that are found before its first walk begins join it. Readiness comes
// after the second walk. Late walks follow where readers that began before the gap may still fill (`fill: checked` without
// snapshots, or with those of a history that is over: until tombstone_ttl), or where a transaction that was in progress may be
// a lost commit that hangs: what it may have left is purged when it is visible.
// What a repair is about stays on record (ledger) until it is closed.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/flow/events.h"
#include "daemon/interface/sink.h"
#include "mapping/rules.h"

namespace evictd {

class Repairs {
 public:
  struct Options {
    std::chrono::milliseconds tombstone_ttl{60'000};
    std::string cache;  // for messages
    bool is_edge = false;                      // walks patterns of surrogate keys, and no others
    std::chrono::milliseconds origin_time{0};  // see LaneSpec
  };
  explicit Repairs(Options options) : options_(std::move(options)) {}

  // What has to be purged, and why.
  struct Wanted {
    std::string reason;
    std::vector<std::string> tables;  // empty: all
    bool is_gap = true;               // false: the purge of a first start or of new rules
    bool after_connect = false;       // not before the source streams (again)
    std::vector<std::string> parts = {};  // of the cache, Sink::lost_parts(); empty: everywhere
  };
  void open(Wanted wanted, SteadyTime now);
  // Another process works: what was found at an earlier look at the source and not begun is found again.
  // -> their reasons. One of them may be the reason of a repair that goes on, too, which began before this gap was there.
  std::set<std::string> drop_unbegun();
  // Reasons of all that is not closed, and whether any of them keeps the cache from being ready.
  std::set<std::string> reasons(bool with_late) const;
  bool empty() const { return repairs_.empty(); }
  bool waits_for_connect() const;
  // A gap of this reason was found at a look at the source, and its repair waits for the source to stream. (One that has begun
  // answers for what was missed before it.)
  bool is_to_begin(const std::string& reason) const;

  // A walk to be made now, as one order. Stays valid until its end was told by done().
  struct Walk {
    std::shared_ptr<const RuleSet> rules;
    std::vector<PatternRef> patterns;
    Act act = Act::kInvalidate;
    Xid floor{};
    std::string reason;
    SteadyTime began{};
    std::vector<std::string> parts = {};  // empty: everywhere
  };
  struct Conditions {
    bool is_streaming = false;
    bool has_snapshots = false;                 // the source answers for them
    const std::optional<Snapshot>* snapshot = nullptr;
    SteadyTime snapshot_asked_at = SteadyTime::min();
    // Since when this cache follows the server as it is: whoever read before may have read what was lost with the one before it.
    SteadyTime history_since = SteadyTime::min();
    // Rules of now, and which of them act on this cache.
    std::shared_ptr<const RuleSet> rules;
    const std::vector<bool>* acts = nullptr;
  };
  // At most one walk is under way. Null: nothing to do now. Reasons whose repair has nothing to walk are closed at once.
  const Walk* next(SteadyTime now, const Conditions& conditions);
  // The walk under way, or null.
  const Walk* walk() const { return walk_.get(); }
  // It takes what late readers have filled, which caches that are filled from this one may have by now. REQUIRES: a walk is under way.
  bool is_walk_of_late_readers() const;
  // The walk was answered; or was lost and has to be made again.
  void done(SteadyTime now);
  void lost();
  // The cache is another process: walks that were answered may be undone. All begin anew. REQUIRES: none is under way.
  void begin_again(SteadyTime now);

  void snapshot(const Snapshot& snapshot, SteadyTime now);
  // The history whose transactions were waited for is over: they are as visible as they ever will be.
  void forget_other_history(SteadyTime now);
  // A snapshot would help: transactions are waited for, or the floor of a repair that is to begin.
  bool waits_for_visibility() const;

  // When next() may have something by the clock alone; max(): never.
  SteadyTime wake_at() const;

  // Reasons whose repair is over, since the last call; and those that became ready.
  std::vector<std::string> take_closed() { return std::exchange(closed_, {}); }
  std::vector<std::string> take_ready() { return std::exchange(ready_, {}); }

 private:
  enum class State { kWaiting, kFirst, kSettling, kSecond, kLate };
  struct Repair {
    std::set<std::string> reasons;
    std::set<std::string> tables;  // empty: all
    std::set<std::string> parts;   // empty: everywhere
    bool is_gap = false;
    bool after_connect = false;
    State state = State::kWaiting;
    SteadyTime opened_at{};  // the last of its gaps was found
    std::shared_ptr<const RuleSet> rules;
    std::vector<PatternRef> patterns;
    std::vector<Xid> hanging;               // in progress when it began, not yet visible
    std::optional<SteadyTime> visible_at;   // since when none is hanging
    std::chrono::milliseconds settle{1000};
    SteadyTime began_at{};                  // the first walk
    SteadyTime first_done_at{};
    Xid floor{};
    // Late walks still to come: of readers (by the clock), of hanging commits (when visible, plus settle).
    std::optional<SteadyTime> readers_at;
    bool is_late_for_hanging = false;
    // It began without a snapshot, because nobody could be asked: which commits hang, and what fills have to have seen, is still
    // to be known. Never closed like that.
    bool is_blind = false;
    bool waits_for_snapshot = false;  // for that: one is asked for
    bool leaves_floor = false;        // its second walk, because its first could not
    std::vector<PatternRef> checked;        // patterns of `fill: checked`
    enum class Late { kNone, kReaders, kHanging } late_under_way = Late::kNone;
  };
  void begin(Repair& repair, SteadyTime now, const Conditions& conditions);
  static void reset(Repair& repair, SteadyTime opened_at);
  // Of one that is blind: whether its next walk may be made.
  bool look_around(Repair& repair, SteadyTime now, const Conditions& conditions);
  std::optional<SteadyTime> due(const Repair& repair) const;
  void make_walk(Repair& repair, std::vector<PatternRef> patterns, Act act, SteadyTime now);
  bool close_if_over(std::deque<Repair>::iterator repair);

  Options options_;
  std::deque<Repair> repairs_;
  std::unique_ptr<Walk> walk_;
  bool wants_snapshot_ = false;  // a repair cannot begin without
  std::size_t walking_ = 0;  // index of the repair that walk_ is of
  std::vector<std::string> closed_;
  std::vector<std::string> ready_;
};

}  // namespace evictd
