// Which snapshots somebody outside waits for, and when one is asked for that nobody waits for: the ids of the stream are told apart by a
// recent one (stream_xids.h). Numbers are those of Snapshots::request(). Pure.
#pragma once

#include <chrono>
#include <cstdint>

#include "daemon/base/clock.h"

namespace evictd {

class SnapshotRequests {
 public:
  static constexpr std::chrono::minutes kRefreshInterval{1};

  // Streaming begins: who asked for one of another connection asks again.
  void streaming(SteadyTime now);
  // One is wanted that is taken from now on, and that has this number.
  void wanted(std::uint64_t number);
  // The snapshot of that number is there. -> whether it is waited for. One that was asked for after it was sent is still to come.
  bool answers(std::uint64_t number);

  SteadyTime refresh_at() const { return refresh_at_; }
  // -> whether to ask for one now.
  bool refreshes(SteadyTime now);

 private:
  // Numbers of the snapshots that answer the first and the last request not answered yet; 0: none.
  std::uint64_t first_wanted_ = 0;
  std::uint64_t last_wanted_ = 0;
  SteadyTime refresh_at_{};
};

}  // namespace evictd
