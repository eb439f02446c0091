// The transaction ids of the stream: which 64-bit id a 32-bit one is, whether the server can have given it, and when to ask the server
// whether there is such a transaction. Waiting for one that does not exist would hold every acknowledgement up.
//
// Rests on: PostgreSQL manual, "Logical Replication Message Formats" (Begin has the 32-bit id only) and "Transactions and Identifiers".
// Pure: the server is asked by the caller.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "daemon/base/clock.h"
#include "daemon/interface/version.h"

namespace evictd {

class StreamXids {
 public:
  // How long a commit may be unseen by snapshots before the server is asked whether there is such a transaction.
  static constexpr std::chrono::seconds kDoubt{3};
  // How far a transaction's id may be from the newest that a snapshot has told of: ahead, what a server can begin within
  // a minute; behind, what a backlog can hold before the server itself stops.
  static constexpr std::uint64_t kAheadMax = std::uint64_t{1} << 24;
  static constexpr std::uint64_t kBehindMax = std::uint64_t{3} << 29;

  // A new connection: everything unacknowledged comes again.
  void connecting() { newest_ = current_ = Xid{0}; }
  // The first snapshot of a connection, maybe of another server. Without one, the 32-bit ids of the stream cannot be told apart from
  // those of 2^32 transactions ago.
  void starts_from(const Snapshot& snapshot) { near_ = snapshot.xmax(); }
  void saw(const Snapshot& snapshot);

  // A transaction comes in. -> its 64-bit id, whether it can be or not.
  Xid begins(std::uint32_t xid);
  bool is_possible(Xid xid) const;
  // The first id that the newest snapshot does not know, and every newer one neither.
  Xid server_is_at() const { return near_; }
  // The low 32 bits of the transaction in hand, or of the last one.
  std::uint32_t in_hand() const { return static_cast<std::uint32_t>(number(current_)); }
  // It was handed out.
  void commits(SteadyTime now);

  // When the server should be asked about the newest transaction that was handed out and that no snapshot has seen the end of. None:
  // there is no such.
  std::optional<SteadyTime> doubt_at() const;
  // It is asked about, and after kDoubt once more. REQUIRES: doubt_at().
  Xid doubts(SteadyTime now);
  // The server has begun it: it waits for a standby.
  void is_real(Xid xid);

 private:
  Xid near_{1};
  Xid newest_{0};   // 0: none
  Xid current_{0};  // in hand
  SteadyTime newest_at_{};
};

}  // namespace evictd
