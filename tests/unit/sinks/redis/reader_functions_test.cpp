// lua/reader.lua as readers call it: FCALL on a real Redis.
#include <gmock/gmock.h>

#include <map>

#include "tests/unit/sinks/redis/script_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ReaderFunctions : public ScriptTest {
 protected:
  struct Got {
    std::string state;
    std::string value;  // "(nil)" when there is none
    std::string lease;
    std::string version;
  };
  static Got get(std::vector<std::string> keys, std::vector<std::string> options = {}) {
    std::vector<std::string> command = {"evictd_get", std::to_string(keys.size() + 1), keys[0],
                                        marker_of(keys[0])};
    command.insert(command.end(), keys.begin() + 1, keys.end());
    command.insert(command.end(), options.begin(), options.end());
    const Reply reply = call(command);
    EXPECT_EQ(reply.elements.size(), 4u) << reply.text;
    if (reply.elements.size() != 4) return {};
    const auto text = [&](std::size_t i) {
      return reply.elements[i].kind == Reply::Kind::kNil ? std::string("(nil)")
                                                         : reply.elements[i].text;
    };
    return Got{text(0), text(1), text(2), text(3)};
  }
  static long long fill_tagged(const std::string& key, const std::vector<std::string>& tags,
                               const std::string& token) {
    std::vector<std::string> command = {"evictd_fill", std::to_string(2 + tags.size()), key,
                                        marker_of(key)};
    command.insert(command.end(), tags.begin(), tags.end());
    command.insert(command.end(), {token, "60000", "value"});
    return call(command).integer;
  }
  static std::string write_invalidate(const std::string& key, const std::string& token) {
    return call({"evictd_invalidate", "2", key, marker_of(key), token}).text;
  }
  static std::map<std::string, long long> stats() {
    std::map<std::string, long long> counts;
    const Reply reply = call({"evictd_stats", "0"});
    for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) {
      counts[reply.elements[i].text] = reply.elements[i + 1].integer;
    }
    return counts;
  }
  static void invalidate_tag(const std::string& tag, const std::string& tokens) {
    run(Script::kWalkBegin, {marker_of("tag:" + tag)}, {"e/1", "61000", "i", "0", tokens});
  }
};

// ---- fill

TEST_F(ReaderFunctions, FillStoresTheBareValueWithItsLifetime) {
  EXPECT_EQ(fill("k", "20:25:21"), 1);
  EXPECT_EQ(redis().get("k"), "value");
  EXPECT_GT(redis().integer({"PTTL", "k"}), 55'000);
  EXPECT_THAT(marker("k"), StartsWith("f 20:25:21 "));
}

TEST_F(ReaderFunctions, FillOverAFilledMarkerMustSeeEverythingThatOneSaw) {
  const struct {
    const char* there;
    const char* now;
    int stored;
  } cases[] = {
      {"20:25:21", "20:25:21", 1},
      {"20:25:21", "20:25:", 1},
      {"20:25:21", "21:26:21", 1},
      {"20:25:21", "20:24:21", 0},     // 24 was seen
      {"20:25:21", "20:25:21,22", 0},  // 22 was seen
      {"20:25:23,24", "20:23:", 1},    // 23 and 24 were in progress then, too
      {"20:25:24", "20:24:", 1},
      {"20", "20:25:", 1},
      {"20", "19", 0},
      {"20", "21", 1},
      {"20:25:21", "21", 0},
      {"20:25:21", "25", 1},
  };
  for (const auto& one : cases) {
    redis().command({"FLUSHALL"});
    ASSERT_EQ(fill("k", one.there), 1);
    EXPECT_EQ(fill("k", one.now), one.stored) << one.there << " then " << one.now;
  }
}

TEST_F(ReaderFunctions, MarkerOutlivesAShortValueAsLongAsTheTombstoneDid) {  // G3
  invalidate("k", "10");
  EXPECT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "11:11:", "50", "v"}).integer, 1);
  EXPECT_LE(redis().integer({"PTTL", "k"}), 50);
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 50'000);
  while (redis().exists("k")) {
  }
  EXPECT_EQ(fill("k", "10:11:10"), 0) << "a slow reader with the old row";
}

TEST_F(ReaderFunctions, MarkerOutlivesASlowReaderAlsoWhereNoTombstoneWas) {  // G3
  EXPECT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "11:11:", "50", "v"}).integer, 1);
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 50'000);
  EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "kept");
  while (redis().exists("k")) {
  }
  EXPECT_EQ(fill("k", "10:11:10"), 0) << "the event kept the value and wrote nothing";
}

