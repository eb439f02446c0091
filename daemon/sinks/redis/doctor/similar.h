// What a live index of vectors says of an order, for `explain` and `check`. Asks one Redis, blocks, changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/sinks/redis/blocking_client.h"
#include "mapping/semantic.h"

namespace evictd {

// Of the vectors that the entry is compared with. Nothing: it cannot be asked, or is not there yet.
std::optional<std::uint64_t> index_dimensions(BlockingClient& client, const SemanticInfo& info);

// The elements nearest to the order's vector among those that pass its `where`, a line each: cosine, name, and whether it
// would go. Without a vector: those that pass. One line with the reason where the index cannot be asked.
std::string nearest_text(BlockingClient& client, const SemanticInfo& info, const SemanticOrder& order);

}  // namespace evictd
