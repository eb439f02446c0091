// The sink over a real Redis Cluster of three masters.
#include <gmock/gmock.h>

#include <set>

#include "daemon/sinks/redis/cluster/blocking_cache.h"
#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/topology/record_copies.h"
#include "tests/support/redis_cluster.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::string marker_of(std::string_view key) {
  std::string name;
  append_marker_name(name, key);
  return name;
}

class ClusterSinkTest : public ::testing::Test {
 protected:
  static void TearDownTestSuite() { cluster_.reset(); }
  void SetUp() override {
    EVICTD_NEED_REDIS();
    if (!cluster_) cluster_ = std::make_unique<RedisCluster>(3);
    cluster_->wait_until_agreed();
    for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"FLUSHALL"});
    driven_ = std::make_unique<DrivenSink>(options());
  }

  static RedisOptions options() {
    RedisOptions made = options_for(cluster_->node(0));
    made.url = cluster_->url();
    return made;
  }
  void connect() { ASSERT_TRUE(driven_->until_connected()) << driven_->journal().last_error.to_string(); }

  static RedisClient& at(std::string_view key) { return cluster_->client_of(key); }
  // Nodes that stood still for two seconds take each other for dead, and refuse, until they have spoken again.
  static void set(const std::string& key) {
    for (int attempt = 0; attempt < 10; ++attempt) {
      if (at(key).command({"SET", key, "value"}).is_ok()) return;
      cluster_->wait_until_agreed();
    }
    FAIL() << "no node takes " << key;
  }
  static bool is_cached(const std::string& key) { return at(key).exists(key); }
  static std::vector<std::string> keys(const std::string& prefix, int count) {
    std::vector<std::string> made;
    for (int i = 0; i < count; ++i) made.push_back(prefix + std::to_string(i));
    return made;
  }
  // Ranges of a master's slots, by its own word.
  static SlotSet slots_of(std::size_t node) {
    const Reply reply = cluster_->node(0).client().command({"CLUSTER", "SLOTS"});
    const auto map = SlotMap::read(reply, HostPort{"127.0.0.1", 0});
    return map->slots_of(HostPort{"127.0.0.1", static_cast<std::uint16_t>(cluster_->node(node).port())});
  }
  Record saved(std::uint64_t sequence) {
    const Record record = numbered_record(sequence);
    driven_->sink().save_record(record);
    EXPECT_TRUE(driven_->until([&] { return !driven_->journal().records_saved.empty() && driven_->journal().records_saved.back() == sequence; }));
    return record;
  }
  static std::uint64_t script_calls() {
    std::uint64_t calls = 0;
    for (std::size_t i = 0; i < cluster_->size(); ++i) {
      const std::string stats = cluster_->node(i).client().command({"INFO", "commandstats"}).text;
      const std::string_view name = "cmdstat_evalsha:calls=";
      if (const std::size_t begin = stats.find(name); begin != std::string::npos) calls += std::stoull(stats.substr(begin + name.size()));
    }
    return calls;
  }
  void again_with(const SinkContext& context) {
    driven_ = std::make_unique<DrivenSink>(options());
    driven_->sink().set_context(context);
    ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().connected; }));
  }
  void again() {
    driven_ = std::make_unique<DrivenSink>(options());
    connect();
  }

  inline static std::unique_ptr<RedisCluster> cluster_;
  std::unique_ptr<DrivenSink> driven_;
};

TEST_F(ClusterSinkTest, KeysAreDeletedInWhateverSlotTheyAre) {
  OrderBuilder plain(Act::kInvalidate), checked(Act::kInvalidate);
  checked.trusting();
  for (const std::string& key : keys("product:", 300)) {
    set(key);
    plain.key(key, {10});
  }
  for (const std::string& key : keys("page:", 300)) {
    set(key);
    checked.key(key, {10});
  }
  plain.key("not:there", {10});
  connect();
  expect_counts(driven_->run(plain), 300, 1, 0, 0);
  expect_counts(driven_->run(checked), 300, 0, 0, 0);
  expect_counts(driven_->run(checked), 0, 0, 0, 300);
  EXPECT_FALSE(is_cached("product:7") || is_cached("page:7"));
  EXPECT_EQ(at("page:7").get(marker_of("page:7")), "t epoch/1 10");
  for (std::size_t i = 0; i < cluster_->size(); ++i) {
    EXPECT_THAT(cluster_->node(i).client().command({"FCALL", "evictd_version", "0"}).text, HasSubstr("cluster")) << i;
  }
}

// By a call of its own, each costs its master several times as much.
TEST_F(ClusterSinkTest, CheckedKeysOfOneMasterShareCalls) {
  connect();
  OrderBuilder order(Act::kInvalidate);
  order.trusting().refreshed();
  std::vector<std::uint32_t> there;
  const std::vector<std::string> all = keys("page:", 600);
  for (std::uint32_t i = 0; i < all.size(); ++i) {
    order.key(all[i], {10 + i % 3});
    if (i % 7 != 0) continue;
    set(all[i]);
    there.push_back(i);
  }
  for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"CONFIG", "RESETSTAT"});
  Outcome outcome = driven_->run(order);
  expect_counts(outcome, there.size(), all.size() - there.size(), 0, 0);
  std::sort(outcome.hits.begin(), outcome.hits.end());
  EXPECT_EQ(outcome.hits, there);
  for (const std::string& key : all) EXPECT_THAT(at(key).get(marker_of(key)), StartsWith("t epoch/1 1"));
  EXPECT_LE(script_calls(), 6u);
  expect_counts(driven_->run(order), 0, 0, 0, all.size());
}

// Markers that take long: what the call leaves is asked for by others, and the master is not taken for one that takes no such calls.
TEST_F(ClusterSinkTest, ACallThatEndsEarlyLeavesTheRestToOthers) {
  connect();
  std::string marker = "t epoch/1 1d";
  for (int i = 0; i < 63; ++i) marker += ",1d";
  OrderBuilder order(Act::kInvalidate), next(Act::kInvalidate);
  order.trusting().refreshed();
  next.trusting();
  const std::vector<std::string> all = keys("page:", 300);
  for (const std::string& key : all) {
    set(key);
    at(key).command({"SET", marker_of(key), marker, "PX", "60000"});
    order.key(key, {10});
    next.key(key, {11});
  }
  Outcome outcome = driven_->run(order);
  expect_counts(outcome, all.size(), 0, 0, 0);
  EXPECT_EQ(std::set<std::uint32_t>(outcome.hits.begin(), outcome.hits.end()).size(), all.size());
  for (const std::string& key : all) EXPECT_THAT(at(key).get(marker_of(key)), ::testing::EndsWith(",10"));
  for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"CONFIG", "RESETSTAT"});
  expect_counts(driven_->run(next), 0, all.size(), 0, 0);
  EXPECT_LE(script_calls(), 6u);
}

