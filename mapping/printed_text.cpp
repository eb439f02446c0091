#include "mapping/printed_text.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "mapping/binary_json.h"
#include "mapping/bound.h"
#include "mapping/canonical.h"
#include "mapping/did_you_mean.h"
#include "mapping/json_path.h"
#include "mapping/utf8.h"

namespace evictd {

std::string comparison_hint(std::string_view text) {
  constexpr std::pair<std::string_view, std::string_view> kWritten[] = {
      {">=", "gte"}, {"<=", "lte"}, {"!=", "not"}, {"<>", "not"}, {">", "gt"}, {"<", "lt"}, {"!", "not"}};
  for (const auto& [sign, word] : kWritten) {
    if (!text.starts_with(sign)) continue;
    std::string_view value = text.substr(sign.size());
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    return fmt::format("write {{{}: {}}}", word, value.empty() ? "..." : printable(value));
  }
  return {};
}

namespace {

using Family = ColumnType::Family;
using Impossible = NeverPrinted;
using Verdict = std::optional<Impossible>;  // nothing: a value may have this text

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool all_digits(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_digit); }

// Digits as PostgreSQL prints a whole number: without zeros in front.
bool is_whole(std::string_view text) { return all_digits(text) && (text.size() == 1 || text[0] != '0'); }

Verdict judge_boolean(std::string_view text) {
  if (text == "true" || text == "false") return std::nullopt;
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  for (const char* yes : {"t", "true", "y", "yes", "on", "1"}) {
    if (lower == yes) return Impossible{"its values are 'true' and 'false': write true"};
  }
  for (const char* no : {"f", "false", "n", "no", "off", "0"}) {
    if (lower == no) return Impossible{"its values are 'true' and 'false': write false"};
  }
  return Impossible{"its values are 'true' and 'false'"};
}

Verdict judge_integer(std::string_view text, std::size_t bytes) {
  const bool is_negative = text.starts_with('-');
  const std::string_view digits = text.substr(is_negative ? 1 : 0);
  if (!is_whole(digits) || text == "-0") {
    std::string hint = comparison_hint(text);
    return Impossible{hint.empty() ? "its values are whole numbers, such as 7 or -12" : hint};
  }
  std::int64_t number = 0;
  const bool fits = std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc();
  const std::int64_t most = bytes == 2 ? INT16_MAX : bytes == 4 ? INT32_MAX : INT64_MAX;
  if (fits && number <= most && number >= -most - 1) return std::nullopt;
  return Impossible{fmt::format("its values end at {}", most)};
}

Verdict judge_numeric(std::string_view text, const ColumnType& type) {
  if (text == "NaN" || (!type.digits && (text == "Infinity" || text == "-Infinity"))) return std::nullopt;
  const bool is_negative = text.starts_with('-');
  const std::string_view number = text.substr(is_negative ? 1 : 0);
  const std::size_t point = std::min(number.find('.'), number.size());
  const bool has_point = point < number.size();
  const std::string_view whole = number.substr(0, point);
  const std::string_view fraction = has_point ? number.substr(point + 1) : std::string_view();
  const bool is_minus_zero = is_negative && number.find_first_not_of("0.") == std::string_view::npos;
  if (!is_whole(whole) || (has_point && !all_digits(fraction)) || is_minus_zero) {
    std::string hint = comparison_hint(text);
    return Impossible{hint.empty() ? "its values are numbers without an exponent, such as 7 or 1.50" : hint};
  }
  const std::size_t places = static_cast<std::size_t>(std::max(type.scale.value_or(0), 0));
  if (type.digits && whole != "0" && static_cast<int>(whole.size()) > *type.digits - type.scale.value_or(0)) {
    return Impossible{fmt::format("its values have at most {} digits before the point", std::max(*type.digits - type.scale.value_or(0), 0))};
  }
  // numeric(4,-2): 1200, and nothing between that and 1300.
  const std::size_t zeros = static_cast<std::size_t>(std::max(-type.scale.value_or(0), 0));
  if (whole != "0" && whole.find_last_not_of('0') + 1 + zeros > whole.size()) {
    return Impossible{fmt::format("its values end in {} zeros before the point", zeros)};
  }
  if (!type.scale || fraction.size() == places) return std::nullopt;
  std::string written(text.substr(0, text.size() - (has_point ? fraction.size() + 1 : 0)));
  std::string digits(fraction.substr(0, places));
  digits.append(places - digits.size(), '0');
  if (places > 0) written += "." + digits;
  return Impossible{fmt::format("its values have {} digits after the point, such as '{}'; {{gte: ..., lte: ...}} compares by value", places, written)};
}

// As PostgreSQL prints the number that `text` is: as short as it may be, with an exponent from some size on.
template <class Number>
std::optional<std::string> printed_float(std::string_view text) {
  constexpr int kExponentFrom = sizeof(Number) == 4 ? 6 : 15;
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  char room[64];
  const auto printed = std::to_chars(std::begin(room), std::end(room), number, std::chars_format::scientific);
  const std::string_view scientific(room, static_cast<std::size_t>(printed.ptr - room));
  const std::size_t letter = scientific.find('e');
  int exponent = 0;
  const char* first = scientific.data() + letter + (scientific[letter + 1] == '+' ? 2 : 1);
  std::from_chars(first, scientific.data() + scientific.size(), exponent);
  if (exponent < -4 || exponent >= kExponentFrom) return std::string(scientific);
  const auto fixed = std::to_chars(std::begin(room), std::end(room), number, std::chars_format::fixed);
  return std::string(room, fixed.ptr);
}

// PostgreSQL writes one digit more than it must, where a shorter text lies exactly between two numbers.
bool has_float_precision(std::string_view text, std::string_view printed, std::size_t bytes) {
  const std::string_view mantissa = text.substr(0, std::min(text.find('e'), text.size()));
  const std::size_t first = std::min(mantissa.find_first_of("123456789"), mantissa.size());
  const auto digits = static_cast<std::size_t>(std::count_if(mantissa.begin() + static_cast<std::ptrdiff_t>(first), mantissa.end(), is_digit));
  const std::size_t most = bytes == 4 ? 9 : 17;
  return (digits == most || digits + 1 == most) && (text.find('e') == std::string_view::npos) == (printed.find('e') == std::string_view::npos);
}

Verdict judge_float(std::string_view text, std::size_t bytes) {
  if (text == "NaN" || text == "Infinity" || text == "-Infinity") return std::nullopt;
  if (const auto number = Bound::parse(text); !number || number->kind() != Bound::Kind::kNumber) {
    std::string hint = comparison_hint(text);
    return Impossible{hint.empty() ? "its values are numbers" : hint};
  }
  const std::optional<std::string> printed = bytes == 4 ? printed_float<float>(text) : printed_float<double>(text);
  if (printed == text || (printed && has_float_precision(text, *printed, bytes))) return std::nullopt;
  return Impossible{fmt::format("its values are written as short as they may be{}; {{gte: ..., lte: ...}} compares by value",
                                printed ? fmt::format(", this one '{}'", *printed) : ", such as '0.5' or '7'")};
}

Verdict judge_uuid(std::string_view text) {
  constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  bool fits = text.size() == kShape.size();
  for (std::size_t i = 0; fits && i < kShape.size(); ++i) {
    const bool is_hex = is_digit(text[i]) || (text[i] >= 'a' && text[i] <= 'f');
    fits = kShape[i] == 'x' ? is_hex : text[i] == '-';
  }
  return fits ? Verdict() : Impossible{"its values are such as 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', in lower case"};
}

int two_digits(std::string_view text) { return (text[0] - '0') * 10 + (text[1] - '0'); }

bool is_in_calendar(std::int64_t year, int month, int day) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || month > 12 || day < 1) return false;
  const bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return day <= kDays[month - 1] + (is_leap && month == 2 ? 1 : 0);
}

