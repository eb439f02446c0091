#include "daemon/sinks/http/service.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>

#include "daemon/base/json.h"
#include "mapping/check.h"
#include "mapping/filters.h"

namespace evictd {
namespace {

constexpr std::size_t kExcerptBytesMax = 200;

std::string json_list(std::span<const std::string> keys) {
  std::string list = "[";
  for (const std::string& key : keys) {
    if (list.size() > 1) list += ',';
    append_json_quoted(list, key);
  }
  return list + "]";
}

std::string joined(std::span<const std::string> keys, std::string_view separator) {
  std::string list;
  for (const std::string& key : keys) {
    if (!list.empty()) list += separator;
    list += key;
  }
  return list;
}

// Spelled keys have nothing that a url could not carry but '%' and what separates its parts.
std::string in_url(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                          std::string_view("-_.~").find(c) != std::string_view::npos;
    out += is_plain ? std::string(1, c) : fmt::format("%{:02x}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string replaced(std::string text, std::string_view name, std::string_view value) {
  for (std::size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += value.size()) {
    text.replace(at, name.size(), value);
  }
  return text;
}

// A key in the pattern of a ban. What means something there stands in brackets: a backslash is one for some readers of bans and
// an escape for others.
std::string ban_text(std::string_view key) {
  std::string text;
  for (const char c : key) {
    const bool is_special = std::string_view(".+$").find(c) != std::string_view::npos;
    text += is_special ? std::string{'[', c, ']'} : std::string(1, c);
  }
  return text;
}

// Of the keys, as the pattern of a ban: each between the separators of the header, or its ends. Without a blank: Varnish ends
// a pattern at the first one, and VCL's ban() tells nobody that it took nothing for one.
std::string ban_pattern(std::span<const std::string> keys) {
  std::string pattern = "(^|[[:space:],])(";
  for (const std::string& key : keys) {
    if (pattern.back() != '(') pattern += '|';
    pattern += ban_text(key);
  }
  return pattern + ")([[:space:],]|$)";
}

std::optional<std::string> header(const HttpAnswer& answer, const std::string& name) {
  const auto found = answer.headers.find(name);
  if (found == answer.headers.end()) return std::nullopt;
  return found->second;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "scheme://user:password@host:port/path?secret" -> "host:port".
std::string host_of(const std::string& url) {
  const std::size_t scheme = url.find("://");
  std::string rest = scheme == std::string::npos ? url : url.substr(scheme + 3);
  rest = rest.substr(0, rest.find_first_of("/?#"));
  if (const std::size_t at = rest.rfind('@'); at != std::string::npos) rest.erase(0, at + 1);
  return rest;
}

}  // namespace

ServiceOptions service_defaults(EdgeKind kind) {
  ServiceOptions options;
  options.kind = kind;
  switch (kind) {
    case EdgeKind::kFastly:
      options.url = Secret("https://api.fastly.com");
      options.method = "POST";
      options.keys_max = 256;
      options.bytes_max = 256 * 1024;
      options.rate = {20, std::chrono::milliseconds(1000), 100};
      break;
    case EdgeKind::kCloudflare:
      options.url = Secret("https://api.cloudflare.com");
      options.method = "POST";
      options.keys_max = 100;
      options.bytes_max = 100 * 1024;
      // What every plan allows, shared by the account.
      options.rate = {5, std::chrono::milliseconds(60'000), 25};
      break;
    case EdgeKind::kVarnish:
      options.keys_max = 1000;
      options.bytes_max = 6000;  // a header line of Varnish is at most 8 KiB, unless it is told otherwise
      break;
    case EdgeKind::kHttp:
      options.method = "POST";
      options.keys_max = 1;
      break;
  }
  return options;
}

std::string Service::address() const {
  switch (options_.kind) {
    case EdgeKind::kFastly:
      return fmt::format("Fastly service {} ({})", options_.id, host_of(options_.url.reveal()));
    case EdgeKind::kCloudflare:
      return fmt::format("Cloudflare zone {} ({})", options_.id, host_of(options_.url.reveal()));
    case EdgeKind::kVarnish:
      return fmt::format("Varnish {}", host_of(options_.url.reveal()));
    case EdgeKind::kHttp:
      break;
  }
  return fmt::format("HTTP {}", host_of(options_.url.reveal()));
}

std::uint64_t Service::identity() const {
  // Behind a '?' may be a token, which is exchanged now and then.
  const std::string url = options_.url.reveal();
  const std::size_t scheme = url.find("://");
  const std::size_t path = url.find('/', scheme == std::string::npos ? 0 : scheme + 3);
  std::string text = fmt::format("evictd service 1\n{}\n{}\n{}\n", edge_kind_name(options_.kind), options_.id, host_of(url));
  if (path != std::string::npos) text += url.substr(path, url.find_first_of("?#", path) - path);
  EVICTD_CHECK(FilterMachine().apply({Filter::Kind::kSha256, {}}, text));
  std::uint64_t number = 0;
  constexpr std::size_t kDigits = 16;
  std::from_chars(text.data(), text.data() + kDigits, number, 16);
  return std::max<std::uint64_t>(number, 1);
}

HttpCall Service::purge(std::span<const std::string> keys) const {
  EVICTD_CHECK(!keys.empty());
  HttpCall call;
  call.method = options_.method;
  switch (options_.kind) {
    case EdgeKind::kFastly:
      call.url = options_.url.reveal() + "/service/" + options_.id + "/purge";
      call.headers = {{"Fastly-Key", options_.token.reveal()}, {"Accept", "application/json"}, {"Content-Type", "application/json"}};
      if (options_.is_soft) call.headers.emplace_back("Fastly-Soft-Purge", "1");
      call.body = "{\"surrogate_keys\":" + json_list(keys) + "}";
      break;
    case EdgeKind::kCloudflare:
      call.url = options_.url.reveal() + "/client/v4/zones/" + options_.id + "/purge_cache";
      call.headers = {{"Authorization", "Bearer " + options_.token.reveal()}, {"Content-Type", "application/json"}};
      call.body = "{\"tags\":" + json_list(keys) + "}";
      break;
    case EdgeKind::kVarnish:
      call.method = options_.is_ban ? "BAN" : options_.method;
      call.url = options_.url.reveal();
      call.headers = {{options_.header, options_.is_ban ? ban_pattern(keys) : joined(keys, " ")}};
      if (options_.is_soft) call.headers.emplace_back("X-Soft-Purge", "1");
      if (!options_.token.empty()) call.headers.emplace_back("Authorization", "Bearer " + options_.token.reveal());
      break;
    case EdgeKind::kHttp: {
      const std::string list = joined(keys, options_.separator);
      const std::string json = json_list(keys);
      const auto filled = [&](const std::string& text) { return replaced(replaced(text, "{keys_json}", json), "{keys}", list); };
      call.url = replaced(options_.url.reveal(), "{keys}", in_url(list));
      for (const auto& [name, value] : options_.headers) call.headers.emplace_back(name, filled(value.reveal()));
      call.body = filled(options_.body.reveal());
      break;
    }
  }
  return call;
}

HttpCall Service::purge_all() const {
  EVICTD_CHECK(can_purge_all());
  HttpCall call;
  call.method = options_.method;
  switch (options_.kind) {
    case EdgeKind::kFastly:
      call.url = options_.url.reveal() + "/service/" + options_.id + "/purge_all";
      call.headers = {{"Fastly-Key", options_.token.reveal()}, {"Accept", "application/json"}};
      break;
    case EdgeKind::kCloudflare:
      call.url = options_.url.reveal() + "/client/v4/zones/" + options_.id + "/purge_cache";
      call.headers = {{"Authorization", "Bearer " + options_.token.reveal()}, {"Content-Type", "application/json"}};
      call.body = "{\"purge_everything\":true}";
      break;
    case EdgeKind::kVarnish:
      call.method = options_.is_ban ? "BAN" : options_.method;
      call.url = options_.url.reveal();
      call.headers = {{"X-Purge-All", "1"}};
      if (!options_.token.empty()) call.headers.emplace_back("Authorization", "Bearer " + options_.token.reveal());
      break;
    case EdgeKind::kHttp:
      call.method = options_.purge_all->method;
      call.url = options_.purge_all->url.reveal();
      for (const auto& [name, value] : options_.headers) {
        if (value.reveal().find("{keys") == std::string::npos) call.headers.emplace_back(name, value.reveal());
      }
      call.body = options_.purge_all->body.reveal();
      break;
  }
  return call;
}

std::string Service::without_secrets(std::string text) const {
  std::vector<std::string_view> secrets = {options_.token.reveal()};
  if (options_.kind == EdgeKind::kVarnish || options_.kind == EdgeKind::kHttp) secrets.push_back(options_.url.reveal());
  for (const auto& [name, value] : options_.headers) secrets.push_back(value.reveal());
  secrets.push_back(options_.body.reveal());
  if (options_.purge_all) {
    secrets.push_back(options_.purge_all->url.reveal());
    secrets.push_back(options_.purge_all->body.reveal());
  }
  for (std::string_view secret : secrets) {
    if (secret.size() < 4) continue;  // a word like "1" is no secret, and stands in every text
    text = replaced(std::move(text), secret, "***");
    // "Bearer abc": the word behind it alone.
    if (const std::size_t space = secret.rfind(' '); space != std::string_view::npos && secret.size() - space > 8) {
      text = replaced(std::move(text), secret.substr(space + 1), "***");
    }
  }
  return text;
}

// The beginning of what it said, for a person.
std::string Service::excerpt(const HttpAnswer& answer) const {
  std::string text;
  for (const char c : without_secrets(answer.body.substr(0, 4 * kExcerptBytesMax))) {
    if (text.size() >= kExcerptBytesMax) {
      text += "...";
      break;
    }
    const bool is_plain = c >= 0x20 && c < 0x7f;
    if (is_plain) text += c;
    if (!is_plain && !text.empty() && text.back() != ' ') text += ' ';
  }
  return text.empty() ? "an empty body" : fmt::format("'{}'", text);
}

EdgeVerdict Service::judge(const HttpAnswer& answer, std::span<const std::string> keys, bool is_all, SystemTime now) const {
  EdgeVerdict verdict;
  const auto retry_after = header(answer, "retry-after");
  if (retry_after) verdict.retry_after = parse_retry_after(*retry_after, now);
  const auto said = [&] { return fmt::format("answered {}: {}", answer.status, excerpt(answer)); };
  if (answer.status == 429) {
    verdict.kind = EdgeVerdict::Kind::kThrottled;
    verdict.error_class = "throttled";
    verdict.problem = "answered 429: too many requests";
    return verdict;
  }
  if (answer.status == 401 || answer.status == 403) {
    verdict.kind = EdgeVerdict::Kind::kRefused;
    verdict.error_class = "auth";
    verdict.problem = said();
    return verdict;
  }
  if (answer.status < 200 || answer.status > 299) {
    verdict.error_class = answer.status >= 500 ? "server" : "other";
    verdict.problem = said();
    return verdict;
  }
  verdict.error_class = "protocol";
  switch (options_.kind) {
    case EdgeKind::kFastly:
      judge_fastly(answer, keys, is_all, verdict);
      break;
    case EdgeKind::kCloudflare:
      judge_cloudflare(answer, verdict);
      break;
    case EdgeKind::kVarnish:
      if (answer.status == 200 && is_number(header(answer, "x-purged").value_or(""))) {
        verdict.kind = EdgeVerdict::Kind::kDone;
      } else {
        verdict.problem = fmt::format("answered {}, expected 200 with 'X-Purged: <number>': its VCL did not purge", answer.status);
      }
      break;
    case EdgeKind::kHttp:
      if (options_.expect.empty() || answer.body.find(options_.expect) != std::string::npos) {
        verdict.kind = EdgeVerdict::Kind::kDone;
      } else {
        verdict.problem = fmt::format("answered {} without the expected text: {}", answer.status, excerpt(answer));
      }
      break;
  }
  if (verdict.kind == EdgeVerdict::Kind::kFailed && verdict.problem.empty()) {
    verdict.problem = fmt::format("answered {}, which is no answer to a purge: {}", answer.status, excerpt(answer));
  }
  return verdict;
}

void Service::judge_fastly(const HttpAnswer& answer, std::span<const std::string> keys, bool is_all, EdgeVerdict& verdict) const {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (answer.status != 200 || parser.parse(answer.body).get(object)) return;
  std::string_view text;
  if (is_all) {
    if (object["status"].get(text) == simdjson::SUCCESS && text == "ok") verdict.kind = EdgeVerdict::Kind::kDone;
    return;
  }
  // Each key with the id of its purge; a key it does not name was not purged.
  verdict.done.assign(keys.size(), false);
  std::size_t count = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (object.at_key(keys[i]).get(text) != simdjson::SUCCESS || text.empty()) continue;
    verdict.done[i] = true;
    ++count;
  }
  if (count == keys.size()) {
    verdict.kind = EdgeVerdict::Kind::kDone;
  } else if (count > 0) {
    verdict.kind = EdgeVerdict::Kind::kPartly;
    verdict.problem = fmt::format("answered for {} of {} keys", count, keys.size());
  }
}

void Service::judge_cloudflare(const HttpAnswer& answer, EdgeVerdict& verdict) const {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  bool success = false;
  if (answer.status != 200 || parser.parse(answer.body).get(object) || object["success"].get(success) || !success) return;
  simdjson::dom::element errors;
  if (object["errors"].get(errors) == simdjson::SUCCESS && !errors.is_null()) {
    simdjson::dom::array list;
    if (errors.get(list) || list.size() > 0) return;
  }
  verdict.kind = EdgeVerdict::Kind::kDone;
}

std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text, SystemTime now) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r')) text.remove_suffix(1);
  std::chrono::milliseconds wait{0};
  if (is_number(text)) {
    std::uint64_t seconds = 0;
    std::from_chars(text.data(), text.data() + text.size(), seconds);
    wait = std::chrono::seconds(std::min<std::uint64_t>(seconds, 86'400));
  } else {
    // "Sun, 06 Nov 1994 08:49:37 GMT", as RFC 9110 has it written; months by ourselves, whatever the locale is.
    constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (text.size() != 29 || text.substr(25) != " GMT" || text[4] != ' ' || text[7] != ' ' || text[11] != ' ' ||
        text[16] != ' ' || text[19] != ':' || text[22] != ':') {
      return std::nullopt;
    }
    const std::size_t month = kMonths.find(text.substr(8, 3));
    std::tm parts{};
    const auto read = [&](std::size_t at, std::size_t length, int& value) {
      const std::string_view digits = text.substr(at, length);
      return is_number(digits) && std::from_chars(digits.data(), digits.data() + length, value).ec == std::errc();
    };
    if (month == std::string_view::npos || month % 3 != 0 || !read(5, 2, parts.tm_mday) || !read(12, 4, parts.tm_year) ||
        !read(17, 2, parts.tm_hour) || !read(20, 2, parts.tm_min) || !read(23, 2, parts.tm_sec)) {
      return std::nullopt;
    }
    parts.tm_mon = static_cast<int>(month / 3);
    parts.tm_year -= 1900;
    const std::time_t at = timegm(&parts);
    // Not by the clock's own nanoseconds: they end in the year 2262, and "never" is the year 9999.
    wait = std::chrono::seconds(at) - std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  }
  return std::clamp(wait, std::chrono::milliseconds(0), kRetryAfterMax);
}

std::size_t keys_of_one_request(std::span<const std::string_view> keys, const ServiceOptions& options) {
  std::size_t count = 0;
  std::size_t bytes = 0;
  for (const std::string_view key : keys) {
    bytes += (options.is_ban ? ban_text(key).size() : key.size()) + 1;
    if (count > 0 && (count >= options.keys_max || bytes > options.bytes_max)) break;
    ++count;
  }
  return count;
}

void TokenBucket::fill(SteadyTime now) {
  if (filled_at_) {
    const double passed = std::chrono::duration<double>(now - *filled_at_).count();
    const double per_second = static_cast<double>(rate_.requests) / std::chrono::duration<double>(rate_.per).count();
    tokens_ = std::min(static_cast<double>(rate_.burst), tokens_ + passed * per_second);
  }
  filled_at_ = now;
}

SteadyTime TokenBucket::next(SteadyTime now) {
  if (rate_.requests == 0) return now;
  fill(now);
  if (tokens_ >= 1) return now;
  const double seconds =
      (1 - tokens_) * std::chrono::duration<double>(rate_.per).count() / static_cast<double>(rate_.requests);
  return now + std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

void TokenBucket::take(SteadyTime now) {
  if (rate_.requests == 0) return;
  fill(now);
  tokens_ -= 1;
}

}  // namespace evictd
