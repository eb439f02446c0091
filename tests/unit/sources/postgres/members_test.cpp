// What lies below the tables that rules name: partitions and INHERITS children, whom their rows are told for, whether
// the publication holds them, and what cannot be followed.
#include <poll.h>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PostgresMembersTest : public SourceTest {
 protected:
  PostgresOptions watchful() const {
    PostgresOptions result = options();
    result.watch_interval = std::chrono::milliseconds(100);
    return result;
  }
  void follow(const std::vector<std::string>& tables) {
    make(tables, watchful());
    driver->start(std::nullopt);
    ASSERT_TRUE(driver->until_connected()) << explain();
  }
};

TEST_F(PostgresMembersTest, AChildOfTwoParentsActsForBoth) {
  sql->run(
      "create table a (id int primary key); create table b (id int primary key);"
      "create table c (primary key (id)) inherits (a, b)");
  stream({"public.a", "public.b"});
  sql->run("insert into c values (1); insert into a values (2)");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.a+public.b new(id=1)", "insert public.a new(id=2)"));
}

TEST_F(PostgresMembersTest, APartitionThatRulesNameActsForItsRootToo) {
  sql->run(
      "create table ev (id int primary key) partition by range (id);"
      "create table ev1 partition of ev for values from (0) to (10) partition by range (id);"
      "create table ev11 partition of ev1 for values from (0) to (10);"
      "create table ev2 partition of ev for values from (10) to (20)");
  stream({"public.ev", "public.ev1", "public.ev11"});
  sql->run("insert into ev values (1), (11)");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.ev11+public.ev+public.ev1 new(id=1)", "insert public.ev new(id=11)"));
}

TEST_F(PostgresMembersTest, AChildMadeLaterActsForAllItsTablesFromItsFirstRow) {
  sql->run("create table ev (id int primary key) partition by range (id);"
           "create table ev1 partition of ev for values from (0) to (10) partition by range (id)");
  stream({"public.ev", "public.ev1"});
  sql->run("create table ev11 partition of ev1 for values from (0) to (10); insert into ev values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.ev1+public.ev new(id=1)"));
}

TEST_F(PostgresMembersTest, AChildMadeLaterIsPublishedAndWhatWasMissedIsAGap) {
  sql->run("create table pay (nr int primary key, ref text)");
  follow({"public.pay"});
  sql->run("create table cheque (primary key (nr)) inherits (pay); insert into cheque values (5, 'r5');"
           "create table giro (primary key (nr)) inherits (cheque)");
  ASSERT_TRUE(driver->until([&] { return journal().has_gap("unpublished") && journal().connected; })) << explain();
  EXPECT_THAT(journal().gaps[0].gap.tables, ElementsAre("public.pay"));
  sql->run("update pay set ref = 'z'; insert into giro values (6, 'g')");
  ASSERT_TRUE(driver->until([&] { return journal().saw("insert public.pay new(nr=6 ref=g)"); })) << explain();
  EXPECT_TRUE(journal().saw("update public.pay new(nr=5 ref=z)")) << explain();
  for (const auto& seen : journal().gaps) EXPECT_EQ(seen.gap.reason, "unpublished");  // and when open transactions end
  EXPECT_FALSE(source->status().problem);
}

TEST_F(PostgresMembersTest, AChildMadeWhileEvictdWasAwayIsPublishedAndAGap) {
  sql->run("create table pay (nr int primary key, ref text)");
  follow({"public.pay"});
  const Record last = record();
  driver->stop();
  sql->run("create table cheque (primary key (nr)) inherits (pay); insert into cheque values (5, 'r5')");
  make({"public.pay"}, watchful());
  driver->start(last);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_TRUE(journal().has_gap("unpublished"));
  sql->run("update pay set ref = 'z'");
  EXPECT_TRUE(driver->until([&] { return journal().saw("update public.pay new(nr=5 ref=z)"); })) << explain();
}

