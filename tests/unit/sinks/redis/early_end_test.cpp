// Markers that take long, more of them in one call than Redis should be kept busy for: the call ends early, and the rest is done by others. Each
// marker holds no more than evictd may write, so it is read, and taken apart.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/unit/sinks/redis/script_fixture.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

constexpr int kKeys = 600;
constexpr int kMarkersMax = 64;  // of these, in one call

std::string slow_marker(const std::string& epoch) {
  std::string text = "t " + epoch + " 1d";
  for (int i = 0; i < 63; ++i) text += ",1d";
  return text;
}

class EarlyEnd : public SinkTest {
 protected:
  static std::string key(int i) { return "k:" + std::to_string(i); }
  void forge(const std::string& name) { redis().command({"SET", name, slow_marker("epoch/1"), "PX", "60000"}); }
  void set_all() {
    for (int i = 0; i < kKeys; ++i) {
      redis().command({"SET", key(i), "v"});
      forge(marker_name(key(i)));
    }
    redis().command({"CONFIG", "RESETSTAT"});
  }
  void expect_many_calls() {
    const std::string stats = redis().command({"INFO", "commandstats"}).text;
    const std::string head = "cmdstat_evalsha:calls=";
    const std::size_t at = stats.find(head);
    ASSERT_NE(at, std::string::npos);
    EXPECT_GE(std::stoi(stats.substr(at + head.size())), kKeys / kMarkersMax);
  }
  void expect_all_gone(const std::string& tombstone) {
    for (int i = 0; i < kKeys; ++i) {
      ASSERT_FALSE(redis().exists(key(i))) << key(i);
      ASSERT_THAT(marker(key(i)), ::testing::EndsWith(tombstone)) << key(i);
    }
  }
};

TEST_F(EarlyEnd, EveryKeyIsDoneOnce) {  // G1
  set_all();
  OrderBuilder order(Act::kInvalidate);
  order.trusting();
  for (int i = 0; i < kKeys; ++i) order.key(key(i), {10});
  expect_counts(run(order), kKeys, 0, 0, 0);
  expect_all_gone(",10");
  expect_many_calls();
  expect_counts(run(order), 0, 0, 0, kKeys);
}

TEST_F(EarlyEnd, HitsAreToldOfTheirOwnKeys) {
  set_all();
  OrderBuilder order(Act::kInvalidate);
  order.trusting().refreshed();
  std::vector<std::uint32_t> there;
  for (int i = 0; i < kKeys; ++i) {
    order.key(key(i), {10 + static_cast<std::uint64_t>(i)});
    if (i % 3 == 0) redis().command({"DEL", key(i)});
    if (i % 3 != 0) there.push_back(static_cast<std::uint32_t>(i));
  }
  Outcome outcome = run(order);
  expect_counts(outcome, there.size(), kKeys - there.size(), 0, 0);
  std::sort(outcome.hits.begin(), outcome.hits.end());
  EXPECT_EQ(outcome.hits, there);
  for (int i = 0; i < kKeys; ++i) EXPECT_THAT(marker(key(i)), ::testing::EndsWith("," + std::to_string(10 + i)));
  expect_many_calls();
}

TEST_F(EarlyEnd, ScriptsThatWereFlushedAreLoadedForTheRestAsWell) {
  set_all();
  redis().command({"SCRIPT", "FLUSH"});
  OrderBuilder order(Act::kInvalidate);
  order.trusting();
  for (int i = 0; i < kKeys; ++i) order.key(key(i), {10});
  expect_counts(run(order), kKeys, 0, 0, 0);
  expect_all_gone(",10");
}

TEST_F(EarlyEnd, OfATagAllMembersAreWalked) {
  set_all();
  for (int i = 0; i < kKeys; ++i) redis().command({"SADD", "tag:t", key(i)});
  expect_counts(run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {10})), kKeys, 0, 0, 0);
  expect_all_gone(",10");
  EXPECT_EQ(redis().integer({"SCARD", "tag:t"}), 0);
  expect_many_calls();
}

TEST_F(EarlyEnd, OfAPatternAllKeysAreWalked) {
  set_all();
  expect_counts(run(OrderBuilder(Act::kInvalidate, Target::kPatterns).trusting().key("k:*", {10})), kKeys, 0, 0, 0);
  expect_all_gone(",10");
  expect_many_calls();
}

