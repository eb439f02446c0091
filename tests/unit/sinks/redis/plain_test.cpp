// Rules that ask for deletes only: ordinary commands, no marker, no script, also where scripts are forbidden.
#include <gmock/gmock.h>

#include "daemon/sinks/redis/record_text.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SinkContext deletes_only() {
  SinkContext context{"epoch/1", std::chrono::milliseconds(0)};
  context.is_deletes_only = true;
  return context;
}

class PlainKeys : public SinkTest {
 protected:
  // Calls of a command since the server began.
  long calls(const std::string& name) {
    const std::string stats = redis().command({"INFO", "commandstats"}).text;
    const std::size_t at = stats.find("cmdstat_" + name + ":calls=");
    return at == std::string::npos ? 0 : std::stol(stats.substr(stats.find('=', at) + 1));
  }
};

TEST_F(PlainKeys, AreUnlinkedManyToACommandAndCountedExactly) {
  OrderBuilder order(Act::kInvalidate);
  for (int i = 0; i < 2000; ++i) {
    order.key("k:" + std::to_string(i), {10});
    if (i % 4 == 0) redis().command({"SET", "k:" + std::to_string(i), "v"});
  }
  const long before = calls("unlink");
  const long scripts = calls("evalsha");
  expect_counts(run(order), 500, 1500, 0, 0);
  EXPECT_LE(calls("unlink") - before, 4) << "many keys to a command";
  EXPECT_GE(calls("unlink") - before, 2) << "and not all in one";
  EXPECT_EQ(calls("evalsha"), scripts);
  EXPECT_EQ(redis().command({"DBSIZE"}).integer, 0) << "nothing is left behind";
}

TEST_F(PlainKeys, NeverReachEvictdsOwn) {
  redis().command({"SET", "evictd:{x}", "mine"});
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("a", {10}).key("evictd:{x}", {10}).key("b", {10})), 0, 3, 0, 0);
  EXPECT_EQ(redis().get("evictd:{x}"), "mine");
}

TEST_F(PlainKeys, AWritersOwnInvalidationIsFollowedByOneMoreDelete) {
  redis().command({"SET", "a", "old"});
  ASSERT_EQ(redis().command({"FCALL", "evictd_invalidate", "2", "a", "evictd:{a}", "10"}).text, "deleted");
  redis().command({"SET", "a", "new"});
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("a", {10})), 1, 0, 0, 0);
}

TEST_F(PlainKeys, WithAnnouncementsAreToldAndLeaveNoMarker) {
  redis().command({"SET", "a", "old"});
  expect_counts(run(OrderBuilder(Act::kInvalidate).announced("news").key("a", {10}).key("b", {10})), 1, 1, 0, 0);
  EXPECT_EQ(redis().get("evictd:announced:news"), "2");
  redis().command({"SET", "b", "old"});
  expect_counts(run(OrderBuilder(Act::kSettle).announced("news").key("a", {10}).key("b", {10})), 1, 1, 0, 0);
  EXPECT_EQ(redis().get("evictd:announced:news"), "3") << "of a settle what was deleted";
  EXPECT_EQ(redis().command({"EXISTS", "evictd:{a}", "evictd:{b}"}).integer, 0);
}

OrderBuilder plain_tag(Act act, std::string_view name) { return OrderBuilder(act, Target::kTags).key(name, {10}); }

TEST_F(PlainKeys, OfTagsStayInTheSetUntilTheSettleAndNothingIsLeftBehind) {
  redis().command({"MSET", "a", "old", "b", "old"});
  redis().command({"SADD", "tag:t", "a", "b", "gone"});
  expect_counts(run(plain_tag(Act::kInvalidate, "t")), 2, 1, 0, 0);
  EXPECT_EQ(redis().integer({"SCARD", "tag:t"}), 3);
  redis().set("b", "stale");  // a slow reader, whose SADD came before
  expect_counts(run(plain_tag(Act::kSettle, "t")), 1, 2, 0, 0);
  EXPECT_EQ(redis().command({"DBSIZE"}).integer, 0);
  EXPECT_EQ(calls("evalsha"), 0);
}

TEST_F(PlainKeys, OfATagThatTheAclForbidsAreLeftAloneAndHoldNothingUp) {
  redis().command({"ACL", "SETUSER", "daemon", "on", ">pw", "~product:*", "~tag:*", "~evictd:*", "+@all"});
  RedisOptions options = options_for(*server_);
  options.url = "redis://daemon:pw@127.0.0.1:" + std::to_string(server_->port());
  DrivenSink driven(options);
  ASSERT_TRUE(driven.until_connected());
  std::vector<std::string> add = {"SADD", "tag:t", "session:admin", "session:root"};
  for (int i = 0; i < 300; ++i) {
    add.push_back("product:" + std::to_string(i));
    redis().set(add.back(), "v");
  }
  redis().command(add);
  redis().set("session:admin", "v");
  for (const Act act : {Act::kInvalidate, Act::kSettle}) {
    EXPECT_EQ(driven.run(plain_tag(act, "t")).deleted, act == Act::kInvalidate ? 300u : 0u);
  }
  EXPECT_TRUE(redis().exists("session:admin"));
  EXPECT_EQ(redis().integer({"SCARD", "tag:t"}), 2) << "what may not be deleted stays a member";
  EXPECT_EQ(driven.journal().disconnects, 0);
  EXPECT_EQ(driven.sink().status().state, "ready (left alone: 4 members of tags that the ACL forbids)");
}

