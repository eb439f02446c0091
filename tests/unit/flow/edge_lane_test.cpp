// An edge behind a Redis: surrogate keys go there and nowhere else, after the caches that pages are made from, and once more
// when these are done and a page that was under way has arrived.
#include <gtest/gtest.h>

#include <algorithm>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

// A CDN small enough to look into: pages by surrogate key, made from what the cache below had. It compares no versions.
class FakeEdge final : public Sink {
 public:
  struct Page {
    std::set<Xid> contains;
    SteadyTime kept_at{};
  };
  std::map<std::string, Page> pages;
  std::vector<std::pair<std::string, SteadyTime>> purges;  // "*": everything
  bool is_up = true;
  std::optional<Record> record;
  std::uint64_t service = 1;

  SinkTraits traits() const override { return {.has_patterns = true, .has_counters = false, .is_edge = true, .service = service}; }
  void start(Now) override {}
  void step(Now now, SinkHandler& handler) override {
    now_ = now.steady;
    if (!connected_ && is_up) {
      connected_ = true;
      handler.on_sink_connected({record, 0ms, "store"});
    } else if (connected_ && !is_up) {
      connected_ = false;
      saving_.reset();
      handler.on_sink_disconnected(Error{ErrorKind::kConnection, "the edge is away", ""}, "connection");
      for (const auto& [ticket, order] : std::exchange(orders_, {})) handler.on_lost(ticket);
    }
    if (!connected_) return;
    if (saving_) {
      record = std::exchange(saving_, std::nullopt);
      handler.on_record_saved(record->sequence);
      handler.on_record_confirmed(record->sequence);
    }
    if (load_) handler.on_record_loaded(*std::exchange(load_, std::nullopt), record);
    for (const auto& [ticket, order] : std::exchange(orders_, {})) {
      Outcome outcome;
      if (order.target == Target::kPatterns) {
        for (const PatternRef& ref : order.patterns) {
          EXPECT_TRUE(ref.pattern->is_surrogate) << ref.pattern->glob;
          outcome.by_pattern.push_back({1, 0, 0, 0});
        }
        purge("*");
      } else {
        EXPECT_EQ(order.target, Target::kSurrogates);
        for (std::size_t i = 0; i < order.texts->size(); ++i) purge(std::string(order.texts->text(i)));
      }
      handler.on_done(ticket, outcome);
    }
  }
  void wait_for(Waiting&) override {}
  void set_context(const SinkContext&) override {}
  bool has_room(Urgency) const override { return connected_ && orders_.size() < 8; }
  void submit(Ticket ticket, const Order& order) override { orders_.emplace_back(ticket, order); }
  void save_record(const Record& saved) override { saving_ = saved; }
  void load_record(std::uint64_t sequence) override { load_ = sequence; }
  void stop() override {
    connected_ = false;
    saving_.reset();
    load_.reset();
    orders_.clear();
  }
  SinkStatus status() const override { return {}; }

  std::vector<SteadyTime> purges_of(const std::string& key) const {
    std::vector<SteadyTime> times;
    for (const auto& [purged, at] : purges) {
      if (purged == key) times.push_back(at);
    }
    return times;
  }

 private:
  void purge(const std::string& key) {
    purges.emplace_back(key, now_);
    if (key == "*") {
      pages.clear();
    } else {
      pages.erase(key);
    }
  }
  SteadyTime now_{};
  bool connected_ = false;
  std::vector<std::pair<Ticket, Order>> orders_;
  std::optional<Record> saving_;
  std::optional<std::uint64_t> load_;
};

class EdgeLane : public ::testing::Test {
 protected:
  static constexpr auto kSettle = 1s;
  static constexpr auto kOriginTime = 500ms;

