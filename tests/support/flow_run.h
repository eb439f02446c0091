// A flow with one fake cache and a fake source, in fake time: what most tests of the flow begin with.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {

struct FlowRun {
  explicit FlowRun(const std::string& rules_text) : database(12), source(database), sink(std::chrono::seconds(5)) {
    now.steady = SteadyTime(std::chrono::hours(1));
    now.system = SystemTime(std::chrono::hours(1));
    auto rules = RuleSet::parse(rules_text, "rules.yaml");
    EXPECT_TRUE(rules.has_value());
    flow = std::make_unique<Flow>(std::move(*rules), source, one_cache(sink), observer, FlowOptions{});
    flow->start(now);
  }
  void run(std::chrono::milliseconds time) {
    constexpr std::chrono::milliseconds kStep{10};
    for (auto left = time; left.count() > 0; left -= kStep) {
      now.steady += kStep;
      now.system += kStep;
      flow->step(now);
    }
  }
  // A transaction that is visible at once.
  Xid write(int row) {
    const Xid xid = database.commit({row}, false, now.system).xid;
    database.make_visible(xid, now.steady);
    return xid;
  }

  Now now;
  FakeDatabase database;
  FakeSource source;
  FakeSink sink;
  NullObserver observer;
  std::unique_ptr<Flow> flow;
};

}  // namespace evictd::testing
