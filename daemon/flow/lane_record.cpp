// This cache's record, the judgement of it, and its repairs.
//
// The order that makes a crash harmless (G1, G6):
//   gap found -> record {gap} written -> the source may do the irreversible step -> streaming -> purge, and
//   again after the settle -> ready -> late purges -> record {no gap} written.
//   batches finished -> record {position} written -> the source is told (flow).
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "daemon/flow/lane_work.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// A purge that waits no longer than this is no reason to call a service unfit: lag tells of it.
constexpr std::chrono::seconds kHeldUntold{1};

// A walk that touched so many keys, or took so long, is worth a line at the usual level.
bool is_worth_a_line(const Counts& counts, SteadyTime began, SteadyTime now) {
  return counts.deleted > 0 || now - began > std::chrono::seconds(1);
}

// The name of the service's digest among those of tables: no table has it.
constexpr const char* kServiceDigest = "";

}  // namespace

std::map<std::string, std::uint64_t> rule_digests(const RuleSet& rules, const std::string& name, bool is_edge) {
  std::map<std::string, std::set<std::uint64_t>> by_table;
  for (const RuleInfo& rule : rules.rules()) {
    const std::uint64_t digest = is_edge ? rule.surrogate_digest : rule.digest;
    if (acts_on(rule, name) && digest != 0) by_table[rule.qualified_table()].insert(digest);  // 0: nothing for this cache
  }
  std::map<std::string, std::uint64_t> digests;
  for (const auto& [table, each] : by_table) {
    // Neither the order of the file nor a rule that is there twice has a meaning: a sum of a set does not care.
    digests[table] = std::accumulate(each.begin(), each.end(), std::uint64_t{0});
  }
  return digests;
}

void Lane::on_sink_connected(const SinkConnected& connected) {
  is_connected_ = true;
  cache_time_ = connected.time;
  cache_time_at_ = now_.steady;
  const bool is_another = was_connected_ && connected.instance != instance_;
  events_.info(fmt::format("{} {}", spec_.name, was_connected_ ? "connected again" : "connected"));
  was_connected_ = true;
  instance_ = connected.instance;
  found_on_connection(connected, is_another);
}

void Lane::found_on_connection(const SinkConnected& connected, bool is_another_process) {
  const bool knew = ledger_.is_known();
  const Ledger::Found found = ledger_.found(connected.record, knew && !is_another_process);
  if (!ledger_.holds()) {
    // What another process left is read anew when the source is ours to judge; repairs of what was found before and not
    // begun are found again then.
    const std::set<std::string> dropped = knew ? repairs_.drop_unbegun() : std::set<std::string>();
    if (is_another_process || ledger_.fell_back()) {
      forget_unrecorded();
      repairs_.begin_again(now_.steady);
      if (streaming_) wants_redelivery_ = true;
    }
    note_what_is_left(found, dropped);
    tell_sink();
    // A judgement holds for the record it was made by: until the source streams, a cache may come back with another.
    const bool is_judged = judging_ == Judging::kDone && found == Ledger::Found::kOurs;
    if (judging_ != Judging::kNone && facts_ && !is_judged) {
      judging_ = Judging::kDone;
      judge_now();
    }
    return;
  }
  switch (found) {
    case Ledger::Found::kOurs:
      // What is on record was done before it, so it is done; what came later may be lost with the process.
      if (is_another_process) {
        forget_unrecorded();
        repairs_.begin_again(now_.steady);
        wants_redelivery_ = true;
      }
      break;
    case Ledger::Found::kRolledBack:
    case Ledger::Found::kAnothers:
      // Deletes that were on record long ago may be undone (a restart from an old dump, a replica promoted too early).
      forget_unrecorded();
      open_repair({kRollbackGap, {}, true, false});
      events_.error(fmt::format("gap ({}): the cache came back with older data than it had", kRollbackGap),
                    "all it may hold is purged now; evictd reports ready when that is done");
      wants_redelivery_ = true;
      break;
    case Ledger::Found::kFirst:
      if (is_another_process) {
        forget_unrecorded();
        wants_redelivery_ = true;
      }
      break;
  }
  if (found != Ledger::Found::kRolledBack && found != Ledger::Found::kAnothers) repair_lost_parts(false);
}

