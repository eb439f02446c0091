// Metrics: counts what the pipeline reports and renders /metrics (design, section 10: the names are
// API).
//
// The Observer's methods and set_rules() are called by the loop thread only; text() from any
// thread. Counters of one turn are gathered without locks where they are frequent (latencies) and
// handed over by flush().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/observer.h"
#include "daemon/app/status.h"
#include "mapping/rules.h"

namespace evictd {

// Beyond this many rules, the others share the label "other", so that a big rules file cannot make
// a big number of series.
inline constexpr std::size_t kRuleLabelsMax = 200;

class Metrics final : public Observer {
 public:
  // `caches`: the names of the lanes, a label of all that is counted of a cache.
  explicit Metrics(std::string_view version, std::string_view source_peer = "postgres",
                   std::vector<std::string> caches = {"redis"});
  ~Metrics() override;

  // Series of new rules and tables begin at 0, those of rules
  // and tables that are gone disappear, the others go on.
  void set_rules(const std::vector<RuleInfo>& rules);

  // Hands the latencies observed since the last call to text().
  void flush();

  // outcome: "success", "failure".
  void rules_reloaded(bool success);

  // The page. `status` may be null: what is only known from it is then absent. `silence`: since the loop last turned; when
  // that is more than kLoopSilenceMax, nothing is exported as if it were still so.
  std::string text(const Status* status, Now now, SteadyTime::duration silence = {}) const;

  // Observer.
  void changes(std::string_view table, Operation operation, std::uint64_t count) override;
  void invalidations(std::string_view cache, const RuleInfo& rule, InvalidationKind kind, const Counts& counts) override;
  void settle_deletes(std::string_view cache, const Counts& counts) override;
  void unmappable(const RuleInfo& rule, UnmappableReason reason) override;
  void purge_held(std::string_view cache, const RuleInfo& rule) override;
  void looked_up(const LookedUp& looked_up) override;
  void gap(std::string_view cache, std::string_view reason) override;
  void sink_error(std::string_view cache, std::string_view error_class) override;
  void reconnect(std::string_view peer) override;
  void invalidation_latency(std::string_view cache, std::chrono::microseconds latency) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
