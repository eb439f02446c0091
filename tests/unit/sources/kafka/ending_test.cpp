// How a client's time ends.
#include "daemon/sources/kafka/ending.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

Error because(const std::string& text) { return {ErrorKind::kConnection, text, {}}; }

TEST(EndingTest, OfSeveralReasonsTheFirstIsTold) {
  Ending ending;
  EXPECT_FALSE(ending.is_due());
  EXPECT_FALSE(ending.take_disconnect());
  ending.reconnects(because("topic gone"));
  ending.reconnects(because("records gone"));
  EXPECT_TRUE(ending.is_due());
  EXPECT_EQ(ending.take_disconnect()->text, "topic gone");
  EXPECT_FALSE(ending.take_disconnect()) << "once";
  EXPECT_FALSE(ending.is_due());
}

TEST(EndingTest, AnOrderFromOutsideIsToldInstead) {
  Ending ending;
  ending.reconnects(because("topic gone"));
  ending.restarts(because("read again"));
  ending.reconnects(because("records gone"));
  EXPECT_EQ(ending.take_disconnect()->text, "read again");
}

TEST(EndingTest, WhatEndsEvictdComesBeforeWhatBeginsAnew) {
  Ending ending;
  ending.reconnects(because("topic gone"));
  ending.fails(because("poison"));
  ending.fails(because("no right"));
  EXPECT_TRUE(ending.is_due());
  EXPECT_EQ(ending.failure()->text, "poison");
  EXPECT_FALSE(ending.take_disconnect());
}

}  // namespace
}  // namespace evictd
