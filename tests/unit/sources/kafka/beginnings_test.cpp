// Where partitions begin, what is missing before, and which are told.
#include "daemon/sources/kafka/beginnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using Commit = Beginnings::Commit;

Now at(int seconds) {
  return Now{SteadyTime(std::chrono::seconds(seconds)), SystemTime(std::chrono::seconds(1'000'000 + seconds))};
}

class BeginningsTest : public testing::Test {
 protected:
  // A client that finds the topic "t" with partitions that end at 10.
  void open(GroupHistory history, bool has_streamed = false, int second = 0) {
    beginnings.opened({{{"t", 2}}, history, {{{"t", 0}, 10}, {{"t", 1}, 10}}}, has_streamed, at(second));
  }
  Beginnings::Begin begin(std::optional<std::int64_t> committed, std::int64_t low, std::int64_t high, int number = 0) {
    return beginnings.begins({{"t", number}, committed, low, high}, at(0).steady);
  }
  Partition& partition(int number = 0) { return partitions.find_or_add({"t", number}); }
  void give_back() { partitions.unassign_all(); }
  void finish(std::int64_t next) {
    Partitions::announce(partition(), next);
    partitions.acknowledge({partitions.stream_of(partition()), static_cast<std::uint64_t>(next)});
  }

  Partitions partitions;
  Beginnings beginnings{partitions};
};

constexpr GroupHistory kNew{};
const GroupHistory kOld{true, {}};

TEST_F(BeginningsTest, ANewGroupBeginsWhereThePartitionsEndedAndCommitsThat) {
  open(kNew);
  EXPECT_FALSE(beginnings.has_history());
  beginnings.joins({});
  const auto first = begin({}, 0, 12);
  EXPECT_EQ(first.offset, 10) << "what came since is ours to read";
  EXPECT_EQ(first.missing, "");
  EXPECT_EQ(first.commit, Commit::kFirst);
  EXPECT_EQ(partition().assignment->delivered, 10);
}

TEST_F(BeginningsTest, OfANewGroupAllPartitionsAreToldWhoeverGetsThem) {
  open(kNew);
  beginnings.joins({});
  begin({}, 0, 12);
  EXPECT_THAT(beginnings.untold(), ElementsAre(Pair("t[0]", 10), Pair("t[1]", 10)));
  EXPECT_THAT(beginnings.untold(), IsEmpty()) << "once";
  EXPECT_EQ(beginnings.known().size(), 2u);
}

TEST_F(BeginningsTest, AGroupThatAnotherDaemonHasJustBegunIsNew) {
  open({true, at(-59).system});
  EXPECT_FALSE(beginnings.has_history());
  open({true, at(-60).system});
  EXPECT_TRUE(beginnings.has_history());
  open(kOld);
  EXPECT_TRUE(beginnings.has_history());
}

TEST_F(BeginningsTest, AProcessThatHasStreamedBeginsNoGroup) {
  open(kNew, true);
  beginnings.joins({});
  const auto lost = begin({}, 5, 10);
  EXPECT_EQ(lost.gap, "offsets_lost");
  EXPECT_EQ(lost.offset, 5);
  EXPECT_EQ(lost.commit, Commit::kNothing) << "before the purge";
}

TEST_F(BeginningsTest, WhereACacheHasAnyRecordNoGroupBegins) {
  open(kNew);
  beginnings.joins({"t[0]"});
  EXPECT_EQ(begin({}, 0, 10).gap, "offsets_lost") << "it was taken up before";
  const auto other = begin({}, 0, 10, 1);
  EXPECT_EQ(other.offset, 0);
  EXPECT_EQ(other.commit, Commit::kLater) << "a partition that is new";
}

TEST_F(BeginningsTest, WhatIsOnRecordNeedNotBeTold) {
  open(kOld);
  beginnings.joins({"t[0]"});
  EXPECT_THAT(beginnings.known(), ElementsAre(TopicPartition{"t", 0}));
  begin(3, 0, 10);
  begin(4, 0, 10, 1);
  beginnings.others_took_up({{{"u", 0}, 7}});
  EXPECT_THAT(beginnings.untold(), ElementsAre(Pair("t[1]", 4), Pair("u[0]", 7)));
  open(kOld, true);
  beginnings.joins({});
  EXPECT_THAT(beginnings.untold(), ElementsAre(Pair("t[0]", 3), Pair("t[1]", 4), Pair("u[0]", 7))) << "the next client asks the caches anew";
}