TEST_F(ReaderFunctions, FillDoesNotShortenTheMarkerOfOneThatWasToLiveLonger) {  // G3
  EXPECT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "11:11:", "600000", "v"}).integer, 1);
  EXPECT_EQ(fill("k", "12:12:"), 1);
  EXPECT_LE(redis().integer({"PTTL", "k"}), 60'000);
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 500'000);
}

TEST_F(ReaderFunctions, UnreadableTokensAreRejected) {
  for (const char* token :
       {"", "x", "1:2", "5:4:", "1:2:x", "v:", "v:x", "v:1.5", "-1", "v:2024-02-03"}) {
    EXPECT_EQ(fill("k", token), 0) << token;
  }
  EXPECT_EQ(stats()["rejected_token"], 10);
}

TEST_F(ReaderFunctions, AgeBeyondTheTombstonesLifetimeIsRejected) {
  EXPECT_EQ(fill("k", "11:11:", {"AGE", "59999"}), 1);
  EXPECT_EQ(fill("k", "12:12:", {"AGE", "60000"}), 0);
  EXPECT_EQ(stats()["rejected_age"], 1);
}

TEST_F(ReaderFunctions, JitterOnlyShortens) {
  std::map<long long, int> seen;
  for (int i = 0; i < 30; ++i) {
    const std::string key = "k" + std::to_string(i);
    ASSERT_EQ(
        call({"evictd_fill", "2", key, marker_of(key), "11:11:", "100000", "v", "JITTER", "50"})
            .integer,
        1);
    const long long left = redis().integer({"PTTL", key});
    EXPECT_GE(left, 49'000);
    EXPECT_LE(left, 100'000);
    ++seen[left / 1000];
  }
  EXPECT_GT(seen.size(), 5u) << "lifetimes must differ";
}

TEST_F(ReaderFunctions, WrongCallsSayWhatWasExpected) {
  const auto error = [&](std::vector<std::string> command) {
    return call(std::move(command)).text;
  };
  EXPECT_THAT(error({"evictd_fill", "2", "k", marker_of("k"), "11", "0", "v"}),
              StartsWith("ERR expected key marker"));
  EXPECT_THAT(error({"evictd_fill", "1", "k", "11", "9", "v"}),
              StartsWith("ERR expected key marker"));
  EXPECT_THAT(error({"evictd_fill", "2", "k", "m", "11", "9", "v", "AGES", "1"}),
              StartsWith("ERR expected AGE ms or JITTER percent, got 'AGES'"));
  EXPECT_THAT(error({"evictd_fill", "2", "k", "m", "11", "9", "v", "JITTER", "101"}),
              StartsWith("ERR expected a whole number after AGE, and 0 to 100 after JITTER"));
  EXPECT_THAT(error({"evictd_get", "2", "k", "m", "LEAS", "1"}),
              StartsWith("ERR expected LEASE ms, EARLY beta, UNLESS version or DATED 1, got 'LEAS'"));
  EXPECT_THAT(error({"evictd_get", "1", "k"}), StartsWith("ERR expected key marker [tag ...]"));
  EXPECT_THAT(error({"evictd_invalidate", "2", "k", "m", "soon"}),
              StartsWith("ERR expected key marker and a 64-bit"));
}

// ---- UNLESS

TEST_F(ReaderFunctions, AValueThatTheCallerHasIsNotSentAgain) {
  ASSERT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "20:25:22", "60000", "value"}).integer, 1);
  const long long fresh = stats()["fresh"];
  const Got same = get({"k"}, {"UNLESS", "20:25:22"});
  EXPECT_EQ(same.state, "same");
  EXPECT_EQ(same.value, "(nil)");
  EXPECT_EQ(same.lease, "(nil)");
  EXPECT_EQ(same.version, "20:25:22");
  EXPECT_EQ(stats()["same"], 1);
  EXPECT_EQ(stats()["fresh"], fresh);
  for (const std::string other : {"20:25:", "20:25:22,23", "20", "", "nonsense"}) {
    const Got got = get({"k"}, {"unless", other});
    EXPECT_EQ(got.state, "fresh") << other;
    EXPECT_EQ(got.value, "value") << other;
  }
  // Under tags, and with a lease for who refreshes it early, it is the same question.
  EXPECT_EQ(get({"k", "tag:a"}, {"UNLESS", "20:25:22"}).state, "same");
  invalidate_tag("a", "26");
  EXPECT_EQ(get({"k", "tag:a"}, {"UNLESS", "20:25:22"}).state, "stale") << "what is out of date is never called the same";
  EXPECT_EQ(get({"k", "tag:a"}, {"UNLESS", "20:25:22"}).value, "value");
}

