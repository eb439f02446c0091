#include "mapping/canonical.h"

namespace evictd {

namespace {

void append_lower_ascii(std::string_view text, std::string& out) {
  for (const char c : text) out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_timestamp(std::string_view text, bool with_zone, std::string& out) {
  constexpr std::string_view kBeforeChrist = " BC";
  std::string_view era;
  if (text.ends_with(kBeforeChrist)) {
    era = kBeforeChrist;
    text.remove_suffix(era.size());
  }
  const std::size_t gap = text.find(' ');
  if (gap == std::string_view::npos) {  // infinity
    out += text;
    out += era;
    return;
  }
  out += text.substr(0, gap);
  out += 'T';
  std::string_view time = text.substr(gap + 1);
  bool is_utc = false;
  if (with_zone) {
    for (const std::string_view zone : {"+00", "+00:00", "-00", "Z"}) {
      if (time.ends_with(zone) && time.size() > zone.size() &&
          is_digit(time[time.size() - zone.size() - 1])) {
        time.remove_suffix(zone.size());
        is_utc = true;
        break;
      }
    }
  }
  out += time;
  if (is_utc) out += 'Z';
  out += era;
}

void append_compact_json(std::string_view text, std::string& out) {
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
      ++i;
    } else if (c == '"') {
      std::size_t end = i + 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      end = end < text.size() ? end + 1 : text.size();
      out += text.substr(i, end - i);
      i = end;
    } else {
      out += c;
      ++i;
    }
  }
}

}  // namespace

void append_canonical(ValueType type, std::string_view text, std::string& out) {
  switch (type) {
    case ValueType::kText:
    case ValueType::kDate:
    case ValueType::kCanonical:
      out += text;
      return;
    case ValueType::kBoolean:
      out += text == "t" ? "true" : text == "f" ? "false" : text;
      return;
    case ValueType::kUuid:
      append_lower_ascii(text, out);
      return;
    case ValueType::kTimestamp:
      append_timestamp(text, false, out);
      return;
    case ValueType::kTimestampTz:
      append_timestamp(text, true, out);
      return;
    case ValueType::kBytea:
      append_lower_ascii(text.starts_with("\\x") ? text.substr(2) : text, out);
      return;
    case ValueType::kJson:
      append_compact_json(text, out);
      return;
  }
}

}  // namespace evictd
