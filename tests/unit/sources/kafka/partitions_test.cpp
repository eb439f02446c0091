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

}  // namespace
}  // namespace evictd