// Whatever stands in a key's marker, and whatever is asked.
TEST_F(ClusterSinkTest, KeysAreJudgedTogetherAsTheyAreAlone) {
  connect();
  SinkContext context{"epoch/1", std::chrono::milliseconds(1000)};
  driven_->sink().set_context(context);
  const std::vector<std::string> markers = {
      "", "t epoch/1 10", "t epoch/1 10s", "t epoch/1 9", "t epoch/1 9,10", "t epoch/1 ^20", "t epoch/1 ^20,9s n5:5:", "t other/1 10", "t *2000 10", "t *500 10",
      "f 5:5: 2000", "f 20:20: 2000", "f 20:20: 500", "f - 2000", "f v17 2000", "l - - l1:99", "rubbish", "t epoch/1 10 k", "t epoch/1 ~10", "t epoch/1 v17"};
  int number = 0;
  for (const Act act : {Act::kInvalidate, Act::kSettle, Act::kRenew}) {
    for (const std::vector<std::uint64_t>& xids : std::vector<std::vector<std::uint64_t>>{{10}, {10, 11}, {}}) {
      for (const bool is_unconditional : {false, true}) {
        Outcome apart;
        OrderBuilder together(act);
        std::vector<std::pair<std::string, std::string>> pairs;
        for (const std::string& text : markers) {
          const std::string tag = std::to_string(++number);
          const std::string alone = "alone:" + tag, joined = "joined:" + tag;
          for (const std::string& key : {alone, joined}) {
            set(key);
            if (!text.empty()) at(key).command({"SET", marker_of(key), text, "PX", "500000"});
          }
          OrderBuilder one(act);
          one.key(alone, xids).trusting();
          together.key(joined, xids).trusting();
          if (xids.empty()) {
            one.row_version("17");
            together.row_version("17");
          }
          if (is_unconditional) {
            one.unconditional(30);
            together.unconditional(30);
          }
          apart += driven_->run(one);
          pairs.emplace_back(alone, joined);
        }
        const Outcome joint = driven_->run(together);
        EXPECT_EQ(joint.deleted, apart.deleted);
        EXPECT_EQ(joint.kept, apart.kept);
        EXPECT_EQ(joint.replayed, apart.replayed);
        for (std::size_t i = 0; i < pairs.size(); ++i) {
          const auto& [alone, joined] = pairs[i];
          EXPECT_EQ(is_cached(joined), is_cached(alone)) << markers[i];
          EXPECT_EQ(at(joined).get(marker_of(joined)), at(alone).get(marker_of(alone))) << markers[i];
          EXPECT_NEAR(at(joined).integer({"PTTL", marker_of(joined)}), at(alone).integer({"PTTL", marker_of(alone)}), 60'000) << markers[i];
        }
      }
    }
  }
}

TEST_F(ClusterSinkTest, KeysOfASlotOnTheMoveLeaveTheirCallAndTheOthersStay) {
  connect();
  const std::size_t from = cluster_->owner_of("{s}"), to = (from + 1) % 3;
  std::vector<std::string> moving, staying;
  for (const std::string& key : keys("{s}page:", 20)) moving.push_back(key);
  for (const std::string& key : keys("page:", 200)) {
    if (cluster_->owner_of(key) == from) staying.push_back(key);
  }
  for (const bool is_checked : {true, false}) {
    for (const bool is_over : {false, true}) {
      OrderBuilder order(Act::kInvalidate);
      if (is_checked) order.trusting();
      for (const std::vector<std::string>& some : {moving, staying}) {
        for (const std::string& key : some) {
          set(key);
          at(key).command({"UNLINK", marker_of(key)});
          order.key(key, {10});
        }
      }
      cluster_->open_slot(slot_of("{s}"), from, to);
      cluster_->migrate_keys(slot_of("{s}"), from, to, is_over ? 1000 : 7);
      if (is_over) cluster_->close_slot(slot_of("{s}"), to);  // which the sink does not know of
      const Order wanted = order.order();
      const Ticket ticket = 900 + (is_checked ? 2 : 0) + (is_over ? 1 : 0);
      driven_->sink().submit(ticket, wanted);
      if (!is_over) {
        // A key without its marker waits for the end of the move.
        ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().state.find("calls wait") != std::string::npos || driven_->journal().done.contains(ticket); }));
        cluster_->migrate_keys(slot_of("{s}"), from, to, 1000);
        cluster_->close_slot(slot_of("{s}"), to);
      }
      ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(ticket); })) << is_checked << is_over;
      expect_counts(driven_->journal().done[ticket], moving.size() + staying.size(), 0, 0, 0);
      for (const std::string& key : moving) {
        EXPECT_FALSE(cluster_->node(to).client().exists(key));
        EXPECT_EQ(cluster_->node(to).client().get(marker_of(key)), is_checked ? "t epoch/1 10" : "(nil)");
      }
      cluster_->move_slot(slot_of("{s}"), to, from);
      cluster_->wait_until_agreed();
    }
  }
  EXPECT_EQ(driven_->journal().disconnects, 0);
}

// What lies between us and a server may let scripts touch declared keys alone. Here the right to GETRANGE is missing, which the call of a single key
// does without.
TEST_F(ClusterSinkTest, WhereNoCallMayBeSharedEachKeyHasItsOwn) {
  connect();
  for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"ACL", "SETUSER", "default", "-getrange"});
  for (int round = 0; round < 4; ++round) {
    OrderBuilder order(Act::kInvalidate);
    order.trusting();
    for (const std::string& key : keys("page:", 60)) {
      set(key);
      order.key(key, {10 + static_cast<std::uint64_t>(round)});
    }
    for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"CONFIG", "RESETSTAT"});
    expect_counts(driven_->run(order), 60, 0, 0, 0);
    EXPECT_GE(script_calls(), 60u);
    if (round == 3) {
      EXPECT_EQ(script_calls(), 60u) << "it is not tried for ever";
    }
  }
  for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"ACL", "SETUSER", "default", "+getrange"});
  EXPECT_EQ(driven_->journal().disconnects, 0);
}

