// The port as a scraper, a probe and a hostile neighbour meet it: real sockets, this machine only.
#include "daemon/app/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ctime>
#include <thread>

#include "daemon/app/http.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::StartsWith;

// A client's end of a connection. Waits at most 20 s for anything.
class Client {
 public:
  explicit Client(std::uint16_t port, int family = AF_INET) : Client() { reach(port, family); }
  // Not connected yet: a descriptor is all it has.
  Client() : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  void reach(std::uint16_t port, int family = AF_INET) {
    if (family != AF_INET) {
      close(descriptor_);
      descriptor_ = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
    const timeval patience{20, 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (family == AF_INET6) {
      sockaddr_in6 address{};
      address.sin6_family = AF_INET6;
      address.sin6_port = htons(port);
      address.sin6_addr = in6addr_loopback;
      connected_ = connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      connected_ = connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    }
  }
  Client(Client&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), connected_(other.connected_) {}
  ~Client() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  bool connected() const { return connected_; }
  bool send(std::string_view text) const {
    return ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size());
  }
  // Everything until the server ends it.
  std::string receive() const {
    std::string response;
    char buffer[4096];
    for (ssize_t got; (got = read(descriptor_, buffer, sizeof buffer)) > 0;) {
      response.append(buffer, static_cast<std::size_t>(got));
    }
    return response;
  }

  // What comes up to and with `text`, or as much as there is.
  std::string receive_until(std::string_view text) const {
    std::string got;
    for (char one; got.find(text) == std::string::npos && read(descriptor_, &one, 1) == 1;) got += one;
    return got;
  }

 private:
  int descriptor_;
  bool connected_ = false;
};

std::string ask(std::uint16_t port, std::string_view request, int family = AF_INET) {
  const Client client(port, family);
  if (!client.connected() || !client.send(request)) return "";
  return client.receive();
}

constexpr std::string_view kLivez = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

// What is said at the port at last, for 20 s at most.
std::string wait_for_answer(std::uint16_t port) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::string answer;
  while (answer.empty() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(100));
    answer = ask(port, kLivez);
  }
  return answer;
}

bool has_ipv6() {
  const int descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const bool bound = bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(descriptor);
  return bound;
}

