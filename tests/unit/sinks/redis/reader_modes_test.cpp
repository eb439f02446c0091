// What rules for readers ask of Redis: row versions, stale values, lazy tags, namespace counters, announcements.
// The sink's commands against a real Redis, and what readers' functions then say.
#include <gmock/gmock.h>

#include "tests/unit/sinks/redis/script_fixture.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

class ReaderModes : public SinkTest {
 protected:
  long long fill(const std::string& key, const std::string& token, std::vector<std::string> tags = {}) {
    std::vector<std::string> call = {"FCALL", "evictd_fill", std::to_string(2 + tags.size()), key, marker_name(key)};
    call.insert(call.end(), tags.begin(), tags.end());
    call.insert(call.end(), {token, "600000", "value"});
    return redis().command(call).integer;
  }
  std::string state(const std::string& key, std::vector<std::string> tags = {}) {
    std::vector<std::string> call = {"FCALL", "evictd_get", std::to_string(2 + tags.size()), key, marker_name(key)};
    call.insert(call.end(), tags.begin(), tags.end());
    const Reply reply = redis().command(call);
    return reply.elements.empty() ? reply.text : reply.elements[0].text;
  }
  void set_context(std::vector<std::string> channels, const std::string& snapshot = {}) {
    SinkContext context{"epoch/1", 0ms, std::nullopt, std::move(channels)};
    if (!snapshot.empty()) context.snapshot = *Snapshot::parse(snapshot);
    driven_->sink().set_context(context);
  }
  // The next message of a subscribed client.
  static std::string message(RedisClient& subscriber) { return subscriber.receive().elements.at(2).text; }
};

OrderBuilder checked_keys() { return OrderBuilder(Act::kInvalidate).trusting(); }

// ---- Row versions

TEST_F(ReaderModes, RowVersionAsksFillsToReachIt) {
  run(checked_keys().key("p:1", {10}).row_version("17"));
  EXPECT_EQ(marker("p:1"), "t epoch/1 v17");
  EXPECT_EQ(fill("p:1", "v:16"), 0);
  EXPECT_EQ(fill("p:1", "v:17"), 1);
  expect_counts(run(checked_keys().key("p:1", {10}).row_version("17")), 0, 0, 1, 0);
  expect_counts(run(checked_keys().key("p:1", {11}).row_version("18446744073709551615")), 1, 0, 0, 0);
  EXPECT_EQ(fill("p:1", "v:18446744073709551614"), 0) << "beyond 2^53, and still exact";
  EXPECT_EQ(fill("p:1", "v:18446744073709551615"), 1);
}

TEST_F(ReaderModes, UnknownRowVersionLetsNoFillProveItself) {  // G5
  run(checked_keys().key("p:1", {10}).row_version("17").key("p:2", {10}).row_version(""));
  EXPECT_EQ(marker("p:2"), "t epoch/1 10");
  EXPECT_EQ(fill("p:2", "v:99"), 0);
  expect_counts(run(checked_keys().key("p:2", {10}).row_version("")), 0, 0, 0, 1);
  expect_counts(run(checked_keys().key("p:2", {11}).row_version("")), 0, 1, 0, 0);
}

TEST_F(ReaderModes, RowVersionsThatDoNotCompareForbidEachOthersFills) {  // G5
  run(checked_keys().key("p:1", {10}).row_version("17"));
  run(checked_keys().key("p:1", {11}).row_version("2024-02-03T04:05:06Z"));
  run(checked_keys().key("p:1", {12}).row_version("18"));
  EXPECT_EQ(marker("p:1"), "t epoch/1 v18,v2024-02-03T04:05:06Z");
  EXPECT_EQ(fill("p:1", "v:18"), 0);
  EXPECT_EQ(fill("p:1", "v:2025-01-01T00:00:00Z"), 0);
}

// ---- mode: stale

TEST_F(ReaderModes, StaleValueStaysForItsGrace) {
  ASSERT_EQ(fill("p:1", "100:100:"), 1);
  expect_counts(run(checked_keys().grace(5s).key("p:1", {120})), 1, 0, 0, 0);
  EXPECT_EQ(state("p:1"), "stale");
  EXPECT_EQ(redis().get("p:1"), "value");
  EXPECT_LE(redis().integer({"PTTL", "p:1"}), 5000);
  EXPECT_EQ(fill("p:1", "110:110:"), 0);
  EXPECT_EQ(fill("p:1", "130:130:"), 1);
  EXPECT_EQ(state("p:1"), "fresh");
}

