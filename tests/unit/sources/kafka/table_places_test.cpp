// Which tables an event acts for, and when the database is asked.
#include "daemon/sources/kafka/table_places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }

Relation relation(const std::string& table) {
  Relation made;
  made.schema = "public";
  made.table = table;
  return made;
}

TableTree below_items() { return {{{"public.child", {{"public", "items"}}}}, {}}; }

class TablePlacesTest : public testing::Test {
 protected:
  TablePlacesTest() { places.set_tables({"public.items", "public.users"}); }
  TablePlaces::Question ask(SteadyTime now) {
    auto question = places.asks(now);
    EXPECT_TRUE(question);
    return question.value_or(TablePlaces::Question{});
  }

  TablePlaces places{true};
};

TEST_F(TablePlacesTest, WithoutADatabaseNothingIsAskedAndNothingWaits) {
  TablePlaces alone(false);
  alone.set_tables({"public.items"});
  EXPECT_FALSE(alone.asks(at(0)));
  EXPECT_EQ(alone.due(), SteadyTime::max());
  EXPECT_FALSE(alone.waits());
  EXPECT_FALSE(alone.must_wait_for(relation("other"), at(0)));
  EXPECT_FALSE(alone.waits());
}

TEST_F(TablePlacesTest, NothingIsHandedOutBeforeTheFirstAnswer) {
  EXPECT_TRUE(places.waits());
  const auto question = ask(at(0));
  EXPECT_EQ(question.below, (std::set<std::string>{"public.items", "public.users"}));
  EXPECT_FALSE(places.asks(at(100))) << "one at a time";
  EXPECT_EQ(places.due(), SteadyTime::max());
  EXPECT_FALSE(places.answered(question, fail(ErrorKind::kConnection, "connection refused"), at(100)));
  EXPECT_TRUE(places.waits());
  EXPECT_EQ(places.problem(), "the tables of the database that 'postgres_url' names: connection refused");
  EXPECT_EQ(places.due(), at(101));
  EXPECT_TRUE(places.answered(ask(at(101)), below_items(), at(102)));
  EXPECT_FALSE(places.waits());
  EXPECT_EQ(places.problem(), "");
  EXPECT_EQ(places.due(), at(162));
  EXPECT_TRUE(places.above().contains("public.child"));
}

TEST_F(TablePlacesTest, AnAnswerAboutOtherRulesIsNone) {
  const auto question = ask(at(0));
  places.set_tables({"public.orders"});
  EXPECT_FALSE(places.answered(question, below_items(), at(1)));
  EXPECT_TRUE(places.waits());
  EXPECT_EQ(ask(at(1)).below, std::set<std::string>{"public.orders"});
}

TEST_F(TablePlacesTest, OtherRulesAreAskedForAtOnceAndWaitedFor) {
  places.answered(ask(at(0)), below_items(), at(0));
  places.must_wait_for(relation("other"), at(1));
  places.answered(ask(at(1)), below_items(), at(1));
  places.set_tables({"public.users"});
  EXPECT_TRUE(places.waits());
  places.answered(ask(at(2)), below_items(), at(2));
  EXPECT_TRUE(places.must_wait_for(relation("other"), at(2))) << "it may lie below these";
}

TEST_F(TablePlacesTest, TheFirstEventOfATableThatIsNewWaitsForItsPlace) {
  places.answered(ask(at(0)), below_items(), at(0));
  EXPECT_FALSE(places.must_wait_for(relation("items"), at(1)));
  EXPECT_FALSE(places.must_wait_for(relation("child"), at(1)));
  EXPECT_TRUE(places.must_wait_for(relation("new"), at(1)));
  EXPECT_TRUE(places.waits());
  EXPECT_EQ(places.due(), at(1));
  const auto question = ask(at(1));
  EXPECT_TRUE(places.must_wait_for(relation("newer"), at(2)));
  places.answered(question, below_items(), at(3));
  EXPECT_FALSE(places.must_wait_for(relation("new"), at(3)));
  EXPECT_TRUE(places.waits()) << "this one came after the question";
  EXPECT_EQ(places.due(), at(3));
  places.answered(ask(at(3)), below_items(), at(4));
  EXPECT_FALSE(places.waits());
}

TEST_F(TablePlacesTest, ATableThatWaitsGoesOnWaitingWhereThereIsNoAnswer) {
  places.answered(ask(at(0)), below_items(), at(0));
  places.must_wait_for(relation("new"), at(1));
  places.answered(ask(at(1)), fail(ErrorKind::kConnection, "away"), at(1));
  EXPECT_TRUE(places.waits());
  EXPECT_FALSE(places.asks(at(1)));
  EXPECT_EQ(ask(at(2)).placed, std::set<std::string>{"public.new"});
}

TEST_F(TablePlacesTest, OfTooManyTablesThePlacesAreForgotten) {
  places.answered(ask(at(0)), below_items(), at(0));
  for (std::size_t i = 0; i <= TablePlaces::kPlacedMax; ++i) places.must_wait_for(relation("t" + std::to_string(i)), at(1));
  places.answered(ask(at(1)), below_items(), at(1));
  EXPECT_FALSE(places.must_wait_for(relation("t0"), at(1)));
  places.must_wait_for(relation("one_more"), at(2));
  places.answered(ask(at(2)), below_items(), at(2));
  EXPECT_FALSE(places.must_wait_for(relation("one_more"), at(2)));
  EXPECT_TRUE(places.must_wait_for(relation("t0"), at(2)));
}

TEST_F(TablePlacesTest, ATopicCarriesWhatItHasShownAndWhatItIsNamedAfter) {
  places.answered(ask(at(0)), below_items(), at(0));
  const auto named = places.tables_of("shop.public.items", nullptr, true);
  EXPECT_THAT(named.tables, ElementsAre("public.items"));
  EXPECT_TRUE(named.are_all);
  EXPECT_THAT(places.tables_of("shop.public.child", nullptr, true).tables, ElementsAre("public.items"));
  TopicTraits traits;
  traits.tables = {"public.users", "public.child", "public.other"};
  EXPECT_THAT(places.tables_of("all", &traits, false).tables, ElementsAre("public.items", "public.users"));
  traits.tables = {"public.other"};
  EXPECT_TRUE(places.tables_of("all", &traits, false).is_none());
}

TEST_F(TablePlacesTest, ATopicOfWhichNothingIsKnownMayCarryAny) {
  const auto unknown = places.tables_of("all", nullptr, false);
  EXPECT_THAT(unknown.tables, IsEmpty());
  EXPECT_FALSE(unknown.are_all);
  EXPECT_FALSE(unknown.is_none());
  TopicTraits traits;
  traits.tables = {"public.other"};
  traits.has_more_tables = true;
  EXPECT_FALSE(places.tables_of("shop.public.items", &traits, true).is_none()) << "some were forgotten";
  EXPECT_THAT(places.tables_of("shop.public.items", &traits, true).tables, IsEmpty());
}

TEST_F(TablePlacesTest, ARowFilterRefusesReadiness) {
  TableTree tree = below_items();
  tree.filtered = {"public.child"};
  places.answered(ask(at(0)), tree, at(0));
  EXPECT_EQ(places.problem(),
            "the connector's publication leaves out rows of 'public.child' (a row filter): their changes never reach Kafka");
}

}  // namespace
}  // namespace evictd
