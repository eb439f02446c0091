// The head of an HTTP request, read from what has come in so far. Pure. Only what the pages need is
// understood: a method, a path, the host that was asked for. A body is not read.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace evictd {

// A longer head is refused: the pages need a few hundred bytes.
inline constexpr std::size_t kRequestBytesMax = 8 * 1024;

struct HttpRequest {
  std::string method;
  std::string path;   // without the query
  std::string query;  // what follows the first '?', as it was sent
  std::string host;  // without the port and brackets; empty: not said
};

enum class HttpRead { kIncomplete, kComplete, kBad, kTooLong };

// Fills `request` when the result is kComplete.
HttpRead read_request(std::string_view bytes, HttpRequest& request);

// Whether a request for `host` may be answered on a port that only this machine can reach. A browser that was led here
// by another site's name (DNS rebinding) says that name: it is refused. Addresses, 'localhost', `configured` and
// `machine` (this machine's own name) are not names that another site can have.
bool is_own_host(std::string_view host, std::string_view configured, std::string_view machine);

}  // namespace evictd
