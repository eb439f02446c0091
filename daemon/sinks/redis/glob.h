// Redis's globs, matched on our side: one reading of the key space serves many patterns, of which SCAN takes one. A
// name matches here exactly when it does in Redis (SCAN MATCH, KEYS), for any bytes on either side. Pure.
//
//   *       any bytes, or none
//   ?       any byte
//   [abc]   one of these; a-z is a range (either end first), ^ in front turns it round, \ takes the next byte as it is.
//           Without its ']' it ends with the glob
//   \x      x itself
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace evictd {

class Glob {
 public:
  explicit Glob(std::string_view text);

  // At most name.size() steps for each '*', and one for each other byte.
  bool matches(std::string_view name) const;

  // One name that matches, as plain as can be; nothing for a glob that none does ("[]").
  std::optional<std::string> sample() const;

  // What every name begins with that matches; the name itself when is_literal().
  const std::string& prefix() const { return prefix_; }
  bool is_literal() const { return steps_.empty(); }

 private:
  using Bytes = std::bitset<256>;
  enum class Kind : std::uint8_t { kByte, kAny, kOneOf, kMany };
  struct Step {
    Kind kind = Kind::kByte;
    unsigned char byte = 0;
    std::uint32_t one_of = 0;  // index in classes_
  };

  bool takes(const Step& step, unsigned char byte) const;

  bool is_everything_;
  std::string prefix_;
  std::vector<Step> steps_;  // behind the prefix
  std::vector<Bytes> classes_;
};

// The glob of the names that begin with `prefix`.
std::string glob_of_prefix(std::string_view prefix);

// What both begin with.
std::string_view common_prefix(std::string_view a, std::string_view b);

}  // namespace evictd
