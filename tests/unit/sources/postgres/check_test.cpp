// `check`: what each finding says, and that a real server in that state makes it.
#include "daemon/sources/postgres/doctor/check.h"

#include <gmock/gmock.h>

#include "daemon/sources/postgres/doctor/check_server.h"
#include "tests/unit/sources/postgres/facts.h"
#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;

RuleSet rules_of(const std::string& text) {
  auto rules = RuleSet::parse(text, "rules.yaml");
  EXPECT_TRUE(rules) << rules.error().to_string();
  return std::move(*rules);
}
const std::string kProducts = "- {table: public.products, keys: ['product:{id}']}";

const Finding* find(const Findings& findings, const std::string& id) {
  for (const Finding& finding : findings) {
    if (finding.id == id) return &finding;
  }
  return nullptr;
}

std::string ids(const Findings& findings, bool with_infos = true) {
  std::string text;
  for (const Finding& finding : findings) {
    if (!with_infos && finding.severity == Severity::kInfo) continue;
    text += (text.empty() ? "" : " ") + finding.id;
  }
  return text;
}

class JudgeServer : public ::testing::Test {
 protected:
  JudgeServer() {
    check.facts = healthy_facts();
    check.system = "7";
    check.timeline = "1";
    check.slots_max = check.senders_max = 10;
    check.slot_wal_keep_mb = 10'000;
  }
  CheckFacts check;
  PostgresOptions options;
  std::optional<Record> record;
  Findings judge() {
    return judge_server(check, options, rules_of(kProducts), record ? &*record : nullptr);
  }

  // Exactly one finding.
  void expect(const std::string& id, Severity severity, const std::string& object,
              const std::string& cause, const std::string& fix) {
    const Findings found = judge();
    ASSERT_EQ(found.size(), 1u) << ids(found);
    EXPECT_EQ(found[0].id, id);
    EXPECT_EQ(found[0].severity, severity);
    EXPECT_EQ(found[0].object, object);
    EXPECT_EQ(found[0].cause, cause);
    EXPECT_EQ(found[0].fix, fix);
  }
};

TEST(CheckTransport, AHostOfTheEnvironmentIsFarAway) {
  PostgresOptions options;
  options.url = "dbname=shop";
  ::setenv("PGHOST", "nowhere.invalid", 1);
  const Findings findings = check_postgres(options, rules_of(kProducts), nullptr);
  ::unsetenv("PGHOST");
  ASSERT_NE(find(findings, "PG038"), nullptr) << ids(findings);
  EXPECT_EQ(find(findings, "PG038")->object, "nowhere.invalid:5432");
}

TEST_F(JudgeServer, HealthyIsSilent) { EXPECT_EQ(ids(judge()), ""); }

