// The loop of `evictd run` over a fake source and a fake sink: signals, reload, exit codes.
#include "daemon/app/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/forwarding_source.h"
#include "tests/support/idle_source.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kRules = "- {table: rows, keys: [\"row:{id}\"]}\n";

RuleSet rules_of(const std::string& text) { return *RuleSet::parse(text, "rules.yaml"); }

// Fails as soon as it is stepped.
class FailingSource final : public testing::IdleSource {
 public:
  explicit FailingSource(ErrorKind kind) : kind_(kind) {}
  void step(Now, std::size_t, SourceHandler& handler) override {
    handler.on_failed(Error{kind_, "the source failed", "mend it"});
  }

 private:
  ErrorKind kind_;
};

// Compares new rules with nothing, and says what the test wants.
class JudgingSource final : public testing::ForwardingSource {
 public:
  using ForwardingSource::ForwardingSource;
  void check_rules(const RuleSet& rules) override { tables = rules.tables(); }
  std::optional<Result<void>> take_rules_check() override {
    return answers ? std::optional(answer) : std::nullopt;
  }
  std::atomic<bool> answers = false;
  Result<void> answer;
  std::vector<std::string> tables;
};

// The file of the rules: written by whoever drives the loop, read by the loop.
class SharedText {
 public:
  SharedText& operator=(std::string text) {
    const std::lock_guard lock(mutex_);
    text_ = std::move(text);
    return *this;
  }
  std::string read() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_ = kRules;
};

class LoopTest : public ::testing::Test {
 protected:
  LoopTest() {
    auto identity = std::make_shared<StatusIdentity>();
    identity->version = "1";
    identity_ = identity;
    board_.turned(read_clocks().steady);
    slot_->exists = true;
  }

  // Runs the loop here while `drive` acts from a second thread, as a person at the console would.
  int run(Source& source, std::function<void()> drive,
          milliseconds drain_max = milliseconds(60'000)) {
    Flow flow(rules_of(kRules), source, testing::one_cache(sink_), metrics_, FlowOptions{});
    Loop loop({flow, source, {{"redis", "fake", &sink_}}, metrics_, board_, signals_, log_, identity_,
               [this]() -> Result<RuleSet> {
                 if (unreadable_ > 0 && unreadable_-- > 0) return fail(ErrorKind::kTransient, "no descriptor is left", "");
                 return RuleSet::parse(rules_text_.read(), "rules.yaml");
               },
               drain_max});
    std::thread driver(std::move(drive));
    const int exit_code = loop.run();
    driver.join();
    return exit_code;
  }

  // False when it does not come true in time.
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return condition();
  }
  bool is_ready() { return readiness_problems(board_, read_clocks().steady).empty(); }
  bool is_stopping() {
    const auto status = board_.read();
    return status && status->stopping;
  }
  static void send(int signal) { kill(getpid(), signal); }

