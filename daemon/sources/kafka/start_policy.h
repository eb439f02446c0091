// Where to begin reading a partition, and what that says about what may be missing. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/sources/kafka/kafka_client.h"

namespace evictd {

struct StartFacts {
  PartitionOffsets offsets;
  // Nobody of the group has ever worked here, and the partition existed before we came: what it
  // holds is older than our care for the cache.
  bool is_first_start = false;
  // Where it ended then. Another daemon that began with us may have held it meanwhile, with its first commit lost:
  // what came since is ours to read, whenever we get the partition.
  std::optional<std::int64_t> first_end;
  // The group has taken it up before: by what the caches have on record, or by what it had committed.
  bool was_read_before = false;
  // Where this process took it up, should the commit of that not have arrived.
  std::optional<std::int64_t> began_at;
};

struct Start {
  std::int64_t offset = 0;
  std::string gap;            // label of evictd_gaps_total; empty: nothing is missing
  std::string detail;
};

// clang-format off
//   committed              records left   begin       gap
//   within [low, high]     all since      committed   -
//   below low              not all        low         offset_out_of_range (deleted by retention)
//   beyond high            not ours       low         topic_recreated (or cut off by an unclean election)
//   none, first start      -              first_end   - (on_first_start decides about the cache)
//   none, read before      unknown        low         offsets_lost
//   none, low is 0         all            0           - (new partition, new topic)
//   none, low is beyond 0  not all        low         offsets_lost
// clang-format on
Start start_of(const StartFacts& facts);

}  // namespace evictd
