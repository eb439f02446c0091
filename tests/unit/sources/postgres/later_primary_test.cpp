#include "daemon/sources/postgres/later_primary.h"

#include <gtest/gtest.h>

#include <utility>

namespace evictd {
namespace {

using std::chrono::seconds;

struct Said {
  std::string name;
  ServerHistory history;
};

std::vector<Conninfo> hosts(const std::vector<std::string>& names) {
  std::vector<Conninfo> found;
  for (const std::string& name : names) found.emplace_back().set("host", name);
  return found;
}

Result<ServerHistory> nothing() { return tl::unexpected<Error>(Error{ErrorKind::kConnection, "no answer", {}}); }

std::string later_than(const std::string& timeline, const std::vector<Said>& said) {
  LaterPrimary later;
  std::vector<std::string> names;
  for (const Said& one : said) names.push_back(one.name);
  later.streaming({"7", timeline, {}}, hosts(names), {});
  for (std::size_t i = 0; i < said.size(); ++i) later.answered(i, said[i].history, {});
  const auto found = later.found();
  return found ? found->conninfo.get("host") : "";
}

TEST(LaterPrimary, IsThePrimaryOfTheLastTimelineOfTheSameSystem) {
  EXPECT_EQ(later_than("1", {{"a", {true, "7", 1}}, {"b", {true, "7", 2}}}), "b");
  EXPECT_EQ(later_than("9", {{"b", {true, "7", 10}}, {"c", {true, "7", 12}}, {"d", {true, "7", 11}}}), "c");
  EXPECT_EQ(later_than("2", {{"a", {true, "7", 1}}, {"b", {true, "7", 2}}}), "") << "an older one, and one of its own timeline";
  EXPECT_EQ(later_than("1", {{"b", {false, "7", 2}}}), "") << "a standby";
  EXPECT_EQ(later_than("1", {{"b", {true, "8", 2}}}), "") << "another system, whose timelines count from its own beginning";
  EXPECT_EQ(later_than("1", {}), "");
}

TEST(LaterPrimary, OneQuestionAtATimeToEachHostAndNoneWaitsForAnother) {
  LaterPrimary later;
  const SteadyTime start{};
  later.streaming({"7", "1", {}}, hosts({"silent", "standby"}), start);
  EXPECT_EQ(later.asks(start), (std::vector<std::size_t>{0, 1}));
  later.answered(1, ServerHistory{false, "7", 0}, start);
  EXPECT_EQ(later.asks(start + LaterPrimary::kInterval), (std::vector<std::size_t>{1})) << "the first one hangs";
  later.answered(1, ServerHistory{true, "7", 2}, start + LaterPrimary::kInterval);
  ASSERT_TRUE(later.found());
  EXPECT_EQ(later.found()->conninfo.get("host"), "standby");
}

TEST(LaterPrimary, AHostThatDoesNotAnswerIsAskedLessOften) {
  LaterPrimary later;
  const SteadyTime start{};
  later.streaming({"7", "1", {}}, hosts({"b"}), start);
  ASSERT_EQ(later.asks(start).size(), 1U);
  later.answered(0, ServerHistory{true, "7", 2}, start);
  ASSERT_EQ(later.asks(start + LaterPrimary::kInterval).size(), 1U);
  later.answered(0, nothing(), start + seconds(3));
  EXPECT_FALSE(later.found()) << "what it was says nothing of what it is";
  EXPECT_EQ(later.due(), start + seconds(3) + LaterPrimary::kAway);
  EXPECT_TRUE(later.asks(later.due() - seconds(1)).empty());
  EXPECT_EQ(later.asks(later.due()).size(), 1U);
}

TEST(LaterPrimary, NobodyIsAskedWithoutAStreamOrOthers) {
  LaterPrimary later;
  EXPECT_EQ(later.due(), SteadyTime::max());
  later.streaming({"7", "1", {}}, hosts({"b"}), {});
  later.connecting();
  EXPECT_EQ(later.due(), SteadyTime::max());
  later.streaming({"7", "1", {}}, {}, {});
  EXPECT_TRUE(later.asks(SteadyTime::max()).empty());
}

}  // namespace
}  // namespace evictd
