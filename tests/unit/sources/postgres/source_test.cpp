// The source against a real server: streaming, acknowledging, snapshots, waiting.
#include <gmock/gmock.h>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using PostgresSourceTest = SourceTest;

TEST_F(PostgresSourceTest, FirstStartCreatesPublicationAndSlotAndStreams) {
  sql->run("create table products (id int primary key, slug text)");
  stream({"public.products"});
  sql->run("insert into products values (1, 'a'), (2, 'b')");
  sql->run("update products set slug = 'x' where id = 1");
  sql->run("delete from products where id = 2");
  ASSERT_TRUE(driver->until_changes(4));

  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.products new(id=1 slug=a)",
                                                   "insert public.products new(id=2 slug=b)",
                                                   "update public.products new(id=1 slug=x)",
                                                   "delete public.products old(id=2 slug=-)"));
  EXPECT_TRUE(journal().gaps.empty());
  EXPECT_THAT(journal().connected->tables, ::testing::Contains(::testing::Key("public.products")));
  EXPECT_TRUE(journal().connected->has_snapshots);
  EXPECT_EQ(sql->value("select puballtables from pg_publication where pubname = 'evictd'"), "f");
  EXPECT_EQ(slot_value("plugin"), "pgoutput");
}

TEST_F(PostgresSourceTest, AFindingIsAsSevereInTheLogAsInCheck) {
  sql->run("create table products (id int primary key, slug text)");
  const auto rules = RuleSet::parse("- {table: public.products, keys: ['p:{slug}:{nme}']}", "rules.yaml");
  ASSERT_TRUE(rules);
  PostgresOptions chosen = options();
  chosen.requirements = requirements_of(*rules);
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  const auto said = [&](std::string_view id) {
    return std::find_if(notices.begin(), notices.end(), [&](const PostgresNotice& notice) { return notice.text.starts_with(id); });
  };
  ASSERT_TRUE(driver->until([&] { return said("PG018") != notices.end(); })) << explain();
  EXPECT_TRUE(said("PG018")->is_error) << "no such column";
  ASSERT_NE(said("PG019"), notices.end()) << explain();
  EXPECT_FALSE(said("PG019")->is_error) << "the pattern is purged";
}

// The replication protocol has a grammar of its own, without E'...'.
TEST_F(PostgresSourceTest, APublicationMayHaveAnyName) {
  sql->run("create table products (id int primary key)");
  PostgresOptions chosen = options();
  chosen.publication = "o'ne\\two \"three\", four";
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
}

TEST_F(PostgresSourceTest, CommitTimeAndXidAreTheServersOwn) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  sql->run("begin; insert into products values (1)");
  const std::uint64_t xid = std::stoull(sql->value("select pg_current_xact_id()"));
  sql->run("commit");
  ASSERT_TRUE(driver->until_changes(1));
  EXPECT_EQ(number(journal().transactions[0].xid), xid);
  const auto age = read_clocks().system - journal().transactions[0].commit_time;
  EXPECT_LT(age, std::chrono::seconds(60));
  EXPECT_GT(age, std::chrono::seconds(-1));
}

TEST_F(PostgresSourceTest, OnlyWhatWasAcknowledgedIsNotSentAgain) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  journal().acknowledges = false;
  for (int id = 1; id <= 3; ++id)
    sql->run("insert into products values (" + std::to_string(id) + ")");
  ASSERT_TRUE(driver->until_changes(3));
  const Position second = journal().transactions[1].end;
  source->acknowledge(second);
  Record last = record();
  last.acknowledged[kOnlyStream] = second.value;
  ASSERT_TRUE(driver->stop());

  stream({"public.products"}, last);
  ASSERT_TRUE(driver->until_changes(1));
  driver->turn_for(std::chrono::milliseconds(200));
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.products new(id=3)"));
  EXPECT_TRUE(journal().gaps.empty()) << explain();
}

TEST_F(PostgresSourceTest, StopTellsTheServerTheLastPosition) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  const std::uint64_t end = journal().last_commit.value;
  ASSERT_TRUE(driver->stop());
  EXPECT_EQ(slot_value("active"), "f");
  EXPECT_GE(std::stoull(slot_value("confirmed_flush_lsn - '0/0'")), end);
}

TEST_F(PostgresSourceTest, RestartDeliversEverythingUnacknowledgedAgain) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  journal().acknowledges = false;
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  source->restart(read_clocks());
  ASSERT_TRUE(driver->until_changes(2));
  EXPECT_EQ(journal().connects, 2);
  EXPECT_EQ(journal().disconnects.size(), 1u);
  EXPECT_TRUE(journal().standbys.empty()) << "our own last stream is nobody to wait for";
  EXPECT_EQ(journal().all_changes()[0], journal().all_changes()[1]);
  EXPECT_TRUE(journal().gaps.empty());
}

