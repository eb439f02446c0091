// A flow with a fake source and fake caches, in fake time: what tests of the flow begin with.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {

// The caches are the test's own.
struct FlowWorld {
  FlowWorld() : database(12), source(database) {
    now.steady = SteadyTime(std::chrono::hours(1));
    now.system = SystemTime(std::chrono::hours(1));
  }
  static RuleSet rules_of(const std::string& text) {
    auto rules = RuleSet::parse(text, "rules.yaml");
    EXPECT_TRUE(rules.has_value());
    return std::move(*rules);
  }
  void start(const std::string& rules, std::vector<LaneSpec> lanes, const FlowOptions& options = {}) {
    flow = std::make_unique<Flow>(rules_of(rules), source, std::move(lanes), observer, options);
    flow->start(now);
  }
  void run(std::chrono::milliseconds time) {
    constexpr std::chrono::milliseconds kStep{10};
    for (auto left = time; left.count() > 0; left -= kStep) {
      now.steady += kStep;
      now.system += kStep;
      flow->step(now);
      for (FlowEvent& event : flow->take_events()) said.push_back(std::move(event.text));
    }
  }
  // A transaction that is visible at once.
  Xid write(int row) {
    const Xid xid = database.commit({row}, false, now.system).xid;
    database.make_visible(xid, now.steady);
    return xid;
  }
  LaneStatus status(std::size_t lane = 0) const { return flow->status().lanes[lane]; }
  bool is_acknowledged() const { return source.confirmed() >= database.log_end(); }

  Now now;
  FakeDatabase database;
  FakeSource source;
  NullObserver observer;
  std::unique_ptr<Flow> flow;
  std::vector<std::string> said;
};

// With one cache, and started.
struct FlowRun : FlowWorld {
  explicit FlowRun(const std::string& rules) : sink(std::chrono::seconds(5)) { start(rules, one_cache(sink)); }

  FakeSink sink;
};

}  // namespace evictd::testing
