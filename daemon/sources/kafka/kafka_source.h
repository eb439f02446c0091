// The Kafka source: Debezium change events of a consumer group's partitions, as transactions
// (source.h).
//
// Every record is one transaction of one change. Each partition is a stream of its own, and another one when what
// was read of it says nothing about what comes (partitions.h); however often it is given up and got back, it stays the
// same. Positions are offsets: the offset AFTER the record, as Kafka commits them. Offsets are stored for the group only through acknowledge(); librdkafka's own background
// commit and the commit on revoke do the rest. The group's committed offsets are the position of
// record; the Record found in Redis only tells a first start from lost offsets.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/interface/lookup.h"
#include "daemon/interface/snapshot_poll.h"
#include "daemon/interface/source.h"
#include "daemon/interface/table_tree.h"
#include "daemon/sources/kafka/registry_client.h"

namespace evictd {

// What to do with `r` events, which repeat every row of a table at each Debezium snapshot.
enum class OnSnapshotEvent : std::uint8_t { kIgnore, kInvalidate };

// What to do with a record of a mapped topic that cannot be decoded.
enum class OnPoison : std::uint8_t {
  kPurge,  // purge what its table's rules may have cached, go on
  kStop,   // end with exit code 1, nothing acknowledged
  kSkip,   // count it and go on; its change is lost
};

struct KafkaOptions {
  std::string brokers;              // "host:port,host:port"
  std::string group = "evictd";     // group.id
  std::vector<std::string> topics;  // names, or regular expressions that begin with '^'
  // Any librdkafka consumer property: security.protocol, sasl.*, ssl.*, group.instance.id, ...
  // Those that would break a guarantee are refused by validate().
  std::map<std::string, std::string> properties;
  OnSnapshotEvent on_snapshot = OnSnapshotEvent::kIgnore;
  OnPoison on_poison = OnPoison::kPurge;
  // Undecodable records are appended here, raw and framed (dead_letters.h); empty: not kept.
  std::string dead_letter_file;
  std::uint64_t dead_letter_bytes_max = 16 * 1024 * 1024;
  // How long a partition that is taken away may take to finish what was delivered from it.
  std::chrono::milliseconds revoke_drain{5000};
  // Base URL of Kafka Connect's REST interface, for `evictd check` only; empty: not asked.
  std::string connect_url;
  // Where the schemas of Avro come from. A record whose schema it does not give stops the reading, until it does.
  RegistryOptions registry;
};

// Refuses properties that contradict evictd's guarantees ("enable.auto.offset.store"), unknown ones
// and bad values, with librdkafka's own check. kUsage; the text names the property, never its
// value.
Result<void> validate(const KafkaOptions& options);

// `snapshots` may be null: then settle counts from receipt (on_snapshot is never answered).
// `ask_table_tree` may be empty: then an event acts for the table it names, and for none above it. It is asked by a thread
// of its own, at the start, at times, and before the first event of a table is handed out. `lookups` may be null: then no rule
// has joined tables.
std::unique_ptr<Source> make_kafka_source(KafkaOptions options, std::unique_ptr<SnapshotPoll> snapshots,
                                          AskTableTree ask_table_tree = {},
                                          std::unique_ptr<LookupSession> lookups = nullptr);

}  // namespace evictd
