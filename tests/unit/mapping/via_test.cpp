// `via:`: keys of joined tables. What is looked up, what the joined tables' own changes touch, and what is refused.
#include "mapping/lookup_sql.h"
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kShop = R"(
- table: order_items
  via:
    order: {table: orders, match: {id: order_id}}
    variant: {table: variants, match: {id: variant_id}}
    product: {table: shop.products, match: {id: variant.product_id}}
  keys: ["user:{order.user_id}:orders", "product:{product.slug|lower}:page", "item:{id}"]
)";
const std::vector<std::string> kItem = {"id", "order_id", "variant_id"};
const Table kItems("order_items", kItem, kItem);
const Table kOrders("orders", {"id", "user_id", "note"}, {"id", "user_id", "note"});
const Table kVariants("variants", {"id", "product_id"}, {"id", "product_id"});

std::string error_of(const std::string& text) {
  const auto rules = RuleSet::parse(text, "r.yaml");
  return rules ? "" : rules.error().to_string();
}

TEST(Via, AChangedRowIsLookedUpByItsOldAndItsNewValues) {
  const RuleSet rules = rules_from(kShop);
  EXPECT_THAT(map(rules, kItems.insert({{"id", "1"}, {"order_id", "7"}, {"variant_id", "3"}})),
              ElementsAre("key item:1", "lookup order: 7", "lookup variant product: 3"));
  EXPECT_THAT(map(rules, kItems.erase({{"id", "1"}, {"order_id", "7"}, {"variant_id", kNull}})), ElementsAre("key item:1", "lookup order: 7"));
  EXPECT_THAT(map(rules, kItems.update({{"id", "1"}, {"order_id", "8"}, {"variant_id", "3"}})
                             .from({{"id", "1"}, {"order_id", "7"}, {"variant_id", "3"}})),
              ElementsAre("key item:1", "lookup order: 8", "lookup order: 7", "lookup variant product: 3"));
}

TEST(Via, AnOldValueThatIsNotSentPurgesWhatTheLookupRenders) {
  const RuleSet rules = rules_from(kShop);
  const Table items("order_items", kItem, {"id"});
  EXPECT_THAT(map(rules, items.erase({{"id", "1"}})),
              ElementsAre("key item:1", "missing order_id: not_sent", "purge user:*:orders", "missing variant_id: not_sent",
                          "purge product:*:page"));
}

TEST(Via, JoinedTablesAreFollowedAsIfARuleNamedThem) {
  const RuleSet rules = rules_from(kShop);
  EXPECT_THAT(rules.tables(), ElementsAre("public.order_items", "public.orders", "public.variants", "shop.products"));
  std::vector<std::string> names;
  for (const RuleInfo& rule : rules.rules()) names.push_back(rule.name);
  EXPECT_THAT(names, ElementsAre("public.order_items", "public.order_items via order", "public.order_items via variant",
                                 "public.order_items via product"));
  EXPECT_THAT(map(rules, kOrders.update({{"id", "7"}, {"user_id", "2"}, {"note", "x"}})
                             .from({{"id", "7"}, {"user_id", "1"}, {"note", "x"}})),
              ElementsAre("#2 key user:2:orders", "#2 key user:1:orders"));
  // Nothing that the join or the template reads.
  EXPECT_THAT(map(rules, kOrders.update({{"id", "7"}, {"user_id", "1"}, {"note", "y"}})
                             .from({{"id", "7"}, {"user_id", "1"}, {"note", "x"}})),
              IsEmpty());
  EXPECT_THAT(map(rules, kOrders.erase({{"id", "7"}, {"user_id", "1"}, {"note", "x"}})), ElementsAre("#2 key user:1:orders"));
  EXPECT_THAT(map(rules, kOrders.truncate()), ElementsAre("#2 purge user:*:orders"));
  // One in the middle of the way is followed from there on.
  EXPECT_THAT(map(rules, kVariants.update({{"id", "3"}, {"product_id", "5"}}).from({{"id", "3"}, {"product_id", "4"}})),
              ElementsAre("#3 lookup product: 5", "#3 lookup product: 4"));
  EXPECT_THAT(map(rules, Table("products", {"id", "slug"}, {"id", "slug"}).in_schema("shop").insert({{"id", "5"}, {"slug", "Tea"}})),
              ElementsAre("#4 key product:tea:page"));
}