TEST_F(ClusterSinkTest, AFullClusterStillDeletes) {
  connect();
  OrderBuilder order(Act::kInvalidate);
  order.trusting();
  for (const std::string& key : keys("page:", 100)) {
    set(key);
    order.key(key, {10});
  }
  for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"CONFIG", "SET", "maxmemory", "1"});
  expect_counts(driven_->run(order), 100, 0, 0, 0);
  for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(at("page:7").get(marker_of("page:7")), "t epoch/1 10");
}

// A full master takes no SET, and here no script that may pass its limit: told, and tried again until it is stored.
TEST_F(ClusterSinkTest, ARecordThatAFullMasterRefusesIsStoredWhenThereIsRoom) {
  for (std::size_t i = 0; i < cluster_->size(); ++i) {
    ASSERT_TRUE(cluster_->node(i).client().command({"ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all", "-@scripting"}).is_ok());
  }
  RedisOptions plain = options();
  const std::string at = "redis://";
  plain.url = at + "plain:secret@" + plain.url.substr(at.size());
  driven_ = std::make_unique<DrivenSink>(plain);
  SinkContext context{"epoch/1", std::chrono::milliseconds(0)};
  context.is_deletes_only = true;
  driven_->sink().set_context(context);
  connect();
  driven_->sink().set_context(context);
  cluster_->node(1).client().command({"CONFIG", "SET", "maxmemory", "1"});
  driven_->sink().save_record(numbered_record(1));
  EXPECT_TRUE(driven_->until([&] { return driven_->sink().status().problem.has_value(); }));
  EXPECT_EQ(driven_->sink().status().problem.value_or(""),
            "redis at '127.0.0.1:" + std::to_string(cluster_->node(1).port()) +
                "' is full: evictd's record is refused, deletes work; until it is stored, the database keeps what is not acknowledged");
  EXPECT_TRUE(driven_->sink().status().connected);
  cluster_->node(1).client().command({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_TRUE(driven_->until([&] { return !driven_->journal().records_saved.empty(); }));
  EXPECT_FALSE(driven_->sink().status().problem);
  EXPECT_EQ(driven_->journal().disconnects, 0) << driven_->journal().last_error.to_string();
}

// Sets of tags have a lifetime here, so that 'volatile-lru' may take them.
TEST_F(ClusterSinkTest, AMasterThatEvictsSetsOfTagsIsTold) {
  SinkContext context{"epoch/1", std::chrono::milliseconds(0)};
  context.kept.has_tag_sets = true;
  RedisClient& second = cluster_->node(1).client();
  second.command({"CONFIG", "RESETSTAT"});
  again_with(context);
  EXPECT_FALSE(driven_->sink().is_losing_keys());
  const std::string mine = [&] {
    for (int i = 0;; ++i) {
      if (second.command({"SET", "page:" + std::to_string(i), std::string(100'000, 'x'), "PX", "600000"}).is_ok()) return "page:" + std::to_string(i);
    }
  }();
  second.command({"CONFIG", "SET", "maxmemory-policy", "volatile-lru"});
  second.command({"CONFIG", "SET", "maxmemory", "1"});
  second.command({"SET", mine, "x"});
  second.command({"CONFIG", "SET", "maxmemory", "0"});
  ASSERT_THAT(second.command({"INFO"}).text, AllOf(HasSubstr("maxmemory_policy:volatile-lru"), Not(HasSubstr("evicted_keys:0\r"))));
  again_with(context);
  EXPECT_TRUE(driven_->sink().is_losing_keys());
  EXPECT_THAT(driven_->sink().status().problem.value_or(""),
              StartsWith("127.0.0.1:" + std::to_string(cluster_->node(1).port()) + ": redis evicts keys under 'maxmemory-policy volatile-lru', which may take the set of a tag"));
  EXPECT_TRUE(driven_->sink().status().connected);
  second.command({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  again_with(context);
  EXPECT_FALSE(driven_->sink().is_losing_keys());
  second.command({"CONFIG", "RESETSTAT"});
}

TEST_F(ClusterSinkTest, ATagsTombstoneStandsInItsSlotAndOnEachMember) {
  connect();
  for (const std::string& key : keys("page:", 50)) {
    set(key);
    at("tag:all").command({"ZADD", "tag:all", "9999999999999", key});
  }
  at("tag:all").command({"ZADD", "tag:all", "9999999999999", "page:absent"});
  OrderBuilder tag(Act::kInvalidate, Target::kTags);
  tag.key("all", {10}).trusting();
  expect_counts(driven_->run(tag), 50, 1, 0, 0);
  EXPECT_THAT(at("tag:all").get(marker_of("tag:all")), StartsWith("t epoch/1 10d"));
  EXPECT_EQ(at("page:absent").get(marker_of("page:absent")), "t epoch/1 10") << "a fill that has joined may be under way";
  EXPECT_EQ(at("tag:all").integer({"ZCARD", "tag:all"}), 51) << "nobody takes a membership away";
  expect_counts(driven_->run(tag), 0, 0, 0, 1);
}

TEST_F(ClusterSinkTest, PlainTagsOfEitherKindAreWalked) {
  connect();
  for (const std::string& key : keys("page:", 20)) {
    set(key);
    at("tag:set").command({"SADD", "tag:set", key});
  }
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).key("set", {10}).key("none", {10})), 20, 0, 0, 0);
  EXPECT_EQ(at("tag:set").integer({"SCARD", "tag:set"}), 20);
  at("tag:text").set("tag:text", "no set");
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).key("text", {10})), 1, 0, 0, 0);
}

TEST_F(ClusterSinkTest, PatternsAreWalkedOnEveryMasterBehindTheirTombstones) {
  connect();
  for (const std::string& key : keys("product:", 200)) set(key);
  set("other:1");
  OrderBuilder pattern(Act::kInvalidate);
  pattern.pattern("product:*", {10}).trusting();
  expect_counts(driven_->run(pattern), 200, 0, 0, 0);
  EXPECT_TRUE(is_cached("other:1"));
  for (const Slot slot : {Slot{0}, Slot{8000}, Slot{16383}}) EXPECT_EQ(at(purged_marker(slot)).get(purged_marker(slot)), "t epoch/1 10");
  for (const std::string& key : keys("product:", 200)) set(key);
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).pattern("product:1*", {10}).pattern("product:2*", {10})), 122, 0, 0, 0);
}

