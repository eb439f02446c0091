// Passwords that are asked for: at each connect, again before they expire, and never shown.
#include <gmock/gmock.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "daemon/sinks/redis/doctor/check.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RotatingPassword : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    server_ = std::make_unique<RedisServer>();
    char name[] = "/tmp/evictd-password-XXXXXX";
    const int made = ::mkstemp(name);
    ASSERT_GE(made, 0);
    ::close(made);
    file_ = name;
  }
  void TearDown() override { std::remove(file_.c_str()); }

  RedisClient& redis() { return server_->client(); }
  void server_wants(const std::string& password) {
    ASSERT_TRUE(redis().command({"ACL", "SETUSER", "rotating", "on", "resetpass", ">" + password, "~*", "&*", "+@all"}).is_ok());
  }
  // Whole or not at all, as whoever rotates it would do.
  void file_has(const std::string& text) {
    const std::string next = file_ + ".next";
    std::ofstream(next) << text;
    ASSERT_EQ(std::rename(next.c_str(), file_.c_str()), 0);
  }
  static std::string expiring(const std::string& password, int seconds) {
    return "{\"password\": \"" + password + "\", \"expires\": " + std::to_string(std::time(nullptr) + seconds) + "}";
  }
  RedisOptions options() {
    RedisOptions options = options_for(*server_);
    options.url = "redis://rotating@127.0.0.1:" + std::to_string(server_->port());
    options.credential.file = file_;
    return options;
  }
  DrivenSink& start() {
    driven_ = std::make_unique<DrivenSink>(options());
    return *driven_;
  }
  long calls(const std::string& name) {
    const std::string stats = redis().command({"INFO", "commandstats"}).text;
    const std::size_t at = stats.find("cmdstat_" + name + ":calls=");
    return at == std::string::npos ? 0 : std::stol(stats.substr(stats.find('=', at) + 1));
  }

  std::unique_ptr<RedisServer> server_;
  std::string file_;
  std::unique_ptr<DrivenSink> driven_;
};

TEST_F(RotatingPassword, IsReadAtEveryConnect) {
  server_wants("first-secret");
  file_has("first-secret\n");
  DrivenSink& driven = start();
  ASSERT_TRUE(driven.until_connected());
  server_wants("second-secret");
  file_has("second-secret\n");
  const int before = driven.journal().connects;
  redis().command({"CLIENT", "KILL", "USER", "rotating"});
  ASSERT_TRUE(driven.until([&] { return driven.journal().connects > before; })) << driven.journal().last_error.to_string();
}

TEST_F(RotatingPassword, SignsInAgainOnTheOpenConnectionBeforeItExpires) {
  server_wants("first-secret");
  file_has(expiring("first-secret", 2));
  DrivenSink& driven = start();
  ASSERT_TRUE(driven.until_connected());
  const long before = calls("auth");
  server_wants("second-secret");
  file_has(expiring("second-secret", 3600));
  ASSERT_TRUE(driven.until([&] { return calls("auth") > before; }));
  EXPECT_EQ(driven.journal().connects, 1);
  EXPECT_EQ(driven.sink().status().state, "ready");
  // Not once more for as long as it is good.
  const long after = calls("auth");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  ASSERT_TRUE(driven.until([&] { return std::chrono::steady_clock::now() > end; }));
  EXPECT_EQ(calls("auth"), after);
}

TEST_F(RotatingPassword, OneThatIsGoodForThousandsOfYearsIsNotAskedForAgain) {
  server_wants("first-secret");
  for (const char* expires : {"\"9999-12-31T23:59:59Z\"", "\"2400-01-01T00:00:00Z\"", "99999999999"}) {
    file_has(std::string("{\"password\": \"first-secret\", \"expires\": ") + expires + "}");
    DrivenSink& driven = start();
    ASSERT_TRUE(driven.until_connected());
    const long after = calls("auth");
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    ASSERT_TRUE(driven.until([&] { return std::chrono::steady_clock::now() > end; }));
    EXPECT_EQ(calls("auth"), after) << expires;
  }
}

