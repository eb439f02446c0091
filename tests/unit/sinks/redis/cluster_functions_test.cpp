// The readers' functions on servers in cluster mode: one shard, and three. Each call keeps to one slot.
#include <gmock/gmock.h>

#include <thread>

#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/topology/slots.h"
#include "tests/support/redis_cluster.h"
#include "tests/unit/sinks/redis/script_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Slots, AreThoseOfRedis) {
  EVICTD_NEED_REDIS();
  RedisServer server({"--cluster-enabled", "yes", "--cluster-port", std::to_string(free_port())});
  for (const std::string_view key : {"", "a", "product:7", "{user:7}:cart", "x{}y", "x{", "x{a}{b}", "{a", "evictd:{product:7}", "\xff\x80{"}) {
    EXPECT_EQ(slot_of(key), server.client().integer({"CLUSTER", "KEYSLOT", key})) << key;
  }
  EXPECT_EQ(slot_of("123456789"), 0x31c3);
}

TEST(Slots, EachHasATagOfItsOwn) {
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    ASSERT_EQ(slot_of("{" + slot_tag(static_cast<Slot>(slot)) + "}:x"), slot);
    ASSERT_EQ(slot_of(purged_marker(static_cast<Slot>(slot))), slot);
  }
}

std::string marker_of(std::string_view key) {
  std::string name;
  append_marker_name(name, key);
  return name;
}

class ClusterFunctions : public ::testing::Test {
 protected:
  static void TearDownTestSuite() { cluster_.reset(); }
  void SetUp() override {
    EVICTD_NEED_REDIS();
    if (!cluster_) {
      cluster_ = std::make_unique<RedisCluster>(masters_);
      for (std::size_t i = 0; i < cluster_->size(); ++i) {
        const Reply loaded = cluster_->node(i).client().command(
            std::vector<std::string>{"FUNCTION", "LOAD", function_library(std::chrono::seconds(60), true)});
        ASSERT_EQ(loaded.text, "evictd");
      }
    }
    for (std::size_t i = 0; i < cluster_->size(); ++i) cluster_->node(i).client().command({"FLUSHALL"});
  }

  // Where the first key is.
  static Reply call(std::vector<std::string> arguments) {
    RedisClient& client = cluster_->client_of(arguments.at(2));
    arguments.insert(arguments.begin(), "FCALL");
    return client.command(arguments);
  }
  static long long fill(const std::string& key, const std::string& token) {
    const Reply reply = call({"evictd_fill", "2", key, marker_of(key), token, "60000", "value"});
    EXPECT_EQ(reply.kind, Reply::Kind::kInteger) << reply.text;
    return reply.integer;
  }
  static long long join(const std::string& tag, const std::string& key, const std::string& token, const std::string& expires = "60000") {
    const Reply reply = call({"evictd_join", "2", "tag:" + tag, marker_of("tag:" + tag), key, expires, token});
    EXPECT_EQ(reply.kind, Reply::Kind::kInteger) << reply.text;
    return reply.integer;
  }
  static long long join_lazily(const std::string& tag, const std::string& key, const std::string& token) {
    return call({"evictd_join", "1", marker_of("tag:" + tag), key, "60000", token}).integer;
  }
  static long long seen(const std::string& tag, const std::string& version) {
    const Reply reply = call({"evictd_seen", "1", marker_of("tag:" + tag), version});
    EXPECT_EQ(reply.kind, Reply::Kind::kInteger) << reply.text;
    return reply.integer;
  }
  static void set(const std::string& key, const std::string& text) {
    ASSERT_TRUE(cluster_->client_of(key).command({"SET", key, text, "PX", "60000"}).is_ok());
  }
  static std::string text(const std::string& key) { return cluster_->client_of(key).get(key); }
  // As the daemon leaves it before it reads the members.
  static void invalidate_tag(const std::string& tag, const std::string& tokens) {
    const std::string marker = marker_of("tag:" + tag);
    const Reply reply = cluster_->client_of(marker).command(
        {"EVAL", script(Script::kWalkBegin).text, "1", marker, "e/1", "61000", "i", "0", tokens});
    ASSERT_EQ(reply.kind, Reply::Kind::kArray) << reply.text;
  }

