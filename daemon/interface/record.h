// The record: the few facts evictd keeps in each cache, beside the values they speak of, so that a restart can tell
// a healthy resume from a gap (G6), and a cache that came back with old data from one that lost nothing.
//
// Written by one process at a time: whoever holds the source. Judged by the ledger (flow/ledger.h) and by nobody else;
// sinks store and load it. Its text form is the sink's (sinks/redis/record_text.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "daemon/interface/version.h"

namespace evictd {

// Among `gaps`: the cache, or a part of it, came back with older data than it had. Found by the ledger, and in a Redis Cluster
// by the sink, which compares its masters.
inline constexpr const char* kRollbackGap = "redis_rollback";
inline constexpr const char* kEvictedGap = "redis_evicted";

struct Record {
  // Who wrote it, and where: a random id of the process, 16 hexadecimal digits, '/' and the name of the cache. Empty: nobody yet.
  std::string writer;
  // Counts what was saved, on from the record that the writer found: of two records of one cache the one with the higher
  // sequence came later, whoever wrote it. A cache that has lost nothing comes back with the last one saved or sent.
  std::uint64_t sequence = 0;

  Epoch epoch;
  std::string source_instance;  // see SourceConnected::instance
  // When this epoch and instance were first seen, by the clock of the cache: markers filled earlier are not trusted.
  std::chrono::milliseconds epoch_since{0};
  // Per stream of the source, by name (Source::stream_name), the last position whose deletes are finished here:
  // written BEFORE the source is told, so it is never behind the source. Of a stream that has just been taken up, where
  // it begins (SourceHandler::on_streams). Of a source that is another process than before, where it goes on from.
  std::map<std::string, std::uint64_t> acknowledged;
  // Likewise, the last position whose first deletes are done here, where that is further: what lies between the two owes
  // this cache a settle under `fill: plain`, and nothing else. Speaks of this epoch and source instance alone.
  std::map<std::string, std::uint64_t> applied;
  // Likewise, where the last transaction ended whose first deletes are done here. A server that sends from before it, and not it,
  // was set back and has gone another way.
  std::map<std::string, std::uint64_t> committed;
  // Identifies what the source's positions live in (PostgreSQL: database OID and slot name). Opaque.
  std::string source_identity;
  // What the source says of the tables it follows, "schema.table" -> digest text, opaque: compared by the source
  // (SourceFacts::difference), to notice what changed while nobody looked.
  std::map<std::string, std::string> tables;
  // Digests of the rules of each table that act on this cache, "schema.table" -> RuleSet::table_digest(). Another one
  // means that keys may be cached which nobody watched. Of an edge also which service it was, "" -> SinkTraits::service.
  std::map<std::string, std::uint64_t> rules;
  // Gaps that were found and not yet repaired: their reasons. Empty: none.
  std::set<std::string> gaps;

  friend bool operator==(const Record&, const Record&) = default;
};

}  // namespace evictd