TEST_F(RotatingPassword, OneThatHasExpiredWhenItComesIsToldAndNotAskedForAgainAndAgain) {
  server_wants("first-secret");
  file_has(expiring("first-secret", -60));
  DrivenSink& driven = start();
  ASSERT_TRUE(driven.until_connected());
  EXPECT_THAT(driven.sink().status().state, HasSubstr("password_file '" + file_ + "' gave one that had expired before it was asked for"));
  const long after = calls("auth");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  ASSERT_TRUE(driven.until([&] { return std::chrono::steady_clock::now() > end; }));
  EXPECT_EQ(calls("auth"), after);
}

TEST_F(RotatingPassword, OneThatIsRefusedAtItsRenewalIsToldAndTheConnectionGoesOn) {
  server_wants("first-secret");
  file_has(expiring("first-secret", 2));
  DrivenSink& driven = start();
  ASSERT_TRUE(driven.until_connected());
  file_has(expiring("early-secret", 3600));  // before the server knows it
  ASSERT_TRUE(driven.until([&] { return driven.sink().status().state != "ready"; }));
  EXPECT_THAT(driven.sink().status().state, HasSubstr("the password cannot be renewed: "));
  EXPECT_THAT(driven.sink().status().state, HasSubstr("WRONGPASS"));
  EXPECT_THAT(driven.sink().status().state, Not(HasSubstr("secret")));
  expect_counts(driven.run(OrderBuilder(Act::kInvalidate).key("a", {10})), 0, 1, 0, 0);
  server_wants("early-secret");
  ASSERT_TRUE(driven.until([&] { return driven.sink().status().state == "ready"; }));
  EXPECT_EQ(driven.journal().connects, 1);
}

TEST_F(RotatingPassword, OneThatCannotBeHadIsToldWhereItShouldComeFrom) {
  server_wants("first-secret");
  std::remove(file_.c_str());
  DrivenSink& driven = start();
  ASSERT_TRUE(driven.until([&] { return !driven.journal().last_error.text.empty(); }));
  EXPECT_THAT(driven.journal().last_error.text, HasSubstr("password_file '" + file_ + "' cannot be read"));
  EXPECT_FALSE(driven.journal().failed) << "it is tried again";
  file_has("first-secret");
  EXPECT_TRUE(driven.until_connected());
}

TEST_F(RotatingPassword, OneThatIsWrongIsTriedAgainAndNeverShown) {
  server_wants("first-secret");
  file_has("wrong-secret");
  DrivenSink& driven = start();
  ASSERT_TRUE(driven.until([&] { return !driven.journal().last_error.text.empty(); }));
  EXPECT_THAT(driven.journal().last_error.hint, HasSubstr("the password came from password_file '" + file_ + "'"));
  EXPECT_THAT(driven.journal().last_error.to_string(), Not(HasSubstr("wrong-secret")));
  EXPECT_FALSE(driven.journal().failed);
  const auto rules = RuleSet::parse("rules:\n  - {table: public.t, keys: ['t:{id}']}\n", "rules.yaml");
  ASSERT_TRUE(rules.has_value());
  const Findings findings = check_redis(options(), *rules);
  ASSERT_FALSE(findings.empty());
  EXPECT_THAT(findings[0].fix, HasSubstr("password_file '" + file_ + "'"));
  EXPECT_THAT(findings[0].cause + findings[0].fix, Not(HasSubstr("wrong-secret")));
  file_has("first-secret");
  EXPECT_TRUE(driven.until_connected());
}

TEST_F(RotatingPassword, ACommandThatHangsCostsATryAndNothingElse) {
  server_wants("first-secret");
  RedisOptions hanging = options();
  hanging.credential.file.clear();
  hanging.credential.command = {"sleep", "60"};
  hanging.credential.patience = std::chrono::milliseconds(300);
  DrivenSink driven(hanging);
  std::chrono::milliseconds longest{0};
  ASSERT_TRUE(driven.until([&] {
    const auto begin = std::chrono::steady_clock::now();
    driven.sink().step(read_clocks(), driven.journal());
    longest = std::max(longest, std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin));
    return !driven.journal().last_error.text.empty();
  }));
  EXPECT_THAT(driven.journal().last_error.text, HasSubstr("password_command 'sleep' did not end within 300 ms"));
  EXPECT_LT(longest, hanging.credential.patience) << "the loop goes on meanwhile";
}

}  // namespace
}  // namespace evictd::testing
