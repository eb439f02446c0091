// `where` and `when_changed` may only keep a rule from acting when the values prove that it need
// not (G5).
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::IsEmpty;

const Table kTable("t", {"id", "status", "body"}, {"id"});

class Where : public testing::Test {
 protected:
  const RuleSet rules =
      rules_from("- {table: t, keys: ['t:{id}'], where: {status: [published, hidden]}}");
};

TEST_F(Where, LooksAtTheRowThatIsThere) {
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"status", "published"}})),
              ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"status", "draft"}})), IsEmpty());
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}, {"status", "hidden"}})),
              ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}, {"status", "draft"}})), IsEmpty());
}

TEST_F(Where, HoldsWhenTheOldOrTheNewRowMatches) {
  const auto update = [&](const Cell& from, const Cell& to) {
    return map(rules,
               kTable.update({{"id", "1"}, {"status", to}}).from({{"id", "1"}, {"status", from}}));
  };
  EXPECT_THAT(update("draft", "published"), ElementsAre("key t:1"));
  EXPECT_THAT(update("published", "draft"), ElementsAre("key t:1"));
  EXPECT_THAT(update("draft", "draft"), IsEmpty());
}

TEST_F(Where, AValueThatIsNotKnownMatches) {
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"status", "draft"}})),
              ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"status", kUnchanged}})),
              ElementsAre("key t:1"));
}

TEST_F(Where, NullMatchesOnlyWhenItIsNamed) {
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"status", kNull}})), IsEmpty());
  const RuleSet null_rules =
      rules_from("- {table: t, keys: ['t:{id}'], where: {status: [null, live]}}");
  EXPECT_THAT(map(null_rules, kTable.insert({{"id", "1"}, {"status", kNull}})),
              ElementsAre("key t:1"));
  EXPECT_THAT(map(null_rules, kTable.insert({{"id", "1"}, {"status", "draft"}})), IsEmpty());
}

TEST_F(Where, AppliesToPurgePatternsToo) {
  const RuleSet purge_rules = rules_from("- {table: t, purge: ['x:*'], where: {status: live}}");
  EXPECT_THAT(map(purge_rules, kTable.insert({{"id", "1"}, {"status", "draft"}})), IsEmpty());
  EXPECT_THAT(map(purge_rules, kTable.insert({{"id", "1"}, {"status", "live"}})),
              ElementsAre("purge x:*"));
  EXPECT_THAT(map(purge_rules, kTable.truncate()),
              ElementsAre("purge x:*"));  // of which row is not known
}

TEST(WhereColumns, AllOfThemMustMatch) {
  const RuleSet rules =
      rules_from("- {table: t, keys: ['t:{id}'], where: {status: live, body: [a, b]}}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"status", "live"}, {"body", "b"}})),
              ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"status", "live"}, {"body", "c"}})),
              IsEmpty());
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"status", "x"}, {"body", "b"}})), IsEmpty());
}

TEST(WhereColumns, CompareCanonicalText) {
  Table table("t", {"id", "live"});
  table.with_type("live", ValueType::kBoolean);
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {live: true}}");
  EXPECT_THAT(map(rules, table.insert({{"id", "1"}, {"live", "t"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, table.insert({{"id", "1"}, {"live", "f"}})), IsEmpty());
}

TEST(WhereColumns, AColumnThatTheTableLacksMatches) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {gone: live}}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}})), ElementsAre("key t:1"));
}

TEST(WhereColumns, AnImmutableColumnIsKnownOfTheOldRow) {
  const RuleSet rules =
      rules_from("- {table: t, keys: ['t:{id}'], where: {status: live}, immutable: [status]}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"status", "draft"}})), IsEmpty());
}

class WhenChanged : public testing::Test {
 protected:
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], when_changed: [body]}");
};

TEST_F(WhenChanged, AnUpdateThatTouchesNoneIsIgnored) {
  EXPECT_THAT(
      map(rules, kTable.update({{"id", "1"}, {"body", "x"}}).from({{"id", "1"}, {"body", "x"}})),
      IsEmpty());
  EXPECT_THAT(
      map(rules,
          kTable.update({{"id", "1"}, {"body", kNull}}).from({{"id", "1"}, {"body", kNull}})),
      IsEmpty());
}