// Of a text "02-03" or "02-03T04:05:06" behind its year. PostgreSQL keeps no day and no second that is none.
bool is_moment(std::int64_t year, std::string_view rest) {
  if (!is_in_calendar(year, two_digits(rest), two_digits(rest.substr(3)))) return false;
  return rest.size() == 5 || (two_digits(rest.substr(6)) < 24 && two_digits(rest.substr(9)) < 60 && two_digits(rest.substr(12)) < 60);
}

bool fits_seconds(std::size_t fraction, const ColumnType& type) {
  constexpr int kMicroseconds = 6;
  return static_cast<int>(fraction) <= type.scale.value_or(kMicroseconds);
}

// REQUIRES: `time` is as Bound reads it, with a 'T' if with a time of day.
bool is_printed_time(std::string_view text, const Bound& time, bool is_before_christ, const ColumnType& type) {
  constexpr std::int64_t kLastYearOfDate = 5'874'897, kLastYearOfTimestamp = 294'276, kFirstYear = 4'713;  // the first one BC
  const std::size_t digits = text.find('-');
  std::int64_t year = 0;
  std::from_chars(text.data(), text.data() + digits, year);
  const std::int64_t last = is_before_christ ? kFirstYear : type.family == Family::kDate ? kLastYearOfDate : kLastYearOfTimestamp;
  if (year < 1 || year > last || (digits > 4 && text[0] == '0')) return false;
  const std::string_view rest = text.substr(digits + 1);
  const std::size_t point = std::min(rest.find('.'), rest.size());
  const std::string_view fraction = rest.substr(std::min(point + 1, rest.size()), std::min(rest.find('Z'), rest.size()) - std::min(point + 1, rest.size()));
  if (fraction.ends_with('0') || !fits_seconds(fraction.size(), type)) return false;
  if (!is_moment(is_before_christ ? 1 - year : year, rest.substr(0, time.has_time_of_day() ? 14 : 5))) return false;
  if (type.family == Family::kDate) return !time.has_time_of_day();
  return time.has_time_of_day() && time.has_zone() == (type.family == Family::kTimestampTz);
}

