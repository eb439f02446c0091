#include "daemon/sources/kafka/doctor/connect_rest.h"

#include <fmt/format.h>

#include "daemon/net/http_client.h"
#include "daemon/sources/kafka/json_level.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kConnectMax{5};
constexpr std::chrono::seconds kAnswerMax{20};
constexpr std::size_t kBodyMax = 16 * 1024 * 1024;

}  // namespace

Result<ConnectorSettings> read_connectors(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (url.find('@') != std::string_view::npos) {
    return fail(ErrorKind::kUsage, "expected 'http://host:port', got an address with a user or password");
  }
  if (!url.starts_with(kScheme)) {
    return fail(ErrorKind::kUsage, fmt::format("expected 'http://host:port', got '{}'", url));
  }
  std::string where(url.substr(kScheme.size(), url.find('/', kScheme.size()) - kScheme.size()));
  const std::size_t colon = where.rfind(':');
  if (colon == std::string::npos || where.find(']', colon) != std::string::npos) where += ":8083";
  HttpClientOptions options;
  options.connect_timeout = kConnectMax;
  options.timeout = kAnswerMax;
  options.body_bytes_max = kBodyMax;
  const HttpClient::Finished finished = ask_http({"GET", fmt::format("http://{}/connectors?expand=info", where), {}, {}}, options);
  if (!finished.answer) return fail(ErrorKind::kTransient, fmt::format("Kafka Connect at '{}': {}", where, finished.problem));
  if (finished.answer->status != 200) {
    return fail(ErrorKind::kTransient, fmt::format("expected status 200 of '{}', got {}", where, finished.answer->status));
  }
  return parse_connectors(finished.answer->body);
}

Result<ConnectorSettings> parse_connectors(std::string_view json) {
  ConnectorSettings connectors;
  PaddedText padded;
  JsonLevel all;
  if (auto read = all.read_object(padded.assign(json)); !read) return tl::unexpected(read.error());
  for (const JsonField& connector : all.fields()) {
    if (connector.value.kind != JsonKind::kObject) continue;
    JsonLevel expanded, info, config;
    if (!expanded.read_object(connector.value.text)) continue;
    const JsonValue* inside = expanded.find("info");
    if (inside == nullptr || inside->kind != JsonKind::kObject || !info.read_object(inside->text))
      continue;
    const JsonValue* settings = info.find("config");
    if (settings == nullptr || settings->kind != JsonKind::kObject) continue;
    if (!config.read_object(settings->text)) continue;
    auto& known = connectors[std::string(connector.name)];
    for (const JsonField& setting : config.fields()) {
      if (setting.value.kind == JsonKind::kString)
        known[std::string(setting.name)] = setting.value.text;
    }
  }
  return connectors;
}

}  // namespace evictd
