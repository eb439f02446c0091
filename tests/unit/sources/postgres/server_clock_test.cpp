// When a commit of a server with another clock was, by ours.
#include "daemon/sources/postgres/server_clock.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

using namespace std::chrono_literals;

constexpr SteadyTime at(SteadyTime::duration time) { return SteadyTime(time); }
constexpr SystemTime dated(SystemTime::duration time) { return SystemTime(time); }

TEST(ServerClock, KnowsNothingBeforeAMessage) {
  ServerClock clock;
  EXPECT_EQ(clock.ours_at(dated(1h), at(5s)), std::nullopt);
  clock.heard(dated(1h), at(5s));
  clock.forget();
  EXPECT_EQ(clock.ours_at(dated(1h), at(5s)), std::nullopt);
}

TEST(ServerClock, TellsTheAgeOfACommitWhateverTheClocksSay) {
  for (const SystemTime::duration difference : {SystemTime::duration(-90h), SystemTime::duration(0), SystemTime::duration(500'000h)}) {
    ServerClock clock;
    clock.heard(dated(difference + 100s), at(7s));
    EXPECT_EQ(clock.ours_at(dated(difference + 100s), at(7s)), at(7s));
    EXPECT_EQ(clock.ours_at(dated(difference + 96s), at(7s)), at(3s));
    EXPECT_EQ(clock.ours_at(dated(difference + 96s), at(20s)), at(3s));
  }
}

// It lay in a buffer while nobody read: that does not make what came with it younger.
TEST(ServerClock, AMessageThatWaitedOnItsWayChangesNothing) {
  ServerClock clock;
  clock.heard(dated(100s), at(7s));
  clock.heard(dated(101s), at(90s));
  EXPECT_EQ(clock.ours_at(dated(101s), at(90s)), at(8s));
}

TEST(ServerClock, AMessageThatTookLessIsBelieved) {
  ServerClock clock;
  clock.heard(dated(100s), at(9s));
  clock.heard(dated(101s), at(8s));
  EXPECT_EQ(clock.ours_at(dated(101s), at(8s)), at(8s));
}

// Else every commit would look an hour old, and lag with it, for as long as the connection lasts.
TEST(ServerClock, AClockThatWasSetBackIsKnownBySomethingOfOurOwnThatCameBack) {
  ServerClock clock;
  clock.heard(dated(100h), at(7s));
  clock.heard(dated(99h + 1s), at(8s));
  clock.came_back(dated(99h + 2s), at(9s), at(9s + 20ms));
  EXPECT_EQ(clock.ours_at(dated(99h + 2s), at(10s)), at(9s + 20ms));
  clock.heard(dated(99h + 3s), at(10s + 1ms));
  EXPECT_EQ(clock.ours_at(dated(99h + 3s), at(11s)), at(10s + 1ms));
}

TEST(ServerClock, SomethingOfOurOwnThatTookLongChangesNothing) {
  ServerClock clock;
  clock.heard(dated(100s), at(7s));
  clock.came_back(dated(101s), at(8s), at(90s));
  clock.came_back(dated(101s), SteadyTime::min(), at(90s));  // so long that nobody knows
  EXPECT_EQ(clock.ours_at(dated(101s), at(90s)), at(8s));
}

TEST(ServerClock, NothingIsInTheFuture) {
  ServerClock clock;
  clock.heard(dated(100s), at(7s));
  EXPECT_EQ(clock.ours_at(dated(200s), at(8s)), at(8s));
}

TEST(ServerClock, DatesThatAreMadeUpOverflowNothing) {
  const SystemTime dates[] = {SystemTime::min(), SystemTime::max(), dated(-3'000'000h), dated(3'000'000h), dated(0s)};
  for (const SystemTime sent : dates) {
    for (const SystemTime committed : dates) {
      ServerClock clock;
      clock.heard(sent, at(7s));
      clock.came_back(committed, at(6s), at(7s));
      if (const auto ours = clock.ours_at(committed, at(7s))) {
        EXPECT_LE(*ours, at(7s));
      }
    }
  }
}

}  // namespace
}  // namespace evictd
