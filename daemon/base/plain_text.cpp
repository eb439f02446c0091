#include "daemon/base/plain_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "mapping/utf8.h"

namespace evictd {
namespace {

// Characters of UTF-8 that a terminal obeys or that turn the text around it: the controls U+0080 to U+009F (C1), and the marks of
// direction.
bool steers(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 2) return (byte(0) == 0xc2 && byte(1) < 0xa0) || character == "\xd8\x9c";  // U+061C
  if (character.size() != 3 || byte(0) != 0xe2) return false;
  // U+200E, U+200F, U+2028 to 202E; U+2066 to 2069
  if (byte(1) == 0x80) return byte(2) == 0x8e || byte(2) == 0x8f || (byte(2) >= 0xa8 && byte(2) <= 0xae);
  return byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
}

}  // namespace

std::string plain_line(std::string_view text) {
  std::string line;
  line.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text.substr(i));
    const auto byte = static_cast<unsigned char>(text[i]);
    if (length == 0) {
      line += '?';
      ++i;
      continue;
    }
    if (byte < 0x20 || byte == 0x7f) {
      line += ' ';
    } else if (steers(text.substr(i, length))) {
      line += '?';
    } else {
      line += text.substr(i, length);
    }
    i += length;
  }
  return line;
}

std::string plain_lines(std::string_view text) {
  std::string lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines += plain_line(text.substr(0, end));
    if (end == text.size()) break;
    lines += '\n';
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::string printable_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view one = text.substr(0, std::max<std::size_t>(length, 1));
    const auto byte = static_cast<unsigned char>(one.front());
    if (length == 0 || byte < 0x20 || byte == 0x7f || steers(one)) {
      for (const char c : one) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += one;
    }
    text.remove_prefix(one.size());
  }
  return out;
}

}  // namespace evictd
