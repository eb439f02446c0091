#include "mapping/key_shape.h"

#include "tests/unit/mapping/support.h"

namespace evictd::test {
namespace {

using ::testing::ElementsAre;

// The texts of the columns with commas between them, "-" when the key tells nothing.
std::string read(const std::string& pattern, const std::string& key) {
  const RuleSet rules = rules_from("- {table: a, keys: ['" + pattern + "']}");
  const std::optional<std::vector<std::string>> texts = key_shapes(rules, 0)[0].read(key);
  if (!texts) return "-";
  std::string all;
  for (const std::string& text : *texts) all += (all.empty() ? "" : ",") + text;
  return all;
}

TEST(KeyShape, TellsTheColumnsOfAKey) {
  EXPECT_EQ(read("product:{id}", "product:7"), "7");
  EXPECT_EQ(read("a:{x}:b:{y}:c", "a:1:b:2:c"), "1,2");
  EXPECT_EQ(read("{{u:{id}}}:cart", "{u:7}:cart"), "7");
  EXPECT_EQ(read("{tenant}:p:{id}", "eu:p:9"), "eu,9");
  EXPECT_EQ(read("k:{id}:{id}", "k:7:7"), "7");
}

TEST(KeyShape, AKeyOfAnotherShapeOrOfTwoReadingsTellsNothing) {
  EXPECT_EQ(read("product:{id}", "product:"), "-");
  EXPECT_EQ(read("product:{id}", "products:7"), "-");
  EXPECT_EQ(read("product:{id}", "product:7:reviews"), "-");
  EXPECT_EQ(read("product:{id}:reviews", "product:7"), "-");
  EXPECT_EQ(read("product:{id}:reviews", "product:reviews"), "-");
  EXPECT_EQ(read("k:{id}:{id}", "k:7:8"), "-");
  EXPECT_EQ(read("k:{a}{b}", "k:12"), "-");
  EXPECT_EQ(read("k:{a|lower}", "k:x"), "-");
  EXPECT_EQ(read("k:{a.b}", "k:x"), "-");
}

TEST(KeyShape, AKeyOfAJoinedTableTellsTheColumnsOfThatTable) {
  const RuleSet rules = rules_from(
      "- {table: a, via: {b: {table: s.b, match: {id: b_id}}}, keys: ['b:{b.name}', 'a:{id}', 'c:{b.name|lower}:d'], caches: [eu]}\n"
      "- {table: a, keys: ['x:{id}']}");
  const std::vector<KeyShape> shapes = key_shapes(rules, 0);
  ASSERT_EQ(shapes.size(), 3u);
  EXPECT_FALSE(shapes[0].is_of_own_row);
  EXPECT_EQ(shapes[0].table.qualified(), "s.b");
  EXPECT_EQ(shapes[0].columns, std::vector<std::string>{"name"});
  EXPECT_EQ(shapes[0].read("b:tea"), std::vector<std::string>{"tea"});
  EXPECT_TRUE(shapes[1].is_of_own_row);
  EXPECT_EQ(shapes[1].table.qualified(), "public.a");
  // Of all rules of a cache, each once: what `via:` implies has the same.
  const auto sources_of = [&](const std::string& cache) {
    std::vector<std::string> sources;
    for (const KeyShape& shape : key_shapes_of_cache(rules, cache)) sources.push_back(shape.source);
    return sources;
  };
  EXPECT_THAT(sources_of("eu"), ElementsAre("b:{b.name}", "a:{id}", "c:{b.name|lower}:d", "x:{id}"));
  EXPECT_THAT(sources_of("us"), ElementsAre("x:{id}"));
}

TEST(KeyShape, WhatAKeyMayBeIsToldOfUnreadableOnesToo) {
  const auto may_be = [](const std::string& pattern, const std::string& key) {
    return key_shapes(rules_from("- {table: a, keys: ['" + pattern + "']}"), 0)[0].may_be(key);
  };
  EXPECT_TRUE(may_be("product:{id}", "product:7"));
  EXPECT_TRUE(may_be("product:{id}", "product:7:x"));
  EXPECT_FALSE(may_be("product:{id}", "products:7"));
  EXPECT_TRUE(may_be("a:{x|lower}:b:{y.z}:c", "a:1:b:2:c"));
  EXPECT_FALSE(may_be("a:{x|lower}:b:{y.z}:c", "a:1:c"));
  EXPECT_FALSE(may_be("a:{x}:a", "a:a"));
  EXPECT_FALSE(may_be("a:{x}:b", "a:1:bc"));
  EXPECT_TRUE(may_be("a:b", "a:b"));
  EXPECT_FALSE(may_be("a:b", "a:bc"));
}

TEST(KeyShape, ThereIsOneForEachKeyWithItsColumnsInTheOrderOfTheirAppearance) {
  const RuleSet rules = rules_from("- {table: a, tags: ['t:{t}'], keys: ['k:{b}:{a}:{b}', 'l:{c}']}");
  const std::vector<KeyShape> shapes = key_shapes(rules, 0);
  ASSERT_EQ(shapes.size(), 2u);
  EXPECT_THAT(shapes[0].columns, ElementsAre("b", "a"));
  EXPECT_EQ(shapes[0].glob, "k:*:*:*");
  EXPECT_THAT(shapes[1].columns, ElementsAre("c"));
}

TEST(KeyShape, TheAuditOfARule) {
  const RuleSet rules = rules_from(R"x(
- table: a
  keys: ["a:{id}"]
  audit: {query: "select id, x from a where id = any($1);\n", compare: {x.y: b, z: c}}
- {table: b, keys: ["b:{id}"], audit: {query: "select '$5', id from b where id = any($1)"}}
- {table: c, keys: ["c:{id}"]}
)x");
  const AuditInfo& audit = rules.rules()[0].audit;
  EXPECT_EQ(audit.query, "select id, x from a where id = any($1)");
  EXPECT_EQ(audit.compare, AuditCompare::kPaths);
  ASSERT_EQ(audit.paths.size(), 2u);
  EXPECT_THAT(audit.paths[0].path, ElementsAre("x", "y"));
  EXPECT_EQ(audit.paths[0].column, "b");
  EXPECT_EQ(rules.rules()[1].audit.compare, AuditCompare::kText);
  EXPECT_EQ(rules.rules()[2].audit.query, "");
}

TEST(KeyShape, WhatARuleIsRefreshedByIsItsAudit) {
  const RuleSet rules = rules_from(R"x(
- {table: a, keys: ["a:{id}"], fill: checked, refresh: {query: "select id, x from a where id = any($1)", ttl: 1m}}
- {table: b, keys: ["b:{id}"], fill: checked, refresh: {query: "select id, x from b where id = any($1)", ttl: 1m}, audit: {compare: {x: x}}}
- {table: c, keys: ["c:{id}"], fill: checked, refresh: {query: "select id, x from c where id = any($1)", ttl: 1m}, audit: {query: "select id, y from c where id = any($1)"}}
- {table: d, keys: ["d:{id}"], fill: checked, refresh: {stream: "evictd:refresh"}}
)x");
  const auto& all = rules.rules();
  EXPECT_EQ(all[0].audit.query, all[0].refresh.query);
  EXPECT_TRUE(all[0].audit.is_of_refresh);
  EXPECT_EQ(all[0].audit.compare, AuditCompare::kJsonOrText);
  EXPECT_EQ(all[1].audit.query, all[1].refresh.query);
  EXPECT_TRUE(all[1].audit.is_of_refresh);
  EXPECT_EQ(all[1].audit.compare, AuditCompare::kPaths);
  EXPECT_EQ(all[2].audit.query, "select id, y from c where id = any($1)");
  EXPECT_FALSE(all[2].audit.is_of_refresh);
  EXPECT_EQ(all[2].audit.compare, AuditCompare::kText);
  EXPECT_EQ(all[3].audit.query, "");
}

}  // namespace
}  // namespace evictd::test
