// A private redis-server for one test: its own temporary directory, a free port, ended by its
// process id. And a plain blocking client, to look into it from the side.
#pragma once

#include <sys/types.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/resp.h"
#include "tests/support/ports.h"

namespace evictd::testing {

// Where redis-server is, or empty. Without it, tests skip with the reason, or fail under
// EVICTD_REQUIRE_SERVERS=1: use EVICTD_NEED_REDIS() at the start of a fixture's SetUp.
std::string redis_server_program();
bool servers_are_required();

#define EVICTD_NEED_REDIS()                                                    \
  if (::evictd::testing::redis_server_program().empty()) {                     \
    if (::evictd::testing::servers_are_required()) {                           \
      FAIL() << "redis-server is not installed, and EVICTD_REQUIRE_SERVERS=1"; \
    }                                                                          \
    GTEST_SKIP() << "redis-server is not installed";                           \
  }                                                                            \
  static_assert(true)

// A blocking connection. Aborts the test program on I/O errors unless `try_` is in the name.
class RedisClient {
 public:
  explicit RedisClient(int port);
  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  Reply command(std::initializer_list<std::string_view> arguments);
  Reply command(const std::vector<std::string>& arguments);
  // Sends without waiting for the reply.
  void send(const std::vector<std::string>& arguments);
  Reply receive();

  // Shorthands. get(): the text, or "(nil)".
  std::string get(std::string_view key);
  void set(std::string_view key, std::string_view value);
  bool exists(std::string_view key);
  long long integer(std::initializer_list<std::string_view> arguments);

 private:
  int socket_ = -1;
  ReplyReader reader_{ReplyLimits{1u << 30, 1u << 30, 16}};
};

class RedisServer {
 public:
  // Starts it and waits until it answers. `settings` are command line settings: {"--maxmemory",
  // "5mb"}.
  // `file`: the text of a configuration file of its own, which the server may write to (Sentinel wants one).
  explicit RedisServer(std::vector<std::string> settings = {}, const std::string& file = {});
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  int port() const { return port_; }
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_) + "/0"; }
  const std::string& directory() const { return directory_; }

  void kill();         // -9
  void start_again();  // on the same port, with the same settings; REQUIRES: killed
  // For the next start_again(), in place of those given at first.
  void set_settings(std::vector<std::string> settings) { settings_ = std::move(settings); }
  void freeze();          // SIGSTOP
  void thaw();            // SIGCONT
  RedisClient& client();  // made on first use, and anew after start_again()

 private:
  void launch();
  void wait_until_it_answers();

  std::vector<std::string> settings_;
  std::string file_;  // empty: none
  std::string directory_;
  int port_ = 0;
  pid_t pid_ = -1;
  std::unique_ptr<RedisClient> client_;
};

}  // namespace evictd::testing
