// A question that is asked again and again, one at a time: when the next one is due, and whether the last one has its answer. Pure.
#pragma once

#include <chrono>

#include "daemon/base/clock.h"

namespace evictd {

class Recurring {
 public:
  SteadyTime due() const { return due_; }
  void due_at(SteadyTime at) { due_ = at; }
  // Its time has come: it is due again after `interval`. -> whether to ask now: not while the last one has no answer.
  bool begins(SteadyTime now, std::chrono::nanoseconds interval) {
    if (now < due_) return false;
    due_ = now + interval;
    if (is_asked_) return false;
    is_asked_ = true;
    return true;
  }
  void answered() { is_asked_ = false; }
  // No answer comes any more: the attempt to connect that asked is over.
  void forget() { is_asked_ = false; }

 private:
  SteadyTime due_{};
  bool is_asked_ = false;
};

}  // namespace evictd