TEST_F(PostgresSourceTest, SnapshotsAreTakenAfterTheyWereAskedFor) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  sql->run("begin; insert into products values (1)");
  const Xid xid{std::stoull(sql->value("select pg_current_xact_id()"))};
  source->request_snapshot();
  ASSERT_TRUE(driver->until([&] { return journal().snapshots.size() == 1; }));
  EXPECT_FALSE(journal().snapshots[0].sees(xid));
  sql->run("commit");
  source->request_snapshot();
  ASSERT_TRUE(driver->until([&] { return journal().snapshots.size() == 2; }));
  EXPECT_TRUE(journal().snapshots[1].sees(xid));
}

// P1: a commit reaches the stream before other sessions can see it.
TEST_F(PostgresSourceTest, ACommitThatHangsBehindItsStandbyArrivesAndIsNotVisible) {
  sql->run(
      "create table products (id int primary key, slug text); insert into products values (1, "
      "'old')");
  stream({"public.products"});
  server->set("synchronous_standby_names", "nobody");
  auto writer = server->session(database);
  writer.begin("update products set slug = 'new'");
  ASSERT_TRUE(driver->until_changes(1));
  const Xid xid = journal().transactions.back().xid;
  source->request_snapshot();
  ASSERT_TRUE(driver->until([&] { return journal().snapshots.size() == 1; }));
  EXPECT_FALSE(journal().snapshots[0].sees(xid));
  EXPECT_EQ(sql->value("select slug from products"), "old");

  server->set("synchronous_standby_names", "");
  writer.finish();
  source->request_snapshot();
  ASSERT_TRUE(driver->until([&] { return journal().snapshots.size() == 2; }));
  EXPECT_TRUE(journal().snapshots[1].sees(xid));
}

TEST_F(PostgresSourceTest, HeartbeatComesBackThroughTheStream) {
  sql->run("create table products (id int primary key)");
  PostgresOptions chosen = options();
  chosen.heartbeat = std::chrono::milliseconds(50);
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  EXPECT_TRUE(driver->until([&] { return journal().heartbeats >= 3; })) << explain();
}

TEST_F(PostgresSourceTest, ARoleThatOnlyReadsByDefaultStillMakesItsPublication) {
  sql->run("create table products (id int primary key)");
  make_role("reads_by_default", "login superuser");
  sql->run("alter role reads_by_default set default_transaction_read_only = on");
  user = "reads_by_default";
  stream({"public.products"});
  EXPECT_EQ(sql->value("select count(*) from pg_publication where pubname = 'evictd'"), "1");
}

// The names of other tables are asked for only to say which one was meant.
TEST_F(PostgresSourceTest, ATableWhoseNameHasNoUtf8KeepsNobodyOut) {
  database += "_western";
  server->make_database(database, "template template0 encoding 'WIN1252' lc_collate 'C' lc_ctype 'C'");
  sql = std::make_unique<PostgresSession>(server->session(database));
  sql->run("create table products (id int primary key)");
  sql->run("do $$ begin execute format('create table %I (id int)', 'x' || chr(129)); end $$");
  stream({"public.products", "public.still_to_come"});
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
}

// One that was not acknowledged comes again with a new connection, however long ago it was sent.
TEST_F(PostgresSourceTest, AHeartbeatOfAnEarlierConnectionIsNoNews) {
  sql->run("create table products (id int primary key)");
  const std::string witness = "witness_" + database;
  sql->run("select pg_create_logical_replication_slot('" + witness + "', 'test_decoding')");
  PostgresOptions chosen = options();
  chosen.heartbeat = std::chrono::hours(1);  // one at the beginning of each stream
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  journal().acknowledges = false;
  ASSERT_TRUE(driver->until([&] { return journal().heartbeats == 1; })) << explain();
  // More than one: the first may be acknowledged by then.
  for (int sent = 2; sent <= 4; ++sent) {
    source->restart(read_clocks());
    ASSERT_TRUE(driver->until([&] {
      return journal().heartbeats >= sent &&
             sql->value("select count(*) from pg_logical_slot_peek_changes('" + witness + "', null, null) where data like '%prefix: evictd%'") ==
             std::to_string(sent);
    })) << explain();
  }
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until([&] { return !journal().all_changes().empty(); })) << explain();
  EXPECT_EQ(journal().heartbeats, 4);
}