TEST_F(ReaderModes, FullRedisMarksStaleValuesToo) {  // G3
  ASSERT_EQ(fill("p:1", "100:100:"), 1);
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  // The value lives no longer than the grace as it is: nothing to shorten.
  run(checked_keys().grace(24h).key("p:1", {120}).key("p:2", {120}));
  EXPECT_EQ(state("p:1"), "stale");
  EXPECT_EQ(marker("p:2"), "t epoch/1 120");
  redis().command({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(fill("p:2", "110:110:"), 0);
}

TEST_F(ReaderModes, StaleMembersOfATagStayForTheirGrace) {
  ASSERT_EQ(fill("p:1", "100:100:", {"tag:t"}), 1);
  run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().grace(5s).key("t", {120}));
  EXPECT_EQ(state("p:1", {"tag:t"}), "stale");
}

// ---- tags_mode: lazy

OrderBuilder lazy_tags(const std::vector<std::pair<std::string, std::uint64_t>>& tags, Act act = Act::kInvalidate) {
  OrderBuilder builder(act, Target::kTags);
  builder.trusting().lazy();
  for (const auto& [tag, xid] : tags) builder.key(tag, {xid});
  return builder;
}

TEST_F(ReaderModes, LazyTagIsOneMarkerAndMakesItsValuesStale) {
  const std::string tag_marker = marker_name("tag:t");
  ASSERT_EQ(fill("p:1", "100:100:", {tag_marker}), 1);
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh");
  expect_counts(run(lazy_tags({{"t", 120}, {"never seen", 121}})), 1, 1, 0, 0);
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  EXPECT_EQ(fill("p:1", "110:110:", {tag_marker}), 0);
  EXPECT_EQ(fill("p:1", "121:121:", {tag_marker}), 1);
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh");
  expect_counts(run(lazy_tags({{"t", 120}})), 0, 0, 0, 1);
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh") << "a replay changes nothing";
}

TEST_F(ReaderModes, LazyTagsMarkerNeverGetsShorter) {
  const std::string tag_marker = marker_name("tag:t");
  ASSERT_EQ(fill("p:1", "100:100:", {tag_marker}), 1);
  run(lazy_tags({{"t", 120}}));
  EXPECT_GT(redis().integer({"PTTL", tag_marker}), 500'000) << "it must outlive the value";
  run(lazy_tags({{"t", 121}}));
  run(lazy_tags({{"t", 121}}, Act::kRenew));
  EXPECT_GT(redis().integer({"PTTL", tag_marker}), 500'000);
}

TEST_F(ReaderModes, LazyTagsMarkerMayLiveForThousandsOfYears) {
  const std::string tag_marker = marker_name("tag:t");
  const std::string years = "9007199254740991";
  ASSERT_EQ(redis().integer({"FCALL", "evictd_fill", "3", "p:1", marker_name("p:1"), tag_marker, "100:100:", years, "v"}), 1);
  expect_counts(run(lazy_tags({{"t", 120}})), 1, 0, 0, 0);
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  EXPECT_GT(redis().integer({"PTTL", tag_marker}), 9'007'199'000'000'000);
}

TEST_F(ReaderModes, LazyTagMadeAnewByAnotherValueDoesNotFreshenOlderOnes) {  // G5
  const std::string tag_marker = marker_name("tag:t");
  ASSERT_EQ(fill("p:1", "100:100:", {tag_marker}), 1);
  run(lazy_tags({{"t", 110}}));
  redis().command({"DEL", tag_marker});  // evicted
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  const long long before = redis().integer({"PTTL", "p:1"});
  while (redis().integer({"PTTL", "p:1"}) >= before) {
  }  // the clock of Redis has moved on
  ASSERT_EQ(fill("p:2", "130:130:", {tag_marker}), 1);
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  EXPECT_EQ(state("p:2", {tag_marker}), "fresh");
}

// A server that came back may have been set back, and gives ids away again: what a value had seen before proves nothing of them.
TEST_F(ReaderModes, LazyTagsValuesOfBeforeTheServerCameBackAreStaleAtTheNextInvalidation) {  // G5
  const std::string tag_marker = marker_name("tag:t");
  ASSERT_EQ(fill("p:1", "200:200:", {tag_marker}), 1);
  run(lazy_tags({{"t", 110}}));
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh") << "110 is in the value";
  const long long filled = std::stoll(redis().get(marker_name("p:1")).substr(std::string("f 200:200: ").size()));
  driven_->sink().set_context(SinkContext{"epoch/1", std::chrono::milliseconds(filled + 1)});
  while (redis().integer({"EVAL", "local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)", "0"}) <= filled + 1) {
  }  // the clock of Redis has moved on
  run(lazy_tags({{"t", 111}}));
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  ASSERT_EQ(fill("p:1", "120:120:", {tag_marker}), 0) << "it goes back behind what was there";
  redis().command({"DEL", "p:1", marker_name("p:1")});
  ASSERT_EQ(fill("p:1", "120:120:", {tag_marker}), 1);
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh");
  run(lazy_tags({{"t", 112}}));
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh") << "what was filled since is believed";
}

TEST_F(ReaderModes, ManyLazyTagsInOneCommand) {
  std::vector<std::pair<std::string, std::uint64_t>> tags;
  for (std::uint64_t i = 0; i < 1500; ++i) tags.emplace_back("t" + std::to_string(i), 100 + i % 2);
  expect_counts(run(lazy_tags(tags)), 0, 1500, 0, 0);
  EXPECT_EQ(marker("tag:t1499"), "t epoch/1 101");
  redis().command({"SCRIPT", "FLUSH"});
  expect_counts(run(lazy_tags(tags)), 0, 0, 0, 1500);
}

TEST_F(ReaderModes, PatternOfLazyTagsReachesTheirMarkersOnly) {
  const std::string tag_marker = marker_name("tag:cat:5");
  ASSERT_EQ(fill("p:1", "100:100:", {tag_marker}), 1);
  ASSERT_EQ(fill("tag:cat:x", "100:100:"), 1);  // a key that only looks like one
  ASSERT_EQ(fill("other:tag:cat:5", "100:100:"), 1);
  run(OrderBuilder(Act::kInvalidate, Target::kPatterns).trusting().lazy().of_tags().unconditional(150).key("tag:cat:*", {}));
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  EXPECT_EQ(state("other:tag:cat:5"), "fresh");
  EXPECT_THAT(marker("other:tag:cat:5"), StartsWith("f "));
}

// As keys are: an unconditional order takes whatever was filled before it. Without a snapshot (Kafka without a database to ask) its token
// is '^0', which asks nothing of a value.
TEST_F(ReaderModes, PurgeOfLazyTagsWithoutASnapshotMakesEverythingBeforeItStale) {  // G6
  const std::string tag_marker = marker_name("tag:cat:5");
  ASSERT_EQ(fill("p:1", "100:100:", {tag_marker}), 1);
  const auto purge = OrderBuilder(Act::kInvalidate, Target::kPatterns).trusting().lazy().of_tags().unconditional(0).key("tag:cat:*", {});
  run(purge);
  EXPECT_EQ(state("p:1", {tag_marker}), "stale");
  const Reply undated = redis().command({"FCALL", "evictd_seen", "1", tag_marker, "100:100:"});
  EXPECT_EQ(undated.integer, 1) << "as documented: without a date nobody can tell";
  const long long begun = std::stoll(marker("tag:cat:5").substr(3));
  while (redis().integer({"EVAL", "local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)", "0"}) < begun) {
  }  // the clock of Redis has moved on
  ASSERT_EQ(fill("p:1", "100:100:", {tag_marker}), 1);
  EXPECT_EQ(state("p:1", {tag_marker}), "fresh");
  run(purge);
  EXPECT_EQ(state("p:1", {tag_marker}), "stale") << "its second walk takes what late readers filled";
}

// ---- Namespace counters

OrderBuilder raise(std::uint64_t xid) { return OrderBuilder(Act::kInvalidate, Target::kCounters).key("ns:c", {xid}); }

TEST_F(ReaderModes, CounterIsRaisedOncePerTransactionHoweverOftenReplayed) {
  expect_counts(run(raise(10)), 1, 0, 0, 0);
  expect_counts(run(raise(10)), 0, 0, 0, 1);
  EXPECT_EQ(redis().get("ns:c"), "1");
  run(OrderBuilder(Act::kInvalidate, Target::kCounters).key("ns:c", {10, 11, 12}));
  EXPECT_EQ(redis().get("ns:c"), "3");
  for (std::uint64_t xid = 100; xid < 200; ++xid) run(raise(xid));
  for (std::uint64_t xid = 100; xid < 200; ++xid) expect_counts(run(raise(xid)), 0, 0, 0, 1);
  EXPECT_EQ(redis().get("ns:c"), "103");
}

TEST_F(ReaderModes, CounterThatIsNoNumberIsReplacedByOneThatNobodyHad) {
  redis().set("ns:c", "not a number");
  run(raise(10));
  EXPECT_GT(std::stoull(redis().get("ns:c")), 1'600'000'000'000ULL);
  redis().command({"DEL", "ns:c"});
  redis().command({"RPUSH", "ns:c", "a"});
  run(raise(11));
  EXPECT_GT(std::stoull(redis().get("ns:c")), 1'600'000'000'000ULL);
}

TEST_F(ReaderModes, CounterOfAFullRedisIsRaised) {
  redis().set("ns:c", "7");
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  run(raise(10));
  EXPECT_EQ(redis().get("ns:c"), "8");
}

TEST_F(ReaderModes, PatternOfCountersRaisesThemAndDeletesNothing) {
  redis().set("ns:1", "5");
  redis().set("ns:2", "6");
  run(OrderBuilder(Act::kInvalidate, Target::kPatterns).of_counters().unconditional(0).key("ns:*", {}));
  EXPECT_EQ(redis().get("ns:1"), "6");
  EXPECT_EQ(redis().get("ns:2"), "7");
  redis().set("ns:1:product:7", "a value under the counter's name");
  run(OrderBuilder(Act::kInvalidate, Target::kPatterns).of_counters().unconditional(0).key("ns:*", {}));
  EXPECT_EQ(redis().get("ns:1:product:7"), "a value under the counter's name");
  EXPECT_EQ(redis().get("ns:1"), "7");
  run(OrderBuilder(Act::kInvalidate, Target::kPatterns).of_counters().unconditional(0).key("ns:new", {}));
  EXPECT_EQ(redis().get("ns:new"), "1") << "a counter by its name is raised, there or not";
}

// ---- Announcements

// Somebody's process may hold the value that the one in Redis replaced before we came.
TEST_F(ReaderModes, WhatAReaderOrWriterDidBeforeUsIsAnnouncedAllTheSame) {
  RedisClient subscriber(server_->port());
  subscriber.command({"SUBSCRIBE", "changes"});
  ASSERT_EQ(fill("p:1", "100:100:"), 1);
  expect_counts(run(checked_keys().announced("changes").key("p:1", {10})), 0, 0, 1, 0);
  redis().set("p:2", "old");
  ASSERT_EQ(redis().command({"FCALL", "evictd_invalidate", "2", "p:2", marker_name("p:2"), "10"}).text, "deleted");
  expect_counts(run(checked_keys().announced("changes").key("p:2", {10})), 0, 0, 0, 1);
  run(OrderBuilder(Act::kRenew).trusting().announced("changes").key("p:2", {10}));  // this says nothing
  run(checked_keys().announced("changes").key("p:3", {11}));
  EXPECT_EQ(message(subscriber), R"({"seq":1,"key":"p:1","version":"10"})");
  EXPECT_EQ(message(subscriber), R"({"seq":2,"key":"p:2","version":"10"})");
  EXPECT_EQ(message(subscriber), R"({"seq":3,"key":"p:3","version":"11"})");
}

TEST_F(ReaderModes, EachDeleteIsAnnouncedWithTheNextNumber) {
  RedisClient subscriber(server_->port());
  subscriber.command({"SUBSCRIBE", "changes"});
  redis().set("p:1", "old");
  run(OrderBuilder(Act::kInvalidate).announced("changes").key("p:1", {10}).key("p\"2", {10}));
  run(checked_keys().announced("changes").key("p:3", {11}).row_version("17"));
  run(OrderBuilder(Act::kInvalidate, Target::kTags).announced("changes").key("t", {12}));
  EXPECT_EQ(message(subscriber), R"({"seq":1,"key":"p:1","version":"10"})");
  EXPECT_EQ(message(subscriber), R"({"seq":2,"key":"p\"2","version":"10"})");
  EXPECT_EQ(message(subscriber), R"({"seq":3,"key":"p:3","version":"v17"})");
  EXPECT_EQ(message(subscriber), R"({"seq":4,"tag":"t","version":"12"})");
}

TEST_F(ReaderModes, LazyTagsCountersAndTheEndOfAPatternAreAnnounced) {
  RedisClient subscriber(server_->port());
  subscriber.command({"SUBSCRIBE", "changes"});
  run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().lazy().announced("changes").key("t", {12}));
  run(OrderBuilder(Act::kInvalidate, Target::kCounters).announced("changes").key("ns:c", {13}));
  run(OrderBuilder(Act::kInvalidate, Target::kPatterns).announced("changes").unconditional(0).key("p:*", {}));
  EXPECT_EQ(message(subscriber), R"({"seq":1,"tag":"t","version":"12"})");
  EXPECT_EQ(message(subscriber), R"({"seq":2,"counter":"ns:c","version":"13"})");
  EXPECT_EQ(message(subscriber), R"({"seq":3,"resync":true})");
}

TEST_F(ReaderModes, MembersOfAnAnnouncedTagAreAnnouncedAndLeaveTheSet) {
  RedisClient subscriber(server_->port());
  subscriber.command({"SUBSCRIBE", "changes"});
  ASSERT_EQ(fill("p:1", "100:100:", {"tag:t"}), 1);
  run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().announced("changes").key("t", {120}));
  EXPECT_EQ(message(subscriber), R"({"seq":1,"tag":"t","version":"120"})");
  EXPECT_EQ(message(subscriber), R"({"seq":2,"key":"p:1","version":"120"})");
  EXPECT_FALSE(redis().exists("tag:t"));
}

TEST_F(ReaderModes, SubscribersAreToldToDropAllAfterAReconnect) {
  set_context({"changes"});
  RedisClient subscriber(server_->port());
  subscriber.command({"SUBSCRIBE", "changes"});
  const int connects = driven_->journal().connects;
  redis().command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().connects > connects; }));
  driven_->turn();
  EXPECT_EQ(message(subscriber), R"({"seq":1,"resync":true})");
}

