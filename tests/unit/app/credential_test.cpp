// Passwords from files and commands: what is taken for one, and that a command which hangs, floods, fails or leaves
// children behind costs neither the loop nor a word of what it printed.
#include "daemon/net/credential.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

namespace evictd {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

CredentialSource command(const std::string& script, std::chrono::milliseconds patience = 20s) {
  CredentialSource source;
  source.command = {"/bin/sh", "-c", script};
  source.patience = patience;
  return source;
}

std::string password_of(const CredentialSource& source) {
  const Result<Credential> credential = ask_credential(source);
  return credential ? credential->password.reveal() : "error: " + credential.error().text;
}

std::string error_of(const CredentialSource& source) {
  const Result<Credential> credential = ask_credential(source);
  return credential ? "none" : credential.error().to_string();
}

TEST(Credential, IsOneLineOrJson) {
  EXPECT_EQ(parse_credential("secret\n")->password.reveal(), "secret");
  EXPECT_EQ(parse_credential("secret\r\n")->password.reveal(), "secret");
  EXPECT_EQ(parse_credential(" se cret ")->password.reveal(), " se cret ");
  EXPECT_EQ(parse_credential("{not json")->password.reveal(), "{not json");
  const auto json = parse_credential("  {\"password\": \"a\\nb\", \"expires\": \"2026-11-28T09:15:00.5+01:00\"}\n");
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(json->password.reveal(), "a\nb");
  EXPECT_EQ(*json->expires, SystemTime(std::chrono::seconds(1795853700)));
  EXPECT_EQ(*parse_credential(R"({"password":"x","expires":1795853700})")->expires, SystemTime(std::chrono::seconds(1795853700)));
  EXPECT_FALSE(parse_credential(R"({"password":"x","expires":null})")->expires.has_value());
  EXPECT_FALSE(parse_credential(R"({"password":"x"})")->expires.has_value());
}

TEST(Credential, WhatIsNoneIsRefusedAndNotQuoted) {
  for (const std::string text : {"", "\n", "hidden\nhidden\n", R"({"passwort":"hidden"})", R"({"password":7})", R"({"password":""})",
                                 R"({"password":"hidden","expires":"soon"})", R"({"password":"hidden","expires":"2026-13-01T00:00:00Z"})"}) {
    const auto parsed = parse_credential(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_THAT(parsed.error().to_string(), Not(HasSubstr("hidden")));
  }
  EXPECT_FALSE(parse_credential(std::string_view("a\0b", 3)).has_value());
}

TEST(Credential, OfACommandIsWhatItPrints) {
  EXPECT_EQ(password_of(command("echo secret")), "secret");
  EXPECT_EQ(password_of(command("printf '{\"password\":\"x y\",\"expires\":4000000000}'")), "x y");
  CredentialSource plain;
  plain.command = {"printf", "%s", "$HOME;`id`"};
  EXPECT_EQ(password_of(plain), "$HOME;`id`") << "no shell reads it";
}

TEST(Credential, ACommandThatFailsIsNamedAndItsWordsAreNot) {
  EXPECT_THAT(error_of(command("echo hidden; echo hidden >&2; exit 3")), HasSubstr("password_command '/bin/sh' exited with 3"));
  EXPECT_THAT(error_of(command("echo hidden; exit 3")), Not(HasSubstr("hidden")));
  EXPECT_THAT(error_of(command("echo hidden; kill -9 $$")), HasSubstr("ended by signal 9"));
  EXPECT_THAT(error_of(command("echo hidden; echo hidden")), HasSubstr("more than one line"));
  EXPECT_THAT(error_of(command("true")), HasSubstr("gave nothing"));
  CredentialSource missing;
  missing.command = {"/nonexistent/helper", "hidden"};
  EXPECT_THAT(error_of(missing), HasSubstr("password_command '/nonexistent/helper' cannot be started"));
  EXPECT_THAT(error_of(missing), Not(HasSubstr("hidden")));
}

TEST(Credential, ACommandThatFloodsIsStopped) {
  EXPECT_THAT(error_of(command("while :; do echo hiddenhiddenhiddenhiddenhidden; done")), HasSubstr("printed more than 64 KiB"));
}

bool wait_until(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ::usleep(5'000);
  }
  return true;
}

// The process whose number the file has.
bool is_gone(const std::string& file) {
  pid_t process = 0;
  std::ifstream(file) >> process;
  return process > 0 && wait_until([&] {
    if (::kill(process, 0) != 0) return true;
    // A zombie of init's is as good as gone.
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("State:") && line.find('Z') != std::string::npos) return true;
    }
    return false;
  });
}

class CredentialFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("evictd-credential-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST_F(CredentialFiles, ACommandThatHangsIsKilledWithWhatItStarted) {
  const std::string child = path("child");
  EXPECT_THAT(error_of(command("sleep 1000 & echo $! > " + child + "; wait", 500ms)), HasSubstr("did not end within 500 ms"));
  EXPECT_TRUE(is_gone(child));
}

TEST_F(CredentialFiles, AChildThatKeepsThePipeOpenIsNotWaitedFor) {
  const std::string child = path("child");
  EXPECT_EQ(password_of(command("sleep 1000 & echo $! > " + child + "; echo secret")), "secret");
  EXPECT_TRUE(is_gone(child));
}

TEST_F(CredentialFiles, ALookupThatNobodyWaitsForAnyMoreIsKilled) {
  const std::string child = path("child");
  {
    const CredentialLookup lookup(command("echo $$ > " + child + "; exec sleep 1000", 1000s));
    ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(child) && std::filesystem::file_size(child) > 0; }));
    EXPECT_FALSE(lookup.is_done());
  }
  EXPECT_TRUE(is_gone(child));
}

TEST_F(CredentialFiles, ALookupWakesTheLoop) {
  const CredentialLookup lookup(command("sleep 0.05; echo secret"));
  while (!lookup.is_done()) {
    Waiting waiting;
    lookup.wait_for(waiting);
    if (waiting.deadline == SteadyTime::min()) break;
    ASSERT_EQ(waiting.descriptors.size(), 1u);
    ASSERT_GT(::poll(waiting.descriptors.data(), 1, 20'000), 0);
  }
  ASSERT_TRUE(lookup.answer().has_value());
  EXPECT_EQ(lookup.answer()->password.reveal(), "secret");
}

TEST_F(CredentialFiles, AFileIsReadAnewEachTime) {
  CredentialSource source;
  source.file = path("password");
  EXPECT_THAT(error_of(source), HasSubstr("password_file '" + source.file + "' cannot be read"));
  std::ofstream(source.file) << "first\n";
  EXPECT_EQ(password_of(source), "first");
  std::ofstream(source.file) << "second";
  EXPECT_EQ(password_of(source), "second");
  std::ofstream(source.file) << std::string(100'000, 'x');
  EXPECT_THAT(error_of(source), HasSubstr("longer than 64 KiB"));
  source.file = folder_.string();
  EXPECT_THAT(error_of(source), HasSubstr("is no file"));
}

}  // namespace
}  // namespace evictd
