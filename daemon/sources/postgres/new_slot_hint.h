// For who gives up a slot that is of no use: to a new one, what changed before it never happened.
#pragma once

#include <string_view>

namespace evictd {

inline constexpr std::string_view kNewSlotHint =
    "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before";

}  // namespace evictd
