// Walks of tags and patterns on a real Redis.
#include <gmock/gmock.h>

#include <deque>

#include "tests/unit/sinks/redis/script_fixture.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

class WalkTest : public SinkTest {
 protected:
  // Members prefix0, prefix1, ... with values, in a set.
  void make_tag(const std::string& tag, const std::string& prefix, int members) {
    for (int begin = 0; begin < members; begin += 1000) {
      std::vector<std::string> set = {"MSET"};
      std::vector<std::string> add = {"SADD", "tag:" + tag};
      for (int i = begin; i < std::min(begin + 1000, members); ++i) {
        set.insert(set.end(), {prefix + std::to_string(i), "v"});
        add.push_back(prefix + std::to_string(i));
      }
      redis().command(set);
      redis().command(add);
    }
  }
  // Of a command, since CONFIG RESETSTAT.
  long long calls_of(const std::string& command) {
    const std::string stats = redis().command({"INFO", "commandstats"}).text;
    const std::string head = "cmdstat_" + command + ":calls=";
    const std::size_t at = stats.find(head);
    return at == std::string::npos ? 0 : std::stoll(stats.substr(at + head.size()));
  }
  using SinkTest::run;
  Outcome run(const Order& order) { return driven_->run(order); }
  long long members(const std::string& tag) { return redis().integer({"SCARD", "tag:" + tag}); }
};

OrderBuilder tag(Act act, std::string_view name, std::uint64_t xid) {
  return OrderBuilder(act, Target::kTags).key(name, {xid});
}
OrderBuilder trusted_tag(Act act, std::string_view name, std::uint64_t xid) {
  return OrderBuilder(act, Target::kTags).trusting().key(name, {xid});
}
// Patterns of several rules in one order.
class Patterns {
 public:
  enum class Of { kKeys, kTags, kLazyTags, kCounters };

  Patterns& add(std::string_view glob, Of of = Of::kKeys, FillMode fill = FillMode::kChecked, std::string_view channel = {}) {
    RuleInfo& rule = rules_.emplace_back();
    rule.fill = fill;
    rule.announce = channel;
    patterns_.push_back(Pattern{std::string(glob), of == Of::kTags || of == Of::kLazyTags, of == Of::kLazyTags, of == Of::kCounters});
    return *this;
  }
  Order order(Act act, const std::vector<Xid>& xids) {
    refs_.clear();
    for (std::size_t i = 0; i < rules_.size(); ++i) refs_.push_back({&rules_[i], &patterns_[i]});
    Order order;
    order.act = act;
    order.target = Target::kPatterns;
    order.patterns = refs_;
    order.xids = xids;
    return order;
  }
  Order unconditional(std::uint64_t floor) {
    Order order = this->order(Act::kInvalidate, {});
    order.is_unconditional = true;
    order.floor = Xid{floor};
    return order;
  }

 private:
  std::deque<RuleInfo> rules_;
  std::deque<Pattern> patterns_;
  std::vector<PatternRef> refs_;
};

OrderBuilder pattern(Act act, std::string_view glob, std::uint64_t xid) {
  return OrderBuilder(act, Target::kPatterns).trusting().key(glob, {xid});
}

TEST_F(WalkTest, TagLeavesATombstoneAlsoWhenItsSetIsEmpty) {
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 0, 0, 0, 0);
  EXPECT_EQ(marker("tag:t"), "t epoch/1 10d");
}

TEST_F(WalkTest, IdsThatNothingHasWidenedAreWrittenAsThirtyTwoBits) {
  const std::uint64_t narrow = number(narrow_xid(4294967295U));
  run(OrderBuilder(Act::kInvalidate).trusting().key("one", {narrow}));
  EXPECT_EQ(marker("one"), "t epoch/1 ~4294967295");
  run(OrderBuilder(Act::kSettle).trusting().key("one", {narrow}));
  EXPECT_EQ(marker("one"), "t epoch/1 ~4294967295s");
  run(OrderBuilder(Act::kInvalidate).trusting().key("two", {narrow, number(narrow_xid(7))}).key("three", {8}));
  EXPECT_EQ(marker("two"), "t epoch/1 ~4294967295,~7");
  EXPECT_EQ(marker("three"), "t epoch/1 8");
  run(trusted_tag(Act::kInvalidate, "t", narrow));
  EXPECT_EQ(marker("tag:t"), "t epoch/1 ~4294967295d");
}

