// lua/invalidate.lua against the table of the design, row by row.
#include <gmock/gmock.h>

#include <chrono>

#include "tests/unit/sinks/redis/script_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::MatchesRegex;

using InvalidateScript = ScriptTest;

// ---- marker: none

TEST_F(InvalidateScript, WithoutMarkerItDeletesAndLeavesATombstone) {
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10");
  EXPECT_FALSE(redis().exists("k"));
}

TEST_F(InvalidateScript, AbsentKeyGetsItsTombstoneToo) {
  EXPECT_EQ(invalidate("k", "10,11"), "absent");
  EXPECT_EQ(marker("k"), "t e/1 10,11");
}

TEST_F(InvalidateScript, TombstoneLivesAsLongAsItIsTold) {
  invalidate("k", "10");
  const auto left = redis().integer({"PTTL", marker_of("k")});
  EXPECT_GT(left, 55'000);
  EXPECT_LE(left, 61'000);
}

TEST_F(InvalidateScript, KeyWithAHashTagHasItsMarkerInTheSameSlot) {
  EXPECT_EQ(marker_of("user:{7}:name"), "evictd:user:{7}:name");
  EXPECT_EQ(marker_of("plain"), "evictd:{plain}");
  EXPECT_EQ(marker_of("empty{}tag"), "evictd:{empty{}tag}");
  EXPECT_EQ(marker_of("open{only"), "evictd:{open{only}");
}

TEST_F(InvalidateScript, KeysOfOtherTypesAreDeletedAlike) {
  redis().command({"HSET", "k", "a", "1"});
  EXPECT_EQ(invalidate("k", "10"), "deleted");
}

TEST_F(InvalidateScript, ManyKeysWithOneTextOfTokens) {
  redis().set("a", "v");
  const Reply reply = run(Script::kInvalidate, {"a", "b", marker_of("a"), marker_of("b")},
                          {"e/1", "61000", "i", "0", "10"});
  EXPECT_EQ(reply.elements[0].integer, 1);
  EXPECT_EQ(marker("a"), "t e/1 10");
  EXPECT_EQ(marker("b"), "t e/1 10");
}

TEST_F(InvalidateScript, ManyKeysWithTokensOfTheirOwn) {
  run(Script::kInvalidate, {"a", "b", marker_of("a"), marker_of("b")},
      {"e/1", "61000", "i", "0", "10", "11,12"});
  EXPECT_EQ(marker("a"), "t e/1 10");
  EXPECT_EQ(marker("b"), "t e/1 11,12");
}

// ---- marker: tombstone

TEST_F(InvalidateScript, KnownTransactionIsAReplayAndTouchesNothing) {  // G2
  invalidate("k", "10");
  redis().set("k", "newer");
  EXPECT_EQ(invalidate("k", "10"), "replayed");
  EXPECT_EQ(redis().get("k"), "newer");
}

TEST_F(InvalidateScript, UnknownTransactionDeletesAndJoinsTheSet) {
  invalidate("k", "10");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "12"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10,12");
  EXPECT_EQ(invalidate("k", "10"), "replayed");
  EXPECT_EQ(invalidate("k", "10,12"), "replayed");
  EXPECT_EQ(invalidate("k", "10,13"), "absent");
  EXPECT_EQ(marker("k"), "t e/1 10,12,13");
}

TEST_F(InvalidateScript, TransactionWhoseDigitsArePartOfAnotherIsNotTakenForIt) {
  invalidate("k", "1234");
  EXPECT_EQ(invalidate("k", "23"), "absent");
  EXPECT_EQ(invalidate("k", "123"), "absent");
  EXPECT_EQ(invalidate("k", "1234"), "replayed");
  EXPECT_EQ(marker("k"), "t e/1 1234,23,123");
}

TEST_F(InvalidateScript, BeyondItsBoundTheSetOverflowsIntoAFloor) {  // G5, G8
  for (int xid = 101; xid <= 132; ++xid) invalidate("k", std::to_string(xid));
  EXPECT_THAT(marker("k"), MatchesRegex("t e/1 101,102,.*,132"));
  invalidate("k", "133");
  EXPECT_EQ(marker("k"), "t e/1 ^125,126,127,128,129,130,131,132,133");
  invalidate("k", "134");
  EXPECT_EQ(marker("k"), "t e/1 ^125,126,127,128,129,130,131,132,133,134");
  EXPECT_EQ(invalidate("k", "130"), "replayed");
  // What fell out is in doubt: deleted again, not replayed.
  EXPECT_EQ(invalidate("k", "101"), "absent");
  EXPECT_EQ(fill("k", "125:200:"), 0);
  EXPECT_EQ(fill("k", "126:200:130"), 0) << "one of those that stayed";
  EXPECT_EQ(fill("k", "126:200:"), 1);
}

TEST_F(InvalidateScript, FloorStaysTheHighestOfAllThatFellOut) {  // G3
  for (int xid = 200; xid >= 168; --xid) invalidate("k", std::to_string(xid));  // each lower than the one before
  EXPECT_EQ(marker("k"), "t e/1 ^200,175,174,173,172,171,170,169,168");
  for (int xid = 101; xid <= 125; ++xid) invalidate("k", std::to_string(xid));
  EXPECT_THAT(marker("k"), MatchesRegex("t e/1 .200,118,.*,125"));
  EXPECT_EQ(fill("k", "200:300:"), 0);
}

TEST_F(InvalidateScript, FullSetTakesWhatASnapshotHasSeenInPlaceOfAFloor) {
  How how;
  how.trust_since = "0 130:150:130";
  for (int xid = 101; xid <= 133; ++xid) invalidate("k", std::to_string(xid), how);
  EXPECT_EQ(marker("k"), "t e/1 130 n130:150:130");
  invalidate("k", "160", how);
  EXPECT_EQ(marker("k"), "t e/1 130,160 n130:150:130");
  invalidate("k", "130s", how);
  EXPECT_EQ(marker("k"), "t e/1 130s,160 n130:150:130");
  EXPECT_EQ(fill("k", "130:170:130"), 0);
  EXPECT_EQ(fill("k", "105:170:105"), 0) << "visible in the snapshot, not in this one";
  EXPECT_EQ(fill("k", "165:170:"), 1);
}

TEST_F(InvalidateScript, ManyTransactionsAtOnceAreTakenOneByOne) {
  EXPECT_EQ(invalidate("k", "11,12,13"), "absent");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "13,11"), "replayed");
  EXPECT_EQ(invalidate("k", "13,14"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 11,12,13,14");
  EXPECT_EQ(invalidate("k", "12s,14s"), "absent") << "not settled yet";
  EXPECT_EQ(marker("k"), "t e/1 11,12s,13,14s");
  EXPECT_EQ(invalidate("k", "14s,12s"), "replayed");
  EXPECT_EQ(invalidate("k", "11,12"), "replayed");
  EXPECT_EQ(invalidate("k", "1,2"), "absent") << "parts of others' digits";
  EXPECT_EQ(marker("k"), "t e/1 11,12s,13,14s,1,2");
}

TEST_F(InvalidateScript, SettleOfWhatFellOutDeletesAndTakesNobodysPlace) {
  How settle;
  settle.flags = "s";
  for (int xid = 101; xid <= 133; ++xid) invalidate("k", std::to_string(xid));
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "110s", settle), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 ^125,126,127,128,129,130,131,132,133");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "110s,130s", settle), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 ^125,126,127,128,129,130s,131,132,133");
  // Not below the floor: nothing known says that it was here.
  EXPECT_EQ(invalidate("k", "134s", settle), "absent");
  EXPECT_EQ(marker("k"), "t e/1 ^125,126,127,128,129,130s,131,132,133,134s");
}

