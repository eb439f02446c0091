#include "daemon/sources/postgres/requirements.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/sources/postgres/facts.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RequirementsTest : public ::testing::Test {
 protected:
  Facts facts = healthy_facts();
  RelationFacts& products = facts.tables["public.products"].table;

  Requirements rules(const std::string& text) {
    auto parsed = RuleSet::parse(text, "rules.yaml");
    EXPECT_TRUE(parsed) << parsed.error().to_string();
    return parsed ? requirements_of(*parsed) : Requirements{};
  }
  Findings findings(const std::string& text) { return check_requirements(rules(text), facts); }
  std::string refusal(const std::string& text) {
    const auto error = first_refusal(rules(text), facts);
    return error ? error->to_string() : "";
  }
};

TEST_F(RequirementsTest, KeysOfThePrimaryKeyNeedNothing) {
  EXPECT_THAT(findings("- {table: public.products, keys: ['product:{id}']}"), IsEmpty());
  EXPECT_EQ(refusal("- {table: public.products, keys: ['product:{id}'], on_missing: stop}"), "");
}

TEST_F(RequirementsTest, OldValuesOutsideTheIdentityAreNotSent) {
  const auto found = findings("- {table: public.products, keys: ['product:{slug}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG019");
  EXPECT_EQ(found[0].severity, Severity::kWarning);
  EXPECT_EQ(found[0].cause,
            "key 'product:{slug}' needs the old 'slug' of 'public.products' for UPDATE and DELETE, "
            "but its replica identity"
            " is the primary key (id); each such change purges the rule's pattern instead");
  EXPECT_EQ(found[0].fix, "ALTER TABLE public.products REPLICA IDENTITY FULL;");
  EXPECT_THAT(found[0].object, ::testing::StartsWith("rules.yaml:1:"));
}