TEST_F(WalkTest, CheckedTagTakesItsMembersOutWithTheirValues) {
  make_tag("t", "k", 700);
  redis().command({"DEL", "k5"});
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 699, 1, 0, 0);
  EXPECT_EQ(members("t"), 0);
  EXPECT_EQ(marker("k5"), "t epoch/1 10");
  EXPECT_FALSE(redis().exists("k699"));
}

TEST_F(WalkTest, PlainTagKeepsItsMembersUntilTheSettle) {
  make_tag("t", "k", 3);
  expect_counts(run(tag(Act::kInvalidate, "t", 10)), 3, 0, 0, 0);
  EXPECT_EQ(members("t"), 3);
  redis().set("k1", "stale");  // a slow reader, whose SADD came before
  expect_counts(run(tag(Act::kSettle, "t", 10)), 1, 2, 0, 0);
  EXPECT_EQ(members("t"), 0);
  EXPECT_FALSE(redis().exists("k1"));
}

TEST_F(WalkTest, MemberKeptByTheVersionCheckStaysInTheSet) {
  make_tag("t", "k", 2);
  redis().command({"SET", "evictd:{k1}", "f 20:20: 1700000000000"});
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 1, 0, 1, 0);
  EXPECT_EQ(members("t"), 1);
  EXPECT_TRUE(redis().exists("k1"));
}

TEST_F(WalkTest, ReplayOfAFinishedWalkDoesNothing) {  // G2
  make_tag("t", "k", 2);
  run(trusted_tag(Act::kInvalidate, "t", 10));
  run(trusted_tag(Act::kSettle, "t", 10));
  make_tag("t", "k", 3);
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 0, 0, 0, 1);
  expect_counts(run(trusted_tag(Act::kSettle, "t", 10)), 0, 0, 0, 1);
  EXPECT_TRUE(redis().exists("k2"));
}

TEST_F(WalkTest, CutOffWalkIsFinishedByItsReplay) {  // G1
  make_tag("t", "k", 5);
  // As a crash leaves it: the tombstone is there, not marked as finished.
  redis().command({"SET", "evictd:{tag:t}", "t epoch/1 10", "PX", "60000"});
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 5, 0, 0, 0);
  EXPECT_EQ(members("t"), 0);
}

// A plain rule that announces has markers of its walks.
TEST_F(WalkTest, CutOffSettleWalkIsFinishedByItsReplay) {  // G1, G4
  for (const bool first_delete_settles : {false, true}) {
    make_tag("t", "k", 3);
    run(tag(Act::kInvalidate, "t", 10).announced("news"));
    redis().set("k1", "stale");  // a slow reader
    // The second delete begins, and then the connection or the daemon is gone.
    redis().command(std::vector<std::string>{"EVALSHA", script(Script::kWalkBegin).sha1, "1", "evictd:{tag:t}", "epoch/1",
                                             "61000", first_delete_settles ? "i" : "s", "0", "10s"});
    OrderBuilder again = tag(first_delete_settles ? Act::kInvalidate : Act::kSettle, "t", 10).announced("news");
    if (first_delete_settles) again.settled();
    expect_counts(run(again), 1, 2, 0, 0);
    EXPECT_EQ(members("t"), 0);
    EXPECT_FALSE(redis().exists("k1"));
    expect_counts(run(again), 0, 0, 0, 1);
    redis().command({"FLUSHDB"});
  }
}

TEST_F(WalkTest, TagThatIsNoSetIsDeleted) {
  redis().set("tag:t", "a string");
  expect_counts(run(tag(Act::kInvalidate, "t", 10)), 1, 0, 0, 0);
  EXPECT_FALSE(redis().exists("tag:t"));
  redis().set("tag:t", "a string");
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 1, 0, 0, 0);
  EXPECT_FALSE(redis().exists("tag:t"));
  EXPECT_EQ(marker("tag:t"), "t epoch/1 10d");
}

// evictd_join, the reader's pause, evictd_fill: the walk in between must not take away what the fill counts on.
TEST_F(WalkTest, AMembershipWithAnEndOutlivesTheWalk) {  // G3
  const std::vector<ReaderScript> scripts = reader_scripts(std::chrono::seconds(60));
  const auto join = [&](std::string_view key, std::string_view token) {
    return redis().integer({"EVAL", scripts.at(2).script.text, "2", "tag:t", "evictd:{tag:t}", key, "60000", token});
  };
  const auto fill = [&](std::string_view token) {
    return redis().integer({"EVAL", scripts.at(0).script.text, "2", "k", "evictd:{k}", token, "60000", "v"});
  };
  ASSERT_EQ(join("k", "10:12:10"), 1);
  ASSERT_EQ(join("other", "11:12:"), 1);
  redis().set("other", "v");
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 1, 1, 0, 0);
  EXPECT_EQ(fill("10:12:10"), 0) << "the walk left its tombstone on a member that was not there";
  EXPECT_EQ(fill("11:12:"), 1) << "counts on its membership of before";
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 12)), 1, 1, 0, 0);
  EXPECT_FALSE(redis().exists("k"));
}

