#include "daemon/sources/kafka/registry_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "mapping/check.h"

namespace evictd {
namespace {

struct Body {
  std::string text;
  bool is_too_long = false;
};

std::size_t take_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& body = *static_cast<Body*>(user);
  if (body.text.size() + size > RegistryClient::kAnswerBytesMax) {
    body.is_too_long = true;
    return 0;
  }
  body.text.append(data, size);
  return size;
}

int look_whether_cancelled(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::atomic<bool>*>(user)->load() ? 1 : 0;
}

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, ' ');
  return text;
}

}  // namespace

Result<std::string> RegistryClient::get(const std::string& path, long& status) const {
  static std::once_flag once;
  std::call_once(once, [] { EVICTD_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
  const std::string what = fmt::format("the schema registry at '{}'", options_.url);
  Secret password = options_.password;
  if (options_.credential.is_set()) {
    auto credential = ask_credential(options_.credential);
    if (!credential) return tl::unexpected(std::move(credential.error()).within(what));
    password = credential->password;
  }
  const std::unique_ptr<CURL, void (*)(CURL*)> handle(curl_easy_init(), curl_easy_cleanup);
  EVICTD_CHECK(handle != nullptr);
  CURL* curl = handle.get();
  Body body;
  char problem[CURL_ERROR_SIZE] = {};
  const std::string url = options_.url + path;
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      curl_slist_append(nullptr, "Accept: application/vnd.schemaregistry.v1+json, application/json"), curl_slist_free_all);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "evictd");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!options_.ca.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options_.ca.c_str());
  if (!options_.user.empty()) {
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    curl_easy_setopt(curl, CURLOPT_USERNAME, options_.user.c_str());
    curl_easy_setopt(curl, CURLOPT_PASSWORD, password.reveal().c_str());
  }
  const auto milliseconds = [](std::chrono::milliseconds time) { return static_cast<long>(time.count()); };
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(kConnectMax));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, milliseconds(kAnswerMax));
  // What says beforehand that it is longer is not even begun.
  curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(kAnswerBytesMax));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
  if (is_cancelled_ != nullptr) {
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_whether_cancelled);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, const_cast<std::atomic<bool>*>(is_cancelled_.get()));
  }
  const CURLcode code = curl_easy_perform(curl);
  if (body.is_too_long || code == CURLE_FILESIZE_EXCEEDED) {
    return fail(ErrorKind::kTransient, fmt::format("{}: its answer is longer than {} bytes", what, kAnswerBytesMax),
                "whatever answers there is no schema registry");
  }
  if (code == CURLE_OPERATION_TIMEDOUT)
    return fail(ErrorKind::kTransient, fmt::format("{}: no answer within {} seconds", what, kAnswerMax.count()));
  if (code != CURLE_OK) {
    return fail(ErrorKind::kTransient, fmt::format("{}: {}", what, one_line(problem[0] != 0 ? problem : curl_easy_strerror(code))),
                "evictd goes on by itself when it answers");
  }
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == 401 || status == 403) {
    return fail(ErrorKind::kUsage,
                fmt::format("{}: {} (status {})", what, options_.user.empty() ? "it wants a user and a password" : "it refuses user and password",
                            status),
                "set user and password of kafka.registry, and let that user read schemas");
  }
  return std::move(body.text);
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
