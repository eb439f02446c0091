// The scripts alone, against a real redis-server: no daemon, no connection of ours. One server for
// the whole suite, emptied before each test.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/sinks/redis/scripts.h"
#include "tests/support/redis_server.h"

namespace evictd::testing {

// The first command of a document that begins like this, as words: documents are run as they are printed.
inline std::vector<std::string> documented(const std::string& file, const std::string& begin) {
  std::ifstream in(std::string(EVICTD_DOCS) + "/" + file);
  std::string line;
  while (std::getline(in, line) && !line.starts_with(begin)) {
  }
  std::string text = line;
  while (std::getline(in, line) && line.starts_with(" ")) text += line;
  EXPECT_FALSE(text.empty()) << file << " has no " << begin;
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
}

class ScriptTest : public ::testing::Test {
 protected:
  static void TearDownTestSuite() { server_.reset(); }

  void SetUp() override {
    EVICTD_NEED_REDIS();
    if (!server_) server_ = std::make_unique<RedisServer>();
    redis().command({"FLUSHALL"});
    redis().command({"FUNCTION", "FLUSH"});
    redis().command(
        std::vector<std::string>{"FUNCTION", "LOAD", function_library(std::chrono::seconds(60))});
  }

  static RedisClient& redis() { return server_->client(); }

  static std::string marker_of(std::string_view key) {
    std::string name;
    append_marker_name(name, key);
    return name;
  }
  static std::string marker(std::string_view key) { return redis().get(marker_of(key)); }
  static void set_marker(std::string_view key, std::string_view text) {
    redis().command({"SET", marker_of(key), text, "PX", "60000"});
  }

  static Reply run(Script which, const std::vector<std::string>& keys,
                   const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {"EVAL", script(which).text, std::to_string(keys.size())};
    command.insert(command.end(), keys.begin(), keys.end());
    command.insert(command.end(), arguments.begin(), arguments.end());
    return redis().command(command);
  }

  // How one key is invalidated. Returns "deleted", "absent", "kept" or "replayed".
  struct How {
    std::string flags = "i";
    std::string trust_since = "0";
    std::string epoch = "e/1";
    std::string lifetime = "61000";
  };
  static std::string invalidate(const std::string& key, const std::string& tokens, const How& how) {
    return verdict(run(Script::kInvalidate, {key, marker_of(key)},
                       {how.epoch, how.lifetime, how.flags, how.trust_since, tokens}));
  }
  static std::string invalidate(const std::string& key, const std::string& tokens) {
    return invalidate(key, tokens, How{});
  }

  static std::string verdict(const Reply& reply) {
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() < 4)
      return "error: " + reply.text;
    if (reply.elements[3].integer != 0) return "refused";
    if (reply.elements[0].integer == 1) return "deleted";
    if (reply.elements[1].integer == 1) return "kept";
    if (reply.elements[2].integer == 1) return "replayed";
    return "absent";
  }

  static Reply call(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "FCALL");
    return redis().command(arguments);
  }
  // 1 stored, 0 rejected.
  static long long fill(const std::string& key, const std::string& token,
                        std::vector<std::string> more = {}) {
    std::vector<std::string> command = {"evictd_fill", "2",     key,    marker_of(key),
                                        token,         "60000", "value"};
    command.insert(command.end(), more.begin(), more.end());
    const Reply reply = call(command);
    EXPECT_EQ(reply.kind, Reply::Kind::kInteger) << reply.text;
    return reply.integer;
  }

  static std::unique_ptr<RedisServer> server_;
};

inline std::unique_ptr<RedisServer> ScriptTest::server_;

}  // namespace evictd::testing
