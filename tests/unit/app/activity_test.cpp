#include "daemon/app/activity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/app/status_feed.h"
#include "daemon/flow/flow.h"
#include "tests/support/null_observer.h"

namespace evictd {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(LatencyBuckets, AQuantileIsWithinAFifthOfTheTruth) {
  LatencyBuckets before;
  before.add(seconds(100));  // counted earlier: does not matter
  LatencyBuckets now = before;
  for (int i = 1; i <= 1000; ++i) now.add(microseconds(i * 100));
  EXPECT_NEAR(now.quantile(before, 0.5).value(), 0.050, 0.010);
  EXPECT_NEAR(now.quantile(before, 0.99).value(), 0.099, 0.020);
  EXPECT_FALSE(now.quantile(now, 0.5).has_value());
}

TEST(LatencyBuckets, NothingIsTooShortOrTooLong) {
  const LatencyBuckets before;
  LatencyBuckets now;
  now.add(microseconds(-5));
  now.add(microseconds(0));
  now.add(std::chrono::hours(24 * 365));
  EXPECT_EQ(now.total(), 3u);
  EXPECT_LE(now.quantile(before, 0.1).value(), 0.000002);
  EXPECT_GT(now.quantile(before, 1.0).value(), 7000);
}

class ActivityTest : public ::testing::Test {
 protected:
  ActivityTest() : rules_(*RuleSet::parse("- {name: a, table: rows, keys: [\"a:{id}\"]}\n"
                                          "- {name: b, table: others, keys: [\"b:{id}\"]}\n", "rules.yaml")) {
    flow_.lanes.emplace_back().lag = milliseconds(250);
    activity_.set_rules(rules_.rules());
    turn();
    activity_.sample(flow_, source_, now_);
  }
  void turn(seconds after = seconds(1)) {
    now_.steady += after;
    now_.system += after;
    activity_.turn(now_);
  }
  const RuleInfo& rule(std::size_t index) const { return rules_.rules()[index]; }
  ActivitySample sampled() {
    activity_.sample(flow_, source_, now_);
    return *activity_.view()->samples.back();
  }

