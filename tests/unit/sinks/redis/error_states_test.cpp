// The states in which a real Redis refuses work, each made for real: how the sink names it, and
// that it goes on by itself when the state has passed.
#include <gmock/gmock.h>

#include "tests/unit/sinks/redis/script_fixture.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Optional;

class ErrorStates : public ::testing::Test {
 protected:
  void SetUp() override { EVICTD_NEED_REDIS(); }

  void start(std::vector<std::string> settings = {}) {
    server_ = std::make_unique<RedisServer>(std::move(settings));
    connect();
  }
  void connect() { driven_ = std::make_unique<DrivenSink>(options_for(*server_)); }
  RedisClient& redis() { return server_->client(); }
  SinkJournal& journal() { return driven_->journal(); }

  // A command that the state refuses is lost; the sink says why, and applies it after `repair`.
  void expect_refused_until(const std::string& error_class, const std::function<void()>& repair) {
    const OrderBuilder command = OrderBuilder(Act::kInvalidate).key("k", {10});
    driven_->sink().submit(500, command.order());
    ASSERT_TRUE(driven_->until([&] { return journal().lost.contains(500); }));
    EXPECT_EQ(journal().last_class, error_class);
    EXPECT_FALSE(driven_->sink().status().connected);
    EXPECT_FALSE(journal().failed);
    // It stays away while the state lasts, and says so once.
    const int told = journal().disconnects;
    for (int i = 0; i < 20; ++i) driven_->turn();
    EXPECT_EQ(journal().disconnects, told);
    EXPECT_TRUE(driven_->sink().status().problem.has_value());
    repair();
    ASSERT_TRUE(driven_->until_connected());
    EXPECT_FALSE(driven_->sink().status().problem.has_value());
    redis().set("k", "v");
    expect_counts(driven_->run(command), 1, 0, 0, 0);
  }

  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<DrivenSink> driven_;
};

TEST_F(ErrorStates, FullRedisStillDeletes) {
  start({"--maxmemory-policy", "noeviction"});
  ASSERT_TRUE(driven_->until_connected());
  redis().set("k", "v");
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).trusting().key("k", {10})), 1, 0, 0, 0);
  redis().command({"CONFIG", "SET", "maxmemory", "0"});
  redis().command({"SADD", "tag:t", "k"});
  redis().set("k", "v");
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {11})), 1, 0,
                 0, 0);
  driven_->sink().save_record(numbered(Record{}, 3));
  ASSERT_TRUE(driven_->until([&] { return !journal().records_saved.empty(); }))
      << "a full Redis must not stop acknowledging";
  EXPECT_EQ(journal().disconnects, 0);
}

TEST_F(ErrorStates, FullRedisIsNoReasonNotToConnect) {
  start({"--maxmemory", "1", "--maxmemory-policy", "noeviction"});
  ASSERT_TRUE(driven_->until_connected());
}

TEST_F(ErrorStates, MinReplicas) {
  start();
  ASSERT_TRUE(driven_->until_connected());
  redis().command({"CONFIG", "SET", "min-replicas-to-write", "1"});
  expect_refused_until("no_replicas", [&] {
    redis().command({"CONFIG", "SET", "min-replicas-to-write", "0"});
  });
}

TEST_F(ErrorStates, BecomesAReplica) {
  start();
  ASSERT_TRUE(driven_->until_connected());
  redis().command({"REPLICAOF", "127.0.0.1", "1"});
  expect_refused_until("read_only", [&] { redis().command({"REPLICAOF", "NO", "ONE"}); });
}

TEST_F(ErrorStates, StartsOnAReplica) {
  start({"--replicaof", "127.0.0.1 1"});
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects > 0; }));
  EXPECT_EQ(journal().last_class, "read_only");
  EXPECT_EQ(journal().last_error.hint, "this is a replica: point 'redis: url:' at the master; with Sentinels, 'SENTINEL MASTER' at each of them tells why they name it");
  redis().command({"REPLICAOF", "NO", "ONE"});
  EXPECT_TRUE(driven_->until_connected());
}

TEST_F(ErrorStates, SnapshotCannotBeWritten) {
  start({"--save", "3600 1", "--dbfilename", "taken"});
  ASSERT_TRUE(driven_->until_connected());
  redis().set("x", "1");
  // Where the snapshot is to be, there is a directory.
  ASSERT_EQ(std::system(("mkdir " + server_->directory() + "/taken").c_str()), 0);
  redis().command({"BGSAVE"});
  ASSERT_TRUE(driven_->until([&] {
    return redis().command({"INFO", "persistence"}).text.find("rdb_last_bgsave_status:err") !=
           std::string::npos;
  }));
  expect_refused_until("misconf", [&] {
    redis().command({"CONFIG", "SET", "stop-writes-on-bgsave-error", "no"});
  });
}

