// What is done to followed tables besides changing their rows: what may have changed values without a row in the stream
// is a gap of those tables, also when it was put back at once or done while nobody looked; what changes no value is none.
#include <poll.h>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PostgresDdlTest : public SourceTest {
 protected:
  void SetUp() override {
    SourceTest::SetUp();
    if (!sql) return;
    sql->run(
        "create type mood as enum ('good', 'bad'); create type pair as (a int, b text);"
        "create domain d1 as mood; create domain d2 as d1;"
        "create table t (id int primary key, s text, n numeric, m d2, p pair, ms mood[]);"
        "create table u (id int primary key, v int);"  // without a TOAST table
        "create table ev (id int, v text, primary key (id)) partition by list (id);"
        "create table ev1 partition of ev for values in (1); create table ev2 partition of ev for values in (2);"
        "create table lean (id int primary key) partition by list (id); create table lean1 partition of lean for values in (1);"
        "create table pay (id int primary key, v text); create table cash (primary key (id)) inherits (pay);"
        "create table probe (id int primary key, v text)");
  }
  const std::vector<std::string> kTables = {"public.t", "public.u", "public.ev", "public.lean", "public.pay", "public.probe"};
  std::vector<std::string> followed = kTables;

  PostgresOptions watchful() const {
    PostgresOptions result = options();
    result.watch_interval = std::chrono::milliseconds(50);
    return result;
  }
  void follow() {
    make(followed, watchful());
    driver->start(std::nullopt);
    ASSERT_TRUE(driver->until_connected()) << explain();
  }
  // Each gap so far, "table_changed public.t", in order, but those of the probe.
  std::vector<std::string> gaps() {
    std::vector<std::string> all;
    for (const auto& seen : journal().gaps) {
      for (const std::string& table : seen.gap.tables) {
        if (table != "public.probe") all.push_back(seen.gap.reason + " " + table);
      }
    }
    journal().gaps.clear();
    return all;
  }
  bool has_probe() {
    for (const auto& seen : journal().gaps) {
      for (const std::string& table : seen.gap.tables) {
        if (table == "public.probe") return true;
      }
    }
    return false;
  }
  // What `statement` led to. The catalogue was looked at after it: a later change of the probe was seen.
  std::vector<std::string> gaps_after(const std::string& statement) {
    sql->run(statement);
    return gaps_by_now();
  }
  std::vector<std::string> gaps_by_now() {
    sql->run("alter table probe alter column v type text using v || '.'");
    EXPECT_TRUE(driver->until([&] { return has_probe() && journal().connected.has_value(); })) << explain();
    return gaps();
  }
  // Of a publication with a schema, where not all that rules name, and not all above it, lies in that schema.
  void follow_schema() {
    sql->run(
        "create schema app; create schema archive;"
        "create table app.rt (id int primary key, v text) partition by list (id);"
        "create table rt1 partition of app.rt for values in (1);"
        "create table app.rm (id int primary key, v text) partition by list (id);"
        "create table rm1 partition of app.rm for values in (1, 2) partition by list (id);"
        "create table app.rm11 partition of rm1 for values in (1);"
        "create publication evictd for tables in schema public");
    followed.push_back("app.rt");
    followed.push_back("app.rm");
    follow();
  }
  // Of a partition whose root alone is named by the publication.
  void follow_leaf() {
    sql->run(
        "create table top (id int primary key, v text, w text) partition by list (id);"
        "create table mid partition of top for values in (1, 2) partition by list (id);"
        "create table low partition of mid for values in (1); insert into top values (1, 'a', 'b');"
        "create publication evictd for table top, probe");
    followed = {"public.low", "public.probe"};
    follow();
  }
  // The same, done while evictd was away.
  std::vector<std::string> gaps_after_absence(const std::string& statement) {
    const Record last = record();
    driver->stop();
    sql->run(statement);
    make(followed, watchful());
    driver->start(last);
    EXPECT_TRUE(driver->until_connected()) << explain();
    return gaps();
  }
};

