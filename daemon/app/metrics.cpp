#include "daemon/app/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <utility>

#include "daemon/app/metrics_status.h"
#include "daemon/app/process_use.h"

namespace evictd {
namespace {

using prometheus::ClientMetric;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Labels;
using prometheus::MetricFamily;

// 0.5 ms to 300 s, in seconds.
const std::vector<double> kLatencyBounds = {
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300};

constexpr std::array kKinds = {InvalidationKind::kKey, InvalidationKind::kTag,
                               InvalidationKind::kPurge, InvalidationKind::kBump,
                               InvalidationKind::kSurrogate, InvalidationKind::kSemantic};
constexpr std::array kOperations = {Operation::kInsert, Operation::kUpdate, Operation::kDelete,
                                    Operation::kTruncate};
constexpr std::array kReasons = {UnmappableReason::kNotSent, UnmappableReason::kUnchangedToast,
                                 UnmappableReason::kMissingColumn, UnmappableReason::kBadValue,
                                 UnmappableReason::kTooLong, UnmappableReason::kReserved,
                                 UnmappableReason::kNoVector};
constexpr std::size_t kOutcomeCount = 4;
constexpr std::array<const char*, kOutcomeCount> kOutcomes = {"deleted", "absent", "kept",
                                                              "replayed"};
// What the sources, the pipeline and the sink report; others begin when they first happen.
constexpr std::array kPostgresGaps = {
    "slot_missing",   "slot_lost",      "slot_moved",      "epoch_changed", "publication_missing",
    "record_missing", "source_changed", "table_recreated", "table_added",   "unpublished",
    "partitions_changed", "table_changed", "stream_incomplete", kRollbackGap, kEvictedGap, "parked"};
constexpr std::array kKafkaGaps = {"offset_out_of_range", "offsets_lost", "topic_recreated",
                                   "record_missing", kRollbackGap, kEvictedGap, "parked"};
constexpr std::array kErrorClasses = {
    "connection", "timeout", "protocol",    "tls",       "loading", "busy",    "oom",  "misconf", "master_down",
    "no_replicas", "try_again", "read_only", "auth", "noperm", "cluster", "sentinels", "clients", "other",
    "moved", "set_back", "too_few_replicas", "unknown_command", "database", "protected"};
constexpr const char* kOther = "other";
// Labels that come from other rooms are few and fixed; this holds if one is not.
constexpr std::size_t kOpenLabelsMax = 32;

using OutcomeCounters = std::array<Counter*, kOutcomeCount>;

std::array<std::uint64_t, kOutcomeCount> values_of(const Counts& counts) {
  return {counts.deleted, counts.absent, counts.kept, counts.replayed};
}

void add(const OutcomeCounters& counters, const Counts& counts) {
  const std::array<std::uint64_t, kOutcomeCount> values = values_of(counts);
  for (std::size_t i = 0; i < kOutcomeCount; ++i) {
    if (values[i] > 0) counters[i]->Increment(static_cast<double>(values[i]));
  }
}

// Whether a series of this rule is there before it first counts: what may well happen is, so that a first event shows as an
// increase; what the rule cannot do is not, for a series costs every scrape.
bool begins_at_zero(const RuleInfo& rule, InvalidationKind kind, std::size_t outcome) {
  const bool by_version = rule.fill == FillMode::kChecked;
  if (outcome >= 2 && (!by_version || kind == InvalidationKind::kPurge)) return false;  // kept, replayed
  switch (kind) {
    case InvalidationKind::kKey:
      return !rule.key_templates.empty();
    case InvalidationKind::kTag:
      return !rule.tag_templates.empty();
    case InvalidationKind::kBump:
      return !rule.bump_templates.empty();
    case InvalidationKind::kSurrogate:
      return !rule.surrogate_templates.empty() && outcome == 0;
    case InvalidationKind::kSemantic:
      return !rule.semantic.empty();
    case InvalidationKind::kPurge:
      return true;
  }
  return true;
}

// Under the names that client libraries of Prometheus agree on (prometheus.io, "Writing client libraries"); prometheus-cpp has no
// collector of them.
void append_process(std::vector<MetricFamily>& out, const ProcessUse& use) {
  const auto add = [&out](const char* name, const char* help, std::optional<double> value, bool is_counter = false) {
    if (!value) return;
    MetricFamily& family = out.emplace_back();
    family.name = name;
    family.help = help;
    family.type = is_counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    ClientMetric& metric = family.metric.emplace_back();
    (is_counter ? metric.counter.value : metric.gauge.value) = *value;
  };
  add("process_cpu_seconds_total", "Processor time used, of user and system.", use.cpu_seconds, true);
  add("process_virtual_memory_bytes", "Addresses in use.", use.virtual_bytes);
  add("process_resident_memory_bytes", "Memory in use.", use.resident_bytes);
  add("process_open_fds", "Descriptors in use.", use.open_descriptors);
  add("process_max_fds", "Descriptors allowed.", use.descriptors_max);
  add("process_start_time_seconds", "When the process began, since 1970.", use.started);
}

struct RuleCounters {
  std::string label;
  std::vector<std::array<OutcomeCounters, kKinds.size()>> invalidations;  // by cache
  std::array<Counter*, kReasons.size()> unmappable{};
  std::vector<Counter*> purges_held;  // by cache
  // Of a rule with joined tables, from its first lookup on: ok, failed; rows; overflows.
  std::array<Counter*, 2> lookups{};
  Counter* lookup_rows = nullptr;
  Counter* lookup_overflows = nullptr;
};

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  Family<Counter>& changes;
  Family<Counter>& invalidations;
  Family<Counter>& settles;
  Family<Counter>& unmappables;
  Family<Counter>& purges_held;
  Family<Counter>& lookups;
  Family<Counter>& lookup_rows;
  Family<Counter>& lookup_overflows;
  Family<prometheus::Histogram>& lookup_seconds;
  Family<Counter>& gaps;
  Family<Counter>& redis_errors;
  Family<Counter>& reconnects;
  Family<Counter>& reloads;
  Counter& negative_latencies;
  Family<prometheus::Histogram>& latencies;
  std::string version;
  const std::vector<std::string> caches;

