#include "daemon/refresh/doctor/check.h"
#include "daemon/flow/cache_rules.h"
#include "daemon/sinks/http/doctor/check.h"
#include "daemon/sinks/redis/doctor/check.h"
#include "daemon/sinks/redis/doctor/acl.h"
#include "daemon/sinks/redis/doctor/similar.h"
#include "daemon/sinks/redis/url.h"
#include "daemon/sources/postgres/live_rows.h"
#include "daemon/sources/postgres/sql_text.h"
#include "daemon/sources/postgres/doctor/dba_script.h"

#include <fmt/core.h>

#include <cstdio>

#include "daemon/app/check_files.h"
#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/base/text.h"

namespace evictd {
namespace {

int print(const CommandLine& request, const std::vector<CheckSection>& sections) {
  const std::string text = request.json ? check_json(sections) : check_text(sections);
  std::fputs(text.c_str(), stdout);
  return check_exit_code(sections);
}

// For whoever owns the database.
int print_sql(const Config& config, const RuleSet& rules) {
  if (!config.postgres) {
    return report(Error{ErrorKind::kUsage, "'check --sql' needs a PostgreSQL source", "with Kafka, Debezium's own documents say what it needs"});
  }
  const Result<std::string> script = dba_script(postgres_options(config, rules), rules);
  if (!script) return report(script.error());
  std::fputs(script->c_str(), stdout);
  return kExitDone;
}

// For whoever owns Redis. Standard output has nothing but commands, for redis-cli.
int print_acl(const Config& config, const RuleSet& rules) {
  for (const CacheSettings& cache : config.caches) {
    if (cache.edge) continue;
    const Result<std::vector<RedisAddress>> addresses = parse_redis_urls(cache.redis.url.reveal());
    if (!addresses) return report(addresses.error());
    const RedisAddress& address = addresses->front();
    std::vector<const RuleInfo*> concerned;
    for (const RuleInfo& rule : rules.rules()) {
      if (acts_on(rule, cache.name)) concerned.push_back(&rule);
    }
    const bool is_cluster = addresses->size() > 1 || is_cluster_by_its_own_word(redis_options(config, cache));
    const RedisAcl acl = redis_acl(address.user.empty() || address.user == "default" ? "evictd" : address.user, concerned,
                                   {is_cluster, cache.redis.replicas_ack > 0});
    std::fprintf(stderr, "# %sput the password in place of PASSWORD; the second line is for 'evictd check' alone.\n"
                 "# Redis 6 has no functions: leave '+fcall +function|load' out.\n%s",
                 config.caches.size() > 1 ? ("cache '" + cache.name + "': ").c_str() : "",
                 is_cluster ? "# A cluster: on each of its nodes, replicas too.\n"
                            : "# For a cluster, name several of its nodes in 'redis: url:'.\n");
    fmt::print("{}\n{}\n", acl.daemon, acl.check);
    std::fflush(stdout);
  }
  return kExitDone;
}

// A vector of each table that rules compare by similarity, against the dimensions of the index.
Findings check_dimensions(const Config& config, const RuleSet& rules, const CacheSettings& cache) {
  Findings findings;
  const DatabaseAddress database = database_address(config);
  for (const RuleInfo& rule : rules.rules()) {
    if (database.url.empty() || !acts_on(rule, cache.name)) continue;
    for (const SemanticInfo& entry : rule.semantic) {
      if (!entry.is_near()) continue;
      const Result<std::unique_ptr<BlockingClient>> client = BlockingClient::open(redis_options(config, cache));
      if (!client) continue;
      const std::uint64_t dimensions = index_dimensions(**client, entry).value_or(0);
      LiveRowsWanted wanted;
      wanted.table = rule.qualified_table();
      wanted.page = 1;
      wanted.where = quoted_name(entry.near) + " is not null";
      if (dimensions == 0) continue;  // told by whoever looks at the index
      const Result<std::unique_ptr<LiveRows>> live = LiveRows::open(database, wanted);
      if (!live) continue;  // told by whoever looks at the table
      const Result<std::vector<std::vector<Value>>> rows = (*live)->next();
      const std::vector<Column>& columns = (*live)->relation().columns;
      for (std::size_t i = 0; rows && !rows->empty() && i < columns.size(); ++i) {
        if (columns[i].name != entry.near || (*rows)[0][i].state != ValueState::kText) continue;
        std::string floats;
        const bool is_vector = parse_vector((*rows)[0][i].text, floats);
        if (is_vector && floats.size() == dimensions * sizeof(float)) continue;
        findings.push_back({"RD020", Severity::kError, entry.place.to_string(),
                            is_vector ? fmt::format("a vector of column '{}' has {} dimensions, the index '{}' has {}: each order clears what passes 'where'",
                                                    entry.near, floats.size() / sizeof(float), entry.index, dimensions)
                                      : fmt::format("a value of column '{}' is no vector: each order clears what passes 'where'", entry.near),
                            "compare with vectors of the same model: [1,2.5], an array, or JSON"});
      }
    }
  }
  return findings;
}

}  // namespace

int check_command(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  const bool is_for_owners = request.sql || request.acl;  // whose answer goes to psql or redis-cli, not what is wrong
  if (!config) return is_for_owners ? report(config.error()) : print(request, {{"files", {file_finding(config.error())}}});
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return is_for_owners ? report(rules.error()) : print(request, {{"files", {file_finding(rules.error())}}});

  if (request.sql) return print_sql(**config, *rules);
  if (request.acl) return print_acl(**config, *rules);
  std::vector<CheckSection> sections;
  sections.push_back(
      {fmt::format("files, {} for {}", counted(rules->rules().size(), "rule"), counted(rules->tables().size(), "table")),
       check_files(**config, *rules)});
  for (Finding& finding : check_source_settings(**config)) sections.back().findings.push_back(std::move(finding));
  if (request.offline) return print(request, sections);
  std::optional<Record> record;
  for (const CacheSettings& cache : (*config)->caches) {
    if (!record) record = read_record(redis_options(**config, cache));
  }
  Findings source = check_source(**config, *rules, record ? &*record : nullptr);
  if (!database_address(**config).url.empty()) {
    for (Finding& finding : check_refresh(refresh_database_options(**config), *rules)) source.push_back(std::move(finding));
  }
  sections.push_back({source_text(**config), std::move(source)});
  for (const CacheSettings& cache : (*config)->caches) {
    const std::string what = (*config)->caches.size() == 1 ? "" : "cache '" + cache.name + "': ";
    sections.push_back({what + cache_kind_text(cache), cache.edge ? check_http(edge_options(cache), cache.place.to_string())
                                                                  : check_redis(redis_options(**config, cache), *rules)});
    if (cache.edge) continue;
    for (Finding& finding : check_dimensions(**config, *rules, cache)) sections.back().findings.push_back(std::move(finding));
  }
  return print(request, sections);
}

}  // namespace evictd
