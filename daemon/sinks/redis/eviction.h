// What Redis may evict to make room, and must not: what rules keep there beside the values. A set of a tag that is gone lists nothing, a
// counter begins again, a mark or tombstone that goes before its value lets an old one pass. Redis does not say which keys it evicted;
// that it did, under a policy that may have taken such a key, is known by INFO: 'maxmemory_policy' and 'evicted_keys' (which CONFIG
// RESETSTAT and a restart begin anew). Pure.
// Source: https://redis.io/docs/latest/develop/reference/eviction/
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/interface/sink.h"

namespace evictd {

// `sets_have_ends`: those of tags have a lifetime (on a cluster), and 'volatile-*' may take them, too.
// -> what the policy may take, and what comes of it, as a clause; empty: nothing that is relied on.
std::string endangered_by(std::string_view policy, const KeptBesideValues& kept, bool sets_have_ends);
// The policy to have, as a command and what goes with it.
std::string better_policy(const KeptBesideValues& kept, bool sets_have_ends);

// Watches one server.
class EvictionWatch {
 public:
  explicit EvictionWatch(bool sets_have_ends) : sets_have_ends_(sets_have_ends) {}

  // As INFO says; each time.
  void seen(std::string policy, std::uint64_t evicted_keys);
  void rely_on(const KeptBesideValues& kept);
  // Keys were evicted, since the policy may take what is relied on (or since before we looked): why that matters, and what to do.
  const std::optional<std::string>& problem() const { return problem_; }

 private:
  void judge();

  const bool sets_have_ends_;
  std::optional<KeptBesideValues> kept_;
  std::string policy_;
  std::uint64_t evicted_ = 0;
  std::uint64_t harmless_ = 0;  // so many of them were evicted while nothing that is relied on could be
  std::optional<std::string> problem_;
};

}  // namespace evictd
