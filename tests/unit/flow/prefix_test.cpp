// What of a lane's work may pass for done.
#include "daemon/flow/prefix.h"

#include <gtest/gtest.h>

#include "tests/support/idle_source.h"

namespace evictd {
namespace {

class PrefixTest : public ::testing::Test {
 protected:
  PrefixTest() : ledger_("0000000000000000/redis", std::chrono::milliseconds(200)), prefix_(ledger_, source_) {
    ledger_.found(std::nullopt);
    connect();
  }

  void connect() {
    SourceConnected connected;
    connected.epoch = Epoch("1/1");
    connected.instance = "server";
    ledger_.connection_begins(connected);
    ledger_.streaming(connected, std::chrono::milliseconds(1), false);
  }

  static Batch batch(std::uint64_t number) {
    Batch batch;
    batch.number = number;
    batch.ends = {Position{0, number * 100}};
    return batch;
  }

  void over(std::uint64_t number, bool is_whole = true, bool is_of_this_connection = true) {
    const Batch batch = PrefixTest::batch(number);
    prefix_.over({number, &batch.ends, is_whole, is_of_this_connection}, true);
  }
  bool is_finished(std::uint64_t number) const { return prefix_.is_finished(batch(number)); }
  bool is_applied(std::uint64_t number) const { return prefix_.is_applied(batch(number)); }

  testing::IdleSource source_;
  Ledger ledger_;
  Prefix prefix_;
};

TEST_F(PrefixTest, WhatIsDoneIsKnown) {
  for (const std::uint64_t number : {1, 2, 3}) prefix_.taken(batch(number), true);
  EXPECT_TRUE(prefix_.applied_through(2, true).empty());
  EXPECT_TRUE(is_applied(2));
  EXPECT_FALSE(is_applied(3));
  over(1);
  EXPECT_TRUE(is_finished(1));
  EXPECT_FALSE(is_finished(2));
}

TEST_F(PrefixTest, NothingIsKnownOfASourceThatDoesNotStream) {
  prefix_.taken(batch(1), true);
  prefix_.applied_through(1, false);
  const Batch one = batch(1);
  prefix_.over({1, &one.ends, true, true}, false);
  EXPECT_FALSE(is_applied(1));
  EXPECT_FALSE(is_finished(1));
  prefix_.tell_again();  // its record is judged now
  EXPECT_TRUE(is_finished(1));
}

TEST_F(PrefixTest, NothingFollowsAHole) {
  over(1);
  over(2, false);
  over(3);
  prefix_.reached(Position{0, 400}, true);
  EXPECT_TRUE(is_finished(1));
  EXPECT_FALSE(is_finished(2));
  EXPECT_FALSE(is_finished(3));
  EXPECT_FALSE(is_finished(4));
  // The next connection sends all of it again, and what the former one left in hand lies beyond the hole.
  prefix_.connection_begins(false);
  connect();
  over(3, true, false);
  EXPECT_FALSE(is_finished(3));
  over(4);
  EXPECT_TRUE(is_finished(4));
}

TEST_F(PrefixTest, AHoleOfAnEarlierConnectionEndsWithWhatItLeft) {
  over(1, false);
  prefix_.connection_begins(true);
  connect();
  prefix_.connection_begins(false);
  connect();
  over(2, true, false);
  EXPECT_TRUE(is_finished(2)) << "of the connection between, which had none";
}

TEST_F(PrefixTest, WhatAnEarlierConnectionLeftIsToldToNobody) {
  over(1);
  prefix_.connection_begins(false);
  connect();
  over(2, true, false);
  EXPECT_TRUE(is_finished(2));
  EXPECT_TRUE(ledger_.is_all_recorded()) << "so its redelivery owes nothing, and only that is acknowledged";
}

TEST_F(PrefixTest, WhatMayBeUndoneIsNotToldAgain) {
  over(1);
  ledger_.forget_unrecorded();
  prefix_.undone();
  ASSERT_FALSE(is_finished(1));
  prefix_.tell_again();
  EXPECT_FALSE(is_finished(1));
}

TEST_F(PrefixTest, WhatMayBeUndoneEndsBoth) {
  prefix_.taken(batch(1), true);
  prefix_.taken(batch(2), true);
  prefix_.undone();
  prefix_.applied_through(2, true);
  over(1);
  over(2, true, false);
  EXPECT_FALSE(is_applied(1));
  EXPECT_FALSE(is_finished(1));
  EXPECT_FALSE(is_finished(2));
}

TEST_F(PrefixTest, ACacheThatFallsBehindAppliesNoMore) {
  for (const std::uint64_t number : {1, 2}) prefix_.taken(batch(number), true);
  prefix_.ends_at(1);
  prefix_.applied_through(2, true);
  EXPECT_TRUE(is_applied(1));
  EXPECT_FALSE(is_applied(2));
}

TEST_F(PrefixTest, APurgeAnswersForWhatWasGivenUp) {
  over(1, false);
  prefix_.answered_through(2);
  over(2, false);
  over(3);
  EXPECT_TRUE(is_finished(3));
}

TEST_F(PrefixTest, WhatWasMissedIsFinishedOnceAPurgeAnswersForIt) {
  over(1, false);
  prefix_.stops();
  prefix_.missed(Position{0, 200});
  EXPECT_FALSE(is_finished(2));
  prefix_.answered_through(2);
  prefix_.tell_again();
  EXPECT_TRUE(is_finished(2));
  EXPECT_FALSE(ledger_.is_all_recorded()) << "it is told to the source, once it is on record";
  // Not what was missed of a former connection, whose streams may be others.
  prefix_.missed(Position{0, 900});
  prefix_.connection_begins(true);
  connect();
  prefix_.answered_through(2);
  prefix_.tell_again();
  EXPECT_FALSE(is_finished(9));
}

TEST_F(PrefixTest, ATransactionThatEndsInABatchOfOthersHasItsCommitTold) {
  Batch first = batch(1);
  first.is_cut = true;
  first.ends = {};
  prefix_.taken(first, true);
  prefix_.carried();
  Batch second = batch(2);
  second.carried_commit = SystemTime(std::chrono::seconds(7));
  prefix_.taken(second, true);
  EXPECT_EQ(prefix_.applied_through(2, true), std::vector<SystemTime>{SystemTime(std::chrono::seconds(7))});
  // Sent again and known, it was told before.
  prefix_.carried();
  second.number = 3;
  prefix_.taken(second, false);
  EXPECT_TRUE(prefix_.applied_through(3, true).empty());
}

TEST_F(PrefixTest, ASliceIsKnownWhereItsEndIs) {
  over(3);
  Batch slice;
  slice.number = 9;
  slice.is_cut = true;
  EXPECT_FALSE(prefix_.is_finished(slice)) << "nobody knows where it lies";
  slice.cut_at = Position{0, 300};
  EXPECT_FALSE(prefix_.is_finished(slice)) << "it goes on where the known end lies";
  slice.cut_at = Position{0, 299};
  EXPECT_TRUE(prefix_.is_finished(slice));
}

}  // namespace
}  // namespace evictd
