// Small readings of text that more than one room needs. Pure.
#pragma once

#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>

namespace evictd {

// All of `text` as a number; false when it is anything else.
template <typename Number>
bool read_number(std::string_view text, Number& number, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

// "%2F" -> "/". False when a '%' is not followed by two hex digits.
inline bool decode_percent(std::string_view text, std::string& decoded) {
  decoded.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned char byte = 0;
    if (i + 2 >= text.size() || !read_number(text.substr(i + 1, 2), byte, 16)) return false;
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return true;
}

// "1 rule", "2 rules".
inline std::string counted(std::size_t count, std::string_view word) {
  return std::to_string(count) + ' ' + std::string(word) + (count == 1 ? "" : "s");
}

}  // namespace evictd
