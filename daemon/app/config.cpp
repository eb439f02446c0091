#include "daemon/app/config.h"

#include <fmt/core.h>

#include <filesystem>

#include "daemon/app/config_file.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sinks/redis/url.h"
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

void read_redis(YamlMap& root, RedisSettings& settings) {
  const YamlNode* node = root.require("redis");
  if (node == nullptr) return;
  YamlMap map(*node, "'redis'");
  map.require("url");
  read_redis_url(map, settings.url);
  // Shorter than the slowest reader is useless, and a day of tombstones is memory for nothing.
  map.read("tombstone_ttl", settings.tombstone_ttl, kSecond, 24 * kHour);
  settings.tombstone_ttl_place = map.place_of("tombstone_ttl");
  map.read("timeout", settings.timeout, milliseconds(100), 5 * kMinute);
  read_tls(map, settings);
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
  read_redis(root, config.redis);
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
  return RuleSet::parse(*text, file);
}

// The rules that stand in the configuration itself, or in the file that it names.
Result<RuleSet> parse_rules_of(const std::string& config_file) {
  Result<std::string> text = read_text_file(config_file, "configuration");
  if (!text) return tl::unexpected(text.error());
  Result<YamlNode> tree = parse_yaml(*text, config_file);
  if (!tree) return tl::unexpected(tree.error());
  for (YamlEntry& entry : tree->entries) {
    if (entry.name != "rules" || entry.value.kind != YamlNode::Kind::kText) continue;
    if (Result<void> done = expand_variables(entry.value, process_environment, ""); !done) {
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
  for (const RuleInfo& rule : rules->rules()) {
    // There is one cache, and a rule that is meant for another must not act on it as if it were.
    for (const std::string& cache : rule.caches) {
      if (cache == "redis") continue;
      return fail_at(rule.place,
                     fmt::format("rule '{}' names the cache '{}', which the configuration does not have", rule.name, cache),
                     "known caches: 'redis'");
    }
    if (rule.settle < config.redis.tombstone_ttl) continue;
    return fail_at(
        rule.place,
        fmt::format("settle of rule '{}' is {}: expected less than 'tombstone_ttl' ({})", rule.name,
                    duration_text(rule.settle), duration_text(config.redis.tombstone_ttl)),
        fmt::format("shorten settle, or raise tombstone_ttl in {}",
                    config.redis.tombstone_ttl_place.to_string()));
  }
  return rules;
}

}  // namespace evictd
