// Questions that only `evictd check` asks of a cluster. Blocking; one short-lived client of its
// own, which joins no group and commits nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/kafka/kafka_client.h"
#include "daemon/sources/kafka/kafka_source.h"

namespace evictd {

// A record with texts of its own.
struct KeptRecord {
  TopicPartition at;
  std::int64_t offset = 0;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::int64_t timestamp_ms = 0;
  SchemaHeaders schemas;

  KafkaRecord view() const;  // of these texts
};

struct GroupMember {
  std::string instance_id;  // group.instance.id, or empty
  std::string client_id;
  std::string host;
};

class KafkaAdmin {
 public:
  static Result<std::unique_ptr<KafkaAdmin>> make(const KafkaOptions& options);
  ~KafkaAdmin();

  // Setting -> value of one topic ("retention.ms", "cleanup.policy").
  Result<std::map<std::string, std::string>> topic_settings(const std::string& topic);
  Result<std::vector<GroupMember>> group_members();
  // The last records before the ends of these partitions, up to `count` of each, oldest first.
  Result<std::vector<KeptRecord>> last_records(const std::vector<PartitionOffsets>& partitions,
                                               std::int64_t count);
  // The value that a property has after evictd's and the user's settings.
  std::string property(const std::string& name) const;

 private:
  struct Impl;
  explicit KafkaAdmin(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
