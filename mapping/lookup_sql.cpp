#include "mapping/lookup_sql.h"

#include <fmt/format.h>

#include "mapping/check.h"

namespace evictd {
namespace {

std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + '"';
}

}  // namespace

std::string lookup_sql(const LookupInfo& lookup, const std::vector<LookupParameter>& parameters, std::uint64_t fan_out) {
  EVICTD_CHECK(!lookup.steps.empty() && parameters.size() == lookup.steps[0].match.size());
  std::string arrays;
  std::string names;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    arrays += fmt::format("{}${}::{}[]{}", i == 0 ? "" : ", ", i + 1, parameters[i].type,
                          parameters[i].collation.empty() ? "" : " collate " + parameters[i].collation);
    names += fmt::format("v{}, ", i);
  }
  std::string columns;
  for (std::size_t i = 0; i < lookup.columns.size(); ++i) {
    columns += fmt::format("{}j{}.{} as c{}", i == 0 ? "" : ", ", lookup.steps.size(), quoted(lookup.columns[i]), i);
  }
  std::string tables;
  std::string conditions;
  for (std::size_t step = 0; step < lookup.steps.size(); ++step) {
    const JoinStep& join = lookup.steps[step];
    tables += fmt::format("{}{}.{} j{}", step == 0 ? "" : ", ", quoted(join.table.schema), quoted(join.table.table), step + 1);
    for (std::size_t i = 0; i < join.match.size(); ++i) {
      const std::string before = step == 0 ? fmt::format("i.v{}", i) : fmt::format("j{}.{}", step, quoted(join.match[i].from));
      conditions += fmt::format("{}j{}.{} = {}", conditions.empty() ? "" : " and ", step + 1, quoted(join.match[i].column), before);
    }
  }
  return fmt::format(
      "select i.n, r.* from unnest({}) with ordinality as i({}n) cross join lateral (select {} from {} where {} limit {}) r",
      arrays, names, columns, tables, conditions, fan_out + 1);
}

std::set<std::string> columns_read(const LookupInfo& lookup, std::size_t step) {
  std::set<std::string> columns;
  for (const JoinStep::Match& match : lookup.steps[step].match) columns.insert(match.column);
  if (step + 1 == lookup.steps.size()) {
    columns.insert(lookup.columns.begin(), lookup.columns.end());
  } else {
    for (const JoinStep::Match& match : lookup.steps[step + 1].match) columns.insert(match.from);
  }
  return columns;
}

std::string array_literal(const std::vector<std::string_view>& values) {
  std::string text = "{";
  for (const std::string_view value : values) {
    if (text.size() > 1) text += ',';
    text += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    text += '"';
  }
  return text + '}';
}

}  // namespace evictd
