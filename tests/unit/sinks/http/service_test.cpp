// What is asked of each service, and how far its answers are believed.
#include "daemon/sinks/http/service.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace evictd {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const SystemTime kNow = SystemTime(std::chrono::seconds(784111777));  // Sun, 06 Nov 1994 08:49:37 GMT

ServiceOptions options_of(EdgeKind kind) {
  ServiceOptions options = service_defaults(kind);
  options.id = "x1";
  options.token = Secret("tok-SECRET");
  if (kind == EdgeKind::kVarnish || kind == EdgeKind::kHttp) options.url = Secret("http://edge:6081/");
  if (kind == EdgeKind::kVarnish) options.token = Secret();
  return options;
}

std::string header_of(const HttpCall& call, const std::string& name) {
  for (const auto& [one, value] : call.headers) {
    if (one == name) return value;
  }
  return "(none)";
}

EdgeVerdict judged(const Service& service, long status, const std::string& body, std::vector<std::string> keys = {"a", "b"},
               std::map<std::string, std::string> headers = {}, bool is_all = false) {
  return service.judge({status, std::move(headers), body}, keys, is_all, kNow);
}

TEST(Service, FastlyIsAskedAsDocumented) {
  ServiceOptions options = options_of(EdgeKind::kFastly);
  options.is_soft = true;
  const Service service(options);
  const std::vector<std::string> keys = {"a", "b"};
  const HttpCall call = service.purge(keys);
  EXPECT_EQ(call.method, "POST");
  EXPECT_EQ(call.url, "https://api.fastly.com/service/x1/purge");
  EXPECT_EQ(call.body, R"({"surrogate_keys":["a","b"]})");
  EXPECT_EQ(header_of(call, "Fastly-Key"), "tok-SECRET");
  EXPECT_EQ(header_of(call, "Fastly-Soft-Purge"), "1");
  const HttpCall all = service.purge_all();
  EXPECT_EQ(all.url, "https://api.fastly.com/service/x1/purge_all");
  EXPECT_EQ(header_of(all, "Fastly-Soft-Purge"), "(none)");
}

TEST(Service, CloudflareIsAskedAsDocumented) {
  const Service service(options_of(EdgeKind::kCloudflare));
  const std::vector<std::string> keys = {"a", "b"};
  const HttpCall call = service.purge(keys);
  EXPECT_EQ(call.method, "POST");
  EXPECT_EQ(call.url, "https://api.cloudflare.com/client/v4/zones/x1/purge_cache");
  EXPECT_EQ(call.body, R"({"tags":["a","b"]})");
  EXPECT_EQ(header_of(call, "Authorization"), "Bearer tok-SECRET");
  EXPECT_EQ(service.purge_all().body, R"({"purge_everything":true})");
}

TEST(Service, VarnishGetsKeysOrAPatternOfThem) {
  ServiceOptions options = options_of(EdgeKind::kVarnish);
  const std::vector<std::string> keys = {"a.b", "c$"};
  HttpCall call = Service(options).purge(keys);
  EXPECT_EQ(call.method, "PURGE");
  EXPECT_EQ(header_of(call, "xkey"), "a.b c$");
  EXPECT_EQ(header_of(Service(options).purge_all(), "X-Purge-All"), "1");
  options.is_ban = true;
  call = Service(options).purge(keys);
  EXPECT_EQ(call.method, "BAN");
  EXPECT_EQ(header_of(call, "xkey"), "(^|[[:space:],])(a[.]b|c[$])([[:space:],]|$)");
}

TEST(Service, IsAnotherOneByItsKindIdHostAndPath) {
  ServiceOptions options = options_of(EdgeKind::kVarnish);
  options.url = Secret("http://user:one-SECRET@v:6081/a?token=one");
  const std::uint64_t known = Service(options).identity();
  options.url = Secret("http://user:two-SECRET@v:6081/a?token=two");
  options.token = Secret("another");
  options.is_soft = true;
  EXPECT_EQ(Service(options).identity(), known) << "credentials are exchanged";
  for (const char* url : {"http://v:6082/a", "http://w:6081/a", "http://v:6081/b", "http://v:6081"}) {
    options.url = Secret(url);
    EXPECT_NE(Service(options).identity(), known) << url;
  }
  options = options_of(EdgeKind::kFastly);
  const std::uint64_t fastly = Service(options).identity();
  options.id = "x2";
  EXPECT_NE(Service(options).identity(), fastly);
}

// A ban is as long as its pattern.
TEST(Service, APatternOfKeysFitsTheHeaderAsItIsWritten) {
  ServiceOptions options = options_of(EdgeKind::kVarnish);
  options.is_ban = true;
  options.bytes_max = 12;
  const std::vector<std::string_view> keys = {"a.b", "c.d", "e.f"};
  EXPECT_EQ(keys_of_one_request(keys, options), 2u);
  options.is_ban = false;
  EXPECT_EQ(keys_of_one_request(keys, options), 3u);
}