TEST_F(PostgresDdlTest, AnAlteredTableIsLookedAtAsSoonAsItsFirstRowComes) {
  PostgresOptions rarely = options();
  rarely.watch_interval = std::chrono::hours(1);
  make(kTables, rarely);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("alter table u alter column v type bigint using v * 100; insert into u values (1, 1)");
  ASSERT_TRUE(driver->until([&] { return !journal().gaps.empty(); })) << explain();
  EXPECT_THAT(gaps(), ElementsAre("table_changed public.u"));
}

constexpr const char* kHarmless[] = {
    "vacuum full t", "vacuum full pay", "cluster t using t_pkey", "analyze", "vacuum", "reindex table t",
    "grant select on t, u, ev1 to public", "revoke select on t, u, ev1 from public",
    "create index on t (s)", "create index on ev (v)", "comment on table t is 'x'",
    "alter table t set (fillfactor = 70)", "alter table t replica identity full",
    "alter table t replica identity default", "alter table t alter column s set not null",
    "alter table t alter column s set default 'x'", "alter table t alter column s set statistics 10",
    "alter table t add column later text", "alter table pay add column later int default 7",
    "alter table t add constraint positive check (id > 0)", "alter type mood add value 'none'",
    "truncate t, pay", "truncate ev1", "truncate u", "truncate lean",
    "begin; insert into u values (1); truncate u; insert into u values (2); commit",
    "create table ev3 partition of ev for values in (3)",
    "create table ev4 partition of ev for values in (4) partition by range (id)",
    "insert into ev values (3, 'x')",
    // Made below its root, whatever else its transaction writes.
    "create table ev20 partition of ev (v default 'x') for values in (20); insert into ev values (20, 'x')",
    "begin; create table ev21 partition of ev for values in (21); grant select (id) on ev21 to public; insert into ev values (21, 'x'); commit",
    "create table lean20 partition of lean for values in (20); insert into lean values (20)",
    // What writes the same rows of the catalogue as a name does.
    "alter table t alter column s drop not null", "alter table t alter column s drop default",
    "grant select (id, s) on t to public", "revoke select on t from public", "alter table u owner to pg_read_all_data",
    "alter table u owner to current_user", "alter table pay alter column v set storage external",
    "alter table u alter column id add generated by default as identity", "alter table t rename constraint positive to was_positive",
    "alter table u set schema public", "alter table probe add column twice int default 7; alter table probe alter column twice drop default",
};

TEST_F(PostgresDdlTest, WhatChangesNoValueIsNoGap) {
  follow();
  for (const char* statement : kHarmless) {
    // One statement of a script at a time: VACUUM refuses to be part of a transaction.
    EXPECT_THAT(gaps_after(statement), IsEmpty()) << statement;
  }
}

