// What a rule asks of the values of one column.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mapping/bound.h"
#include "mapping/place.h"

namespace evictd {

enum class Comparison : std::uint8_t { kGreater, kGreaterOrEqual, kLess, kLessOrEqual };
std::string_view comparison_name(Comparison comparison);  // "gt", "gte", "lt", "lte"

// Values of a column, by their canonical texts.
struct ValueList {
  std::vector<std::string> texts;  // sorted
  bool has_null = false;

  bool empty() const { return texts.empty() && !has_null; }
};

// One column of `where`. The row matches when its value passes everything that is there.
struct Condition {
  std::string column;
  Place place;
  ValueList among;  // is one of these
  ValueList except; // is none of these; `not`
  std::vector<std::pair<Comparison, Bound>> comparisons;  // NULL passes none
  // Asked of the change, not of the row: passes when the old value lies on another side of the bound than the new one
  // (below, at, above; NULL is a side of its own), and of an insert or a delete always.
  std::optional<Bound> crosses;
};

}  // namespace evictd
