#include "daemon/flow/pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/flow/pipeline_impl.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using namespace std::chrono_literals;

// How long an open batch waits for company while Redis is busy anyway, or for more of the same transaction.
constexpr auto kBatchAgeMax = 1ms;
// And while Redis has no room for it: it would only queue up, so better that it gathers more changes of the keys it has.
constexpr auto kBusyBatchAgeMax = 50ms;
constexpr auto kSliceAgeMax = 5ms;
// Commands waiting for room in the sink before the source is no longer read.
constexpr std::size_t kReadyMax = 32;
// A stop that cannot reach Redis gives up after this: nothing is lost, it will be delivered again.
constexpr auto kStopWithoutRedisMax = 2s;

std::chrono::milliseconds longest_settle(const RuleSet& rules) {
  std::chrono::milliseconds longest = 1s;
  for (const RuleInfo& rule : rules.rules()) longest = std::max(longest, rule.settle);
  return longest;
}

}  // namespace

Pipeline::Impl::Impl(RuleSet rules, Source& source, Sink& sink, Observer& observer,
                     PipelineOptions options)
    : rules_(std::make_shared<const RuleSet>(std::move(rules))),
      source_(source),
      sink_(sink),
      observer_(observer),
      options_(options),
      mapper_(std::make_unique<Mapper>(*rules_)),
      builder_(options.batch_items_max, options.batch_bytes_max),
      visibility_(options.snapshot_interval, longest_settle(*rules_)) {
  builder_.use(rules_);
  keys_in_transaction_.assign(rules_->rules().size(), 0);
  collapsed_.assign(rules_->rules().size(), false);
}

void Pipeline::Impl::start(Now now) {
  now_ = now;
  source_.set_tables(rules_->tables());
  tell_sink();
  // The sink first: a source claimed without a place to apply to would only hold the database up.
  sink_.start(now);
}

void Pipeline::Impl::step(Now now) {
  now_ = now;
  if (finished_stop_ || failure_) return;
  sink_.step(now, *this);
  run_timers();
  if (source_started_) source_.step(now, wants_data() ? options_.step_bytes_max : 0, *this);
  count_changes();
  if (!batch_should_wait()) close_batch();
  start_repairs();
  submit_ready();
  if (source_started_) poll_snapshots();
  pop_finished();
  write_record();
  graveyard_.clear();  // what was submitted leaves in wait_for()

  if (!stopping_) return;
  // A repair under way stays on record, and begins anew after the restart.
  const bool drained =
      batches_.empty() && record_under_way_ == 0 && (!source_connected_ || done_ == acknowledged_);
  const bool hopeless = !sink_connected_ && now.steady - stopping_since_ > kStopWithoutRedisMax;
  if ((drained || hopeless) && (!source_started_ || source_.stop(now))) {
    sink_.stop();
    finished_stop_ = true;
  }
}

// Alone, an invalidation leaves at once. While Redis is busy with earlier ones, or more of the same
// transaction is on its way, a moment's wait makes one command of many.
bool Pipeline::Impl::batch_should_wait() const {
  if (stopping_ || builder_.full()) return false;
  return now_.steady < batch_due();
}

SteadyTime Pipeline::Impl::batch_due() const {
  if (builder_.in_transaction()) return building_since_ + kSliceAgeMax;
  if (tickets_.size() < 2) return building_since_;
  return building_since_ + (sink_.has_room() ? kBatchAgeMax : kBusyBatchAgeMax);
}

bool Pipeline::Impl::wants_data() const {
  // Settles that wait for a Redis out of reach must not keep new transactions out of sight: the oldest one that
  // is not applied is what the lag is measured by.
  const bool nothing_unapplied = unapplied_.empty() && builder_.empty();
#ifdef EVICTD_BREAK_NO_HELD_LIMIT
  static_cast<void>(nothing_unapplied);
  return source_connected_ && !stopping_;
#else
  return source_connected_ && !stopping_ && held_bytes_ + builder_.bytes() < options_.held_bytes_max &&
         (ready_.size() < kReadyMax || nothing_unapplied);
#endif
}

void Pipeline::Impl::wait_for(Waiting& waiting, Now now) {
  now_ = now;
  if (source_started_) source_.wait_for(waiting, wants_data());
  sink_.wait_for(waiting);
  if (!timers_.empty()) waiting.wake_at(timers_.begin()->first);
  if (!builder_.empty()) waiting.wake_at(batch_due());
  const bool poll_waits = visibility_.has_snapshots() && !visibility_.poll_under_way() && source_connected_ &&
                          (!invisible_.empty() || !visibility_.latest());
  if (poll_waits) waiting.wake_at(std::max(visibility_.next_poll(), now.steady));
  if (sink_connected_ && record_under_way_ == 0 && record_) waiting.wake_at(record_due());
  if (stopping_) waiting.wake_at(now.steady + 20ms);
}

