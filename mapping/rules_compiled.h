// The inside of a RuleSet, for the files of mapping/ only.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "mapping/rules.h"
#include "mapping/template.h"

namespace evictd {

// One column of `where`: the row matches when the column's canonical text is one of these.
struct Condition {
  std::string column;
  std::vector<std::string> texts;  // sorted
  bool matches_null = false;
};

struct CompiledTemplate {
  Template compiled;
  InvalidationKind kind = InvalidationKind::kKey;
  Place place;
};

struct CompiledRule {
  std::vector<CompiledTemplate> templates;  // keys, tags, bumps, surrogate keys: the index is that of its pattern
  std::vector<Condition> where;
  std::vector<std::string> when_changed;
  std::vector<std::string> immutable;
  // Patterns from here on are those of `purge:`.
  std::uint32_t first_purge_pattern = 0;
  Place where_place;
  Place when_changed_place;

  bool is_immutable(std::string_view column) const;
};

struct RuleSet::Compiled {
  std::vector<RuleInfo> infos;
  std::vector<CompiledRule> rules;  // one per info
};

}  // namespace evictd
