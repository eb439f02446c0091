// A text that must never be shown: a URL with a password, a key. It has no implicit way out:
// reveal() is for the library that needs it, and can be searched for.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace evictd {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}

  const std::string& reveal() const { return text_; }
  bool empty() const { return text_.empty(); }

 private:
  std::string text_;
};

}  // namespace evictd

template <>
struct fmt::formatter<evictd::Secret> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(const evictd::Secret&, Context& context) const {
    return fmt::formatter<fmt::string_view>::format("***", context);
  }
};
