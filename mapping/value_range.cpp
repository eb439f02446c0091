#include "mapping/value_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace evictd {
bool passes(Comparison comparison, const Bound& bound, std::string_view text) {
  const auto order = bound.compare(text);
  if (!order) return true;  // of another kind: proves nothing
  switch (comparison) {
    case Comparison::kGreater:
      return *order > 0;
    case Comparison::kGreaterOrEqual:
      return *order >= 0;
    case Comparison::kLess:
      return *order < 0;
    case Comparison::kLessOrEqual:
      return *order <= 0;
  }
  return true;
}

namespace {

using Family = ColumnType::Family;
using Comparisons = std::span<const std::pair<Comparison, Bound>>;

// The values of a type in their order, numbered, with the texts that stand before and behind all of them.
struct Values {
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::function<std::string(std::int64_t)> text;
  std::vector<std::string_view> beyond;
  bool has_nan_only = false;  // of those beyond
};

// Days since 1970-01-01, in the years 1 to 9999: what lies outside is left to the texts beyond.
std::string date_text(std::int64_t day) {
  constexpr std::int64_t kEraDays = 146'097, kEraYears = 400, kToMarch = 719'468;
  day += kToMarch;
  const std::int64_t era = (day >= 0 ? day : day - kEraDays + 1) / kEraDays;
  const std::int64_t of_era = day - era * kEraDays;
  const std::int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const std::int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
  const std::int64_t month = (5 * of_year + 2) / 153;  // from March
  return fmt::format("{:04}-{:02}-{:02}", year + era * kEraYears + (month >= 10 ? 1 : 0), month < 10 ? month + 3 : month - 9,
                     of_year - (153 * month + 2) / 5 + 1);
}

std::string decimal_text(std::int64_t number, int scale) {
  const bool is_negative = number < 0;
  std::string digits = std::to_string(number).substr(is_negative ? 1 : 0);
  if (scale > 0) {
    const auto places = static_cast<std::size_t>(scale);
    if (digits.size() <= places) digits.insert(0, places + 1 - digits.size(), '0');
    digits.insert(digits.size() - places, 1, '.');
  }
  if (scale < 0 && number != 0) digits.append(static_cast<std::size_t>(-scale), '0');
  return (is_negative ? "-" : "") + digits;
}

// Nothing: there are too many, or a value lies between any two.
std::optional<Values> values_of(const ColumnType& type) {
  constexpr int kDigitsMax = 18;  // that fit 64 bits
  if (type.family == Family::kInteger) {
    const std::int64_t most = type.bytes == 2 ? INT16_MAX : type.bytes == 4 ? INT32_MAX : INT64_MAX;
    const auto text = [](std::int64_t number) { return std::to_string(number); };
    // All of a bigint's would be one more than 64 bits count.
    if (type.bytes == 8) return Values{-most, most, text, {"-9223372036854775808"}};
    return Values{-most - 1, most, text, {}};
  }
  if (type.family == Family::kNumeric && type.digits && *type.digits <= kDigitsMax) {
    std::int64_t most = 1;
    for (int digit = 0; digit < *type.digits; ++digit) most *= 10;
    const int scale = type.scale.value_or(0);
    return Values{1 - most, most - 1, [scale](std::int64_t number) { return decimal_text(number, scale); }, {"NaN"}, true};
  }
  if (type.family == Family::kDate) {
    constexpr std::int64_t kYearOne = -719'162, kYear9999 = 2'932'896;
    return Values{kYearOne, kYear9999, date_text, {"-infinity", "4000-01-01 BC", "20000-01-01", "infinity"}};
  }
  return std::nullopt;
}

bool is_lower(Comparison comparison) { return comparison == Comparison::kGreater || comparison == Comparison::kGreaterOrEqual; }

bool passes_all(Comparisons comparisons, std::string_view text) {
  return std::all_of(comparisons.begin(), comparisons.end(), [&](const auto& one) { return passes(one.first, one.second, text); });
}

// The first number that passes what asks for more, from where on all do; one behind the last where none does.
std::uint64_t first_passing(Comparisons comparisons, const Values& values, bool of_lower) {
  const auto count = static_cast<std::uint64_t>(values.last) - static_cast<std::uint64_t>(values.first);
  const auto is_there = [&](std::uint64_t offset) {
    const std::string text = values.text(static_cast<std::int64_t>(static_cast<std::uint64_t>(values.first) + offset));
    return std::all_of(comparisons.begin(), comparisons.end(), [&](const auto& one) { return is_lower(one.first) != of_lower || passes(one.first, one.second, text); }) == of_lower;
  };
  std::uint64_t low = 0;
  std::uint64_t high = count;  // the last one
  if (!is_there(high)) return count + 1;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (is_there(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Of booleans and enums, all values are known by name.
bool are_all_excluded(const ValueList& except, const ColumnType& type) {
  const auto has = [&](std::string_view text) { return std::binary_search(except.texts.begin(), except.texts.end(), text); };
  if (type.family == Family::kBoolean) return has("true") && has("false");
  return type.family == Family::kEnum && !type.labels.empty() && std::all_of(type.labels.begin(), type.labels.end(), has);
}

}  // namespace

Reach reach(Comparisons comparisons, const ValueList& except, const ColumnType& type) {
  if (comparisons.empty()) {
    const bool is_null_left = type.is_nullable && !except.has_null;
    return are_all_excluded(except, type) && !is_null_left ? Reach::kNothing : Reach::kSome;
  }
  const std::optional<Values> values = values_of(type);
  if (!values) return Reach::kSome;
  // From the first that is large enough to the first that is too large.
  const std::uint64_t begin = first_passing(comparisons, *values, true);
  const std::uint64_t end = first_passing(comparisons, *values, false);
  bool is_one_left = false;
  if (begin < end) {
    is_one_left = end - begin > except.texts.size();
    for (std::uint64_t offset = begin; !is_one_left && offset < end; ++offset) {
      const std::string text = values->text(static_cast<std::int64_t>(static_cast<std::uint64_t>(values->first) + offset));
      is_one_left = !std::binary_search(except.texts.begin(), except.texts.end(), text);
    }
  }
  if (is_one_left) return Reach::kSome;
  const bool is_beyond = std::any_of(values->beyond.begin(), values->beyond.end(), [&](std::string_view text) { return passes_all(comparisons, text); });
  if (!is_beyond) return Reach::kNothing;
  return values->has_nan_only ? Reach::kOnlyNaN : Reach::kSome;
}

bool is_between_values(const Bound& bound, const ColumnType& type) {
  const std::optional<Values> values = values_of(type);
  if (!values) return true;
  bool has_less = false, has_equal = false, has_more = false;
  const auto look = [&](std::string_view text) {
    const auto order = bound.compare(text);
    has_less = has_less || !order || *order < 0;
    has_equal = has_equal || !order || *order == 0;
    has_more = has_more || !order || *order > 0;
  };
  look(values->text(values->first));
  look(values->text(values->last));
  return static_cast<int>(has_less) + static_cast<int>(has_equal) + static_cast<int>(has_more) > 1;
}

}  // namespace evictd
