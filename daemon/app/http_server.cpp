#include "daemon/app/http_server.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <list>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "daemon/app/http.h"
#include "daemon/app/http_request.h"
#include "daemon/app/status_feed.h"
#include "daemon/base/clock.h"
#include "daemon/base/descriptor.h"
#include "daemon/base/poll.h"
#include "daemon/base/shortage.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A scraper, a probe and a few people: more at a time is somebody's mistake, or malice.
constexpr std::size_t kConnectionsMax = 64;
// A whole request has come in within this time, however many bytes drip meanwhile.
constexpr seconds kRequestPatience{5};
// A client that takes nothing of its answer for this long is gone.
constexpr seconds kAnswerPatience{10};
// How long a client may take to close its end after the answer. Closed before, what it still sends would reset the
// connection, and take the answer with it.
constexpr seconds kClosePatience{1};
// Who looks at the status page; more of them are told to come back later.
constexpr std::size_t kViewersMax = 8;
// How often those who look are told what is new.
constexpr milliseconds kFeedInterval{1000};
// Without descriptors or memory for another connection: the pause before the next try.
constexpr milliseconds kResourcePause{250};
constexpr milliseconds kListenPause{1000};

const char* reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 421:
      return "Misdirected Request";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Service Unavailable";
  }
}

tl::unexpected<Error> cannot_listen(const ListenAddress& address, std::string_view reason) {
  return fail(ErrorKind::kFatal,
              fmt::format("cannot listen on '{}': {}", address.to_string(), reason),
              "choose another address with http.listen, or switch it off with 'listen: off'");
}

// The rest of the process needs descriptors too: of a low limit the port takes an eighth.
std::size_t connections_max() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kConnectionsMax;
  return std::clamp<std::size_t>(limit.rlim_cur / 8, 1, kConnectionsMax);
}

std::uint16_t port_of(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void set_port(sockaddr_storage& address, std::uint16_t port) {
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  }
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  }
  return (ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24) == 127;
}

struct Listeners {
  std::vector<Descriptor> sockets;
  std::uint16_t port = 0;
  bool only_loopback = true;
};

// Another process may end, or give something back: that is waited for.
tl::unexpected<Error> cannot_listen(const ListenAddress& address, int reason) {
  tl::unexpected<Error> failed = cannot_listen(address, std::string_view(std::strerror(reason)));
  const bool lacks_files = reason == EMFILE || reason == ENFILE;
  if (lacks_files) failed.value().hint = kFilesHint;
  if (lacks_files || reason == EADDRINUSE || reason == ENOBUFS || reason == ENOMEM) failed.value().kind = ErrorKind::kTransient;
  return failed;
}

