#include "daemon/app/metrics_status.h"

#include <algorithm>

namespace evictd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// A pattern of topics may match more than anybody wants to see singly.
constexpr std::size_t kTopicLabelsMax = 200;

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

void append_pipeline(std::vector<MetricFamily>& out, const PipelineStatus& pipeline, Now now) {
  gauge(out, "evictd_source_connected", "1 while connected to the source.",
        pipeline.source_connected ? 1 : 0);
  gauge(out, "evictd_redis_connected", "1 while connected to Redis.",
        pipeline.redis_connected ? 1 : 0);
  gauge(out, "evictd_active", "1 holds the slot, 0 waits as standby.", pipeline.active ? 1 : 0);
  gauge(out, "evictd_lag_seconds",
        "Age of the oldest transaction received and not yet applied; 0 when there is none.",
        seconds(lag(pipeline, now.system)));
  if (pipeline.last_applied_commit) {
    gauge(out, "evictd_last_applied_commit_timestamp_seconds",
          "Commit time of the last transaction applied.",
          seconds(pipeline.last_applied_commit->time_since_epoch()));
  }
  if (pipeline.last_heartbeat) {
    gauge(out, "evictd_heartbeat_age_seconds",
          "Since our own heartbeat came back through the stream.",
          seconds(now.steady - *pipeline.last_heartbeat));
  }
  gauge(out, "evictd_inflight_transactions", "Transactions received and not yet finished.",
        static_cast<double>(pipeline.inflight_transactions));
  gauge(out, "evictd_inflight_bytes", "Memory held for transactions not yet finished.",
        static_cast<double>(pipeline.inflight_bytes));
}

void append_source(std::vector<MetricFamily>& out, const SourceStatus& source) {
  gauge(out, "evictd_source_lag_bytes", "WAL end of the server minus what was acknowledged.",
        as_double(source.lag_bytes));
  gauge(out, "evictd_slot_retained_bytes", "WAL that the server keeps for the slot.",
        as_double(source.slot_retained_bytes));
  gauge(out, "evictd_slot_safe_wal_bytes", "WAL that can be written before the slot is lost.",
        as_double(source.slot_safe_wal_bytes));
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
    gauge(out, "evictd_kafka_record_age_seconds", "Since the newest record read was committed.",
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

void append_redis(std::vector<MetricFamily>& out, const SinkStatus& sink) {
  counter(out, "evictd_redis_evicted_keys_total", "Keys that Redis evicted for memory (INFO).",
          as_double(sink.evicted_keys));
  MetricFamily fills =
      family("evictd_fills_total", "What readers' fills and gets did (evictd_stats).",
             MetricType::Counter);
  for (const auto& [outcome, count] : sink.fills) {
    sample(fills, static_cast<double>(count)).label = {{"outcome", outcome}};
  }
  out.push_back(std::move(fills));
}

void append_gap(std::vector<MetricFamily>& out, const std::set<std::string>& open,
                const std::vector<std::string>& gap_reasons) {
  MetricFamily unresolved =
      family("evictd_gap_unresolved", "1 while a gap of this reason is being repaired.",
             MetricType::Gauge);
  std::set<std::string> reasons = open;
  reasons.insert(gap_reasons.begin(), gap_reasons.end());
  for (const std::string& reason : reasons) {
    sample(unresolved, open.contains(reason) ? 1 : 0).label = {{"reason", reason}};
  }
  out.push_back(std::move(unresolved));
}

}  // namespace

std::set<std::string> gap_reasons_of(std::string_view gaps) {
  constexpr std::string_view kSeparator = ", ";
  std::set<std::string> reasons;
  while (!gaps.empty()) {
    const std::size_t length = std::min(gaps.find(kSeparator), gaps.size());
    reasons.emplace(gaps.substr(0, length));
    gaps.remove_prefix(std::min(length + kSeparator.size(), gaps.size()));
  }
  return reasons;
}

void append_status_metrics(std::vector<MetricFamily>& out, const Status& status,
                           const std::vector<std::string>& gap_reasons, Now now) {
  append_pipeline(out, status.pipeline, now);
  append_source(out, status.source);
  if (status.source.kafka) append_kafka(out, *status.source.kafka, now);
  append_redis(out, status.sink);
  append_gap(out, gap_reasons_of(status.pipeline.gap), gap_reasons);
}

}  // namespace evictd