TEST_F(WalkTest, ATagOfManyMembersWithEndsIsWalkedWhole) {
  for (int i = 0; i < 3000; ++i) {
    redis().command({"ZADD", "tag:t", "9999999999999", "k" + std::to_string(i)});
    redis().set("k" + std::to_string(i), "v");
  }
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 3000, 0, 0, 0);
  EXPECT_EQ(redis().integer({"ZCARD", "tag:t"}), 3000);
}

TEST_F(WalkTest, ATagPatternFindsBothKindsOfTagsAndLeavesOtherTypesAlone) {
  redis().command({"SADD", "tag:c:1", "a"});
  redis().command({"ZADD", "tag:c:2", "9999999999999", "b"});
  redis().set("tag:c:3", "somebody's");
  redis().set("a", "v");
  redis().set("b", "v");
  expect_counts(run(OrderBuilder(Act::kInvalidate, Target::kPatterns).trusting().of_tags().key("tag:c:*", {10})), 2, 0, 0, 0);
  EXPECT_TRUE(redis().exists("tag:c:3"));
}

TEST_F(WalkTest, ManyTagsInOneCommand) {
  OrderBuilder builder(Act::kInvalidate, Target::kTags);
  builder.trusting();
  for (int i = 0; i < 100; ++i) {
    make_tag("t" + std::to_string(i), "k" + std::to_string(i) + ":", 3);
    builder.key("t" + std::to_string(i), {10});
  }
  expect_counts(run(builder), 300, 0, 0, 0);
}

TEST_F(WalkTest, LargeTagDoesNotDelayOrdinaryCommands) {
  make_tag("t", "k", 20'000);
  const OrderBuilder large = trusted_tag(Act::kInvalidate, "t", 10);
  driven_->sink().submit(1000, large.order());
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("other", {11})), 0, 1, 0, 0);
  EXPECT_FALSE(driven_->journal().done.contains(1000)) << "the walk was to be still under way";
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(1000); }));
  expect_counts(driven_->journal().done[1000], 20'000, 0, 0, 0);
  EXPECT_EQ(redis().integer({"EXISTS", "tag:t"}), 0);
}