TEST_F(ClusterSinkTest, PatternsOfTagsTreatTheMembersOfEach) {
  connect();
  for (const std::string& key : keys("page:", 30)) {
    set(key);
    const std::string tag = "tag:c:" + std::to_string(key.size());
    at(tag).command({"SADD", tag, key});
  }
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).pattern("tag:c:*", {10}).of_tags()), 30, 0, 0, 0);
}

TEST_F(ClusterSinkTest, CountersAndLazyTags) {
  connect();
  OrderBuilder counters(Act::kInvalidate, Target::kCounters);
  counters.key("ns:a", {10, 11}).key("ns:b", {10});
  driven_->run(counters);
  driven_->run(counters);
  EXPECT_EQ(at("ns:a").get("ns:a"), "2");
  EXPECT_EQ(at("ns:b").get("ns:b"), "1");
  OrderBuilder lazy(Act::kInvalidate, Target::kTags);
  lazy.key("l", {10}).lazy().trusting();
  driven_->run(lazy);
  EXPECT_THAT(at(marker_of("tag:l")).get(marker_of("tag:l")), StartsWith("t epoch/1 10"));
}

// Its marker is in another slot, so no reader's function works with it; the value goes all the same.
TEST_F(ClusterSinkTest, AKeyWhoseMarkerIsInAnotherSlotIsDeleted) {
  connect();
  set("a}b");
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).key("a}b", {10}).trusting()), 1, 0, 0, 0);
  EXPECT_FALSE(is_cached("a}b"));
}

TEST_F(ClusterSinkTest, ASlotThatHasMovedIsFollowed) {
  connect();
  set("product:1");
  const std::size_t from = cluster_->owner_of("product:1"), to = (from + 1) % 3;
  cluster_->move_slot(slot_of("product:1"), from, to);
  OrderBuilder order(Act::kInvalidate);
  order.key("product:1", {10}).trusting();
  expect_counts(driven_->run(order), 1, 0, 0, 0);
  cluster_->move_slot(slot_of("product:1"), to, from);
  cluster_->wait_until_agreed();
  expect_counts(driven_->run(order), 0, 0, 0, 1);
  EXPECT_EQ(driven_->journal().disconnects, 0) << "nothing was lost";
  EXPECT_THAT(driven_->sink().lost_parts(), IsEmpty());
}

TEST_F(ClusterSinkTest, KeysOfASlotThatIsHalfMovedAreDeletedOnBothSides) {
  connect();
  const std::vector<std::string> all = {"{s}a", "{s}b", "{s}c", "{s}d"};
  for (const std::string& key : all) set(key);
  const std::size_t from = cluster_->owner_of("{s}"), to = (from + 1) % 3;
  cluster_->open_slot(slot_of("{s}"), from, to);
  cluster_->migrate_keys(slot_of("{s}"), from, to, 2);
  OrderBuilder order(Act::kInvalidate);
  for (const std::string& key : all) order.key(key, {10});
  expect_counts(driven_->run(order), 4, 0, 0, 0);
  EXPECT_EQ(driven_->journal().disconnects, 0);
  cluster_->migrate_keys(slot_of("{s}"), from, to, 10);
  cluster_->close_slot(slot_of("{s}"), to);
  cluster_->move_slot(slot_of("{s}"), to, from);
  cluster_->wait_until_agreed();
}

TEST_F(ClusterSinkTest, ACheckedKeyWaitsWhileItIsApartFromItsMarker) {
  connect();
  set("{s}a");
  const std::size_t from = cluster_->owner_of("{s}"), to = (from + 1) % 3;
  cluster_->open_slot(slot_of("{s}"), from, to);
  OrderBuilder order(Act::kInvalidate);
  order.key("{s}a", {10}).trusting();
  const Order wanted = order.order();
  driven_->sink().submit(900, wanted);
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().state.find("1 calls wait") != std::string::npos || driven_->journal().done.contains(900); }));
  // A move that is left open.
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().held_up.has_value(); }));
  EXPECT_THAT(*driven_->sink().status().held_up, StartsWith("slot " + std::to_string(slot_of("{s}")) + " of the cluster is on the move"));
  EXPECT_TRUE(driven_->sink().status().connected);
  cluster_->migrate_keys(slot_of("{s}"), from, to, 10);
  cluster_->close_slot(slot_of("{s}"), to);
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(900); }));
  EXPECT_TRUE(driven_->until([&] { return !driven_->sink().status().held_up.has_value(); }));
  expect_counts(driven_->journal().done[900], 1, 0, 0, 0);
  EXPECT_EQ(cluster_->node(to).client().get(marker_of("{s}a")), "t epoch/1 10");
  cluster_->move_slot(slot_of("{s}"), to, from);
  cluster_->wait_until_agreed();
}

TEST_F(ClusterSinkTest, EachMasterHasACopyOfTheRecord) {
  connect();
  EXPECT_FALSE(driven_->journal().last_connected.record);
  const Record record = saved(1);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(cluster_->node(i).client().command({"KEYS", "evictd:record:evictd:*"}).elements.size(), 1u) << i;
  }
  again();
  EXPECT_EQ(driven_->journal().last_connected.record, record);
  EXPECT_THAT(driven_->sink().lost_parts(), IsEmpty());
}

TEST_F(ClusterSinkTest, AMasterWithoutItsCopyIsAPartThatIsPurgedAlone) {
  connect();
  const Record record = saved(1);
  cluster_->node(1).client().command({"FLUSHALL"});
  for (const std::string& key : keys("product:", 60)) set(key);
  again();
  EXPECT_EQ(driven_->journal().last_connected.record, record) << "what the others have";
  EXPECT_THAT(driven_->sink().lost_parts(), ElementsAre(ranges_text(slots_of(1))));
  const std::vector<std::string> parts = driven_->sink().lost_parts();
  OrderBuilder purge(Act::kInvalidate);
  purge.pattern("product:*", {}).unconditional(100).trusting();
  Order order = purge.order();
  order.parts = parts;
  driven_->run(order);
  for (const std::string& key : keys("product:", 60)) EXPECT_EQ(is_cached(key), cluster_->owner_of(key) != 1) << key;
}

