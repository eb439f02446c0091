// Faults of the server and of its set-up, and what the source says about them.
#include <gmock/gmock.h>
#include <signal.h>

#include "daemon/sources/postgres/drop.h"
#include "daemon/sources/postgres/replication.h"
#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class PostgresFaultTest : public SourceTest {
 protected:
  // Starts and waits for on_failed(); returns its text and hint.
  std::string failure_of(const std::vector<std::string>& tables, PostgresOptions chosen,
                         ErrorKind kind = ErrorKind::kUsage) {
    make(tables, std::move(chosen));
    driver->start(std::nullopt);
    EXPECT_TRUE(driver->until([&] { return journal().failure.has_value(); })) << explain();
    if (!journal().failure) return {};
    EXPECT_EQ(journal().failure->kind, kind);
    EXPECT_EQ(source->status().state, "failed");
    return journal().failure->to_string();
  }
  // Starts and waits until it is said what is wrong, which somebody may mend without us: its text and hint.
  std::string refusal_of(const std::vector<std::string>& tables, PostgresOptions chosen) {
    make(tables, std::move(chosen));
    driver->start(std::nullopt);
    EXPECT_TRUE(driver->until([&] { return !journal().disconnects.empty() || journal().failure.has_value(); })) << explain();
    EXPECT_FALSE(journal().failure) << journal().failure->to_string();
    return journal().disconnects.empty() ? std::string() : journal().disconnects.front().to_string();
  }
  std::string told_problem() const { return source->status().problem.value_or(""); }
  std::string at() const {
    return "PostgreSQL at 127.0.0.1:" + std::to_string(server->port()) + ": ";
  }
};

TEST_F(PostgresFaultTest, KilledWalsenderReconnectsAndDeliversAgain) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  journal().acknowledges = false;
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  sql->run("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '" +
           slot + "'");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_EQ(journal().disconnects.size(), 1u);
  EXPECT_THAT(journal().disconnects[0].text, HasSubstr(at()));
  EXPECT_TRUE(journal().gaps.empty()) << explain();
}

// P16: a connection whose other end says nothing. Time runs fast here.
class SilentServer : public PostgresFaultTest {
 protected:
  void stream_fast() {
    sql->run("create table products (id int primary key)");
    make({"public.products"}, options());
    driver = std::make_unique<SourceDriver>(*source, [this](std::chrono::milliseconds turn) {
      if (turn.count() > 0) {
        ::poll(nullptr, 0, 5);
        if (journal().connected) ahead += std::chrono::milliseconds(100);
      }
      Now now = read_clocks();
      now.steady += ahead;
      return now;
    });
    driver->start(std::nullopt);
    ASSERT_TRUE(driver->until_connected()) << explain();
  }
  bool pass(std::chrono::seconds time) {
    const auto begin = ahead;
    return driver->until([&] { return ahead - begin > time || !journal().disconnects.empty(); }) && journal().disconnects.empty();
  }
  void freeze() {
    pid = std::stoi(slot_value("active_pid"));
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  }
  void thaw() { ::kill(pid, SIGCONT); }

  SteadyTime::duration ahead{0};
  int pid = 0;
};

TEST_F(SilentServer, IsAskedForALifeSignAndThenGivenUp) {
  stream_fast();
  // A quiet server answers when asked: 60 s of silence are no reason to leave it.
  ASSERT_TRUE(pass(std::chrono::seconds(60))) << explain();
  EXPECT_EQ(told_problem(), "");

  freeze();
  ASSERT_TRUE(driver->until([&] { return !journal().disconnects.empty(); }));
  EXPECT_THAT(journal().disconnects[0].text, HasSubstr("the server has been silent for 40 s"));
  thaw();
  EXPECT_TRUE(driver->until_connected()) << explain();
}

// One that works off a large transaction of tables that are not published looks at its connection when half of wal_sender_timeout has
// passed. Given up sooner, it would begin with that transaction again and again.
TEST_F(SilentServer, IsNotGivenUpForHalfOfItsTimeoutButTold) {
  stream_fast();
  freeze();
  ASSERT_TRUE(pass(std::chrono::seconds(32))) << explain();
  EXPECT_THAT(told_problem(), HasSubstr("PostgreSQL says nothing in the stream"));
  EXPECT_TRUE(journal().disconnects.empty()) << explain();
  thaw();
  ASSERT_TRUE(driver->until([&] { return told_problem().empty(); })) << explain();
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_TRUE(journal().disconnects.empty()) << explain();
}

