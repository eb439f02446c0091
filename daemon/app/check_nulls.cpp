#include "daemon/app/check_nulls.h"

#include <fmt/core.h>

#include <string_view>

namespace evictd {
namespace {

// True when each placeholder of the column in "key 'product:{slug|default('x')}'" has a default().
bool always_has_default(std::string_view where, std::string_view column) {
  const std::string opening = "{" + std::string(column);
  for (std::size_t at = where.find(opening); at != std::string_view::npos;
       at = where.find(opening, at + 1)) {
    const std::size_t after = at + opening.size();
    const bool is_whole_name = after < where.size() &&
                               std::string_view("|}.").find(where[after]) != std::string_view::npos;
    if (!is_whole_name) continue;  // another column that begins with the same letters
    const std::string_view filters = where.substr(after, where.find('}', after) - after);
    if (filters.find("default(") == std::string_view::npos) return false;
  }
  return true;
}

}  // namespace

Findings check_nulls(const RuleSet& rules, const NullableColumns& nullable) {
  Findings findings;
  for (const ColumnNeed& need : column_needs(rules)) {
    if (!need.where.starts_with("key ") && !need.where.starts_with("tag ")) continue;
    const std::string table = rules.rules()[need.rule].qualified_table();
    const auto found = nullable.find(table);
    if (found == nullable.end() || !found->second.contains(need.column)) continue;
    if (always_has_default(need.where, need.column)) continue;
    findings.push_back(
        {"CF003", Severity::kInfo, need.place.to_string(),
         fmt::format(
             "column '{}' of '{}' may be NULL: {} then names nothing and nothing is deleted "
             "for it",
             need.column, table, need.where),
         fmt::format(
             "right when readers cache nothing for NULL; otherwise write {{{}|default('...')}}",
             need.column)});
  }
  return findings;
}

}  // namespace evictd
