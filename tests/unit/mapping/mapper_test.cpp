#include "mapping/mapper.h"

#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const Table kProducts("products", {"id", "slug", "category_id"}, {"id"});

RuleSet product_rules() {
  return rules_from(
      "- {table: products, keys: ['product:{id}', 'slug:{slug}'], tags: "
      "['category:{category_id}']}");
}

TEST(Mapper, InsertInvalidatesTheKeysOfTheNewRow) {
  EXPECT_THAT(
      map(product_rules(), kProducts.insert({{"id", "7"}, {"slug", "ball"}, {"category_id", "2"}})),
      ElementsAre("key product:7", "key slug:ball", "tag category:2"));
}

TEST(Mapper, DeleteInvalidatesTheKeysOfTheOldRow) {
  EXPECT_THAT(
      map(product_rules(), kProducts.erase({{"id", "7"}, {"slug", "ball"}, {"category_id", "2"}})),
      ElementsAre("key product:7", "key slug:ball", "tag category:2"));
}

TEST(Mapper, UpdateInvalidatesTheUnionOfOldAndNewRow) {
  EXPECT_THAT(
      map(product_rules(), kProducts.update({{"id", "7"}, {"slug", "ball"}, {"category_id", "2"}})
                               .from({{"id", "7"}, {"slug", "globe"}, {"category_id", "2"}})),
      UnorderedElementsAre("key product:7", "key slug:ball", "key slug:globe", "tag category:2"));
}

TEST(Mapper, UpdateWithoutOldRowKeepsTheReplicaIdentity) {
  const RuleSet rules = rules_from("- {table: products, keys: ['product:{id}']}");
  EXPECT_THAT(map(rules, kProducts.update({{"id", "7"}, {"slug", "ball"}, {"category_id", "2"}})),
              ElementsAre("key product:7"));
}

TEST(Mapper, UpdateOfTheIdentitySendsOldKeyColumnsOnly) {
  const RuleSet rules = rules_from("- {table: products, keys: ['product:{id}']}");
  EXPECT_THAT(map(rules, kProducts.update({{"id", "8"}, {"slug", "ball"}, {"category_id", "2"}})
                             .from({{"id", "7"}})),
              UnorderedElementsAre("key product:7", "key product:8"));
}

TEST(Mapper, TruncateInvalidatesEveryPatternOfTheRule) {
  const RuleSet rules = rules_from(
      "- {table: products, keys: ['product:{id}'], tags: ['c:{category_id}'], purge: ['all:*']}");
  EXPECT_THAT(map(rules, kProducts.truncate()),
              ElementsAre("purge product:*", "purge tag:c:*", "purge all:*"));
}

TEST(Mapper, OnlyTheOperationsOfOnAreMapped) {
  const RuleSet rules =
      rules_from("- {table: products, on: [insert, delete], keys: ['product:{id}']}");
  EXPECT_THAT(map(rules, kProducts.insert({{"id", "7"}})), ElementsAre("key product:7"));
  EXPECT_THAT(map(rules, kProducts.update({{"id", "7"}})), IsEmpty());
  EXPECT_THAT(map(rules, kProducts.erase({{"id", "7"}})), ElementsAre("key product:7"));
  EXPECT_THAT(map(rules, kProducts.truncate()), IsEmpty());
}

TEST(Mapper, PurgePatternsGoOnAnyChange) {
  const RuleSet rules = rules_from("- {table: products, purge: ['config:*', 'menu']}");
  EXPECT_THAT(map(rules, kProducts.insert({{"id", "7"}})),
              ElementsAre("purge config:*", "purge menu"));
  EXPECT_THAT(map(rules, kProducts.update({{"id", "7"}})),
              ElementsAre("purge config:*", "purge menu"));
}

