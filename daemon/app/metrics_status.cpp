#include "daemon/app/metrics_status.h"
#include "daemon/app/audit_thread.h"
#include "daemon/app/refresh_thread.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

namespace evictd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// A pattern of topics may match more than anybody wants to see singly.
constexpr std::size_t kTopicLabelsMax = 200;
constexpr std::size_t kAuditRuleLabelsMax = 200;

MetricFamily family(std::string name, std::string help, MetricType type) {
  MetricFamily result;
  result.name = std::move(name);
  result.help = std::move(help);
  result.type = type;
  return result;
}

ClientMetric& sample(MetricFamily& into, double value) {
  ClientMetric metric;
  metric.gauge.value = value;
  metric.counter.value = value;
  into.metric.push_back(std::move(metric));
  return into.metric.back();
}

void gauge(std::vector<MetricFamily>& out, std::string name, std::string help,
           std::optional<double> value) {
  if (!value) return;  // unknown is absent, not 0
  sample(out.emplace_back(family(std::move(name), std::move(help), MetricType::Gauge)), *value);
}

void counter(std::vector<MetricFamily>& out, std::string name, std::string help,
             std::optional<double> value) {
  if (!value) return;
  sample(out.emplace_back(family(std::move(name), std::move(help), MetricType::Counter)), *value);
}

template <typename Number>
std::optional<double> as_double(const std::optional<Number>& value) {
  if (!value) return std::nullopt;
  return static_cast<double>(*value);
}

double seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

// One sample for each cache that has a value.
template <typename Value>
void by_cache(std::vector<MetricFamily>& out, std::string name, std::string help, const Status& status, Value value) {
  MetricFamily one = family(std::move(name), std::move(help), MetricType::Gauge);
  for (const LaneStatus& lane : status.flow.lanes) {
    const std::optional<double> found = value(lane);
    if (found) sample(one, *found).label = {{"cache", lane.name}};
  }
  out.push_back(std::move(one));
}

void append_flow(std::vector<MetricFamily>& out, const Status& status, Now now) {
  const FlowStatus& flow = status.flow;
  gauge(out, "evictd_source_connected", "1 while connected to the source.", flow.source_connected ? 1 : 0);
  gauge(out, "evictd_active", "1 holds the slot, 0 waits as standby.", flow.active ? 1 : 0);
  gauge(out, "evictd_ready", "1 when /readyz says so.", readiness_problems(status).empty() ? 1 : 0);
  if (flow.last_heartbeat) {
    gauge(out, "evictd_heartbeat_age_seconds",
          "Since our own heartbeat came back through the stream.",
          seconds(now.steady - *flow.last_heartbeat));
  }
  using Value = std::optional<double>;
  by_cache(out, "evictd_redis_connected", "1 while connected to the cache.", status,
           [](const LaneStatus& lane) { return Value(lane.is_connected ? 1 : 0); });
  by_cache(out, "evictd_parked", "1 while the cache is parked: away too long to hold the database up.", status,
           [](const LaneStatus& lane) { return Value(lane.is_parked ? 1 : 0); });
  by_cache(out, "evictd_lag_seconds",
           "With work unapplied, the age of its oldest commit; else 0 while the stream is known to be current; else since "
           "it was.",
           status, [&](const LaneStatus& lane) { return lane.lag ? Value(seconds(*lane.lag)) : Value(); });
  by_cache(out, "evictd_last_applied_commit_timestamp_seconds", "Commit time of the last transaction applied.", status,
           [](const LaneStatus& lane) {
             return lane.last_applied_commit ? Value(seconds(lane.last_applied_commit->time_since_epoch())) : Value();
           });
  by_cache(out, "evictd_inflight_transactions", "Transactions received and not yet finished.", status,
           [](const LaneStatus& lane) { return Value(static_cast<double>(lane.held_transactions)); });
  by_cache(out, "evictd_inflight_bytes", "Memory held for transactions not yet finished.", status,
           [](const LaneStatus& lane) { return Value(static_cast<double>(lane.held_bytes)); });
}

void append_source(std::vector<MetricFamily>& out, const SourceStatus& source) {
  gauge(out, "evictd_source_lag_bytes", "WAL end of the server minus what was acknowledged.",
        as_double(source.lag_bytes));
  gauge(out, "evictd_slot_retained_bytes", "WAL that the server keeps for the slot.",
        as_double(source.slot_retained_bytes));
  gauge(out, "evictd_slot_safe_wal_bytes", "WAL that can be written before the slot is lost.",
        as_double(source.slot_safe_wal_bytes));
}

