// What nodes of a cluster say of it, and when they are asked.
#include "daemon/sinks/redis/topology/topology_watch.h"

#include <gmock/gmock.h>

namespace evictd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using std::chrono::milliseconds;

const HostPort kA{"10.0.0.1", 7000};
const HostPort kB{"10.0.0.2", 7000};

// The first `slots` are one's, and the others another's.
SlotMap split(std::size_t slots, const HostPort& first = kA, const HostPort& second = kB) {
  SlotMap map;
  for (std::size_t slot = 0; slot < kSlots; ++slot) map.moved(static_cast<Slot>(slot), slot < slots ? first : second);
  return map;
}

class TopologyWatchTest : public ::testing::Test {
 protected:
  bool told(const ClusterState& state, SlotMap map, bool is_calm = true) {
    watch_.looked(now_);
    return watch_.told(kA, state, std::move(map), kNodes, is_calm, now_);
  }
  milliseconds until_look() const { return std::chrono::duration_cast<milliseconds>(watch_.look_due() - now_); }

  static constexpr std::size_t kNodes = 3;
  TopologyWatch watch_;
  SteadyTime now_{std::chrono::hours(1)};
};

TEST_F(TopologyWatchTest, AnotherMapIsToldOnce) {
  EXPECT_FALSE(watch_.take_former());
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_THAT(watch_.masters(), ElementsAre(kA, kB));
  const auto former = watch_.take_former();
  ASSERT_TRUE(former);
  EXPECT_EQ(former->unserved().count(), kSlots);
  EXPECT_FALSE(watch_.take_former());
  ASSERT_TRUE(told({true, 6}, split(100)));
  EXPECT_FALSE(watch_.take_former()) << "it is the same";
}

TEST_F(TopologyWatchTest, WhatMovedByARedirectionIsInTheMapThatANodeIsComparedWith) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  watch_.take_former();
  watch_.moved(100, kA);
  EXPECT_EQ(*watch_.map().owner(100), kA);
  ASSERT_TRUE(told({true, 6}, split(101)));
  EXPECT_FALSE(watch_.take_former());
  for (int slot = 101; slot < static_cast<int>(kSlots); ++slot) watch_.moved(static_cast<Slot>(slot), kA);
  EXPECT_THAT(watch_.masters(), ElementsAre(kA));
}

TEST_F(TopologyWatchTest, OneThatIsCutOffTellsOfFormerTimes) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_FALSE(told({true, 4}, split(7)));
  EXPECT_EQ(*watch_.map().owner(7), kA) << "as before";
  EXPECT_THAT(watch_.error()->text, HasSubstr("'10.0.0.1:7000' is cut off"));
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_FALSE(watch_.error());
}

TEST_F(TopologyWatchTest, WhatAllNodesSayInARowIsHowItIs) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_FALSE(told({true, 4}, split(7)));
  EXPECT_FALSE(told({true, 4}, split(7)));
  ASSERT_TRUE(told({true, 5}, split(100))) << "not in a row";
  EXPECT_FALSE(told({true, 4}, split(7)));
  EXPECT_FALSE(told({true, 4}, split(7)));
  EXPECT_TRUE(told({true, 4}, split(7))) << "set up anew, by hand";
  EXPECT_EQ(*watch_.map().owner(7), kB);
  EXPECT_TRUE(told({true, 4}, split(8))) << "their count is the one to compare with from now on";
}

TEST_F(TopologyWatchTest, AClusterThatIsDownIsTakenAsItIsWhenAllSaySo) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_FALSE(told({false, 6}, split(7)));
  EXPECT_FALSE(told({false, 6}, split(7)));
  ASSERT_TRUE(told({false, 6}, split(7)));
  EXPECT_THAT(watch_.error()->text, HasSubstr("the cluster is down"));
}

TEST_F(TopologyWatchTest, SlotsThatNobodyServesAreNamed) {
  SlotMap map;
  for (std::size_t slot = 3; slot < kSlots; ++slot) map.moved(static_cast<Slot>(slot), kA);
  ASSERT_TRUE(told({true, 5}, map));
  EXPECT_THAT(watch_.error()->text, HasSubstr("serves the slots 0-2 (3 of 16384), says redis at '10.0.0.1:7000'"));
  EXPECT_EQ(until_look(), milliseconds(100)) << "it is not calm";
  ASSERT_TRUE(told({true, 5}, map));
  EXPECT_TRUE(watch_.error()) << "as long as that holds, though nothing changes";
}

TEST_F(TopologyWatchTest, ItLooksEachSecondWhileAllIsWell) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_EQ(until_look(), kLookInterval);
}

TEST_F(TopologyWatchTest, ItLooksSoonWhenSomethingIsOffAndThenLessAndLessOften) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  watch_.look_soon(now_);
  EXPECT_EQ(until_look(), kLookFirst) << "after the last look";
  for (const int pause : {100, 200, 400, 800, 1000, 1000}) {
    ASSERT_TRUE(told({true, 5}, split(100), false));
    EXPECT_EQ(until_look(), milliseconds(pause));
    watch_.look_soon(now_);
    EXPECT_EQ(until_look(), milliseconds(pause));
    now_ += milliseconds(pause);
  }
  ASSERT_TRUE(told({true, 6}, split(101), false)) << "another map is news";
  watch_.look_soon(now_);
  EXPECT_EQ(until_look(), kLookFirst);
  watch_.look_at_once(now_);
  EXPECT_EQ(until_look(), milliseconds(0));
}

TEST_F(TopologyWatchTest, ThatNobodyTellsIsKnownWhenAllWereAskedAndAFailoverCouldHavePassed) {
  ASSERT_TRUE(told({true, 5}, split(100)));
  const auto not_told = [&] { watch_.not_told(Error{ErrorKind::kConnection, "refused", {}}, "noperm"); };
  not_told();
  not_told();
  now_ += std::chrono::seconds(5);
  EXPECT_FALSE(watch_.is_unobserved(kNodes, now_)) << "one was not asked";
  not_told();
  EXPECT_TRUE(watch_.is_unobserved(kNodes, now_));
  EXPECT_FALSE(watch_.is_unobserved(kNodes, now_ - milliseconds(1))) << "not for long enough";
  EXPECT_EQ(watch_.error()->text, "refused");
  EXPECT_EQ(watch_.error_class(), "noperm");
  ASSERT_TRUE(told({true, 5}, split(100)));
  EXPECT_FALSE(watch_.is_unobserved(kNodes, now_ + std::chrono::hours(1)));
  EXPECT_EQ(watch_.in_vain(), 0u);
}

}  // namespace
}  // namespace evictd
