#include "daemon/sinks/redis/eviction.h"

#include <fmt/format.h>

#include <utility>

namespace evictd {

std::string endangered_by(std::string_view policy, const KeptBesideValues& kept, bool sets_have_ends) {
  if (policy.empty() || policy == "noeviction") return {};
  const bool takes_all = policy.starts_with("allkeys-");
  if (kept.has_tag_sets && (takes_all || sets_have_ends)) return "the set of a tag, and what it listed then stays stale";
  if (kept.has_counters && takes_all) return "a counter of 'bump', which begins again at 1, and keys with old numbers come back to life";
  if (kept.has_stale_marks) return "the mark of a stale value before the value ('mode: stale'), which then passes for fresh";
  // The others take the youngest last, and tombstones are young.
  if (kept.has_tombstones && (policy == "volatile-ttl" || policy.ends_with("-random"))) return "a tombstone, and a late fill is then not refused";
  return {};
}

std::string better_policy(const KeptBesideValues& kept, bool sets_have_ends) {
  if (kept.has_stale_marks || (kept.has_tag_sets && sets_have_ends)) return "CONFIG SET maxmemory-policy noeviction";
  if (kept.has_tag_sets || kept.has_counters) return "CONFIG SET maxmemory-policy volatile-lru, and give every value a lifetime";
  return "CONFIG SET maxmemory-policy allkeys-lru";
}

void EvictionWatch::seen(std::string policy, std::uint64_t evicted_keys) {
  policy_ = std::move(policy);
  evicted_ = evicted_keys;
  judge();
}

void EvictionWatch::rely_on(const KeptBesideValues& kept) {
  if (kept_ == kept) return;
  kept_ = kept;
  judge();
}

void EvictionWatch::judge() {
  if (!kept_ || policy_.empty()) return;
  if (evicted_ < harmless_) harmless_ = 0;  // counted anew
  const std::string what = endangered_by(policy_, *kept_, sets_have_ends_);
  if (what.empty()) harmless_ = evicted_;
  problem_.reset();
  if (evicted_ <= harmless_) return;
  problem_ = fmt::format("redis evicts keys under 'maxmemory-policy {}', which may take {}: {}; what may be stale is purged as soon as that is done", policy_,
                         what, better_policy(*kept_, sets_have_ends_));
}

}  // namespace evictd
