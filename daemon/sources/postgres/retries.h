// When the source tries again, and what of its failures is told: each change of state once. Pure.
//
// Bounds: the wait doubles from one failure to the next, from 100 ms to 3 s; from 2 to 30 s where haste helps nobody: an error in the
// data comes back at the same place each time, and a server may lock out whoever tries to log in too often.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/sources/postgres/lsn.h"
#include "mapping/error.h"

namespace evictd {

class Retries {
 public:
  SteadyTime due() const { return due_; }
  void due_at(SteadyTime at) { due_ = at; }

  // Streaming begins, at what the slot has confirmed.
  void works(Lsn confirmed, SteadyTime now);
  // Streamed once: what would be a usage error may now be a passing state.
  bool has_worked() const { return has_worked_; }
  // What no waiting helps, since the configuration has to change, is final at the first start; later it is taken for a passing
  // state (a server being rebuilt).
  bool is_final(ErrorKind kind) const { return kind == ErrorKind::kUsage && !has_worked_; }

  // A failure. `acknowledged`: how far, where it was streaming. -> how long to wait.
  std::chrono::milliseconds failed(ErrorKind kind, std::optional<Lsn> acknowledged, SteadyTime now);
  // The server does not let us in: a password that is being rotated, a role, a right or a database that is still to be made. It is tried
  // again, without hurry.
  std::chrono::milliseconds refused();

  // -> whether it is to be told: a server that stays away is not reported at each attempt.
  bool is_news(const std::string& text, bool was_streaming);
  // Another state was told since.
  void told_other() { last_told_.clear(); }

 private:
  std::chrono::milliseconds wait_longer(bool is_slow);

  SteadyTime due_{};
  std::chrono::milliseconds backoff_{0};
  bool has_worked_ = false;
  SteadyTime streaming_since_{};
  Lsn acknowledged_before_;  // when the last attempt began, to see progress
  std::string last_told_;
};

}  // namespace evictd
