// Row versions and namespace counters: what a change asks of fills, and which counters it raises.
#include "mapping/row_version.h"
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;

const Table kTable("t", {"id", "v", "c"}, {"id"});
const std::string kVersioned = "- {table: t, keys: ['t:{id}'], fill: checked, version: {column: v}}";

TEST(RowVersion, OrdersNumbersAndTimesExactly) {
  EXPECT_TRUE(row_version_reaches("9007199254740993", "9007199254740992"));
  EXPECT_FALSE(row_version_reaches("9007199254740992", "9007199254740993"));
  EXPECT_TRUE(row_version_reaches("18446744073709551615", "9"));
  EXPECT_TRUE(row_version_reaches("007", "7"));
  EXPECT_TRUE(row_version_reaches("2024-02-03T04:05:06.79", "2024-02-03T04:05:06.789999"));
  EXPECT_TRUE(row_version_reaches("2024-02-03T04:05:07", "2024-02-03T04:05:06.999999999"));
  for (const char* wrong : {"", "-1", "1.5", "18446744073709551616", "2024-02-03", "2024-02-03 04:05:06",
                            "2024-02-03T04:05:06.1234567890", "2024-02-03T04:05:06+01", "x"}) {
    EXPECT_FALSE(row_version_order(wrong)) << wrong;
  }
  EXPECT_FALSE(row_version_reaches("5", "2024-02-03T04:05:06"));
  EXPECT_FALSE(row_version_reaches("2024-02-03T04:05:06Z", "2024-02-03T04:05:06")) << "one has no zone";
}

TEST(RowVersion, TheNextOneIsBeyondAndNothingOfTheColumnIsBetween) {
  EXPECT_EQ(next_row_version("17"), "18");
  EXPECT_EQ(next_row_version("999"), "1000");
  EXPECT_EQ(next_row_version("0"), "1");
  EXPECT_EQ(next_row_version("18446744073709551614"), "18446744073709551615");
  EXPECT_EQ(next_row_version("18446744073709551615"), std::nullopt);
  EXPECT_EQ(next_row_version("2024-02-03T04:05:06.789Z"), "2024-02-03T04:05:06.789000001Z");
  EXPECT_EQ(next_row_version("2024-02-03T04:05:06"), "2024-02-03T04:05:06.000000001");
  EXPECT_EQ(next_row_version("x"), std::nullopt);
}

TEST(RowVersion, InsertAndUpdateAskForTheNewRowsDeleteForMoreThanTheOldRows) {
  const RuleSet rules = rules_from(kVersioned);
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"v", "7"}})), ElementsAre("version 7", "key t:1"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"v", "8"}})), ElementsAre("version 8", "key t:1"));
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}, {"v", "8"}})), ElementsAre("version 9", "key t:1"));
}

TEST(RowVersion, OneThatIsNotThereOrDidNotGrowIsUnknown) {  // G5
  const RuleSet rules = rules_from(kVersioned);
  const auto unknown = ElementsAre("version unknown", "key t:1");
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}})), unknown) << "not in the replica identity";
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"v", kNull}})), unknown);
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"v", "seven"}})), unknown);
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"v", "8"}}).from({{"id", "1"}, {"v", "8"}})), unknown);
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"v", "7"}}).from({{"id", "1"}, {"v", "8"}})), unknown);
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"v", "9"}}).from({{"id", "1"}, {"v", "8"}})),
              ElementsAre("version 9", "key t:1"));
  const Table other("t", {"id"}, {"id"});
  EXPECT_THAT(map(rules, other.insert({{"id", "1"}})), unknown) << "the table has no such column";
}

TEST(Bump, RaisesTheCountersOfBothRowsAndOnceEach) {
  const RuleSet rules = rules_from("- {table: t, bump: ['ns:t', 'ns:c:{c}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"c", "2"}}).from({{"id", "1"}, {"c", "1"}})),
              ElementsAre("bump ns:t", "bump ns:c:2", "bump ns:c:1"));
}

TEST(Bump, TruncateRaisesWhatIsNamedAndThePatternOfTheOthers) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}'], bump: ['ns:t', 'ns:c:{c}'], purge: ['x:*']}");
  EXPECT_THAT(map(rules, kTable.truncate()),
              ElementsAre("purge t:*", "bump ns:t", "purge ns:c:*", "purge x:*"));
  const std::vector<Pattern>& patterns = rules.rules()[0].patterns;
  EXPECT_FALSE(patterns[0].is_bump);
  EXPECT_TRUE(patterns[1].is_bump && patterns[2].is_bump);
  EXPECT_FALSE(patterns[3].is_bump);
}

TEST(SurrogateKeys, AreThoseOfBothRowsAndOnceEach) {
  const RuleSet rules = rules_from("- {table: t, surrogate_keys: ['t-{id}', 'c-{c}'], keys: ['t:{id}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"c", "2"}}).from({{"id", "1"}, {"c", "1"}})),
              ElementsAre("key t:1", "surrogate t-1", "surrogate c-2", "surrogate c-1"));
}

TEST(SurrogateKeys, TruncateNamesTheOneThatIsAlwaysTheSame) {
  const RuleSet rules = rules_from("- {table: t, surrogate_keys: ['all', 't-{id}']}");
  EXPECT_THAT(map(rules, kTable.truncate()), ElementsAre("surrogate all", "purge t-*"));
  const std::vector<Pattern>& patterns = rules.rules()[0].patterns;
  EXPECT_TRUE(patterns[0].is_surrogate && patterns[1].is_surrogate);
  EXPECT_EQ(patterns[0].exact, "all");
  EXPECT_EQ(patterns[1].exact, "");
}

TEST(SurrogateKeys, MayBeNothingButTheirPlaceholder) {
  const RuleSet rules = rules_from("- {table: t, surrogate_keys: '{id}'}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"c", "2"}})), ElementsAre("surrogate 1"));
}

TEST(LazyTags, TheirPatternsSaySo) {
  const RuleSet rules = rules_from("- {table: t, tags: ['c:{c}'], keys: ['t:{id}'], fill: checked, tags_mode: lazy}");
  EXPECT_FALSE(rules.rules()[0].patterns[0].is_lazy);
  EXPECT_TRUE(rules.rules()[0].patterns[1].is_lazy);
}

}  // namespace
}  // namespace evictd
