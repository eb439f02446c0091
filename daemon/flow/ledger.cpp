#include "daemon/flow/ledger.h"

#include <fmt/format.h>

#include <algorithm>

#include "mapping/check.h"

namespace evictd {
namespace {

// The record is written anew this often even without news, so that a cache that forgot it has it again.
constexpr std::chrono::seconds kRecordRefresh{5};

// What the tables' facts say: each table that was not followed before, or is not what it was.
void judge_tables(const Record& record, const SourceFacts& facts, std::vector<Gap>& gaps) {
  std::map<std::string, Gap> changed;  // by reason
  Gap added{"table_added", "", {}, true};
  for (const auto& [table, digest] : facts.tables) {
    const auto before = record.tables.find(table);
    if (before == record.tables.end()) {
      added.tables.push_back(table);
    } else if (before->second != digest) {
      const std::string reason = facts.difference ? facts.difference(table, before->second) : "table_changed";
      if (reason.empty()) continue;
      changed.try_emplace(reason, Gap{reason, "", {}}).first->second.tables.push_back(table);
    }
  }
  const auto add = [&](Gap gap, std::string_view text) {
    gap.detail = fmt::format("{}: '{}'", text, fmt::join(gap.tables, "', '"));
    gaps.push_back(std::move(gap));
  };
  for (auto& [reason, gap] : changed) {
    add(std::move(gap), reason == "table_recreated"      ? "dropped and created anew"
                        : reason == "unpublished"        ? "not all of it was in the publication for a time"
                        : reason == "partitions_changed" ? "partitions or children were attached or removed"
                                                         : "names, columns or storage were altered, which may change values without a row in the stream");
  }
  if (!added.tables.empty()) add(std::move(added), "the rules name tables that were not followed until now");
}

}  // namespace

Ledger::Ledger(std::string writer, std::chrono::milliseconds interval, bool is_shared)
    : writer_(std::move(writer)), interval_(interval), is_shared_(is_shared) {}

Ledger::Found Ledger::found(const std::optional<Record>& stored, bool is_same_process) {
  const bool was_known = std::exchange(is_known_, true);
  if (stored && !stored->gaps.empty()) may_follow_another_history_ = true;  // why, nobody knows any more
  stored_gaps_ = stored ? stored->gaps : std::set<std::string>();
  on_record_ = stored ? OnRecord{stored->epoch, stored->source_instance, stored->acknowledged, stored->applied} : OnRecord{};
  std::optional<Written> written;
  if (stored) written = Written{stored->writer, stored->sequence};
  // One of ours whose answer was lost did arrive after all.
  const bool may_be_last =
      stored && stored->writer == writer_ && stored->sequence > unsure_after_ && stored->sequence <= sent_;
  const bool is_as_good = holds_ && stored && stored->writer == writer_ && confirmed_ != 0 &&
                          stored->sequence >= std::max(confirmed_, as_good_from_) && stored->sequence <= sent_;
  const bool is_as_good_as_last = stored && stored->writer == writer_ && confirmed_ != 0 && stored->sequence >= std::max(confirmed_, as_good_from_);
  fell_back_ = was_known && !is_shared_ && last_ && !may_be_last && !is_as_good_as_last && (stored ? stored->sequence : 0) < last_->sequence;
  if (was_known && (may_be_last || is_as_good || written == last_)) {
    under_way_ = 0;
    if (!unconfirmed_.empty()) is_dirty_ = true;  // whoever was asked is gone with the connection: the next one is asked about
    if (may_be_last || is_as_good) {
      if (stored->sequence < stored_) is_dirty_ = true;
      last_ = written;
      stored_ = unsure_after_ = stored->sequence;
    }
    return stored ? Found::kOurs : Found::kFirst;
  }
  last_ = written;
  under_way_ = 0;
  if (stored) sent_ = std::max(sent_, stored->sequence);
  unsure_after_ = sent_;
  as_good_from_ = sent_ + 1;
  if (holds_ && was_known && is_shared_ && is_same_process && stored) {
    // A peer's. What it has taken up stays on record when we write ours.
    record_.acknowledged.insert(stored->acknowledged.begin(), stored->acknowledged.end());
    is_dirty_ = true;
    return Found::kOurs;
  }
  if (holds_ && was_known) {
    // We were the only one to write it. Something older, somebody else's or nothing: the cache lost what came after.
    is_dirty_ = true;
    // What is purged now may yet be in the old data, whatever that says of itself.
    on_record_ = {record_.epoch, record_.source_instance, record_.acknowledged, {}};
    return Found::kRolledBack;
  }
  record_ = stored.value_or(Record{});
  is_dirty_ = false;
  if (!is_shared_) {
    finished_ = record_.acknowledged;
    applied_ = applied_taken_ = inherited_ = record_.applied;
  }
  gap_first_in_ = stream_first_in_ = 0;
  return stored ? Found::kAnothers : Found::kFirst;
}

std::vector<Gap> Ledger::judge(const SourceFacts& facts) const {
  EVICTD_CHECK(is_known_);
  const bool has_record = !record_.epoch.empty();
  std::vector<Gap> gaps;
  if (!facts.has_history) {
    if (has_record && facts.if_on_record) {
      Gap gap = *facts.if_on_record;
      if (record_.epoch != facts.epoch) {
        gap.detail += fmt::format(" (the server changed from '{}' to '{}')", record_.epoch, facts.epoch);
      }
      gaps.push_back(std::move(gap));
    }
    if (gaps.empty() && has_record) judge_tables(record_, facts, gaps);
    return gaps;
  }
  // The repair is the same whatever concerns all tables: the first reason is told.
  if (!facts.gaps.empty()) return {facts.gaps.front()};
  if (!has_record) return {facts.if_not_on_record};
  if (!facts.epoch.empty() && record_.epoch != facts.epoch) {
    return {{"epoch_changed", fmt::format("expected server '{}', got '{}': another one than when this cache was last worked on, or another "
                         "evictd that keeps the same cache under the same name of its slot",
                         record_.epoch, facts.epoch),
             {}}};
  }
  if (!facts.identity.empty() && record_.source_identity != facts.identity) {
    return {{"source_changed",
             fmt::format("expected database and slot '{}', got '{}'", record_.source_identity, facts.identity), {}}};
  }
  if (std::optional<Gap> gap = set_back(facts)) return {std::move(*gap)};
  for (const auto& [stream, confirmed] : facts.confirmed) {
    const auto known = record_.acknowledged.find(stream);
    if (known == record_.acknowledged.end() || confirmed <= known->second) continue;
    return {{"slot_moved",
             fmt::format("the position of '{}' was moved from {} to {}, which this cache has not on record", stream,
                         known->second, confirmed),
             {}}};
  }
  judge_tables(record_, facts, gaps);
  return gaps;
}

std::optional<Gap> Ledger::set_back(const SourceFacts& facts) const {
  if (!facts.has_history || record_.epoch.empty() || record_.epoch != facts.epoch || record_.source_identity != facts.identity) return std::nullopt;
  for (const auto& [stream, end] : facts.ends) {
    std::uint64_t known = 0;
    for (const auto* positions : {&record_.acknowledged, &record_.committed}) {
      if (const auto found = positions->find(stream); found != positions->end()) known = std::max(known, found->second);
    }
    if (known <= end) continue;
    return Gap{"epoch_changed",
               fmt::format("the server's log ends at {}, and this cache has on record what was at {}: it was set back to an earlier moment", end, known),
               {}};
  }
  return std::nullopt;
}

std::vector<std::string> Ledger::changed_rules(const std::map<std::string, std::uint64_t>& rules) const {
  std::vector<std::string> tables;
  if (record_.epoch.empty()) return tables;
  for (const auto& [table, digest] : rules) {
    const auto before = record_.rules.find(table);
    if (before == record_.rules.end() || before->second != digest) tables.push_back(table);
  }
  return tables;
}

void Ledger::use_rules(std::map<std::string, std::uint64_t> rules) {
  if (record_.rules == rules) return;
  record_.rules = std::move(rules);
  is_dirty_ = true;
}

void Ledger::release() {
  note_committed();
  holds_ = false;
  is_dirty_ = false;
  gap_first_in_ = stream_first_in_ = 0;
  forget_positions();
}

// Those of this connection of the source.
void Ledger::forget_positions() {
  done_.clear();
  recorded_.clear();
  under_way_positions_.clear();
  unconfirmed_.clear();
}

// What is known of positions speaks of one history.
void Ledger::forget_known() {
  finished_.clear();
  applied_.clear();
  inherited_.clear();
}

bool Ledger::is_of(const SourceConnected& connected) const {
  return record_.epoch == connected.epoch && record_.source_instance == connected.instance;
}

bool Ledger::connection_begins(const SourceConnected& connected) {
  awaited_.clear();
  if (!is_of(connected)) forget_known();
  return is_of(connected);
}

bool Ledger::streaming(const SourceConnected& connected, std::chrono::milliseconds cache_time, bool starts_anew) {
  EVICTD_CHECK(is_known_);
  const bool is_same_server = is_of(connected);
  if (!is_same_server) {
    // Versions read under another epoch, or from a server that may have crashed since, prove nothing (G5).
    // Nor is it known what server was there before where a gap is all that is left of a record.
    if (!record_.epoch.empty() || !record_.gaps.empty()) may_follow_another_history_ = true;
    record_.epoch_since = cache_time;
  }
  // Names that peers share stay: each stands for one history (partitions.h), and the streams of others are among them.
  if (!is_shared_ && (record_.epoch != connected.epoch || starts_anew)) {
    record_.acknowledged.clear();
    record_.committed.clear();
  }
  const bool is_same_history = is_same_server && !starts_anew;
  if (!is_same_history) {
    forget_known();
    record_.applied.clear();
    as_good_from_ = sent_ + 1;
    // What this history sends again it may give other transactions to: whoever reads our record must not take it for done.
    for (const auto& [name, begin] : connected.begins) {
      const auto known = record_.acknowledged.find(name);
      if (known != record_.acknowledged.end()) known->second = std::min(known->second, begin);
    }
    begun_with_ = record_.acknowledged;
  }
  note_committed();
  awaited_.clear();
  for (const auto& [name, begin] : connected.begins) {
    const auto known = record_.committed.find(name);
    if (known != record_.committed.end() && known->second > begin && !is_applied(name, known->second)) awaited_.insert(*known);
  }
  record_.epoch = connected.epoch;
  record_.source_instance = connected.instance;
  record_.source_identity = connected.source_identity;
  record_.tables = connected.tables;
  forget_positions();
  holds_ = true;
  is_dirty_ = true;
  use_streams(connected.streams);
  return is_same_history;
}

void Ledger::use_tables(const std::map<std::string, std::string>& tables) {
  if (record_.tables == tables) return;
  record_.tables = tables;
  is_dirty_ = true;
}

void Ledger::use_streams(const std::map<std::string, std::uint64_t>& begins) {
  for (const auto& [name, begin] : begins) {
    if (!record_.acknowledged.try_emplace(name, begin).second) continue;
    is_dirty_ = true;
    stream_first_in_ = sent_ + 1;  // one under way does not hold it yet
  }
}

void Ledger::finished(const Position& end, const std::string& name) {
  std::uint64_t& done = done_[end.stream];
  done = std::max(done, end.value);
  std::string& known = names_[end.stream];
  if (known.empty()) known = name;
  finished_earlier(end, name);
}

void Ledger::finished_earlier(const Position& end, const std::string& name) {
  std::uint64_t& finished = finished_[name];
  finished = std::max(finished, end.value);
}

void Ledger::applied(const Position& end, const std::string& name) {
  std::uint64_t& applied = applied_[name];
  applied = std::max(applied, end.value);
  if (is_shared_ || !holds_) return;
  std::uint64_t& committed = record_.committed[name];
  committed = std::max(committed, end.value);
}

void Ledger::note_committed() {
  if (is_shared_) return;
  for (const auto& [name, value] : applied_) {
    std::uint64_t& committed = record_.committed[name];
    committed = std::max(committed, value);
  }
}

bool Ledger::is_applied(const std::string& name, std::uint64_t value) const {
  const auto found = applied_.find(name);
  return (found != applied_.end() && value <= found->second) || is_finished(name, value);
}

std::map<std::string, std::set<std::uint64_t>> Ledger::known_ends() const {
  std::map<std::string, std::set<std::uint64_t>> ends;
  for (const auto& [name, value] : finished_) ends[name].insert(value);
  for (const auto& [name, value] : applied_) ends[name].insert(value);
  return ends;
}

bool Ledger::is_finished(const std::string& name, std::uint64_t value) const {
  const auto found = finished_.find(name);
  return found != finished_.end() && value <= found->second;
}

void Ledger::forget_unrecorded() {
  if (is_shared_) {
    forget_known();
  } else {
    const bool is_of_this_history = on_record_.epoch == record_.epoch && on_record_.source_instance == record_.source_instance;
    record_.acknowledged = finished_ = is_of_this_history ? on_record_.finished : begun_with_;
    applied_ = is_of_this_history ? on_record_.applied : std::map<std::string, std::uint64_t>();
  }
  forget_positions();
}

void Ledger::rebase(const std::map<std::string, std::uint64_t>& confirmed) {
  for (const auto& [name, value] : confirmed) record_.acknowledged[name] = value;
  finished_ = is_shared_ ? confirmed : record_.acknowledged;
  applied_.clear();
  forget_positions();
  as_good_from_ = sent_ + 1;
  is_dirty_ = true;
}

void Ledger::open_gap(const std::string& reason) {
  record_.gaps.insert(reason);
  is_dirty_ = true;
  gap_first_in_ = sent_ + 1;  // one under way does not hold it yet
}

void Ledger::close_gap(const std::string& reason) {
  if (record_.gaps.erase(reason) == 0) return;
  is_dirty_ = true;
  as_good_from_ = sent_ + 1;
}

SteadyTime Ledger::due(SteadyTime now, bool is_hurried) const {
  if (!holds_ || !is_known_ || under_way_ != 0) return SteadyTime::max();
  if (is_dirty_ || written_at_ == SteadyTime::min()) return now;
  if (done_ != under_way_positions_) return is_hurried ? now : written_at_ + interval_;
  if (applied_ != applied_taken_) return written_at_ + interval_;
  return written_at_ + kRecordRefresh;
}

const Record& Ledger::take(SteadyTime now) {
  EVICTD_CHECK(under_way_ == 0);
  for (const auto& [stream, position] : done_) {
    std::uint64_t& recorded = record_.acknowledged[names_.at(stream)];
    recorded = std::max(recorded, position);
  }
  record_.applied.clear();
  for (const auto& [name, value] : applied_) {
    const auto acknowledged = record_.acknowledged.find(name);
    const std::uint64_t finished = acknowledged == record_.acknowledged.end() ? 0 : acknowledged->second;
    // Deaths that follow each other closer than settle would put it off for ever: whoever finds it owed a second time does all again.
    const auto inherited = inherited_.find(name);
    const bool is_put_off = inherited != inherited_.end() && inherited->second > finished;
    if (value > finished && !is_put_off) record_.applied.insert({name, value});
  }
  applied_taken_ = applied_;
  under_way_positions_ = done_;
  under_way_gaps_ = record_.gaps;
  under_way_ = ++sent_;
  record_.writer = writer_;
  record_.sequence = sent_;
  is_dirty_ = false;
  written_at_ = now;
  return record_;
}

void Ledger::stored(std::uint64_t sequence) {
  if (sequence != under_way_ || sequence == 0) return;
  stored_ = unsure_after_ = sequence;
  stored_gaps_ = under_way_gaps_;
  last_ = Written{writer_, sequence};
  under_way_ = 0;
  // Whoever has the newest has all before it: those in between need not be known.
  if (unconfirmed_.size() == 2) unconfirmed_.pop_back();
  unconfirmed_.push_back({sequence, under_way_positions_});
}

void Ledger::confirmed(std::uint64_t sequence) {
  confirmed_ = std::max(confirmed_, std::min(sequence, stored_));
  while (!unconfirmed_.empty() && unconfirmed_.front().sequence <= sequence) {
    for (const auto& [stream, position] : unconfirmed_.front().positions) {
      std::uint64_t& recorded = recorded_[stream];
      recorded = std::max(recorded, position);
    }
    unconfirmed_.pop_front();
  }
}

void Ledger::lost() {
  if (under_way_ == 0) return;
  under_way_ = 0;
  is_dirty_ = true;
}

}  // namespace evictd