  static inline std::unique_ptr<RedisCluster> cluster_;
  static inline std::size_t masters_ = 3;
};

TEST_F(ClusterFunctions, FillAndGetKeepToTheSlotOfTheKey) {
  for (int i = 0; i < 50; ++i) {
    const std::string key = "product:" + std::to_string(i);
    EXPECT_EQ(fill(key, "20:25:"), 1);
    const Reply got = call({"evictd_get", "2", key, marker_of(key), "LEASE", "100"});
    ASSERT_EQ(got.elements.size(), 4u) << got.text;
    EXPECT_EQ(got.elements[0].text, "fresh");
    EXPECT_EQ(got.elements[3].text, "20:25:");
    EXPECT_EQ(call({"evictd_invalidate", "2", key, marker_of(key), "30"}).text, "deleted");
    EXPECT_EQ(fill(key, "30:31:30"), 0);
    EXPECT_EQ(fill(key, "31:31:"), 1);
  }
}

TEST_F(ClusterFunctions, AFillLooksAtThePurgeMarkerOfItsSlot) {
  for (const std::string key : {"product:7", "{user:7}:cart", "a", "\xff\x80", "k{"}) {
    const std::string purged = purged_marker(slot_of(key));
    EXPECT_EQ(cluster_->owner_of(purged), cluster_->owner_of(key));
    set(purged, "t e/1 30");
    EXPECT_EQ(fill(key, "20:25:"), 0) << key;
    EXPECT_EQ(fill(key, "31:31:"), 1) << key;
  }
  set(purged_marker(slot_of("elsewhere")), "t e/1 30");
  EXPECT_EQ(fill("another", "20:25:"), 1);
}

TEST_F(ClusterFunctions, ATagIsJoinedUnlessItWasInvalidatedPastTheToken) {
  EXPECT_EQ(join("category:2", "product:7", "20:25:"), 1);
  EXPECT_EQ(cluster_->client_of("tag:category:2").command({"ZRANGE", "tag:category:2", "0", "-1"}).elements.at(0).text, "product:7");
  invalidate_tag("category:2", "30");
  EXPECT_EQ(join("category:2", "product:8", "30:31:30"), 0);
  EXPECT_EQ(join("category:2", "product:8", "v:17"), 0);
  EXPECT_EQ(join("category:2", "product:8", "nonsense"), 0);
  EXPECT_EQ(cluster_->client_of("tag:category:2").integer({"ZCARD", "tag:category:2"}), 1);
  EXPECT_EQ(join("category:2", "product:8", "31:31:"), 1);
}

