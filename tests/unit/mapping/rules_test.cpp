#include "mapping/rules.h"

#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;
using test::rules_from;
using testing::ElementsAre;

std::vector<std::string> globs(const RuleInfo& rule) {
  std::vector<std::string> result;
  for (const Pattern& pattern : rule.patterns)
    result.push_back((pattern.is_tag ? "tag " : "key ") + pattern.glob);
  return result;
}

TEST(Rules, TheExampleOfTheDesign) {
  const RuleSet rules = rules_from(R"(
defaults: {fill: plain, settle: 1s}
rules:
  - table: public.products
    keys: ["product:{id}", "product:slug:{slug}"]
    tags: ["category:{category_id}"]
  - table: public.reviews
    on: [insert, update, delete]
    when_changed: [rating, body]
    where: {status: [published, hidden]}
    keys: ["product:{product_id}:reviews"]
    fill: checked
  - table: public.settings
    purge: ["config:*"]
)");
  ASSERT_EQ(rules.rules().size(), 3u);
  const RuleInfo& products = rules.rules()[0];
  EXPECT_EQ(products.name, "public.products");
  EXPECT_EQ(products.qualified_table(), "public.products");
  EXPECT_EQ(products.place.to_string(), "rules.yaml:4:5");
  EXPECT_EQ(products.fill, FillMode::kPlain);
  EXPECT_EQ(products.settle, milliseconds(1000));
  EXPECT_EQ(products.on_missing, OnMissing::kPurge);
  EXPECT_TRUE(products.is_on(Operation::kTruncate));
  EXPECT_THAT(products.key_templates, ElementsAre("product:{id}", "product:slug:{slug}"));
  EXPECT_THAT(globs(products),
              ElementsAre("key product:*", "key product:slug:*", "tag tag:category:*"));
  const RuleInfo& reviews = rules.rules()[1];
  EXPECT_EQ(reviews.fill, FillMode::kChecked);
  EXPECT_TRUE(reviews.is_on(Operation::kInsert));
  EXPECT_FALSE(reviews.is_on(Operation::kTruncate));
  EXPECT_THAT(globs(rules.rules()[2]), ElementsAre("key config:*"));
  EXPECT_THAT(rules.tables(), ElementsAre("public.products", "public.reviews", "public.settings"));
}

TEST(Rules, AListOfTablesIsARuleForEach) {
  const RuleSet rules = rules_from("- {table: [a, s.b], keys: ['k:{id}']}\n- {table: [c, d], name: both, keys: ['k:{id}']}");
  ASSERT_EQ(rules.rules().size(), 4u);
  EXPECT_THAT(rules.tables(), ElementsAre("public.a", "s.b", "public.c", "public.d"));
  EXPECT_EQ(rules.rules()[1].name, "s.b");
  EXPECT_EQ(rules.rules()[2].name, "both");
  EXPECT_EQ(rules.rules()[3].name, "both#2");
  EXPECT_EQ(rules.rules()[0].digest, rules_from("- {table: a, keys: ['k:{id}']}").rules()[0].digest);
}

TEST(Rules, ABareListIsAFileOfRules) {
  const RuleSet rules = rules_from("- {table: users, keys: 'user:{id}'}");
  EXPECT_EQ(rules.rules()[0].qualified_table(), "public.users");
}

TEST(Rules, DefaultsHoldUntilARuleSaysOtherwise) {
  const RuleSet rules = rules_from(R"(
defaults: {fill: checked, settle: 0ms, on_missing: stop, collapse_after: 5}
rules:
  - {table: a, keys: ["a:{id}"]}
  - {table: b, keys: ["b:{id}"], fill: plain, settle: 2s, on_missing: ignore, collapse_after: 7}
)");
  const RuleInfo& a = rules.rules()[0];
  EXPECT_EQ(a.fill, FillMode::kChecked);
  EXPECT_EQ(a.settle, milliseconds(0));
  EXPECT_EQ(a.on_missing, OnMissing::kStop);
  EXPECT_EQ(a.collapse_after, 5u);
  const RuleInfo& b = rules.rules()[1];
  EXPECT_EQ(b.fill, FillMode::kPlain);
  EXPECT_EQ(b.settle, milliseconds(2000));
  EXPECT_EQ(b.on_missing, OnMissing::kIgnore);
  EXPECT_EQ(b.collapse_after, 7u);
}

TEST(Rules, NamesAreUniqueAcrossTheFile) {
  const RuleSet rules = rules_from(R"(
- {table: a, keys: ["a:{id}"]}
- {table: a, keys: ["b:{id}"]}
- {table: a, keys: ["c:{id}"], name: "public.a#2"}
- {table: a, keys: ["d:{id}"]}
)");
  std::vector<std::string> names;
  for (const RuleInfo& rule : rules.rules()) names.push_back(rule.name);
  EXPECT_THAT(names, ElementsAre("public.a", "public.a#3", "public.a#2", "public.a#4"));
  EXPECT_THAT(rules.tables(), ElementsAre("public.a"));
}

