#include "daemon/sources/kafka/schema_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/kafka/json_level.h"

namespace evictd {

const RegisteredSchema* SchemaStore::find(std::uint64_t id) {
  const auto found = schemas_.find(id);
  if (found == schemas_.end()) return nullptr;
  found->second.used = ++uses_;
  return &found->second.schema;
}

void SchemaStore::keep(std::uint64_t id, RegisteredSchema schema) {
  // At least the two of one record stay, whatever their size: their texts are bounded.
  while (schemas_.size() > 1 && (schemas_.size() >= kSchemasMax || bytes_ + schema.bytes > kBytesMax)) {
    const auto oldest = std::min_element(schemas_.begin(), schemas_.end(), [](const auto& one, const auto& other) {
      return one.second.used < other.second.used;
    });
    bytes_ -= oldest->second.schema.bytes;
    schemas_.erase(oldest);
  }
  Entry& entry = schemas_[id];
  bytes_ += schema.bytes - entry.schema.bytes;
  entry.schema = std::move(schema);
  entry.used = ++uses_;
}

Result<RegisteredSchema> parse_schema_answer(std::string_view json) {
  PaddedText padded;
  JsonLevel answer;
  const auto read = answer.read_object(padded.assign(json));
  const JsonValue* text = read ? answer.find("schema") : nullptr;
  if (text == nullptr || text->kind != JsonKind::kString) {
    return fail(ErrorKind::kTransient, "expected an answer of the form {\"schema\": \"...\"}, got another one",
                "the url must be that of the Confluent-compatible interface: of Apicurio '.../apis/ccompat/v7'");
  }
  RegisteredSchema schema;
  schema.bytes = text->text.size();
  const JsonValue* kind = answer.find("schemaType");
  if (kind != nullptr && kind->kind == JsonKind::kString && kind->text != "AVRO") {
    schema.is_json = kind->text == "JSON";
    return schema;
  }
  auto avro = AvroSchema::parse(text->text);
  if (!avro) return fail(ErrorKind::kTransient, "its Avro schema cannot be read: " + avro.error().text, avro.error().hint);
  schema.avro = std::move(*avro);
  return schema;
}

}  // namespace evictd
