// Which keys a delete hit, for rules with `refresh`: those that count as deleted, whatever stood in their markers.
#include <gmock/gmock.h>

#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Hits : public SinkTest {
 protected:
  OrderBuilder order(Act act = Act::kInvalidate) {
    OrderBuilder built(act);
    built.trusting().refreshed();
    return built;
  }
  void fill(const std::string& key, const std::string& snapshot) {
    ASSERT_EQ(redis().command({"FCALL", "evictd_fill", "2", key, marker_name(key), snapshot, "60000", "value"}).integer, 1);
  }
};

TEST_F(Hits, AreTheKeysThatWereThere) {
  for (const char* key : {"b", "d"}) redis().command({"SET", key, "v"});
  const Outcome outcome = run(order().key("a", {10}).key("b", {10}).key("c", {10}).key("d", {10}));
  expect_counts(outcome, 2, 2, 0, 0);
  EXPECT_THAT(outcome.hits, ElementsAre(1u, 3u));
}

TEST_F(Hits, AreTheSameAmongKeysWithMarkers) {
  fill("kept", "20:20:");
  fill("old", "5:5:");
  EXPECT_THAT(run(order().key("replayed", {10})).hits, IsEmpty());
  const Outcome outcome = run(order().key("absent", {10}).key("kept", {10}).key("replayed", {10}).key("old", {10}));
  expect_counts(outcome, 1, 1, 1, 1);
  EXPECT_THAT(outcome.hits, ElementsAre(3u));
}

TEST_F(Hits, OfModeStaleAreTheValuesThatStay) {
  fill("a", "5:5:");
  fill("c", "5:5:");
  const Outcome outcome = run(order().grace(std::chrono::seconds(30)).key("a", {10}).key("b", {10}).key("c", {10}));
  EXPECT_THAT(outcome.hits, ElementsAre(0u, 2u));
  EXPECT_TRUE(redis().exists("a"));
}

TEST_F(Hits, AreCountedThroughAllCallsOfALargeOrder) {
  OrderBuilder built = order();
  std::vector<std::uint32_t> expected;
  for (int i = 0; i < 3000; ++i) {
    const std::string key = "k:" + std::to_string(i);
    built.key(key, {10 + static_cast<std::uint64_t>(i % 3)});
    if (i % 7 != 0) continue;
    redis().command({"SET", key, "v"});
    expected.push_back(static_cast<std::uint32_t>(i));
  }
  Outcome outcome = run(built);
  std::sort(outcome.hits.begin(), outcome.hits.end());
  EXPECT_EQ(outcome.hits, expected);
}

TEST_F(Hits, AreNotAskedForOtherwise) {
  redis().command({"SET", "a", "v"});
  EXPECT_THAT(run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10})).hits, IsEmpty());
}

}  // namespace
}  // namespace evictd::testing