// A part of the cache lacks what the others have on record: it alone is purged.
void Lane::repair_lost_parts(bool after_connect) {
  std::vector<std::string> parts = spec_.sink->lost_parts();
  if (parts.empty()) return;
  events_.error(fmt::format("gap ({}): a part of the cache has older data than what is on record, or none: {}", kRollbackGap,
                            fmt::join(parts, "; ")),
                "all that this part may hold is purged now; evictd reports ready when that is done");
  open_repair({kRollbackGap, {}, true, after_connect, std::move(parts)});
}

// What follows in this connection must not pass for all there is: what lies before it is to be sent again.
void Lane::forget_unrecorded() {
  ledger_.forget_unrecorded();
  is_prefix_broken_ = is_earlier_prefix_broken_ = true;
  noted_through_max_ = 0;
}

void Lane::on_sink_disconnected(const Error& error, std::string_view error_class) {
  is_connected_ = lacks_replicas_ = false;
  ledger_.lost();
  observer_.sink_error(spec_.name, error_class);
  observer_.reconnect(spec_.name);
  events_.warning(error.whole_text(), error.hint);
  if (judging_ == Judging::kReading) judging_ = Judging::kAway;
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

void Lane::judge(const SourceFacts& facts, Now now) {
  now_ = now;
  facts_ = facts;
  // What we knew at an earlier attempt may be old: somebody else may have worked in between.
  ledger_.release();
  if (is_connected_) {
    // Read after the facts: whoever moved the source wrote its record first.
    judging_ = Judging::kReading;
    spec_.sink->load_record(++load_);
  } else {
    judging_ = Judging::kAway;
  }
}

void Lane::on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) {
  if (sequence != load_ || judging_ != Judging::kReading) return;
  const Ledger::Found found = ledger_.found(record);
  const std::set<std::string> dropped = found != Ledger::Found::kOurs ? repairs_.drop_unbegun() : std::set<std::string>();
  note_what_is_left(found, dropped);
  tell_sink();
  judging_ = Judging::kDone;
  judge_now();
}

// Gaps on another's record are gaps of its own, whatever we are still repairing by the same name: that began before them. And so are
// those of the repairs that were dropped.
void Lane::note_what_is_left(Ledger::Found found, const std::set<std::string>& dropped) {
  if (found != Ledger::Found::kOurs) anothers_gaps_ = found == Ledger::Found::kAnothers ? ledger_.gaps() : std::set<std::string>();
  anothers_gaps_.insert(dropped.begin(), dropped.end());
  for (const std::string& reason : repairs_.reasons(true)) ledger_.open_gap(reason);
}

// What this cache has missed of what the source can still send, by its record.
void Lane::judge_now() {
  const SourceFacts& facts = *facts_;
  const std::set<std::string> inherited = ledger_.gaps();
  for (const Gap& gap : ledger_.judge(facts)) {
    // Found at an earlier attempt to connect, and still to be repaired.
    if (repairs_.is_to_begin(gap.reason)) continue;
    if (gap.is_expected) {
      events_.info(gap.detail, "what is cached for these tables is purged, since nobody watched it");
    } else {
      events_.error(fmt::format("gap in the change stream ({}): {}", gap.reason, gap.detail),
                    "the cached values it may have touched are purged now; evictd reports ready when that is done");
    }
    open_repair({gap.reason, gap.tables, !gap.is_expected, true});
  }
  // Nobody held the source when the cache lost what came after.
  if (ledger_.fell_back() && !repairs_.reasons(true).contains(kRollbackGap)) {
    events_.error(fmt::format("gap ({}): the cache came back with older data than it had", kRollbackGap),
                  "all it may hold is purged now; evictd reports ready when that is done");
    open_repair({kRollbackGap, {}, true, true});
  }
  const std::set<std::string> anothers = std::exchange(anothers_gaps_, {});
  for (const std::string& reason : inherited) {
    if (repairs_.reasons(true).contains(reason) && !anothers.contains(reason)) continue;
    events_.warning(fmt::format("a gap was not repaired by whoever held the source before: {}", reason));
    open_repair({reason, {}, true, true});
  }
  repair_lost_parts(true);
  // A gap must be on record before the source does what would hide it.
  if (!ledger_.gaps().empty()) ledger_.hold();
  if (streaming_) {
    // This cache came while the source streamed already.
    const SourceConnected connected = *streaming_;
    streaming_.reset();
    source_connected(connected, session_, on_first_start_, now_);
  }
}

