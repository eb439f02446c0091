#include "daemon/sources/postgres/retries.h"

#include <algorithm>
#include <utility>

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kBackoffMin{100};
constexpr std::chrono::milliseconds kBackoffMax{3'000};
constexpr std::chrono::milliseconds kSlowBackoffMin{2'000};
constexpr std::chrono::milliseconds kSlowBackoffMax{30'000};

}  // namespace

void Retries::works(Lsn confirmed, SteadyTime now) {
  has_worked_ = true;
  last_told_.clear();
  streaming_since_ = now;
  acknowledged_before_ = confirmed;
}

std::chrono::milliseconds Retries::failed(ErrorKind kind, std::optional<Lsn> acknowledged, SteadyTime now) {
  // Progress since the last failure starts the backoff anew.
  if (acknowledged && (*acknowledged > acknowledged_before_ || now - streaming_since_ > 2 * kBackoffMax)) backoff_ = {};
  return wait_longer(kind == ErrorKind::kData);
}

std::chrono::milliseconds Retries::refused() { return wait_longer(true); }

std::chrono::milliseconds Retries::wait_longer(bool is_slow) {
  backoff_ = std::clamp(backoff_ * 2, is_slow ? kSlowBackoffMin : kBackoffMin, is_slow ? kSlowBackoffMax : kBackoffMax);
  return backoff_;
}

bool Retries::is_news(const std::string& text, bool was_streaming) {
  return std::exchange(last_told_, text) != text || was_streaming;
}

}  // namespace evictd
