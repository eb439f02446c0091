// What the lane's cache has to say, and what the connection of the source comes to for it. Records and gaps are the keeper's.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/lane_work.h"

namespace evictd {
namespace {

// A purge that waits no longer than this is no reason to call a service unfit: lag tells of it.
constexpr std::chrono::seconds kHeldUntold{1};

}  // namespace

void Lane::on_sink_connected(const SinkConnected& connected) {
  is_connected_ = true;
  events_.info(fmt::format("{} {}{}", spec_.name, was_connected_ ? "connected again" : "connected", away_.ended(now_.steady)));
  was_connected_ = true;
  keeper_.cache_connected(connected);
}

void Lane::on_sink_disconnected(const Error& error, std::string_view error_class) {
  is_connected_ = lacks_replicas_ = false;
  keeper_.cache_disconnected();
  away_.began(now_.steady);
  on_sink_trouble(error, error_class);
}

// Each thing that keeps a cache away is told once; of a long night somebody asks how long it was.
void Lane::tell_absence() {
  const std::optional<std::string> still = away_.still(now_.steady);
  if (!still || is_connected_) return;
  const std::optional<std::string> why = spec_.sink->status().problem;
  events_.warning(fmt::format("{} is not connected {}{}", spec_.name, *still, why ? ": " + *why : std::string()));
}

void Lane::on_sink_refused(const Error& error) {
  refused_ = Refused{error.whole_text(), now_.steady, ledger().is_under_way()};
}

bool Lane::owes_what_was_refused() const {
  // Whoever takes the source over writes the record.
  const bool owes_record = refused_ && refused_->is_of_record && ledger().holds();
  return owes_record || (refused_ && !owed_.empty() && *owed_.begin() <= refused_->at);
}

void Lane::on_sink_failed(const Error& error) { failure_ = error; }

void Lane::on_sink_trouble(const Error& error, std::string_view error_class) {
  observer_.sink_error(spec_.name, error_class);
  observer_.reconnect(spec_.name);
  events_.warning(error.whole_text(), error.hint);
}

void Lane::on_replicas_missing(const std::optional<Error>& error) {
  lacks_replicas_ = error.has_value();
  if (!error) return events_.info("enough replicas have confirmed what is on record again");
  observer_.sink_error(spec_.name, "too_few_replicas");
  events_.warning(error->text, error->hint);
}

void Lane::on_record_saved(std::uint64_t sequence) {
  keeper_.record_saved(sequence);
  if (refused_) refused_->is_of_record = false;
}

void Lane::on_record_confirmed(std::uint64_t sequence) { keeper_.record_confirmed(sequence); }

void Lane::on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) { keeper_.record_loaded(sequence, record); }

void Lane::judge(const SourceFacts& facts, Now now) {
  now_ = now;
  keeper_.judge(facts, is_connected_);
}

void Lane::source_connected(const SourceConnected& connected, std::uint64_t session, Now now) {
  now_ = now;
  if (session != session_) {
    abandon_all(true);
    is_behind_ = false;
    keeper_.prefix().connection_begins(batches_.empty());
  }
  session_ = session;
  keeper_.source_connected(connected);
}

void Lane::source_gap(const Gap& gap, Now now) {
  now_ = now;
  if (!is_parked_) keeper_.open_repair({gap.reason, gap.tables, !gap.is_expected, false});
}

void Lane::come_back(const std::map<std::string, std::uint64_t>& confirmed, Now now) {
  now_ = now;
  is_parked_ = false;
  keeper_.prefix().answered_through(last_taken_);
  keeper_.come_back(confirmed);
}

void Lane::purge_after(const std::string& reason, Now now) {
  now_ = now;
  keeper_.open_repair({reason, {}, false, false});
}

void Lane::hear(const RecordKeeper::ForAll& told, Now now) {
  now_ = now;
  if (!is_parked_) keeper_.hear(told);
}

void Lane::snapshot(const Snapshot& snapshot, Now now) {
  now_ = now;
  keeper_.snapshot(snapshot);
}

std::vector<std::string> Lane::not_ready() const {
  std::vector<std::string> reasons;
  if (!is_connected_) reasons.push_back(fmt::format("{} is not connected", spec_.name));
  const SinkStatus sink = spec_.sink->status();
  if (sink.problem) reasons.push_back(*sink.problem);
  if (sink.held_up && sink.held_up != sink.problem) reasons.push_back(*sink.held_up);
  if (is_connected_ && owes_what_was_refused()) reasons.push_back(fmt::format("{} was asked again for what it has refused: {}", spec_.name, refused_->why));
  if (is_parked_) reasons.push_back(fmt::format("{} is parked: it no longer holds the database up, and is purged when it is back", spec_.name));
  for (const auto& [id, purge] : purges_) {
    if (!purge->is_held() || purge->held_until - purge->parts[0].wanted_since <= kHeldUntold) continue;
    reasons.push_back(fmt::format("rule '{}' asks for purges faster than its 'purge_every' of {} s allows: '{}' is purged next in {} s",
                                  purge->ref.rule->name, std::chrono::duration<double>(purge->ref.rule->purge_every).count(),
                                  purge->ref.pattern->glob,
                                  std::chrono::ceil<std::chrono::seconds>(purge->held_until - now_.steady).count()));
  }
  if (is_behind_) reasons.push_back(fmt::format("{} is behind, and waits to be sent what it had no room for", spec_.name));
  return reasons;
}

}  // namespace evictd
