// When the brokers are asked, and what is told of how they are.
#include "daemon/sources/kafka/broker_watch.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }

TEST(BrokerWatchTest, IsAskedSoonAfterTheStartAndThenAgainAndAgain) {
  BrokerWatch watch;
  EXPECT_EQ(watch.due(), SteadyTime::max());
  watch.opened(true, at(0));
  EXPECT_FALSE(watch.probes(at(0)));
  EXPECT_EQ(watch.due(), at(1));
  EXPECT_TRUE(watch.probes(at(1)));
  EXPECT_EQ(watch.due(), SteadyTime::max());
  EXPECT_FALSE(watch.probes(at(100))) << "one at a time";
  watch.answered(true, "", at(100));
  EXPECT_EQ(watch.due(), at(105));
  EXPECT_TRUE(watch.probes(at(105)));
}

TEST(BrokerWatchTest, WithoutAnAnswerTheProblemIsToldAndTheyAreAskedSooner) {
  BrokerWatch watch;
  watch.opened(true, at(0));
  watch.probes(at(1));
  watch.answered(true, "timed out", at(2));
  EXPECT_EQ(watch.problem(), "timed out");
  EXPECT_EQ(watch.due(), at(3));
  watch.probes(at(3));
  EXPECT_EQ(watch.problem(), "timed out") << "until there is an answer";
  watch.answered(true, "", at(4));
  EXPECT_EQ(watch.problem(), "");
}

TEST(BrokerWatchTest, WhatTheLibraryTellsStandsUntilAnAnswerOrAnotherClient) {
  BrokerWatch watch;
  watch.opened(true, at(0));
  watch.probes(at(1));
  watch.answered(true, "", at(1));
  watch.fails("all brokers are down");
  watch.look_soon(at(2));
  EXPECT_EQ(watch.due(), at(3));
  watch.look_soon(at(2) + std::chrono::milliseconds(500));
  EXPECT_EQ(watch.due(), at(3)) << "never later than before";
  EXPECT_EQ(watch.problem(), "all brokers are down");
  watch.opened(true, at(3));
  EXPECT_EQ(watch.problem(), "");
}

TEST(BrokerWatchTest, AnAnswerToAnEarlierClientSaysNothingButIsWaitedFor) {
  BrokerWatch watch;
  watch.opened(true, at(0));
  watch.probes(at(1));
  watch.opened(true, at(2));
  EXPECT_FALSE(watch.probes(at(3))) << "the question of before is under way";
  watch.fails("away");
  watch.answered(false, "", at(4));
  EXPECT_EQ(watch.problem(), "away");
  EXPECT_TRUE(watch.probes(at(4)));
}

TEST(BrokerWatchTest, WhatIsAskedForMeanwhileIsNotPutOff) {
  BrokerWatch watch;
  watch.opened(true, at(0));
  watch.probes(at(1));
  watch.look_at_once(at(2));
  EXPECT_EQ(watch.due(), SteadyTime::max());
  watch.answered(true, "", at(3));
  EXPECT_TRUE(watch.probes(at(3)));
}

TEST(BrokerWatchTest, TopicsThatAreNotThereAreToldUntilSomeAre) {
  BrokerWatch watch;
  watch.opened(false, at(0));
  EXPECT_EQ(watch.topic_problem(), "no topic exists yet that 'topics' names or matches");
  EXPECT_EQ(watch.problem(), "") << "the brokers are well";
  watch.has_topics();
  EXPECT_EQ(watch.topic_problem(), "");
  watch.misses("kafka: topic 'a' does not exist");
  EXPECT_EQ(watch.topic_problem(), "kafka: topic 'a' does not exist");
  watch.opened(true, at(1));
  EXPECT_EQ(watch.topic_problem(), "");
}

}  // namespace
}  // namespace evictd
