#include "mapping/column_use.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "mapping/array_text.h"
#include "mapping/canonical.h"
#include "mapping/did_you_mean.h"
#include "mapping/json_path.h"
#include "mapping/rules_compiled.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

using Family = ColumnType::Family;

struct Impossible {
  std::string hint;
};
using Verdict = std::optional<Impossible>;  // nothing: a value may have this text

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool all_digits(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_digit); }

// Digits as PostgreSQL prints a whole number: without zeros in front.
bool is_whole(std::string_view text) { return all_digits(text) && (text.size() == 1 || text[0] != '0'); }

// Somebody wrote a comparison as a text.
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

Verdict judge_numeric(std::string_view text, std::optional<int> scale) {
  if (text == "NaN" || text == "Infinity" || text == "-Infinity") return std::nullopt;
  const std::string_view number = text.substr(text.starts_with('-') ? 1 : 0);
  const std::size_t point = std::min(number.find('.'), number.size());
  const bool has_point = point < number.size();
  const std::string_view fraction = has_point ? number.substr(point + 1) : std::string_view();
  if (!is_whole(number.substr(0, point)) || (has_point && !all_digits(fraction))) {
    std::string hint = comparison_hint(text);
    return Impossible{hint.empty() ? "its values are numbers without an exponent, such as 7 or 1.50" : hint};
  }
  if (!scale || *scale < 0 || fraction.size() == static_cast<std::size_t>(*scale)) return std::nullopt;
  std::string written(text.substr(0, text.size() - (has_point ? fraction.size() + 1 : 0)));
  std::string digits(fraction.substr(0, static_cast<std::size_t>(*scale)));
  digits.append(static_cast<std::size_t>(*scale) - digits.size(), '0');
  if (*scale > 0) written += "." + digits;
  return Impossible{fmt::format("its values have {} digits after the point, such as '{}'; {{gte: ..., lte: ...}} compares by value",
                                *scale, written)};
}

// Printed as short as it may be.
Verdict judge_float(std::string_view text) {
  if (text == "NaN" || text == "Infinity" || text == "-Infinity") return std::nullopt;
  const std::optional<Bound> number = Bound::parse(text);
  if (!number || number->kind() != Bound::Kind::kNumber) {
    std::string hint = comparison_hint(text);
    return Impossible{hint.empty() ? "its values are numbers" : hint};
  }
  const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
  const bool has_zeros = text.find('.') != std::string_view::npos && text.find_first_of("eE") == std::string_view::npos && (text.ends_with('0') || text.ends_with('.'));
  const bool is_printed_so = !digits.empty() && is_digit(digits[0]) && !has_zeros && (digits.size() == 1 || digits[0] != '0' || !is_digit(digits[1]));
  return is_printed_so ? Verdict() : Impossible{"its values are written as short as they may be, such as '0.5' or '7'; {gte: ..., lte: ...} compares by value"};
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

Verdict judge_time(std::string_view text, Family family) {
  if (text == "infinity" || text == "-infinity" || text.ends_with(" BC")) return std::nullopt;
  const std::optional<Bound> time = Bound::parse(text);
  const bool is_as_printed = time && time->kind() == Bound::Kind::kTime && time->text() == text;
  const std::size_t point = text.find('.');
  const bool has_zeros = point != std::string_view::npos && text.substr(0, text.find('Z')).ends_with('0');
  if (is_as_printed && !has_zeros) {
    if (family == Family::kDate && !time->has_time_of_day()) return std::nullopt;
    if (family == Family::kTimestamp && time->has_time_of_day() && !time->has_zone()) return std::nullopt;
    if (family == Family::kTimestampTz && time->has_zone()) return std::nullopt;
  }
  const char* example = family == Family::kDate        ? "2024-02-03"
                        : family == Family::kTimestamp ? "2024-02-03T04:05:06.789"
                                                       : "2024-02-03T04:05:06.789Z";
  return Impossible{fmt::format("its values are such as '{}'; {{gte: ..., lt: ...}} compares by value", example)};
}

Verdict judge_json(std::string_view text) {
  JsonReader reader;
  if (reader.same(text, text) != JsonSame::kSame) {
    return Impossible{fmt::format("its values are JSON: a text is written '\"{}\"', with its quotes", printable(text))};
  }
  std::string compact;
  append_canonical(ValueType::kJson, text, compact);
  if (compact == text) return std::nullopt;
  return Impossible{fmt::format("its values are compared as compact JSON: write '{}'", printable(compact))};
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

bool is_time_of_day(std::string_view text) {
  constexpr std::string_view kShape = "00:00:00";
  if (text.size() < kShape.size()) return false;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] == '0' ? !is_digit(text[i]) : text[i] != ':') return false;
  }
  text.remove_prefix(kShape.size());
  return text.empty() || (text.size() <= 7 && text[0] == '.' && all_digits(text.substr(1)) && !text.ends_with('0'));
}