TEST(SilenceMax, FollowsTheServersTimeout) {
  using namespace std::chrono_literals;
  EXPECT_EQ(ReplicationStream::silence_max_of(60s), 40s);
  EXPECT_EQ(ReplicationStream::silence_max_of(10min), 310s);
  EXPECT_EQ(ReplicationStream::silence_max_of(5s), 20s);
  EXPECT_EQ(ReplicationStream::silence_max_of(0s), 20s) << "without one it looks all the time";
}

TEST_F(PostgresFaultTest, LostSnapshotConnectionIsMadeAgainWithoutDisturbingTheStream) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  sql->run(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
      " and application_name in ('evictd snapshots', 'evictd catalogue')");
  source->request_snapshot();
  EXPECT_TRUE(driver->until([&] { return !journal().snapshots.empty(); })) << explain();
  EXPECT_EQ(journal().connects, 1);
  EXPECT_TRUE(journal().disconnects.empty());
}

// The stream lives, but nothing can become visible or be acknowledged: a person must be told.
TEST_F(PostgresFaultTest, RefusedSnapshotConnectionIsAReasonNotToBeReady) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  EXPECT_FALSE(source->status().problem);
  auto elsewhere = server->session();
  elsewhere.run("alter database " + database + " allow_connections false");
  sql->run("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
           " and application_name = 'evictd snapshots'");
  ASSERT_TRUE(driver->until([&] { return source->status().problem.has_value(); })) << explain();
  EXPECT_THAT(*source->status().problem,
              ::testing::StartsWith("cannot ask which transactions are visible: database \"" + database +
                                    "\" is not currently accepting connections"));
  ASSERT_FALSE(notices.empty());
  EXPECT_TRUE(notices.back().is_warning);
  EXPECT_THAT(notices.back().text, HasSubstr("cannot ask which transactions are visible"));
  EXPECT_EQ(journal().connects, 1);
  elsewhere.run("alter database " + database + " allow_connections true");
  ASSERT_TRUE(driver->until([&] { return !source->status().problem; })) << explain();
  EXPECT_EQ(notices.back().text, "transactions can be asked for again");
}

// The connection stands, and nothing comes: whoever waits for a snapshot must show, and then get it elsewhere.
TEST_F(PostgresFaultTest, HungSnapshotConnectionShowsAndIsMadeAgain) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  const std::string find = "select pid from pg_stat_activity where datname = current_database() and"
                           " application_name = 'evictd snapshots'";
  const int hung = std::stoi(sql->value(find));
  ASSERT_EQ(::kill(hung, SIGSTOP), 0);
  source->request_snapshot();
  ASSERT_TRUE(driver->until([&] { return source->status().problem.has_value(); })) << explain();
  EXPECT_EQ(*source->status().problem,
            "cannot ask which transactions are visible: an answer takes longer than 1 s");
  EXPECT_TRUE(driver->until([&] { return !journal().snapshots.empty(); })) << explain();
  EXPECT_TRUE(driver->until([&] { return !source->status().problem; })) << explain();
  EXPECT_EQ(journal().connects, 1);
  ::kill(hung, SIGCONT);
}