// P7: without acknowledged keepalives, a busy neighbour fills the disk.
TEST_F(PostgresSourceTest, IdleDatabaseBesideABusyOneFollowsTheLog) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  auto neighbour = server->session(server->make_database());
  neighbour.run("create table noise as select generate_series(1, 100000) n");
  const std::string head = sql->value("select pg_current_wal_lsn()");
  EXPECT_TRUE(driver->until([&] {
    return slot_value("confirmed_flush_lsn >= '" + head + "'") == "t";
  })) << explain();
  EXPECT_EQ(journal().changes, 0u);
}

TEST_F(PostgresSourceTest, NothingIsAcknowledgedByItself) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  journal().acknowledges = false;
  const std::string before = slot_value("confirmed_flush_lsn");
  sql->run(
      "insert into products values (1); create table noise as select generate_series(1, 10000) n");
  ASSERT_TRUE(driver->until_changes(1));
  driver->turn_for(std::chrono::milliseconds(500));
  ASSERT_TRUE(driver->stop());
  EXPECT_EQ(slot_value("confirmed_flush_lsn"), before);
}

// Backpressure: nothing is taken, and the server still hears from us for much longer than it waits.
TEST_F(PostgresSourceTest, ABigTransactionWaitsWhileThePipelineIsFull) {
  sql->run("create table products (id int primary key, slug text)");
  server->set("wal_sender_timeout", "3s");
  stream({"public.products"});
  journal().keeps_changes = false;
  sql->run(
      "insert into products select g, 'a slug of some length ' || g from generate_series(1, "
      "200000) g");
  ASSERT_TRUE(driver->until([&] { return journal().changes > 1000; }));
  driver->bytes_max = 0;
  driver->turn_for(std::chrono::milliseconds(50));
  const std::size_t taken = journal().changes;
  driver->turn_for(std::chrono::milliseconds(7'000));
  EXPECT_EQ(journal().changes, taken);
  driver->bytes_max = 64 * 1024;
  ASSERT_TRUE(driver->until_changes(200'000)) << explain();
  EXPECT_EQ(journal().connects, 1) << explain();
  EXPECT_EQ(journal().changes, 200'000u);
  server->set("wal_sender_timeout", "60s");
}

TEST_F(PostgresSourceTest, AStepTakesAboutWhatItIsAllowedTo) {
  sql->run("create table products (id int primary key, slug text)");
  stream({"public.products"});
  sql->run("insert into products select g, repeat('x', 100) from generate_series(1, 20000) g");
  driver->bytes_max = 4'000;
  std::size_t most = 0;
  while (journal().changes < 20'000) {
    const std::size_t before = journal().changes;
    driver->turn();
    most = std::max(most, journal().changes - before);
    ASSERT_TRUE(journal().disconnects.empty());
  }
  EXPECT_GT(most, 5u);
  EXPECT_LT(most, 60u);
}

TEST_F(PostgresSourceTest, SecondDaemonWaitsAsStandbyAndTakesOver) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  const Record before = record();
  const std::unique_ptr<Source> first_source = std::move(source);
  const std::unique_ptr<SourceDriver> first = std::move(driver);

  make({"public.products"}, options());
  driver->start(before);
  ASSERT_TRUE(driver->until([&] { return journal().standbys.size() >= 2; })) << explain();
  EXPECT_THAT(journal().standbys[0], HasSubstr("slot '" + slot + "' is in use by pid "));
  EXPECT_THAT(journal().standbys[0], HasSubstr("evictd"));
  EXPECT_EQ(source->status().state, "standby");
  EXPECT_FALSE(source->status().active);

  // The peer works on, so that the slot moves past what we knew.
  sql->run("insert into products values (1)");
  ASSERT_TRUE(first->until_changes(1));
  journal().record = first->journal.record;
  ASSERT_TRUE(first->stop());
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_TRUE(journal().gaps.empty()) << explain();
  sql->run("insert into products values (2)");
  ASSERT_TRUE(driver->until_changes(1));
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.products new(id=2)"));
}

TEST_F(PostgresSourceTest, NewRulesAreComparedWithTheTables) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  stream({"public.products"});
  const auto answer = [this](const std::string& text) {
    const auto rules = RuleSet::parse(text, "rules.yaml");
    EXPECT_TRUE(rules.has_value()) << rules.error().to_string();
    source->check_rules(*rules);
    std::optional<Result<void>> taken;
    EXPECT_TRUE(driver->until([&] { return (taken = source->take_rules_check()).has_value(); })) << explain();
    return !taken || *taken ? std::string() : taken->error().to_string();
  };
  EXPECT_EQ(answer("- {table: orders, keys: ['order:{id}']}\n"), "");
  EXPECT_THAT(answer("- {table: nothing, keys: ['order:{id}']}\n"),
              HasSubstr("rules.yaml:1:3: table 'public.nothing' does not exist in database '" + database + "'"));
  EXPECT_THAT(answer("- {table: orders, keys: ['order:{nr}']}\n"),
              HasSubstr("names column 'nr', which table 'public.orders' does not have"));
  EXPECT_EQ(journal().connects, 1);
  // No answer may stay away: whoever reloads waits for it.
  ASSERT_TRUE(driver->stop());
  EXPECT_THAT(answer("- {table: orders, keys: ['order:{id}']}\n"), HasSubstr("PostgreSQL is not connected"));
}

TEST_F(PostgresSourceTest, ATableThatIsNewToTheRulesIsPublishedAndIsNoLoss) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  stream({"public.products"});
  source->set_tables({"public.products", "public.orders"});
  ASSERT_TRUE(driver->until([&] { return journal().connects == 2; })) << explain();
  ASSERT_EQ(journal().gaps.size(), 1u) << explain();
  EXPECT_TRUE(journal().gaps[0].gap.is_expected);
  EXPECT_TRUE(journal().gaps[0].before_streaming);
  EXPECT_THAT(journal().gaps[0].gap.tables, ElementsAre("public.orders"));
  // Once more for transactions that had begun before.
  ASSERT_TRUE(driver->until([&] { return journal().gaps.size() == 2; })) << explain();
  EXPECT_TRUE(journal().gaps[1].gap.is_expected);
  sql->run("insert into orders values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.orders new(id=1)"));
}

TEST_F(PostgresSourceTest, WatchingUsesATemporarySlotAndTouchesNothing) {
  sql->run(
      "create table products (id int primary key); create publication evictd for table products");
  PostgresOptions chosen = options();
  chosen.temporary_slot = true;
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  EXPECT_EQ(sql->value("select count(*) from pg_replication_slots where database = '" + database +
                       "' and temporary"),
            "1");
  ASSERT_TRUE(driver->stop());
  EXPECT_TRUE(driver->until([&] {
    return sql->value("select count(*) from pg_replication_slots where database = '" + database +
                      "'") == "0";
  }));
}

TEST_F(PostgresSourceTest, SlotCreationSaysWhoItWaitsFor) {
  sql->run("create table products (id int primary key)");
  auto writer = server->session(database);
  writer.run("begin; insert into products values (1)");
  make({"public.products"}, options());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until([&] {
    return std::any_of(notices.begin(), notices.end(),
                       [](const PostgresNotice& notice) { return notice.is_warning; });
  })) << explain();
  EXPECT_THAT(notices.back().text,
              HasSubstr("creating slot '" + slot +
                        "' waits for 1 open transaction(s), the oldest of pid "));
  EXPECT_THAT(notices.back().text, HasSubstr("(test)"));
  EXPECT_THAT(notices.back().hint, HasSubstr("SELECT pg_terminate_backend("));
  EXPECT_EQ(source->status().state, "creating slot");
  EXPECT_THAT(source->status().problem.value_or(""), HasSubstr("waits for 1 open transaction(s)"));
  EXPECT_THAT(source->status().problem.value_or(""), HasSubstr(": SELECT pg_terminate_backend("));
  writer.run("commit");
  EXPECT_TRUE(driver->until_connected()) << explain();
}

TEST_F(PostgresSourceTest, StatusKnowsTheNumbersOfTheSlot) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  ASSERT_TRUE(driver->until([&] { return source->status().slot_retained_bytes.has_value(); }));
  const SourceStatus status = source->status();
  EXPECT_TRUE(status.connected);
  EXPECT_TRUE(status.active);
  EXPECT_EQ(status.state, "streaming");
  EXPECT_TRUE(status.lag_bytes.has_value());
  EXPECT_FALSE(status.slot_safe_wal_bytes.has_value());  // max_slot_wal_keep_size is -1
  EXPECT_FALSE(status.problem.has_value());
}

TEST_F(PostgresSourceTest, ALeastPrivilegedRoleStreamsWhatAnOwnerPrepared) {
  sql->run(
      "create table products (id int primary key); create publication evictd for table products");
  make_role("plain_repl", "login replication");
  user = "plain_repl";
  stream({"public.products"});
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  source->request_snapshot();
  EXPECT_TRUE(driver->until([&] { return !journal().snapshots.empty(); }));
  EXPECT_FALSE(source->status().problem.has_value());
}

}  // namespace
}  // namespace evictd::testing