// Zero, or the error of the call that failed.
int listen_at(const addrinfo& found, Listeners& into) {
  Descriptor made(socket(found.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.is_open()) return errno;
  const int on = 1;
  const int off = 0;
  setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // The wildcard of IPv6 takes IPv4 too, whatever the system's default is.
  if (found.ai_family == AF_INET6) setsockopt(made.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_storage address{};
  std::memcpy(&address, found.ai_addr, std::min<std::size_t>(found.ai_addrlen, sizeof address));
  // Port 0: the second address of a name gets the port that the first was given.
  if (into.port != 0) set_port(address, into.port);
  if (bind(made.get(), reinterpret_cast<const sockaddr*>(&address), found.ai_addrlen) != 0) return errno;
  if (listen(made.get(), 128) != 0) return errno;
  socklen_t length = sizeof address;
  if (getsockname(made.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return errno;
  into.port = port_of(address);
  into.only_loopback = into.only_loopback && is_loopback(address);
  into.sockets.push_back(std::move(made));
  return 0;
}

// Every address of the name that this machine has. One that somebody else uses is an error: half of the clients would
// be answered by another program.
Result<Listeners> listen_on(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(address.port);
  const std::string host = address.host.empty() ? "::" : address.host;
  if (const int code = getaddrinfo(host.c_str(), port.c_str(), &hints, &list); code != 0) {
    return cannot_listen(address, gai_strerror(code));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  Listeners listeners;
  int reason = EADDRNOTAVAIL;
  std::vector<std::string_view> seen;  // a hosts file may give one address twice
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
    const std::string_view raw(reinterpret_cast<const char*>(one->ai_addr), one->ai_addrlen);
    if (std::find(seen.begin(), seen.end(), raw) != seen.end()) continue;
    seen.push_back(raw);
    const int error = listen_at(*one, listeners);
    if (error == EADDRINUSE) return cannot_listen(address, error);
    if (error != 0) reason = error;
  }
  if (!listeners.sockets.empty()) return listeners;
  if (address.host.empty()) return listen_on(ListenAddress{"0.0.0.0", address.port});  // a machine without IPv6
  return cannot_listen(address, reason);
}

struct Connection {
  enum class State { kReading, kWriting, kClosing };
  Descriptor socket;
  State state = State::kReading;
  SteadyTime deadline;
  std::string bytes;      // kReading: what has come in; kWriting: the answer
  std::size_t sent = 0;   // kWriting
  std::unique_ptr<StatusViewer> viewer = nullptr;  // of /events: kWriting, with more to come each second

  bool has_unsent() const { return state == State::kWriting && sent < bytes.size(); }
};

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

// Everything below is the server's thread's, but for start and end.
struct HttpServer::Impl {
  const StatusBoard* board = nullptr;
  const Metrics* metrics = nullptr;
  std::string host;
  std::string machine;
  std::optional<ListenAddress> later;  // where nothing could listen yet
  SteadyTime listen_at{};
  Listeners listeners;
  std::size_t most = connections_max();
  Descriptor wake;
  std::atomic<bool> stopping = false;
  std::list<Connection> connections;  // the oldest first
  SteadyTime feed_at{};  // when viewers are told again
  SteadyTime accept_after{};
  std::thread thread;

  void run() {
    Waiting waiting;
    while (!stopping) {
      const SteadyTime now = std::chrono::steady_clock::now();
      connections.remove_if([&](const Connection& one) { return one.deadline <= now; });
      waiting.descriptors.clear();
      waiting.deadline = SteadyTime::max();
      waiting.descriptors.push_back(pollfd{wake.get(), POLLIN, 0});
      try_to_listen(now);
      if (later) waiting.wake_at(listen_at);
      const bool accepting = accept_after <= now;
      if (!accepting) waiting.wake_at(accept_after);
      for (const Descriptor& listener : listeners.sockets) {
        waiting.descriptors.push_back(pollfd{accepting ? listener.get() : -1, POLLIN, 0});
      }
      for (const Connection& one : connections) {
        waiting.wake_at(one.deadline);
        if (one.viewer) waiting.wake_at(feed_at);
        const bool writes = one.state == Connection::State::kWriting && (!one.viewer || one.has_unsent());
        // A viewer who goes says so by the end of what we may read.
        const bool reads = !writes || one.viewer;
        waiting.descriptors.push_back(
            pollfd{one.socket.get(), static_cast<short>((writes ? POLLOUT : 0) | (reads ? POLLIN : 0)), 0});
      }
      const int ready = wait_for_any(waiting);
      // Refused when the limit of descriptors was lowered below what is open.
      if (ready < 0 && errno != EINTR) std::this_thread::sleep_for(kResourcePause);
      if (ready > 0) serve(waiting.descriptors);
      feed();
    }
  }

  void try_to_listen(SteadyTime now) {
    if (!later || now < listen_at) return;
    listen_at = now + kListenPause;
    Result<Listeners> found = listen_on(*later);
    if (!found) return;
    listeners = std::move(*found);
    later.reset();
  }

  std::size_t viewers() const {
    return static_cast<std::size_t>(
        std::count_if(connections.begin(), connections.end(), [](const Connection& one) { return one.viewer != nullptr; }));
  }

  // Tells everybody who looks what is new, at most once a second, and nobody who has not taken what came before.
  void feed() {
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now < feed_at || viewers() == 0) return;
    feed_at = now + kFeedInterval;
    const StatusFeed news = make_status_feed(*board, read_clocks());
    connections.remove_if([&](Connection& one) {
      if (!one.viewer || one.has_unsent()) return false;
      one.bytes = one.viewer->next(news);
      one.sent = 0;
      one.deadline = now + kAnswerPatience;
      return !write(one, now);
    });
  }

  void serve(const std::vector<pollfd>& polled) {
    const SteadyTime now = std::chrono::steady_clock::now();
    std::size_t index = 1 + listeners.sockets.size();
    for (auto one = connections.begin(); one != connections.end();) {
      const bool ended = polled[index++].revents != 0 && !advance(*one, now);
      one = ended ? connections.erase(one) : std::next(one);
    }
    for (std::size_t i = 0; i < listeners.sockets.size(); ++i) {
      if (polled[1 + i].revents != 0) accept_from(listeners.sockets[i].get(), now);
    }
  }

  void accept_from(int listener, SteadyTime now) {
    // So many in one turn that those which have something to say get to say it.
    for (std::size_t count = 0; count < most; ++count) {
      Descriptor accepted(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!accepted.is_open()) {
        const int error = errno;
        if (error == EINTR || error == ECONNABORTED) continue;
        if (error == EAGAIN || error == EWOULDBLOCK) return;
        // No descriptor, no memory: the client waits in the system's queue, and an old connection makes room.
        make_room(0);
        accept_after = now + kResourcePause;
        return;
      }
      make_room(most - 1);
      connections.push_back(Connection{std::move(accepted), Connection::State::kReading, now + kRequestPatience, {}, 0});
      if (!advance(connections.back(), now)) connections.pop_back();
    }
  }

  // At most `left` connections stay. Those that wait for their client go first, the oldest of them.
  void make_room(std::size_t left) {
    while (connections.size() > left) {
      auto victim = std::find_if(connections.begin(), connections.end(), [](const Connection& one) {
        return one.state != Connection::State::kWriting;
      });
      // Who looks at the page can look again; a probe that gets no answer alarms somebody.
      if (victim == connections.end()) {
        victim = std::find_if(connections.begin(), connections.end(), [](const Connection& one) { return one.viewer != nullptr; });
      }
      if (victim == connections.end()) victim = connections.begin();
      connections.erase(victim);
    }
  }

  // Moves on as far as the client lets it; false when the connection is over.
  bool advance(Connection& one, SteadyTime now) {
    if (one.viewer && !drain(one)) return false;
    if (one.state == Connection::State::kReading && !read(one, now)) return false;
    if (one.state == Connection::State::kWriting && !write(one, now)) return false;
    return one.state != Connection::State::kClosing || drain(one);
  }

  bool read(Connection& one, SteadyTime now) {
    char buffer[4096];
    const ssize_t got = recv(one.socket.get(), buffer, sizeof buffer, 0);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (got == 0) return false;
    one.bytes.append(buffer, static_cast<std::size_t>(got));
    HttpRequest request;
    const HttpRead state = read_request(one.bytes, request);
    if (state == HttpRead::kIncomplete) return true;
    one.bytes = answer(state, request, one);
    one.state = Connection::State::kWriting;
    one.deadline = now + kAnswerPatience;
    return true;
  }

  bool write(Connection& one, SteadyTime now) {
    while (one.sent < one.bytes.size()) {
      const ssize_t taken =
          send(one.socket.get(), one.bytes.data() + one.sent, one.bytes.size() - one.sent, MSG_NOSIGNAL);
      if (taken < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
      one.sent += static_cast<std::size_t>(taken);
      one.deadline = now + kAnswerPatience;
    }
    if (one.viewer) {
      one.deadline = SteadyTime::max();  // until the next news
      return true;
    }
    shutdown(one.socket.get(), SHUT_WR);
    one.state = Connection::State::kClosing;
    one.deadline = now + kClosePatience;
    return true;
  }

  static bool drain(Connection& one) {
    char buffer[4096];
    const ssize_t got = recv(one.socket.get(), buffer, sizeof buffer, 0);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
  }

  std::string answer(HttpRead state, const HttpRequest& request, Connection& one) const {
    constexpr const char* kPlain = "text/plain; charset=utf-8";
    HttpResponse response;
    const bool is_feed = request.path == "/events" && request.method == "GET";
    if (state == HttpRead::kTooLong) {
      response = {431, kPlain, fmt::format("expected at most {} bytes of request\n", kRequestBytesMax)};
    } else if (state == HttpRead::kBad) {
      response = {400, kPlain, "expected an HTTP/1.1 request\n"};
    } else if (listeners.only_loopback && !is_own_host(request.host, host, machine)) {
      response = {421, kPlain,
                  fmt::format("expected an address, 'localhost' or the host of http.listen, got '{}'\n", request.host)};
    } else if (is_feed && viewers() >= std::min(kViewersMax, std::max<std::size_t>(most / 2, 1))) {
      response = {503, kPlain, "too many look at the status page: close one, or come back later\n"};
    } else if (is_feed) {
      one.viewer = std::make_unique<StatusViewer>();
      return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
             "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n" +
             one.viewer->next(make_status_feed(*board, read_clocks()));
    } else {
      response = respond(request, *board, *metrics, read_clocks());
    }
    std::string text = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        "Content-Security-Policy: {}\r\n{}"
        "Connection: close\r\n\r\n",
        response.status, reason_phrase(response.status), response.content_type,
        response.body.size(), response.security_policy, response.status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (request.method != "HEAD") text += response.body;
    return text;
  }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->stopping = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(impl_->wake.get(), &one, sizeof one);
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const ListenAddress& address,
                                                      const StatusBoard& board,
                                                      const Metrics& metrics) {
  Result<Listeners> listeners = listen_on(address);
  const bool is_later = !listeners && listeners.error().kind == ErrorKind::kTransient;
  if (!listeners && !is_later) return tl::unexpected(listeners.error());
  auto impl = std::make_unique<Impl>();
  impl->board = &board;
  impl->metrics = &metrics;
  impl->host = address.host;
  char machine[256] = "";
  if (gethostname(machine, sizeof machine - 1) == 0) impl->machine = machine;
  if (is_later) {
    impl->later = address;
    impl->listen_at = std::chrono::steady_clock::now() + kListenPause;
  } else {
    impl->listeners = std::move(*listeners);
  }
  impl->wake = Descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!impl->wake.is_open()) return cannot_listen(address, errno);
  try {
    impl->thread = std::thread([server = impl.get()] { server->run(); });
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kTransient, fmt::format("no thread to listen on '{}': {}", address.to_string(), error.what()), std::string(kThreadsHint));
  }
  auto server = std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
  if (is_later) server->delay_ = listeners.error();
  return server;
}

std::uint16_t HttpServer::port() const { return impl_->listeners.port; }

}  // namespace evictd