TEST(Service, TheGenericOneFillsItsTemplates) {
  ServiceOptions options = options_of(EdgeKind::kHttp);
  options.url = Secret("https://h/x?k={keys}");
  options.headers = {{"X-Keys", Secret("{keys}")}, {"Authorization", Secret("Bearer word-SECRET")}};
  options.body = Secret(R"({"t":{keys_json}})");
  options.separator = ",";
  options.purge_all = HttpPurgeAll{Secret("https://h/all"), "DELETE", Secret()};
  const std::vector<std::string> keys = {"a", "b%20c"};
  const HttpCall call = Service(options).purge(keys);
  EXPECT_EQ(call.url, "https://h/x?k=a%2cb%2520c");
  EXPECT_EQ(header_of(call, "X-Keys"), "a,b%20c");
  EXPECT_EQ(call.body, R"({"t":["a","b%20c"]})");
  const HttpCall all = Service(options).purge_all();
  EXPECT_EQ(all.method, "DELETE");
  EXPECT_EQ(header_of(all, "X-Keys"), "(none)");
  EXPECT_EQ(header_of(all, "Authorization"), "Bearer word-SECRET");
}

TEST(Service, FastlyIsBelievedKeyByKey) {
  const Service service(options_of(EdgeKind::kFastly));
  EXPECT_EQ(judged(service, 200, R"({"a":"1-2","b":"3-4"})").kind, EdgeVerdict::Kind::kDone);
  const EdgeVerdict half = judged(service, 200, R"({"b":"3-4"})");
  EXPECT_EQ(half.kind, EdgeVerdict::Kind::kPartly);
  EXPECT_EQ(half.done, (std::vector<bool>{false, true}));
  EXPECT_EQ(judged(service, 200, R"({"a":"","b":null})").kind, EdgeVerdict::Kind::kFailed);
  EXPECT_EQ(judged(service, 200, R"({"status":"ok"})").kind, EdgeVerdict::Kind::kFailed);
  EXPECT_EQ(judged(service, 200, R"({"status":"ok"})", {}, {}, true).kind, EdgeVerdict::Kind::kDone);
  EXPECT_EQ(judged(service, 200, R"({"status":"no"})", {}, {}, true).kind, EdgeVerdict::Kind::kFailed);
}

TEST(Service, CloudflareIsBelievedWhenItSaysSuccessAndNoErrors) {
  const Service service(options_of(EdgeKind::kCloudflare));
  EXPECT_EQ(judged(service, 200, R"({"success":true,"errors":[],"result":{"id":"x"}})").kind, EdgeVerdict::Kind::kDone);
  EXPECT_EQ(judged(service, 200, R"({"success":false,"errors":[{"message":"no"}]})").kind, EdgeVerdict::Kind::kFailed);
  EXPECT_EQ(judged(service, 200, R"({"success":true,"errors":[{"message":"no"}]})").kind, EdgeVerdict::Kind::kFailed);
  EXPECT_EQ(judged(service, 200, R"({"success":"true"})").kind, EdgeVerdict::Kind::kFailed);
}

// A VCL that knows nothing of PURGE hands it to the application, which answers 200 as well.
TEST(Service, VarnishIsBelievedWhenItCounts) {
  const Service service(options_of(EdgeKind::kVarnish));
  EXPECT_EQ(judged(service, 200, "", {"a"}, {{"x-purged", "0"}}).kind, EdgeVerdict::Kind::kDone);
  EXPECT_EQ(judged(service, 200, "", {"a"}, {{"x-purged", "many"}}).kind, EdgeVerdict::Kind::kFailed);
  const EdgeVerdict none = judged(service, 200, "<html>", {"a"});
  EXPECT_EQ(none.kind, EdgeVerdict::Kind::kFailed);
  EXPECT_THAT(none.problem, HasSubstr("X-Purged"));
}

// A wrong shape is never "done", whatever the status says.
TEST(Service, NoAnswerOfAnotherShapeIsBelieved) {
  for (const EdgeKind kind : {EdgeKind::kFastly, EdgeKind::kCloudflare}) {
    const Service service(options_of(kind));
    for (const char* body : {"", "ok", "[]", "null", "{", "<html>please sign in</html>", "{\"a\":\"1\"", "\"a\"", "{}", "true"}) {
      EXPECT_EQ(judged(service, 200, body).kind, EdgeVerdict::Kind::kFailed) << body;
      EXPECT_EQ(judged(service, 200, body, {}, {}, true).kind, EdgeVerdict::Kind::kFailed) << body;
    }
    for (const long status : {100, 204, 301, 302, 400, 404, 500, 503}) {
      EXPECT_EQ(judged(service, status, R"({"a":"1","b":"2","success":true})").kind, EdgeVerdict::Kind::kFailed) << status;
    }
    EXPECT_EQ(judged(service, 401, "").kind, EdgeVerdict::Kind::kRefused);
    EXPECT_EQ(judged(service, 403, "").kind, EdgeVerdict::Kind::kRefused);
    EXPECT_EQ(judged(service, 429, "").kind, EdgeVerdict::Kind::kThrottled);
  }
}