TEST_F(PostgresMembersTest, AChildThatMayNotBePublishedIsNamedWithTheStatementThatHelps) {
  sql->run("create table pay (nr int primary key, ref text); create publication evictd for table pay");
  make_role("plain_repl", "login replication");
  user = "plain_repl";
  follow({"public.pay"});
  sql->run("create table \"Cheque\" (primary key (nr)) inherits (pay)");
  ASSERT_TRUE(driver->until([&] { return source->status().problem.has_value(); })) << explain();
  const std::string problem = *source->status().problem;
  const std::string statement = "ALTER PUBLICATION evictd ADD TABLE ONLY public.\"Cheque\";";
  EXPECT_EQ(problem, "'public.Cheque', which lies below 'public.pay', is not in publication 'evictd', which is not ours to "
                     "change: " + statement);
  sql->run("insert into pay values (1, 'a')");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.pay new(nr=1 ref=a)"); })) << explain();
  sql->run(statement);
  ASSERT_TRUE(driver->until([&] { return journal().connected && !source->status().problem; })) << explain();
  EXPECT_TRUE(journal().has_gap("unpublished"));
  sql->run("insert into \"Cheque\" values (2, 'b')");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.pay new(nr=2 ref=b)"); })) << explain();
}

TEST_F(PostgresMembersTest, WhatCannotBeServedIsNamedAndTheRestIsServed) {
  sql->run(
      "create table ev (id int primary key, v int) partition by list (id);"
      "create table ev1 partition of ev for values in (1);"
      "create unlogged table ev2 partition of ev for values in (2);"
      "create table keyless (id int) partition by list (id);"
      "create foreign data wrapper nowhere; create server s foreign data wrapper nowhere;"
      "create foreign table far partition of keyless for values in (3) server s;"
      "create table near partition of keyless for values in (1); alter table near replica identity full;"
      "create table pay (id int primary key); create unlogged table cheque (primary key (id)) inherits (pay);"
      "create table bare () inherits (pay);"
      "create view seen as select * from ev");
  follow({"public.ev", "public.keyless", "public.pay", "public.seen", "public.nothing"});
  EXPECT_EQ(*source->status().problem,
            "'public.ev2', which lies below 'public.ev', is unlogged: its changes are not decoded: "
            "ALTER TABLE public.ev2 SET LOGGED; "
            "'public.far', which lies below 'public.keyless', is a foreign table: its changes are not decoded; "
            "'public.cheque', which lies below 'public.pay', is unlogged: its changes are not decoded: "
            "ALTER TABLE public.cheque SET LOGGED; "
            "'public.bare', which lies below 'public.pay', has no replica identity and cannot be published: "
            "ALTER TABLE public.bare REPLICA IDENTITY FULL; "
            "'public.seen' is not a table: its changes are not decoded; "
            "table 'public.nothing' does not exist");
  sql->run("insert into ev values (1, 1), (2, 2); insert into keyless values (1); insert into pay values (1); insert into bare values (2);"
           "update bare set id = 3; delete from bare");
  ASSERT_TRUE(driver->until_changes(3)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.ev new(id=1 v=1)", "insert public.keyless new(id=1)",
                                                   "insert public.pay new(id=1)"));
  // Each becomes servable, and what was missed until then is a gap.
  sql->run("alter table ev2 set logged; alter table cheque set logged; alter table bare replica identity full;"
           "drop foreign table far; create table nothing (id int primary key)");
  ASSERT_TRUE(driver->until([&] {
    return journal().connected && source->status().problem == "'public.seen' is not a table: its changes are not decoded";
  })) << explain() << source->status().problem.value_or("no problem");
  EXPECT_TRUE(journal().has_gap("partitions_changed")) << explain();
  EXPECT_TRUE(journal().has_gap("unpublished")) << explain();
  EXPECT_TRUE(journal().has_gap("table_added")) << explain();
  sql->run("insert into ev values (2, 3) on conflict (id) do update set v = 4; insert into cheque values (7);"
           "insert into bare values (8); insert into nothing values (9)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.nothing new(id=9)"); })) << explain();
  EXPECT_TRUE(journal().saw("insert public.pay new(id=7)"));
  EXPECT_TRUE(journal().saw("insert public.pay new(id=8)"));
  EXPECT_TRUE(journal().saw("update public.ev new(id=2 v=4)"));
}

