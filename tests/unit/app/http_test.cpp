#include "daemon/app/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/app/http_server.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

const Now kNow{SteadyTime(seconds(1000)), SystemTime(seconds(1'700'000'000))};

std::shared_ptr<Status> healthy_status() {
  auto identity = std::make_shared<StatusIdentity>();
  identity->version = "1.2.3";
  identity->started = kNow.system - seconds(60);
  identity->source = "PostgreSQL localhost:5432/shop, slot 'evictd', publication 'evictd'";
  identity->rules_file = "rules.yaml";
  auto status = std::make_shared<Status>();
  status->identity = identity;
  status->rules = std::make_shared<std::vector<StatusRule>>(
      std::vector<StatusRule>{{"shop", "public.products", "rules.yaml:3:5"}});
  status->flow.source_connected = true;
  status->flow.active = true;
  status->flow.last_heartbeat = kNow.steady - seconds(3);
  status->flow.acknowledged = Position{0, 77};
  LaneStatus& lane = status->flow.lanes.emplace_back();
  lane.name = "redis";
  lane.is_connected = true;
  lane.lag = milliseconds(1500);
  lane.last_applied_commit = kNow.system - milliseconds(2250);
  lane.held_transactions = 4;
  lane.held_bytes = 4096;
  status->source.connected = true;
  status->source.active = true;
  status->source.state = "streaming";
  status->source.lag_bytes = 100;
  status->source.slot_safe_wal_bytes = -5;
  status->sinks.push_back({"redis", "localhost:6379/0", {}});
  status->sinks[0].sink.connected = true;
  status->sinks[0].sink.state = "ready";
  status->sinks[0].sink.evicted_keys = 5;
  return status;
}

class Http : public testing::Test {
 protected:
  Http() { board_.turned(kNow.steady - seconds(1)); }
  HttpResponse get(std::string_view path, std::string_view method = "GET") {
    return respond(method, path, board_, metrics_, kNow);
  }
  StatusBoard board_;
  Metrics metrics_{"1.2.3"};
};

TEST_F(Http, ReadyzIsOkWhenNothingIsWrong) {
  board_.publish(healthy_status());
  EXPECT_EQ(get("/readyz").status, 200);
  EXPECT_EQ(get("/readyz").body, "ok\n");
}

TEST_F(Http, ReadyzSaysWhyNotOneReasonPerLine) {
  auto status = healthy_status();
  status->flow.not_ready = {"waiting for the slot", "table 'public.x' is not published"};
  status->source.problem = "table 'public.x' is not published";  // said once
  status->stopping = true;
  board_.publish(status);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/readyz").body,
            "stopping\nwaiting for the slot\ntable 'public.x' is not published\n");
}

TEST_F(Http, ReadyzBeforeTheFirstTurn) {
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/readyz").body, "starting\n");
}

TEST_F(Http, LivezAsksOnlyWhetherTheLoopTurns) {
  auto status = healthy_status();
  status->flow.not_ready = {"redis is gone"};
  board_.publish(status);
  EXPECT_EQ(get("/livez").status, 200);
  EXPECT_EQ(get("/livez").body, "ok\n");
  board_.turned(kNow.steady - seconds(10));
  EXPECT_EQ(get("/livez").status, 200);
  board_.turned(kNow.steady - seconds(11));
  EXPECT_EQ(get("/livez").status, 503);
  EXPECT_EQ(get("/livez").body, "the loop has not turned for 11 s\n");
  EXPECT_EQ(get("/readyz").body, "the loop has not turned for 11 s\nredis is gone\n");
}

TEST_F(Http, StatusIsJson) {
  board_.publish(healthy_status());
  const HttpResponse response = get("/status");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.content_type, "application/json");
  EXPECT_EQ(
      response.body,
      R"({"ready":true,"not_ready":[],"version":"1.2.3","started":"2023-11-14T22:12:20.000Z",)"
      R"("now":"2023-11-14T22:13:20.000Z","stopping":false,)"
      R"("source":{"address":"PostgreSQL localhost:5432/shop, slot 'evictd', publication 'evictd'",)"
      R"("state":"streaming","connected":true,"active":true,"problem":null,"lag_bytes":100,)"
      R"("slot_retained_bytes":null,"slot_safe_wal_bytes":-5},)"
      R"("caches":[{"name":"redis","address":"localhost:6379/0","state":"ready","problem":null,"evicted_keys":5,)"
      R"("connected":true,"parked":false,"behind":false,"lag_seconds":1.5,)"
      R"("last_applied_commit":"2023-11-14T22:13:17.750Z","inflight_transactions":4,"inflight_bytes":4096,"gaps":[]}],)"
      R"("flow":{"heartbeat_age_seconds":3,"acknowledged":77},)"
      R"("rules":{"file":"rules.yaml","reload_problem":null,)"
      R"("list":[{"name":"shop","table":"public.products","place":"rules.yaml:3:5"}]}})"
      "\n");
}

TEST_F(Http, StatusBeforeTheFirstTurn) {
  EXPECT_EQ(get("/status").body, "{\"ready\":false,\"not_ready\":[\"starting\"]}\n");
}

TEST_F(Http, ThePageSaysWhetherItIsReadyAndEscapesEverything) {
  auto status = healthy_status();
  board_.publish(status);
  EXPECT_THAT(get("/").body, HasSubstr("<strong>Ready.</strong>"));
  EXPECT_EQ(get("/").content_type, "text/html; charset=utf-8");

  status = healthy_status();
  const std::string evil = "<script>alert('x')</script>&\"";
  status->flow.not_ready = {evil};
  status->source.state = evil;
  status->sinks[0].sink.state = evil;
  status->reload_problem = evil;
  auto identity = std::make_shared<StatusIdentity>(*status->identity);
  identity->source = identity->version = evil;
  status->identity = identity;
  status->rules =
      std::make_shared<std::vector<StatusRule>>(std::vector<StatusRule>{{evil, evil, evil}});
  board_.publish(status);
  const std::string page = get("/").body;
  EXPECT_THAT(page, HasSubstr("<strong>Not ready.</strong>"));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("http://")));  // no asset from elsewhere
}

