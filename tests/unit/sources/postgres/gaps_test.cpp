// G6: whatever part of the stream is lost, the source says so before it streams past it.
#include <algorithm>
#include <gmock/gmock.h>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PostgresGapTest : public SourceTest {
 protected:
  // Streams once, so that there is a slot and a record, then stops.
  Record make_history(const std::vector<std::string>& tables) {
    stream(tables);
    if (HasFatalFailure()) return {};
    EXPECT_TRUE(driver->until([&] { return journal().keepalive.value != 0; }));
    const Record result = record();
    EXPECT_TRUE(driver->stop());
    driver.reset();
    return result;
  }

  // Streaming again after exactly one gap.
  void expect_gap(const std::string& reason, const std::string& detail,
                  const std::vector<std::string>& tables = {}) {
    ASSERT_TRUE(driver->until_connected()) << explain();
    ASSERT_EQ(journal().gaps.size(), 1u) << explain();
    EXPECT_EQ(journal().gaps[0].gap.reason, reason);
    EXPECT_THAT(journal().gaps[0].gap.detail, HasSubstr(detail));
    EXPECT_EQ(journal().gaps[0].gap.tables, tables);
    EXPECT_TRUE(journal().gaps[0].before_streaming);
  }

  void again(const std::vector<std::string>& tables, const std::optional<Record>& last) {
    make(tables, options());
    driver->start(last);
  }

  PostgresOptions watchful() {
    PostgresOptions result = options();
    result.watch_interval = std::chrono::milliseconds(100);
    return result;
  }
};

TEST_F(PostgresGapTest, AHealthyRestartIsNoGap) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("insert into products values (1)");
  again({"public.products"}, last);
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_TRUE(journal().gaps.empty()) << explain();
}

TEST_F(PostgresGapTest, NothingIrreversibleHappensBeforeTheGapIsOnRecord) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("select pg_drop_replication_slot('" + slot + "')");
  again({"public.products"}, last);
  journal().proceeds = false;
  ASSERT_TRUE(driver->until([&] { return journal().has_gap("slot_missing"); })) << explain();
  driver->turn_for(std::chrono::milliseconds(300));
  EXPECT_EQ(slot_value("slot_name"), "");
  EXPECT_FALSE(journal().connected);
  source->proceed({});
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_EQ(slot_value("slot_name"), slot);
  EXPECT_EQ(journal().gaps.size(), 1u) << explain();
}

TEST_F(PostgresGapTest, MissingSlotWithARecordIsAGap) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("select pg_drop_replication_slot('" + slot + "')");
  again({"public.products"}, last);
  expect_gap("slot_missing", "slot '" + slot + "' no longer exists");
}

TEST_F(PostgresGapTest, SlotWithoutARecordIsAGap) {
  sql->run("create table products (id int primary key)");
  make_history({"public.products"});
  again({"public.products"}, std::nullopt);
  expect_gap("record_missing", "this cache has no record");
}

TEST_F(PostgresGapTest, SlotMovedByAnotherConsumerIsAGap) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("insert into products values (1)");
  sql->run("select pg_replication_slot_advance('" + slot + "', pg_current_wal_lsn())");
  again({"public.products"}, last);
  expect_gap("slot_moved", "was moved from ");
}

TEST_F(PostgresGapTest, SlotDroppedAndMadeAnewByAnOperatorIsAGap) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("select pg_drop_replication_slot('" + slot + "')");
  sql->run("insert into products values (1)");
  sql->run("select pg_create_logical_replication_slot('" + slot + "', 'pgoutput')");
  again({"public.products"}, last);
  expect_gap("slot_moved", "which this cache has not on record");
}

// A peer moves the slot as it works; another consumer takes changes away from us.
TEST_F(PostgresGapTest, SlotMovedByAForeignerWeWaitedForIsAGap) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  auto thief =
      std::make_unique<PostgresSession>(server->session(database + " replication=database"));
  thief->begin("START_REPLICATION SLOT \"" + slot +
               "\" LOGICAL 0/0 (proto_version '1', publication_names 'evictd')");
  again({"public.products"}, last);
  ASSERT_TRUE(driver->until([&] {
    return slot_value("active") == "t" && !journal().standbys.empty();
  })) << explain();
  EXPECT_THAT(journal().standbys.back(), HasSubstr("(test, 127.0.0.1)"));
  thief.reset();
  for (int i = 0; i < 500 && slot_value("active") == "t"; ++i) ::poll(nullptr, 0, 10);
  sql->run("insert into products values (1)");
  sql->run("select pg_replication_slot_advance('" + slot + "', pg_current_wal_lsn())");
  expect_gap("slot_moved", "was moved from ");
}

