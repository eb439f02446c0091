#include "mapping/key_shape.h"

#include <algorithm>

#include "mapping/check.h"
#include "mapping/rules_compiled.h"

namespace evictd {
namespace {

constexpr std::string_view kSeparators = ":/|";

KeyShape shape_of(const CompiledTemplate& entry) {
  const Template& compiled = entry.compiled;
  KeyShape shape;
  shape.source = compiled.source;
  shape.glob = template_glob(compiled, "");
  shape.literals = compiled.literals;
  shape.is_readable = !compiled.placeholders.empty();
  for (const std::string_view column : columns_of(compiled)) shape.columns.emplace_back(column);
  for (std::size_t i = 0; i < compiled.placeholders.size(); ++i) {
    const Placeholder& placeholder = compiled.placeholders[i];
    const auto at = std::find(shape.columns.begin(), shape.columns.end(), placeholder.column);
    shape.slots.push_back(static_cast<std::size_t>(at - shape.columns.begin()));
    if (!placeholder.path.empty() || placeholder.each || !placeholder.filters.empty()) shape.is_readable = false;
    if (i > 0 && compiled.literals[i].empty()) shape.is_readable = false;
  }
  return shape;
}

}  // namespace

std::optional<std::vector<std::string>> KeyShape::read(std::string_view key) const {
  if (!is_readable || !key.starts_with(literals[0])) return std::nullopt;
  std::vector<std::optional<std::string>> found(columns.size());
  std::size_t at = literals[0].size();
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const std::string& next = literals[i + 1];
    const bool is_last = i + 1 == slots.size();
    const std::size_t end = is_last ? key.size() - std::min(next.size(), key.size()) : key.find(next, at);
    if (end == std::string_view::npos || end <= at || (is_last && !key.ends_with(next))) return std::nullopt;
    const std::string_view text = key.substr(at, end - at);
    if (text.find_first_of(kSeparators) != std::string_view::npos) return std::nullopt;
    if (text.find('\0') != std::string_view::npos) return std::nullopt;  // no text of PostgreSQL's has one
    std::optional<std::string>& value = found[slots[i]];
    if (value && *value != text) return std::nullopt;
    value = std::string(text);
    at = end + next.size();
  }
  std::vector<std::string> texts;
  for (std::optional<std::string>& value : found) texts.push_back(std::move(*value));
  return texts;
}

bool KeyShape::may_be(std::string_view key) const {
  std::size_t at = 0;
  for (std::size_t i = 0; i < literals.size(); ++i) {
    const bool is_last = i + 1 == literals.size();
    const std::size_t found = i == 0      ? (key.starts_with(literals[0]) ? 0 : std::string_view::npos)
                              : is_last   ? (key.size() >= at + literals[i].size() && key.ends_with(literals[i]) ? key.size() - literals[i].size()
                                                                                                            : std::string_view::npos)
                                          : key.find(literals[i], at);
    if (found == std::string_view::npos) return false;
    at = found + literals[i].size();
  }
  return at == key.size();
}

std::string KeyShape::render(const std::vector<std::string>& texts) const {
  std::string key = literals[0];
  for (std::size_t i = 0; i < slots.size(); ++i) key += texts[slots[i]] + literals[i + 1];
  return key;
}

bool passes_over_updates(const RuleSet& rules, std::uint32_t rule) {
  const CompiledRule& compiled = rules.compiled().rules[rule];
  return !compiled.when_changed.empty() || !compiled.ignore_changed.empty() ||
         std::any_of(compiled.where.begin(), compiled.where.end(), [](const Condition& condition) { return condition.crosses.has_value(); });
}

std::vector<KeyShape> key_shapes(const RuleSet& rules, std::uint32_t rule) {
  const RuleInfo& info = rules.rules()[rule];
  std::vector<KeyShape> shapes;
  for (const CompiledTemplate& entry : rules.compiled().rules[rule].templates) {
    if (entry.kind != InvalidationKind::kKey) continue;
    shapes.push_back(shape_of(entry));
    KeyShape& shape = shapes.back();
    shape.rule = rule;
    shape.table = TableName{info.schema, info.table};
    shape.is_of_own_row = entry.lookup == kOwnRow;
    if (!shape.is_of_own_row) shape.table = info.lookups[entry.lookup].steps.back().table;
  }
  return shapes;
}

std::vector<KeyShape> key_shapes_of_cache(const RuleSet& rules, const std::string& cache) {
  std::vector<KeyShape> shapes;
  for (std::uint32_t rule = 0; rule < rules.rules().size(); ++rule) {
    const RuleInfo& info = rules.rules()[rule];
    if (!info.implied_by.empty()) continue;  // what `via:` implies makes no other keys
    if (!info.caches.empty() && std::find(info.caches.begin(), info.caches.end(), cache) == info.caches.end()) continue;
    for (KeyShape& shape : key_shapes(rules, rule)) shapes.push_back(std::move(shape));
  }
  return shapes;
}

RefreshKey refresh_key(const RuleSet& rules, std::uint32_t rule) {
  const RuleInfo& info = rules.rules()[rule];
  const std::vector<CompiledTemplate>& templates = rules.compiled().rules[rule].templates;
  const auto key = std::find_if(templates.begin(), templates.end(), [](const CompiledTemplate& one) { return one.kind == InvalidationKind::kKey; });
  EVICTD_CHECK(key != templates.end());
  RefreshKey found{shape_of(*key), TableName{info.schema, info.table}, key->lookup == kOwnRow};
  found.shape.rule = rule;
  if (!found.is_of_own_row) found.table = info.lookups[key->lookup].steps.back().table;
  return found;
}

}  // namespace evictd
