// One change that makes more keys than a batch can hold, and one key that many transactions change.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "daemon/flow/batch_builder.h"
#include "tests/support/flow_run.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

TEST(ManyKeys, OfOneChangeBecomeSeveralBatches) {  // G8
  constexpr int kRules = 80;
  constexpr int kKeys = 64;
  std::string text;
  for (int rule = 0; rule < kRules; ++rule) {
    text += "- {table: public.rows, keys: [";
    for (int key = 0; key < kKeys; ++key) text += fmt::format("{}'r{}k{}:{{id}}'", key == 0 ? "" : ", ", rule, key);
    text += "]}\n";
  }
  FlowRun world(text);
  world.run(100ms);
  const Xid xid = world.write(7);
  world.run(10s);
  EXPECT_GE(world.source.confirmed(), world.database.log_end());
  for (int rule = 0; rule < kRules; ++rule) {
    for (int key = 0; key < kKeys; ++key) {
      ASSERT_TRUE(world.sink.data.applied.contains({xid, fmt::format("r{}k{}:7", rule, key)}));
    }
  }
}

// A value that is there never ends the daemon, whatever it is: only one that was not sent may.
TEST(StrangeValue, DoesNotStopARuleThatStopsForMissingOnes) {
  FlowRun world(R"([{table: public.rows, keys: ["d:{id|date('%Y')}", 'row:{id}'], on_missing: stop}])");
  world.run(100ms);
  const Xid xid = world.write(7);
  world.run(10s);
  EXPECT_FALSE(world.flow->failure());
  EXPECT_GE(world.source.confirmed(), world.database.log_end());
  EXPECT_TRUE(world.sink.data.applied.contains({xid, "row:7"}));
}

// One key changed all the time is one item of one command, with all its transactions.
TEST(ManyTransactions, OfOneKeyAreOneItem) {
  auto rules = RuleSet::parse("- {table: public.rows, keys: ['row:{id}', 'all']}", "rules.yaml");
  ASSERT_TRUE(rules.has_value());
  BatchBuilder builder(16, 64 * 1024);
  builder.use(std::make_shared<const RuleSet>(std::move(*rules)));
  for (std::uint64_t xid = 1; xid <= 1000; ++xid) {
    builder.begin({0, Xid{xid}, SystemTime(1h), std::nullopt});
    builder.add(0, InvalidationKind::kKey, fmt::format("row:{}", xid % 3));
    builder.add(0, InvalidationKind::kKey, "all");
    builder.add(0, InvalidationKind::kKey, "all");
    builder.commit({0, xid});
    ASSERT_FALSE(builder.full()) << xid;
  }
  const auto batch = builder.take();
  ASSERT_EQ(batch->parts.size(), 1u);
  const Texts& command = batch->parts[0].texts;
  ASSERT_EQ(command.size(), 4u);
  EXPECT_EQ(batch->transactions, 1000u);
  std::size_t begin = 0;
  for (std::size_t item = 0; item < command.size(); ++item) {
    const std::size_t end = command.items[item].xids_end;
    EXPECT_EQ(end - begin, command.text(item) == "all" ? 1000u : command.text(item) == "row:1" ? 334u : 333u);
    EXPECT_TRUE(std::is_sorted(command.xids.begin() + static_cast<std::ptrdiff_t>(begin),
                               command.xids.begin() + static_cast<std::ptrdiff_t>(end)));
    begin = end;
  }
}

TEST(ManyTransactions, FillABatchAtLast) {  // G8
  auto rules = RuleSet::parse("- {table: public.rows, keys: ['all']}", "rules.yaml");
  ASSERT_TRUE(rules.has_value());
  const FlowOptions options;
  BatchBuilder builder(options.batch_items_max, options.batch_bytes_max);
  builder.use(std::make_shared<const RuleSet>(std::move(*rules)));
  std::uint64_t xid = 0;
  while (!builder.full() && xid < 1'000'000) {
    builder.begin({0, Xid{++xid}, SystemTime(1h), std::nullopt});
    builder.add(0, InvalidationKind::kKey, "all");
    builder.commit({0, xid});
  }
  EXPECT_GT(xid, 4000u);
  EXPECT_LE(builder.bytes(), options.batch_bytes_max + 64);
  EXPECT_LE(builder.take()->parts[0].texts.bytes(), options.batch_bytes_max);
}