void Lane::source_connected(const SourceConnected& connected, std::uint64_t session, OnFirstStart on_first_start,
                            Now now) {
  now_ = now;
  if (session != session_) {
    abandon_all(true);
    is_earlier_prefix_broken_ = is_earlier_prefix_broken_ || is_prefix_broken_;
    if (batches_.empty()) is_earlier_prefix_broken_ = false;
    is_prefix_broken_ = is_behind_ = false;
    unnoted_.clear();
    noted_through_max_ = UINT64_MAX;
  }
  session_ = session;
  streaming_ = connected;
  snapshot_.reset();
  // What is still in hand of another history says nothing of this one.
  if (!ledger_.connection_begins(connected)) is_earlier_prefix_broken_ = true;
  if (judging_ != Judging::kDone || !ledger_.is_known()) return;  // judged when its record is known
  facts_.reset();
  const bool first_start = ledger_.is_first_start();
  if (!first_start && ledger_.record().epoch != connected.epoch) repairs_.forget_other_history(now.steady);
  if (!ledger_.streaming(connected, cache_time(), repairs_.waits_for_connect())) is_earlier_prefix_broken_ = true;
  tell_sink();
  if (first_start) {
    rules_changed_meanwhile_.clear();
    ledger_.use_rules(digests());
    if (!repairs_.empty()) return;
    if (on_first_start == OnFirstStart::kPurge) {
      open_repair({"first_start", {}, false, false});
    } else {
      events_.info("first start: what was cached before now is kept", "set on_first_start: purge to drop it once");
    }
    return;
  }
  purge_changed_rules();
}

std::map<std::string, std::uint64_t> Lane::digests() const {
  std::map<std::string, std::uint64_t> digests = rule_digests(*rules_, spec_.name, is_edge_);
  if (const std::uint64_t service = spec_.sink->traits().service; service != 0) digests[kServiceDigest] = service;
  return digests;
}

// The record does not say it: by the time that it is ours to write, the rules may be again those that it names, and what came
// meanwhile was mapped by others.
void Lane::remember_changed_rules(const std::map<std::string, std::uint64_t>& before) {
  const std::map<std::string, std::uint64_t> digests = this->digests();
  for (const auto* one : {&before, &digests}) {
    const auto& other = one == &before ? digests : before;
    for (const auto& [table, digest] : *one) {
      const auto found = other.find(table);
      if (found == other.end() || found->second != digest) rules_changed_meanwhile_.insert(table);
    }
  }
}

// What was cached under a rule before the rule existed was never invalidated; nor was anything of a service that nobody watched.
void Lane::purge_changed_rules() {
  std::map<std::string, std::uint64_t> digests = this->digests();
  std::vector<std::string> changed = ledger_.changed_rules(digests);
  for (const std::string& table : std::exchange(rules_changed_meanwhile_, {})) {
    if (digests.contains(table) && std::find(changed.begin(), changed.end(), table) == changed.end()) changed.push_back(table);
  }
  const bool was_named = ledger_.record().rules.contains(kServiceDigest);  // earlier builds did not
  ledger_.use_rules(std::move(digests));
  if (const auto service = std::find(changed.begin(), changed.end(), kServiceDigest); service != changed.end()) {
    if (was_named) {
      events_.info("it is another service than before");
      open_repair({"other_service", {}, false, false});
      return;
    }
    changed.erase(service);
  }
  if (changed.empty()) return;
  events_.info(fmt::format("rules of '{}' are others than before", fmt::join(changed, "', '")));
  open_repair({"new_rules", std::move(changed), false, false});
}

