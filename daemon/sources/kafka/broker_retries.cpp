#include "daemon/sources/kafka/broker_retries.h"

#include <algorithm>

namespace evictd {

void BrokerRetries::reached() {
  last_told_.clear();
  wait_ = std::chrono::milliseconds(0);
}

bool BrokerRetries::failed(const Error& error, SteadyTime now) {
  wait_ = wait_ == std::chrono::milliseconds(0) ? kFirst : std::min(wait_ * 2, kMax);
  due_ = now + wait_;
  if (last_told_ == error.text) return false;
  last_told_ = error.text;
  return true;
}

bool BrokerRetries::is_final(ErrorKind kind) const {
  return kind == ErrorKind::kFatal || (kind == ErrorKind::kUsage && !has_streamed_);
}

}  // namespace evictd
