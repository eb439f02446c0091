// Rules that ask for deletes only: ordinary commands, no marker, no script, also where scripts are forbidden.
#include <gmock/gmock.h>

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
  Record record;
  record.sequence = 7;
  record.applied = {{"wal", 99}};
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return !driven_->journal().records_saved.empty(); }));
  EXPECT_THAT(redis().get("evictd:record:evictd"), HasSubstr("applied 99 wal"));
  EXPECT_EQ(driven_->sink().status().state, "ready");
  EXPECT_THAT(redis().command({"INFO", "commandstats"}).text, Not(HasSubstr("cmdstat_script|load:calls")));
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
