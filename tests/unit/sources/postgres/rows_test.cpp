// What reaches the rules: partitions by their root, shapes that change in mid-stream, texts that do
// not depend on the settings of a role.
#include <gmock/gmock.h>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using PostgresRowsTest = SourceTest;

constexpr const char* kPartitioned =
    "create table events (id int, region text, note text, primary key (id, region)) partition by "
    "list (region);"
    "create table events_eu partition of events for values in ('eu');"
    "create table events_us partition of events for values in ('us');";

TEST_F(PostgresRowsTest, PartitionsAppearAsTheirRoot) {
  sql->run(kPartitioned);
  stream({"public.events"});
  sql->run("insert into events values (1, 'eu', 'a')");
  sql->run("update events set region = 'us'");
  sql->run("truncate events_us");
  ASSERT_TRUE(driver->until_changes(4)) << explain();
  EXPECT_THAT(
      journal().all_changes(),
      ElementsAre("insert public.events new(id=1 region=eu note=a)",
                  "delete public.events old(id=1 region=eu note=-)",
                  "insert public.events new(id=1 region=us note=a)", "truncate public.events"));
}

TEST_F(PostgresRowsTest, APartitionMadeLaterIsItsRootFromItsFirstRow) {
  sql->run(kPartitioned);
  stream({"public.events"});
  sql->run("create table events_asia partition of events for values in ('asia')");
  sql->run("insert into events values (1, 'asia', 'a')");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.events new(id=1 region=asia note=a)"));
  EXPECT_TRUE(journal().gaps.empty()) << explain();
}

TEST_F(PostgresRowsTest, PartitionsOfPartitionsAppearAsTheMappedTable) {
  sql->run(
      "create table events (id int, region text, day date, primary key (id, region, day)) "
      "partition by list (region);"
      "create table events_eu partition of events for values in ('eu') partition by range (day);"
      "create table events_eu_24 partition of events_eu for values from ('2024-01-01') to "
      "('2025-01-01');");
  stream({"public.events"});
  sql->run("insert into events values (1, 'eu', '2024-05-06')");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.events new(id=1 region=eu day=2024-05-06)"));
}

// P12, P13: rows that come or go with a partition send no change.
TEST_F(PostgresRowsTest, AttachedAndDetachedPartitionsPurgeAndNewEmptyOnesDoNot) {
  sql->run(kPartitioned);
  PostgresOptions chosen = options();
  chosen.watch_interval = std::chrono::milliseconds(100);
  make({"public.events"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();

  const std::map<std::string, std::string> before = journal().tables;
  sql->run("create table events_asia partition of events for values in ('asia')");
  ASSERT_TRUE(driver->until([&] { return journal().tables != before; })) << explain();
  EXPECT_TRUE(journal().gaps.empty()) << explain();
  EXPECT_EQ(journal().connects, 1) << "what has only grown needs no new stream";

  sql->run(
      "create table loaded (id int, region text, note text, primary key (id, region)); insert into "
      "loaded values (9, 'af', 'x')");
  sql->run("alter table events attach partition loaded for values in ('af')");
  ASSERT_TRUE(driver->until([&] { return journal().gaps.size() == 1 && journal().connected; }))
      << explain();
  EXPECT_EQ(journal().gaps[0].gap.reason, "partitions_changed");
  EXPECT_THAT(journal().gaps[0].gap.tables, ElementsAre("public.events"));

  sql->run("alter table events detach partition events_us");
  ASSERT_TRUE(driver->until([&] { return journal().gaps.size() == 2 && journal().connected; }))
      << explain();
}

TEST_F(PostgresRowsTest, TablesOfASharedPublicationThatNobodyMapsPassByTheirOwnName) {
  sql->run(
      "create table products (id int primary key); create table other (id int primary key);"
      "create publication evictd for table products, other");
  stream({"public.products"});
  sql->run("insert into other values (1)");
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.other new(id=1)", "insert public.products new(id=1)"));
}

TEST_F(PostgresRowsTest, ShapesChangeInMidTransaction) {
  sql->run("create table products (id int primary key, slug text)");
  stream({"public.products"});
  sql->run(
      "begin; insert into products values (1, 'a'); alter table products rename slug to name;"
      " alter table products add extra int default 7; insert into products values (2, 'b'); "
      "commit");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.products new(id=1 slug=a)",
                          "insert public.products new(id=2 name=b extra=7)"));
  EXPECT_EQ(std::count_if(journal().relations.begin(), journal().relations.end(),
                          [](const auto& entry) { return !entry.second; }),
            1);
}

