// The hash slots of a Redis Cluster: which one a key falls into, and names that fall into a given one. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace evictd {

using Slot = std::uint16_t;
inline constexpr std::size_t kSlots = 16384;

// Of the part of the key that counts: its hash tag, '{...}', where it has one that is not empty.
Slot slot_of(std::string_view key);

// A hash tag of four letters from '@' to 'O' that falls into `slot`. The readers' functions find the same (lua/reader.lua).
std::string slot_tag(Slot slot);

// The marker where pattern purges leave their tombstone, for the keys of this slot.
std::string purged_marker(Slot slot);

}  // namespace evictd
