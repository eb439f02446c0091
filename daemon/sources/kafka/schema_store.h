// The schemas that a registry has given, by id: kept as long as there is room, since an id never means another schema. Pure.
//
// Bounded in number and in the size of their texts (G8): what was used least recently goes first, and is asked for again. A schema
// that somebody holds stays good.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "daemon/sources/kafka/avro.h"

namespace evictd {

struct RegisteredSchema {
  std::shared_ptr<const AvroSchema> avro;  // null: of another kind
  bool is_json = false;                    // JSON Schema, else Protobuf or what else there may be
  std::size_t bytes = 0;                   // of its text
};

class SchemaStore {
 public:
  static constexpr std::size_t kSchemasMax = 1000;
  static constexpr std::size_t kBytesMax = 16 * 1024 * 1024;

  // Null: not known. Valid until the next keep().
  const RegisteredSchema* find(std::uint64_t id);
  bool has(std::uint64_t id) const { return schemas_.contains(id); }
  void keep(std::uint64_t id, RegisteredSchema schema);

  std::size_t size() const { return schemas_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    RegisteredSchema schema;
    std::uint64_t used = 0;
  };
  std::map<std::uint64_t, Entry> schemas_;
  std::uint64_t uses_ = 0;
  std::size_t bytes_ = 0;
};

// From the registry's answer to GET /schemas/ids/{id}. kTransient: it is none, which another answer may mend.
Result<RegisteredSchema> parse_schema_answer(std::string_view json);

}  // namespace evictd
