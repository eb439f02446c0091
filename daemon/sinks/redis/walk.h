// Works that walk: tags (the members of a set) and patterns (the keys that match a glob, or, for
// tag patterns, the members of every set whose name matches).
//
// One text of the command is one walk:
//
//   begin   a tombstone on the walk's own marker, before the first key is touched
//   scan    one page of names (SSCAN or SCAN)
//   page    that page's keys through the invalidate script; a tag's deleted members leave the set
//   with it
//   ...     scan and page again until the cursor is back at 0
//   finish  note in the marker that it was finished: a replay then does nothing
//
// A walk has one call under way; several walks run side by side, and large ones are paced
// (WalkPacer). A walk that is cut off by a lost connection begins anew: its members are tombstoned,
// so that the part done already is a replay.
#pragma once

#include <memory>

#include "daemon/sinks/redis/redis_work.h"

namespace evictd {

std::unique_ptr<RedisWork> make_walk_work(Ticket ticket, const Command& command,
                                          WorkShared& shared);

// All patterns of an order, one after the other: each of them reads the whole key space, and Redis has better to do than
// several such readings at once.
std::unique_ptr<RedisWork> make_patterns_work(Ticket ticket, const Order& order, WorkShared& shared);

// A purge leaves its tombstone here as well, and every fill looks here: keys that were absent while
// a pattern was purged have no tombstone of their own.
inline constexpr std::string_view kPurgedMarker = "evictd:purged";

}  // namespace evictd