TEST_F(Http, ThePageWorksBeforeTheFirstTurn) {
  EXPECT_THAT(get("/").body, HasSubstr("<li>starting</li>"));
}

TEST_F(Http, MetricsAreThere) {
  board_.publish(healthy_status());
  EXPECT_EQ(get("/metrics").content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(get("/metrics").body, HasSubstr("evictd_lag_seconds{cache=\"redis\"} 1.5\n"));
}

TEST_F(Http, OtherPathsAndMethodsAreRefused) {
  EXPECT_EQ(get("/metricsx").status, 404);
  EXPECT_EQ(get("/metricsx").body,
            "nothing here; there is /, /metrics, /livez, /readyz and /status\n");
  EXPECT_EQ(get("/metrics", "POST").status, 405);
  EXPECT_EQ(get("/metrics", "POST").body, "expected GET or HEAD\n");
}

// Sends a request to a real socket and reads everything that comes back.
std::string exchange(std::uint16_t port, const std::string& request) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(write(descriptor, request.data(), request.size()), ssize_t(request.size()));
  std::string response;
  char buffer[4096];
  for (ssize_t got; (got = read(descriptor, buffer, sizeof buffer)) > 0;) {
    response.append(buffer, static_cast<std::size_t>(got));
  }
  close(descriptor);
  return response;
}

TEST_F(Http, ServesOnASocket) {
  auto server = HttpServer::start(ListenAddress{"localhost", 0}, board_, metrics_);
  ASSERT_TRUE(server) << server.error().to_string();
  const std::uint16_t port = (*server)->port();
  const std::string get = exchange(port, "GET /readyz?verbose HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(get, testing::StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(get, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(get, testing::EndsWith("\r\n\r\nstarting\n"));
  const std::string head = exchange(port, "HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Length: 9\r\n"));
  EXPECT_THAT(head, testing::EndsWith("\r\n\r\n"));
  const std::string post =
      exchange(port, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(post, testing::StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD\r\n"));
}

TEST_F(Http, AnAddressInUseIsFatalAndNamed) {
  auto first = HttpServer::start(ListenAddress{"127.0.0.1", 0}, board_, metrics_);
  ASSERT_TRUE(first) << first.error().to_string();
  const ListenAddress taken{"127.0.0.1", (*first)->port()};
  auto second = HttpServer::start(taken, board_, metrics_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kFatal);
  EXPECT_EQ(second.error().to_string(),
            "cannot listen on '" + taken.to_string() +
                "': Address already in use\n"
                "hint: choose another address with http.listen, or switch it off with 'listen: "
                "off'");
}

TEST_F(Http, AnAddressOfAnotherMachineIsNamed) {
  auto server = HttpServer::start(ListenAddress{"192.0.2.1", 9464}, board_, metrics_);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().text,
            "cannot listen on '192.0.2.1:9464': Cannot assign requested address");
}

TEST(ListenAddress, ReadsItsForms) {
  for (const char* text : {"127.0.0.1:9464", "[::1]:9464", "localhost:1", ":9464"}) {
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
