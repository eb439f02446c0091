#include "daemon/app/config.h"

#include <fmt/core.h>

#include <charconv>
#include <filesystem>

#include "daemon/app/config_file.h"
#include "daemon/base/text.h"
#include "daemon/flow/cache_rules.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sinks/redis/topology/sentinel.h"
#include "daemon/sinks/redis/url.h"
#include "mapping/did_you_mean.h"
#include "mapping/yaml.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kSecond{1000};
constexpr milliseconds kMinute = 60 * kSecond;
constexpr milliseconds kHour = 60 * kMinute;

constexpr std::pair<std::string_view, OnFirstStart> kOnFirstStartNames[] = {
    {"keep", OnFirstStart::kKeep}, {"purge", OnFirstStart::kPurge}};
constexpr std::pair<std::string_view, LogLevel> kLevelNames[] = {{"debug", LogLevel::kDebug},
                                                                 {"info", LogLevel::kInfo},
                                                                 {"warning", LogLevel::kWarning},
                                                                 {"error", LogLevel::kError}};
constexpr std::pair<std::string_view, LogFormat> kFormatNames[] = {{"text", LogFormat::kText},
                                                                   {"json", LogFormat::kJson}};
constexpr std::pair<std::string_view, bool> kOnSnapshotNames[] = {{"ignore", false},
                                                                  {"invalidate", true}};
constexpr std::pair<std::string_view, KafkaSettings::OnPoison> kOnPoisonNames[] = {
    {"purge", KafkaSettings::OnPoison::kPurge},
    {"stop", KafkaSettings::OnPoison::kStop},
    {"skip", KafkaSettings::OnPoison::kSkip}};
constexpr std::pair<std::string_view, int> kRegistryIdNames[] = {{"auto", 0}, {"4", 4}, {"8", 8}};
constexpr std::pair<std::string_view, std::string_view> kEncodingNames[] = {
    {"UTF8", ""}, {"SQL_ASCII", "SQL_ASCII"}};