TEST_F(InvalidateScript, TransactionsBeyondTheExactNumbersOfLuaProveNothing) {  // 2^53
  EXPECT_EQ(invalidate("k", "9007199254740993"), "absent");
  EXPECT_EQ(fill("k", "18446744073709551615:18446744073709551615:"), 0);
  EXPECT_EQ(fill("k", "9007199254740992"), 0);
}

TEST_F(InvalidateScript, TombstoneNeverGetsShorter) {
  redis().command({"SET", marker_of("k"), "t e/1 10 n5", "PX", "500000"});
  invalidate("k", "11");
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 400'000);
}

// Readers may give a value any lifetime that Redis holds, and its marker lives as long.
TEST_F(InvalidateScript, TombstoneMayLiveForThousandsOfYears) {
  redis().command({"SET", marker_of("k"), "t e/1 10 n5", "PX", "9007199254740991"});
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "11"), "deleted");
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 9'007'199'000'000'000);
}

TEST_F(InvalidateScript, AnotherEpochsTombstoneIsReplaced) {
  invalidate("k", "10", {.epoch = "e/0"});
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10");
}

TEST_F(InvalidateScript, UnreadableMarkersProveNothing) {  // G5
  for (const char* text : {"", "t", "t e/1", "t e/1 ", "t e/1 ten", "t e/1 10 x9", "f", "f 5:6:",
                           "f what 1700000000000", "f 9:5: 1700000000000", "hello", "l - - l7"}) {
    set_marker("k", text);
    redis().set("k", "v");
    EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "deleted") << text;
    EXPECT_EQ(marker("k"), "t e/1 10") << text;
  }
}