TEST_F(JudgeServer, WalLevel) {
  check.facts.server.wal_level = "replica";
  expect("PG002", Severity::kError, "wal_level", "expected 'logical', got 'replica'",
         "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL");
}
TEST_F(JudgeServer, Role) {
  check.facts.server.role_may_replicate = false;
  EXPECT_EQ(ids(judge()), "") << "the replication connection was accepted";
  check.system = check.timeline = "";
  expect("PG003", Severity::kError, "role 'evictd'", "it may not use replication",
         "ALTER ROLE \"evictd\" REPLICATION;");
}
TEST_F(JudgeServer, Standby) {
  check.facts.server.is_standby = true;
  check.facts.server.version = 160'009;  // decodes there, too
  expect("PG004", Severity::kError, "server",
         "expected a primary server, got a standby, which shows commits that the primary still hides, and does not tell when "
         "another primary, without what is cached, has taken over",
         "connect to the primary; with several hosts in postgres.url add "
         "target_session_attrs=read-write");
}
TEST_F(JudgeServer, NoFreeSlot) {
  check.facts.slot = SlotFacts{};
  check.slots_used = 10;
  check.idle_slot = "old";
  expect("PG005", Severity::kError, "max_replication_slots",
         "all 10 are in use, and slot 'evictd' is still to be created",
         "raise max_replication_slots and restart PostgreSQL; or ask whose the logical slot 'old' is, which is not in use just now: when it is "
         "dropped, its owner misses what it has not read yet");
}
TEST_F(JudgeServer, NoSlotAtAll) {
  check.facts.slot = SlotFacts{};
  check.slots_max = 0;
  expect("PG005", Severity::kError, "max_replication_slots", "it is 0, and slot 'evictd' is still to be created",
         "ALTER SYSTEM SET max_replication_slots = 10; then restart PostgreSQL");
}
TEST_F(JudgeServer, NoFreeSender) {
  check.senders_used = 10;
  expect("PG005", Severity::kError, "max_wal_senders", "all 10 are in use",
         "raise max_wal_senders and restart PostgreSQL");
}
TEST_F(JudgeServer, ForeignSlot) {
  check.facts.slot.plugin = "wal2json";
  expect("PG006", Severity::kError, "slot 'evictd'",
         "expected plugin 'pgoutput' in database 'shop', got 'wal2json' in 'shop'",
         "choose another name in postgres.slot, or drop that slot, "
         "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before");
}
TEST_F(JudgeServer, OfASlotThatRunRefusesNothingIsPromised) {
  const PublicationFacts published = check.facts.publication;
  const SlotFacts good = check.facts.slot;
  SlotFacts foreign = good, of_another_database = good, two_phase = good;
  foreign.plugin = "wal2json";
  of_another_database.database = "other";
  two_phase.two_phase = true;
  for (const SlotFacts& slot : {foreign, of_another_database, two_phase}) {
    check.facts.slot = slot;
    record.emplace();
    record->epoch = "6/1";
    EXPECT_THAT(find(judge(), "PG011")->fix, ::testing::StartsWith("see slot 'evictd': `evictd run` does not start with it"));
    record->epoch = "7/1";
    record->acknowledged[kOnlyStream] = 999;
    EXPECT_EQ(find(judge(), "PG011"), nullptr) << "nobody reads it for us";
    check.facts.publication = PublicationFacts{};
    EXPECT_EQ(find(judge(), "PG014")->fix, "`evictd run` creates it once it can start: see slot 'evictd'");
    check.facts.publication = published;
  }
}
TEST_F(JudgeServer, ActiveSlot) {
  check.facts.slot.is_active = true;
  check.facts.slot.holder = "pid 7 (evictd, 10.0.0.7)";
  expect("PG007", Severity::kWarning, "slot 'evictd'", "in use by pid 7 (evictd, 10.0.0.7)",
         "nothing if that is evictd; another one waits as standby until it is free");
}
TEST_F(JudgeServer, LostSlot) {
  check.facts.slot.is_lost = true;
  check.facts.slot.lost_reason = "wal_removed";
  expect(
      "PG008", Severity::kError, "slot 'evictd'",
      "lost (wal_removed): the changes since 0/3E8 cannot be read any more",
      "`evictd run` creates it anew and purges what the rules cover; raise max_slot_wal_keep_size");
}
TEST_F(JudgeServer, WalLimits) {
  check.slot_wal_keep_mb = -1;
  expect("PG009", Severity::kWarning, "max_slot_wal_keep_size",
         "no limit: while evictd is away, WAL is kept until the disk is full",
         "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; evictd survives the loss of its slot "
         "with a purge");
  check.slot_wal_keep_mb = 100;
  check.facts.slot.safe_wal_bytes = 5 * 1024 * 1024;
  expect("PG009", Severity::kWarning, "slot 'evictd'",
         "5 MiB of WAL may still be written before it is lost",
         "start evictd, or raise max_slot_wal_keep_size");
}
TEST_F(JudgeServer, IdleTimeout) {
  check.idle_slot_timeout_s = 600;
  expect("PG010", Severity::kWarning, "idle_replication_slot_timeout",
         "a stop of evictd for more than 600 s loses its slot",
         "raise it, or accept a purge after a long stop");
}
TEST_F(JudgeServer, History) {
  record.emplace();
  record->epoch = "7/1";
  record->acknowledged[kOnlyStream] = 1000;
  EXPECT_EQ(ids(judge()), "");
  record->acknowledged[kOnlyStream] = 999;
  expect("PG011", Severity::kWarning, "slot 'evictd'", "somebody moved it from 0/3E7 to 0/3E8",
         "`evictd run` says so too, purges what the rules cover, and goes on");
  record->epoch = "6/1";
  expect("PG011", Severity::kWarning, "server", "expected system and timeline '6/1', got '7/1'",
         "`evictd run` says so too, purges what the rules cover, and goes on; if another evictd keeps this Redis true to that "
         "server, give one of them another name in postgres.slot (now 'evictd'), and 'on_first_start: purge' for its first start under it: they "
         "overwrite each other's record");
  record->epoch = "7/1";
  check.facts.slot = SlotFacts{};
  expect("PG011", Severity::kWarning, "slot 'evictd'",
         "evictd used it before, and it no longer exists",
         "`evictd run` says so too, purges what the rules cover, and goes on");
}
TEST_F(JudgeServer, TwoPhase) {
  check.facts.slot.two_phase = true;
  expect("PG012", Severity::kError, "slot 'evictd'",
         "two_phase is on: changes would come before their commit",
         "drop the slot, evictd creates it as it needs it, "
         "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before");
}
TEST_F(JudgeServer, MissingPublication) {
  check.facts.publication = PublicationFacts{};
  expect("PG014", Severity::kWarning, "publication 'evictd'",
         "it does not exist, although the slot does",
         "`evictd run` creates it, makes the slot anew, and purges what the rules cover");
  check.facts.slot = SlotFacts{};
  expect("PG014", Severity::kInfo, "publication 'evictd'",
         "it does not exist yet; `evictd run` creates it", "");
  check.may_create = false;
  expect("PG014", Severity::kError, "publication 'evictd'",
         "it does not exist, and role 'evictd' may not create it",
         "as a superuser, or as an owner of the tables who may CREATE in the database: CREATE PUBLICATION evictd FOR TABLE ONLY public.products;");
}
TEST_F(JudgeServer, UnpublishedTable) {
  unpublish(check.facts.tables["public.products"]);
  expect("PG015", Severity::kInfo, "rules.yaml:1:3",
         "table 'public.products' is not in publication 'evictd'; `evictd run` adds it", "");
  check.facts.publication.is_ours = false;
  expect("PG015", Severity::kError, "rules.yaml:1:3",
         "table 'public.products' is not in publication 'evictd'",
         "ALTER PUBLICATION evictd ADD TABLE ONLY public.products;");
  check.facts.tables.erase("public.products");
  expect("PG015", Severity::kError, "rules.yaml:1:3",
         "table 'public.products' does not exist in database 'shop'",
         "names are matched exactly, without folding to lower case; without a schema, 'public' is "
         "meant");
}
TEST_F(JudgeServer, UnpublishedChildren) {
  TableFacts& products = check.facts.tables["public.products"];
  products.members = {products.table, products.table};
  products.members[0].oid = 300;
  products.members[0].name = {"public", "Old Ones"};
  products.members[0].is_published = false;
  products.members[1].oid = 301;
  expect("PG015", Severity::kInfo, "rules.yaml:1:3",
         "table 'public.Old Ones' is not in publication 'evictd'; `evictd run` adds it", "");
  products.members[0].is_owned = false;
  expect("PG015", Severity::kError, "rules.yaml:1:3", "table 'public.Old Ones' is not in publication 'evictd'",
         "ALTER PUBLICATION evictd ADD TABLE ONLY public.\"Old Ones\";");
}
TEST_F(JudgeServer, UnpublishedOperations) {
  check.facts.publication.deletes = false;
  expect("PG016", Severity::kError, "publication 'evictd'", "it does not publish delete",
         "ALTER PUBLICATION evictd SET (publish = 'insert, update, delete, truncate');");
  check.facts.publication.deletes = true;
  check.facts.publication.truncates = false;
  // As for `run`, which is never ready then: what a TRUNCATE empties would stay in the cache.
  expect("PG016", Severity::kError, "publication 'evictd'", "it does not publish truncate",
         "ALTER PUBLICATION evictd SET (publish = 'insert, update, delete, truncate');");
}
TEST_F(JudgeServer, Encoding) {
  check.facts.server.encoding = "SQL_ASCII";
  expect("PG025", Severity::kWarning, "database 'shop'",
         "its encoding is SQL_ASCII: a transaction with bytes that are not UTF-8 is read twice, and its texts beyond ASCII count as not sent",
         "set postgres.client_encoding: SQL_ASCII");
  options.client_encoding = "SQL_ASCII";
  EXPECT_EQ(ids(judge()), "");
  check.facts.server.encoding = "UTF8";
  EXPECT_EQ(ids(judge()), "");
  check.facts.server.encoding = "WIN1252";
  expect("PG025", Severity::kWarning, "database 'shop'",
         "its encoding is WIN1252, and postgres.client_encoding leaves it so: in keys, texts beyond ASCII are the bytes of WIN1252, and keys of "
         "readers that use UTF-8 stay",
         "remove postgres.client_encoding, unless all readers connect with client_encoding WIN1252");
  options.client_encoding = "";
  EXPECT_EQ(ids(judge()), "");
}
TEST_F(JudgeServer, Pins) {
  check.pins_overridden = {"DateStyle of role \"evictd\""};
  expect("PG026", Severity::kInfo, "DateStyle of role \"evictd\"",
         "it would change the text of values; evictd's sessions pin their own", "");
  check.pins_overridden.clear();
  check.pins_refused = {"DateStyle"};
  expect("PG026", Severity::kWarning, "DateStyle",
         "evictd's session could not set it: keys may be built from other texts",
         "connect to the server itself, without a pooler");
}
TEST_F(JudgeServer, SenderTimeout) {
  check.facts.server.wal_sender_timeout = std::chrono::milliseconds(900);
  expect("PG027", Severity::kWarning, "wal_sender_timeout",
         "it is 900 ms: a short pause of this machine ends the stream",
         "set wal_sender_timeout to 5 s or more");
  check.facts.server.wal_sender_timeout = {};
  EXPECT_EQ(ids(judge()), "");
}
TEST_F(JudgeServer, NoHeartbeat) {
  options.heartbeat = {};
  expect("PG055", Severity::kInfo, "postgres.heartbeat",
         "it is off: what something in between leaves out of the stream is not found, and while nobody writes nothing shows that changes would come",
         "remove it, for every 10 s, unless the database must not be written to");
}
TEST_F(JudgeServer, AsynchronousCommit) {
  check.asynchronous = {"the server"};
  expect(
      "PG028", Severity::kWarning, "the server",
      "synchronous_commit is off: after a crash of the server a cached value may hold what it lost",
      "evictd distrusts values filled before a crash; plain fills need a purge then");
}
TEST_F(JudgeServer, SynchronousStandbys) {
  check.synchronous_standby_names = "a";
  expect("PG029", Severity::kInfo, "synchronous_standby_names",
         "changes arrive before readers can see them; evictd watches for that", "");
  check.synchronous_standby_names = "*";
  expect("PG029", Severity::kWarning, "synchronous_standby_names",
         "'*' may take evictd's own connection for a standby, and commits would wait for it",
         "name the standbys");
}
TEST_F(JudgeServer, OpenTransactions) {
  check.facts.slot = SlotFacts{};
  check.open_transactions = {{42, "psql", 3600, "shop", ""}};
  expect("PG030", Severity::kWarning, "slot 'evictd'",
         "creating it waits for the transaction of pid 42 (psql), open for 3600 s",
         "wait, or end it with SELECT pg_terminate_backend(42);");
}
// PostgreSQL refuses to add a table to a publication of all tables: nobody may say that `run` does it.
TEST_F(JudgeServer, APartitionThatComesAsItsRoot) {
  check.facts.publication.all_tables = true;
  check.facts.publication.via_root = true;
  check.facts.tables["public.products"].is_published = false;
  check.facts.tables["public.products"].table.is_published = false;
  expect("PG015", Severity::kError, "rules.yaml:1:3",
         "table 'public.products' comes under the name of the table above it, since publication 'evictd' is for all "
         "tables and publish_via_partition_root is on",
         "name the table above it in the rule, or ALTER PUBLICATION evictd SET (publish_via_partition_root = false);");
}
TEST_F(JudgeServer, OldMinor) {
  check.facts.server.version = 150'012;
  expect("PG031", Severity::kWarning, "server",
         "PostgreSQL 15.12 can lose changes of open transactions when a table is added to a "
         "publication",
         "upgrade to 15.13 or later");
}
TEST_F(JudgeServer, Clock) {
  check.clock_ahead = std::chrono::milliseconds(-2'500);
  expect("PG033", Severity::kWarning, "clock",
         "the server's clock is 2500 ms behind this machine's: lag is off by as much",
         "keep both clocks with NTP");
}

class PostgresCheckTest : public SourceTest {
 protected:
  Findings check(const std::string& text = kProducts, const Record* record = nullptr) {
    PostgresOptions chosen = options();
    chosen.heartbeat = PostgresOptions().heartbeat;
    return check_postgres(chosen, rules_of(text), record);
  }
};

TEST_F(PostgresCheckTest, AFreshServerNeedsOnlyALimit) {
  sql->run("create table products (id int primary key)");
  const Findings found = check();
  EXPECT_EQ(ids(found), "PG009 PG014") << ids(found);
  EXPECT_EQ(sql->value("select count(*) from pg_publication"), "0");
  EXPECT_EQ(slot_value("slot_name"), "");
}

TEST_F(PostgresCheckTest, AnInstalledOneTooAndTheRoundTripWorks) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  EXPECT_EQ(ids(check()), "PG007 PG009");
  driver->stop();
  EXPECT_EQ(ids(check()), "PG009");
}

