#include "mapping/table_name.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "mapping/utf8.h"

namespace evictd {
namespace {

// Takes one part off the front; nothing when it is not well formed.
std::optional<std::string> take_part(std::string_view& rest) {
  std::string part;
  if (!rest.starts_with('"')) {
    const std::size_t end = std::min(rest.find('.'), rest.size());
    part = rest.substr(0, end);
    rest.remove_prefix(end);
    return part.find('"') == std::string::npos ? std::optional(part) : std::nullopt;
  }
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] != '"') {
      part += rest[i];
    } else if (i + 1 < rest.size() && rest[i + 1] == '"') {
      part += rest[i++];
    } else {
      rest.remove_prefix(i + 1);
      return part;
    }
  }
  return std::nullopt;
}

std::string written(const std::string& part) {
  if (part.find_first_of(".\"") == std::string::npos) return part;
  std::string text = "\"";
  for (const char c : part) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + '"';
}

}  // namespace

Result<TableName> parse_table_name(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorKind::kUsage,
                fmt::format("expected 'table' or 'schema.table', got '{}'", printable(text)),
                "put a name that holds a dot in double quotes: 'shop.\"old.products\"'; a quote inside is doubled");
  };
  std::vector<std::string> parts;
  for (std::string_view rest = text;;) {
    std::optional<std::string> part = take_part(rest);
    if (!part || part->empty() || parts.size() == 2) return wrong();
    parts.push_back(std::move(*part));
    if (rest.empty()) break;
    if (!rest.starts_with('.')) return wrong();
    rest.remove_prefix(1);
  }
  if (parts.size() > 2) return wrong();
  if (parts.size() == 1) return TableName{"public", std::move(parts[0])};
  return TableName{std::move(parts[0]), std::move(parts[1])};
}

std::string written_table_name(const TableName& name) { return written(name.schema) + "." + written(name.table); }

}  // namespace evictd
