#include "mapping/bound.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "mapping/json_path.h"

namespace evictd {
namespace {

// Beyond it nothing counts as a number: an exponent that does not fit would otherwise be taken for another.
constexpr std::size_t kExponentDigitsMax = 9;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t count_digits(std::string_view text) {
  return static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_digit) - text.begin());
}

bool is_number(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  const std::size_t whole = count_digits(text);
  text.remove_prefix(whole);
  std::size_t fraction = 0;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    fraction = count_digits(text);
    text.remove_prefix(fraction);
  }
  if (whole + fraction == 0) return false;
  if (text.empty()) return true;
  if (text[0] != 'e' && text[0] != 'E') return false;
  text.remove_prefix(1);
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  const std::size_t exponent = count_digits(text);
  return exponent > 0 && exponent <= kExponentDigitsMax && exponent == text.size();
}

// Of json_number_text(): sign, the digits behind "0." and the exponent that goes with them.
struct Number {
  int sign = 0;
  std::int64_t magnitude = 0;
  std::string_view digits;
};

// The view is into `normal`.
Number number_of(std::string_view normal) {
  Number number;
  if (normal == "0") return number;
  number.sign = normal[0] == '-' ? -1 : 1;
  if (number.sign < 0) normal.remove_prefix(1);
  const std::size_t at = normal.find('e');
  number.digits = normal.substr(0, at);
  const std::string_view exponent = normal.substr(at + 1);
  std::from_chars(exponent.data(), exponent.data() + exponent.size(), number.magnitude);
  number.magnitude += static_cast<std::int64_t>(number.digits.size());
  return number;
}

std::strong_ordering compare_numbers(const Number& a, const Number& b) {
  if (a.sign != b.sign || a.sign == 0) return a.sign <=> b.sign;
  const auto absolute = a.magnitude != b.magnitude ? a.magnitude <=> b.magnitude : a.digits.compare(b.digits) <=> 0;
  return a.sign > 0 ? absolute : 0 <=> absolute;
}

struct Time {
  std::int64_t year = 0;  // 0 is the year 1 BC
  std::string_view rest;  // "02-03" or "02-03T04:05:06"
  std::string_view fraction;
  bool has_zone = false;
};

bool has_shape(std::string_view text, std::string_view shape) {
  if (text.size() != shape.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 'd' ? !is_digit(text[i]) : text[i] != shape[i]) return false;
  }
  return true;
}

std::optional<Time> time_of(std::string_view text) {
  Time time;
  if (text == "infinity" || text == "-infinity") {
    time.year = text[0] == '-' ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
    return time;
  }
  const bool is_before_christ = text.ends_with(" BC");
  if (is_before_christ) text.remove_suffix(3);
  if (text.ends_with('Z')) {
    time.has_zone = true;
    text.remove_suffix(1);
  }
  const std::size_t digits = count_digits(text);
  if (digits < 4 || digits > 9) return std::nullopt;
  std::from_chars(text.data(), text.data() + digits, time.year);
  if (is_before_christ) time.year = 1 - time.year;
  text.remove_prefix(digits);
  if (has_shape(text, "-dd-dd")) {
    if (time.has_zone) return std::nullopt;
    time.rest = text.substr(1);
    return time;
  }
  constexpr std::string_view kShape = "-dd-ddTdd:dd:dd";
  if (!has_shape(text.substr(0, kShape.size()), kShape)) return std::nullopt;
  time.rest = text.substr(1, kShape.size() - 1);
  text.remove_prefix(kShape.size());
  if (text.empty()) return time;
  if (text[0] != '.' || text.size() == 1 || count_digits(text.substr(1)) != text.size() - 1) return std::nullopt;
  time.fraction = text.substr(1, text.find_last_not_of('0'));
  return time;
}

bool is_date(const Time& time) { return time.rest.size() == std::string_view("02-03").size(); }

std::optional<std::strong_ordering> compare_times(const Time& a, const Time& b) {
  if (a.year != b.year || a.rest.empty()) return a.year <=> b.year;
  // A time with a zone and one without lie somewhere, but who knows where.
  if (!is_date(a) && !is_date(b) && a.has_zone != b.has_zone) return std::nullopt;
  constexpr std::string_view kMidnight = "T00:00:00";
  const std::string first = is_date(a) ? std::string(a.rest) + std::string(kMidnight) : std::string(a.rest);
  const std::string second = is_date(b) ? std::string(b.rest) + std::string(kMidnight) : std::string(b.rest);
  if (const auto order = first.compare(second) <=> 0; order != 0) return order;
  return a.fraction.compare(b.fraction) <=> 0;
}

}  // namespace

std::optional<Bound> Bound::parse(std::string_view text) {
  Bound bound;
  bound.written_ = text;
  if (is_number(text)) {
    bound.text_ = json_number_text(text);
    return bound;
  }
  bound.text_ = text;
  const std::size_t gap = bound.text_.find(' ');
  if (gap != std::string::npos && gap + 1 < text.size() && is_digit(text[gap + 1])) bound.text_[gap] = 'T';
  const std::optional<Time> time = time_of(bound.text_);
  if (!time || time->rest.empty()) return std::nullopt;
  bound.kind_ = Kind::kTime;
  bound.has_time_of_day_ = !is_date(*time);
  bound.has_zone_ = time->has_zone;
  return bound;
}

std::optional<std::strong_ordering> Bound::compare(std::string_view value) const {
  if (kind_ == Kind::kTime) {
    const std::optional<Time> time = time_of(value);
    const std::optional<Time> bound = time_of(text_);
    if (!time || !bound) return std::nullopt;
    return compare_times(*time, *bound);
  }
  if (value == "NaN" || value == "Infinity") return std::strong_ordering::greater;
  if (value == "-Infinity") return std::strong_ordering::less;
  if (!is_number(value)) return std::nullopt;
  const std::string normal = json_number_text(value);
  return compare_numbers(number_of(normal), number_of(text_));
}

}  // namespace evictd
