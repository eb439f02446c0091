#include "daemon/app/http_server.h"

#include <civetweb.h>
#include <fmt/core.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

#include "daemon/app/http.h"

namespace evictd {
namespace {

const char* reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

struct AddressList {
  addrinfo* first = nullptr;
  ~AddressList() {
    if (first != nullptr) freeaddrinfo(first);
  }
};

tl::unexpected<Error> cannot_listen(const ListenAddress& address, std::string_view reason) {
  return fail(ErrorKind::kFatal,
              fmt::format("cannot listen on '{}': {}", address.to_string(), reason),
              "choose another address with http.listen, or switch it off with 'listen: off'");
}

// civetweb takes only numbers for addresses and tells little about why it could not bind; so the
// name is resolved, and the address tried, here. Returns "127.0.0.1:9464" as civetweb reads it.
Result<std::string> numeric_address(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_family = address.host.empty() ? AF_INET : AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  AddressList found;
  const std::string port = std::to_string(address.port);
  if (const int code = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                   port.c_str(), &hints, &found.first);
      code != 0) {
    return cannot_listen(address, gai_strerror(code));
  }
  const int descriptor = socket(found.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return cannot_listen(address, std::strerror(errno));
  const int on = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool bound = bind(descriptor, found.first->ai_addr, found.first->ai_addrlen) == 0 &&
                     listen(descriptor, 1) == 0;
  const int reason = errno;
  close(descriptor);
  if (!bound) return cannot_listen(address, std::strerror(reason));
  char host[NI_MAXHOST];
  if (getnameinfo(found.first->ai_addr, found.first->ai_addrlen, host, sizeof host, nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return cannot_listen(address, "no numeric form");
  }
  if (found.first->ai_family == AF_INET6) return fmt::format("[{}]:{}", host, port);
  return address.host.empty() ? port : fmt::format("{}:{}", host, port);
}

}  // namespace

Result<ListenAddress> ListenAddress::parse(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorKind::kUsage, fmt::format("expected host:port, got '{}'", text),
                "for example 127.0.0.1:9464, [::1]:9464, or :9464 for every address");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong();
  ListenAddress address;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find(':') != std::string_view::npos) return wrong();
  address.host = host;
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size()) return wrong();
  return address;
}

std::string ListenAddress::to_string() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return is_v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

struct HttpServer::Impl {
  const StatusBoard* board = nullptr;
  const Metrics* metrics = nullptr;
  mg_context* context = nullptr;

  static int handle(mg_connection* connection, void* self) {
    const Impl& server = *static_cast<Impl*>(self);
    const mg_request_info* request = mg_get_request_info(connection);
    const std::string_view method = request->request_method;
    const HttpResponse response =
        respond(method, request->local_uri == nullptr ? "" : request->local_uri, *server.board,
                *server.metrics, read_clocks());
    std::string head = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n{}"
        "Connection: close\r\n\r\n",
        response.status, reason_phrase(response.status), response.content_type,
        response.body.size(), response.status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (method != "HEAD") head += response.body;
    mg_write(connection, head.data(), head.size());
    return response.status;
  }

  static int swallow_message(const mg_connection*, const char*) { return 1; }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  if (impl_->context != nullptr) mg_stop(impl_->context);
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const ListenAddress& address,
                                                      const StatusBoard& board,
                                                      const Metrics& metrics) {
  Result<std::string> numeric = numeric_address(address);
  if (!numeric) return tl::unexpected(numeric.error());
  auto impl = std::make_unique<Impl>();
  impl->board = &board;
  impl->metrics = &metrics;
  // Few threads and short patience: this port serves a scraper, a probe and now and then a person.
  const char* options[] = {"listening_ports",
                           numeric->c_str(),
                           "num_threads",
                           "3",
                           "request_timeout_ms",
                           "5000",
                           "max_request_size",
                           "8192",
                           "enable_keep_alive",
                           "no",
                           nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = &Impl::swallow_message;
  char text[256] = "";
  mg_error_data error{};
  error.text = text;
  error.text_buffer_size = sizeof text;
  mg_init_data init{};
  init.callbacks = &callbacks;
  init.user_data = impl.get();
  init.configuration_options = options;
  impl->context = mg_start2(&init, &error);
  if (impl->context == nullptr) return cannot_listen(address, text);
  mg_set_request_handler(impl->context, "/", &Impl::handle, impl.get());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const {
  mg_server_port ports[1] = {};
  return mg_get_server_ports(impl_->context, 1, ports) > 0
             ? static_cast<std::uint16_t>(ports[0].port)
             : 0;
}

}  // namespace evictd