// PostgreSQL's own rules for the name of a slot; a publication is any identifier.
bool is_slot_name(std::string_view name) {
  if (name.empty() || name.size() > 63) return false;
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

void take_at(YamlMap& map, std::string_view name, std::string text, std::string hint = {}) {
  const Place& place = map.find(name)->place;
  map.take(fail_at(place, fmt::format("{}: {}", described_text(name), text), std::move(hint)).value(), place);
}

// A text that must not appear in messages.
void read_secret(YamlMap& map, std::string_view name, Secret& value) {
  const YamlNode* found = map.find(name);
  if (found == nullptr) return;
  YamlNode node = *found;
  node.secret = true;
  Result<std::string> text = yaml_text(node);
  map.take(text, node);
  if (!text) return;
  if (text->empty()) {
    take_at(map, name, "expected a text, got an empty one");
    return;
  }
  value = Secret(std::move(*text));
}

void read_postgres_url(YamlMap& map, std::string_view name, Secret& value) {
  read_secret(map, name, value);
  if (value.empty()) return;
  if (Result<Conninfo> conninfo = Conninfo::parse(value.reveal()); !conninfo) {
    const std::string& hint = conninfo.error().hint;
    take_at(map, name, conninfo.error().text,
            hint.empty() ? "for example postgresql://evictd@localhost/shop, or 'host=localhost dbname=shop'" : hint);
  }
}

void read_redis_url(YamlMap& map, Secret& value) {
  read_secret(map, "url", value);
  if (value.empty()) return;
  if (Result<RedisAddress> address = parse_redis_url(value.reveal()); !address) {
    std::string text = address.error().text;
    if (constexpr std::string_view kPrefix = "redis url: "; text.starts_with(kPrefix)) {
      text.erase(0, kPrefix.size());
    }
    take_at(map, "url", std::move(text),
            "for example redis://localhost:6379/0, or rediss:// for TLS");
  }
}

// A program and its arguments, of which the same may come twice. No text alone: it would look like a line for a shell.
void read_arguments(YamlMap& map, const YamlNode& node, std::vector<std::string>& arguments) {
  if (node.kind != YamlNode::Kind::kList) {
    map.take(fail_at(node.place, fmt::format("expected a list, a program and its arguments, got {}",
                                              node.kind == YamlNode::Kind::kText ? "a text" : describe(node)),
                     "no shell is asked: for example [\"cat\", \"/run/secrets/password\"]"),
             node.place);
    return;
  }
  for (const YamlNode& item : node.items) {
    const Result<std::string> text = yaml_text(item);
    map.take(text, item);
    if (text) arguments.push_back(*text);
  }
}

// The name of a file, relative to the configuration. True: there is one.
bool read_file_name(YamlMap& map, std::string_view name, const std::filesystem::path& folder, std::string& file) {
  if (!map.read(name, file) || file.empty()) return false;
  file = (folder / file).string();
  return true;
}

struct CredentialNames {
  std::string_view url = "url";
  std::string_view file = "password_file";
  std::string_view command = "password_command";
};

// 'password_file' or 'password_command', in place of a password in 'url'.
void read_credential(YamlMap& map, bool url_has_password, const std::filesystem::path& folder, CredentialSource& source,
                     const CredentialNames& names = {}) {
  const auto& [url_name, file_name, command_name] = names;
  const bool has_file = map.read(file_name, source.file);
  const YamlNode* command = map.find(command_name);
  const bool has_command = command != nullptr;
  if (has_command) read_arguments(map, *command, source.command);
  if (has_file && source.file.empty()) take_at(map, file_name, "expected the name of a file, got an empty text");
  if (has_file && !source.file.empty()) source.file = (folder / source.file).string();
  if (has_command && command->kind == YamlNode::Kind::kList && (source.command.empty() || source.command.front().empty())) {
    take_at(map, command_name, "expected a program and its arguments, got an empty list",
            "for example [\"vault\", \"read\", \"-field=password\", \"database/creds/evictd\"]");
  }
  if (has_file && has_command) {
    take_at(map, command_name, fmt::format("it and '{}' exclude one another", file_name), "keep the one that is meant");
  }
  if ((has_file || has_command) && url_has_password) {
    take_at(map, has_file ? file_name : command_name, fmt::format("'{}' has a password too", url_name),
            fmt::format("take the password out of '{}': postgresql://evictd@localhost/shop, redis://evictd@localhost:6379/0", url_name));
  }
}

void read_postgres(YamlMap& root, Config& config, const std::filesystem::path& folder) {
  const YamlNode* node = root.find("postgres");
  if (node == nullptr) return;
  PostgresSettings& settings = config.postgres.emplace();
  YamlMap map(*node, "'postgres'");
  map.require("url");
  read_postgres_url(map, "url", settings.url);
  const Result<Conninfo> conninfo = Conninfo::parse(settings.url.reveal());
  read_credential(map, conninfo && !conninfo->get("password").empty(), folder, settings.credential);
  if (map.read("slot", settings.slot) && !is_slot_name(settings.slot)) {
    take_at(map, "slot",
            "expected 1 to 63 of a-z, 0-9 and '_', got " + describe(*map.find("slot")));
  }
  if (map.read("publication", settings.publication) &&
      (settings.publication.empty() || settings.publication.size() > 63)) {
    take_at(map, "publication",
            fmt::format("expected 1 to 63 bytes, got {}", settings.publication.size()));
  } else if (settings.publication.find("://") != std::string::npos) {
    take_at(map, "publication", "expected a name, got a URL");  // which every command would show
  }
  map.read("on_first_start", config.on_first_start, kOnFirstStartNames);
  const YamlNode* heartbeat = map.find("heartbeat");
  if (heartbeat != nullptr && heartbeat->kind == YamlNode::Kind::kText &&
      heartbeat->text == "off") {
    settings.heartbeat = milliseconds(0);
  } else {
    map.read("heartbeat", settings.heartbeat, kSecond, kHour);
  }
  map.read("shutdown_grace", settings.shutdown_grace, milliseconds(0), 10 * kMinute);
  std::string_view encoding;
  if (map.read("client_encoding", encoding, kEncodingNames)) settings.client_encoding = encoding;
  root.take(map.finish(), *node);
}

void read_properties(YamlMap& map, KafkaSettings& settings) {
  const YamlNode* node = map.find("properties");
  if (node == nullptr) return;
  YamlMap properties(*node, "'properties'");
  for (const YamlEntry& entry : node->entries) {
    read_secret(properties, entry.name, settings.properties[entry.name]);
  }
  map.take(properties.finish(), *node);
}

// Its url may hold user and password: what is kept of it for messages does not.
void read_registry(YamlMap& kafka, const std::filesystem::path& folder, KafkaSettings::Registry& settings) {
  const YamlNode* node = kafka.find("registry");
  if (node == nullptr) return;
  YamlMap map(*node, "'registry'");
  map.require("url");
  Secret whole;
  read_secret(map, "url", whole);
  bool url_has_password = false;
  if (!whole.empty()) {
    std::string text = whole.reveal();
    const std::size_t scheme = text.starts_with("https://") ? 8 : text.starts_with("http://") ? 7 : 0;
    const std::size_t end = std::min(text.find('/', scheme), text.size());
    const std::size_t at = text.rfind('@', end);
    const bool has_user = scheme != 0 && at != std::string::npos && at >= scheme && at < end;
    const std::size_t host = has_user ? at + 1 : scheme;
    if (scheme == 0 || host == end || text.find_first_of("?#", host) != std::string::npos || text.find('@', host) != std::string::npos ||
        !std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
      take_at(map, "url", "expected the http:// or https:// url of a schema registry, without '?' and '#'",
              "for example https://registry:8081, or of Apicurio https://registry:8080/apis/ccompat/v7; write '@' and '/' of a password as %40 "
              "and %2F");
    } else {
      if (has_user) {
        const std::string_view user = std::string_view(text).substr(scheme, at - scheme);
        const std::size_t colon = user.find(':');
        std::string password;
        if (!decode_percent(user.substr(0, colon), settings.user) ||
            !decode_percent(colon == std::string_view::npos ? std::string_view() : user.substr(colon + 1), password)) {
          take_at(map, "url", "a '%' in the user or password is not followed by two hex digits", "write '%' itself as %25");
        }
        settings.password = Secret(std::move(password));
        url_has_password = !settings.password.empty();
        text.erase(scheme, at + 1 - scheme);
      }
      while (text.ends_with('/')) text.pop_back();
      settings.url = std::move(text);
    }
  }
  const bool url_has_user = !settings.user.empty();
  if (map.read("user", settings.user) && url_has_user) {
    take_at(map, "user", "'url' has a user too", "keep one of them");
  }
  Secret password;
  read_secret(map, "password", password);
  if (!password.empty()) {
    if (url_has_password) take_at(map, "password", "'url' has a password too", "take it out of 'url'");
    settings.password = std::move(password);
  }
  read_credential(map, url_has_password, folder, settings.credential);
  if (map.find("password") != nullptr && settings.credential.is_set()) {
    take_at(map, "password", "'password' and 'password_file' or 'password_command' exclude one another", "keep the one that is meant");
  }
  if (settings.user.empty() && (map.find("password") != nullptr || settings.credential.is_set())) {
    map.take_last(fail_at(node->place, "'registry': a password is set, and no 'user'", "set user"));
  }
  read_file_name(map, "ca", folder, settings.ca);
  map.read("id", settings.id_bytes, kRegistryIdNames);
  kafka.take(map.finish(), *node);
}

void read_kafka(YamlMap& root, Config& config, const std::filesystem::path& folder) {
  const YamlNode* node = root.find("kafka");
  if (node == nullptr) return;
  KafkaSettings& settings = config.kafka.emplace();
  settings.place = root.place_of("kafka");
  YamlMap map(*node, "'kafka'");
  map.require("brokers");
  map.require("topics");
  const auto is_blank = [](const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; };
  if (map.read("brokers", settings.brokers) && is_blank(settings.brokers)) {
    take_at(map, "brokers", "expected host:port of a broker, got an empty text", "for example: brokers: kafka-1:9092,kafka-2:9092");
  }
  if (map.read("group", settings.group) && is_blank(settings.group)) {
    take_at(map, "group", "expected the name of a consumer group, got an empty text", "leave it out for 'evictd'");
  }
  if (map.read("topics", settings.topics) && (settings.topics.empty() || std::any_of(settings.topics.begin(), settings.topics.end(), is_blank))) {
    take_at(map, "topics", settings.topics.empty() ? "expected at least one name or ^pattern, got an empty list" : "expected the name of a topic, got an empty text",
            "for example: topics: [shop.public.products], or ['^shop[.]public[.]']");
  }
  read_properties(map, settings);
  map.read("on_first_start", config.on_first_start, kOnFirstStartNames);
  map.read("on_snapshot", settings.invalidate_snapshot_events, kOnSnapshotNames);
  map.read("on_poison", settings.on_poison, kOnPoisonNames);
  read_file_name(map, "dead_letter_file", folder, settings.dead_letter_file);
  map.read_size("dead_letter_max", settings.dead_letter_bytes_max, 64 * 1024, 1ULL << 30);
  map.read("revoke_drain", settings.revoke_drain, milliseconds(0), kMinute);
  map.read("connect_url", settings.connect_url);
  read_registry(map, folder, settings.registry);
  read_postgres_url(map, "postgres_url", settings.postgres_url);
  const Result<Conninfo> conninfo = Conninfo::parse(settings.postgres_url.reveal());
  read_credential(map, conninfo && !conninfo->get("password").empty(), folder, settings.postgres_credential,
                  {"postgres_url", "postgres_password_file", "postgres_password_command"});
  for (const char* name : {"postgres_password_file", "postgres_password_command"}) {
    if (map.find(name) == nullptr || map.find("postgres_url") != nullptr) continue;
    take_at(map, name, "expected 'postgres_url' beside it, got none", "the database that Debezium reads: postgresql://evictd@localhost/shop");
  }
  root.take(map.finish(), *node);
}

void read_tls(YamlMap& redis, const std::filesystem::path& folder, RedisSettings& settings) {
  const YamlNode* node = redis.find("tls");
  if (node == nullptr) return;
  if (!settings.url.empty() && !settings.url.reveal().starts_with("rediss://")) {
    redis.take(fail_at(redis.place_of("tls"), "'tls' is set, but 'url' is not a rediss:// URL",
                       "write rediss:// for a connection with TLS, or remove 'tls'")
                   .value(),
               redis.place_of("tls"));
  }
  YamlMap map(*node, "'tls'");
  read_file_name(map, "ca", folder, settings.tls_ca);
  const bool has_cert = read_file_name(map, "cert", folder, settings.tls_cert);
  const bool has_key = read_file_name(map, "key", folder, settings.tls_key);
  if (has_cert != has_key) {
    const std::string_view given = has_cert ? "cert" : "key";
    map.take(fail_at(map.place_of(given),
                     fmt::format("'{}' is set without '{}'", given, has_cert ? "key" : "cert"),
                     "a client certificate needs both files")
                 .value(),
             map.place_of(given));
  }
  redis.take(map.finish(), *node);
}

void read_sentinels(YamlMap& redis, RedisSettings& settings) {
  read_secret(redis, "sentinel_password", settings.sentinel_password);
  if (redis.read("sentinels", settings.sentinels)) {
    if (settings.sentinels.empty()) take_at(redis, "sentinels", "expected at least one host:port, got an empty list", "for example: sentinels: [s1:26379, s2:26379, s3:26379]");
    for (const std::string& sentinel : settings.sentinels) {
      if (const auto address = parse_host_port(sentinel, kSentinelPort); !address) take_at(redis, "sentinels", address.error().text, address.error().hint);
    }
    if (settings.url.reveal().starts_with("unix:")) {
      take_at(redis, "sentinels", "'url' is a socket on this machine, which no Sentinel knows",
              "write the master's name as its host: redis://mymaster/0");
    }
  } else if (!settings.sentinel_password.empty()) {
    take_at(redis, "sentinel_password", "expected 'sentinels' beside it, got none", "the password of Redis itself belongs into 'url'");
  }
}

void read_park_after(YamlMap& cache, ParkAfter& park_after) {
  const YamlNode* node = cache.find("park_after");
  if (node == nullptr) return;
  park_after.age.reset();
  if (node->kind == YamlNode::Kind::kText) {
    if (node->text == "never") return;
    take_at(cache, "park_after", "expected 'never' or a map, got " + describe(*node),
            "for example: park_after: {age: 10m, wal: 10GiB}");
    return;
  }
  YamlMap map(*node, "'park_after'");
  if (node->kind != YamlNode::Kind::kList && node->entries.empty()) {
    take_at(cache, "park_after", "expected 'age', 'wal' or both, got nothing", "for example: park_after: {age: 10m, wal: 10GiB}, or park_after: never");
    return;
  }
  milliseconds age{0};
  if (map.read("age", age, kSecond, 7 * 24 * kHour)) park_after.age = age;
  std::uint64_t bytes = 0;
  if (map.read_size("wal", bytes, 16ULL * 1024 * 1024, 1ULL << 50)) park_after.wal_bytes = bytes;
  cache.take(map.finish(), *node);
}

// `park_after`: of the only cache, whose settings have no other place; null: it stands beside them.
void read_redis(YamlMap& parent, const std::filesystem::path& folder, RedisSettings& settings, ParkAfter* park_after) {
  const YamlNode* node = parent.require("redis");
  if (node == nullptr) return;
  YamlMap map(*node, "'redis'");
  map.require("url");
  read_redis_url(map, settings.url);
  const Result<RedisAddress> address = parse_redis_url(settings.url.reveal());
  read_credential(map, address && !address->password.empty(), folder, settings.credential);
  read_sentinels(map, settings);
  // Shorter than the slowest reader is useless, and a day of tombstones is memory for nothing.
  map.read("tombstone_ttl", settings.tombstone_ttl, kSecond, 24 * kHour);
  settings.tombstone_ttl_place = map.place_of("tombstone_ttl");
  map.read("timeout", settings.timeout, milliseconds(100), 5 * kMinute);
  map.read("replicas_ack", settings.replicas_ack, 1, 100);
  if (map.read("replicas_timeout", settings.replicas_timeout, milliseconds(100), 5 * kMinute) && map.find("replicas_ack") == nullptr) {
    take_at(map, "replicas_timeout", "expected 'replicas_ack' beside it, got none", "replicas_ack: 1 waits for one replica");
  }
  read_tls(map, folder, settings);
  if (park_after != nullptr) {
    read_park_after(map, *park_after);
  } else if (map.has("park_after")) {
    map.find("park_after");
    take_at(map, "park_after", "expected 'park_after' beside 'redis', got it inside", "of several caches each has its own: eu: {redis: {...}, park_after: {age: 10m}}");
  }
  parent.take(map.finish(), *node);
}

constexpr std::pair<std::string_view, EdgeRate> kPlanRates[] = {{"free", {5, kMinute, 25}},
                                                               {"pro", {5, kSecond, 25}},
                                                               {"business", {10, kSecond, 50}},
                                                               {"enterprise", {50, kSecond, 500}}};
constexpr std::pair<std::string_view, bool> kVarnishMethods[] = {{"PURGE", false}, {"BAN", true}};

// What may stand in a header, or in the path of a url, without changing what comes after it.
bool is_one_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}
bool is_one_line(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
}
bool is_token(std::string_view text) {  // a name of a header, or a method
  return !text.empty() && text.size() <= 100 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

void read_token(YamlMap& map, std::string_view name, Secret& token) {
  read_secret(map, name, token);
  if (!token.empty() && !is_one_word(token.reveal())) {
    take_at(map, name, "expected printable characters without spaces, got others",
            "a token read from a file may end with a line break: cut it off");
  }
}

void read_http_url(YamlMap& map, Secret& url, bool is_base) {
  read_secret(map, "url", url);
  const YamlNode* found = map.find("url");
  if (found == nullptr || url.empty()) return;
  std::string text = url.reveal();
  const std::size_t scheme = text.find("://");
  const bool is_http = text.starts_with("http://") || text.starts_with("https://");
  if (!is_http || text.size() == scheme + 3 || text[scheme + 3] == '/' || !is_one_word(text)) {
    take_at(map, "url", "expected an http:// or https:// url with a host",
            is_base ? "for example https://api.fastly.com, without a path" : "for example http://edge:6081/");
    return;
  }
  if (is_base) {
    while (text.ends_with('/')) text.pop_back();
    url = Secret(text);
  } else if (text.find('/', scheme + 3) == std::string::npos) {
    url = Secret(text + "/");
  }
}

void read_id(YamlMap& map, std::string_view name, std::string& id) {
  map.require(name);
  if (map.read(name, id) && !is_token(id)) {
    take_at(map, name, "expected letters, digits, '-' and '_', got " + describe(*map.find(name)));
  }
}

void read_rate(YamlMap& map, EdgeRate& rate) {
  const YamlNode* node = map.find("rate");
  if (node == nullptr) return;
  YamlMap settings(*node, "'rate'");
  settings.require("requests");
  settings.read("requests", rate.requests, 1, 10'000);
  rate.per = kSecond;
  rate.burst = rate.requests;
  settings.read("per", rate.per, kSecond, kHour);
  settings.read("burst", rate.burst, 1, 100'000);
  map.take(settings.finish(), *node);
}

void read_generic_edge(YamlMap& map, ServiceOptions& service) {
  if (map.read("method", service.method) && !is_token(service.method)) {
    take_at(map, "method", "expected a method such as POST, got " + describe(*map.find("method")));
  }
  if (const YamlNode* node = map.find("headers")) {
    YamlMap headers(*node, "'headers'");
    for (const YamlEntry& entry : node->entries) {
      Secret value;
      read_secret(headers, entry.name, value);
      if (!is_token(entry.name) || !is_one_line(value.reveal())) {
        headers.take(fail_at(entry.place, "'headers': expected a name of letters, digits and '-', and a value of one line"),
                     entry.place);
      }
      service.headers.emplace_back(entry.name, std::move(value));
    }
    map.take(headers.finish(), *node);
  }
  read_secret(map, "body", service.body);
  std::uint64_t batch = service.keys_max;
  if (map.read("batch", batch, 1, 1000)) service.keys_max = batch;
  if (map.read("separator", service.separator) && (service.separator.empty() || !is_one_line(service.separator))) {
    take_at(map, "separator", "expected a text of one line, got " + describe(*map.find("separator")));
  }
  map.read("expect", service.expect);
  if (const YamlNode* node = map.find("purge_all")) {
    YamlMap all(*node, "'purge_all'");
    HttpPurgeAll& settings = service.purge_all.emplace();
    all.require("url");
    read_http_url(all, settings.url, false);
    if (all.read("method", settings.method) && !is_token(settings.method)) {
      take_at(all, "method", "expected a method such as POST, got " + describe(*all.find("method")));
    }
    read_secret(all, "body", settings.body);
    map.take(all.finish(), *node);
  }
  const auto names_keys = [](const Secret& text) { return text.reveal().find("{keys") != std::string::npos; };
  if (!names_keys(service.url) && !names_keys(service.body) &&
      std::none_of(service.headers.begin(), service.headers.end(), [&](const auto& one) { return names_keys(one.second); })) {
    map.take_last(fail_at(map.node().place, "'http': expected {keys} or {keys_json} in 'url', 'headers' or 'body'",
                          "for example body: '{\"tags\": {keys_json}}'"));
  }
}

void read_on_gap(YamlMap& cache, EdgeSettings& edge) {
  const YamlNode* node = cache.find("on_gap");
  if (node != nullptr && node->kind == YamlNode::Kind::kMap) {
    edge.on_gap.what = OnGap::What::kKeys;
    YamlMap map(*node, "'on_gap'");
    map.require("keys");
    map.read("keys", edge.on_gap.keys);
    if (map.has("keys") && (edge.on_gap.keys.empty() || edge.on_gap.keys.size() > 100)) {
      take_at(map, "keys", fmt::format("expected 1 to 100 surrogate keys, got {}", edge.on_gap.keys.size()));
    }
    cache.take(map.finish(), *node);
  } else if (node != nullptr && (node->kind != YamlNode::Kind::kText || (node->text != "all" && node->text != "ignore"))) {
    take_at(cache, "on_gap", "expected 'all', 'ignore' or {keys: [...]}, got " + describe(*node),
            "what is purged when it is not known which keys: after a gap, TRUNCATE, or a value that was not sent");
  } else if (node != nullptr && node->text == "ignore") {
    edge.on_gap.what = OnGap::What::kIgnore;
  }
  if (edge.on_gap.what == OnGap::What::kAll && edge.service.kind == EdgeKind::kHttp && !edge.service.purge_all) {
    const Place& place = node != nullptr ? cache.place_of("on_gap") : cache.node().place;
    cache.take_last(fail_at(place, "'on_gap: all' needs 'purge_all' in 'http': how everything is purged",
                            "or set on_gap: {keys: [a key that every response carries]}, or on_gap: ignore"));
  }
}

void read_edge(YamlMap& cache, const std::filesystem::path& folder, EdgeKind kind, EdgeSettings& edge) {
  const YamlNode* node = cache.find(edge_kind_name(kind));
  ServiceOptions& service = edge.service = service_defaults(kind);
  YamlMap map(*node, fmt::format("'{}'", edge_kind_name(kind)));
  switch (kind) {
    case EdgeKind::kFastly:
      read_id(map, "service", service.id);
      map.require("token");
      read_token(map, "token", service.token);
      map.read("soft", service.is_soft);
      read_http_url(map, service.url, true);
      break;
    case EdgeKind::kCloudflare: {
      read_id(map, "zone", service.id);
      map.require("token");
      read_token(map, "token", service.token);
      read_http_url(map, service.url, true);
      map.read("plan", service.rate, kPlanRates);
      break;
    }
    case EdgeKind::kVarnish: {
      map.require("url");
      read_http_url(map, service.url, false);
      if (map.read("header", service.header) && !is_token(service.header)) {
        take_at(map, "header", "expected the name of a header, got " + describe(*map.find("header")));
      }
      map.read("method", service.is_ban, kVarnishMethods);
      map.read("soft", service.is_soft);
      if (service.is_ban && service.is_soft) {
        take_at(map, "soft", "a ban cannot be soft", "use method: PURGE with vmod xkey for soft purges");
      }
      read_token(map, "token", service.token);
      std::uint64_t bytes = service.bytes_max;
      if (map.read_size("header_max", bytes, 256, 1024 * 1024)) service.bytes_max = bytes;
      break;
    }
    case EdgeKind::kHttp:
      map.require("url");
      read_http_url(map, service.url, false);
      read_generic_edge(map, service);
      break;
  }
  read_rate(map, service.rate);
  read_file_name(map, "ca", folder, edge.ca);
  map.read("timeout", edge.timeout, milliseconds(100), 5 * kMinute);
  cache.take(map.finish(), *node);
  cache.read("origin_time", edge.origin_time, milliseconds(0), 10 * kMinute);
  read_on_gap(cache, edge);
}

// The kinds of cache that an entry names: exactly one.
void read_kind(YamlMap& map, const std::filesystem::path& folder, CacheSettings& cache) {
  std::vector<std::string_view> named;
  if (map.has("redis")) named.push_back("redis");
  for (const EdgeKind kind : kEdgeKinds) {
    if (map.has(edge_kind_name(kind))) named.push_back(edge_kind_name(kind));
  }
  if (named.size() > 1) {
    for (const std::string_view name : named) map.find(name);
    map.take(fail_at(map.place_of(named[1]), fmt::format("expected one kind of cache, got both '{}' and '{}'", named[0], named[1]),
                     "give each a name of its own below 'caches'"),
             map.place_of(named[1]));
    return;
  }
  if (named.empty()) {
    map.find("redis");  // so that a mistyped one is told what it is like
    for (const EdgeKind kind : kEdgeKinds) map.find(edge_kind_name(kind));
    map.take_last(fail_at(map.node().place, fmt::format("missing what cache '{}' is: expected 'redis', 'fastly', 'cloudflare', "
                                                        "'varnish' or 'http'", cache.name)));
    return;
  }
  if (named[0] == "redis") return read_redis(map, folder, cache.redis, nullptr);
  for (const EdgeKind kind : kEdgeKinds) {
    if (edge_kind_name(kind) == named[0]) read_edge(map, folder, kind, cache.edge.emplace());
  }
}

// An edge stands behind every Redis unless it says otherwise; the first of them keeps its record.
void place_edges(YamlMap& map, std::vector<CacheSettings>& caches) {
  for (CacheSettings& cache : caches) {
    if (!cache.edge) continue;
    if (cache.after.empty()) {
      for (const CacheSettings& other : caches) {
        if (!other.edge) cache.after.push_back(other.name);
      }
    }
  }
  for (CacheSettings& cache : caches) {
    if (!cache.edge) continue;
    std::vector<std::string> next = cache.after;
    for (std::size_t i = 0; i < next.size() && i < 1000 && cache.edge->record_in.empty(); ++i) {
      for (const CacheSettings& other : caches) {
        if (other.name != next[i]) continue;
        if (!other.edge) {
          cache.edge->record_in = other.name;
        } else {
          next.insert(next.end(), other.after.begin(), other.after.end());
        }
        break;
      }
    }
    if (!cache.edge->record_in.empty()) continue;
    map.take_last(fail_at(cache.place, fmt::format("cache '{}' stands behind no Redis: there is no place for evictd's record of it", cache.name),
                          "name the Redis it is filled from: after: [...]"));
  }
}

constexpr std::size_t kCachesMax = 16;
// Names are labels of metrics and words of rules.
bool is_cache_name(const std::string& name) {
  return !name.empty() && name.size() <= 40 &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
         });
}

// By what is written: of two names of one server nothing is known here.
bool is_same_redis(const CacheSettings& one, const CacheSettings& other) {
  if (one.edge || other.edge || one.redis.sentinels != other.redis.sentinels) return false;
  const Result<std::vector<RedisAddress>> mine = parse_redis_urls(one.redis.url.reveal());
  const Result<std::vector<RedisAddress>> theirs = parse_redis_urls(other.redis.url.reveal());
  if (!mine || !theirs || mine->empty() || theirs->empty()) return false;
  const RedisAddress& first = mine->front();
  const RedisAddress& second = theirs->front();
  return first.host == second.host && first.port == second.port && first.socket_path == second.socket_path && first.database == second.database;
}

// A cache that stands behind itself would wait for ever.
std::optional<std::string> circle_through(const std::vector<CacheSettings>& caches, const CacheSettings& from) {
  std::vector<const CacheSettings*> seen;
  std::vector<std::string> next = from.after;
  while (!next.empty()) {
    const std::string name = std::move(next.back());
    next.pop_back();
    if (name == from.name) return name;
    for (const CacheSettings& cache : caches) {
      if (cache.name != name || std::find(seen.begin(), seen.end(), &cache) != seen.end()) continue;
      seen.push_back(&cache);
      next.insert(next.end(), cache.after.begin(), cache.after.end());
    }
  }
  return std::nullopt;
}

void read_caches(YamlMap& root, const std::filesystem::path& folder, std::vector<CacheSettings>& caches) {
  const YamlNode* node = root.find("caches");
  if (node == nullptr) {
    CacheSettings& only = caches.emplace_back();
    only.name = "redis";
    only.place = root.place_of("redis");
    if (root.find("redis") == nullptr) {
      root.take_last(fail_at(root.node().place, "missing a cache: expected 'redis' or 'caches'",
                             "for example: redis: {url: redis://localhost:6379/0}, or several: caches: {eu: {redis: {url: redis://eu/0}}}"));
      return;
    }
    read_redis(root, folder, only.redis, &only.park_after);
    return;
  }
  if (root.has("redis")) {
    root.find("redis");
    take_at(root, "redis", "expected 'redis' or 'caches', got both",
            "'redis: {url: ...}' is one cache named 'redis': move it below 'caches'");
    return;
  }
  YamlMap map(*node, "'caches'");
  for (const YamlEntry& entry : node->entries) {
    const YamlNode* value = map.find(entry.name);
    if (value == nullptr) continue;
    if (!is_cache_name(entry.name)) {
      take_at(map, entry.name, "expected a name of 1 to 40 letters, digits, '_' and '-', got " + described_text(entry.name),
              "it is a label of metrics and a word of rules");
      continue;
    }
    CacheSettings& cache = caches.emplace_back();
    cache.name = entry.name;
    cache.place = map.place_of(entry.name);
    // One of several that is away must not fill the database's disk.
    cache.park_after.age = 10 * kMinute;
    YamlMap settings(*value, "cache '" + entry.name + "'");
    read_kind(settings, folder, cache);
    settings.read("after", cache.after);
    read_park_after(settings, cache.park_after);
    map.take(settings.finish(), *value);
  }
  if (node->entries.size() == 1 && !caches.empty() && !node->entries.front().value.entries.empty()) {
    // The only one parks only before PostgreSQL would give the slot up, unless it says otherwise.
    YamlMap only(node->entries.front().value, "");
    if (!only.has("park_after")) caches.front().park_after.age.reset();
  }
  if (node->entries.empty() || node->entries.size() > kCachesMax) {
    take_at(root, "caches", node->items.empty() ? fmt::format("expected 1 to {} caches, got {}", kCachesMax, node->entries.size())
                                                   : "expected a map of caches by their names, got a list",
            "for example: caches: {eu: {redis: {url: redis://eu/0}}, us: {redis: {url: redis://us/0}}}");
  }
  place_edges(map, caches);
  for (auto cache = caches.begin(); cache != caches.end(); ++cache) {
    const auto same = std::find_if(caches.begin(), cache, [&](const CacheSettings& other) { return is_same_redis(*cache, other); });
    if (same == cache) continue;
    map.take(fail_at(cache->place, fmt::format("cache '{}' is the same Redis and database as '{}'", cache->name, same->name),
                     "both would write one record there: give one another database, as in redis://host/1, or take it out"),
             cache->place);
  }
  std::vector<std::string_view> names;
  for (const CacheSettings& cache : caches) names.push_back(cache.name);
  for (const CacheSettings& cache : caches) {
    for (const std::string& before : cache.after) {
      if (std::find(names.begin(), names.end(), before) != names.end()) continue;
      map.take(fail_at(cache.place, fmt::format("'after' of cache '{}' names '{}', which is no cache", cache.name, before),
                       did_you_mean(before, names, "caches")),
               cache.place);
    }
    if (circle_through(caches, cache)) {
      map.take(fail_at(cache.place, fmt::format("cache '{}' stands behind itself: 'after' goes in a circle", cache.name),
                       "a cache comes after those it is filled from, such as a CDN after the caches in front of the database"),
               cache.place);
      break;
    }
  }
  root.take(map.finish(), *node);
}

void read_http(YamlMap& root, Config& config) {
  const YamlNode* node = root.find("http");
  if (node == nullptr) return;
  YamlMap map(*node, "'http'");
  std::string listen;
  if (map.read("listen", listen)) {
    if (listen == "off") {
      config.listen.reset();
    } else if (Result<ListenAddress> address = ListenAddress::parse(listen); address) {
      config.listen = *address;
    } else {
      take_at(map, "listen", "expected host:port or 'off', got " + describe(*map.find("listen")),
              address.error().hint);
    }
  }
  map.read("show_keys", config.show_keys);
  root.take(map.finish(), *node);
}

void read_log(YamlMap& root, Config& config) {
  const YamlNode* node = root.find("log");
  if (node == nullptr) return;
  YamlMap map(*node, "'log'");
  map.read("level", config.log_level, kLevelNames);
  map.read("format", config.log_format, kFormatNames);
  root.take(map.finish(), *node);
}

void read_limits(YamlMap& root, Config& config) {
  const YamlNode* node = root.find("limits");
  if (node == nullptr) return;
  YamlMap map(*node, "'limits'");
  map.read_size("inflight", config.inflight_bytes_max, 1 << 20, 4ULL << 30);
  root.take(map.finish(), *node);
}

// "20/s": questions per second.
void read_audit(YamlMap& root, Config& config) {
  const YamlNode* node = root.find("audit");
  if (node == nullptr) return;
  config.audit_place = node->place;
  YamlMap map(*node, "'audit'");
  std::string text;
  if (map.require("rate") != nullptr && map.read("rate", text)) {
    const std::string_view digits = std::string_view(text).substr(0, text.find("/s"));
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), config.audit_rate);
    const bool is_whole = error == std::errc() && end == digits.data() + digits.size() && text == std::string(digits) + "/s";
    if (!is_whole || config.audit_rate < 1 || config.audit_rate > 1000) {
      config.audit_rate = 0;
      take_at(map, "rate", "expected 1/s to 1000/s, got " + describe(*map.find("rate")), "for example 'rate: 20/s'");
    }
  }
  root.take(map.finish(), *node);
}