TEST_F(InvalidateScript, MarkerOfAnotherTypeIsReplaced) {
  redis().command({"SADD", marker_of("k"), "x"});
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10");
}

// ---- marker: filled

TEST_F(InvalidateScript, FilledValueThatSeesTheTransactionIsKept) {
  fill("k", "20:25:21");
  EXPECT_EQ(invalidate("k", "19", {.flags = "if"}), "kept");
  EXPECT_EQ(invalidate("k", "22", {.flags = "if"}), "kept");
  EXPECT_EQ(redis().get("k"), "value");
}

TEST_F(InvalidateScript, FilledValueThatDoesNotSeeItIsDeleted) {
  for (const char* xid : {"21", "25", "26", "19,21"}) {
    redis().command({"FLUSHALL"});
    fill("k", "20:25:21");
    EXPECT_EQ(invalidate("k", xid, {.flags = "if"}), "deleted") << xid;
    // The next fill must have seen what the deleted value had seen, too.
    EXPECT_EQ(marker("k"), "t e/1 " + std::string(xid) + " n20:25:21");
  }
}

// A token of another database, or one that somebody made up: it would keep its value until the numbers have got there.
TEST_F(InvalidateScript, WhatClaimsToHaveSeenMoreThanThereWasProvesNothing) {  // G5
  for (const std::string version : {"4000000000:4000000000:", "4000000000", "70000:70000:", "5:70000:6"}) {
    for (const std::string snapshot : {"0", "0 1000:1000:"}) {
      SCOPED_TRACE(version + " " + snapshot);
      redis().command({"FLUSHALL"});
      ASSERT_EQ(fill("k", version), 1);
      EXPECT_EQ(invalidate("k", "1000", {.flags = "if", .trust_since = snapshot}), "deleted");
      EXPECT_EQ(marker("k"), "t e/1 1000") << "nor does the next fill have to reach it";
      EXPECT_EQ(fill("k", "1001:1001:"), 1);
    }
  }
  // Readers are ahead of what the daemon knows by what was given out since; and its snapshot may be newer than what it works off.
  redis().command({"FLUSHALL"});
  ASSERT_EQ(fill("k", "60000:60000:"), 1);
  EXPECT_EQ(invalidate("k", "1000", {.flags = "if"}), "kept");
  ASSERT_EQ(fill("l", "900000:900000:"), 1);
  EXPECT_EQ(invalidate("l", "1000", {.flags = "if", .trust_since = "0 890000:890000:"}), "kept");
  EXPECT_EQ(invalidate("l", "1000", {.flags = "if"}), "deleted");
}

TEST_F(InvalidateScript, FillAfterADeletedFillMayNotGoBackBehindIt) {  // G3
  fill("k", "20:25:21");
  invalidate("k", "19");  // untrusted: deleted although it was seen
  EXPECT_EQ(fill("k", "20:23:"), 0);
  EXPECT_EQ(fill("k", "20:25:"), 1);
}

TEST_F(InvalidateScript, FilledValueIsNotTrustedUnderPlain) {
  fill("k", "20:25:");
  EXPECT_EQ(invalidate("k", "10"), "deleted");
}

