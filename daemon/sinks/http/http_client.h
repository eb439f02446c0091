// HTTP requests that do not block: libcurl's multi interface, in the loop that poll(2) turns. Connections are kept and
// used again; TLS is verified; redirects are not followed; answers are bounded in bytes and in time.
//
// One thread. Each request that was begun is told once by step(), unless cancel_all() forgets it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/waiting.h"
#include "daemon/sinks/http/service.h"
#include "mapping/error.h"

namespace evictd {

struct HttpClientOptions {
  std::string ca_file;  // empty: the system's authorities
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds timeout{10'000};  // from the first byte sent to the last byte read
  std::size_t body_bytes_max = 1024 * 1024;
  std::size_t header_bytes_max = 64 * 1024;
  std::size_t connections_max = 4;
};

class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options);
  ~HttpClient();

  void begin(std::uint64_t id, const HttpCall& call);

  struct Finished {
    std::uint64_t id = 0;
    std::optional<HttpAnswer> answer;  // absent: there is none, or not a whole one
    std::string problem;               // why not; may name what was sent: see Service::without_secrets()
    std::string_view error_class;      // "connection", "timeout", "tls", "protocol"
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

}  // namespace evictd