void read_rules_setting(YamlMap& root, Config& config, const std::filesystem::path& folder) {
  const YamlNode* node = root.require("rules");
  if (node == nullptr) return;
  const bool is_url = node->text.find("://") != std::string::npos;
  if (node->kind == YamlNode::Kind::kText && !node->text.empty() && !is_url) {
    config.rules_file = (folder / node->text).string();
  } else if (node->kind != YamlNode::Kind::kList && node->kind != YamlNode::Kind::kMap) {
    take_at(root, "rules", "expected a file name or a list of rules, got " + describe(*node),
            "for example 'rules: rules.yaml'");
  }
}

}  // namespace

Result<ValidConfig> parse_config(const std::string& text, const std::string& file,
                                 const Environment& environment) {
  Result<YamlNode> tree = parse_yaml(text, file);
  if (!tree) return tl::unexpected(tree.error());
  if (Result<void> done = expand_variables(*tree, environment, "rules"); !done) {
    return tl::unexpected(done.error());
  }
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  Config config;
  config.file = file;
  YamlMap root(*tree, "the configuration");
  read_postgres(root, config, folder);
  read_kafka(root, config, folder);
  if (config.postgres && config.kafka) {
    const bool kafka_is_later = root.place_of("kafka").line > root.place_of("postgres").line;
    const Place& second = root.place_of(kafka_is_later ? "kafka" : "postgres");
    root.take(fail_at(second, "expected one source, got both 'postgres' and 'kafka'",
                      "run one evictd for each source")
                  .value(),
              second);
  }
  read_caches(root, folder, config.caches);
  read_http(root, config);
  read_log(root, config);
  read_limits(root, config);
  read_audit(root, config);
  read_rules_setting(root, config, folder);
  if (Result<void> done = root.finish(); !done) return tl::unexpected(done.error());
  if (!config.postgres && !config.kafka) {
    return fail_at(tree->place, "missing a source: expected 'postgres' or 'kafka'",
                   "for example: postgres: {url: postgresql://evictd@localhost/shop}");
  }
  if (config.kafka && config.audit_rate != 0) {
    return fail_at(config.audit_place, "'audit' needs 'postgres' as the source",
                   "an offset in Kafka does not tell how far evictd has come in the database's log");
  }
  return ValidConfig(std::move(config));
}

