// Which snapshots are waited for, and until when a barrier stands.
#include "daemon/sources/postgres/snapshot_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/sources/postgres/publishing_barrier.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using ::testing::ElementsAre;

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }

Snapshot snapshot(std::uint64_t xmin) {
  auto parsed = Snapshot::parse(std::to_string(xmin) + ":" + std::to_string(xmin + 10) + ":" + std::to_string(xmin));
  EVICTD_CHECK(parsed);
  return *parsed;
}

TEST(SnapshotRequestsTest, OneThatWasAskedForBeforeAnswersNothing) {
  SnapshotRequests requests;
  requests.streaming(at(0));
  EXPECT_FALSE(requests.answers(1)) << "nobody waits";
  requests.wanted(3);
  EXPECT_FALSE(requests.answers(2));
  EXPECT_TRUE(requests.answers(3));
  EXPECT_FALSE(requests.answers(4)) << "once";
}

TEST(SnapshotRequestsTest, WhoAskedLaterWaitsForALaterOne) {
  SnapshotRequests requests;
  requests.streaming(at(0));
  requests.wanted(3);
  requests.wanted(4);
  requests.wanted(4);
  EXPECT_TRUE(requests.answers(3));
  EXPECT_FALSE(requests.answers(3));
  EXPECT_TRUE(requests.answers(4));
  EXPECT_FALSE(requests.answers(5));
}

TEST(SnapshotRequestsTest, AnotherConnectionOwesNothing) {
  SnapshotRequests requests;
  requests.wanted(3);
  requests.streaming(at(0));
  EXPECT_FALSE(requests.answers(9));
}

TEST(SnapshotRequestsTest, OneIsAskedForEachMinute) {
  SnapshotRequests requests;
  requests.streaming(at(100));
  EXPECT_EQ(requests.refresh_at(), at(160));
  EXPECT_FALSE(requests.refreshes(at(159)));
  EXPECT_TRUE(requests.refreshes(at(170)));
  EXPECT_FALSE(requests.refreshes(at(229)));
  EXPECT_TRUE(requests.refreshes(at(230)));
}

TEST(PublishingBarrierTest, StandsUntilAllOlderTransactionsHaveEnded) {
  PublishingBarrier barrier;
  barrier.streaming(at(1));
  EXPECT_EQ(barrier.ask_at(), std::nullopt);
  EXPECT_EQ(barrier.passed(snapshot(1000)), std::nullopt);
  barrier.stands(Xid{100}, {"public.a"}, true);
  EXPECT_EQ(barrier.ask_at(), at(1));
  barrier.asked(at(1));
  EXPECT_EQ(barrier.ask_at(), at(2));
  EXPECT_EQ(barrier.passed(snapshot(99)), std::nullopt);
  const auto gap = barrier.passed(snapshot(100));
  ASSERT_TRUE(gap);
  EXPECT_EQ(gap->reason, "table_added");
  EXPECT_TRUE(gap->is_expected);
  EXPECT_THAT(gap->tables, ElementsAre("public.a"));
  EXPECT_EQ(gap->detail, "transactions that had begun before 'public.a' were published have ended");
  EXPECT_EQ(barrier.passed(snapshot(101)), std::nullopt) << "once";
  EXPECT_EQ(barrier.ask_at(), std::nullopt);
}

TEST(PublishingBarrierTest, TablesPublishedMeanwhileWaitForTheLaterOne) {
  PublishingBarrier barrier;
  barrier.stands(Xid{100}, {"public.a"}, false);
  barrier.stands(Xid{200}, {"public.b"}, false);
  EXPECT_EQ(barrier.passed(snapshot(150)), std::nullopt);
  const auto gap = barrier.passed(snapshot(200));
  ASSERT_TRUE(gap);
  EXPECT_THAT(gap->tables, ElementsAre("public.a", "public.b"));
  EXPECT_EQ(gap->reason, "unpublished");
  EXPECT_FALSE(gap->is_expected);
}

TEST(PublishingBarrierTest, ATableThatNobodyFollowedDoesNotExcuseTheOthers) {
  PublishingBarrier barrier;
  barrier.stands(Xid{100}, {"public.followed"}, false);
  barrier.stands(Xid{200}, {"public.added"}, true);
  auto gap = barrier.passed(snapshot(200));
  ASSERT_TRUE(gap);
  EXPECT_EQ(gap->reason, "unpublished");
  EXPECT_FALSE(gap->is_expected);
  barrier.stands(Xid{300}, {"public.another"}, true);
  gap = barrier.passed(snapshot(300));
  ASSERT_TRUE(gap);
  EXPECT_TRUE(gap->is_expected) << "the others are over";
}

}  // namespace
}  // namespace evictd
