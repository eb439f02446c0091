// What the rows of a snapshot tell of changes before it.
#include "daemon/sources/kafka/debezium_snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

constexpr SystemTime kTaken{std::chrono::seconds(1'700'000'000)};

class DebeziumSnapshotsTest : public testing::Test {
 protected:
  std::optional<std::vector<std::string>> row(const std::string& table, SnapshotEnd end, SystemTime taken = kTaken,
                                              RecordKind kind = RecordKind::kSnapshotRow) {
    relation_.schema = "public";
    relation_.table = table;
    Decoded decoded;
    decoded.kind = kind;
    decoded.change.relation = &relation_;
    decoded.commit_time = taken;
    decoded.server = server_;
    decoded.snapshot_end = end;
    return snapshots_.missing_before(decoded, stream_, offset_++);
  }

  std::uint32_t stream_ = 7;
  std::int64_t offset_ = 100;
  Relation relation_;
  std::string server_ = "shop";
  DebeziumSnapshots snapshots_;
};

TEST_F(DebeziumSnapshotsTest, OnlyAnEndOfOneTellsAnything) {
  EXPECT_EQ(row("items", SnapshotEnd::kNone), std::nullopt);
  EXPECT_EQ(row("items", SnapshotEnd::kFirstOfTable, kTaken, RecordKind::kChange), std::nullopt);
}

TEST_F(DebeziumSnapshotsTest, ATableIsToldOncePerSnapshot) {
  EXPECT_THAT(row("items", SnapshotEnd::kFirstOfTable), Optional(ElementsAre("public.items")));
  EXPECT_EQ(row("items", SnapshotEnd::kLastOfTable), std::nullopt) << "its last row";
  EXPECT_THAT(row("others", SnapshotEnd::kFirstOfTable), Optional(ElementsAre("public.others")));
  EXPECT_THAT(row("items", SnapshotEnd::kFirstOfTable, kTaken + std::chrono::microseconds(1)), Optional(ElementsAre("public.items")));
}

TEST_F(DebeziumSnapshotsTest, AnEndOfAllTellsOfTablesThatHaveNoRow) {
  EXPECT_THAT(row("items", SnapshotEnd::kFirst), Optional(IsEmpty()));
  EXPECT_EQ(row("others", SnapshotEnd::kFirstOfTable), std::nullopt) << "told with all";
  EXPECT_EQ(row("others", SnapshotEnd::kLast), std::nullopt);
  server_ = "eu";
  EXPECT_THAT(row("items", SnapshotEnd::kFirst), Optional(IsEmpty())) << "another connector's";
}

TEST_F(DebeziumSnapshotsTest, TheLastRowTellsWhatNoFirstRowHasTold) {
  EXPECT_THAT(row("items", SnapshotEnd::kFirstOfTable), Optional(ElementsAre("public.items")));
  EXPECT_THAT(row("others", SnapshotEnd::kLast), Optional(IsEmpty()));
}

TEST_F(DebeziumSnapshotsTest, TheSnapshotThatAPartitionBeginsWithTellsNothing) {
  offset_ = 0;
  EXPECT_EQ(row("items", SnapshotEnd::kFirst), std::nullopt);
  EXPECT_EQ(row("items", SnapshotEnd::kNone), std::nullopt);
  EXPECT_EQ(row("items", SnapshotEnd::kLastOfTable), std::nullopt);
  EXPECT_EQ(row("others", SnapshotEnd::kFirstOfTable), std::nullopt) << "of another table";
  EXPECT_EQ(row("others", SnapshotEnd::kLast), std::nullopt);
  EXPECT_THAT(row("items", SnapshotEnd::kFirst, kTaken + std::chrono::hours(1)), Optional(IsEmpty())) << "the next one";
  EXPECT_EQ(row("others", SnapshotEnd::kLast, kTaken + std::chrono::hours(1)), std::nullopt) << "told with its first row";
}

TEST_F(DebeziumSnapshotsTest, ASnapshotBehindAnythingElseIsNoBeginning) {
  offset_ = 0;
  EXPECT_EQ(row("items", SnapshotEnd::kNone), std::nullopt);
  EXPECT_EQ(row("items", SnapshotEnd::kNone, kTaken, RecordKind::kChange), std::nullopt);
  EXPECT_THAT(row("items", SnapshotEnd::kLastOfTable), Optional(ElementsAre("public.items")));
  stream_ = 8;
  EXPECT_THAT(row("items", SnapshotEnd::kFirstOfTable, kTaken + std::chrono::hours(1)), Optional(ElementsAre("public.items"))) << "of another partition";
  offset_ = 0;
  EXPECT_EQ(row("items", SnapshotEnd::kFirst, kTaken + std::chrono::hours(2)), std::nullopt) << "of a topic that was made anew";
}

TEST_F(DebeziumSnapshotsTest, TablesAboveAreMissingItToo) {
  relation_.also = {{"public", "above"}};
  EXPECT_THAT(row("below", SnapshotEnd::kFirstOfTable), Optional(ElementsAre("public.below", "public.above")));
}

}  // namespace
}  // namespace evictd
