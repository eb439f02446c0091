// A number or a time that a column's values are compared with, by value and not as texts: 9 is less than 10, and 1.50 is
// 1.5. Exact, whatever the number of digits.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evictd {

class Bound {
 public:
  enum class Kind : std::uint8_t { kNumber, kTime };

  // "12", "-0.5", "1e3"; "2024-02-03", "2024-02-03T04:05:06.789", the same with 'Z' at the end for a time in UTC. A space
  // may stand for the 'T'. Nothing for any other text.
  static std::optional<Bound> parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool has_time_of_day() const { return has_time_of_day_; }
  bool has_zone() const { return has_zone_; }
  // One text for every way of writing it, for digests.
  const std::string& text() const { return text_; }
  // As it was written, for messages.
  const std::string& written() const { return written_; }

  // How a canonical text (canonical.h) stands to the bound: less, equal, greater. Nothing when it is of another kind, which
  // proves nothing. PostgreSQL's order: 'infinity' is later than every time, 'NaN' greater than every number.
  std::optional<std::strong_ordering> compare(std::string_view value) const;

 private:
  Kind kind_ = Kind::kNumber;
  bool has_time_of_day_ = false;
  bool has_zone_ = false;
  std::string text_;
  std::string written_;
};

}  // namespace evictd
