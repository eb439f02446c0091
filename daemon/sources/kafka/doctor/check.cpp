#include "daemon/sources/kafka/doctor/check.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <set>

#include "daemon/sources/kafka/doctor/check_findings.h"
#include "daemon/sources/kafka/doctor/connect_rest.h"
#include "daemon/sources/kafka/doctor/kafka_admin.h"
#include "daemon/sources/kafka/start_policy.h"
#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {
namespace {

// What is looked at of a very large cluster.
constexpr std::size_t kTopicsMax = 200;
constexpr std::int64_t kRecordsOfPartition = 20;
constexpr std::int64_t kRetentionMinimumMs = 24LL * 3600 * 1000;
constexpr std::int64_t kPollIntervalMinimumMs = 30'000;

std::int64_t number_of(const std::string& text, std::int64_t otherwise) {
  std::int64_t number = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

void check_offsets(const std::vector<PartitionOffsets>& partitions, Findings& findings) {
  for (const PartitionOffsets& offsets : partitions) {
    if (!offsets.committed) continue;
    StartFacts facts;
    facts.offsets = offsets;
    const Start start = start_of(facts);
    if (start.gap.empty()) continue;
    findings.push_back(
        {"KF003", Severity::kError, offsets.at.to_string(), start.detail,
         "run evictd: it purges what the lost records may have touched, and goes on"});
  }
}

void check_topic_settings(KafkaAdmin& admin, const std::string& topic, Findings& findings) {
  const auto settings = admin.topic_settings(topic);
  if (!settings) {
    findings.push_back({"KF004", Severity::kInfo, topic,
                        "its settings cannot be read: " + settings.error().text,
                        "allow DescribeConfigs on the topic, should you want them checked"});
    return;
  }
  const auto value = [&](const char* name) {
    const auto found = settings->find(name);
    return found == settings->end() ? std::string() : found->second;
  };
  if (value("cleanup.policy").find("compact") != std::string::npos) {
    findings.push_back(
        {"KF004", Severity::kWarning, topic,
         "is compacted: a row's changes in between are dropped, and with them the tags and keys of "
         "values it had for a while",
         "set cleanup.policy=delete on the topic"});
  }
  const std::int64_t retention = number_of(value("retention.ms"), -1);
  if (retention >= 0 && retention < kRetentionMinimumMs &&
      value("cleanup.policy").find("delete") != std::string::npos) {
    findings.push_back(
        {"KF004", Severity::kWarning, topic,
         fmt::format("keeps its records for {} minutes: evictd must not be down for longer",
                     retention / 60'000),
         "raise retention.ms of the topic to a day or more"});
  }
}

void check_registry(const RegistryOptions& options, const std::vector<KeptRecord>& records, SchemaStore& schemas, Findings& findings) {
  const RegistryClient client(options);
  if (const auto there = client.ping(); !there) {
    findings.push_back({"KF010", Severity::kError, "kafka.registry", there.error().text, there.error().hint,
                        there.error().kind == ErrorKind::kTransient});
    return;
  }
  if (!options.user.empty() && options.url.starts_with("http://") && !options.url.starts_with("http://localhost") &&
      !options.url.starts_with("http://127.")) {
    findings.push_back({"KF010", Severity::kWarning, "kafka.registry",
                        fmt::format("'{}' is asked without TLS: whoever stands in between can read the password, and change schemas", options.url),
                        "use https://"});
  }
  check_schemas(records, [&](std::uint64_t id) { return client.schema(id); }, options.id, schemas, findings);
}

// Events that somebody forged delete what they like, or keep what is stale.
void check_transport(KafkaAdmin& admin, const KafkaOptions& options, Findings& findings) {
  const std::string brokers = options.brokers + ",";
  bool is_near = true;
  for (std::size_t begin = 0; begin < brokers.size();) {
    const std::size_t end = brokers.find(',', begin);
    const std::string broker = brokers.substr(begin, end - begin);
    is_near = is_near && (broker.empty() || broker.starts_with("localhost") || broker.starts_with("127.") || broker.starts_with("[::1]"));
    begin = end + 1;
  }
  const std::string protocol = admin.property("security.protocol");
  if (is_near || protocol.ends_with("ssl")) return;
  findings.push_back({"KF009", Severity::kWarning, "security.protocol",
                      fmt::format("is '{}': whoever stands in between can read the events and change them", protocol),
                      "set kafka.properties security.protocol: sasl_ssl or ssl"});
}

void check_group(KafkaAdmin& admin, const KafkaOptions& options, Findings& findings) {
  const std::int64_t interval =
      number_of(admin.property("max.poll.interval.ms"), kPollIntervalMinimumMs);
  if (interval < kPollIntervalMinimumMs) {
    findings.push_back(
        {"KF006", Severity::kWarning, "max.poll.interval.ms",
         fmt::format(
             "is {} ms: a daemon that the machine holds up for so long is thrown out of the group",
             interval),
         "leave it at its default of five minutes"});
  }
  const auto members = admin.group_members();
  if (!members) {
    findings.push_back({"KF001", Severity::kWarning, "group '" + options.group + "'",
                        "cannot be described: " + members.error().text,
                        "allow Describe on the consumer group"});
    return;
  }
  const auto instance = options.properties.find("group.instance.id");
  if (instance == options.properties.end()) return;
  for (const GroupMember& member : *members) {
    if (member.instance_id != instance->second) continue;
    findings.push_back(
        {"KF006", Severity::kWarning, "group.instance.id",
         fmt::format("'{}' is in the group already, from {}: the older one will be fenced and ends",
                     member.instance_id, member.host),
         "give each daemon an id of its own; ignore this where that daemon is the one being "
         "checked"});
  }
}

// By the rights of whoever asks; nothing is written.
void check_dead_letters(const KafkaOptions& options, Findings& findings) {
  if (options.dead_letter_file.empty()) return;
  const std::filesystem::path file = options.dead_letter_file;
  std::error_code ignored;
  const bool exists = std::filesystem::exists(file, ignored);
  const std::filesystem::path asked = exists ? file : file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  if (access(asked.c_str(), exists ? W_OK : W_OK | X_OK) == 0) return;
  findings.push_back({"KF011", Severity::kWarning, "kafka.dead_letter_file",
                      fmt::format("'{}' cannot be written: {}; records that cannot be decoded would not be kept", file.string(), std::strerror(errno)),
                      "name a file where evictd may write: /var/lib/evictd/dead-letters under its systemd unit"});
}

}  // namespace

Findings check_kafka(const KafkaOptions& options, const RuleSet& rules, const AskTableTree& ask_table_tree) {
  Findings findings;
  const auto report = [&](const char* id, const std::string& object, const Error& error) {
    findings.push_back(
        {id, Severity::kError, object, error.text, error.hint,
         error.kind == ErrorKind::kTransient || error.kind == ErrorKind::kConnection});
  };
  if (auto valid = validate(options); !valid) {
    report("KF001", "kafka", valid.error());
    return findings;
  }
  check_dead_letters(options, findings);
  auto client = KafkaClient::make(options);
  if (!client) {
    report("KF001", "kafka", client.error());
    return findings;
  }
  const auto topics = (*client)->matching_topics();
  if (!topics) {
    report("KF001", options.brokers, (*client)->explained(topics.error()));
    return findings;
  }
  if (const auto history = (*client)->group_history(*topics); !history) {
    report("KF001", "group '" + options.group + "'", (*client)->explained(history.error()));
    return findings;
  }
  const auto named = rules.tables();
  std::optional<Result<TableTree>> tree;
  if (ask_table_tree) tree = ask_table_tree(named);
  check_topic_names(options, rules, *topics, findings, tree && *tree ? &**tree : nullptr);
  auto admin = KafkaAdmin::make(options);
  if (!admin) {
    report("KF001", "kafka", admin.error());
    return findings;
  }
  const std::set<std::string> mapped(named.begin(), named.end());
  std::vector<TopicPartition> partitions;
  std::size_t looked_at = 0;
  for (const auto& [topic, count] : *topics) {
    if (is_control_topic(topic, mapped) || ++looked_at > kTopicsMax) continue;
    check_topic_settings(**admin, topic, findings);
    for (std::int32_t partition = 0; partition < count; ++partition)
      partitions.push_back({topic, partition});
  }
  if (looked_at > kTopicsMax) {
    findings.push_back({"KF004", Severity::kInfo, options.brokers,
                        fmt::format("{} topics are subscribed: settings and records of the first {} were looked at",
                                    looked_at, kTopicsMax),
                        ""});
  }
  if (const auto offsets = (*client)->look_up(partitions); offsets) {
    check_offsets(*offsets, findings);
    if (auto records = (*admin)->last_records(*offsets, kRecordsOfPartition); records) {
      SchemaStore schemas;
      SchemaStore* known = options.registry.is_set() ? &schemas : nullptr;
      if (known != nullptr) check_registry(options.registry, *records, schemas, findings);
      if (check_records(*records, rules, findings, known, options.registry.id) && !ask_table_tree) check_tables(nullptr, *topics, findings);
    } else {
      report("KF001", options.brokers, records.error());
    }
  } else {
    report("KF001", options.brokers, offsets.error());
  }
  check_transport(**admin, options, findings);
  check_group(**admin, options, findings);
  if (tree) {
    if (*tree) {
      check_tables(&**tree, *topics, findings);
    } else {
      findings.push_back({"KF008", Severity::kError, "postgres_url", tree->error().text,
                          "evictd acts on no event before this database has answered"});
    }
  }
  if (!options.connect_url.empty()) {
    if (const auto connectors = read_connectors(options.connect_url); connectors) {
      check_connectors(*connectors, options, findings);
      check_altered_columns(*connectors, rules, findings);
    } else {
      findings.push_back(
          {"KF007", Severity::kWarning, "connect_url", connectors.error().text,
           "give the address of Kafka Connect's REST interface, or remove 'connect_url'"});
    }
  }
  return findings;
}

}  // namespace evictd
