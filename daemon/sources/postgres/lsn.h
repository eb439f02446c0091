// Lsn: a place in PostgreSQL's write-ahead log, with its text form "16/B374D848".
#pragma once

#include <charconv>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evictd {

struct Lsn {
  std::uint64_t value = 0;  // 0: none

  friend constexpr auto operator<=>(const Lsn&, const Lsn&) = default;

  std::string to_string() const {
    char text[20];
    char* at = std::to_chars(text, text + 9, value >> 32, 16).ptr;
    *at++ = '/';
    at = std::to_chars(at, text + 20, value & 0xffffffffu, 16).ptr;
    for (char* c = text; c != at; ++c) {
      if (*c >= 'a' && *c <= 'f') *c = static_cast<char>(*c - 'a' + 'A');
    }
    return std::string(text, at);
  }

  static std::optional<Lsn> parse(std::string_view text) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    std::uint32_t high = 0;
    std::uint32_t low = 0;
    if (!parse_half(text.substr(0, slash), high) || !parse_half(text.substr(slash + 1), low)) {
      return std::nullopt;
    }
    return Lsn{(std::uint64_t{high} << 32) | low};
  }

 private:
  static bool parse_half(std::string_view text, std::uint32_t& half) {
    if (text.empty() || text.size() > 8) return false;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), half, 16);
    return error == std::errc{} && end == text.data() + text.size();
  }
};

}  // namespace evictd
