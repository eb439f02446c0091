// Where reading each partition begins, and what is missing before that (G6), by what the group has committed, what the caches have on record
// and what this process has seen; and which partitions are told as taken up, so that whoever comes after us knows that as well.
//
// What the group has taken up must be on record: where its committed offsets are gone (they go with a topic that is deleted), nothing else
// tells a partition that is new, and whole from its first record on, from one of which something was lost. So it is told as soon as it is
// ours, whether or not anything was read; and all that exists when a group begins, whoever of the group gets it.
//
// Pure: asks nobody, commits nothing. Owned by the source, which is on the loop thread; outlives clients. Bounds: as many entries as the
// group's topics have, or had, partitions.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sources/kafka/kafka_client.h"
#include "daemon/sources/kafka/partitions.h"

namespace evictd {

class Beginnings {
 public:
  // Daemons that start within this time of one another begin a new group together.
  static constexpr std::chrono::seconds kTogether{60};
  // A topic that is new may be unknown to a broker that has not heard of it yet.
  static constexpr std::chrono::seconds kToldByAll{10};

  // `partitions` must outlive this.
  explicit Beginnings(Partitions& partitions) : partitions_(partitions) {}

  // ---- A client has reached the brokers.
  struct Found {
    std::map<std::string, std::int32_t> topics;  // -> number of partitions
    GroupHistory history;
    Offsets ends;  // of all their partitions, where known
  };
  // `has_streamed`: this process, with a client before.
  void opened(Found found, bool has_streamed, Now now);
  // The group has read before: of a cache that has no record of it, nobody knows of when its values are.
  bool has_history() const { return has_history_; }
  // It is joined, now that it is known what the caches have on record: names of streams, which some cache has a position of.
  void joins(const std::set<std::string>& on_record);

  // ---- What the group gives.
  enum class Commit {
    kNothing,  // what is committed stands; or the purge of a gap comes before, so that whoever reads next finds the gap again
    kFirst,    // the first offset of a new group
    kLater,    // of a partition that is new to the group
  };
  struct Begin {
    std::int64_t offset = 0;
    std::string missing;  // what, in a sentence, before that; empty: nothing
    std::string gap;      // label of evictd_gaps_total; empty: there is none, or it was told when it was found
    Commit commit = Commit::kNothing;
  };
  // The partition is assigned from here on, in Partitions.
  Begin begins(const PartitionOffsets& offsets, SteadyTime now);

  // ---- What is learnt while reading.
  // A commit of ours has arrived.
  void committed(const TopicPartition& at) { pasts_[at].is_taken_up = true; }
  // By other members of the group. Each of them writes the one record of a cache, so each has to know the names of all.
  void others_took_up(const Offsets& committed);
  // There is no record where this one stands: a new client sees it as any restart would, whoever's that is; unless the partition has
  // grown past our offset by then, so the gap is told at once. -> whether to tell: not where another partition of the topic was so, by
  // this client.
  bool lost(const TopicPartition& at);
  // Topics of which we have had partitions, and that are gone by what the brokers say, with what was not read of them. One of the same name
  // that comes back is another one: what the group has committed says nothing about it, and may be what we committed of the first.
  std::vector<std::string> vanished(const std::map<std::string, std::int32_t>& topics, SteadyTime now);

  // ---- What is told.
  // Streams that are taken up and were not told to the handler by this client, by name, each with where it begins. Told now.
  std::map<std::string, std::uint64_t> untold();
  // Those of which nobody need ask whether others have taken them up.
  std::set<TopicPartition> known() const;

 private:
  // What is known of a partition, whether we hold it or not.
  struct Past {
    bool existed_first = false;             // before a new group began
    std::optional<std::int64_t> first_end;  // where it ended then, where that is known
    std::optional<std::int64_t> began_at;   // where this process took it up, and has not seen that committed
    std::optional<std::int64_t> committed;  // by the group, when last looked up: where it stands, it never goes back
    bool is_taken_up = false;               // by the group: something of it was committed
    bool is_told = false;                   // to the handler, since this client was made; or on record before
    bool is_begun_again = false;            // since its topic had vanished
    bool gap_is_told = false;               // there was no record where we stood
  };
  struct TopicPast {
    std::optional<SteadyTime> held_since;  // of one of which we have had partitions
    bool has_vanished = false;             // was gone after that, and may have been made again
  };
  void go_on_from_record(Partition& partition);
  void begin_anew(Partition& partition);

  Partitions& partitions_;
  std::map<TopicPartition, Past> pasts_;
  std::map<std::string, TopicPast> topics_;
  std::set<std::string> on_record_;

  // As this client has found it.
  std::vector<TopicPartition> found_;
  std::map<TopicPartition, std::int64_t> ends_;
  SteadyTime ends_at_{};
  bool has_history_ = false;
  bool is_first_start_ = false;  // the group had no offsets, or began just now: nobody has worked before us
  bool has_lost_ = false;        // this client has told of gap_is_told
};

}  // namespace evictd