TEST_F(InvalidateScript, FilledBeforeTrustSinceIsNotTrusted) {
  fill("k", "20:25:");
  EXPECT_EQ(invalidate("k", "10", {.flags = "if", .trust_since = "99999999999999"}), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10");  // nothing of the old epoch remains
}

TEST_F(InvalidateScript, BareXminProvesOnlyWhatIsBelow) {
  fill("k", "20");
  EXPECT_EQ(invalidate("k", "19", {.flags = "if"}), "kept");
  EXPECT_EQ(invalidate("k", "20", {.flags = "if"}), "deleted");
}

TEST_F(InvalidateScript, LeaseAloneIsNoMarker) {
  set_marker("k", "l - - l5-6:99999999999999");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10");
}

// ---- settle

TEST_F(InvalidateScript, SettleDeletesOnceAndIsRemembered) {  // G4
  invalidate("k", "10");
  redis().set("k", "stale");
  EXPECT_EQ(invalidate("k", "10s", {.flags = "s"}), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10s");
  redis().set("k", "fresh");
  EXPECT_EQ(invalidate("k", "10s", {.flags = "s"}), "replayed");
  EXPECT_EQ(invalidate("k", "10"), "replayed");
  EXPECT_EQ(redis().get("k"), "fresh");
}

TEST_F(InvalidateScript, SettleOfOneOfTwoLeavesTheOtherUnsettled) {
  invalidate("k", "10,11");
  invalidate("k", "10s", {.flags = "s"});
  EXPECT_EQ(marker("k"), "t e/1 10s,11");
  EXPECT_EQ(invalidate("k", "10s"), "replayed");
  EXPECT_EQ(invalidate("k", "11"), "replayed");
  EXPECT_EQ(invalidate("k", "10,11"), "replayed");
  EXPECT_EQ(invalidate("k", "10s,11s"), "absent") << "11 is still to be settled";
  EXPECT_EQ(invalidate("k", "10s,11s"), "replayed");
}

TEST_F(InvalidateScript, SettleWhoseTombstoneIsGoneDeletesAndLeavesASettledOne) {
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10s", {.flags = "s"}), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10s");
}

TEST_F(InvalidateScript, SettleKeepsATrustedFill) {
  invalidate("k", "10");
  fill("k", "11:12:");
  EXPECT_EQ(invalidate("k", "10s", {.flags = "sf"}), "kept");
}

TEST_F(InvalidateScript, BornSettledStillDeletesWhereAnUnsettledReplayIs) {
  invalidate("k", "10");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10s"), "deleted");
  EXPECT_EQ(invalidate("k", "10s"), "replayed");
}

// ---- renew

TEST_F(InvalidateScript, RenewGivesAReplayItsFullLifetimeAgain) {
  redis().command({"SET", marker_of("k"), "t e/1 10", "PX", "1000"});
  EXPECT_EQ(invalidate("k", "10", {.flags = "rf"}), "replayed");
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 55'000);
}

TEST_F(InvalidateScript, RenewInvalidatesWhereTheTombstoneIsGone) {
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "10", {.flags = "rf"}), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10");
}

TEST_F(InvalidateScript, WhateverStaysAsItIsLivesAsLongAsIfWrittenNow) {
  for (const char* text : {"t e/1 10", "t e/1 10s", "f 20:20: 1700000000000"}) {
    redis().command({"SET", marker_of("k"), text, "PX", "1000"});
    invalidate("k", "10", {.flags = "if"});
    EXPECT_EQ(marker("k"), text);
    EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 55'000) << text;
    redis().command({"PEXPIRE", marker_of("k"), "900000"});
    invalidate("k", "10", {.flags = "if"});
    EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 800'000) << text << " is not cut short";
  }
}

// ---- unconditional

TEST_F(InvalidateScript, UnconditionalNeitherKeepsNorReplays) {
  fill("k", "20:25:");
  EXPECT_EQ(invalidate("k", "^30", {.flags = "ifu"}), "deleted");
  EXPECT_EQ(invalidate("k", "^30", {.flags = "ifu"}), "absent");
  EXPECT_EQ(fill("k", "30:40:"), 0);
  EXPECT_EQ(fill("k", "31:40:"), 1);
}

TEST_F(InvalidateScript, UnconditionalKeepsTheTransactionsThatAreRemembered) {
  invalidate("k", "10");
  invalidate("k", "^5", {.flags = "iu"});
  EXPECT_EQ(marker("k"), "t e/1 ^5,10");
  EXPECT_EQ(fill("k", "6:20:10"), 0);
}

// ---- 32-bit transaction ids