TEST(Mapper, ARelationOfSeveralTablesActsForAllOfThem) {
  const RuleSet rules = rules_from(
      "- {table: a, keys: ['a:{id}']}\n"
      "- {table: shop.b, keys: ['b:{id}']}\n"
      "- {table: b, keys: ['other:{id}']}\n"
      "- {table: c, tags: ['c:{id}']}");
  Table child("c", {"id"}, {"id"});
  child.and_of("public", "a").and_of("shop", "b");
  EXPECT_THAT(map(rules, child.insert({{"id", "7"}})), ElementsAre("key a:7", "#2 key b:7", "#4 tag c:7"));
  EXPECT_THAT(map(rules, child.truncate()), ElementsAre("purge a:*", "#2 purge b:*", "#4 purge tag:c:*"));
}

TEST(Mapper, EachInvalidationIsPassedOnOnce) {
  const Table table("t", {"a", "b"}, {"a", "b"});
  const RuleSet rules =
      rules_from("- {table: t, keys: ['k:{a}', 'k:{b}', 'k:{a}{b}'], tags: ['k:{a}']}");
  EXPECT_THAT(map(rules, table.insert({{"a", "1"}, {"b", "1"}})),
              ElementsAre("key k:1", "key k:11", "tag k:1"));
  EXPECT_THAT(
      map(rules, table.update({{"a", "1"}, {"b", "2"}}).from({{"a", "2"}, {"b", "1"}})),
      UnorderedElementsAre("key k:1", "key k:2", "key k:12", "key k:21", "tag k:1", "tag k:2"));
}

TEST(Mapper, TwoRulesOnOneTableBothHold) {
  const RuleSet rules = rules_from(
      "- {table: products, keys: ['a:{id}']}\n- {table: public.products, keys: ['a:{id}', "
      "'b:{id}']}");
  EXPECT_THAT(map(rules, kProducts.insert({{"id", "7"}})),
              ElementsAre("key a:7", "#2 key a:7", "#2 key b:7"));
}

TEST(Mapper, RulesNameTheirSchema) {
  const RuleSet rules = rules_from("- {table: shop.products, keys: ['a:{id}']}");
  Table shop("products", {"id"}, {"id"});
  EXPECT_THAT(map(rules, shop.insert({{"id", "7"}})), IsEmpty());
  shop.in_schema("shop");
  EXPECT_THAT(map(rules, shop.insert({{"id", "7"}})), ElementsAre("key a:7"));
}

TEST(Mapper, NullMeansThatTheKeyDoesNotExist) {
  const RuleSet rules = rules_from("- {table: products, keys: ['a:{id}:{slug}', 'b:{id}']}");
  EXPECT_THAT(map(rules, kProducts.insert({{"id", "7"}, {"slug", kNull}})), ElementsAre("key b:7"));
  EXPECT_THAT(
      map(rules,
          kProducts.update({{"id", "7"}, {"slug", kNull}}).from({{"id", "7"}, {"slug", "x"}})),
      UnorderedElementsAre("key a:7:x", "key b:7"));
}

TEST(Mapper, DefaultRendersNull) {
  const RuleSet rules = rules_from(
      "- {table: products, keys: [\"a:{slug|lower|default('NONE')}\", "
      "\"b:{slug|default('NONE')|lower}\"]}");
  EXPECT_THAT(map(rules, kProducts.insert({{"slug", kNull}})),
              ElementsAre("key a:NONE", "key b:none"));
  EXPECT_THAT(map(rules, kProducts.insert({{"slug", "X"}})), ElementsAre("key a:x", "key b:x"));
  EXPECT_THAT(map(rules, kProducts.insert({{"slug", ""}})), ElementsAre("key a:", "key b:"));
}

TEST(Mapper, ValuesAreRenderedInTheirCanonicalText) {
  Table table("t", {"b", "u", "ts", "tz", "by", "j"});
  table.with_type("b", ValueType::kBoolean)
      .with_type("u", ValueType::kUuid)
      .with_type("ts", ValueType::kTimestamp);
  table.with_type("tz", ValueType::kTimestampTz)
      .with_type("by", ValueType::kBytea)
      .with_type("j", ValueType::kJson);
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{b}|{u}|{ts}|{tz}|{by}|{j}']}");
  EXPECT_THAT(map(rules, table.insert({{"b", "t"},
                                       {"u", "AB"},
                                       {"ts", "2024-02-03 04:05:06"},
                                       {"tz", "2024-02-03 04:05:06+00"},
                                       {"by", "\\xFF"},
                                       {"j", "[1, 2]"}})),
              ElementsAre("key k:true|ab|2024-02-03T04:05:06|2024-02-03T04:05:06Z|ff|[1,2]"));
}