// A change that fills its batch is mostly the last of its transaction, which counts once, when it is applied.
TEST(ManyTransactions, AreAllCountedWhereEachFillsABatch) {
  FlowWorld world;
  FakeSink sink(5s);
  FlowOptions options;
  options.batch_items_max = 1;
  world.start("- {table: public.rows, keys: ['row:{id}']}\n", one_cache(sink), options);
  world.run(100ms);
  for (int row = 0; row < 8; ++row) world.write(row);
  world.run(1s);
  EXPECT_EQ(world.observer.latencies, 8);
}

// Each raise of a counter is work of its own for Redis, which serves nobody meanwhile.
TEST(ManyTransactions, OfOneCounterFillABatchSoon) {  // G8
  auto rules = RuleSet::parse("- {table: public.rows, bump: ['ns:all']}", "rules.yaml");
  ASSERT_TRUE(rules.has_value());
  const FlowOptions options;
  BatchBuilder builder(options.batch_items_max, options.batch_bytes_max);
  builder.use(std::make_shared<const RuleSet>(std::move(*rules)));
  std::uint64_t xid = 0;
  while (!builder.full() && xid < 100'000) {
    builder.begin({0, Xid{++xid}, SystemTime(1h), std::nullopt});
    builder.add(0, InvalidationKind::kBump, "ns:all");
    builder.commit({0, xid});
  }
  EXPECT_LE(xid, 1100u);
}

// What it does comes in pieces, and its end long after the last that any rule asks about.
TEST(ManyKeys, ATransactionThatEndsInABatchWithNothingOfItCountsInTheLatency) {
  FlowRun world("- {table: public.rows, where: {id: 1}, keys: ['row:{id}']}");
  world.source.changes_per_step = 1;
  world.run(100ms);
  world.database.make_visible(world.database.commit({2, 1, 2, 2, 2}, false, world.now.system).xid, world.now.steady);
  world.database.make_visible(world.database.commit({2, 2, 2, 2}, false, world.now.system).xid, world.now.steady);
  world.run(5s);
  EXPECT_TRUE(world.is_acknowledged());
  EXPECT_EQ(world.observer.latencies, 1) << "and the other one has nothing to wait for";
  EXPECT_EQ(world.status().last_applied_commit, world.now.system - 5s);
}

// What was looked up for one before it, which has no end of its own either, is nothing of it.
TEST(ManyKeys, ATransactionThatDoesNothingInACacheDoesNotCountInItsLatencyForWhatWasFoundThere) {
  FlowWorld world;
  FakeSink a(5s), b(5s);
  world.start("- {table: public.rows, where: {id: 1}, keys: ['row:{id}'], caches: [a]}\n"
              "- {table: public.rows, via: {team: {table: public.teams, match: {id: grp}}}, where: {id: 0}, keys: ['page:{team.name}'], caches: [b]}\n",
              {LaneSpec{"a", &a, {}, {}, 5s}, LaneSpec{"b", &b, {}, {}, 5s}});
  world.source.changes_per_step = 1;
  world.run(100ms);
  const Xid first = world.write(0);
  world.run(500ms);
  ASSERT_TRUE(b.data.applied.contains({first, "page:team0"}));
  ASSERT_EQ(world.observer.latencies, 1);
  world.database.make_visible(world.database.commit({2, 1, 2, 2, 2}, false, world.now.system).xid, world.now.steady);
  world.run(5s);
  EXPECT_TRUE(world.is_acknowledged());
  EXPECT_EQ(world.observer.latencies, 2) << "in a";
  EXPECT_EQ(world.status(1).last_applied_commit, world.now.system - 5500ms);
}

}  // namespace
}  // namespace evictd::testing
