// The HTTP sink against a server that lies: what it believes, how it waits, and what it never says.
#include "daemon/sinks/http/http_sink.h"

#include <gmock/gmock.h>

#include "daemon/base/poll.h"
#include "tests/support/fake_sink.h"
#include "tests/support/http_fake.h"
#include "tests/support/sink_journal.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kToken = "tok-SECRET";

// As Fastly would: every key with an id.
FakeReply all_purged(const FakeRequest& request) {
  if (request.target.ends_with("/purge_all")) return FakeReply::of(200, R"({"status":"ok"})");
  std::string answer = "{";
  std::size_t at = request.body.find('[');
  const std::size_t end = request.body.find(']');
  while (at < end) {
    const std::size_t begin = request.body.find('"', at);
    if (begin == std::string::npos || begin > end) break;
    const std::size_t close = request.body.find('"', begin + 1);
    answer += (answer.size() > 1 ? "," : "") + request.body.substr(begin, close - begin + 1) + ":\"108-1\"";
    at = close + 1;
  }
  return FakeReply::of(200, answer + "}");
}

class HttpSink : public ::testing::Test {
 protected:
  void make(const std::function<void(HttpSinkOptions&)>& change = {}) {
    HttpSinkOptions options;
    options.service = service_defaults(EdgeKind::kFastly);
    options.service.url = Secret(server.url());
    options.service.id = "x1";
    options.service.token = Secret(kToken);
    options.client.timeout = 500ms;
    options.retry_first = 10ms;
    options.backoff_first = 20ms;
    options.backoff_max = 50ms;
    options.throttled_first = 20ms;
    if (change) change(options);
    auto made = std::make_unique<FakeSink>(60s, store_data);
    store = made.get();
    sink = make_http_sink(std::move(options), std::move(made));
    sink->start(read_clocks());
  }
  void make_connected(const std::function<void(HttpSinkOptions&)>& change = {}) {
    make(change);
    until([&] { return journal.connects == 1; });
  }

  void turn() {
    sink->step(read_clocks(), journal);
    Waiting waiting;
    sink->wait_for(waiting);
    waiting.wake_at(read_clocks().steady + 5ms);
    wait_for_any(waiting);
  }
  void until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << journal.last_error.to_string();
      turn();
    }
  }

  OrderBuilder keys(const std::vector<std::string>& texts) {
    OrderBuilder order(Act::kInvalidate, Target::kSurrogates);
    for (const std::string& text : texts) order.key(text, {10});
    return order;
  }
  void submit(Ticket ticket, const OrderBuilder& order) { sink->submit(ticket, order.order()); }
  bool is_done(Ticket ticket) const { return journal.done.contains(ticket); }
  std::vector<FakeRequest> purges() const {  // without the probe
    std::vector<FakeRequest> found;
    for (const FakeRequest& request : server.requests()) {
      if (request.body.find(kProbeKey) == std::string::npos) found.push_back(request);
    }
    return found;
  }
  std::string all_told() const {
    return journal.last_error.to_string() + sink->status().state + sink->status().problem.value_or("");
  }

  HttpFake server{all_purged};
  std::shared_ptr<FakeSink::Data> store_data = std::make_shared<FakeSink::Data>();
  FakeSink* store = nullptr;
  std::unique_ptr<Sink> sink;
  SinkJournal journal;
};

TEST_F(HttpSink, PurgesKeysInBatchesOnConnectionsThatAreKept) {
  make_connected();
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) names.push_back("product-" + std::to_string(i));
  const OrderBuilder order = keys(names);
  submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_EQ(journal.done[1].deleted, 1000u);
  EXPECT_EQ(purges().size(), 4u);  // of 256
  for (const FakeRequest& request : purges()) EXPECT_EQ(request.headers.at("fastly-key"), kToken);
  const int connections = server.connections();
  for (Ticket ticket = 2; ticket < 12; ++ticket) {
    submit(ticket, order);
    until([&] { return is_done(ticket); });
  }
  EXPECT_LE(server.connections(), std::max(connections, 4));
}

// The service's name may stand for another machine by now, while the one we talk to still answers.
TEST_F(HttpSink, AConnectionThatIsKeptBusyIsGivenUpAfterItsTime) {
  HttpClientOptions options;
  options.lifetime_max = std::chrono::seconds(1);
  HttpClient client(options);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (std::uint64_t id = 0; server.connections() < 2; ++id) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << id << " requests, one connection";
    client.begin(id, {"GET", server.url() + "/", {}, ""});
    while (client.step().empty()) {
      Waiting waiting;
      client.wait_for(waiting);
      wait_for_any(waiting);
    }
  }
}

