#include "mapping/filters.h"

#include <fmt/format.h>
#include <locale.h>
#include <openssl/evp.h>
#include <wctype.h>

#include <array>
#include <charconv>
#include <optional>

#include "mapping/check.h"
#include "mapping/did_you_mean.h"
#include "mapping/semantic.h"
#include "mapping/utf8.h"

namespace evictd {

namespace {

struct Description {
  std::string_view name;
  Filter::Kind kind;
  std::string_view example;  // of a call; empty when the filter takes no argument
};

constexpr Description kFilters[] = {
    {"lower", Filter::Kind::kLower, ""},
    {"upper", Filter::Kind::kUpper, ""},
    {"trim", Filter::Kind::kTrim, ""},
    {"urlencode", Filter::Kind::kUrlEncode, ""},
    {"md5", Filter::Kind::kMd5, ""},
    {"sha1", Filter::Kind::kSha1, ""},
    {"sha256", Filter::Kind::kSha256, ""},
    {"date", Filter::Kind::kDate, "date('%Y-%m-%d')"},
    {"default", Filter::Kind::kDefault, "default('text')"},
};

constexpr std::size_t kKeptBytesMax = 1024 * 1024;  // of a buffer, from one call to the next

constexpr std::string_view kDateLetters = "YymdjHMS%";

// Made once; never freed, since filters may run until the very end of the process.
locale_t utf8_locale() {
  static const locale_t locale =
      newlocale(LC_CTYPE_MASK, "C.UTF-8", static_cast<locale_t>(nullptr));
  return locale;
}

const EVP_MD* digest(Filter::Kind kind) {
  static const EVP_MD* const md5 = EVP_MD_fetch(nullptr, "MD5", nullptr);
  static const EVP_MD* const sha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return kind == Filter::Kind::kMd5 ? md5 : kind == Filter::Kind::kSha1 ? sha1 : sha256;
}

Result<void> check_date_format(std::string_view format) {
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') continue;
    ++i;
    if (i == format.size() || kDateLetters.find(format[i]) == std::string_view::npos) {
      return fail(ErrorKind::kUsage,
                  fmt::format("unknown '%{}' in a date format",
                              i < format.size() ? printable(format.substr(i, 1)) : ""),
                  "known: %Y %y %m %d %j %H %M %S %%");
    }
  }
  return {};
}

Result<void> check_available(Filter::Kind kind, std::string_view name) {
  const bool folds = kind == Filter::Kind::kLower || kind == Filter::Kind::kUpper;
  if (folds && utf8_locale() == nullptr) {
    return fail(ErrorKind::kUsage, fmt::format("the filter '{}' needs the locale C.UTF-8", name),
                "install it: it comes with the C library's package");
  }
  const bool hashes =
      kind == Filter::Kind::kMd5 || kind == Filter::Kind::kSha1 || kind == Filter::Kind::kSha256;
  if (hashes && digest(kind) == nullptr) {
    return fail(ErrorKind::kUsage,
                fmt::format("the filter '{}' is switched off in this system's OpenSSL", name));
  }
  return {};
}

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

// REQUIRES: `text` begins with a well-formed character of `length` bytes.
char32_t decode_utf8(std::string_view text, std::size_t length) {
  constexpr std::array<unsigned char, 5> kLeadBits = {0, 0x7f, 0x1f, 0x0f, 0x07};
  char32_t c = static_cast<unsigned char>(text[0]) & kLeadBits[length];
  for (std::size_t i = 1; i < length; ++i)
    c = (c << 6) | (static_cast<unsigned char>(text[i]) & 0x3f);
  return c;
}

// Bytes that are not UTF-8 are kept.
void fold(std::string& value, bool to_lower, std::string& scratch) {
  bool is_ascii = true;
  for (char& c : value) {
    if (static_cast<unsigned char>(c) >= 0x80) is_ascii = false;
    if (to_lower && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!to_lower && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  if (is_ascii) return;
  scratch.clear();
  const std::string_view text = value;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text.substr(i));
    if (length <= 1) {
      scratch += text[i++];
      continue;
    }
    const auto c = static_cast<wint_t>(decode_utf8(text.substr(i), length));
    append_utf8(static_cast<char32_t>(to_lower ? towlower_l(c, utf8_locale())
                                               : towupper_l(c, utf8_locale())),
                scratch);
    i += length;
  }
  value.swap(scratch);
}

void trim(std::string& value) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const std::size_t end = value.find_last_not_of(kSpace);
  value.erase(end == std::string::npos ? 0 : end + 1);
  value.erase(0, value.find_first_not_of(kSpace));
}