  // Series by their label; loop thread only.
  std::map<std::string, RuleCounters, std::less<>> rules;
  std::map<std::string, std::array<Counter*, kOperations.size()>, std::less<>> tables;

  // Series of one cache, and its latencies observed since the last flush().
  struct Cache {
    OutcomeCounters settle_outcomes{};
    prometheus::Histogram* latency = nullptr;
    std::vector<double> bucket_counts = std::vector<double>(kLatencyBounds.size() + 1, 0.0);
    double latency_sum = 0;
    bool latency_dirty = false;
    std::map<std::string, Counter*, std::less<>> gap_reasons;
    std::map<std::string, Counter*, std::less<>> error_classes;
  };
  std::vector<Cache> by_cache;

  // Few, so a search in order. The first for one that is unknown.
  std::size_t index_of(std::string_view cache) const {
    for (std::size_t index = 0; index < caches.size(); ++index) {
      if (caches[index] == cache) return index;
    }
    return 0;
  }

  explicit Impl(std::vector<std::string> names)
      : changes(counters("evictd_changes_total", "Row changes of mapped tables received.")),
        invalidations(counters("evictd_invalidations_total",
                               "Keys looked at by first deletes, by what became of them.")),
        settles(counters("evictd_settle_deletes_total",
                         "Keys looked at by second deletes (fill: plain).")),
        unmappables(counters("evictd_unmappable_changes_total",
                             "Changes for which a rule could not be rendered.")),
        purges_held(counters("evictd_purges_held_total",
                             "Purges of a pattern that waited for the rule's purge_every.")),
        lookups(counters("evictd_lookups_total", "Changed rows looked up in joined tables.")),
        lookup_rows(counters("evictd_lookup_rows_total", "Rows of joined tables that were found.")),
        lookup_overflows(counters("evictd_lookup_overflows_total", "Changed rows that led to more than fan_out rows.")),
        lookup_seconds(prometheus::BuildHistogram()
                           .Name("evictd_lookup_seconds")
                           .Help("From a question for rows of joined tables to its answer.")
                           .Register(registry)),
        gaps(counters("evictd_gaps_total", "Stretches of the change stream that were lost.")),
        redis_errors(counters("evictd_redis_errors_total", "Errors of Redis, by class.")),
        reconnects(counters("evictd_reconnects_total", "Connections made again after a loss.")),
        reloads(counters("evictd_rules_reload_total", "Reloads of the rules (SIGHUP).")),
        negative_latencies(counters("evictd_negative_latency_total",
                                    "Latencies below 0, counted as 0: the clocks differ.")
                               .Add({})),
        latencies(prometheus::BuildHistogram()
                      .Name("evictd_invalidation_latency_seconds")
                      .Help("From the commit to the reply of the cache, per transaction.")
                      .Register(registry)),
        caches(std::move(names)),
        by_cache(caches.size()) {
    for (std::size_t index = 0; index < caches.size(); ++index) {
      by_cache[index].latency = &latencies.Add({{"cache", caches[index]}}, kLatencyBounds);
      for (std::size_t i = 0; i < kOutcomeCount; ++i) {
        by_cache[index].settle_outcomes[i] = &settles.Add({{"cache", caches[index]}, {"outcome", kOutcomes[i]}});
      }
    }
  }

