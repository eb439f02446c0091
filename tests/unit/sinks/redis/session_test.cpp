// The state machine of a connection, without one: bytes in, bytes out.
#include "daemon/sinks/redis/session.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "daemon/sinks/redis/record_text.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;

std::string bulk(std::string_view text) {
  std::string out;
  append_argument(out, text);  // the same bytes in both directions
  return out;
}

constexpr std::string_view kInfo =
    "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc123\r\n"
    "# Persistence\r\nloading:0\r\n# Stats\r\nevicted_keys:5\r\n# Replication\r\nrole:master\r\n";

// Answers like a Redis, one command at a time, and remembers what it was asked.
class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    address_.user = "joe";
    address_.password = "secret";
    address_.database = 3;
  }

  Session make() { return Session(address_, "evictd", "evictd:record:{x}", milliseconds(60'000)); }

  // The command at the front of the session's output, as words; takes it off.
  static std::vector<std::string> take_command(Session& session) {
    std::vector<std::string> words;
    const std::string& out = session.output();
    if (out.empty()) return words;
    std::size_t at = out.find("\r\n");
    const std::size_t count = std::stoul(out.substr(1, at - 1));
    at += 2;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t end = out.find("\r\n", at);
      const std::size_t length = std::stoul(out.substr(at + 1, end - at - 1));
      words.push_back(out.substr(end + 2, length));
      at = end + 2 + length + 2;
    }
    session.drop_output(at);
    return words;
  }

  std::string answer(const std::vector<std::string>& words) {
    if (words[0] == "AUTH") return auth_reply;
    if (words[0] == "SELECT" || words[0] == "CLIENT") return "+OK\r\n";
    if (words[0] == "INFO") return bulk(info);
    if (words[0] == "UNLINK") return probe_reply;
    if (words[0] == "TIME") return "*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n";
    if (words[0] == "SCRIPT") {
      for (const ScriptText& one : scripts()) {
        if (one.text == words[2]) return bulk(one.sha1);
      }
    }
    if (words[0] == "FCALL") return library_reply;
    if (words[0] == "FUNCTION") return load_reply;
    if (words[0] == "GET") return record_reply;
    return "-ERR unexpected\r\n";
  }

  // Answers until the session is ready, waits, or fails. Each reply comes in two pieces, cut at
  // `cut`.
  SessionResult<void> sign_in(Session& session, std::size_t cut = 0) {
    while (true) {
      const auto words = take_command(session);
      if (words.empty()) return {};
      asked.push_back(words[0]);
      const std::string reply = answer(words);
      const std::size_t first = std::min(cut, reply.size());
      if (auto got = session.receive(reply.substr(0, first), now_); !got) return got;
      if (auto got = session.receive(reply.substr(first), now_); !got) return got;
    }
  }

  std::string auth_reply = "+OK\r\n";
  std::string info{kInfo};
  std::string probe_reply = ":0\r\n";
  std::string library_reply = "-ERR Function not found\r\n";
  std::string load_reply = "$6\r\nevictd\r\n";
  std::string record_reply = "$-1\r\n";
  std::vector<std::string> asked;
  RedisAddress address_;
  SteadyTime now_{};
};

class Recorder final : public ReplyReceiver {
 public:
  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    seen.emplace_back(tag, reply.text);
    return accept;
  }
  bool on_error(std::uint64_t tag, std::string_view text, std::string& about) override {
    errors.emplace_back(tag, text);
    about = "it was about 'k'";
    return accept_errors;
  }
  std::vector<std::pair<std::uint64_t, std::string>> errors;
  bool accept_errors = false;
  std::vector<std::pair<std::uint64_t, std::string>> seen;
  bool accept = true;
};

TEST_F(SessionTest, SignsInStepByStep) {
  Session session = make();
  session.begin(now_);
  EXPECT_EQ(take_command(session), (std::vector<std::string>{"AUTH", "joe", "secret"}));
  EXPECT_TRUE(session.output().empty()) << "one step at a time";
  ASSERT_TRUE(session.receive("+OK\r\n", now_));
  EXPECT_EQ(take_command(session), (std::vector<std::string>{"SELECT", "3"}));
  ASSERT_TRUE(session.receive("+OK\r\n", now_));
  EXPECT_EQ(take_command(session), (std::vector<std::string>{"CLIENT", "SETNAME", "evictd"}));
  ASSERT_TRUE(session.receive("+OK\r\n", now_));
  ASSERT_TRUE(sign_in(session));
  EXPECT_TRUE(session.is_ready());
  EXPECT_EQ(session.connected().instance, "abc123");
  EXPECT_EQ(session.connected().time, milliseconds(1'700'000'000'123));
  EXPECT_FALSE(session.connected().record.has_value());
  EXPECT_EQ(session.info().evicted_keys, 5u);
  EXPECT_EQ(session.awaited(), 0u);
}