Verdict judge_time(std::string_view text, const ColumnType& type) {
  if (text == "infinity" || text == "-infinity") return std::nullopt;
  constexpr std::string_view kBeforeChrist = " BC";
  const bool is_before_christ = text.ends_with(kBeforeChrist);
  const std::string_view written = text.substr(0, text.size() - (is_before_christ ? kBeforeChrist.size() : 0));
  const std::optional<Bound> time = Bound::parse(written);
  if (time && time->kind() == Bound::Kind::kTime && time->text() == written && is_printed_time(written, *time, is_before_christ, type)) return std::nullopt;
  const bool has_no_fraction = type.scale && *type.scale == 0;
  const char* example = type.family == Family::kDate ? "2024-02-03" : has_no_fraction ? "2024-02-03T04:05:06" : "2024-02-03T04:05:06.7";
  return Impossible{fmt::format("its values are such as '{}{}'; {{gte: ..., lt: ...}} compares by value", example, type.family == Family::kTimestampTz ? "Z" : "")};
}

Verdict judge_json(std::string_view text, bool is_binary) {
  JsonReader reader;
  if (reader.same(text, text) != JsonSame::kSame || !has_json_numbers(text)) {
    return Impossible{fmt::format("its values are JSON: a text is written '\"{}\"', with its quotes", printable(text))};
  }
  std::string compact;
  append_canonical(ValueType::kJson, text, compact);
  if (compact != text) return Impossible{fmt::format("its values are compared as compact JSON: write '{}'", printable(compact))};
  if (!is_binary || is_binary_json(text)) return std::nullopt;
  return Impossible{"jsonb keeps one form: names by their length and then by their bytes, each once, numbers without an exponent, "
                    "characters as they are; SELECT CAST(... AS jsonb) shows it, and blanks are left out"};
}

Verdict judge_text(std::string_view text, const ColumnType& type) {
  if (!type.length) return std::nullopt;
  std::size_t characters = 0;
  for (std::string_view rest = text; !rest.empty(); ++characters) rest.remove_prefix(std::max<std::size_t>(1, utf8_length(rest)));
  if (characters > *type.length) return Impossible{fmt::format("its values have at most {} characters", *type.length)};
  if (!type.is_padded || characters == *type.length) return std::nullopt;
  return Impossible{fmt::format("its values are padded with spaces to {} characters: write '{}'", *type.length,
                                std::string(text) + std::string(*type.length - characters, ' '))};
}

Verdict judge_bytea(std::string_view text) {
  const bool fits = text.size() % 2 == 0 && std::all_of(text.begin(), text.end(), [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f');
  });
  return fits ? Verdict() : Impossible{"its values are lower-case hex, such as 'deadbeef'"};
}

bool is_time_of_day(std::string_view text, const ColumnType& type) {
  constexpr std::string_view kShape = "00:00:00";
  if (text == "24:00:00") return true;
  if (text.size() < kShape.size()) return false;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] == '0' ? !is_digit(text[i]) : text[i] != ':') return false;
  }
  if (two_digits(text) > 23 || two_digits(text.substr(3)) > 59 || two_digits(text.substr(6)) > 59) return false;
  text.remove_prefix(kShape.size());
  return text.empty() || (text[0] == '.' && all_digits(text.substr(1)) && !text.ends_with('0') && fits_seconds(text.size() - 1, type));
}

