// The record: the few facts evictd keeps in Redis, beside the cache they speak of, so that a restart can
// tell a healthy resume from a gap (G6), and a Redis that was rolled back from one that was not.
// The pipeline decides when it is written; sinks store and load it, sources compare against it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "daemon/interface/version.h"

namespace evictd {

// The name of the one stream of a source that has no other (PostgreSQL's).
inline constexpr const char* kOnlyStream = "wal";

struct Record {
  // Who saved it, and as the how manieth of its own: by these two, and by nothing else, evictd tells whether a Redis
  // that comes back still has the record it knows. `writer` is a random id of the process.
  std::string writer;
  std::uint64_t sequence = 0;
  Epoch epoch;
  std::string source_instance;  // see SourceConnected::instance
  // When this epoch and instance were first seen, by the clock of Redis: markers filled earlier are not trusted.
  std::chrono::milliseconds epoch_since{0};
  // By name of the stream (Source::stream_name; PostgreSQL: kOnlyStream, commit end LSN), the last position this evictd
  // has acknowledged or is about to: written BEFORE the source is told, so it is never behind the source.
  std::map<std::string, std::uint64_t> acknowledged;
  // Identifies what the source's position lives in (PostgreSQL: database OID and slot name). Opaque.
  std::string source_identity;
  // What the source's catalogue said of each followed table, "schema.table" -> a digest. Opaque, and only ever compared
  // by the source itself: a table that was changed in a way that the stream does not tell has another one.
  std::map<std::string, std::string> tables;
  // A gap that was found and not yet repaired: its reason, empty when there is none.
  std::string gap;

  friend bool operator==(const Record&, const Record&) = default;
};

}  // namespace evictd
