#include "daemon/sinks/redis/transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/base/descriptor.h"
#include "daemon/base/special_file.h"
#include "daemon/net/name_lookup.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/told_address.h"
#include "mapping/check.h"

namespace evictd {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

std::string tls_error_text() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  const char* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "error " + std::to_string(code);
}

// An alert that the server sent (RFC 8446, 6.2): what it has against us; nothing: the failure is of another kind.
std::optional<int> alert_of(unsigned long code) {
  if (ERR_GET_LIB(code) != ERR_LIB_SSL || ERR_GET_REASON(code) < SSL_AD_REASON_OFFSET) return std::nullopt;
  return ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET;
}

std::string hint_of_alert(int alert) {
  switch (alert) {
    case SSL_AD_HANDSHAKE_FAILURE:  // TLS 1.2 has no other for a certificate that was not sent
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_DECRYPT_ERROR:
    case TLS13_AD_CERTIFICATE_REQUIRED:
      return "the server does not take evictd's certificate: 'redis: tls: cert:' and 'key:' name one that is in its time and of an authority that "
             "the server trusts ('tls-ca-cert-file'); 'tls-auth-clients no' there asks for none";
    case SSL_AD_PROTOCOL_VERSION:
      return "the server takes other versions of TLS alone: evictd speaks 1.2 and 1.3 ('tls-protocols')";
    default:
      return {};
  }
}

}  // namespace

struct Transport::Impl {
  Impl(const RedisAddress& where, TlsFiles files) : address(where), tls_files(std::move(files)) {}

  const RedisAddress& address;
  TlsFiles tls_files;
  State state = State::kClosed;
  std::optional<NameLookup> lookup;
  std::size_t next_address = 0;
  Descriptor socket;
  std::unique_ptr<SSL_CTX, FreeContext> context;
  std::unique_ptr<SSL, FreeSsl> ssl;
  bool tls_wants_write = false;  // what the last TLS call waits for, besides reading
  bool tls_read_pending = false;

  std::string last_error = "no address";

  tl::unexpected<Error> failed(std::string_view what, std::string_view why, std::string hint = {}) {
    close();
    return fail(ErrorKind::kConnection,
                std::string(what) + " redis at '" + address.to_string() + "': " + std::string(why),
                std::move(hint));
  }

  void close() {
    ssl.reset();
    socket = Descriptor();
    lookup.reset();
    next_address = 0;
    tls_wants_write = tls_read_pending = false;
    state = State::kClosed;
  }

  Result<State> resolve() {
    if (!lookup->is_done()) return state;
    if (const auto& found = lookup->addresses(); !found) {
      return failed("cannot look up", std::string(found.error().text),
                    found.error().hint.empty() ? std::string(kHostHint) : std::string(found.error().hint));
    }
    return connect_next();
  }

  // Begins connecting to the next address of the name.
  Result<State> connect_next() {
    const std::vector<std::string>& addresses = *lookup->addresses();
    while (next_address < addresses.size()) {
      addrinfo hints{};
      hints.ai_socktype = SOCK_STREAM;
      hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
      addrinfo* list = nullptr;
      const int error = getaddrinfo(addresses[next_address++].c_str(), std::to_string(address.port).c_str(), &hints, &list);
      const std::unique_ptr<addrinfo, FreeAddresses> one(list);
      if (error != 0) {
        last_error = gai_strerror(error);
        continue;
      }
      socket = Descriptor(::socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (begin_connect(one->ai_addr, one->ai_addrlen)) return state;
    }
    return failed("cannot connect to", last_error);
  }

  bool begin_connect(const sockaddr* where, socklen_t length) {
    if (socket.get() < 0) {
      last_error = std::strerror(errno);
      return false;
    }
    if (::connect(socket.get(), where, length) != 0 && errno != EINPROGRESS) {
      last_error = std::strerror(errno);
      return false;
    }
    state = State::kConnecting;
    return true;
  }

  Result<State> connect_socket_path() {
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    EVICTD_CHECK(address.socket_path.size() < sizeof(where.sun_path));
    std::memcpy(where.sun_path, address.socket_path.data(), address.socket_path.size());
    socket = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!begin_connect(reinterpret_cast<const sockaddr*>(&where), sizeof(where))) {
      return failed("cannot connect to", last_error);
    }
    return state;
  }

  Result<State> finish_connect() {
    pollfd ready{socket.get(), POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return state;
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      last_error = std::strerror(error);
      if (!address.socket_path.empty()) return failed("cannot connect to", last_error);
      return connect_next();
    }
    if (address.socket_path.empty()) set_tcp_options();
    if (!address.tls) {
      state = State::kOpen;
      return state;
    }
    if (auto begun = begin_tls(); !begun) return tl::unexpected(begun.error());
    state = State::kHandshaking;
    return handshake();
  }