  RuleSet rules_;
  testing::NullObserver next_;
  Activity activity_{next_, {"redis"}};
  FlowStatus flow_;
  SourceStatus source_;
  Now now_{SteadyTime(seconds(1000)), SystemTime(seconds(1'700'000'000))};
};

TEST_F(ActivityTest, ASampleHasTheRatesOfItsTime) {
  turn(seconds(2));
  EXPECT_TRUE(activity_.is_sample_due(now_.steady));
  activity_.changes("public.rows", Operation::kUpdate, 30);
  activity_.invalidations("redis", rule(0), InvalidationKind::kKey, {10, 20, 0, 0});
  activity_.invalidation_latency("redis", milliseconds(8));
  source_.slot_retained_bytes = 4096;
  const ActivitySample sample = sampled();
  EXPECT_EQ(sample.number, 2u);
  EXPECT_DOUBLE_EQ(sample.changes_per_second, 15);
  EXPECT_DOUBLE_EQ(sample.deletes_per_second, 5);
  EXPECT_EQ(sample.retained_bytes, 4096u);
  EXPECT_EQ(sample.caches[0].lag_seconds, 0.25);
  EXPECT_NEAR(sample.caches[0].p99_seconds.value(), 0.008, 0.002);
  EXPECT_FALSE(activity_.is_sample_due(now_.steady));
  turn();
  const ActivitySample next = sampled();
  EXPECT_DOUBLE_EQ(next.changes_per_second, 0);
  EXPECT_FALSE(next.caches[0].p50_seconds.has_value());
}

TEST_F(ActivityTest, AQuarterOfAnHourIsKeptAndNoMore) {
  for (int i = 0; i < 1000; ++i) {
    turn();
    activity_.sample(flow_, source_, now_);
  }
  const auto view = activity_.view();
  EXPECT_EQ(view->samples.size(), Activity::kSamplesMax);
  EXPECT_EQ(view->samples.back()->number, 1001u);
  EXPECT_EQ(view->samples.front()->at, now_.steady - seconds(899));
}

TEST_F(ActivityTest, ARuleKnowsWhatItDidAndWhenItLastHit) {
  activity_.changes("public.rows", Operation::kUpdate, 3);
  activity_.invalidations("redis", rule(0), InvalidationKind::kKey, {1, 2, 3, 4});
  const SystemTime hit = now_.system;
  turn();
  activity_.invalidations("redis", rule(0), InvalidationKind::kPurge, {0, 5, 0, 0});
  const RuleActivity of_rule = activity_.view()->rules.at("a");
  EXPECT_EQ(of_rule.keys.deleted, 1u);
  EXPECT_EQ(of_rule.keys.replayed, 4u);
  EXPECT_EQ(of_rule.purged, 0u);
  EXPECT_EQ(of_rule.changes, 3u);
  EXPECT_EQ(of_rule.last_hit, hit);
  EXPECT_EQ(activity_.view()->rules.at("b").changes, 0u);
  // A reload keeps what stays.
  const RuleSet others = *RuleSet::parse("- {name: a, table: rows, keys: [\"a:{id}\"]}\n", "rules.yaml");
  activity_.set_rules(others.rules());
  EXPECT_EQ(activity_.view()->rules.size(), 1u);
  EXPECT_EQ(activity_.view()->rules.at("a").keys.deleted, 1u);
}

TEST_F(ActivityTest, WhatHappenedIsToldTheLatestFirstAndBounded) {
  activity_.gap("redis", "slot_lost");
  activity_.walked("redis", {rule(0), "a:*", "slot_lost", 7, milliseconds(1500)});
  activity_.repaired("redis", "slot_lost");
  for (int i = 0; i < 1000; ++i) activity_.unmappable(rule(1), UnmappableReason::kNotSent);
  const auto view = activity_.view();
  ASSERT_EQ(view->events.size(), 4u);
  EXPECT_EQ(view->events[0].count, 1000u);  // one line for a thousand
  EXPECT_EQ(view->events[0].rule, "b");
  EXPECT_EQ(view->events[1].kind, ActivityEvent::Kind::kRepaired);
  EXPECT_EQ(view->events[2].what, "a:*");
  EXPECT_EQ(view->events[2].took, milliseconds(1500));
  EXPECT_EQ(view->events[3].reason, "slot_lost");
  EXPECT_EQ(next_.gaps, 1);  // passed on
  for (int i = 0; i < 1000; ++i) activity_.gap("redis", "slot_lost");
  EXPECT_EQ(activity_.view()->events.size(), Activity::kEventsMax);
}

TEST(RulesDifference, NamesWhatIsNewGoneAndChanged) {
  const auto rules = [](const char* text) { return RuleSet::parse(text, "rules.yaml")->rules(); };
  const auto before = rules("[{name: a, table: rows, keys: [\"a:{id}\"]}, {name: b, table: rows, keys: [\"b:{id}\"]}]");
  EXPECT_EQ(rules_difference(before, before), "nothing");
  EXPECT_EQ(rules_difference(before, rules("[{name: c, table: rows, keys: [\"c:{id}\"]}, {name: b, table: rows, keys: [\"x:{id}\"]}]")),
            "1 new ('c'), 1 gone ('a'), 1 changed ('b')");
  std::string many;
  for (int i = 0; i < 12; ++i) many += "- {name: r" + std::to_string(10 + i) + ", table: rows, keys: [\"a:{id}\"]}\n";
  EXPECT_THAT(rules_difference({}, rules(many.c_str())), HasSubstr("12 new ('r10', "));
  EXPECT_THAT(rules_difference({}, rules(many.c_str())), HasSubstr("'r19', ...)"));
}

TEST_F(ActivityTest, ARuleIsNotedAsIdleOnlyOnceEveryCacheHasAnswered) {
  const auto note = [&] { return rule_note(activity_.view()->rules.at("a")); };
  const auto samples = [&](int count) {
    for (; count > 0; --count) {
      turn();
      activity_.sample(flow_, source_, now_);
    }
  };
  flow_.lanes[0].lag = seconds(9);  // away: what the rows make waits
  activity_.changes("public.rows", Operation::kUpdate, 3);
  samples(3);
  EXPECT_EQ(note(), "");
  flow_.lanes[0].lag = std::nullopt;
  samples(3);
  EXPECT_EQ(note(), "");
  flow_.lanes[0].lag = milliseconds(0);
  samples(1);
  EXPECT_THAT(note(), HasSubstr("none makes a key"));
  activity_.changes("public.rows", Operation::kUpdate, 3);
  activity_.invalidations("redis", rule(0), InvalidationKind::kKey, {1, 0, 0, 0});
  EXPECT_EQ(note(), "");
}

TEST_F(ActivityTest, ARuleThatPurgesIsNotNotedAsIdle) {
  const auto idle = [&] { return rule_note(activity_.view()->rules.at("a")); };
  activity_.changes("public.rows", Operation::kTruncate, 1);
  for (int i = 0; i < 2; ++i) {
    turn();
    activity_.sample(flow_, source_, now_);
  }
  activity_.walked("redis", {rule(0), "a:*", "new_rules", 0, milliseconds(1)});  // that was no row
  EXPECT_THAT(idle(), HasSubstr("none makes a key"));
  activity_.walked("redis", {rule(0), "a:*", "changes", 0, milliseconds(1)});
  EXPECT_EQ(idle(), "");
}

TEST_F(ActivityTest, ARuleWhoseValuesAreNotSentIsNotNotedAsIdle) {
  activity_.changes("public.rows", Operation::kUpdate, 1);
  for (int i = 0; i < 2; ++i) {
    turn();
    activity_.sample(flow_, source_, now_);
  }
  activity_.unmappable(rule(0), UnmappableReason::kNotSent);
  EXPECT_EQ(rule_note(activity_.view()->rules.at("a")), "");
}

TEST_F(ActivityTest, ANewRuleHasNoneOfTheChangesBeforeIt) {
  activity_.changes("public.rows", Operation::kUpdate, 7);
  const RuleSet more = *RuleSet::parse("- {name: a, table: rows, keys: [\"a:{id}\"]}\n"
                                       "- {name: c, table: rows, keys: [\"c:{id}\"]}\n", "rules.yaml");
  activity_.set_rules(more.rules());
  activity_.changes("public.rows", Operation::kUpdate, 2);
  EXPECT_EQ(activity_.view()->rules.at("a").changes, 9u);
  EXPECT_EQ(activity_.view()->rules.at("c").changes, 2u);
  activity_.set_rules(more.rules());
  EXPECT_EQ(activity_.view()->rules.at("c").changes, 2u);
}

TEST(RuleNote, SaysWhatToLookInto) {
  RuleActivity rule;
  EXPECT_EQ(rule_note(rule), "");
  rule.applied_changes = 3;
  EXPECT_THAT(rule_note(rule), HasSubstr("none makes a key"));
  rule.keys.absent = 3;
  EXPECT_THAT(rule_note(rule), HasSubstr("never hit although rows change"));
  rule.keys.deleted = 1;
  EXPECT_EQ(rule_note(rule), "");
}

TEST(StatusFeed, TellsEachViewerWhatIsNewToIt) {
  auto identity = std::make_shared<StatusIdentity>();
  auto status = std::make_shared<Status>();
  status->identity = identity;
  status->rules = std::make_shared<std::vector<StatusRule>>(std::vector<StatusRule>{{"a\n", "public.rows", "rules.yaml:1:1"}});
  auto activity = std::make_shared<ActivityView>();
  for (std::uint64_t number = 1; number <= 3; ++number) {
    auto sample = std::make_shared<ActivitySample>();
    sample->number = number;
    sample->at = SteadyTime(seconds(number));
    sample->caches.resize(1);
    sample->caches[0].lag_seconds = 0.5;
    activity->samples.push_back(sample);
  }
  status->activity = activity;
  StatusBoard board;
  const Now now{SteadyTime(seconds(9)), SystemTime(seconds(9))};
  board.turned(now.steady);
  StatusViewer early;
  EXPECT_THAT(early.next(make_status_feed(board, now)), HasSubstr("\"line\":\"Starting.\""));
  board.publish(status);

  StatusViewer viewer;
  const StatusFeed feed = make_status_feed(board, now);
  const std::string first = viewer.next(feed);
  EXPECT_THAT(first, ::testing::StartsWith("event: state\ndata: {\"clock\":9.000,\"status\":{\"ready\":true,"));
  EXPECT_THAT(first, HasSubstr("event: rules\ndata: {\"file\":\"\",\"rules\":[{\"name\":\"a\\n\","));
  EXPECT_THAT(first, HasSubstr("event: events\ndata: {\"events\":[]}\n\n"));
  EXPECT_THAT(first, HasSubstr("event: samples\ndata: [[1.000,0,0,null,null,[0.5,null,null]],[2.000,"));
  const std::string second = viewer.next(feed);
  EXPECT_THAT(second, HasSubstr("event: state"));
  EXPECT_THAT(second, Not(HasSubstr("event: rules")));
  EXPECT_THAT(second, Not(HasSubstr("event: samples")));
  // Early has missed nothing.
  EXPECT_THAT(early.next(feed), HasSubstr("event: samples"));
}

}  // namespace
}  // namespace evictd
