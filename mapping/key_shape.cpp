#include "mapping/key_shape.h"

#include <algorithm>

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
  shape.is_readable = !compiled.placeholders.empty() && entry.lookup == kOwnRow;
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
    std::optional<std::string>& value = found[slots[i]];
    if (value && *value != text) return std::nullopt;
    value = std::string(text);
    at = end + next.size();
  }
  std::vector<std::string> texts;
  for (std::optional<std::string>& value : found) texts.push_back(std::move(*value));
  return texts;
}

bool passes_over_updates(const RuleSet& rules, std::uint32_t rule) {
  const CompiledRule& compiled = rules.compiled().rules[rule];
  return !compiled.when_changed.empty() || !compiled.ignore_changed.empty() ||
         std::any_of(compiled.where.begin(), compiled.where.end(), [](const Condition& condition) { return condition.crosses.has_value(); });
}

std::vector<KeyShape> key_shapes(const RuleSet& rules, std::uint32_t rule) {
  std::vector<KeyShape> shapes;
  for (const CompiledTemplate& entry : rules.compiled().rules[rule].templates) {
    if (entry.kind != InvalidationKind::kKey) continue;
    shapes.push_back(shape_of(entry));
    shapes.back().rule = rule;
  }
  return shapes;
}

}  // namespace evictd