// "+00", "-03:30", "+01:02:03": no part that is zero at the end.
bool is_zone(std::string_view text) {
  constexpr int kHoursMax = 15;
  if (text.size() < 3 || text.size() % 3 != 0 || (text[0] != '+' && text[0] != '-')) return false;
  for (std::size_t at = 0; at < text.size(); at += 3) {
    if ((at > 0 && text[at] != ':') || !all_digits(text.substr(at + 1, 2)) || two_digits(text.substr(at + 1)) > (at == 0 ? kHoursMax : 59)) return false;
  }
  return text.size() == 3 ? text != "-00" : text.size() <= 9 && !text.ends_with(":00");
}

Verdict judge_time_of_day(std::string_view text, const ColumnType& type) {
  const std::size_t zone = type.has_zone ? std::min(text.find_first_of("+-"), text.size()) : text.size();
  if (is_time_of_day(text.substr(0, zone), type) && (!type.has_zone || is_zone(text.substr(zone)))) return std::nullopt;
  const char* end = type.has_zone ? "+00" : "";
  const bool has_no_fraction = type.scale && *type.scale == 0;
  return Impossible{fmt::format("its values are such as '09:00:00{}'{}", end, has_no_fraction ? "" : fmt::format(" or '09:00:00.5{}'", end))};
}

// As PostgreSQL prints them: an inet without the mask that every single address has, a cidr always with one.
Verdict judge_network(std::string_view text, bool is_cidr) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const std::string address(text.substr(0, slash));
  const bool has_mask = slash < text.size();
  const int family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
  const unsigned bits = family == AF_INET ? 32 : 128;
  unsigned char parsed[16];
  char printed[INET6_ADDRSTRLEN];
  bool fits = inet_pton(family, address.c_str(), parsed) == 1 && inet_ntop(family, parsed, printed, sizeof printed) != nullptr && address == printed;
  if (has_mask) {
    const std::string_view mask = text.substr(slash + 1);
    unsigned number = 0;
    fits = fits && is_whole(mask) && std::from_chars(mask.data(), mask.data() + mask.size(), number).ec == std::errc() &&
           number <= (is_cidr ? bits : bits - 1);
    // A network has nothing behind its mask.
    for (unsigned bit = number; fits && is_cidr && bit < bits; ++bit) fits = (parsed[bit / 8] >> (7 - bit % 8) & 1) == 0;
  }
  if (fits && (has_mask || !is_cidr)) return std::nullopt;
  return Impossible{is_cidr ? "its values are such as '10.0.0.0/8', always with a mask" : "its values are such as '10.0.0.1', or '10.0.0.1/8' where the mask is not that of one address"};
}

Verdict judge_macaddr(std::string_view text, std::size_t bytes) {
  bool fits = text.size() == 3 * bytes - 1;
  for (std::size_t i = 0; fits && i < text.size(); ++i) {
    fits = i % 3 == 2 ? text[i] == ':' : is_digit(text[i]) || (text[i] >= 'a' && text[i] <= 'f');
  }
  return fits ? Verdict() : Impossible{"its values are such as '08:00:2b:01:02:03', in lower case"};
}

Verdict judge_bits(std::string_view text, const ColumnType& type) {
  const bool are_bits = std::all_of(text.begin(), text.end(), [](char c) { return c == '0' || c == '1'; });
  const bool fits = are_bits && (!type.length || (type.is_padded ? text.size() == *type.length : text.size() <= *type.length));
  if (fits) return std::nullopt;
  if (!type.length) return Impossible{"its values are bits, such as '101'"};
  return Impossible{fmt::format("its values are {}{} bits, such as '{}'", type.is_padded ? "" : "at most ", *type.length,
                                std::string(std::min<std::size_t>(*type.length, 8), '1'))};
}

// The text of an element, where it is that of a single value. Empty: what a value is compared with is not what an array holds.
bool has_same_text_in_array(Family family) {
  switch (family) {
    case Family::kText:
    case Family::kInteger:
    case Family::kNumeric:
    case Family::kFloat:
    case Family::kUuid:
    case Family::kDate:
    case Family::kEnum:
    case Family::kTime:
    case Family::kInet:
    case Family::kCidr:
    case Family::kMacaddr:
    case Family::kBits:
    case Family::kOid:
      return true;
    default:
      return false;
  }
}

bool may_be_element(const std::string& text, const ColumnType& element) {
  if (element.family == Family::kBoolean) return text == "t" || text == "f";
  return !has_same_text_in_array(element.family) || !never_printed(text, element);
}

bool needs_quotes(std::string_view element) {
  constexpr std::string_view kSigns = "\"\\{}, \t\n\r\v\f";
  std::string upper(element);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return element.empty() || upper == "NULL" || element.find_first_of(kSigns) != std::string_view::npos;
}

