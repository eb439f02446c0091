#include "daemon/app/key_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mapping/rules.h"

namespace evictd {
namespace {

using testing::HasSubstr;
using testing::Not;

const SystemTime kAt{std::chrono::seconds(1'700'000'000)};

class KeyTraceTest : public testing::Test {
 protected:
  KeyTraceTest() { rule_.name = "products"; }

  static Texts texts(const std::vector<std::pair<std::string, std::vector<std::uint64_t>>>& keys) {
    Texts made;
    for (const auto& [key, xids] : keys) {
      made.texts += key;
      for (const std::uint64_t xid : xids) made.xids.push_back(Xid{xid});
      made.items.push_back({static_cast<std::uint32_t>(made.texts.size()), static_cast<std::uint32_t>(made.xids.size())});
    }
    return made;
  }
  Order order(const Texts& keys, Act act = Act::kInvalidate) const {
    Order made;
    made.act = act;
    made.rule = &rule_;
    made.texts = &keys;
    return made;
  }
  static Outcome outcome(std::uint64_t deleted, std::uint64_t absent) {
    Outcome made;
    made.deleted = deleted;
    made.absent = absent;
    return made;
  }

  RuleInfo rule_;
  KeyTrace trace_;
};

TEST_F(KeyTraceTest, TellsWhatBecameOfAKeyTheLatestFirst) {
  const Texts one = texts({{"product:1", {1042, 1043}}});
  trace_.ordered("eu", 1, order(one), kAt);
  EXPECT_THAT(trace_.json("product:1"), HasSubstr("\"outcome\":\"under way\""));
  trace_.done("eu", 1, outcome(1, 0));
  trace_.ordered("eu", 2, order(one, Act::kSettle), kAt + std::chrono::seconds(1));
  trace_.done("eu", 2, outcome(0, 1));
  EXPECT_EQ(trace_.json("product:1"),
            "{\"key\":\"product:1\",\"since\":\"2023-11-14T22:13:20.000Z\",\"decisions\":["
            "{\"at\":\"2023-11-14T22:13:21.000Z\",\"cache\":\"eu\",\"rule\":\"products\",\"what\":\"second delete\","
            "\"transactions\":\"1042, 1043\",\"outcome\":\"absent\"},"
            "{\"at\":\"2023-11-14T22:13:20.000Z\",\"cache\":\"eu\",\"rule\":\"products\",\"what\":\"delete\","
            "\"transactions\":\"1042, 1043\",\"outcome\":\"deleted\"}]}\n");
  EXPECT_THAT(trace_.json("product:2"), HasSubstr("\"decisions\":[]"));
}

TEST_F(KeyTraceTest, OfACommandWithOtherKeysItTellsTheCountsOfAll) {
  const Texts keys = texts({{"product:1", {7}}, {"product:2", {8}}, {"product:3", {9}}});
  trace_.ordered("eu", 1, order(keys), kAt);
  trace_.done("eu", 1, outcome(1, 2));
  const std::string told = trace_.json("product:2");
  EXPECT_THAT(told, HasSubstr("\"transactions\":\"8\""));
  EXPECT_THAT(told, HasSubstr("\"outcome\":\"of 3 in one command: 1 deleted, 2 absent\""));
}

TEST_F(KeyTraceTest, AConnectionThatIsLostIsTold) {
  const Texts one = texts({{"product:1", {7}}});
  trace_.ordered("eu", 1, order(one), kAt);
  trace_.lost("us", 1);  // another cache's
  EXPECT_THAT(trace_.json("product:1"), HasSubstr("under way"));
  trace_.lost("eu", 1);
  EXPECT_THAT(trace_.json("product:1"), HasSubstr("the connection was lost"));
}

TEST_F(KeyTraceTest, PurgesAreFoundByTheKeysTheyMatch) {
  Pattern pattern;
  pattern.glob = "product:*";
  const PatternRef refs[] = {{&rule_, &pattern}};
  Order purge;
  purge.target = Target::kPatterns;
  purge.patterns = refs;
  purge.is_unconditional = true;
  trace_.ordered("eu", 1, purge, kAt);
  trace_.done("eu", 1, outcome(2000, 0));
  EXPECT_THAT(trace_.json("product:9"), HasSubstr("purge of 'product:*', whatever is there"));
  EXPECT_THAT(trace_.json("category:9"), Not(HasSubstr("purge")));
}

TEST_F(KeyTraceTest, WhatIsKeptIsBounded) {
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> many;
  for (std::uint64_t i = 0; i < 5'000; ++i) many.push_back({"key:" + std::to_string(i) + std::string(900, 'x'), {i}});
  const Texts large = texts(many);
  for (Ticket ticket = 0; ticket < 50; ++ticket) {
    trace_.ordered("eu", ticket, order(large), kAt);
    trace_.done("eu", ticket, outcome(0, 5'000));
    EXPECT_LE(trace_.bytes(), KeyTrace::kBytesMax);
  }
  const Texts small = texts({{"a", {1}}});
  for (Ticket ticket = 0; ticket < 2 * KeyTrace::kEntriesMax; ++ticket) {
    trace_.ordered("eu", ticket, order(small), kAt);
    trace_.done("eu", ticket, outcome(1, 0));
  }
  EXPECT_LE(trace_.bytes(), KeyTrace::kEntriesMax * 200);
  const Texts too_long = texts({{std::string(KeyTrace::kKeyMax + 1, 'x'), {1}}});
  trace_.ordered("eu", 1, order(too_long), kAt);
  EXPECT_THAT(trace_.json(std::string(KeyTrace::kKeyMax + 1, 'x')), HasSubstr("\"decisions\":[]"));
}

}  // namespace
}  // namespace evictd
