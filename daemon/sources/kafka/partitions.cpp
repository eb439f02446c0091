#include "daemon/sources/kafka/partitions.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace evictd {
namespace {

// Every bit of the argument moves every bit of the result, and no two arguments have the same (the finalizer of
// MurmurHash3, with the constants of SplitMix64).
std::uint64_t mixed(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

// The incarnation that `name` stands for; none when it is not of the partition whose first name is `base`.
std::optional<std::uint32_t> incarnation_of(std::string_view name, std::string_view base) {
  if (!name.starts_with(base)) return std::nullopt;
  name.remove_prefix(base.size());
  if (name.empty()) return 0;
  if (name[0] != '#') return std::nullopt;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return number;
}

// The highest on record.
std::optional<std::uint32_t> recorded_incarnation(const std::set<std::string>& on_record, const TopicPartition& at) {
  const std::string base = at.to_string();
  std::optional<std::uint32_t> highest;
  for (auto name = on_record.lower_bound(base); name != on_record.end() && name->starts_with(base); ++name) {
    const auto incarnation = incarnation_of(*name, base);
    if (incarnation) highest = std::max(highest.value_or(0), *incarnation);
  }
  return highest;
}

}  // namespace

std::uint64_t hash_of_name(std::string_view name) {
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return mixed(hash);
}

Xid opaque_xid(std::uint64_t name_hash, std::int64_t offset, std::int64_t timestamp_ms) {
  const std::uint64_t place = mixed(name_hash ^ mixed(static_cast<std::uint64_t>(offset) + 0x9e3779b97f4a7c15ULL));
  const std::uint64_t hash = mixed(place ^ mixed(static_cast<std::uint64_t>(timestamp_ms) + 0x3c6ef372fe94f82aULL));
  return Xid{kOpaqueXidFlag | (hash & (kOpaqueXidFlag - 1))};
}

void KnownEnds::note(KnownEnd end, std::int64_t delivered) {
  if (end.offset <= delivered || ends_.size() >= kMax) return;
  if (!ends_.empty() && (end.at - ends_.back().at < kApart || end.offset <= ends_.back().offset)) return;
  ends_.push_back(end);
}

std::optional<SteadyTime> KnownEnds::since(std::int64_t offset) {
  while (!ends_.empty() && ends_.front().offset <= offset) ends_.pop_front();
  if (ends_.empty()) return std::nullopt;
  return ends_.front().at;
}

std::uint64_t Partition::lag(std::optional<std::int64_t> known_end) const {
  const std::int64_t last = std::max(known_end.value_or(0), end.value_or(0));
  const std::int64_t done = std::max(assignment->acknowledged, assignment->began_at);
  return last > done ? static_cast<std::uint64_t>(last - done) : 0;
}

bool is_on_record(const std::set<std::string>& on_record, const TopicPartition& at) {
  return recorded_incarnation(on_record, at).has_value();
}

Partition& Partitions::find_or_add(const TopicPartition& at) {
  Partition& partition = all_[at];
  if (partition.topic == nullptr) {
    partition.at = at;
    partition.topic = &topic(at.topic);
  }
  return partition;
}

const Partition* Partitions::find(const TopicPartition& at) const {
  const auto found = all_.find(at);
  return found == all_.end() ? nullptr : &found->second;
}

Topic& Partitions::topic(const std::string& name) { return topics_[name]; }

std::uint32_t Partitions::stream_of(Partition& partition) {
  if (!partition.stream) {
    std::string name = partition.at.to_string();
    if (partition.incarnation > 0) name += '#' + std::to_string(partition.incarnation);
    partition.stream = static_cast<std::uint32_t>(streams_.size());
    partition.name_hash = hash_of_name(name);
    streams_.push_back({std::move(name), &partition});
  }
  return *partition.stream;
}

Partition* Partitions::of_stream(std::uint32_t stream) {
  if (stream >= streams_.size()) return nullptr;
  Partition* partition = streams_[stream].partition;
  return partition->stream == stream ? partition : nullptr;
}

std::string Partitions::name_of_stream(std::uint32_t stream) const {
  return stream < streams_.size() ? streams_[stream].name : std::string();
}

void Partitions::begin_anew(Partition& partition) {
  ++partition.incarnation;
  partition.stream.reset();
  partition.announced = 0;
  partition.acknowledged = -1;
}

bool Partitions::go_on_from(Partition& partition, const std::set<std::string>& on_record) {
  const auto recorded = recorded_incarnation(on_record, partition.at);
  if (!recorded || *recorded <= partition.incarnation) return false;
  partition.incarnation = *recorded - 1;
  begin_anew(partition);
  return true;
}

void Partitions::assign(Partition& partition, Assignment assignment) {
  if (!partition.assignment) assigned_.push_back(&partition);
  partition.assignment = std::move(assignment);
}

void Partitions::unassign(const std::vector<TopicPartition>& partitions) {
  std::erase_if(assigned_, [&](Partition* partition) {
    if (std::find(partitions.begin(), partitions.end(), partition->at) == partitions.end()) return false;
    partition->assignment.reset();
    return true;
  });
  last_found_ = 0;
  for (auto& [name, topic] : topics_) {
    if (!topic.refused.empty() && !has_assigned(name)) topic.refused.clear();
  }
}

void Partitions::unassign_all() {
  for (Partition* partition : assigned_) partition->assignment.reset();
  assigned_.clear();
  last_found_ = 0;
  for (auto& [name, topic] : topics_) topic.refused.clear();
}

Partition* Partitions::find_assigned(std::string_view topic, std::int32_t number) {
  const auto matches = [&](const Partition* partition) {
    return partition->at.partition == number && partition->at.topic == topic;
  };
  if (last_found_ < assigned_.size() && matches(assigned_[last_found_])) return assigned_[last_found_];
  const auto found = std::find_if(assigned_.begin(), assigned_.end(), matches);
  if (found == assigned_.end()) return nullptr;
  last_found_ = static_cast<std::size_t>(found - assigned_.begin());
  return *found;
}

std::vector<TopicPartition> Partitions::assigned_at() const {
  std::vector<TopicPartition> at;
  for (const Partition* partition : assigned_) at.push_back(partition->at);
  return at;
}

bool Partitions::has_assigned(const std::string& topic) const {
  return std::any_of(assigned_.begin(), assigned_.end(), [&](const Partition* partition) { return partition->at.topic == topic; });
}

void Partitions::announce(Partition& partition, std::int64_t next) {
  partition.assignment->announced = next;
  partition.announced = std::max(partition.announced, next);
}

Partition* Partitions::acknowledge(const Position& end) {
  Partition* partition = of_stream(end.stream);
  if (partition == nullptr) return nullptr;
  const auto offset = static_cast<std::int64_t>(end.value);
  if (offset <= partition->acknowledged || offset > partition->announced) return nullptr;
  partition->acknowledged = offset;
  if (partition->assignment && offset > partition->assignment->acknowledged) {
    partition->assignment->acknowledged = offset;
    partition->assignment->acknowledged_is_new = partition->assignment->was_acknowledged = true;
  }
  return partition;
}

Offsets Partitions::take_acknowledged() {
  Offsets offsets;
  for (Partition* partition : assigned_) {
    if (!std::exchange(partition->assignment->acknowledged_is_new, false)) continue;
    offsets.emplace_back(partition->at, partition->assignment->acknowledged);
  }
  return offsets;
}

void Partitions::drain(const std::vector<TopicPartition>& partitions) {
  for (Partition* partition : assigned_) {
    if (std::find(partitions.begin(), partitions.end(), partition->at) != partitions.end()) partition->assignment->is_draining = true;
  }
}

bool Partitions::is_draining_busy() const {
  return std::any_of(assigned_.begin(), assigned_.end(), [](const Partition* partition) {
    const Assignment& assignment = *partition->assignment;
    return assignment.is_draining && assignment.acknowledged < assignment.announced;
  });
}

Offsets Partitions::drained() const {
  Offsets offsets;
  for (const Partition* partition : assigned_) {
    const Assignment& assignment = *partition->assignment;
    if (assignment.is_draining && assignment.was_acknowledged) offsets.emplace_back(partition->at, assignment.acknowledged);
  }
  return offsets;
}

void Partitions::note_ends(const Offsets& ends, SteadyTime now) {
  for (const auto& [at, end] : ends) {
    Partition& partition = find_or_add(at);
    partition.end = end;
    if (partition.assignment) partition.assignment->known_ends.note({end, now}, partition.assignment->delivered);
  }
}

void Partitions::forget_ends() {
  for (auto& [at, partition] : all_) partition.end.reset();
}

std::string Partitions::refused() const {
  const auto found = std::find_if(topics_.begin(), topics_.end(), [](const auto& entry) { return !entry.second.refused.empty(); });
  return found == topics_.end() ? std::string() : found->second.refused;
}

}  // namespace evictd