class HttpPort : public testing::Test {
 protected:
  HttpPort() { board_.turned(read_clocks().steady); }
  std::uint16_t listen(const std::string& host) {
    auto server = HttpServer::start(ListenAddress{host, 0}, board_, metrics_);
    EXPECT_TRUE(server) << server.error().to_string();
    if (!server) return 0;
    server_ = std::move(*server);
    return server_->port();
  }
  StatusBoard board_;
  Metrics metrics_{"1.2.3"};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpPort, Serves) {
  const std::uint16_t port = listen("localhost");
  const std::string get = ask(port, "GET /readyz?verbose HTTP/1.1\r\nHost: localhost:9464\r\n\r\n");
  EXPECT_THAT(get, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(get, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(get, testing::EndsWith("\r\n\r\nstarting\n"));
  const std::string head = ask(port, "HEAD /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Length: 9\r\n"));
  EXPECT_THAT(head, testing::EndsWith("\r\n\r\n"));
  const std::string post =
      ask(port, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD\r\n"));
}

TEST_F(HttpPort, ReadsTheQuery) {
  auto status = std::make_shared<Status>();
  status->flow.standby = true;
  status->flow.not_ready = {"standby: another process holds the slot"};
  board_.publish(status);
  const std::uint16_t port = listen("127.0.0.1");
  EXPECT_THAT(ask(port, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"), StartsWith("HTTP/1.1 503 "));
  const std::string asked = ask(port, "GET /readyz?verbose&standby=ok HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(asked, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(asked, testing::EndsWith("\r\n\r\nstandby\n"));
}

TEST_F(HttpPort, ARequestMayComeInPieces) {
  const std::uint16_t port = listen("127.0.0.1");
  const Client client(port);
  for (const char c : kLivez) ASSERT_TRUE(client.send(std::string_view(&c, 1)));
  EXPECT_THAT(client.receive(), StartsWith("HTTP/1.1 200 OK\r\n"));
}

// The installer of Debian writes '::1 localhost' before '127.0.0.1 localhost'.
TEST_F(HttpPort, EveryAddressOfANameIsServed) {
  const std::uint16_t port = listen("localhost");
  EXPECT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpPort, AnIPv6AddressIsServed) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  const std::uint16_t port = listen("::1");
  EXPECT_THAT(ask(port, kLivez, AF_INET6), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(ask(port, kLivez, AF_INET), "");
}

TEST_F(HttpPort, NoHostIsEveryAddressOfBothFamilies) {
  const std::uint16_t port = listen("");
  EXPECT_THAT(ask(port, kLivez, AF_INET), StartsWith("HTTP/1.1 200"));
  if (has_ipv6()) {
    EXPECT_THAT(ask(port, kLivez, AF_INET6), StartsWith("HTTP/1.1 200"));
  }
}

TEST_F(HttpPort, TheIPv6WildcardIsEveryAddress) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  const std::uint16_t port = listen("::");
  EXPECT_THAT(ask(port, kLivez, AF_INET6), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask(port, kLivez, AF_INET), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpPort, SilentConnectionsKeepNobodyOut) {
  const std::uint16_t port = listen("127.0.0.1");
  std::vector<Client> silent;
  for (int i = 0; i < 200; ++i) silent.emplace_back(port);
  for (int i = 0; i < 20; ++i) ASSERT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200")) << i;
}

TEST_F(HttpPort, DrippingConnectionsKeepNobodyOut) {
  const std::uint16_t port = listen("127.0.0.1");
  std::vector<Client> dripping;
  for (int i = 0; i < 200; ++i) {
    dripping.emplace_back(port);
    dripping.back().send("GET /livez HTTP/1.1\r\nX: ");
  }
  for (int i = 0; i < 20; ++i) {
    for (const Client& client : dripping) client.send("x");
    ASSERT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200")) << i;
  }
}

TEST_F(HttpPort, AnswersThatNobodyReadsKeepNobodyOut) {
  const std::uint16_t port = listen("127.0.0.1");
  std::vector<Client> greedy;
  for (int i = 0; i < 200; ++i) {
    greedy.emplace_back(port);
    greedy.back().send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  }
  for (int i = 0; i < 20; ++i) ASSERT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200")) << i;
}

constexpr std::string_view kEvents = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";

TEST_F(HttpPort, WhoLooksAtThePageIsToldAgainAndAgain) {
  const std::uint16_t port = listen("127.0.0.1");
  const Client viewer(port);
  ASSERT_TRUE(viewer.send(kEvents));
  EXPECT_THAT(viewer.receive_until("event: state"), StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
  for (int i = 0; i < 2; ++i) EXPECT_THAT(viewer.receive_until("event: state"), HasSubstr("event: state"));
  EXPECT_THAT(ask(port, "GET /events HTTP/1.1\r\nHost: evil.example\r\n\r\n"), StartsWith("HTTP/1.1 421 "));
}

TEST_F(HttpPort, ThoseWhoLookAreFewAndMakeRoomWhenTheyGo) {
  const std::uint16_t port = listen("127.0.0.1");
  std::vector<Client> viewers;
  for (int i = 0; i < 8; ++i) {
    viewers.emplace_back(port);
    ASSERT_TRUE(viewers.back().send(kEvents));
    ASSERT_THAT(viewers.back().receive_until("event: state"), StartsWith("HTTP/1.1 200")) << i;
  }
  EXPECT_THAT(ask(port, kEvents), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200"));
  viewers.clear();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::string got;
  while (!got.starts_with("HTTP/1.1 200") && std::chrono::steady_clock::now() < end) {
    const Client again(port);
    again.send(kEvents);
    got = again.receive_until("\r\n");
  }
  EXPECT_THAT(got, StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpPort, ThoseWhoLookAndReadNothingKeepNobodyOut) {
  const std::uint16_t port = listen("127.0.0.1");
  std::vector<Client> deaf;
  for (int i = 0; i < 200; ++i) {
    deaf.emplace_back(port);
    deaf.back().send(kEvents);
  }
  for (int i = 0; i < 20; ++i) ASSERT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200")) << i;
}

TEST_F(HttpPort, WhatIsNoRequestIsRefused) {
  const std::uint16_t port = listen("127.0.0.1");
  EXPECT_THAT(ask(port, "hello\r\n\r\n"), StartsWith("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_THAT(ask(port, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20'000, 'x')),
              StartsWith("HTTP/1.1 431 "));
}

// A page of another site whose name was made to point here (DNS rebinding) must not read the status.
TEST_F(HttpPort, AForeignHostIsRefusedOnTheLoopbackAddress) {
  const std::uint16_t port = listen("127.0.0.1");
  const std::string refused = ask(port, "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 421 Misdirected Request\r\n"));
  EXPECT_THAT(refused, HasSubstr("'evil.example'"));
}

// True when the process comes to half of `patience` of processor time within it: it spins.
bool wait_for_spinning(milliseconds patience) {
  const std::clock_t begin = std::clock();
  const auto end = std::chrono::steady_clock::now() + patience;
  const auto most = std::chrono::duration<double>(patience / 2).count() * CLOCKS_PER_SEC;
  while (std::chrono::steady_clock::now() < end) {
    if (static_cast<double>(std::clock() - begin) > most) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

TEST_F(HttpPort, WithoutDescriptorsItWaitsAndGoesOn) {
  const std::uint16_t port = listen("127.0.0.1");
  ASSERT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200"));
  // This end needs descriptors too: opened before the limit, and connected after, so that the server has accepted none.
  Client waiting;
  Client another;
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3;  // below what is open: nothing can be opened any more
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  waiting.reach(port);
  another.reach(port);
  EXPECT_FALSE(wait_for_spinning(milliseconds(400)));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(waiting.send(kLivez));
  EXPECT_THAT(waiting.receive(), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask(port, kLivez), StartsWith("HTTP/1.1 200"));
}

// As the one that stands by has, with the configuration of the one that works.
TEST_F(HttpPort, AnAddressInUseIsNamedAndTakenWhenItIsFree) {
  const ListenAddress taken{"127.0.0.1", listen("127.0.0.1")};
  auto second = HttpServer::start(taken, board_, metrics_);
  ASSERT_TRUE(second);
  ASSERT_TRUE((*second)->delay());
  EXPECT_EQ((*second)->delay()->to_string(),
            "cannot listen on '" + taken.to_string() +
                "': Address already in use\n"
                "hint: choose another address with http.listen, or switch it off with 'listen: "
                "off'");
  server_.reset();
  EXPECT_THAT(wait_for_answer(taken.port), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpPort, AnAddressOfAnotherMachineIsNamed) {
  auto server = HttpServer::start(ListenAddress{"192.0.2.1", 9464}, board_, metrics_);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().text,
            "cannot listen on '192.0.2.1:9464': Cannot assign requested address");
}

TEST(ListenAddress, ReadsItsForms) {
  for (const char* text : {"127.0.0.1:9464", "[::1]:9464", "[::]:9464", "localhost:1", ":9464"}) {
    const Result<ListenAddress> address = ListenAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  for (const char* text : {"", "9464", "localhost", "localhost:", "localhost:65536", "localhost:-1",
                           "localhost:94x", "::1:9464"}) {
    const Result<ListenAddress> address = ListenAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().text, "expected host:port, got '" + std::string(text) + "'");
  }
}

}  // namespace
}  // namespace evictd
