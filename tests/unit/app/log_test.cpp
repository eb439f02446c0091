#include "daemon/app/log.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

using std::chrono::seconds;

TEST(LogMessage, TextIsOneLineWithTheHint) {
  EXPECT_EQ(log_message(LogFormat::kText, "redis is gone", "start it"),
            "redis is gone (hint: start it)");
  EXPECT_EQ(log_message(LogFormat::kText, "forged\n2026-01-01 info fine\x1b[2J", ""),
            "forged 2026-01-01 info fine [2J");
}

TEST(LogMessage, JsonIsEscaped) {
  EXPECT_EQ(log_message(LogFormat::kJson, "a \"quoted\"\nline", "x\\y"),
            R"("message":"a \"quoted\"\nline","hint":"x\\y")");
  EXPECT_EQ(log_message(LogFormat::kJson, "no hint", ""), R"("message":"no hint")");
}

TEST(Log, WritesOneLinePerEventAboveItsLevel) {
  testing::internal::CaptureStderr();
  {
    Log log(LogLevel::kWarning, LogFormat::kJson);
    log.info("too quiet");
    log.warning("loud", "do this");
    log.error(Error{ErrorKind::kFatal, "broken", ""});
  }
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 2);
  const std::string first = out.substr(0, out.find('\n'));
  EXPECT_TRUE(first.starts_with(R"({"time":"20)")) << first;
  EXPECT_TRUE(first.ends_with(R"(Z","level":"warning","message":"loud","hint":"do this"})"))
      << first;
}

TEST(Log, TextBeginsWithTimeAndLevel) {
  testing::internal::CaptureStderr();
  { Log(LogLevel::kInfo, LogFormat::kText).info("evictd 1"); }
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(out.ends_with("Z info    evictd 1\n")) << out;
}

TEST(RepeatGuard, LetsTheFirstPassAndCountsTheRest) {
  RepeatGuard guard;
  const SteadyTime start{};
  EXPECT_EQ(guard.pass("redis is gone", start), "redis is gone");
  EXPECT_EQ(guard.pass("redis is gone", start + seconds(1)), std::nullopt);
  EXPECT_EQ(guard.pass("another", start + seconds(1)), "another");
  EXPECT_EQ(guard.pass("redis is gone", start + seconds(4)), std::nullopt);
  EXPECT_EQ(guard.pass("redis is gone", start + seconds(5)), "redis is gone (and 2 times before)");
  // The pause has doubled.
  EXPECT_EQ(guard.pass("redis is gone", start + seconds(14)), std::nullopt);
  EXPECT_EQ(guard.pass("redis is gone", start + seconds(15)), "redis is gone (and 1 times before)");
}

TEST(RepeatGuard, TextsThatDifferInNumbersAreTheSame) {
  RepeatGuard guard;
  EXPECT_EQ(guard.pass("retrying in 100 ms", SteadyTime{}), "retrying in 100 ms");
  EXPECT_EQ(guard.pass("retrying in 2 ms", SteadyTime{}), std::nullopt);
}

TEST(RepeatGuard, ForgetsAfterALongQuiet) {
  RepeatGuard guard;
  SteadyTime now{};
  for (int i = 0; i < 1000; ++i) guard.pass("x", now += seconds(1));
  now += seconds(3600);
  EXPECT_TRUE(guard.pass("x", now).has_value());
  EXPECT_EQ(guard.pass("x", now + seconds(9)), std::nullopt);
  EXPECT_EQ(guard.pass("x", now + seconds(10)), "x (and 1 times before)");
}

TEST(RepeatGuard, IsBounded) {
  RepeatGuard guard;
  SteadyTime now{};
  guard.pass("first", now);
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) guard.pass(std::string{a, b}, now += seconds(1));
  }
  // So many others have passed that the first one is news again, at once.
  EXPECT_EQ(guard.pass("first", now), "first");
}

}  // namespace
}  // namespace evictd
