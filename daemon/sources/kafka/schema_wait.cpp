#include "daemon/sources/kafka/schema_wait.h"

#include <algorithm>
#include <utility>

namespace evictd {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAskAgainFirst{500};
constexpr milliseconds kAskAgainMax{3'000};

}  // namespace

bool SchemaWait::asks() {
  if (waits()) return false;
  is_asked_ = true;
  is_forgotten_ = false;
  return true;
}

void SchemaWait::found() {
  is_asked_ = false;
  forget();
}

void SchemaWait::failed(std::string problem, SteadyTime now) {
  is_asked_ = false;
  if (is_forgotten_) return;
  problem_ = std::move(problem);
  backoff_ = backoff_ == milliseconds(0) ? kAskAgainFirst : std::min(backoff_ * 2, kAskAgainMax);
  ask_at_ = now + backoff_;
}

void SchemaWait::forget() {
  is_forgotten_ = is_asked_;
  problem_.clear();
  backoff_ = milliseconds(0);
  ask_at_ = SteadyTime::max();
}

}  // namespace evictd
