// How long something is away that is needed: told when it is lost (by who lost it), now and then while that lasts, and how long it was
// when it is back. Pure.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "daemon/base/clock.h"

namespace evictd {

class Away {
 public:
  static constexpr std::chrono::seconds kPauseFirst{60};
  static constexpr std::chrono::seconds kPauseMax{3600};

  // May be said again: the first time counts.
  void began(SteadyTime now) {
    if (since_) return;
    since_ = now;
    pause_ = kPauseFirst;
    due_ = now + pause_;
  }
  // "for 63 s", when it is time to say so again: after a minute, with growing pauses.
  std::optional<std::string> still(SteadyTime now) {
    if (!since_ || now < due_) return std::nullopt;
    pause_ = std::min(pause_ * 2, kPauseMax);
    due_ = now + pause_;
    return text(now - *since_, "for");
  }
  // " after 63.2 s"; nothing when it was not away.
  std::string ended(SteadyTime now) {
    if (!since_) return {};
    return " " + text(now - *std::exchange(since_, std::nullopt), "after");
  }

 private:
  static std::string text(std::chrono::nanoseconds length, const char* word) {
    return fmt::format("{} {:.1f} s", word, std::chrono::duration<double>(length).count());
  }

  std::optional<SteadyTime> since_;
  SteadyTime due_{};
  std::chrono::seconds pause_{kPauseFirst};
};

}  // namespace evictd
