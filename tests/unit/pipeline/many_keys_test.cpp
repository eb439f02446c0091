// One change that makes more keys than a batch can hold.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "daemon/pipeline.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

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
  auto rules = RuleSet::parse(text, "rules.yaml");
  ASSERT_TRUE(rules.has_value());
  FakeDatabase database(12);
  FakeSource source(database);
  FakeSink sink(5s);
  NullObserver observer;
  Pipeline pipeline(std::move(*rules), source, sink, observer, PipelineOptions{});
  Now now;
  now.steady = SteadyTime(1h);
  now.system = SystemTime(1h);
  const auto run = [&](std::chrono::milliseconds time) {
    for (auto left = time; left > 0ms; left -= 10ms) {
      now.steady += 10ms;
      now.system += 10ms;
      pipeline.step(now);
    }
  };
  pipeline.start(now);
  run(100ms);
  const Xid xid = database.commit({7}, false, now.system).xid;
  database.make_visible(xid, now.steady);
  run(10s);
  EXPECT_GE(source.confirmed(), database.log_end());
  for (int rule = 0; rule < kRules; ++rule) {
    for (int key = 0; key < kKeys; ++key) {
      ASSERT_TRUE(sink.data.first_applied.contains({fmt::format("r{}k{}:7", rule, key), xid}));
    }
  }
}

}  // namespace
}  // namespace evictd::testing