TEST(Via, TheColumnsOfTheMatchMatterBesideThoseOfWhenChanged) {
  const RuleSet rules = rules_from(
      "- {table: categories, when_changed: [name], via: {products: {table: products, match: {category_id: id}}}, keys: "
      "['product:{products.id}:page']}");
  const std::vector<std::string> all = {"id", "name", "rank"};
  const Table categories("categories", all, all);
  EXPECT_THAT(map(rules, categories.update({{"id", "1"}, {"name", "a"}, {"rank", "2"}}).from({{"id", "1"}, {"name", "a"}, {"rank", "1"}})),
              IsEmpty());
  EXPECT_THAT(map(rules, categories.update({{"id", "1"}, {"name", "b"}, {"rank", "1"}}).from({{"id", "1"}, {"name", "a"}, {"rank", "1"}})),
              ElementsAre("lookup products: 1"));
  EXPECT_THAT(map(rules, categories.update({{"id", "2"}, {"name", "a"}, {"rank", "1"}}).from({{"id", "1"}, {"name", "a"}, {"rank", "1"}})),
              ElementsAre("lookup products: 2", "lookup products: 1"));
}

TEST(Via, WhatIsFoundIsRenderedLikeARow) {
  const RuleSet rules = rules_from(kShop);
  Relation found;
  found.generation = 1;
  found.columns = {{"slug", ValueType::kText, false}};
  Mapper mapper(rules);
  Journal journal(rules);
  mapper.bind_found(0, 1, found);
  mapper.map_found(std::vector<Value>{{ValueState::kText, "Tea"}}, journal);
  mapper.map_found(std::vector<Value>{{ValueState::kNull, ""}}, journal);
  EXPECT_THAT(journal.entries, ElementsAre("key product:tea:page"));
}

TEST(Via, Queries) {
  const RuleSet rules = rules_from(kShop);
  EXPECT_EQ(lookup_sql(rules.rules()[0].lookups[0], {{"bigint"}}, 10),
            "select i.n, r.* from unnest($1::bigint[]) with ordinality as i(v0, n) cross join lateral (select j1.\"user_id\" as c0 from "
            "\"public\".\"orders\" j1 where j1.\"id\" = i.v0 limit 11) r");
  EXPECT_EQ(lookup_sql(rules.rules()[0].lookups[1], {{"integer"}}, 10),
            "select i.n, r.* from unnest($1::integer[]) with ordinality as i(v0, n) cross join lateral (select j2.\"slug\" as c0 from "
            "\"public\".\"variants\" j1, \"shop\".\"products\" j2 where j1.\"id\" = i.v0 and j2.\"id\" = j1.\"product_id\" limit 11) r");
  const RuleSet pair = rules_from(
      "- {table: a, via: {b: {table: '\"B\"\"x\"', match: {t: tenant, '\"n\"': \"nr\"}}}, keys: ['b:{b.u}:{b.v}']}");
  EXPECT_EQ(lookup_sql(pair.rules()[0].lookups[0], {{"uuid"}, {"text", "\"s\".ci"}}, 1),
            "select i.n, r.* from unnest($1::uuid[], $2::text[] collate \"s\".ci) with ordinality as i(v0, v1, n) cross join lateral (select j1.\"u\" as c0, "
            "j1.\"v\" as c1 from \"public\".\"B\"\"x\" j1 where j1.\"t\" = i.v0 and j1.\"\"\"n\"\"\" = i.v1 limit 2) r");
  EXPECT_EQ(array_literal({"a", "b\"\\,{}", ""}), R"({"a","b\"\\,{}",""})");
}

TEST(Via, AnAuditAsksForTheColumnsOfTheJoinedTable) {
  const auto with = [](const std::string& key, const std::string& query) {
    return error_of("- {table: a, via: {b: {table: b, match: {id: b_id}}}, keys: ['" + key + "'], audit: {query: '" + query + "'}}");
  };
  EXPECT_EQ(with("x:{b.n}:{b.m}", "select n, m, v from c where n = any($1) and m = any($2)"), "");
  EXPECT_THAT(with("x:{b.n}:{b.m}", "select n, m, v from c where n = any($1)"), HasSubstr("expected 2 parameters, got 1"));
  EXPECT_THAT(with("x:{b.n|lower}", "select n, v from c where n = any($1)"),
              HasSubstr("'audit': expected a key from which its columns can be read, got 'x:{b.n|lower}'"));
}

TEST(Via, BesideOrdersIsRefusedInTheFirstSentence) {
  EXPECT_THAT(error_of("- {table: a, via: {b: {table: b, match: {id: b_id}}}, semantic: [{index: 'i', where: {s: 'd:{id}'}}]}"),
              HasSubstr("'semantic' and 'via' exclude one another"));
}

