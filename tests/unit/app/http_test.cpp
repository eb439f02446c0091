#include "daemon/app/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "daemon/app/key_trace.h"

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
  HttpResponse get(const std::string& path, const std::string& method = "GET", const std::string& query = "") {
    return respond({method, path, query, "localhost"}, board_, metrics_, kNow);
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

TEST_F(Http, WhatAPeerSaidIsPlainTextInReadyz) {
  auto status = healthy_status();
  status->flow.not_ready = {"got '\xff\r\nok'"};
  board_.publish(status);
  EXPECT_EQ(get("/readyz").body, "got '?  ok'\n");
}

TEST_F(Http, ReadyzCountsAHealthyStandbyAsReadyWhenAsked) {
  auto status = healthy_status();
  status->flow.standby = true;
  status->flow.active = false;
  status->flow.not_ready = {"standby: another process holds the slot"};
  board_.publish(status);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/readyz").body, "standby: another process holds the slot\n");
  EXPECT_EQ(get("/readyz", "GET", "standby=ok").status, 200);
  EXPECT_EQ(get("/readyz", "GET", "standby=ok").body, "standby\n");
  EXPECT_EQ(get("/readyz", "GET", "verbose&standby=ok").status, 200);
  for (const char* other : {"standby=no", "standby", "xstandby=ok", "standby=okay", "ok", "&"}) {
    EXPECT_EQ(get("/readyz", "GET", other).status, 503) << other;
  }
}

TEST_F(Http, ReadyzTellsWhatElseAStandbyLacks) {
  auto status = healthy_status();
  status->flow.standby = true;
  status->flow.not_ready = {"redis is not connected", "standby: another process holds the slot"};
  board_.publish(status);
  EXPECT_EQ(get("/readyz", "GET", "standby=ok").status, 503);
  EXPECT_EQ(get("/readyz", "GET", "standby=ok").body, "redis is not connected\nstandby: another process holds the slot\n");
}

TEST_F(Http, ReadyzIsOkForTheOneThatWorksWhateverIsAsked) {
  board_.publish(healthy_status());
  EXPECT_EQ(get("/readyz", "GET", "standby=ok").body, "ok\n");
  auto status = healthy_status();
  status->flow.not_ready = {"the source is not streaming"};  // one reason, but not that
  board_.publish(status);
  EXPECT_EQ(get("/readyz", "GET", "standby=ok").status, 503);
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
      R"({"ready":true,"state":"ready","line":"Ready: the cache follows the database.","not_ready":[],"version":"1.2.3","started":"2023-11-14T22:12:20.000Z",)"
      R"("now":"2023-11-14T22:13:20.000Z","stopping":false,)"
      R"("source":{"address":"PostgreSQL localhost:5432/shop, slot 'evictd', publication 'evictd'",)"
      R"("state":"streaming","connected":true,"active":true,"problem":null,"lag_bytes":100,)"
      R"("slot_retained_bytes":null,"slot_safe_wal_bytes":-5},)"
      R"("caches":[{"name":"redis","address":"localhost:6379/0","state":"ready","problem":null,"evicted_keys":5,)"
      R"("connected":true,"parked":false,"behind":false,"lag_seconds":1.5,)"
      R"("last_applied_commit":"2023-11-14T22:13:17.750Z","inflight_transactions":4,"inflight_bytes":4096,"gaps":[]}],)"
      R"("flow":{"heartbeat_age_seconds":3,"acknowledged":77},"refresh":[],)"
      R"("rules":{"file":"rules.yaml","reload_problem":null,)"
      R"("list":[{"name":"shop","table":"public.products","place":"rules.yaml:3:5"}]}})"
      "\n");
}

TEST_F(Http, StatusBeforeTheFirstTurn) {
  EXPECT_EQ(get("/status").body, "{\"ready\":false,\"state\":\"starting\",\"line\":\"Starting.\",\"not_ready\":[\"starting\"]}\n");
}

TEST_F(Http, ThePageSaysWhetherItIsReadyAndEscapesEverything) {
  auto status = healthy_status();
  board_.publish(status);
  EXPECT_THAT(get("/").body, HasSubstr("<p id=\"line\">Ready: the cache follows the database.</p>"));
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
  EXPECT_THAT(page, HasSubstr("<p id=\"line\">Not ready: &lt;script"));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"));
  EXPECT_THAT(page, Not(HasSubstr("<script>")));
}

TEST_F(Http, ThePageWorksBeforeTheFirstTurn) {
  EXPECT_THAT(get("/").body, HasSubstr("<p id=\"line\">Starting.</p>"));
}

TEST_F(Http, OnlyThePagesOwnScriptRuns) {
  const auto nonce = [this] {
    const HttpResponse page = get("/");
    const std::size_t begin = page.body.find("<script nonce=\"") + 15;
    const std::string found = page.body.substr(begin, page.body.find('"', begin) - begin);
    EXPECT_THAT(page.security_policy, HasSubstr("script-src 'nonce-" + found + "';"));
    return found;
  };
  const std::string first = nonce();
  EXPECT_EQ(first.size(), 24u);
  EXPECT_NE(first, nonce());
  EXPECT_EQ(get("/status").security_policy, "default-src 'none'; style-src 'unsafe-inline'");
}

