#include "daemon/app/activity.h"

#include <fmt/core.h>

#include <algorithm>

#include "daemon/flow/flow.h"
#include "daemon/interface/source.h"

namespace evictd {
namespace {

constexpr std::size_t kNamesMax = 10;

std::optional<std::uint64_t> waiting_records(const SourceStatus& source) {
  if (!source.kafka) return std::nullopt;
  std::uint64_t sum = 0;
  for (const auto& [topic, count] : source.kafka->lag_messages) {
    sum += static_cast<std::uint64_t>(std::max<std::int64_t>(static_cast<std::int64_t>(count), 0));
  }
  return sum;
}

std::string named(std::size_t count, const char* word, const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += fmt::format("{}'{}'", list.empty() ? "" : ", ", name);
  if (count > names.size()) list += ", ...";
  return fmt::format("{} {} ({})", count, word, list);
}

}  // namespace

Activity::Activity(Observer& next, std::vector<std::string> caches) : next_(next) {
  for (std::string& name : caches) caches_.push_back({std::move(name), {}, {}});
}

void Activity::set_rules(const std::vector<RuleInfo>& rules) {
  std::map<std::string, RuleActivity, std::less<>> kept;
  std::map<std::string, TableChanges, std::less<>> tables;
  std::map<std::string, RuleTable, std::less<>> rule_table;
  for (const RuleInfo& rule : rules) {
    if (kept.size() >= kRulesMax) break;
    const auto known = rules_.find(rule.name);
    kept.emplace(rule.name, known == rules_.end() ? RuleActivity{} : known->second);
    const std::string table = rule.qualified_table();
    const auto counted = tables_.find(table);
    const TableChanges changes = counted == tables_.end() ? TableChanges{} : counted->second;
    tables.emplace(table, changes);
    const auto stayed = rule_table_.find(rule.name);
    const bool is_followed = stayed != rule_table_.end() && stayed->second.name == table;
    // What was counted before this rule came may still be under way, and is none of its.
    rule_table.emplace(rule.name, is_followed ? stayed->second : RuleTable{table, changes.count});
  }
  rules_ = std::move(kept);
  tables_ = std::move(tables);
  rule_table_ = std::move(rule_table);
}

void Activity::sample(const FlowStatus& flow, const SourceStatus& source, Now now) {
  const double seconds =
      std::max(std::chrono::duration<double>(now.steady - (sample_number_ == 0 ? now.steady : sampled_at_)).count(), 0.001);
  auto sample = std::make_shared<ActivitySample>();
  sample->number = ++sample_number_;
  sample->at = now.steady;
  // Nobody knows since when the first has counted.
  if (sample->number > 1) {
    sample->changes_per_second = static_cast<double>(changes_) / seconds;
    sample->deletes_per_second = static_cast<double>(deletes_) / seconds;
  }
  sample->retained_bytes = source.slot_retained_bytes;
  sample->waiting_records = waiting_records(source);
  for (std::size_t index = 0; index < caches_.size(); ++index) {
    Cache& cache = caches_[index];
    ActivitySample::Cache& into = sample->caches.emplace_back();
    into.p50_seconds = cache.latencies.quantile(cache.sampled, 0.5);
    into.p99_seconds = cache.latencies.quantile(cache.sampled, 0.99);
    cache.sampled = cache.latencies;
    if (index < flow.lanes.size() && flow.lanes[index].lag) {
      into.lag_seconds = std::chrono::duration<double>(*flow.lanes[index].lag).count();
    }
  }
  count_applied(flow);
  changes_ = deletes_ = 0;
  sampled_at_ = now.steady;
  samples_.push_back(std::move(sample));
  if (samples_.size() > kSamplesMax) samples_.pop_front();
}

// Changes are counted when they are mapped, what became of their keys when a cache has answered.
void Activity::count_applied(const FlowStatus& flow) {
  const bool is_current = std::all_of(flow.lanes.begin(), flow.lanes.end(), [](const LaneStatus& lane) { return lane.lag && *lane.lag < kSampleInterval; });
  for (auto& [name, table] : tables_) {
    if (is_current) table.applied = table.sampled;
    table.sampled = table.count;
  }
}

std::shared_ptr<const ActivityView> Activity::view() const {
  auto view = std::make_shared<ActivityView>();
  view->samples.assign(samples_.begin(), samples_.end());
  view->rules = rules_;
  for (auto& [name, rule] : view->rules) {
    const auto table = rule_table_.find(name);
    const auto counted = table == rule_table_.end() ? tables_.end() : tables_.find(table->second.name);
    if (counted == tables_.end()) continue;
    const std::uint64_t before = table->second.count_before;
    rule.changes = counted->second.count - before;
    rule.applied_changes = std::max(counted->second.applied, before) - before;
  }
  view->events.assign(events_.begin(), events_.end());
  view->reload = reload_;
  return view;
}

ActivityEvent& Activity::add(ActivityEvent event) {
  event.at = now_.system;
  events_.push_front(std::move(event));
  if (events_.size() > kEventsMax) events_.pop_back();
  return events_.front();
}

void Activity::changes(std::string_view table, Operation operation, std::uint64_t count) {
  changes_ += count;
  if (const auto found = tables_.find(table); found != tables_.end()) found->second.count += count;
  next_.changes(table, operation, count);
}

void Activity::invalidations(std::string_view cache, const RuleInfo& rule, InvalidationKind kind, const Counts& counts) {
  deletes_ += counts.deleted;
  if (const auto found = rules_.find(rule.name); found != rules_.end()) {
    RuleActivity& into = found->second;
    if (kind == InvalidationKind::kPurge) {
      into.purged += counts.deleted;
    } else {
      into.keys += counts;
    }
    if (counts.deleted > 0) into.last_hit = now_.system;
  }
  next_.invalidations(cache, rule, kind, counts);
}

void Activity::settle_deletes(std::string_view cache, const Counts& counts) { next_.settle_deletes(cache, counts); }

void Activity::purge_held(std::string_view cache, const RuleInfo& rule) {
  if (const auto found = rules_.find(rule.name); found != rules_.end()) found->second.has_purged = true;
  next_.purge_held(cache, rule);
}

void Activity::unmappable(const RuleInfo& rule, UnmappableReason reason) {
  if (const auto found = rules_.find(rule.name); found != rules_.end()) ++found->second.unmappable;
  // Of one table there may be thousands in a second: one line for each rule and reason.
  const std::string_view text = unmappable_reason_name(reason);
  const auto same = std::find_if(events_.begin(), events_.end(), [&](const ActivityEvent& event) {
    return event.kind == ActivityEvent::Kind::kUnmappable && event.reason == text && event.rule == rule.name;
  });
  if (same != events_.end()) {
    ++same->count;
    same->at = now_.system;
  } else {
    ActivityEvent event;
    event.kind = ActivityEvent::Kind::kUnmappable;
    event.rule = rule.name;
    event.reason = text;
    event.count = 1;
    add(std::move(event));
  }
  next_.unmappable(rule, reason);
}

void Activity::gap(std::string_view cache, std::string_view reason) {
  ActivityEvent event;
  event.kind = ActivityEvent::Kind::kGap;
  event.cache = cache;
  event.reason = reason;
  add(std::move(event));
  next_.gap(cache, reason);
}

void Activity::walked(std::string_view cache, const Walk& walk) {
  ActivityEvent event;
  event.cache = cache;
  event.rule = walk.rule.name;
  event.what = walk.pattern;
  event.reason = walk.reason;
  event.count = walk.deleted;
  event.took = walk.took;
  add(std::move(event));
  if (const auto found = rules_.find(walk.rule.name); found != rules_.end() && walk.reason == "changes") found->second.has_purged = true;
  next_.walked(cache, walk);
}

void Activity::repaired(std::string_view cache, std::string_view reason) {
  ActivityEvent event;
  event.kind = ActivityEvent::Kind::kRepaired;
  event.cache = cache;
  event.reason = reason;
  add(std::move(event));
  next_.repaired(cache, reason);
}

void Activity::sink_error(std::string_view cache, std::string_view error_class) { next_.sink_error(cache, error_class); }

void Activity::reconnect(std::string_view peer) { next_.reconnect(peer); }

void Activity::invalidation_latency(std::string_view cache, std::chrono::microseconds latency) {
  for (Cache& one : caches_) {
    if (one.name == cache) one.latencies.add(latency);
  }
  next_.invalidation_latency(cache, latency);
}

std::string rules_difference(const std::vector<RuleInfo>& before, const std::vector<RuleInfo>& after) {
  std::map<std::string_view, std::uint64_t> old_rules;
  for (const RuleInfo& rule : before) old_rules.emplace(rule.name, rule.digest);
  std::vector<std::string> made;
  std::vector<std::string> changed;
  std::vector<std::string> gone;
  std::size_t made_count = 0;
  std::size_t changed_count = 0;
  std::size_t gone_count = 0;
  const auto note = [](std::vector<std::string>& names, std::size_t& count, std::string_view name) {
    if (count++ < kNamesMax) names.emplace_back(name);
  };
  for (const RuleInfo& rule : after) {
    const auto known = old_rules.find(rule.name);
    if (known == old_rules.end()) {
      note(made, made_count, rule.name);
      continue;
    }
    if (known->second != rule.digest) note(changed, changed_count, rule.name);
    old_rules.erase(known);
  }
  for (const auto& [name, digest] : old_rules) note(gone, gone_count, name);
  std::string text;
  const auto say = [&text](std::string part) { text += (text.empty() ? "" : ", ") + part; };
  if (made_count > 0) say(named(made_count, "new", made));
  if (gone_count > 0) say(named(gone_count, "gone", gone));
  if (changed_count > 0) say(named(changed_count, "changed", changed));
  return text.empty() ? "nothing" : text;
}

}  // namespace evictd
