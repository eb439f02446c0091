// Any schema and any bytes into the reader of Avro: the first line is the schema, the rest one value of it. No crash, no read past
// the end, no value that never ends; and what comes out is JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "daemon/sources/kafka/avro.h"
#include "daemon/sources/kafka/json_level.h"
#include "daemon/sources/kafka/wire_format.h"

using namespace evictd;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::string_view text = all.substr(0, all.find('\n'));
  const std::string_view bytes = all.substr(std::min(text.size() + 1, all.size()));
  for (const IdWidth width : {IdWidth::kAuto, IdWidth::kFour, IdWidth::kEight}) {
    const Unframed unframed = unframe(bytes, {}, width);
    if (unframed.bytes.size() > bytes.size()) std::abort();
  }
  const auto schema = AvroSchema::parse(text);
  if (!schema) {
    if (schema.error().text.empty()) std::abort();
    return 0;
  }
  std::string json = "[";
  if (const auto read = (*schema)->append_json(bytes, json); !read) {
    if (read.error().text.empty()) std::abort();
    return 0;
  }
  json += ']';
  if (json.size() > AvroSchema::kJsonBytesMax + 2 * size + text.size() * 2) std::abort();
  PaddedText padded;
  JsonLevel level;
  // Texts that are no UTF-8 are refused here, and nothing else.
  if (const auto read = level.read_array(padded.assign(json)); read && level.elements().size() != 1) std::abort();
  return 0;
}