TEST_F(InvalidateScript, ThirtyTwoBitIdsAreComparedNearTheSnapshot) {
  // 3 * 2^32 + 20 transactions have passed; the stream says 10 for 3 * 2^32 + 10.
  invalidate("k", "~10");
  EXPECT_EQ(marker("k"), "t e/1 ~10");
  EXPECT_EQ(fill("k", "12884901890:12884901908:12884901898"), 0);  // in progress there
  EXPECT_EQ(fill("k", "12884901899:12884901908:"), 1);
}

TEST_F(InvalidateScript, ThirtyTwoBitIdJustBeforeTheEpochsTurnIsOld) {
  invalidate("k", "~4294967290");
  EXPECT_EQ(fill("k", "4294967300:4294967301:"), 1);  // 2^32 + 4 sees 2^32 - 6
}

TEST_F(InvalidateScript, ThirtyTwoBitIdsTwoBillionApartAreTakenForTheNearerOne) {
  // Exactly 2^31 ahead counts as 2^31 behind; one less is ahead, and not visible.
  invalidate("k", "~2147483748");
  EXPECT_EQ(fill("k", "100:100:"), 1);
  invalidate("j", "~2147483747");
  EXPECT_EQ(fill("j", "100:100:"), 0);
}

TEST_F(InvalidateScript, ThirtyTwoBitIdsKeepAFillThatHasSeenThem) {
  fill("k", "12884901899:12884901908:");
  EXPECT_EQ(invalidate("k", "~10", {.flags = "if"}), "kept");
  EXPECT_EQ(invalidate("k", "~19", {.flags = "if"}), "kept");
  EXPECT_EQ(redis().get("k"), "value");
  EXPECT_EQ(invalidate("k", "~20", {.flags = "if"}), "deleted") << "at its xmax";
}

TEST_F(InvalidateScript, ThirtyTwoBitIdsProveNothingOfAFillOfManyHoursAgo) {  // G5
  using namespace std::chrono;
  const auto filled_ago = [](hours ago) {
    const auto then = system_clock::now() - ago;
    redis().set("k", "v");
    set_marker("k", "f 100:100: " + std::to_string(
                        duration_cast<milliseconds>(then.time_since_epoch()).count()));
  };
  filled_ago(hours(3));
  EXPECT_EQ(invalidate("k", "~10", {.flags = "if"}), "kept");
  filled_ago(hours(5));
  EXPECT_EQ(invalidate("k", "~10", {.flags = "if"}), "deleted");
  filled_ago(hours(5));
  EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "kept") << "64 bits do";
}

TEST_F(InvalidateScript, ThirtyTwoBitIdsAreReplayedAndJoinTheSet) {
  invalidate("k", "~12");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "~12"), "replayed");
  EXPECT_EQ(invalidate("k", "~1"), "deleted") << "a part of the other's digits, not the other";
  EXPECT_EQ(invalidate("k", "12"), "absent") << "64 bits are another name";
  EXPECT_EQ(invalidate("k", "~3s"), "absent");
  EXPECT_EQ(marker("k"), "t e/1 ~12,~1,12,~3s");
  EXPECT_EQ(invalidate("k", "~3"), "replayed");
}

TEST_F(InvalidateScript, ThirtyTwoBitIdsOverflowIntoAFloorOfTheirOwn) {  // G5, G8
  for (int xid = 101; xid <= 133; ++xid) invalidate("k", "~" + std::to_string(xid));
  EXPECT_EQ(marker("k"), "t e/1 ^~125,~126,~127,~128,~129,~130,~131,~132,~133");
  EXPECT_EQ(invalidate("k", "~130"), "replayed");
  EXPECT_EQ(invalidate("k", "~125"), "absent") << "a floor is no memory";
  EXPECT_EQ(fill("k", "4294967421:4294967500:"), 0);
  EXPECT_EQ(fill("k", "4294967422:4294967500:"), 1) << "2^32 + 126";
}

TEST_F(InvalidateScript, FloorOfThirtyTwoBitIdsGoesRoundTheTurn) {
  for (long xid = 4294967280; xid < 4294967313; ++xid) invalidate("k", "~" + std::to_string(xid % 4294967296));
  EXPECT_EQ(marker("k"), "t e/1 ^~8,~9,~10,~11,~12,~13,~14,~15,~16");
  EXPECT_EQ(fill("k", "4294967304:4294967400:"), 0);
  EXPECT_EQ(fill("k", "4294967305:4294967400:"), 1);
}