Verdict judge_time_of_day(std::string_view text, bool has_zone) {
  const std::size_t zone = has_zone ? std::min(text.find_first_of("+-"), text.size()) : text.size();
  const bool zone_fits = has_zone == (zone < text.size()) && (!has_zone || (text.size() >= zone + 3 && is_digit(text[zone + 1]) && is_digit(text[zone + 2])));
  if (zone_fits && is_time_of_day(text.substr(0, zone))) return std::nullopt;
  return Impossible{fmt::format("its values are such as '09:00:00{}' or '09:00:00.5{}'", has_zone ? "+00" : "", has_zone ? "+00" : "")};
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

std::string sql_text(std::string_view value) {
  std::string text = "'";
  for (const char c : printable(value)) text += c == '\'' ? std::string("''") : std::string(1, c);
  return text + "'";
}

// Elements with a blank in them are in quotes; between them there is none.
Verdict judge_array(std::string_view text) {
  bool is_quoted = false;
  bool has_blank = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      is_quoted = !is_quoted;
    } else {
      has_blank = has_blank || (text[i] == ' ' && !is_quoted);
    }
  }
  const bool reads = looks_like_array_text(text) && for_each_element(text, [](std::optional<std::string_view>) {});
  return reads && !has_blank ? Verdict() : Impossible{"its values are arrays, such as '{a,b}' or '{\"a b\",c}'"};
}

Verdict judge_oid(std::string_view text) {
  std::uint64_t number = 0;
  const bool fits = is_whole(text) && std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc() && number <= UINT32_MAX;
  return fits ? Verdict() : Impossible{"its values are numbers from 0 to 4294967295"};
}

