#include "daemon/sources/kafka/start_policy.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

StartFacts facts(std::optional<std::int64_t> committed, std::int64_t low, std::int64_t high) {
  StartFacts given;
  given.offsets = {{"t", 3}, committed, low, high};
  return given;
}

TEST(StartPolicy, GoesOnWhereTheGroupStands) {
  for (const std::int64_t committed : {10, 15, 20}) {
    const Start start = start_of(facts(committed, 10, 20));
    EXPECT_EQ(start.offset, committed);
    EXPECT_EQ(start.gap, "");
  }
}

TEST(StartPolicy, ReadsWhatIsLeftAfterRetention) {
  const Start start = start_of(facts(4, 10, 20));
  EXPECT_EQ(start.offset, 10);
  EXPECT_EQ(start.gap, "offset_out_of_range");
  EXPECT_EQ(start.detail,
            "t[3]: the committed offset is 4, but the first record left is 10: 6 records are gone");
}

TEST(StartPolicy, ReadsARecreatedTopicFromItsBeginning) {
  const Start start = start_of(facts(500, 0, 20));
  EXPECT_EQ(start.offset, 0);
  EXPECT_EQ(start.gap, "topic_recreated");
  EXPECT_EQ(start.detail,
            "t[3]: the committed offset is 500, but the partition ends at 20: it is not the one "
            "that was read before");
}

TEST(StartPolicy, BeginsAtTheEndOnceForANewGroup) {
  StartFacts given = facts(std::nullopt, 5, 20);
  given.is_first_start = true;
  EXPECT_EQ(start_of(given).offset, 20);
  given.began_at = 17;  // the commit of that has not arrived
  EXPECT_EQ(start_of(given).offset, 17);
}

TEST(StartPolicy, BeginsWhereThePartitionEndedBeforeTheGroupWasJoined) {
  StartFacts given = facts(std::nullopt, 5, 20);
  given.is_first_start = true;
  given.first_end = 12;  // another daemon of the new group held it since, and its commit was lost with it
  EXPECT_EQ(start_of(given).offset, 12);
  given.first_end = 3;
  EXPECT_EQ(start_of(given).offset, 5);
  EXPECT_EQ(start_of(given).gap, "offset_out_of_range");
}

TEST(StartPolicy, ReadsANewPartitionWhole) {
  const Start start = start_of(facts(std::nullopt, 0, 20));
  EXPECT_EQ(start.offset, 0);
  EXPECT_EQ(start.gap, "");
}

TEST(StartPolicy, NoticesDeletedOffsets) {
  Start start = start_of(facts(std::nullopt, 5, 20));
  EXPECT_EQ(start.offset, 5);
  EXPECT_EQ(start.gap, "offsets_lost");
  EXPECT_EQ(start.detail,
            "t[3]: the group has no committed offset, and the first 5 records are gone");

  StartFacts given = facts(std::nullopt, 0, 20);
  given.was_read_before = true;
  given.is_first_start = true;
  given.began_at = 7;
  start = start_of(given);
  EXPECT_EQ(start.offset, 0);
  EXPECT_EQ(start.gap, "offsets_lost");
  EXPECT_EQ(start.detail, "t[3]: the group has no committed offset any more");
}

}  // namespace
}  // namespace evictd
