// A record that waits for its schema.
#include "daemon/sources/kafka/schema_wait.h"

#include <gtest/gtest.h>

#include <vector>

namespace evictd {
namespace {

constexpr SteadyTime at(int ms) { return SteadyTime(std::chrono::milliseconds(ms)); }

TEST(SchemaWaitTest, OneQuestionAtATime) {
  SchemaWait wait;
  EXPECT_FALSE(wait.waits());
  EXPECT_TRUE(wait.asks());
  EXPECT_TRUE(wait.waits());
  EXPECT_FALSE(wait.asks());
  wait.found();
  EXPECT_FALSE(wait.waits());
  EXPECT_TRUE(wait.asks()) << "of the next schema";
}

TEST(SchemaWaitTest, AfterAFailureTheRegistryIsLeftAloneForLongerEachTimeUpToABound) {
  SchemaWait wait;
  std::vector<int> waits;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(wait.asks());
    wait.failed("away", at(0));
    EXPECT_FALSE(wait.asks());
    waits.push_back(static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(wait.due() - at(0)).count()));
    wait.step(at(waits.back() - 1));
    EXPECT_TRUE(wait.waits());
    wait.step(at(waits.back()));
    EXPECT_FALSE(wait.waits());
  }
  EXPECT_EQ(waits, (std::vector<int>{500, 1000, 2000, 3000, 3000}));
  ASSERT_TRUE(wait.asks());
  wait.found();
  ASSERT_TRUE(wait.asks());
  wait.failed("away", at(0));
  EXPECT_EQ(wait.due(), at(500)) << "an answer ends it";
}

TEST(SchemaWaitTest, TheProblemIsToldUntilThereIsAnAnswerOrNoSuchRecord) {
  SchemaWait wait;
  wait.asks();
  wait.failed("connection refused", at(0));
  wait.step(at(500));
  wait.asks();
  EXPECT_EQ(wait.problem(), "connection refused") << "while it is asked again";
  wait.failed("no such schema", at(500));
  EXPECT_EQ(wait.problem(), "no such schema");
  wait.forget();
  EXPECT_EQ(wait.problem(), "");
  EXPECT_FALSE(wait.waits());
  wait.asks();
  wait.failed("away", at(0));
  wait.step(at(500));
  wait.asks();
  wait.found();
  EXPECT_EQ(wait.problem(), "");
}

// As where the group has given its partition to another daemon meanwhile.
TEST(SchemaWaitTest, WhatWasAskedForARecordThatIsGoneIsNoProblem) {
  SchemaWait wait;
  wait.asks();
  wait.forget();
  EXPECT_TRUE(wait.waits()) << "one question at a time";
  EXPECT_FALSE(wait.asks());
  wait.failed("connection refused", at(0));
  EXPECT_EQ(wait.problem(), "");
  EXPECT_FALSE(wait.waits());
  wait.asks();
  wait.failed("connection refused", at(1000));
  EXPECT_EQ(wait.problem(), "connection refused") << "of the next record";
  EXPECT_EQ(wait.due(), at(1500));
}

}  // namespace
}  // namespace evictd
