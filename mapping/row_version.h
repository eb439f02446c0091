// Row versions: the number or time in a row that grows with each of its updates (`version: {column: ...}`).
// Pure. The same order as row_version() in daemon/sinks/redis/lua/marker.lua, which readers' versions meet.
//
// A row version is an unsigned 64-bit integer, or a time as canonical.h prints it (2024-02-03T04:05:06.789,
// with or without the Z of a time zone). Both are compared as text of a fixed width, so exactly, also
// beyond 2^53. A number, a time and a time with a zone never compare with one another.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace evictd {

// The text whose order is the order of row versions of one kind; its first two bytes tell the kind. nullopt: it is
// no row version.
std::optional<std::string> row_version_order(std::string_view text);

// True when both are row versions of one kind and `a` is at least `b`.
bool row_version_reaches(std::string_view a, std::string_view b);

// The smallest version beyond `text` of a column that keeps at most eight digits of a second (PostgreSQL
// keeps six): what a deleted row asks of the next fill. nullopt when there is none.
std::optional<std::string> next_row_version(std::string_view text);

}  // namespace evictd