// FLUSHALL of one of them: the next record is not stored there, where it would vouch for what is gone.
TEST_F(ClusterSinkTest, AMasterThatIsFlushedIsFoundByItsRecord) {  // G6
  for (const bool is_deletes_only : {false, true}) {
    SinkContext context{"epoch/1", std::chrono::milliseconds(0)};
    context.is_record_ours_alone = true;
    context.is_deletes_only = is_deletes_only;
    again_with(context);
    saved(1);
    saved(2);
    ASSERT_EQ(driven_->journal().disconnects, 0);
    cluster_->node(1).client().command({"FLUSHALL"});
    driven_->sink().save_record(numbered_record(3));
    ASSERT_TRUE(driven_->until([&] { return driven_->journal().disconnects == 1; }));
    EXPECT_THAT(driven_->journal().last_error.text, HasSubstr("was flushed"));
    ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().connected; }));
    EXPECT_THAT(driven_->sink().lost_parts(), ElementsAre(ranges_text(slots_of(1))));
    EXPECT_EQ(driven_->journal().records_saved, (std::vector<std::uint64_t>{1, 2}));
  }
}

// Between the reading of its copy and the first record of this process.
TEST_F(ClusterSinkTest, AMasterThatIsFlushedBeforeTheFirstRecordIsFoundByIt) {  // G6
  for (const bool is_deletes_only : {false, true}) {
    SinkContext context{"epoch/1", std::chrono::milliseconds(0)};
    context.is_record_ours_alone = true;
    context.is_deletes_only = is_deletes_only;
    again_with(context);
    saved(1);
    again_with(context);
    cluster_->node(1).client().command({"FLUSHALL"});
    driven_->sink().save_record(numbered_record(2));
    ASSERT_TRUE(driven_->until([&] { return driven_->journal().disconnects == 1; }));
    EXPECT_THAT(driven_->journal().last_error.text, HasSubstr("was flushed"));
    ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().connected; }));
    EXPECT_THAT(driven_->sink().lost_parts(), ElementsAre(ranges_text(slots_of(1))));
    EXPECT_THAT(driven_->journal().records_saved, IsEmpty());
  }
}

// The sets of tags that a master had are gone with it, and nobody knows any more which values of the others were listed there.
TEST_F(ClusterSinkTest, ValuesThatMayHaveLostTheirTagGoOnEveryMaster) {
  const auto fill = [](const std::string& key, const std::string& marker) {
    set(key);
    ASSERT_TRUE(at(key).command({"SET", marker_of(key), marker}).is_ok());
  };
  const auto fill_all = [&] {
    for (const std::string& key : keys("list:", 60)) fill(key, "f 50:50: 1000");
    fill("{user:7}:cart", "f 50:50: 1000");
    fill("leased", "f - 1000");
    fill("ns:1", "t epoch/1 10");  // a counter, or whatever no checked fill has left
    fill("tag:none", "f 50:50: 1000");
    for (const std::string& key : keys("plain:", 60)) set(key);
  };
  connect();
  saved(1);
  cluster_->node(1).client().command({"FLUSHALL"});
  again();
  fill_all();
  const std::vector<std::string> parts = driven_->sink().lost_parts();
  ASSERT_EQ(parts.size(), 1u);
  OrderBuilder purge(Act::kInvalidate);
  purge.pattern("tag:shelf:*", {}).of_tags().unconditional(100).trusting();
  Order order = purge.order();
  order.parts = parts;
  const Outcome outcome = driven_->run(order);
  EXPECT_EQ(outcome.deleted, 62u);
  for (const std::string& key : keys("list:", 60)) {
    EXPECT_FALSE(is_cached(key)) << key;
    EXPECT_THAT(at(key).get(marker_of(key)), StartsWith("t epoch/1 ^100")) << "no fill that was under way brings it back";
  }
  EXPECT_FALSE(is_cached("{user:7}:cart"));
  EXPECT_FALSE(is_cached("leased"));
  for (const std::string& key : keys("plain:", 60)) EXPECT_TRUE(is_cached(key)) << key;
  EXPECT_TRUE(is_cached("ns:1"));
  EXPECT_TRUE(is_cached("tag:none"));
  for (const Slot slot : {Slot{0}, Slot{8000}, Slot{16383}}) EXPECT_EQ(at(purged_marker(slot)).get(purged_marker(slot)), "t epoch/1 ^100");
  // A lazy tag's tombstone is gone as well: whoever reads longer than the purge takes is refused by the slot of its own key.
  for (const Slot slot : {Slot{0}, Slot{8000}, Slot{16383}}) at(purged_marker(slot)).command({"DEL", purged_marker(slot)});
  OrderBuilder lazily(Act::kInvalidate);
  lazily.pattern("tag:lazy:*", {}).of_tags().lazy().unconditional(100).trusting();
  Order of_lazy = lazily.order();
  of_lazy.parts = parts;
  driven_->run(of_lazy);
  for (const Slot slot : {Slot{0}, Slot{8000}, Slot{16383}}) EXPECT_EQ(at(purged_marker(slot)).get(purged_marker(slot)), "t epoch/1 ^100");
  // Once that is on record, purges are what they were.
  saved(2);
  fill_all();
  EXPECT_EQ(driven_->run(purge.order()).deleted, 0u);
  // Another process, that finds the gap on record, knows no more than that.
  Record record = saved(3);
  record.sequence = 4;
  record.gaps.insert("redis_rollback");
  driven_->sink().save_record(record);
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().records_saved.back() == 4; }));
  again();
  EXPECT_EQ(driven_->run(purge.order()).deleted, 62u);
}

// What the audit goes by.
TEST_F(ClusterSinkTest, WhoReadsTheRecordLearnsOfAMasterWithoutItsCopy) {
  auto cache = BlockingCache::open(options());
  ASSERT_TRUE(cache) << cache.error().to_string();
  EXPECT_TRUE((*cache)->is_cluster());
  const std::string name = record_key(options().record_name);
  EXPECT_FALSE((*cache)->record(name)->has_value());
  connect();
  saved(3);
  const auto whole = *(*cache)->record(name);
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->sequence, 3u);
  EXPECT_THAT(whole->gaps, IsEmpty());
  cluster_->node(1).client().command({"FLUSHALL"});
  const auto part = *(*cache)->record(name);
  ASSERT_TRUE(part);
  EXPECT_THAT(part->gaps, ElementsAre("redis_rollback"));
}