TEST_F(ReaderFunctions, ARowVersionTellsWhatIsTheSameToo) {
  ASSERT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "v:17", "60000", "value"}).integer, 1);
  EXPECT_EQ(get({"k"}, {"UNLESS", "v17"}).state, "same");
  EXPECT_EQ(get({"k"}, {"UNLESS", "v:17"}).state, "fresh");
  EXPECT_EQ(get({"k"}, {"UNLESS", "v18"}).state, "fresh");
}

TEST_F(ReaderFunctions, NothingIsTheSameByAVersionThatTwoValuesMayShare) {
  // A bare xmin: two snapshots of a standby may have it.
  ASSERT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "20", "60000", "value"}).integer, 1);
  EXPECT_EQ(get({"k"}, {"UNLESS", "20"}).state, "fresh");
  // Filled by lease, and by hand.
  const Got miss = get({"l"}, {"LEASE", "5000"});
  ASSERT_EQ(call({"evictd_fill", "2", "l", marker_of("l"), "lease:" + miss.lease, "60000", "value"}).integer, 1);
  EXPECT_EQ(get({"l"}, {"UNLESS", "-"}).state, "fresh");
  ASSERT_TRUE(redis().command({"SET", "h", "value"}).is_ok());
  EXPECT_EQ(get({"h"}, {"UNLESS", ""}).state, "fresh");
}

TEST_F(ReaderFunctions, WhatIsNotThereIsNotTheSame) {
  ASSERT_EQ(call({"evictd_fill", "2", "k", marker_of("k"), "20:25:22", "60000", "value"}).integer, 1);
  redis().command({"UNLINK", "k"});
  EXPECT_EQ(get({"k"}, {"UNLESS", "20:25:22"}).state, "miss");
}

// ---- tags

TEST_F(ReaderFunctions, FillAddsTheKeyToItsTags) {
  EXPECT_EQ(fill_tagged("k", {"tag:a", "tag:b"}, "20:25:"), 1);
  EXPECT_EQ(redis().integer({"SISMEMBER", "tag:a", "k"}), 1);
  EXPECT_EQ(redis().integer({"SISMEMBER", "tag:b", "k"}), 1);
}

TEST_F(ReaderFunctions, FillUnderATagThatIsNoSetStoresNothing) {  // nobody would find it to delete it
  redis().set("tag:text", "x");
  redis().command({"LPUSH", "tag:list", "k"});
  redis().command({"HSET", "tag:hash", "k", "1"});
  redis().command({"SADD", "tag:set", "j"});
  redis().command({"ZADD", "tag:joined", "9999999999999", "j"});
  for (const char* tag : {"tag:text", "tag:list", "tag:hash"}) {
    EXPECT_EQ(call({"evictd_fill", "4", "k", marker_of("k"), "tag:set", tag, "20:25:", "60000", "v"}).text,
              std::string("ERR expected a set of members at '") + tag + "', got another type: the value is not stored");
    EXPECT_FALSE(redis().exists("k")) << tag;
    EXPECT_FALSE(redis().exists(marker_of("k"))) << tag;
  }
  EXPECT_EQ(fill_tagged("k", {"tag:set", "tag:joined"}, "20:25:"), 1);
}

TEST_F(ReaderFunctions, FillThatRacedATagsInvalidationIsRejected) {  // G3
  invalidate_tag("a", "22");
  EXPECT_EQ(fill_tagged("k", {"tag:a"}, "20:25:22"), 0);
  EXPECT_FALSE(redis().exists("k"));
  EXPECT_EQ(redis().integer({"EXISTS", "tag:a"}), 0) << "a rejected fill adds to no tag";
  EXPECT_EQ(fill_tagged("k", {"tag:a"}, "23:25:"), 1);
}

TEST_F(ReaderFunctions, MemberTagsTombstoneMakesAnOlderValueStaleUntilTheWalkReachesIt) {
  fill_tagged("k", {"tag:a"}, "20:25:");
  EXPECT_EQ(get({"k", "tag:a"}).state, "fresh");
  invalidate_tag("a", "22");
  EXPECT_EQ(get({"k", "tag:a"}).state, "fresh") << "22 is in the value";
  invalidate_tag("a", "26");
  EXPECT_EQ(get({"k", "tag:a"}).state, "stale");
  EXPECT_EQ(get({"k"}).state, "fresh") << "a reader who names no tag asks about none";
}

