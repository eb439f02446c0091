// The record as text, for Redis: lines of "<word> <value>", beginning with the format's version and
// closed by "end", so that a cut text is never taken for a whole one.
//
//   evictd-record 3
//   writer 9f86d081884c7d65
//   sequence 4711                  (counts saves, on from the record before)
//   epoch 7312345678901234567/1
//   instance 1700000000            (see SourceConnected::instance; may be empty)
//   epoch_since 1700000000000
//   identity 16384/evictd
//   gap slot_lost                  (one line for each)
//   acknowledged 24578000 wal      (position, name of the stream)
//   applied 24578960 wal           (likewise, where it is further)
//   table oid=16390%20... public.products      (what the catalogue said of it)
//   rules 1234567890 public.products           (digest of its rules)
//   end
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "daemon/interface/record.h"
#include "mapping/error.h"

namespace evictd {

// Some 25,000 tables. Whoever can write Redis can write more there, and reading 16 MB would hold the loop for a tenth of a second.
inline constexpr std::size_t kRecordBytesMax = 4 * 1024 * 1024;

std::string record_to_text(const Record& record);

// kData on anything that record_to_text() would not have written.
Result<Record> record_from_text(std::string_view text);

}  // namespace evictd