TEST_F(ReaderModes, DocumentedRightsAreEnough) {  // docs/redis.md
  redis().command(std::vector<std::string>{
      "ACL", "SETUSER", "evictd", "on", ">pw", "resetkeys", "~product:*", "~tag:*", "~evictd:*", "+info", "+time",
      "+evalsha", "+script|load", "+unlink", "+get", "+mget", "+getrange", "+exists", "+set", "+pttl", "+pexpire", "+persist", "+scan", "+sscan",
      "+srem", "+client|setname", "+select", "+fcall", "+function|load",
      // What counters and announcements want besides.
      "+zadd", "+zremrangebyscore", "+zremrangebyrank", "+incrby", "~ns:*", "+eval", "+incr", "+publish",
      "resetchannels", "&shop-changes"});
  RedisOptions options = options_for(*server_);
  options.url = "redis://evictd:pw@127.0.0.1:" + std::to_string(server_->port()) + "/0";
  DrivenSink driven(options);
  driven.sink().set_context(SinkContext{"epoch/1", 0ms, std::nullopt, {"shop-changes"}});
  ASSERT_TRUE(driven.until([&] { return driven.sink().status().connected; })) << driven.journal().last_error.to_string();
  redis().set("product:1", "v");
  expect_counts(driven.run(checked_keys().announced("shop-changes").key("product:1", {10})), 1, 0, 0, 0);
  expect_counts(driven.run(lazy_tags({{"t", 120}})), 0, 1, 0, 0);
  expect_counts(driven.run(raise(10)), 1, 0, 0, 0);
  EXPECT_EQ(driven.journal().disconnects, 0) << driven.journal().last_error.to_string();
}

