// Keys and values in the frame of a schema registry.
#include <fmt/format.h>

#include "daemon/sources/kafka/envelope_state.h"

namespace evictd {
namespace {

// A rare large record must not be kept.
constexpr std::size_t kKeptBytes = 1024 * 1024;

constexpr const char* kJsonHint =
    "set value.converter and key.converter of the connector to org.apache.kafka.connect.json.JsonConverter";

std::uint64_t id_of_width(std::string_view bytes, IdWidth width) {
  const Unframed other = unframe(bytes, {}, width);
  return other.kind == Unframed::Kind::kSchema || other.kind == Unframed::Kind::kJson ? other.id : 0;
}

}  // namespace

void EnvelopeDecoder::use_registry(SchemaStore* store, IdWidth width) {
  schemas_ = store;
  id_width_ = width;
}

Unframed EnvelopeDecoder::unframed(std::string_view bytes, const SchemaHeader& header) const {
  Unframed framed = unframe(bytes, header, id_width_);
  // Avro may look like JSON by chance; a schema that is known tells.
  if (framed.kind == Unframed::Kind::kJson && schemas_ != nullptr) {
    const RegisteredSchema* known = schemas_->find(framed.id);
    if (known != nullptr && known->avro != nullptr) framed.kind = Unframed::Kind::kSchema;
  }
  return framed;
}

std::vector<EnvelopeDecoder::NeededSchema> EnvelopeDecoder::missing_schemas(const KafkaRecord& record) const {
  std::vector<NeededSchema> missing;
  if (schemas_ == nullptr || record.topic.starts_with(kHeartbeatPrefix)) return missing;
  const auto look = [&](const std::optional<std::string_view>& bytes, const SchemaHeader& header) {
    if (!bytes) return;
    const Unframed framed = unframed(*bytes, header);
    if (framed.kind != Unframed::Kind::kSchema || schemas_->has(framed.id)) return;
    NeededSchema needed{framed.id, framed.id_bytes, 0};
    if (framed.id_bytes != 0) needed.other_id = id_of_width(*bytes, framed.id_bytes == 4 ? IdWidth::kEight : IdWidth::kFour);
    missing.push_back(needed);
  };
  look(record.value, record.schemas.value);
  look(record.key, record.schemas.key);
  return missing;
}

Result<std::string_view> EnvelopeDecoder::transcode(const Unframed& framed, std::string& json,
                                                    std::shared_ptr<const AvroSchema>& schema) {
  switch (framed.kind) {
    case Unframed::Kind::kBare:
    case Unframed::Kind::kJson:
      return framed.bytes;
    case Unframed::Kind::kBroken:
      return fail(ErrorKind::kData, fmt::format("expected the id of a schema in {} bytes after the first one, got the end", framed.id_bytes),
                  schemas_ == nullptr ? kJsonHint : "set kafka.registry.id to the number of bytes that the converter's ids have");
    case Unframed::Kind::kGuid:
      if (schemas_ == nullptr) {
        return fail(ErrorKind::kData, "expected JSON, got the framing of Avro or Protobuf (first byte 0x01)", kJsonHint);
      }
      return fail(ErrorKind::kData, "expected JSON, or Avro with the id of a schema, got Avro or Protobuf with a GUID",
                  "let the converter write the schema's numeric id in front of the bytes");
    case Unframed::Kind::kGlobalId:
      return fail(ErrorKind::kData, "expected the content id of a schema in the headers, got Apicurio's global id, which its "
                                    "Confluent-compatible interface does not know",
                  "set apicurio.registry.use-id=contentId on the converter");
    case Unframed::Kind::kSchema:
      break;
  }
  if (schemas_ == nullptr) {
    return fail(ErrorKind::kData, "expected JSON, got the framing of Avro or Protobuf (first byte 0x00)",
                fmt::format("name the schema registry in kafka.registry (Avro), or {}", kJsonHint));
  }
  const RegisteredSchema* known = schemas_->find(framed.id);
  if (known == nullptr) return fail(ErrorKind::kData, fmt::format("expected a schema that is known, got the id {}", framed.id));
  if (known->is_json) return framed.bytes;
  if (known->avro == nullptr) {
    return fail(ErrorKind::kData, fmt::format("expected Avro or JSON, got Protobuf (schema {})", framed.id),
                "use an Avro converter, or org.apache.kafka.connect.json.JsonConverter");
  }
  schema = known->avro;
  if (json.capacity() > kKeptBytes) json = std::string();
  json.clear();
  if (auto read = schema->append_json(framed.bytes, json); !read) {
    Error error = std::move(read.error()).within(fmt::format("Avro of schema {}", framed.id));
    if (framed.id_bytes != 0) {
      error.hint = fmt::format("the id was read from {} bytes: if the converter writes {}, set kafka.registry.id to that", framed.id_bytes,
                               framed.id_bytes == 4 ? 8 : 4);
    }
    return tl::unexpected(std::move(error));
  }
  return std::string_view(json);
}

Result<std::string_view> EnvelopeDecoder::key_json(const KafkaRecord& record, std::shared_ptr<const AvroSchema>& schema) {
  if (!record.key) return std::string_view();
  const Unframed key = unframed(*record.key, record.schemas.key);
  return transcode(key, key_json_, schema);
}

}  // namespace evictd
