// One non-blocking stream socket to Redis: TCP, TCP with TLS, or a unix socket. Name lookup runs in
// a short-lived thread, so that a slow resolver never stops the loop.
//
//   kClosed -> kResolving -> kConnecting -> kHandshaking (TLS) -> kOpen
//
// Every address of a name is tried in turn. Any error leaves the transport closed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/base/clock.h"
#include "daemon/sinks/redis/url.h"
#include "daemon/base/waiting.h"
#include "mapping/error.h"

namespace evictd {

struct TlsFiles {
  std::string ca_file;  // empty: the system's
  std::string cert_file;
  std::string key_file;
};

class Transport {
 public:
  enum class State { kClosed, kResolving, kConnecting, kHandshaking, kOpen };

  Transport(const RedisAddress& address, TlsFiles tls_files);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // REQUIRES: kClosed.
  void open();
  void close();
  State state() const;

  // Moves on as far as possible without blocking. The error says what failed and where.
  Result<State> advance();

  static constexpr std::size_t kReadMax = 64 * 1024;

  // Appends at most `limit`, and kReadMax, bytes to `bytes`; returns how many, 0 when none are
  // there now. An end of the stream is an error. REQUIRES: kOpen.
  Result<std::size_t> read(std::string& bytes, std::size_t limit);
  // Returns how many bytes were taken, 0 when there is no room now. REQUIRES: kOpen.
  Result<std::size_t> write(std::string_view bytes);

  // `want_write`: there is something to write.
  void wait_for(Waiting& waiting, bool want_write) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
