#include "daemon/sources/postgres/read_pace.h"

namespace evictd {
namespace {

constexpr std::chrono::microseconds kBusyWindow{1'000};
constexpr std::size_t kBusyBytes = 4 * 1024;
constexpr std::chrono::microseconds kQuiet{1'000};

}  // namespace

void ReadPace::took(std::size_t bytes, bool has_more, SteadyTime now) {
  has_more_ = has_more;
  if (now - window_ > kBusyWindow) {
    window_ = now;
    window_bytes_ = 0;
  }
  window_bytes_ += bytes;
  if (window_bytes_ >= kBusyBytes) busy_until_ = now + 2 * kBusyWindow;
  if (bytes > 0 && !has_more && now < busy_until_) quiet_until_ = now + kQuiet;
}

void ReadPace::goes_on() {
  quiet_until_ = {};
  has_more_ = true;
}

}  // namespace evictd
