// Filters of templates: {column|filter|filter('argument')}. Compiled once with the rules, applied
// in place.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "mapping/error.h"

namespace evictd {

struct Filter {
  enum class Kind : std::uint8_t {
    kLower,  // Unicode, one character to one (ß stays ß in upper), by the C.UTF-8 locale
    kUpper,
    kTrim,       // ASCII white space at both ends
    kUrlEncode,  // all but A-Z a-z 0-9 - . _ ~ as %XX (RFC 3986)
    kMd5,        // the hashes: of the bytes, as lower-case hex
    kSha1,
    kSha256,
    kDate,     // a date or timestamp, printed by the argument: %Y %y %m %d %j %H %M %S %%
    kDefault,  // the argument, in place of NULL
    // Those of semantic orders (semantic.h), which no template names.
    kFrame,
    kVector,  // FLOAT32s of a vector's text; of any other text: nothing
  };
  Kind kind = Kind::kLower;
  std::string argument;
};

// "lower", "date": as templates write it.
std::string_view filter_name(Filter::Kind kind);

// The filter of that name, its argument checked. The error has no place: the caller knows it.
// `has_argument`: whether parentheses were written.
Result<Filter> make_filter(std::string_view name, bool has_argument, std::string argument);

// Applies filters; keeps its buffers between calls. Not thread-safe.
class FilterMachine {
 public:
  FilterMachine();
  ~FilterMachine();

  // False when the value is not what the filter works on (a date that is none). Not for kDefault,
  // which has nothing to do with a value that is there.
  bool apply(const Filter& filter, std::string& value);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