TEST_F(WalkTest, NothingIsStrandedUnderConcurrentAdds) {
  make_tag("t", "k", 5'000);
  const OrderBuilder walk = trusted_tag(Act::kInvalidate, "t", 10);
  driven_->sink().submit(1000, walk.order());
  // Checked fills of old snapshots are refused, fresh ones are kept and stay members.
  const std::string fill = reader_scripts(std::chrono::seconds(60)).front().script.text;
  int stored = 0;
  int fills = 0;
  ASSERT_TRUE(driven_->until([&] {
    const int i = fills++;
    const std::string key = "k" + std::to_string(i % 5000);
    const std::string snapshot = i % 2 == 0 ? "20:20:" : "10:12:10";
    stored +=
        static_cast<int>(redis().integer({"EVAL", fill, "3", key, "evictd:{" + key + "}", "tag:t",
                                          snapshot, "60000", i % 2 == 0 ? "fresh" : "old"}));
    return driven_->journal().done.contains(1000);
  }));
  EXPECT_GT(stored, 0);
  const Reply left = redis().command({"SMEMBERS", "tag:t"});
  for (const Reply& member : left.elements) EXPECT_EQ(redis().get(member.text), "fresh");
  // Every value that is left is a member.
  const Reply values = redis().command({"KEYS", "k*"});
  for (const Reply& key : values.elements)
    EXPECT_EQ(redis().integer({"SISMEMBER", "tag:t", key.text}), 1) << key.text;
  EXPECT_EQ(values.elements.size(), left.elements.size());
}

TEST_F(WalkTest, PatternDeletesWhateverItsType) {
  redis().set("p:1", "v");
  redis().command({"HSET", "p:2", "a", "b"});
  redis().command({"SADD", "p:3", "a"});
  redis().set("q:1", "v");
  expect_counts(run(pattern(Act::kInvalidate, "p:*", 10)), 3, 0, 0, 0);
  EXPECT_TRUE(redis().exists("q:1"));
  EXPECT_EQ(marker("purge:p:*"), "t epoch/1 10d");
  EXPECT_EQ(redis().get("evictd:purged"), "t epoch/1 10d");
}

TEST_F(WalkTest, PatternNeverMatchesWhatIsEvictds) {
  Record record;
  record.epoch = "e";
  driven_->sink().save_record(numbered(record, 1));
  run(OrderBuilder(Act::kInvalidate).trusting().key("a", {9}));
  redis().set("a", "v");
  expect_counts(run(pattern(Act::kInvalidate, "*", 10)), 1, 0, 0, 0);
  EXPECT_TRUE(redis().exists("evictd:record:evictd"));
  EXPECT_EQ(marker("a"), "t epoch/1 9,10");
}

TEST_F(WalkTest, PatternFindsEveryOneOfManyKeys) {
  make_tag("unused", "p:", 30'000);
  make_tag("unused2", "q:", 30'000);
  expect_counts(run(pattern(Act::kInvalidate, "p:*", 10)), 30'000, 0, 0, 0);
  EXPECT_EQ(redis().integer({"EXISTS", "q:0", "q:29999"}), 2);
}

TEST_F(WalkTest, TagPatternWalksEveryMatchingSet) {
  make_tag("category:1", "a", 3);
  make_tag("category:2", "b", 300);
  make_tag("brand:1", "c", 3);
  expect_counts(run(OrderBuilder(Act::kInvalidate, Target::kPatterns)
                         .trusting()
                         .of_tags()
                         .key("tag:category:*", {10})),
                 303, 0, 0, 0);
  EXPECT_TRUE(redis().exists("c0"));
  EXPECT_EQ(members("brand:1"), 3);
  EXPECT_EQ(redis().integer({"EXISTS", "tag:category:1", "tag:category:2"}), 0);
  EXPECT_EQ(marker("tag:category:2"), "t epoch/1 10d");
}

TEST_F(WalkTest, KeyPatternThatBeginsWithAWildcardLeavesTagSetsAlone) {
  make_tag("x:product:y", "a", 3);
  redis().set("acme:product:1", "v");
  expect_counts(run(pattern(Act::kInvalidate, "*:product:*", 10)), 1, 0, 0, 0);
  EXPECT_EQ(members("x:product:y"), 3);
}

TEST_F(WalkTest, ManyPatternsAreOneReadingOfTheKeySpace) {
  constexpr int kPatterns = 30;
  constexpr int kKeys = 300;
  const auto scans = [&](int patterns, bool is_checked) {
    redis().command({"FLUSHDB"});
    for (int i = 0; i < kPatterns; ++i) make_tag("unused", "p" + std::to_string(i) + ":", kKeys);
    make_tag("unused", "other:", 20'000);
    OrderBuilder order(Act::kInvalidate, Target::kPatterns);
    if (is_checked) order.trusting();
    for (int i = 0; i < patterns; ++i) order.pattern("p" + std::to_string(i) + ":*", {});
    redis().command({"CONFIG", "RESETSTAT"});
    const Outcome outcome = run(order.unconditional(5));
    EXPECT_EQ(outcome.by_pattern.size(), static_cast<std::size_t>(patterns));
    for (const Counts& counts : outcome.by_pattern) expect_counts(counts, kKeys, 0, 0, 0);
    expect_counts(outcome, static_cast<std::uint64_t>(kKeys * patterns), 0, 0, 0);
    return calls_of("scan");
  };
  for (const bool is_checked : {true, false}) {
    const long long of_one = scans(1, is_checked);
    EXPECT_GT(of_one, 10);
    EXPECT_LT(scans(kPatterns, is_checked), 2 * of_one) << "the tombstones of the first may make it a few more, not thirty times";
    EXPECT_LT(is_checked ? calls_of("evalsha") : calls_of("unlink"), 3 * kPatterns) << "keys are sent by pages, not as they are found";
    EXPECT_EQ(calls_of("evalsha") > 0, is_checked);
  }
}

TEST_F(WalkTest, PatternsOfEveryKindInOneOrder) {
  make_tag("category:1", "a", 3);
  redis().set("p:1", "v");
  redis().set("tag:category:2", "somebody's string");
  redis().set("evictd:{tag:brand:1}", "t epoch/1 ^0");
  redis().set("ns:1", "7");
  redis().command({"HSET", "ns:2", "a", "b"});
  redis().set("ns:3", "a cached value");
  redis().set("evictd:{ns:3}", "t epoch/1 4");
  redis().set("other", "v");
  Patterns patterns;
  patterns.add("p:*").add("tag:category:*", Patterns::Of::kTags).add("tag:brand:*", Patterns::Of::kLazyTags);
  patterns.add("ns:*", Patterns::Of::kCounters).add("site", Patterns::Of::kCounters).add("none:*");
  const Outcome outcome = run(patterns.order(Act::kInvalidate, {Xid{10}}));
  ASSERT_EQ(outcome.by_pattern.size(), 6u);
  expect_counts(outcome.by_pattern[0], 1, 0, 0, 0);
  expect_counts(outcome.by_pattern[1], 3, 0, 0, 0);
  expect_counts(outcome.by_pattern[2], 1, 0, 0, 0);
  EXPECT_EQ(outcome.by_pattern[3].deleted, 1u);
  expect_counts(outcome.by_pattern[4], 1, 0, 0, 0);
  expect_counts(outcome.by_pattern[5], 0, 0, 0, 0);
  EXPECT_EQ(redis().get("tag:category:2"), "somebody's string");
  EXPECT_EQ(marker("tag:category:1"), "t epoch/1 10d");
  EXPECT_EQ(marker("tag:brand:1"), "t epoch/1 ^0,10");
  EXPECT_EQ(redis().get("ns:1"), "8");
  EXPECT_EQ(redis().get("site"), "1");
  EXPECT_EQ(redis().get("ns:3"), "a cached value") << "no counter";
  EXPECT_EQ(marker("ns:3"), "t epoch/1 4") << "the memory of a counter has its name";
  EXPECT_TRUE(redis().exists("ns:2"));
  EXPECT_TRUE(redis().exists("other"));
  EXPECT_EQ(marker("purge:p:*"), "t epoch/1 10d");
  EXPECT_EQ(marker("purge:none:*"), "t epoch/1 10d");
  EXPECT_EQ(redis().get("evictd:purged"), "t epoch/1 10d");
}

TEST_F(WalkTest, KeyOfSeveralPatternsIsDeletedOnceAndCountedWithTheFirst) {
  redis().set("p:1:page", "v");
  redis().set("p:2", "v");
  Patterns patterns;
  patterns.add("p:*").add("*:page").add("p:1*");
  const Outcome outcome = run(patterns.unconditional(5));
  expect_counts(outcome, 2, 0, 0, 0);
  expect_counts(outcome.by_pattern[0], 2, 0, 0, 0);
  expect_counts(outcome.by_pattern[1], 0, 0, 0, 0);
}

TEST_F(WalkTest, FreshValueThatAPlainRuleMatchesTooIsDeleted) {  // G5
  for (const std::string key : {"p:1", "q:1"}) {
    redis().set(key, "v");
    redis().command({"SET", "evictd:{" + key + "}", "f 20:20: 1700000000000"});
  }
  Patterns patterns;
  patterns.add("*:1").add("p:*", Patterns::Of::kKeys, FillMode::kPlain);
  const Outcome outcome = run(patterns.order(Act::kInvalidate, {Xid{10}}));
  expect_counts(outcome.by_pattern[0], 0, 0, 2, 0);
  expect_counts(outcome.by_pattern[1], 1, 0, 0, 0);
  EXPECT_FALSE(redis().exists("p:1"));
  EXPECT_TRUE(redis().exists("q:1"));
}

TEST_F(WalkTest, OfManyPatternsOnlyThoseThatAReplayFindsUnfinishedAreWalked) {  // G1, G2
  Patterns first, all;
  first.add("b:*");
  run(first.order(Act::kInvalidate, {Xid{10}}));
  for (const std::string key : {"a:1", "b:1", "c:1"}) redis().set(key, "v");
  all.add("a:*").add("b:*").add("c:*");
  const Outcome outcome = run(all.order(Act::kInvalidate, {Xid{10}}));
  expect_counts(outcome, 2, 0, 0, 1);
  expect_counts(outcome.by_pattern[1], 0, 0, 0, 1);
  EXPECT_TRUE(redis().exists("b:1"));
  expect_counts(run(all.order(Act::kInvalidate, {Xid{10}})), 0, 0, 0, 3);
  // The marker of all purges is gone, evicted: nothing is known to be finished.
  redis().command({"DEL", "evictd:purged"});
  expect_counts(run(all.order(Act::kInvalidate, {Xid{10}})), 1, 0, 0, 0);
}

TEST_F(WalkTest, PatternsOfManyRulesAndChannelsFindTheirOwn) {
  constexpr int kPatterns = 300;
  Patterns patterns;
  for (int i = 0; i < kPatterns; ++i) {
    redis().set("k" + std::to_string(i) + ":", "v");
    patterns.add("k" + std::to_string(i) + ":*", Patterns::Of::kKeys, FillMode::kChecked, i % 3 == 0 ? "changes" : "");
  }
  const Outcome outcome = run(patterns.order(Act::kInvalidate, {Xid{10}}));
  for (const Counts& counts : outcome.by_pattern) expect_counts(counts, 1, 0, 0, 0);
  for (int i = 0; i < kPatterns; ++i) EXPECT_EQ(marker("purge:k" + std::to_string(i) + ":*"), "t epoch/1 10d");
  // 100 keys, then the end: for each group of patterns that was noted together.
  EXPECT_EQ(redis().get("evictd:announced:changes"), "102");
}

// A walk over everything takes minutes; a tag's must not wait for its end.
TEST_F(WalkTest, LargeTagIsWalkedBesideALongWalkOfPatterns) {
  make_tag("unused", "other:", 100'000);
  make_tag("t", "k", 5'000);
  Patterns patterns;
  patterns.add("a:*").add("b:*");
  driven_->sink().submit(1000, patterns.unconditional(5));
  expect_counts(run(trusted_tag(Act::kInvalidate, "t", 10)), 5'000, 0, 0, 0);
  EXPECT_FALSE(driven_->journal().done.contains(1000)) << "the walk was to be still under way";
  ASSERT_TRUE(driven_->until([&] { return driven_->journal().done.contains(1000); }));
}

TEST_F(WalkTest, ScriptFlushInTheMiddleOfManyPatternsIsRepaired) {
  make_tag("unused", "a:", 3'000);
  make_tag("unused", "b:", 3'000);
  Patterns patterns;
  patterns.add("a:*").add("b:*");
  const std::vector<Xid> xids = {Xid{10}};
  driven_->sink().submit(1000, patterns.order(Act::kInvalidate, xids));
  int turns = 0;
  ASSERT_TRUE(driven_->until([&] {
    if (turns++ % 3 == 0) redis().command({"SCRIPT", "FLUSH"});
    return driven_->journal().done.contains(1000);
  }));
  expect_counts(driven_->journal().done[1000], 6'000, 0, 0, 0);
  EXPECT_EQ(driven_->journal().disconnects, 0);
}

TEST_F(WalkTest, UnconditionalPatternDeletesFreshFillsAndIsNeverAReplay) {
  for (int round = 0; round < 2; ++round) {
    redis().set("p:1", "v");
    redis().command({"SET", "evictd:{p:1}", "f 20:20: 1700000000000"});
    expect_counts(run(OrderBuilder(Act::kInvalidate, Target::kPatterns)
                           .trusting()
                           .unconditional(15)
                           .key("p:*", {})),
                   1, 0, 0, 0);
  }
  EXPECT_EQ(marker("p:1"), "t epoch/1 ^15 n20:20:");
}

TEST_F(WalkTest, PurgeRejectsFillsOfKeysThatWereAbsentMeanwhile) {  // G3
  run(pattern(Act::kInvalidate, "p:*", 10));
  const std::string fill = reader_scripts(std::chrono::seconds(60)).front().script.text;
  const auto fill_with = [&](std::string_view snapshot) {
    return redis().integer({"EVAL", fill, "2", "p:1", "evictd:{p:1}", snapshot, "60000", "v"});
  };
  EXPECT_EQ(fill_with("10:12:10"), 0);
  EXPECT_EQ(fill_with("11:12:"), 1);
}

TEST_F(WalkTest, ScriptFlushInTheMiddleIsRepaired) {
  make_tag("t", "k", 2'000);
  const OrderBuilder walk = trusted_tag(Act::kInvalidate, "t", 10);
  driven_->sink().submit(1000, walk.order());
  int turns = 0;
  ASSERT_TRUE(driven_->until([&] {
    if (turns++ % 3 == 0) redis().command({"SCRIPT", "FLUSH"});
    return driven_->journal().done.contains(1000);
  }));
  expect_counts(driven_->journal().done[1000], 2'000, 0, 0, 0);
  EXPECT_EQ(driven_->journal().disconnects, 0);
}

}  // namespace
}  // namespace evictd::testing