TEST(Via, WhatCannotBeKeptCompleteIsRefused) {
  const auto one = [](const std::string& keys) {
    return error_of("- {table: a, via: {b: {table: b, match: {id: b_id}}, c: {table: c, match: {id: b.c_id}}}, keys: [" + keys + "]}");
  };
  EXPECT_EQ(one("'x:{b.n}', 'y:{c.m}', 'z:{id}'"), "");
  EXPECT_THAT(one("'x:{b.n}:{id}', 'y:{c.m}'"), HasSubstr("it reads columns of 'b' and of the row itself: such a key cannot be kept complete"));
  EXPECT_THAT(one("'x:{c.n}:{b.n}'"), HasSubstr("it reads columns of 'c' and of 'b'"));
  EXPECT_THAT(one("'x:{b}', 'y:{c.m}'"), HasSubstr("'b' is a join: expected one of its columns"));
  EXPECT_THAT(one("'x:{b.*}', 'y:{c.m}'"), HasSubstr("'b' is a join: expected one of its columns"));
  EXPECT_THAT(one("'x:{b.n}'"), HasSubstr("the join 'c' has no effect: no template reads it"));
  EXPECT_EQ(one("'y:{c.m}'"), "");
}

TEST(Via, MistakesAreNamed) {
  const auto with = [](const std::string& via, const std::string& more = "") {
    return error_of("- {table: a, via: " + via + ", keys: ['x:{b.n}']" + more + "}");
  };
  EXPECT_THAT(with("[b]"), HasSubstr("'via': expected a map of joins, got a list"));
  EXPECT_THAT(with("{b: {table: b}}"), HasSubstr("'match'"));
  EXPECT_THAT(with("{b: {table: b, match: {}}}"), HasSubstr("'match': expected a map of 1 to 8 columns, got 0"));
  EXPECT_THAT(with("{b: {table: b, match: {id: 'x|lower'}}}"), HasSubstr("'match': expected a column, or a join and its column, got 'x|lower'"));
  EXPECT_THAT(with("{b: {table: b, match: {id: d.x}}}"), HasSubstr("no join has the name 'd'"));
  EXPECT_THAT(with("{b: {table: b, match: {id: c.x}}, c: {table: c, match: {id: b.x}}}"), HasSubstr("its steps are a circle"));
  // The advice is about a join of the circle, not about one that only leads into it.
  const std::string circle = with("{d: {table: d, match: {id: b.y}}, b: {table: b, match: {id: b.x}}}");
  EXPECT_THAT(circle, HasSubstr("the join 'd' never begins at the rule's table"));
  EXPECT_THAT(circle, HasSubstr("in 'b' write {id: x} in place of {id: b.x}"));
  EXPECT_TRUE(RuleSet::parse("- {table: a, via: {d: {table: d, match: {id: b.y}}, b: {table: b, match: {id: x}}}, keys: ['x:{d.n}']}", "r.yaml"))
      << "the advice, followed";
  EXPECT_THAT(with("{b: {table: b, match: {id: x, t: c.t}}, c: {table: c, match: {id: x}}}"), HasSubstr("the join 'b' begins at two tables"));
  EXPECT_THAT(with("{b: {table: b, match: {id: x}, on: y}}"), HasSubstr("unknown setting 'on' in the join 'b'"));
  EXPECT_THAT(with("{b: {table: b, match: {id: x}}}", ", fan_out: 0"), HasSubstr("'fan_out'"));
  EXPECT_THAT(with("{b: {table: b, match: {id: x}}}", ", ignore_changed: [x]"), HasSubstr("'ignore_changed' names 'x', which the join 'b' begins with"));
  EXPECT_THAT(with("{b: {table: b, match: {id: x}}}", ", fill: checked, version: {column: v}"), HasSubstr("exclude one another"));
  EXPECT_THAT(error_of("- {table: a, keys: ['a:{id}'], fan_out: 5}"), HasSubstr("'fan_out' has no effect without 'via'"));
}

TEST(Via, WhereARowLeadsIsPartOfTheRulesDigest) {
  const auto digest = [](const std::string& via) {
    return rules_from("- {table: a, via: " + via + ", keys: ['x:{b.n}']}").rules()[0].digest;
  };
  EXPECT_EQ(digest("{b: {table: b, match: {id: x}}}"), digest("{b: {match: {id: x}, table: public.b}}"));
  EXPECT_NE(digest("{b: {table: b, match: {id: x}}}"), digest("{b: {table: b, match: {id: y}}}"));
  EXPECT_NE(digest("{b: {table: b, match: {id: x}}}"), digest("{b: {table: c, match: {id: x}}}"));
}

}  // namespace
}  // namespace evictd
