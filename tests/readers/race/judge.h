// Judges a race from what Redis executed, in the order in which it did (MONITOR), and from what writers committed.
//
// The values under test are versions: each change of a row adds 1, so a value older than a change is a smaller
// number. evictd's commands name keys and transactions; from the moment Redis has executed one, the key must not
// hold a version below the transaction's. That is asked of every single fill, not of samples, and of every value
// that an invalidation leaves where it is. Nothing is read from markers: they are what is on trial.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

namespace evictd::race {

// One row of one committed transaction.
struct Commit {
  std::uint64_t xid;
  std::uint32_t row;
  std::uint64_t version;
  std::int64_t visible_us;  // when the writer's COMMIT returned: visible by then, or a little earlier
};

// One thing that Redis did.
struct Event {
  enum class Kind : std::uint8_t {
    kOrdered,  // evictd asks to invalidate `row` for transaction `number`
    kExecuted,  // that command of evictd's is done, with all it ordered
    kDeleted,  // `row`
    kStored,   // version `number` at `row`
  };
  Kind kind;
  std::uint32_t row = 0;
  std::uint64_t number = 0;
  std::int64_t time_us = 0;
};

struct Verdict {
  std::uint64_t stored = 0;
  std::uint64_t stale_fills = 0;  // stored below what was ordered before
  std::uint64_t stale_kept = 0;   // left by an invalidation, although below what it ordered
  std::uint64_t ordered = 0;
  std::uint64_t never_ordered = 0;        // commits that evictd never invalidated (G1)
  std::int64_t longest_stale_us = 0;      // a superseded value, from its successor's visibility to its end
  std::uint64_t stale_beyond_bound = 0;   // how many were there for longer than `bound_us`
  std::map<std::uint32_t, std::uint64_t> left;  // row -> version that is in the cache in the end
};

Verdict judge(const std::vector<Commit>& commits, const std::vector<Event>& events,
              std::int64_t end_us, std::int64_t bound_us);

}  // namespace evictd::race