void append_audit(std::vector<MetricFamily>& out, const AuditStatus& audit) {
  MetricFamily totals = family("evictd_audit_total", "Cached values that the audit compared with the database.", MetricType::Counter);
  // Beyond so many rules the others are one.
  std::map<std::pair<std::string, std::string>, AuditCounts> rules;
  for (const auto& [where, counts] : audit.by_rule) {
    const bool is_known = rules.size() < kAuditRuleLabelsMax;
    AuditCounts& into = rules[is_known ? where : std::pair(where.first, std::string("other"))];
    into.fresh += counts.fresh;
    into.stale += counts.stale;
    into.in_flight += counts.in_flight;
    into.unreadable += counts.unreadable;
  }
  for (const auto& [where, counts] : rules) {
    const auto add = [&, &where = where](AuditOutcome outcome, std::uint64_t count) {
      sample(totals, static_cast<double>(count)).label = {
          {"cache", where.first}, {"rule", where.second}, {"outcome", std::string(audit_outcome_name(outcome))}};
    };
    add(AuditOutcome::kFresh, counts.fresh);
    add(AuditOutcome::kStale, counts.stale);
    add(AuditOutcome::kInFlight, counts.in_flight);
    add(AuditOutcome::kUnreadable, counts.unreadable);
  }
  out.push_back(std::move(totals));
  MetricFamily staleness = family("evictd_audit_staleness_seconds", "How stale the values were that the audit found.", MetricType::Histogram);
  ClientMetric metric;
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < audit.staleness.size(); ++i) {
    count += audit.staleness[i];
    const bool is_last = i == AuditStatus::kStalenessBounds.size();
    metric.histogram.bucket.push_back(
        {count, is_last ? std::numeric_limits<double>::infinity() : AuditStatus::kStalenessBounds[i]});
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum = audit.staleness_sum;
  staleness.metric.push_back(std::move(metric));
  out.push_back(std::move(staleness));
  gauge(out, "evictd_audit_active", "1 while the audit is connected.", audit.problem.empty() ? 1 : 0);
}

void append_refreshes(std::vector<MetricFamily>& out, const std::vector<std::shared_ptr<const RefreshStatus>>& refreshes) {
  MetricFamily totals = family("evictd_refresh_total", "Keys that a delete hit, of rules with 'refresh', by what became of them.", MetricType::Counter);
  MetricFamily waiting = family("evictd_refresh_waiting", "Keys that wait to be filled anew.", MetricType::Gauge);
  // Beyond so many rules the others are one.
  std::map<std::pair<std::string, std::string>, RefreshStatus::Counts> rules;
  for (const std::shared_ptr<const RefreshStatus>& refresh : refreshes) {
    sample(waiting, static_cast<double>(refresh->waiting)).label = {{"cache", refresh->cache}};
    for (const auto& [rule, counts] : refresh->by_rule) {
      const bool is_known = rules.size() < kAuditRuleLabelsMax;
      RefreshStatus::Counts& into = rules[{refresh->cache, is_known ? rule : "other"}];
      for (std::size_t i = 0; i < counts.size(); ++i) into[i] += counts[i];
    }
  }
  for (const auto& [where, counts] : rules) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      sample(totals, static_cast<double>(counts[i])).label = {
          {"cache", where.first}, {"rule", where.second}, {"outcome", std::string(refresh_outcome_name(static_cast<RefreshOutcome>(i)))}};
    }
  }
  if (!totals.metric.empty()) out.push_back(std::move(totals));
  if (!waiting.metric.empty()) out.push_back(std::move(waiting));
}

void append_kafka(std::vector<MetricFamily>& out, const KafkaStatus& kafka, Now now) {
  MetricFamily lag_messages =
      family("evictd_kafka_lag_messages", "Records not yet acknowledged, of the partitions held.",
             MetricType::Gauge);
  double others = 0;
  for (const auto& [topic, count] : kafka.lag_messages) {
    if (lag_messages.metric.size() < kTopicLabelsMax) {
      sample(lag_messages, static_cast<double>(count)).label = {{"topic", topic}};
    } else {
      others += static_cast<double>(count);
    }
  }
  if (kafka.lag_messages.size() > kTopicLabelsMax) {
    sample(lag_messages, others).label = {{"topic", "other"}};
  }
  out.push_back(std::move(lag_messages));
  if (kafka.last_record_time) {
    const auto age = std::max(now.system - *kafka.last_record_time, SystemTime::duration(0));
    gauge(out, "evictd_kafka_record_age_seconds", "Since the newest record read was committed, or the newest heartbeat sent.",
          seconds(age));
  }
  counter(out, "evictd_kafka_rebalances_total", "Changes of the partitions held.",
          static_cast<double>(kafka.rebalances));
  counter(out, "evictd_kafka_poison_records_total", "Records that could not be decoded.",
          static_cast<double>(kafka.poison_records));
  counter(out, "evictd_kafka_dead_letters_lost_total",
          "Undecodable records that could not be kept in the dead-letter file.",
          static_cast<double>(kafka.dead_letters_lost));
}

