#include "daemon/base/poll.h"

#include <poll.h>

#include <chrono>
#include <ctime>

namespace evictd {

int wait_for_any(Waiting& waiting) {
  using std::chrono::nanoseconds;
  using std::chrono::seconds;
  const SteadyTime now = std::chrono::steady_clock::now();
  timespec timeout{};
  const timespec* patience = nullptr;  // for ever
  if (waiting.deadline != SteadyTime::max()) {
    // A deadline may be as far in the past as time goes: compare before subtracting.
    const nanoseconds pause = waiting.deadline > now ? waiting.deadline - now : nanoseconds(0);
    const auto whole = std::chrono::duration_cast<seconds>(pause);
    timeout.tv_sec = whole.count();
    timeout.tv_nsec = (pause - whole).count();
    patience = &timeout;
  }
  return ppoll(waiting.descriptors.data(), waiting.descriptors.size(), patience, nullptr);
}

}  // namespace evictd
