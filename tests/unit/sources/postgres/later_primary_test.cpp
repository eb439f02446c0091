#include "daemon/sources/postgres/later_primary.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

LaterPrimary::Host host(const std::string& name, bool is_primary, const std::string& system, std::uint32_t timeline) {
  Conninfo conninfo;
  conninfo.set("host", name);
  return {conninfo, {is_primary, system, timeline}};
}

std::string later_than(const std::string& timeline, std::vector<LaterPrimary::Host> hosts) {
  LaterPrimary later;
  later.streaming({"7", timeline, {}}, {});
  const auto found = later.answered(std::move(hosts));
  return found ? found->conninfo.get("host") : "";
}

TEST(LaterPrimary, IsThePrimaryOfTheLastTimelineOfTheSameSystem) {
  EXPECT_EQ(later_than("1", {host("a", true, "7", 1), host("b", true, "7", 2)}), "b");
  EXPECT_EQ(later_than("9", {host("b", true, "7", 10), host("c", true, "7", 12), host("d", true, "7", 11)}), "c");
  EXPECT_EQ(later_than("2", {host("a", true, "7", 1), host("b", true, "7", 2)}), "") << "the one that is followed";
  EXPECT_EQ(later_than("1", {host("b", false, "7", 2)}), "") << "a standby";
  EXPECT_EQ(later_than("1", {host("b", true, "8", 2)}), "") << "another system, whose timelines count from its own beginning";
  EXPECT_EQ(later_than("1", {}), "");
}

TEST(LaterPrimary, OneQuestionAtATime) {
  LaterPrimary later;
  const SteadyTime start{};
  later.streaming({"7", "1", {}}, start);
  EXPECT_TRUE(later.asks(start));
  EXPECT_FALSE(later.asks(start + LaterPrimary::kInterval)) << "a host hangs";
  later.answered({});
  EXPECT_TRUE(later.asks(start + 2 * LaterPrimary::kInterval));
}

}  // namespace
}  // namespace evictd
