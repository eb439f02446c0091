// A reload that is compared with the tables, what is told of problems, and texts that are read as they are stored.
#include "daemon/sources/postgres/rules_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/sources/postgres/as_stored.h"
#include "daemon/sources/postgres/slot_wait.h"
#include "daemon/sources/postgres/told_problems.h"
#include "tests/unit/sources/postgres/facts.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }

Requirements requirements(const std::string& table) {
  RuleInfo rule;
  rule.name = rule.table = table;
  rule.schema = "public";
  return Requirements{{rule}, {}, {}};
}

TEST(RulesCheckTest, RulesThatCanBeMetAreTakenOver) {
  RulesCheck check;
  const auto number = check.begins(requirements("orders"), 1);
  EXPECT_EQ(check.take(true, 1), std::nullopt) << "not yet";
  const auto taken = check.compare(number, healthy_facts());
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->rules.at(0).table, "orders");
  const auto answer = check.take(true, 1);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(*answer);
  EXPECT_EQ(check.take(true, 1), std::nullopt) << "once";
}

TEST(RulesCheckTest, RulesThatCannotAreRefused) {
  RulesCheck check;
  EXPECT_EQ(check.compare(check.begins(requirements("gone"), 1), healthy_facts()), std::nullopt);
  const auto answer = check.take(true, 1);
  ASSERT_TRUE(answer);
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().kind, ErrorKind::kUsage);
  EXPECT_THAT(answer->error().text, HasSubstr("public.gone"));
}

TEST(RulesCheckTest, ALaterReloadTakesThePlaceOfAnEarlier) {
  RulesCheck check;
  const auto first = check.begins(requirements("gone"), 1);
  const auto second = check.begins(requirements("orders"), 1);
  EXPECT_EQ(check.compare(first, healthy_facts()), std::nullopt);
  EXPECT_EQ(check.take(true, 1), std::nullopt);
  EXPECT_TRUE(check.compare(second, healthy_facts()));
}

TEST(RulesCheckTest, AConnectionThatIsLostIsAnAnswer) {
  RulesCheck check;
  auto number = check.begins(requirements("orders"), 1);
  auto answer = check.take(true, 2);
  ASSERT_TRUE(answer);
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().kind, ErrorKind::kConnection);
  EXPECT_EQ(check.compare(number, healthy_facts()), std::nullopt) << "somebody was answered otherwise";

  check.begins(requirements("orders"), 2);
  EXPECT_TRUE(check.take(false, 2)) << "nobody can say";

  number = check.begins(requirements("orders"), 3);
  EXPECT_EQ(check.compare(number, fail(ErrorKind::kConnection, "late")), std::nullopt);
  answer = check.take(true, 3);
  ASSERT_TRUE(answer);
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().kind, ErrorKind::kConnection);
}

std::vector<std::string> texts(const std::vector<PostgresNotice>& notices) {
  std::vector<std::string> all;
  for (const PostgresNotice& said : notices) all.push_back((said.is_warning ? "! " : "") + said.text);
  return all;
}

TEST(ToldProblemsTest, EachSentenceWhenItFirstHoldsAndAProblemWhenItNoLongerDoes) {
  ToldProblems told;
  Plan plan;
  plan.problems = {"a"};
  plan.warnings = {"w"};
  EXPECT_THAT(texts(told.tell(plan)), ElementsAre("! not served: a", "! w"));
  EXPECT_THAT(texts(told.tell(plan)), ElementsAre());
  plan.problems = {"b"};
  plan.warnings = {};
  EXPECT_THAT(texts(told.tell(plan)), ElementsAre("! not served: b", "no longer: a"));
  plan.problems = {"a", "b"};
  EXPECT_THAT(texts(told.tell(plan)), ElementsAre("! not served: a")) << "it holds anew";
}

TEST(AsStoredTest, UntilTheServerHasTheTextForAcknowledged) {
  AsStored stored;
  EXPECT_FALSE(stored.is_on());
  stored.begins(Lsn{70});
  stored.unreadable(true);
  stored.begins(Lsn{60});
  stored.streaming(Lsn{500});
  EXPECT_TRUE(stored.is_on());
  EXPECT_FALSE(stored.is_behind(Lsn{70}));
  EXPECT_TRUE(stored.is_behind(Lsn{71}));
  EXPECT_FALSE(stored.is_on());
  EXPECT_FALSE(stored.is_behind(Lsn{72})) << "once";
}

TEST(AsStoredTest, OutsideATransactionItLiesSomewhereBeforeTheEnd) {
  AsStored stored;
  stored.begins(Lsn{70});
  stored.unreadable(false);
  stored.streaming(Lsn{500});
  stored.streaming(Lsn{600});
  EXPECT_FALSE(stored.is_behind(Lsn{500}));
  EXPECT_TRUE(stored.is_behind(Lsn{501}));
}

TEST(AsStoredTest, NeverBeyondTheEndOfTheServersLog) {
  AsStored stored;
  stored.streaming(Lsn{500});
  EXPECT_FALSE(stored.is_on());
  stored.begins(Lsn{900});
  stored.unreadable(true);
  stored.streaming(Lsn{500});  // another server
  EXPECT_TRUE(stored.is_behind(Lsn{501}));
}

TEST(SlotWaitTest, TheOldestTransactionIsNamed) {
  SlotWait wait;
  wait.creating(at(0));
  EXPECT_FALSE(wait.asks(at(4)));
  EXPECT_TRUE(wait.asks(at(5)));
  EXPECT_FALSE(wait.asks(at(10))) << "no answer yet";
  EXPECT_EQ(wait.due(), at(15)) << "and nobody waits for the past";
  wait.answered();
  Blocker oldest;
  oldest.pid = 4711;
  oldest.application = "psql";
  Blocker other;
  other.pid = 4712;
  const auto said = wait.saw("evictd", {oldest, other});
  ASSERT_TRUE(said);
  EXPECT_TRUE(said->is_warning);
  EXPECT_THAT(said->text, HasSubstr("creating slot 'evictd' waits for 2 open transaction(s), the oldest of pid 4711 (psql)"));
  EXPECT_THAT(wait.problem(), HasSubstr("4711"));
  EXPECT_EQ(wait.saw("evictd", {}), std::nullopt);
  EXPECT_EQ(wait.problem(), "");
  wait.saw("evictd", {oldest});
  wait.creating(at(20));
  EXPECT_EQ(wait.problem(), "") << "of another slot";
}

}  // namespace
}  // namespace evictd::testing
