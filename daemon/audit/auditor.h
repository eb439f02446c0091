// The auditor of one cache: draws keys, looks at them (judge.h), keeps the suspects until evictd has acknowledged what was
// seen, and looks again. Blocking; used by `evictd audit`, and by the daemon's own auditor in a thread beside the loop.
//
// It is bounded: questions to the database per second, keys of one look, suspects that wait. A key that is met again in one
// pass by the same rule is not asked for again, so a hot key costs no more than a cold one.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "daemon/audit/cache.h"
#include "daemon/audit/database.h"
#include "daemon/base/clock.h"

namespace evictd {

struct AuditCounts {
  std::uint64_t fresh = 0;
  std::uint64_t stale = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t unreadable = 0;

  std::uint64_t checked() const { return fresh + stale + in_flight + unreadable; }
  void add(AuditOutcome outcome);
};

// A key that was judged.
struct AuditFinding {
  std::uint32_t rule = 0;
  std::string key;
  AuditOutcome outcome = AuditOutcome::kFresh;
  std::string reason;
  std::string marker;
  std::chrono::milliseconds suspect_for{0};  // since it was first seen to be old
  bool is_fixed = false;
};

struct AuditOptions {
  double questions_per_second = 20;
  std::size_t keys_per_look = 50;
  std::size_t suspects_max = 5'000;
  // How long evictd may take to acknowledge what was seen, beyond the longest settle, before a suspect is let go as
  // in flight.
  std::chrono::milliseconds patience{30'000};
  bool fix = false;
  std::vector<KeyShape> shapes;  // of every rule that acts on this cache, audited or not (key_shapes_of_cache())
};

class Auditor {
 public:
  using OnFinding = std::function<void(const AuditFinding&)>;
  // Waits so long; false: stop.
  using Sleep = std::function<bool(std::chrono::milliseconds)>;

  // What is referred to must outlive it. `rules` are those that the database was opened with; `acts` says which of them
  // act on this cache.
  Auditor(const RuleSet& rules, std::vector<bool> acts, AuditDatabase& database, AuditCache& cache, AuditOptions options,
          OnFinding on_finding, Sleep sleep);

  // Draws and judges the next few keys, of one rule after the other. False: this pass is over, every key that can be met
  // has been (or the rules have none), and the next call begins anew; or stopped.
  Result<bool> draw();
  // Judges these keys of one rule.
  Result<void> examine(std::uint32_t rule, std::vector<AuditSample> samples);
  // Looks again at suspects whose time has come; lets go of those that waited for too long.
  Result<void> review();
  // Until no suspect waits any more.
  Result<void> finish();
  // The same, in no time: what waits is in flight.
  void let_go();

  const AuditCounts& counts() const { return counts_; }
  const std::map<std::uint32_t, AuditCounts>& by_rule() const { return by_rule_; }
  bool was_stopped() const { return stopped_; }
  // Suspects were let go because evictd did not acknowledge what was seen: how many, and what it was behind by.
  std::uint64_t behind() const { return behind_; }
  const std::string& behind_reason() const { return behind_reason_; }

 private:
  struct Suspect {
    AuditSample sample;
    Look look;
    Lsn wal;
    SteadyTime first_seen;
    SteadyTime let_go_at;
  };
  // Where keys of a rule come from.
  struct Origin {
    std::uint32_t rule = 0;
    std::optional<std::size_t> shape;  // met in the cache, by this template; none: drawn from the table's rows
    std::uint64_t cursor = 0;
    int wraps = 0;
    int barren = 0;  // draws without a new key
    bool is_over = false;
    std::deque<AuditSample> waiting;
  };

  Result<void> fill(Origin& origin);
  Result<void> read_record();
  // Empty: evictd has acknowledged everything up to there.
  std::string why_not_yet(Lsn wal) const;
  Result<std::optional<AuditMoment>> look(std::uint32_t rule, const std::vector<AuditSample>& samples, std::vector<Look>& looks);
  // What else this key is made of by the rules (AuditFacts).
  void tell_what_else(std::uint32_t rule, const std::string& key, AuditFacts& facts) const;
  void conclude(const AuditSample& sample, const Look& look, const Decision& decision, SteadyTime since);
  Result<void> fix(const AuditSample& sample, const Look& look);
  bool pace();
  void begin_pass();

  const RuleSet& rules_;
  std::vector<bool> acts_;
  AuditDatabase& database_;
  AuditCache& cache_;
  AuditOptions options_;
  OnFinding on_finding_;
  Sleep sleep_;
  JsonReader json_;

  std::vector<Origin> origins_;
  std::size_t next_ = 0;
  std::unordered_set<std::string> met_;  // in this pass: rule and key
  std::deque<Suspect> suspects_;
  std::optional<Record> record_;
  std::int64_t filled_since_ = 0;
  std::uint64_t asked_ = 0;  // database_.questions(), when it was last paid for
  SteadyTime next_question_{};
  AuditCounts counts_;
  std::map<std::uint32_t, AuditCounts> by_rule_;
  bool stopped_ = false;
  std::uint64_t behind_ = 0;
  std::string behind_reason_;
};

}  // namespace evictd
