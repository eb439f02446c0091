// Versions: transaction ids, snapshots and epochs, the values that decide what is fresh. Pure.
//
// Rests on: PostgreSQL manual, "Transaction ID and Snapshot Information Functions" (pg_snapshot text
// form xmin:xmax:xip_list, 64-bit ids) and "Transaction ID wraparound" for the 32-bit ids of the stream.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/error.h"

namespace evictd {

// A 64-bit PostgreSQL transaction id (epoch in the high half). 0 is "none".
enum class Xid : std::uint64_t {};
constexpr std::uint64_t number(Xid xid) { return static_cast<std::uint64_t>(xid); }

// An id that no snapshot speaks of: a source without transaction ids of its own makes such ids up, so that
// replays are recognised. Never proven visible to a reader (G5); its transaction counts as visible when received.
inline constexpr std::uint64_t kOpaqueXidFlag = 1ULL << 62;
constexpr bool is_opaque(Xid xid) { return number(xid) >= kOpaqueXidFlag; }

// The 32 bits of an id that nothing has widened: the source has no connection to the database. Visibility knows
// nothing of it, as of any opaque one; the scripts compare it with a reader's snapshot modulo 2^32.
inline constexpr std::uint64_t kNarrowXidFlag = 1ULL << 63;
constexpr Xid narrow_xid(std::uint32_t low) { return Xid{kNarrowXidFlag | low}; }
constexpr bool is_narrow(Xid xid) { return number(xid) >= kNarrowXidFlag; }

// A snapshot as pg_current_snapshot() prints it: which transactions are visible to its owner.
class Snapshot {
 public:
  // "xmin:xmax:xip,xip,...". kData on anything else.
  static Result<Snapshot> parse(std::string_view text);

  // xid < xmin, or xid < xmax and not in xip.
  bool sees(Xid xid) const;
  Xid xmin() const { return xmin_; }
  Xid xmax() const { return xmax_; }
  const std::vector<Xid>& in_progress() const { return in_progress_; }  // sorted
  std::string to_string() const;

 private:
  Xid xmin_{1};
  Xid xmax_{1};
  std::vector<Xid> in_progress_;  // sorted
};

// The 64-bit id nearest to `near` whose low 32 bits are `low`: exact while the two are within 2^31
// transactions of each other.
Xid widen_xid(std::uint32_t low, Xid near);

// One history of a source (PostgreSQL: "<system identifier>/<timeline>"). Versions of different epochs
// never compare. The text has no spaces.
using Epoch = std::string;

}  // namespace evictd
