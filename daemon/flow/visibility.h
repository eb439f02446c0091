// Visibility: since when are transactions visible to other sessions? Answers from the snapshots polled while
// something waits, and decides when the next poll is due. Pure.
//
// A commit reaches us before other sessions can see it (DESIGN.md, "The protocol"). What a snapshot sees once, every
// later snapshot of the same server process sees too; so an xid is visible at the latest since the time the first
// snapshot that sees it was received.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/source.h"
#include "daemon/interface/version.h"
#include "daemon/flow/batch.h"

namespace evictd {

class Visibility {
 public:
  // `interval`: between two polls while something waits. `memory`: how long a snapshot must be remembered to
  // tell whether a transaction has been visible for so long (the longest settle of the rules).
  Visibility(std::chrono::milliseconds interval, std::chrono::milliseconds memory);

  // A new connection: earlier snapshots may speak of a server that lost transactions in a crash.
  // Without snapshots, a transaction counts as visible since it was known to be in the stream, or else when it is
  // first asked for.
  void reset(bool has_snapshots);
  void remember_for(std::chrono::milliseconds memory) { memory_ = memory; }

  void add(const Snapshot& snapshot, SteadyTime received);

  // What is not yet known to be visible of a batch: looked at again with each snapshot.
  struct Looked {
    std::size_t seen = 0;  // its first so many transactions are visible
    // Those that grew() did not find visible when it was asked last, sorted; absent: not asked yet.
    std::optional<std::vector<Xid>> hanging = {};
  };
  // Since when at the latest everything in the batch is visible; absent: not known to be.
  std::optional<SteadyTime> look(const Batch& batch, Looked& looked, SteadyTime now) const;

  // Whether more of its transactions are visible than when this was asked last, and others are not; since latest_at() at
  // the latest. The first time it costs a look at each of them, then at those that hang.
  bool grew(const Batch& batch, Looked& looked) const;

  // Whether a transaction that is now received waits for something after its commit (a standby that must confirm it).
  // Every commit is invisible for a moment; one that is a second old has hung for longer than that.
  bool is_hanging(const TransactionBegin& begin, Now now) const;

  const std::optional<Snapshot>& latest() const { return latest_; }
  SteadyTime latest_at() const { return latest_at_; }
  // When the latest one was asked for: what was visible then is visible in it.
  SteadyTime latest_asked_at() const { return latest_asked_at_; }

  // Poll pacing. `waiting`: something waits for visibility. A poll that helped nobody doubles the
  // interval up to kIntervalFactorMax, so that a commit hanging for minutes does not cost a poll each few ms.
  bool poll_is_due(bool waiting, SteadyTime now) const;
  SteadyTime next_poll() const {
    return last_poll_ == SteadyTime::min() ? last_poll_ : last_poll_ + (is_hurried_ ? std::min(interval_, kHurried) : interval_) * factor_;
  }
  // What is first deleted once it is visible waits: polls follow each other closely.
  void hurry(bool is_hurried) { is_hurried_ = is_hurried; }
  bool poll_under_way() const { return under_way_; }
  void poll_sent(SteadyTime now);
  void poll_helped(bool helped);
  bool has_snapshots() const { return has_snapshots_; }

 private:
  static constexpr int kIntervalFactorMax = 16;
  static constexpr std::chrono::milliseconds kHurried{1};
  static constexpr std::size_t kRemembered = 64;
  static constexpr std::chrono::seconds kHangs{1};

  struct Received {
    SteadyTime at;
    Snapshot snapshot;
  };
  std::chrono::milliseconds interval_;
  std::chrono::milliseconds memory_;
  bool has_snapshots_ = false;
  bool under_way_ = false;
  bool is_hurried_ = false;
  int factor_ = 1;
  SteadyTime last_poll_ = SteadyTime::min();
  std::deque<Received> received_;  // oldest first; thinned
  std::optional<Snapshot> latest_;
  SteadyTime latest_at_{};
  SteadyTime latest_asked_at_ = SteadyTime::min();
};

}  // namespace evictd