TEST_F(ClusterSinkTest, ABlockingCallerFollowsASlotThatMoves) {
  auto cache = BlockingCache::open(options());
  ASSERT_TRUE(cache) << cache.error().to_string();
  const std::size_t from = cluster_->owner_of("{s}"), to = (from + 1) % 3;
  const auto set_all = [&](const std::string& value) {
    std::vector<KeyedCommand> commands;
    for (const std::string& key : keys("{s}", 4)) commands.push_back({key, {"SET", key, value}});
    commands.push_back({"other", {"SET", "other", value}});
    const auto replies = (*cache)->pipeline(commands);
    ASSERT_TRUE(replies) << replies.error().to_string();
    for (const Reply& reply : *replies) EXPECT_TRUE(reply.is_ok()) << reply.text;
  };
  set_all("1");
  cluster_->open_slot(slot_of("{s}"), from, to);
  cluster_->migrate_keys(slot_of("{s}"), from, to, 2);
  set_all("2");  // ASK
  cluster_->migrate_keys(slot_of("{s}"), from, to, 1000);
  cluster_->close_slot(slot_of("{s}"), to);
  set_all("3");  // MOVED
  for (const std::string& key : keys("{s}", 4)) EXPECT_EQ(cluster_->node(to).client().get(key), "3");
  cluster_->move_slot(slot_of("{s}"), to, from);
  cluster_->wait_until_agreed();
}

// Which of its tries is the last one is told by the deadline alone.
TEST_F(ClusterSinkTest, ABlockingCallerWaitsForKeysThatAreApart) {
  RedisOptions made = options();
  made.command_timeout = std::chrono::milliseconds(300);
  auto cache = BlockingCache::open(made);
  ASSERT_TRUE(cache) << cache.error().to_string();
  set("{s}a");
  const std::size_t from = cluster_->owner_of("{s}"), to = (from + 1) % 3;
  cluster_->open_slot(slot_of("{s}"), from, to);
  const auto apart = (*cache)->command("{s}a", {"MGET", "{s}a", "{s}b"});
  ASSERT_TRUE(apart) << apart.error().to_string();
  EXPECT_THAT(apart->text, StartsWith("TRYAGAIN")) << "at the deadline";
  cluster_->migrate_keys(slot_of("{s}"), from, to, 1000);
  cluster_->close_slot(slot_of("{s}"), to);
  const auto whole = (*cache)->command("{s}a", {"MGET", "{s}a", "{s}b"});
  ASSERT_TRUE(whole) << whole.error().to_string();
  EXPECT_EQ(whole->elements.size(), 2u);
  cluster_->move_slot(slot_of("{s}"), to, from);
  cluster_->wait_until_agreed();
}

TEST_F(ClusterSinkTest, AMasterThatWasEmptiedWhileItRestartedIsFoundOut) {
  connect();
  saved(1);
  const std::size_t victim = 2;
  const std::string ranges = ranges_text(slots_of(victim));
  cluster_->node(victim).kill();
  cluster_->node(victim).start_again();
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().connects == 2; }));
  EXPECT_EQ(driven_->journal().last_class, "moved");
  EXPECT_THAT(driven_->sink().lost_parts(), ElementsAre(ranges));
  driven_->sink().set_context(SinkContext{"epoch/1", std::chrono::milliseconds(0)});
  saved(2);
  driven_->sink().load_record(77);
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().records_loaded.contains(77); }));
  EXPECT_EQ(driven_->journal().records_loaded[77]->sequence, 2u);
  EXPECT_THAT(driven_->sink().lost_parts(), IsEmpty());
}

TEST_F(ClusterSinkTest, AMasterThatComesBackGetsWholeCallsAgainAndCountsOnce) {
  RedisOptions made = options();
  made.command_timeout = std::chrono::milliseconds(300);  // before the others take it for dead
  driven_ = std::make_unique<DrivenSink>(made);
  connect();
  for (const bool is_checked : {true, false}) {
    OrderBuilder order(Act::kInvalidate);
    if (is_checked) order.trusting();
    std::vector<std::string> all = keys("product:", 3000);
    for (const std::string& key : all) order.key(key, {10});
    for (const std::string& key : keys("product:", 60)) set(key);
    cluster_->node(1).freeze();
    const Order wanted = order.order();
    const Ticket ticket = is_checked ? 900 : 901;
    driven_->sink().submit(ticket, wanted);
    ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().state.find("1 not connected") != std::string::npos; })) << "the connection is given up";
    cluster_->node(1).thaw();
    ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(ticket); }));
    const Outcome& outcome = driven_->journal().done[ticket];
    EXPECT_EQ(outcome.deleted + outcome.absent + outcome.replayed, all.size());
    cluster_->wait_until_agreed();
    for (const std::string& key : keys("product:", 60)) EXPECT_FALSE(is_cached(key));
  }
}

TEST_F(ClusterSinkTest, WhatIsAskedOfAMasterThatIsAwayWaitsAndTheOthersGoOn) {
  connect();
  std::string here, there;
  for (const std::string& key : keys("product:", 60)) (cluster_->owner_of(key) == 1 ? there : here) = key;
  set(here);
  set(there);
  cluster_->node(1).freeze();
  OrderBuilder both(Act::kInvalidate);
  both.key(here, {10}).key(there, {10});
  const Order wanted = both.order();
  driven_->sink().submit(900, wanted);
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).key(here, {11})), 0, 1, 0, 0);
  EXPECT_FALSE(driven_->journal().done.contains(900));
  cluster_->node(1).thaw();
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(900); }));
  EXPECT_FALSE(is_cached(there));
  cluster_->wait_until_agreed();
}

// A join between the reading of the members and the tombstone would be met by neither.
TEST_F(ClusterSinkTest, ATagsTombstoneIsWrittenBeforeItsMembersAreRead) {
  connect();
  RedisClient& server = at("tag:all");
  server.command({"ZADD", "tag:all", "9999999999999", "page:1"});
  server.command({"CONFIG", "SET", "slowlog-log-slower-than", "0"});
  server.command({"SLOWLOG", "RESET"});
  OrderBuilder tag(Act::kInvalidate, Target::kTags);
  tag.key("all", {10}).trusting();
  driven_->run(tag);
  server.command({"CONFIG", "SET", "slowlog-log-slower-than", "-1"});
  std::vector<std::string> seen;  // the latest first
  for (const Reply& entry : server.command({"SLOWLOG", "GET", "1000"}).elements) {
    const std::vector<Reply>& words = entry.elements.at(3).elements;
    if (words.at(0).text == "ZSCAN") seen.push_back("read");
    if (words.at(0).text == "EVALSHA" && words.size() > 3 && words[3].text == marker_of("tag:all")) seen.push_back("tombstone");
  }
  EXPECT_THAT(seen, ElementsAre("tombstone", "read", "tombstone")) << "before, and the note that it was finished";
}

