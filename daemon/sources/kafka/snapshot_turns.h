// Whom a snapshot of the database answers: whoever outside has asked for one, or nobody, where the source has asked itself, at the
// start and at times, since the ids of transactions are widened by the newest one. Pure: the caller asks the database.
//
// Owned by the source, which is on the loop thread; outlives clients.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "daemon/base/clock.h"
#include "daemon/interface/version.h"

namespace evictd {

class SnapshotTurns {
 public:
  // ids are widened to the nearest of a snapshot; an old one would do for days.
  static constexpr std::chrono::seconds kRefresh{60};

  // The source has asked for the first one.
  void starts() { is_own_ = true; }
  // One is wanted outside, taken from now on. -> whether to ask the database now; else it is asked when it has answered.
  bool wanted();
  // -> whether to ask for a newer one now, for ourselves: not while somebody outside waits, whose answer does as well.
  bool refreshes(SteadyTime now);

  struct Answer {
    bool is_wanted = false;      // outside: to be told
    bool is_asked_again = false;  // it was wanted while this one was on its way: to ask the database now
  };
  Answer came(const Snapshot& snapshot, SteadyTime now);

  // Without one nothing can be widened.
  bool has_one() const { return latest_.has_value(); }
  // The 64-bit id of the transaction with these low bits; without a snapshot a narrow one.
  Xid id_of(std::uint32_t low) const;

 private:
  std::optional<Snapshot> latest_;
  SteadyTime latest_at_{};
  bool is_own_ = false;          // what is under way: not asked for outside
  bool is_wanted_next_ = false;  // outside, once our own has been answered
  bool is_wanted_ = false;       // outside; under way
};

}  // namespace evictd
