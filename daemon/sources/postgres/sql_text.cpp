#include "daemon/sources/postgres/sql_text.h"

#include <algorithm>

namespace evictd {
namespace {

// What cannot stand as the name of a table or a column without quotes (manual, "SQL Key Words": reserved, and reserved
// but for functions and types).
constexpr std::string_view kReserved[] = {
    "all",          "analyse",      "analyze",       "and",          "any",          "array",
    "as",           "asc",          "asymmetric",    "authorization", "binary",      "both",
    "case",         "cast",         "check",         "collate",      "collation",    "column",
    "concurrently", "constraint",   "create",        "cross",        "current_catalog", "current_date",
    "current_role", "current_schema", "current_time", "current_timestamp", "current_user", "default",
    "deferrable",   "desc",         "distinct",      "do",           "else",         "end",
    "except",       "false",        "fetch",         "for",          "foreign",      "freeze",
    "from",         "full",         "grant",         "group",        "having",       "ilike",
    "in",           "initially",    "inner",         "intersect",    "into",         "is",
    "isnull",       "join",         "lateral",       "leading",      "left",         "like",
    "limit",        "localtime",    "localtimestamp", "natural",     "not",          "notnull",
    "null",         "offset",       "on",            "only",         "or",           "order",
    "outer",        "overlaps",     "placing",       "primary",      "references",   "returning",
    "right",        "select",       "session_user",  "similar",      "some",         "symmetric",
    "system_user",  "table",        "tablesample",   "then",         "to",           "trailing",
    "true",         "union",        "unique",        "user",         "using",        "variadic",
    "verbose",      "when",         "where",         "window",       "with"};

std::string between(std::string_view text, char quote) {
  std::string result(1, quote);
  for (const char c : text) {
    if (c == quote) result += quote;
    result += c;
  }
  return result + quote;
}

}  // namespace

std::string quoted_text(std::string_view text) {
  if (text.find('\\') == std::string_view::npos) return between(text, '\'');
  std::string doubled;
  for (const char c : text) {
    if (c == '\\') doubled += c;
    doubled += c;
  }
  return " E" + between(doubled, '\'');
}

std::string quoted_option(std::string_view text) { return between(text, '\''); }

std::string quoted_name(std::string_view name) { return between(name, '"'); }

std::string shown_name(std::string_view name) {
  const auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || c == '_' || (c >= '0' && c <= '9'); };
  const bool needs_none = !name.empty() && std::all_of(name.begin(), name.end(), is_plain) &&
                          !(name[0] >= '0' && name[0] <= '9') &&
                          std::find(std::begin(kReserved), std::end(kReserved), name) == std::end(kReserved);
  return needs_none ? std::string(name) : quoted_name(name);
}

}  // namespace evictd
