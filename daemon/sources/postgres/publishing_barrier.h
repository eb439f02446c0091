// Tables published anew while transactions were open that may have changed them before: what those did is not in the stream, although
// they commit later, so the tables are purged once more when all of them have ended (G6). Outlives connections. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/source.h"
#include "daemon/interface/version.h"

namespace evictd {

class PublishingBarrier {
 public:
  // Between two snapshots that are asked for, while it stands.
  static constexpr std::chrono::seconds kInterval{1};

  // `tables` were published: every transaction that may have changed them before has a lower id than `xid`. `is_expected`: nobody has
  // followed them until now, see Gap; of tables that wait together, it must be so of all.
  void stands(Xid xid, const std::vector<std::string>& tables, bool is_expected);
  void streaming(SteadyTime now) { ask_at_ = now; }

  // When a snapshot should be asked for. None: no barrier stands.
  std::optional<SteadyTime> ask_at() const;
  void asked(SteadyTime now) { ask_at_ = now + kInterval; }
  // -> the gap, once: all those transactions have ended.
  std::optional<Gap> passed(const Snapshot& snapshot);

 private:
  Xid xid_{0};
  std::vector<std::string> tables_;  // empty: it does not stand
  bool is_expected_ = false;
  SteadyTime ask_at_{};
};

}  // namespace evictd
