#include "daemon/sources/postgres/later_primary.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace evictd {

void LaterPrimary::streaming(const SystemIdentity& followed, std::vector<Conninfo> others, SteadyTime now) {
  followed_ = followed;
  others_.clear();
  for (Conninfo& other : others) {
    others_.push_back({std::move(other), {}, {}});
    others_.back().question.due_at(now);
  }
}

SteadyTime LaterPrimary::due() const {
  SteadyTime due = SteadyTime::max();
  for (const Other& other : others_) due = std::min(due, other.question.due());
  return due;
}

std::vector<std::size_t> LaterPrimary::asks(SteadyTime now) {
  std::vector<std::size_t> asked;
  for (std::size_t i = 0; i < others_.size(); ++i) {
    if (others_[i].question.begins(now, kInterval)) asked.push_back(i);
  }
  return asked;
}

void LaterPrimary::answered(std::size_t other, const Result<ServerHistory>& answer, SteadyTime now) {
  others_[other].question.answered();
  others_[other].history.reset();
  if (answer) {
    others_[other].history = *answer;
  } else {
    others_[other].question.due_at(now + kAway);
  }
}

std::optional<LaterPrimary::Host> LaterPrimary::found() const {
  std::uint32_t latest = 0;
  std::from_chars(followed_.timeline.data(), followed_.timeline.data() + followed_.timeline.size(), latest);
  std::optional<Host> later;
  for (const Other& other : others_) {
    if (!other.history || !other.history->is_primary || other.history->system != followed_.system || other.history->timeline <= latest) continue;
    latest = other.history->timeline;
    later = Host{other.conninfo, *other.history};
  }
  return later;
}

}  // namespace evictd
