// The inside of a RuleSet, for the files of mapping/ only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mapping/bound.h"
#include "mapping/rules.h"
#include "mapping/template.h"

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

inline constexpr std::uint32_t kOwnRow = UINT32_MAX;

struct CompiledTemplate {
  Template compiled;
  InvalidationKind kind = InvalidationKind::kKey;
  Place place;
  // Rendered from what this lookup of the rule finds; its placeholders name columns of that table. kOwnRow: from the row.
  std::uint32_t lookup = kOwnRow;
};

struct CompiledRule {
  std::vector<CompiledTemplate> templates;  // keys, tags, bumps, surrogate keys, semantic entries: the index is that of its pattern
  std::vector<Condition> where;
  std::vector<std::string> when_changed;
  std::vector<std::string> ignore_changed;  // an update that touches no other column is ignored; empty: not set
  std::vector<std::string> immutable;
  // Patterns from here on are those of `purge:`.
  std::uint32_t first_purge_pattern = 0;
  Place when_changed_place;
  Place ignore_changed_place;

  bool is_immutable(std::string_view column) const;
};

struct RuleSet::Compiled {
  std::vector<RuleInfo> infos;
  std::vector<CompiledRule> rules;  // one per info
};

}  // namespace evictd
