// What a value can cause is bounded to keys of its own row: a value that is there, but that the template cannot use, is
// counted and purges nothing, whatever the rule says of values that were not sent.
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const Table kTable("t", {"id", "slug", "body"}, {"id"});

class StrangeValues : public testing::TestWithParam<const char*> {
 protected:
  static RuleSet rules_with(const std::string& keys) {
    return rules_from("- {table: t, keys: [" + keys + "], on_missing: " + GetParam() + "}");
  }
};
INSTANTIATE_TEST_SUITE_P(Policies, StrangeValues, testing::Values("purge", "stop", "ignore"));

TEST_P(StrangeValues, AreCountedAndPurgeNothing) {
  const RuleSet rules = rules_with(R"("d:{slug|date('%Y')}", 'j:{body.a}', 't:{id}')");
  for (const char* date : {"soon", "infinity", "-infinity", "0044-03-15 BC", "", "2024-13-01"}) {
    EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"slug", date}, {"body", "{\"a\":1}"}})),
                ElementsAre("missing slug: bad_value", "key j:1", "key t:1"))
        << date;
  }
  for (const char* json : {"{", "", "plain text", "{\"a\":1}x", "\xff"}) {
    EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"slug", "2024-01-02"}, {"body", json}})),
                ElementsAre("key d:2024", "missing body: bad_value", "key t:1"))
        << json;
  }
}

TEST_P(StrangeValues, OfOneRowLeaveTheOtherRowsKeyExact) {
  const RuleSet rules = rules_with("'j:{body.a}'");
  const Row good = {{"id", "1"}, {"body", "{\"a\":1}"}};
  const Row strange = {{"id", "1"}, {"body", "{"}};
  EXPECT_THAT(map(rules, kTable.update(strange).from(good)), UnorderedElementsAre("key j:1", "missing body: bad_value"));
  EXPECT_THAT(map(rules, kTable.update(good).from(strange)), UnorderedElementsAre("key j:1", "missing body: bad_value"));
}

TEST_P(StrangeValues, AKeyIsExactUpToItsLimitAndNoneBeyond) {
  const RuleSet rules = rules_with(R"('k:{slug}', "h:{slug|md5}")");
  ASSERT_EQ(kKeyBytesMax, 64u * 1024);
  const std::string fits(kKeyBytesMax - 2, 'x');
  EXPECT_EQ(map(rules, kTable.insert({{"slug", fits}}))[0], "key k:" + fits);
  const std::vector<std::string> entries = map(rules, kTable.insert({{"slug", fits + "x"}}));
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0], "missing slug: too_long");
  EXPECT_EQ(entries[1].substr(0, 6), "key h:");
}

TEST_P(StrangeValues, TheLimitIsThatOfTheTextBehindTheFilters) {
  const RuleSet rules = rules_with(R"("u:{slug|urlencode}", "t:{slug|trim}", "l:{slug|lower}", "m:{slug|urlencode|md5}")");
  const std::string grows(kKeyBytesMax / 3, ' ');
  EXPECT_THAT(map(rules, kTable.insert({{"slug", grows}})),
              ElementsAre("missing slug: too_long", "key t:", "key l:" + grows,
                          testing::StartsWith("key m:")));
  const std::string huge = std::string(1'000'000, ' ') + "x" + std::string(1'000'000, ' ');
  EXPECT_THAT(map(rules, kTable.insert({{"slug", huge}})),
              ElementsAre("missing slug: too_long", "key t:x", "missing slug: too_long", testing::StartsWith("key m:")));
  // The Kelvin sign has three bytes, its lower case one.
  std::string kelvins;
  for (std::size_t i = 0; i < kKeyBytesMax - 2; ++i) kelvins += "\xe2\x84\xaa";
  EXPECT_EQ(map(rules, kTable.insert({{"slug", kelvins}}))[2], "key l:" + std::string(kKeyBytesMax - 2, 'k'));
}

TEST_P(StrangeValues, BytesOfAnyKindAreTheirOwnKey) {
  const RuleSet rules = rules_with(R"('k:{slug}', "l:{slug|lower}", 'j:{body.a}')");
  EXPECT_THAT(map(rules, kTable.insert({{"slug", "\xff*?[\r\n\x1b"}, {"body", "{\"a\":\"x\\u0000y\"}"}})),
              ElementsAre("key k:\xff*?[\r\n\x1b", "key l:\xff*?[\r\n\x1b", std::string("key j:x\0y", 9)));
}

TEST_P(StrangeValues, ProveThatTheKeyDoesNotExistWhateverElseIsMissing) {
  const RuleSet rules = rules_with("'k:{slug}:{body.a}', 'l:{body.a}:{slug}'");
  EXPECT_THAT(map(rules, kTable.erase({{"id", "1"}, {"body", "{"}})),
              ElementsAre("missing body: bad_value", "missing body: bad_value"));
  const RuleSet long_rules = rules_with("'k:{slug}:{body}'");
  EXPECT_THAT(map(long_rules, kTable.erase({{"id", "1"}, {"body", std::string(kKeyBytesMax, 'x')}})),
              ElementsAre("missing body: too_long"));
}

TEST_P(StrangeValues, NullProvesItWithoutBeingCounted) {
  const RuleSet rules = rules_with("'k:{slug}:{body.a}'");
  EXPECT_THAT(map(rules, kTable.insert({{"slug", kNull}, {"body", "{"}})), IsEmpty());
}

TEST(StrangeAndMissingValues, OfTwoRowsAreBothTold) {
  const RuleSet rules = rules_from("- {table: t, keys: ['j:{body.a}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"body", "{"}})),
              ElementsAre("missing body: not_sent", "purge j:*", "missing body: bad_value"));
}

TEST(StrangeAndMissingValues, AreToldApartByTheReason) {
  EXPECT_TRUE(is_not_sent(UnmappableReason::kNotSent));
  EXPECT_TRUE(is_not_sent(UnmappableReason::kUnchangedToast));
  EXPECT_TRUE(is_not_sent(UnmappableReason::kMissingColumn));
  EXPECT_FALSE(is_not_sent(UnmappableReason::kBadValue));
  EXPECT_FALSE(is_not_sent(UnmappableReason::kTooLong));
}

}  // namespace
}  // namespace evictd
