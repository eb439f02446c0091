#include "daemon/sources/kafka/start_policy.h"

#include <fmt/format.h>

namespace evictd {

Start start_of(const StartFacts& facts) {
  const auto& [at, group_committed, low, high] = facts.offsets;
  std::optional<std::int64_t> committed =
      group_committed || facts.was_read_before ? group_committed : facts.began_at;
  if (!committed && !facts.was_read_before && facts.is_first_start) committed = facts.first_end;
  if (committed && *committed >= low && *committed <= high) return {.offset = *committed, .gap = {}, .detail = {}};
  if (committed && *committed < low) {
    return {
        .offset = low,
        .gap = "offset_out_of_range",
        .detail = fmt::format(
            "{}: the committed offset is {}, but the first record left is {}: {} records are gone",
            at.to_string(), *committed, low, low - *committed)};
  }
  if (committed) {
    return {.offset = low,
            .gap = "topic_recreated",
            .detail = fmt::format(
                "{}: the committed offset is {}, but the partition ends at {}: it is not the one "
                "that was read before",
                at.to_string(), *committed, high)};
  }
  if (facts.was_read_before) {
    return {
        .offset = low,
        .gap = "offsets_lost",
        .detail = fmt::format("{}: the group has no committed offset any more", at.to_string())};
  }
  if (facts.is_first_start) return {.offset = high, .gap = {}, .detail = {}};
  if (low == 0) return {.offset = 0, .gap = {}, .detail = {}};
  return {.offset = low,
          .gap = "offsets_lost",
          .detail = fmt::format(
              "{}: the group has no committed offset, and the first {} records are gone",
              at.to_string(), low)};
}

}  // namespace evictd
