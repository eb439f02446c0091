#include "daemon/sources/postgres/heartbeat.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace evictd {

void Heartbeat::streaming(SteadyTime now) {
  problem_.clear();
  is_missing_ = false;
  awaited_.reset();
  before_ = count_;
  next_.due_at(now);
}

std::optional<std::string> Heartbeat::beats(bool can, SteadyTime now) {
  if (!can || interval_.count() <= 0) {
    next_.due_at(SteadyTime::max());
    return std::nullopt;
  }
  if (!next_.begins(now, interval_)) return std::nullopt;
  sent_at_[++count_ % sent_at_.size()] = now;
  return fmt::format("{} {}", token_, count_);
}

std::optional<std::string> Heartbeat::emitted(const Result<Lsn>& answer, SteadyTime now) {
  next_.answered();
  // It may have come before its answer, and one that was emitted before this connection streamed need not come.
  if (answer && !awaited_ && count_ > std::max(before_, came_)) awaited_ = Awaited{count_, *answer};
  problem_ = answer ? "" : "cannot emit a heartbeat: " + answer.error().text;
  if (answer || answer.error().kind != ErrorKind::kUsage) return std::nullopt;
  next_.due_at(now + kRefused);
  return std::exchange(problem_, {});
}

std::optional<SteadyTime> Heartbeat::news(std::string_view prefix, std::string_view content) {
  if (prefix != kPrefix || !content.starts_with(token_)) return std::nullopt;
  content.remove_prefix(std::min(content.size(), token_.size() + 1));
  std::uint64_t number = 0;
  std::from_chars(content.data(), content.data() + content.size(), number);
  if (number <= before_ || number > count_) return std::nullopt;
  came_ = std::max(came_, number);
  if (awaited_ && number == awaited_->number) awaited_.reset();
  is_missing_ = false;
  return count_ - number < sent_at_.size() ? sent_at_[number % sent_at_.size()] : SteadyTime::min();
}

bool Heartbeat::misses(Lsn received) {
  if (!awaited_ || received < awaited_->before) return false;
  awaited_.reset();
  is_missing_ = true;
  return true;
}

}  // namespace evictd
