// Reads one value out of a JSON text. The JSON library is included in json_path.cpp only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace evictd {

inline constexpr std::size_t kJsonPathStepsMax = 16;

enum class JsonFound : std::uint8_t {
  kValue,    // its text was appended
  kNull,     // JSON null, or nothing at this path: what PostgreSQL's #>> calls NULL
  kInvalid,  // the text is not JSON
};

enum class JsonSame : std::uint8_t { kSame, kDifferent, kFirstInvalid, kSecondInvalid };

// Keeps its buffers between calls. Not thread-safe.
class JsonReader {
 public:
  JsonReader();
  ~JsonReader();

  // Follows `path`: a name into an object (of a name given twice, the last: as PostgreSQL and
  // applications read it), a number into an array. A string is appended unescaped, a number as it
  // is written (never through a double), true and false, an object or array as compact JSON. `is_string`, where it is given, says whether
  // it is a string.
  JsonFound find(std::string_view json, std::span<const std::string> path, std::string& out, bool* is_string = nullptr);

  // The same for each element of the array that `path` leads to, and `element_path` from there; nothing stands for NULL, as
  // above. kNull when there is no array. The view is valid only during the call, which must not use this reader.
  JsonFound each(std::string_view json, std::span<const std::string> path, std::span<const std::string> element_path,
                 const std::function<void(std::optional<std::string_view>)>& element);

  // Whether two texts are the same JSON: white space, the order of names, escapes and the way a number is written
  // (1.50, 15e-1) do not count; of a name given twice the last does.
  JsonSame same(std::string_view a, std::string_view b);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One text for every way of writing a JSON number: "1.50", "15e-1" -> "15e-1". Exact, whatever the size.
std::string json_number_text(std::string_view number);

}  // namespace evictd