TEST(Mapper, JsonPathsAndFilters) {
  Table table("t", {"id", "doc"});
  table.with_type("doc", ValueType::kJson);
  const RuleSet rules = rules_from(
      "- {table: t, keys: [\"k:{doc.author.email|lower|md5}\", \"n:{doc.n|default('none')}\"]}");
  EXPECT_THAT(
      map(rules,
          table.insert({{"doc", R"({"author": {"email": "ABC"}, "n": 10000000000000000000001})"}})),
      ElementsAre("key k:900150983cd24fb0d6963f7d28e17f72", "key n:10000000000000000000001"));
  EXPECT_THAT(map(rules, table.insert({{"doc", R"({"author": null})"}})),
              ElementsAre("key n:none"));
  EXPECT_THAT(map(rules, table.insert({{"doc", kNull}})), ElementsAre("key n:none"));
}

TEST(Mapper, BracesThatAreText) {
  const RuleSet rules = rules_from("- {table: products, keys: ['{{u:{id}}}:x']}");
  EXPECT_THAT(map(rules, kProducts.insert({{"id", "7"}})), ElementsAre("key {u:7}:x"));
  EXPECT_THAT(map(rules, kProducts.truncate()), ElementsAre("purge {u:*}:x"));
}

TEST(Mapper, ATemplateWithoutPlaceholderIsTheSameKeyForEveryRow) {
  const RuleSet rules = rules_from("- {table: products, keys: ['menu']}");
  EXPECT_THAT(map(rules, kProducts.update({}).from({})), ElementsAre("key menu"));
}

TEST(Mapper, AnotherShapeOfTheTableIsBoundAnew) {
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{id}']}");
  Mapper mapper(rules);
  const Table before("t", {"id", "x"});
  const Table after("t", {"x", "id"});
  const Table other("other", {"id"});
  for (int round = 0; round < 2; ++round) {
    Journal journal(rules);
    EXPECT_TRUE(mapper.is_mapped(before.relation()));
    mapper.map(before.insert({{"id", "1"}, {"x", "2"}}).change(), journal);
    mapper.map(after.insert({{"id", "3"}, {"x", "4"}}).change(), journal);
    EXPECT_FALSE(mapper.is_mapped(other.relation()));
    mapper.map(other.insert({{"id", "9"}}).change(), journal);
    EXPECT_THAT(journal.entries, ElementsAre("key k:1", "key k:3"));
    mapper.forget(after.relation());  // and it is bound again when it comes back
    mapper.forget(before.relation());
  }
}

TEST(Mapper, ARelationMayBeForgottenRightAfterItsChange) {
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{id}']}");
  Mapper mapper(rules);
  const Table table("t", {"id"});
  for (const char* id : {"1", "2"}) {
    Journal journal(rules);
    mapper.map(table.insert({{"id", id}}).change(), journal);
    EXPECT_THAT(journal.entries, ElementsAre(std::string("key k:") + id));
    mapper.forget(table.relation());
  }
}

TEST(Mapper, ColumnNamesAreCaseSensitiveAndExact) {
  const Table table("t", {"ID", "id"});
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{id}', 'K:{ID}']}");
  EXPECT_THAT(map(rules, table.insert({{"id", "1"}, {"ID", "2"}})),
              ElementsAre("key k:1", "key K:2"));
}

TEST(MapperDeath, ARowOfAnotherShapeIsAnErrorOfTheProgram) {
  const RuleSet rules = rules_from("- {table: products, keys: ['k:{id}']}");
  Mapper mapper(rules);
  Journal journal(rules);
  const std::vector<Value> row(1);
  const Change change{Operation::kInsert, &kProducts.relation(), {}, row};
  EXPECT_DEATH(mapper.map(change, journal), "evictd invariant broken");
}

}  // namespace
}  // namespace evictd
