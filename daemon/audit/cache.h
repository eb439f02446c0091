// The audit's look at a cache (Redis), on a connection of its own: takes no lease, counts as nobody's read, writes nothing
// but what fix() is asked for. Blocking, each reply with a deadline.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/audit/judge.h"
#include "daemon/interface/record.h"
#include "daemon/sinks/redis/redis_sink.h"

namespace evictd {

class AuditCache {
 public:
  static Result<std::unique_ptr<AuditCache>> open(const RedisOptions& options);
  ~AuditCache();

  // What evictd keeps on record here; nothing when there is no record.
  Result<std::optional<Record>> record();

  // One for each key, in their order; where nothing compares the values, only whether they are there.
  Result<std::vector<Presence>> look(const std::vector<std::string>& keys, bool with_values);

  // A page of keys that match, without evictd's own. `cursor` as SCAN has it; may be any number, for a walk that begins
  // somewhere.
  struct Page {
    std::vector<std::string> keys;
    std::uint64_t cursor = 0;  // 0: that was the last page
  };
  Result<Page> scan(const std::string& glob, std::uint64_t cursor);

  // Deletes a stale value. Under `fill: checked` (or where it is announced) as an invalidation does, leaving a tombstone
  // that asks fills for `tokens` (marker.lua). `rule` says which.
  Result<void> fix(const RuleInfo& rule, const std::string& key, const Epoch& epoch, const std::string& tokens);

 private:
  AuditCache();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