TEST_F(BeginningsTest, WhatOthersOfTheGroupHaveTakenUpIsToldAsWell) {
  open(kOld);
  beginnings.joins({});
  beginnings.others_took_up({{{"t", 1}, 7}});
  EXPECT_THAT(beginnings.untold(), ElementsAre(Pair("t[1]", 7)));
  EXPECT_EQ(begin({}, 0, 10, 1).gap, "offsets_lost") << "it was committed, and is not any more";
}

TEST_F(BeginningsTest, OffsetsThatWereCommittedAndAreGoneAreAGap) {
  open(kOld);
  beginnings.joins({});
  begin(0, 0, 10);
  give_back();
  EXPECT_EQ(begin({}, 0, 10).gap, "offsets_lost");
}

TEST_F(BeginningsTest, AGapIsAnotherStreamThatItsPurgeTells) {
  open(kOld);
  beginnings.joins({});
  begin(3, 0, 10);
  beginnings.untold();
  give_back();
  const auto gap = begin(3, 5, 10);
  EXPECT_EQ(gap.gap, "offset_out_of_range");
  EXPECT_THAT(gap.missing, testing::StartsWith("t[0]: the committed offset is 3"));
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partition())), "t[0]#1");
  EXPECT_THAT(beginnings.untold(), IsEmpty());
}

TEST_F(BeginningsTest, IncarnationsGoOnFromTheRecord) {
  open(kOld);
  beginnings.joins({"t[0]#4"});
  begin(3, 0, 10);
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partition())), "t[0]#4");
  EXPECT_THAT(beginnings.untold(), IsEmpty());
}

TEST_F(BeginningsTest, ACommitThatDidNotArriveIsNoGapForThisProcess) {
  open(kNew);
  beginnings.joins({});
  begin({}, 0, 10);
  give_back();
  open(kNew, true);
  beginnings.joins({"t[0]"});  // written by us
  const auto again = begin({}, 2, 15);
  EXPECT_EQ(again.gap, "");
  EXPECT_EQ(again.offset, 10);
  give_back();
  EXPECT_EQ(begin(12, 2, 15).offset, 12);
  give_back();
  EXPECT_EQ(begin({}, 2, 15).gap, "offsets_lost") << "it had arrived";
}

TEST_F(BeginningsTest, ACommitOfWhatWasFinishedThatDidNotArriveIsNoGapForThisProcess) {
  open(kOld);
  beginnings.joins({});
  begin({}, 0, 10);  // a topic that came late
  finish(7);
  give_back();  // others have it already: the group takes no commit of ours any more
  const auto again = begin({}, 0, 12);
  EXPECT_EQ(again.gap, "");
  EXPECT_EQ(again.offset, 7);
  give_back();
  EXPECT_EQ(begin({}, 0, 6).gap, "topic_recreated") << "we have read more of it than there is";
}

TEST_F(BeginningsTest, ACommitThatHasArrivedAndIsGoneIsAGap) {
  open(kOld);
  beginnings.joins({});
  begin({}, 0, 10);
  finish(7);
  beginnings.committed({"t", 0});
  give_back();
  EXPECT_EQ(begin({}, 0, 12).gap, "offsets_lost");
}

TEST_F(BeginningsTest, AGapIsFoundAgainUntilSomethingBehindItIsCommitted) {
  open(kOld);
  beginnings.joins({});
  begin({}, 0, 10);
  finish(7);
  give_back();
  EXPECT_EQ(begin({}, 0, 6).gap, "topic_recreated");
  give_back();
  EXPECT_EQ(begin({}, 0, 12).gap, "offsets_lost") << "grown past where we were, and nothing of it is purged";
}

