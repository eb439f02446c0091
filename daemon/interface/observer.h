// The observer: what the flow counts. Implemented by metrics.cpp for /metrics and by tests. Called from
// the loop thread only: once per batch, order or transaction, never per row. Rules come as RuleInfo, not as an
// index, because work begun under the rules before a reload still ends under them. `cache` is the name of a lane.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "daemon/interface/sink.h"
#include "mapping/mapper.h"

namespace evictd {

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void changes(std::string_view table, Operation operation, std::uint64_t count) = 0;
  // First deletes, of keys, tags or purges.
  virtual void invalidations(std::string_view cache, const RuleInfo& rule, InvalidationKind kind,
                             const Counts& counts) = 0;
  virtual void settle_deletes(std::string_view cache, const Counts& counts) = 0;
  virtual void unmappable(const RuleInfo& rule, UnmappableReason reason) = 0;
  // A gap of one cache.
  virtual void gap(std::string_view cache, std::string_view reason) = 0;
  virtual void sink_error(std::string_view cache, std::string_view error_class) = 0;
  // peer: "postgres", "kafka", or a cache's name.
  virtual void reconnect(std::string_view peer) = 0;
  // From commit to the cache's reply, for one transaction. Negative (clock skew) is counted and clamped.
  virtual void invalidation_latency(std::string_view cache, std::chrono::microseconds latency) = 0;

  // Rows of joined tables were looked up (`rule` has a `via:`), or could not be.
  struct LookedUp {
    const RuleInfo& rule;
    bool is_failed = false;
    std::uint64_t items = 0;      // changed rows asked for
    std::uint64_t rows = 0;       // found
    std::uint64_t overflows = 0;  // changed rows with more than fan_out
    std::chrono::microseconds took{0};
  };
  virtual void looked_up([[maybe_unused]] const LookedUp& looked_up) {}

  // What matches one pattern was walked over; its counts came by invalidations() or settle_deletes() as well. `reason`:
  // of the repair, or "changes" when changes of rows asked for it. `pattern` and `reason` are valid during the call.
  struct Walk {
    const RuleInfo& rule;
    std::string_view pattern;
    std::string_view reason;
    std::uint64_t deleted = 0;
    std::chrono::milliseconds took{0};
  };
  virtual void walked([[maybe_unused]] std::string_view cache, [[maybe_unused]] const Walk& walk) {}
  // A purge that changes asked for waits, because the one before it was less than the rule's `purge_every` ago.
  virtual void purge_held([[maybe_unused]] std::string_view cache, [[maybe_unused]] const RuleInfo& rule) {}
  // What a gap or a change of the rules may have left stale in this cache is purged.
  virtual void repaired([[maybe_unused]] std::string_view cache, [[maybe_unused]] std::string_view reason) {}
};

}  // namespace evictd
