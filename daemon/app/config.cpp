#include "daemon/app/config.h"

#include <fmt/core.h>

#include <filesystem>

#include "daemon/app/config_file.h"
#include "daemon/sources/postgres/conninfo.h"
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
  map.take(fail_at(place, fmt::format("'{}': {}", name, text), std::move(hint)).value(), place);
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
    take_at(map, name, conninfo.error().text,
            "for example postgresql://evictd@localhost/shop, or 'host=localhost dbname=shop'");
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

void read_postgres(YamlMap& root, Config& config) {
  const YamlNode* node = root.find("postgres");
  if (node == nullptr) return;
  PostgresSettings& settings = config.postgres.emplace();
  YamlMap map(*node, "'postgres'");
  map.require("url");
  read_postgres_url(map, "url", settings.url);
  if (map.read("slot", settings.slot) && !is_slot_name(settings.slot)) {
    take_at(map, "slot",
            "expected 1 to 63 of a-z, 0-9 and '_', got " + describe(*map.find("slot")));
  }
  if (map.read("publication", settings.publication) &&
      (settings.publication.empty() || settings.publication.size() > 63)) {
    take_at(map, "publication",
            fmt::format("expected 1 to 63 bytes, got {}", settings.publication.size()));
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

void read_kafka(YamlMap& root, Config& config, const std::filesystem::path& folder) {
  const YamlNode* node = root.find("kafka");
  if (node == nullptr) return;
  KafkaSettings& settings = config.kafka.emplace();
  settings.place = root.place_of("kafka");
  YamlMap map(*node, "'kafka'");
  map.require("brokers");
  map.require("topics");
  map.read("brokers", settings.brokers);
  map.read("group", settings.group);
  map.read("topics", settings.topics);
  read_properties(map, settings);
  map.read("on_first_start", config.on_first_start, kOnFirstStartNames);
  map.read("on_snapshot", settings.invalidate_snapshot_events, kOnSnapshotNames);
  map.read("on_poison", settings.on_poison, kOnPoisonNames);
  if (map.read("dead_letter_file", settings.dead_letter_file) &&
      !settings.dead_letter_file.empty()) {
    settings.dead_letter_file = (folder / settings.dead_letter_file).string();
  }
  map.read_size("dead_letter_max", settings.dead_letter_bytes_max, 64 * 1024, 1ULL << 30);
  map.read("revoke_drain", settings.revoke_drain, milliseconds(0), kMinute);
  map.read("connect_url", settings.connect_url);
  read_postgres_url(map, "postgres_url", settings.postgres_url);
  root.take(map.finish(), *node);
}

void read_tls(YamlMap& redis, RedisSettings& settings) {
  const YamlNode* node = redis.find("tls");
  if (node == nullptr) return;
  if (!settings.url.empty() && !settings.url.reveal().starts_with("rediss://")) {
    redis.take(fail_at(redis.place_of("tls"), "'tls' is set, but 'url' is not a rediss:// URL",
                       "write rediss:// for a connection with TLS, or remove 'tls'")
                   .value(),
               redis.place_of("tls"));
  }
  YamlMap map(*node, "'tls'");
  map.read("ca", settings.tls_ca);
  const bool has_cert = map.read("cert", settings.tls_cert);
  const bool has_key = map.read("key", settings.tls_key);
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

void read_redis(YamlMap& parent, RedisSettings& settings) {
  const YamlNode* node = parent.require("redis");
  if (node == nullptr) return;
  YamlMap map(*node, "'redis'");
  map.require("url");
  read_redis_url(map, settings.url);
  // Shorter than the slowest reader is useless, and a day of tombstones is memory for nothing.
  map.read("tombstone_ttl", settings.tombstone_ttl, kSecond, 24 * kHour);
  settings.tombstone_ttl_place = map.place_of("tombstone_ttl");
  map.read("timeout", settings.timeout, milliseconds(100), 5 * kMinute);
  read_tls(map, settings);
  parent.take(map.finish(), *node);
}

constexpr std::size_t kCachesMax = 16;
// Names are labels of metrics and words of rules.
bool is_cache_name(const std::string& name) {
  return !name.empty() && name.size() <= 40 &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
         });
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
  milliseconds age{0};
  if (map.read("age", age, kSecond, 7 * 24 * kHour)) park_after.age = age;
  std::uint64_t bytes = 0;
  if (map.read_size("wal", bytes, 16ULL * 1024 * 1024, 1ULL << 50)) park_after.wal_bytes = bytes;
  cache.take(map.finish(), *node);
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

void read_caches(YamlMap& root, std::vector<CacheSettings>& caches) {
  const YamlNode* node = root.find("caches");
  if (node == nullptr) {
    CacheSettings& only = caches.emplace_back();
    only.name = "redis";
    only.place = root.place_of("redis");
    read_redis(root, only.redis);
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
      take_at(map, entry.name, "expected a name of 1 to 40 letters, digits, '_' and '-', got '" + entry.name + "'");
      continue;
    }
    CacheSettings& cache = caches.emplace_back();
    cache.name = entry.name;
    cache.place = map.place_of(entry.name);
    // One of several that is away must not fill the database's disk.
    cache.park_after.age = 10 * kMinute;
    YamlMap settings(*value, "cache '" + entry.name + "'");
    read_redis(settings, cache.redis);
    settings.read("after", cache.after);
    read_park_after(settings, cache.park_after);
    map.take(settings.finish(), *value);
  }
  if (node->entries.size() == 1 && !caches.empty() && !node->entries.front().value.entries.empty()) {
    // The only one parks only before PostgreSQL would give the slot up, unless it says otherwise.
    YamlMap only(node->entries.front().value, "");
    if (!only.has("park_after")) caches.front().park_after.age.reset();
  }
  if (caches.empty() || caches.size() > kCachesMax) {
    take_at(root, "caches", fmt::format("expected 1 to {} caches, got {}", kCachesMax, caches.size()));
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

void read_rules_setting(YamlMap& root, Config& config, const std::filesystem::path& folder) {
  const YamlNode* node = root.require("rules");
  if (node == nullptr) return;
  if (node->kind == YamlNode::Kind::kText && !node->text.empty()) {
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
  read_postgres(root, config);
  read_kafka(root, config, folder);
  if (config.postgres && config.kafka) {
    const bool kafka_is_later = root.place_of("kafka").line > root.place_of("postgres").line;
    const Place& second = root.place_of(kafka_is_later ? "kafka" : "postgres");
    root.take(fail_at(second, "expected one source, got both 'postgres' and 'kafka'",
                      "run one evictd for each source")
                  .value(),
              second);
  }
  read_caches(root, config.caches);
  read_http(root, config);
  read_log(root, config);
  read_limits(root, config);
  read_rules_setting(root, config, folder);
  if (Result<void> done = root.finish(); !done) return tl::unexpected(done.error());
  if (!config.postgres && !config.kafka) {
    return fail_at(tree->place, "missing a source: expected 'postgres' or 'kafka'",
                   "for example: postgres: {url: postgresql://evictd@localhost/shop}");
  }
  return ValidConfig(std::move(config));
}

Result<ValidConfig> load_config(const std::string& file, const Environment& environment) {
  Result<std::string> text = read_text_file(file, "configuration");
  if (!text) {
    Error error = text.error();
    error.hint = "name it with -c FILE; deploy/evictd.yaml is an example with comments";
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

}  // namespace

Result<RuleSet> load_rules_only(const std::string& config_file) {
  return parse_rules_of(config_file);
}

Result<RuleSet> load_rules(const Config& config) {
  Result<RuleSet> rules =
      config.rules_file.empty() ? parse_rules_of(config.file) : parse_rules_file(config.rules_file);
  if (!rules) return rules;
  std::vector<std::string_view> names;
  for (const CacheSettings& cache : config.caches) names.push_back(cache.name);
  for (const RuleInfo& rule : rules->rules()) {
    if (config.kafka && !rule.lookups.empty()) {
      return fail_at(rule.place, fmt::format("rule '{}' has joined tables ('via'), which are not looked up with Kafka as the source", rule.name),
                     "follow the database itself (postgres.url), or let readers list such keys under a tag of each row (docs/rules.md)");
    }
    for (const std::string& name : rule.caches) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      return fail_at(rule.place, fmt::format("rule '{}' names the cache '{}', which the configuration does not have", rule.name, name),
                     did_you_mean(name, names, "caches"));
    }
    for (const CacheSettings& cache : config.caches) {
      if (!acts_on(rule, cache.name) || rule.settle < cache.redis.tombstone_ttl) continue;
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