  explicit EdgeLane(const char* text = "- {table: public.rows, keys: ['row:{id}'], surrogate_keys: ['row-{id}'], settle: 1s}\n",
                    std::optional<std::chrono::milliseconds> park_after = {})
      : database_(12), source_(database_), redis_(60s) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    start(text, park_after);
  }
  static RuleSet rules(const std::string& text) {
    auto parsed = RuleSet::parse(text, "rules.yaml");
    EXPECT_TRUE(parsed.has_value());
    return std::move(*parsed);
  }
  void start(const std::string& text, std::optional<std::chrono::milliseconds> park_after) {
    LaneSpec redis;
    redis.name = "main";
    redis.sink = &redis_;
    redis.park_after.age = park_after;
    LaneSpec edge;
    edge.name = "edge";
    edge.sink = &edge_;
    edge.after = {"main"};
    edge.origin_time = kOriginTime;
    flow_ = std::make_unique<Flow>(rules(text), source_, std::vector<LaneSpec>{redis, edge}, observer_, FlowOptions{});
    flow_->start(now_);
    run(200ms);
  }
  void run(std::chrono::milliseconds time) {
    for (auto left = time; left > 0ms; left -= 10ms) {
      now_.steady += 10ms;
      now_.system += 10ms;
      flow_->step(now_);
    }
  }
  void write(int row) { database_.make_visible(database_.commit({row}, false, now_.system).xid, now_.steady); }
  bool is_all_acknowledged() const { return source_.confirmed() >= database_.log().back().end; }

  Now now_;
  FakeDatabase database_;
  FakeSource source_;
  FakeSink redis_;
  FakeEdge edge_;
  NullObserver observer_;
  std::unique_ptr<Flow> flow_;
};

TEST_F(EdgeLane, IsPurgedAfterTheCacheAndAgainAfterItsSecondDeleteAndTheOriginsTime) {
  write(0);
  run(100ms);
  ASSERT_EQ(edge_.purges_of("row-0").size(), 1u);
  const SteadyTime committed = now_.steady - 100ms;
  EXPECT_FALSE(is_all_acknowledged());
  run(3s);
  ASSERT_EQ(edge_.purges_of("row-0").size(), 2u);
  EXPECT_GE(edge_.purges_of("row-0")[1] - redis_.data.last_delete.at("row:0"), kOriginTime);
  EXPECT_GE(edge_.purges_of("row-0")[1] - committed, kSettle + kOriginTime);
  EXPECT_TRUE(is_all_acknowledged());
  EXPECT_EQ(redis_.data.last_delete.count("row-0"), 0u);
  EXPECT_EQ(edge_.purges_of("row:0").size(), 0u);
}

// A plain reader put the old row back into the cache, and a page was made of it just before its second delete.
TEST_F(EdgeLane, APageMadeOfWhatTheCacheHadUntilItsSecondDeleteIsGone) {
  const auto old_row = database_.select(0);
  write(0);
  run(100ms);
  redis_.plain_set("row:0", old_row);
  redis_.frozen = true;  // and the second delete is late
  run(5s);
  EXPECT_EQ(edge_.purges_of("row-0").size(), 1u) << "the cache still serves the old row: a second purge now would be in vain";
  const auto rendered = redis_.data.cache.at("row:0").contains;
  redis_.frozen = false;
  run(300ms);
  ASSERT_EQ(redis_.data.cache.count("row:0"), 0u);
  edge_.pages["row-0"] = {rendered, now_.steady};  // arrives within the origin's time
  run(2s);
  EXPECT_EQ(edge_.pages.count("row-0"), 0u);
  EXPECT_TRUE(is_all_acknowledged());
}

// A commit may wait for hours for a standby that has to confirm it. What came after it does not wait with it.
TEST_F(EdgeLane, ACommitThatHangsHoldsNoOthersSecondPurgeUp) {  // G4
  const Xid hanging = database_.commit({0}, false, now_.system).xid;
  run(100ms);
  const SteadyTime committed = now_.steady;
  write(1);
  run(100ms);
  ASSERT_EQ(edge_.purges_of("row-1").size(), 1u);
  run(2s);
  ASSERT_EQ(edge_.purges_of("row-1").size(), 2u);
  EXPECT_GE(edge_.purges_of("row-1")[1] - redis_.data.last_delete.at("row:1"), kOriginTime);
  EXPECT_GE(edge_.purges_of("row-1")[1] - committed, kSettle + kOriginTime);
  EXPECT_EQ(edge_.purges_of("row-0").size(), 1u);
  EXPECT_FALSE(is_all_acknowledged());
  database_.make_visible(hanging, now_.steady);
  run(3s);
  EXPECT_EQ(edge_.purges_of("row-0").size(), 2u);
  EXPECT_TRUE(is_all_acknowledged());
}

