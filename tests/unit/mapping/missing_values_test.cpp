// G5 at the first step: a value that was not sent is never part of a key, and never forgotten
// either.
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const Table kTable("t", {"id", "slug", "body"}, {"id"});

TEST(MissingValues, AnOldValueOutsideTheIdentityPurgesItsPatternOnly) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}', 'slug:{slug}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"slug", "new"}, {"body", "b"}})),
              ElementsAre("key t:1", "key slug:new", "missing slug: not_sent", "purge slug:*"));
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}})),
              ElementsAre("key t:1", "missing slug: not_sent", "purge slug:*"));
}

TEST(MissingValues, StopAndIgnoreDoNotPurge) {
  for (const char* policy : {"stop", "ignore"}) {
    const RuleSet rules =
        rules_from("- {table: t, keys: ['slug:{slug}'], on_missing: " + std::string(policy) + "}");
    EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}})), ElementsAre("missing slug: not_sent"))
        << policy;
  }
}

TEST(MissingValues, UnchangedToastOfTheNewRowIsTheOldRowsValue) {
  const RuleSet rules = rules_from("- {table: t, keys: ['body:{body}']}");
  EXPECT_THAT(
      map(rules,
          kTable.update({{"id", "1"}, {"body", kUnchanged}}).from({{"id", "1"}, {"body", "long"}})),
      ElementsAre("key body:long"));
  EXPECT_THAT(
      map(rules,
          kTable.update({{"id", "1"}, {"body", kUnchanged}}).from({{"id", "1"}, {"body", kNull}})),
      IsEmpty());
}

TEST(MissingValues, UnchangedToastWithoutOldValueIsMissing) {
  const RuleSet rules = rules_from("- {table: t, keys: ['body:{body}']}");
  const auto expected = ElementsAre("missing body: unchanged_toast", "purge body:*");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"body", kUnchanged}})), expected);
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"body", kUnchanged}}).from({{"id", "2"}})),
              expected);
  EXPECT_THAT(
      map(rules, kTable.update({{"id", "1"}, {"body", kUnchanged}}).from({{"body", kUnchanged}})),
      expected);
}

TEST(MissingValues, ImmutableGivesTheOldRowTheNewValue) {
  const RuleSet rules = rules_from("- {table: t, keys: ['slug:{slug}'], immutable: [slug]}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"slug", "s"}})), ElementsAre("key slug:s"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "2"}, {"slug", "s"}}).from({{"id", "1"}})),
              ElementsAre("key slug:s"));
  // The source knows better than the promise.
  EXPECT_THAT(
      map(rules, kTable.update({{"id", "1"}, {"slug", "s"}}).from({{"id", "1"}, {"slug", "old"}})),
      UnorderedElementsAre("key slug:s", "key slug:old"));
}

TEST(MissingValues, ImmutableDoesNotHelpADelete) {
  const RuleSet rules = rules_from("- {table: t, keys: ['slug:{slug}'], immutable: [slug]}");
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}})),
              ElementsAre("missing slug: not_sent", "purge slug:*"));
}

TEST(MissingValues, AnIdentityColumnThatAnOldRowLeavesOutIsMissing) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}}).from({{"slug", "x"}})),
              ElementsAre("key t:1", "missing id: not_sent", "purge t:*"));
}

TEST(MissingValues, DefaultIsForNullNotForAMissingValue) {
  const RuleSet rules = rules_from("- {table: t, keys: [\"slug:{slug|default('none')}\"]}");
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}})),
              ElementsAre("missing slug: not_sent", "purge slug:*"));
}

TEST(MissingValues, NullProvesThatTheKeyDoesNotExistWhateverElseIsMissing) {
  const RuleSet rules =
      rules_from("- {table: t, keys: ['k:{slug}:{body}', 'l:{body}:{slug}', 'm:{gone}:{body}']}");
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}, {"body", kNull}})), IsEmpty());
}

TEST(MissingValues, AColumnThatTheTableDoesNotHave) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}', 'k:{gone}']}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}})),
              ElementsAre("key t:1", "missing gone: missing_column", "purge k:*"));
}

TEST(MissingValues, AnInsertedValueThatWasNotSent) {
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{slug}']}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}})),
              ElementsAre("missing slug: not_sent", "purge k:*"));
}

TEST(MissingValues, ADeleteThatSaysNothingOfTheOldRow) {
  const RuleSet rules = rules_from("- {table: t, keys: ['t:{id}']}");
  EXPECT_THAT(map(rules, OwnedChange(Operation::kDelete, kTable.relation())),
              ElementsAre("missing id: not_sent", "purge t:*"));
}

TEST(MissingValues, OneTemplateIsReportedOncePerChange) {
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{slug}:{body}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}}).from({{"id", "2"}})),
              ElementsAre("missing slug: not_sent", "purge k:*:*"));
}

TEST(MissingValues, TheReasonIsThatOfTheNewRowFirst) {
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{slug}:{body}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"slug", "s"}, {"body", kUnchanged}})),
              ElementsAre("missing body: unchanged_toast", "purge k:*:*"));
}

TEST(MissingValues, ReasonsAreLabelsOfAMetric) {
  EXPECT_EQ(unmappable_reason_name(UnmappableReason::kNotSent), "not_sent");
  EXPECT_EQ(unmappable_reason_name(UnmappableReason::kUnchangedToast), "unchanged_toast");
  EXPECT_EQ(unmappable_reason_name(UnmappableReason::kMissingColumn), "missing_column");
  EXPECT_EQ(unmappable_reason_name(UnmappableReason::kBadValue), "bad_value");
  EXPECT_EQ(unmappable_reason_name(UnmappableReason::kTooLong), "too_long");
}

}  // namespace
}  // namespace evictd
