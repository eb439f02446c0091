// One librdkafka consumer: the only file pair of the daemon that knows the library.
//
// Records and events are kept in two queues. Events (rebalances, errors) are served at every turn
// of the loop, whether or not Redis keeps up; that is also what Kafka takes for a sign of life
// (max.poll.interval.ms). Records wait in a queue of their own, bounded by
// queued.max.messages.kbytes, until somebody has room for them, so that nothing has to be paused,
// dropped and fetched again when Redis is slow.
//
// Offsets are never stored by the library itself: store() is the only way.
//
// Threads: everything belongs to the loop thread, except the functions under "may block", which one
// helper thread may call at the same time.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/sources/kafka/envelope.h"
#include "daemon/sources/kafka/kafka_source.h"
#include "mapping/error.h"

namespace evictd {

struct TopicPartition {
  std::string topic;
  std::int32_t partition = 0;
  auto operator<=>(const TopicPartition&) const = default;
  std::string to_string() const { return topic + "[" + std::to_string(partition) + "]"; }
};

// Partitions, each with an offset in it.
using Offsets = std::vector<std::pair<TopicPartition, std::int64_t>>;

// The partitions of topics that have so many.
std::vector<TopicPartition> partitions_of(const std::map<std::string, std::int32_t>& topics);

// What the cluster knows of a partition: records [low, high) can be read.
struct PartitionOffsets {
  TopicPartition at;
  std::optional<std::int64_t> committed;  // of our group
  std::int64_t low = 0;
  std::int64_t high = 0;
};

struct GroupHistory {
  bool has_offsets = false;
  // When its first member began, while nothing has been read since: every offset is one of
  // commit_beginning().
  std::optional<SystemTime> began;
};

class KafkaClientHandler {
 public:
  virtual ~KafkaClientHandler() = default;
  // The group has given us these; answer with assign(), soon.
  virtual void on_assigned(std::vector<TopicPartition> partitions) = 0;
  // The group wants these back; answer with unassign(). `lost`: it has given them to others
  // already.
  virtual void on_revoked(std::vector<TopicPartition> partitions, bool lost) = 0;
  // kTransient: librdkafka goes on trying. kConnection: this client must be made anew. kFatal,
  // kUsage: the end.
  virtual void on_client_error(const Error& error) = 0;
  // No broker is there. The reason for one of them came before, as an error of its own.
  virtual void on_brokers_down(const Error& error) { on_client_error(error); }
  // It is read as soon as it exists.
  virtual void on_topic_missing(const std::string& topic) = 0;
  // We have no right to read this topic. Told once; the library goes on trying, and does not tell when it succeeds.
  virtual void on_topic_refused(const std::string& topic, const Error& error) = 0;
  // The broker has these offsets of ours, or later ones.
  virtual void on_committed(const std::vector<TopicPartition>& partitions) = 0;
  // No record of this partition can be read where we stand.
  virtual void on_offset_lost(const TopicPartition& partition) = 0;
  // All records before this offset, the partition's end for now, have been given. It lies beyond the last one where
  // something ends it that is no record for us: control records of transactions, aborted ones, a hole left by compaction.
  virtual void on_end_reached(const TopicPartition& partition, std::int64_t end) = 0;
};

class KafkaClient {
 public:
  // kUsage when a property is refused. Connects in the background.
  static Result<std::unique_ptr<KafkaClient>> make(const KafkaOptions& options);
  ~KafkaClient();  // after close(); blocks for two seconds at most

  // Readable when there is something new in a queue.
  int descriptor() const;
  void clear_descriptor();

  Result<void> subscribe();
  void serve_events(KafkaClientHandler& handler);

  // The oldest record fetched and not yet popped, of a partition assigned by assign(); null when
  // there is none. `may_have_more` tells whether to ask again without waiting for the descriptor.
  const KafkaRecord* front(KafkaClientHandler& handler);
  void pop();
  bool may_have_more() const;
  // True once each time half of what the queue may hold has been read: ends() is due. librdkafka 2.0 stops
  // fetching when the queue is full, and looks again whether there is room only when another request passes
  // the broker's thread, or after a second (later ones have fetch.queue.backoff.ms: librdkafka 2.2, CHANGELOG.md).
  bool should_ask_for_ends();

  // kConnection when the library does not take it: a partition that is ours in the group and is not read.
  Result<void> assign(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets);
  void unassign(const std::vector<TopicPartition>& partitions);
  void store(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets);
  void commit_stored(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets);
  // The first commit of a new group, with a note of when it was made.
  void commit_beginning(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets,
                        SystemTime now);
  // The end of the partition as of the last fetch, or empty.
  std::optional<std::int64_t> known_end(const TopicPartition& partition) const;

  // ---- may block, bounded by `kCallTimeoutMs` for each question, look_up() by `kLookUpMaxMs` for all of its own
  // The existing topics that the subscription names or matches -> number of partitions.
  Result<std::map<std::string, std::int32_t>> matching_topics();
  // What our group has committed of their partitions.
  Result<GroupHistory> group_history(const std::map<std::string, std::int32_t>& topics);
  // Those of them that our group has a place in, and where.
  Result<std::vector<std::pair<TopicPartition, std::int64_t>>> committed(const std::vector<TopicPartition>& partitions);
  Result<std::vector<PartitionOffsets>> look_up(const std::vector<TopicPartition>& partitions);
  // Where the partitions end now; known_end() is as old as the last fetch that arrived. One request to each
  // leader.
  Result<std::vector<std::pair<TopicPartition, std::int64_t>>> ends(
      const std::vector<TopicPartition>& partitions);
  // Why a call has failed, as far as the library has been told by a broker or by TLS; else `error`.
  // REQUIRES: the loop does not serve this client yet.
  Error explained(Error error);
  void close();

  static constexpr int kCallTimeoutMs = 10'000;
  static constexpr int kLookUpMaxMs = 60'000;

 private:
  struct Impl;
  static void end(std::unique_ptr<Impl> impl);
  explicit KafkaClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
