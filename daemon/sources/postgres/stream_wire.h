// The two ends of a replication stream on the socket of a libpq connection: libpq connects, authenticates and encrypts,
// and from START_REPLICATION on the frames are ours, because libpq has no bound for what it gathers of one. Nothing
// blocks.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/sources/postgres/stream_frames.h"

struct ssl_st;

namespace evictd {

class StreamWire {
 public:
  // Both stay libpq's, and must outlive this. `tls` may be null.
  StreamWire(int socket, ssl_st* tls);

  void send(char type, std::string_view body);
  // Sends what is queued, as far as it goes. False when the connection is gone: problem() says why.
  bool flush();
  // Something waits to be sent.
  bool wants_write() const { return !out_.empty() || read_wants_write_; }

  // Receives once what is there. False when the connection is gone.
  bool receive();
  // TLS has taken more from the socket than receive() had room for: poll() will not tell of it.
  bool has_pending() const;
  Result<std::optional<StreamFrames::Frame>> next() { return frames_.next(); }
  // Bytes have come since the last call, be it of a frame that is not whole yet.
  bool take_heard() { return std::exchange(heard_, false); }
  const std::string& problem() const { return problem_; }

 private:
  bool lose_tls(int result, bool reading);

  int socket_;
  ssl_st* tls_;
  StreamFrames frames_;
  std::string out_;
  std::string problem_;
  bool heard_ = false;
  bool read_wants_write_ = false;
};

}  // namespace evictd
