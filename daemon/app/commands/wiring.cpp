#include "daemon/app/commands/wiring.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <random>

#include "daemon/app/check_nulls.h"
#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/doctor/check.h"
#include "daemon/sources/postgres/doctor/check_lookups.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/table_tree.h"
#include "daemon/sinks/redis/url.h"
#include "mapping/check.h"
#ifdef EVICTD_WITH_KAFKA
#include "daemon/app/commands/snapshot_connection.h"
#include "daemon/sources/kafka/doctor/check.h"
#include "daemon/sources/kafka/kafka_source.h"
#endif

namespace evictd {
namespace {

// Where a database is, for people. What libpq would add from its own defaults is not shown.
std::string postgres_text(const Secret& url) {
  const Result<Conninfo> conninfo = Conninfo::parse(url.reveal());
  if (!conninfo) return "?";
  const std::string database = conninfo->get("dbname");
  return database.empty() ? conninfo->server() : conninfo->server() + "/" + database;
}

DatabaseAddress address_of(const PostgresSettings& settings) { return {settings.url, settings.credential, settings.client_encoding}; }

DatabaseAddress address_of(const KafkaSettings& settings) { return {settings.postgres_url, settings.postgres_credential, ""}; }

#ifdef EVICTD_WITH_KAFKA
KafkaOptions kafka_options(const KafkaSettings& settings) {
  KafkaOptions options;
  options.brokers = settings.brokers;
  options.group = settings.group;
  options.topics = settings.topics;
  for (const auto& [name, value] : settings.properties) options.properties[name] = value.reveal();
  options.on_snapshot =
      settings.invalidate_snapshot_events ? OnSnapshotEvent::kInvalidate : OnSnapshotEvent::kIgnore;
  switch (settings.on_poison) {
    case KafkaSettings::OnPoison::kPurge:
      options.on_poison = OnPoison::kPurge;
      break;
    case KafkaSettings::OnPoison::kStop:
      options.on_poison = OnPoison::kStop;
      break;
    case KafkaSettings::OnPoison::kSkip:
      options.on_poison = OnPoison::kSkip;
      break;
  }
  options.dead_letter_file = settings.dead_letter_file;
  options.dead_letter_bytes_max = settings.dead_letter_bytes_max;
  options.revoke_drain = settings.revoke_drain;
  options.connect_url = settings.connect_url;
  options.registry.url = settings.registry.url;
  options.registry.user = settings.registry.user;
  options.registry.password = settings.registry.password;
  options.registry.credential = settings.registry.credential;
  options.registry.ca = settings.registry.ca;
  options.registry.id = settings.registry.id_bytes == 0   ? IdWidth::kAuto
                        : settings.registry.id_bytes == 4 ? IdWidth::kFour
                                                          : IdWidth::kEight;
  return options;
}
#endif

#ifdef EVICTD_WITH_KAFKA
Result<AskTableTree> make_table_tree(const DatabaseAddress& database) {
  Result<Conninfo> conninfo = Conninfo::of(database, "evictd tables");
  if (!conninfo) return tl::unexpected(conninfo.error());
  return ask_table_tree(*conninfo, "dbz_publication");  // as Debezium calls its own, where nobody says otherwise
}
#endif

Result<std::unique_ptr<Source>> kafka_source(const KafkaSettings& settings) {
#ifdef EVICTD_WITH_KAFKA
  KafkaOptions options = kafka_options(settings);
  if (Result<void> valid = validate(options); !valid) {
    Error error = valid.error();
    return tl::unexpected(std::move(error).within(settings.place.to_string()));
  }
  std::unique_ptr<SnapshotPoll> snapshots;
  AskTableTree tables;
  std::unique_ptr<LookupSession> lookups;
  if (!settings.postgres_url.empty()) {
    Result<std::unique_ptr<SnapshotPoll>> made = make_snapshot_poll(address_of(settings));
    if (!made) return tl::unexpected(made.error());
    snapshots = std::move(*made);
    Result<AskTableTree> asked = make_table_tree(address_of(settings));
    if (!asked) return tl::unexpected(asked.error());
    tables = std::move(*asked);
    Result<std::unique_ptr<LookupSession>> session = make_lookup_session(address_of(settings));
    if (!session) return tl::unexpected(session.error());
    lookups = std::move(*session);
  }
  return make_kafka_source(std::move(options), std::move(snapshots), std::move(tables), std::move(lookups));
#else
  return fail(ErrorKind::kUsage,
              settings.place.to_string() + ": this evictd was built without Kafka",
              "build it with -DEVICTD_KAFKA=ON, or use 'postgres'");
#endif
}

}  // namespace

PostgresOptions postgres_options(const Config& config, const RuleSet& rules) {
  const PostgresSettings& settings = *config.postgres;
  PostgresOptions options;
  options.url = settings.url.reveal();
  options.credential = settings.credential;
  options.slot = settings.slot;
  options.publication = settings.publication;
  options.client_encoding = settings.client_encoding;
  options.heartbeat = settings.heartbeat;
  options.shutdown_grace = settings.shutdown_grace;
  options.requirements = requirements_of(rules);
  return options;
}

RedisOptions redis_options(const Config& config, const CacheSettings& cache) {
  const RedisSettings& settings = cache.redis;
  RedisOptions options;
  options.url = settings.url.reveal();
  options.credential = settings.credential;
  for (const std::string& sentinel : settings.sentinels) {
    if (auto address = parse_host_port(sentinel, kSentinelPort)) options.sentinels.push_back(std::move(*address));
  }
  options.sentinel_password = settings.sentinel_password.reveal();
  options.tombstone_ttl = settings.tombstone_ttl;
  options.connect_timeout = settings.timeout;
  options.command_timeout = settings.timeout;
  options.replicas_ack = settings.replicas_ack;
  options.replicas_timeout = settings.replicas_timeout;
  options.record_name = config.record_name();
  options.tls_ca_file = settings.tls_ca;
  options.tls_cert_file = settings.tls_cert;
  options.tls_key_file = settings.tls_key;
  return options;
}

RefreshDatabaseOptions refresh_database_options(const Config& config) {
  RefreshDatabaseOptions options;
  options.database = database_address(config);
  return options;
}

HttpSinkOptions edge_options(const CacheSettings& cache) {
  const EdgeSettings& settings = *cache.edge;
  HttpSinkOptions options;
  options.service = settings.service;
  options.client.ca_file = settings.ca;
  options.client.timeout = settings.timeout;
  options.client.connect_timeout = std::min(options.client.connect_timeout, settings.timeout);
  options.on_gap = settings.on_gap;
  return options;
}

Result<std::unique_ptr<Sink>> make_sink(const Config& config, const CacheSettings& cache) {
  if (!cache.edge) return make_redis_sink(redis_options(config, cache));
  const auto keeper = std::find_if(config.caches.begin(), config.caches.end(),
                                   [&](const CacheSettings& other) { return other.name == cache.edge->record_in; });
  EVICTD_CHECK(keeper != config.caches.end() && !keeper->edge);
  RedisOptions options = redis_options(config, *keeper);
  options.record_of = cache.name;
  Result<std::unique_ptr<Sink>> store = make_redis_sink(std::move(options));
  if (!store) return store;
  return make_http_sink(edge_options(cache), std::move(*store));
}

std::vector<const CacheSettings*> in_order_of_filling(const Config& config) {
  std::vector<const CacheSettings*> order;
  const auto is_placed = [&](const std::string& name) {
    return std::any_of(order.begin(), order.end(), [&](const CacheSettings* placed) { return placed->name == name; });
  };
  while (order.size() < config.caches.size()) {
    const std::size_t before = order.size();
    for (const CacheSettings& cache : config.caches) {
      if (!is_placed(cache.name) && std::all_of(cache.after.begin(), cache.after.end(), is_placed)) order.push_back(&cache);
    }
    EVICTD_CHECK(order.size() > before);  // 'after' goes in no circle
  }
  return order;
}

FlowOptions flow_options(const Config& config) {
  FlowOptions options;
  std::random_device random;
  options.writer = fmt::format("{:08x}{:08x}", random(), random());
  options.on_first_start = config.on_first_start;
  options.source_peer = config.postgres ? "postgres" : "kafka";
  options.held_bytes_max = config.inflight_bytes_max;
  // PostgreSQL is asked for a sign of life whenever it has been silent for 3 s. Behind Kafka such signs are Debezium's, at its own pace.
  if (config.postgres) options.current_for = std::chrono::seconds(10);
  return options;
}

Result<std::unique_ptr<Source>> make_source(const Config& config, const RuleSet& rules, Log& log) {
  if (config.kafka) {
    Result<std::unique_ptr<Source>> source = kafka_source(*config.kafka);
    if (source) (*source)->check_rules(rules);  // what it need not read of its records
    return source;
  }
  PostgresOptions options = postgres_options(config, rules);
  options.on_notice = [&log, repeats = RepeatGuard()](const PostgresNotice& notice) mutable {
    const std::optional<std::string> text =
        repeats.pass(notice.text, std::chrono::steady_clock::now());
    if (text) {
      log.write(notice.is_error ? LogLevel::kError : notice.is_warning ? LogLevel::kWarning : LogLevel::kInfo, *text, notice.hint);
    }
  };
  return make_postgres_source(std::move(options));
}

namespace {

// Nothing when the server cannot be asked: check_postgres says why.
Findings check_postgres_nulls(const PostgresSettings& settings, const RuleSet& rules) {
  Result<Conninfo> conninfo = Conninfo::of(address_of(settings), "evictd check");
  if (!conninfo) return {};
  Catalogue catalogue(std::move(*conninfo));
  const Result<Facts> facts =
      catalogue.read_facts(Subject{settings.slot, settings.publication, rules.tables(), true});
  if (!facts) return {};
  NullableColumns nullable;
  for (const auto& [name, table] : facts->tables) {
    for (const ColumnFacts& column : table.table.columns) {
      if (column.is_nullable) nullable[name].insert(column.name);
    }
  }
  return check_nulls(rules, nullable);
}

}  // namespace

Findings check_source_settings(const Config& config) {
  if (config.postgres) return {};
#ifdef EVICTD_WITH_KAFKA
  const Result<void> valid = validate(kafka_options(*config.kafka));
  if (valid) return {};
  return {{"CF001", Severity::kError, config.kafka->place.to_string(), valid.error().text, valid.error().hint}};
#else
  return {{"CF001", Severity::kError, config.kafka->place.to_string(),
           "this evictd was built without Kafka", "build it with -DEVICTD_KAFKA=ON"}};
#endif
}

Findings check_source(const Config& config, const RuleSet& rules, const Record* record) {
  if (config.postgres) {
    Findings findings = check_postgres(postgres_options(config, rules), rules, record);
    for (Finding& finding : check_postgres_nulls(*config.postgres, rules)) {
      findings.push_back(std::move(finding));
    }
    return findings;
  }
#ifdef EVICTD_WITH_KAFKA
  const KafkaOptions options = kafka_options(*config.kafka);
  if (!validate(options)) return {};  // told of already
  AskTableTree tables;
  if (!config.kafka->postgres_url.empty()) {
    if (Result<AskTableTree> made = make_table_tree(database_address(config))) tables = std::move(*made);
  }
  Findings findings = check_kafka(options, rules, tables);
  if (!config.kafka->postgres_url.empty()) {
    for (Finding& finding : check_lookups_at(database_address(config), rules)) findings.push_back(std::move(finding));
  }
  return findings;
#else
  return {};
#endif
}

DatabaseAddress database_address(const Config& config) {
  return config.postgres ? address_of(*config.postgres) : address_of(*config.kafka);
}

std::string source_text(const Config& config) {
  if (config.kafka) {
    return fmt::format("Kafka {}, group '{}'", config.kafka->brokers, config.kafka->group);
  }
  return fmt::format("PostgreSQL {}, slot '{}', publication '{}'",
                     postgres_text(config.postgres->url), config.postgres->slot,
                     config.postgres->publication);
}

std::string cache_kind_text(const CacheSettings& cache) { return cache.edge ? cache_text(cache) : "Redis " + cache_text(cache); }

std::string cache_text(const CacheSettings& cache) {
  if (cache.edge) return Service(cache.edge->service).address();
  const Result<RedisAddress> address = parse_redis_url(cache.redis.url.reveal());
  if (!address) return "?";
  if (!cache.redis.sentinels.empty()) {
    return fmt::format("master '{}' of the Sentinels at {}, database {}", address->host, fmt::join(cache.redis.sentinels, ", "),
                       address->database);
  }
  return fmt::format("{}/{}", address->to_string(), address->database);
}

}  // namespace evictd