struct Altered {
  const char* statement;
  const char* gap;
};
constexpr Altered kAltered[] = {
    {"alter table t alter column n type numeric using n * 100", "table_changed public.t"},
    {"alter table u alter column v type bigint using v * 2", "table_changed public.u"},
    {"alter table ev alter column v type text using v || 'x'", "table_changed public.ev"},
    {"alter table pay alter column v type text using v || 'x'", "table_changed public.pay"},
    {"alter table t rename column s to s9", "table_changed public.t"},
    {"begin; alter table t rename column s9 to x; alter table t rename column n to s9; alter table t rename column x to n;"
     "commit",
     "table_changed public.t"},
    {"begin; alter table t drop column n; alter table t add column n text; commit", "table_changed public.t"},
    {"alter table u add column r double precision default random()", "table_changed public.u"},
    {"alter table u alter column v type bigint using v * 3", "table_changed public.u"},
    // Refused for what a publication names; a partition is published without being named.
    {"begin; alter table ev1 set unlogged; update ev1 set v = 1; alter table ev1 set logged; commit",
     "table_changed public.ev"},
    {"alter table lean1 set unlogged; alter table lean1 set logged", "table_changed public.lean"},
    {"alter type mood rename value 'bad' to 'poor'", "table_changed public.t"},
    {"alter type pair rename attribute b to c", "table_changed public.t"},
    {"begin; alter table ev detach partition ev1; update ev1 set v = 9; alter table ev attach partition ev1"
     " for values in (1); commit",
     "partitions_changed public.ev"},
    {"alter table cash no inherit pay; alter table cash inherit pay", "partitions_changed public.pay"},
    {"begin; create table ev5 (like ev including all); insert into ev5 values (5, 'x');"
     " alter table ev attach partition ev5 for values in (5); commit",
     "partitions_changed public.ev"},
    {"begin; create table ev22 (like ev including all); insert into ev22 values (22, 'x');"
     " alter table ev attach partition ev22 for values in (22); grant select (id), update (v) on ev22 to public; commit",
     "partitions_changed public.ev"},
    {"drop table ev2", "partitions_changed public.ev"},
    // Renamed and renamed back: what was cached meanwhile was made under the other name.
    {"begin; alter table u rename to u2; alter table u2 rename to u; commit", "table_changed public.u"},
    {"begin; alter table u rename column v to w; alter table u rename column w to v; commit", "table_changed public.u"},
    {"begin; alter table ev rename column v to w; alter table ev rename column w to v; commit", "table_changed public.ev"},
    {"begin; create schema other; alter table pay set schema other; alter table other.pay set schema public; commit",
     "table_changed public.pay"},
    {"begin; alter type mood rename value 'poor' to 'x'; alter type mood rename value 'x' to 'poor'; commit", "table_changed public.t"},
    {"begin; alter type pair rename attribute c to d; alter type pair rename attribute d to c; commit", "table_changed public.t"},
    // Another table takes the place, and gives it back.
    {"begin; create table v (like u including all); alter table u rename to old; alter table v rename to u; alter table u rename to v;"
     " alter table old rename to u; drop table v; commit",
     "table_changed public.u"},
    {"begin; alter publication evictd drop table t; update t set s9 = 2; alter publication evictd add table t; commit",
     "unpublished public.t"},
    {"alter publication evictd set table t where (id > 5), u, ev, lean, only pay, cash, probe;"
     " alter publication evictd set table t, u, ev, lean, only pay, cash, probe",
     "unpublished public.t"},
};

// Row filters came with PostgreSQL 15.
bool is_known(const Altered& altered, PostgresSession& sql) {
  const bool is_filter = std::string_view(altered.statement).find(" where (") != std::string_view::npos;
  return !is_filter || std::stoi(sql.value("show server_version_num")) >= 150000;
}

TEST_F(PostgresDdlTest, WhatMayHaveChangedValuesIsAGapOfItsTable) {
  follow();
  for (const Altered& altered : kAltered) {
    if (!is_known(altered, *sql)) continue;
    EXPECT_THAT(gaps_after(altered.statement), ElementsAre(altered.gap)) << altered.statement;
  }
}

TEST_F(PostgresDdlTest, WhatMayHaveChangedValuesWhileEvictdWasAwayIsAGapOfItsTable) {
  follow();
  for (const Altered& altered : kAltered) {
    if (!is_known(altered, *sql)) continue;
    EXPECT_THAT(gaps_after_absence(altered.statement), ElementsAre(altered.gap)) << altered.statement;
  }
}

TEST_F(PostgresDdlTest, WhatChangesNoValueWhileEvictdIsAwayIsNoGap) {
  follow();
  for (const char* statement : kHarmless) {
    // Without a TOAST table, its file tells no more.
    if (std::string(statement).find("truncate u") != std::string::npos ||
        std::string(statement).find("truncate lean") != std::string::npos)
      continue;
    EXPECT_THAT(gaps_after_absence(statement), IsEmpty()) << statement;
  }
}