TEST_F(ReaderFunctions, LazyTagMakesAnOlderValueStale) {
  const std::string tag = marker_of("tag:a");
  EXPECT_EQ(fill_tagged("k", {tag}, "20:25:"), 1);
  EXPECT_FALSE(redis().exists("tag:a")) << "a lazy tag has no members";
  EXPECT_EQ(get({"k", tag}).state, "fresh");
  invalidate_tag("a", "22");
  EXPECT_EQ(get({"k", tag}).state, "fresh") << "22 is in the value";
  invalidate_tag("a", "26");
  EXPECT_EQ(get({"k", tag}).state, "stale");
  EXPECT_EQ(fill_tagged("k", {tag}, "20:25:"), 0);
  EXPECT_EQ(fill_tagged("k", {tag}, "27:27:"), 1);
  EXPECT_EQ(get({"k", tag}).state, "fresh");
}

TEST_F(ReaderFunctions, LazyTagsThirtyTwoBitIdsProveNothingOfAValueOfManyHoursAgo) {  // G5
  const std::string tag = marker_of("tag:a");
  EXPECT_EQ(fill_tagged("k", {tag}, "20:25:"), 1);
  invalidate_tag("a", "~10");
  EXPECT_EQ(get({"k", tag}).state, "fresh") << "10 is in the value";
  set_marker("k", "f 20:25: 1700000000000");
  EXPECT_EQ(get({"k", tag}).state, "stale");
}

