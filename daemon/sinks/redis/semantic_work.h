// Orders to indexes of vectors: elements are searched for, and removed page by page.
//
//   inspect   VINFO, FT.INFO: is the index there, how many dimensions, what do its scores mean
//   search    VSIM, FT.SEARCH: one page of elements; the nearest first, or those that pass the filter
//   remove    their keys, then the elements themselves: an order that is cut off finds them again
//   ...       until a search finds nothing more that has to go
//
// A vector set that goes whole is renamed first, so that it is empty for its readers at once, whatever its size, and what
// they add is not meant; then it is emptied piece by piece, since giving all of it back at once would hold Redis up.
//
// One call under way for each work; large ones are paced (WalkPacer). What cannot be asked now, for the engine or the index
// is not there, is asked again: nothing is acknowledged until then, and the sink's status says why.
#pragma once

#include <memory>

#include "daemon/sinks/redis/redis_work.h"

namespace evictd {

bool has_semantic_patterns(const Order& order);

// REQUIRES: order.target is kSemantic, or has_semantic_patterns(order). Other patterns of the order are walked as ever.
std::unique_ptr<RedisWork> make_semantic_work(Ticket ticket, const Order& order, WorkShared& shared);

}  // namespace evictd
