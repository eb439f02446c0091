// The configuration: evictd.yaml, read strictly (design, section 8). Whatever is not understood is
// an error with file:line:column, what was expected, what was found, and a hint; nothing runs on a
// guess.
//
// Only load_config() makes a ValidConfig, so that a configuration which was not checked cannot be
// used. Secrets (URLs, Kafka properties) never appear in an error.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/app/http_server.h"
#include "daemon/app/log.h"
#include "daemon/flow/flow.h"
#include "daemon/base/secret.h"
#include "daemon/net/credential.h"
#include "daemon/sinks/http/http_sink.h"
#include "mapping/error.h"
#include "mapping/place.h"
#include "mapping/rules.h"

namespace evictd {

struct PostgresSettings {
  Secret url;  // libpq URI or keywords
  CredentialSource credential;
  std::string slot = "evictd";
  std::string publication = "evictd";
  std::string client_encoding;                  // empty: UTF8
  std::chrono::milliseconds heartbeat{10'000};  // 0: off
  std::chrono::milliseconds shutdown_grace{5'000};
};

struct KafkaSettings {
  std::string brokers;
  std::string group = "evictd";
  std::vector<std::string> topics;
  std::map<std::string, Secret> properties;
  bool invalidate_snapshot_events = false;  // on_snapshot: invalidate
  enum class OnPoison : std::uint8_t { kPurge, kStop, kSkip } on_poison = OnPoison::kPurge;
  std::string dead_letter_file;
  std::uint64_t dead_letter_bytes_max = 16 * 1024 * 1024;
  std::chrono::milliseconds revoke_drain{5'000};
  std::string connect_url;
  struct Registry {
    std::string url;  // without user and password; empty: none
    std::string user;
    Secret password;
    CredentialSource credential;
    std::string ca;  // file
    int id_bytes = 0;  // 0: auto
  } registry;
  Secret postgres_url;
  CredentialSource postgres_credential;
  Place place;
};

struct RedisSettings {
  Secret url;
  CredentialSource credential;
  std::vector<std::string> sentinels;  // host:port; the host of `url` is the master's name then
  Secret sentinel_password;
  std::chrono::milliseconds tombstone_ttl{60'000};
  Place tombstone_ttl_place;
  std::chrono::milliseconds timeout{5'000};
  std::uint64_t replicas_ack = 0;  // 0: none is asked
  std::chrono::milliseconds replicas_timeout{1'000};
  std::string tls_ca;  // files; empty: the system's authorities, no client certificate
  std::string tls_cert;
  std::string tls_key;
};

// A service that holds responses and forgets them by surrogate key.
struct EdgeSettings {
  ServiceOptions service;
  std::string ca;  // file; empty: the system's authorities
  std::chrono::milliseconds timeout{10'000};
  OnGap on_gap;
  std::chrono::milliseconds origin_time{1'000};
  std::string record_in;  // the cache, of Redis, that keeps its record
};

// One cache: an entry of 'caches', or 'redis' alone, which is a cache of that name.
struct CacheSettings {
  std::string name;
  Place place;
  RedisSettings redis;               // where `edge` is not
  std::optional<EdgeSettings> edge;
  std::vector<std::string> after;  // names of caches that apply a transaction first
  ParkAfter park_after;
};

struct Config {
  std::string file;
  std::optional<PostgresSettings> postgres;  // either this
  std::optional<KafkaSettings> kafka;        // or that
  OnFirstStart on_first_start = OnFirstStart::kKeep;
  std::vector<CacheSettings> caches;  // at least one of Redis, in the order of the file
  std::optional<ListenAddress> listen = ListenAddress{"127.0.0.1", 9464};  // none: off
  bool show_keys = false;  // the status page tells the last decisions about a key
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  std::uint64_t audit_rate = 0;  // questions per second to the database; 0: no audit
  Place audit_place;
  std::uint64_t inflight_bytes_max = 24 * 1024 * 1024;
  std::string rules_file;  // empty: the rules are in `file` itself

  // What the record in Redis is kept under: the slot, or the consumer group.
  const std::string& record_name() const { return postgres ? postgres->slot : kafka->group; }
};

class ValidConfig {
 public:
  const Config& operator*() const { return config_; }
  const Config* operator->() const { return &config_; }

 private:
  friend Result<ValidConfig> parse_config(
      const std::string&, const std::string&,
      const std::function<std::optional<std::string>(const std::string&)>&);
  explicit ValidConfig(Config config) : config_(std::move(config)) {}
  Config config_;
};

// The value of an environment variable; nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string&)>;
std::optional<std::string> process_environment(const std::string& name);

// Reads and checks the file. Does not read the rules' file.
Result<ValidConfig> load_config(const std::string& file, const Environment& environment);

// The same for a text; `file` is used in messages, and for what is relative to it.
Result<ValidConfig> parse_config(const std::string& text, const std::string& file,
                                 const Environment& environment);

// Reads the rules that the configuration names, from disk: also what a reload does. Checks them
// against the configuration (settle must be shorter than tombstone_ttl).
Result<RuleSet> load_rules(const Config& config);

// The rules of a configuration whose other settings are neither checked nor needed (`evictd
// explain`): no environment variable has to be set but those in the name of the rules' file.
Result<RuleSet> load_rules_only(const std::string& config_file);

// What a configuration says besides its rules, as one text of no other use than to be compared: a reload reads the rules alone.
// Neither spaces nor comments count. It may hold secrets.
Result<std::string> settings_besides_rules(const std::string& config_file);

// The whole of a text file. `what` names it in messages: "configuration", "rules file".
Result<std::string> read_text_file(const std::string& file, const std::string& what);

}  // namespace evictd
