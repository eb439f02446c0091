// What the source says: transactions become batches, snapshots make them visible.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/pipeline_impl.h"
#include "mapping/check.h"

namespace evictd {

using Level = PipelineEvent::Level;

void Pipeline::Impl::on_connected(const SourceConnected& connected) {
  ++session_;
  source_connected_ = true;
  standby_ = false;
  // Everything not acknowledged comes again. What is applied and visible keeps its settle, which is due
  // sooner than that of its redelivery (G4); the rest is left to the redelivery.
  std::vector<std::uint64_t> ids;
  for (const auto& [id, work] : alive_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const std::uint64_t id : ids) {
    const auto work = alive_.find(id);
    if (work == alive_.end() || work->second->session == 0) continue;  // ended meanwhile, or a repair
    if (work->second->unapplied == 0 && work->second->visible_at) continue;
    abandon(*work->second);
  }
  done_.clear();
  acknowledged_.clear();
  visibility_.reset(connected.has_snapshots);

  const bool first_start = !record_ || record_->epoch.empty();
  if (!record_) record_.emplace();
  if (record_->epoch != connected.epoch || record_->source_instance != connected.instance) {
    // Versions read under another epoch, or from a server that may have crashed since, prove nothing (G5).
    record_->epoch_since = redis_time();
  }
  const bool slot_is_new = !inherited_gap_.empty() ||
                           std::any_of(repairs_.begin(), repairs_.end(),
                                       [](const auto& entry) { return entry.second.after_connect; });
  if (record_->epoch != connected.epoch) forget_other_history();
  if (record_->epoch != connected.epoch || slot_is_new) record_->acknowledged.clear();
  record_->epoch = connected.epoch;
  record_->source_instance = connected.instance;
  record_->source_identity = connected.source_identity;
  record_->tables = connected.tables;
  record_dirty_ = true;
  record_is_ours_ = true;
  tell_sink();
  say(Level::kInfo, fmt::format("streaming, epoch {}", connected.epoch));
  repair_inherited_gap();
  if (first_start && repairs_.empty()) {
    if (options_.on_first_start == OnFirstStart::kPurge) {
      begin_repair({.reason = "first_start", .tables = {}, .counted = false}, false);
    } else {
      say(Level::kInfo, "first start: what was cached before now is kept",
          "set on_first_start: purge to drop it once");
    }
  }
}

// A repair's purge that waits for transactions of a history which is over (a restore to an older state) would wait
// for ever: they are as visible as they ever will be.
void Pipeline::Impl::forget_other_history() {
  std::erase_if(invisible_, [this](std::uint64_t id) {
    const auto work = alive_.find(id);
    if (work == alive_.end() || work->second->session != 0) return false;
    work->second->visible_at = now_.steady;
    became_visible(*work->second);
    return true;
  });
}

void Pipeline::Impl::on_disconnected(const Error& error) {
  source_connected_ = false;
  builder_.cut_off();
  close_batch();
  observer_.reconnect(options_.source_peer);
  say(Level::kWarning, error.text, error.hint);
}

void Pipeline::Impl::on_standby(std::string_view holder) {
  if (!standby_) say(Level::kInfo, fmt::format("standby: {}", holder));
  standby_ = true;
  record_is_ours_ = false;
  gap_needs_confirmation_ = false;
}

void Pipeline::Impl::on_record_wanted() {
  record_wanted_ = ++record_loads_;
  if (sink_connected_) sink_.load_record(record_wanted_);  // else it comes with the connection
}

void Pipeline::Impl::on_failed(const Error& error) { failure_ = error; }

void Pipeline::Impl::on_begin(const TransactionBegin& begin) {
  builder_.begin(begin);
  std::fill(keys_in_transaction_.begin(), keys_in_transaction_.end(), 0);
  std::fill(collapsed_.begin(), collapsed_.end(), false);
}

void Pipeline::Impl::on_change(const Change& change) {
  if (change.relation != last_relation_) {
    last_relation_ = change.relation;
    last_is_mapped_ = mapper_->is_mapped(*change.relation);
    if (last_is_mapped_) {
      last_counted_ = &change_counts_[change.relation->generation];
      if (last_counted_->table.empty()) last_counted_->table = change.relation->qualified_name();
    }
  }
  if (!last_is_mapped_) return;
  ++last_counted_->by_operation[static_cast<std::size_t>(change.operation)];
  mapper_->map(change, *this);
  if (builder_.full()) {
    close_batch();
    submit_ready();
  }
}

void Pipeline::Impl::on_unknown_change(const UnknownChange& change) {
  say(Level::kWarning, fmt::format("a change cannot be read: {}", change.detail),
      "what its table's rules may have cached is purged");
  for (std::uint32_t rule = 0; rule < rules_->rules().size(); ++rule) {
    const RuleInfo& info = rules_->rules()[rule];
    const bool affected = change.tables.empty() || std::find(change.tables.begin(), change.tables.end(),
                                                             info.qualified_table()) != change.tables.end();
    for (std::uint32_t pattern = 0; affected && pattern < info.patterns.size(); ++pattern) purge(rule, pattern);
  }
}

void Pipeline::Impl::on_commit(const Position& end) {
  if (builder_.empty()) building_since_ = now_.steady;
  builder_.commit(end);
  if (builder_.full()) {
    close_batch();
    submit_ready();
  }
}

void Pipeline::Impl::on_relation_gone(const Relation& relation) {
  count_changes();
  mapper_->forget(relation);
  change_counts_.erase(relation.generation);
  last_relation_ = nullptr;
}

void Pipeline::Impl::on_snapshot(const Snapshot& snapshot) {
  visibility_.add(snapshot, now_.steady);
  tell_sink();
  bool helped = invisible_.empty();
  std::vector<std::uint64_t> still;
  std::vector<std::uint64_t> before;
  before.swap(invisible_);
  for (const std::uint64_t id : before) {
    const auto work = alive_.find(id);
    if (work == alive_.end() || work->second->abandoned) continue;
    if (visibility_.look(*work->second, now_.steady)) {
      helped = true;
      became_visible(*work->second);
    } else {
      still.push_back(id);
    }
  }
  invisible_.insert(invisible_.begin(), still.begin(), still.end());
  visibility_.poll_helped(helped);
}

void Pipeline::Impl::on_heartbeat() { last_heartbeat_ = now_.steady; }

void Pipeline::Impl::on_keepalive(const Position& position) {
  if (builder_.in_transaction() || !builder_.empty()) return;
  const bool busy = std::any_of(batches_.begin(), batches_.end(),
                                [&](const auto& batch) { return batch->session == session_; });
  if (busy) return;
  std::uint64_t& done = done_[position.stream];
  done = std::max(done, position.value);
}

// Batches are closed between changes, or here, when hundreds of rules make thousands of keys of one change.
void Pipeline::Impl::make_room() {
  if (builder_.crowded()) close_batch();
  if (builder_.empty()) building_since_ = now_.steady;
}

void Pipeline::Impl::key(std::uint32_t rule, std::string_view key) {
  if (collapsed_[rule]) return;
  if (++keys_in_transaction_[rule] > rules_->rules()[rule].collapse_after) {
    collapse(rule);
    return;
  }
  make_room();
  builder_.add(rule, InvalidationKind::kKey, key, row_version_);
}

void Pipeline::Impl::tag(std::uint32_t rule, std::string_view tag) {
  make_room();
  builder_.add(rule, InvalidationKind::kTag, tag);
}

void Pipeline::Impl::bump(std::uint32_t rule, std::string_view counter) {
  make_room();
  builder_.add(rule, InvalidationKind::kBump, counter);
}

void Pipeline::Impl::row_version(std::uint32_t, std::string_view version) { row_version_ = version; }

// What every command of the sink needs to know besides itself.
void Pipeline::Impl::tell_sink() {
  SinkContext context;
  if (record_) {
    context.epoch = record_->epoch;
    context.trust_since = record_->epoch_since;
  }
  if (source_connected_) context.snapshot = visibility_.latest();
  for (const RuleInfo& rule : rules_->rules()) {
    const auto& known = context.channels;
    if (rule.announce.empty() || std::find(known.begin(), known.end(), rule.announce) != known.end()) continue;
    context.channels.push_back(rule.announce);
  }
  sink_.set_context(context);
}

void Pipeline::Impl::purge(std::uint32_t rule, std::uint32_t pattern) {
  if (builder_.empty()) building_since_ = now_.steady;
  builder_.add_purge(rule, pattern);
}

// One purge instead of the remaining keys of this rule in this transaction. Once is enough: what a reader
// can have cached of the remaining rows it cached before, or the settle purge comes after it.
void Pipeline::Impl::collapse(std::uint32_t rule) {
  collapsed_[rule] = true;
  const RuleInfo& info = rules_->rules()[rule];
  say(Level::kInfo, fmt::format("a transaction touches more than {} keys of rule '{}': its patterns are purged instead",
                                info.collapse_after, info.name));
  for (std::uint32_t pattern = 0; pattern < info.patterns.size(); ++pattern) {
    if (!info.patterns[pattern].is_tag && !info.patterns[pattern].is_bump) purge(rule, pattern);
  }
}

void Pipeline::Impl::unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) {
  const RuleInfo& info = rules_->rules()[rule];
  observer_.unmappable(info, reason);
  if (info.on_missing != OnMissing::kStop) return;
  failure_ = Error{ErrorKind::kFatal,
                   fmt::format("{}: rule '{}' cannot be mapped: column '{}': {}, and the rule says on_missing: stop",
                               info.place.to_string(), info.name, column, unmappable_reason_name(reason)),
                   fmt::format("ALTER TABLE {} REPLICA IDENTITY FULL sends old values; or choose on_missing: purge",
                               info.qualified_table())};
}