void Lane::source_gap(const Gap& gap, Now now) {
  now_ = now;
  if (is_parked_) return;
  open_repair({gap.reason, gap.tables, !gap.is_expected, false});
}

void Lane::source_tables(const std::map<std::string, std::string>& tables) {
  if (streaming_) streaming_->tables = tables;
  if (ledger_.is_known() && ledger_.holds()) ledger_.use_tables(tables);
}

void Lane::source_streams(const std::map<std::string, std::uint64_t>& begins) {
  if (!streaming_) return;
  streaming_->streams.insert(begins.begin(), begins.end());
  if (ledger_.is_known() && ledger_.holds()) ledger_.use_streams(begins);
}

void Lane::release() {
  ledger_.release();
  streaming_.reset();
  facts_.reset();
  judging_ = Judging::kNone;
}

void Lane::come_back(const std::map<std::string, std::uint64_t>& confirmed, Now now) {
  now_ = now;
  is_parked_ = false;
  purged_through_ = last_taken_;
  is_prefix_broken_ = false;
  if (streaming_ && !ledger_.holds()) {
    // The source was connected anew meanwhile, when nobody asked this cache for its record. What that lacks is purged now; and if
    // somebody else has written it since, our next one finds out.
    judging_ = Judging::kDone;
    facts_.reset();
    if (!ledger_.streaming(*streaming_, cache_time(), true)) is_earlier_prefix_broken_ = true;
    tell_sink();
  }
  ledger_.rebase(confirmed);
  if (streaming_) ledger_.use_streams(streaming_->streams);
  ledger_.use_rules(digests());
  rules_changed_meanwhile_.clear();
  events_.error("gap (parked): the cache was away and missed what went by",
                "all it may hold is purged now; evictd reports ready when that is done");
  open_repair({"parked", {}, true, false});
}

void Lane::purge_after(const std::string& reason, Now now) {
  now_ = now;
  open_repair({reason, {}, false, false});
}

void Lane::open_repair(Repairs::Wanted wanted) {
  if (wanted.is_gap) observer_.gap(spec_.name, wanted.reason);
  events_.info(fmt::format("purging {}: {}",
                           wanted.tables.empty() ? "all tables" : fmt::format("'{}'", fmt::join(wanted.tables, "', '")),
                           wanted.reason));
  ledger_.open_gap(wanted.reason);
  // Judged: it is ours to write, and the source waits until it is on record.
  if (judging_ == Judging::kDone) ledger_.hold();
  repairs_.open(std::move(wanted), now_.steady);
}

void Lane::work_repairs(const Surroundings& surroundings) {
  if (is_connected_ && !is_parked_ && !repairs_.empty() && !repair_ticket_ && spec_.sink->has_room(Urgency::kBulk)) {
    Repairs::Conditions conditions;
    conditions.is_streaming = surroundings.is_streaming && streaming_ && ledger_.gaps_are_stored();
    conditions.has_snapshots = surroundings.is_streaming && surroundings.has_snapshots;
    conditions.snapshot = surroundings.is_streaming ? surroundings.snapshot : nullptr;
    conditions.snapshot_asked_at = surroundings.snapshot_asked_at;
    if (ledger_.may_follow_another_history()) {
      conditions.history_since = now_.steady - std::max(cache_time() - ledger_.record().epoch_since, std::chrono::milliseconds(0));
    }
    conditions.rules = rules_;
    conditions.acts = &acts_;
    if (const Repairs::Walk* walk = repairs_.next(now_.steady, conditions)) {
      Order order;
      order.act = walk->act;
      order.target = Target::kPatterns;
      order.patterns = walk->patterns;
      order.is_unconditional = true;
      order.floor = walk->floor;
      order.parts = walk->parts;
      repair_ticket_ = next_ticket_++;
      spec_.sink->submit(*repair_ticket_, order);
    }
  }
  for (const std::string& reason : repairs_.take_ready()) {
    events_.info(fmt::format("repaired: {}", reason));
    observer_.repaired(spec_.name, reason);
    has_repaired_ = true;
  }
  for (const std::string& reason : repairs_.take_closed()) ledger_.close_gap(reason);
}