TEST_F(SessionTest, WithoutPasswordAndDatabaseItAsksLess) {
  address_ = RedisAddress{};
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_EQ(asked[0], "CLIENT");
}

TEST_F(SessionTest, PasswordWithoutUser) {
  address_.user.clear();
  Session session = make();
  session.begin(now_);
  EXPECT_EQ(take_command(session), (std::vector<std::string>{"AUTH", "secret"}));
}

TEST_F(SessionTest, RepliesCutAtEveryByteSignInAlike) {
  for (std::size_t cut = 0; cut < 300; ++cut) {
    Session session = make();
    session.begin(now_);
    ASSERT_TRUE(sign_in(session, cut)) << cut;
    EXPECT_TRUE(session.is_ready()) << cut;
  }
}

TEST_F(SessionTest, RecordIsLoaded) {
  Record record;
  record.epoch = "7/1";
  record_reply = bulk(record_to_text(record));
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  ASSERT_TRUE(session.connected().record.has_value());
  EXPECT_EQ(session.connected().record->epoch, "7/1");
}

TEST_F(SessionTest, UnreadableRecordCountsAsNoneAndIsTold) {
  for (const char* reply :
       {"$5\r\nhello\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"}) {
    record_reply = reply;
    Session session = make();
    session.begin(now_);
    ASSERT_TRUE(sign_in(session));
    EXPECT_TRUE(session.is_ready());
    EXPECT_FALSE(session.connected().record.has_value());
    ASSERT_TRUE(session.record_problem().has_value());
    EXPECT_EQ(session.record_problem()->text.substr(0, 30), "the record 'evictd:record:{x}'");
  }
}

