// The two servers, as the race talks to them: blocking, pipelined, and the end of the process on any error.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct redisContext;
struct pg_conn;

namespace evictd::race {

std::int64_t now_us();     // wall clock, as Redis and PostgreSQL have it
std::int64_t ticking_us();  // for durations

[[noreturn]] void fail(std::string_view what);

struct Reply {
  bool is_nil = false;
  long long integer = 0;
  std::string text;
  std::vector<Reply> elements;
};

class Redis {
 public:
  explicit Redis(int port);
  ~Redis();
  Redis(const Redis&) = delete;
  Redis& operator=(const Redis&) = delete;

  void send(const std::vector<std::string>& words);  // buffered until next()
  Reply next();                                      // of the oldest command sent
  Reply command(const std::vector<std::string>& words) {
    send(words);
    return next();
  }

 private:
  redisContext* context_;
};

class Postgres {
 public:
  explicit Postgres(const std::string& url);
  ~Postgres();
  Postgres(const Postgres&) = delete;
  Postgres& operator=(const Postgres&) = delete;

  void prepare(const char* name, const char* statement);
  // Rows of texts. With `statement` the name of a prepared one.
  std::vector<std::vector<std::string>> run(const char* name, const std::vector<std::string>& parameters);

 private:
  pg_conn* connection_;
};

}  // namespace evictd::race
