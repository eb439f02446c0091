#include "mapping/row_version.h"

#include <algorithm>

namespace evictd {
namespace {

constexpr std::size_t kNumberDigits = 20;  // of 2^64 - 1
constexpr std::string_view kNumberMax = "18446744073709551615";
constexpr std::size_t kFractionDigits = 9;
constexpr std::string_view kTimeShape = "dddd-dd-ddTdd:dd:dd";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool all_digits(std::string_view text) { return std::all_of(text.begin(), text.end(), is_digit); }

struct Time {
  std::string_view seconds;   // up to the whole second
  std::string_view fraction;  // digits, perhaps none
  bool has_zone = false;
};

std::optional<Time> parse_time(std::string_view text) {
  if (text.size() < kTimeShape.size()) return std::nullopt;
  for (std::size_t i = 0; i < kTimeShape.size(); ++i) {
    if (kTimeShape[i] == 'd' ? !is_digit(text[i]) : text[i] != kTimeShape[i]) return std::nullopt;
  }
  Time time;
  time.seconds = text.substr(0, kTimeShape.size());
  std::string_view rest = text.substr(kTimeShape.size());
  if (!rest.empty() && rest.back() == 'Z') {
    time.has_zone = true;
    rest.remove_suffix(1);
  }
  if (!rest.empty() && rest.front() == '.') rest.remove_prefix(1);
  if (rest.size() > kFractionDigits || !all_digits(rest)) return std::nullopt;
  time.fraction = rest;
  return time;
}

std::optional<std::string_view> parse_number(std::string_view text) {
  if (text.empty() || !all_digits(text)) return std::nullopt;
  const std::size_t first = std::min(text.find_first_not_of('0'), text.size() - 1);
  const std::string_view digits = text.substr(first);
  if (digits.size() > kNumberDigits || (digits.size() == kNumberDigits && digits > kNumberMax)) return std::nullopt;
  return digits;
}

// Adds one to decimal digits; false when all were nines.
bool increment(std::string& digits) {
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
    if (*digit != '9') {
      ++*digit;
      return true;
    }
    *digit = '0';
  }
  return false;
}

}  // namespace

std::optional<std::string> row_version_order(std::string_view text) {
  if (const auto digits = parse_number(text)) {
    return "n " + std::string(kNumberDigits - digits->size(), '0') + std::string(*digits);
  }
  const auto time = parse_time(text);
  if (!time) return std::nullopt;
  std::string order(time->has_zone ? "tZ" : "t ");
  order += time->seconds;
  order += time->fraction;
  order.append(kFractionDigits - time->fraction.size(), '0');
  return order;
}

bool row_version_reaches(std::string_view a, std::string_view b) {
  const auto first = row_version_order(a);
  const auto second = row_version_order(b);
  return first && second && first->substr(0, 2) == second->substr(0, 2) && *first >= *second;
}

std::optional<std::string> next_row_version(std::string_view text) {
  if (const auto number = parse_number(text)) {
    if (*number == kNumberMax) return std::nullopt;
    std::string digits(*number);
    if (!increment(digits)) digits.insert(digits.begin(), '1');
    return digits;
  }
  const auto time = parse_time(text);
  if (!time) return std::nullopt;
  std::string fraction(time->fraction);
  fraction.append(kFractionDigits - fraction.size(), '0');
  if (!increment(fraction)) return std::nullopt;
  return std::string(time->seconds) + "." + fraction + (time->has_zone ? "Z" : "");
}

}  // namespace evictd
