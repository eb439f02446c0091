#include "daemon/sources/kafka/registry_client.h"

#include <fmt/format.h>

#include "daemon/net/http_client.h"
#include "daemon/sources/kafka/text_forms.h"

namespace evictd {

Result<std::string> RegistryClient::get(const std::string& path, long& status) const {
  const std::string what = fmt::format("the schema registry at '{}'", options_.url);
  Secret password = options_.password;
  if (options_.credential.is_set()) {
    auto credential = ask_credential(options_.credential);
    if (!credential) return tl::unexpected(std::move(credential.error()).within(what));
    password = credential->password;
  }
  HttpCall call{"GET", options_.url + path, {{"Accept", "application/vnd.schemaregistry.v1+json, application/json"}}, {}};
  if (!options_.user.empty()) {
    std::string signed_in = "Basic ";
    append_base64(options_.user + ":" + password.reveal(), signed_in);
    call.headers.emplace_back("Authorization", std::move(signed_in));
  }
  HttpClientOptions options;
  options.ca_file = options_.ca;
  options.connect_timeout = kConnectMax;
  options.timeout = kAnswerMax;
  options.body_bytes_max = kAnswerBytesMax;
  HttpClient::Finished finished = ask_http(call, options, is_cancelled_.get());
  if (finished.is_too_long) {
    return fail(ErrorKind::kTransient, fmt::format("{}: {}", what, finished.problem), "whatever answers there is no schema registry");
  }
  if (!finished.answer) return fail(ErrorKind::kTransient, fmt::format("{}: {}", what, finished.problem), "evictd goes on by itself when it answers");
  status = finished.answer->status;
  if (status == 401 || status == 403) {
    return fail(ErrorKind::kUsage,
                fmt::format("{}: {} (status {})", what, options_.user.empty() ? "it wants a user and a password" : "it refuses user and password",
                            status),
                "set user and password of kafka.registry, and let that user read schemas");
  }
  return std::move(finished.answer->body);
}

Result<RegisteredSchema> RegistryClient::schema(std::uint64_t id) const {
  const std::string what = fmt::format("the schema registry at '{}'", options_.url);
  long status = 0;
  auto body = get(fmt::format("/schemas/ids/{}", id), status);
  if (!body) return tl::unexpected(body.error());
  if (status == 404) return fail(ErrorKind::kUsage, fmt::format("{}: it has no schema {} (status 404)", what, id));
  if (status != 200) return fail(ErrorKind::kTransient, fmt::format("{}: expected status 200 for schema {}, got {}", what, id, status));
  auto schema = parse_schema_answer(*body);
  if (!schema) return tl::unexpected(std::move(schema.error()).within(fmt::format("{}: schema {}", what, id)));
  return schema;
}

Result<void> RegistryClient::ping() const {
  long status = 0;
  auto body = get("/schemas/types", status);
  if (!body) return tl::unexpected(body.error());
  if (status != 200) {
    return fail(ErrorKind::kUsage, fmt::format("the schema registry at '{}': expected status 200 for '/schemas/types', got {}", options_.url, status),
                "the url must be that of the Confluent-compatible interface: of Apicurio '.../apis/ccompat/v7'");
  }
  return {};
}

}  // namespace evictd