Result<ValidConfig> load_config(const std::string& file, const Environment& environment) {
  Result<std::string> text = read_text_file(file, "configuration");
  if (!text) {
    Error error = text.error();
    if (error.hint.empty()) error.hint = "name it with -c FILE, or let 'evictd init' propose one";
    return tl::unexpected(std::move(error));
  }
  return parse_config(*text, file, environment);
}

namespace {

Result<RuleSet> parse_rules_file(const std::string& file) {
  Result<std::string> text = read_text_file(file, "rules file");
  if (!text) return tl::unexpected(text.error());
  Result<YamlNode> tree = parse_yaml(*text, file);
  if (!tree) return tl::unexpected(tree.error());
  if (Result<void> done = expand_variables(*tree, process_environment, "", Expanded::kShown); !done) {
    return tl::unexpected(done.error());
  }
  return RuleSet::parse(*tree);
}

// The rules that stand in the configuration itself, or in the file that it names.
Result<RuleSet> parse_rules_of(const std::string& config_file) {
  Result<std::string> text = read_text_file(config_file, "configuration");
  if (!text) return tl::unexpected(text.error());
  Result<YamlNode> tree = parse_yaml(*text, config_file);
  if (!tree) return tl::unexpected(tree.error());
  for (YamlEntry& entry : tree->entries) {
    if (entry.name != "rules") continue;
    if (Result<void> done = expand_variables(entry.value, process_environment, "", Expanded::kShown); !done) {
      return tl::unexpected(done.error());
    }
  }
  YamlMap root(*tree, "the configuration");
  Config config;
  read_rules_setting(root, config, std::filesystem::path(config_file).parent_path());
  if (!root.ok()) return tl::unexpected(root.finish().error());
  return config.rules_file.empty() ? RuleSet::parse(*root.find("rules"))
                                   : parse_rules_file(config.rules_file);
}

// Each text with its length, so that no two trees are one text; of a map the order means nothing.
void append_settings(std::string& out, const YamlNode& node) {
  std::vector<const YamlEntry*> entries;
  for (const YamlEntry& entry : node.entries) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(), [](const YamlEntry* a, const YamlEntry* b) { return a->name < b->name; });
  out += fmt::format("{}:{}:{}", static_cast<int>(node.kind), node.text.size(), node.text);
  out += fmt::format("[{}", node.items.size());
  for (const YamlNode& item : node.items) append_settings(out, item);
  out += fmt::format("{{{}", entries.size());
  for (const YamlEntry* entry : entries) {
    out += fmt::format("{}:{}", entry->name.size(), entry->name);
    append_settings(out, entry->value);
  }
}

