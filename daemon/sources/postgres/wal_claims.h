// What positions beyond the end of the server's WAL are worth that nothing bears out but one message: a keepalive's, and the slot's own.
//
// A keepalive's position ("the current end of WAL on the server": PostgreSQL manual, "Streaming Replication Protocol", primary keepalive
// message) is one number that nothing else in the stream bears out. Acknowledged, a wrong one would be kept by the server, which then
// never sends what lies before it. So it is a claim until the WAL is known to reach there: by an ordinary connection, which is asked no
// more often than every kAskInterval, or by a commit in the stream. A server that is asked once more may have moved on: only
// kContradictionsMax answers make a lie of it.
//
// Of one connection. Pure: what follows from an answer is the caller's to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/sources/postgres/lsn.h"

namespace evictd {

class WalClaims {
 public:
  static constexpr int kContradictionsMax = 3;
  // Between two questions for the end of the WAL, while the stream moves on with other databases' work only.
  static constexpr std::chrono::milliseconds kAskInterval{100};

  // A new connection, maybe to another server: nothing is known.
  void connecting();
  void streaming() { contradictions_ = 0; }

  // The server's WAL reaches at least to there. Never goes back within a connection.
  Lsn proven() const { return proven_; }

  // Borne out by more than one number: a commit of the stream ends there.
  void reaches(Lsn end);
  // A transaction begins in the stream: what comes now says more than the keepalive before it.
  void superseded();

  enum class Slot { kBelieved, kAskAgain, kRefused };
  // An ordinary connection said that the WAL ends at `wal_end`; may streaming begin at what the slot has confirmed? (That came over
  // another connection.)
  Slot slot_stands_at(Lsn confirmed, Lsn wal_end);

  struct Keepalive {
    std::optional<Lsn> believed;  // everything up to there was sent
    bool needs_another = false;   // the next status should ask for one
  };
  // A keepalive between transactions. `nobody_answers`: a server that shuts down answers no ordinary connection, and waits for us: a
  // second keepalive must bear out the first.
  Keepalive keepalive(Lsn end, bool nobody_answers);

  // When a snapshot should be asked for, to prove the claim that waits. None: no claim waits, or it is asked about.
  std::optional<SteadyTime> ask_at() const;
  // It was asked for, with this number (see Snapshots::request()). REQUIRES: ask_at().
  void asked(std::uint64_t number, SteadyTime now);

  struct Proof {
    std::optional<Lsn> believed;     // the claim that waited, or the one that was asked about where a later one has come
    std::optional<std::string> lie;  // why the connection cannot be believed
  };
  // The snapshot of that number said that the WAL ends at `wal_end`.
  Proof snapshot(std::uint64_t number, Lsn wal_end);

 private:
  Lsn believe(Lsn end);

  Lsn proven_;
  std::optional<Lsn> claimed_;      // waits for its proof
  std::uint64_t claim_number_ = 0;  // of the snapshot that will tell; 0: not asked yet
  Lsn asked_about_;                 // while it is asked
  SteadyTime claim_at_{};           // not asked about before
  int contradictions_ = 0;          // answers that said less, since one was believed
};

}  // namespace evictd
