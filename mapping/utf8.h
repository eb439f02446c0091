// The little that evictd needs to know of UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace evictd {

// Bytes of the character that `text` begins with; 0 when it is not well formed (overlong,
// surrogate, cut).
std::size_t utf8_length(std::string_view text);

// For messages: control characters and bytes that are not UTF-8 become '?', long texts are cut with
// "...".
std::string printable(std::string_view text);

}  // namespace evictd
