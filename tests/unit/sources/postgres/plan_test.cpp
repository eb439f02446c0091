#include "daemon/sources/postgres/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/sources/postgres/publishing.h"
#include "daemon/flow/ledger.h"
#include "tests/unit/sources/postgres/facts.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PlanTest : public ::testing::Test {
 protected:
  Facts facts = healthy_facts();
  PostgresOptions options;
  std::vector<std::string> tables = {"public.products", "public.orders"};
  std::optional<Record> record = make_record();  // what a cache has
  std::string epoch = "7/1";
  bool slot_predates_publication = false;

  static Record make_record() {
    Record result;
    result.epoch = "7/1";
    result.source_identity = "16384/evictd";
    result.acknowledged[kOnlyStream] = 1000;
    result.tables = published_tables(healthy_facts());
    return result;
  }
  PlanInput input() const { return PlanInput{&options, &tables, &facts, slot_predates_publication}; }
  Plan plan() {
    auto made = make_plan(input());
    EXPECT_TRUE(made) << made.error().to_string();
    return made ? *made : Plan{};
  }
  std::string error() {
    auto made = make_plan(input());
    EXPECT_FALSE(made);
    return made ? "" : made.error().to_string();
  }
  // What the cache misses, by its record.
  std::vector<Gap> gaps() {
    Ledger ledger("0000000000000000", std::chrono::milliseconds(200));
    ledger.found(record);
    return ledger.judge(source_facts(input(), plan(), epoch));
  }
  std::string gap() {
    const std::vector<Gap> found = gaps();
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? "" : found[0].reason;
  }
};

TEST_F(PlanTest, AHealthyServerNeedsNothing) {
  const Plan made = plan();
  EXPECT_THAT(gaps(), IsEmpty());
  EXPECT_FALSE(made.has_work());
  EXPECT_THAT(made.problems, IsEmpty());
}

TEST_F(PlanTest, TheFirstStartIsNoGap) {
  record.reset();
  facts.slot = SlotFacts{};
  facts.publication = PublicationFacts{};
  for (auto& [name, table] : facts.tables) unpublish(table);
  const Plan made = plan();
  EXPECT_THAT(gaps(), IsEmpty());
  EXPECT_TRUE(made.create_publication);
  EXPECT_TRUE(made.create_slot);
  EXPECT_FALSE(made.drop_slot);
  EXPECT_THAT(made.tables_to_publish, ElementsAre("public.products", "public.orders"));
}

TEST_F(PlanTest, WhatASlotOfOurOwnMayHaveBeenThroughIsAGap) {
  facts.slot.confirmed = Lsn{1001};
  EXPECT_EQ(gap(), "slot_moved");
  record->acknowledged.clear();  // nothing is known of where it stood
  EXPECT_THAT(gaps(), IsEmpty());
  facts.slot.confirmed = Lsn{999};  // a crash of the server forgets a little: it sends it again
  record->acknowledged[kOnlyStream] = 1000;
  EXPECT_THAT(gaps(), IsEmpty());
}

TEST_F(PlanTest, ALogThatEndsBeforeWhatIsOnRecordIsAnotherOne) {
  facts.server.wal_end = facts.slot.confirmed = Lsn{999};
  EXPECT_EQ(gap(), "epoch_changed");
}

TEST_F(PlanTest, EachLossHasItsReason) {
  epoch = "7/2";
  EXPECT_EQ(gap(), "epoch_changed");
  epoch = "7/1";
  record->source_identity = "1/other";
  EXPECT_EQ(gap(), "source_changed");
  record->source_identity = "16384/evictd";
  facts.slot.is_lost = true;
  EXPECT_EQ(gap(), "slot_lost");
  EXPECT_TRUE(plan().drop_slot);
  EXPECT_TRUE(plan().create_slot);
  facts.slot = SlotFacts{};
  EXPECT_EQ(gap(), "slot_missing");
  EXPECT_FALSE(plan().drop_slot);
  EXPECT_TRUE(plan().create_slot);
  facts = healthy_facts();
  record.reset();
  EXPECT_EQ(gap(), "record_missing");
  EXPECT_FALSE(plan().has_work());
}

