// A private PostgreSQL for tests: initdb in a temporary folder, a free port, fsync on (with it off,
// the window in which a commit is not visible yet disappears, and tests lie), stopped by its pid.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

struct pg_conn;

namespace evictd::testing {

// Rows as text, NULL as "NULL".
using Rows = std::vector<std::vector<std::string>>;

// One blocking session. Fails the test (and returns nothing) when a statement fails.
class PostgresSession {
 public:
  PostgresSession(int port, const std::string& database, const std::string& user = "postgres");
  ~PostgresSession();
  PostgresSession(PostgresSession&&) noexcept;

  Rows run(const std::string& statements);
  // The first value of the first row.
  std::string value(const std::string& statement);
  // Does not wait for the end of the statement; finish() does.
  void begin(const std::string& statement);
  void finish();
  // The SQLSTATE, empty when it succeeded.
  std::string error_of(const std::string& statement);

 private:
  struct Closer {
    void operator()(pg_conn* connection) const;
  };
  std::unique_ptr<pg_conn, Closer> connection_;
};

class PostgresServer {
 public:
  // Null when PostgreSQL is not installed; `why` then says so. EVICTD_REQUIRE_SERVERS=1 makes that
  // the caller's failure instead of a skip (see EVICTD_NEEDS_POSTGRES).
  static std::unique_ptr<PostgresServer> make(
      std::string& why, const std::map<std::string, std::string>& settings = {});
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  int port() const { return port_; }
  std::string url(const std::string& database, const std::string& user = "postgres") const;
  PostgresSession session(const std::string& database = "postgres",
                          const std::string& user = "postgres") const;

  // A new, empty database with a unique name.
  std::string make_database();
  void make_database(const std::string& name, const std::string& options = {});

  // pg_ctl modes "fast", "immediate", "smart". False when it did not stop within the time.
  bool stop(const std::string& mode = "fast", int seconds = 60);
  // Asks for the stop and returns.
  void begin_stop(const std::string& mode = "fast");
  bool is_running() const;
  void start();
  // Through ALTER SYSTEM; `restart` for those that need one, otherwise a reload.
  void set(const std::string& setting, const std::string& value, bool restart = false);

 private:
  PostgresServer() = default;
  std::string folder_;
  int port_ = 0;
  int databases_ = 0;
};

// True when the environment says that a missing server is a failure.
bool servers_are_required();

}  // namespace evictd::testing

// At the top of a test or SetUp(): skips with the reason, or fails where servers are required.
#define EVICTD_NEEDS_POSTGRES(server, why)                          \
  do {                                                              \
    if ((server) == nullptr) {                                      \
      if (evictd::testing::servers_are_required()) FAIL() << (why); \
      GTEST_SKIP() << (why);                                        \
    }                                                               \
  } while (false)
