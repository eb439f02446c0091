#include "daemon/sources/kafka/partitions.h"

#include <gtest/gtest.h>

#include <set>

namespace evictd {
namespace {

TEST(Partitions, EachHasANumberOfItsOwnAndAName) {
  Partitions partitions;
  std::set<std::uint32_t> numbers;
  for (int topic = 0; topic < 100; ++topic) {
    for (int number = 0; number < 100; ++number) {
      Partition& partition = partitions.find_or_add({"shop.public.t" + std::to_string(topic), number});
      const std::uint32_t stream = partitions.stream_of(partition);
      EXPECT_TRUE(numbers.insert(stream).second);
      EXPECT_EQ(partitions.stream_of(partition), stream);
      EXPECT_EQ(partitions.of_stream(stream), &partition);
    }
  }
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partitions.find_or_add({"shop.public.t7", 12}))),
            "shop.public.t7[12]");
  EXPECT_EQ(partitions.of_stream(10'000), nullptr);
}

TEST(Partitions, AnotherIncarnationIsAnotherStream) {
  Partitions partitions;
  Partition& partition = partitions.find_or_add({"t", 3});
  const std::uint32_t before = partitions.stream_of(partition);
  partition.announced = partition.acknowledged = 500;
  partitions.begin_anew(partition);
  const std::uint32_t after = partitions.stream_of(partition);
  EXPECT_EQ(partitions.name_of_stream(after), "t[3]#1");
  EXPECT_EQ(partitions.name_of_stream(before), "t[3]");
  EXPECT_EQ(partitions.of_stream(before), nullptr) << "acknowledging it says nothing about this one";
  EXPECT_LT(partition.acknowledged, 0);
}

TEST(Partitions, IncarnationsGoOnFromTheRecord) {
  const std::set<std::string> record = {"t[1]", "t[1]#2", "t[1]#x", "t[10]", "t[11]#7"};
  Partitions partitions;
  Partition& partition = partitions.find_or_add({"t", 1});
  partitions.go_on_from(partition, record);
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partition)), "t[1]#2");
  partitions.begin_anew(partition);
  partitions.go_on_from(partition, record);
  EXPECT_EQ(partitions.name_of_stream(partitions.stream_of(partition)), "t[1]#3") << "never back";
  EXPECT_TRUE(is_on_record(record, {"t", 11}));
  EXPECT_TRUE(is_on_record(record, {"t", 10}));
  EXPECT_FALSE(is_on_record(record, {"t", 2}));
  EXPECT_FALSE(is_on_record(record, {"t", 0}));
}

// The names have one hash in 32 bits, and differ in nothing else.
TEST(OpaqueXid, IsTheSameForOneRecordAndAnotherForEveryOther) {
  const std::uint64_t one = hash_of_name("shop.public.t498252[0]"), other = hash_of_name("shop.public.t1041480[0]");
  EXPECT_EQ(opaque_xid(one, 5, 1'700'000'000'000), opaque_xid(hash_of_name("shop.public.t498252[0]"), 5, 1'700'000'000'000));
  std::set<std::uint64_t> ids;
  std::size_t count = 0;
  for (const std::uint64_t name : {one, other, hash_of_name("shop.public.t498252[0]#1")}) {
    for (std::int64_t offset = 0; offset < 20'000; ++offset) {
      for (const std::int64_t time : {std::int64_t{0}, std::int64_t{1'700'000'000'000}, 1'700'000'000'000 + offset + 1}) {
        const Xid xid = opaque_xid(name, offset, time);
        EXPECT_TRUE(is_opaque(xid) && !is_narrow(xid));
        ids.insert(number(xid));
        ++count;
      }
    }
  }
  EXPECT_EQ(ids.size(), count);
}

SteadyTime at_ms(int ms) { return SteadyTime(std::chrono::milliseconds(ms)); }

// A partition that is assigned, and read from `began_at` on.
Partition& assigned(Partitions& partitions, const TopicPartition& at, std::int64_t began_at) {
  Partition& partition = partitions.find_or_add(at);
  Assignment assignment;
  assignment.began_at = assignment.delivered = assignment.acknowledged = assignment.announced = began_at;
  partition.announced = began_at;
  partitions.assign(partition, std::move(assignment));
  return partition;
}

TEST(KnownEndsTest, TellSinceWhenARecordWasThere) {
  KnownEnds ends;
  ends.note({5, at_ms(0)}, 5);
  EXPECT_EQ(ends.since(5), std::nullopt) << "nothing lay before that end which is still to come";
  ends.note({7, at_ms(1000)}, 5);
  ends.note({9, at_ms(2000)}, 5);
  EXPECT_EQ(ends.since(5), at_ms(1000));
  EXPECT_EQ(ends.since(7), at_ms(2000));
  EXPECT_EQ(ends.since(9), std::nullopt);
}

TEST(KnownEndsTest, AreApartAndGrow) {
  KnownEnds ends;
  ends.note({7, at_ms(1000)}, 5);
  ends.note({8, at_ms(1099)}, 5);
  ends.note({7, at_ms(1200)}, 5);
  EXPECT_EQ(ends.since(7), std::nullopt);
  ends.note({8, at_ms(2000)}, 7);
  EXPECT_EQ(ends.since(7), at_ms(2000));
}