TEST_F(PlanTest, APublicationYoungerThanTheSlotCostsTheSlot) {
  slot_predates_publication = true;
  EXPECT_EQ(gap(), "publication_missing");
  EXPECT_TRUE(plan().drop_slot);
  EXPECT_TRUE(plan().create_slot);
  EXPECT_FALSE(plan().create_publication);
}

TEST_F(PlanTest, TableGapsNameTheirTables) {
  facts.tables["public.products"].table.oid = 101;
  Plan made = plan();
  ASSERT_EQ(gaps().size(), 1u);
  EXPECT_EQ(gaps()[0].reason, "table_recreated");
  EXPECT_THAT(gaps()[0].tables, ElementsAre("public.products"));
  facts = healthy_facts();

  unpublish(facts.tables["public.orders"]);
  made = plan();
  ASSERT_EQ(gaps().size(), 1u);
  EXPECT_EQ(gaps()[0].reason, "unpublished");
  EXPECT_THAT(made.tables_to_publish, ElementsAre("public.orders"));
  facts = healthy_facts();

  record->tables.erase("public.orders");
  made = plan();
  ASSERT_EQ(gaps().size(), 1u);
  EXPECT_EQ(gaps()[0].reason, "table_added");
  EXPECT_EQ(gaps()[0].detail, "the rules name tables that were not followed until now: 'public.orders'");
  EXPECT_TRUE(gaps()[0].is_expected);
  unpublish(facts.tables["public.orders"]);  // a table new to the rules is published first
  made = plan();
  ASSERT_EQ(gaps().size(), 1u);
  EXPECT_EQ(gaps()[0].reason, "table_added");
  EXPECT_THAT(made.tables_to_publish, ElementsAre("public.orders"));
}

TEST_F(PlanTest, PartitionsThatCameWithRowsOrWentAreAGap) {
  TableFacts& products = facts.tables["public.products"];
  products.table.kind = 'p';
  RelationFacts member = products.table;
  member.oid = 300;
  member.kind = 'r';
  products.members = {member};
  record->tables = published_tables(facts);
  EXPECT_THAT(gaps(), IsEmpty());

  RelationFacts another = member;
  another.oid = 301;
  another.is_born_partition = true;
  products.members.push_back(another);
  EXPECT_THAT(gaps(), IsEmpty());
  products.members[1].is_born_partition = false;  // attached, with whatever rows it had
  EXPECT_EQ(gap(), "partitions_changed");
  products.members = {another};  // the old one is gone
  products.members[0].oid = 300;
  EXPECT_THAT(gaps(), IsEmpty());
  products.members.clear();
  EXPECT_EQ(gap(), "partitions_changed");
  products.members = {member, another};  // also across a restart: the record tells as much
  EXPECT_THAT(gaps(), IsEmpty());
  record->tables["public.products"] = "100";  // an older record tells of the table alone
  products.members.clear();
  EXPECT_THAT(gaps(), IsEmpty());
  products.table.oid = 101;
  EXPECT_EQ(gap(), "table_recreated");
}

TEST_F(PlanTest, WhatWasPublishedInAnotherWayForATimeIsAGap) {
  TableFacts& products = facts.tables["public.products"];
  products.table.ways = {{7, false, "100>7:731,"}};
  record->tables = published_tables(facts);
  EXPECT_THAT(gaps(), IsEmpty());
  products.table.ways[0].steps = "100>7:745,";  // detached and attached again, here or further up
  EXPECT_EQ(gap(), "unpublished");
  products.table.ways.insert(products.table.ways.begin(), {100, true, "in 2200:712"});
  record->tables = published_tables(facts);
  products.table.ways[0].steps = "in 2200:746";
  EXPECT_EQ(gap(), "unpublished");
  products.table.ways.insert(products.table.ways.begin(), {100, false, ""});  // by its own name: nothing else matters
  record->tables = published_tables(facts);
  products.table.ways[1].steps = products.table.ways[2].steps = "x";
  EXPECT_THAT(gaps(), IsEmpty());
}