// "{1,2}", "{{a},{b}}": all of one depth, each list of it as long as the others.
class PrintedArray {
 public:
  PrintedArray(std::string_view text, const ColumnType& type) : rest_(text), element_(type.element.empty() ? nullptr : &type.element[0]) {}

  bool is_printed() {
    if (rest_ == "{}") return true;
    if (rest_.starts_with('[')) rest_.remove_prefix(std::min(rest_.find('=') + 1, rest_.size()));  // bounds that do not begin at 1
    return read_list(0) && rest_.empty();
  }

 private:
  bool accept(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool read_list(std::size_t depth) {
    constexpr std::size_t kDepthMax = 6;
    if (depth == kDepthMax || !accept('{')) return false;
    if (lengths_.size() == depth) lengths_.push_back(0);
    const bool is_of_lists = rest_.starts_with('{');
    if (is_of_lists ? deepest_ && depth >= *deepest_ : deepest_ && depth != *deepest_) return false;
    if (!is_of_lists) deepest_ = depth;
    std::size_t length = 0;
    do {
      if (!(is_of_lists ? read_list(depth + 1) : read_element())) return false;
      ++length;
    } while (accept(','));
    if (lengths_[depth] != 0 && lengths_[depth] != length) return false;
    lengths_[depth] = length;
    return accept('}');
  }

  bool read_element() {
    std::string text;
    const bool is_quoted = accept('"');
    while (!rest_.empty() && (is_quoted ? rest_[0] != '"' : rest_[0] != ',' && rest_[0] != '}')) {
      if (is_quoted && rest_[0] == '\\') rest_.remove_prefix(1);
      if (rest_.empty()) return false;
      text += rest_[0];
      rest_.remove_prefix(1);
    }
    if (is_quoted && !accept('"')) return false;
    if (!is_quoted && text == "NULL") return true;
    if (is_quoted != needs_quotes(text)) return false;
    return element_ == nullptr || may_be_element(text, *element_);
  }

  std::string_view rest_;
  const ColumnType* element_;
  std::vector<std::size_t> lengths_;  // of the lists of each depth; 0: none has been read
  std::optional<std::size_t> deepest_;  // where the elements are
};

Verdict judge_array(std::string_view text, const ColumnType& type) {
  if (PrintedArray(text, type).is_printed()) return std::nullopt;
  const bool is_of_booleans = !type.element.empty() && type.element[0].family == Family::kBoolean;
  return Impossible{is_of_booleans ? "its values are arrays, such as '{t,f}' or '{NULL}'" : "its values are arrays as PostgreSQL prints them, such as '{a,b}' or '{\"a b\",c}'"};
}

Verdict judge_oid(std::string_view text) {
  std::uint64_t number = 0;
  const bool fits = is_whole(text) && std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc() && number <= UINT32_MAX;
  return fits ? Verdict() : Impossible{"its values are numbers from 0 to 4294967295"};
}

}  // namespace

std::optional<NeverPrinted> never_printed(const std::string& text, const ColumnType& type) {
  switch (type.family) {
    case Family::kBoolean:
      return judge_boolean(text);
    case Family::kInteger:
      return judge_integer(text, type.bytes);
    case Family::kNumeric:
      return judge_numeric(text, type);
    case Family::kFloat:
      return judge_float(text, type.bytes);
    case Family::kUuid:
      return judge_uuid(text);
    case Family::kDate:
    case Family::kTimestamp:
    case Family::kTimestampTz:
      return judge_time(text, type);
    case Family::kBytea:
      return judge_bytea(text);
    case Family::kJson:
      return judge_json(text, type.is_binary);
    case Family::kArray:
      return judge_array(text, type);
    case Family::kEnum: {
      if (std::find(type.labels.begin(), type.labels.end(), text) != type.labels.end()) return std::nullopt;
      const std::vector<std::string_view> labels(type.labels.begin(), type.labels.end());
      return Impossible{did_you_mean(text, labels, "labels")};
    }
    case Family::kText:
      return judge_text(text, type);
    case Family::kTime:
      return judge_time_of_day(text, type);
    case Family::kInet:
    case Family::kCidr:
      return judge_network(text, type.family == Family::kCidr);
    case Family::kMacaddr:
      return judge_macaddr(text, type.bytes);
    case Family::kBits:
      return judge_bits(text, type);
    case Family::kOid:
      return judge_oid(text);
    case Family::kUnknown:
    case Family::kOther:
    case Family::kForeign:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace evictd
