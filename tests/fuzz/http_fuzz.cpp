// What strangers say over HTTP: the first byte chooses between a request to our port and an answer of a service that is
// asked to purge. A request that is read must not change when more follows it; an answer must never count as done where it
// says otherwise, and nothing said about it may show a credential.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/app/http_request.h"
#include "daemon/sinks/http/service.h"
#include "daemon/sinks/http/surrogate.h"

namespace {

using namespace evictd;

void require(bool holds) {
  if (!holds) std::abort();
}

void request(std::string_view bytes) {
  HttpRequest whole;
  const HttpRead read = read_request(bytes, whole);
  if (read == HttpRead::kIncomplete) require(bytes.size() <= kRequestBytesMax);
  if (read != HttpRead::kComplete) return;
  require(whole.path.starts_with('/') && whole.path.find_first_of("? ") == std::string::npos && !whole.method.empty());
  is_own_host(whole.host, "cache.example", "db1");
  HttpRequest more;
  require(read_request(std::string(bytes) + "GET /", more) == HttpRead::kComplete);
  require(more.path == whole.path && more.query == whole.query && more.host == whole.host && more.method == whole.method);
  HttpRequest less;
  require(read_request(bytes.substr(0, bytes.find("\r\n\r\n") + 3), less) == HttpRead::kIncomplete);
}

// Two digits of a status, a line that is Retry-After, and the body.
void answer(EdgeKind kind, std::string_view bytes) {
  if (bytes.size() < 2) return;
  HttpAnswer answer;
  answer.status = 100 + (static_cast<unsigned char>(bytes[0]) * 2 + static_cast<unsigned char>(bytes[1]) % 2) % 500;
  bytes.remove_prefix(2);
  const std::size_t line = std::min(bytes.find('\n'), bytes.size());
  const std::string_view retry_after = bytes.substr(0, line);
  answer.headers["retry-after"] = std::string(retry_after);
  answer.headers["x-purged"] = std::string(retry_after);
  answer.body = bytes.substr(std::min(line + 1, bytes.size()));
  const SystemTime now{std::chrono::seconds(1'800'000'000)};
  if (const auto wait = parse_retry_after(retry_after, now)) require(wait->count() >= 0 && *wait <= kRetryAfterMax);
  ServiceOptions options = service_defaults(kind);
  options.token = Secret("correct-horse");
  options.id = "x1";
  options.url = Secret("http://edge.example/");
  options.expect = kind == EdgeKind::kHttp ? "purged" : "";
  const Service service(options);
  const std::vector<std::string> keys = {"item-1", "item-2"};
  for (const bool is_all : {false, true}) {
    const EdgeVerdict verdict = service.judge(answer, keys, is_all, now);
    require(verdict.problem.find('\n') == std::string::npos && verdict.problem.find("correct-horse") == std::string::npos);
    if (verdict.kind == EdgeVerdict::Kind::kDone) {
      require(answer.status / 100 == 2);
    } else {
      require(!verdict.problem.empty());
    }
    if (verdict.kind == EdgeVerdict::Kind::kPartly) require(verdict.done.size() == keys.size());
    if (answer.status == 429) require(verdict.kind == EdgeVerdict::Kind::kThrottled);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 1: answer(EdgeKind::kFastly, bytes); break;
    case 2: answer(EdgeKind::kCloudflare, bytes); break;
    case 3: answer(EdgeKind::kVarnish, bytes); break;
    case 4: answer(EdgeKind::kHttp, bytes); break;
    default: request(bytes);
  }
  return 0;
}
