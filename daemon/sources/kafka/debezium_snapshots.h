// What a snapshot of Debezium's says of the stream before it: the connector reads the tables anew because it begins (again), and what
// changed since it last wrote may never come to Kafka: not what is gone by then, and not what a row was in between. Incremental
// snapshots, which it takes beside the stream, say nothing of the kind, nor does the snapshot that a partition begins with: what was
// before it has never been in Kafka, and is for `on_first_start`. Pure.
//
// Owned by the source, which is on the loop thread. Bounds: kTablesMax tables are remembered; what is forgotten is told once more. And the
// ends, two for each table, of each partition that began with a snapshot, until anything else comes there.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sources/kafka/envelope.h"

namespace evictd {

class DebeziumSnapshots {
 public:
  static constexpr std::size_t kTablesMax = 10'000;

  // The tables of which changes may be missing before this record, empty for any; none where nothing of the kind is new. Told at
  // both ends of a snapshot, since either may be in a topic that is not read, and in another daemon's partition; but once where
  // its rows bear one time, as PostgreSQL's do. To be asked for each record of a partition; `stream`: its number.
  std::optional<std::vector<std::string>> missing_before(const Decoded& decoded, std::uint32_t stream, std::int64_t offset);

 private:
  bool begins_with(const Decoded& decoded, std::uint32_t stream, std::int64_t offset);

  // Of partitions that were read from their first record on, and had nothing but rows of one snapshot: its ends that were there.
  std::map<std::uint32_t, std::set<std::pair<SnapshotEnd, std::string>>> beginnings_;
  // By server and table, "" for any: when the last snapshot was taken that was told of.
  std::map<std::pair<std::string, std::string>, SystemTime> told_;
};

}  // namespace evictd
