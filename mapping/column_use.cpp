#include "mapping/column_use.h"

#include <fmt/format.h>

#include <algorithm>

#include "mapping/rules_compiled.h"
#include "mapping/utf8.h"
#include "mapping/value_range.h"

namespace evictd {
namespace {

using Family = ColumnType::Family;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string sql_text(std::string_view value) {
  std::string text = "'";
  for (const char c : printable(value)) text += c == '\'' ? std::string("''") : std::string(1, c);
  return text + "'";
}

bool is_number_family(Family family) {
  return family == Family::kInteger || family == Family::kNumeric || family == Family::kFloat;
}
bool is_time_family(Family family) {
  return family == Family::kDate || family == Family::kTimestamp || family == Family::kTimestampTz;
}

class Judge {
 public:
  Judge(const ColumnUse& use, const ColumnType& type) : use_(use), type_(type) {}

  std::vector<TypeDoubt> all() {
    if (type_.family == Family::kUnknown) return {};
    for (const std::string& value : use_.values.texts) judge_one(value, true);
    for (const std::string& value : use_.except.texts) judge_one(value, false);
    judge_null();
    for (const auto& [comparison, bound] : use_.comparisons) judge_bound(bound);
    if (use_.crosses) judge_bound(*use_.crosses);
    if (doubts_.empty()) judge_reach();
    if (use_.has_path) judge_path();
    if (use_.has_each && !use_.has_path) judge_each();
    if (use_.has_date) judge_date();
    if (use_.is_version) judge_version();
    return std::move(doubts_);
  }

 private:
  void add(bool is_certain, std::string what, std::string hint) {
    doubts_.push_back({is_certain, fmt::format("{}: '{}' {}: its type is {}", use_.where, printable(use_.column), what, type_.name),
                       std::move(hint)});
  }

  // What row_version.h takes: a text may be one, too.
  void judge_version() {
    if (type_.family == Family::kInteger || type_.family == Family::kOid || type_.family == Family::kTimestamp || type_.family == Family::kTimestampTz) return;
    if (type_.family == Family::kNumeric && type_.scale == 0) return;
    add(false, "is a row's version only where its text is a whole number or a timestamp",
        "name a column of type bigint or timestamptz that grows with each update: what is neither proves nothing, and no fill of such a row's keys is "
        "accepted until their tombstones have passed");
  }

  void judge_one(const std::string& value, bool is_certain) {
    if (auto verdict = never_printed(value, type_)) {
      add(is_certain, fmt::format("is never '{}'", printable(value)), std::move(verdict->hint));
    } else if (type_.family == Family::kNumeric && !type_.scale && is_digit(value.back())) {
      add(false, fmt::format("is compared with '{}' as a text, which '{}0' is not", printable(value), value.find('.') == std::string::npos ? value + "." : value),
          fmt::format("{{gte: {0}, lte: {0}}} compares by value", printable(value)));
    } else if (std::string hint = comparison_hint(value); type_.family == Family::kText && !hint.empty()) {
      add(false, fmt::format("is compared with the text '{}'", printable(value)), hint + " if a comparison is meant");
    } else if (type_.family == Family::kOther || type_.family == Family::kForeign) {
      add(false, fmt::format("is compared with the text '{}'", printable(value)),
          fmt::format("it has to be as PostgreSQL prints it: SELECT CAST({} AS {});", sql_text(value), type_.name));
    } else if (!type_.equal_by.empty() && std::any_of(value.begin(), value.end(), [](char c) { return !is_digit(c); })) {
      add(false, fmt::format("is compared with '{}' letter by letter, and {} makes others equal to it", printable(value), type_.equal_by),
          "name each text that rows may hold, or leave the condition out");
    }
  }

  // Beside other values a NULL that cannot be does no harm.
  void judge_null() {
    if (!use_.values.has_null || type_.is_nullable) return;
    add(use_.values.texts.empty(), "is never NULL", "the column is NOT NULL: leave null out");
  }

  // What is left of all that the type can hold.
  void judge_reach() {
    switch (reach(use_.comparisons, use_.except, type_)) {
      case Reach::kSome:
        break;
      case Reach::kOnlyNaN:
        add(false, fmt::format("passes {} with no value but NaN", comparisons_text()), "compare it with what the type can hold");
        break;
      case Reach::kNothing:
        add(true, use_.comparisons.empty() ? "has no value that 'not' leaves" : fmt::format("has no value that passes {}", comparisons_text()),
            use_.comparisons.empty() ? "leave the condition out, or one of its values" : "compare it with what the type can hold");
    }
    if (use_.crosses && !is_between_values(*use_.crosses, type_)) {
      add(!type_.is_nullable, fmt::format("never crosses '{}'{}", printable(use_.crosses->written()), type_.is_nullable ? " but from or to NULL" : ""),
          "all values of the type lie on one side of it");
    }
  }

  std::string comparisons_text() const {
    std::string text;
    for (const auto& [comparison, bound] : use_.comparisons)
      text += fmt::format("{}{}: {}", text.empty() ? "{" : ", ", comparison_name(comparison), printable(bound.written()));
    return text + (use_.except.texts.empty() ? "}" : ", not: ...}");
  }

