// Something that does not answer: told once when it has lasted for `told_after`, and once when it is over. A short one is nobody's
// business. Pure.
#pragma once

#include <chrono>
#include <optional>

#include "daemon/base/clock.h"

namespace evictd {

class Outage {
 public:
  explicit Outage(std::chrono::nanoseconds told_after) : told_after_(told_after) {}

  enum class Tell { kNothing, kBegan, kEnded };
  // `since`: when what has no answer yet was asked; none: nothing waits.
  Tell waits_since(std::optional<SteadyTime> since, SteadyTime now) {
    const bool is_late = since && now - *since >= told_after_;
    if (is_late == is_told_) return Tell::kNothing;
    is_told_ = is_late;
    return is_late ? Tell::kBegan : Tell::kEnded;
  }
  // Likewise of what says only whether it is away.
  Tell is_away(bool is_away, SteadyTime now) {
    if (!is_away) since_.reset();
    else if (!since_) since_ = now;
    return waits_since(since_, now);
  }
  // Nobody needs it now, and nobody is told that it is over.
  void forget() {
    since_.reset();
    is_told_ = false;
  }
  bool is_told() const { return is_told_; }

 private:
  std::chrono::nanoseconds told_after_;
  std::optional<SteadyTime> since_;
  bool is_told_ = false;
};

}  // namespace evictd
