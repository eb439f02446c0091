#include "daemon/base/json.h"

#include <fmt/core.h>

#include <cmath>

namespace evictd {
namespace {

// The length of the UTF-8 sequence at the front of `text`, or 0 when there is no valid one.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t index = 1; index < length; ++index) {
    if ((byte(index) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if (lead == 0xe0 && byte(1) < 0xa0) return 0;
  if (lead == 0xed && byte(1) > 0x9f) return 0;
  if (lead == 0xf0 && byte(1) < 0x90) return 0;
  if (lead == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

}  // namespace

void append_json_quoted(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const char c = text.front();
    if (length == 0) {
      out += "\\ufffd";
      text.remove_prefix(1);
      continue;
    }
    if (length > 1) {
      out += text.substr(0, length);
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
    text.remove_prefix(length);
  }
  out += '"';
}

std::string json_quoted(std::string_view text) {
  std::string out;
  append_json_quoted(out, text);
  return out;
}

void JsonWriter::separate() {
  if (!first_) out_ += ',';
  first_ = false;
}

void JsonWriter::name(std::string_view text) {
  separate();
  append_json_quoted(out_, text);
  out_ += ':';
}

JsonWriter& JsonWriter::begin_object() {
  separate();
  out_ += '{';
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::begin_object(std::string_view field_name) {
  name(field_name);
  out_ += '{';
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::end_object() {
  out_ += '}';
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::begin_array(std::string_view field_name) {
  name(field_name);
  out_ += '[';
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::end_array() {
  out_ += ']';
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  separate();
  append_json_quoted(out_, text);
  return *this;
}

JsonWriter& JsonWriter::field(std::string_view field_name, std::string_view text) {
  name(field_name);
  append_json_quoted(out_, text);
  return *this;
}

JsonWriter& JsonWriter::field(std::string_view field_name, const char* text) {
  return field(field_name, std::string_view(text));
}

JsonWriter& JsonWriter::field(std::string_view field_name, bool flag) {
  name(field_name);
  out_ += flag ? "true" : "false";
  return *this;
}

JsonWriter& JsonWriter::field(std::string_view field_name, std::uint64_t number) {
  name(field_name);
  out_ += std::to_string(number);
  return *this;
}

JsonWriter& JsonWriter::field(std::string_view field_name, std::int64_t number) {
  name(field_name);
  out_ += std::to_string(number);
  return *this;
}

JsonWriter& JsonWriter::field(std::string_view field_name, double number) {
  if (!std::isfinite(number)) return field_null(field_name);
  name(field_name);
  out_ += fmt::format("{}", number);
  return *this;
}

JsonWriter& JsonWriter::field_null(std::string_view field_name) {
  name(field_name);
  out_ += "null";
  return *this;
}

}  // namespace evictd
