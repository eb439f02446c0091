#include "mapping/binary_json.h"

#include <algorithm>
#include <string>

namespace evictd {
namespace {

constexpr std::string_view kNumberSigns = "0123456789+-.eE";
constexpr int kDepthMax = 200;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t take_digits(std::string_view& text) {
  const auto count = static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_digit) - text.begin());
  text.remove_prefix(count);
  return count;
}

bool take(std::string_view& text, std::string_view one_of) {
  if (text.empty() || one_of.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

bool is_json_number(std::string_view text) {
  take(text, "-");
  if (take(text, "0") ? !text.empty() && is_digit(text[0]) : take_digits(text) == 0) return false;
  if (take(text, ".") && take_digits(text) == 0) return false;
  if (take(text, "eE")) {
    take(text, "+-");
    if (take_digits(text) == 0) return false;
  }
  return text.empty();
}

// Behind the closing quote of the text that begins at `at`.
std::size_t end_of_text(std::string_view json, std::size_t at) {
  for (++at; at < json.size() && json[at] != '"'; ++at) {
    if (json[at] == '\\') ++at;
  }
  return std::min(at + 1, json.size());
}

class BinaryJson {
 public:
  explicit BinaryJson(std::string_view json) : rest_(json) {}

  bool is_one() { return read_value(0) && rest_.empty(); }

 private:
  bool read_value(int depth) {
    if (rest_.empty() || depth > kDepthMax) return false;
    switch (rest_[0]) {
      case '{':
        return read_object(depth);
      case '[':
        return read_list(depth);
      case '"': {
        std::string ignored;
        return read_text(ignored);
      }
      default:
        return read_word();
    }
  }

  bool read_object(int depth) {
    std::string before;
    bool is_first = true;
    take(rest_, "{");
    if (take(rest_, "}")) return true;
    do {
      std::string name;
      if (!read_text(name) || !take(rest_, ":")) return false;
      const bool is_after = is_first || name.size() > before.size() || (name.size() == before.size() && name > before);
      if (!is_after || !read_value(depth + 1)) return false;
      before = std::move(name);
      is_first = false;
    } while (take(rest_, ","));
    return take(rest_, "}");
  }

  bool read_list(int depth) {
    take(rest_, "[");
    if (take(rest_, "]")) return true;
    do {
      if (!read_value(depth + 1)) return false;
    } while (take(rest_, ","));
    return take(rest_, "]");
  }

  // Escaped are the quote, the backslash, and control characters: by a letter where there is one.
  bool read_text(std::string& text) {
    if (!rest_.starts_with('"')) return false;
    const std::size_t end = end_of_text(rest_, 0);
    const std::string_view raw = rest_.substr(1, end - 2);
    rest_.remove_prefix(end);
    constexpr std::string_view kLetters = "\"\\bfnrt";
    constexpr std::string_view kMeant = "\"\\\b\f\n\r\t";
    for (std::size_t at = 0; at < raw.size(); ++at) {
      if (raw[at] != '\\') {
        text += raw[at];
        continue;
      }
      if (++at == raw.size()) return false;
      if (const std::size_t letter = kLetters.find(raw[at]); letter != std::string_view::npos) {
        text += kMeant[letter];
        continue;
      }
      constexpr std::string_view kHex = "0123456789abcdef";
      const std::string_view code = raw.substr(at, 5);
      if (code.size() < 5 || !code.starts_with("u00") || (code[3] != '0' && code[3] != '1') || kHex.find(code[4]) == std::string_view::npos) return false;
      const char meant = static_cast<char>((code[3] - '0') * 16 + static_cast<int>(kHex.find(code[4])));
      if (kMeant.find(meant) != std::string_view::npos) return false;
      text += meant;
      at += 4;
    }
    return true;
  }

  bool read_word() {
    const std::size_t end = std::min(rest_.find_first_of(",]}"), rest_.size());
    const std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(end);
    if (word == "true" || word == "false" || word == "null") return true;
    if (!is_json_number(word) || word.find_first_of("eE") != std::string_view::npos) return false;
    return !word.starts_with('-') || word.find_first_not_of("-0.") != std::string_view::npos;
  }

  std::string_view rest_;
};

}  // namespace

bool has_json_numbers(std::string_view json) {
  for (std::size_t at = 0; at < json.size();) {
    if (json[at] == '"') {
      at = end_of_text(json, at);
    } else if (is_digit(json[at]) || json[at] == '-') {
      const std::size_t end = std::min(json.find_first_not_of(kNumberSigns, at), json.size());
      if (!is_json_number(json.substr(at, end - at))) return false;
      at = end;
    } else {
      ++at;
    }
  }
  return true;
}

bool is_binary_json(std::string_view json) { return BinaryJson(json).is_one(); }

}  // namespace evictd