TEST_F(PlanTest, WhatIsPublishedWithTheRulesTableMayBeMoved) {
  TableFacts& products = facts.tables["public.products"];
  products.table.kind = 'p';
  products.table.ways = {{100, true, "in 2200:712"}};
  RelationFacts member = products.table;
  member.oid = 300;
  member.kind = 'r';
  member.ways = {{300, true, "in 2200:713"}, {100, true, "300>100:714,in 2200:712"}};
  products.members = {member};
  record->tables = published_tables(facts);
  products.members[0].ways[0].steps = "in 2200:750";
  EXPECT_THAT(gaps(), IsEmpty());
  RelationFacts born = member;  // moved to where it is published after its first row
  born.oid = 301;
  born.is_born_partition = true;
  born.ways = {{301, true, "in 2200:751"}};
  products.members.push_back(born);
  EXPECT_EQ(gap(), "partitions_changed");
  products.members[1].is_born_in_schema = true;
  EXPECT_THAT(gaps(), IsEmpty());
}

TEST_F(PlanTest, ATableThatWasInAnotherSchemaForATimeIsAGapWhateverElseWasAltered) {
  RelationFacts& products = facts.tables["public.products"].table;
  products.placed_by = "2200:712";
  record->tables = published_tables(facts);
  products.placed_by = "2200:731";
  products.owner = 11;
  EXPECT_EQ(gap(), "table_changed");
  // A record that does not tell of that is compared by what it tells.
  std::string& before = record->tables["public.products"];
  before = before.substr(0, before.size() - 2 * 17);
  EXPECT_THAT(gaps(), IsEmpty());
  products.file = 4711;
  EXPECT_EQ(gap(), "table_changed");
}

// G7: an application's UPDATE and DELETE fail on a published table without a replica identity.
TEST_F(PlanTest, ATableWithoutIdentityIsNeverPublished) {
  TableFacts& orders = facts.tables["public.orders"];
  unpublish(orders);
  orders.table.columns = {column("id")};
  const Plan made = plan();
  EXPECT_THAT(made.tables_to_publish, IsEmpty());
  EXPECT_THAT(made.problems,
              ElementsAre("table 'public.orders' has no replica identity and cannot be published: "
                          "ALTER TABLE public.orders REPLICA IDENTITY FULL;"));
}

TEST_F(PlanTest, WhatWeMayNotChangeIsAProblem) {
  facts.publication.is_ours = false;
  facts.publication.truncates = false;
  unpublish(facts.tables["public.orders"]);
  facts.tables.erase("public.products");
  EXPECT_THAT(
      plan().problems,
      ElementsAre(
          "table 'public.products' does not exist",
          "table 'public.orders' is not in publication 'evictd', which is not ours to change: "
          "ALTER PUBLICATION evictd ADD TABLE ONLY public.orders;",
          "publication 'evictd' does not publish truncate: ALTER PUBLICATION evictd SET (publish = 'insert, update, delete, truncate');"));
  facts.publication.inserts = false;
  facts.other_tables = {"shop.products"};
  EXPECT_EQ(plan().problems.front(), "table 'public.products' does not exist: did you mean 'shop.products'?");
  EXPECT_THAT(plan().problems.back(), ::testing::StartsWith("publication 'evictd' does not publish insert, truncate: ALTER"));
}

TEST_F(PlanTest, RowsThatTheFilterLeavesOutAreAProblem) {
  facts.tables["public.orders"].table.row_filter = "(id > 5)";
  EXPECT_THAT(plan().problems,
              ElementsAre("publication 'evictd' sends only rows of 'public.orders' where (id > 5): other rows are never invalidated; "
                          "publish it without a row filter"));
}