  void judge_bound(const Bound& bound) {
    const bool is_number = bound.kind() == Bound::Kind::kNumber;
    if (type_.family == Family::kText) {
      add(false, fmt::format("is compared with the {} '{}'", is_number ? "number" : "time", printable(bound.written())),
          "a text that is none always matches");
      return;
    }
    if (type_.family == Family::kForeign) {
      add(false, fmt::format("is compared with the {} '{}'", is_number ? "number" : "time", printable(bound.written())), "a text that is none always matches");
      return;
    }
    const bool fits = is_number ? is_number_family(type_.family) : is_time_family(type_.family);
    const bool zones_fit = is_number || !bound.has_time_of_day() || type_.family == Family::kDate ||
                           bound.has_zone() == (type_.family == Family::kTimestampTz);
    if (fits && zones_fit) return;
    add(true, fmt::format("cannot be compared with '{}'", printable(bound.written())),
        !fits ? (is_number ? "only numbers compare with a number" : "only dates and timestamps compare with a time")
              : (bound.has_zone() ? "leave the 'Z' out: the column has no time zone" : "put a 'Z' at the end: the column's times are in UTC"));
  }

  // Texts, and what an extension prints, may be JSON.
  static bool may_print_anything(const ColumnType& type) { return type.family == Family::kText || type.family == Family::kForeign; }

  void judge_path() {
    if (type_.family == Family::kJson) return;
    if (may_print_anything(type_)) {
      add(false, "has a path behind it", "values that are no JSON have no key; a path is for json and jsonb, or texts that hold JSON");
    } else if (type_.family == Family::kArray) {
      add(true, "has a path behind it", fmt::format("a path leads into JSON; {{{}.*}} gives one key for each element", use_.column));
    } else {
      add(true, "has a path behind it", "a path leads into JSON: json, jsonb, or a text that holds JSON");
    }
  }

  void judge_each() {
    if (type_.family != Family::kJson && type_.family != Family::kArray) {
      return add(!may_print_anything(type_), "has no elements", "'.*' is for arrays: of PostgreSQL, or in JSON");
    }
    if (!use_.has_element_path || type_.element.empty()) return;
    const ColumnType& element = type_.element[0];
    if (element.family == Family::kJson || element.family == Family::kUnknown) return;
    add(!may_print_anything(element), "has a path behind its elements", "a path leads into JSON: json, jsonb, or texts that hold JSON");
  }

  void judge_date() {
    const ColumnType* dated = &type_;
    if (use_.has_each) {
      if (type_.element.empty() || type_.element[0].family == Family::kUnknown) return;  // of JSON, or a type that judge_each() doubts
      dated = &type_.element[0];
    }
    if (is_time_family(dated->family)) return;
    add(!may_print_anything(*dated), use_.has_each ? "has elements that are no dates" : "is no date", "date(...) is for date, timestamp and timestamptz; other values give no key");
  }

  const ColumnUse& use_;
  const ColumnType& type_;
  std::vector<TypeDoubt> doubts_;
};

}  // namespace

std::vector<ColumnUse> column_uses(const RuleSet& rules) {
  std::vector<ColumnUse> uses;
  const RuleSet::Compiled& compiled = rules.compiled();
  for (std::uint32_t index = 0; index < compiled.rules.size(); ++index) {
    for (const CompiledTemplate& entry : compiled.rules[index].templates) {
      if (entry.lookup != kOwnRow) continue;  // the rule implied for that table has it
      for (const Placeholder& placeholder : entry.compiled.placeholders) {
        ColumnUse use;
        use.rule = index;
        use.column = placeholder.column;
        use.place = entry.place;
        use.where = std::string(invalidation_kind_name(entry.kind)) + " '" + entry.compiled.source + "'";
        use.has_path = !placeholder.path.empty();
        use.has_each = placeholder.each;
        use.has_element_path = !placeholder.element_path.empty();
        use.has_date = placeholder.path.empty() && placeholder.element_path.empty() &&
                       std::any_of(placeholder.filters.begin(), placeholder.filters.end(),
                                   [](const Filter& filter) { return filter.kind == Filter::Kind::kDate; });
        if (use.has_path || use.has_each || use.has_date) uses.push_back(std::move(use));
      }
    }
    if (const RuleInfo& info = rules.rules()[index]; !info.version_column.empty()) {
      ColumnUse use;
      use.rule = index;
      use.column = info.version_column;
      use.place = info.version_place;
      use.where = "version";
      use.is_version = true;
      uses.push_back(std::move(use));
    }
    for (const Condition& condition : compiled.rules[index].where) {
      ColumnUse use;
      use.rule = index;
      use.column = condition.column;
      use.place = condition.place;
      use.where = "where";
      use.values = condition.among;
      use.except = condition.except;
      use.comparisons = condition.comparisons;
      use.crosses = condition.crosses;
      uses.push_back(std::move(use));
    }
  }
  return uses;
}

std::vector<TypeDoubt> type_doubts(const ColumnUse& use, const ColumnType& type) { return Judge(use, type).all(); }

}  // namespace evictd
