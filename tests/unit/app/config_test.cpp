// Every message of the configuration, as a person reads it.
#include "daemon/app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ostream>

namespace evictd {
namespace {

using std::chrono::milliseconds;

std::optional<std::string> no_environment(const std::string&) { return std::nullopt; }

Environment environment_of(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

std::string error_of(const std::string& text, const Environment& environment = no_environment) {
  const Result<ValidConfig> config = parse_config(text, "evictd.yaml", environment);
  if (config) return "no error";
  EXPECT_EQ(config.error().kind, ErrorKind::kUsage);
  return config.error().to_string();
}

// A complete configuration with one more line in one of its sections.
std::string with_postgres(const std::string& line) {
  return "postgres:\n  url: postgresql://localhost/shop\n  " + line +
         "\nredis: {url: redis://localhost}\nrules: rules.yaml\n";
}
std::string with_redis(const std::string& line) {
  return "postgres: {url: postgresql://localhost/shop}\nredis:\n  url: redis://localhost\n  " +
         line + "\nrules: rules.yaml\n";
}
std::string with_root(const std::string& line) {
  return "postgres: {url: postgresql://localhost/shop}\nredis: {url: redis://localhost}\n"
         "rules: rules.yaml\n" +
         line + "\n";
}

TEST(Config, TheOnlyCacheParksWhenItIsTold) {
  const auto read = [](const std::string& line) {
    const Result<ValidConfig> config = parse_config(with_redis(line), "evictd.yaml", no_environment);
    EXPECT_TRUE(config) << config.error().to_string();
    return config ? (*config)->caches.at(0).park_after : ParkAfter{};
  };
  EXPECT_FALSE(read("timeout: 1s").age);
  EXPECT_FALSE(read("park_after: never").age);
  const ParkAfter both = read("park_after: {age: 10m, wal: 10GiB}");
  EXPECT_EQ(both.age, std::chrono::minutes(10));
  EXPECT_EQ(both.wal_bytes, 10ULL << 30);
}

TEST(Config, SentinelsAndTheirPassword) {
  const Result<ValidConfig> config = parse_config(
      "postgres: {url: postgresql://localhost/shop}\n"
      "redis: {url: redis://u:pw@mymaster/0, sentinels: [s1, 's2:26380'], sentinel_password: secret}\nrules: rules.yaml\n",
      "evictd.yaml", no_environment);
  ASSERT_TRUE(config) << config.error().to_string();
  const RedisSettings& redis = (*config)->caches.at(0).redis;
  EXPECT_EQ(redis.sentinels, (std::vector<std::string>{"s1", "s2:26380"}));
  EXPECT_EQ(redis.sentinel_password.reveal(), "secret");
}

TEST(Config, FilesAreRelativeToTheConfiguration) {
  const Result<ValidConfig> config = parse_config(
      "postgres: {url: postgresql://localhost/shop, password_file: p}\n"
      "caches:\n"
      "  redis: {redis: {url: 'rediss://localhost', tls: {ca: ca.pem, cert: certs/c.pem, key: /keys/k.pem}}}\n"
      "  edge: {varnish: {url: 'https://varnish', ca: edge.pem}, after: [redis]}\nrules: rules.yaml\n",
      "/etc/evictd/evictd.yaml", no_environment);
  ASSERT_TRUE(config) << config.error().to_string();
  const RedisSettings& redis = (*config)->caches.at(0).redis;
  EXPECT_EQ((*config)->rules_file, "/etc/evictd/rules.yaml");
  EXPECT_EQ((*config)->postgres->credential.file, "/etc/evictd/p");
  EXPECT_EQ(redis.tls_ca, "/etc/evictd/ca.pem");
  EXPECT_EQ(redis.tls_cert, "/etc/evictd/certs/c.pem");
  EXPECT_EQ(redis.tls_key, "/keys/k.pem");
  EXPECT_EQ((*config)->caches.at(1).edge->ca, "/etc/evictd/edge.pem");
}

TEST(Config, ReadsEverySetting) {
  const Result<ValidConfig> config = parse_config(R"(
postgres:
  url: postgresql://evictd:secret@db.example:5433/shop
  slot: evictd_shop
  publication: shop
  on_first_start: purge
  heartbeat: off
  shutdown_grace: 7s
  client_encoding: SQL_ASCII
redis:
  url: rediss://cache.example:6380/2
  tombstone_ttl: 2m
  timeout: 1500ms
  replicas_ack: 2
  replicas_timeout: 3s
  tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
http: {listen: "[::1]:9999"}
log: {level: warning, format: json}
limits: {inflight: 64MiB}
audit: {rate: 20/s}
rules: rules/shop.yaml
)",
                                                  "/etc/evictd/evictd.yaml", no_environment);
  ASSERT_TRUE(config) << config.error().to_string();
  const Config& c = **config;
  EXPECT_EQ(c.postgres->url.reveal(), "postgresql://evictd:secret@db.example:5433/shop");
  EXPECT_EQ(c.postgres->slot, "evictd_shop");
  EXPECT_EQ(c.postgres->publication, "shop");
  EXPECT_EQ(c.on_first_start, OnFirstStart::kPurge);
  EXPECT_EQ(c.postgres->heartbeat, milliseconds(0));
  EXPECT_EQ(c.postgres->shutdown_grace, milliseconds(7000));
  EXPECT_EQ(c.postgres->client_encoding, "SQL_ASCII");
  EXPECT_EQ(c.caches.at(0).redis.url.reveal(), "rediss://cache.example:6380/2");
  EXPECT_EQ(c.caches.at(0).redis.tombstone_ttl, milliseconds(120'000));
  EXPECT_EQ(c.caches.at(0).redis.timeout, milliseconds(1500));
  EXPECT_EQ(c.caches.at(0).redis.tls_ca, "/etc/evictd/ca.pem");
  EXPECT_EQ(c.caches.at(0).redis.tls_cert, "/etc/evictd/cert.pem");
  EXPECT_EQ(c.caches.at(0).redis.tls_key, "/etc/evictd/key.pem");
  EXPECT_EQ(c.listen->to_string(), "[::1]:9999");
  EXPECT_EQ(c.log_level, LogLevel::kWarning);
  EXPECT_EQ(c.log_format, LogFormat::kJson);
  EXPECT_EQ(c.inflight_bytes_max, 64u * 1024 * 1024);
  EXPECT_EQ(c.audit_rate, 20u);
  EXPECT_EQ(c.rules_file, "/etc/evictd/rules/shop.yaml");
  EXPECT_EQ(c.record_name(), "evictd_shop");
}

TEST(Config, HasTheDocumentedDefaults) {
  const Result<ValidConfig> config = parse_config(with_root(""), "evictd.yaml", no_environment);
  ASSERT_TRUE(config) << config.error().to_string();
  const Config& c = **config;
  EXPECT_EQ(c.postgres->slot, "evictd");
  EXPECT_EQ(c.postgres->publication, "evictd");
  EXPECT_EQ(c.on_first_start, OnFirstStart::kKeep);
  EXPECT_EQ(c.postgres->heartbeat, milliseconds(10'000));
  EXPECT_EQ(c.postgres->shutdown_grace, milliseconds(5'000));
  EXPECT_EQ(c.caches.at(0).redis.tombstone_ttl, milliseconds(60'000));
  EXPECT_EQ(c.caches.at(0).redis.timeout, milliseconds(5'000));
  EXPECT_EQ(c.listen->to_string(), "127.0.0.1:9464");
  EXPECT_EQ(c.log_level, LogLevel::kInfo);
  EXPECT_EQ(c.log_format, LogFormat::kText);
  EXPECT_EQ(c.rules_file, "rules.yaml");
}

TEST(Config, ReadsKafka) {
  const Result<ValidConfig> config = parse_config(R"(
kafka:
  brokers: broker:9092
  group: evictd-shop
  topics: [shop.public.products, "^shop[.]public[.].*"]
  properties: {sasl.password: hunter2}
  on_snapshot: invalidate
  on_poison: skip
  dead_letter_file: dead.bin
  dead_letter_max: 1MiB
  revoke_drain: 2s
  postgres_url: host=db dbname=shop
  postgres_password_file: database-password
redis: {url: redis://localhost}
rules: rules.yaml
)",
                                                  "/etc/evictd.yaml", no_environment);
  ASSERT_TRUE(config) << config.error().to_string();
  const KafkaSettings& kafka = *(*config)->kafka;
  EXPECT_EQ(kafka.brokers, "broker:9092");
  EXPECT_EQ(kafka.topics.size(), 2u);
  EXPECT_EQ(kafka.properties.at("sasl.password").reveal(), "hunter2");
  EXPECT_TRUE(kafka.invalidate_snapshot_events);
  EXPECT_EQ(kafka.on_poison, KafkaSettings::OnPoison::kSkip);
  EXPECT_EQ(kafka.dead_letter_file, "/etc/dead.bin");
  EXPECT_EQ(kafka.dead_letter_bytes_max, 1024u * 1024);
  EXPECT_EQ(kafka.revoke_drain, milliseconds(2000));
  EXPECT_EQ(kafka.postgres_url.reveal(), "host=db dbname=shop");
  EXPECT_EQ(kafka.postgres_credential.file, "/etc/database-password");
  EXPECT_EQ((*config)->record_name(), "evictd-shop");
  EXPECT_EQ(kafka.registry.url, "") << "there is none";
}

TEST(Config, RefusesAPasswordOfTheDatabaseBesideKafkaThatCannotBeMeant) {
  const auto error_of = [](const std::string& lines) {
    const Result<ValidConfig> config = parse_config("kafka:\n  brokers: b\n  topics: [t]\n" + lines + "redis: {url: redis://localhost}\nrules: rules.yaml\n",
                                                    "evictd.yaml", no_environment);
    const std::string error = config ? "accepted" : config.error().text;
    EXPECT_THAT(error, testing::Not(testing::HasSubstr("hunter2")));
    return error;
  };
  EXPECT_EQ(error_of("  postgres_url: host=db\n  postgres_password_command: [cat, p]\n"), "accepted");
  EXPECT_EQ(error_of("  postgres_url: host=db password=hunter2\n  postgres_password_file: p\n"),
            "evictd.yaml:5:27: 'postgres_password_file': 'postgres_url' has a password too");
  EXPECT_EQ(error_of("  postgres_password_file: p\n"), "evictd.yaml:4:27: 'postgres_password_file': expected 'postgres_url' beside it, got none");
  EXPECT_THAT(error_of("  postgres_url: host=db\n  postgres_password_file: p\n  postgres_password_command: [cat, p]\n"),
              testing::HasSubstr("'postgres_password_command': it and 'postgres_password_file' exclude one another"));
}

std::string with_registry(const std::string& registry) {
  return "kafka:\n  brokers: b\n  topics: [t]\n  registry: " + registry + "\nredis: {url: redis://localhost}\nrules: rules.yaml\n";
}

TEST(Config, ReadsTheSchemaRegistry) {
  const auto registry_of = [](const std::string& text) {
    const Result<ValidConfig> config = parse_config(with_registry(text), "/etc/evictd.yaml", environment_of({{"P", "from the environment"}}));
    EXPECT_TRUE(config) << config.error().to_string();
    return config ? (*config)->kafka->registry : KafkaSettings::Registry{};
  };
  const auto whole = registry_of("{url: 'https://us%40er:p%2Fw%3A@registry:8081/apis/ccompat/v7/', ca: ca.pem, id: 8}");
  EXPECT_EQ(whole.url, "https://registry:8081/apis/ccompat/v7") << "without what must not be shown";
  EXPECT_EQ(whole.user, "us@er");
  EXPECT_EQ(whole.password.reveal(), "p/w:");
  EXPECT_EQ(whole.ca, "/etc/ca.pem");
  EXPECT_EQ(whole.id_bytes, 8);
  EXPECT_EQ(registry_of("{url: 'http://registry'}").id_bytes, 0);
  EXPECT_EQ(registry_of("{url: 'http://registry', user: u, password: '${P}', id: 4}").password.reveal(), "from the environment");
  EXPECT_EQ(registry_of("{url: 'http://u@registry', password_file: secret, id: auto}").credential.file, "/etc/secret");
}

// librdkafka gives no queue to a consumer without a group: evictd would crash at its first look.
TEST(Config, RefusesNamesOfKafkaThatAreEmpty) {
  const auto error_of = [](const std::string& lines) {
    const Result<ValidConfig> config = parse_config("kafka: {" + lines + "}\nredis: {url: redis://localhost}\nrules: rules.yaml\n", "evictd.yaml",
                                                    [](const std::string&) { return std::optional<std::string>(""); });
    return config ? "accepted" : config.error().text;
  };
  EXPECT_EQ(error_of("brokers: b, topics: [t]"), "accepted");
  for (const char* group : {"''", "' '", "\"\\t\"", "\"${GROUP}\""}) {
    EXPECT_THAT(error_of(fmt::format("brokers: b, topics: [t], group: {}", group)), testing::HasSubstr("'group': expected the name of a consumer group")) << group;
  }
  EXPECT_THAT(error_of("brokers: '', topics: [t]"), testing::HasSubstr("'brokers': expected host:port of a broker"));
  EXPECT_THAT(error_of("brokers: b, topics: []"), testing::HasSubstr("'topics': expected at least one"));
  EXPECT_THAT(error_of("brokers: b, topics: [t, ' ']"), testing::HasSubstr("'topics': expected the name of a topic"));
}

TEST(Config, RefusesARegistryThatCannotBeMeant) {
  const auto error_of = [](const std::string& text) {
    const Result<ValidConfig> config = parse_config(with_registry(text), "evictd.yaml", no_environment);
    const std::string error = config ? "accepted" : config.error().text;
    EXPECT_THAT(error, testing::Not(testing::HasSubstr("hunter2")));
    return error;
  };
  for (const char* url : {"registry:8081", "http://", "https://u:hunter2@", "http://u:hunter2@r/x?y=hunter2", "http://u:hun/ter2@r", "ftp://r"}) {
    EXPECT_THAT(error_of(fmt::format("{{url: '{}'}}", url)), testing::HasSubstr("expected the http:// or https:// url of a schema registry")) << url;
  }
  EXPECT_THAT(error_of("{url: 'http://u:hunter%2@r'}"), testing::HasSubstr("is not followed by two hex digits"));
  EXPECT_THAT(error_of("{user: u}"), testing::HasSubstr("missing setting 'url' in 'registry'"));
  EXPECT_THAT(error_of("{url: 'http://r', password: hunter2}"), testing::HasSubstr("a password is set, and no 'user'"));
  EXPECT_THAT(error_of("{url: 'http://u:hunter2@r', password: other}"), testing::HasSubstr("'url' has a password too"));
  EXPECT_THAT(error_of("{url: 'http://u@r', user: v}"), testing::HasSubstr("'url' has a user too"));
  EXPECT_THAT(error_of("{url: 'http://r', user: u, password: hunter2, password_file: f}"), testing::HasSubstr("exclude one another"));
  EXPECT_THAT(error_of("{url: 'http://r', id: 6}"), testing::HasSubstr("'id'"));
  EXPECT_THAT(error_of("{url: 'http://r', token: hunter2}"), testing::HasSubstr("unknown setting 'token' in 'registry'"));
}

// The configuration with an edge beside a Redis; `edge` begins in line 4, column 9.
std::string with_edge(const std::string& edge) {
  return "postgres: {url: postgresql://localhost/shop}\ncaches:\n  main: {redis: {url: redis://localhost}}\n  edge: " + edge +
         "\nrules: rules.yaml\n";
}

TEST(EdgeConfig, ReadsEachAdapter) {
  const auto edge_of = [](const std::string& text) {
    const Result<ValidConfig> config = parse_config(with_edge(text), "evictd.yaml", environment_of({{"T", "tok-SECRET"}}));
    EXPECT_TRUE(config) << config.error().to_string();
    return config ? (*config)->caches.at(1) : CacheSettings{};
  };
  const CacheSettings fastly = edge_of("{fastly: {service: x1, token: '${T}', soft: true, url: 'http://localhost:1/'}, origin_time: 3s}");
  EXPECT_EQ(fastly.edge->service.token.reveal(), "tok-SECRET");
  EXPECT_EQ(fastly.edge->service.url.reveal(), "http://localhost:1");
  EXPECT_TRUE(fastly.edge->service.is_soft);
  EXPECT_EQ(fastly.edge->origin_time, milliseconds(3000));
  EXPECT_EQ(fastly.after, std::vector<std::string>{"main"});  // every Redis, unless it says otherwise
  EXPECT_EQ(fastly.edge->record_in, "main");
  const CacheSettings cloudflare = edge_of("{cloudflare: {zone: z, token: t, plan: business}, on_gap: {keys: [site]}}");
  EXPECT_EQ(cloudflare.edge->service.url.reveal(), "https://api.cloudflare.com");
  EXPECT_EQ(cloudflare.edge->service.rate.burst, 50u);
  EXPECT_EQ(cloudflare.edge->on_gap.keys, std::vector<std::string>{"site"});
  const CacheSettings varnish = edge_of("{varnish: {url: 'http://v:6081', method: BAN, rate: {requests: 2}}, on_gap: ignore}");
  EXPECT_EQ(varnish.edge->service.url.reveal(), "http://v:6081/");
  EXPECT_TRUE(varnish.edge->service.is_ban);
  EXPECT_EQ(varnish.edge->service.rate.requests, 2u);
  EXPECT_EQ(varnish.edge->on_gap.what, OnGap::What::kIgnore);
  const CacheSettings http = edge_of("{http: {url: 'https://h/p', headers: {X-Key: '${T}'}, body: '{keys_json}', batch: 9, "
                                     "purge_all: {url: 'https://h/all'}}}");
  EXPECT_EQ(http.edge->service.keys_max, 9u);
  EXPECT_EQ(http.edge->service.headers.at(0).second.reveal(), "tok-SECRET");
}

struct WrongConfig {
  const char* name;
  std::string text;
  const char* error;
};

void PrintTo(const WrongConfig& wrong, std::ostream* out) { *out << wrong.name; }  // else ctest lists the bytes of pointers

class ConfigError : public testing::TestWithParam<WrongConfig> {};

TEST_P(ConfigError, SaysWhereWhatAndHow) { EXPECT_EQ(error_of(GetParam().text), GetParam().error); }

INSTANTIATE_TEST_SUITE_P(
    All, ConfigError,
    testing::Values(
        WrongConfig{"UnknownSetting", with_postgres("slott: x"),
                    "evictd.yaml:3:3: unknown setting 'slott' in 'postgres'\n"
                    "hint: did you mean 'slot'?"},
        WrongConfig{"PublicationIsAUrl", with_postgres("publication: postgresql://u:hunter2@h/d"),
                    "evictd.yaml:3:16: 'publication': expected a name, got a URL"},
        WrongConfig{"UnknownSection", with_root("metrics: {}"),
                    "evictd.yaml:4:1: unknown setting 'metrics' in the configuration\n"
                    "hint: known settings: 'postgres', 'kafka', 'caches', 'redis', 'http', 'log', 'limits', "
                    "'audit', 'rules'"},
        WrongConfig{
            "Duplicate", with_postgres("slot: a\n  slot: b"),
            "evictd.yaml:4:3: duplicate setting 'slot'\nhint: it was given before, in line 3"},
        WrongConfig{"WrongType", with_postgres("slot: [a]"),
                    "evictd.yaml:3:9: 'slot': expected a text, got a list\n"
                    "hint: put texts that begin with '{' or '[' in quotes"},
        WrongConfig{"SlotName", with_postgres("slot: My-Slot"),
                    "evictd.yaml:3:9: 'slot': expected 1 to 63 of a-z, 0-9 and '_', got 'My-Slot'"},
        WrongConfig{"PublicationName", with_postgres("publication: ''"),
                    "evictd.yaml:3:16: 'publication': expected 1 to 63 bytes, got 0"},
        WrongConfig{"FirstStart", with_postgres("on_first_start: purg"),
                    "evictd.yaml:3:19: 'on_first_start': expected 'keep' or 'purge', got 'purg'\n"
                    "hint: did you mean 'purge'?"},
        WrongConfig{"Encoding", with_postgres("client_encoding: LATIN1"),
                    "evictd.yaml:3:20: 'client_encoding': expected 'UTF8' or 'SQL_ASCII', got "
                    "'LATIN1'"},
        WrongConfig{"DurationWithoutUnit", with_redis("tombstone_ttl: 60"),
                    "evictd.yaml:4:18: 'tombstone_ttl': expected a duration, got '60'\n"
                    "hint: write a whole number and a unit: 250ms, 1s, 5m or 1h"},
        WrongConfig{"TombstoneTtlTooShort", with_redis("tombstone_ttl: 10ms"),
                    "evictd.yaml:4:18: 'tombstone_ttl': expected a duration from 1s to 24h, got "
                    "'10ms'"},
        WrongConfig{"HeartbeatWord", with_postgres("heartbeat: never"),
                    "evictd.yaml:3:14: 'heartbeat': expected a duration, got 'never'\n"
                    "hint: write a whole number and a unit: 250ms, 1s, 5m or 1h"},
        WrongConfig{"AuditRate", with_root("audit: {rate: 20}"),
                    "evictd.yaml:4:15: 'rate': expected 1/s to 1000/s, got '20'\nhint: for example 'rate: 20/s'"},
        WrongConfig{"AuditRateOfNothing", with_root("audit: {rate: 0/s}"),
                    "evictd.yaml:4:15: 'rate': expected 1/s to 1000/s, got '0/s'\nhint: for example 'rate: 20/s'"},
        WrongConfig{"SizeWithoutUnit", with_root("limits: {inflight: 1000}"),
                    "evictd.yaml:4:20: 'inflight': expected a size, got '1000'\n"
                    "hint: write a whole number and a unit: 512B, 64KiB, 64MiB or 1GiB"},
        WrongConfig{"LogLevel", with_root("log: {level: verbose}"),
                    "evictd.yaml:4:14: 'level': expected 'debug', 'info', 'warning' or 'error', "
                    "got 'verbose'"},
        WrongConfig{"Listen", with_root("http: {listen: 9464}"),
                    "evictd.yaml:4:16: 'listen': expected host:port or 'off', got '9464'\n"
                    "hint: for example 127.0.0.1:9464, [::1]:9464, or :9464 for every address"},
        WrongConfig{"BothSources", with_root("kafka: {brokers: b, topics: [t]}"),
                    "evictd.yaml:4:1: expected one source, got both 'postgres' and 'kafka'\n"
                    "hint: run one evictd for each source"},
        WrongConfig{"EdgeWithoutToken", with_edge("{fastly: {service: x1}}"),
                    "evictd.yaml:4:18: missing setting 'token' in 'fastly'"},
        WrongConfig{"EdgeTokenWithLineBreak", with_edge("{fastly: {service: x1, token: \"abc\\n\"}}"),
                    "evictd.yaml:4:39: 'token': expected printable characters without spaces, got others\n"
                    "hint: a token read from a file may end with a line break: cut it off"},
        WrongConfig{"EdgeUrl", with_edge("{varnish: {url: 'edge:6081'}}"),
                    "evictd.yaml:4:25: 'url': expected an http:// or https:// url with a host\n"
                    "hint: for example http://edge:6081/"},
        WrongConfig{"OneRedisUnderTwoNames", "postgres: {url: postgresql://localhost/shop}\ncaches:\n  a: {redis: {url: 'redis://r:6379/0'}}\n"
                                             "  b: {redis: {url: 'redis://u:pw@r'}}\nrules: rules.yaml\n",
                    "evictd.yaml:4:3: cache 'b' is the same Redis and database as 'a'\n"
                    "hint: both would write one record there: give one another database, as in redis://host/1, or take it out"},
        WrongConfig{"CachesAreAList", "postgres: {url: postgresql://localhost/shop}\ncaches: [{redis: {url: redis://r}}]\nrules: rules.yaml\n",
                    "evictd.yaml:2:9: 'caches': expected a map of caches by their names, got a list\n"
                    "hint: for example: caches: {eu: {redis: {url: redis://eu/0}}, us: {redis: {url: redis://us/0}}}"},
        WrongConfig{"ParkAfterWithoutUnit", with_redis("park_after: {age: 10}"),
                    "evictd.yaml:4:21: 'age': expected a duration, got '10'\n"
                    "hint: write a whole number and a unit: 250ms, 1s, 5m or 1h"},
        WrongConfig{"ParkAfterNothing", with_redis("park_after: {}"),
                    "evictd.yaml:4:15: 'park_after': expected 'age', 'wal' or both, got nothing\n"
                    "hint: for example: park_after: {age: 10m, wal: 10GiB}, or park_after: never"},
        WrongConfig{"CacheName", "postgres: {url: postgresql://localhost/shop}\ncaches:\n  'e u': {redis: {url: 'redis://r:6379/0'}}\nrules: rules.yaml\n",
                    "evictd.yaml:3:10: 'e u': expected a name of 1 to 40 letters, digits, '_' and '-', got 'e u'\n"
                    "hint: it is a label of metrics and a word of rules"},
        WrongConfig{"ParkAfterInsideOneOfSeveral", "postgres: {url: postgresql://localhost/shop}\ncaches:\n  a: {redis: {url: redis://a, park_after: never}}\n"
                                                   "rules: rules.yaml\n",
                    "evictd.yaml:3:43: 'park_after': expected 'park_after' beside 'redis', got it inside\n"
                    "hint: of several caches each has its own: eu: {redis: {...}, park_after: {age: 10m}}"},
        WrongConfig{"EdgeOfTwoKinds", with_edge("{redis: {url: redis://localhost}, varnish: {url: 'http://v/'}}"),
                    "evictd.yaml:4:43: expected one kind of cache, got both 'redis' and 'varnish'\n"
                    "hint: give each a name of its own below 'caches'"},
        WrongConfig{"EdgeUnknown", with_edge("{fastlyy: {service: x1, token: t}}"),
                    "evictd.yaml:4:10: unknown setting 'fastlyy' in cache 'edge'\nhint: did you mean 'fastly'?"},
        WrongConfig{"EdgeSettingOfARedis", with_edge("{redis: {url: redis://another}, origin_time: 1s}"),
                    "evictd.yaml:4:41: unknown setting 'origin_time' in cache 'edge'\n"
                    "hint: known settings: 'redis', 'after', 'park_after'"},
        WrongConfig{"EdgeOnGap", with_edge("{varnish: {url: 'http://v/'}, on_gap: some}"),
                    "evictd.yaml:4:47: 'on_gap': expected 'all', 'ignore' or {keys: [...]}, got 'some'\n"
                    "hint: what is purged when it is not known which keys: after a gap, TRUNCATE, or a value that was not sent"},
        WrongConfig{"EdgeThatCannotPurgeAll", with_edge("{http: {url: 'http://v/{keys}'}}"),
                    "evictd.yaml:4:9: 'on_gap: all' needs 'purge_all' in 'http': how everything is purged\n"
                    "hint: or set on_gap: {keys: [a key that every response carries]}, or on_gap: ignore"},
        WrongConfig{"EdgeWithoutKeys", with_edge("{http: {url: 'http://v/'}, on_gap: ignore}"),
                    "evictd.yaml:4:16: 'http': expected {keys} or {keys_json} in 'url', 'headers' or 'body'\n"
                    "hint: for example body: '{\"tags\": {keys_json}}'"},
        WrongConfig{"EdgeAlone", "postgres: {url: postgresql://localhost/shop}\ncaches: {edge: {varnish: {url: 'http://v/'}}}\nrules: r\n",
                    "evictd.yaml:2:10: cache 'edge' stands behind no Redis: there is no place for evictd's record of it\n"
                    "hint: name the Redis it is filled from: after: [...]"},
        WrongConfig{"NoSource", "redis: {url: redis://localhost}\nrules: rules.yaml\n",
                    "evictd.yaml:1:1: missing a source: expected 'postgres' or 'kafka'\n"
                    "hint: for example: postgres: {url: postgresql://evictd@localhost/shop}"},
        WrongConfig{"NoRedis", "postgres: {url: postgresql://localhost/shop}\nrules: rules.yaml\n",
                    "evictd.yaml:1:1: missing a cache: expected 'redis' or 'caches'\n"
                    "hint: for example: redis: {url: redis://localhost:6379/0}, or several: caches: {eu: {redis: {url: redis://eu/0}}}"},
        WrongConfig{"NoRules",
                    "postgres: {url: postgresql://localhost/shop}\nredis: {url: "
                    "redis://localhost}\n",
                    "evictd.yaml:1:1: missing setting 'rules' in the configuration"},
        WrongConfig{"EmptyRules",
                    "postgres: {url: postgresql://localhost/shop}\nredis: {url: "
                    "redis://localhost}\nrules:\n",
                    "evictd.yaml:3:1: 'rules': expected a file name or a list of rules, got "
                    "nothing\nhint: for example 'rules: rules.yaml'"},
        WrongConfig{"NoUrl", "postgres: {}\nredis: {url: redis://localhost}\nrules: rules.yaml\n",
                    "evictd.yaml:1:11: missing setting 'url' in 'postgres'"},
        WrongConfig{"EmptyUrl",
                    "postgres: {url: ''}\nredis: {url: redis://localhost}\nrules: rules.yaml\n",
                    "evictd.yaml:1:17: 'url': expected a text, got an empty one"},
        WrongConfig{"SentinelWithAUrl", with_redis("sentinels: ['redis://s1:26379']"),
                    "evictd.yaml:4:14: 'sentinels': expected host:port, got 'redis://s1:26379'\n"
                    "hint: for example sentinel-1:26379"},
        WrongConfig{"SentinelWithAPassword", with_redis("sentinels: ['redis://:hunter2@s1:26379']"),
                    "evictd.yaml:4:14: 'sentinels': expected host:port, got one with a user\n"
                    "hint: for example sentinel-1:26379; the password of the Sentinels is 'sentinel_password'"},
        WrongConfig{"RedisIsAUrl", "postgres: {url: postgresql://localhost/shop}\nredis: redis://:hunter2@h/0\nrules: rules.yaml\n",
                    "evictd.yaml:2:8: 'redis': expected a map of settings, got a URL\n"
                    "hint: write it as {url: ...}"},
        WrongConfig{"NoSentinels", with_redis("sentinels: []"),
                    "evictd.yaml:4:14: 'sentinels': expected at least one host:port, got an empty list\n"
                    "hint: for example: sentinels: [s1:26379, s2:26379, s3:26379]"},
        WrongConfig{"SentinelPasswordAlone", with_redis("sentinel_password: x"),
                    "evictd.yaml:4:22: 'sentinel_password': expected 'sentinels' beside it, got none\n"
                    "hint: the password of Redis itself belongs into 'url'"},
        WrongConfig{"NoReplicaIsAskedFor", with_redis("replicas_ack: 0"),
                    "evictd.yaml:4:17: 'replicas_ack': expected a whole number from 1 to 100, got '0'"},
        WrongConfig{"ReplicasAreNoNumber", with_redis("replicas_ack: all"),
                    "evictd.yaml:4:17: 'replicas_ack': expected a whole number from 1 to 100, got 'all'"},
        WrongConfig{"ReplicasTimeoutAlone", with_redis("replicas_timeout: 1s"),
                    "evictd.yaml:4:21: 'replicas_timeout': expected 'replicas_ack' beside it, got none\n"
                    "hint: replicas_ack: 1 waits for one replica"},
        WrongConfig{"TlsWithoutTls", with_redis("tls: {ca: ca.pem}"),
                    "evictd.yaml:4:3: 'tls' is set, but 'url' is not a rediss:// URL\n"
                    "hint: write rediss:// for a connection with TLS, or remove 'tls'"},
        WrongConfig{"CertificateWithoutKey",
                    "postgres: {url: postgresql://localhost/shop}\nredis:\n  url: "
                    "rediss://localhost\n  tls: {cert: c.pem}\nrules: rules.yaml\n",
                    "evictd.yaml:4:9: 'cert' is set without 'key'\n"
                    "hint: a client certificate needs both files"},
        WrongConfig{"KafkaWithoutTopics",
                    "kafka: {brokers: b}\nredis: {url: redis://localhost}\nrules: rules.yaml\n",
                    "evictd.yaml:1:8: missing setting 'topics' in 'kafka'"},
        WrongConfig{"UnsetVariable", with_postgres("slot: ${EVICTD_SLOT}"),
                    "evictd.yaml:3:9: environment variable 'EVICTD_SLOT' is not set\n"
                    "hint: set it before evictd starts, for example: export EVICTD_SLOT=..."},
        WrongConfig{"MalformedVariable", with_postgres("slot: ${EVICTD SLOT}"),
                    "evictd.yaml:3:9: expected '${NAME}' with letters, digits and '_' in the name\n"
                    "hint: write '$${' for a literal '${'"},
        WrongConfig{"UnclosedVariable", with_postgres("slot: ${EVICTD"),
                    "evictd.yaml:3:9: expected '${NAME}' with letters, digits and '_' in the name\n"
                    "hint: write '$${' for a literal '${'"}),
    testing::PrintToStringParamName());

TEST(Config, ReportsTheFirstErrorOfTheFile) {
  EXPECT_EQ(error_of("postgres: {url: postgresql://localhost/shop, slot: A}\nredis: {url: 7}\n"),
            "evictd.yaml:1:52: 'slot': expected 1 to 63 of a-z, 0-9 and '_', got 'A'");
}

TEST(Config, APasswordThatIsNotPercentEncodedIsTold) {
  EXPECT_THAT(error_of("postgres: {url: \"postgresql://ev:s3cr3t/x@localhost/shop\"}\nredis: {url: redis://localhost}\nrules: r\n"),
              testing::AllOf(testing::HasSubstr("percent-encode it"), testing::Not(testing::HasSubstr("s3cr3t"))));
}

TEST(Config, NeverShowsAUrl) {
  const std::string wrong_redis = error_of(
      "postgres: {url: postgresql://localhost/shop}\nredis: {url: "
      "\"http://user:hunter2@localhost\"}\nrules: rules.yaml\n");
  EXPECT_THAT(wrong_redis, testing::StartsWith("evictd.yaml:2:14: 'url': expected "));
  EXPECT_THAT(wrong_redis, testing::Not(testing::HasSubstr("hunter2")));
  const std::string wrong_postgres = error_of(
      "postgres: {url: \"postgresql://user:hunter2@localhost/shop?slot=x\"}\n"
      "redis: {url: redis://localhost}\nrules: rules.yaml\n");
  EXPECT_THAT(wrong_postgres, testing::StartsWith("evictd.yaml:1:17: 'url': "));
  EXPECT_THAT(wrong_postgres, testing::Not(testing::HasSubstr("hunter2")));
  EXPECT_EQ(error_of("postgres: {url: [a]}\nredis: {url: redis://localhost}\nrules: r\n"),
            "evictd.yaml:1:17: 'url': expected a text, got a list\n"
            "hint: put texts that begin with '{' or '[' in quotes");
}

TEST(Config, NeverShowsAValueFromTheEnvironment) {
  const std::string error =
      error_of(with_postgres("slot: a${PASSWORD}"), environment_of({{"PASSWORD", "Hunter2"}}));
  EXPECT_EQ(error,
            "evictd.yaml:3:9: 'slot': expected 1 to 63 of a-z, 0-9 and '_', got another text");
}

TEST(Config, ExpandsVariablesInEveryText) {
  const Result<ValidConfig> config = parse_config(
      "postgres: {url: 'postgresql://u:${PW}@${HOST}/shop', slot: 's$${x'}\n"
      "redis: {url: redis://localhost, tombstone_ttl: \"${TTL}\"}\nrules: ${RULES}.yaml\n",
      "evictd.yaml",
      environment_of({{"PW", "p${x}"}, {"HOST", "db"}, {"TTL", "90s"}, {"RULES", "shop"}}));
  // The escape gives a literal "${", which a slot's name does not allow.
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().text,
            "evictd.yaml:1:60: 'slot': expected 1 to 63 of a-z, 0-9 and '_', got 's${x'");
  const Result<ValidConfig> good = parse_config(
      "postgres: {url: 'postgresql://u:${PW}@${HOST}/shop'}\n"
      "redis: {url: redis://localhost, tombstone_ttl: \"${TTL}\"}\nrules: ${RULES}.yaml\n",
      "evictd.yaml",
      environment_of({{"PW", "p1"}, {"HOST", "db"}, {"TTL", "90s"}, {"RULES", "shop"}}));
  ASSERT_TRUE(good) << good.error().to_string();
  EXPECT_EQ((*good)->postgres->url.reveal(), "postgresql://u:p1@db/shop");
  EXPECT_EQ((*good)->caches.at(0).redis.tombstone_ttl, milliseconds(90'000));
  EXPECT_EQ((*good)->rules_file, "shop.yaml");
}

TEST(Config, ListenCanBeOff) {
  const Result<ValidConfig> config =
      parse_config(with_root("http: {listen: off}"), "evictd.yaml", no_environment);
  ASSERT_TRUE(config) << config.error().to_string();
  EXPECT_FALSE((*config)->listen.has_value());
}

TEST(Config, SaysWhyAFileCannotBeRead) {
  const Result<ValidConfig> config = load_config("/nonexistent/evictd.yaml", no_environment);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().to_string(),
            "cannot read the configuration '/nonexistent/evictd.yaml': No such file or directory\n"
            "hint: name it with -c FILE, or let 'evictd init' propose one");
  const Result<std::string> folder = read_text_file("/", "configuration");
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().to_string(), "cannot read the configuration '/': Is a directory\nhint: name a file in that folder");
}

// A reload must not be refused for good because of a moment.
TEST(Config, AFileThatCannotBeOpenedForWantOfDescriptorsIsReadLater) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Result<std::string> text = read_text_file("/dev/null", "rules file");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::kTransient) << text.error().text;
}

TEST(Secret, IsShownAsStars) { EXPECT_EQ(fmt::format("{}", Secret("hunter2")), "***"); }

class RulesOfConfig : public testing::Test {
 protected:
  RulesOfConfig() {
    char name[] = "/tmp/evictd-config-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~RulesOfConfig() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  Result<RuleSet> load() {
    const Result<ValidConfig> config =
        load_config((folder_ / "evictd.yaml").string(), no_environment);
    EXPECT_TRUE(config) << config.error().to_string();
    return load_rules(**config);
  }
  std::string without_folder(std::string text) const {
    const std::string prefix = folder_.string() + "/";
    for (std::size_t at; (at = text.find(prefix)) != std::string::npos;) {
      text.erase(at, prefix.size());
    }
    return text;
  }
  std::filesystem::path folder_;
};

TEST_F(RulesOfConfig, ComeFromTheFileBesideIt) {
  write("evictd.yaml", with_root(""));
  write("rules.yaml", "rules:\n  - table: products\n    keys: [\"product:{id}\"]\n");
  const Result<RuleSet> rules = load();
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(rules->tables(), std::vector<std::string>{"public.products"});
}

TEST_F(RulesOfConfig, ThatAreNoFileAreRefusedAtOnce) {
  write("evictd.yaml", with_root(""));
  const std::string rules = (folder_ / "rules.yaml").string();
  ASSERT_EQ(mkfifo(rules.c_str(), 0600), 0);  // nobody will ever write to it
  EXPECT_EQ(load().error().to_string(),
            "cannot read the rules file '" + rules + "': expected a file, got a pipe, device or socket\n"
            "hint: it is read again at each reload, and must not keep evictd waiting: write it to a file");
  std::filesystem::remove(rules);
  std::filesystem::create_directory(rules);
  EXPECT_EQ(load().error().text, "cannot read the rules file '" + rules + "': Is a directory");
  std::filesystem::remove(rules);
  std::filesystem::create_symlink("/dev/zero", rules);
  EXPECT_FALSE(load());
  std::filesystem::remove(rules);
  write("rules.yaml", std::string(2 << 20, '#'));
  EXPECT_EQ(load().error().text, "expected at most 1MiB in the rules file '" + rules + "', got more");
}

TEST_F(RulesOfConfig, MayNameVariables) {
  setenv("EVICTD_TEST_PREFIX", "shop:", 1);
  write("evictd.yaml", with_root(""));
  write("rules.yaml", "- {table: products, keys: ['${EVICTD_TEST_PREFIX}p:{id}', '$${id}:x'], where: {region: '${EVICTD_TEST_PREFIX}'}}\n");
  const Result<RuleSet> rules = load();
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(rules->rules()[0].patterns[0].glob, "shop:p:*");
  EXPECT_EQ(rules->rules()[0].patterns[1].glob, "$*:x");
  unsetenv("EVICTD_TEST_PREFIX");
  EXPECT_EQ(without_folder(load().error().to_string()),
            "rules.yaml:1:28: environment variable 'EVICTD_TEST_PREFIX' is not set\nhint: the value of a column is "
            "'{EVICTD_TEST_PREFIX}', without the '$'; a variable is set before evictd starts: export EVICTD_TEST_PREFIX=...");
}

TEST_F(RulesOfConfig, InlineErrorsPointIntoTheConfiguration) {
  write("evictd.yaml",
        "postgres: {url: postgresql://localhost/shop}\nredis: {url: redis://localhost}\n"
        "rules:\n  - table: products\n    kyes: [\"product:{id}\"]\n");
  const Result<RuleSet> rules = load();
  ASSERT_FALSE(rules);
  EXPECT_EQ(without_folder(rules.error().to_string()),
            "evictd.yaml:5:5: unknown setting 'kyes' in the rule for 'products'\n"
            "hint: did you mean 'keys'?");
}

TEST_F(RulesOfConfig, InlineRulesMayHoldBracesWithADollar) {
  write("evictd.yaml",
        "postgres: {url: postgresql://localhost/shop}\nredis: {url: redis://localhost}\n"
        "rules:\n  - table: products\n    keys: [\"price$${{{id}\"]\n");
  const Result<RuleSet> rules = load();
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(rules->rules()[0].key_templates[0], "price${{{id}");  // '$${' is '${' as text, not a variable
}

TEST_F(RulesOfConfig, AMissingFileIsNamed) {
  write("evictd.yaml", with_root(""));
  const Result<RuleSet> rules = load();
  ASSERT_FALSE(rules);
  EXPECT_EQ(without_folder(rules.error().to_string()),
            "cannot read the rules file 'rules.yaml': No such file or directory");
}

TEST_F(RulesOfConfig, SettleMustEndBeforeTheTombstone) {
  write("evictd.yaml", with_redis("tombstone_ttl: 5s"));
  write("rules.yaml", "- table: products\n  keys: [\"product:{id}\"]\n  settle: 5s\n");
  const Result<RuleSet> rules = load();
  ASSERT_FALSE(rules);
  EXPECT_EQ(without_folder(rules.error().to_string()),
            "rules.yaml:1:3: settle of rule 'public.products' is 5s: expected less than "
            "'tombstone_ttl' (5s)\n"
            "hint: shorten settle, or raise tombstone_ttl in evictd.yaml:4:3");
}

TEST_F(RulesOfConfig, ACacheThatDoesNotExistIsRefused) {
  write("evictd.yaml", with_root(""));
  write("rules.yaml", "- {table: products, keys: [\"product:{id}\"], caches: [redis]}\n");
  EXPECT_TRUE(load());
  write("rules.yaml", "- {table: products, keys: [\"product:{id}\"], caches: [eu]}\n");
  const Result<RuleSet> rules = load();
  ASSERT_FALSE(rules);
  EXPECT_EQ(without_folder(rules.error().to_string()),
            "rules.yaml:1:3: rule 'public.products' names the cache 'eu', which the configuration does not have\n"
            "hint: known caches: 'redis'");
}

// Else nothing would be deleted anywhere, and every light be green.
TEST_F(RulesOfConfig, ACacheThatCannotDoWhatTheRuleAsksIsRefused) {
  const auto error_of = [&](const std::string& rule) {
    write("evictd.yaml", "postgres: {url: 'postgresql://localhost/shop'}\ncaches:\n  a: {redis: {url: redis://a}}\n"
                         "  e: {varnish: {url: 'http://e/'}, after: [a]}\nrules: [" + rule + "]\n");
    const Result<RuleSet> rules = load();
    return rules ? std::string() : without_folder(rules.error().to_string());
  };
  EXPECT_EQ(error_of("{table: t, keys: ['k:{id}'], caches: [e]}"),
            "evictd.yaml:5:9: rule 'public.t' names the cache 'e', an edge, and has no 'surrogate_keys' for it\n"
            "hint: write 'surrogate_keys', or take 'e' out of its 'caches'");
  EXPECT_EQ(error_of("{table: t, surrogate_keys: ['k-{id}'], caches: [a]}"),
            "evictd.yaml:5:9: rule 'public.t' names the cache 'a', a Redis, and has nothing but 'surrogate_keys'\n"
            "hint: write 'keys' or 'tags', or take 'a' out of its 'caches'");
  EXPECT_EQ(error_of("{table: t, keys: ['k:{id}'], surrogate_keys: ['k-{id}'], caches: [a, e]}"), "");
  EXPECT_EQ(error_of("{table: t, tags: ['k:{id}'], caches: [a]}, {table: t, surrogate_keys: ['k-{id}'], caches: [e]}"), "");
  EXPECT_EQ(error_of("{table: t, purge: ['k:*'], caches: [a]}"), "");
  EXPECT_EQ(error_of("{table: t, bump: ['k'], caches: [a]}"), "");
  EXPECT_EQ(error_of("{table: t, via: {o: {table: o, match: {id: o_id}}}, keys: ['k:{o.slug}'], caches: [a]}"), "");
  EXPECT_EQ(error_of("{table: t, semantic: [{index: i, where: {source: 'd:{id}'}}], caches: [a]}"), "");
}

TEST_F(RulesOfConfig, ARefreshNeedsACacheThatItCanFillAndADatabaseThatItCanAsk) {
  const std::string rule =
      "rules: [{table: a, keys: ['a:{id}'], fill: checked, refresh: {query: 'select id, v from a where id = any($1)', ttl: 1m}%s}]\n";
  const auto rules = [&](const std::string& more) { return std::string(rule).replace(rule.find("%s"), 2, more); };
  const std::string kafka = "kafka: {brokers: 'k:9092', topics: [t]%s}\nredis: {url: redis://localhost}\n";
  const auto source = [&](const std::string& more) { return std::string(kafka).replace(kafka.find("%s"), 2, more); };
  const auto error = [&] {
    const Result<RuleSet> loaded = load();
    return loaded ? std::string("no error") : without_folder(loaded.error().to_string());
  };
  write("evictd.yaml", source("") + rules(""));
  EXPECT_EQ(error(),
            "evictd.yaml:3:62: 'refresh' of rule 'public.a' needs 'postgres_url' in 'kafka'\nhint: its query has to be asked somewhere; or let the application "
            "fill: refresh: {stream: 'evictd:refresh'}");
  write("evictd.yaml", source(", postgres_url: 'postgresql://localhost/shop'") + rules(""));
  EXPECT_EQ(error(), "no error");
  write("evictd.yaml", source("") + "rules: [{table: a, keys: ['a:{id}'], fill: checked, refresh: {stream: s}}]\n");
  EXPECT_EQ(error(), "no error");
  write("evictd.yaml",
        "postgres: {url: postgresql://localhost/shop}\ncaches: {eu: {redis: {url: redis://localhost}}, edge: {varnish: {url: 'http://v:6081'}, after: [eu]}}\n" +
            rules(", caches: [edge]"));
  EXPECT_EQ(error(),
            "evictd.yaml:3:62: 'refresh' of rule 'public.a' has no cache of Redis to fill\nhint: nothing can be stored at an edge; name a cache of Redis in "
            "'caches', or take 'refresh' out");
}

TEST_F(RulesOfConfig, OfJoinedTablesNeedADatabase) {
  const std::string kafka = "redis: {url: redis://localhost}\nrules: rules.yaml\nkafka: {brokers: b, topics: [t]";
  write("rules.yaml", "- {table: items, via: {order: {table: orders, match: {id: order_id}}}, keys: ['user:{order.user_id}']}\n");
  write("evictd.yaml", kafka + "}\n");
  EXPECT_EQ(without_folder(load().error().to_string()),
            "rules.yaml:1:3: rule 'public.items' has joined tables ('via'), and there is no database to look them up in\n"
            "hint: set kafka.postgres_url to the database that Debezium reads");
  write("evictd.yaml", kafka + ", postgres_url: 'postgresql://db/shop'}\n");
  EXPECT_TRUE(load());
}

TEST_F(RulesOfConfig, CanBeReadWithoutTheRestBeingValid) {
  write("evictd.yaml",
        "postgres: {url: \"${UNSET}\"}\nrules: [{table: products, keys: [\"product:{id}\"]}]\n");
  const Result<RuleSet> rules = load_rules_only((folder_ / "evictd.yaml").string());
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(rules->rules().size(), 1u);
}

TEST_F(RulesOfConfig, TheNameOfTheirFileMayComeFromTheEnvironmentWithoutTheRestBeingValid) {
  write("evictd.yaml", "postgres: {url: \"${UNSET}\"}\nrules: ${EVICTD_TEST_RULES}\n");
  write("rules.yaml", "- {table: products, keys: [\"product:{id}\"]}\n");
  ::setenv("EVICTD_TEST_RULES", "rules.yaml", 1);
  const Result<RuleSet> rules = load_rules_only((folder_ / "evictd.yaml").string());
  ::unsetenv("EVICTD_TEST_RULES");
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(rules->rules().size(), 1u);
}

}  // namespace
}  // namespace evictd
