// Reads one level of a JSON object or array at a time: the only file pair of this room that knows
// simdjson.
//
// Numbers stay text (a 64-bit id or a decimal must not pass through a double). Objects and arrays
// stay raw text, to be read by another JsonLevel if wanted. Everything a reader hands out points
// into the text it was given or into the reader itself and stays valid until its next read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/error.h"

namespace evictd {

enum class JsonKind : std::uint8_t { kNull, kTrue, kFalse, kNumber, kString, kObject, kArray };

struct JsonValue {
  JsonKind kind = JsonKind::kNull;
  std::string_view text;  // kString: unescaped; kNumber, kObject, kArray: as written; else empty

  bool is_string(std::string_view other) const {
    return kind == JsonKind::kString && text == other;
  }
};

struct JsonField {
  std::string_view name;
  JsonValue value;
};

// Text followed by the readable bytes that simdjson wants after it. Parts of it may be read as
// well.
class PaddedText {
 public:
  std::string_view assign(std::string_view text);

 private:
  std::string buffer_;
};

class JsonLevel {
 public:
  JsonLevel();
  ~JsonLevel();
  JsonLevel(JsonLevel&&) noexcept;

  // An object within the one that is read, to be read in the same pass into a level of its own.
  struct Inner {
    std::string_view name;
    JsonLevel* level;
  };

  // `text` must lie within a PaddedText. kData with a short text on anything but a whole object.
  // What an inner level holds stays valid until the next read of this one; it is empty when there
  // is no object of that name.
  Result<void> read_object(std::string_view text, std::span<const Inner> inner = {});
  Result<void> read_array(std::string_view text);

  const std::vector<JsonField>& fields() const { return fields_; }
  // The value of a field, or null. The last one wins when a name comes twice, as in JavaScript.
  const JsonValue* find(std::string_view name) const;
  const std::vector<JsonValue>& elements() const { return elements_; }

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
  std::vector<JsonField> fields_;
  std::vector<JsonValue> elements_;
};

}  // namespace evictd