  Family<Counter>& counters(const std::string& name, const std::string& help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }

  // The counter of a label whose values come from elsewhere, kept few.
  static Counter& open_label(Family<Counter>& in, const char* label, std::string_view value,
                             std::map<std::string, Counter*, std::less<>>& known,
                             prometheus::Labels labels = {}) {
    if (const auto found = known.find(value); found != known.end()) return *found->second;
    const std::string text = known.size() < kOpenLabelsMax ? std::string(value) : kOther;
    labels.emplace(label, text);
    Counter& counter = in.Add(labels);
    known.emplace(text, &counter);
    return counter;
  }
  const ProcessMeter process;
  std::vector<std::string> known_gaps;  // constant after construction: text() reads it
  std::map<std::string, Counter*, std::less<>> peers;

  Counter& invalidation(RuleCounters& of, std::size_t cache, std::size_t kind, std::size_t outcome) {
    Counter*& counter = of.invalidations[cache][kind][outcome];
    if (counter == nullptr) {
      counter = &invalidations.Add({{"cache", caches[cache]},
                                    {"rule", of.label},
                                    {"kind", std::string(invalidation_kind_name(kKinds[kind]))},
                                    {"outcome", kOutcomes[outcome]}});
    }
    return *counter;
  }

  RuleCounters make_rule(const std::string& label, const RuleInfo& rule) {
    RuleCounters made;
    made.label = label;
    made.invalidations.resize(caches.size());
    for (std::size_t cache = 0; cache < caches.size(); ++cache) {
      for (std::size_t kind = 0; kind < kKinds.size(); ++kind) {
        for (std::size_t outcome = 0; outcome < kOutcomeCount; ++outcome) {
          if (begins_at_zero(rule, kKinds[kind], outcome)) invalidation(made, cache, kind, outcome);
        }
      }
    }
    return made;
  }

  // Null for a rule that was replaced while its work was under way: its series is gone.
  RuleCounters* find_rule(const RuleInfo& rule) {
    auto found = rules.find(rule.name);
    if (found == rules.end()) found = rules.find(std::string_view(kOther));
    return found == rules.end() ? nullptr : &found->second;
  }

  void remove_rule(const RuleCounters& gone) {
    for (const auto& cache : gone.invalidations) {
      for (const OutcomeCounters& kind : cache) {
        for (Counter* counter : kind) {
          if (counter != nullptr) invalidations.Remove(counter);
        }
      }
    }
    for (Counter* counter : gone.unmappable) {
      if (counter != nullptr) unmappables.Remove(counter);
    }
    for (Counter* counter : gone.purges_held) {
      if (counter != nullptr) purges_held.Remove(counter);
    }
    for (Counter* counter : gone.lookups) {
      if (counter != nullptr) lookups.Remove(counter);
    }
    if (gone.lookup_rows != nullptr) lookup_rows.Remove(gone.lookup_rows);
    if (gone.lookup_overflows != nullptr) lookup_overflows.Remove(gone.lookup_overflows);
  }

