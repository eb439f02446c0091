// The HTTP sink: daemon/interface/sink.h over a service that forgets responses by surrogate key (a CDN, Varnish).
//
// How it is made:
//   surrogate.h    one spelling of a key for each service; pure
//   service.h      requests and answers of each service, limits, Retry-After; pure
//   http_sink      batches, pace, retries, backoff, the record, the SinkHandler's calls
//
//   submit() ─► keys wanted, each once ─► requests of as many as the service takes ─► believed key by key ─► on_done()
//
// An edge remembers nothing of transactions: a replay purges once more, and no value is ever kept for being fresh.
//
// Where it is connected: the store of its record is there, and the service has answered as documented since it last
// failed. The request that failed three times is the probe that finds out (at the start, one of a key that nothing has):
// until it is answered, nothing else is asked and every order is lost. A 429 is no failure: it waits, as long as
// Retry-After says, and stays connected.
//
// A purge of patterns (gaps, TRUNCATE, values that were not sent) knows no keys: `on_gap` says what it is at an edge.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "daemon/interface/sink.h"
#include "daemon/net/http_client.h"
#include "daemon/sinks/http/service.h"

namespace evictd {

struct OnGap {
  enum class What : std::uint8_t { kAll, kKeys, kIgnore } what = What::kAll;
  std::vector<std::string> keys;  // kKeys: as a rule would render them
};

struct HttpSinkOptions {
  ServiceOptions service;
  HttpClientOptions client;
  OnGap on_gap;

  std::chrono::milliseconds retry_first{250};  // after a failure that may pass, doubled
  int tries_max = 3;                           // of one request, before the service counts as failing
  std::chrono::milliseconds backoff_first{500};
  std::chrono::milliseconds backoff_max{30'000};
  std::chrono::milliseconds throttled_first{1'000};  // after a 429 that does not say how long
  std::chrono::milliseconds throttled_max{60'000};

  // Limits (G8).
  std::size_t orders_max = 64;
  std::size_t bulk_max = 4;
  std::size_t keys_max = 16'384;  // wanted and not yet done
  std::size_t requests_max = 4;   // under way
};

// `store`: a sink of which only the record is used, in a cache that this one stands behind: an edge has no place for it.
std::unique_ptr<Sink> make_http_sink(HttpSinkOptions options, std::unique_ptr<Sink> store);

// What nothing is known by at any edge: purged to find out whether it may be.
inline constexpr const char* kProbeKey = "evictd-probe";

}  // namespace evictd
