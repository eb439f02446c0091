#include "daemon/sources/kafka/wire_format.h"

namespace evictd {
namespace {

std::uint64_t big_endian(std::string_view bytes) {
  std::uint64_t number = 0;
  for (const char c : bytes) number = number << 8 | static_cast<unsigned char>(c);
  return number;
}

// As a serializer writes it. Bytes of Avro that look so by chance do not count: see EnvelopeDecoder, which asks the schema first
// where it is known.
bool looks_like_json(std::string_view bytes) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t last = bytes.find_last_not_of(kSpace);
  if (last == std::string_view::npos || last == 0 || bytes.front() != '{' || bytes[last] != '}') return false;
  const std::size_t second = bytes.find_first_not_of(kSpace, 1);
  return bytes[second] == '"';
}

Unframed read_frame(std::string_view bytes, std::size_t id_bytes) {
  Unframed unframed;
  unframed.id_bytes = static_cast<int>(id_bytes);
  if (bytes.size() < 1 + id_bytes) {
    unframed.kind = Unframed::Kind::kBroken;
    return unframed;
  }
  unframed.id = big_endian(bytes.substr(1, id_bytes));
  unframed.bytes = bytes.substr(1 + id_bytes);
  unframed.kind = looks_like_json(unframed.bytes) ? Unframed::Kind::kJson : Unframed::Kind::kSchema;
  return unframed;
}

}  // namespace

void take_header(std::string_view name, std::string_view bytes, SchemaHeaders& headers) {
  using Kind = SchemaHeader::Kind;
  const bool is_apicurio = name.starts_with("apicurio.");
  if (is_apicurio) name.remove_prefix(9);
  const bool is_key = name.starts_with(is_apicurio ? "key." : "__key_");
  if (!is_key && !name.starts_with(is_apicurio ? "value." : "__value_")) return;
  SchemaHeader& header = is_key ? headers.key : headers.value;
  name.remove_prefix(is_apicurio ? (is_key ? 4 : 6) : (is_key ? 6 : 8));
  if (is_apicurio && bytes.size() == 8) {
    if (name == "contentId") header = {Kind::kId, big_endian(bytes)};
    if (name == "globalId" && header.kind != Kind::kId) header = {Kind::kGlobalId, big_endian(bytes)};
  }
  if (is_apicurio || name != "schema_id" || bytes.empty()) return;
  if (bytes.front() == '\0' && bytes.size() == 5) header = {Kind::kId, big_endian(bytes.substr(1))};
  if (bytes.front() == '\1') header = {Kind::kGuid, 0};
}

Unframed unframe(std::string_view bytes, const SchemaHeader& header, IdWidth width) {
  Unframed unframed;
  unframed.bytes = bytes;
  switch (header.kind) {
    case SchemaHeader::Kind::kNone:
      break;
    case SchemaHeader::Kind::kId:
      unframed.id = header.id;
      unframed.kind = looks_like_json(bytes) ? Unframed::Kind::kJson : Unframed::Kind::kSchema;
      return unframed;
    case SchemaHeader::Kind::kGlobalId:
      unframed.kind = Unframed::Kind::kGlobalId;
      return unframed;
    case SchemaHeader::Kind::kGuid:
      unframed.kind = Unframed::Kind::kGuid;
      return unframed;
  }
  if (bytes.empty()) return unframed;
  if (bytes.front() == '\1') {
    unframed.kind = Unframed::Kind::kGuid;
    return unframed;
  }
  if (bytes.front() != '\0') return unframed;
  const bool is_eight = width == IdWidth::kEight ||
                        (width == IdWidth::kAuto && bytes.size() >= 9 && big_endian(bytes.substr(1, 4)) == 0);
  return read_frame(bytes, is_eight ? 8 : 4);
}

}  // namespace evictd