TEST_F(PostgresGapTest, AnotherHistoryIsAGap) {
  sql->run("create table products (id int primary key)");
  Record last = make_history({"public.products"});
  last.epoch = "1234567890/1";
  again({"public.products"}, last);
  expect_gap("epoch_changed", "expected server '1234567890/1', got '");
}

TEST_F(PostgresGapTest, AnotherDatabaseIsAGap) {
  sql->run("create table products (id int primary key)");
  Record last = make_history({"public.products"});
  last.source_identity = "1/evictd";
  again({"public.products"}, last);
  expect_gap("source_changed", "expected database and slot '1/evictd'");
}

TEST_F(PostgresGapTest, MissingPublicationIsAGapAndTheSlotIsMadeAnew) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("drop publication evictd");
  sql->run("insert into products values (1)");  // cannot be decoded any more: its publication is
                                                // not there yet
  again({"public.products"}, last);
  expect_gap("publication_missing", "publication 'evictd' did not exist for a time");
  sql->run("insert into products values (2)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.products new(id=2)"));
}

TEST_F(PostgresGapTest, PublicationMadeAnewByAnOperatorIsAGap) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  sql->run("drop publication evictd");
  sql->run("insert into products values (1)");
  sql->run("create publication evictd for table products");
  again({"public.products"}, last);
  ASSERT_TRUE(driver->until([&] {
    return journal().has_gap("publication_missing") && journal().connected;
  })) << explain();
  sql->run("insert into products values (2)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=2)"); }))
      << explain();
}

TEST_F(PostgresGapTest, PublicationDroppedWhileStreamingIsAGap) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  sql->run("drop publication evictd");
  sql->run("insert into products values (1)");
  EXPECT_TRUE(driver->until([&] {
    return journal().has_gap("publication_missing") && journal().connects == 2;
  })) << explain();
  sql->run("insert into products values (2)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=2)"); }))
      << explain();
}

TEST_F(PostgresGapTest, TableRecreatedWhileAwayIsAGapOfThatTable) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  const Record last = make_history({"public.products", "public.orders"});
  sql->run("drop table products; create table products (id int primary key)");
  again({"public.products", "public.orders"}, last);
  expect_gap("table_recreated", "'public.products'", {"public.products"});
  sql->run("insert into products values (7)");
  EXPECT_TRUE(driver->until_changes(1)) << explain();
}

TEST_F(PostgresGapTest, TableRecreatedWhileStreamingIsFoundPublishedAndAGap) {
  sql->run("create table products (id int primary key)");
  make({"public.products"}, watchful());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("drop table products; create table products (id int primary key)");
  ASSERT_TRUE(driver->until([&] {
    return journal().has_gap("table_recreated") && journal().connects == 2;
  })) << explain();
  sql->run("insert into products values (7)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=7)"); }))
      << explain();
}

TEST_F(PostgresGapTest, TableTakenOutOfThePublicationComesBackAsAGap) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  make({"public.products", "public.orders"}, watchful());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("alter publication evictd drop table products");
  ASSERT_TRUE(driver->until([&] {
    return journal().has_gap("unpublished") && journal().connects == 2;
  })) << explain();
  EXPECT_THAT(journal().gaps[0].gap.tables, ElementsAre("public.products"));
  sql->run("insert into products values (7)");
  EXPECT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=7)"); }))
      << explain();
}