TEST_F(PlanTest, KindsThatAreNotDecodedAreProblems) {
  unpublish(facts.tables["public.orders"]);
  facts.tables["public.orders"].table.kind = 'm';
  EXPECT_THAT(plan().problems,
              ElementsAre("'public.orders' is not a table: its changes are not decoded"));
  facts.tables["public.orders"].table.kind = 'r';
  facts.tables["public.orders"].table.is_unlogged = true;
  EXPECT_THAT(plan().problems,
              ElementsAre("table 'public.orders' is unlogged: its changes are not decoded: "
                          "ALTER TABLE public.orders SET LOGGED;"));
}

TEST_F(PlanTest, AStandbyIsNotReadFromWhateverItsVersion) {
  facts.server.is_standby = true;
  for (const int version : {150'020, 160'009, 180'000}) {  // from 16 on it would be decoded
    facts.server.version = version;
    EXPECT_EQ(error(),
              "expected a primary server, got a standby\n"
              "hint: connect to the primary; with several hosts in postgres.url add "
              "target_session_attrs=read-write");
  }
}

TEST_F(PlanTest, WhatNoWaitingHelpsIsUsage) {
  facts.slot.plugin = "wal2json";
  EXPECT_EQ(error(),
            "slot 'evictd': expected plugin 'pgoutput', got 'wal2json'\n"
            "hint: choose another name in postgres.slot, or drop that slot, "
            "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before");
  facts = healthy_facts();
  facts.slot.database = "other";
  EXPECT_EQ(error(),
            "slot 'evictd': expected database 'shop', got 'other'\n"
            "hint: slot names are unique in a whole server: choose another one in postgres.slot, "
            "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before");
  facts = healthy_facts();
  facts.slot.two_phase = true;
  EXPECT_EQ(error(),
            "slot 'evictd' has two_phase on: changes would come before their commit\n"
            "hint: drop the slot, evictd creates it as it needs it, "
            "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before");
  facts = healthy_facts();
  facts.publication = PublicationFacts{};
  for (auto& [name, table] : facts.tables) unpublish(table);
  facts.tables["public.orders"].table.is_owned = false;
  EXPECT_EQ(error(),
            "cannot create publication 'evictd': role 'evictd' does not own public.orders\n"
            "hint: as a superuser, or as an owner of the tables who may CREATE in the database: CREATE PUBLICATION evictd FOR TABLE ONLY public.products, ONLY "
            "public.orders;");
  facts = healthy_facts();
  facts.publication = PublicationFacts{};
  options.temporary_slot = true;
  EXPECT_EQ(error(),
            "publication 'evictd' does not exist, and nothing is created for watching\n"
            "hint: `evictd run` creates it; or CREATE PUBLICATION as a person who owns the tables");
}

TEST_F(PlanTest, WatchingChangesNothing) {
  options.temporary_slot = true;
  unpublish(facts.tables["public.orders"]);
  facts.slot = SlotFacts{};
  const Plan made = plan();
  EXPECT_TRUE(made.create_slot);
  EXPECT_THAT(gaps(), IsEmpty());
  EXPECT_THAT(made.tables_to_publish, IsEmpty());
  EXPECT_THAT(made.problems,
              ElementsAre("table 'public.orders' is not in publication 'evictd': its changes are not seen"));
}

// Before the application's first migration.
TEST_F(PlanTest, APublicationWithoutTablesIsMadeWhileThereAreNone) {
  record.reset();
  facts.slot = SlotFacts{};
  facts.publication = PublicationFacts{};
  facts.tables.clear();
  const Plan made = plan();
  EXPECT_TRUE(made.create_publication);
  EXPECT_THAT(made.relations_to_publish, IsEmpty());
  EXPECT_THAT(made.problems, ElementsAre("table 'public.products' does not exist", "table 'public.orders' does not exist"));
  EXPECT_EQ(create_publication_statement("evictd", {}, 170000), "CREATE PUBLICATION evictd;");
}

// From PostgreSQL 18 on: UPDATE and DELETE would fail for the application (G7).
TEST_F(PlanTest, ATableIsNotPublishedWhoseReplicaIdentityHoldsAGeneratedColumnThatIsNotSent) {
  RelationFacts& orders = facts.tables["public.orders"].table;
  unpublish(facts.tables["public.orders"]);
  orders.identity = 'f';
  orders.columns[1].is_generated = orders.columns[1].breaks_identity = orders.columns[1].in_identity = true;
  EXPECT_THAT(plan().relations_to_publish, IsEmpty());
  EXPECT_THAT(plan().problems, ElementsAre("table 'public.orders' has a replica identity with a generated column that the publication does not send ('slug') and "
                                           "cannot be published: ALTER PUBLICATION evictd SET (publish_generated_columns = stored);"));
  orders.columns[1].is_virtual = true;
  EXPECT_THAT(plan().problems, ElementsAre("table 'public.orders' has a replica identity with a virtual generated column ('slug') and cannot be published: ALTER "
                                           "TABLE public.orders REPLICA IDENTITY DEFAULT; which wants a primary key, or REPLICA IDENTITY USING INDEX of a unique one"));
  // Somebody did, or the column came later.
  orders.is_published = facts.tables["public.orders"].is_published = true;
  EXPECT_THAT(plan().warnings, ElementsAre(::testing::StartsWith("'public.orders' is in publication 'evictd' and has a replica identity with a virtual generated "
                                                                 "column ('slug'): PostgreSQL refuses UPDATE and DELETE on it: ")));
}

TEST(PlanStatements, APublicationOfANewerServerSendsGeneratedColumns) {
  EXPECT_EQ(create_publication_statement("evictd", {{"public", "products"}}, 180000),
            "CREATE PUBLICATION evictd FOR TABLE ONLY public.products WITH (publish_generated_columns = stored);");
}

TEST(PlanStatements, AFullReplicaIdentityIsNotAdvisedWhereItWouldMakeWritesFail) {
  RelationFacts relation = table("orders", 200).table;
  EXPECT_EQ(full_identity_fix(relation, "My Pub"), "ALTER TABLE public.orders REPLICA IDENTITY FULL;");
  relation.full_refused_by = "debezium";
  EXPECT_EQ(full_identity_fix(relation, "My Pub"), "ALTER TABLE public.orders REPLICA IDENTITY FULL; but not before publication 'debezium' sends all its "
                                                   "columns, or UPDATE and DELETE on it fail");
  relation.full_refused_by.clear();
  relation.columns[1].is_generated = relation.columns[1].breaks_identity = true;
  EXPECT_EQ(full_identity_fix(relation, "My Pub"), "ALTER PUBLICATION \"My Pub\" SET (publish_generated_columns = stored); "
                                                   "ALTER TABLE public.orders REPLICA IDENTITY FULL;");
  relation.columns[1].is_virtual = true;
  EXPECT_THAT(full_identity_fix(relation, "My Pub"), ::testing::HasSubstr("ALTER TABLE public.orders REPLICA IDENTITY USING INDEX ...;"));
}

TEST(PlanStatements, NamesAreQuotedWhereTheyMustBe) {
  EXPECT_EQ(add_relations_statement("evictd", {{"public", "products"}}),
            "ALTER PUBLICATION evictd ADD TABLE ONLY public.products;");
  EXPECT_EQ(add_relations_statement("My\"pub", {{"My Shop", "Prod.ucts"}, {"a.b", "c"}}),
            "ALTER PUBLICATION \"My\"\"pub\" ADD TABLE ONLY \"My Shop\".\"Prod.ucts\", ONLY \"a.b\".c;");
}

}  // namespace
}  // namespace evictd::testing
