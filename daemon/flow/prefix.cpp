#include "daemon/flow/prefix.h"

#include <algorithm>
#include <utility>

namespace evictd {

bool Prefix::is_finished(const Batch& batch) const {
  return reaches(batch, [this](const std::string& name, std::uint64_t value) { return ledger_.is_finished(name, value); });
}

bool Prefix::is_applied(const Batch& batch) const {
  return reaches(batch, [this](const std::string& name, std::uint64_t value) { return ledger_.is_applied(name, value); });
}

template <typename Knows>
bool Prefix::reaches(const Batch& batch, const Knows& knows) const {
  if (batch.ends.empty() && !batch.is_cut) return false;
  // One that goes on in the next batch has no end yet; but what is known reaches ends only, and its end is the first one
  // beyond its place.
  if (batch.is_cut && !(batch.cut_at && knows(source_.stream_name(batch.cut_at->stream), batch.cut_at->value + 1))) return false;
  return std::all_of(batch.ends.begin(), batch.ends.end(),
                     [&](const Position& end) { return knows(source_.stream_name(end.stream), end.value); });
}

void Prefix::taken(const Batch& batch, bool owes) {
  if (batch.ends.empty()) return;
  unnoted_.push_back({batch.number, batch.ends});
  if (std::exchange(is_carried_, false) && owes) unnoted_.back().carried_commit = batch.carried_commit;
}

std::vector<SystemTime> Prefix::applied_through(std::uint64_t number, bool streams) {
  std::vector<SystemTime> carried;
  const std::uint64_t through = std::min(number, noted_through_max_);
  while (!unnoted_.empty() && unnoted_.front().number <= through) {
    if (streams) {
      for (const Position& end : unnoted_.front().ends) ledger_.applied(end, source_.stream_name(end.stream));
    }
    if (unnoted_.front().carried_commit) carried.push_back(*unnoted_.front().carried_commit);
    unnoted_.pop_front();
  }
  return carried;
}

// Never past an unfinished transaction, and never a position of an earlier connection, which may speak of another history.
void Prefix::over(const Over& batch, bool streams) {
  if (batch.is_of_this_connection) {
    if (!batch.is_whole && batch.number > answered_for_) is_broken_ = true;
    if (!batch.is_whole || is_broken_) return;
    for (const Position& end : *batch.ends) finished(end, streams);
  } else {
    if (!batch.is_whole) is_earlier_broken_ = true;
    if (is_earlier_broken_ || !streams) return;
    for (const Position& end : *batch.ends) ledger_.finished_earlier(end, source_.stream_name(end.stream));
  }
}

void Prefix::reached(const Position& position, bool streams) {
  if (!is_broken_) finished(position, streams);
}

void Prefix::finished(const Position& end, bool streams) {
  std::uint64_t& value = finished_[end.stream];
  value = std::max(value, end.value);
  if (streams) ledger_.finished(end, source_.stream_name(end.stream));
}

void Prefix::tell_again() {
  for (const auto& [stream, value] : finished_) ledger_.finished({stream, value}, source_.stream_name(stream));
}

void Prefix::connection_begins(bool leaves_nothing) {
  is_earlier_broken_ = !leaves_nothing && (is_earlier_broken_ || is_broken_);
  is_broken_ = false;
  unnoted_.clear();
  finished_.clear();
  missed_.clear();
  noted_through_max_ = UINT64_MAX;
}

void Prefix::undone() {
  is_broken_ = is_earlier_broken_ = true;
  finished_.clear();
  noted_through_max_ = 0;
}

void Prefix::ends_at(std::uint64_t number) { noted_through_max_ = std::min(noted_through_max_, number); }

void Prefix::missed(const Position& end) { missed_[end.stream] = end.value; }

void Prefix::answered_through(std::uint64_t number) {
  answered_for_ = number;
  is_broken_ = false;
  for (const auto& [stream, value] : std::exchange(missed_, {})) finished_[stream] = std::max(finished_[stream], value);
}

}  // namespace evictd
