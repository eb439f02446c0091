#include "daemon/sources/postgres/later_primary.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace evictd {

void LaterPrimary::streaming(const SystemIdentity& followed, SteadyTime now) {
  followed_ = followed;
  question_.due_at(now);
}

std::optional<LaterPrimary::Host> LaterPrimary::answered(std::vector<Host> hosts) {
  question_.answered();
  std::uint32_t latest = 0;
  std::from_chars(followed_.timeline.data(), followed_.timeline.data() + followed_.timeline.size(), latest);
  std::optional<Host> later;
  for (Host& host : hosts) {
    if (!host.history.is_primary || host.history.system != followed_.system || host.history.timeline <= latest) continue;
    latest = host.history.timeline;
    later = std::move(host);
  }
  return later;
}

}  // namespace evictd
