// From the configuration to the parts: options of the source, the sinks and the flow, and how
// they are called in logs and pages. The only place that knows every room.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/app/config.h"
#include "daemon/base/finding.h"
#include "daemon/flow/flow.h"
#include "daemon/refresh/database.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"
#include "mapping/rules.h"

namespace evictd {

// REQUIRES: config.postgres.
PostgresOptions postgres_options(const Config& config, const RuleSet& rules);
// REQUIRES: !cache.edge.
RedisOptions redis_options(const Config& config, const CacheSettings& cache);
// Of the database of database_address().
RefreshDatabaseOptions refresh_database_options(const Config& config);
// REQUIRES: cache.edge.
HttpSinkOptions edge_options(const CacheSettings& cache);
// Redis or an edge, as configured.
Result<std::unique_ptr<Sink>> make_sink(const Config& config, const CacheSettings& cache);
FlowOptions flow_options(const Config& config);
// Those that others are filled from first: what is deleted before it is gone from where it is filled from comes back.
std::vector<const CacheSettings*> in_order_of_filling(const Config& config);

// PostgreSQL or Kafka, as configured. `log` must outlive the source.
Result<std::unique_ptr<Source>> make_source(const Config& config, const RuleSet& rules, Log& log);

// What the settings of the source say against themselves; asks nobody.
Findings check_source_settings(const Config& config);
// What `evictd check` finds about the source, live; nothing where its settings are wrong.
// `record`: what the cache has on record, when it could be read.
Findings check_source(const Config& config, const RuleSet& rules, const Record* record);

// The database whose rows can be asked; its url is empty where none is configured.
DatabaseAddress database_address(const Config& config);

// For people, without secrets: "PostgreSQL localhost:5432/shop, slot 'evictd', publication
// 'evictd'".
std::string source_text(const Config& config);
// "localhost:6379/0"; of an edge "Fastly service x1 (api.fastly.com)".
std::string cache_text(const CacheSettings& cache);
// The same with "Redis " in front where it is one.
std::string cache_kind_text(const CacheSettings& cache);

}  // namespace evictd
