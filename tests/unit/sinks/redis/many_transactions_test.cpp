// Commands whose keys were changed by many transactions each.
#include <gmock/gmock.h>

#include <numeric>

#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::MatchesRegex;

std::vector<std::uint64_t> range(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> numbers(last - first + 1);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

class ManyTransactions : public SinkTest {};

TEST_F(ManyTransactions, OfOneKeyGoAsAFloorAndTheLatest) {  // G5, G8
  auto xids = range(1001, 1100);
  std::swap(xids.front(), xids[95]);  // 1096 arrived first: the floor is still the highest of what is left out
  run(OrderBuilder(Act::kInvalidate).trusting().key("few", range(1001, 1032)).key("many", xids));
  EXPECT_THAT(marker("few"), MatchesRegex("t epoch/1 1001,1002,.*,1032"));
  const std::string text = marker("many");
  EXPECT_EQ(text.substr(0, 16), "t epoch/1 ^1092,");
  for (const std::uint64_t xid : range(1093, 1100)) EXPECT_NE(text.find(std::to_string(xid)), std::string::npos) << text;
}

TEST_F(ManyTransactions, OfThirtyTwoBitsGoAroundTheTurn) {
  std::vector<std::uint64_t> xids;
  for (const std::uint64_t xid : range(0xFFFFFFF0, 0x100000020)) xids.push_back(number(narrow_xid(static_cast<std::uint32_t>(xid))));
  run(OrderBuilder(Act::kInvalidate).trusting().key("k", xids));
  EXPECT_THAT(marker("k"), MatchesRegex("t epoch/1 .~24,~2[0-9],.*"));
}

// The same floor and the same latest may stand for other transactions the next time: they prove no replay (G5).
TEST_F(ManyTransactions, LeftOutOfOneCommandAreNotTakenForThoseOfAnother) {
  for (const std::uint64_t base : {std::uint64_t{0}, kNarrowXidFlag, kOpaqueXidFlag}) {
    const OrderBuilder before = OrderBuilder(Act::kInvalidate).trusting().key("k", range(base + 1041, base + 1100)).settled();
    const OrderBuilder more = OrderBuilder(Act::kInvalidate).trusting().key("k", range(base + 1001, base + 1100)).settled();
    redis().command({"FLUSHALL"});
    run(before);
    redis().set("k", "v");
    expect_counts(run(more), 1, 0, 0, 0);
    redis().set("k", "v");
    const OrderBuilder later = OrderBuilder(Act::kInvalidate).trusting().key("k", range(base + 1093, base + 1100)).settled();
    expect_counts(run(later), 0, 0, 0, 1);
  }
}

TEST_F(ManyTransactions, LeftOutOfATagsAreWalkedAgain) {
  redis().command({"SADD", "tag:t", "k"});
  redis().set("k", "v");
  run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", range(1041, 1100)));
  EXPECT_FALSE(redis().exists("k"));
  redis().command({"SADD", "tag:t", "k"});
  redis().set("k", "v");
  run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", range(1001, 1100)));
  EXPECT_FALSE(redis().exists("k"));
  const OrderBuilder lazily = OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("lazy", range(1041, 1100)).lazy();
  run(lazily);
  EXPECT_EQ(run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("lazy", range(1001, 1100)).lazy()).replayed, 0u);
}

TEST_F(ManyTransactions, WithoutAnOrderAreNeverProven) {
  const auto first = kOpaqueXidFlag + 100;
  run(OrderBuilder(Act::kSettle).trusting().key("k", range(first, first + 60)));
  EXPECT_THAT(marker("k"), MatchesRegex("t epoch/1 .9007199254740992s,4611686018427388057s,.*,4611686018427388064s"));
}

TEST_F(ManyTransactions, OfDifferentKindsAllGo) {
  auto xids = range(1001, 1040);
  xids.push_back(number(narrow_xid(7)));
  run(OrderBuilder(Act::kInvalidate).trusting().key("k", xids));
  EXPECT_THAT(marker("k"), MatchesRegex("t epoch/1 1001,1002,.*,1040,~7"));
}

// Each raises it by one, and is remembered as one.
TEST_F(ManyTransactions, OfACounterAllCount) {
  run(OrderBuilder(Act::kInvalidate, Target::kCounters).key("n", range(1, 50)));
  EXPECT_EQ(redis().get("n"), "50");
  run(OrderBuilder(Act::kInvalidate, Target::kCounters).key("n", range(45, 51)));
  EXPECT_EQ(redis().get("n"), "51");
}

// The calls are cut by transactions as well as by keys: every key gets what is its own, and replays count per key.
TEST_F(ManyTransactions, OfManyKeysGoInSeveralCalls) {
  OrderBuilder builder(Act::kInvalidate);
  builder.trusting();
  builder.key("first", range(1, 3000));
  for (std::uint64_t key = 0; key < 700; ++key) builder.key("k" + std::to_string(key), range(5000 + key * 10, 5000 + key * 10 + key % 10));
  const OrderBuilder command = builder;
  expect_counts(run(command), 0, 701, 0, 0);
  EXPECT_EQ(marker("k9"), "t epoch/1 5090,5091,5092,5093,5094,5095,5096,5097,5098,5099");
  EXPECT_EQ(marker("k690"), "t epoch/1 11900");
  expect_counts(run(command), 0, 1, 0, 700);  // of "first" most were left out: in doubt
}

TEST_F(ManyTransactions, RoomIsMeasuredByWhatRedisHasToDo) {  // G8
  RedisOptions options = options_for(*server_);
  options.under_way_bytes_max = 1000;
  DrivenSink driven(options);
  ASSERT_TRUE(driven.until_connected());
  const OrderBuilder small = OrderBuilder(Act::kInvalidate).trusting().key("k", {1});
  const OrderBuilder large = OrderBuilder(Act::kInvalidate).trusting().key("k", range(1, 200));
  driven.sink().submit(1, small.order());
  EXPECT_TRUE(driven.sink().has_room(Urgency::kPrompt));
  driven.sink().submit(2, large.order());
  EXPECT_FALSE(driven.sink().has_room(Urgency::kPrompt));
  ASSERT_TRUE(driven.until([&] { return driven.journal().done.contains(2); }));
  EXPECT_TRUE(driven.sink().has_room(Urgency::kPrompt));
}

}  // namespace
}  // namespace evictd::testing