  void make_table(const std::string& label) {
    std::array<Counter*, kOperations.size()>& made = tables[label];
    for (std::size_t i = 0; i < kOperations.size(); ++i) {
      made[i] =
          &changes.Add({{"table", label}, {"op", std::string(operation_name(kOperations[i]))}});
    }
  }
};

Metrics::Metrics(std::string_view version, std::string_view source_peer, std::vector<std::string> caches)
    : impl_(std::make_unique<Impl>(std::move(caches))) {
  impl_->version = version;
  const auto begin_gaps = [&](const auto& reasons) {
    for (const char* reason : reasons) {
      for (std::size_t cache = 0; cache < impl_->caches.size(); ++cache) {
        Impl::open_label(impl_->gaps, "reason", reason, impl_->by_cache[cache].gap_reasons,
                         {{"cache", impl_->caches[cache]}});
      }
      impl_->known_gaps.emplace_back(reason);
    }
  };
  if (source_peer == "kafka") {
    begin_gaps(kKafkaGaps);
  } else {
    begin_gaps(kPostgresGaps);
  }
  for (const char* error_class : kErrorClasses) {
    for (std::size_t cache = 0; cache < impl_->caches.size(); ++cache) {
      Impl::open_label(impl_->redis_errors, "class", error_class, impl_->by_cache[cache].error_classes,
                       {{"cache", impl_->caches[cache]}});
    }
  }
  Impl::open_label(impl_->reconnects, "peer", source_peer, impl_->peers);
  for (const std::string& cache : impl_->caches) Impl::open_label(impl_->reconnects, "peer", cache, impl_->peers);
  for (const char* outcome : {"success", "failure"}) impl_->reloads.Add({{"outcome", outcome}});
}

Metrics::~Metrics() = default;

void Metrics::set_rules(const std::vector<RuleInfo>& rules) {
  const auto label_of = [](std::size_t number, const std::string& name) {
    return number < kRuleLabelsMax ? name : std::string(kOther);
  };
  std::map<std::string, RuleCounters, std::less<>> kept_rules;
  std::map<std::string, std::array<Counter*, kOperations.size()>, std::less<>> kept_tables;
  for (std::size_t number = 0; number < rules.size(); ++number) {
    const std::string label = label_of(number, rules[number].name);
    if (!kept_rules.contains(label)) {
      const auto known = impl_->rules.find(label);
      if (known == impl_->rules.end()) {
        kept_rules.emplace(label, impl_->make_rule(label, rules[number]));
      } else {
        kept_rules.insert(impl_->rules.extract(known));
      }
    }
    const std::string table = label_of(number, rules[number].qualified_table());
    if (!kept_tables.contains(table)) {
      const auto known = impl_->tables.find(table);
      if (known != impl_->tables.end()) {
        kept_tables.insert(impl_->tables.extract(known));
      } else {
        impl_->make_table(table);
        kept_tables.insert(impl_->tables.extract(table));
      }
    }
  }
  for (const auto& [label, gone] : impl_->rules) impl_->remove_rule(gone);
  for (const auto& [label, gone] : impl_->tables) {
    for (Counter* counter : gone) impl_->changes.Remove(counter);
  }
  impl_->rules = std::move(kept_rules);
  impl_->tables = std::move(kept_tables);
}

void Metrics::flush() {
  for (Impl::Cache& cache : impl_->by_cache) {
    if (!cache.latency_dirty) continue;
    cache.latency->ObserveMultiple(cache.bucket_counts, cache.latency_sum);
    std::fill(cache.bucket_counts.begin(), cache.bucket_counts.end(), 0.0);
    cache.latency_sum = 0;
    cache.latency_dirty = false;
  }
}

void Metrics::rules_reloaded(bool success) {
  impl_->reloads.Add({{"outcome", success ? "success" : "failure"}}).Increment();
}

void Metrics::changes(std::string_view table, Operation operation, std::uint64_t count) {
  auto found = impl_->tables.find(table);
  if (found == impl_->tables.end()) {
    // Beyond the labels we keep, or of rules replaced while the change was under way.
    found = impl_->tables.find(kOther);
    if (found == impl_->tables.end()) {
      impl_->make_table(kOther);
      found = impl_->tables.find(kOther);
    }
  }
  found->second[static_cast<std::size_t>(operation)]->Increment(static_cast<double>(count));
}

void Metrics::invalidations(std::string_view cache, const RuleInfo& rule, InvalidationKind kind,
                            const Counts& counts) {
  RuleCounters* of = impl_->find_rule(rule);
  if (of == nullptr) return;
  const std::size_t index = impl_->index_of(cache);
  const std::array<std::uint64_t, kOutcomeCount> values = values_of(counts);
  for (std::size_t i = 0; i < kOutcomeCount; ++i) {
    if (values[i] == 0) continue;
    impl_->invalidation(*of, index, static_cast<std::size_t>(kind), i).Increment(static_cast<double>(values[i]));
  }
}

void Metrics::settle_deletes(std::string_view cache, const Counts& counts) {
  add(impl_->by_cache[impl_->index_of(cache)].settle_outcomes, counts);
}

void Metrics::looked_up(const LookedUp& looked_up) {
  RuleCounters* of = impl_->find_rule(looked_up.rule);
  if (of == nullptr) return;
  if (of->lookup_rows == nullptr) {
    of->lookups = {&impl_->lookups.Add({{"rule", of->label}, {"outcome", "ok"}}),
                   &impl_->lookups.Add({{"rule", of->label}, {"outcome", "failed"}})};
    of->lookup_rows = &impl_->lookup_rows.Add({{"rule", of->label}});
    of->lookup_overflows = &impl_->lookup_overflows.Add({{"rule", of->label}});
  }
  of->lookups[looked_up.is_failed ? 1 : 0]->Increment(static_cast<double>(looked_up.items));
  of->lookup_rows->Increment(static_cast<double>(looked_up.rows));
  of->lookup_overflows->Increment(static_cast<double>(looked_up.overflows));
  impl_->lookup_seconds.Add({}, kLatencyBounds).Observe(std::chrono::duration<double>(looked_up.took).count());
}

void Metrics::unmappable(const RuleInfo& rule, UnmappableReason reason) {
  RuleCounters* of = impl_->find_rule(rule);
  if (of == nullptr) return;
  Counter*& counter = of->unmappable[static_cast<std::size_t>(reason)];
  if (counter == nullptr) {
    counter = &impl_->unmappables.Add({{"rule", of->label}, {"reason", std::string(unmappable_reason_name(reason))}});
  }
  counter->Increment();
}

void Metrics::purge_held(std::string_view cache, const RuleInfo& rule) {
  RuleCounters* of = impl_->find_rule(rule);
  if (of == nullptr) return;
  of->purges_held.resize(impl_->by_cache.size());
  Counter*& counter = of->purges_held[impl_->index_of(cache)];
  if (counter == nullptr) {
    counter = &impl_->purges_held.Add({{"cache", std::string(cache)}, {"rule", of->label}});
  }
  counter->Increment();
}

void Metrics::gap(std::string_view cache, std::string_view reason) {
  Impl::Cache& one = impl_->by_cache[impl_->index_of(cache)];
  Impl::open_label(impl_->gaps, "reason", reason, one.gap_reasons, {{"cache", std::string(cache)}}).Increment();
}

void Metrics::sink_error(std::string_view cache, std::string_view error_class) {
  Impl::Cache& one = impl_->by_cache[impl_->index_of(cache)];
  Impl::open_label(impl_->redis_errors, "class", error_class, one.error_classes, {{"cache", std::string(cache)}})
      .Increment();
}

void Metrics::reconnect(std::string_view peer) {
  Impl::open_label(impl_->reconnects, "peer", peer, impl_->peers).Increment();
}

void Metrics::invalidation_latency(std::string_view cache, std::chrono::microseconds latency) {
  Impl::Cache& one = impl_->by_cache[impl_->index_of(cache)];
  if (latency.count() < 0) {
    impl_->negative_latencies.Increment();
    latency = std::chrono::microseconds(0);
  }
  const double value = std::chrono::duration<double>(latency).count();
  const auto bucket = std::lower_bound(kLatencyBounds.begin(), kLatencyBounds.end(), value);
  one.bucket_counts[static_cast<std::size_t>(bucket - kLatencyBounds.begin())] += 1;
  one.latency_sum += value;
  one.latency_dirty = true;
}

std::string Metrics::text(const Status* status, Now now, SteadyTime::duration silence) const {
  std::vector<MetricFamily> families = impl_->registry.Collect();
  append_process(families, impl_->process.read());
  MetricFamily build;
  build.name = "evictd_build_info";
  build.help = "Always 1; the version is a label.";
  build.type = prometheus::MetricType::Gauge;
  build.metric.emplace_back().gauge.value = 1;
  build.metric.back().label = {{"version", impl_->version}};
  families.push_back(std::move(build));
  if (status != nullptr) append_status_metrics(families, *status, impl_->known_gaps, now, silence);

  // A family without a series says nothing (no error of Redis so far); and a steady order reads
  // better.
  std::erase_if(families, [](const MetricFamily& one) { return one.metric.empty(); });
  std::sort(families.begin(), families.end(),
            [](const MetricFamily& a, const MetricFamily& b) { return a.name < b.name; });
  for (MetricFamily& one : families) {
    for (ClientMetric& metric : one.metric) std::sort(metric.label.begin(), metric.label.end());
    std::sort(one.metric.begin(), one.metric.end(),
              [](const ClientMetric& a, const ClientMetric& b) { return a.label < b.label; });
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace evictd