TEST_F(RequirementsTest, TheDefaultSaysTheSameWhenItIsWritten) {
  const auto found = findings("- {table: public.products, keys: ['product:{slug}'], on_missing: purge}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].severity, Severity::kWarning);
  EXPECT_EQ(refusal("- {table: public.products, keys: ['product:{slug}']}"), "");
}

TEST_F(RequirementsTest, NoReplicaIdentityIsAdvisedForWhatCannotHaveOne) {
  for (const char kind : {'v', 'm', 'f'}) {
    products.kind = kind;
    const auto found = findings("- {table: public.products, keys: ['product:{slug}']}");
    ASSERT_EQ(found.size(), 1u) << kind;
    EXPECT_EQ(found[0].id, "PG024") << kind;
  }
}

TEST_F(RequirementsTest, OnMissingStopRefusesToStart) {
  EXPECT_THAT(refusal("- {table: public.products, keys: ['product:{slug}'], on_missing: stop}"),
              HasSubstr("; the rule says on_missing: stop\nhint: ALTER TABLE public.products "
                        "REPLICA IDENTITY FULL;"));
}

TEST_F(RequirementsTest, ImmutableColumnsNeedNoOldValueOfAnUpdate) {
  const auto found = findings(
      "- {table: public.products, on: [insert, update], keys: ['product:{slug}'], immutable: "
      "[slug]}");
  EXPECT_THAT(found, IsEmpty());
  const auto mutable_one =
      findings("- {table: public.products, on: [update], keys: ['product:{slug}']}");
  ASSERT_EQ(mutable_one.size(), 1u);
  EXPECT_THAT(mutable_one[0].fix, HasSubstr(" or, if no UPDATE ever changes it, say immutable: [slug]"));
  EXPECT_THAT(mutable_one[0].cause, HasSubstr(" for UPDATE, but"));
}

// A promise about a column of a condition could keep the rule from acting for ever.
TEST_F(RequirementsTest, ImmutableIsNotAdvisedForConditions) {
  for (const char* condition : {"when_changed: [slug]", "where: {slug: a}"}) {
    for (const Finding& finding : findings(std::string("- {table: public.products, on: [update], keys: ['p:{id}'], ") + condition + "}"))
      EXPECT_THAT(finding.fix, ::testing::Not(HasSubstr("immutable"))) << condition;
  }
}

// Followed, such advice would be refused by the next `check`, or switch off what the rule waits for.
TEST_F(RequirementsTest, ImmutableIsNotAdvisedForAColumnWhoseChangesTheRuleWaitsFor) {
  for (const char* condition : {"when_changed: [slug]", "when_changed: [id, slug]", "where: {slug: {crosses: 5}}"}) {
    bool has_key = false;
    for (const Finding& finding : findings(std::string("- {table: public.products, on: [update], keys: ['p:{slug}'], ") + condition + "}")) {
      EXPECT_THAT(finding.fix, ::testing::Not(HasSubstr("immutable"))) << condition;
      has_key = has_key || finding.cause.starts_with("key 'p:{slug}'");
    }
    EXPECT_TRUE(has_key) << condition;
  }
}

TEST_F(RequirementsTest, WhatATypeProvesIsAnErrorOfCheckAndRefusedByAReload) {
  products.columns[1].base_type = products.columns[1].type = 16;
  products.columns[1].type_name = "boolean";
  const std::string live = "- {table: public.products, on: [insert], keys: ['p:{id}'], where: {slug: yes}}";
  const auto found = findings(live);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG050");
  EXPECT_EQ(found[0].severity, Severity::kError);
  EXPECT_EQ(found[0].object, "rules.yaml:1:68");
  EXPECT_EQ(found[0].cause, "where: 'slug' is never 'yes': its type is boolean");
  EXPECT_EQ(refusal(live),
            "rules.yaml:1:68: where: 'slug' is never 'yes': its type is boolean\nhint: its values are 'true' and 'false': write true");
  EXPECT_EQ(refusal("- {table: public.products, on: [insert], keys: ['p:{id}'], where: {slug: true}}"), "");
}

// DDL gives a column another type while evictd is away: the tables that are fine have to be served.
TEST_F(RequirementsTest, WhatATypeProvesIsNamedAtAStartAndStopsNothing) {
  products.columns[1].base_type = products.columns[1].type = 16;
  products.columns[1].type_name = "boolean";
  const Requirements live = rules("- {table: public.products, on: [insert], keys: ['p:{id}'], where: {slug: yes}}");
  EXPECT_FALSE(start_refusal(live, facts));
  EXPECT_THAT(unserved_rules(live, facts),
              ::testing::ElementsAre("rules.yaml:1:68: where: 'slug' is never 'yes': its type is boolean: its values are 'true' and "
                                     "'false': write true"));
}

TEST_F(RequirementsTest, WhatATypeOnlySuggestsIsAWarning) {
  products.columns[1].type_name = "text";
  const std::string path = "- {table: public.products, on: [insert], keys: ['p:{slug.a}']}";
  const auto found = findings(path);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG050");
  EXPECT_EQ(found[0].severity, Severity::kWarning);
  EXPECT_EQ(refusal(path), "");
  EXPECT_THAT(unserved_rules(rules(path), facts), IsEmpty());
}

TEST_F(RequirementsTest, IgnoreChangedNeedsEveryOldValue) {
  const std::string rule = "- {table: public.products, keys: ['p:{id}'], ignore_changed: [body]}";
  const auto found = findings(rule);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG051");
  EXPECT_EQ(found[0].cause, "'ignore_changed' needs every old value of 'public.products', but its replica identity is the primary key "
                            "(id): the rule acts on every update");
  products.identity = 'f';
  EXPECT_THAT(findings(rule), IsEmpty());
}

TEST_F(RequirementsTest, AMisspelledTableIsAskedAbout) {
  facts.other_tables = {"public.products", "shop.invoices"};
  EXPECT_THAT(refusal("- {table: product, keys: ['p:{id}']}"), HasSubstr("\nhint: did you mean 'public.products'?"));
  EXPECT_THAT(refusal("- {table: invoices, keys: ['p:{id}']}"), HasSubstr("\nhint: did you mean 'shop.invoices'?"));
  EXPECT_THAT(refusal("- {table: something_else, keys: ['p:{id}']}"), HasSubstr("\nhint: names are matched exactly"));
  // The same name in another schema, or in other letters, before one that is merely near: a schema's name is not nearness.
  facts.other_tables = {"public.ul", "public.fop", "public.types", "s2.foo", "public.UPPER", "public.us"};
  EXPECT_EQ(similar_table(facts, "public.foo"), "did you mean 's2.foo'?");
  EXPECT_EQ(similar_table(facts, "public.upper"), "did you mean 'public.UPPER'?");
  EXPECT_EQ(similar_table(facts, "public.typs"), "did you mean 'public.types'?");
  EXPECT_EQ(similar_table(facts, "public.bar"), "");
  EXPECT_EQ(similar_table(facts, "s3.user"), "");
}

TEST_F(RequirementsTest, FullIdentityGivesEverything) {
  products.identity = 'f';
  for (ColumnFacts& one : products.columns) one.in_identity = true;
  EXPECT_THAT(findings("- {table: public.products, keys: ['product:{slug}:{body}']}"), IsEmpty());
}

TEST_F(RequirementsTest, LongValuesMayNotBeSentAgain) {
  const auto found = findings(
      "- {table: public.products, on: [insert, update], keys: ['p:{body}'], immutable: [body]}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG021");
  EXPECT_THAT(found[0].cause,
              HasSubstr("a value of more than about 2 kB that an UPDATE leaves alone is not sent"));
}

TEST_F(RequirementsTest, GeneratedAndUnpublishedColumnsAreNotSent) {
  products.columns[1].is_generated = true;
  auto found = findings("- {table: public.products, keys: ['product:{slug}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG022");
  EXPECT_THAT(found[0].cause, HasSubstr("which is generated and not sent before PostgreSQL 18"));
  products.columns[1].is_published = false;
  facts.server.version = 180000;
  EXPECT_EQ(findings("- {table: public.products, keys: ['product:{slug}']}").at(0).fix, "ALTER PUBLICATION evictd SET (publish_generated_columns = stored);");
  products.columns[1].is_virtual = true;
  found = findings("- {table: public.products, keys: ['product:{slug}']}");
  EXPECT_EQ(found.at(0).id, "PG022");
  EXPECT_THAT(found[0].cause, HasSubstr("a virtual generated column, which is never sent"));
  products.columns[1].is_virtual = false;
  products.columns[1].is_published = true;
  facts.server.version = 150020;
  products.columns[1].is_generated = false;
  products.columns[1].is_published = false;
  found = findings("- {table: public.products, keys: ['product:{slug}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG018");
  EXPECT_THAT(found[0].cause, HasSubstr("which the publication's column list leaves out"));
}

TEST_F(RequirementsTest, AConditionOnlyDeletesMore) {
  const auto found =
      findings("- {table: public.products, keys: ['product:{id}'], where: {slug: [a]}}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].severity, Severity::kInfo);
  EXPECT_THAT(found[0].cause, HasSubstr("; the rule then deletes more than it must"));
}

TEST_F(RequirementsTest, ARowVersionSpeaksOfOneRowOnly) {
  const std::string rest = "], fill: checked, version: {column: id}}";
  EXPECT_THAT(findings("- {table: public.products, keys: ['product:{id}'" + rest), IsEmpty());
  const auto found = findings("- {table: public.products, keys: ['p:{id}', 'slug:{slug}'], immutable: [slug], on: [insert, "
                              "update], fill: checked, version: {column: id}}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG034");
  EXPECT_EQ(found[0].severity, Severity::kWarning);
  EXPECT_EQ(found[0].cause,
            "version 'id' of 'public.products' is compared under key 'slug:{slug}', which does not name the primary "
            "key (id): another row may take that key, and its versions do not compare");
}

TEST_F(RequirementsTest, ADeletedRowsVersionThatIsNotSentCostsFillsOnly) {
  const auto found = findings("- {table: public.products, keys: ['p:{id}'], fill: checked, version: {column: slug}}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG019");
  EXPECT_EQ(found[0].severity, Severity::kInfo);
  EXPECT_THAT(found[0].cause, HasSubstr("no fill of such a row's keys is accepted until their tombstones have passed"));
}

TEST_F(RequirementsTest, MissingColumnsAreRefusedWithAHint) {
  EXPECT_THAT(refusal("- {table: public.products, keys: ['product:{slugg}']}"),
              HasSubstr("key 'product:{slugg}' names column 'slugg', which table 'public.products' "
                        "does not have\n"
                        "hint: did you mean 'slug'?"));
}

TEST_F(RequirementsTest, TablesThatCannotBeFollowedAreErrors) {
  products.kind = 'v';
  auto found = findings("- {table: public.products, keys: ['product:{id}']}");
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].id, "PG024");
  EXPECT_EQ(found[0].cause, "'public.products' is not a table: its changes are not decoded");
  products.kind = 'r';
  products.columns[0].in_identity = false;
  found = findings("- {table: public.products, on: [insert], keys: ['product:{id}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG020");
  EXPECT_EQ(found[0].cause,
            "'public.products' has no replica identity: once published, UPDATE and DELETE on it "
            "fail for everybody");
}