TEST_F(ClusterFunctions, MembershipsEndAndAreRemovedOnlyThen) {
  RedisClient& redis = cluster_->client_of("tag:t");
  ASSERT_EQ(redis.integer({"ZADD", "tag:t", "1", "over"}), 1);
  EXPECT_EQ(join("t", "long", "20:25:", "600000"), 1);
  EXPECT_EQ(join("t", "short", "20:25:", "1000"), 1);
  EXPECT_EQ(join("t", "long", "20:25:", "1"), 1) << "an earlier end takes nothing away";
  EXPECT_EQ(redis.command({"ZSCORE", "tag:t", "over"}).kind, Reply::Kind::kNil);
  const auto end = [&](const char* key) { return std::stoll(redis.command({"ZSCORE", "tag:t", key}).text); };
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_GT(end("short"), now + 61'000) << "as long as the fill may take, besides";
  EXPECT_GT(end("long"), now + 600'000);
  EXPECT_GE(redis.integer({"PEXPIRETIME", "tag:t"}), end("long"));
}

TEST_F(ClusterFunctions, LazyTagsAreSeenOrNot) {
  EXPECT_EQ(seen("t", "20:25:"), 0) << "nothing is known of it";
  EXPECT_EQ(join_lazily("t", "product:7", "20:25:"), 1);
  EXPECT_EQ(seen("t", "20:25:"), 1);
  EXPECT_EQ(seen("t", "20:30:"), 1);
  EXPECT_EQ(seen("t", "19:19:"), 0) << "it may have missed what a marker before this one asked for";
  invalidate_tag("t", "30");
  EXPECT_EQ(seen("t", "20:25:"), 0);
  EXPECT_EQ(seen("t", "30:31:30"), 0);
  EXPECT_EQ(seen("t", "31:31:"), 1);
  EXPECT_EQ(seen("t", "-"), 0);
  EXPECT_EQ(seen("t", ""), 0);
  EXPECT_EQ(join_lazily("t", "product:8", "20:25:"), 0);
  EXPECT_EQ(join_lazily("t", "product:8", "31:31:"), 1);
  EXPECT_EQ(join_lazily("u", "product:8", "lease:1-2"), 0);
}

// A database that was set back gives the numbers of its transactions away once more: what a value had seen by then proves nothing.
TEST_F(ClusterFunctions, WhatWasFilledBeforeTheSourceWasSetBackHasSeenNothing) {
  const auto version_of = [](const std::string& key) {
    const Reply got = call({"evictd_get", "2", key, marker_of(key), "LEASE", "100", "DATED", "1"});
    return got.elements.size() == 4 && got.elements[0].text == "fresh" ? got.elements[3].text : "not fresh: " + got.text;
  };
  ASSERT_EQ(join_lazily("t", "before", "900:900:"), 1);
  ASSERT_EQ(fill("before", "900:900:"), 1);
  EXPECT_THAT(version_of("before"), StartsWith("900:900:@"));
  EXPECT_EQ(seen("t", version_of("before")), 1);
  // As a gap's purge leaves it, by the clock that fills go by: a fill of the next millisecond is known from one of this.
  const auto now = [] {
    const Reply time = cluster_->client_of(marker_of("tag:t")).command({"TIME"});
    return std::stoll(time.elements.at(0).text) * 1000 + std::stoll(time.elements.at(1).text) / 1000;
  };
  const long long since = now() + 1;
  while (now() <= since) std::this_thread::yield();
  const std::string marker = marker_of("tag:t");
  const Reply purged = cluster_->client_of(marker).command({"EVAL", script(Script::kLazyTags).text, "1", marker, "e/2", "61000", "i", std::to_string(since), "^100"});
  ASSERT_EQ(purged.kind, Reply::Kind::kArray) << purged.text;
  EXPECT_EQ(seen("t", version_of("before")), 0);
  ASSERT_EQ(join_lazily("t", "after", "101:101:"), 1);
  ASSERT_EQ(fill("after", "101:101:"), 1);
  EXPECT_EQ(seen("t", version_of("after")), 1);
  // A tag that is joined later vouches for what its own value has seen, whenever that was filled, by whatever server's clock.
  EXPECT_EQ(seen("u", version_of("after")), 0);
  ASSERT_EQ(join_lazily("u", "after", version_of("after")), 1) << "the version as it was told";
  EXPECT_EQ(seen("u", version_of("after")), 1);
  // The date is no part of the version.
  const Reply same = call({"evictd_get", "2", "after", marker_of("after"), "UNLESS", version_of("after"), "DATED", "1"});
  EXPECT_EQ(same.elements.at(0).text, "same");
  EXPECT_EQ(same.elements.at(3).text, "101:101:");
  EXPECT_THAT(call({"evictd_get", "2", "after", marker_of("after"), "DATED", "0"}).text, StartsWith("ERR expected 1 after DATED"));
}

TEST_F(ClusterFunctions, WrongCallsAreErrorsThatSayWhatWasExpected) {
  // A client's key prefix stands before both, so that they are in one slot again and again.
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"evictd_fill", "2", "pre:product:7", "pre:evictd:{pre:product:7}", "20:25:", "60000", "v"},
           {"evictd_get", "2", "{x}:a", "{x}:evictd"},
           {"evictd_invalidate", "2", "{x}:a", "{x}:evictd", "30"},
           {"evictd_join", "2", "pre:{tag:t}", "evictd:{tag:t}", "k", "1000", "20:25:"},
           {"evictd_join", "2", "evictd:{tag:t}", "tag:t", "k", "1000", "20:25:"},
           {"evictd_join", "1", "tag:t", "k", "1000", "20:25:"},
           {"evictd_join", "2", "tag:t", "evictd:{tag:t}", "k", "0", "20:25:"},
           {"evictd_join", "2", "tag:t", "evictd:{tag:t}", "k", "1000"},
           {"evictd_join", "2", "tag:t", "evictd:{tag:t}", "evictd:{k}", "1000", "20:25:"},
           {"evictd_seen", "1", "tag:t", "20:25:"},
           {"evictd_seen", "1", "evictd:{product:7}", "20:25:"}}) {
    const Reply reply = call(arguments);
    if (reply.text.starts_with("CROSSSLOT")) continue;
    EXPECT_THAT(reply.text, StartsWith("ERR expected ")) << arguments[0] << ' ' << arguments[2];
  }
  RedisClient& redis = cluster_->client_of("tag:s");
  redis.command({"SADD", "tag:s", "k"});
  EXPECT_THAT(call({"evictd_join", "2", "tag:s", "evictd:{tag:s}", "k", "1000", "20:25:"}).text, HasSubstr("cannot share a tag"));
}

