// What the flow has to say to a person: gathered here, logged by whoever drives it.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace evictd {

struct FlowEvent {
  enum class Level { kDebug, kInfo, kWarning, kError } level = Level::kInfo;
  std::string text;
  std::string hint;
};

class FlowEvents {
 public:
  void debug(std::string text) { say(FlowEvent::Level::kDebug, std::move(text), {}); }
  void info(std::string text, std::string hint = {}) { say(FlowEvent::Level::kInfo, std::move(text), std::move(hint)); }
  void warning(std::string text, std::string hint = {}) {
    say(FlowEvent::Level::kWarning, std::move(text), std::move(hint));
  }
  void error(std::string text, std::string hint = {}) {
    say(FlowEvent::Level::kError, std::move(text), std::move(hint));
  }
  std::vector<FlowEvent> take() { return std::exchange(events_, {}); }

 private:
  // Between two turns of the loop there are few; a flood (a thousand gaps of a thousand partitions) is cut.
  static constexpr std::size_t kEventsMax = 1000;
  void say(FlowEvent::Level level, std::string text, std::string hint) {
    if (events_.size() < kEventsMax) events_.push_back({level, std::move(text), std::move(hint)});
  }
  std::vector<FlowEvent> events_;
};

// Says things of one cache: with its name before them, where there are others.
class CacheEvents {
 public:
  CacheEvents(FlowEvents& events, std::string prefix) : events_(events), prefix_(std::move(prefix)) {}
  void debug(std::string text) { events_.debug(prefix_ + text); }
  void info(std::string text, std::string hint = {}) { events_.info(prefix_ + text, std::move(hint)); }
  void warning(std::string text, std::string hint = {}) { events_.warning(prefix_ + text, std::move(hint)); }
  void error(std::string text, std::string hint = {}) { events_.error(prefix_ + text, std::move(hint)); }

 private:
  FlowEvents& events_;
  const std::string prefix_;
};

}  // namespace evictd