// What a rule's `refresh` needs of the configuration.
Result<void> check_refresh(const Config& config, const RuleInfo& rule) {
  if (!rule.refresh.is_set() || !rule.refresh.rule.empty()) return {};
  if (!rule.refresh.query.empty() && config.kafka && config.kafka->postgres_url.empty()) {
    return fail_at(rule.refresh.place, fmt::format("'refresh' of rule '{}' needs 'postgres_url' in 'kafka'", rule.name),
                   "its query has to be asked somewhere; or let the application fill: refresh: {stream: 'evictd:refresh'}");
  }
  const bool has_redis = std::any_of(config.caches.begin(), config.caches.end(),
                                     [&](const CacheSettings& cache) { return !cache.edge && acts_on(rule, cache.name); });
  if (!has_redis) {
    return fail_at(rule.refresh.place, fmt::format("'refresh' of rule '{}' has no cache of Redis to fill", rule.name),
                   "nothing can be stored at an edge; name a cache of Redis in 'caches', or take 'refresh' out");
  }
  return {};
}

}  // namespace

Result<RuleSet> load_rules_only(const std::string& config_file) {
  return parse_rules_of(config_file);
}

Result<std::string> settings_besides_rules(const std::string& config_file) {
  Result<std::string> text = read_text_file(config_file, "configuration");
  if (!text) return text;
  Result<YamlNode> tree = parse_yaml(*text, config_file);
  if (!tree) return tl::unexpected(tree.error());
  // The name of the rules' file is a setting; rules that stand in this file are not.
  std::erase_if(tree->entries, [](const YamlEntry& entry) { return entry.name == "rules" && entry.value.kind != YamlNode::Kind::kText; });
  std::string settings;
  append_settings(settings, *tree);
  return settings;
}