TEST_F(EarlyEnd, LazyTagsAreAllMarked) {
  redis().command({"CONFIG", "RESETSTAT"});
  OrderBuilder order(Act::kInvalidate, Target::kTags);
  order.trusting().lazy();
  for (int i = 0; i < kKeys; ++i) {
    forge(marker_name("tag:" + key(i)));
    order.key(key(i), {10});
  }
  expect_counts(run(order), kKeys, 0, 0, 0);
  for (int i = 0; i < kKeys; ++i) EXPECT_THAT(marker("tag:" + key(i)), ::testing::EndsWith(",10"));
  expect_many_calls();
}

class EarlyEndOfScripts : public ScriptTest {
 protected:
  static std::string key(std::size_t i) { return "k:" + std::to_string(i); }
  // Keys and then their markers, all of them there.
  static std::vector<std::string> forged(std::size_t count, const std::string& text) {
    redis().command({"FLUSHDB"});
    std::vector<std::string> keys;
    for (std::size_t i = 0; i < count; ++i) keys.push_back(key(i));
    for (std::size_t i = 0; i < count; ++i) {
      redis().set(key(i), "v");
      set_marker(key(i), text);
      keys.push_back(marker_of(key(i)));
    }
    return keys;
  }
};

// Whatever they hold, and whatever is asked: what is long, or has many parts, or is compared with much.
TEST_F(EarlyEndOfScripts, TellsHowManyKeysWereDoneAndLeavesTheOthers) {
  const auto repeated = [](const std::string& unit, std::size_t times) {
    std::string text;
    for (std::size_t i = 0; i < times; ++i) text += unit;
    return text;
  };
  const std::string tokens = "t e/1 " + repeated("1d,", 63) + "1d";
  const std::string snapshot = "1:9000000000:" + repeated("2,", 3'800) + "2";
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"tokens", tokens},
      {"tokens under a long snapshot", tokens + " n" + snapshot},
      {"a long snapshot", "t e/1 1 n" + snapshot},
      {"row versions", "t e/1 " + repeated("v2024-02-03T04:05:06.789Z,", 16) + repeated("1,", 40) + "1"},
      {"what looks like the transaction", "t e/1 " + repeated("910,", 63) + "910"},
      {"a fill under a long snapshot", "f 1:9000000000:" + repeated("2,", 1'050) + "10 1700000000000"},
      {"unreadable", std::string(8'192, 'x')},
  };
  constexpr std::size_t kCount = 512;
  for (const auto& [name, text] : kinds) {
    for (const std::string wanted : {"10", "v7"}) {
      SCOPED_TRACE(name + ", " + wanted);
      if (name == "what looks like the transaction" && wanted == "v7") continue;
      const std::vector<std::string> keys = forged(kCount, text);
      const Reply reply = run(Script::kInvalidate, keys, {"e/1", "61000", "if", "0 500:500:", wanted});
      ASSERT_EQ(reply.elements.size(), 2u);
      const auto done = static_cast<std::size_t>(reply.elements[1].integer);
      EXPECT_GE(done, 1u);
      EXPECT_LE(done, kCount / 2);
      EXPECT_EQ(static_cast<std::size_t>(reply.elements[0].elements.at(0).integer), done);
      EXPECT_FALSE(redis().exists(key(done - 1)));
      EXPECT_TRUE(redis().exists(key(done)));
      EXPECT_EQ(marker(key(done)), text);
    }
  }
}

// The last of them is done before a call can end early; a call of one key never does.
TEST_F(EarlyEndOfScripts, IsNotToldWhereAllWereDone) {
  for (const std::size_t count : {1, 2}) {
    const std::vector<std::string> keys = forged(count, "t e/1 1d n1:9000000000:" + std::string(7'000, '2'));
    EXPECT_EQ(run(Script::kInvalidate, keys, {"e/1", "61000", "if", "0", "10"}).elements.size(), 4u);
  }
}

// Tombstones as they usually are, of rules of either kind.
TEST_F(EarlyEndOfScripts, DoesNotBefallTheUsualCall) {
  constexpr std::size_t kCount = 512;
  std::string twenty = "100000001";
  for (int i = 2; i < 20; ++i) twenty += "," + std::to_string(100'000'000 + i);
  for (const std::string& text : {std::string("t e/1 9"), "t e/1 " + twenty, std::string("f 5:9:7 1700000000000")}) {
    const std::vector<std::string> keys = forged(kCount, text);
    EXPECT_EQ(run(Script::kInvalidate, keys, {"e/1", "61000", "if", "0 500:500:", "100000100"}).elements.size(), 4u) << text;
  }
}

}  // namespace
}  // namespace evictd::testing
