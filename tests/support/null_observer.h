// An observer that only counts gaps.
#pragma once

#include "daemon/interface/observer.h"

namespace evictd::testing {

class NullObserver final : public Observer {
 public:
  void changes(std::string_view, Operation, std::uint64_t) override {}
  void invalidations(const RuleInfo&, InvalidationKind, const Outcome&) override {}
  void settle_deletes(const Outcome&) override {}
  void unmappable(const RuleInfo&, UnmappableReason) override {}
  void gap(std::string_view) override { ++gaps; }
  void gap_resolved() override {}
  void redis_error(std::string_view) override {}
  void reconnect(std::string_view) override {}
  void invalidation_latency(std::chrono::microseconds) override {}
  int gaps = 0;
};

}  // namespace evictd::testing
