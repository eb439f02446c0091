// Any text in the place of a record, or of a copy of one: what is accepted must be what we would write, so that nothing of
// it is lost when it is written again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/topology/record_copies.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace evictd;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const Result<Record> record = record_from_text(text)) {
    const std::string written = record_to_text(*record);
    const Result<Record> again = record_from_text(written);
    require(again.has_value() && record_to_text(*again) == written);
  } else {
    require(record.error().kind == ErrorKind::kData && !record.error().text.empty());
  }
  if (const std::optional<RecordCopy> copy = copy_from_text(text)) {
    const std::string written = copy_to_text(copy->written, copy->home, copy->record);
    const std::optional<RecordCopy> again = copy_from_text(written);
    require(again && again->home == copy->home && again->written == copy->written);
    require(copy_to_text(again->written, again->home, again->record) == written);
  }
  return 0;
}
