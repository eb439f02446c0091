#include "daemon/refresh/queue.h"

#include <algorithm>
#include <iterator>

namespace evictd {
namespace {

constexpr std::size_t kEntryBytes = 160;  // beside its texts, which are there twice

std::size_t bytes_of(const std::string& key, const std::string& version) { return kEntryBytes + 2 * key.size() + version.size(); }

}  // namespace

std::string joined_version(std::string_view earlier, std::string_view later) {
  if (earlier.empty() || later.empty() || earlier.starts_with('v') || later.starts_with('v')) return std::string(later.empty() ? earlier : later);
  std::string joined = std::string(earlier) + ',' + std::string(later);
  for (auto more = std::count(joined.begin(), joined.end(), ',') + 1; more > static_cast<std::ptrdiff_t>(kVersionXids); --more) {
    joined.erase(0, joined.find(',') + 1);
  }
  return joined;
}

void RefreshQueue::set_pace(const std::string& name, std::uint64_t per_second, SteadyTime now) {
  auto [at, is_new] = rules_.try_emplace(name);
  Rule& rule = at->second;
  rule.tokens = is_new ? 0 : tokens_at(rule, now);
  rule.counted_at = now;
  rule.per_second = per_second;
  if (is_new) rule.tokens = static_cast<double>(burst_of(rule));
}

std::size_t RefreshQueue::forget(const std::string& name) {
  const std::size_t dropped = clear(name);
  rules_.erase(name);
  return dropped;
}

RefreshQueue::Added RefreshQueue::add(const std::string& name, std::string_view key, std::string version) {
  const auto found = rules_.find(name);
  if (found == rules_.end()) return Added::kDropped;
  Rule& rule = found->second;
  RefreshEntry entry{std::string(key), {}};
  if (const auto known = rule.waits.find(entry.key); known != rule.waits.end()) {
    set_version(known->second, joined_version(known->second, version));
    return Added::kCoalesced;
  }
  if (keys_ >= limits_.keys || bytes_ + bytes_of(entry.key, version) > limits_.bytes) return Added::kDropped;
  wait(rule, entry.key, std::move(version));
  rule.ready.push_back(std::move(entry));
  return Added::kQueued;
}

// The caller puts its entry into a queue.
void RefreshQueue::wait(Rule& rule, const std::string& key, std::string version) {
  ++keys_;
  bytes_ += bytes_of(key, version);
  rule.waits.emplace(key, std::move(version));
}

// It may pass the limit of bytes by what kVersionXids of a key that is there take.
void RefreshQueue::set_version(std::string& known, std::string version) {
  bytes_ += version.size();
  bytes_ -= known.size();
  known = std::move(version);
}

// The caller has it from its queue.
void RefreshQueue::leave(Rule& rule, RefreshEntry& entry) {
  const auto known = rule.waits.find(entry.key);
  --keys_;
  bytes_ -= bytes_of(entry.key, known->second);
  entry.version = std::move(known->second);
  rule.waits.erase(known);
}

// A twentieth of a second's keys, so that the pace is even and a question is worth asking; but no more than ten, or what a hundredth of
// a second takes: readers of the same Redis and of the same database wait for each lot (docs/refresh.md, "A storm").
std::size_t RefreshQueue::burst_of(const Rule& rule) const {
  if (rule.per_second == 0) return limits_.batch;
  const std::uint64_t keys = std::max(rule.per_second / 100, std::min<std::uint64_t>(rule.per_second / 20, 10));
  return std::clamp<std::size_t>(static_cast<std::size_t>(keys), 1, limits_.batch);
}

double RefreshQueue::tokens_at(const Rule& rule, SteadyTime now) const {
  const double most = static_cast<double>(burst_of(rule));
  if (rule.per_second == 0) return most;
  const double seconds = std::chrono::duration<double>(std::max(now - rule.counted_at, SteadyTime::duration::zero())).count();
  return std::min(most, rule.tokens + seconds * static_cast<double>(rule.per_second));
}

SteadyTime RefreshQueue::paced_at(const Rule& rule, std::size_t keys, SteadyTime now) const {
  const double lacking = static_cast<double>(std::min(keys, burst_of(rule))) - tokens_at(rule, now);
  if (lacking <= 0) return now;
  const auto wait = std::chrono::duration<double>(lacking / static_cast<double>(rule.per_second));
  return now + std::chrono::duration_cast<SteadyTime::duration>(wait) + std::chrono::microseconds(1);
}

std::optional<RefreshBatch> RefreshQueue::take(SteadyTime now) {
  // From the rule behind the last one on, and around.
  auto at = rules_.upper_bound(last_);
  for (std::size_t looked = 0; looked < rules_.size(); ++looked, ++at) {
    if (at == rules_.end()) at = rules_.begin();
    Rule& rule = at->second;
    if (rule.suspended_until > now) continue;
    while (!rule.later.empty() && rule.later.begin()->first <= now) {
      rule.ready.push_back(std::move(rule.later.begin()->second));
      rule.later.erase(rule.later.begin());
    }
    if (rule.ready.empty() || paced_at(rule, rule.ready.size(), now) > now) continue;
    const double tokens = tokens_at(rule, now);
    const auto count = std::min({rule.ready.size(), limits_.batch, std::max<std::size_t>(static_cast<std::size_t>(tokens), 1)});
    rule.tokens = tokens - static_cast<double>(count);
    rule.counted_at = now;
    last_ = at->first;
    RefreshBatch batch;
    batch.rule = at->first;
    for (std::size_t i = 0; i < count; ++i) {
      leave(rule, rule.ready.front());
      batch.entries.push_back(std::move(rule.ready.front()));
      rule.ready.pop_front();
    }
    return batch;
  }
  return std::nullopt;
}

SteadyTime RefreshQueue::due(SteadyTime now) const {
  SteadyTime first = SteadyTime::max();
  for (const auto& [name, rule] : rules_) {
    if (rule.size() == 0) continue;
    SteadyTime at = rule.ready.empty() ? rule.later.begin()->first : now;
    at = std::max(at, paced_at(rule, std::max<std::size_t>(rule.ready.size(), 1), now));
    first = std::min(first, std::max(at, rule.suspended_until));
  }
  return first;
}

bool RefreshQueue::retry(const std::string& name, RefreshEntry entry, SteadyTime now) {
  const auto found = rules_.find(name);
  const auto try_number = static_cast<std::size_t>(entry.tries++);
  if (found == rules_.end() || try_number >= std::size(kRetryAfter)) return false;
  Rule& rule = found->second;
  // Deleted once more meanwhile, it waits already.
  if (const auto known = rule.waits.find(entry.key); known != rule.waits.end()) {
    set_version(known->second, joined_version(entry.version, known->second));
    return true;
  }
  wait(rule, entry.key, std::exchange(entry.version, {}));
  rule.later.emplace(now + kRetryAfter[try_number], std::move(entry));
  return true;
}

void RefreshQueue::suspend(const std::string& name, SteadyTime until) {
  if (const auto found = rules_.find(name); found != rules_.end()) found->second.suspended_until = until;
}

std::size_t RefreshQueue::clear(const std::string& name) {
  const auto found = rules_.find(name);
  if (found == rules_.end()) return 0;
  Rule& rule = found->second;
  const std::size_t dropped = rule.size();
  for (const auto& [key, version] : rule.waits) bytes_ -= bytes_of(key, version);
  keys_ -= dropped;
  rule.ready.clear();
  rule.later.clear();
  rule.waits.clear();
  return dropped;
}

}  // namespace evictd