TEST_F(ErrorStates, SomebodysLongScript) {
  start({"--busy-reply-threshold", "10"});
  ASSERT_TRUE(driven_->until_connected());
  RedisClient hog(server_->port());
  hog.send({"EVAL", "while true do end", "0"});
  RedisClient other(server_->port());
  while (!other.command({"PING"}).is_error()) {
  }
  const OrderBuilder command = OrderBuilder(Act::kInvalidate).key("k", {10});
  driven_->sink().submit(500, command.order());
  ASSERT_TRUE(driven_->until([&] { return journal().lost.contains(500); }));
  EXPECT_EQ(journal().last_class, "busy");
  EXPECT_TRUE(other.command({"SCRIPT", "KILL"}).is_ok());
  ASSERT_TRUE(driven_->until_connected());
  expect_counts(driven_->run(command), 0, 1, 0, 0);
}

TEST_F(ErrorStates, LoadingItsData) {
  start({"--save", "", "--dbfilename", "dump.rdb"});
  std::vector<std::string> set = {"MSET"};
  for (int i = 0; i < 2000; ++i) set.insert(set.end(), {"k" + std::to_string(i), "v"});
  redis().command(set);
  ASSERT_TRUE(redis().command({"SAVE"}).is_ok());
  server_->kill();
  // Each key takes this many microseconds to load.
  server_->set_settings(
      {"--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"});
  server_->start_again();
  connect();
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects > 0; }));
  EXPECT_EQ(journal().last_class, "loading");
  EXPECT_TRUE(driven_->until_connected());
}

// Redis alone may be mended (a rotation, an ACL that is still being written), and several caches share the process: waited for.
TEST_F(ErrorStates, WrongPasswordAtTheFirstStartIsWaitedFor) {
  server_ = std::make_unique<RedisServer>(std::vector<std::string>{"--requirepass", "right"});
  RedisOptions options = options_for(*server_);
  options.url = "redis://:wrong-one@127.0.0.1:" + std::to_string(server_->port());
  driven_ = std::make_unique<DrivenSink>(options);
  ASSERT_TRUE(driven_->until([&] { return journal().last_class == "auth" || journal().failed; }));
  EXPECT_FALSE(journal().failed);
  EXPECT_THAT(journal().last_error.text, HasSubstr("WRONGPASS"));
  EXPECT_EQ(journal().last_error.hint, "look at the user and password in 'redis: url:'");
  EXPECT_EQ(journal().last_error.to_string().find("wrong-one"), std::string::npos);
  redis().command({"AUTH", "right"});
  redis().command({"CONFIG", "SET", "requirepass", "wrong-one"});
  EXPECT_TRUE(driven_->until_connected());
}

TEST_F(ErrorStates, MissingPasswordAtTheFirstStartIsWaitedFor) {
  start({"--requirepass", "right"});
  ASSERT_TRUE(driven_->until([&] { return journal().last_class == "auth" || journal().failed; }));
  EXPECT_FALSE(journal().failed);
  EXPECT_THAT(journal().last_error.text, HasSubstr("NOAUTH"));
  redis().command({"AUTH", "right"});
  redis().command({"CONFIG", "SET", "requirepass", ""});
  EXPECT_TRUE(driven_->until_connected());
}

// The url has to change, and it is read at the start alone.
TEST_F(ErrorStates, ADatabaseThatIsNotThereNeedsAPerson) {
  server_ = std::make_unique<RedisServer>();
  RedisOptions options = options_for(*server_);
  options.url = "redis://127.0.0.1:" + std::to_string(server_->port()) + "/99";
  driven_ = std::make_unique<DrivenSink>(options);
  ASSERT_TRUE(driven_->until([&] { return journal().failed; }));
  EXPECT_EQ(journal().last_error.kind, ErrorKind::kUsage);
  EXPECT_EQ(journal().last_error.hint, "look at the database number in 'redis: url:'");
}

TEST_F(ErrorStates, RightPassword) {
  server_ = std::make_unique<RedisServer>(std::vector<std::string>{"--requirepass", "right"});
  RedisOptions options = options_for(*server_);
  options.url = "redis://:right@127.0.0.1:" + std::to_string(server_->port()) + "/2";
  driven_ = std::make_unique<DrivenSink>(options);
  EXPECT_TRUE(driven_->until_connected());
}