// A catalogue that does not answer: readiness says so, a reload is refused in bounded time, and the next session works.
TEST_F(PostgresFaultTest, HungCatalogueSessionShowsAndAReloadIsAnswered) {
  sql->run("create table products (id int primary key)");
  PostgresOptions chosen = options();
  chosen.answer_max = std::chrono::milliseconds(8'000);
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  auto rules = RuleSet::parse("- {table: public.products, keys: ['product:{id}']}\n", "rules.yaml");
  ASSERT_TRUE(rules);
  const std::string find = "select pid from pg_stat_activity where datname = current_database() and"
                           " application_name = 'evictd catalogue'";
  // A session lives for a moment only: the question must still find it.
  std::vector<int> hung;
  std::optional<Result<void>> answer;
  ASSERT_TRUE(driver->until([&] {
    if (told_problem().empty() && (answer || hung.empty())) {
      for (const auto& row : sql->run(find)) {
        hung.push_back(std::stoi(row[0]));
        ::kill(hung.back(), SIGSTOP);
      }
      answer.reset();
      source->check_rules(*rules);
    }
    if (auto one = source->take_rules_check()) answer = std::move(one);
    return !told_problem().empty();
  }, std::chrono::seconds(40))) << explain();
  EXPECT_EQ(told_problem(), "PostgreSQL does not answer questions about its catalogue for more than 5 s");
  ASSERT_TRUE(driver->until([&] {
    if (auto one = source->take_rules_check()) answer = std::move(one);
    return answer.has_value();
  }, std::chrono::seconds(40))) << explain();
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().text, "cannot compare the rules with the tables: no answer within 8 s");
  ASSERT_TRUE(driver->until([&] { return told_problem().empty(); })) << explain();
  source->check_rules(*rules);
  answer.reset();
  ASSERT_TRUE(driver->until([&] { return (answer = source->take_rules_check()).has_value(); }));
  EXPECT_TRUE(*answer) << answer->error().text;
  EXPECT_EQ(journal().connects, 1);
  for (const int pid : hung) ::kill(pid, SIGCONT);
}

