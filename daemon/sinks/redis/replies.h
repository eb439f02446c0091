// What each reply of Redis must look like before anything of it is believed. Every function here judges a reply whole
// (kind, number of elements, ranges, sums) and gives nothing when one part does not fit: a reply of the wrong shape
// belongs to another command, or comes from something that is no Redis, and its command counts as not done (G1). Pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/sinks/redis/resp.h"

namespace evictd {

// Of lua/invalidate.lua, of a page of a walk, of lazy tags and of counters.
struct InvalidateReply {
  std::uint64_t deleted = 0;
  std::uint64_t kept = 0;
  std::uint64_t replayed = 0;
  std::uint64_t refused = 0;  // tombstones, by a full Redis
  std::vector<std::uint32_t> hits = {};  // the deleted ones, from 0, growing; where they were asked for
  std::size_t keys = 0;  // that it is about, from the first: at least one. Fewer than were asked for: the call ended early
};
// {deleted, kept, replayed, refused} about `keys` keys; `with_hits`: and behind them the number of each that was deleted. Or {that, about how
// many keys}.
std::optional<InvalidateReply> read_invalidate(const Reply& reply, std::size_t keys, bool with_hits = false);

// Of lua/scattered.lua, about `keys` keys or fewer, as above: the counts and hits as above, and which keys the node did not take, from 0, growing.
struct ScatteredReply {
  InvalidateReply counts;
  std::vector<std::uint32_t> elsewhere = {};
};
std::optional<ScatteredReply> read_scattered(const Reply& reply, std::size_t keys, bool with_hits);

// {1 when every walk was finished before, tombstones refused, index of each marker whose walk was ...} of walk_begin and
// walk_finish, about `markers` markers.
struct WalkReply {
  bool is_finished = false;
  std::uint64_t refused = 0;
  std::vector<std::uint32_t> finished;  // growing
};
std::optional<WalkReply> read_walk(const Reply& reply, std::size_t markers);

// Of SCAN and SSCAN; and of ZSCAN, whose names have a score each.
struct ScanReply {
  std::string cursor;              // "0" at the end
  std::vector<std::string> names;  // those of a length that a key of evictd's may have
  std::size_t too_long = 0;        // others, thrown away
  std::uint64_t bytes = 0;         // of all names
};
std::optional<ScanReply> read_scan(Reply&& reply, bool with_scores = false);

// TIME.
std::optional<std::chrono::milliseconds> read_time(const Reply& reply);

// {name, count, ...} of evictd_stats.
using NamedCounts = std::vector<std::pair<std::string, std::uint64_t>>;
std::optional<NamedCounts> read_counts(const Reply& reply);

// A whole number from 0 to `most`.
std::optional<std::uint64_t> read_count(const Reply& reply, std::uint64_t most);

// A text or nothing, as GET and each element of MGET have it.
bool is_text_or_nil(const Reply& reply);

}  // namespace evictd
