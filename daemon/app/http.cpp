#include "daemon/app/http.h"

#include <fmt/core.h>

#include "daemon/app/status_feed.h"

namespace evictd {
namespace {

constexpr const char* kPlain = "text/plain; charset=utf-8";

HttpResponse livez(const StatusBoard& board, SteadyTime now) {
  if (board.is_alive(now)) return {200, kPlain, "ok\n"};
  const auto silent = std::chrono::duration_cast<std::chrono::seconds>(now - board.last_turn());
  return {503, kPlain, fmt::format("the loop has not turned for {} s\n", silent.count())};
}

HttpResponse readyz(const StatusBoard& board, SteadyTime now) {
  const std::vector<std::string> problems = readiness_problems(board, now);
  if (problems.empty()) return {200, kPlain, "ok\n"};
  std::string body;
  for (const std::string& problem : problems) body += problem + "\n";
  return {503, kPlain, std::move(body)};
}

}  // namespace

HttpResponse respond(std::string_view method, std::string_view path, const StatusBoard& board,
                     const Metrics& metrics, Now now) {
  const bool known = path == "/" || path == "/metrics" || path == "/livez" || path == "/readyz" ||
                     path == "/status" || path == "/events";
  if (!known) {
    return {404, kPlain, "nothing here; there is /, /events, /metrics, /livez, /readyz and /status\n"};
  }
  if (method != "GET" && method != "HEAD") {
    return {405, kPlain, "expected GET or HEAD\n"};
  }
  if (path == "/livez") return livez(board, now.steady);
  if (path == "/readyz") return readyz(board, now.steady);
  if (path == "/status") return {200, "application/json", status_json(board, now)};
  if (path == "/metrics") {
    return {200, "text/plain; version=0.0.4; charset=utf-8", metrics.text(board.read().get(), now, now.steady - board.last_turn())};
  }
  if (path == "/events") return {200, "text/event-stream", StatusViewer().next(make_status_feed(board, now))};
  return status_page(board, now);
}

}  // namespace evictd