TEST(Service, TheGenericOneMayAskForAText) {
  ServiceOptions options = options_of(EdgeKind::kHttp);
  EXPECT_EQ(judged(Service(options), 204, "").kind, EdgeVerdict::Kind::kDone);
  options.expect = "purged";
  EXPECT_EQ(judged(Service(options), 200, "all purged").kind, EdgeVerdict::Kind::kDone);
  EXPECT_EQ(judged(Service(options), 200, "welcome").kind, EdgeVerdict::Kind::kFailed);
}

// An answer that repeats the question tells the token to the log.
TEST(Service, WhatItSaidIsShownWithoutSecrets) {
  const Service service(options_of(EdgeKind::kFastly));
  const EdgeVerdict verdict = judged(service, 403, "no: Fastly-Key: tok-SECRET\r\n\x01 may not");
  EXPECT_THAT(verdict.problem, AllOf(HasSubstr("answered 403"), HasSubstr("may not"), Not(HasSubstr("tok-SECRET"))));
  ServiceOptions options = options_of(EdgeKind::kHttp);
  options.url = Secret("http://u:pw-SECRET@h/?k=q-SECRET");
  options.headers = {{"Authorization", Secret("Bearer word-SECRET")}};
  const Service generic(options);
  EXPECT_EQ(generic.address(), "HTTP h");
  EXPECT_THAT(judged(generic, 500, "http://u:pw-SECRET@h/?k=q-SECRET word-SECRET").problem, Not(HasSubstr("SECRET")));
  EXPECT_LT(judged(generic, 500, std::string(100000, 'x')).problem.size(), 400u);
}

TEST(RetryAfter, IsSecondsOrADate) {
  EXPECT_EQ(parse_retry_after("0", kNow), 0ms);
  EXPECT_EQ(parse_retry_after(" 120 ", kNow), 120s);
  EXPECT_EQ(parse_retry_after("999999999999999999", kNow), kRetryAfterMax);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:50:07 GMT", kNow), 30s);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:07 GMT", kNow), 0ms);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 2044 08:49:37 GMT", kNow), kRetryAfterMax);
  EXPECT_EQ(parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", kNow), kRetryAfterMax) << "never";
  EXPECT_EQ(parse_retry_after("Fri, 15 Jan 1013 08:01:00 GMT", kNow), 0ms);
  for (const char* text : {"", "-1", "1.5", "soon", "Sun, 06 Nox 1994 08:50:07 GMT", "Sun, 06 Nov 1994 08:50:07 UTC", "9999999999999999999"}) {
    EXPECT_FALSE(parse_retry_after(text, kNow)) << text;
  }
}

TEST(Batches, HoldTheLimitsOfKeysAndBytes) {
  ServiceOptions options = service_defaults(EdgeKind::kCloudflare);
  const std::vector<std::string_view> many(250, "key");
  EXPECT_EQ(keys_of_one_request(many, options), 100u);
  options.bytes_max = 9;  // "key key"
  EXPECT_EQ(keys_of_one_request(many, options), 2u);
  options.bytes_max = 1;  // one key always leaves
  EXPECT_EQ(keys_of_one_request(many, options), 1u);
  EXPECT_EQ(service_defaults(EdgeKind::kFastly).keys_max, 256u);
  EXPECT_LT(service_defaults(EdgeKind::kVarnish).bytes_max, 8192u);
}

TEST(TokenBucket, LetsABurstThroughAndThenThePace) {
  TokenBucket bucket({5, 1000ms, 3});
  const SteadyTime start{};
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(bucket.next(start), start);
    bucket.take(start);
  }
  EXPECT_EQ(bucket.next(start), start + 200ms);
  EXPECT_EQ(bucket.next(start + 200ms), start + 200ms);
  bucket.take(start + 200ms);
  EXPECT_GT(bucket.next(start + 300ms), start + 300ms);
  EXPECT_EQ(bucket.next(start + 1h), start + 1h);  // never more than the burst is saved up
  for (int i = 0; i < 3; ++i) bucket.take(start + 1h);
  EXPECT_GT(bucket.next(start + 1h), start + 1h);
  TokenBucket endless({0, 1000ms, 1});
  EXPECT_EQ(endless.next(start), start);
}

// libcurl opens it by its name, and would wait there for whoever writes: with it the loop.
TEST(Edge, APipeInPlaceOfItsAuthoritiesKeepsNobodyWaiting) {
  std::string folder = (std::filesystem::temp_directory_path() / "evictd-pipe-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string pipe = folder + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);
  HttpClientOptions options;
  options.ca_file = pipe;
  const HttpClient::Finished finished = ask_http({"GET", "https://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/", {}, ""}, options);
  EXPECT_FALSE(finished.answer.has_value());
  EXPECT_EQ(finished.error_class, "tls");
  EXPECT_THAT(finished.problem, HasSubstr("ca '" + pipe + "': expected a file, got a pipe, device or socket"));
  ::close(listener);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace evictd