TEST_F(HttpSink, OrdersThatWaitShareAKeyAndARequest) {
  make_connected([](HttpSinkOptions& options) { options.service.rate = {10, 1000ms, 2}; });  // the probe takes one
  const OrderBuilder first = keys({"a"});
  submit(1, first);
  turn();  // under way: what comes now waits for the next token
  const OrderBuilder second = keys({"a", "b"});
  const OrderBuilder third = keys({"b", "c"});
  submit(2, second);
  submit(3, third);
  until([&] { return is_done(1) && is_done(2) && is_done(3); });
  ASSERT_EQ(purges().size(), 2u);
  EXPECT_THAT(purges()[1].body, HasSubstr(R"(["a","b","c"])"));
}

// Thousands of transactions a second must not be as many requests.
TEST_F(HttpSink, WhatComesInQuickSuccessionSharesARequest) {
  make_connected([](HttpSinkOptions& options) { options.service.rate = {100'000, 1000ms, 100'000}; });
  std::vector<OrderBuilder> orders;
  for (int i = 0; i < 200; ++i) orders.push_back(keys({"k" + std::to_string(i)}));
  const auto begin = std::chrono::steady_clock::now();
  for (Ticket ticket = 1; ticket <= 200; ++ticket) {
    until([&] { return sink->has_room(Urgency::kPrompt); });
    submit(ticket, orders[ticket - 1]);
    turn();
  }
  until([&] { return journal.done.size() == 200; });
  const auto intervals = (std::chrono::steady_clock::now() - begin) / 5ms;
  EXPECT_LE(purges().size(), static_cast<std::size_t>(intervals) + 2);
}

TEST_F(HttpSink, A429IsWaitedForAsLongAsItSaysAndIsNoFailure) {
  make_connected();
  std::atomic<int> asked{0};
  server.answer_with([&](const FakeRequest& request) {
    return ++asked == 1 ? FakeReply::of(429, "", "Retry-After: 1\r\n") : all_purged(request);
  });
  const OrderBuilder order = keys({"a"});
  const auto begin = std::chrono::steady_clock::now();
  submit(1, order);
  until([&] { return asked == 1 && sink->status().state.starts_with("throttled"); });
  until([&] { return is_done(1); });
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 1s);
  EXPECT_EQ(journal.disconnects, 0);
  EXPECT_EQ(asked, 2);
}

class PutOffBy : public HttpSink, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Status, PutOffBy, ::testing::Values(429, 503), ::testing::PrintToStringParamName());

// What is owed may stay stale there for as long as the service likes.
TEST_P(PutOffBy, AServiceIsTold) {
  make_connected();
  std::atomic<bool> purges_again{false};
  server.answer_with([&](const FakeRequest& request) {
    return purges_again ? all_purged(request) : FakeReply::of(GetParam(), "", "Retry-After: 7\r\n");
  });
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  until([&] { return sink->status().problem.has_value(); });
  EXPECT_THAT(*sink->status().problem, HasSubstr("answered " + std::to_string(GetParam())));
  EXPECT_THAT(*sink->status().problem, HasSubstr("; it is asked again in "));
  EXPECT_EQ(journal.disconnects, 0);
  purges_again = true;
  until([&] { return is_done(1); });
  EXPECT_FALSE(sink->status().problem.has_value());
}

// It may be silent for as long as `timeout` lets it, three times, and pages are stale meanwhile.
TEST_F(HttpSink, AServiceThatDoesNotAnswerIsToldBeforeItIsGivenUp) {
  make_connected([](HttpSinkOptions& options) { options.client.timeout = std::chrono::minutes(5); });
  server.answer_with([](const FakeRequest&) { return FakeReply{"", false, true}; });
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  until([&] { return sink->status().problem.has_value(); });
  EXPECT_THAT(*sink->status().problem, HasSubstr(" has not answered for "));
  EXPECT_EQ(journal.disconnects, 0);
}

TEST_F(HttpSink, A429WithoutRetryAfterIsBackedOffFrom) {
  make_connected();
  std::atomic<int> asked{0};
  server.answer_with([&](const FakeRequest& request) { return ++asked < 4 ? FakeReply::of(429, "") : all_purged(request); });
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(journal.disconnects, 0);
}

