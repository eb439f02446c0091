#include "daemon/app/proposal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mapping/rules.h"

namespace evictd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SurveyedTable table(std::string name, std::vector<std::string> primary_key) {
  SurveyedTable made;
  made.schema = "public";
  made.name = std::move(name);
  made.has_identity = true;
  made.primary_key = std::move(primary_key);
  return made;
}

TEST(Proposal, KeysFromKeysAndTagsFromForeignKeys) {
  ProposalSources sources;
  sources.survey.database = "shop";
  SurveyedTable products = table("products", {"id"});
  products.unique_columns = {"slug"};
  products.foreign_keys = {{"category_id", "public", "categories"}};
  sources.survey.tables = {products, table("order_lines", {"order_id", "line"})};
  sources.prefixes = prefixes_of({"app:product:1", "app:product:slug:a", "app:product:2", "session:1"});
  sources.keys_seen = 4;
  sources.postgres_url = "postgresql://localhost/shop";
  sources.redis_url = "redis://localhost";
  const Proposal proposal = propose(sources);
  EXPECT_EQ(proposal.tables, 2u);
  EXPECT_THAT(proposal.rules, HasSubstr("\"app:product:{id}\"   # primary key; 3 of 4 keys in Redis begin with 'app:product:'\n"));
  EXPECT_THAT(proposal.rules, HasSubstr("\"app:product:slug:{slug}\"   # unique; 1 of 4 keys in Redis begins with 'app:product:slug:'\n"));
  EXPECT_THAT(proposal.rules, HasSubstr("\"category:{category_id}\"   # a guess: what lists the rows of one public.categories\n"));
  EXPECT_THAT(proposal.rules, HasSubstr("\"order_line:{order_id}:{line}\"   # primary key; a guess: none of 4 keys in Redis begins with 'order_line:'\n"));
  const auto rules = RuleSet::parse(proposal.rules, "rules.yaml");
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(rules->rules().size(), 2u);
  EXPECT_EQ(proposal.config, "# Proposed by 'evictd init' for database shop. Next: evictd check -c evictd.yaml\npostgres:\n"
                             "  url: \"postgresql://localhost/shop\"\nredis:\n  url: \"redis://localhost\"\nrules: rules.yaml\n");
}

TEST(Proposal, WhatCannotBeProposedIsNamedWithTheReasonAndBreaksNothing) {
  ProposalSources sources;
  SurveyedTable unlogged = table("visits", {"id"});
  unlogged.is_unlogged = true;
  SurveyedTable bare = table("log", {});
  SurveyedTable strange = table("evil\nkeys: [x]", {"id"});
  SurveyedTable column = table("c", {"a\tb"});
  sources.survey.tables = {unlogged, bare, strange, column};
  const Proposal proposal = propose(sources);
  EXPECT_EQ(proposal.tables, 0u);
  EXPECT_EQ(proposal.left_out, 4u);
  EXPECT_THAT(proposal.rules, HasSubstr("# public.visits: unlogged"));
  EXPECT_THAT(proposal.rules, HasSubstr("# public.log: it has no primary key"));
  EXPECT_THAT(proposal.rules, HasSubstr("# public.evil?keys: [x]: its name"));
  EXPECT_THAT(proposal.rules, Not(HasSubstr("\nkeys: [x]")));
  EXPECT_THAT(proposal.reasons, HasSubstr("# public.c: the name of column 'a?b'"));
  sources.survey.tables.push_back(table("products", {"id"}));
  const std::string rules = propose(sources).rules;
  EXPECT_TRUE(RuleSet::parse(rules, "rules.yaml")) << rules;
}

TEST(Proposal, NamesWithAnySignAreWrittenAsRulesReadThem) {
  ProposalSources sources;
  SurveyedTable odd = table("Odd \"name\"", {"a b", "c\"}"});
  odd.schema = "app.v1";
  odd.unique_columns = {"über"};
  odd.foreign_keys = {{"to {x}", "public", "{brace}s"}};
  sources.survey.tables = {odd};
  const Proposal proposal = propose(sources);
  EXPECT_EQ(proposal.tables, 1u);
  const auto rules = RuleSet::parse(proposal.rules, "rules.yaml");
  ASSERT_TRUE(rules) << rules.error().to_string() << proposal.rules;
  EXPECT_EQ(rules->rules()[0].schema, "app.v1");
  EXPECT_EQ(rules->rules()[0].table, "Odd \"name\"");
  EXPECT_EQ(rules->rules()[0].patterns[0].glob, "Odd \"name\":*:*");
}

TEST(Proposal, NoKeyBeginsAsTheSetsOfTagsDo) {
  ProposalSources sources;
  SurveyedTable products = table("products", {"id"});
  products.foreign_keys = {{"category_id", "public", "categories"}};
  sources.survey.tables = {products, table("tags", {"id"}), table("tag", {"id"})};
  const std::string rules = propose(sources).rules;
  EXPECT_THAT(rules, HasSubstr("\"tags:{id}\""));
  EXPECT_THAT(rules, HasSubstr("\"tag_row:{id}\""));
  EXPECT_THAT(rules, Not(HasSubstr("\"tag:{id}\"")));
}

TEST(Proposal, ARedisThatWasNotReachedIsNotCalledEmpty) {
  ProposalSources sources;
  sources.survey.tables = {table("products", {"id"})};
  EXPECT_THAT(propose(sources).rules, HasSubstr("a guess: Redis has no key to compare with"));
  sources.is_redis_seen = false;
  EXPECT_THAT(propose(sources).rules, HasSubstr("a guess: Redis was not reached, and its keys were not compared with"));
}

TEST(Proposal, SingularIsAGuess) {
  EXPECT_EQ(singular("categories"), "category");
  EXPECT_EQ(singular("boxes"), "box");
  EXPECT_EQ(singular("products"), "product");
  EXPECT_EQ(singular("status"), "status");
  EXPECT_EQ(singular("address"), "address");
  EXPECT_EQ(singular("news"), "new");
  EXPECT_EQ(singular("s"), "s");
}

}  // namespace
}  // namespace evictd
