#include "daemon/sources/postgres/stream_wire.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::string_view kClosed = "the server closed the connection unexpectedly";

std::string last_tls_error() {
  const unsigned long code = ERR_get_error();
  if (code == 0) return "TLS failed";
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

}  // namespace

StreamWire::StreamWire(int socket, ssl_st* tls) : socket_(socket), tls_(tls) {
  // What is written again after a "not now" may stand elsewhere by then.
  if (tls_ != nullptr) SSL_set_mode(tls_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void StreamWire::send(char type, std::string_view body) {
  const std::uint32_t length = __builtin_bswap32(static_cast<std::uint32_t>(body.size() + 4));
  out_ += type;
  out_.append(reinterpret_cast<const char*>(&length), sizeof(length));
  out_ += body;
}

bool StreamWire::flush() {
  while (!out_.empty()) {
    if (tls_ != nullptr) {
      ERR_clear_error();
      errno = 0;
      const int sent = SSL_write(tls_, out_.data(), static_cast<int>(out_.size()));
      if (sent <= 0) return lose_tls(sent, false);
      out_.erase(0, static_cast<std::size_t>(sent));
      continue;
    }
    const ssize_t sent = ::send(socket_, out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      problem_ = std::string("cannot send to the server: ") + std::strerror(errno);
      return false;
    }
    out_.erase(0, static_cast<std::size_t>(sent));
  }
  return true;
}

bool StreamWire::receive() {
  const std::span<char> room = frames_.room();
  EVICTD_CHECK(!room.empty());
  if (tls_ != nullptr) {
    read_wants_write_ = false;
    ERR_clear_error();
    errno = 0;
    const int got = SSL_read(tls_, room.data(), static_cast<int>(room.size()));
    if (got <= 0) return lose_tls(got, true);
    frames_.received(static_cast<std::size_t>(got));
    heard_ = true;
    return true;
  }
  while (true) {
    const ssize_t got = ::recv(socket_, room.data(), room.size(), MSG_DONTWAIT);
    if (got > 0) {
      frames_.received(static_cast<std::size_t>(got));
      heard_ = true;
      return true;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    problem_ = got == 0 ? std::string(kClosed) : std::string("cannot receive from the server: ") + std::strerror(errno);
    return false;
  }
}

bool StreamWire::has_pending() const { return tls_ != nullptr && SSL_pending(tls_) > 0; }

// True when it is only "not now".
bool StreamWire::lose_tls(int result, bool reading) {
  const int system = errno;
  switch (SSL_get_error(tls_, result)) {
    case SSL_ERROR_WANT_READ:
      return true;
    case SSL_ERROR_WANT_WRITE:
      read_wants_write_ = reading;
      return true;
    case SSL_ERROR_ZERO_RETURN:
      problem_ = kClosed;
      return false;
    case SSL_ERROR_SYSCALL:
      problem_ = system == 0 ? std::string(kClosed) : std::string("the connection failed: ") + std::strerror(system);
      return false;
    default:
      problem_ = last_tls_error();
      return false;
  }
}

}  // namespace evictd
