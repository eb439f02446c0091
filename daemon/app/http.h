// The pages evictd serves: /metrics, /livez, /readyz, /status and a status page at /. Pure: a
// request and what the loop last published in, a response out. http_server.h puts it on a socket.
#pragma once

#include <string>
#include <string_view>

#include "daemon/base/clock.h"
#include "daemon/app/metrics.h"
#include "daemon/app/status.h"

namespace evictd {

struct HttpResponse {
  int status = 200;
  std::string content_type;
  std::string body;
};

HttpResponse respond(std::string_view method, std::string_view path, const StatusBoard& board,
                     const Metrics& metrics, Now now);

// The page at /. Self-contained; everything that came from elsewhere is escaped.
std::string status_page(const StatusBoard& board, Now now);

// Text as it may stand in HTML, in an element or in a quoted attribute.
std::string html_escaped(std::string_view text);

}  // namespace evictd