TEST_F(PostgresCheckTest, WhatIsWrongIsFound) {
  if (std::stoi(sql->value("show server_version_num")) < 150000) GTEST_SKIP() << "lists of columns and row filters came with PostgreSQL 15";
  sql->run(
      "create table products (id int primary key, slug text, total int generated always as (1) "
      "stored);"
      "create table noted (id int); create table filtered (id int primary key); create view seen "
      "as "
      "select 1 as id;"
      "create table parts (id int primary key) partition by range (id);"
      "create table parts_1 partition of parts for values from (0) to (10);"
      "create publication evictd for table products (id), parts, filtered where (id > 5) with "
      "(publish "
      "= 'insert, truncate');");
  sql->run("alter database " + database + " set datestyle = 'SQL'; alter database " + database +
           " set synchronous_commit = off");
  auto writer = server->session(database);
  writer.run("begin; insert into parts values (1)");
  const Findings found = check(
      "- {table: public.products, on: [insert], keys: ['a:{slug}', 'b:{total}']}\n- {table: "
      "public.noted, keys: ['c:{id}']}\n"
      "- {table: public.seen, keys: ['d:{id}']}\n- {table: public.parts, keys: ['e:{id}']}\n- "
      "{table: public.gone, keys: ['f:{id}']}\n"
      "- {table: public.filtered, keys: ['g:{id}']}\n");
  for (const char* id : {"PG009", "PG015", "PG016", "PG017", "PG018", "PG020", "PG022", "PG023",
                         "PG024", "PG026", "PG028", "PG030"}) {
    EXPECT_NE(find(found, id), nullptr) << id << " not in " << ids(found);
  }
  writer.run("rollback");
}