TEST_F(WhenChanged, AnUpdateThatTouchesOneIsNot) {
  EXPECT_THAT(
      map(rules, kTable.update({{"id", "1"}, {"body", "y"}}).from({{"id", "1"}, {"body", "x"}})),
      ElementsAre("key t:1"));
  EXPECT_THAT(
      map(rules, kTable.update({{"id", "1"}, {"body", kNull}}).from({{"id", "1"}, {"body", ""}})),
      ElementsAre("key t:1"));
  EXPECT_THAT(
      map(rules, kTable.update({{"id", "1"}, {"body", ""}}).from({{"id", "1"}, {"body", kNull}})),
      ElementsAre("key t:1"));
}

TEST_F(WhenChanged, AnUnknownValueCountsAsChanged) {
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"body", "x"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"body", "x"}}).from({{"id", "1"}})),
              ElementsAre("key t:1"));
  EXPECT_THAT(
      map(rules,
          kTable.update({{"id", "1"}, {"body", "x"}}).from({{"id", "1"}, {"body", kUnchanged}})),
      ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}}).from({{"id", "1"}, {"body", "x"}})),
              ElementsAre("key t:1"));
}

TEST_F(WhenChanged, UnchangedToastProvesThatNothingChanged) {
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"body", kUnchanged}})), IsEmpty());
}

TEST_F(WhenChanged, IdentityColumnsKeepTheirValueWhenNoOldRowIsSent) {
  const RuleSet id_rules = rules_from("- {table: t, keys: ['t:{id}'], when_changed: [id]}");
  EXPECT_THAT(map(id_rules, kTable.update({{"id", "1"}, {"body", "x"}})), IsEmpty());
  EXPECT_THAT(map(id_rules, kTable.update({{"id", "1"}, {"body", "x"}}).from({{"id", "1"}})),
              IsEmpty());
  EXPECT_THAT(map(id_rules, kTable.update({{"id", "2"}, {"body", "x"}}).from({{"id", "1"}})),
              ElementsAre("key t:2", "key t:1"));
}

TEST_F(WhenChanged, OtherOperationsAreNotAsked) {
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"body", "x"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}, {"body", "x"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kTable.truncate()), ElementsAre("purge t:*"));
}

TEST_F(WhenChanged, AColumnThatTheTableLacksCountsAsChanged) {
  const RuleSet gone = rules_from("- {table: t, keys: ['t:{id}'], when_changed: [gone]}");
  EXPECT_THAT(map(gone, kTable.update({{"id", "1"}, {"body", "x"}})), ElementsAre("key t:1"));
}

TEST_F(WhenChanged, AnImmutableColumnDoesNotChange) {
  const RuleSet promised =
      rules_from("- {table: t, keys: ['t:{id}'], when_changed: [body, status], immutable: [body]}");
  EXPECT_THAT(map(promised, kTable.update({{"id", "1"}, {"body", "x"}, {"status", kUnchanged}})), IsEmpty());
  // The source knows better than the promise.
  EXPECT_THAT(
      map(promised, kTable.update({{"id", "1"}, {"body", "x"}, {"status", kUnchanged}}).from({{"id", "1"}, {"body", "y"}})),
      ElementsAre("key t:1"));
}

const Table kStock("t", {"id", "stock", "seen"}, {"id"});

TEST(Comparisons, AreByValue) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {gt: 9, lte: 100}}}");
  for (const char* stock : {"10", "9.01", "100", "100.0"})
    EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", stock}})), ElementsAre("key t:1")) << stock;
  for (const char* stock : {"9", "-10", "100.01", "1000"})
    EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", stock}})), IsEmpty()) << stock;
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", kNull}})), IsEmpty());
}

TEST(Comparisons, MatchWhatTheyCannotCompare) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {gt: 9}}}");
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", "many"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", kUnchanged}})), ElementsAre("key t:1"));
}

