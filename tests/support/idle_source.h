// A source that does nothing: the base of those that say what a test wants.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/interface/source.h"

namespace evictd::testing {

class IdleSource : public Source {
 public:
  void start(Now) override {}
  void proceed(const std::set<std::string>&) override {}
  std::string stream_name(std::uint32_t) const override { return "wal"; }
  void step(Now, std::size_t, SourceHandler&) override {}
  void wait_for(Waiting&, bool) override {}
  void acknowledge(const Position&) override {}
  void request_snapshot() override {}
  void set_tables(const std::vector<std::string>&) override {}
  void restart(Now) override {}
  bool stop(Now) override { return true; }
  SourceStatus status() const override { return {}; }
};

}  // namespace evictd::testing
