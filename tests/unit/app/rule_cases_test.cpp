#include "daemon/app/rule_cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using ::testing::HasSubstr;

constexpr const char* kRules = R"(
- name: products
  table: products
  keys: ["product:{id}", "product:slug:{slug}"]
  tags: ["category:{category_id}"]
- name: published
  table: articles
  where: {status: published}
  keys: ["article:{id}"]
  on_missing: stop
- {name: sold out, table: stock, where: {count: {crosses: 0}}, ignore_changed: [seen], keys: ["stock:{id}"]}
- {name: labels, table: labels, tags: ["label:{names.*}"]}
- {name: pages, table: sections, via: {page: {table: pages, match: {id: page_id}}}, keys: ["page:{page.slug}", "section:{id}"]}
)";

RuleCasesResult run(const std::string& cases) {
  const RuleSet rules = *RuleSet::parse(kRules, "rules.yaml");
  const auto parsed = parse_rule_cases(cases, "cases.yaml");
  if (!parsed) return {0, 99, parsed.error().to_string()};
  const auto result = run_rule_cases(*parsed, rules);
  return result ? *result : RuleCasesResult{0, 99, result.error().to_string()};
}

TEST(RuleCases, AChangeMakesTheKeysOfBothRows) {
  const RuleCasesResult result = run(R"(
- name: a slug is renamed
  table: products
  old: {id: 1, slug: blue, category_id: 7}
  new: {id: 1, slug: red, category_id: 7}
  keys: ["product:1", "product:slug:blue", "product:slug:red"]
  tags: ["category:7"]
)");
  EXPECT_EQ(result.text, "ok    a slug is renamed\n");
  EXPECT_EQ(result.passed, 1u);
  EXPECT_EQ(result.failed, 0u);
}

TEST(RuleCases, KeysOfJoinedTablesAreSaidNotToBeCompared) {
  const std::string note = "    note     rule 'pages' looks for rows of joined tables, and a case has none: those keys are not compared\n";
  EXPECT_EQ(run("- {table: sections, new: {id: 1, page_id: 2}, keys: ['section:1']}").text, "ok    insert of sections\n" + note);
  EXPECT_EQ(run("- {table: sections, new: {id: 1, page_id: 2}, keys: ['section:1', 'page:a']}").text,
            "FAIL  insert of sections (cases.yaml:1:3)\n    missing  key    page:a   no rule makes it\n" + note);
  // The joined table's own change is compared.
  EXPECT_EQ(run("- {table: pages, old: {id: 2, slug: a}, new: {id: 2, slug: b}, keys: ['page:a', 'page:b']}").text, "ok    update of pages\n");
}

TEST(RuleCases, SaysWhatIsMissingAndWhatIsTooMuch) {
  const RuleCasesResult result = run(R"(
- table: products
  new: {id: 1, slug: null, category_id: "7"}
  keys: ["product:1", "product:slug:"]
)");
  EXPECT_EQ(result.failed, 1u);
  EXPECT_EQ(result.text,
            "FAIL  insert of products (cases.yaml:2:3)\n"
            "    missing  key    product:slug:   no rule makes it\n"
            "    note     column 'slug' gives NULL or nothing: there is no such key   rule 'products' (rules.yaml:2:3)\n"
            "    too much tag    category:7   rule 'products' (rules.yaml:2:3)\n");
}

TEST(RuleCases, EachOperationIsToldByItsRows) {
  EXPECT_EQ(run("- {table: products, old: {id: 2, slug: a, category_id: 1}, keys: ['product:2', 'product:slug:a'], tags: 'category:1'}\n").failed, 0u);
  const RuleCasesResult truncated = run("- {table: products, op: truncate, purge: ['product:*', 'product:slug:*', 'tag:category:*']}\n");
  EXPECT_EQ(truncated.failed, 0u) << truncated.text;
  // A condition that lets nothing through: no keys are expected, and none are made.
  EXPECT_EQ(run("- {table: articles, new: {id: 1, status: draft}}\n").failed, 0u);
}

TEST(RuleCases, WhatIsMissingIsExplained) {
  EXPECT_EQ(run("- {table: stock, old: {id: 1, count: 5}, new: {id: 1, count: 0}, keys: ['stock:1']}\n").failed, 0u);
  EXPECT_THAT(run("- {table: stock, old: {id: 1, count: 5}, new: {id: 1, count: 3}, keys: ['stock:1']}\n").text,
              HasSubstr("    note     'where' does not hold: column 'count' does not cross its bound   rule 'sold out'"));
  EXPECT_THAT(run("- {table: stock, old: {id: 1, count: 1, seen: 1}, new: {id: 1, count: 1, seen: 2}, keys: ['stock:1']}\n").text,
              HasSubstr("no column but those of 'ignore_changed' changed"));
  EXPECT_THAT(run("- {table: products, new: {id: 1, slugs: a, category_id: 7}, keys: ['product:1', 'product:slug:a'], tags: 'category:7'}\n").text,
              HasSubstr("    note     no rule reads column 'slugs': did you mean 'slug'?\n"));
}

TEST(RuleCases, AListIsAnArray) {
  const RuleCasesResult result = run("- {table: labels, new: {id: 1, names: [red, 7, null]}, tags: ['label:red', 'label:7']}\n");
  EXPECT_EQ(result.failed, 0u) << result.text;
}

TEST(RuleCases, AValueThatIsNotSentFailsWhereTheRuleStops) {
  const RuleCasesResult result = run("- {table: articles, new: {status: published}}\n");
  EXPECT_EQ(result.failed, 1u);
  EXPECT_THAT(result.text, HasSubstr("too much stop   column 'id': not_sent"));
}

TEST(RuleCases, MistakesAreNamedWithTheirPlace) {
  EXPECT_THAT(run("[]").text, testing::StartsWith("cases.yaml: expected a list of cases, got an empty list\n"));
  EXPECT_EQ(run("{}").text, "cases.yaml: expected a list of cases, got a map\nhint: for example - {table: products, new: {id: 1}, keys: "
                            "[\"product:1\"]}");
  EXPECT_THAT(run("- {table: products, new: {id: 1}, kyes: []}\n").text, HasSubstr("cases.yaml:1:35: unknown setting 'kyes' in a case"));
  EXPECT_EQ(run("- {table: products}\n").text, "cases.yaml:1:3: a case needs 'old', 'new' or 'op: truncate'");
  EXPECT_EQ(run("- {table: products, op: delete, new: {id: 1}}\n").text, "cases.yaml:1:3: 'op: delete' needs 'old'");
  EXPECT_THAT(run("- {table: produkte, new: {id: 1}}\n").text, HasSubstr("cases.yaml:1:3: no rule names the table 'public.produkte'"));
  EXPECT_THAT(run("- {table: products, new: 7}\n").text, HasSubstr("'new': expected a row, a map of column to value, got '7'"));
}

}  // namespace
}  // namespace evictd