Result<RuleSet> load_rules(const Config& config) {
  Result<RuleSet> rules =
      config.rules_file.empty() ? parse_rules_of(config.file) : parse_rules_file(config.rules_file);
  if (!rules) return rules;
  std::vector<std::string_view> names;
  for (const CacheSettings& cache : config.caches) names.push_back(cache.name);
  for (const RuleInfo& rule : rules->rules()) {
    if (Result<void> done = check_refresh(config, rule); !done) return tl::unexpected(done.error());
    if (config.kafka && config.kafka->postgres_url.empty() && !rule.lookups.empty()) {
      return fail_at(rule.place, fmt::format("rule '{}' has joined tables ('via'), and there is no database to look them up in", rule.name),
                     "set kafka.postgres_url to the database that Debezium reads");
    }
    for (const std::string& name : rule.caches) {
      const auto cache = std::find_if(config.caches.begin(), config.caches.end(), [&](const CacheSettings& one) { return one.name == name; });
      if (cache == config.caches.end()) {
        return fail_at(rule.place, fmt::format("rule '{}' names the cache '{}', which the configuration does not have", rule.name, name),
                       did_you_mean(name, names, "caches"));
      }
      if (!rule.implied_via.empty() || (cache->edge ? rule.surrogate_digest != 0 : rule.digest != 0 || !rule.semantic.empty())) continue;
      return fail_at(rule.place,
                     cache->edge ? fmt::format("rule '{}' names the cache '{}', an edge, and has no 'surrogate_keys' for it", rule.name, name)
                                 : fmt::format("rule '{}' names the cache '{}', a Redis, and has nothing but 'surrogate_keys'", rule.name, name),
                     fmt::format("{}, or take '{}' out of its 'caches'", cache->edge ? "write 'surrogate_keys'" : "write 'keys' or 'tags'", name));
    }
    for (const CacheSettings& cache : config.caches) {
      if (cache.edge || !acts_on(rule, cache.name) || rule.settle < cache.redis.tombstone_ttl) continue;
      return fail_at(
          rule.place,
          fmt::format("settle of rule '{}' is {}: expected less than 'tombstone_ttl' ({})", rule.name,
                      duration_text(rule.settle), duration_text(cache.redis.tombstone_ttl)),
          fmt::format("shorten settle, or raise tombstone_ttl in {}",
                      cache.redis.tombstone_ttl_place.to_string()));
    }
  }
  return rules;
}

}  // namespace evictd