class EdgeBehindWalks : public EdgeLane {
 protected:
  EdgeBehindWalks() : EdgeLane("- {table: public.rows, keys: ['row:{id}'], purge: ['list:*'], surrogate_keys: ['row-{id}'], settle: 1s}\n") {}
};

// Nor one whose walk they share in the cache before.
TEST_F(EdgeBehindWalks, ACommitThatHangsHoldsNoSecondPurgeOfThoseUpThatShareItsWalk) {  // G4
  redis_.frozen = true;
  write(2);
  run(200ms);  // walks
  const Xid hanging = database_.commit({0}, false, now_.system).xid;
  run(200ms);  // waits for it
  write(1);
  run(200ms);  // shares
  redis_.frozen = false;
  run(3s);
  EXPECT_EQ(edge_.purges_of("row-1").size(), 2u);
  EXPECT_EQ(edge_.purges_of("row-0").size(), 1u);
  database_.make_visible(hanging, now_.steady);
  run(3s);
  EXPECT_EQ(edge_.purges_of("row-0").size(), 2u);
  EXPECT_TRUE(is_all_acknowledged());
}

class EdgeBehindCheckedWalks : public EdgeLane {
 protected:
  EdgeBehindCheckedWalks()
      : EdgeLane("- {table: public.rows, keys: ['row:{id}'], purge: ['list:*'], surrogate_keys: ['row-{id}'], fill: checked, settle: 1s}\n") {}
};

// A walk leaves tombstones, and is made again when they end, a minute later: nothing stale is stored below meanwhile.
TEST_F(EdgeBehindCheckedWalks, IsPurgedAgainLongBeforeTheTombstonesEnd) {  // G4
  write(1);
  run(3s);
  EXPECT_EQ(edge_.purges_of("row-1").size(), 2u);
  EXPECT_FALSE(is_all_acknowledged());
  run(60s);
  EXPECT_TRUE(is_all_acknowledged());
}

// One that became visible after they had ended leaves them anew first.
TEST_F(EdgeBehindCheckedWalks, IsPurgedAgainWhenTombstonesThatWereTooShortAreLeftAnew) {
  const Xid hanging = database_.commit({1}, false, now_.system).xid;
  run(70s);
  ASSERT_EQ(edge_.purges_of("row-1").size(), 1u);
  database_.make_visible(hanging, now_.steady);
  redis_.frozen = true;
  run(10s);
  EXPECT_EQ(edge_.purges_of("row-1").size(), 1u) << "what was stored meanwhile is still there";
  redis_.frozen = false;
  run(3s);
  EXPECT_EQ(edge_.purges_of("row-1").size(), 2u);
}

// The source sends again what hangs; what was visible keeps its second deletes in both.
TEST_F(EdgeLane, ACommitThatHangsHoldsNoOthersSecondPurgeUpAfterARestart) {  // G4
  const Xid hanging = database_.commit({0}, false, now_.system).xid;
  run(100ms);
  write(1);
  run(100ms);
  source_.restart(now_);
  run(2s);
  EXPECT_GE(edge_.purges_of("row-1").size(), 2u);
  database_.make_visible(hanging, now_.steady);
  run(3s);
  EXPECT_TRUE(is_all_acknowledged());
}

class EdgeBehindOneThatParks : public EdgeLane {
 protected:
  EdgeBehindOneThatParks() : EdgeLane("- {table: public.rows, keys: ['row:{id}'], surrogate_keys: ['row-{id}'], settle: 1s}\n", 5s) {}
};