// What goes from a master that was not read yet to one that was, nobody has seen.
TEST_F(ClusterSinkTest, AWalkIsDoneAgainWhenASlotHasMovedMeanwhile) {
  connect();
  const std::size_t from = cluster_->owner_of("{s}"), to = (from + 1) % 3;
  const std::vector<std::string> wanted = keys("{s}wanted:", 200);
  for (const std::string& key : wanted) set(key);
  RedisClient& source = cluster_->node(from).client();
  source.command({"EVAL", "#!lua flags=allow-cross-slot-keys\nfor i = 1, 30000 do redis.call('SET', 'filling:{s}' .. i, 'x') end", "0"});
  const auto scans = [&](std::size_t node) {
    const std::string info = cluster_->node(node).client().command({"INFO", "commandstats"}).text;
    const std::size_t at = info.find("cmdstat_scan:calls=");
    return at == std::string::npos ? 0 : std::stoi(info.substr(at + 19));
  };
  for (std::size_t i = 0; i < 3; ++i) cluster_->node(i).client().command({"CONFIG", "RESETSTAT"});
  OrderBuilder pattern(Act::kInvalidate);
  pattern.pattern("{s}wanted:*", {10});
  const Order order = pattern.order();
  driven_->sink().submit(900, order);
  ASSERT_TRUE(driven_->until([&] { return scans(to) > 0 && scans(from) > 0; }));
  for (int turn = 0; turn < 3; ++turn) driven_->turn();
  ASSERT_FALSE(driven_->journal().done.contains(900)) << "it is still at work";
  for (int i = 1; i <= 30000; i += 1000) {  // so that the move is quick
    std::vector<std::string> fillers = {"UNLINK"};
    for (int j = i; j < i + 1000; ++j) fillers.push_back("filling:{s}" + std::to_string(j));
    source.command(fillers);
  }
  cluster_->move_slot(slot_of("{s}"), from, to);
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(900); }));
  const long long left = cluster_->node(to).client().integer({"CLUSTER", "COUNTKEYSINSLOT", std::to_string(slot_of("{s}"))});
  cluster_->move_slot(slot_of("{s}"), to, from);
  cluster_->wait_until_agreed();
  EXPECT_EQ(left, 0);
}

// ------------------------------------------------------------- What is refused

// Longer than a node may take to tell of the cluster. Whoever waits for it sleeps.
TEST_F(ClusterSinkTest, APasswordMayTakeItsTime) {
  for (std::size_t i = 0; i < cluster_->size(); ++i) {
    ASSERT_TRUE(cluster_->node(i).client().command({"ACL", "SETUSER", "slow", "on", ">secret", "~*", "&*", "+@all"}).is_ok());
  }
  RedisOptions slow = options();
  const std::string at = "redis://";
  slow.url = at + "slow@" + slow.url.substr(at.size());
  slow.credential.command = {"sh", "-c", "sleep 1.5; echo secret"};
  driven_ = std::make_unique<DrivenSink>(slow);
  int turns = 0;
  ASSERT_TRUE(driven_->until([&] {
    ++turns;
    return driven_->sink().status().connected;
  })) << driven_->journal().last_error.to_string();
  EXPECT_LT(turns, 1000) << "a turn is 50 ms where nothing happens";
  EXPECT_EQ(driven_->journal().disconnects, 0) << driven_->journal().last_error.to_string();
}

// A failover would pass us by, and what is asked of a master that was replaced would wait.
TEST_F(ClusterSinkTest, ThatNoNodeTellsOfTheClusterIsAProblemWhileItsMastersWork) {
  const auto everywhere = [](std::initializer_list<std::string_view> words) {
    for (std::size_t i = 0; i < cluster_->size(); ++i) EXPECT_TRUE(cluster_->node(i).client().command(words).is_ok());
  };
  everywhere({"ACL", "SETUSER", "unseeing", "on", ">secret", "~*", "&*", "+@all"});
  RedisOptions options_of_user = options();
  const std::string scheme = "redis://";
  options_of_user.url = scheme + "unseeing:secret@" + options_of_user.url.substr(scheme.size());
  driven_ = std::make_unique<DrivenSink>(options_of_user);
  connect();
  everywhere({"ACL", "SETUSER", "unseeing", "-cluster|slots"});
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().problem.has_value(); }));
  EXPECT_THAT(*driven_->sink().status().problem, StartsWith("no node tells any more who serves which slots of the cluster: redis refused: 'NOPERM"));
  EXPECT_TRUE(driven_->sink().status().connected);
  set("page:1");
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).trusting().key("page:1", {10})), 1, 0, 0, 0);
  everywhere({"ACL", "SETUSER", "unseeing", "+cluster|slots"});
  EXPECT_TRUE(driven_->until([&] { return !driven_->sink().status().problem.has_value(); }));
  EXPECT_EQ(driven_->journal().disconnects, 0);
}

TEST_F(ClusterSinkTest, SeveralAddressesAreAskedOneAfterTheOther) {
  RedisOptions made = options();
  made.url = "redis://127.0.0.1:1,127.0.0.1:" + std::to_string(cluster_->node(2).port());
  driven_ = std::make_unique<DrivenSink>(made);
  connect();
}

TEST_F(ClusterSinkTest, ADatabaseNumberIsRefused) {
  RedisOptions made = options();
  made.url += made.url.ends_with("/0") ? "" : "/";
  made.url = made.url.substr(0, made.url.rfind('/') + 1) + "3";
  driven_ = std::make_unique<DrivenSink>(made);
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().failed; }));
  EXPECT_EQ(driven_->journal().last_error.to_string(),
            "redis at '127.0.0.1:" + std::to_string(cluster_->node(0).port()) +
                "' is a node of a cluster, which has database 0 alone, and 'redis: url:' names database 3\nhint: leave '/3' out of the url");
}

SinkContext announcing() {
  SinkContext context{"epoch/1", std::chrono::milliseconds(0)};
  context.channels = {"news"};
  return context;
}