TEST(Comparisons, HoldForTheOldOrTheNewRow) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {gt: 0}}}");
  const auto update = [&](const char* from, const char* to) {
    return map(rules, kStock.update({{"id", "1"}, {"stock", to}}).from({{"id", "1"}, {"stock", from}}));
  };
  EXPECT_THAT(update("5", "0"), ElementsAre("key t:1"));
  EXPECT_THAT(update("0", "5"), ElementsAre("key t:1"));
  EXPECT_THAT(update("0", "-5"), IsEmpty());
}

TEST(Comparisons, NotIsNoneOfThem) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {not: [draft, hidden]}}}");
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", "draft"}})), IsEmpty());
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", "live"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", kNull}})), ElementsAre("key t:1"));
  const RuleSet known = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {not: null}}}");
  EXPECT_THAT(map(known, kStock.insert({{"id", "1"}, {"stock", kNull}})), IsEmpty());
  EXPECT_THAT(map(known, kStock.insert({{"id", "1"}, {"stock", ""}})), ElementsAre("key t:1"));
}

TEST(Crosses, AnUpdateThatStaysOnOneSideIsIgnored) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {crosses: 0}}}");
  const auto update = [&](const Cell& from, const Cell& to) {
    return map(rules, kStock.update({{"id", "1"}, {"stock", to}}).from({{"id", "1"}, {"stock", from}}));
  };
  EXPECT_THAT(update("5", "3"), IsEmpty());
  EXPECT_THAT(update("-5", "-3"), IsEmpty());
  EXPECT_THAT(update("0", "0.00"), IsEmpty());
  EXPECT_THAT(update(kNull, kNull), IsEmpty());
  for (const auto& [from, to] : {std::pair<Cell, Cell>{"5", "0"}, {"0", "5"}, {"0", "-1"}, {"1", "-1"}, {"-1", "1"}})
    EXPECT_THAT(update(from, to), ElementsAre("key t:1")) << from.text << " " << to.text;
  EXPECT_THAT(update(kNull, "1"), ElementsAre("key t:1"));
  EXPECT_THAT(update("1", kNull), ElementsAre("key t:1"));
  EXPECT_THAT(update("many", "1"), ElementsAre("key t:1"));
}

TEST(Crosses, WithoutAnOldValueItActs) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], where: {stock: {crosses: 0}}}");
  EXPECT_THAT(map(rules, kStock.update({{"id", "1"}, {"stock", "5"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kStock.insert({{"id", "1"}, {"stock", "5"}})), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kStock.erase({{"id", "1"}, {"stock", "5"}})), ElementsAre("key t:1"));
}

TEST(IgnoreChanged, AnUpdateOfThoseColumnsAloneIsIgnored) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], ignore_changed: [seen]}");
  const auto update = [&](const Row& from, const Row& to) { return map(rules, kStock.update(to).from(from)); };
  const Row row = {{"id", "1"}, {"stock", "5"}, {"seen", "1"}};
  EXPECT_THAT(update(row, {{"id", "1"}, {"stock", "5"}, {"seen", "2"}}), IsEmpty());
  EXPECT_THAT(update(row, row), IsEmpty());
  EXPECT_THAT(update(row, {{"id", "1"}, {"stock", "6"}, {"seen", "2"}}), ElementsAre("key t:1"));
  EXPECT_THAT(update(row, {{"id", "1"}, {"stock", kUnchanged}, {"seen", "2"}}), IsEmpty());
  EXPECT_THAT(map(rules, kStock.update(row)), ElementsAre("key t:1"));  // the old values are not known
  EXPECT_THAT(map(rules, kStock.insert(row)), ElementsAre("key t:1"));
  EXPECT_THAT(map(rules, kStock.erase(row)), ElementsAre("key t:1"));
  const RuleSet all = rules_from("- {table: t, keys: ['t:{id}'], ignore_changed: [id, stock, seen]}");
  EXPECT_THAT(map(all, kStock.update({{"id", "2"}}).from(row)), IsEmpty());
}

}  // namespace
}  // namespace evictd