void Pipeline::Impl::reload(RuleSet rules, Now now) {
  now_ = now;
  close_batch();
  // Purges that wait for another one of their pattern are known by the index of their rule: let them go.
  for (const auto& [place, id] : waiting_purges_) {
    if (under_way_purges_.count(place) != 0) enqueue(*alive_.at(id), 0);
  }
  waiting_purges_.clear();
  under_way_purges_.clear();

  const auto before = std::exchange(rules_, std::make_shared<const RuleSet>(std::move(rules)));
  mapper_ = std::make_unique<Mapper>(*rules_);
  last_relation_ = nullptr;
  builder_.use(rules_);
  keys_in_transaction_.assign(rules_->rules().size(), 0);
  collapsed_.assign(rules_->rules().size(), false);
  visibility_.remember_for(longest_settle(*rules_));
  source_.set_tables(rules_->tables());
  tell_sink();

  // What was cached under a rule before the rule existed was never invalidated. (A table that is new as well is purged
  // once more by its source's gap, when its changes arrive.)
  Repair repair{.reason = "new_rules", .tables = {}, .counted = false};
  for (const RuleInfo& rule : rules_->rules()) {
    const bool known = std::any_of(before->rules().begin(), before->rules().end(), [&](const RuleInfo& old) {
      return old.qualified_table() == rule.qualified_table() && old.key_templates == rule.key_templates &&
             old.tag_templates == rule.tag_templates && old.bump_templates == rule.bump_templates && old.patterns.size() == rule.patterns.size();
    });
    if (!known) repair.tables.push_back(rule.qualified_table());
  }
  if (!repair.tables.empty()) begin_repair(std::move(repair), false);
}

void Pipeline::Impl::stop(Now now) {
  now_ = now;
  if (stopping_) return;
  stopping_ = true;
  stopping_since_ = now.steady;
  // A transaction cut off here is not acknowledged, and so delivered again.
  builder_.cut_off();
  close_batch();
}

PipelineStatus Pipeline::Impl::status() const {
  PipelineStatus status;
  status.source_connected = source_connected_;
  status.redis_connected = sink_connected_;
  status.active = source_connected_ && !standby_;
  for (const auto& [id, commit] : unapplied_) {
    status.oldest_unapplied_commit = commit;
    break;
  }
  if (const auto& open = builder_.batch().oldest_commit; open && !status.oldest_unapplied_commit) {
    status.oldest_unapplied_commit = *open;
  }
  status.last_applied_commit = last_applied_commit_;
  status.last_heartbeat = last_heartbeat_;
  status.inflight_transactions =
      received_transactions_ - finished_transactions_ + builder_.batch().transactions;
  status.inflight_bytes = held_bytes_ + builder_.bytes();
  status.gap = repair_reasons(false);
  if (!acknowledged_.empty()) {
    status.acknowledged = Position{acknowledged_.begin()->first, acknowledged_.begin()->second};
  }

  if (!sink_connected_) status.not_ready.push_back("redis is not connected");
  if (const auto problem = sink_.status().problem) status.not_ready.push_back(*problem);
  if (standby_) {
    status.not_ready.push_back("standby: another process holds the slot");
  } else if (!source_connected_) {
    status.not_ready.push_back("the source is not streaming");
  }
  if (const auto problem = source_.status().problem) status.not_ready.push_back(*problem);
  if (!status.gap.empty()) status.not_ready.push_back("gap not repaired yet: " + status.gap);
  if (stopping_) status.not_ready.push_back("stopping");
  return status;
}

void Pipeline::Impl::say(PipelineEvent::Level level, std::string text, std::string hint) {
  events_.push_back({level, std::move(text), std::move(hint)});
}

std::chrono::milliseconds Pipeline::Impl::redis_time() const {
  return sink_time_ + std::chrono::duration_cast<std::chrono::milliseconds>(now_.steady - sink_time_at_);
}

Pipeline::Pipeline(RuleSet rules, Source& source, Sink& sink, Observer& observer, PipelineOptions options)
    : impl_(std::make_unique<Impl>(std::move(rules), source, sink, observer, options)) {}
Pipeline::~Pipeline() = default;
void Pipeline::start(Now now) { impl_->start(now); }
void Pipeline::step(Now now) { impl_->step(now); }
void Pipeline::wait_for(Waiting& waiting, Now now) { impl_->wait_for(waiting, now); }
void Pipeline::reload(RuleSet rules, Now now) { impl_->reload(std::move(rules), now); }
const RuleSet& Pipeline::rules() const { return *impl_->rules_; }
void Pipeline::stop(Now now) { impl_->stop(now); }
bool Pipeline::finished() const { return impl_->finished_stop_; }
const std::optional<Error>& Pipeline::failure() const { return impl_->failure_; }
PipelineStatus Pipeline::status() const { return impl_->status(); }
std::vector<PipelineEvent> Pipeline::take_events() { return std::exchange(impl_->events_, {}); }

}  // namespace evictd