// ---- Many transactions while an old one stays open

TEST_F(ReaderModes, HotKeyTakesFillsAlthoughAnOldTransactionRuns) {
  const std::string snapshot = "50:200:50";  // 50 has been writing for hours
  set_context({}, snapshot);
  for (std::uint64_t xid = 100; xid < 180; ++xid) run(checked_keys().key("hot", {xid}));
  EXPECT_EQ(fill("hot", "50:170:50"), 0) << "has not seen the last ones";
  EXPECT_EQ(fill("hot", "50:200:50"), 1);
}

TEST_F(ReaderModes, WithoutASnapshotAHotKeyWaitsForTheOldTransaction) {  // G5
  for (std::uint64_t xid = 100; xid < 180; ++xid) run(checked_keys().key("hot", {xid}));
  EXPECT_EQ(fill("hot", "50:200:50"), 0);
  EXPECT_EQ(fill("hot", "200:200:"), 1);
}

TEST_F(ReaderModes, SnapshotThatIsBehindAValueDoesNotReplaceIt) {  // G3: the base
  ASSERT_EQ(fill("hot", "300:300:"), 1);  // a reader on a standby that is ahead
  set_context({}, "50:200:50");
  for (std::uint64_t xid = 310; xid < 390; ++xid) run(checked_keys().key("hot", {xid}));
  EXPECT_EQ(fill("hot", "50:400:50"), 0) << "it has not seen 50, which the value that was here had";
  EXPECT_EQ(fill("hot", "400:400:"), 1);
}

}  // namespace
}  // namespace evictd::testing