constexpr Altered kMoved[] = {
    {"alter table cash set schema archive; update archive.cash set v = 'x'; alter table archive.cash set schema public",
     "unpublished public.pay"},
    {"alter table rt1 set schema archive; update app.rt set v = 'x'; alter table archive.rt1 set schema public", "unpublished app.rt"},
    {"alter table rm1 set schema archive; update app.rm set v = 'x'; alter table archive.rm1 set schema public", "unpublished app.rm"},
    // What else was altered explains no move.
    {"alter table u set schema archive; update archive.u set v = 2; alter table archive.u set schema public;"
     " alter table u alter column v set default 5",
     "unpublished public.u"},
    {"create table archive.coin (primary key (id)) inherits (pay); insert into archive.coin values (7, 'born');"
     " alter table archive.coin set schema public",
     "partitions_changed public.pay"},
};

TEST_F(PostgresDdlTest, WhatLeavesThePublishedSchemaForATimeIsAGap) {
  follow_schema();
  for (const Altered& moved : kMoved) EXPECT_THAT(gaps_after(moved.statement), ElementsAre(moved.gap)) << moved.statement;
}

TEST_F(PostgresDdlTest, WhatLeavesThePublishedSchemaWhileEvictdIsAwayIsAGap) {
  follow_schema();
  for (const Altered& moved : kMoved) EXPECT_THAT(gaps_after_absence(moved.statement), ElementsAre(moved.gap)) << moved.statement;
}

TEST_F(PostgresDdlTest, WhatStaysInThePublishedSchemaIsNoGap) {
  follow_schema();
  constexpr const char* kHarmlessThere[] = {
      "create table coin (more text default 'x', primary key (id)) inherits (pay); insert into coin values (8, 'y')",
      "create table app.rm12 partition of rm1 for values in (2); insert into app.rm values (2, 'x')",
      // Published with its root, wherever it lies.
      "create table archive.ev6 partition of ev for values in (6); insert into ev values (6, 'x'); alter table archive.ev6 set schema public",
      "alter table ev1 set schema archive; update ev set v = 'x'; alter table archive.ev1 set schema public",
      "grant select (id) on cash, rt1, rm1 to public", "vacuum full cash", "vacuum full rt1", "analyze", "comment on table rt1 is 'x'",
      "create index on rt1 (v)", "alter table app.rm add column later text", "alter table cash owner to pg_read_all_data",
      "alter table cash owner to current_user", "alter table cash set schema public", "alter table rt1 rename to rt9",
      "vacuum full pg_class", "vacuum full pg_depend", "vacuum freeze"};
  for (const char* statement : kHarmlessThere) EXPECT_THAT(gaps_after(statement), IsEmpty()) << statement;
  EXPECT_THAT(gaps_after_absence("alter table rt9 rename to rt1; comment on table rt1 is 'y'"), IsEmpty());
}

TEST_F(PostgresDdlTest, WhatIsAttachedAboveARulesPartitionIsAGap) {
  follow_leaf();
  constexpr Altered kAbove[] = {
      {"alter table top detach partition mid; update low set v = 'x'; alter table top attach partition mid for values in (1, 2)",
       "unpublished public.low"},
      {"alter table mid detach partition low; update low set v = 'y'; alter table low alter column w set default 'x';"
       " alter table mid attach partition low for values in (1)",
       "unpublished public.low"},
  };
  for (const Altered& above : kAbove) {
    EXPECT_THAT(gaps_after(above.statement), ElementsAre(above.gap)) << above.statement;
    EXPECT_THAT(gaps_after_absence(above.statement), ElementsAre(above.gap)) << above.statement;
  }
  for (const char* statement : {"create table mid3 partition of top for values in (3)", "create table low2 partition of mid for values in (2)",
                                "alter table top add column z int", "create index on top (v)", "vacuum full low", "analyze",
                                "alter table top alter column v set default 'y'", "grant select on top, mid, low to public"}) {
    EXPECT_THAT(gaps_after(statement), IsEmpty()) << statement;
  }
}

