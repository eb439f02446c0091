#include "daemon/app/log.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "daemon/base/descriptor.h"

namespace evictd {
namespace {

using std::chrono::seconds;

TEST(LogMessage, BytesThatAreNoTextAndCharactersThatSteerATerminalAreShownAsSuch) {
  EXPECT_EQ(log_message(LogFormat::kText, "got '\xff' \xc2\x9b" "31m \xe2\x80\xae" "abc \xc3\xa9", ""), "got '?' ?31m ?abc \xc3\xa9");
}

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

// False when nothing comes within 20 ms.
bool wait_for_bytes(Log& log, int descriptor, std::string& into) {
  char buffer[16 * 1024];
  for (int tried = 0; tried < 20; ++tried) {
    log.flush();
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got > 0) into.append(buffer, static_cast<std::size_t>(got));
    if (got > 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

// The lines that come out at the other end while the log is flushed, until it has nothing left.
std::vector<std::string> read_lines(Log& log, int descriptor) {
  fcntl(descriptor, F_SETFL, O_NONBLOCK);
  std::string all;
  while (wait_for_bytes(log, descriptor, all)) {
  }
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    lines.push_back(all.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

void expect_no_wait(int reader, int writer) {
  constexpr std::size_t kWritten = 20'000;
  Log log(LogLevel::kInfo, LogFormat::kText, writer);
  for (std::size_t i = 0; i < kWritten; ++i) log.info(fmt::format("line {} {}", i, std::string(80, '.')));
  const std::uint64_t dropped = log.dropped_lines();
  EXPECT_GT(dropped, 0u);
  const std::vector<std::string> lines = read_lines(log, reader);
  ASSERT_EQ(lines.size(), kWritten - dropped + 1);
  for (std::size_t i = 0; i + 1 < lines.size(); ++i) ASSERT_TRUE(lines[i].ends_with("...."));
  EXPECT_TRUE(lines.back().ends_with(
      fmt::format("warning {} lines of the log were dropped: nobody read them in time", dropped)))
      << lines.back();
  log.info("and on");
  EXPECT_TRUE(read_lines(log, reader).back().ends_with("info    and on"));
  EXPECT_EQ(log.dropped_lines(), dropped);
}

TEST(Log, APipeThatNobodyReadsIsNotWaitedFor) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const Descriptor reader(ends[0]);
  const Descriptor writer(ends[1]);
  expect_no_wait(reader.get(), writer.get());
  EXPECT_EQ(fcntl(writer.get(), F_GETFL) & O_NONBLOCK, 0) << "shared with other processes";
}

TEST(Log, ASocketThatNobodyReadsIsNotWaitedFor) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const Descriptor reader(ends[0]);
  const Descriptor writer(ends[1]);
  expect_no_wait(reader.get(), writer.get());
}

TEST(Log, AReaderThatIsGoneCostsTheLinesOnly) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const Descriptor writer(ends[1]);
  signal(SIGPIPE, SIG_IGN);
  Log log(LogLevel::kInfo, LogFormat::kText, writer.get());
  close(ends[0]);
  log.info("nobody hears this");
  for (int turn = 0; turn < 10; ++turn) log.flush();
  EXPECT_EQ(log.dropped_lines(), 1u);
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
