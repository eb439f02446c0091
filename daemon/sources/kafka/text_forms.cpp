#include "daemon/sources/kafka/text_forms.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <vector>

namespace evictd {
namespace {

constexpr std::array<std::int8_t, 256> make_base64_digits() {
  std::array<std::int8_t, 256> digits{};
  for (auto& digit : digits) digit = -1;
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  }
  return digits;
}
constexpr std::array<std::int8_t, 256> kBase64Digits = make_base64_digits();

// As Debezium 3 writes PostgreSQL's infinities: of dates the two ends of Java's, cut to 32 bits; of timestamps those
// of PostgreSQL's JDBC driver (documentation of the connector, "Temporal types"), in microseconds.
constexpr std::int64_t kInfiniteDays = -2'147'472'692;
constexpr std::int64_t kMinusInfiniteDays = -2'147'472'691;
constexpr std::int64_t kInfiniteMicros = 9'223'372'036'825'200'000;
constexpr std::int64_t kMinusInfiniteMicros = -9'223'372'036'832'400'000;

std::int64_t floor_div(std::int64_t value, std::int64_t by) {
  return value / by - ((value % by != 0 && (value < 0) != (by < 0)) ? 1 : 0);
}

// Of `value / by`, what floor_div() leaves: 0 to by - 1. (value - floor_div() * by can overflow.)
std::int64_t floor_mod(std::int64_t value, std::int64_t by) {
  const std::int64_t rest = value % by;
  return rest < 0 ? rest + by : rest;
}

struct Civil {
  std::int64_t year;
  unsigned month;
  unsigned day;
};

// Proleptic Gregorian, as PostgreSQL counts. The era arithmetic follows from 400 years having
// 146097 days.
Civil civil_from_days(std::int64_t days) {
  days += 719468;  // 0000-03-01
  const std::int64_t era = floor_div(days, 146097);
  const auto day_of_era = static_cast<unsigned>(days - era * 146097);
  const unsigned year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const unsigned day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const unsigned shifted = (5 * day_of_year + 2) / 153;
  const unsigned day = day_of_year - (153 * shifted + 2) / 5 + 1;
  const unsigned month = shifted < 10 ? shifted + 3 : shifted - 9;
  const std::int64_t year =
      static_cast<std::int64_t>(year_of_era) + era * 400 + (month <= 2 ? 1 : 0);
  return Civil{year, month, day};
}

std::int64_t days_from_civil(std::int64_t year, unsigned month, unsigned day) {
  year -= month <= 2 ? 1 : 0;
  const std::int64_t era = floor_div(year, 400);
  const auto year_of_era = static_cast<unsigned>(year - era * 400);
  const unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  const unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + static_cast<std::int64_t>(day_of_era) - 719468;
}

// The date without its era, and whether the era must follow.
std::string date_part(std::int64_t days, bool& before_christ) {
  const Civil civil = civil_from_days(days);
  before_christ = civil.year <= 0;
  return fmt::format("{:04}-{:02}-{:02}", before_christ ? 1 - civil.year : civil.year, civil.month,
                     civil.day);
}

std::string float_text(std::string_view scientific, int fixed_exponent_max) {
  // "[-]d.ddde[+-]xx", the shortest digits.
  const bool negative = scientific.starts_with('-');
  if (negative) scientific.remove_prefix(1);
  const std::size_t e = scientific.find('e');
  std::string digits;
  for (const char c : scientific.substr(0, e)) {
    if (c != '.') digits += c;
  }
  int exponent = 0;
  std::string_view exponent_text = scientific.substr(e + 1);
  if (exponent_text.starts_with('+')) exponent_text.remove_prefix(1);
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);

  std::string text = negative ? "-" : "";
  if (exponent < -4 || exponent >= fixed_exponent_max) {
    text += digits[0];
    if (digits.size() > 1) text += "." + digits.substr(1);
    text += fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    text += "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  } else {
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() <= whole) {
      text += digits + std::string(whole - digits.size(), '0');
    } else {
      text += digits.substr(0, whole) + "." + digits.substr(whole);
    }
  }
  return text;
}

template <typename Float>
std::string shortest(Float value, int fixed_exponent_max) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  if (value == 0) return std::signbit(value) ? "-0" : "0";
  char buffer[64];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  return float_text(std::string_view(buffer, static_cast<std::size_t>(end - buffer)),
                    fixed_exponent_max);
}

