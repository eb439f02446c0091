// The status page: for the person who opens the port in a browser. One look says whether the cache can be trusted; the rest
// is detail, in the order in which one asks. What is here tells the state, also to a browser without script; page.js makes
// the rest live. No asset from elsewhere, no colour alone.
#include <fmt/core.h>

#include <random>

#include "daemon/app/http.h"
#include "daemon/app/page/page_texts.h"

namespace evictd {
namespace {

constexpr std::string_view kBody = R"(
<section id="live" hidden>
<h2>The last 15 minutes</h2>
<div id="charts"></div>
<h2 id="h-caches">Caches</h2>
<div class="wide" role="region" tabindex="0" aria-labelledby="h-caches"><table>
<thead><tr><th scope="col">Cache</th><th scope="col">At</th><th scope="col">State</th><th scope="col" class="n">Lag</th><th scope="col">Last change applied</th><th scope="col" class="n">Transactions in hand</th></tr></thead>
<tbody id="caches"></tbody></table></div>
<h2 id="h-rules">Rules</h2>
<p class="soft" id="reload"></p>
<div class="wide tall" role="region" tabindex="0" aria-labelledby="h-rules"><table>
<thead><tr><th scope="col">Rule</th><th scope="col">Table</th><th scope="col" class="n">Changes</th><th scope="col" class="n">Keys looked at</th><th scope="col" class="n">Deleted</th><th scope="col">What became of them</th><th scope="col" class="n">Purged</th><th scope="col">Last hit</th><th scope="col">Note</th></tr></thead>
<tbody id="rules"></tbody></table></div>
<p class="soft" id="rules-more"></p>
<h2 id="h-events">Purges, repairs, gaps</h2>
<div class="wide tall" role="region" tabindex="0" aria-labelledby="h-events"><table>
<thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">Cache</th><th scope="col">Rule</th><th scope="col" class="n">Count</th><th scope="col" class="n">Took</th></tr></thead>
<tbody id="events"></tbody></table></div>
<div id="audit" hidden>
<h2 id="h-audit">Audit</h2>
<p id="audit-says"></p>
<p class="soft" id="audit-counts"></p>
<ul class="soft" id="audit-notes"></ul>
<div class="wide tall" role="region" tabindex="0" aria-labelledby="h-audit"><table>
<thead><tr><th scope="col">Stale key</th><th scope="col">When</th><th scope="col">Cache</th><th scope="col">Rule</th><th scope="col" class="n">Stale for</th><th scope="col">Why</th><th scope="col">What its marker says</th></tr></thead>
<tbody id="audit-stale"></tbody></table></div>
</div>
<div id="keys" hidden>
<h2 id="h-keys">What became of a key</h2>
<form id="key-form"><label for="key">Key</label> <input id="key" name="name" maxlength="1024" autocomplete="off" spellcheck="false"> <button>Show</button></form>
<p class="soft" id="key-says" role="status"></p>
<div class="wide tall" role="region" tabindex="0" aria-labelledby="h-keys"><table>
<thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">Cache</th><th scope="col">Rule</th><th scope="col">Transactions</th><th scope="col">Outcome</th></tr></thead>
<tbody id="key-decisions"></tbody></table></div>
</div>
<h2 id="h-source">Source</h2>
<div class="wide" role="region" tabindex="0" aria-labelledby="h-source"><table><tbody id="source"></tbody></table></div>
</section>
<noscript><p class="soft">Charts and details need JavaScript; this page tells the state anew every 5 seconds without.</p></noscript>
)";

// For the Content-Security-Policy: the script that carries it runs, and no other.
std::string make_nonce() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}", random(), random(), random());
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

HttpResponse status_page(const StatusBoard& board, Now now) {
  const std::shared_ptr<const Status> status = board.read();
  const Verdict judged = verdict(board, now.steady);
  const std::string nonce = make_nonce();
  std::string out = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n<link rel=\"icon\" href=\"data:,\">\n";
  out += fmt::format("<title>evictd: {}</title>\n<style>\n{}</style>\n</head>\n<body>\n", state_name(judged.state), kPageStyle);
  out += fmt::format("<header><h1>evictd</h1><p id=\"about\">{}</p></header>\n",
                     status ? "evictd " + html_escaped(status->identity->version) + ", " + html_escaped(status->identity->source) : "");
  out += fmt::format("<main>\n<div id=\"verdict\" class=\"{}\" role=\"status\"><p id=\"line\">{}</p><ul id=\"reasons\">",
                     state_name(judged.state), html_escaped(judged.line));
  if (judged.reasons.size() > 1) {
    for (const std::string& reason : judged.reasons) out += fmt::format("<li>{}</li>", html_escaped(reason));
  }
  out += "</ul></div>";
  out += kBody;
  out += "</main>\n<footer><a href=\"metrics\">metrics</a>, <a href=\"status\">status as JSON</a></footer>\n";
  out += fmt::format("<script nonce=\"{}\">\n{}</script>\n</body>\n</html>\n", nonce, kPageScript);
  HttpResponse response{200, "text/html; charset=utf-8", std::move(out)};
  response.security_policy = fmt::format(
      "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{}'; connect-src 'self'; img-src data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'", nonce);
  return response;
}

}  // namespace evictd
