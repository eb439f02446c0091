// Any bytes into the decoder of Debezium's events: records of one topic, a line each, key and value
// separated by a tab; a value "-" is null. No crash, no read past the end, and no change that does
// not fit its relation.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "daemon/sources/kafka/envelope.h"

namespace {

using namespace evictd;

volatile unsigned sum = 0;

void check_row(const Relation& relation, std::span<const Value> row) {
  if (row.empty()) return;
  if (row.size() != relation.columns.size()) std::abort();
  for (const Value& value : row) {
    if (value.state != ValueState::kText && !value.text.empty()) std::abort();
    for (const char c : value.text) sum = sum + static_cast<unsigned char>(c);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  EnvelopeDecoder decoder;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::size_t tab = line.find('\t');
    KafkaRecord record;
    record.topic = "shop.public.items";
    if (tab != std::string_view::npos) record.key = line.substr(0, tab);
    const std::string_view value = tab == std::string_view::npos ? line : line.substr(tab + 1);
    if (value != "-") record.value = value;
    const auto decoded = decoder.decode(record);
    if (!decoded) {
      if (decoded.error().text.empty()) std::abort();
      continue;
    }
    const Change& change = decoded->change;
    if (change.relation == nullptr) continue;
    check_row(*change.relation, change.old_row);
    check_row(*change.relation, change.new_row);
    decoder.take_retired();
  }
  return 0;
}
