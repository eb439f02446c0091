// Avro as the converters of Kafka Connect write it: the text of a schema, and values in its binary form. Pure.
//
// A value becomes the JSON text that Connect's JsonConverter would have written for it, and the schema the column types that
// it would have told: so there is one way from an event to its keys, whatever it was written in. Only the schema that a value was
// written with is looked at; aliases and defaults are for readers with another one.
//
// Hostile input is bounded: the size, depth and number of types of a schema (AvroSchema::k*Max); each read by the bytes that are
// there; the values of one record, since some take no byte; the length of the text. Rests on: Apache Avro 1.11, "Specification";
// Confluent's and Apicurio's AvroData for the properties "connect.*".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sources/kafka/field_type.h"
#include "mapping/error.h"

namespace evictd {

class AvroSchema {
 public:
  // Far above what the widest tables need; 100 ms of the loop would go into 4 MiB.
  static constexpr std::size_t kTextBytesMax = 1024 * 1024;
  static constexpr int kDepthMax = 32;  // of types in types, and of values in values
  static constexpr std::size_t kTypesMax = 20'000;
  static constexpr std::size_t kJsonBytesMax = 64 * 1024 * 1024;

  // kData: no Avro schema, or one beyond the limits.
  static Result<std::shared_ptr<const AvroSchema>> parse(std::string_view text);

  // Appends the JSON of the one value that `bytes` are. kData: they are not one of this schema, from the first byte to the last.
  Result<void> append_json(std::string_view bytes, std::string& json) const;

  // By column: of the row in an envelope ("before", "after"), else of the record itself.
  const FieldTypes& row_types() const { return row_types_; }
  // Of the record itself: a key's.
  const FieldTypes& own_types() const { return own_types_; }
  // Whether it names Connect's types at all: without them a date is a number.
  bool names_types() const { return names_types_; }

 private:
  enum class Kind : std::uint8_t {
    kNull, kBoolean, kInt, kLong, kFloat, kDouble, kBytes, kString, kRecord, kEnum, kArray, kMap, kUnion, kFixed,
  };
  struct Field {
    std::string name;
    std::string quoted_name;  // "name":
    std::uint32_t type = 0;
    JsonKind default_kind = JsonKind::kNull;  // kNull: there is none, or null
    std::string default_text;
  };
  // One type; others are named by their place in types_.
  struct Type {
    Kind kind = Kind::kNull;
    std::string connect_name;
    std::string logical_type;  // Avro's own
    std::int32_t scale = 0;
    std::int32_t length = 0;
    std::uint64_t size = 0;                // kFixed
    std::vector<Field> fields;             // kRecord
    std::vector<std::uint32_t> types;      // kUnion; kArray, kMap: one
    std::vector<std::string> symbols;      // kEnum, as JSON
  };
  class Parser;
  class Reader;

  AvroSchema() = default;
  FieldType field_type(std::uint32_t type, int depth) const;
  FieldTypes field_types(std::uint32_t record) const;
  // The record that a type is, in a union with null or alone; else `kNone`.
  std::uint32_t record_of(std::uint32_t type) const;
  static constexpr std::uint32_t kNone = UINT32_MAX;

  std::vector<Type> types_;
  std::uint32_t root_ = 0;
  FieldTypes row_types_;
  FieldTypes own_types_;
  bool names_types_ = false;
};

}  // namespace evictd
