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
    return snapshots_.missing_before(decoded);
  }

  Relation relation_;
  std::string server_ = "shop";
  DebeziumSnapshots snapshots_;
};

TEST_F(DebeziumSnapshotsTest, OnlyAnEndOfOneTellsAnything) {
  EXPECT_EQ(row("items", SnapshotEnd::kNone), std::nullopt);
  EXPECT_EQ(row("items", SnapshotEnd::kOfTable, kTaken, RecordKind::kChange), std::nullopt);
}

TEST_F(DebeziumSnapshotsTest, ATableIsToldOncePerSnapshot) {
  EXPECT_THAT(row("items", SnapshotEnd::kOfTable), Optional(ElementsAre("public.items")));
  EXPECT_EQ(row("items", SnapshotEnd::kOfTable), std::nullopt) << "its last row";
  EXPECT_THAT(row("others", SnapshotEnd::kOfTable), Optional(ElementsAre("public.others")));
  EXPECT_THAT(row("items", SnapshotEnd::kOfTable, kTaken + std::chrono::microseconds(1)), Optional(ElementsAre("public.items")));
}

TEST_F(DebeziumSnapshotsTest, AnEndOfAllTellsOfTablesThatHaveNoRow) {
  EXPECT_THAT(row("items", SnapshotEnd::kOfAll), Optional(IsEmpty()));
  EXPECT_EQ(row("others", SnapshotEnd::kOfTable), std::nullopt) << "told with all";
  EXPECT_EQ(row("others", SnapshotEnd::kOfAll), std::nullopt);
  server_ = "eu";
  EXPECT_THAT(row("items", SnapshotEnd::kOfAll), Optional(IsEmpty())) << "another connector's";
}

TEST_F(DebeziumSnapshotsTest, TheLastRowTellsWhatNoFirstRowHasTold) {
  EXPECT_THAT(row("items", SnapshotEnd::kOfTable), Optional(ElementsAre("public.items")));
  EXPECT_THAT(row("others", SnapshotEnd::kOfAll), Optional(IsEmpty()));
}

TEST_F(DebeziumSnapshotsTest, TablesAboveAreMissingItToo) {
  relation_.also = {{"public", "above"}};
  EXPECT_THAT(row("below", SnapshotEnd::kOfTable), Optional(ElementsAre("public.below", "public.above")));
}

}  // namespace
}  // namespace evictd
