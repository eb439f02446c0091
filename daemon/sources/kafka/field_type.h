// What the Connect schema of a Debezium event says about one column, and the text of its values.
//
// Texts come out as PostgreSQL writes them through pgoutput, with the ValueType that the mapping
// expects of that form, so that the canonical text of a value is made in one place only, whichever
// way the row came. Rests on: Debezium documentation, "Data type mappings" of each connector; Kafka
// Connect JsonConverter.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/sources/kafka/json_level.h"
#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

enum class FieldKind : std::uint8_t {
  kUnknown,  // no schema was sent: the JSON itself is all there is
  kString,
  kInteger,
  kFloat32,
  kFloat64,
  kBoolean,
  kBytes,            // base64
  kDecimal,          // base64 of the unscaled value; the scale stands in the schema
  kVariableDecimal,  // {"scale": n, "value": base64}
  kDays,             // since 1970-01-01
  kTime,             // since midnight, in `unit`
  kTimestamp,        // since 1970-01-01, no zone, in `unit`
  kZonedTimestamp,   // ISO 8601 with an offset
  kIsoDate,          // ISO 8601 with 'Z' (time.precision.mode=isostring)
  kIsoTime,
  kIsoTimestamp,
  kIsoInterval,  // ISO 8601 (interval.handling.mode=string)
  kUuid,
  kJson,
  kBits,  // base64, lowest byte first; `length` bits
  kArray,
  kStructure,  // maps and structs: kept as JSON
};

// `unit`: how many of it make a second.
inline constexpr std::int64_t kMillis = 1'000;
inline constexpr std::int64_t kMicros = 1'000'000;
inline constexpr std::int64_t kNanos = 1'000'000'000;

struct FieldType {
  FieldKind kind = FieldKind::kUnknown;
  std::int64_t unit = 0;
  std::int32_t scale = 0;                    // kDecimal
  std::int32_t length = 0;                   // kBits
  std::shared_ptr<const FieldType> element;  // kArray; shared by copies of the type, never changed
  bool is_optional = false;                  // the column may be NULL
  JsonKind default_kind = JsonKind::kNull;   // kNull: there is no default
  std::string default_text;

  ValueType value_type() const;
  // Of an array: how the text of an element has to be read, whatever the depth it lies at.
  ValueType element_value_type() const;
  bool operator==(const FieldType& other) const;
};

// Takes the kind and unit that a logical name gives to a plain type. False: it means what the plain type says.
bool take_logical_name(std::string_view name, FieldType& type);

// From one member of a struct schema's "fields" (or an array's "items"). Unknown logical names fall
// back to their plain Connect type.
Result<FieldType> read_field_type(std::string_view schema_json);

// By column: from the "fields" array of a struct schema, or from the struct schema itself.
using FieldTypes = std::unordered_map<std::string, FieldType>;
Result<FieldTypes> read_field_types(std::string_view fields_json);
Result<FieldTypes> read_struct_types(std::string_view schema_json);

// Memory for texts that do not exist in the record as they are. Pointers stay valid until reset().
class TextArena {
 public:
  std::string_view keep(std::string_view text);
  // More than the values of any row: the record is not one of Debezium's.
  bool is_full() const { return bytes_ > kBytesMax; }
  void reset();

 private:
  static constexpr std::size_t kBytesMax = 64 * 1024 * 1024;
  static constexpr std::size_t kBlockBytes = 16 * 1024;
  std::vector<std::string> blocks_;
  std::size_t block_ = 0;
  std::size_t bytes_ = 0;
};

// How Debezium marks a value that PostgreSQL did not send because it was TOASTed and unchanged.
inline constexpr std::string_view kUnavailableValue = "__debezium_unavailable_value";

// The value of one column. kUnchanged for the placeholder. kData when the JSON does not fit the
// type; the text then names what was expected, not the value.
Result<Value> field_value(const FieldType& type, const JsonValue& json, TextArena& arena);

// Of a column that no rule reads: null, or the JSON as it is.
Value unread_value(const JsonValue& json);

// True for types whose unchanged TOASTed values Debezium writes as null: it has no placeholder for most arrays, for bit
// strings and for numerics without a scale.
bool null_may_be_unchanged(const FieldType& type);

// True for what Debezium puts into a column it has no old value for: null, or the column's default (which Kafka's
// JsonConverter writes for null as well), or the zero of its type where the column is NOT NULL.
bool looks_unset(const FieldType& type, const JsonValue& json);

}  // namespace evictd