bool take_digits(std::string_view& text, std::size_t count, std::int64_t& number) {
  if (text.size() < count) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + count, number);
  if (error != std::errc{} || end != text.data() + count || text[0] == '-') return false;
  text.remove_prefix(count);
  return true;
}

// ---- whole numbers of any length, in base 10^9, the lowest limb first

using Limbs = std::vector<std::uint32_t>;
constexpr std::uint64_t kLimb = 1'000'000'000;
constexpr std::size_t kSchoolLimbs = 40;    // below, the plain way is the faster one
constexpr std::size_t kDivisionBytes = 128;  // likewise

void drop_zeros(Limbs& number) {
  while (!number.empty() && number.back() == 0) number.pop_back();
}

// to += number * (10^9)^at
void add(Limbs& to, const Limbs& number, std::size_t at = 0) {
  if (to.size() < at + number.size()) to.resize(at + number.size());
  std::uint32_t carry = 0;
  for (std::size_t i = at; i < to.size() && (carry != 0 || i - at < number.size()); ++i) {
    const std::uint64_t sum = std::uint64_t{to[i]} + carry + (i - at < number.size() ? number[i - at] : 0);
    to[i] = static_cast<std::uint32_t>(sum % kLimb);
    carry = static_cast<std::uint32_t>(sum / kLimb);
  }
  if (carry != 0) to.push_back(carry);
}

// REQUIRES: from >= number.
void subtract(Limbs& from, const Limbs& number) {
  std::int64_t borrow = 0;
  for (std::size_t i = 0; i < from.size() && (borrow != 0 || i < number.size()); ++i) {
    std::int64_t rest = std::int64_t{from[i]} - borrow - (i < number.size() ? number[i] : 0);
    borrow = rest < 0 ? 1 : 0;
    if (rest < 0) rest += static_cast<std::int64_t>(kLimb);
    from[i] = static_cast<std::uint32_t>(rest);
  }
  drop_zeros(from);
}

Limbs school_product(const Limbs& a, const Limbs& b) {
  Limbs product(a.size() + b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::uint64_t carry = 0;
    for (std::size_t j = 0; j < b.size() || carry != 0; ++j) {
      const std::uint64_t sum = product[i + j] + carry + std::uint64_t{a[i]} * (j < b.size() ? b[j] : 0);
      product[i + j] = static_cast<std::uint32_t>(sum % kLimb);
      carry = sum / kLimb;
    }
  }
  drop_zeros(product);
  return product;
}

// Karatsuba's way: three products of halves instead of four, all the way down.
Limbs product_of(const Limbs& a, const Limbs& b) {
  if (a.size() < kSchoolLimbs || b.size() < kSchoolLimbs) return school_product(a, b);
  const std::size_t half = (std::max(a.size(), b.size()) + 1) / 2;
  const auto low = [half](const Limbs& number) {
    Limbs part(number.begin(), number.begin() + static_cast<std::ptrdiff_t>(std::min(half, number.size())));
    drop_zeros(part);
    return part;
  };
  const auto high = [half](const Limbs& number) {
    return Limbs(number.begin() + static_cast<std::ptrdiff_t>(std::min(half, number.size())), number.end());
  };
  Limbs a_sum = low(a), b_sum = low(b);
  const Limbs a_high = high(a), b_high = high(b);
  const Limbs lows = product_of(a_sum, b_sum), highs = product_of(a_high, b_high);
  add(a_sum, a_high);
  add(b_sum, b_high);
  Limbs middle = product_of(a_sum, b_sum);
  subtract(middle, lows);
  subtract(middle, highs);
  Limbs product = lows;
  add(product, middle, half);
  add(product, highs, 2 * half);
  drop_zeros(product);
  return product;
}

// Long division by 10^9, again and again: each round yields one limb.
Limbs divided_limbs(std::vector<std::uint8_t> big_endian) {
  Limbs limbs;
  std::size_t first = 0;
  while (first < big_endian.size()) {
    std::uint64_t remainder = 0;
    for (std::size_t i = first; i < big_endian.size(); ++i) {
      const std::uint64_t part = (remainder << 8) | big_endian[i];
      big_endian[i] = static_cast<std::uint8_t>(part / kLimb);
      remainder = part % kLimb;
    }
    while (first < big_endian.size() && big_endian[first] == 0) ++first;
    limbs.push_back(static_cast<std::uint32_t>(remainder));
  }
  drop_zeros(limbs);
  return limbs;
}

