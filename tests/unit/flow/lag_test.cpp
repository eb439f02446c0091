// What the status says while Redis is out of reach.
#include <gtest/gtest.h>

#include "tests/support/flow_run.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class Lag : public ::testing::Test, protected FlowRun {
 protected:
  Lag() : FlowRun("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n") {}
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
  ASSERT_FALSE(flow->status().lanes[0].oldest_unapplied_commit.has_value());
  sink.server_up = false;
  run(2000ms);
  const SystemTime written = now.system;
  write(1);
  run(3000ms);
  const auto oldest = flow->status().lanes[0].oldest_unapplied_commit;
  ASSERT_TRUE(oldest.has_value()) << "evictd_lag_seconds would be 0";
  EXPECT_EQ(*oldest, written);
  sink.server_up = true;
  run(5000ms);
  EXPECT_FALSE(flow->status().lanes[0].oldest_unapplied_commit.has_value());
  EXPECT_GE(source.confirmed(), database.log_end());
}

// What was committed while the source was away is still to come when it is back: what was applied last says nothing.
TEST_F(Lag, IsNotZeroAfterAReconnectionBeforeTheBacklogIsRead) {
  run(100ms);
  ASSERT_EQ(flow->status().lanes[0].lag, 0us);
  source.server_up = false;
  run(20s);
  for (int i = 0; i < 50; ++i) write(i % 12);
  source.server_up = true;
  source.changes_per_step = 1;
  bool is_half_read = false;
  for (std::uint64_t held = 0; held < 50; held = flow->status().lanes[0].held_transactions) {
    const FlowStatus status = flow->status();
    is_half_read = is_half_read || (status.source_connected && held > 0);
    EXPECT_GT(status.lanes[0].lag, 0us) << held << " of 50 are read";
    run(10ms);
  }
  EXPECT_TRUE(is_half_read);
  run(100ms);
  EXPECT_EQ(flow->status().lanes[0].lag, 0us);
}

// By the clocks alone, what such a server committed long ago was committed just now.
TEST_F(Lag, IsNotZeroBeforeTheBacklogOfAServerWhoseClockIsAheadIsRead) {
  source.clock_ahead = 1h;
  source.sends_keepalives = false;
  run(100ms);
  source.server_up = false;
  run(20s);
  for (int i = 0; i < 50; ++i) {
    const Xid xid = database.commit({i % 12}, false, now.system + 1h).xid;
    database.make_visible(xid, now.steady);
  }
  run(5s);
  source.server_up = true;
  source.changes_per_step = 1;
  bool is_half_read = false;
  while (!source.has_sent_all()) {
    is_half_read = is_half_read || status().last_applied_commit.has_value();
    EXPECT_GT(status().lag, 4900ms);
    run(10ms);
  }
  EXPECT_TRUE(is_half_read);
  run(1s);
  const Xid xid = database.commit({1}, false, now.system + 1h).xid;
  database.make_visible(xid, now.steady);
  run(100ms);
  EXPECT_EQ(status().lag, 0us) << "committed in this connection";
}

// What comes behind it was written since.
// A backlog holds heartbeats, too.
TEST_F(Lag, IsNotZeroByAHeartbeatOfBeforeTheConnection) {
  source.sends_keepalives = false;
  run(100ms);
  source.server_up = false;
  run(5s);
  source.server_up = true;
  run(100ms);
  source.heartbeat = true;
  source.heartbeat_age = 1s;
  run(10ms);
  EXPECT_GT(status().lag, 1s);
  source.heartbeat = true;
  source.heartbeat_age = 10ms;
  run(10ms);
  EXPECT_EQ(status().lag, 0us);
}

TEST_F(Lag, IsNotZeroByAHeartbeatThatTookLong) {
  source.sends_keepalives = false;
  run(100ms);
  run(31s);
  ASSERT_GE(status().lag, 31s);
  source.heartbeat = true;
  source.heartbeat_age = 31s;
  run(10ms);
  EXPECT_GE(status().lag, 31s);
  source.heartbeat = true;
  source.heartbeat_age = 1s;
  run(10ms);
  EXPECT_EQ(status().lag, 0us);
}

// A server whose clock is ahead of ours: until ours comes to the commit's time, its age by the clocks is less than nothing.
TEST_F(Lag, GrowsWhileACommitFromTheFutureIsNotApplied) {
  run(100ms);
  sink.server_up = false;
  const Xid xid = database.commit({1}, false, now.system + 1h).xid;
  database.make_visible(xid, now.steady);
  run(3000ms);
  EXPECT_GE(status().lag, 2900ms);
  EXPECT_LE(status().lag, 3100ms);
  sink.server_up = true;
  run(5000ms);
  EXPECT_EQ(status().lag, 0us);
}

}  // namespace
}  // namespace evictd::testing
