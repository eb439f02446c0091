// The pages evictd serves: /metrics, /livez, /readyz, /status, a status page at / and what feeds it, /events; /key?name=...
// where keys are shown. Pure
// but for the page's nonce: a request and what the loop last published in, a response out. http_server.h puts it on a
// socket, and goes on with /events.
#pragma once

#include <string>
#include <string_view>

#include "daemon/app/http_request.h"
#include "daemon/base/clock.h"
#include "daemon/app/metrics.h"
#include "daemon/app/status.h"

namespace evictd {

struct HttpResponse {
  int status = 200;
  std::string content_type;
  std::string body;
  std::string security_policy = "default-src 'none'; style-src 'unsafe-inline'";
};

// `/readyz?standby=ok` is 200 for a process that stands by and has no other fault: what a supervisor of several replicas
// asks. Whatever else a query says is ignored.
HttpResponse respond(const HttpRequest& request, const StatusBoard& board, const Metrics& metrics, Now now);

// The page at /. One file; everything that came from elsewhere is escaped.
HttpResponse status_page(const StatusBoard& board, Now now);

// Text as it may stand in HTML, in an element or in a quoted attribute.
std::string html_escaped(std::string_view text);

}  // namespace evictd