// P8: rows of a transaction lie where they were written, not where it committed.
TEST_F(PostgresRowsTest, RowsOfALateCommitLieBeforeThoseOfAnEarlierOne) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  auto slow = server->session(database);
  slow.run("begin; insert into products values (1)");
  sql->run("insert into products values (2)");
  slow.run("insert into products values (3); commit");
  sql->run("insert into products values (4)");
  ASSERT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=4)"); }));
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.products new(id=2)", "insert public.products new(id=1)",
                          "insert public.products new(id=3)", "insert public.products new(id=4)"));
}

// P14: the settings of a role would change the text of values, and so the keys.
TEST_F(PostgresRowsTest, SettingsOfTheRoleDoNotChangeTexts) {
  make_role("odd", "login superuser");
  sql->run(
      "alter role odd set datestyle = 'SQL, DMY'; alter role odd set timezone = 'Asia/Tokyo';"
      " alter role odd set bytea_output = 'escape'; alter role odd set extra_float_digits = -10;"
      " alter role odd set intervalstyle = 'iso_8601'");
  sql->run(
      "create table t (id int primary key, d date, tz timestamptz, raw bytea, f float8, i "
      "interval)");
  user = "odd";
  stream({"public.t"});
  sql->run(
      "insert into t values (1, '2024-02-03', '2024-02-03 04:05:06+00', '\\xDEAD', 0.1::float8 + "
      "0.2::float8, '1 day 2 hours')");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(
      journal().all_changes(),
      ElementsAre("insert public.t new(id=1 d=2024-02-03 tz=2024-02-03 04:05:06+00 raw=\\xdead"
                  " f=0.30000000000000004 i=1 day 02:00:00)"));
}

TEST_F(PostgresRowsTest, NamesWithCapitalsQuotesAndDotsWork) {
  sql->run(
      "create schema \"My Shop\"; create table \"My Shop\".\"Prod\"\"ucts\" (id int primary key)");
  PostgresOptions chosen = options();
  chosen.publication = "Odd \"name's";
  make({"My Shop.Prod\"ucts"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("insert into \"My Shop\".\"Prod\"\"ucts\" values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert My Shop.Prod\"ucts new(id=1)"));
}

TEST_F(PostgresRowsTest, DomainsReadLikeTheirBaseType) {
  sql->run(
      "create domain flag as boolean; create domain flag2 as flag; create table t (id int primary "
      "key, a flag, b flag2)");
  stream({"public.t"});
  sql->run("insert into t values (1, true, false)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  const Relation* relation = journal().relations.begin()->first;
  EXPECT_EQ(relation->columns[1].type, ValueType::kBoolean);
  EXPECT_EQ(relation->columns[2].type, ValueType::kBoolean);
}

// G5: a key built from the other text would delete nothing.
TEST_F(PostgresRowsTest, DomainsOfColumnsAddedWhileStreamingReadLikeTheirBaseType) {
  sql->run("create table t (id int primary key)");
  stream({"public.t"});
  sql->run("insert into t values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  sql->run(
      "create domain moment as timestamptz; create domain moment2 as moment; create domain moment3 as "
      "moment2; create type mood as enum ('fine');"
      "alter table t add column a moment, add column b moment3, add column c mood");
  sql->run("insert into t values (2, '2024-02-03 04:05:06+00', '2024-02-03 04:05:06+00', 'fine')");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  const Relation* described = nullptr;
  for (const auto& [relation, is_alive] : journal().relations) {
    if (is_alive) described = relation;
  }
  ASSERT_NE(described, nullptr);
  ASSERT_EQ(described->columns.size(), 4u);
  EXPECT_EQ(described->columns[1].type, ValueType::kTimestampTz);
  EXPECT_EQ(described->columns[2].type, ValueType::kTimestampTz);
  EXPECT_EQ(described->columns[3].type, ValueType::kText);
  EXPECT_EQ(journal().connects, 1);
  EXPECT_TRUE(journal().gaps.empty()) << explain();
}

}  // namespace
}  // namespace evictd::testing
