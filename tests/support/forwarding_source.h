// A source that passes everything on to another one, which it does not own: the base of those that look on, or
// change one thing.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/interface/source.h"

namespace evictd::testing {

class ForwardingSource : public Source {
 public:
  // `source` must outlive this one.
  explicit ForwardingSource(Source& source) : source_(source) {}

  void start(Now now) override { source_.start(now); }
  void proceed(const std::set<std::string>& on_record) override { source_.proceed(on_record); }
  std::string stream_name(std::uint32_t stream) const override { return source_.stream_name(stream); }
  bool is_shared() const override { return source_.is_shared(); }
  void step(Now now, std::size_t bytes, SourceHandler& handler) override { source_.step(now, bytes, handler); }
  void wait_for(Waiting& waiting, bool want) override { source_.wait_for(waiting, want); }
  void acknowledge(const Position& end) override { source_.acknowledge(end); }
  void request_snapshot() override { source_.request_snapshot(); }
  void look_up(LookupRequest request, Now now) override { source_.look_up(std::move(request), now); }
  void set_tables(const std::vector<std::string>& tables) override { source_.set_tables(tables); }
  void check_rules(const RuleSet& rules) override { source_.check_rules(rules); }
  std::optional<Result<void>> take_rules_check() override { return source_.take_rules_check(); }
  void restart(Now now) override { source_.restart(now); }
  bool stop(Now now) override { return source_.stop(now); }
  SourceStatus status() const override { return source_.status(); }

 private:
  Source& source_;
};

}  // namespace evictd::testing