TEST(Rules, TableNamesMayBeQuotedAsInSql) {
  const RuleSet rules = rules_from(R"(- {table: 'shop."old.products"', keys: ["p:{id}"]})");
  EXPECT_EQ(rules.rules()[0].schema, "shop");
  EXPECT_EQ(rules.rules()[0].table, "old.products");
}

TEST(Rules, PurgePatternsAreRedisGlobsInWhichDoubledBracesAreText) {
  const RuleSet rules = rules_from(
      R"(- {table: a, keys: ["k:{id}"], tags: ["t:{id}"], purge: ["config:*", "{{user}}:[ab]", "x\\*"]})");
  EXPECT_THAT(globs(rules.rules()[0]),
              ElementsAre("key k:*", "tag tag:t:*", "key config:*", "key {user}:[ab]", "key x\\*"));
}

TEST(Rules, ATagMayBeAPlaceholderAlone) {
  EXPECT_THAT(globs(rules_from("- {table: a, tags: ['{id}']}").rules()[0]),
              ElementsAre("tag tag:*"));
}

TEST(Rules, SettingsOfLaterWorkMaySayWhatHoldsToday) {
  const RuleSet rules = rules_from(
      "- {table: a, keys: ['a:{id}'], mode: delete, version: snapshot, tags_mode: members}");
  EXPECT_EQ(rules.rules()[0].mode, RuleMode::kDelete);
  EXPECT_EQ(rules.rules()[0].version_column, "");
  EXPECT_EQ(rules.rules()[0].tags_mode, TagsMode::kMembers);
}

TEST(Rules, TheCachesThatARuleActsOnKeepTheirPlaces) {
  const RuleSet rules = rules_from("- {table: a, keys: ['a:{id}'], caches: [eu, us]}\n- {table: b, purge: [b], caches: eu}");
  EXPECT_THAT(rules.rules()[0].caches, ElementsAre("eu", "us"));
  EXPECT_EQ(rules.rules()[0].cache_places[1].to_string(), "rules.yaml:1:45");
  EXPECT_THAT(rules.rules()[1].caches, ElementsAre("eu"));
  EXPECT_EQ(rules.rules()[1].cache_places[0].to_string(), "rules.yaml:2:34");
}

std::string need_text(const ColumnNeed& need) {
  std::string text = need.column + " for " + need.where + " at " + need.place.to_string() + ":";
  if (need.on_insert) text += " insert";
  if (need.on_update_new) text += " update_new";
  if (need.on_update_old) text += " update_old";
  if (need.on_delete_old) text += " delete_old";
  if (need.is_condition) text += " (condition)";
  return text;
}

TEST(ColumnNeeds, EveryColumnOfEveryTemplateAndCondition) {
  const RuleSet rules = rules_from(R"(
- table: a
  on: [insert, update, delete]
  keys: ["a:{id}:{id}:{slug}"]
  tags: ["t:{data.kind}"]
  where: {status: live}
  when_changed: [body]
  immutable: [slug]
- {table: b, on: [delete], keys: ["b:{id}"]}
- {table: c, purge: ["c:*"]}
)");
  std::vector<std::string> texts;
  for (const ColumnNeed& need : column_needs(rules))
    texts.push_back(std::to_string(need.rule) + " " + need_text(need));
  EXPECT_THAT(
      texts,
      ElementsAre(
          "0 id for key 'a:{id}:{id}:{slug}' at rules.yaml:4:10: insert update_new update_old "
          "delete_old",
          "0 slug for key 'a:{id}:{id}:{slug}' at rules.yaml:4:10: insert update_new delete_old",
          "0 data for tag 't:{data.kind}' at rules.yaml:5:10: insert update_new update_old "
          "delete_old",
          "0 status for where at rules.yaml:6:11: insert update_new update_old delete_old "
          "(condition)",
          "0 body for when_changed at rules.yaml:7:17: update_new update_old (condition)",
          "1 id for key 'b:{id}' at rules.yaml:9:35: delete_old"));
}

TEST(Names, OperationsAndKindsReadAsInTheRules) {
  EXPECT_EQ(operation_name(Operation::kInsert), "insert");
  EXPECT_EQ(operation_name(Operation::kUpdate), "update");
  EXPECT_EQ(operation_name(Operation::kDelete), "delete");
  EXPECT_EQ(operation_name(Operation::kTruncate), "truncate");
  EXPECT_EQ(invalidation_kind_name(InvalidationKind::kKey), "key");
  EXPECT_EQ(invalidation_kind_name(InvalidationKind::kTag), "tag");
  EXPECT_EQ(invalidation_kind_name(InvalidationKind::kSurrogate), "surrogate_key");
  EXPECT_EQ(invalidation_kind_name(InvalidationKind::kPurge), "purge");
}

}  // namespace
}  // namespace evictd
