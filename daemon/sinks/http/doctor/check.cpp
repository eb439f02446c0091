#include "daemon/sinks/http/doctor/check.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "daemon/base/poll.h"

namespace evictd {
namespace {

HttpClient::Finished ask(const HttpClientOptions& options, const HttpCall& call) {
  HttpClient client(options);
  client.begin(1, call);
  while (true) {
    for (HttpClient::Finished& finished : client.step()) return std::move(finished);
    Waiting waiting;
    waiting.wake_at(read_clocks().steady + std::chrono::seconds(1));
    client.wait_for(waiting);
    wait_for_any(waiting);
  }
}

// What tells of the credential without purging anything.
HttpCall question(const Service& service) {
  const ServiceOptions& options = service.options();
  HttpCall call;
  call.method = "GET";
  if (options.kind == EdgeKind::kFastly) {
    call.url = options.url.reveal() + "/tokens/self";
    call.headers = {{"Fastly-Key", options.token.reveal()}, {"Accept", "application/json"}};
  } else {
    call.url = options.url.reveal() + "/client/v4/user/tokens/verify";
    call.headers = {{"Authorization", "Bearer " + options.token.reveal()}};
  }
  return call;
}

// Fastly's scopes: "global", or a list in which "purge_select" (and "purge_all") stand.
bool has_scope(std::string_view scopes, std::string_view wanted) {
  std::size_t begin = 0;
  while (begin <= scopes.size()) {
    const std::size_t end = std::min(scopes.find(' ', begin), scopes.size());
    const std::string_view one = scopes.substr(begin, end - begin);
    if (one == wanted || one == "global") return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

Findings check_http(const HttpSinkOptions& options, const std::string& object) {
  Findings findings;
  const Service service(options.service);
  const auto add = [&](std::string id, Severity severity, std::string cause, std::string fix, bool is_unreachable = false) {
    findings.push_back({std::move(id), severity, object, std::move(cause), std::move(fix), is_unreachable});
  };
  if (options.service.kind == EdgeKind::kHttp) {
    add("HT004", Severity::kInfo, fmt::format("{} is not asked: what it does with a request is its own affair", service.address()), "");
    return findings;
  }
  const bool is_varnish = options.service.kind == EdgeKind::kVarnish;
  const std::vector<std::string> probe = {kProbeKey};
  HttpClient::Finished finished = ask(options.client, is_varnish ? service.purge(probe) : question(service));
  if (!finished.answer) {
    add("HT001", Severity::kError, fmt::format("{} does not answer: {}", service.address(), service.without_secrets(finished.problem)),
        "evictd starts all the same, is not ready, and purges as soon as it answers", true);
    return findings;
  }
  const HttpAnswer& answer = *finished.answer;
  if (answer.status == 401 || answer.status == 403) {
    add("HT002", Severity::kError, fmt::format("{} answered {}: the credential is not accepted", service.address(), answer.status),
        is_varnish ? "let this host purge in its VCL (docs/edge.md)" : "make a token that may purge, and set 'token'");
    return findings;
  }
  if (is_varnish) {
    const EdgeVerdict verdict = service.judge(answer, probe, false, read_clocks().system);
    if (verdict.kind != EdgeVerdict::Kind::kDone) {
      add("HT003", Severity::kError, fmt::format("{} {}", service.address(), verdict.problem), "use the VCL of docs/edge.md");
    }
    return findings;
  }
  simdjson::dom::parser parser;
  simdjson::dom::object object_of;
  std::string_view text;
  const bool is_json = answer.status == 200 && parser.parse(answer.body).get(object_of) == simdjson::SUCCESS;
  if (options.service.kind == EdgeKind::kFastly) {
    if (!is_json || object_of["scope"].get(text)) {
      add("HT003", Severity::kError, fmt::format("{} answered {}, which does not tell what the token may", service.address(), answer.status),
          "look whether 'url' is Fastly's API");
    } else if (!has_scope(text, "purge_select")) {
      add("HT002", Severity::kError, fmt::format("the token of {} may not purge: it lacks the scope purge_select", service.address()),
          "make a token with the scopes purge_select and purge_all");
    } else if (options.on_gap.what == OnGap::What::kAll && !has_scope(text, "purge_all")) {
      add("HT002", Severity::kError, fmt::format("the token of {} may not purge everything, which 'on_gap: all' needs", service.address()),
          "add the scope purge_all to the token, or set on_gap: {keys: [...]}");
    }
    return findings;
  }
  bool success = false;
  const bool is_active = is_json && object_of["success"].get(success) == simdjson::SUCCESS && success &&
                         object_of["result"]["status"].get(text) == simdjson::SUCCESS && text == "active";
  if (!is_active) {
    add("HT002", Severity::kError, fmt::format("the token of {} is not active", service.address()),
        "make a token with the permission Zone / Cache Purge, and set 'token'");
  } else {
    add("HT004", Severity::kInfo, fmt::format("{} knows the token; whether it may purge is seen at the first purge", service.address()), "");
  }
  return findings;
}

}  // namespace evictd