// A transaction that wrote before its table was published, and commits after: its changes are not
// in the stream.
TEST_F(PostgresGapTest, ATransactionOpenWhileItsTableIsPublishedIsPurgedOnceMore) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  make({"public.products", "public.orders"}, watchful());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  auto writer = server->session(database);
  writer.run("begin");
  sql->run("alter publication evictd drop table products");
  writer.run("insert into products values (1)");
  ASSERT_TRUE(driver->until([&] {
    return journal().has_gap("unpublished") && journal().connects == 2;
  })) << explain();
  driver->turn_for(std::chrono::milliseconds(1'500));
  EXPECT_EQ(journal().gaps.size(), 1u);
  writer.run("commit");
  ASSERT_TRUE(driver->until([&] { return journal().gaps.size() == 2; })) << explain();
  EXPECT_EQ(journal().gaps[1].gap.reason, "unpublished");
  EXPECT_FALSE(journal().gaps[1].before_streaming);
}

TEST_F(PostgresGapTest, TableWeMayNotPublishRefusesReadinessAndIsAGapWhenItComesBack) {
  sql->run(
      "create table products (id int primary key); create table orders (id int primary key);"
      "create publication evictd for table products, orders");
  make_role("plain_repl", "login replication");
  user = "plain_repl";
  make({"public.products", "public.orders"}, watchful());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("alter publication evictd drop table products");
  ASSERT_TRUE(driver->until([&] { return source->status().problem.has_value(); })) << explain();
  EXPECT_EQ(*source->status().problem,
            "table 'public.products' is not in publication 'evictd', which is not ours to change: "
            "ALTER PUBLICATION evictd ADD TABLE ONLY public.products;");
  EXPECT_TRUE(journal().gaps.empty());
  sql->run("alter publication evictd add table products");
  ASSERT_TRUE(driver->until([&] {
    return journal().has_gap("table_added") && journal().connected;
  })) << explain();
  EXPECT_TRUE(driver->until([&] { return !source->status().problem.has_value(); })) << explain();
}

// G7: publishing it would break the application's own UPDATE and DELETE.
TEST_F(PostgresGapTest, TableRecreatedWithoutAKeyIsNotPublished) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  make({"public.products", "public.orders"}, watchful());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("drop table products; create table products (id int)");
  ASSERT_TRUE(driver->until([&] { return source->status().problem.has_value(); })) << explain();
  EXPECT_EQ(*source->status().problem,
            "table 'public.products' has no replica identity and cannot be published: "
            "ALTER TABLE public.products REPLICA IDENTITY FULL;");
  sql->run("insert into products values (1); update products set id = 2; delete from products");
}

// G7: it is the publication that breaks them, so somebody has to read of it. A partition does not inherit its root's FULL.
TEST_F(PostgresGapTest, PublishedTableThatLosesItsIdentityIsToldAndStaysServed) {
  sql->run("create table products (id int) partition by list (id); alter table products replica identity full;"
           "create table first partition of products for values in (1); alter table first replica identity full");
  make({"public.products"}, watchful());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("create table second partition of products for values in (2)");
  const auto is_told = [&] {
    return std::any_of(notices.begin(), notices.end(), [](const PostgresNotice& notice) {
      return notice.is_warning && notice.text ==
             "'public.second' is in publication 'evictd' and has no replica identity: PostgreSQL refuses UPDATE and DELETE on it: "
             "ALTER TABLE public.second REPLICA IDENTITY FULL;";
    });
  };
  EXPECT_TRUE(driver->until(is_told)) << explain();
  EXPECT_FALSE(source->status().problem.has_value());
}

TEST_F(PostgresGapTest, NewTableOfAReloadIsPublishedAndAGapOfThatTable) {
  sql->run("create table products (id int primary key); create table orders (id int primary key)");
  stream({"public.products"});
  source->set_tables({"public.products", "public.orders"});
  ASSERT_TRUE(driver->until([&] { return journal().connects == 2 && journal().connected; }))
      << explain();
  ASSERT_EQ(journal().gaps.size(), 1u);
  EXPECT_THAT(journal().gaps[0].gap.tables, ElementsAre("public.orders"));
  sql->run("insert into orders values (1)");
  EXPECT_TRUE(driver->until_changes(1)) << explain();
}

class PostgresSmallWalTest : public PostgresGapTest {
 protected:
  void SetUp() override {
    std::string why;
    own_ = PostgresServer::make(
        why,
        {{"max_slot_wal_keep_size", "1MB"}, {"min_wal_size", "32MB"}, {"max_wal_size", "32MB"}});
    EVICTD_NEEDS_POSTGRES(own_, why);
    server = own_.get();
    database = server->make_database();
    slot = "slot_" + database;
    sql = std::make_unique<PostgresSession>(server->session(database));
  }
  void TearDown() override {
    PostgresGapTest::TearDown();
    sql.reset();
    own_.reset();
  }
  std::unique_ptr<PostgresServer> own_;
};

TEST_F(PostgresSmallWalTest, LostSlotIsAGapAndIsMadeAnew) {
  sql->run("create table products (id int primary key)");
  const Record last = make_history({"public.products"});
  auto neighbour = server->session();
  for (int i = 0; i < 8; ++i)
    neighbour.run("select pg_switch_wal(); create table noise" + std::to_string(i) +
                  " as select 1");
  neighbour.run("checkpoint");
  ASSERT_EQ(slot_value("wal_status"), "lost");
  again({"public.products"}, last);
  expect_gap("slot_lost", "slot '" + slot + "' is lost: more WAL than max_slot_wal_keep_size");
  EXPECT_NE(slot_value("wal_status"), "lost");
  sql->run("insert into products values (1)");
  EXPECT_TRUE(driver->until_changes(1)) << explain();
  ASSERT_TRUE(driver->until([&] { return source->status().slot_safe_wal_bytes.has_value(); }))
      << explain();
}

}  // namespace
}  // namespace evictd::testing
