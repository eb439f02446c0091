// The status page: for the person who opens the port in a browser. One look says whether the cache
// can be trusted; the rest is detail, in the order in which one asks. No script, no asset, no
// colour alone.
#include <fmt/core.h>

#include "daemon/app/http.h"

namespace evictd {
namespace {

constexpr const char* kHead = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="2">
<title>evictd: {title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --soft: #8888; --good: #2e7d4f; --bad: #b3541e; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .25rem; }}
h2 {{ font-size: 1rem; margin: 2rem 0 .25rem; }}
.verdict {{ border-left: .4rem solid var(--good); padding: .5rem 1rem; margin: 1rem 0; }}
.verdict.not {{ border-color: var(--bad); }}
.verdict ul {{ margin: .25rem 0 0; padding-left: 1.2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }}
th {{ font-weight: normal; opacity: .7; width: 13rem; }}
thead th {{ width: auto; }}
footer {{ margin-top: 2rem; opacity: .7; font-size: .9rem; }}
</style>
</head>
<body>
)";

void row(std::string& out, std::string_view name, std::string_view value) {
  out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", html_escaped(name),
                     html_escaped(value));
}

std::string age(std::chrono::nanoseconds duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  if (seconds < 172800) return fmt::format("{:.0f} h", seconds / 3600);
  return fmt::format("{:.0f} days", seconds / 86400);
}

std::string size(std::uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes < 1024) return fmt::format("{} B", bytes);
  if (bytes < 1024 * 1024) return fmt::format("{:.1f} KiB", value / 1024);
  if (bytes < 1024ULL * 1024 * 1024) return fmt::format("{:.1f} MiB", value / 1024 / 1024);
  return fmt::format("{:.1f} GiB", value / 1024 / 1024 / 1024);
}

void verdict(std::string& out, const std::vector<std::string>& problems) {
  if (problems.empty()) {
    out +=
        "<div class=\"verdict\" role=\"status\"><strong>Ready.</strong> "
        "The cache follows the database.</div>\n";
    return;
  }
  out += "<div class=\"verdict not\" role=\"status\"><strong>Not ready.</strong><ul>\n";
  for (const std::string& problem : problems) {
    out += fmt::format("<li>{}</li>\n", html_escaped(problem));
  }
  out += "</ul></div>\n";
}

void caches(std::string& out, const Status& status, Now now) {
  for (std::size_t index = 0; index < status.flow.lanes.size(); ++index) {
    const LaneStatus& lane = status.flow.lanes[index];
    out += fmt::format("<h2>Cache {}</h2>\n<table>\n", html_escaped(lane.name));
    if (index < status.sinks.size()) {
      const StatusSink& cache = status.sinks[index];
      row(out, "At", cache.address);
      row(out, "State", lane.is_parked ? "parked" : lane.is_behind ? "behind" : cache.sink.state);
      if (cache.sink.evicted_keys) row(out, "Keys evicted for memory", std::to_string(*cache.sink.evicted_keys));
    }
    row(out, "Lag", lane.lag ? age(*lane.lag) : "not known: another process follows the source");
    row(out, "Last change applied",
        lane.last_applied_commit
            ? age(std::max(now.system - *lane.last_applied_commit, SystemTime::duration(0))) + " ago (" +
                  time_text(*lane.last_applied_commit) + ")"
            : "none since the start");
    row(out, "Transactions in hand", fmt::format("{} ({})", lane.held_transactions, size(lane.held_bytes)));
    out += "</table>\n";
  }
}

void source(std::string& out, const Status& status, Now now) {
  out += "<h2>Source</h2>\n<table>\n";
  row(out, "From", status.identity->source);
  row(out, "State", status.source.state);
  row(out, "Heartbeat came back",
      status.flow.last_heartbeat ? age(now.steady - *status.flow.last_heartbeat) + " ago" : "not yet");
  if (status.source.lag_bytes) row(out, "Behind the server", size(*status.source.lag_bytes));
  if (status.source.slot_retained_bytes) {
    row(out, "WAL kept for the slot", size(*status.source.slot_retained_bytes));
  }
  if (status.source.slot_safe_wal_bytes && *status.source.slot_safe_wal_bytes >= 0) {
    row(out, "WAL until the slot is lost",
        size(static_cast<std::uint64_t>(*status.source.slot_safe_wal_bytes)));
  }
  out += "</table>\n";
}

void rules(std::string& out, const Status& status) {
  out += "<h2>Rules</h2>\n";
  if (!status.reload_problem.empty()) {
    out += fmt::format("<p>The last reload failed; the rules before it hold: {}</p>\n",
                       html_escaped(status.reload_problem));
  }
  out += "<table>\n<thead><tr><th>Rule</th><th>Table</th><th>Where it stands</th></tr></thead>\n";
  for (const StatusRule& rule : *status.rules) {
    out += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n", html_escaped(rule.name),
                       html_escaped(rule.table), html_escaped(rule.place));
  }
  out += "</table>\n";
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string status_page(const StatusBoard& board, Now now) {
  const std::shared_ptr<const Status> status = board.read();
  const std::vector<std::string> problems = readiness_problems(board, now.steady);
  std::string out = fmt::format(kHead, fmt::arg("title", problems.empty() ? "ready" : "not ready"));
  out += "<h1>evictd</h1>\n";
  verdict(out, problems);
  if (status) {
    caches(out, *status, now);
    source(out, *status, now);
    rules(out, *status);
    out += fmt::format(
        "<footer>evictd {}, started {}. <a href=\"/metrics\">metrics</a>, "
        "<a href=\"/status\">status as JSON</a></footer>\n",
        html_escaped(status->identity->version), time_text(status->identity->started));
  }
  out += "</body>\n</html>\n";
  return out;
}

}  // namespace evictd
