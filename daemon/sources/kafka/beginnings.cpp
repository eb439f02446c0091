#include "daemon/sources/kafka/beginnings.h"

#include <algorithm>
#include <utility>

#include "daemon/sources/kafka/start_policy.h"

namespace evictd {

void Beginnings::begin_anew(Partition& partition) {
  partitions_.begin_anew(partition);
  pasts_[partition.at].is_told = false;
}

// From the incarnations that a process before this one has left on record.
void Beginnings::go_on_from_record(Partition& partition) {
  if (partitions_.go_on_from(partition, on_record_)) pasts_[partition.at].is_told = false;
}

void Beginnings::opened(Found found, bool has_streamed, Now now) {
  // Where several daemons start together, another may have begun for all after we looked for the record: then there is one by now.
  const GroupHistory& history = found.history;
  const bool is_beginning = history.began && std::chrono::abs(now.system - *history.began) < kTogether;
  has_history_ = history.has_offsets && !is_beginning;
  is_first_start_ = !has_streamed && !has_history_;
  found_ = partitions_of(found.topics);
  ends_ = std::map<TopicPartition, std::int64_t>(found.ends.begin(), found.ends.end());
  ends_at_ = now.steady;
  has_lost_ = false;
  for (auto& [at, past] : pasts_) past.is_told = false;
}

void Beginnings::joins(const std::set<std::string>& on_record) {
  on_record_ = on_record;
  const bool begins_group = is_first_start_ && on_record_.empty();
  for (const TopicPartition& at : found_) {
    Partition& partition = partitions_.find_or_add(at);
    go_on_from_record(partition);
    Past& past = pasts_[at];
    past.is_told = on_record_.contains(partitions_.name_of_stream(partitions_.stream_of(partition)));
    if (begins_group) past.existed_first = true;
  }
  if (!begins_group) return;
  for (const auto& [at, end] : ends_) pasts_[at].first_end = end;
}

Beginnings::Begin Beginnings::begins(const PartitionOffsets& offsets, SteadyTime now) {
  const TopicPartition& at = offsets.at;
  Partition& partition = partitions_.find_or_add(at);
  Past& past = pasts_[at];
  TopicPast& topic = topics_[at.topic];
  go_on_from_record(partition);
  // Others held it meanwhile, and found that it is another one: what we know of it is not of this one.
  if (past.committed && offsets.committed && *offsets.committed < *past.committed) begin_anew(partition);
  past.committed = offsets.committed;
  if (offsets.committed) {
    past.is_taken_up = true;
    past.began_at.reset();
  }
  StartFacts facts;
  facts.offsets = offsets;
  facts.is_first_start = past.existed_first;
  facts.first_end = past.first_end;
  // What was finished since tells the partition from a shorter one.
  if (past.began_at) facts.began_at = std::max(*past.began_at, partition.acknowledged);
  // On record by us, perhaps, when our commit is still on its way.
  facts.was_read_before = past.is_taken_up || (is_on_record(on_record_, at) && !past.began_at);
  if (!topic.held_since) topic.held_since = now;
  const bool is_made_again = topic.has_vanished && !std::exchange(past.is_begun_again, true);
  if (is_made_again) {
    // From its first record. The gap was found when the first one vanished.
    facts.offsets.committed = offsets.low;
    begin_anew(partition);
  }
  const Start start = start_of(facts);

  Begin begin{.offset = start.offset, .missing = start.detail, .gap = {}, .commit = Commit::kNothing};
  const bool has_gap = !start.gap.empty();
  if (has_gap) {
    begin_anew(partition);
    past.began_at.reset();
    past.is_taken_up = true;  // what is not committed by the next time has its purge not behind it
    past.is_told = true;  // by its purge: where it begins is no position before that is done
    if (!past.gap_is_told) begin.gap = start.gap;
  }
  past.gap_is_told = false;
  Assignment assignment;
  // What was finished after the partition had been given up is done, although nobody could commit it.
  if (partition.acknowledged > begin.offset && partition.acknowledged <= offsets.high) {
    begin.offset = partition.acknowledged;
    assignment.acknowledged_is_new = assignment.was_acknowledged = true;
  }
  assignment.began_at = assignment.delivered = assignment.acknowledged = assignment.announced = begin.offset;
  partition.announced = std::max(partition.announced, begin.offset);
  if (!has_gap && (!offsets.committed || is_made_again)) {
    if (!past.began_at) past.began_at = begin.offset;
    begin.commit = past.existed_first && !is_made_again ? Commit::kFirst : Commit::kLater;
  }
  if (const auto end = ends_.find(at); end != ends_.end()) assignment.known_ends.note({end->second, ends_at_}, begin.offset);
  assignment.known_ends.note({offsets.high, now}, begin.offset);
  partitions_.assign(partition, std::move(assignment));
  return begin;
}

void Beginnings::others_took_up(const Offsets& committed) {
  for (const auto& [at, offset] : committed) {
    if (partitions_.find_or_add(at).assignment) continue;
    Past& past = pasts_[at];
    past.is_taken_up = true;
    past.committed = offset;
  }
}

bool Beginnings::lost(const TopicPartition& at) {
  bool is_told = false;  // of another partition of the topic, by this client
  for (auto& [place, past] : pasts_) {
    if (!has_lost_) past.gap_is_told = false;
    is_told |= past.gap_is_told && place.topic == at.topic;
  }
  has_lost_ = true;
  pasts_[at].gap_is_told = true;
  return !is_told;
}

std::vector<std::string> Beginnings::vanished(const std::map<std::string, std::int32_t>& topics, SteadyTime now) {
  std::vector<std::string> gone;
  for (auto& [name, topic] : topics_) {
    if (!topic.held_since || topics.contains(name) || now - *topic.held_since <= kToldByAll) continue;
    topic.held_since.reset();
    topic.has_vanished = true;
    for (auto& [at, past] : pasts_) {
      if (at.topic != name) continue;
      past.is_taken_up = past.is_begun_again = past.existed_first = false;
      past.began_at.reset();
      past.committed.reset();
    }
    gone.push_back(name);
  }
  return gone;
}

std::map<std::string, std::uint64_t> Beginnings::untold() {
  std::map<std::string, std::uint64_t> begins;
  for (auto& [at, past] : pasts_) {
    Partition& partition = partitions_.find_or_add(at);
    if (past.is_told || !(partition.assignment || past.existed_first || past.is_taken_up)) continue;
    past.is_told = true;
    const std::int64_t begin = partition.assignment ? partition.assignment->began_at : past.committed.value_or(past.first_end.value_or(0));
    begins[partitions_.name_of_stream(partitions_.stream_of(partition))] = static_cast<std::uint64_t>(begin);
  }
  return begins;
}

std::set<TopicPartition> Beginnings::known() const {
  std::set<TopicPartition> known;
  for (const auto& [at, past] : pasts_) {
    const Partition* partition = partitions_.find(at);
    if (past.is_told || (partition != nullptr && partition->assignment)) known.insert(at);
  }
  return known;
}

}  // namespace evictd
