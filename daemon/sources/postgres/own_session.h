// The server's process of our last stream: it lets go of the slot a moment after we left, unless its connection hangs; then only
// wal_sender_timeout would end it. How long it is waited for before it is ended, and before it counts as somebody else's. Pure.
#pragma once

#include <chrono>

namespace evictd {

class OwnSession {
 public:
  // Between two looks at whether it has let go.
  static constexpr std::chrono::milliseconds kInterval{50};
  // So many looks later it is ended, and so many later the slot is in use like by anybody.
  static constexpr int kPolite = 20;
  static constexpr int kWaitsMax = 100;

  // `pid`: of the server's process. 0: none yet.
  void streams(int pid) {
    pid_ = pid;
    waits_ = 0;
  }
  bool is(int pid) const { return pid == pid_; }
  int pid() const { return pid_; }

  enum class Then { kStandBy, kWait, kEndAndWait };
  // The process of that pid holds the slot.
  Then holds(int pid) {
    if (!is(pid) || waits_ >= kWaitsMax) return Then::kStandBy;
    return ++waits_ == kPolite ? Then::kEndAndWait : Then::kWait;
  }

 private:
  int pid_ = 0;
  int waits_ = 0;
};

}  // namespace evictd