TEST_F(RequirementsTest, MembersThatCannotBeFollowedAreErrorsOfTheirOwn) {
  TableFacts& table = facts.tables["public.products"];
  RelationFacts member = table.table;
  member.oid = 300;
  member.name = {"public", "old"};
  member.is_unlogged = true;
  table.members = {member};
  auto found = findings("- {table: public.products, keys: ['product:{id}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG024");
  EXPECT_EQ(found[0].severity, Severity::kError);
  EXPECT_EQ(found[0].cause, "'public.old', which lies below 'public.products', is unlogged: its changes are not decoded");
  EXPECT_EQ(found[0].fix, "ALTER TABLE public.old SET LOGGED;");
  table.members[0].is_unlogged = false;
  table.members[0].kind = 'f';
  found = findings("- {table: public.products, keys: ['product:{id}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].cause,
            "'public.old', which lies below 'public.products', is a foreign table: its changes are not decoded");
  for (ColumnFacts& column : table.members[0].columns) column.in_identity = false;
  EXPECT_EQ(findings("- {table: public.products, keys: ['product:{id}']}").size(), 1u) << "PostgreSQL refuses it a replica identity";
}

TEST_F(RequirementsTest, RowFiltersAndPartitionsAreNamed) {
  products.row_filter = "(id > 5)";
  auto found = findings("- {table: public.products, keys: ['product:{id}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, "PG017");
  EXPECT_EQ(found[0].cause,
            "the publication sends only rows where (id > 5): other rows are never invalidated");

  facts = healthy_facts();
  TableFacts& table = facts.tables["public.products"];
  RelationFacts leaf = table.table;
  leaf.name.table = "products_1";
  leaf.columns[0].in_identity = false;
  leaf.columns[1].in_identity = true;  // a partition's identity is its own
  table.table.kind = 'p';
  table.members = {leaf};
  found = findings("- {table: public.products, keys: ['product:{id}']}");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].id, "PG023");
  EXPECT_EQ(found[1].id, "PG019");
  EXPECT_THAT(found[1].cause, HasSubstr("of 'public.products_1'"));

  // All that lack the same at once, the first few by name.
  table.members.push_back(leaf);
  table.members[1].name.table = "Products 2";
  found = findings("- {table: public.products, keys: ['product:{id}']}");
  EXPECT_EQ(found[1].cause,
            "key 'product:{id}' needs the old 'id' of 'public.products_1' for UPDATE and DELETE, but its replica identity is the primary key "
            "(slug); nor is that of 'public.Products 2' enough; each such change purges the rule's pattern instead");
  EXPECT_EQ(found[1].fix, "ALTER TABLE public.products_1 REPLICA IDENTITY FULL; ALTER TABLE public.\"Products 2\" REPLICA IDENTITY FULL;");
  for (int i = 0; i < 5; ++i) table.members.push_back(leaf);
  found = findings("- {table: public.products, keys: ['product:{id}']}");
  EXPECT_THAT(found[1].cause, HasSubstr("'public.products_1' and 2 more enough; "));
  EXPECT_THAT(found[1].fix, ::testing::EndsWith("FULL; and so for 2 more: 'evictd check --sql' has all"));
  found = findings("- {table: public.products, keys: ['product:{slug}'], ignore_changed: [body]}");
  EXPECT_EQ(found[1].id, "PG051");
  EXPECT_THAT(found[1].fix, HasSubstr("ALTER TABLE public.\"Products 2\" REPLICA IDENTITY FULL;"));

  table.members.clear();
  table.table = leaf;
  table.table.kind = 'p';
  facts.publication.name = "My Pub";
  facts.publication.via_root = true;
  found = findings("- {table: public.products, keys: ['product:{slug}']}");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].fix, "ALTER PUBLICATION \"My Pub\" SET (publish_via_partition_root = false); so that TRUNCATE of a partition is sent");
}

// To the stream it is a DELETE and an INSERT.
TEST_F(RequirementsTest, ARuleForUpdatesAloneDoesNotHearOfRowsThatMoveBetweenPartitions) {
  facts.tables["public.products"].table.kind = 'p';
  for (const char* on : {"[update]", "[update, delete]", "[insert, update]"}) {
    const auto found = findings(fmt::format("- {{table: public.products, on: {}, keys: ['product:{{id}}']}}", on));
    ASSERT_EQ(found.size(), 2u) << on;
    EXPECT_EQ(found[1].id, "PG023");
    EXPECT_THAT(found[1].cause, HasSubstr("is sent as a DELETE and an INSERT"));
  }
  for (const char* on : {"[insert, update, delete]", "[insert]", "[delete]"}) {
    EXPECT_EQ(findings(fmt::format("- {{table: public.products, on: {}, keys: ['product:{{id}}']}}", on)).size(), 1u) << on;
  }
}

}  // namespace
}  // namespace evictd::testing