TEST_F(PostgresFaultTest, UnreachableServerIsReportedOnceAndTriedForEver) {
  PostgresOptions chosen = options();
  chosen.url = "postgresql://postgres:secret@127.0.0.1:1/shop";
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  driver->turn_for(std::chrono::milliseconds(1'500));
  ASSERT_EQ(journal().disconnects.size(), 1u);
  EXPECT_THAT(journal().disconnects[0].text, HasSubstr("PostgreSQL at 127.0.0.1:1: "));
  EXPECT_THAT(journal().disconnects[0].text, HasSubstr("Connection refused"));
  EXPECT_THAT(journal().disconnects[0].text, Not(HasSubstr("secret")));
  EXPECT_FALSE(journal().failure);
  EXPECT_EQ(source->status().state, "waiting to connect");
}

// It may be a password that is being rotated, or a server that is still being set up: not a reason to end.
TEST_F(PostgresFaultTest, AMissingRoleOrDatabaseIsWaitedFor) {
  sql->run("create table products (id int primary key)");
  sql->run("drop role if exists late_role");
  PostgresOptions chosen = options();
  chosen.url = server->url(database, "late_role");
  make({"public.products"}, chosen);
  driver->start();
  ASSERT_TRUE(driver->until([&] { return !journal().disconnects.empty(); })) << explain();
  EXPECT_EQ(journal().disconnects[0].text, at() + "role \"late_role\" does not exist");
  EXPECT_FALSE(journal().failure);
  sql->run("create role late_role superuser login");
  ASSERT_TRUE(driver->until_connected()) << explain();

  chosen.url = server->url("late_" + database);
  make({"public.products"}, chosen);
  driver->start();
  ASSERT_TRUE(driver->until([&] { return !journal().disconnects.empty(); })) << explain();
  EXPECT_EQ(journal().disconnects[0].to_string(), at() + "database \"late_" + database +
                                                      "\" does not exist\nhint: check the database name in postgres.url");
  EXPECT_FALSE(journal().failure);
}

TEST_F(PostgresFaultTest, AMissingRightIsWaitedFor) {
  sql->run("create table products (id int primary key)");
  sql->run("create publication evictd for table products");
  make_role("no_repl", "login");
  sql->run("alter role no_repl noreplication");
  PostgresOptions chosen = options();
  chosen.url = server->url(database, "no_repl");
  const std::string text = refusal_of({"public.products"}, chosen);
  EXPECT_THAT(text, AnyOf(HasSubstr("replication"), HasSubstr("permission denied to start WAL sender")));  // from 16 on
  EXPECT_THAT(text, HasSubstr("hint: ALTER ROLE \"no_repl\" REPLICATION;"));
  sql->run("alter role no_repl replication");
  EXPECT_TRUE(driver->until_connected()) << explain();
}

TEST_F(PostgresFaultTest, AMissingTableOrColumnIsNamedAndTheOthersAreServed) {
  sql->run("create table products (id int primary key, slug text); create table orders (id int primary key)");
  PostgresOptions chosen = options();
  auto rules = RuleSet::parse("- {table: public.nothing, keys: ['k:{id}']}\n"
                              "- {table: public.products, keys: ['product:{slugg}']}\n"
                              "- {table: public.orders, keys: ['order:{id}']}\n",
                              "rules.yaml");
  ASSERT_TRUE(rules);
  chosen.requirements = requirements_of(*rules);
  make(rules->tables(), chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_EQ(*source->status().problem,
            "table 'public.nothing' does not exist; rules.yaml:2:35: key 'product:{slugg}' names column 'slugg', which "
            "table 'public.products' does not have: did you mean 'slug'?");
  sql->run("insert into orders values (1)");
  EXPECT_TRUE(driver->until_changes(1)) << explain();
}

TEST_F(PostgresFaultTest, ValueThatWillNotBeSentWarnsOrEndsTheStartAsTheRuleSays) {
  sql->run("create table products (id int primary key, slug text)");
  PostgresOptions chosen = options();
  auto purge =
      RuleSet::parse("- {table: public.products, keys: ['product:{slug}']}\n", "rules.yaml");
  ASSERT_TRUE(purge);
  chosen.requirements = requirements_of(*purge);
  make(purge->tables(), chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  ASSERT_FALSE(notices.empty());
  EXPECT_THAT(
      notices[0].text,
      HasSubstr("needs the old 'slug' of 'public.products' for UPDATE and DELETE, but its replica"
                " identity is the primary key (id)"));
  EXPECT_THAT(notices[0].hint, HasSubstr("ALTER TABLE public.products REPLICA IDENTITY FULL;"));
  driver->stop();

  auto stop = RuleSet::parse(
      "- {table: public.products, keys: ['product:{slug}'], on_missing: stop}\n", "rules.yaml");
  ASSERT_TRUE(stop);
  chosen.requirements = requirements_of(*stop);
  EXPECT_THAT(failure_of(stop->tables(), chosen), HasSubstr("the rule says on_missing: stop"));
}

TEST_F(PostgresFaultTest, PublicationWeMayNotCreateSaysHowAndIsWaitedFor) {
  sql->run("create table products (id int primary key)");
  make_role("plain_repl", "login replication");
  PostgresOptions chosen = options();
  chosen.url = server->url(database, "plain_repl");
  const std::string text = refusal_of({"public.products"}, chosen);
  EXPECT_THAT(text,
              HasSubstr("cannot create publication 'evictd': role 'plain_repl' does not own public.products"));
  const std::string hint = "hint: as a superuser, or as an owner of the tables who may CREATE in the database: ";
  const bool has_generated = std::stoi(sql->value("show server_version_num")) >= 180000;
  const std::string more = has_generated ? " WITH (publish_generated_columns = stored)" : "";
  ASSERT_THAT(text, HasSubstr(hint + "CREATE PUBLICATION evictd FOR TABLE ONLY public.products" + more + ";"));
  sql->run(text.substr(text.find(hint) + hint.size()));
  EXPECT_TRUE(driver->until_connected()) << explain();
}

TEST_F(PostgresFaultTest, ADatabaseWeMayNotCreateInIsWaitedFor) {
  sql->run("create table products (id int primary key)");
  make_role("owner_repl", "login replication");
  sql->run("alter table products owner to owner_repl");
  PostgresOptions chosen = options();
  chosen.url = server->url(database, "owner_repl");
  EXPECT_THAT(refusal_of({"public.products"}, chosen),
              ::testing::AllOf(HasSubstr("cannot create publication 'evictd': permission denied for database"),
                               HasSubstr("as a superuser, or as an owner of the tables who may CREATE in the database: CREATE PUBLICATION")));
  sql->run("grant create on database " + database + " to owner_repl");
  EXPECT_TRUE(driver->until_connected()) << explain();
}

TEST_F(PostgresFaultTest, TableWithoutAKeyIsNotPublishedBecauseThatWouldBreakIt) {
  sql->run("create table products (id int)");
  make({"public.products"}, options());
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_EQ(*source->status().problem,
            "table 'public.products' has no replica identity and cannot be published: "
            "ALTER TABLE public.products REPLICA IDENTITY FULL;");
  sql->run("insert into products values (1); update products set id = 2; delete from products");
}

TEST_F(PostgresFaultTest, AnImpossibleSlotNameEndsTheFirstStart) {
  sql->run("create table products (id int primary key)");
  PostgresOptions chosen = options();
  chosen.slot = "My-Slot";
  EXPECT_THAT(
      failure_of({"public.products"}, chosen),
      HasSubstr(
          "hint: postgres.slot: lower-case letters, digits and underscores, at most 63 of them"));
}

TEST_F(PostgresFaultTest, ForeignSlotsAreRefused) {
  sql->run("create table products (id int primary key)");
  sql->run("select pg_create_logical_replication_slot('" + slot + "', 'test_decoding')");
  EXPECT_EQ(failure_of({"public.products"}, options()),
            "slot '" + slot +
                "': expected plugin 'pgoutput', got 'test_decoding'\n"
                "hint: choose another name in postgres.slot, or drop that slot, "
                "and set 'on_first_start: purge' for the first start with the new one: it does not tell what changed before");

  auto other = server->session(server->make_database());
  PostgresOptions chosen = options();
  chosen.slot = "elsewhere";
  other.run("select pg_create_logical_replication_slot('elsewhere', 'pgoutput')");
  EXPECT_THAT(failure_of({"public.products"}, chosen),
              HasSubstr("slot 'elsewhere': expected database '" + database + "', got '"));
  other.run("select pg_drop_replication_slot('elsewhere')");

  chosen.slot = "prepared";
  sql->run("select pg_create_logical_replication_slot('prepared', 'pgoutput', false, true)");
  EXPECT_THAT(failure_of({"public.products"}, chosen),
              HasSubstr("slot 'prepared' has two_phase on"));
}

// P14: the byte comes back at the same place each time.
TEST_F(PostgresFaultTest, AByteThatIsNoTextIsExplainedAndReadOnceMoreAsItIsStored) {
  server->make_database("ascii_" + database, "encoding 'SQL_ASCII' locale 'C' template template0");
  const std::string before = database;
  database = "ascii_" + before;
  sql = std::make_unique<PostgresSession>(server->session(database));
  sql->run(
      "set client_encoding = 'SQL_ASCII'; create table products (id int primary key, slug text)");
  stream({"public.products"});
  sql->run("insert into products values (1, E'caf\\xe9')");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_EQ(journal().all_changes()[0], "insert public.products new(id=1 slug=-)");
  EXPECT_EQ(journal().disconnects[0].kind, ErrorKind::kData);
  EXPECT_THAT(journal().disconnects[0].text, HasSubstr("invalid byte sequence for encoding \"UTF8\": 0xe9, in transaction "));
  EXPECT_EQ(journal().disconnects[0].hint,
            "it is read once more, with values beyond ASCII as values that are not sent (on_missing); set postgres.client_encoding: "
            "SQL_ASCII, and their bytes are used as they are");

  // Behind it, texts are UTF-8 again.
  ASSERT_TRUE(driver->until([&] { return journal().disconnects.size() == 2; })) << explain();
  EXPECT_THAT(journal().disconnects[1].text, HasSubstr("is behind the stream"));
  sql->run("insert into products values (2, E'caf\\xc3\\xa9')");
  ASSERT_TRUE(driver->until([&] { return journal().all_changes().back() == "insert public.products new(id=2 slug=caf\xc3\xa9)"; })) << explain();
  EXPECT_EQ(journal().disconnects.size(), 2u) << explain();
  const Record last = record();
  driver->stop();

  PostgresOptions chosen = options();
  chosen.client_encoding = "SQL_ASCII";
  make({"public.products"}, chosen);
  driver->start(last);
  ASSERT_TRUE(driver->until_connected()) << explain();
  sql->run("insert into products values (3, E'caf\\xe9')");
  ASSERT_TRUE(driver->until([&] {
    return !journal().all_changes().empty() && journal().all_changes().back() == "insert public.products new(id=3 slug=caf\xe9)";
  })) << explain();
}

TEST_F(PostgresFaultTest, PasswordsAndTlsWorkAsLibpqDoesThem) {
  if (sql->value("show ssl_library").empty()) GTEST_SKIP() << "this server is built without TLS";
  sql->run("create table products (id int primary key)");
  make_role("scram_user", "login superuser password 'it''s secret'");
  sql->run(
      "copy (select 1) to program 'openssl req -new -x509 -days 2 -nodes -subj /CN=localhost "
      "-keyout server.key"
      " -out server.crt 2>/dev/null && chmod 600 server.key'");
  sql->run(
      "copy (select 1) to program 'sed -i \"1i hostssl all scram_user 127.0.0.1/32 scram-sha-256\" "
      "pg_hba.conf'");
  server->set("ssl", "on");
  const std::string where =
      "@127.0.0.1:" + std::to_string(server->port()) + "/" + database + "?sslmode=require";
  PostgresOptions chosen = options();
  chosen.url = "postgresql://scram_user:wrong-one" + where;
  make({"public.products"}, chosen);
  driver->start();
  ASSERT_TRUE(driver->until([&] { return !journal().disconnects.empty(); })) << explain();
  const std::string text = journal().disconnects[0].to_string();
  EXPECT_THAT(text, HasSubstr("password authentication failed for user \"scram_user\""));
  EXPECT_THAT(text, Not(HasSubstr("wrong-one")));

  chosen.url = "postgresql://scram_user:it%27s%20secret" + where;
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected()) << explain();
  EXPECT_EQ(sql->value("select string_agg(distinct ssl::text, ',') from pg_stat_ssl join "
                       "pg_stat_activity using (pid)"
                       " where application_name like 'evictd%'"),
            "true");
  driver->bytes_max = 10'000;  // what TLS has already decrypted is not seen by poll()
  sql->run("insert into products select generate_series(1, 20000)");
  ASSERT_TRUE(driver->until_changes(20'000)) << explain();
}

TEST_F(PostgresFaultTest, DropRemovesWhatWeLeaveBehind) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  auto refused = drop_postgres(options());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(refused.error().text, HasSubstr("slot '" + slot + "' is in use by pid "));
  driver->stop();
  auto dropped = drop_postgres(options());
  ASSERT_TRUE(dropped) << dropped.error().to_string();
  EXPECT_THAT(*dropped, ElementsAre("dropped slot '" + slot + "'", "dropped publication 'evictd'"));
  dropped = drop_postgres(options());
  ASSERT_TRUE(dropped);
  EXPECT_THAT(*dropped, ElementsAre("slot '" + slot + "' does not exist",
                                    "publication 'evictd' does not exist"));
}

TEST_F(PostgresFaultTest, DropLeavesAPublicationThatOthersMayNeed) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  driver->stop();
  sql->run("select pg_create_logical_replication_slot('other_" + database + "', 'pgoutput')");
  auto dropped = drop_postgres(options());
  ASSERT_TRUE(dropped) << dropped.error().to_string();
  EXPECT_THAT(*dropped, ElementsAre("dropped slot '" + slot + "'",
                                    "left publication 'evictd', which slot 'other_" + database +
                                        "' may be read with; if it is not: DROP PUBLICATION evictd;"));
  sql->run("select pg_drop_replication_slot('other_" + database + "')");
  make_role("plain_repl", "login replication");
  PostgresOptions chosen = options();
  chosen.url = server->url(database, "plain_repl");
  dropped = drop_postgres(chosen);
  ASSERT_TRUE(dropped) << dropped.error().to_string();
  EXPECT_THAT(*dropped, ElementsAre("slot '" + slot + "' does not exist",
                                    "left publication 'evictd', which is another role's; as its owner: DROP PUBLICATION "
                                    "evictd;"));
}

// A server of its own for tests that stop it.
class PostgresRestartTest : public PostgresFaultTest {
 protected:
  void SetUp() override {
    std::string why;
    own_ = PostgresServer::make(why);
    EVICTD_NEEDS_POSTGRES(own_, why);
    server = own_.get();
    database = server->make_database();
    slot = "slot_" + database;
    sql = std::make_unique<PostgresSession>(server->session(database));
  }
  void TearDown() override {
    if (driver) driver->stop();
    driver.reset();
    source.reset();
    sql.reset();
    own_.reset();
  }
  std::unique_ptr<PostgresServer> own_;
};

TEST_F(PostgresRestartTest, RestartedServerGoesOnWithoutAGap) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  const std::string instance = journal().connected->instance;
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  ASSERT_TRUE(own_->stop("immediate"));
  ASSERT_TRUE(driver->until([&] { return !journal().connected; }));
  own_->start();
  sql = std::make_unique<PostgresSession>(server->session(database));
  sql->run("insert into products values (2)");
  ASSERT_TRUE(driver->until([&] { return journal().saw("insert public.products new(id=2)"); }))
      << explain();
  EXPECT_TRUE(journal().gaps.empty()) << explain();
  EXPECT_NE(journal().connected->instance, instance);
}

// G7: Redis is down, nothing is acknowledged, and PostgreSQL must be able to stop.
TEST_F(PostgresRestartTest, ShutdownIsNotHeldUpByUnacknowledgedWork) {
  sql->run("create table products (id int primary key)");
  PostgresOptions chosen = options();
  chosen.shutdown_grace = std::chrono::milliseconds(1'000);
  make({"public.products"}, chosen);
  driver->start(std::nullopt);
  ASSERT_TRUE(driver->until_connected());
  journal().acknowledges = false;
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  own_->begin_stop("fast");
  ASSERT_TRUE(driver->until([&] { return !own_->is_running(); }, std::chrono::seconds(15)))
      << explain();
  EXPECT_FALSE(journal().disconnects.empty());
  EXPECT_THAT(journal().disconnects[0].text, HasSubstr("PostgreSQL is shutting down"));
  own_->start();
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_TRUE(journal().gaps.empty()) << explain();
}

TEST_F(PostgresRestartTest, ShutdownOfAServerThatOwesNothingIsImmediate) {
  sql->run("create table products (id int primary key)");
  stream({"public.products"});
  sql->run("insert into products values (1)");
  ASSERT_TRUE(driver->until_changes(1));
  own_->begin_stop("fast");
  EXPECT_TRUE(driver->until([&] { return !own_->is_running(); }, std::chrono::seconds(15)))
      << explain();
  for (const Error& error : journal().disconnects)
    EXPECT_THAT(error.text, Not(HasSubstr("unacknowledged")));
}

TEST_F(PostgresRestartTest, APreparedTransactionThatHoldsTheSlotUpIsNamedWithItsEnd) {
  sql.reset();
  server->set("max_prepared_transactions", "5", true);
  sql = std::make_unique<PostgresSession>(server->session(database));
  sql->run("create table products (id int primary key)");
  sql->run("begin; insert into products values (1); prepare transaction 'order ''7'''");
  make({"public.products"}, options());
  driver->start();
  const auto named = [&] {
    return std::find_if(notices.begin(), notices.end(), [](const PostgresNotice& notice) {
      return notice.text.find("prepared transaction 'order ''7''' of database '") != std::string::npos;
    });
  };
  ASSERT_TRUE(driver->until([&] { return named() != notices.end(); })) << explain();
  const std::string begin = "end it with ";
  ASSERT_EQ(named()->hint.substr(0, begin.size()), begin);
  sql->run(named()->hint.substr(begin.size(), named()->hint.find(';') - begin.size()));
  EXPECT_TRUE(driver->until_connected()) << explain();
}

TEST_F(PostgresRestartTest, WalLevelIsNamedWhenItIsTooLowAndWaitedFor) {
  sql->run("create table products (id int primary key)");
  sql.reset();
  server->set("wal_level", "replica", true);
  EXPECT_EQ(refusal_of({"public.products"}, options()),
            "expected wal_level 'logical', got 'replica'\n"
            "hint: ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL");
  server->set("wal_level", "logical", true);
  EXPECT_TRUE(driver->until_connected()) << explain();
}

}  // namespace
}  // namespace evictd::testing