TEST_F(PostgresDdlTest, WhatThePublicationLeftOutForATimeIsAGapOfEveryTable) {
  follow();
  EXPECT_THAT(gaps_after("begin; alter publication evictd set (publish = 'insert'); update t set s = 1;"
                         " alter publication evictd set (publish = 'insert, update, delete, truncate'); commit"),
              ElementsAre("unpublished public.ev", "unpublished public.lean", "unpublished public.pay", "unpublished public.t",
                          "unpublished public.u"));
}

// Without TRUNCATE in the stream, a partition's new file is all there is to see.
TEST_F(PostgresDdlTest, ATruncateThatIsNotSentIsAGap) {
  sql->run("create publication evictd for table t, u, ev, lean, pay, probe with (publish_via_partition_root = true)");
  follow();
  EXPECT_THAT(gaps_after("truncate ev1"), ElementsAre("table_changed public.ev"));
  EXPECT_THAT(gaps_after("truncate t"), IsEmpty());
}

TEST_F(PostgresDdlTest, AColumnThatIsRenamedRefusesReadinessAndIsNamed) {
  PostgresOptions chosen = watchful();
  const auto rules = RuleSet::parse("- {table: t, keys: ['t:{s}', 't:{id}']}", "rules.yaml");
  ASSERT_TRUE(rules);
  chosen.requirements = requirements_of(*rules);
  make(kTables, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_FALSE(source->status().problem) << *source->status().problem;
  sql->run("alter table t rename column s to title");
  ASSERT_TRUE(driver->until([&] { return journal().connected && source->status().problem; })) << explain();
  const std::string problem =
      "rules.yaml:1:21: key 't:{s}' names column 's', which table 'public.t' does not have: did you mean 'ms'?";
  EXPECT_EQ(*source->status().problem, problem);
  EXPECT_THAT(explain(), HasSubstr("not served: " + problem));
  // The others go on, also after a restart.
  const Record last = record();
  make(kTables, chosen);
  driver->start(last);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_EQ(*source->status().problem, problem);
  sql->run("insert into u values (1)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.u new(id=1 v=NULL)"); })) << explain();
  sql->run("alter table t rename column title to s");
  EXPECT_TRUE(driver->until([&] { return journal().connected && !source->status().problem; })) << explain();
}

// The rule was fine for the type that the column had.
TEST_F(PostgresDdlTest, ATypeThatAConditionCanNeverFulfilRefusesReadinessAndStopsNothing) {
  PostgresOptions chosen = watchful();
  const auto rules = RuleSet::parse("- {table: t, keys: ['t:{id}'], where: {n: '1.5'}}", "rules.yaml");
  ASSERT_TRUE(rules);
  chosen.requirements = requirements_of(*rules);
  make(kTables, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_FALSE(source->status().problem) << *source->status().problem;
  sql->run("alter table t alter column n type numeric(10,2)");
  ASSERT_TRUE(driver->until([&] { return journal().connected && source->status().problem; })) << explain();
  const std::string problem = "rules.yaml:1:40: where: 'n' is never '1.5': its type is numeric(10,2)";
  EXPECT_THAT(*source->status().problem, HasSubstr(problem));
  // The others go on, also after a restart.
  const Record last = record();
  make(kTables, chosen);
  driver->start(last);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_THAT(*source->status().problem, HasSubstr(problem));
  sql->run("insert into u values (1)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.u new(id=1 v=NULL)"); })) << explain();
  sql->run("alter table t alter column n type numeric");
  EXPECT_TRUE(driver->until([&] { return journal().connected && !source->status().problem; })) << explain();
}

}  // namespace
}  // namespace evictd::testing
