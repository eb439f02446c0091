#include "mapping/rule_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "mapping/utf8.h"

namespace evictd {

namespace {

constexpr Operation kOperations[] = {Operation::kInsert, Operation::kUpdate, Operation::kDelete,
                                     Operation::kTruncate};
}  // namespace

Result<void> parse_table(const YamlNode& node, std::string& schema, std::string& table) {
  const Result<std::string> text = yaml_text(node);
  if (!text) return tl::unexpected(text.error());
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (const char c : *text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == '.' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  const bool has_empty =
      std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty(); });
  if (quoted || has_empty || parts.size() > 2) {
    return fail_at(
        node.place,
        fmt::format("'table': expected 'table' or 'schema.table', got {}", describe(node)),
        "put a name that holds a dot in double quotes: 'shop.\"old.products\"'");
  }
  table = std::move(parts.back());
  schema = parts.size() == 2 ? std::move(parts.front()) : "public";
  return {};
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

Result<Condition> parse_condition(const YamlEntry& entry) {
  Condition condition;
  condition.column = entry.name;
  const bool is_list = entry.value.kind == YamlNode::Kind::kList;
  const std::span<const YamlNode> values =
      is_list ? std::span(entry.value.items) : std::span<const YamlNode>(&entry.value, 1);
  if (values.empty()) {
    return fail_at(
        entry.value.place,
        fmt::format("'{}': expected at least one value, got an empty list", printable(entry.name)));
  }
  if (values.size() > kConditionTextsMax) {
    return fail_at(entry.value.place,
                   fmt::format("'{}': expected at most {} values, got {}", printable(entry.name),
                               kConditionTextsMax, values.size()));
  }
  for (const YamlNode& value : values) {
    if (value.kind == YamlNode::Kind::kNull) {
      condition.matches_null = true;
      continue;
    }
    Result<std::string> text = yaml_text(value);
    if (!text) return tl::unexpected(text.error());
    condition.texts.push_back(std::move(*text));
  }
  std::sort(condition.texts.begin(), condition.texts.end());
  return condition;
}

}  // namespace evictd
