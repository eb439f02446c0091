// The services that hold responses and forget them by surrogate key: what is asked of each, and how far its answer is
// believed. Pure: texts in, texts out; net/http_client.h carries them, http_sink.h decides when.
//
//   fastly      POST /service/<id>/purge         {"surrogate_keys": [...]}     answers {"<key>": "<id of the purge>", ...}
//   cloudflare  POST /client/v4/zones/<id>/purge_cache   {"tags": [...]}       answers {"success": true, "errors": []}
//   varnish     PURGE <url> with the keys in a header, or BAN with a pattern   answers 200 and X-Purged: <number>
//   http        whatever the configuration says                                answers 2xx, and a text if one is asked for
//
// An answer of any other shape is a failure, whatever its status: a proxy, a login page or a VCL that knows nothing of
// PURGE answers 200 as well.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/secret.h"
#include "daemon/net/http_client.h"
#include "daemon/sinks/http/surrogate.h"

namespace evictd {

// Requests a second and the most at once (a token bucket); 0: no limit.
struct EdgeRate {
  std::uint64_t requests = 0;
  std::chrono::milliseconds per{1000};
  std::uint64_t burst = 1;
};

// What is needed to purge everything with the adapter 'http'.
struct HttpPurgeAll {
  Secret url;
  std::string method = "POST";
  Secret body;
};

struct ServiceOptions {
  EdgeKind kind = EdgeKind::kFastly;
  // fastly, cloudflare: where the API is, without a path. varnish, http: the whole url.
  Secret url;
  std::string id;  // Fastly's service, Cloudflare's zone
  Secret token;
  bool is_soft = false;  // what is purged may still be served while it is fetched anew (fastly, varnish)
  // varnish, http
  std::string method = "PURGE";
  std::string header = "xkey";  // varnish: which carries the keys
  bool is_ban = false;          // varnish: the header carries a pattern of keys
  // http: {keys} and {keys_json} in url, header values and body are replaced.
  std::vector<std::pair<std::string, Secret>> headers = {};
  Secret body = {};
  std::string separator = " ";
  std::string expect = {};  // must be found in the answer's body
  std::optional<HttpPurgeAll> purge_all = {};

  std::size_t keys_max = 256;      // of one request
  std::size_t bytes_max = 65536;   // of its keys
  EdgeRate rate;
};

// The documented limits of each: keys and bytes of one request, rate, method.
ServiceOptions service_defaults(EdgeKind kind);

// May hold credentials: never shown.
struct EdgeVerdict {
  enum class Kind : std::uint8_t {
    kDone,
    kPartly,     // `done` says which keys
    kThrottled,  // 429: later
    kRefused,    // the credential: a person must act
    kFailed,
  } kind = Kind::kFailed;
  std::vector<bool> done = {};             // kPartly: by key
  std::string problem = {};                // one line without secrets; empty for kDone
  std::string_view error_class = "other";  // label of evictd_redis_errors_total
  std::optional<std::chrono::milliseconds> retry_after = {};
};

class Service {
 public:
  explicit Service(ServiceOptions options) : options_(std::move(options)) {}

  const ServiceOptions& options() const { return options_; }
  // For people: "Fastly service x1", "Varnish edge:6081". No secrets.
  std::string address() const;
  // Of the service that is asked, as far as it names pages: its kind, id, host and path; no credentials, no pace. Never 0.
  std::uint64_t identity() const;
  // Soft purges of everything exist nowhere.
  bool can_purge_all() const { return options_.kind != EdgeKind::kHttp || options_.purge_all.has_value(); }
  // Can be asked with a key that nothing has, before anything depends on it.
  bool can_be_probed() const { return options_.kind != EdgeKind::kHttp; }

  // `keys`: spelled, at least one, distinct.
  HttpCall purge(std::span<const std::string> keys) const;
  // REQUIRES: can_purge_all().
  HttpCall purge_all() const;

  EdgeVerdict judge(const HttpAnswer& answer, std::span<const std::string> keys, bool is_all, SystemTime now) const;

  // The same text with every credential taken out.
  std::string without_secrets(std::string text) const;

 private:
  void judge_fastly(const HttpAnswer& answer, std::span<const std::string> keys, bool is_all, EdgeVerdict& verdict) const;
  void judge_cloudflare(const HttpAnswer& answer, EdgeVerdict& verdict) const;
  std::string excerpt(const HttpAnswer& answer) const;

  ServiceOptions options_;
};

// "120", or a date as HTTP writes it; nothing when it is neither. Never more than kRetryAfterMax.
inline constexpr std::chrono::milliseconds kRetryAfterMax{3'600'000};
std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text, SystemTime now);

// Keys from the front of `keys` that one request may carry: at least one.
std::size_t keys_of_one_request(std::span<const std::string_view> keys, const ServiceOptions& options);

// A token bucket: `burst` at once, then one each per/requests.
class TokenBucket {
 public:
  explicit TokenBucket(const EdgeRate& rate) : rate_(rate), tokens_(static_cast<double>(rate.burst)) {}
  // When a request may leave.
  SteadyTime next(SteadyTime now);
  // REQUIRES: next(now) <= now.
  void take(SteadyTime now);

 private:
  void fill(SteadyTime now);
  EdgeRate rate_;
  double tokens_;
  std::optional<SteadyTime> filled_at_;
};

}  // namespace evictd