void url_encode(std::string& value, std::string& scratch) {
  constexpr char kHex[] = "0123456789ABCDEF";
  scratch.clear();
  for (const char c : value) {
    const bool kept = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '.' || c == '_' || c == '~';
    if (kept) {
      scratch += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      scratch += '%';
      scratch += kHex[byte >> 4];
      scratch += kHex[byte & 15];
    }
  }
  value.swap(scratch);
}

struct DateTime {
  std::string_view year;  // four digits or more, as written
  int month = 0;
  int day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
};

// Takes two digits off the front of `text`.
std::optional<int> take_two(std::string_view& text, int min, int max) {
  if (text.size() < 2 || text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
    return std::nullopt;
  const int number = (text[0] - '0') * 10 + (text[1] - '0');
  text.remove_prefix(2);
  if (number < min || number > max) return std::nullopt;
  return number;
}

bool take(std::string_view& text, std::string_view one_of) {
  if (text.empty() || one_of.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// YYYY-MM-DD, or with 'T' or ' ' and HH:MM:SS, a fraction, and a zone. Nothing for 'infinity' and
// years BC, which have no place in a calendar of years AD.
std::optional<DateTime> parse_date_time(std::string_view text) {
  DateTime result;
  if (text.ends_with("BC")) return std::nullopt;
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits < 4) return std::nullopt;
  result.year = text.substr(0, digits);
  text.remove_prefix(digits);
  const auto number = [&text](std::string_view before, int min, int max, int& into) {
    if (!take(text, before)) return false;
    const std::optional<int> value = take_two(text, min, max);
    if (value) into = *value;
    return value.has_value();
  };
  if (!number("-", 1, 12, result.month) || !number("-", 1, 31, result.day)) return std::nullopt;
  if (text.empty()) return result;
  if (!number("T ", 0, 24, result.hour) || !number(":", 0, 59, result.minute) ||
      !number(":", 0, 60, result.second)) {
    return std::nullopt;
  }
  text.remove_prefix(std::min(text.find_first_not_of(".0123456789"), text.size()));
  if (!text.empty() && text[0] != 'Z' && text[0] != '+' && text[0] != '-') return std::nullopt;
  return result;
}

int day_of_year(const DateTime& date) {
  constexpr std::array<int, 12> kDaysBefore = {0,   31,  59,  90,  120, 151,
                                               181, 212, 243, 273, 304, 334};
  // Leap years repeat every 400 years, so the last four digits tell.
  int year = 0;
  const std::string_view last = date.year.substr(date.year.size() - 4);
  std::from_chars(last.data(), last.data() + last.size(), year);
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return kDaysBefore[static_cast<std::size_t>(date.month - 1)] + date.day +
         (leap && date.month > 2 ? 1 : 0);
}

bool format_date(std::string& value, std::string_view format, std::string& scratch) {
  const std::optional<DateTime> date = parse_date_time(value);
  if (!date) return false;
  scratch.clear();
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      scratch += format[i];
      continue;
    }
    const auto out = std::back_inserter(scratch);
    switch (format[++i]) {
      case 'Y':
        scratch += date->year;
        break;
      case 'y':
        scratch += date->year.substr(date->year.size() - 2);
        break;
      case 'm':
        fmt::format_to(out, "{:02}", date->month);
        break;
      case 'd':
        fmt::format_to(out, "{:02}", date->day);
        break;
      case 'j':
        fmt::format_to(out, "{:03}", day_of_year(*date));
        break;
      case 'H':
        fmt::format_to(out, "{:02}", date->hour);
        break;
      case 'M':
        fmt::format_to(out, "{:02}", date->minute);
        break;
      case 'S':
        fmt::format_to(out, "{:02}", date->second);
        break;
      default:
        scratch += '%';
    }
  }
  value.swap(scratch);
  return true;
}

}  // namespace