TEST(KnownEndsTest, WhatTellsNothingNewTakesNoRoom) {
  KnownEnds ends;
  for (int i = 0; i < 40; ++i) ends.note({i, at_ms(1000 * i)}, 40);
  for (int i = 40; i < 80; ++i) ends.note({41, at_ms(1000 * i)}, 40);
  ends.note({42, at_ms(90'000)}, 40);
  EXPECT_EQ(ends.since(40), at_ms(40'000));
  EXPECT_EQ(ends.since(41), at_ms(90'000));
}

TEST(KnownEndsTest, AreNoMoreThanTheirBound) {
  KnownEnds ends;
  for (int i = 0; i <= static_cast<int>(KnownEnds::kMax); ++i) ends.note({i + 1, at_ms(1000 * i)}, 0);
  EXPECT_EQ(ends.since(KnownEnds::kMax - 1), at_ms(1000 * (KnownEnds::kMax - 1)));
  EXPECT_EQ(ends.since(KnownEnds::kMax), std::nullopt);
}

TEST(Partitions, OnlyWhatWasAnnouncedIsAcknowledgedAndTakenOnce) {
  Partitions partitions;
  Partition& partition = assigned(partitions, {"t", 0}, 3);
  const std::uint32_t stream = partitions.stream_of(partition);
  EXPECT_EQ(partitions.acknowledge({stream, 4}), nullptr) << "never announced";
  EXPECT_EQ(partitions.acknowledge({stream + 1, 3}), nullptr);
  Partitions::announce(partition, 6);
  EXPECT_EQ(partitions.acknowledge({stream, 6}), &partition);
  EXPECT_EQ(partitions.acknowledge({stream, 5}), nullptr) << "never back";
  EXPECT_EQ(partitions.take_acknowledged(), (Offsets{{{"t", 0}, 6}}));
  EXPECT_TRUE(partitions.take_acknowledged().empty());
}

TEST(Partitions, WhatAnEarlierAssignmentDeliveredIsDoneForTheNextOne) {
  Partitions partitions;
  Partition& partition = assigned(partitions, {"t", 0}, 3);
  Partitions::announce(partition, 6);
  partitions.unassign({{"t", 0}});
  assigned(partitions, {"t", 0}, 3);
  partition.announced = 6;
  EXPECT_EQ(partitions.acknowledge({partitions.stream_of(partition), 6}), &partition);
  EXPECT_EQ(partitions.take_acknowledged(), (Offsets{{{"t", 0}, 6}}));
  EXPECT_EQ(partition.lag(8), 2u);
}

TEST(Partitions, WhatDrainsIsBusyUntilAllThatWasAnnouncedIsAcknowledged) {
  Partitions partitions;
  Partition& one = assigned(partitions, {"t", 0}, 0);
  assigned(partitions, {"t", 1}, 0);
  Partitions::announce(partitions.find_or_add({"t", 1}), 9);
  partitions.drain({{"t", 0}, {"t", 2}});
  EXPECT_FALSE(partitions.is_draining_busy()) << "the other one is kept";
  EXPECT_TRUE(partitions.drained().empty()) << "nothing of it was acknowledged";
  Partitions::announce(one, 2);
  partitions.acknowledge({partitions.stream_of(one), 1});
  EXPECT_TRUE(partitions.is_draining_busy());
  EXPECT_EQ(partitions.drained(), (Offsets{{{"t", 0}, 1}}));
  partitions.acknowledge({partitions.stream_of(one), 2});
  EXPECT_FALSE(partitions.is_draining_busy());
}

TEST(Partitions, WhyATopicCannotBeReadIsForgottenWithItsLastPartition) {
  Partitions partitions;
  assigned(partitions, {"t", 0}, 0);
  assigned(partitions, {"t", 1}, 0);
  partitions.topic("t").refused = "no right";
  EXPECT_EQ(partitions.refused(), "no right");
  partitions.unassign({{"t", 0}});
  EXPECT_EQ(partitions.refused(), "no right");
  partitions.unassign({{"t", 1}});
  EXPECT_EQ(partitions.refused(), "");
  partitions.topic("u").refused = "no right";
  partitions.unassign_all();
  EXPECT_EQ(partitions.refused(), "");
}

TEST(Partitions, TheLagCountsFromTheNewestEndToWhatIsDone) {
  Partitions partitions;
  Partition& partition = assigned(partitions, {"t", 0}, 3);
  EXPECT_EQ(partition.lag(std::nullopt), 0u);
  EXPECT_EQ(partition.lag(8), 5u);
  partitions.note_ends({{{"t", 0}, 10}}, at_ms(0));
  EXPECT_EQ(partition.lag(8), 7u) << "a fetch told less, and earlier";
  EXPECT_EQ(partition.assignment->known_ends.since(3), at_ms(0));
  partition.assignment->acknowledged = 2;  // as while a gap's purge is to come
  EXPECT_EQ(partition.lag(8), 7u);
  partitions.forget_ends();
  EXPECT_EQ(partition.lag(8), 5u);
}

}  // namespace
}  // namespace evictd