TEST_F(Http, OneLineSaysTheStateAndWhy) {
  const auto line = [this](const std::function<void(Status&)>& change) {
    auto status = healthy_status();
    change(*status);
    board_.publish(status);
    const Verdict judged = verdict(board_, kNow.steady);
    return std::string(state_name(judged.state)) + ": " + judged.line;
  };
  EXPECT_EQ(line([](Status& status) { status.flow.lanes.resize(2); }), "ready: Ready: 2 caches follow the database.");
  EXPECT_EQ(line([](Status& status) {
              status.flow.standby = true;
              status.flow.not_ready = {"standby: another process holds the slot"};
            }),
            "standby: Standing by: another evictd holds the source, this one takes over when it goes.");
  EXPECT_EQ(line([](Status& status) { status.flow.not_ready = {"the source is not streaming: refused", "x", "y"}; }),
            "not_ready: Not ready: the source is not streaming: refused (and 2 more)");
  EXPECT_EQ(line([](Status& status) { status.stopping = true; }), "stopping: Stopping: what is in hand is being finished.");
  board_.turned(kNow.steady - seconds(30));
  EXPECT_EQ(line([](Status&) {}), "not_ready: Not ready: the loop has not turned for 30 s");
}

TEST_F(Http, EventsBeginWithEverything) {
  board_.publish(healthy_status());
  EXPECT_EQ(get("/events").content_type, "text/event-stream");
  EXPECT_THAT(get("/events").body, testing::StartsWith("event: state\ndata: {"));
}

TEST_F(Http, MetricsAreThere) {
  board_.publish(healthy_status());
  EXPECT_EQ(get("/metrics").content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(get("/metrics").body, HasSubstr("evictd_lag_seconds{cache=\"redis\"} 1.5\n"));
}

TEST_F(Http, ALoopThatStandsExportsNothingAsIfItWereStillSo) {
  board_.publish(healthy_status());
  board_.turned(kNow.steady - seconds(2));
  EXPECT_THAT(get("/metrics").body, HasSubstr("evictd_loop_silence_seconds 2\n"));
  EXPECT_THAT(get("/metrics").body, HasSubstr("evictd_ready 1\n"));
  EXPECT_THAT(get("/metrics").body, HasSubstr("evictd_lag_seconds{cache=\"redis\"} 1.5\n"));
  board_.turned(kNow.steady - seconds(30));
  const std::string page = get("/metrics").body;
  EXPECT_THAT(page, HasSubstr("evictd_loop_silence_seconds 30\n"));
  for (const char* name : {"evictd_ready", "evictd_active", "evictd_source_connected"}) {
    EXPECT_THAT(page, HasSubstr(std::string(name) + " 0\n"));
  }
  EXPECT_THAT(page, HasSubstr("evictd_redis_connected{cache=\"redis\"} 0\n"));
  EXPECT_THAT(page, HasSubstr("evictd_lag_seconds{cache=\"redis\"} 31.5\n"));
  EXPECT_THAT(page, Not(HasSubstr("evictd_source_lag_bytes")));
}

TEST_F(Http, OtherPathsAndMethodsAreRefused) {
  EXPECT_EQ(get("/metricsx").status, 404);
  EXPECT_EQ(get("/metricsx").body,
            "nothing here; there is /, /events, /metrics, /livez, /readyz and /status\n");
  EXPECT_EQ(get("/metrics", "POST").status, 405);
  EXPECT_EQ(get("/metrics", "POST").body, "expected GET or HEAD\n");
}

TEST_F(Http, KeysAreShownWhereTheConfigurationSaysSoAndNowhereElse) {
  board_.publish(healthy_status());
  const HttpResponse hidden = get("/key", "GET", "name=product:1");
  EXPECT_EQ(hidden.status, 404);
  EXPECT_THAT(hidden.body, HasSubstr("'http: {show_keys: true}'"));
  EXPECT_THAT(get("/status").body, Not(HasSubstr("shows_keys")));

  const KeyTrace trace;
  board_.show_keys(&trace);
  const HttpResponse shown = get("/key", "GET", "name=product%3A1%22");
  EXPECT_EQ(shown.status, 200);
  EXPECT_EQ(shown.body, "{\"key\":\"product:1\\\"\",\"since\":null,\"decisions\":[]}\n");
  EXPECT_THAT(get("/status").body, HasSubstr("\"shows_keys\":true"));
  for (const char* wrong : {"", "name=", "key=a", "name=%4", "name=%zz"}) EXPECT_EQ(get("/key", "GET", wrong).status, 400) << wrong;
  EXPECT_EQ(get("/key", "POST", "name=a").status, 405);
}

// What Debezium says of a commit is shown, whatever its clock says.
TEST(TimeText, IsOfAnyYear) {
  EXPECT_EQ(time_text(SystemTime(seconds(253'402'300'799))), "9999-12-31T23:59:59.000Z");
  EXPECT_EQ(time_text(SystemTime(milliseconds(-1))), "1969-12-31T23:59:59.999Z");
}

}  // namespace
}  // namespace evictd