std::string_view filter_name(Filter::Kind kind) {
  for (const Description& known : kFilters) {
    if (known.kind == kind) return known.name;
  }
  return kind == Filter::Kind::kFrame ? "frame" : kind == Filter::Kind::kVector ? "vector" : "unknown";
}

Result<Filter> make_filter(std::string_view name, bool has_argument, std::string argument) {
  for (const Description& known : kFilters) {
    if (known.name != name) continue;
    if (known.example.empty() && has_argument) {
      return fail(ErrorKind::kUsage, fmt::format("the filter '{}' takes no argument", name));
    }
    if (!known.example.empty() && !has_argument) {
      return fail(ErrorKind::kUsage, fmt::format("the filter '{}' needs an argument", name),
                  fmt::format("write {}", known.example));
    }
    if (known.kind == Filter::Kind::kDate) {
      if (Result<void> format = check_date_format(argument); !format)
        return tl::unexpected(format.error());
    }
    if (Result<void> available = check_available(known.kind, name); !available) {
      return tl::unexpected(available.error());
    }
    return Filter{known.kind, std::move(argument)};
  }
  std::array<std::string_view, std::size(kFilters)> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kFilters[i].name;
  return fail(ErrorKind::kUsage, fmt::format("unknown filter '{}'", printable(name)),
              did_you_mean(name, names, "filters"));
}

struct FilterMachine::Impl {
  struct FreeContext {
    void operator()(EVP_MD_CTX* freed) const { EVP_MD_CTX_free(freed); }
  };
  std::unique_ptr<EVP_MD_CTX, FreeContext> context{EVP_MD_CTX_new()};
  std::string scratch;

  void hash(const EVP_MD* algorithm, std::string& value) {
    constexpr char kHex[] = "0123456789abcdef";
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
    unsigned int length = 0;
    const bool done = EVP_DigestInit_ex2(context.get(), algorithm, nullptr) == 1 &&
                      EVP_DigestUpdate(context.get(), value.data(), value.size()) == 1 &&
                      EVP_DigestFinal_ex(context.get(), bytes.data(), &length) == 1;
    EVICTD_CHECK(done);  // nothing here depends on input: only on memory
    value.clear();
    for (unsigned int i = 0; i < length; ++i) {
      value += kHex[bytes[i] >> 4];
      value += kHex[bytes[i] & 15];
    }
  }
};

FilterMachine::FilterMachine() : impl_(std::make_unique<Impl>()) {
  EVICTD_CHECK(impl_->context != nullptr);
}
FilterMachine::~FilterMachine() = default;

bool FilterMachine::apply(const Filter& filter, std::string& value) {
  if (impl_->scratch.capacity() > kKeptBytesMax) impl_->scratch = std::string();  // G8
  switch (filter.kind) {
    case Filter::Kind::kLower:
      fold(value, true, impl_->scratch);
      return true;
    case Filter::Kind::kUpper:
      fold(value, false, impl_->scratch);
      return true;
    case Filter::Kind::kTrim:
      trim(value);
      return true;
    case Filter::Kind::kUrlEncode:
      url_encode(value, impl_->scratch);
      return true;
    case Filter::Kind::kMd5:
    case Filter::Kind::kSha1:
    case Filter::Kind::kSha256:
      impl_->hash(digest(filter.kind), value);
      return true;
    case Filter::Kind::kDate:
      return format_date(value, filter.argument, impl_->scratch);
    case Filter::Kind::kDefault:
      return true;
    case Filter::Kind::kFrame:
      frame_semantic_value(value);
      return true;
    case Filter::Kind::kVector:
      parse_vector(value, impl_->scratch);
      value.swap(impl_->scratch);
      return true;
  }
  return true;
}

}  // namespace evictd
