// Rules bound to the columns of one relation, and what is certain of a column's value in a change.
// For the inside of mapping/ only.
#pragma once

#include <cstdint>
#include <vector>

#include "mapping/change.h"
#include "mapping/rules_compiled.h"

namespace evictd {

inline constexpr int kNoColumn = -1;  // the relation does not have it

enum class Side : std::uint8_t { kNew, kOld };

// What a rule says, with the columns of one relation in place of their names.
struct BoundColumn {
  int index = kNoColumn;
  ValueType type = ValueType::kText;
  ValueType element = ValueType::kText;  // of an array
  bool is_immutable = false;  // the rule promises that no update changes it
  bool in_identity = false;   // an update that sends no old row left it as it was
};

struct BoundPlaceholder {
  BoundColumn column;
  const Placeholder* source = nullptr;
  bool is_direct = false;  // the text as sent is the text of the key
  // A text as sent that is longer than this gives a key beyond the limit, whatever it says: not worth filtering.
  std::size_t bytes_max = 0;
};

struct BoundTemplate {
  const CompiledTemplate* source = nullptr;
  bool is_elsewhere = false;  // rendered from rows of another table
  std::vector<BoundPlaceholder> placeholders;
  std::size_t each = 0;  // the placeholder that stands for the elements of an array; placeholders.size(): none
  // Whether the old row renders the same as the new one when an update sends no old row.
  bool is_stable_without_old_row = true;
};

struct BoundCondition {
  BoundColumn column;
  const Condition* source = nullptr;
};

// The columns of the row that a lookup begins with.
struct BoundLookup {
  std::vector<BoundColumn> columns;
  bool is_stable_without_old_row = true;
};

struct BoundRule {
  std::uint32_t index = 0;
  const RuleInfo* info = nullptr;
  const CompiledRule* source = nullptr;
  std::vector<BoundTemplate> templates;
  std::vector<BoundLookup> lookups;
  std::vector<BoundCondition> where;
  std::vector<BoundColumn> when_changed;  // of ignore_changed: all columns but those
  BoundColumn version;  // of a rule with a version column
};

// Points into `compiled`, which must outlive the result.
BoundRule bind_rule(std::uint32_t index, const RuleSet::Compiled& compiled,
                    const Relation& relation);
// Only the templates that a lookup of the rule renders, bound to what it found.
BoundRule bind_found(std::uint32_t index, std::uint32_t lookup, const RuleSet::Compiled& compiled, const Relation& found);

// The value is there: a text, or NULL.
inline bool is_known(const Value& value) {
  return value.state == ValueState::kText || value.state == ValueState::kNull;
}

// The value of a column in the new or the old row; when it is not known, its state says why.
// REQUIRES: the relation has the column.
Value resolve(const Change& change, const BoundColumn& column, Side side);

// False only when it is proven that the update left the column as it was (G5).
bool may_have_changed(const Change& change, const BoundColumn& column);

}  // namespace evictd
