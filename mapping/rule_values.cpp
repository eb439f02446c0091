#include "mapping/rule_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "mapping/table_name.h"
#include "mapping/utf8.h"

namespace evictd {

namespace {

constexpr Operation kOperations[] = {Operation::kInsert, Operation::kUpdate, Operation::kDelete,
                                     Operation::kTruncate};
}  // namespace

Result<TableName> parse_table(const YamlNode& node) {
  const Result<std::string> text = yaml_text(node);
  if (!text) return tl::unexpected(text.error());
  Result<TableName> name = parse_table_name(*text);
  if (!name) return fail_at(node.place, "'table': " + name.error().text, name.error().hint);
  return name;
}

Result<std::uint8_t> parse_operations(const YamlNode& node) {
  const Result<std::vector<std::string>> texts = yaml_texts(node);
  if (!texts) return tl::unexpected(texts.error());
  if (texts->empty()) {
    return fail_at(node.place, "'on': expected at least one operation, got an empty list");
  }
  std::string_view names[std::size(kOperations)];
  for (std::size_t i = 0; i < std::size(names); ++i) names[i] = operation_name(kOperations[i]);
  std::uint8_t operations = 0;
  for (std::size_t i = 0; i < texts->size(); ++i) {
    const Result<std::size_t> index =
        yaml_choice(node.kind == YamlNode::Kind::kList ? node.items[i] : node, names);
    if (!index) return tl::unexpected(index.error());
    operations =
        static_cast<std::uint8_t>(operations | 1U << static_cast<unsigned>(kOperations[*index]));
  }
  return operations;
}

namespace {

// A value, or a list of values.
Result<ValueList> parse_values(std::string_view what, const YamlNode& node) {
  const bool is_list = node.kind == YamlNode::Kind::kList;
  const std::span<const YamlNode> values = is_list ? std::span(node.items) : std::span<const YamlNode>(&node, 1);
  if (values.empty()) {
    return fail_at(node.place, fmt::format("{}: expected at least one value, got an empty list", what));
  }
  if (values.size() > kConditionTextsMax) {
    return fail_at(node.place, fmt::format("{}: expected at most {} values, got {}", what, kConditionTextsMax, values.size()));
  }
  ValueList list;
  for (const YamlNode& value : values) {
    if (value.kind == YamlNode::Kind::kNull) {
      list.has_null = true;
      continue;
    }
    Result<std::string> text = yaml_text(value);
    if (!text) return tl::unexpected(text.error());
    list.texts.push_back(std::move(*text));
  }
  std::sort(list.texts.begin(), list.texts.end());
  return list;
}

Result<Bound> parse_bound(std::string_view what, const YamlNode& node) {
  const Result<std::string> text = yaml_text(node);
  if (!text) return tl::unexpected(text.error());
  std::optional<Bound> bound = Bound::parse(*text);
  if (!bound) {
    return fail_at(node.place, fmt::format("{}: expected a number or a time, got {}", what, describe(node)),
                   "for example 0, 9.99, '2024-02-03' or '2024-02-03T04:05:06Z' (in UTC)");
  }
  return std::move(*bound);
}

constexpr std::pair<std::string_view, Comparison> kComparisons[] = {{"gt", Comparison::kGreater},
                                                                    {"gte", Comparison::kGreaterOrEqual},
                                                                    {"lt", Comparison::kLess},
                                                                    {"lte", Comparison::kLessOrEqual}};

Result<void> read_comparisons(const YamlNode& node, Condition& condition) {
  const std::string column = printable(condition.column);
  if (node.entries.empty()) {
    return fail_at(node.place, fmt::format("'{}': expected a value or comparisons, got an empty map", column),
                   "write {gt: 0}, {not: [draft]} or {crosses: 0}");
  }
  YamlMap map(node, fmt::format("the condition of '{}'", column));
  for (const auto& [name, comparison] : kComparisons) {
    const YamlNode* value = map.find(name);
    if (value == nullptr) continue;
    Result<Bound> bound = parse_bound(fmt::format("'{}' of '{}'", name, column), *value);
    map.take(bound, *value);
    if (bound) condition.comparisons.emplace_back(comparison, std::move(*bound));
  }
  if (const YamlNode* value = map.find("not")) {
    Result<ValueList> except = parse_values(fmt::format("'not' of '{}'", column), *value);
    map.take(except, *value);
    if (except) condition.except = std::move(*except);
  }
  if (const YamlNode* value = map.find("crosses")) {
    Result<Bound> bound = parse_bound(fmt::format("'crosses' of '{}'", column), *value);
    map.take(bound, *value);
    if (bound) condition.crosses = std::move(*bound);
  }
  return map.finish();
}

// Bounds between which there is nothing.
Result<void> check_range(const Condition& condition) {
  const auto is_lower = [](Comparison comparison) {
    return comparison == Comparison::kGreater || comparison == Comparison::kGreaterOrEqual;
  };
  for (const auto& [low, from] : condition.comparisons) {
    for (const auto& [high, to] : condition.comparisons) {
      if (!is_lower(low) || is_lower(high)) continue;
      const auto order = from.compare(to.text());
      const bool may_touch = low == Comparison::kGreaterOrEqual && high == Comparison::kLessOrEqual;
      if (order && (*order > 0 || (*order == 0 && may_touch))) continue;
      return fail_at(condition.place,
                     fmt::format("'{}': no value is both {} {} and {} {}", printable(condition.column), comparison_name(low),
                                 from.written(), comparison_name(high), to.written()));
    }
  }
  return {};
}

}  // namespace

std::string_view comparison_name(Comparison comparison) {
  for (const auto& [name, known] : kComparisons) {
    if (known == comparison) return name;
  }
  return "unknown";
}

Result<Condition> parse_condition(const YamlEntry& entry) {
  Condition condition;
  condition.column = entry.name;
  condition.place = entry.place;
  if (entry.value.kind == YamlNode::Kind::kMap) {
    Result<void> read = read_comparisons(entry.value, condition);
    if (read) read = check_range(condition);
    if (!read) return tl::unexpected(read.error());
    return condition;
  }
  Result<ValueList> among = parse_values(fmt::format("'{}'", printable(entry.name)), entry.value);
  if (!among) return tl::unexpected(among.error());
  condition.among = std::move(*among);
  return condition;
}

}  // namespace evictd
