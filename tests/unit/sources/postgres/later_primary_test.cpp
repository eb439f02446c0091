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

Conninfo server() { return hosts({"followed"}).front(); }

Result<ServerHistory> nothing() { return tl::unexpected<Error>(Error{ErrorKind::kConnection, "no answer", {}}); }

std::string later_than(const std::string& timeline, const std::vector<Said>& said) {
  LaterPrimary later;
  std::vector<std::string> names;
  for (const Said& one : said) names.push_back(one.name);
  later.streaming({"7", timeline, {}}, server(), hosts(names), false, {});
  for (const Said& one : said) later.answered(one.name + ":5432/", one.history, {});
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
  later.streaming({"7", "1", {}}, server(), hosts({"followed", "silent", "standby"}), false, start);
  EXPECT_EQ(later.asks(start), (std::vector<std::string>{"silent:5432/", "standby:5432/"}));
  later.answered("standby:5432/", ServerHistory{false, "7", 0}, start);
  EXPECT_EQ(later.asks(start + LaterPrimary::kInterval), (std::vector<std::string>{"standby:5432/"})) << "the first one hangs";
  later.answered("standby:5432/", ServerHistory{true, "7", 2}, start + LaterPrimary::kInterval);
  ASSERT_TRUE(later.found());
  EXPECT_EQ(later.found()->conninfo.get("host"), "standby");
}

TEST(LaterPrimary, AHostThatDoesNotAnswerIsAskedLessOften) {
  LaterPrimary later;
  const SteadyTime start{};
  later.streaming({"7", "1", {}}, server(), hosts({"b"}), false, start);
  ASSERT_EQ(later.asks(start).size(), 1U);
  later.answered("b:5432/", ServerHistory{false, "7", 2}, start);
  ASSERT_EQ(later.asks(start + LaterPrimary::kInterval).size(), 1U);
  later.answered("b:5432/", nothing(), start + seconds(3));
  EXPECT_FALSE(later.found()) << "what it was says nothing of what it is";
  EXPECT_EQ(later.due(), start + seconds(3) + LaterPrimary::kAway);
  EXPECT_TRUE(later.asks(later.due() - seconds(1)).empty());
  EXPECT_EQ(later.asks(later.due()).size(), 1U);
}

TEST(LaterPrimary, NobodyIsAskedWithoutAStreamOrOthers) {
  LaterPrimary later;
  EXPECT_EQ(later.due(), SteadyTime::max());
  later.streaming({"7", "1", {}}, server(), hosts({"b"}), true, {});
  later.connecting();
  EXPECT_EQ(later.due(), SteadyTime::max());
  EXPECT_FALSE(later.looks_up(SteadyTime::max()));
  later.streaming({"7", "1", {}}, server(), {}, false, {});
  EXPECT_TRUE(later.asks(SteadyTime::max()).empty());
}

Conninfo at(const std::string& name, const std::string& address) {
  Conninfo made;
  made.set("host", name);
  made.set("hostaddr", address);
  return made;
}

TEST(LaterPrimary, WhatANameStandsForIsAskedAddressByAddressAndLookedUpAgain) {
  LaterPrimary later;
  const SteadyTime start{};
  later.streaming({"7", "1", {}}, at("db", "10.0.0.1"), {}, true, start);
  EXPECT_TRUE(later.looks_up(start));
  EXPECT_FALSE(later.looks_up(start + LaterPrimary::kLookUp)) << "one at a time";
  later.looked_up({at("db", "10.0.0.1"), at("db", "10.0.0.2")}, start + LaterPrimary::kLookUp);
  EXPECT_EQ(later.asks(start + LaterPrimary::kLookUp), (std::vector<std::string>{"db:5432/10.0.0.2"})) << "the other one is followed";
  later.looked_up({at("db", "10.0.0.2"), at("db", "10.0.0.3")}, start + LaterPrimary::kLookUp);
  EXPECT_EQ(later.asks(start + LaterPrimary::kLookUp), (std::vector<std::string>{"db:5432/10.0.0.3"})) << "the first was asked already";
  later.answered("db:5432/10.0.0.3", ServerHistory{true, "7", 2}, start + seconds(6));
  ASSERT_TRUE(later.found());
  EXPECT_EQ(server_and_address(later.found()->conninfo), "db:5432 (10.0.0.3)");
  later.looked_up({at("db", "10.0.0.2")}, start + seconds(7));
  EXPECT_FALSE(later.found()) << "the name does not stand for it any more";
  EXPECT_FALSE(later.has("db:5432/10.0.0.3"));
}

// Such as the one that is followed, by another address of its name.
TEST(LaterPrimary, OneThatIsAPrimaryAlreadyIsAskedLessOften) {
  LaterPrimary later;
  const SteadyTime start{};
  later.streaming({"7", "1", {}}, server(), hosts({"b"}), false, start);
  ASSERT_EQ(later.asks(start).size(), 1U);
  later.answered("b:5432/", ServerHistory{true, "7", 1}, start);
  EXPECT_EQ(later.due(), start + LaterPrimary::kAway);
}

TEST(LaterPrimary, EachAddressOfEachHostIsReachedAlone) {
  const NameLookup::Resolver resolver = [](const std::string& name) -> Result<std::vector<std::string>> {
    if (name == "gone") return tl::unexpected<Error>(Error{ErrorKind::kConnection, "no such name", {}});
    return std::vector<std::string>{"10.0.0.1", "10.0.0.2"};
  };
  const auto shown = [&](const std::string& url) {
    std::string text;
    for (const Conninfo& one : each_address(*Conninfo::parse(url), resolver)) {
      text += one.get("host") + "/" + one.get("hostaddr") + "/" + one.get("port") + "/" + one.get("target_session_attrs") + " ";
    }
    return text;
  };
  EXPECT_EQ(shown("host=db port=6 target_session_attrs=read-write"), "db/10.0.0.1/6/any db/10.0.0.2/6/any ");
  EXPECT_EQ(shown("host=gone,127.0.0.1 port=1,2"), "gone//1/any 127.0.0.1//2/any ");
  EXPECT_EQ(shown("host=127.0.0.1 port=1"), "");
  EXPECT_EQ(shown("host=db hostaddr=127.0.0.1"), "");
}

}  // namespace
}  // namespace evictd
