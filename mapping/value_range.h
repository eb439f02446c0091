// Whether a type has a value that passes a rule's comparisons at all. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mapping/condition.h"
#include "mapping/printed_text.h"

namespace evictd {

// Whether a value of this text passes. One that does not compare with the bound does: it proves nothing.
bool passes(Comparison comparison, const Bound& bound, std::string_view text);

enum class Reach : std::uint8_t {
  kSome,      // a value passes, or nobody knows
  kOnlyNaN,   // of all values of a numeric(p,s), NaN alone
  kNothing,
};
// How many values pass `comparisons` and are not among `except`. REQUIRES: the bounds compare with values of the type.
Reach reach(std::span<const std::pair<Comparison, Bound>> comparisons, const ValueList& except, const ColumnType& type);

// Whether values lie on more than one side of the bound, so that an update can cross it.
bool is_between_values(const Bound& bound, const ColumnType& type);

}  // namespace evictd
