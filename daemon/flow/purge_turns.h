// Whose turn it is to walk a pattern: one walk at a time for each, and who asks meanwhile shares the next one. Names purges by their
// ids, and knows nothing else of them. Pure.
//
//   ask ──► waits (others may join) ──► sent: walks (nobody joins any more) ──► done: the one that waits is next
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "daemon/base/clock.h"
#include "mapping/rules.h"

namespace evictd {

class PurgeTurns {
 public:
  // The purge of the pattern that waits, which others may join.
  std::optional<std::uint64_t> waiting(const Pattern* pattern) const;
  // REQUIRES: none waits. -> whether its turn has come: none walks.
  bool wait(const Pattern* pattern, std::uint64_t id);
  // When one whose turn has come may walk: whoever can make a rule purge must not be able to empty everybody's cache as fast as he writes.
  SteadyTime due(const Pattern* pattern, std::chrono::milliseconds purge_every, SteadyTime now) const;
  // It is about to be sent. (Again, of one that was lost.)
  void sent(const Pattern* pattern, std::uint64_t id, SteadyTime now);
  // Its first walk is done, or given up. -> the purge whose turn it is now.
  std::optional<std::uint64_t> done(const Pattern* pattern, std::uint64_t id);
  // Patterns of other rules: their distances begin anew.
  void forget_when() { sent_at_.clear(); }

 private:
  std::unordered_map<const Pattern*, std::uint64_t> waiting_;
  std::unordered_map<const Pattern*, std::uint64_t> walking_;
  std::unordered_map<const Pattern*, SteadyTime> sent_at_;  // when the last walk began
};

}  // namespace evictd
