// When the brokers are tried again, and what of the failures is told and which of them are final. Pure.
//
// Owned by the source, which is on the loop thread; outlives clients. Bounds: the wait doubles from one failure to the next, from 500 ms to
// 30 s.
#pragma once

#include <chrono>
#include <string>

#include "daemon/base/clock.h"
#include "mapping/error.h"

namespace evictd {

class BrokerRetries {
 public:
  static constexpr std::chrono::milliseconds kFirst{500};
  static constexpr std::chrono::milliseconds kMax{30'000};

  // max(): an attempt is under way.
  SteadyTime due() const { return due_; }
  void due_at(SteadyTime at) { due_ = at; }
  // An attempt begins.
  void begins() { due_ = SteadyTime::max(); }
  // It has reached the brokers.
  void reached();
  // It has failed. -> whether to tell: not where the last attempt failed likewise.
  bool failed(const Error& error, SteadyTime now);

  // What the configuration says wrongly is final at the first start; later it may be a passing state.
  bool is_final(ErrorKind kind) const;
  // The group has given us a share.
  void streams() { has_streamed_ = true; }
  bool has_streamed() const { return has_streamed_; }

 private:
  SteadyTime due_ = SteadyTime::max();
  std::chrono::milliseconds wait_{0};
  bool has_streamed_ = false;
  std::string last_told_;
};

}  // namespace evictd
