// Puts the pages of http.h on a port. One thread of its own, which sees the status board and the metrics and nothing
// else, so that it answers also when the loop does not turn. It never waits for a client: connections are polled, few,
// and short. Where there are too many, the one that has kept us waiting longest goes, so that neither silent nor slow
// clients keep a probe out. Without descriptors it rests a moment and tries again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <optional>

#include "daemon/app/metrics.h"
#include "daemon/app/status.h"
#include "mapping/error.h"

namespace evictd {

// "127.0.0.1:9464", "[::1]:9464", "localhost:9464" (every address of the name that this machine has), ":9464" and
// "[::]:9464" (every address, IPv6 and IPv4).
struct ListenAddress {
  std::string host;  // empty: every address
  std::uint16_t port = 0;

  // kUsage with "expected host:port, got ...".
  static Result<ListenAddress> parse(std::string_view text);
  std::string to_string() const;
};

class HttpServer {
 public:
  // `board` and `metrics` must outlive the server. An address that can never be bound is kFatal, with the address and the
  // reason in the text. For one that another process has it waits by itself: what the server says is worth no cache.
  static Result<std::unique_ptr<HttpServer>> start(const ListenAddress& address,
                                                   const StatusBoard& board,
                                                   const Metrics& metrics);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Why it did not listen yet when it was started.
  const std::optional<Error>& delay() const { return delay_; }

  // The port in use, also when 0 was asked for.
  std::uint16_t port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  std::optional<Error> delay_;
};

}  // namespace evictd