// That it is a cluster it learns when it connects; then it is away, until the rules are others (G9).
TEST_F(ClusterSinkTest, RulesThatItCannotServeKeepItAwayUntilThereAreOthers) {
  EXPECT_FALSE(driven_->sink().refusal(announcing())) << "not known yet";
  driven_->sink().set_context(announcing());
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().disconnects == 1 || driven_->journal().failed; }));
  EXPECT_THAT(driven_->journal().last_error.text, StartsWith("a rule has 'announce', and this Redis is a cluster"));
  EXPECT_EQ(driven_->journal().last_class, "cluster");
  EXPECT_EQ(driven_->sink().refusal(announcing())->text, driven_->journal().last_error.text);
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().state == "cluster of 3 masters, which cannot serve the rules"; }));
  EXPECT_THAT(driven_->sink().status().problem.value_or(""), StartsWith("a rule has 'announce'"));
  const SteadyTime begun = read_clocks().steady;
  int turns = 0;
  ASSERT_TRUE(driven_->until([&] { return ++turns && read_clocks().steady > begun + std::chrono::seconds(1); }));
  EXPECT_LT(turns, 500) << "it waits, and does not spin";
  EXPECT_EQ(driven_->journal().disconnects, 1) << "told once";
  EXPECT_EQ(driven_->journal().connects, 0);
  EXPECT_FALSE(driven_->journal().failed);
  driven_->sink().set_context(SinkContext{"epoch/1", std::chrono::milliseconds(0)});
  connect();
  EXPECT_FALSE(driven_->sink().status().problem);
}

TEST_F(ClusterSinkTest, ItNeverEndsByRulesThatItIsGivenWhileItWorks) {
  connect();
  EXPECT_TRUE(driven_->sink().refusal(announcing()));
  SinkContext of_one_server{"epoch/1", std::chrono::milliseconds(0)};
  of_one_server.needs_one_server = "semantic";
  EXPECT_EQ(driven_->sink().refusal(of_one_server)->text, "a rule has 'semantic', and this Redis is a cluster, on which that is not there yet");
  EXPECT_FALSE(driven_->sink().refusal(SinkContext{"epoch/1", std::chrono::milliseconds(0)}));
  driven_->sink().set_context(of_one_server);
  ASSERT_TRUE(driven_->until([&] { return !driven_->sink().status().connected || driven_->journal().failed; }));
  EXPECT_FALSE(driven_->journal().failed);
  driven_->sink().set_context(SinkContext{"epoch/1", std::chrono::milliseconds(0)});
  connect();
  set("page:1");
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).key("page:1", {10})), 1, 0, 0, 0);
}

TEST_F(ClusterSinkTest, OneServerAmongSeveralAddressesIsRefused) {
  RedisServer alone;
  RedisOptions made = options();
  made.url = "redis://127.0.0.1:" + std::to_string(alone.port()) + ",127.0.0.1:" + std::to_string(alone.port());
  driven_ = std::make_unique<DrivenSink>(made);
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().failed; }));
  EXPECT_THAT(driven_->journal().last_error.text, HasSubstr("is not in cluster mode"));
}

// A copy of the record that was still to be sent when all was lost vouches for data that its master may have lost since (G6).
TEST(ClusterSink, ACopyOfTheRecordFromBeforeAllWasLostIsNotSentAfterwards) {
  EVICTD_NEED_REDIS();
  RedisCluster cluster(3, 0, {"--cluster-require-full-coverage", "no"});
  RedisOptions made = options_for(cluster.node(0));
  made.command_timeout = std::chrono::seconds(60);
  DrivenSink driven(made);
  ASSERT_TRUE(driven.until_connected());
  Record record = numbered_record(1);
  driven.sink().save_record(record);
  ASSERT_TRUE(driven.until([&] { return driven.journal().records_saved.size() == 1; }));
  cluster.node(1).freeze();
  record.sequence = 2;
  driven.sink().save_record(record);
  driven.turn();
  cluster.node(2).kill();
  cluster.node(2).start_again();
  ASSERT_TRUE(driven.until([&] { return driven.journal().disconnects > 0; }));
  cluster.node(1).kill();
  cluster.node(1).start_again();
  ASSERT_TRUE(driven.until([&] { return driven.journal().connects == 2; }));
  OrderBuilder all(Act::kInvalidate);
  for (int i = 0; i < 60; ++i) all.key("product:" + std::to_string(i), {10});
  driven.run(all);
  for (const std::size_t emptied : {1, 2}) {
    EXPECT_THAT(cluster.node(emptied).client().command({"KEYS", "evictd:record:evictd:*"}).elements, IsEmpty()) << emptied;
  }
  EXPECT_THAT(driven.journal().records_saved, ElementsAre(1));
}

TEST(ClusterSink, AnAddressThatItsNodesTellAndIsOutOfReachIsNamedAsTheirs) {
  EVICTD_NEED_REDIS();
  RedisCluster cluster(1);
  RedisOptions options = options_for(cluster.node(0));
  const std::string port = std::to_string(free_port());
  ASSERT_TRUE(cluster.node(0).client().command({"CONFIG", "SET", "cluster-announce-port", port}).is_ok());
  DrivenSink driven(options);
  ASSERT_TRUE(driven.until([&] { return driven.journal().last_error.text.find("127.0.0.1:" + port) != std::string::npos; }));
  EXPECT_THAT(driven.journal().last_error.hint, ::testing::HasSubstr("'cluster-announce-port'"));
  ASSERT_TRUE(cluster.node(0).client().command({"CONFIG", "SET", "cluster-announce-port", "0"}).is_ok());
  EXPECT_TRUE(driven.until([&] { return driven.sink().status().connected; })) << "as advised";
}

TEST(ClusterSink, SlotsThatNobodyServesAreNamed) {
  EVICTD_NEED_REDIS();
  RedisServer half({"--cluster-enabled", "yes", "--cluster-port", std::to_string(free_port())});
  half.client().command({"CLUSTER", "ADDSLOTSRANGE", "0", "8191"});
  RedisOptions made = options_for(half);
  DrivenSink driven(made);
  ASSERT_TRUE(driven.until([&] { return driven.journal().last_error.text.find("no node of the cluster serves") != std::string::npos; }));
  EXPECT_THAT(driven.journal().last_error.text, StartsWith("no node of the cluster serves the slots 8192-16383 (8192 of 16384)"));
  EXPECT_EQ(driven.journal().connects, 0);
  EXPECT_FALSE(driven.sink().has_room(Urgency::kPrompt));
  half.client().command({"CLUSTER", "ADDSLOTSRANGE", "8192", "16383"});
  EXPECT_TRUE(driven.until([&] { return driven.journal().connects == 1; })) << "a cluster of one master is one too";
}

}  // namespace
}  // namespace evictd::testing