// Long numbers are halved until they are short: high * 256^n + low. A peer may send the longest there are, and many.
Limbs decimal_limbs(const std::vector<std::uint8_t>& big_endian) {
  std::vector<Limbs> powers;  // 256^(kDivisionBytes << i)
  const std::function<Limbs(std::size_t, std::size_t)> converted = [&](std::size_t begin, std::size_t end) {
    const auto at = [&](std::size_t place) { return big_endian.begin() + static_cast<std::ptrdiff_t>(place); };
    if (end - begin <= kDivisionBytes) return divided_limbs({at(begin), at(end)});
    std::size_t level = 0;
    while ((kDivisionBytes << (level + 1)) < end - begin) ++level;
    while (powers.size() <= level) {
      std::vector<std::uint8_t> first(kDivisionBytes + 1);
      first[0] = 1;
      powers.push_back(powers.empty() ? divided_limbs(std::move(first)) : product_of(powers.back(), powers.back()));
    }
    const std::size_t middle = end - (kDivisionBytes << level);
    Limbs number = product_of(converted(begin, middle), powers[level]);
    add(number, converted(middle, end));
    return number;
  };
  return converted(0, big_endian.size());
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int digit = kBase64Digits[static_cast<unsigned char>(c)];
    if (digit < 0) return std::nullopt;
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>((bits >> count) & 0xff);
    }
  }
  return bytes;
}

void append_base64(std::string_view bytes, std::string& text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  text.reserve(text.size() + (bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t i = at; i < at + 3; ++i) bits = bits << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i) text += at + i > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * i) & 0x3f];
  }
}

void append_json_text(std::string_view text, std::string& json) {
  constexpr std::string_view kHex = "0123456789abcdef";
  json += '"';
  std::size_t plain = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    json.append(text, plain, at - plain);
    plain = at + 1;
    if (c >= 0x20) {
      json += '\\';
      json += static_cast<char>(c);
    } else {
      json += "\\u00";
      json += kHex[c >> 4];
      json += kHex[c & 0xf];
    }
  }
  json.append(text, plain);
  json += '"';
}

