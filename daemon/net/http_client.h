// HTTP requests that do not block: libcurl's multi interface, in the loop that poll(2) turns. Connections are kept and
// used again; TLS is verified; redirects are not followed, for they would take credentials along; answers are bounded in bytes
// and in time. And one request that blocks, for threads which may.
//
// One thread. Each request that was begun is told once by step(), unless cancel_all() forgets it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/waiting.h"
#include "mapping/error.h"

namespace evictd {

struct HttpCall {
  std::string method;
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

struct HttpAnswer {
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

struct HttpClientOptions {
  std::string ca_file;  // empty: the system's authorities
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds timeout{10'000};  // from the first byte sent to the last byte read
  std::size_t body_bytes_max = 1024 * 1024;
  std::size_t header_bytes_max = 64 * 1024;
  std::size_t connections_max = 4;
  // Of a connection, however busy it is kept: another one looks the name up again, which may stand for another machine by now.
  std::chrono::seconds lifetime_max{60};
};

class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options);
  ~HttpClient();

  void begin(std::uint64_t id, const HttpCall& call);

  struct Finished {
    std::uint64_t id = 0;
    std::optional<HttpAnswer> answer;  // absent: there is none, or not a whole one
    std::string problem;               // why not; may name what was sent
    std::string_view error_class;      // "connection", "timeout", "tls", "protocol"
    bool is_too_long = false;          // the answer broke a limit
  };
  std::vector<Finished> step();
  void wait_for(Waiting& waiting);
  void cancel_all();
  // Connections made since the start: fewer than requests, as long as they are used again.
  std::uint64_t connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One question and its answer, or why there is none. Blocks, for options.timeout at most; ends within a moment when
// `*is_cancelled` becomes true (null: nobody cancels it).
HttpClient::Finished ask_http(const HttpCall& call, const HttpClientOptions& options, const std::atomic<bool>* is_cancelled = nullptr);

}  // namespace evictd
