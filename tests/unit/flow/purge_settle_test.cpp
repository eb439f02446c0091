// The second purge of a pattern keeps the bound of G4, also where purges of it follow one another.
#include <gtest/gtest.h>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class PurgeSettle : public ::testing::Test {
 protected:
  PurgeSettle() : database_(12), source_(database_), sink_(5s) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    auto rules = RuleSet::parse("- {table: public.rows, purge: ['row:*'], settle: 1s}\n", "rules.yaml");
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

TEST_F(PurgeSettle, IsNotPutOffByALaterPurgeOfThePattern) {  // G4
  run(100ms);
  const auto old_row = database_.select(0);
  write(0);
  run(800ms);
  write(1);
  run(100ms);
  sink_.plain_set("row:0", old_row);  // a reader that took 0.9 s
  run(300ms);
  EXPECT_EQ(sink_.data.cache.count("row:0"), 0u) << "stale for more than settle and a tenth";
}

}  // namespace
}  // namespace evictd::testing
