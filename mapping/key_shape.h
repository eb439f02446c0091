// The way back from a key to the row it is of: which columns a key was rendered from, and, where the template tells,
// their texts. Pure. For the audit, which meets keys in the cache and looks for their rows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/rules.h"
#include "mapping/table_name.h"

namespace evictd {

struct KeyShape {
  std::uint32_t rule = 0;
  std::string source;                // the template as written
  std::string glob;                  // what matches it in Redis
  std::vector<std::string> columns;  // each once, in the order of their first appearance
  // literals[0] slots[0] literals[1] ... ; a slot is an index into `columns`.
  std::vector<std::string> literals;
  std::vector<std::size_t> slots;
  // False where a filter or a path stands between the column and the text, or two values stand side by side.
  bool is_readable = false;
  // Whose columns they are: the rule's table, or a joined one.
  TableName table;
  bool is_of_own_row = true;

  // The canonical texts of the columns. Nothing when the key is not of this shape, or when it could be read in more
  // than one way: a value with ':', '/' or '|' in it, which separate the parts of keys, is never taken for one.
  std::optional<std::vector<std::string>> read(std::string_view key) const;
  // False only when no columns make this key. Of what cannot be read too.
  bool may_be(std::string_view key) const;
  // The key of these canonical texts. REQUIRES: is_readable.
  std::string render(const std::vector<std::string>& texts) const;
};

// Whether an update of a row that the rule's conditions match may leave its keys alone (`when_changed`, `ignore_changed`,
// `crosses`).
bool passes_over_updates(const RuleSet& rules, std::uint32_t rule);

// One for each key template of the rule, in their order.
std::vector<KeyShape> key_shapes(const RuleSet& rules, std::uint32_t rule);

// Those of all rules that act on this cache, rule after rule in the order of key_shapes().
std::vector<KeyShape> key_shapes_of_cache(const RuleSet& rules, const std::string& cache);

// The key that a rule with `refresh: {query: ...}` has, and the table whose columns it is rendered from: the rule's, or a joined one.
struct RefreshKey {
  KeyShape shape;
  TableName table;
  bool is_of_own_row = true;
};
// REQUIRES: the rule has a key.
RefreshKey refresh_key(const RuleSet& rules, std::uint32_t rule);

}  // namespace evictd
