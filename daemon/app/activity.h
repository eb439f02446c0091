// What the status page shows beside the state: the last quarter of an hour as samples, what each rule did, and what was
// worth a line lately. Stands between the flow and the metrics as an observer and passes everything on. No clock: the loop
// says the time. Loop thread only; view() hands out an immutable copy. Everything in it is bounded.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/app/latency_buckets.h"
#include "daemon/base/clock.h"
#include "daemon/interface/observer.h"
#include "mapping/rules.h"

namespace evictd {

struct FlowStatus;
struct SourceStatus;

// One second, or more when the loop stood.
struct ActivitySample {
  std::uint64_t number = 0;  // 1, 2, 3 ...
  SteadyTime at{};
  double changes_per_second = 0;
  double deletes_per_second = 0;  // keys that first deletes found and removed
  std::optional<std::uint64_t> retained_bytes;   // WAL; with Kafka nothing
  std::optional<std::uint64_t> waiting_records;  // Kafka: not yet acknowledged
  struct Cache {
    std::optional<double> lag_seconds;
    std::optional<double> p50_seconds;  // commit to delete, of this sample's transactions
    std::optional<double> p99_seconds;
  };
  std::vector<Cache> caches;  // in the order of the configuration
};

// What a rule did since the process started, or since the rule came.
struct RuleActivity {
  Counts keys;              // keys, tags and counters; purges apart
  std::uint64_t purged = 0; // keys that purges deleted
  std::uint64_t changes = 0;  // of its table
  std::uint64_t applied_changes = 0;  // of these, as many as all caches have surely answered for
  std::uint64_t unmappable = 0;
  bool has_purged = false;  // changes asked for a purge, whether or not there was a key
  std::optional<SystemTime> last_hit;  // something was there and was deleted
};

// Something that was worth a line.
struct ActivityEvent {
  enum class Kind : std::uint8_t { kGap, kRepaired, kPurge, kUnmappable } kind = Kind::kPurge;
  SystemTime at{};
  std::string cache;   // empty: all
  std::string rule;    // empty: none in particular
  std::string what;    // the pattern, or why a change could not be mapped
  std::string reason;
  std::uint64_t count = 0;  // keys deleted; of kUnmappable: changes
  std::chrono::milliseconds took{0};
};

struct ReloadActivity {
  SystemTime at{};
  bool is_success = false;
  std::string text;  // the difference, or why it was refused
};

struct ActivityView {
  std::vector<std::shared_ptr<const ActivitySample>> samples;  // the oldest first
  std::map<std::string, RuleActivity, std::less<>> rules;      // by name
  std::vector<ActivityEvent> events;                           // the latest first
  std::optional<ReloadActivity> reload;                        // the last one
};

class Activity final : public Observer {
 public:
  static constexpr std::chrono::seconds kSampleInterval{1};
  static constexpr std::size_t kSamplesMax = 15 * 60;
  static constexpr std::size_t kEventsMax = 50;
  // Rules beyond are not counted singly.
  static constexpr std::size_t kRulesMax = 1000;

  // Everything is passed on to `next`, which must outlive this.
  Activity(Observer& next, std::vector<std::string> caches);

  // Rules that stay keep their counts.
  void set_rules(const std::vector<RuleInfo>& rules);
  void reloaded(ReloadActivity reload) { reload_ = std::move(reload); }

  // What is observed until the next call happened at this time.
  void turn(Now now) { now_ = now; }
  bool is_sample_due(SteadyTime now) const { return now - sampled_at_ >= kSampleInterval; }
  void sample(const FlowStatus& flow, const SourceStatus& source, Now now);
  std::shared_ptr<const ActivityView> view() const;

  // Observer.
  void changes(std::string_view table, Operation operation, std::uint64_t count) override;
  void invalidations(std::string_view cache, const RuleInfo& rule, InvalidationKind kind, const Counts& counts) override;
  void settle_deletes(std::string_view cache, const Counts& counts) override;
  void looked_up(const LookedUp& looked_up) override { next_.looked_up(looked_up); }
  void unmappable(const RuleInfo& rule, UnmappableReason reason) override;
  void purge_held(std::string_view cache, const RuleInfo& rule) override;
  void gap(std::string_view cache, std::string_view reason) override;
  void sink_error(std::string_view cache, std::string_view error_class) override;
  void reconnect(std::string_view peer) override;
  void invalidation_latency(std::string_view cache, std::chrono::microseconds latency) override;
  void walked(std::string_view cache, const Walk& walk) override;
  void repaired(std::string_view cache, std::string_view reason) override;

 private:
  struct Cache {
    std::string name;
    LatencyBuckets latencies;
    LatencyBuckets sampled;  // as of the last sample
  };
  struct TableChanges {
    std::uint64_t count = 0;
    std::uint64_t sampled = 0;  // as of the last sample
    std::uint64_t applied = 0;  // those that were there a sample before one in which no cache lagged
  };
  struct RuleTable {
    std::string name;
    std::uint64_t count_before = 0;  // the table's changes when the rule came
  };
  ActivityEvent& add(ActivityEvent event);
  void count_applied(const FlowStatus& flow);

  Observer& next_;
  std::vector<Cache> caches_;
  Now now_{};
  SteadyTime sampled_at_{};
  std::uint64_t sample_number_ = 0;
  std::uint64_t changes_ = 0;  // since the last sample
  std::uint64_t deletes_ = 0;
  std::deque<std::shared_ptr<const ActivitySample>> samples_;
  std::map<std::string, RuleActivity, std::less<>> rules_;
  std::map<std::string, TableChanges, std::less<>> tables_;
  std::map<std::string, RuleTable, std::less<>> rule_table_;  // by rule
  std::deque<ActivityEvent> events_;  // the latest first
  std::optional<ReloadActivity> reload_;
};

// What a reload changed, for the log and the page: "1 new ('a'), 1 gone ('b'), 2 changed ('c', 'd')"; "nothing" when every
// rule is as it was. Names at most ten of a kind.
std::string rules_difference(const std::vector<RuleInfo>& before, const std::vector<RuleInfo>& after);

}  // namespace evictd
