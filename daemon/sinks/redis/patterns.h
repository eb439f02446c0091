// Walks of patterns: all of an order in one reading of the key space, whatever they match (keys, the sets of tags, the
// markers of lazy tags, counters).
//
//   begin   a tombstone on each pattern's own marker and on that of all purges, before the first key is touched
//   scan    one page of names: with one pattern, those that Redis finds to match; with several, all that begin as they
//           all begin, matched here (glob.h)
//   page    keys of one pattern through its script, as soon as there are enough of them, or too many altogether;
//           a set's members by a walk of its own (walk.h)
//   ...     until the cursor is back at 0 and nothing is held
//   finish  note in the markers that it was finished: a replay then does nothing
//
// Patterns of rules that ask for deletes only have no markers: no begin, no finish, pages by UNLINK (plain_work.h).
//
// Of patterns that a replay finds finished, nothing is looked for. A key that several patterns match is treated, and
// counted, with the first of them; once more only for one whose rule treats it otherwise (another kind, another `fill`,
// another channel). One call is under way at a time, and SCANs are paced, each one (WalkPacer). A work that is cut off
// begins anew: what it deleted has its tombstones, or is gone.
#pragma once

#include <memory>

#include "daemon/sinks/redis/redis_work.h"

namespace evictd {

// What `order` points to, and `shared`, must outlive the work.
std::unique_ptr<RedisWork> make_patterns_work(Ticket ticket, const Order& order, WorkShared& shared);

// A purge leaves its tombstone here as well, and every fill looks here: keys that were absent while
// a pattern was purged have no tombstone of their own.
inline constexpr std::string_view kPurgedMarker = "evictd:purged";

}  // namespace evictd
