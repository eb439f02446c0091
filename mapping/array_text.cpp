#include "mapping/array_text.h"

namespace evictd {
namespace {

constexpr int kDimensionsMax = 6;  // PostgreSQL's own limit

bool is_null_word(std::string_view word) {
  if (word.size() != 4) return false;
  for (std::size_t i = 0; i < 4; ++i) {
    const char c = word[i] >= 'a' && word[i] <= 'z' ? static_cast<char>(word[i] - 'a' + 'A') : word[i];
    if (c != "NULL"[i]) return false;
  }
  return true;
}

// The text behind the bounds "[0:1][2:3]=".
std::string_view behind_bounds(std::string_view text) {
  if (!text.starts_with('[')) return text;
  const std::size_t end = text.find('=');
  if (end == std::string_view::npos) return {};
  if (text.substr(0, end).find_first_not_of("[]:+-0123456789") != std::string_view::npos) return {};
  return text.substr(end + 1);
}

class ArrayReader {
 public:
  ArrayReader(std::string_view text, const std::function<void(std::optional<std::string_view>)>& element)
      : rest_(text), element_(element) {}

  bool read() { return read_array(1) && rest_.empty(); }

 private:
  bool accept(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool read_array(int dimension) {
    if (dimension > kDimensionsMax || !accept('{')) return false;
    if (accept('}')) return true;
    do {
      if (!(rest_.starts_with('{') ? read_array(dimension + 1) : read_element())) return false;
    } while (accept(','));
    return accept('}');
  }

  bool read_element() {
    text_.clear();
    if (accept('"')) {
      while (!rest_.empty() && rest_[0] != '"') {
        if (rest_[0] == '\\') rest_.remove_prefix(1);
        if (rest_.empty()) return false;
        text_ += rest_[0];
        rest_.remove_prefix(1);
      }
      if (!accept('"')) return false;
      element_(text_);
      return true;
    }
    bool is_escaped = false;
    while (!rest_.empty() && rest_[0] != ',' && rest_[0] != '}') {
      if (rest_[0] == '"' || rest_[0] == '{') return false;
      if (rest_[0] == '\\') {
        is_escaped = true;
        rest_.remove_prefix(1);
        if (rest_.empty()) return false;
      }
      text_ += rest_[0];
      rest_.remove_prefix(1);
    }
    if (text_.empty()) return false;
    element_(!is_escaped && is_null_word(text_) ? std::nullopt : std::optional<std::string_view>(text_));
    return true;
  }

  std::string_view rest_;
  const std::function<void(std::optional<std::string_view>)>& element_;
  std::string text_;
};

}  // namespace

bool looks_like_array_text(std::string_view text) { return behind_bounds(text).starts_with('{'); }

bool for_each_element(std::string_view text, const std::function<void(std::optional<std::string_view>)>& element) {
  return ArrayReader(behind_bounds(text), element).read();
}

}  // namespace evictd
