// How serializers that use a schema registry frame a key or a value: a zero byte, the schema's id in four bytes (Confluent's
// form) or eight (Apicurio's older one), then the bytes; or the id in a header of the record, and the bytes alone. Pure.
//
// Keys and values are framed independently of one another. Behind the id stands Avro, or JSON (a JSON Schema serializer), which
// needs no schema to be read.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace evictd {

// `registry.id` of the configuration.
enum class IdWidth : std::uint8_t {
  kAuto,  // four bytes, unless those are zero: no registry gives that id, and eight bytes of one below 2^32 begin so
  kFour,
  kEight,
};

// What the headers of a record say of the schema of its key, or of its value.
struct SchemaHeader {
  enum class Kind : std::uint8_t {
    kNone,
    kId,        // as the registry's Confluent-compatible interface counts
    kGlobalId,  // Apicurio's other count
    kGuid,
  };
  Kind kind = Kind::kNone;
  std::uint64_t id = 0;
};

struct SchemaHeaders {
  SchemaHeader key, value;
};

// Takes the header when it is one of them.
void take_header(std::string_view name, std::string_view bytes, SchemaHeaders& headers);

struct Unframed {
  enum class Kind : std::uint8_t {
    kBare,    // no frame: `bytes` is everything
    kJson,    // there was one, and `bytes` is JSON
    kSchema,  // `bytes` is to be read with the schema `id`
    kBroken,  // a frame that is cut off
    kGuid,    // the schema is named in a way that is not supported
    kGlobalId,
  };
  Kind kind = Kind::kBare;
  std::uint64_t id = 0;
  int id_bytes = 0;  // 0: it came in a header
  std::string_view bytes;
};

Unframed unframe(std::string_view bytes, const SchemaHeader& header, IdWidth width);

}  // namespace evictd
