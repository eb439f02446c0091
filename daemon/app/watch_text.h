// What `evictd watch` prints of one change: lines for a person, aligned and, on a terminal, coloured; or one JSON object. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/app/explain.h"
#include "daemon/base/clock.h"
#include "mapping/change.h"

namespace evictd {

struct WatchedChange {
  SystemTime commit_time;
  std::uint64_t xid = 0;  // 0: not known
  Operation operation = Operation::kInsert;
  std::string table;
  std::string row;                           // "id=1": the columns of the identity, as far as they were sent
  std::vector<ExplainReceiver::Line> lines;  // what is deleted, and notes
  std::string why_nothing;                   // when nothing is deleted
};

struct WatchStyle {
  bool json = false;
  bool colour = false;
};

std::string row_text(const Change& change);

// Why a change deletes nothing: what held each rule of its table back.
std::string why_nothing(const ExplainReceiver& receiver);

// With its newlines.
std::string watch_text(const WatchedChange& change, const WatchStyle& style);

}  // namespace evictd
