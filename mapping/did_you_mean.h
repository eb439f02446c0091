// Hints for a name that was mistyped.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace evictd {

// The candidate that differs in upper and lower case (of ASCII) alone, or empty.
std::string_view same_but_for_case(std::string_view name, std::span<const std::string_view> candidates);

// The candidate nearest to `name`, or empty when none is near enough to be worth proposing.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

// "did you mean 'keys'?", or "known <plural>: 'a', 'b', 'c'" when nothing is near.
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates,
                         std::string_view plural);

}  // namespace evictd
