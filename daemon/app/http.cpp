#include "daemon/app/http.h"

#include <fmt/core.h>

#include <algorithm>

#include "daemon/app/key_trace.h"
#include "daemon/app/status_feed.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/text.h"

namespace evictd {
namespace {

constexpr const char* kPlain = "text/plain; charset=utf-8";

HttpResponse livez(const StatusBoard& board, SteadyTime now) {
  if (board.is_alive(now)) return {200, kPlain, "ok\n"};
  const auto silent = std::chrono::duration_cast<std::chrono::seconds>(now - board.last_turn());
  return {503, kPlain, fmt::format("the loop has not turned for {} s\n", silent.count())};
}

// One of the parts that '&' separates.
bool asks_for(std::string_view query, std::string_view wanted) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    if (query.substr(0, end) == wanted) return true;
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return false;
}

HttpResponse readyz(const StatusBoard& board, std::string_view query, SteadyTime now) {
  const Verdict judged = verdict(board, now);
  if (judged.state == Verdict::State::kReady) return {200, kPlain, "ok\n"};
  if (judged.state == Verdict::State::kStandby && asks_for(query, "standby=ok")) return {200, kPlain, "standby\n"};
  std::string body;
  for (const std::string& problem : judged.reasons) body += plain_line(problem) + "\n";
  return {503, kPlain, std::move(body)};
}

// The last decisions about the key `name`.
HttpResponse key_page(const StatusBoard& board, std::string_view query) {
  if (board.keys() == nullptr) {
    return {404, kPlain, "keys are not shown here: they may hold what rows hold; 'http: {show_keys: true}' in the configuration shows them\n"};
  }
  std::string key;
  if (!query.starts_with("name=") || !decode_percent(query.substr(5), key) || key.empty()) {
    return {400, kPlain, "expected /key?name=<the key, percent-encoded>\n"};
  }
  return {200, "application/json", board.keys()->json(key)};
}

}  // namespace

HttpResponse respond(const HttpRequest& request, const StatusBoard& board, const Metrics& metrics, Now now) {
  const std::string_view path = request.path;
  const bool known = path == "/" || path == "/metrics" || path == "/livez" || path == "/readyz" ||
                     path == "/status" || path == "/events" || path == "/key";
  if (!known) {
    return {404, kPlain, "nothing here; there is /, /events, /metrics, /livez, /readyz and /status\n"};
  }
  if (request.method != "GET" && request.method != "HEAD") {
    return {405, kPlain, "expected GET or HEAD\n"};
  }
  if (path == "/key") return key_page(board, request.query);
  if (path == "/livez") return livez(board, now.steady);
  if (path == "/readyz") return readyz(board, request.query, now.steady);
  if (path == "/status") return {200, "application/json", status_json(board, now)};
  if (path == "/metrics") {
    return {200, "text/plain; version=0.0.4; charset=utf-8", metrics.text(board.read().get(), now, now.steady - board.last_turn())};
  }
  if (path == "/events") return {200, "text/event-stream", StatusViewer().next(make_status_feed(board, now))};
  return status_page(board, now);
}

}  // namespace evictd
