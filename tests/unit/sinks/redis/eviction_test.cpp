// What a server that makes room may take, and what has come of it.
#include "daemon/sinks/redis/eviction.h"

#include <gmock/gmock.h>

namespace evictd {
namespace {

using ::testing::HasSubstr;

constexpr KeptBesideValues kTags{.has_tag_sets = true};
constexpr KeptBesideValues kCounters{.has_counters = true};
constexpr KeptBesideValues kStale{.has_stale_marks = true};
constexpr KeptBesideValues kChecked{.has_tombstones = true};

TEST(Eviction, WhatAPolicyMayTake) {
  for (const char* policy : {"noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", ""}) {
    const std::string_view name = policy;
    const auto takes = [&](const KeptBesideValues& kept, bool sets_have_ends = false) { return !endangered_by(name, kept, sets_have_ends).empty(); };
    EXPECT_FALSE(takes({})) << policy;
    EXPECT_EQ(takes(kTags), name.starts_with("allkeys-")) << policy;
    EXPECT_EQ(takes(kTags, true), !name.empty() && name != "noeviction") << policy << ": on a cluster they have a lifetime";
    EXPECT_EQ(takes(kCounters), name.starts_with("allkeys-")) << policy;
    EXPECT_EQ(takes(kStale), !name.empty() && name != "noeviction") << policy;
    EXPECT_EQ(takes(kChecked), name == "volatile-ttl" || name.ends_with("-random")) << policy << ": tombstones are young";
  }
}

TEST(Eviction, TheBetterPolicyTakesNothing) {
  for (const KeptBesideValues& kept : {kTags, kCounters, kStale, kChecked, kTags | kStale, kCounters | kChecked, KeptBesideValues{}}) {
    for (const bool sets_have_ends : {false, true}) {
      std::string better = better_policy(kept, sets_have_ends).substr(std::string("CONFIG SET maxmemory-policy ").size());
      better = better.substr(0, better.find(','));
      EXPECT_EQ(endangered_by(better, kept, sets_have_ends), "") << better;
    }
  }
}

TEST(Eviction, WhatWasEvictedBeforeWeLookedCounts) {
  EvictionWatch watch(false);
  watch.rely_on(kTags);
  watch.seen("allkeys-lru", 0);
  EXPECT_FALSE(watch.problem());
  watch.seen("allkeys-lru", 7);
  ASSERT_TRUE(watch.problem());
  EXPECT_EQ(*watch.problem(),
            "redis evicts keys under 'maxmemory-policy allkeys-lru', which may take the set of a tag, and what it listed then stays stale: "
            "CONFIG SET maxmemory-policy volatile-lru, and give every value a lifetime; what may be stale is purged as soon as that is done");
  EvictionWatch another(false);
  another.seen("allkeys-lru", 7);
  EXPECT_FALSE(another.problem()) << "nobody has said what matters";
  another.rely_on(kTags);
  EXPECT_TRUE(another.problem());
}

TEST(Eviction, IsOverWithAnotherPolicyAndWithOtherRules) {
  EvictionWatch watch(false);
  watch.rely_on(kTags);
  watch.seen("allkeys-lru", 7);
  watch.seen("volatile-lru", 9);
  EXPECT_FALSE(watch.problem());
  watch.seen("volatile-lru", 20);
  EXPECT_FALSE(watch.problem()) << "no set has a lifetime";
  watch.seen("allkeys-lru", 20);
  EXPECT_FALSE(watch.problem()) << "none of those since";
  watch.seen("allkeys-lru", 21);
  EXPECT_TRUE(watch.problem());
  watch.rely_on(kChecked);
  EXPECT_FALSE(watch.problem());
  watch.rely_on(kTags);
  EXPECT_FALSE(watch.problem());
}

TEST(Eviction, CountsAnewAfterAResetOfTheCounter) {
  EvictionWatch watch(false);
  watch.rely_on(kTags);
  watch.seen("volatile-lru", 100);
  watch.seen("allkeys-lru", 3);
  EXPECT_TRUE(watch.problem()) << "3 since a restart, under a policy that nobody saw begin";
  watch.seen("allkeys-lru", 0);
  EXPECT_FALSE(watch.problem());
}

}  // namespace
}  // namespace evictd
