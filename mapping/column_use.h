// What rules do with the values of columns, and whether a column's type can give them such values. Pure; for `check`, and for
// `run` before it streams: a condition that can never hold, or a template that never renders, does nothing and says nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapping/condition.h"
#include "mapping/printed_text.h"
#include "mapping/rules.h"

namespace evictd {

struct ColumnUse {
  std::uint32_t rule = 0;
  std::string column;
  Place place;
  std::string where;                // "key 'product:{id}'", "where": for messages
  ValueList values;                 // that it has to be one of
  ValueList except;                 // that it must not be one of
  std::vector<std::pair<Comparison, Bound>> comparisons;
  std::optional<Bound> crosses;
  bool has_path = false;            // a path into its JSON
  bool has_each = false;            // one key for each element
  bool has_element_path = false;    // a path into the JSON of each
  bool has_date = false;            // date(...) of its own text, or of that of an element
  bool is_version = false;          // what tells a new value from an old one
};
std::vector<ColumnUse> column_uses(const RuleSet& rules);

struct TypeDoubt {
  bool is_certain = false;  // the type proves it; otherwise it only suggests it
  std::string cause;        // "where: 'price' is never 'abc': its type is integer"
  std::string hint;
};
std::vector<TypeDoubt> type_doubts(const ColumnUse& use, const ColumnType& type);

}  // namespace evictd