TEST_F(BeginningsTest, WhatWasFinishedAfterThePartitionWasGivenUpIsNotReadAgain) {
  open(kOld);
  beginnings.joins({});
  begin(3, 0, 10);
  Partitions::announce(partition(), 6);
  give_back();
  partitions.acknowledge({partitions.stream_of(partition()), 6});
  EXPECT_EQ(begin(3, 0, 10).offset, 6);
  EXPECT_THAT(partitions.take_acknowledged(), ElementsAre(Pair(TopicPartition{"t", 0}, 6))) << "to be committed";
  give_back();
  EXPECT_EQ(begin(3, 0, 5).offset, 3) << "it ends before: this is another one";
}

TEST_F(BeginningsTest, AGroupThatGoesBackHasFoundAnotherPartition) {
  open(kOld);
  beginnings.joins({});
  begin(3, 0, 10);
  finish(8);
  give_back();
  begin(8, 0, 10);
  beginnings.untold();
  give_back();
  EXPECT_EQ(begin(2, 0, 10).offset, 2) << "what we finished was not of this one";
  EXPECT_THAT(beginnings.untold(), ElementsAre(Pair("t[0]#1", 2)));
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partition())), "t[0]#1");
}

TEST_F(BeginningsTest, TheGapOfATopicWhoseRecordsAreGoneIsToldOnceByEachClient) {
  open(kOld);
  beginnings.joins({});
  begin(3, 0, 10);
  begin(3, 0, 10, 1);
  EXPECT_TRUE(beginnings.lost({"t", 0}));
  EXPECT_FALSE(beginnings.lost({"t", 1}));
  EXPECT_TRUE(beginnings.lost({"other", 0}));
  give_back();
  open(kOld, true);
  const auto told = begin(3, 5, 10);
  EXPECT_EQ(told.gap, "");
  EXPECT_NE(told.missing, "") << "purged all the same";
  EXPECT_TRUE(beginnings.lost({"t", 0})) << "again";
  give_back();
  open(kOld, true);
  EXPECT_NE(begin(3, 5, 10, 1).gap, "") << "another client has told of this one, and none since";
}

TEST_F(BeginningsTest, ATopicThatIsGoneForLongEnoughHasVanished) {
  open(kOld);
  beginnings.joins({});
  EXPECT_THAT(beginnings.vanished({}, at(100).steady), IsEmpty()) << "we had nothing of it";
  begin(3, 0, 10);
  EXPECT_THAT(beginnings.vanished({{"t", 2}}, at(100).steady), IsEmpty());
  EXPECT_THAT(beginnings.vanished({}, at(10).steady), IsEmpty()) << "a broker may not have heard of it yet";
  EXPECT_THAT(beginnings.vanished({}, at(11).steady), ElementsAre("t"));
  EXPECT_THAT(beginnings.vanished({}, at(12).steady), IsEmpty()) << "once";
}

TEST_F(BeginningsTest, ATopicThatIsMadeAgainIsReadFromItsFirstRecord) {
  open(kOld);
  beginnings.joins({});
  begin(3, 0, 10);
  finish(8);
  beginnings.vanished({}, at(11).steady);
  give_back();
  // The group may still have what we committed of the first.
  const auto again = begin(8, 0, 9);
  EXPECT_EQ(again.offset, 0);
  EXPECT_EQ(again.gap, "") << "it was told when the first one vanished";
  EXPECT_EQ(again.commit, Commit::kLater);
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partition())), "t[0]#1");
  give_back();
  EXPECT_EQ(begin(1, 0, 9).offset, 1) << "of the second one the group's word counts";
  beginnings.vanished({}, at(30).steady);
  give_back();
  EXPECT_EQ(begin(1, 0, 9).offset, 0) << "and this is a third one";
}

TEST_F(BeginningsTest, SinceWhenRecordsWereThereIsKnownFromBeforeTheGroupWasJoined) {
  open(kOld, false, 5);
  beginnings.joins({});
  beginnings.begins({{"t", 0}, 3, 0, 20}, at(9).steady);
  KnownEnds& ends = partition().assignment->known_ends;
  EXPECT_EQ(ends.since(9), at(5).steady);
  EXPECT_EQ(ends.since(10), at(9).steady);
  EXPECT_EQ(ends.since(20), std::nullopt);
}

}  // namespace
}  // namespace evictd
