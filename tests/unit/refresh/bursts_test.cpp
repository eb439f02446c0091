// How many commands of the refresher Redis gets together.
#include "daemon/refresh/bursts.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

using std::chrono::microseconds;

TEST(RefreshBursts, OnOneMachineReadersComeBetweenAnyTwoOfALot) {
  RefreshBursts bursts;
  EXPECT_EQ(bursts.size(10), 1u);
  bursts.took(microseconds(900));  // the machine was busy
  bursts.took(microseconds(80));
  bursts.took(microseconds(5'000));
  EXPECT_EQ(bursts.size(10), 1u);
  EXPECT_EQ(bursts.size(1), 1u);
  EXPECT_EQ(bursts.size(0), 1u) << "never nothing at a time";
}

TEST(RefreshBursts, ALargeLotTakesTenTurns) {
  RefreshBursts bursts;
  bursts.took(microseconds(80));
  EXPECT_EQ(bursts.size(20), 2u);
  EXPECT_EQ(bursts.size(95), 10u);
  EXPECT_EQ(bursts.size(100), 10u);
}

TEST(RefreshBursts, ALongWayIsSharedByMore) {
  RefreshBursts bursts;
  bursts.took(microseconds(750));
  EXPECT_EQ(bursts.size(10), 5u);
  RefreshBursts far;
  far.took(microseconds(20'000));
  EXPECT_GE(far.size(100), 100u) << "all at once: each further turn would cost 20 ms";
}

}  // namespace
}  // namespace evictd