std::string bytea_text(std::string_view bytes) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text = "\\x";
  text.reserve(2 + bytes.size() * 2);
  for (const char c : bytes) {
    text += kHex[static_cast<unsigned char>(c) >> 4];
    text += kHex[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

std::optional<std::string> decimal_text(std::string_view big_endian, std::int32_t scale) {
  if (big_endian.size() > kDecimalBytesMax || scale > kDecimalScaleMax || scale < -kDecimalScaleMax)
    return std::nullopt;
  std::vector<std::uint8_t> magnitude(big_endian.begin(), big_endian.end());
  const bool negative = !magnitude.empty() && (magnitude[0] & 0x80) != 0;
  if (negative) {  // two's complement: invert and add one
    unsigned carry = 1;
    for (auto byte = magnitude.rbegin(); byte != magnitude.rend(); ++byte) {
      const unsigned sum = static_cast<std::uint8_t>(~*byte) + carry;
      *byte = static_cast<std::uint8_t>(sum);
      carry = sum >> 8;
    }
  }
  std::string reversed;
  for (std::uint32_t limb : decimal_limbs(magnitude)) {
    for (int digit = 0; digit < 9; ++digit) {
      reversed += static_cast<char>('0' + limb % 10);
      limb /= 10;
    }
  }
  while (reversed.ends_with('0')) reversed.pop_back();
  if (reversed.empty()) reversed = "0";
  const bool is_zero = reversed == "0";
  std::string digits(reversed.rbegin(), reversed.rend());
  if (scale < 0 && !is_zero) digits.append(static_cast<std::size_t>(-scale), '0');
  if (scale > 0) {
    const auto places = static_cast<std::size_t>(scale);
    if (digits.size() <= places) digits.insert(0, places + 1 - digits.size(), '0');
    digits.insert(digits.size() - places, ".");
  }
  return negative && !is_zero ? "-" + digits : digits;
}

std::string float8_text(double value) { return shortest(value, 15); }
std::string float4_text(float value) { return shortest(value, 6); }

std::string date_text(std::int64_t days) {
  bool before_christ = false;
  std::string text = date_part(days, before_christ);
  if (before_christ) text += " BC";
  return text;
}

std::string time_text(std::int64_t units, std::int64_t unit) {
  const std::int64_t seconds = floor_div(units, unit);
  std::string text =
      fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  if (const std::int64_t fraction = floor_mod(units, unit); fraction != 0) {
    std::string digits = fmt::format("{:09}", fraction * (1'000'000'000 / unit));
    while (digits.ends_with('0')) digits.pop_back();
    text += "." + digits;
  }
  return text;
}

std::string timestamp_text(std::int64_t units, std::int64_t unit, std::string_view suffix) {
  const std::int64_t day_units = 86'400 * unit;
  const std::int64_t days = floor_div(units, day_units);
  bool before_christ = false;
  std::string text =
      date_part(days, before_christ) + " " + time_text(floor_mod(units, day_units), unit);
  text += suffix;
  if (before_christ) text += " BC";
  return text;
}

std::optional<std::string> zoned_timestamp_text(std::string_view iso) {
  const bool signed_year = iso.starts_with('+') || iso.starts_with('-');
  const bool negative_year = take(iso, '-');
  if (signed_year && !negative_year) take(iso, '+');
  const std::size_t year_digits = iso.find('-');
  if (year_digits == std::string_view::npos || year_digits < 4 || year_digits > 9)
    return std::nullopt;
  std::int64_t year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!take_digits(iso, year_digits, year) || !take(iso, '-') || !take_digits(iso, 2, month) ||
      !take(iso, '-') || !take_digits(iso, 2, day) || !(take(iso, 'T') || take(iso, ' ')) ||
      !take_digits(iso, 2, hour) || !take(iso, ':') || !take_digits(iso, 2, minute)) {
    return std::nullopt;
  }
  if (take(iso, ':') && !take_digits(iso, 2, second)) return std::nullopt;
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 || minute > 59 || second > 60)
    return std::nullopt;
  std::string fraction;
  if (take(iso, '.')) {
    const std::size_t digits = std::min(iso.find_first_not_of("0123456789"), iso.size());
    if (digits == 0 || digits > 9) return std::nullopt;
    fraction = iso.substr(0, digits);
    iso.remove_prefix(digits);
    while (fraction.ends_with('0')) fraction.pop_back();
  }
  std::int64_t offset = 0;
  if (!take(iso, 'Z')) {
    const bool west = iso.starts_with('-');
    if (!take(iso, '+') && !take(iso, '-')) return std::nullopt;
    std::int64_t hours = 0, minutes = 0, seconds = 0;
    if (!take_digits(iso, 2, hours)) return std::nullopt;
    if (take(iso, ':') && !take_digits(iso, 2, minutes)) return std::nullopt;
    if (take(iso, ':') && !take_digits(iso, 2, seconds)) return std::nullopt;
    offset = (hours * 3600 + minutes * 60 + seconds) * (west ? -1 : 1);
  }
  if (!iso.empty()) return std::nullopt;
  const std::int64_t days = days_from_civil(
      negative_year ? -year : year, static_cast<unsigned>(month), static_cast<unsigned>(day));
  const std::int64_t seconds = days * 86'400 + hour * 3600 + minute * 60 + second - offset;
  return timestamp_text(seconds, 1, (fraction.empty() ? "" : "." + fraction) + "+00");
}

std::optional<std::string> iso_date_text(std::string_view iso) {
  if (iso.ends_with('Z')) iso.remove_suffix(1);
  const bool negative_year = take(iso, '-');
  if (!negative_year) take(iso, '+');
  const std::size_t year_digits = iso.find('-');
  std::int64_t year = 0, month = 0, day = 0;
  if (year_digits == std::string_view::npos || year_digits < 4 || year_digits > 9 ||
      !take_digits(iso, year_digits, year) || !take(iso, '-') || !take_digits(iso, 2, month) || !take(iso, '-') ||
      !take_digits(iso, 2, day) || !iso.empty() || month < 1 || month > 12 || day < 1 || day > 31) {
    return std::nullopt;
  }
  const std::int64_t days = days_from_civil(negative_year ? -year : year, static_cast<unsigned>(month),
                                            static_cast<unsigned>(day));
  if (const std::string_view infinite = infinite_days_text(days); !infinite.empty()) return std::string(infinite);
  return date_text(days);
}

std::optional<std::string> iso_interval_text(std::string_view iso) {
  if (!take(iso, 'P')) return std::nullopt;
  std::string text;
  bool after_negative = false;
  const auto add = [&](std::int64_t number, std::string_view unit) {
    if (number == 0) return;
    text += fmt::format("{}{}{} {}{}", text.empty() ? "" : " ", after_negative && number > 0 ? "+" : "", number, unit,
                        number == 1 ? "" : "s");
    after_negative = number < 0;
  };
  bool in_time = false;
  bool is_negative = false;  // the time of day: its parts have one sign
  std::int64_t hours = 0, minutes = 0, seconds = 0;
  std::string fraction;
  while (!iso.empty()) {
    if (!in_time && take(iso, 'T')) {
      in_time = true;
      continue;
    }
    const bool negative = take(iso, '-');
    const std::size_t digits = std::min(iso.find_first_not_of("0123456789"), iso.size());
    std::int64_t number = 0;
    if (digits == 0 || digits > 18 || !take_digits(iso, digits, number)) return std::nullopt;
    if (in_time && take(iso, '.')) {
      const std::size_t places = std::min(iso.find_first_not_of("0123456789"), iso.size());
      fraction = iso.substr(0, places);
      iso.remove_prefix(places);
      while (fraction.ends_with('0')) fraction.pop_back();
      if (!iso.starts_with('S')) return std::nullopt;
    }
    if (in_time && negative && (number != 0 || !fraction.empty())) is_negative = true;
    if (!in_time && take(iso, 'Y')) {
      add(negative ? -number : number, "year");
    } else if (!in_time && take(iso, 'M')) {
      add(negative ? -number : number, "mon");
    } else if (!in_time && take(iso, 'D')) {
      add(negative ? -number : number, "day");
    } else if (in_time && take(iso, 'H')) {
      hours = number;
    } else if (in_time && take(iso, 'M')) {
      minutes = number;
    } else if (in_time && take(iso, 'S')) {
      seconds = number;
    } else {
      return std::nullopt;
    }
  }
  if (hours == 0 && minutes == 0 && seconds == 0 && fraction.empty() && !text.empty()) return text;
  text += fmt::format("{}{}{:02}:{:02}:{:02}", text.empty() ? "" : " ", is_negative ? "-" : after_negative ? "+" : "",
                      hours, minutes, seconds);
  if (!fraction.empty()) text += "." + fraction;
  return text;
}

std::string_view infinite_days_text(std::int64_t days) {
  // PostgreSQL's dates begin in 4714 BC: these two are none of them.
  if (days == kInfiniteDays) return "infinity";
  return days == kMinusInfiniteDays ? "-infinity" : "";
}

std::string_view infinite_timestamp_text(std::int64_t units, std::int64_t unit) {
  if (unit > 1'000'000) return "";  // nanoseconds do not reach so far
  const std::int64_t micros = 1'000'000 / unit;
  if (units == kInfiniteMicros / micros) return "infinity";
  return units == kMinusInfiniteMicros / micros ? "-infinity" : "";
}

std::string bit_text(std::string_view little_endian, std::size_t length) {
  std::string text(length, '0');
  for (std::size_t bit = 0; bit < length && bit / 8 < little_endian.size(); ++bit) {
    if ((static_cast<unsigned char>(little_endian[bit / 8]) >> (bit % 8)) & 1)
      text[length - 1 - bit] = '1';
  }
  return text;
}

void append_array_element(std::string& literal, std::string_view element) {
  const auto is_null_word = [&] {
    return element.size() == 4 && std::equal(element.begin(), element.end(), "null",
                                             [](char a, char b) { return (a | 0x20) == b; });
  };
  const bool quoted = element.empty() || is_null_word() ||
                      element.find_first_of("{},\"\\ \t\n\r\v\f") != std::string_view::npos;
  if (!quoted) {
    literal += element;
    return;
  }
  literal += '"';
  for (const char c : element) {
    if (c == '"' || c == '\\') literal += '\\';
    literal += c;
  }
  literal += '"';
}

}  // namespace evictd