  // Commands are small and wait for nobody; a peer that vanished is noticed even when idle.
  void set_tcp_options() {
    const int on = 1;
    const int idle_seconds = 15;
    const int interval_seconds = 5;
    const int probes = 3;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof(idle_seconds));
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds,
                 sizeof(interval_seconds));
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
  }

  // The files are read again for each connection, so that renewed certificates are used.
  Result<void> begin_tls() {
    for (const std::string* file : {&tls_files.ca_file, &tls_files.cert_file, &tls_files.key_file}) {
      if (const auto why = why_not_to_open(*file)) {
        close();
        return fail(ErrorKind::kConnection, "cannot read the TLS file '" + *file + "': " + *why, std::string(kSpecialFileHint));
      }
    }
    ERR_clear_error();
    context.reset(SSL_CTX_new(TLS_client_method()));
    EVICTD_CHECK(context);
    SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(context.get(),
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    if (tls_files.ca_file.empty()) {
      SSL_CTX_set_default_verify_paths(context.get());
    } else if (SSL_CTX_load_verify_locations(context.get(), tls_files.ca_file.c_str(), nullptr) !=
               1) {
      return tl::unexpected(tls_file_error(tls_files.ca_file));
    }
    if (!tls_files.cert_file.empty()) {
      if (SSL_CTX_use_certificate_chain_file(context.get(), tls_files.cert_file.c_str()) != 1) {
        return tl::unexpected(tls_file_error(tls_files.cert_file));
      }
      const std::string& key =
          tls_files.key_file.empty() ? tls_files.cert_file : tls_files.key_file;
      if (SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1) {
        return tl::unexpected(tls_file_error(key));
      }
    }
    ssl.reset(SSL_new(context.get()));
    EVICTD_CHECK(ssl);
    SSL_set_fd(ssl.get(), socket.get());
    unsigned char numeric[16];
    const char* const host = address.host.c_str();
    if (::inet_pton(AF_INET, host, numeric) == 1 || ::inet_pton(AF_INET6, host, numeric) == 1) {
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host);
    } else {
      SSL_set_tlsext_host_name(ssl.get(), host);
      SSL_set1_host(ssl.get(), host);
    }
    return {};
  }

  // As with a password's file: one that is not there yet, or is just being renewed, is waited for.
  Error tls_file_error(const std::string& file) {
    const int access = ::access(file.c_str(), R_OK) == 0 ? 0 : errno;
    Error error{ErrorKind::kConnection, "cannot read the TLS file '" + file + "': " + (access != 0 ? std::string(std::strerror(access)) : tls_error_text()),
                "look at 'redis: tls:'; the file must be there, in PEM, and readable for the user that evictd runs as"};
    close();
    return error;
  }

  // Who knows the authority's certificate need not be told to name it.
  static std::string hint_of(long verdict) {
    switch (verdict) {
      case X509_V_ERR_CERT_HAS_EXPIRED:
      case X509_V_ERR_CERT_NOT_YET_VALID:
        return "renew the server's certificate (or its authority's), or set the clock of this machine";
      case X509_V_ERR_HOSTNAME_MISMATCH:
      case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "reach it by a name that its certificate has, or give it one with the name of 'redis: url:'";
      default:
        return "name the authority's certificate in 'redis: tls: ca:'";
    }
  }

  Result<State> handshake() {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_connect(ssl.get());
    if (result == 1) {
      tls_wants_write = false;
      state = State::kOpen;
      return state;
    }
    if (wants_more(result)) return state;
    const long verdict = SSL_get_verify_result(ssl.get());
    if (verdict != X509_V_OK) {
      return failed("cannot trust", X509_verify_cert_error_string(verdict), hint_of(verdict));
    }
    return tls_failed("no TLS with", std::string(kNoTlsHint));
  }

  // By what stands in OpenSSL's queue, or in errno. With TLS 1.3 the server looks at our certificate when the handshake is over for us.
  tl::unexpected<Error> tls_failed(std::string_view what, std::string hint = {}) {
    const unsigned long code = ERR_peek_last_error();
    if (const auto alert = alert_of(code)) return failed("no TLS with", tls_error_text(), hint_of_alert(*alert));
    if (code == 0 && errno != 0) return failed(what, std::strerror(errno), std::move(hint));
    return failed(what, tls_error_text(), std::move(hint));
  }

  // True when a TLS call only has to be made again later; remembers for what.
  bool wants_more(int result) {
    const int error = SSL_get_error(ssl.get(), result);
    tls_wants_write = error == SSL_ERROR_WANT_WRITE;
    return error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ;
  }

  Result<std::size_t> read_tls(char* into, std::size_t limit) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_read(ssl.get(), into, static_cast<int>(limit));
    if (result > 0) {
      tls_read_pending = SSL_pending(ssl.get()) > 0;
      return static_cast<std::size_t>(result);
    }
    tls_read_pending = false;
    if (wants_more(result)) return 0;
    if (SSL_get_error(ssl.get(), result) == SSL_ERROR_ZERO_RETURN) return failed("lost", "it closed the connection");
    return tls_failed("lost");
  }

  Result<std::size_t> read_plain(char* into, std::size_t limit) {
    const ssize_t got = ::recv(socket.get(), into, limit, 0);
    if (got > 0) return static_cast<std::size_t>(got);
    if (got == 0) return failed("lost", "it closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return 0;
    return failed("lost", std::strerror(errno));
  }
};

