// The inside of a RuleSet, for the files of mapping/ only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mapping/condition.h"
#include "mapping/rules.h"
#include "mapping/template.h"

namespace evictd {

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