TEST_F(ErrorStates, PasswordChangedWhileRunningIsRetried) {
  start();
  ASSERT_TRUE(driven_->until_connected());
  redis().command({"CONFIG", "SET", "requirepass", "new"});
  redis().command({"AUTH", "new"});
  redis().command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  ASSERT_TRUE(driven_->until([&] { return journal().last_class == "auth"; }));
  EXPECT_FALSE(journal().failed);
  redis().command({"CONFIG", "SET", "requirepass", ""});
  EXPECT_TRUE(driven_->until_connected());
}

TEST_F(ErrorStates, MissingRightsAtTheFirstStartAreWaitedFor) {
  server_ = std::make_unique<RedisServer>();
  redis().command({"ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-unlink"});
  RedisOptions options = options_for(*server_);
  options.url = "redis://weak:pw@127.0.0.1:" + std::to_string(server_->port());
  driven_ = std::make_unique<DrivenSink>(options);
  ASSERT_TRUE(driven_->until([&] { return journal().last_class == "noperm" || journal().failed; }));
  EXPECT_FALSE(journal().failed);
  EXPECT_THAT(journal().last_error.text, HasSubstr("NOPERM"));
  EXPECT_EQ(journal().last_error.hint, "docs/redis.md has the ACL line for evictd");
  redis().command({"ACL", "SETUSER", "weak", "+unlink"});
  EXPECT_TRUE(driven_->until_connected());
}

TEST_F(ErrorStates, RightsMissingInsideTheScriptAreNamed) {
  server_ = std::make_unique<RedisServer>();
  redis().command({"ACL", "SETUSER", "weak", "on", ">pw", "~evictd:*", "+@all"});
  RedisOptions options = options_for(*server_);
  options.url = "redis://weak:pw@127.0.0.1:" + std::to_string(server_->port());
  driven_ = std::make_unique<DrivenSink>(options);
  ASSERT_TRUE(driven_->until_connected());
  const OrderBuilder command = OrderBuilder(Act::kInvalidate).trusting().key("k", {10});
  driven_->sink().submit(500, command.order());
  ASSERT_TRUE(driven_->until([&] { return journal().lost.contains(500); }));
  EXPECT_EQ(journal().last_class, "noperm");
  redis().command({"ACL", "SETUSER", "weak", "~*"});
  ASSERT_TRUE(driven_->until_connected());
  expect_counts(driven_->run(command), 0, 1, 0, 0);
}

TEST_F(ErrorStates, LeastRightsAreEnough) {
  server_ = std::make_unique<RedisServer>();
  ASSERT_TRUE(redis().command(documented("redis.md", "ACL SETUSER evictd ")).is_ok());
  RedisOptions options = options_for(*server_);
  options.url = "redis://evictd:password@127.0.0.1:" + std::to_string(server_->port());
  driven_ = std::make_unique<DrivenSink>(options);
  ASSERT_TRUE(driven_->until_connected()) << journal().last_error.text;
  redis().set("product:1", "v");
  redis().command({"SADD", "tag:t", "product:1"});
  expect_counts(
      driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {10})), 1, 0,
      0, 0);
  expect_counts(
      driven_->run(OrderBuilder(Act::kInvalidate, Target::kPatterns).trusting().key("product:*", {11})), 0, 0,
      0, 0);
  expect_counts(driven_->run(OrderBuilder(Act::kRenew).trusting().key("product:1", {10, 11})), 0, 1, 0, 0);
  redis().command({"SADD", "tag:t", "product:1"});  // of a plain rule
  expect_counts(driven_->run(OrderBuilder(Act::kSettle, Target::kTags).key("t", {12})), 0, 1, 0, 0);
  driven_->sink().save_record(numbered(Record{}, 3));
  ASSERT_TRUE(driven_->until([&] { return !journal().records_saved.empty(); }));
  EXPECT_EQ(journal().disconnects, 0) << journal().last_error.text;
  EXPECT_EQ(driven_->sink().status().state, "ready");
}

TEST_F(ErrorStates, ScriptFlushIsRepairedInPlace) {
  start();
  ASSERT_TRUE(driven_->until_connected());
  redis().command({"SCRIPT", "FLUSH"});
  OrderBuilder builder(Act::kInvalidate);
  builder.trusting();
  for (int i = 0; i < 2000; ++i) builder.key("k" + std::to_string(i), {10});
  expect_counts(driven_->run(builder), 0, 2000, 0, 0);
  redis().command({"SCRIPT", "FLUSH"});
  driven_->sink().save_record(numbered(Record{}, 1));
  driven_->sink().save_record(numbered(Record{}, 2));
  ASSERT_TRUE(driven_->until(
      [&] { return !journal().records_saved.empty() && journal().records_saved.back() == 2; }));
  EXPECT_EQ(journal().disconnects, 0);
}

}  // namespace
}  // namespace evictd::testing