// Readers store a value and add it to the set in one MULTI, while the settle takes members out.
TEST_F(PlainKeys, OfATagAreNeverStrandedByConcurrentReaders) {
  constexpr int kMembers = 5'000;
  for (int i = 0; i < kMembers; ++i) {
    redis().set("k" + std::to_string(i), "v");
    redis().command({"SADD", "tag:t", "k" + std::to_string(i)});
  }
  const OrderBuilder walk = plain_tag(Act::kSettle, "t");
  driven_->sink().submit(1000, walk.order());
  int stored = 0;
  ASSERT_TRUE(driven_->until([&] {
    const std::string key = "k" + std::to_string(stored++ % kMembers);
    redis().command({"MULTI"});
    redis().command({"SET", key, "fresh"});
    redis().command({"SADD", "tag:t", key});
    redis().command({"EXEC"});
    return driven_->journal().done.contains(1000);
  }));
  const Reply values = redis().command({"KEYS", "k*"});
  EXPECT_GT(values.elements.size(), 0u);
  for (const Reply& key : values.elements) EXPECT_EQ(redis().integer({"SISMEMBER", "tag:t", key.text}), 1) << key.text;
}

TEST_F(PlainKeys, ThatPatternsFindAreUnlinkedAndNothingIsLeftBehind) {
  redis().command({"MSET", "p:1", "v", "p:2", "v", "m1", "v"});
  redis().command({"SADD", "tag:c:1", "m1", "m2"});
  redis().set("tag:c:2", "somebody's string");
  expect_counts(run(OrderBuilder(Act::kInvalidate).pattern("p:*", {10})), 2, 0, 0, 0);
  expect_counts(run(OrderBuilder(Act::kSettle, Target::kPatterns).of_tags().pattern("tag:c:*", {10})), 1, 1, 0, 0);
  EXPECT_EQ(redis().get("tag:c:2"), "somebody's string");
  EXPECT_EQ(redis().command({"DBSIZE"}).integer, 1);
  EXPECT_EQ(calls("evalsha"), 0);
}

// A server that forbids scripts and functions: the plain rules work, and their record is kept.
class WithoutScripts : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    server_ = std::make_unique<RedisServer>();
    ASSERT_TRUE(server_->client().command({"ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all", "-@scripting"}).is_ok());
    RedisOptions options = options_for(*server_);
    options.url = "redis://plain:secret@127.0.0.1:" + std::to_string(server_->port());
    driven_ = std::make_unique<DrivenSink>(options);
    driven_->sink().set_context(deletes_only());
    ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().connected; })) << driven_->journal().last_error.to_string();
  }
  RedisClient& redis() { return server_->client(); }

  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<DrivenSink> driven_;
};

TEST_F(WithoutScripts, KeysAreDeletedAndTheRecordIsKept) {
  redis().command({"SET", "a", "old"});
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).key("a", {10})), 1, 0, 0, 0);
  redis().command({"MSET", "m", "old", "p:1", "old"});
  redis().command({"SADD", "tag:t", "m"});
  expect_counts(driven_->run(plain_tag(Act::kSettle, "t")), 1, 0, 0, 0);
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).pattern("p:*", {10})), 1, 0, 0, 0);
  Record record;
  record.sequence = 7;
  record.applied = {{"wal", 99}};
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return !driven_->journal().records_saved.empty(); }));
  EXPECT_THAT(redis().get("evictd:record:evictd"), HasSubstr("applied 99 wal"));
  EXPECT_EQ(driven_->sink().status().state, "ready");
  EXPECT_THAT(redis().command({"INFO", "commandstats"}).text, Not(HasSubstr("cmdstat_script|load:calls")));
}

// The record is written over before that is seen: what was there is told all the same.
TEST_F(WithoutScripts, DataThatWasExchangedUnderAnOpenConnectionIsJudgedByTheRecordThatWasThere) {
  SinkContext context = deletes_only();
  context.is_record_ours_alone = true;
  driven_->sink().set_context(context);
  SinkJournal& journal = driven_->journal();
  Record record;
  record.writer = "ours";
  for (record.sequence = 1; record.sequence <= 2; ++record.sequence) {
    driven_->sink().save_record(record);
    ASSERT_TRUE(driven_->until([&] { return journal.records_saved.size() == record.sequence; }));
  }
  Record older = record;
  older.sequence = 1;
  redis().set("evictd:record:evictd", record_to_text(older));
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return journal.disconnects == 1; }));
  EXPECT_EQ(journal.last_class, "set_back");
  EXPECT_EQ(journal.records_saved.size(), 2u);
  ASSERT_TRUE(driven_->until([&] { return journal.connects == 2; }));
  ASSERT_TRUE(journal.last_connected.record.has_value());
  EXPECT_EQ(journal.last_connected.record->sequence, 1u) << "and not the 3 that lies there now";
  ++record.sequence;
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return journal.records_saved.size() == 3; }));
  redis().command({"FLUSHDB"});
  ++record.sequence;
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return journal.connects == 3; }));
  EXPECT_FALSE(journal.last_connected.record.has_value());
}

// A full Redis takes no SET, and here no script that may pass its limit: told, and tried again until it is stored.
TEST_F(WithoutScripts, ARecordThatAFullRedisRefusesIsStoredWhenThereIsRoom) {
  redis().command({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  Record record;
  record.sequence = 7;
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().problem.has_value(); }));
  EXPECT_THAT(*driven_->sink().status().problem, HasSubstr("evictd's record is refused"));
  EXPECT_TRUE(driven_->sink().status().connected) << "deletes go on";
  redis().command({"CONFIG", "SET", "maxmemory", "0"});
  ASSERT_TRUE(driven_->until([&] { return !driven_->journal().records_saved.empty(); }));
  EXPECT_FALSE(driven_->sink().status().problem.has_value());
}

}  // namespace
}  // namespace evictd::testing
