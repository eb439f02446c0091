// An observer that only counts latencies, gaps, walks, second deletes and purges that were held.
#pragma once

#include <map>
#include <string>

#include "daemon/interface/observer.h"

namespace evictd::testing {

class NullObserver final : public Observer {
 public:
  void changes(std::string_view, Operation, std::uint64_t) override {}
  void invalidations(std::string_view, const RuleInfo&, InvalidationKind, const Counts&) override {}
  void settle_deletes(std::string_view, const Counts& counts) override { settled += counts.deleted + counts.absent + counts.kept + counts.replayed; }
  void unmappable(const RuleInfo&, UnmappableReason) override {}
  void gap(std::string_view cache, std::string_view) override {
    ++gaps;
    ++gaps_of[std::string(cache)];
  }
  void sink_error(std::string_view, std::string_view) override {}
  void reconnect(std::string_view) override {}
  void invalidation_latency(std::string_view, std::chrono::microseconds) override { ++latencies; }
  void walked(std::string_view, const Walk&) override { ++walks; }
  void purge_held(std::string_view, const RuleInfo&) override { ++purges_held; }
  std::uint64_t settled = 0;  // keys
  int latencies = 0;
  int gaps = 0;
  int walks = 0;
  int purges_held = 0;
  std::map<std::string, int> gaps_of;  // by cache
};

}  // namespace evictd::testing
