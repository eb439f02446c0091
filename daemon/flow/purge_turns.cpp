#include "daemon/flow/purge_turns.h"

#include "mapping/check.h"

namespace evictd {

std::optional<std::uint64_t> PurgeTurns::waiting(const Pattern* pattern) const {
  const auto found = waiting_.find(pattern);
  return found == waiting_.end() ? std::nullopt : std::optional(found->second);
}

bool PurgeTurns::wait(const Pattern* pattern, std::uint64_t id) {
  const bool is_first = waiting_.emplace(pattern, id).second;
  EVICTD_CHECK(is_first);
  return !walking_.contains(pattern);
}

SteadyTime PurgeTurns::due(const Pattern* pattern, std::chrono::milliseconds purge_every, SteadyTime now) const {
  const auto last = sent_at_.find(pattern);
  return last == sent_at_.end() ? now : last->second + purge_every;
}

void PurgeTurns::sent(const Pattern* pattern, std::uint64_t id, SteadyTime now) {
  const auto found = waiting_.find(pattern);
  if (found == waiting_.end() || found->second != id) return;
  waiting_.erase(found);
  walking_[pattern] = id;
  sent_at_[pattern] = now;
}

std::optional<std::uint64_t> PurgeTurns::done(const Pattern* pattern, std::uint64_t id) {
  if (const auto found = waiting_.find(pattern); found != waiting_.end() && found->second == id) waiting_.erase(found);  // never sent
  const auto found = walking_.find(pattern);
  if (found == walking_.end() || found->second != id) return std::nullopt;
  walking_.erase(found);
  return waiting(pattern);
}

}  // namespace evictd