// The log answers "why did the hit rate fall": one line for each pattern, with what it cost.
void Lane::tell_purge(const PatternRef& ref, std::string_view reason, const Counts& counts, SteadyTime began) {
  const auto took = now_.steady - began;
  observer_.walked(spec_.name, {*ref.rule, ref.pattern->glob, reason, counts.deleted,
                                std::chrono::duration_cast<std::chrono::milliseconds>(took)});
  std::string text = fmt::format("purged pattern '{}' of rule '{}' ({}): {} key{} in {:.1f} s", ref.pattern->glob, ref.rule->name,
                                 reason, counts.deleted, counts.deleted == 1 ? "" : "s", std::chrono::duration<double>(took).count());
  if (is_worth_a_line(counts, began, now_.steady)) {
    events_.info(std::move(text));
  } else {
    events_.debug(std::move(text));
  }
}

void Lane::walk_done(const Outcome& outcome) {
  const Repairs::Walk& walk = *repairs_.walk();
  for (std::size_t index = 0; index < walk.patterns.size() && index < outcome.by_pattern.size(); ++index) {
    const PatternRef& ref = walk.patterns[index];
    const Counts& counts = outcome.by_pattern[index];
    if (walk.act == Act::kInvalidate) {
      observer_.invalidations(spec_.name, *ref.rule, InvalidationKind::kPurge, counts);
    } else {
      observer_.settle_deletes(spec_.name, counts);
    }
    tell_purge(ref, walk.reason, counts, walk.began);
  }
  has_repaired_ = has_repaired_ || repairs_.is_walk_of_late_readers();
  repairs_.done(now_.steady);
}

void Lane::snapshot(const Snapshot& snapshot, Now now) {
  now_ = now;
  snapshot_ = snapshot;
  repairs_.snapshot(snapshot, now.steady);
  tell_sink();
}

void Lane::write_record(const Surroundings& surroundings) {
  if (!is_connected_ || is_parked_) return;
  if (ledger_.due(now_.steady, surroundings.is_hurried) > now_.steady) return;
  spec_.sink->save_record(ledger_.take(now_.steady));
}

void Lane::on_record_saved(std::uint64_t sequence) { ledger_.stored(sequence); }

void Lane::on_record_confirmed(std::uint64_t sequence) { ledger_.confirmed(sequence); }

void Lane::tell_sink() {
  SinkContext context = needs_;
  context.epoch = ledger_.record().epoch;
  context.trust_since = ledger_.record().epoch_since;
  context.snapshot = snapshot_;
  context.is_record_ours_alone = streaming_ && !streaming_->is_shared;
  spec_.sink->set_context(context);
}

std::chrono::milliseconds Lane::cache_time() const {
  return cache_time_ + std::chrono::duration_cast<std::chrono::milliseconds>(now_.steady - cache_time_at_);
}

std::set<std::string> Lane::gap_reasons() const {
  std::set<std::string> reasons = repairs_.reasons(false);
  if (!ledger_.holds()) reasons.insert(ledger_.gaps().begin(), ledger_.gaps().end());
  return reasons;
}

std::vector<std::string> Lane::not_ready() const {
  std::vector<std::string> reasons;
  if (!is_connected_) reasons.push_back(fmt::format("{} is not connected", spec_.name));
  if (const auto problem = spec_.sink->status().problem) reasons.push_back(*problem);
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
