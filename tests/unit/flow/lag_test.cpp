// What the status says while Redis is out of reach.
#include <gtest/gtest.h>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class Lag : public ::testing::Test {
 protected:
  Lag() : database_(12), source_(database_), sink_(5s) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    auto rules = RuleSet::parse("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n", "rules.yaml");
    EXPECT_TRUE(rules.has_value());
    flow_ = std::make_unique<Flow>(std::move(*rules), source_, one_cache(sink_), observer_, FlowOptions{});
    flow_->start(now_);
  }
  void run(std::chrono::milliseconds time) {
    for (auto left = time; left > 0ms; left -= 10ms) {
      now_.steady += 10ms;
      now_.system += 10ms;
      flow_->step(now_);
    }
  }
  void write(int row) { database_.make_visible(database_.commit({row}, false, now_.system).xid, now_.steady); }

  Now now_;
  FakeDatabase database_;
  FakeSource source_;
  FakeSink sink_;
  NullObserver observer_;
  std::unique_ptr<Flow> flow_;
};

// Everything received before is applied and only waits for its settle; all those settles become due while Redis is
// away. They must not keep new transactions out of sight.
TEST_F(Lag, IsShownAlthoughManySettlesWaitForRedis) {
  run(100ms);
  for (int i = 0; i < 80; ++i) {
    write(i % 12);
    run(10ms);
  }
  run(50ms);
  ASSERT_FALSE(flow_->status().lanes[0].oldest_unapplied_commit.has_value());
  sink_.server_up = false;
  run(2000ms);
  const SystemTime written = now_.system;
  write(1);
  run(3000ms);
  const auto oldest = flow_->status().lanes[0].oldest_unapplied_commit;
  ASSERT_TRUE(oldest.has_value()) << "evictd_lag_seconds would be 0";
  EXPECT_EQ(*oldest, written);
  sink_.server_up = true;
  run(5000ms);
  EXPECT_FALSE(flow_->status().lanes[0].oldest_unapplied_commit.has_value());
  EXPECT_GE(source_.confirmed(), database_.log_end());
}

// What was committed while the source was away is still to come when it is back: what was applied last says nothing.
TEST_F(Lag, IsNotZeroAfterAReconnectionBeforeTheBacklogIsRead) {
  run(100ms);
  ASSERT_EQ(flow_->status().lanes[0].lag, 0us);
  source_.server_up = false;
  run(20s);
  for (int i = 0; i < 50; ++i) write(i % 12);
  source_.server_up = true;
  source_.changes_per_step = 1;
  bool is_half_read = false;
  for (std::uint64_t held = 0; held < 50; held = flow_->status().lanes[0].held_transactions) {
    const FlowStatus status = flow_->status();
    is_half_read = is_half_read || (status.source_connected && held > 0);
    EXPECT_GT(status.lanes[0].lag, 0us) << held << " of 50 are read";
    run(10ms);
  }
  EXPECT_TRUE(is_half_read);
  run(100ms);
  EXPECT_EQ(flow_->status().lanes[0].lag, 0us);
}

}  // namespace
}  // namespace evictd::testing