Transport::Transport(const RedisAddress& address, TlsFiles tls_files)
    : impl_(std::make_unique<Impl>(address, std::move(tls_files))) {}
Transport::~Transport() = default;

void Transport::open() {
  EVICTD_CHECK(impl_->state == State::kClosed);
  impl_->state = State::kResolving;
  impl_->last_error = "no address";
  if (!impl_->address.socket_path.empty()) return;
  impl_->lookup.emplace(impl_->address.host);
}

void Transport::close() {
  if (impl_->ssl && impl_->state == State::kOpen) SSL_shutdown(impl_->ssl.get());
  impl_->close();
}

Transport::State Transport::state() const { return impl_->state; }

Result<Transport::State> Transport::advance() {
  switch (impl_->state) {
    case State::kResolving:
      return impl_->address.socket_path.empty() ? impl_->resolve() : impl_->connect_socket_path();
    case State::kConnecting:
      return impl_->finish_connect();
    case State::kHandshaking:
      return impl_->handshake();
    case State::kClosed:
    case State::kOpen:
      return impl_->state;
  }
  return impl_->state;
}

Result<std::size_t> Transport::read(std::string& bytes, std::size_t limit) {
  EVICTD_CHECK(impl_->state == State::kOpen);
  // By way of the stack: making room in the string would fill it with zeroes first, at every look.
  char buffer[kReadMax];
  limit = std::min(limit, kReadMax);
  auto got = impl_->ssl ? impl_->read_tls(buffer, limit) : impl_->read_plain(buffer, limit);
  if (got) bytes.append(buffer, *got);
  return got;
}

Result<std::size_t> Transport::write(std::string_view bytes) {
  EVICTD_CHECK(impl_->state == State::kOpen);
  if (bytes.empty()) return 0;
  if (impl_->ssl) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_write(impl_->ssl.get(), bytes.data(), static_cast<int>(bytes.size()));
    if (result > 0) return static_cast<std::size_t>(result);
    if (impl_->wants_more(result)) return 0;
    if (ERR_peek_error() == 0 && (errno == EPIPE || errno == ECONNRESET)) return 0;  // as below
    return impl_->tls_failed("lost");
  }
  const ssize_t sent = ::send(impl_->socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent >= 0) return static_cast<std::size_t>(sent);
  // The other end is gone. What it said before it hung up (why it does not want us) is read first; then the read fails.
  if (errno == EPIPE || errno == ECONNRESET) return 0;
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return 0;
  return impl_->failed("lost", std::strerror(errno));
}

void Transport::wait_for(Waiting& waiting, bool want_write) const {
  switch (impl_->state) {
    case State::kClosed:
      return;
    case State::kResolving:
      if (impl_->lookup) {
        impl_->lookup->wait_for(waiting);
      } else {
        waiting.wake_at(SteadyTime::min());
      }
      return;
    case State::kConnecting:
      waiting.descriptors.push_back(pollfd{impl_->socket.get(), POLLOUT, 0});
      return;
    case State::kHandshaking:
      waiting.descriptors.push_back(pollfd{
          impl_->socket.get(), static_cast<short>(impl_->tls_wants_write ? POLLOUT : POLLIN), 0});
      return;
    case State::kOpen:
      if (impl_->tls_read_pending) waiting.wake_at(SteadyTime::min());
      waiting.descriptors.push_back(pollfd{
          impl_->socket.get(),
          static_cast<short>(POLLIN | (want_write || impl_->tls_wants_write ? POLLOUT : 0)), 0});
      return;
  }
}

}  // namespace evictd