void append_edges(std::vector<MetricFamily>& out, const Status& status) {
  const bool any = std::any_of(status.sinks.begin(), status.sinks.end(), [](const StatusSink& cache) { return cache.sink.edge; });
  if (!any) return;
  MetricFamily requests = family("evictd_edge_requests_total", "Purge requests, by what became of them.", MetricType::Counter);
  MetricFamily keys = family("evictd_edge_keys_purged_total", "Surrogate keys that the service said it purged.", MetricType::Counter);
  MetricFamily all = family("evictd_edge_purges_of_all_total", "Times the service purged everything.", MetricType::Counter);
  MetricFamily ignored = family("evictd_edge_gaps_ignored_total", "Purges of patterns that 'on_gap: ignore' left out.", MetricType::Counter);
  MetricFamily backlog = family("evictd_edge_backlog_keys", "Surrogate keys that wait to be asked for.", MetricType::Gauge);
  for (const StatusSink& cache : status.sinks) {
    if (!cache.sink.edge) continue;
    const EdgeStatus& edge = *cache.sink.edge;
    for (const auto& [outcome, count] : edge.requests) {
      sample(requests, static_cast<double>(count)).label = {{"cache", cache.name}, {"outcome", outcome}};
    }
    sample(keys, static_cast<double>(edge.keys_purged)).label = {{"cache", cache.name}};
    sample(all, static_cast<double>(edge.purges_of_all)).label = {{"cache", cache.name}};
    sample(ignored, static_cast<double>(edge.gaps_ignored)).label = {{"cache", cache.name}};
    sample(backlog, static_cast<double>(edge.backlog_keys)).label = {{"cache", cache.name}};
  }
  for (MetricFamily* one : {&requests, &keys, &all, &ignored, &backlog}) out.push_back(std::move(*one));
}

void append_semantic(std::vector<MetricFamily>& out, const Status& status) {
  MetricFamily done = family("evictd_semantic_total", "Work at indexes of vectors: searches, and orders that meant more than they named.",
                             MetricType::Counter);
  for (const StatusSink& cache : status.sinks) {
    for (const auto& [what, count] : cache.sink.semantic) {
      sample(done, static_cast<double>(count)).label = {{"cache", cache.name}, {"what", what}};
    }
  }
  if (!done.metric.empty()) out.push_back(std::move(done));
}

void append_sinks(std::vector<MetricFamily>& out, const Status& status) {
  MetricFamily evicted = family("evictd_redis_evicted_keys_total", "Keys that Redis evicted for memory (INFO).",
                                MetricType::Counter);
  MetricFamily fills =
      family("evictd_fills_total", "What readers' fills and gets did (evictd_stats).",
             MetricType::Counter);
  for (const StatusSink& cache : status.sinks) {
    if (cache.sink.evicted_keys) {
      sample(evicted, static_cast<double>(*cache.sink.evicted_keys)).label = {{"cache", cache.name}};
    }
    for (const auto& [outcome, count] : cache.sink.fills) {
      sample(fills, static_cast<double>(count)).label = {{"cache", cache.name}, {"outcome", outcome}};
    }
  }
  out.push_back(std::move(evicted));
  out.push_back(std::move(fills));
  append_edges(out, status);
  append_semantic(out, status);
}

void append_gaps(std::vector<MetricFamily>& out, const Status& status, const std::vector<std::string>& gap_reasons) {
  MetricFamily unresolved =
      family("evictd_gap_unresolved", "1 while a gap of this reason is being repaired.",
             MetricType::Gauge);
  for (const LaneStatus& lane : status.flow.lanes) {
    std::set<std::string> reasons = lane.gaps;
    reasons.insert(gap_reasons.begin(), gap_reasons.end());
    for (const std::string& reason : reasons) {
      sample(unresolved, lane.gaps.contains(reason) ? 1 : 0).label = {{"cache", lane.name}, {"reason", reason}};
    }
  }
  out.push_back(std::move(unresolved));
}

// What may still be said when the loop has stood for `silence`: nothing is connected as far as anybody knows, and no cache
// has been known to be current since.
Status standing(const Status& last, SteadyTime::duration silence) {
  Status status = last;
  status.flow.source_connected = false;
  status.flow.active = false;
  status.flow.not_ready.emplace_back("the loop does not turn");
  for (LaneStatus& lane : status.flow.lanes) {
    lane.is_connected = false;
    if (lane.lag) *lane.lag += std::chrono::duration_cast<std::chrono::microseconds>(silence);
  }
  status.source.lag_bytes.reset();
  status.source.slot_retained_bytes.reset();
  status.source.slot_safe_wal_bytes.reset();
  return status;
}

}  // namespace

void append_status_metrics(std::vector<MetricFamily>& out, const Status& last,
                           const std::vector<std::string>& gap_reasons, Now now, SteadyTime::duration silence) {
  gauge(out, "evictd_loop_silence_seconds", "Since the loop last turned.",
        seconds(std::max(silence, SteadyTime::duration(0))));
  const Status status = silence > kLoopSilenceMax ? standing(last, silence) : last;
  append_flow(out, status, now);
  append_source(out, status.source);
  if (status.source.kafka) append_kafka(out, *status.source.kafka, now);
  append_sinks(out, status);
  counter(out, "evictd_log_dropped_lines_total", "Lines of the log that nobody read in time.",
          static_cast<double>(status.log_dropped_lines));
  append_gaps(out, status, gap_reasons);
  if (status.audit) append_audit(out, *status.audit);
  append_refreshes(out, status.refreshes);
}

}  // namespace evictd
