// Puts the pages of http.h on a socket. The only user of civetweb. Its threads see the status board
// and the metrics, nothing else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "daemon/app/metrics.h"
#include "daemon/app/status.h"
#include "mapping/error.h"

namespace evictd {

// "127.0.0.1:9464", "[::1]:9464", "localhost:9464", ":9464" (every address).
struct ListenAddress {
  std::string host;  // empty: every address
  std::uint16_t port = 0;

  // kUsage with "expected host:port, got ...".
  static Result<ListenAddress> parse(std::string_view text);
  std::string to_string() const;
};

class HttpServer {
 public:
  // `board` and `metrics` must outlive the server. An address that cannot be bound is kFatal, with
  // the address and the reason in the text.
  static Result<std::unique_ptr<HttpServer>> start(const ListenAddress& address,
                                                   const StatusBoard& board,
                                                   const Metrics& metrics);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The port in use, also when 0 was asked for.
  std::uint16_t port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