TEST_F(InvalidateScript, OverflowOfIdsWithoutAnOrderLetsNoFillPass) {  // G5
  for (int xid = 101; xid <= 133; ++xid) invalidate("k", "4611686018427388" + std::to_string(xid));
  EXPECT_THAT(marker("k"), MatchesRegex("t e/1 .9007199254740992,4611686018427388126,.*,4611686018427388133"));
  EXPECT_EQ(fill("k", "9007199254740000"), 0);
  EXPECT_EQ(invalidate("k", "4611686018427388130"), "replayed");
}

TEST_F(InvalidateScript, OverflowOfAllKindsKeepsAFloorOfEach) {
  for (int xid = 101; xid <= 117; ++xid) {
    invalidate("k", std::to_string(xid));
    invalidate("k", "~" + std::to_string(xid));
  }
  EXPECT_THAT(marker("k"), MatchesRegex("t e/1 .109,.~108,110,.*,117,~109,.*,~117"));
}

TEST_F(InvalidateScript, BrokenTokensAreReplacedHoweverMany) {  // G5
  std::string tokens = "1:2";
  for (int xid = 101; xid <= 140; ++xid) tokens += "," + std::to_string(xid);
  for (const std::string& text : {tokens, std::string("1-2,~3:4"), std::string("^v1"), std::string("~~1")}) {
    set_marker("k", "t e/1 " + text);
    EXPECT_EQ(invalidate("k", "7,8"), "absent") << text;
    EXPECT_EQ(fill("k", "7:8:"), 0) << text;
  }
}

// ---- row versions

TEST_F(InvalidateScript, RowVersionsBeyondTwoToTheFiftyThreeAreExact) {
  invalidate("k", "v18446744073709551614");
  EXPECT_EQ(fill("k", "v:18446744073709551613"), 0);
  EXPECT_EQ(fill("k", "v:18446744073709551614"), 1);
  EXPECT_EQ(invalidate("k", "v18446744073709551614", {.flags = "if"}), "kept");
  EXPECT_EQ(invalidate("k", "v18446744073709551615", {.flags = "if"}), "deleted");
}

TEST_F(InvalidateScript, RowVersionsAsTimestamps) {
  invalidate("k", "v2024-02-03T04:05:06.7Z");
  EXPECT_EQ(fill("k", "v:2024-02-03T04:05:06.65Z"), 0);
  EXPECT_EQ(fill("k", "v:2024-02-03T04:05:06Z"), 0);
  EXPECT_EQ(fill("k", "v:2024-02-03T04:05:06.700Z"), 1);
  EXPECT_EQ(fill("k", "v:17"), 0) << "a number and a timestamp never compare";
}

TEST_F(InvalidateScript, OlderRowVersionAfterANewerOneDeletesAndKeepsTheNewer) {
  invalidate("k", "v7");
  redis().set("k", "v");
  EXPECT_EQ(invalidate("k", "v7"), "replayed");
  EXPECT_EQ(invalidate("k", "v5"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 v7");
}

// ---- mode: stale

TEST_F(InvalidateScript, StaleModeKeepsTheValueForTheGraceAndSaysSo) {
  fill("k", "20:25:");
  EXPECT_EQ(invalidate("k", "30", {.flags = "ifk5000"}), "deleted");
  EXPECT_EQ(redis().get("k"), "value");
  EXPECT_LE(redis().integer({"PTTL", "k"}), 5000);
  EXPECT_EQ(marker("k"), "t e/1 30 n20:25: k");
}

TEST_F(InvalidateScript, StaleModeMarkerOutlivesTheValue) {
  redis().set("k", "v");
  invalidate("k", "30", {.flags = "ifk90000"});
  EXPECT_GT(redis().integer({"PTTL", marker_of("k")}), 90'000);
}

// ---- a full Redis

TEST_F(InvalidateScript, FullRedisStillDeletes) {
  redis().set("k", "v");
  redis().command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_EQ(redis().command({"SET", "other", "v"}).text.substr(0, 3), "OOM");
  EXPECT_EQ(invalidate("k", "10"), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 10")
      << "written after the delete, the tombstone passes the limit as well";
  redis().command({"CONFIG", "SET", "maxmemory", "0"});
}

}  // namespace
}  // namespace evictd::testing
