// Rules that ask for deletes only (`fill: plain`): ordinary commands, no script and no marker.
//
//   keys      UNLINK, many to a command. The reply is one number, how many there were, so an order is of one rule
//   tags      SSCAN, UNLINK; members leave the set with the last delete, in one MULTI with it: taken off before or after,
//             one that a reader stores again in between would be in no set
//   patterns  SCAN, UNLINK; of tags: each set that matches, as above
//
// A walk that is cut off begins anew.
#pragma once

#include <memory>

#include "daemon/sinks/redis/redis_work.h"

namespace evictd {

// What `command` is about is deleted by ordinary commands alone.
bool is_plain(const Command& command);

// REQUIRES: is_plain(command).
std::unique_ptr<RedisWork> make_plain_work(Ticket ticket, const Command& command, WorkShared& shared);

}  // namespace evictd
