// What this process knows of topics and partitions, whether it holds them or not: one struct each. Pure.
//
// A partition is known by its name: "shop.public.items[3]". When what was read of it is over (its topic was deleted
// and made again, or the records where reading stood are gone), its offsets say nothing about those of before: another
// incarnation has begun, "shop.public.items[3]#1". The record in Redis holds the names, and the next process goes on
// counting from there; so no name ever stands for two histories, and offsets of one name always compare.
//
// Within a process each name has an index (Position::stream), given out when it is first needed and never again.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/record.h"
#include "daemon/interface/source.h"
#include "daemon/sources/kafka/kafka_client.h"

namespace evictd {

// A look at a partition's end: the records before `offset` were in it by then.
struct KnownEnd {
  std::int64_t offset = 0;
  SteadyTime at{};
};

// The looks at a partition's end that tell since when records were in it, oldest first. Few enough to keep for every partition, and close
// enough to tell a settle time from no time.
class KnownEnds {
 public:
  static constexpr std::size_t kMax = 32;
  static constexpr std::chrono::milliseconds kApart{100};

  // `delivered`: where reading stands; what lies before it is of no use any more.
  void note(KnownEnd end, std::int64_t delivered);
  // By when this record was there, where that is known. Records come in their order.
  std::optional<SteadyTime> since(std::int64_t offset);

 private:
  std::deque<KnownEnd> ends_;
};

// A partition as the group has given it to us, until it is given back. Offsets are the next one to read, as Kafka
// commits them: began_at <= delivered, announced <= delivered.
struct Assignment {
  std::int64_t began_at = 0;
  std::int64_t delivered = 0;
  std::int64_t announced = 0;     // the end of the last transaction given to the handler
  std::int64_t acknowledged = 0;  // what may be committed; ahead of `delivered` where an earlier assignment was
  bool acknowledged_is_new = false;      // not handed to librdkafka yet
  bool was_acknowledged = false;         // anything at all
  bool is_draining = false;              // to be given back: nothing more is read from it
  std::optional<UnknownChange> missing;  // a gap before began_at, to be purged first
  KnownEnds known_ends;
};

struct Topic {
  std::string refused;  // why it cannot be read, until a record of it is
};

struct Partition {
  TopicPartition at;
  Topic* topic = nullptr;
  std::optional<std::int64_t> end;  // as last asked for

  // This incarnation of it.
  std::uint32_t incarnation = 0;
  std::optional<std::uint32_t> stream;
  std::uint64_t name_hash = 0;     // see opaque_xid(); with `stream`
  std::int64_t announced = 0;      // of all its assignments: what may be acknowledged at all
  std::int64_t acknowledged = -1;  // of all its assignments: done, whoever reads it next

  std::optional<Assignment> assignment;

  // How many records are not done. `known_end`: as the last fetch told. REQUIRES: assignment.
  std::uint64_t lag(std::optional<std::int64_t> known_end) const;
};

// The id of a transaction that has none a snapshot speaks of: the same at each delivery of a record, by whatever
// process, so that a replay is recognised by the tombstones in Redis (G2), and never that of another record, for a delete
// taken for a replay is left out. Tombstones outlive processes, and daemons of one group share them without knowing of one
// another; so this is no number given out by one of them, but 62 bits of a hash of all that a record is known by: name of
// the partition, offset, time. Each pair of records has a chance of its own of 2^-62 to be taken for one another.
std::uint64_t hash_of_name(std::string_view name);
Xid opaque_xid(std::uint64_t name_hash, std::int64_t offset, std::int64_t timestamp_ms);

class Partitions {
 public:
  // Made when new. The reference stays good.
  Partition& find_or_add(const TopicPartition& at);
  Topic& topic(const std::string& name);
  // Null: not made yet.
  const Partition* find(const TopicPartition& at) const;

  // The index of its present incarnation.
  std::uint32_t stream_of(Partition& partition);
  // Null when the index is of an incarnation that is over, or was never given out.
  Partition* of_stream(std::uint32_t stream);
  std::string name_of_stream(std::uint32_t stream) const;
  // What has been read of it says nothing about what comes.
  void begin_anew(Partition& partition);
  // Goes on from the incarnations that a process before this one has left on record. -> whether this is another one now.
  bool go_on_from(Partition& partition, const std::set<std::string>& on_record);

  // Those with an assignment, in the order they came.
  const std::vector<Partition*>& assigned() const { return assigned_; }
  void assign(Partition& partition, Assignment assignment);
  // What is known of why topics cannot be read goes with their last partition.
  void unassign(const std::vector<TopicPartition>& partitions);
  void unassign_all();
  // Null: not assigned.
  Partition* find_assigned(std::string_view topic, std::int32_t partition);
  std::vector<TopicPartition> assigned_at() const;
  bool has_assigned(const std::string& topic) const;

  // A transaction that ends before `next` was given to the handler. REQUIRES: assignment.
  static void announce(Partition& partition, std::int64_t next);
  // Of an earlier assignment as well: what it delivered is done now, whoever has read it again meanwhile. -> the partition; null: it says
  // nothing new, or was never announced.
  Partition* acknowledge(const Position& end);
  // What was acknowledged and not taken yet.
  Offsets take_acknowledged();

  // Nothing more is read of these; they are to be given back.
  void drain(const std::vector<TopicPartition>& partitions);
  // Something that was delivered of them is not finished yet.
  bool is_draining_busy() const;
  // Where those stand of which anything was acknowledged.
  Offsets drained() const;

  // As the brokers say now.
  void note_ends(const Offsets& ends, SteadyTime now);
  // Those were another client's.
  void forget_ends();

  // Why a topic cannot be read, the first by name; empty: all can.
  std::string refused() const;

 private:
  struct Stream {
    std::string name;
    Partition* partition;
  };
  std::map<TopicPartition, Partition> all_;
  std::map<std::string, Topic> topics_;
  std::vector<Stream> streams_;  // by index; as many as there are names
  std::vector<Partition*> assigned_;
  std::size_t last_found_ = 0;
};

// Whether anything of the partition is on record, of whatever incarnation.
bool is_on_record(const std::set<std::string>& on_record, const TopicPartition& at);

}  // namespace evictd