  Signals signals_{Hangup::kReloads};
  testing::FakeDatabase database_{10};
  testing::FakeSink sink_{milliseconds(60'000)};
  // Streams what was committed before, as a slot that is there does.
  std::shared_ptr<testing::FakeSlot> slot_ = std::make_shared<testing::FakeSlot>();
  testing::FakeSource source_{database_, slot_};
  Metrics metrics_{"1"};
  StatusBoard board_;
  Log log_{LogLevel::kError, LogFormat::kText};
  std::shared_ptr<const StatusIdentity> identity_;
  SharedText rules_text_;
  std::atomic<int> unreadable_ = 0;  // how many attempts to read them fail
};

TEST_F(LoopTest, StopsWhenAskedWithNothingInHand) {
  EXPECT_EQ(run(source_,
                [this] {
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  send(SIGTERM);
                }),
            0);
  EXPECT_TRUE(is_stopping());
}

TEST_F(LoopTest, FinishesWhatIsInHandBeforeItStops) {
  const testing::Logged& logged = database_.commit({1, 2, 3}, false, read_clocks().system);
  database_.make_visible(logged.xid, read_clocks().steady);
  const std::uint64_t end = logged.end;
  EXPECT_EQ(run(source_,
                [this] {
                  EXPECT_TRUE(eventually([this] {
                    const auto status = board_.read();
                    return status && status->flow.inflight_transactions > 0;
                  }));
                  send(SIGINT);
                }),
            0);
  EXPECT_GE(source_.confirmed(), end);
}

TEST_F(LoopTest, TheDrainIsBounded) {
  const testing::Logged& logged = database_.commit({1}, false, read_clocks().system);
  const std::uint64_t end = logged.end;  // and it never becomes visible: it cannot be finished
  EXPECT_EQ(run(
                source_,
                [this] {
                  EXPECT_TRUE(eventually([this] {
                    const auto status = board_.read();
                    return status && status->flow.inflight_transactions > 0;
                  }));
                  send(SIGTERM);
                },
                milliseconds(50)),
            0);
  EXPECT_LT(source_.confirmed(), end);  // it is delivered again at the next start (G1)
}

TEST_F(LoopTest, ASecondSignalLeavesAtOnce) {
  database_.commit({1}, false, read_clocks().system);
  EXPECT_EQ(run(source_,
                [this] {
                  EXPECT_TRUE(eventually([this] {
                    const auto status = board_.read();
                    return status && status->flow.inflight_transactions > 0;
                  }));
                  send(SIGTERM);
                  EXPECT_TRUE(eventually([this] { return is_stopping(); }));
                  send(SIGTERM);
                }),
            1);
}

TEST_F(LoopTest, AReloadTakesGoodRulesAndRefusesBadOnes) {
  EXPECT_EQ(
      run(source_,
          [this] {
            EXPECT_TRUE(eventually([this] { return is_ready(); }));
            rules_text_ = "- {table: rows}\n";
            send(SIGHUP);
            EXPECT_TRUE(eventually([this] { return !board_.read()->reload_problem.empty(); }));
            EXPECT_THAT(board_.read()->reload_problem, HasSubstr("rules.yaml:1:3: "));
            EXPECT_EQ(board_.read()->rules->size(), 1u);
            EXPECT_THAT(metrics_.text(nullptr, read_clocks()),
                        HasSubstr(R"(evictd_rules_reload_total{outcome="failure"} 1)"));
            rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"]}\n";
            send(SIGHUP);
            EXPECT_TRUE(eventually([this] { return board_.read()->rules->size() == 2; }));
            EXPECT_EQ(board_.read()->reload_problem, "");
            const std::string page = metrics_.text(nullptr, read_clocks());
            EXPECT_THAT(page, HasSubstr(R"(evictd_rules_reload_total{outcome="success"} 1)"));
            EXPECT_THAT(page, HasSubstr(R"(op="insert",table="public.more"} 0)"));
            send(SIGTERM);
          }),
      0);
}

TEST_F(LoopTest, RulesThatTheTablesDoNotCarryAreRefusedAsAtStart) {
  JudgingSource source(source_);
  EXPECT_EQ(
      run(source,
          [&] {
            EXPECT_TRUE(eventually([this] { return is_ready(); }));
            source.answer = fail(ErrorKind::kUsage, "rules.yaml:2:3: table 'public.more' does not exist", "");
            rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"]}\n";
            send(SIGHUP);
            const SteadyTime asked = read_clocks().steady;
            EXPECT_TRUE(eventually([&] { return board_.last_turn() > asked + milliseconds(50); }));
            EXPECT_EQ(board_.read()->rules->size(), 1u) << "taken before they were compared";
            source.answers = true;
            EXPECT_TRUE(eventually([this] { return !board_.read()->reload_problem.empty(); }));
            EXPECT_EQ(board_.read()->reload_problem, "rules.yaml:2:3: table 'public.more' does not exist");
            EXPECT_EQ(board_.read()->rules->size(), 1u);
            const std::string page = metrics_.text(nullptr, read_clocks());
            EXPECT_THAT(page, HasSubstr(R"(evictd_rules_reload_total{outcome="failure"} 1)"));
            EXPECT_THAT(page, HasSubstr(R"(evictd_rules_reload_total{outcome="success"} 0)"));
            send(SIGTERM);
          }),
      0);
  EXPECT_EQ(source.tables, (std::vector<std::string>{"public.rows", "public.more"}));
}

// Not connected at the first attempt.
class LateSource final : public testing::ForwardingSource {
 public:
  using ForwardingSource::ForwardingSource;
  void check_rules(const RuleSet&) override { ++asked; }
  std::optional<Result<void>> take_rules_check() override {
    if (asked > 1) return Result<void>();
    return fail(ErrorKind::kConnection, "PostgreSQL is not connected", "");
  }
  int asked = 0;
};

// Whoever sent the signal is gone when the database is back, and the new rules' keys would be stale for ever.
TEST_F(LoopTest, NewRulesThatNobodyCanCompareNowAreTakenLater) {
  LateSource source(source_);
  EXPECT_EQ(run(source,
                [&] {
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"]}\n";
                  send(SIGHUP);
                  std::shared_ptr<const Status> seen;
                  EXPECT_TRUE(eventually([&] { return (seen = board_.read())->reload_problem == "PostgreSQL is not connected"; }));
                  // Their keys are nobody's meanwhile, and whoever asked for them waits until it is ready.
                  EXPECT_THAT(readiness_problems(*seen),
                              ElementsAre("rules that were to be reloaded are not in force: PostgreSQL is not connected"));
                  EXPECT_TRUE(eventually([this] { return board_.read()->rules->size() == 2; }));
                  EXPECT_TRUE(eventually([this] { return board_.read()->reload_problem.empty(); }));
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  const std::string page = metrics_.text(nullptr, read_clocks());
                  EXPECT_THAT(page, HasSubstr(R"(evictd_rules_reload_total{outcome="failure"} 1)"));
                  EXPECT_THAT(page, HasSubstr(R"(evictd_rules_reload_total{outcome="success"} 1)"));
                  send(SIGTERM);
                }),
            0);
  EXPECT_EQ(source.asked, 2);
}

TEST_F(LoopTest, NewRulesThatCannotBeReadForAMomentAreReadLater) {
  EXPECT_EQ(run(source_,
                [&] {
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"]}\n";
                  unreadable_ = 1;
                  send(SIGHUP);
                  EXPECT_TRUE(eventually([this] { return board_.read()->reload_problem == "no descriptor is left"; }));
                  EXPECT_TRUE(eventually([this] { return board_.read()->rules->size() == 2; }));
                  send(SIGTERM);
                }),
            0);
}

// The other caches would be left alone as well, and a restart with these rules ends the same way.
TEST_F(LoopTest, RulesThatACacheCannotServeAreRefusedAndTheOldOnesStay) {
  sink_.is_cluster = true;
  EXPECT_EQ(run(source_,
                [&] {
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"], announce: news}\n";
                  send(SIGHUP);
                  EXPECT_TRUE(eventually([this] { return !board_.read()->reload_problem.empty() || board_.read()->rules->size() == 2; }));
                  EXPECT_EQ(board_.read()->reload_problem, "rules.yaml:2:3: a rule has 'announce', and this cache is a cluster");
                  EXPECT_EQ(board_.read()->rules->size(), 1u);
                  EXPECT_TRUE(is_ready());
                  EXPECT_THAT(metrics_.text(nullptr, read_clocks()), HasSubstr(R"(evictd_rules_reload_total{outcome="failure"} 1)"));
                  rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"]}\n";
                  send(SIGHUP);
                  EXPECT_TRUE(eventually([this] { return board_.read()->rules->size() == 2; }));
                  EXPECT_EQ(board_.read()->reload_problem, "");
                  send(SIGTERM);
                }),
            0);
}

// While the tables are asked, the cache is found to be what cannot serve them.
class FindingSource final : public testing::ForwardingSource {
 public:
  FindingSource(Source& source, testing::FakeSink& sink) : ForwardingSource(source), sink_(sink) {}
  void check_rules(const RuleSet& rules) override { tables = rules.tables(); }
  std::optional<Result<void>> take_rules_check() override {
    sink_.is_cluster = true;
    return Result<void>();
  }
  std::vector<std::string> tables;

 private:
  testing::FakeSink& sink_;
};

TEST_F(LoopTest, RulesThatACacheIsFoundNotToServeWhileTheyAreComparedAreRefused) {
  FindingSource source(source_, sink_);
  EXPECT_EQ(run(source,
                [&] {
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  rules_text_ = std::string(kRules) + "- {table: more, keys: [\"more:{id}\"], announce: news}\n";
                  send(SIGHUP);
                  EXPECT_TRUE(eventually([this] { return !board_.read()->reload_problem.empty() || board_.read()->rules->size() == 2; }));
                  EXPECT_EQ(board_.read()->rules->size(), 1u);
                  EXPECT_TRUE(is_ready());
                  send(SIGTERM);
                }),
            0);
  EXPECT_EQ(source.tables, std::vector<std::string>{"public.rows"}) << "the source goes by what it compared last";
}

TEST_F(LoopTest, AWrongConfigurationIsExitCodeTwo) {
  FailingSource misconfigured(ErrorKind::kUsage);
  EXPECT_EQ(run(misconfigured, [] {}), 2);
}

TEST_F(LoopTest, AnyOtherFailureIsExitCodeOne) {
  FailingSource broken(ErrorKind::kFatal);
  EXPECT_EQ(run(broken, [] {}), 1);
}

TEST_F(LoopTest, KeepsTurningWhileNothingHappens) {
  EXPECT_EQ(run(source_,
                [this] {
                  EXPECT_TRUE(eventually([this] { return is_ready(); }));
                  const SteadyTime before = board_.last_turn();
                  EXPECT_TRUE(
                      eventually([&] { return board_.last_turn() > before + milliseconds(1100); }));
                  send(SIGTERM);
                }),
            0);
}

}  // namespace
}  // namespace evictd