TEST_F(PostgresMembersTest, APartitionWithoutAnIdentityKeepsItsRootOutAndTheOthersAreServed) {
  sql->run(
      "create table ev (id int, v int) partition by list (id);"
      "create table ev1 partition of ev for values in (1); alter table ev1 replica identity full;"
      "create table ev2 partition of ev for values in (2)");
  follow({"public.ev"});
  EXPECT_EQ(*source->status().problem,
            "'public.ev2', which lies below 'public.ev', has no replica identity and cannot be published: "
            "ALTER TABLE public.ev2 REPLICA IDENTITY FULL;");
  sql->run("insert into ev values (1, 1), (2, 2); update ev set v = 9");  // nobody's UPDATE fails
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.ev new(id=1 v=1)"); })) << explain();
}

TEST_F(PostgresMembersTest, EvictdMayBeThereBeforeTheFirstMigration) {
  follow({"public.products", "public.orders"});
  EXPECT_EQ(*source->status().problem, "table 'public.products' does not exist; table 'public.orders' does not exist");
  sql->run("create table products (id int primary key); insert into products values (1)");
  ASSERT_TRUE(driver->until([&] {
    return journal().connected && source->status().problem == "table 'public.orders' does not exist";
  })) << explain();
  EXPECT_TRUE(journal().has_gap("table_added"));
  sql->run("insert into products values (2)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=2)"); })) << explain();
}

TEST_F(PostgresMembersTest, ATableDroppedWhileEvictdWasAwayStopsNoOther) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  follow({"public.products", "public.orders"});
  const Record last = record();
  driver->stop();
  sql->run("drop table orders");
  make({"public.products", "public.orders"}, watchful());
  driver->start(last);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_EQ(*source->status().problem, "table 'public.orders' does not exist");
  sql->run("insert into products values (2)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=2)"); })) << explain();
  sql->run("create table orders (id int primary key)");
  ASSERT_TRUE(driver->until([&] { return journal().connected && !source->status().problem; })) << explain();
  sql->run("insert into orders values (3)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.orders new(id=3)"); })) << explain();
}

TEST_F(PostgresMembersTest, SchemasAndTablesWithDotsAreFollowed) {
  sql->run("create schema \"my.schema\"; create table \"my.schema\".t (id int primary key);"
           "create table \"a.b\" (id int primary key)");
  follow({"my.schema.t", "public.a.b"});
  EXPECT_FALSE(source->status().problem) << *source->status().problem;
  sql->run("insert into \"my.schema\".t values (1); insert into \"a.b\" values (2)");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert my.schema.t new(id=1)", "insert public.a.b new(id=2)"));
}

// Its changes come under the root's name and do not say whose they are.
TEST_F(PostgresMembersTest, ARuleOfAPartitionActsWhenItsRootIsPublishedInItsPlace) {
  sql->run(
      "create table ev (id int primary key) partition by list (id);"
      "create table ev1 partition of ev for values in (1); create table ev2 partition of ev for values in (2);"
      "create publication evictd for table ev with (publish_via_partition_root = true)");
  follow({"public.ev1"});
  EXPECT_FALSE(source->status().problem) << *source->status().problem;
  sql->run("insert into ev values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.ev1 new(id=1)"));
}

TEST_F(PostgresMembersTest, DomainsToAnyDepthReadLikeTheirBaseType) {
  sql->run(
      "create domain b1 as boolean; create domain b2 as b1; create domain b3 as b2; create domain b4 as b3;"
      "create domain m1 as timestamptz; create domain m2 as m1; create domain m3 as m2;"
      "create type mood as enum ('good'); create domain e1 as mood; create domain e2 as e1; create domain e3 as e2;"
      "create domain l1 as boolean[]; create domain l2 as l1; create domain l3 as l2;"
      "create table t (id int primary key, flag b4, at m3, m e3, l l3)");
  std::map<std::string, ValueType> types;
  follow({"public.t"});
  sql->run("insert into t values (1, true, '2024-02-03 04:05:06+00', 'good', '{t}')");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  ASSERT_EQ(journal().relations.size(), 1u);
  for (const Column& column : journal().relations.begin()->first->columns) types[column.name] = column.type;
  EXPECT_EQ(types, (std::map<std::string, ValueType>{{"id", ValueType::kText},
                                                     {"flag", ValueType::kBoolean},
                                                     {"at", ValueType::kTimestampTz},
                                                     {"m", ValueType::kText},
                                                     {"l", ValueType::kText}}));
}

}  // namespace
}  // namespace evictd::testing
