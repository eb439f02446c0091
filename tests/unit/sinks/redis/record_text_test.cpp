#include "daemon/sinks/redis/record_text.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

Record sample() {
  Record record;
  record.writer = "9f86d081884c7d65";
  record.sequence = 4711;
  record.source_instance = "1700000000/22";
  record.epoch = "7312345678901234567/1";
  record.epoch_since = std::chrono::milliseconds(1'700'000'000'000);
  record.source_identity = "16384/evictd";
  record.acknowledged = {{"wal", 24'578'000}, {"shop.a b[3]#1", 7}};
  record.committed = {{"wal", 24'577'900}};
  record.tables = {{"public.my table", "16390/a 1"}};
  record.rules = {{"public.my table", 77}};
  record.gaps = {"redis_rollback", "slot_lost"};
  return record;
}

TEST(RecordText, ReadsAsDocumented) {
  EXPECT_EQ(record_to_text(sample()),
            "evictd-record 3\n"
            "writer 9f86d081884c7d65\n"
            "sequence 4711\n"
            "epoch 7312345678901234567/1\n"
            "instance 1700000000/22\n"
            "epoch_since 1700000000000\n"
            "identity 16384/evictd\n"
            "gap redis_rollback\n"
            "gap slot_lost\n"
            "acknowledged 7 shop.a%20b[3]#1\n"
            "acknowledged 24578000 wal\n"
            "committed 24577900 wal\n"
            "table 16390/a%201 public.my%20table\n"
            "rules 77 public.my%20table\n"
            "end\n");
}

TEST(RecordText, ComesBack) {
  const auto back = record_from_text(record_to_text(sample()));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, sample());
  const auto empty = record_from_text(record_to_text(Record()));
  ASSERT_TRUE(empty.has_value());
  EXPECT_EQ(*empty, Record());
}

TEST(RecordText, CutAnywhereItIsRefused) {
  const std::string text = record_to_text(sample());
  for (std::size_t length = 0; length < text.size(); ++length) {
    EXPECT_FALSE(record_from_text(text.substr(0, length)).has_value()) << length;
  }
}

TEST(RecordText, Refusals) {
  const auto refused = [](std::string_view text) {
    const auto record = record_from_text(text);
    return record ? std::string("accepted") : record.error().text;
  };
  EXPECT_EQ(refused("evictd-record 2\nend\n"), "expected 'evictd-record 3', got 'evictd-record 2'");
  EXPECT_EQ(refused("evictd-record 3\nwhat 1\nend\n"), "expected a line of a record, got 'what 1'");
  EXPECT_EQ(refused("evictd-record 3\nacknowledged -1 wal\nend\n"),
            "expected a line of a record, got 'acknowledged -1 wal'");
  EXPECT_EQ(refused("evictd-record 3\nacknowledged 18446744073709551616 wal\nend\n"),
            "expected a line of a record, got 'acknowledged 18446744073709551616 wal'");
  EXPECT_EQ(refused("evictd-record 3\nacknowledged wal 5\nend\n"),
            "expected a line of a record, got 'acknowledged wal 5'");
  EXPECT_EQ(refused("evictd-record 3\nacknowledged 5 w%2\nend\n"),
            "expected a line of a record, got 'acknowledged 5 w%2'");
  EXPECT_EQ(refused("evictd-record 3\nepoch a%2\nend\n"),
            "expected a line of a record, got 'epoch a%2'");
  const std::string line = "table 1 public.t\n";
  std::string large = "evictd-record 3\n";
  while (large.size() + line.size() + 4 <= kRecordBytesMax) large += line;
  EXPECT_TRUE(record_from_text(large + "end\n"));
  large += line;
  EXPECT_EQ(refused(large + "end\n"), "expected a record of at most 4194304 bytes, got " + std::to_string(large.size() + 4));
  EXPECT_EQ(refused("evictd-record 3\nend\nmore\n"), "expected nothing after 'end'");
  EXPECT_EQ(refused("evictd-record 3\nepoch a\n"), "expected 'end' at the end of the record");
  EXPECT_EQ(refused(""), "expected 'end' at the end of the record");
}

}  // namespace
}  // namespace evictd
