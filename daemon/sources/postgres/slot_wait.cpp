#include "daemon/sources/postgres/slot_wait.h"

#include <fmt/format.h>

namespace evictd {

void SlotWait::creating(SteadyTime now) {
  question_.due_at(now + kInterval);
  problem_.clear();
}

std::optional<PostgresNotice> SlotWait::saw(const std::string& slot, const std::vector<Blocker>& blockers) {
  problem_.clear();
  if (blockers.empty()) return std::nullopt;
  const Blocker& oldest = blockers.front();
  const std::string text = fmt::format("creating slot '{}' waits for {} open transaction(s), the oldest of {}", slot, blockers.size(),
                                       oldest.describe());
  problem_ = text + ": " + oldest.ending();
  return PostgresNotice{true, text, "end it with " + oldest.ending()};
}

}  // namespace evictd