void Pipeline::Impl::close_batch() {
  if (builder_.empty()) return;
  const auto purges = builder_.purges();
  batches_.push_back(builder_.take());
  Batch& batch = *batches_.back();
  batch.place = std::prev(batches_.end());
  batch.id = next_work_++;
  batch.session = session_;
  batch.unapplied = batch.unfinished = static_cast<std::uint32_t>(batch.parts.size());
  alive_[batch.id] = &batch;
  held_bytes_ += batch.bytes;
  received_transactions_ += batch.transactions;
  for (const auto& [rule, pattern] : purges) request_purge(rule, pattern, &batch, 0);
#ifdef EVICTD_BREAK_ACKNOWLEDGE_BEFORE_REDIS
  for (const Position& end : batch.ends) done_[end.stream] = end.value;
#endif
  if (batch.unfinished == 0) {
    finished(batch);
    return;
  }
  if (batch.oldest_commit) unapplied_[batch.id] = *batch.oldest_commit;
  const bool visible = visibility_.look(batch, now_.steady);
  if (!visible) invisible_.push_back(batch.id);
  note_touched(batch);
  for (std::uint32_t part = 0; part < batch.parts.size(); ++part) {
    if (visible || !batch.parts[part].waits_for_visibility) enqueue(batch, part);
  }
}

void Pipeline::Impl::count_changes() {
  for (auto& [generation, counted] : change_counts_) {
    for (std::size_t operation = 0; operation < 4; ++operation) {
      if (counted.by_operation[operation] == 0) continue;
      observer_.changes(counted.table, static_cast<Operation>(operation), counted.by_operation[operation]);
      counted.by_operation[operation] = 0;
    }
  }
}

// Snapshots are polled only while something waits, and once after connecting: what that one sees need not
// settle any more once it is old enough, which makes catching up cost one delete per key.
void Pipeline::Impl::poll_snapshots() {
  const bool waiting = source_connected_ && (!invisible_.empty() || !visibility_.latest());
  if (!visibility_.poll_is_due(waiting, now_.steady)) return;
  visibility_.poll_sent(now_.steady);
  source_.request_snapshot();
}

}  // namespace evictd
