// The judge on trial: it finds each thing it is there to find.
#include "tests/readers/race/judge.h"

#include <gtest/gtest.h>

#include "tests/readers/race/monitor.h"

namespace evictd::race {
namespace {

using Kind = Event::Kind;

// Row 1: version 1 by transaction 100, visible at 1000; version 2 by 200, visible at 2000.
const std::vector<Commit> kCommits = {{100, 1, 1, 1000}, {200, 1, 2, 2000}};

Verdict judged(const std::vector<Event>& events) { return judge(kCommits, events, 9000, 500); }

TEST(Judge, FillOfANewerVersionIsFine) {
  const Verdict verdict = judged({{Kind::kOrdered, 1, 100, 1100},
                                  {Kind::kExecuted},
                                  {Kind::kStored, 1, 1, 1200},
                                  {Kind::kOrdered, 1, 200, 2100},
                                  {Kind::kDeleted, 1, 0, 2100},
                                  {Kind::kExecuted},
                                  {Kind::kStored, 1, 2, 2200}});
  EXPECT_EQ(verdict.stored, 2u);
  EXPECT_EQ(verdict.stale_fills, 0u);
  EXPECT_EQ(verdict.stale_kept, 0u);
  EXPECT_EQ(verdict.never_ordered, 0u);
  EXPECT_EQ(verdict.longest_stale_us, 100);
  EXPECT_EQ(verdict.left.at(1), 2u);
}

TEST(Judge, FillOfAnOlderVersionThanWasOrderedIsStale) {
  const Verdict verdict = judged(
      {{Kind::kOrdered, 1, 200, 2100}, {Kind::kExecuted}, {Kind::kStored, 1, 1, 2200}});
  EXPECT_EQ(verdict.stale_fills, 1u);
  EXPECT_EQ(verdict.longest_stale_us, 7000) << "it is still there";
  EXPECT_EQ(verdict.stale_beyond_bound, 1u);
  EXPECT_EQ(verdict.left.at(1), 1u);
}

TEST(Judge, ValueThatAnInvalidationLeavesMustBeNewEnough) {
  EXPECT_EQ(judged({{Kind::kStored, 1, 1, 1200}, {Kind::kOrdered, 1, 200, 2100}, {Kind::kExecuted}})
                .stale_kept,
            1u);
  EXPECT_EQ(judged({{Kind::kStored, 1, 2, 2050}, {Kind::kOrdered, 1, 200, 2100}, {Kind::kExecuted}})
                .stale_kept,
            0u);
}

TEST(Judge, StalenessCountsFromVisibilityAndEndsWithTheNextValue) {
  const Verdict verdict = judged({{Kind::kStored, 1, 1, 1200}, {Kind::kStored, 1, 2, 2700}});
  EXPECT_EQ(verdict.longest_stale_us, 700);
  EXPECT_EQ(verdict.stale_beyond_bound, 1u);
  EXPECT_EQ(verdict.never_ordered, 2u);
}

class Lines : public ::testing::Test {
 protected:
  std::vector<Event> events(const std::vector<std::string>& lines) {
    MonitorParser parser;
    for (const std::string& line : lines) parser.take(line);
    return parser.events;
  }
};

TEST_F(Lines, InvalidationWithItsDeletes) {
  const auto found = events({
      R"(1700000000.000001 [0 127.0.0.1:5] "EVALSHA" "abc" "4" "item:7" "item:8" "evictd:{item:7}" "evictd:{item:8}" "1/1" "61000" "if" "0" "100s" "200,300")",
      R"(1700000000.000002 [0 lua] "MGET" "evictd:{item:7}" "evictd:{item:8}")",
      R"(1700000000.000003 [0 lua] "UNLINK" "item:7" "item:8")",
      R"(1700000000.000004 [0 lua] "SET" "evictd:{item:7}" "t 1/1 100s" "PX" "61000")",
      R"(1700000000.000005 [0 127.0.0.1:6] "GET" "item:7")",
  });
  ASSERT_EQ(found.size(), 6u);
  EXPECT_EQ(found[0].kind, Kind::kOrdered);
  EXPECT_EQ(found[0].row, 7u);
  EXPECT_EQ(found[0].number, 100u);
  EXPECT_EQ(found[0].time_us, 1700000000000001);
  EXPECT_EQ(found[1].number, 200u);
  EXPECT_EQ(found[1].row, 8u);
  EXPECT_EQ(found[2].number, 300u);
  EXPECT_EQ(found[3].kind, Kind::kDeleted);
  EXPECT_EQ(found[4].row, 8u);
  EXPECT_EQ(found[5].kind, Kind::kExecuted);
}

TEST_F(Lines, OneTextOfTokensForAllKeys) {
  const auto found = events({
      R"(1700000000.000001 [0 127.0.0.1:5] "EVAL" "local a = \"x\"\n" "4" "item:7" "item:8" "m" "m" "1/1" "61000" "i" "0" "100,200s")",
      R"(1700000000.000002 [0 127.0.0.1:5] "PING")",
  });
  ASSERT_EQ(found.size(), 5u);
  EXPECT_EQ(found[3].row, 8u);
  EXPECT_EQ(found[3].number, 200u);
}

TEST_F(Lines, FillsOfBothKinds) {
  const auto found = events({
      R"(1700000000.000001 [0 127.0.0.1:5] "FCALL" "evictd_fill" "2" "item:7" "evictd:{item:7}" "1:1:" "600000" "41")",
      R"(1700000000.000002 [0 lua] "SET" "item:7" "41" "PX" "600000")",
      R"(1700000000.000003 [0 127.0.0.1:5] "SET" "item:8" "42")",
  });
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].kind, Kind::kStored);
  EXPECT_EQ(found[0].number, 41u);
  EXPECT_EQ(found[1].row, 8u);
}

}  // namespace
}  // namespace evictd::race