// Sent under the root's name, rows of a partition are left out by the root's filter, also where a rule names the partition alone.
TEST_F(PostgresCheckTest, AFilterOfTheRootIsOneOfItsPartitions) {
  if (std::stoi(sql->value("show server_version_num")) < 150000) GTEST_SKIP() << "row filters came with PostgreSQL 15";
  sql->run(
      "create table parts (id int primary key) partition by range (id); create table parts_1 partition of parts for values from (0) to (10);"
      "create publication evictd for table parts where (id > 5) with (publish_via_partition_root)");
  for (const char* table : {"parts", "parts_1"}) {
    const Findings found = check(std::string("- {table: public.") + table + ", keys: ['e:{id}']}");
    ASSERT_NE(find(found, "PG017"), nullptr) << table << ": " << ids(found);
    EXPECT_EQ(find(found, "PG017")->severity, Severity::kError);
  }
  sql->run("alter publication evictd set table parts");
  EXPECT_EQ(find(check("- {table: public.parts, keys: ['e:{id}']}"), "PG017"), nullptr);
}

// Each column with texts that its values have, and texts that they never have.
TEST_F(PostgresCheckTest, ConditionsAreHeldAgainstWhatTypesCanHold) {
  sql->run(
      "create type state as enum ('draft', 'it''s live'); create domain flag as boolean; create domain flags as flag;"
      "create domain short as varchar(3); create domain short3 as short; create domain fixed5 as char(5); create domain price as numeric(4,2); create domain ints as int[];"
      "create type address as (city text); create type widths as range (subtype = float8);"
      "create table typed (id int primary key, small smallint, big bigint, price numeric(10,2), any_number numeric, ratio real,"
      " live flags, state state, short varchar(3), code char(3), name text, day date, at timestamp, at_utc timestamptz, key uuid,"
      " doc jsonb, raw bytea, labels text[], stay interval, span int4range, owner regclass, clock time, zoned timetz, ip inet, net cidr, mac macaddr, mask bit(3), number oid,"
      " twice double precision, second timestamp(0), letter \"char\", short_domain short3, fixed_domain fixed5, price_domain price, list_domain ints, numbers int[],"
      " states state[], sure boolean not null, place address, width widths);"
      "alter table typed replica identity full");
  struct Try {
    const char* column;
    const char* possible;
    const char* impossible;
  };
  for (const auto& [column, possible, impossible] : {Try{"small", "-5", "70000"},
                                                     {"big", "9223372036854775807", "1.0"},
                                                     {"price", "'1.50'", "'1.5'"},
                                                     {"any_number", "NaN", "'1,5'"},
                                                     {"ratio", "'1e+20'", "abc"},
                                                     {"live", "true", "yes"},
                                                     {"state", "\"it's live\"", "live"},
                                                     {"short", "abc", "abcd"},
                                                     {"code", "'a  '", "a"},
                                                     {"name", "anything", nullptr},
                                                     {"day", "'2024-02-03'", "'3.2.2024'"},
                                                     {"at", "'2024-02-03T04:05:06.7'", "'2024-02-03 04:05'"},
                                                     {"at_utc", "'2024-02-03T04:05:06Z'", "'2024-02-03T04:05:06+01'"},
                                                     {"key", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99"},
                                                     {"doc", "'{\"a\":1}'", "'{a'"},
                                                     {"raw", "deadbeef", "'\\xdeadbeef'"},
                                                     {"labels", "'{a,b}'", "a"},
                                                     {"clock", "'09:00:00'", "'9:00'"},
                                                     {"zoned", "'09:00:00+00'", "'09:00:00'"},
                                                     {"ip", "'10.0.0.1'", "'10.0.0.1/32'"},
                                                     {"net", "'10.0.0.0/8'", "'10.0.0.0'"},
                                                     {"mac", "'08:00:2b:01:02:03'", "'08-00-2b-01-02-03'"},
                                                     {"mask", "'101'", "'10'"},
                                                     {"number", "'7'", "'-7'"},
                                                     {"twice", "1000", "1e3"},
                                                     {"second", "'2024-02-03T04:05:06'", "'2024-02-03T04:05:06.5'"},
                                                     {"letter", "a", "ab"},
                                                     {"short_domain", "abc", "abcd"},
                                                     {"fixed_domain", "'ab   '", "ab"},
                                                     {"price_domain", "'1.50'", "'100.00'"},
                                                     {"list_domain", "'{1}'", "'{a}'"},
                                                     {"numbers", "'{1,NULL}'", "'{01}'"},
                                                     {"states", "'{draft,\"it''s live\"}'", "'{Draft}'"},
                                                     {"sure", "{not: [true]}", "{not: [true, false]}"},
                                                     {"sure", "true", "null"},
                                                     {"small", "{gt: 32766}", "{gt: 32767}"}}) {
    const std::string rule = std::string("- {table: public.typed, keys: ['t:{id}'], where: {") + column + ": ";
    Findings found = check(rule + possible + "}}");
    EXPECT_EQ(find(found, "PG050"), nullptr) << column << " " << possible << " " << find(found, "PG050")->cause;
    if (impossible == nullptr) continue;
    found = check(rule + impossible + "}}");
    const Finding* finding = find(found, "PG050");
    ASSERT_NE(finding, nullptr) << column << " " << impossible;
    EXPECT_EQ(finding->severity, Severity::kError) << column;
  }
  // Of what has many texts for one value, only the server knows which it prints.
  for (const auto& [column, type] : {std::pair{"stay", "interval"}, {"span", "int4range"}, {"owner", "regclass"}, {"place", "address"}, {"width", "widths"}}) {
    const Findings doubted = check(std::string("- {table: public.typed, keys: ['t:{id}'], where: {") + column + ": '[1,5]'}}");
    const Finding* finding = find(doubted, "PG050");
    ASSERT_NE(finding, nullptr) << column;
    EXPECT_EQ(finding->severity, Severity::kWarning) << column;
    EXPECT_THAT(finding->fix, ::testing::HasSubstr(std::string("SELECT CAST('[1,5]' AS ") + type + ");"));
  }
  const Findings found = check("- {table: public.typed, keys: ['a:{labels.0}', 'b:{labels.*}', 'c:{doc.x.*.y}', 'd:{stay.x}', 'e:{place.city}', 'f:{numbers.*.x}']}");
  EXPECT_EQ(std::count_if(found.begin(), found.end(), [](const Finding& one) { return one.id == "PG050"; }), 4) << ids(found);
  const Findings misspelled = check("- {table: type, keys: ['t:{id}']}");
  EXPECT_EQ(find(misspelled, "PG015")->fix, "did you mean 'public.typed'?");
}

TEST_F(PostgresCheckTest, WhatNoPublicationHoldsIsNamedForWhatItIs) {
  sql->run("create sequence counted");
  const Findings found = check("- {table: public.counted, purge: ['c:*']}\n- {table: pg_catalog.pg_class, purge: ['r:*']}");
  std::vector<std::string> told;
  for (const Finding& finding : found) {
    EXPECT_NE(finding.id, "PG020") << finding.fix;  // no replica identity helps
    if (finding.id == "PG024" || finding.id == "PG015") told.push_back(finding.id + " " + finding.cause + ": " + finding.fix);
  }
  EXPECT_THAT(told, ::testing::UnorderedElementsAre(
                        "PG024 'public.counted' is a sequence: its changes are not decoded: take it out of the rules",
                        "PG024 table 'pg_catalog.pg_class' belongs to PostgreSQL itself: its changes are not decoded: take it out of the rules"));
}

TEST_F(PostgresCheckTest, TextsThatTheDatabaseTakesForEqualAreDoubted) {
  if (sql->value("select exists (select from pg_collation where collname like '%-x-icu')") != "t") GTEST_SKIP() << "this server is built without ICU";
  sql->run(
      "create extension citext; create domain mail as citext; create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
      "create table loosely (id int primary key, kind citext, mail mail, name text collate loose); alter table loosely replica identity full");
  for (const char* column : {"kind", "mail", "name"}) {
    const Findings found = check(std::string("- {table: loosely, keys: ['t:{id}'], where: {") + column + ": draft}}");
    const Finding* finding = find(found, "PG050");
    ASSERT_NE(finding, nullptr) << column;
    EXPECT_EQ(finding->severity, Severity::kWarning) << column;
    EXPECT_THAT(finding->cause, ::testing::HasSubstr(column == std::string("name") ? "its collation makes others equal to it" : "citext makes others equal to it"));
  }
}

// The question itself is tried: what it lacks is what the server says.
TEST_F(PostgresCheckTest, JoinedTablesAreLookedUp) {
  sql->run(
      "create table owners (id uuid primary key, name text); create table orders (id int primary key, user_id int, label text);"
      "create table items (id int primary key, order_id bigint, owner text, tags int[]);"
      "alter table items replica identity full; alter table orders replica identity full; alter table owners replica identity full;"
      "create view seen as select * from orders; create table parts (id int, user_id int) partition by range (id)");
  const auto with = [&](const std::string& via, const std::string& key) {
    return check("- {table: public.items, via: {" + via + "}, keys: ['k:{" + key + "}']}");
  };
  const auto about_lookups = [](const Findings& found) {
    std::string texts;
    for (const Finding& one : found) {
      if (one.id >= "PG052" && one.id <= "PG054") texts += one.id + " " + one.cause + " | " + one.fix + "\n";
    }
    return texts;
  };
  // Of two types that compare.
  EXPECT_EQ(about_lookups(with("o: {table: orders, match: {id: order_id}}", "o.user_id")), "");
  EXPECT_EQ(about_lookups(with("o: {table: orders, match: {user_id: order_id}}", "o.id")),
            "PG053 the join 'o' looks rows of 'public.orders' up by (user_id), and no index begins with one of these: each lookup reads the "
            "whole table | CREATE INDEX CONCURRENTLY ON public.orders (user_id);\n");
  EXPECT_THAT(about_lookups(with("o: {table: owners, match: {id: owner}}", "o.name")),
              HasSubstr("PG052 rows of 'public.owners' cannot be looked up for rule 'public.items': "));
  EXPECT_THAT(about_lookups(with("o: {table: owners, match: {id: owner}}", "o.name")), HasSubstr("operator does not exist: uuid = text"));
  EXPECT_THAT(about_lookups(with("o: {table: orders, match: {id: tags}}", "o.user_id")), HasSubstr("'tags' of 'public.items' is an array"));
  // What is not there is said once: it wants no index, and no types that compare.
  for (const auto& [via, key, id] : {std::tuple{"o: {table: gone, match: {id: order_id}}", "o.user_id", "PG015"},
                                     {"o: {table: orders, match: {nosuch: order_id}}", "o.user_id", "PG018"},
                                     {"o: {table: orders, match: {id: order_id}}", "o.nosuch", "PG018"},
                                     {"o: {table: seen, match: {user_id: order_id}}", "o.id", "PG024"}}) {
    const Findings found = with(via, key);
    EXPECT_NE(find(found, id), nullptr) << via << ids(found);
    EXPECT_EQ(about_lookups(found), "") << via;
  }
  // The server builds no index of a partitioned table concurrently.
  EXPECT_THAT(about_lookups(with("o: {table: parts, match: {user_id: order_id}}", "o.id")), HasSubstr("| CREATE INDEX ON public.parts (user_id);\n"));
  // Two steps; what the joined tables lack is found as for a rule of their own.
  const Findings two = with("o: {table: orders, match: {id: order_id}}, w: {table: owners, match: {name: o.label}}", "w.nobody");
  EXPECT_NE(find(two, "PG018"), nullptr) << ids(two);
}

TEST_F(PostgresCheckTest, RolesAndServersThatWillNotDo) {
  make_role("no_repl", "login");
  sql->run("create table products (id int primary key)");
  user = "no_repl";
  Findings found = check();
  ASSERT_NE(find(found, "PG003"), nullptr) << ids(found);
  EXPECT_EQ(find(found, "PG001"), nullptr) << ids(found);
  EXPECT_EQ(find(found, "PG014")->severity, Severity::kError);

  PostgresOptions chosen = options();
  chosen.url = "postgresql://u:hunter2@127.0.0.1:1/shop";
  found = check_postgres(chosen, rules_of(kProducts));
  ASSERT_EQ(ids(found), "PG001");
  EXPECT_THAT(found[0].cause, HasSubstr("PostgreSQL at 127.0.0.1:1: "));
  EXPECT_THAT(found[0].cause, ::testing::Not(HasSubstr("hunter2")));
  // What is wrong is told in the words of whoever was asked.
  chosen.credential.file = "/nonexistent/password";
  found = check_postgres(chosen, rules_of(kProducts));
  ASSERT_EQ(ids(found), "PG001");
  EXPECT_EQ(found[0].cause, "PostgreSQL at 127.0.0.1:1: password_file '/nonexistent/password' cannot be read: No such file or directory");
  EXPECT_EQ(found[0].fix, "the file must be there, and readable for the user that evictd runs as");
  chosen.credential = {};
  chosen.url = "nonsense";
  found = check_postgres(chosen, rules_of(kProducts));
  ASSERT_EQ(ids(found), "PG001");
}

TEST_F(PostgresCheckTest, SlotsOfOthersAndLostTime) {
  sql->run(
      "create table products (id int primary key); create publication evictd for table products");
  sql->run("select pg_create_logical_replication_slot('" + slot + "', 'test_decoding')");
  EXPECT_NE(find(check(), "PG006"), nullptr);
  sql->run("select pg_drop_replication_slot('" + slot + "')");
  sql->run("select pg_create_logical_replication_slot('" + slot + "', 'pgoutput', false, true)");
  EXPECT_NE(find(check(), "PG012"), nullptr);
  Record record;
  record.epoch = "1/1";
  const Findings found = check(kProducts, &record);
  ASSERT_NE(find(found, "PG011"), nullptr);
  EXPECT_THAT(find(found, "PG011")->cause, HasSubstr("expected system and timeline '1/1', got '"));
}

}  // namespace
}  // namespace evictd::testing
