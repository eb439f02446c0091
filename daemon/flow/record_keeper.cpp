#include "daemon/flow/record_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/flow/walk_report.h"

namespace evictd {

RecordKeeper::RecordKeeper(const LaneSpec& spec, const FlowOptions& options, const Source& source, Observer& observer, CacheEvents& events,
                           const Now& now, std::shared_ptr<const RuleSet> rules)
    : spec_(spec),
      observer_(observer),
      events_(events),
      now_(now),
      on_first_start_(options.on_first_start),
      rules_(std::move(rules), spec.name, spec.sink->traits()),
      ledger_(fmt::format("{}/{}", options.writer, spec.name), options.record_interval, source.is_shared()),
      prefix_(ledger_, source),
      repairs_({spec.tombstone_ttl, spec.name, spec.sink->traits().is_edge, spec.origin_time}) {}

void RecordKeeper::use(std::shared_ptr<const RuleSet> rules) {
  const std::map<std::string, std::uint64_t> before = rules_.digests();
  rules_ = CacheRules(std::move(rules), spec_.name, spec_.sink->traits());
  tell_sink();
  if (!streaming_) return;
  if (ledger_.holds()) return purge_changed_rules();
  remember_changed_rules(before);
}

void RecordKeeper::cache_connected(const SinkConnected& connected) {
  cache_time_ = connected.time;
  cache_time_at_ = now_.steady;
  const bool is_another = instance_ && *instance_ != connected.instance;
  instance_ = connected.instance;
  found_on_connection(connected, is_another);
}

void RecordKeeper::cache_disconnected() {
  ledger_.lost();
  if (judging_ == Judging::kReading) judging_ = Judging::kAway;
}

void RecordKeeper::watch_evictions() {
  if (std::exchange(is_losing_keys_, spec_.sink->is_losing_keys()) == is_losing_keys_) return;
  if (is_losing_keys_) {
    ledger_.open_gap(kEvictedGap);
    repaired_gaps_.erase(kEvictedGap);
    if (judging_ == Judging::kDone) ledger_.hold();
    if (const auto problem = spec_.sink->status().problem) events_.error(*problem);
    return;
  }
  // Whoever holds the source sees it, too; and where nobody does now, it stands on record.
  if (judging_ != Judging::kDone) return;
  events_.error(fmt::format("gap ({}): what the rules rely on may have been evicted, and no longer can be", kEvictedGap),
                "all that the rules' patterns match is purged now; a value that a tag alone listed, and no pattern of a rule matches, is found by nobody: "
                "evictd purge --pattern");
  open_repair({kEvictedGap, {}, true, false});
}

void RecordKeeper::found_on_connection(const SinkConnected& connected, bool is_another_process) {
  const bool knew = ledger_.is_known();
  const Ledger::Found found = ledger_.found(connected.record, knew && !is_another_process);
  if (!ledger_.holds()) {
    // What another process left is read anew when the source is ours to judge; repairs of what was found before and not
    // begun are found again then.
    const std::set<std::string> dropped = knew ? repairs_.drop_unbegun() : std::set<std::string>();
    if (is_another_process || ledger_.fell_back()) {
      forget_unrecorded();
      begin_repairs_again();
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
        begin_repairs_again();
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

// What was purged for them may be undone.
void RecordKeeper::begin_repairs_again() {
  repairs_.begin_again(now_.steady);
  for (const std::string& reason : std::set<std::string>(repaired_gaps_)) open_repair({reason, {}, false, false});
}

// A part of the cache lacks what the others have on record: it alone is purged.
void RecordKeeper::repair_lost_parts(bool after_connect) {
  std::vector<std::string> parts = spec_.sink->lost_parts();
  if (parts.empty()) return;
  events_.error(fmt::format("gap ({}): a part of the cache has older data than what is on record, or none: {}", kRollbackGap,
                            fmt::join(parts, "; ")),
                "all that this part may hold is purged now; evictd reports ready when that is done");
  open_repair({kRollbackGap, {}, true, after_connect, std::move(parts)});
}

// What follows in this connection must not pass for all there is: what lies before it is to be sent again.
void RecordKeeper::forget_unrecorded() {
  ledger_.forget_unrecorded();
  prefix_.undone();
}

void RecordKeeper::judge(const SourceFacts& facts, bool is_cache_connected) {
  facts_ = facts;
  // What we knew at an earlier attempt may be old: somebody else may have worked in between.
  ledger_.release();
  if (is_cache_connected) {
    // Read after the facts: whoever moved the source wrote its record first.
    judging_ = Judging::kReading;
    spec_.sink->load_record(++load_);
  } else {
    judging_ = Judging::kAway;
  }
}

void RecordKeeper::record_loaded(std::uint64_t sequence, const std::optional<Record>& record) {
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
void RecordKeeper::note_what_is_left(Ledger::Found found, const std::set<std::string>& dropped) {
  if (found != Ledger::Found::kOurs) anothers_gaps_ = found == Ledger::Found::kAnothers ? ledger_.gaps() : std::set<std::string>();
  anothers_gaps_.insert(dropped.begin(), dropped.end());
  for (const std::string& reason : repairs_.reasons(true)) ledger_.open_gap(reason);
  if (is_losing_keys_) ledger_.open_gap(kEvictedGap);
}

// What this cache has missed of what the source can still send, by its record.
void RecordKeeper::judge_now() {
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
  if (const auto gap = ledger_.set_back(facts)) for_all_ = ForAll{gap->reason, true};
  // Nobody held the source when the cache lost what came after.
  if (ledger_.fell_back() && !repairs_.reasons(true).contains(kRollbackGap)) {
    events_.error(fmt::format("gap ({}): the cache came back with older data than it had", kRollbackGap),
                  "all it may hold is purged now; evictd reports ready when that is done");
    open_repair({kRollbackGap, {}, true, true});
  }
  const std::set<std::string> anothers = std::exchange(anothers_gaps_, {});
  for (const std::string& reason : inherited) {
    if ((repairs_.reasons(true).contains(reason) || repaired_gaps_.contains(reason)) && !anothers.contains(reason)) continue;
    if (is_losing_keys_ && reason == kEvictedGap) continue;  // not over
    events_.warning(fmt::format("a gap was not repaired by whoever held the source before: {}", reason));
    if (concerns_every_cache(reason) && !for_all_) for_all_ = ForAll{reason, false};
    open_repair({reason, {}, true, true});
  }
  for (const std::string& reason : std::exchange(heard_, {})) {
    if (!repairs_.is_to_begin(reason)) repair_what_another_knows(reason, true);
  }
  repair_lost_parts(true);
  // A gap must be on record before the source does what would hide it.
  if (!ledger_.gaps().empty()) ledger_.hold();
  if (streaming_) {
    // This cache came while the source streamed already.
    const SourceConnected connected = *streaming_;
    streaming_.reset();
    source_connected(connected);
  }
}

void RecordKeeper::source_connected(const SourceConnected& connected) {
  streaming_ = connected;
  snapshot_.reset();
  // What is still in hand of another history says nothing of this one.
  if (!ledger_.connection_begins(connected)) prefix_.earlier_lost();
  if (judging_ != Judging::kDone || !ledger_.is_known()) return;  // judged when its record is known
  facts_.reset();
  const bool first_start = ledger_.is_first_start();
  if (!first_start && ledger_.record().epoch != connected.epoch) repairs_.forget_other_history(now_.steady);
  if (!ledger_.streaming(connected, cache_time(), repairs_.waits_for_connect())) prefix_.earlier_lost();
  prefix_.tell_again();
  tell_sink();
  if (first_start) {
    rules_changed_meanwhile_.clear();
    ledger_.use_rules(rules_.digests());
    if (!repairs_.empty()) return;
    if (on_first_start_ == OnFirstStart::kPurge) {
      open_repair({"first_start", {}, false, false});
    } else {
      events_.info("first start: what was cached before now is kept", "set on_first_start: purge to drop it once");
    }
    return;
  }
  purge_changed_rules();
}

// The record does not say it: by the time that it is ours to write, the rules may be again those that it names, and what came
// meanwhile was mapped by others.
void RecordKeeper::remember_changed_rules(const std::map<std::string, std::uint64_t>& before) {
  const std::map<std::string, std::uint64_t>& digests = rules_.digests();
  for (const auto* one : {&before, &digests}) {
    const auto& other = one == &before ? digests : before;
    for (const auto& [table, digest] : *one) {
      const auto found = other.find(table);
      if (found == other.end() || found->second != digest) rules_changed_meanwhile_.insert(table);
    }
  }
}

// What was cached under a rule before the rule existed was never invalidated; nor was anything of a service that nobody watched.
void RecordKeeper::purge_changed_rules() {
  const std::map<std::string, std::uint64_t>& digests = rules_.digests();
  std::vector<std::string> changed = ledger_.changed_rules(digests);
  for (const std::string& table : std::exchange(rules_changed_meanwhile_, {})) {
    if (digests.contains(table) && std::find(changed.begin(), changed.end(), table) == changed.end()) changed.push_back(table);
  }
  const bool was_named = ledger_.record().rules.contains(CacheRules::kServiceDigest);  // earlier builds did not
  ledger_.use_rules(digests);
  if (const auto service = std::find(changed.begin(), changed.end(), CacheRules::kServiceDigest); service != changed.end()) {
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

void RecordKeeper::source_tables(const std::map<std::string, std::string>& tables) {
  if (streaming_) streaming_->tables = tables;
  if (ledger_.is_known() && ledger_.holds()) ledger_.use_tables(tables);
}

void RecordKeeper::source_streams(const std::map<std::string, std::uint64_t>& begins) {
  if (!streaming_) return;
  streaming_->streams.insert(begins.begin(), begins.end());
  if (ledger_.is_known() && ledger_.holds()) ledger_.use_streams(begins);
}

void RecordKeeper::release() {
  ledger_.release();
  streaming_.reset();
  facts_.reset();
  judging_ = Judging::kNone;
}

void RecordKeeper::come_back(const std::map<std::string, std::uint64_t>& confirmed) {
  if (streaming_ && !ledger_.holds()) {
    // The source was connected anew meanwhile, when nobody asked this cache for its record. What that lacks is purged now; and if
    // somebody else has written it since, our next one finds out.
    judging_ = Judging::kDone;
    facts_.reset();
    if (!ledger_.streaming(*streaming_, cache_time(), true)) prefix_.earlier_lost();
    tell_sink();
  }
  ledger_.rebase(confirmed);
  if (streaming_) prefix_.tell_again();
  if (streaming_) ledger_.use_streams(streaming_->streams);
  ledger_.use_rules(rules_.digests());
  rules_changed_meanwhile_.clear();
  events_.error("gap (parked): the cache was away and missed what went by",
                "all it may hold is purged now; evictd reports ready when that is done");
  open_repair({"parked", {}, true, false});
}

void RecordKeeper::open_repair(Repairs::Wanted wanted) {
  if (wanted.is_gap) observer_.gap(spec_.name, wanted.reason);
  events_.info(fmt::format("purging {}: {}",
                           wanted.tables.empty() ? "all tables" : fmt::format("'{}'", fmt::join(wanted.tables, "', '")),
                           wanted.reason));
  ledger_.open_gap(wanted.reason);
  repaired_gaps_.erase(wanted.reason);  // its own end closes it
  // Judged: it is ours to write, and the source waits until it is on record.
  if (judging_ == Judging::kDone) ledger_.hold();
  repairs_.open(std::move(wanted), now_.steady);
}

std::optional<Order> RecordKeeper::next_walk(const Surroundings& surroundings) {
  if (repairs_.empty()) return std::nullopt;
  Repairs::Conditions conditions;
  conditions.is_streaming = surroundings.is_streaming && streaming_ && ledger_.gaps_are_stored();
  conditions.has_snapshots = surroundings.is_streaming && surroundings.has_snapshots;
  conditions.snapshot = surroundings.is_streaming ? surroundings.snapshot : nullptr;
  conditions.snapshot_asked_at = surroundings.snapshot_asked_at;
  if (ledger_.may_follow_another_history()) {
    conditions.history_since = now_.steady - std::max(cache_time() - ledger_.record().epoch_since, std::chrono::milliseconds(0));
  }
  conditions.rules = rules_.all();
  conditions.acts = &rules_.acting();
  const Repairs::Walk* walk = repairs_.next(now_.steady, conditions);
  if (walk == nullptr) return std::nullopt;
  Order order;
  order.act = walk->act;
  order.target = Target::kPatterns;
  order.patterns = walk->patterns;
  order.is_unconditional = true;
  order.floor = walk->floor;
  order.parts = walk->parts;
  return order;
}

void RecordKeeper::tell_repaired() {
  for (const std::string& reason : repairs_.take_ready()) {
    events_.info(fmt::format("repaired: {}", reason));
    observer_.repaired(spec_.name, reason);
    has_repaired_ = true;
  }
  for (const std::string& reason : repairs_.take_closed()) {
    if (is_losing_keys_ && reason == kEvictedGap) continue;
    if (is_beside_others_) {
      repaired_gaps_.insert(reason);
    } else {
      ledger_.close_gap(reason);
    }
  }
}

void RecordKeeper::hear(const ForAll& told) {
  if (judging_ == Judging::kReading) {
    heard_.insert(told.gap);  // it may find the same by itself
  } else if (told.is_new ? !repairs_.is_to_begin(told.gap) : !ledger_.gaps().contains(told.gap)) {
    repair_what_another_knows(told.gap, false);
  }
}

void RecordKeeper::repair_what_another_knows(const std::string& reason, bool after_connect) {
  events_.error(fmt::format("gap in the change stream ({}): another cache's record tells of it", reason),
                "the cached values it may have touched are purged now; evictd reports ready when that is done");
  open_repair({reason, {}, true, after_connect});
}

void RecordKeeper::close_repaired_gaps() {
  for (const std::string& reason : std::exchange(repaired_gaps_, {})) ledger_.close_gap(reason);
}

void RecordKeeper::walk_done(const Outcome& outcome) {
  const Repairs::Walk& walk = *repairs_.walk();
  for (std::size_t index = 0; index < walk.patterns.size() && index < outcome.by_pattern.size(); ++index) {
    const PatternRef& ref = walk.patterns[index];
    const Counts& counts = outcome.by_pattern[index];
    if (walk.act == Act::kInvalidate) {
      observer_.invalidations(spec_.name, *ref.rule, InvalidationKind::kPurge, counts);
    } else {
      observer_.settle_deletes(spec_.name, counts);
    }
    report_walk(observer_, events_, spec_.name, ref, walk.reason, counts, now_.steady - walk.began);
  }
  has_repaired_ = has_repaired_ || repairs_.is_walk_of_late_readers();
  repairs_.done(now_.steady);
}

void RecordKeeper::snapshot(const Snapshot& snapshot) {
  snapshot_ = snapshot;
  repairs_.snapshot(snapshot, now_.steady);
  tell_sink();
}

void RecordKeeper::write(bool is_hurried) {
  if (ledger_.due(now_.steady, is_hurried) > now_.steady) return;
  spec_.sink->save_record(ledger_.take(now_.steady));
}

SteadyTime RecordKeeper::wake_at(bool is_hurried) const { return std::min(repairs_.wake_at(), ledger_.due(now_.steady, is_hurried)); }

void RecordKeeper::tell_sink() {
  SinkContext context = rules_.needs();
  context.epoch = ledger_.record().epoch;
  context.trust_since = ledger_.record().epoch_since;
  context.snapshot = snapshot_;
  context.is_record_ours_alone = streaming_ && !ledger_.is_shared();
  context.is_record_shared = streaming_ && ledger_.is_shared();
  spec_.sink->set_context(context);
}

std::chrono::milliseconds RecordKeeper::cache_time() const {
  return cache_time_ + std::chrono::duration_cast<std::chrono::milliseconds>(now_.steady - cache_time_at_);
}

std::set<std::string> RecordKeeper::gap_reasons() const {
  std::set<std::string> reasons = repairs_.reasons(false);
  if (!ledger_.holds()) reasons.insert(ledger_.gaps().begin(), ledger_.gaps().end());
  return reasons;
}

}  // namespace evictd
