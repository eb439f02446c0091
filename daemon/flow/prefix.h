// How far the work of a lane may pass for done: of its batches, in their order of arrival, the prefix that is applied and the one that
// is finished (G1). Tells the ledger of both, and of nothing beyond a hole.
//
// Two prefixes of two connections are open at a time: that of the source's connection now, and that of what earlier ones left in hand,
// which is told to nobody and only known, so that its redelivery owes nothing. A hole in either ends it: what follows may be done, and
// is not all there is. It opens again with the next connection, which sends everything beyond the record.
//
// Pure; the ledger is its only effect. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/flow/batch.h"
#include "daemon/flow/ledger.h"
#include "daemon/interface/source.h"

namespace evictd {

class Prefix {
 public:
  // Both must outlive it.
  Prefix(Ledger& ledger, const Source& source) : ledger_(ledger), source_(source) {}

  // ---- What a batch is to this cache. Every transaction in it is known to be finished here (or applied), as far as what we know
  // reaches: it is sent again, for another cache's sake or because a process ended before it was acknowledged.
  bool is_finished(const Batch& batch) const;
  bool is_applied(const Batch& batch) const;

  // ---- Batches come, in their order of arrival.
  // `owes`: it is not known to be applied, and what began before it goes on in it.
  void taken(const Batch& batch, bool owes);
  // Something of the last one taken acts here, and its last transaction goes on in the next one.
  void carried() { is_carried_ = true; }

  // ---- What is done. `streams`: the source does, so that the record speaks of this connection.
  // First acts, of all batches up to this number. -> commits of transactions that ended in them with nothing of their own.
  std::vector<SystemTime> applied_through(std::uint64_t number, bool streams);
  // All acts, of the oldest batch that is held. `is_whole`: none of it was given up.
  struct Over {
    std::uint64_t number = 0;
    const std::vector<Position>* ends = nullptr;
    bool is_whole = true;
    bool is_of_this_connection = true;
  };
  void over(const Over& batch, bool streams);
  // Nothing of this connection up to there is still to come, and nothing of it is in hand.
  void reached(const Position& position, bool streams);
  // The ledger has begun to speak of this connection, or has been told to forget where it was: what was finished in it counts from here on.
  void tell_again();

  // ---- Holes.
  // The source's connection is another one. `leaves_nothing`: of the former one nothing is in hand.
  void connection_begins(bool leaves_nothing);
  // What is in hand of earlier connections is of another history, and says nothing of this one.
  void earlier_lost() { is_earlier_broken_ = true; }
  // What is done and not on record may be undone: the cache came back as another process.
  void undone();
  // All up to this number are applied, and no more will be.
  void ends_at(std::uint64_t number);
  // Nothing more is applied: the cache is parked.
  void stops() { unnoted_.clear(); }
  // What goes by meanwhile ends here.
  void missed(const Position& end);
  // It returns. A purge, which is on record as a gap, answers for all batches up to this number, given up or missed.
  void answered_through(std::uint64_t number);

 private:
  template <typename Knows>
  bool reaches(const Batch& batch, const Knows& knows) const;
  void finished(const Position& end, bool streams);

  Ledger& ledger_;
  const Source& source_;

  // Ends of batches of this connection that are not known to the ledger as applied, in order of arrival.
  struct Unnoted {
    std::uint64_t number = 0;
    std::vector<Position> ends;
    std::optional<SystemTime> carried_commit = {};
  };
  std::deque<Unnoted> unnoted_;
  bool is_carried_ = false;
  // How far they may be: what was given up, or undone with its cache, leaves a hole.
  std::uint64_t noted_through_max_ = UINT64_MAX;
  bool is_broken_ = false;          // in this connection something was given up: nothing after it is finished
  bool is_earlier_broken_ = false;  // likewise of what earlier connections left in hand
  std::uint64_t answered_for_ = 0;
  // By stream: how far this connection's prefix is finished, and what a parked cache has missed. On a stream to which nothing more comes,
  // nobody would tell of it a second time.
  std::map<std::uint32_t, std::uint64_t> finished_;
  std::map<std::uint32_t, std::uint64_t> missed_;
};

}  // namespace evictd