TEST_F(ClusterFunctions, ATagInTheKeysOwnSlotIsJoinedByTheFillItself) {
  const Reply reply = call({"evictd_fill", "3", "{shop}:product:7", "evictd:{shop}:product:7", "tag:{shop}:all", "20:25:", "60000", "v"});
  EXPECT_EQ(reply.integer, 1) << reply.text;
  EXPECT_EQ(cluster_->client_of("tag:{shop}:all").integer({"ZCARD", "tag:{shop}:all"}), 1);
}

TEST_F(ClusterFunctions, DocumentedRightsAreEnough) {  // docs/readers.md
  std::vector<std::unique_ptr<RedisClient>> readers;
  for (std::size_t i = 0; i < cluster_->size(); ++i) {
    const Reply made = cluster_->node(i).client().command(documented("readers.md", "ACL SETUSER cluster_reader "));
    ASSERT_TRUE(made.is_ok()) << made.text;
    readers.push_back(std::make_unique<RedisClient>(cluster_->node(i).port()));
    ASSERT_TRUE(readers.back()->command({"AUTH", "cluster_reader", "password"}).is_ok());
  }
  const auto as_reader = [&](std::vector<std::string> arguments) {
    RedisClient& reader = *readers[cluster_->owner_of(arguments.at(2))];
    arguments.insert(arguments.begin(), "FCALL");
    return reader.command(arguments);
  };
  const auto joined = [&] {
    return as_reader({"evictd_join", "2", "tag:category:2", "evictd:{tag:category:2}", "product:7", "60000", "20:25:"});
  };
  EXPECT_EQ(joined().integer, 1) << joined().text;
  cluster_->client_of("tag:category:2").command({"ZADD", "tag:category:2", "1", "over"});
  EXPECT_EQ(joined().integer, 1) << joined().text;
  const Reply stored = as_reader({"evictd_fill", "2", "product:7", "evictd:{product:7}", "20:25:", "60000", "v"});
  EXPECT_EQ(stored.integer, 1) << stored.text;
  const Reply got = as_reader({"evictd_get", "2", "product:7", "evictd:{product:7}", "LEASE", "1000"});
  EXPECT_EQ(got.elements.size(), 4u) << got.text;
  for (const auto& reader : readers) {
    EXPECT_TRUE(reader->command({"SET", "evictd:{tag:category:2}", "x"}).is_error());
    EXPECT_TRUE(reader->command({"SET", purged_marker(0), "x"}).is_error());
  }
}

class ClusterOfOneShard : public ClusterFunctions {
 protected:
  void SetUp() override {
    cluster_.reset();
    masters_ = 1;
    ClusterFunctions::SetUp();
  }
  void TearDown() override {
    cluster_.reset();
    masters_ = 3;
  }
};

TEST_F(ClusterOfOneShard, IsAClusterToo) {
  EXPECT_EQ(fill("product:7", "20:25:"), 1);
  EXPECT_EQ(join("category:2", "product:7", "20:25:"), 1);
  EXPECT_EQ(join_lazily("t", "product:7", "20:25:"), 1);
  EXPECT_EQ(seen("t", "20:25:"), 1);
  set(purged_marker(slot_of("product:7")), "t e/1 30");
  EXPECT_EQ(fill("product:7", "20:25:"), 0);
}

}  // namespace
}  // namespace evictd::testing