// Its clock is not ours, or it does not know: asked again every 0.1 s, it was asked for as long as it refused.
TEST_F(HttpSink, A429WhoseRetryAfterIsOverIsBackedOffFrom) {
  make_connected([](HttpSinkOptions& options) { options.throttled_first = 200ms; });
  std::atomic<int> asked{0};
  server.answer_with([&](const FakeRequest& request) {
    const int number = ++asked;
    if (number > 3) return all_purged(request);
    return FakeReply::of(429, "", number == 1 ? "Retry-After: 0\r\n" : "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  });
  const OrderBuilder order = keys({"a"});
  const auto begin = std::chrono::steady_clock::now();
  submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 1s) << "200, 400 and 800 ms, but for a quarter";
  EXPECT_EQ(asked, 4);
}

TEST_F(HttpSink, OneBadAnswerIsTriedAgain) {
  make_connected();
  std::atomic<int> asked{0};
  server.answer_with([&](const FakeRequest& request) { return ++asked == 1 ? FakeReply::of(500, "oops") : all_purged(request); });
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_EQ(journal.disconnects, 0);
}

TEST_F(HttpSink, AServiceThatFailsIsToldOnceAndEveryOrderIsLost) {
  make_connected();
  server.answer_with([](const FakeRequest&) { return FakeReply::of(503, "no"); });
  const OrderBuilder first = keys({"a"});
  const OrderBuilder second = keys({"b"});
  submit(1, first);
  submit(2, second);
  until([&] { return journal.disconnects == 1; });
  EXPECT_TRUE(journal.lost.contains(1) && journal.lost.contains(2));
  EXPECT_FALSE(sink->has_room(Urgency::kPrompt));
  EXPECT_THAT(sink->status().problem.value_or(""), HasSubstr("answered 503"));
  const std::size_t asked = server.requests().size();
  until([&] { return server.requests().size() >= asked + 3; });  // still asks, and says nothing new
  EXPECT_EQ(journal.disconnects, 1);
  server.answer_with(all_purged);
  until([&] { return journal.connects == 2; });
  EXPECT_FALSE(sink->status().problem);
  const OrderBuilder again = keys({"a"});
  submit(3, again);
  until([&] { return is_done(3); });
}

TEST_F(HttpSink, AWrongTokenIsNamedAndNeverShown) {
  server.answer_with([](const FakeRequest& request) {
    return FakeReply::of(403, "{\"msg\":\"not this one: " + request.headers.at("fastly-key") + "\"}");
  });
  make();
  until([&] { return journal.disconnects == 1; });
  EXPECT_EQ(journal.last_class, "auth");
  EXPECT_EQ(journal.connects, 0);
  EXPECT_FALSE(journal.failed);  // the process goes on: other caches have nothing to do with it
  EXPECT_THAT(all_told(), HasSubstr("answered 403"));
  EXPECT_THAT(all_told(), HasSubstr("Fastly service"));
  EXPECT_THAT(all_told(), Not(HasSubstr("SECRET")));
}

TEST_F(HttpSink, HalfAnAnswerIsBelievedHalf) {
  make_connected();
  std::atomic<int> asked{0};
  server.answer_with([&](const FakeRequest& request) {
    return ++asked == 1 ? FakeReply::of(200, R"({"a":"1-1"})") : all_purged(request);
  });
  const OrderBuilder order = keys({"a", "b", "c"});
  submit(1, order);
  until([&] { return is_done(1); });
  ASSERT_EQ(purges().size(), 2u);
  EXPECT_THAT(purges()[1].body, HasSubstr(R"(["b","c"])"));
}

TEST_F(HttpSink, AKeyThatIsNeverAnsweredForIsNeverDone) {
  make_connected();
  server.answer_with([](const FakeRequest&) { return FakeReply::of(200, R"({"a":"1-1"})"); });
  const OrderBuilder both = keys({"a", "b"});
  submit(1, both);
  until([&] { return journal.disconnects == 1; });
  EXPECT_FALSE(is_done(1));
  EXPECT_TRUE(journal.lost.contains(1));
}

TEST_F(HttpSink, NoOtherShapeIsDone) {
  for (const FakeReply& lie :
       {FakeReply::of(200, ""), FakeReply::of(200, "<html>"), FakeReply::of(200, "[]"), FakeReply::of(200, "{\"a\":1}"),
        FakeReply::of(204, ""), FakeReply::of(302, "", "Location: /login\r\n"), FakeReply{"HTTP/1.1 200 OK\r\n\r\n{\"a\":", true},
        FakeReply{"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"a\":\"1\"}", true}, FakeReply{"nonsense\r\n\r\n", true},
        FakeReply{"", true}, FakeReply{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\":\"1\"}", false, false, 100ms},
        FakeReply{"", false, true}, FakeReply::of(200, "{\"a\":\"" + std::string(2'000'000, 'x') + "\"}"),
        FakeReply::of(200, "{\"a\":\"1\"}", "X: " + std::string(100'000, 'x') + "\r\n")}) {
    server.answer_with(all_purged);
    journal = SinkJournal();
    make_connected([](HttpSinkOptions& options) { options.client.timeout = 300ms; });
    server.answer_with([&](const FakeRequest&) { return lie; });
    const OrderBuilder order = keys({"a"});
    submit(1, order);
    until([&] { return journal.disconnects == 1; });
    EXPECT_FALSE(is_done(1)) << lie.bytes.substr(0, 60);
    EXPECT_TRUE(journal.lost.contains(1));
    sink.reset();
  }
}

TEST_F(HttpSink, AServerThatIsAwayComesBack) {
  make_connected();
  server.close();
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  until([&] { return journal.disconnects == 1; });
  EXPECT_EQ(journal.last_class, "connection");
  server.reopen();
  until([&] { return journal.connects == 2; });
}

TEST_F(HttpSink, ThePaceIsHeld) {
  make_connected([](HttpSinkOptions& options) {
    options.service.keys_max = 1;
    options.service.rate = {20, 1000ms, 5};
  });
  std::vector<std::string> names;
  for (int i = 0; i < 14; ++i) names.push_back("k" + std::to_string(i));
  const OrderBuilder order = keys(names);
  const auto begin = std::chrono::steady_clock::now();
  submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 450ms);  // 4 are left of the burst, 10 more at 50 ms each
}

// ---- Purges that name no key

TEST_F(HttpSink, AGapPurgesEverythingOnceForAllPatterns) {
  make_connected();
  Pattern products{"product-*"};
  Pattern exact{"all"};
  products.is_surrogate = exact.is_surrogate = true;
  exact.exact = "all";
  const RuleInfo rule;
  const std::vector<PatternRef> refs = {{&rule, &products}, {&rule, &products}, {&rule, &exact}};
  Order order;
  order.target = Target::kPatterns;
  order.patterns = refs;
  order.is_unconditional = true;
  sink->submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_EQ(journal.done[1].by_pattern.size(), 3u);
  int all = 0;
  for (const FakeRequest& request : purges()) all += request.target.ends_with("/purge_all") ? 1 : 0;
  EXPECT_EQ(all, 1);
  EXPECT_EQ(sink->status().edge->purges_of_all, 1u);
}

TEST_F(HttpSink, OnGapMayNameKeysOrNothing) {
  Pattern products{"product-*"};
  products.is_surrogate = true;
  const RuleInfo rule;
  const std::vector<PatternRef> refs = {{&rule, &products}};
  Order order;
  order.target = Target::kPatterns;
  order.patterns = refs;
  order.is_unconditional = true;
  make_connected([](HttpSinkOptions& options) { options.on_gap = {OnGap::What::kKeys, {"the site"}}; });
  sink->submit(1, order);
  until([&] { return is_done(1); });
  ASSERT_EQ(purges().size(), 1u);
  EXPECT_THAT(purges()[0].body, HasSubstr("the%20site"));
  journal = SinkJournal();
  make_connected([](HttpSinkOptions& options) { options.on_gap.what = OnGap::What::kIgnore; });
  sink->submit(1, order);
  until([&] { return is_done(1); });
  EXPECT_EQ(purges().size(), 1u);
  EXPECT_EQ(sink->status().edge->gaps_ignored, 1u);
}

// ---- The record

TEST_F(HttpSink, TheRecordIsKeptInTheStore) {
  make_connected();
  EXPECT_FALSE(journal.last_connected.record);
  Record record;
  record.epoch = "7312/1";
  record.sequence = 5;
  sink->save_record(record);
  until([&] { return !journal.records_saved.empty(); });
  EXPECT_EQ(store_data->record, record);
  sink->load_record(9);
  until([&] { return journal.records_loaded.contains(9); });
  EXPECT_EQ(journal.records_loaded[9], record);
}

TEST_F(HttpSink, WithoutTheStoreItIsNotConnectedAndItsRecordIsReadAnew) {
  make_connected();
  store->cut(0);
  store->server_up = false;
  until([&] { return journal.disconnects == 1; });
  EXPECT_THAT(journal.last_error.text, HasSubstr("its record: "));
  Record record;
  record.sequence = 7;
  store_data->record = record;
  store->server_up = true;
  until([&] { return journal.connects == 2; });
  EXPECT_EQ(journal.last_connected.record, record);
}

TEST_F(HttpSink, AServiceThatComesBackIsToldWithTheRecordAsItIsThen) {
  make_connected();
  server.answer_with([](const FakeRequest&) { return FakeReply::of(500, ""); });
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  until([&] { return journal.disconnects == 1; });
  Record record;
  record.sequence = 8;
  store_data->record = record;
  server.answer_with(all_purged);
  until([&] { return journal.connects == 2; });
  EXPECT_EQ(journal.last_connected.record, record);
}

TEST_F(HttpSink, NothingIsToldAfterAStop) {
  make_connected();
  const OrderBuilder order = keys({"a"});
  submit(1, order);
  sink->stop();
  sink->step(read_clocks(), journal);
  EXPECT_FALSE(journal.lost.contains(1) || journal.done.contains(1));
  EXPECT_FALSE(sink->status().connected);
}

}  // namespace
}  // namespace evictd::testing