TEST_F(ReaderFunctions, LazyTagsMarkerOutlivesItsValuesAndIsNeverShortened) {
  const std::string tag = marker_of("tag:a");
  call({"evictd_fill", "3", "k", marker_of("k"), tag, "20:25:", "500000", "v"});
  EXPECT_GT(redis().integer({"PTTL", tag}), 490'000);
  invalidate_tag("a", "26");
  EXPECT_GT(redis().integer({"PTTL", tag}), 490'000) << "or the value would pass for fresh again";
  EXPECT_EQ(get({"k", tag}).state, "stale");
  fill_tagged("j", {tag}, "27:27:");
  EXPECT_GT(redis().integer({"PTTL", tag}), 490'000);
}

TEST_F(ReaderFunctions, LazyTagsMarkerIsLengthenedForALongerValue) {
  const std::string tag = marker_of("tag:a");
  fill_tagged("k", {tag}, "20:25:");
  call({"evictd_fill", "3", "j", marker_of("j"), tag, "20:25:", "500000", "v"});
  EXPECT_GT(redis().integer({"PTTL", tag}), 490'000);
}

TEST_F(ReaderFunctions, LazyTagWhoseMarkerIsGoneMakesValuesStale) {  // G5
  const std::string tag = marker_of("tag:a");
  fill_tagged("k", {tag}, "20:25:");
  redis().command({"DEL", tag});
  EXPECT_EQ(get({"k", tag}).state, "stale");
}

TEST_F(ReaderFunctions, LazyTagMakesAnUnversionedValueStale) {  // G5
  redis().set("k", "plain");
  invalidate_tag("a", "22");
  EXPECT_EQ(get({"k", marker_of("tag:a")}).state, "stale");
}

TEST_F(ReaderFunctions, LazyTagWithRowVersions) {
  const std::string tag = marker_of("tag:a");
  EXPECT_EQ(fill_tagged("k", {tag}, "v:17"), 1);
  EXPECT_EQ(get({"k", tag}).state, "fresh");
}

// ---- get and leases

TEST_F(ReaderFunctions, GetOfAFreshValueTellsItsVersion) {
  fill("k", "20:25:21");
  const Got got = get({"k"});
  EXPECT_EQ(got.state, "fresh");
  EXPECT_EQ(got.value, "value");
  EXPECT_EQ(got.version, "20:25:21");
  EXPECT_EQ(got.lease, "(nil)");
}

TEST_F(ReaderFunctions, OneLeasePerMiss) {
  const Got first = get({"k"}, {"LEASE", "5000"});
  EXPECT_EQ(first.state, "miss");
  EXPECT_NE(first.lease, "(nil)");
  const Got second = get({"k"}, {"LEASE", "5000"});
  EXPECT_EQ(second.state, "busy");
  EXPECT_EQ(second.lease, "(nil)");
  EXPECT_EQ(fill("k", "lease:" + first.lease), 1);
  EXPECT_EQ(get({"k"}, {"LEASE", "5000"}).state, "fresh");
}

TEST_F(ReaderFunctions, MissWithoutAskingForALease) {
  EXPECT_EQ(get({"k"}).state, "miss");
  EXPECT_EQ(marker("k"), "(nil)");
}

TEST_F(ReaderFunctions, LeaseEndsWithItsTime) {
  const Got first = get({"k"}, {"LEASE", "30"});
  while (get({"k"}, {"LEASE", "30"}).state == "busy") {
  }
  EXPECT_EQ(fill("k", "lease:" + first.lease), 0) << "another caller has it now";
}

TEST_F(ReaderFunctions, InvalidationTakesTheLeaseAway) {
  const Got got = get({"k"}, {"LEASE", "5000"});
  invalidate("k", "10");
  EXPECT_EQ(fill("k", "lease:" + got.lease), 0);
  EXPECT_EQ(stats()["rejected_lease"], 1);
  // A lease taken after it is good, and the tombstone stays one: its replay is still known.
  const Got again = get({"k"}, {"LEASE", "5000"});
  EXPECT_EQ(again.state, "miss");
  EXPECT_EQ(fill("k", "lease:" + again.lease), 1);
  EXPECT_EQ(invalidate("k", "10"), "replayed");
  EXPECT_EQ(redis().get("k"), "value");
}

TEST_F(ReaderFunctions, NextInvalidationTakesTheLeaseOfATombstoneAway) {
  invalidate("k", "10");
  const Got got = get({"k"}, {"LEASE", "5000"});
  invalidate("k", "11");
  EXPECT_EQ(marker("k"), "t e/1 10,11");
  EXPECT_EQ(fill("k", "lease:" + got.lease), 0);
}

TEST_F(ReaderFunctions, LeaseDoesNotShortenTheTombstone) {
  invalidate("k", "10");
  get({"k"}, {"LEASE", "100"});
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 50'000);
  EXPECT_EQ(fill("k", "10:11:10"), 0);
}

TEST_F(ReaderFunctions, LeaseDoesNotReplaceATombstoneItCannotRead) {  // G5
  set_marker("k", "t e/1 10 z-of-a-newer-evictd");
  EXPECT_EQ(get({"k"}, {"LEASE", "100"}).state, "miss");
  EXPECT_EQ(marker("k"), "t e/1 10 z-of-a-newer-evictd");
  EXPECT_EQ(fill("k", "20:20:"), 0);
}

TEST_F(ReaderFunctions, RejectedFillDoesNotHoldItsLeaseUp) {
  invalidate("k", "10");
  const std::string tombstone = marker("k");
  get({"k"}, {"LEASE", "60000"});
  EXPECT_EQ(get({"k"}, {"LEASE", "60000"}).state, "busy");
  EXPECT_EQ(fill("k", "10:11:10"), 0);
  const std::string text = marker("k");
  EXPECT_THAT(text, StartsWith(tombstone + " l")) << "what a fill has to have seen stays";
  const long long until = std::stoll(text.substr(text.rfind(':') + 1));
  const Reply now = redis().command({"TIME"});
  EXPECT_LE(until - std::stoll(now.elements.at(0).text) * 1000, 1010);
  while (get({"k"}, {"LEASE", "60000"}).state == "busy") {
  }
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 50'000);
  EXPECT_EQ(fill("k", "10:11:10"), 0);
  EXPECT_EQ(fill("k", "11:11:"), 1);
}

TEST_F(ReaderFunctions, StaleValueIsServedWhileOneCallerRefreshesIt) {
  fill("k", "20:25:");
  invalidate("k", "30", {.flags = "ifk5000"});
  const Got first = get({"k"}, {"LEASE", "5000"});
  EXPECT_EQ(first.state, "stale");
  EXPECT_EQ(first.value, "value");
  EXPECT_NE(first.lease, "(nil)");
  const Got second = get({"k"}, {"LEASE", "5000"});
  EXPECT_EQ(second.state, "stale");
  EXPECT_EQ(second.lease, "(nil)");
  EXPECT_EQ(fill("k", "20:25:"), 0) << "the old row again";
  EXPECT_EQ(fill("k", "31:31:"), 1);
  EXPECT_EQ(get({"k"}).state, "fresh");
}

TEST_F(ReaderFunctions, EarlyRefreshComesNearTheEndOnly) {
  fill("k", "20:25:", {"AGE", "50"});
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(get({"k"}, {"LEASE", "1000", "EARLY", "1"}).lease, "(nil)");
  redis().command({"PEXPIRE", "k", "5"});
  // 50 ms of work, 5 ms left, beta 1000: as good as certain.
  const Got got = get({"k"}, {"LEASE", "1000", "EARLY", "1000"});
  if (got.state == "fresh") {
    EXPECT_NE(got.lease, "(nil)");
  }
}

// ---- a writer's own invalidation

TEST_F(ReaderFunctions, WritersInvalidationMakesTheEventAReplay) {
  redis().set("k", "v");
  EXPECT_EQ(write_invalidate("k", "30"), "deleted");
  redis().set("k", "newer");
  EXPECT_EQ(invalidate("k", "30"), "replayed");
  EXPECT_EQ(redis().get("k"), "newer");
}

TEST_F(ReaderFunctions, WritersInvalidationOfAnEarlierEpochIsNoReplay) {  // G5
  write_invalidate("k", "30");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "30", {.trust_since = "99999999999999"}), "deleted");
}

TEST_F(ReaderFunctions, WritersInvalidationAfterTheEventIsAReplay) {
  invalidate("k", "30");
  EXPECT_EQ(write_invalidate("k", "30"), "replayed");
  EXPECT_EQ(write_invalidate("k", "31"), "absent");
  EXPECT_EQ(marker("k"), "t e/1 30,31");
}

TEST_F(ReaderFunctions, WritersInvalidationKeepsAFreshFill) {
  fill("k", "31:31:");
  EXPECT_EQ(write_invalidate("k", "30"), "kept");
  EXPECT_EQ(write_invalidate("k", "31"), "deleted");
}

TEST_F(ReaderFunctions, WritersInvalidationByRowVersion) {
  EXPECT_EQ(fill("k", "v:17"), 1);
  EXPECT_EQ(write_invalidate("k", "v:17"), "kept");
  EXPECT_EQ(write_invalidate("k", "v:18"), "deleted");
  EXPECT_EQ(fill("k", "v:17"), 0);
  EXPECT_EQ(fill("k", "v:18"), 1);
}

// ---- the library

TEST_F(ReaderFunctions, StatsCountOutcomes) {
  invalidate("k", "30");
  fill("k", "30:31:30");
  fill("k", "31:31:");
  get({"k"});
  get({"none"});
  auto counts = stats();
  EXPECT_EQ(counts["stored"], 1);
  EXPECT_EQ(counts["rejected_tombstone"], 1);
  EXPECT_EQ(counts["fresh"], 1);
  EXPECT_EQ(counts["miss"], 1);
}

TEST_F(ReaderFunctions, LibraryIsReplacedInOneStepAndTellsItsVersion) {
  EXPECT_EQ(call({"evictd_version", "0"}).text, "8 60000");
  EXPECT_FALSE(redis()
                   .command(std::vector<std::string>{"FUNCTION", "LOAD", "REPLACE",
                                                     function_library(std::chrono::seconds(30))})
                   .is_error());
  EXPECT_EQ(call({"evictd_version", "0"}).text, "8 30000");
  EXPECT_EQ(fill("k", "12:12:", {"AGE", "30000"}), 0);
}

// A library that is there already is taken for ours where it tells the same version, and is left.
TEST(ReaderLibrary, ItsVersionGrowsWithItsText) {
  std::uint64_t digest = 0xcbf29ce484222325;  // FNV-1a
  for (const bool is_cluster : {false, true}) {
    for (const char c : function_library(std::chrono::seconds(60), is_cluster)) digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  EXPECT_EQ(std::pair(kLibraryVersion, digest), std::pair(8, std::uint64_t{16538923695038425028u}))
      << "the functions' text has changed: raise kLibraryVersion if readers can notice, and put both numbers here";
}

TEST_F(ReaderFunctions, SameTextsWorkAsScripts) {
  const auto texts = reader_scripts(std::chrono::seconds(60));
  ASSERT_EQ(texts.size(), 5u);
  const auto eval = [&](std::size_t which, std::vector<std::string> rest) {
    rest.insert(rest.begin(), {"EVAL", texts[which].script.text});
    return redis().command(rest);
  };
  EXPECT_EQ(texts[0].function, "evictd_fill");
  EXPECT_EQ(eval(0, {"2", "k", marker_of("k"), "20:25:", "60000", "value"}).integer, 1);
  EXPECT_EQ(eval(1, {"2", "k", marker_of("k")}).elements.at(0).text, "fresh");
  EXPECT_EQ(eval(4, {"2", "k", marker_of("k"), "30"}).text, "deleted");
}

TEST_F(ReaderFunctions, DocumentedRightsAreEnoughAndCannotBeMisused) {  // docs/readers.md
  ASSERT_TRUE(redis().command(documented("readers.md", "ACL SETUSER reader ")).is_ok());
  ASSERT_TRUE(redis().command(documented("readers.md", "ACL SETUSER lazy ")).is_ok());
  ASSERT_TRUE(redis().command(documented("readers.md", "ACL SETUSER writer ")).is_ok());
  redis().set("evictd:record:evictd", "the record");
  RedisClient reader(server_->port());
  ASSERT_TRUE(reader.command({"AUTH", "reader", "password"}).is_ok());
  const auto stored = reader.command(
      {"FCALL", "evictd_fill", "3", "product:1", "evictd:{product:1}", "tag:a", "20:25:", "60000", "v"});
  EXPECT_EQ(stored.integer, 1) << stored.text;
  const Reply got = reader.command({"FCALL", "evictd_get", "2", "product:2", "evictd:{product:2}", "LEASE", "100"});
  ASSERT_EQ(got.elements.size(), 4u) << got.text;
  const auto leased = reader.command({"FCALL", "evictd_fill", "2", "product:2", "evictd:{product:2}",
                                      "lease:" + got.elements[2].text, "60000", "v", "AGE", "5"});
  EXPECT_EQ(leased.integer, 1) << leased.text;

  RedisClient lazy(server_->port());
  ASSERT_TRUE(lazy.command({"AUTH", "lazy", "password"}).is_ok());
  const auto kept = lazy.command({"FCALL", "evictd_fill", "3", "product:3", "evictd:{product:3}", "evictd:{tag:b}", "20:25:",
                                  "60000", "v"});
  EXPECT_EQ(kept.integer, 1) << kept.text;

  RedisClient writer(server_->port());
  ASSERT_TRUE(writer.command({"AUTH", "writer", "password"}).is_ok());
  EXPECT_EQ(writer.command({"FCALL", "evictd_invalidate", "2", "product:1", "evictd:{product:1}", "30"}).text, "deleted");

  const std::string far = "9007199254740991";
  const std::vector<std::vector<std::string>> misuses = {
      {"SET", "evictd:record:evictd", "x"},
      {"SET", "evictd:purged", "t e/1 " + far},
      {"SET", "evictd:announced:c", "1"},
      {"SET", "tag:a", "x"},
      {"UNLINK", "product:1"},
      {"FCALL", "evictd_fill", "2", "evictd:{product:1}", "product:1", "20:25:", "60000", "v"},
      {"FCALL", "evictd_fill", "2", "product:1", "product:1", "20:25:", "60000", "v"},
      {"FCALL", "evictd_fill", "2", "evictd:{product:1}", "evictd:evictd:{product:1}", "20:25:", "60000", "v"},
      {"FCALL", "evictd_fill", "2", "product:1", "evictd:record:evictd", "20:25:", "60000", "v"},
      {"FCALL", "evictd_fill", "3", "product:1", "evictd:{product:1}", "evictd:purged", "20:25:", "60000", "v"},
      {"FCALL", "evictd_fill", "3", "product:1", "evictd:{product:1}", "product:2", "20:25:", "60000", "v"},
      {"FCALL", "evictd_invalidate", "2", "product:1", "evictd:purged", far},
      {"FCALL", "evictd_invalidate", "2", "evictd:purged", "evictd:{evictd:purged}", far},
      {"FCALL", "evictd_get", "2", "product:1", "evictd:purged", "LEASE", "100"},
  };
  for (const auto& misuse : misuses) {
    for (RedisClient* who : {&reader, &lazy, &writer}) {
      if (who == &writer && misuse[0] == "UNLINK") continue;  // its own right
      const Reply reply = who->command(misuse);
      EXPECT_TRUE(reply.is_error()) << ::testing::PrintToString(misuse);
    }
    // Nor may somebody with all rights call the functions like this.
    if (misuse[0] == "FCALL") {
      EXPECT_THAT(redis().command(misuse).text, StartsWith("ERR expected ")) << ::testing::PrintToString(misuse);
    }
  }
  EXPECT_EQ(redis().get("evictd:record:evictd"), "the record");
  EXPECT_FALSE(redis().exists("evictd:purged"));
}

TEST_F(ReaderFunctions, MarkerThatIsNotTheOneOfItsKeyIsRefusedByEveryFunction) {  // G3
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"product:9", "not-a-marker"}, {"product:40", "pre:evictd:{product:40}"}, {"pre:product:40", "pre:evictd:{product:40}"},
      {"{user:7}:cart", "evictd:{{user:7}:cart}"}, {"a{}b", "evictd:a{}b"}, {"a{", "evictd:a{"}, {"evictd:{k}", "k"},
      {"k", "evictd:{j}"}, {"k", "evictd:k"}, {"k", ""}, {"k", "evictd:purged"}};
  for (const auto& [key, name] : wrong) {
    redis().command({"FLUSHALL"});
    redis().set(key, "v");
    const std::string expected = "ERR expected '" + marker_of(key) + "' as the marker of '" + key + "', got '" + name + "'";
    EXPECT_THAT(call({"evictd_fill", "2", key, name, "999999:999999:", "60000", "x"}).text, StartsWith(expected));
    EXPECT_THAT(call({"evictd_get", "2", key, name, "LEASE", "100"}).text, StartsWith(expected));
    EXPECT_THAT(call({"evictd_invalidate", "2", key, name, "30"}).text, StartsWith(expected));
    EXPECT_EQ(redis().integer({"DBSIZE"}), 1) << key << " " << name;
    EXPECT_EQ(redis().get(key), "v");
  }
  for (const std::string key : {"{user:7}:cart", "a{}b", "a{", "a}{b", "{}", "x{y}{z}"}) {
    EXPECT_EQ(fill(key, "999999:999999:"), 1) << key;
  }
}

TEST_F(ReaderFunctions, TokensAndMarkersHaveSizes) {
  const auto snapshot = [](int running) {
    std::string text = "1000:" + std::to_string(2000 + 2 * running) + ":1000";
    for (int i = 1; i < running; ++i) text += "," + std::to_string(1000 + 2 * i);
    return text;
  };
  EXPECT_THAT(call({"evictd_fill", "2", "k", marker_of("k"), snapshot(20'000), "60000", "v"}).text,
              StartsWith("ERR expected a token of at most 65536 bytes, got "));
  // A long one is believed whole, and kept as the least it proves; a very long one proves no more than that.
  EXPECT_EQ(invalidate("k", "1001"), "absent");
  EXPECT_EQ(fill("k", snapshot(5'000)), 0);
  EXPECT_EQ(fill("k", snapshot(2'000)), 1);
  EXPECT_THAT(marker("k"), StartsWith("f 1000 "));
  EXPECT_EQ(invalidate("k", "1001", How{.flags = "if"}), "deleted") << "in doubt, delete (G5)";
  // What somebody else wrote over a marker is not taken apart.
  std::string tokens = "1000";
  for (int i = 1; i < 200'000; ++i) tokens += "," + std::to_string(1000 + i);
  for (const std::string& text : {"t e/1 " + tokens, "f 1:9000000:" + tokens + " 1700000000000", "t e/1 1 n1:9:" + tokens}) {
    redis().set("k", "v");
    set_marker("k", text);
    EXPECT_EQ(fill("k", "9000000:9000000:"), text[0] == 't' ? 0 : 1) << text.substr(0, 20);
    redis().set("k", "v");
    set_marker("k", text);
    EXPECT_EQ(invalidate("k", "1000"), "deleted") << text.substr(0, 20);
    EXPECT_EQ(marker("k"), "t e/1 1000");
  }
}

TEST_F(ReaderFunctions, TimeToLiveThatRedisCannotHoldStoresNothing) {
  EXPECT_THAT(call({"evictd_fill", "3", "k", marker_of("k"), "tag:t", "20:25:", "99999999999999999999", "v"}).text,
              HasSubstr("ttl_ms at least 1"));
  EXPECT_FALSE(redis().exists("tag:t"));
}

TEST_F(ReaderFunctions, FullRedisRefusesFillsAndStillInvalidates) {
  redis().set("k", "v");
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_THAT(call({"evictd_fill", "2", "j", marker_of("j"), "20:25:", "60000", "value"}).text,
              HasSubstr("OOM"));
  const Reply got = call({"evictd_get", "2", "k", marker_of("k"), "LEASE", "100"});
  ASSERT_EQ(got.elements.size(), 4u) << got.text;
  EXPECT_EQ(got.elements[0].text, "fresh");
  EXPECT_EQ(call({"evictd_get", "2", "j", marker_of("j"), "LEASE", "100"}).elements.at(0).text, "miss");
  EXPECT_EQ(call({"evictd_get", "2", "j", marker_of("j"), "LEASE", "100"}).elements.at(0).text, "busy");
  EXPECT_EQ(write_invalidate("k", "30"), "deleted");
  redis().command({"CONFIG", "SET", "maxmemory", "0"});
}

}  // namespace
}  // namespace evictd::testing