TEST_F(SessionTest, LibraryIsLoadedWhenMissingOrOtherAndLeftAloneWhenNewer) {
  const auto loads = [&](std::string_view version) {
    library_reply = version.starts_with('-') ? std::string(version) : bulk(version);
    asked.clear();
    Session session = make();
    session.begin(now_);
    EXPECT_TRUE(sign_in(session));
    EXPECT_TRUE(session.is_ready());
    EXPECT_TRUE(session.has_library());
    return std::count(asked.begin(), asked.end(), "FUNCTION");
  };
  EXPECT_EQ(loads("-ERR Function not found\r\n"), 1);
  EXPECT_EQ(loads(library_version(milliseconds(60'000))), 0);
  EXPECT_EQ(loads(library_version(milliseconds(30'000))), 1) << "another tombstone_ttl";
  EXPECT_EQ(loads("0 60000"), 1);
  EXPECT_EQ(loads(std::to_string(kLibraryVersion + 1) + " 60000"), 0);
}

TEST_F(SessionTest, LibraryOfSomebodyElseUnderTheSameNameIsReplaced) {
  for (const char* other : {":999\r\n", "*0\r\n", "$-1\r\n"}) {
    library_reply = other;
    asked.clear();
    Session session = make();
    session.begin(now_);
    ASSERT_TRUE(sign_in(session)) << other;
    EXPECT_TRUE(session.is_ready());
    EXPECT_EQ(std::count(asked.begin(), asked.end(), "FUNCTION"), 1) << other;
  }
}

TEST_F(SessionTest, LibraryThatIsGoneIsLoadedOnTheOpenConnectionBesideOtherCommands) {
  load_reply = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_FALSE(session.has_library());
  EXPECT_TRUE(session.may_have_library());
  load_reply = "$6\r\nevictd\r\n";
  Recorder recorder;
  session.look_for_library(now_);
  append_command(session.output(), {"GET", "k"});
  session.expect(recorder, 7, now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_TRUE(session.is_ready());
  EXPECT_TRUE(session.has_library());
  EXPECT_EQ(recorder.seen.size(), 1u);
  EXPECT_EQ(session.awaited(), 0u);
  // Of our version, and not what it says it is.
  library_reply = bulk(library_version(milliseconds(60'000)));
  asked.clear();
  session.look_for_library(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_EQ(asked, (std::vector<std::string>{"FCALL", "FUNCTION"}));
  library_reply = bulk(std::to_string(kLibraryVersion + 1) + " 60000");
  asked.clear();
  session.look_for_library(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_EQ(asked, (std::vector<std::string>{"FCALL"})) << "a newer evictd's";
  for (const char* refusal : {"-NOPERM this user has no permissions to run the 'fcall' command\r\n", "-ERR unknown command 'FCALL'\r\n"}) {
    library_reply = refusal;
    session.look_for_library(now_);
    ASSERT_TRUE(sign_in(session)) << refusal;
    EXPECT_FALSE(session.may_have_library()) << "asked again and again, it would fill the server's log";
  }
}

TEST_F(SessionTest, ServerWithoutFunctionsStillServesDeletes) {
  library_reply =
      "-ERR unknown command 'FCALL', with args beginning with: 'evictd_version' '0' \r\n";
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_TRUE(session.is_ready());
  EXPECT_FALSE(session.has_library());
  EXPECT_EQ(std::count(asked.begin(), asked.end(), "FUNCTION"), 0);
}

TEST_F(SessionTest, WrongPasswordNeedsAPerson) {
  auth_reply = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
  Session session = make();
  session.begin(now_);
  const auto result = sign_in(session);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().error.kind, ErrorKind::kUsage);
  EXPECT_EQ(result.error().error_class, "auth");
  EXPECT_EQ(result.error().error.text.find("secret"), std::string::npos);
}

TEST_F(SessionTest, ReplicaIsRefused) {
  info.replace(info.find("role:master"), 11, "role:slave");
  Session session = make();
  session.begin(now_);
  const auto result = sign_in(session);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().error_class, "read_only");
}

TEST_F(SessionTest, ClusterIsRefusedWithAReason) {
  info.replace(info.find("redis_mode:standalone"), 21, "redis_mode:cluster");
  Session session = make();
  session.begin(now_);
  const auto result = sign_in(session);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().error.to_string(),
            "redis at 'localhost:6379' is a node of a cluster, which has database 0 alone, and 'redis: url:' names database 3\nhint: leave "
            "'/3' out of the url");
}

TEST(ParseServerInfo, AClusterOfValkeyIsOne) {
  std::string text(kInfo);
  EXPECT_FALSE(parse_server_info(text)->is_cluster);
  text.replace(text.find("redis_mode:standalone"), 21, "server_mode:cluster");
  EXPECT_TRUE(parse_server_info(text)->is_cluster);
}

TEST_F(SessionTest, SomethingElseThanRedisIsRefused) {
  info = "hello";
  Session session = make();
  session.begin(now_);
  const auto result = sign_in(session);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().error.text, "expected the INFO of a Redis server, got something else");
  EXPECT_EQ(result.error().error_class, "protocol");
}

TEST_F(SessionTest, CannotWriteYetIsWaitedForOnTheSameConnection) {
  for (const char* reply : {"-MISCONF no disk\r\n", "-NOREPLICAS few\r\n", "-BUSY script\r\n"}) {
    probe_reply = reply;
    Session session = make();
    session.begin(now_);
    ASSERT_TRUE(sign_in(session));
    EXPECT_EQ(session.state(), SessionState::kWaiting);
    ASSERT_TRUE(session.waiting_for().has_value());
    EXPECT_EQ(session.wake_due(), now_ + milliseconds(500));
    session.wake(now_ + milliseconds(499));
    EXPECT_TRUE(session.output().empty());
    probe_reply = ":0\r\n";
    session.wake(now_ + milliseconds(500));
    ASSERT_TRUE(sign_in(session));
    EXPECT_TRUE(session.is_ready());
    EXPECT_FALSE(session.waiting_for().has_value());
  }
}

TEST_F(SessionTest, LoadingIsWaitedFor) {
  info.replace(info.find("loading:0"), 9, "loading:1");
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_EQ(session.state(), SessionState::kWaiting);
  EXPECT_EQ(session.waiting_for()->error_class, "loading");
}

TEST_F(SessionTest, RepliesGoToTheirReceiversInOrder) {
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  Recorder first;
  Recorder second;
  session.expect(first, 7, now_);
  session.expect(second, 8, now_);
  session.expect(first, 9, now_);
  ASSERT_TRUE(session.receive("+a\r\n+b", now_));
  EXPECT_EQ(first.seen.size(), 1u);
  EXPECT_TRUE(second.seen.empty());
  ASSERT_TRUE(session.receive("\r\n+c\r\n", now_));
  EXPECT_EQ(first.seen, (std::vector<std::pair<std::uint64_t, std::string>>{{7, "a"}, {9, "c"}}));
  EXPECT_EQ(second.seen, (std::vector<std::pair<std::uint64_t, std::string>>{{8, "b"}}));
}

// A command of so many bytes, whose reply is awaited.
void append_bytes(Session& session, std::size_t bytes, Recorder& recorder, SteadyTime now) {
  session.output() += std::string(bytes, 'x');
  session.expect(recorder, 0, now);
}

// What is ahead of the replies is a burst that Redis works off before it serves anybody else.
TEST_F(SessionTest, NoMoreThanAShortBurstIsAheadOfTheReplies) {
  constexpr std::size_t kBurst = 8 * 1024;
  constexpr std::size_t kCommand = 500;
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  Recorder recorder;
  for (int i = 0; i < 100; ++i) append_bytes(session, kCommand, recorder, now_);
  EXPECT_EQ(session.sendable(), kBurst);
  session.drop_output(8'000);  // written
  EXPECT_EQ(session.sendable(), kBurst - 8'000);
  ASSERT_TRUE(session.receive(":1\r\n:1\r\n", now_));
  EXPECT_EQ(session.sendable(), kBurst - 8'000 + 2 * kCommand) << "as it replies, it gets more";
  for (int i = 2; i < 100; ++i) ASSERT_TRUE(session.receive(":1\r\n", now_));
  EXPECT_EQ(session.sendable(), 100 * kCommand - 8'000);
}

TEST_F(SessionTest, TwoCommandsGoTogetherHoweverLongTheyAre) {
  constexpr std::size_t kCommand = 1'000'000;
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  Recorder recorder;
  for (int i = 0; i < 4; ++i) {
    append_bytes(session, kCommand, recorder, now_);
    EXPECT_EQ(session.sendable(), std::min<std::size_t>(i + 1, 2) * kCommand);
  }
  ASSERT_TRUE(session.receive(":1\r\n", now_));
  EXPECT_EQ(session.sendable(), 3 * kCommand);
}

TEST_F(SessionTest, ServerFarOffHasAlwaysSomethingToDo) {
  Session session = make();
  session.begin(now_);
  while (true) {
    const auto words = take_command(session);
    if (words.empty()) break;
    now_ += milliseconds(words[0] == "TIME" ? 20 : 35);
    ASSERT_TRUE(session.receive(answer(words), now_));
  }
  ASSERT_TRUE(session.is_ready());
  Recorder recorder;
  for (int i = 0; i < 10'000; ++i) append_bytes(session, 100, recorder, now_);
  EXPECT_EQ(session.sendable(), 8 * 1024 + 20'000 * 32) << "32 bytes for each microsecond of the shortest round trip";
}

TEST_F(SessionTest, DoubtsEndTheSession) {
  const auto fails_with = [&](std::string_view bytes, bool accept, bool awaited) {
    Session session = make();
    session.begin(now_);
    EXPECT_TRUE(sign_in(session));
    Recorder recorder;
    recorder.accept = accept;
    if (awaited) session.expect(recorder, 1, now_);
    const auto result = session.receive(bytes, now_);
    EXPECT_FALSE(result.has_value()) << bytes;
    return result ? std::string()
                  : std::string(result.error().error_class) + ": " + result.error().error.whole_text();
  };
  EXPECT_EQ(fails_with("+OK\r\n", true, false),
            "protocol: redis sent a reply that nothing asked for");
  EXPECT_EQ(fails_with("+OK\r\n", false, true),
            "protocol: redis sent an unexpected reply to a command");
  EXPECT_EQ(fails_with("garbage\r\n", true, true).substr(0, 46),
            "protocol: redis sent what is not a reply: it b");
  EXPECT_EQ(fails_with("-READONLY replica\r\n", true, true),
            "read_only: redis refused: 'READONLY replica' (it was about 'k')");
  EXPECT_EQ(fails_with("-OOM full\r\n", true, true), "oom: redis refused: 'OOM full' (it was about 'k')");
  EXPECT_EQ(fails_with("-ERR max number of clients reached\r\n", true, false),
            "clients: redis refused: 'ERR max number of clients reached'")
      << "what a server says before it hangs up";
}

// A key may spell what its row holds, and whoever reads the status needs no login.
TEST_F(SessionTest, WhatAnErrorIsAboutIsForTheLogAlone) {
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  Recorder recorder;
  recorder.accept = true;
  session.expect(recorder, 1, now_);
  const auto result = session.receive("-NOPERM no permissions to access a key\r\n", now_);
  ASSERT_FALSE(result.has_value());
  const Error& error = result.error().error;
  EXPECT_EQ(error.text.find("'k'"), std::string::npos) << error.text;
  EXPECT_EQ(error.detail, "it was about 'k'");
  EXPECT_NE(Error(error).within("cache 'a'").to_string().find("'k'"), std::string::npos);
}

// One step of signing in answered by each of these; all but what the step expects must end the session.
TEST_F(SessionTest, EveryStepOfSigningInRefusesRepliesOfAnotherShape) {
  const std::vector<std::string> lies = {"$-1\r\n", "+QUEUED\r\n", ":2\r\n", ":-1\r\n", "*0\r\n", "*-1\r\n", "$0\r\n\r\n",
      "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n", "*2\r\n:1\r\n:2\r\n", "*2\r\n$2\r\n-5\r\n$1\r\n0\r\n",
      "*2\r\n$1\r\n5\r\n$7\r\n1000000\r\n", "*2\r\n$20\r\n99999999999999999999\r\n$1\r\n0\r\n"};
  // How many steps there are, from a run without lies.
  Session honest = make();
  honest.begin(now_);
  ASSERT_TRUE(sign_in(honest));
  const std::vector<std::string> steps = asked;
  for (std::size_t step = 0; step < steps.size(); ++step) {
    for (const std::string& lie : lies) {
      if (steps[step] == "GET" && (lie[0] == '$' || lie == "*-1\r\n")) continue;  // no record, or one that cannot be read
      if (steps[step] == "FCALL") continue;  // another library's, which is replaced; what that is answered must be right
      Session session = make();
      session.begin(now_);
      for (std::size_t i = 0; i < step; ++i) ASSERT_TRUE(session.receive(answer(take_command(session)), now_));
      ASSERT_EQ(take_command(session).front(), steps[step]);
      const auto taken = session.receive(lie, now_);
      ASSERT_FALSE(taken) << steps[step] << " answered by " << lie;
      EXPECT_EQ(taken.error().error_class, "protocol") << steps[step] << " answered by " << lie;
    }
  }
}

TEST_F(SessionTest, ScriptLoadedAgainMustBeTheOneThatWasSent) {
  for (const std::string reply : {"+OK\r\n", "$-1\r\n", ":1\r\n", "*0\r\n", "$2\r\nab\r\n"}) {
    Session session = make();
    session.begin(now_);
    ASSERT_TRUE(sign_in(session));
    session.load_script(Script::kWalkBegin, now_);
    EXPECT_FALSE(session.receive(reply, now_)) << reply;
  }
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  session.load_script(Script::kWalkBegin, now_);
  EXPECT_TRUE(session.receive(bulk(script(Script::kWalkBegin).sha1), now_));
}

TEST_F(SessionTest, LongReplyThatKeepsComingIsNoSilence) {
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  Recorder recorder;
  session.expect(recorder, 1, now_);
  ASSERT_TRUE(session.receive("*1\r\n$9000000\r\n", now_ + milliseconds(10)));
  EXPECT_EQ(session.waiting_since(), now_) << "a few bytes are no sign of life";
  ASSERT_TRUE(session.receive(std::string(2'000'000, 'x'), now_ + milliseconds(20)));
  EXPECT_EQ(session.waiting_since(), now_ + milliseconds(20));
}

TEST_F(SessionTest, TimeOfTheOldestAwaitedReplyIsKnown) {
  Session session = make();
  session.begin(now_);
  ASSERT_TRUE(sign_in(session));
  EXPECT_FALSE(session.waiting_since().has_value());
  Recorder recorder;
  session.expect(recorder, 1, now_ + milliseconds(10));
  session.expect(recorder, 2, now_ + milliseconds(20));
  EXPECT_EQ(session.waiting_since(), now_ + milliseconds(10));
  ASSERT_TRUE(session.receive("+a\r\n", now_ + milliseconds(30)));
  EXPECT_EQ(session.waiting_since(), now_ + milliseconds(30));
}

}  // namespace
}  // namespace evictd