// A cache that is parked gives its second deletes up; its return purges what stands behind it.
TEST_F(EdgeBehindOneThatParks, WaitsForNoneThatIsParked) {
  write(1);
  run(100ms);
  ASSERT_EQ(edge_.purges_of("row-1").size(), 1u);
  redis_.frozen = true;
  run(4s);
  ASSERT_EQ(edge_.purges_of("row-1").size(), 1u);
  run(10s);
  EXPECT_EQ(edge_.purges_of("row-1").size(), 2u);
  redis_.frozen = false;
  run(10s);
  EXPECT_GE(edge_.purges_of("*").size(), 1u);
  EXPECT_TRUE(is_all_acknowledged());
}

TEST_F(EdgeLane, WaitsForACacheThatIsAway) {
  redis_.frozen = true;
  write(0);
  run(5s);
  EXPECT_TRUE(edge_.purges.empty());
  redis_.frozen = false;
  run(5s);
  EXPECT_EQ(edge_.purges_of("row-0").size(), 2u);
}

TEST_F(EdgeLane, ThatIsAwayHoldsNoOtherCacheUp) {  // G9
  edge_.is_up = false;
  run(20ms);
  redis_.plain_set("row:0", {});
  write(0);
  run(100ms);
  EXPECT_EQ(redis_.data.cache.count("row:0"), 0u);
  run(3s);
  EXPECT_FALSE(is_all_acknowledged());
  edge_.is_up = true;
  run(3s);
  EXPECT_GE(edge_.purges_of("row-0").size(), 1u);
  EXPECT_TRUE(is_all_acknowledged());
}

TEST_F(EdgeLane, ATruncatePurgesItsPatternsThereToo) {
  database_.make_visible(database_.commit({}, true, now_.system).xid, now_.steady);
  run(5s);
  EXPECT_EQ(edge_.purges_of("*").size(), 2u);
  EXPECT_GE(edge_.purges_of("*")[1] - edge_.purges_of("*")[0], kSettle + kOriginTime);
}

// Whoever names a page anew need not empty Redis, nor the other way round.
TEST_F(EdgeLane, OtherRulesPurgeTheCachesTheyConcern) {
  redis_.plain_set("row:1", {});
  flow_->reload(rules("- {table: public.rows, keys: ['row:{id}'], surrogate_keys: ['line-{id}'], settle: 1s}\n"), now_);
  run(5s);
  EXPECT_EQ(redis_.data.unconditional_walks, 0u);
  EXPECT_EQ(edge_.purges_of("*").size(), 2u);
}

// What a cache lost may have been rendered before: a repair of it is followed by one at the edge.
// The record lies in the Redis: behind the same name there may be another Varnish, with pages of last week.
TEST_F(EdgeLane, AnotherServiceUnderItsNameIsPurged) {  // G6
  write(0);
  run(5s);
  ASSERT_TRUE(is_all_acknowledged());
  const auto restart = [&] {
    flow_.reset();
    source_.stop(now_);
    redis_.stop();
    edge_.stop();
    edge_.purges.clear();
    start("- {table: public.rows, keys: ['row:{id}'], surrogate_keys: ['row-{id}'], settle: 1s}\n", {});
    run(3s);
  };
  restart();
  EXPECT_EQ(edge_.purges_of("*").size(), 0u) << "the same one";
  edge_.service = 2;
  restart();
  EXPECT_GE(edge_.purges_of("*").size(), 1u);
  restart();
  EXPECT_EQ(edge_.purges_of("*").size(), 0u) << "known by now";
  edge_.record->rules.erase("");  // a build that did not name it wrote the record
  edge_.service = 3;
  restart();
  EXPECT_EQ(edge_.purges_of("*").size(), 0u);
}

TEST_F(EdgeLane, IsPurgedAfterARepairOfTheCacheItStandsBehind) {
  flow_->reload(rules("- {table: public.rows, keys: ['line:{id}'], surrogate_keys: ['row-{id}'], settle: 1s}\n"), now_);
  run(8s);
  EXPECT_GE(redis_.data.unconditional_walks, 2u);
  EXPECT_EQ(edge_.purges_of("*").size(), 2u);
}

}  // namespace
}  // namespace evictd::testing