Verdict judge_value(const std::string& text, const ColumnType& type) {
  switch (type.family) {
    case Family::kBoolean:
      return judge_boolean(text);
    case Family::kInteger:
      return judge_integer(text, type.bytes);
    case Family::kNumeric:
      return judge_numeric(text, type.scale);
    case Family::kFloat:
      return judge_float(text);
    case Family::kUuid:
      return judge_uuid(text);
    case Family::kDate:
    case Family::kTimestamp:
    case Family::kTimestampTz:
      return judge_time(text, type.family);
    case Family::kBytea:
      return judge_bytea(text);
    case Family::kJson:
      return judge_json(text);
    case Family::kArray:
      return judge_array(text);
    case Family::kEnum: {
      if (std::find(type.labels.begin(), type.labels.end(), text) != type.labels.end()) return std::nullopt;
      const std::vector<std::string_view> labels(type.labels.begin(), type.labels.end());
      return Impossible{did_you_mean(text, labels, "labels")};
    }
    case Family::kText:
      return judge_text(text, type);
    case Family::kTime:
      return judge_time_of_day(text, type.has_zone);
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
      return std::nullopt;
  }
  return std::nullopt;
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
    for (const std::string& value : use_.values) judge_one(value, true);
    for (const std::string& value : use_.except) judge_one(value, false);
    for (const Bound& bound : use_.bounds) judge_bound(bound);
    if (use_.has_path) judge_path();
    if (use_.has_each && !use_.has_path) judge_each();
    if (use_.has_date) judge_date();
    return std::move(doubts_);
  }

 private:
  void add(bool is_certain, std::string what, std::string hint) {
    doubts_.push_back({is_certain, fmt::format("{}: '{}' {}: its type is {}", use_.where, printable(use_.column), what, type_.name),
                       std::move(hint)});
  }

  void judge_one(const std::string& value, bool is_certain) {
    if (Verdict verdict = judge_value(value, type_)) {
      add(is_certain, fmt::format("is never '{}'", printable(value)), std::move(verdict->hint));
    } else if (type_.family == Family::kNumeric && !type_.scale && is_digit(value.back())) {
      add(false, fmt::format("is compared with '{}' as a text, which '{}0' is not", printable(value), value.find('.') == std::string::npos ? value + "." : value),
          fmt::format("{{gte: {0}, lte: {0}}} compares by value", printable(value)));
    } else if (std::string hint = comparison_hint(value); type_.family == Family::kText && !hint.empty()) {
      add(false, fmt::format("is compared with the text '{}'", printable(value)), hint + " if a comparison is meant");
    } else if (type_.family == Family::kOther) {
      add(false, fmt::format("is compared with the text '{}'", printable(value)),
          fmt::format("it has to be as PostgreSQL prints it: SELECT CAST({} AS {});", sql_text(value), type_.name));
    } else if (!type_.equal_by.empty() && std::any_of(value.begin(), value.end(), [](char c) { return !is_digit(c); })) {
      add(false, fmt::format("is compared with '{}' letter by letter, and {} makes others equal to it", printable(value), type_.equal_by),
          "name each text that rows may hold, or leave the condition out");
    }
  }

  void judge_bound(const Bound& bound) {
    const bool is_number = bound.kind() == Bound::Kind::kNumber;
    if (type_.family == Family::kText) {
      add(false, fmt::format("is compared with the {} '{}'", is_number ? "number" : "time", printable(bound.written())),
          "a text that is none always matches");
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

  void judge_path() {
    if (type_.family == Family::kJson) return;
    if (type_.family == Family::kText) {
      add(false, "has a path behind it", "values that are no JSON have no key; a path is for json and jsonb, or texts that hold JSON");
    } else if (type_.family == Family::kArray) {
      add(true, "has a path behind it", fmt::format("a path leads into JSON; {{{}.*}} gives one key for each element", use_.column));
    } else {
      add(true, "has a path behind it", "a path leads into JSON: json, jsonb, or a text that holds JSON");
    }
  }

  void judge_each() {
    if (type_.family == Family::kJson || type_.family == Family::kArray) return;
    add(type_.family != Family::kText, "has no elements", "'.*' is for arrays: of PostgreSQL, or in JSON");
  }

  void judge_date() {
    if (is_time_family(type_.family)) return;
    add(type_.family != Family::kText, "is no date", "date(...) is for date, timestamp and timestamptz; other values give no key");
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
        use.has_date = placeholder.path.empty() && !placeholder.each &&
                       std::any_of(placeholder.filters.begin(), placeholder.filters.end(),
                                   [](const Filter& filter) { return filter.kind == Filter::Kind::kDate; });
        if (use.has_path || use.has_each || use.has_date) uses.push_back(std::move(use));
      }
    }
    for (const Condition& condition : compiled.rules[index].where) {
      ColumnUse use;
      use.rule = index;
      use.column = condition.column;
      use.place = condition.place;
      use.where = "where";
      use.values = condition.among.texts;
      use.except = condition.except.texts;
      for (const auto& [comparison, bound] : condition.comparisons) use.bounds.push_back(bound);
      if (condition.crosses) use.bounds.push_back(*condition.crosses);
      uses.push_back(std::move(use));
    }
  }
  return uses;
}

std::vector<TypeDoubt> type_doubts(const ColumnUse& use, const ColumnType& type) { return Judge(use, type).all(); }

}  // namespace evictd
