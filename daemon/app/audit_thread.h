// The daemon's own auditor (`audit: {rate: 20/s}`): a thread beside the loop, with connections of its own, that looks at keys
// which were just invalidated (after their settle, and a minute later) and, slowly, at all the others. It shares nothing
// with the loop but two short lists under a mutex, never waits for it, and what it finds changes nothing.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/app/side_thread.h"
#include "daemon/audit/auditor.h"
#include "daemon/base/clock.h"
#include "daemon/interface/sink.h"
#include "mapping/rules.h"

namespace evictd {

// What it has found since the start. Made by the thread, read by the loop.
struct AuditStatus {
  // Upper bounds of how stale a value was, in seconds; one more beyond the last.
  static constexpr std::array<double, 8> kStalenessBounds = {1, 5, 10, 60, 300, 900, 3600, 21600};

  AuditCounts counts;
  std::map<std::pair<std::string, std::string>, AuditCounts> by_rule;  // cache and rule
  std::array<std::uint64_t, kStalenessBounds.size() + 1> staleness{};
  double staleness_sum = 0;
  struct Stale {
    SystemTime at;
    std::string cache;
    std::string rule;
    std::string key;
    std::string reason;
    std::string marker;
    double seconds = 0;  // since it was invalidated, where it was; else since it was first seen to be old
  };
  std::deque<Stale> last_stale;  // the newest first
  std::uint64_t behind = 0;      // values that waited for evictd in vain
  std::string behind_reason;
  std::string problem;                 // why nothing is audited at the moment; empty: it is
  std::vector<std::string> not_audited;  // "rule 'a': why", of those that cannot be
};

class AuditThread {
 public:
  struct Cache {
    std::string name;
    RedisOptions redis;
  };
  struct Options {
    DatabaseAddress database;
    std::vector<Cache> caches;
    double questions_per_second = 20;
  };
  explicit AuditThread(Options options);
  // Does not wait for an answer that does not come: such a thread is left behind.
  ~AuditThread();
  AuditThread(const AuditThread&) = delete;
  AuditThread& operator=(const AuditThread&) = delete;

  // From the loop, with the first delete of these keys. Takes few of them, and none while it has enough.
  void invalidated(std::string_view cache, const RuleInfo& rule, const Texts& keys);
  // A sink that tells `audit`, which must outlive it, of the keys that it is ordered to delete.
  static std::unique_ptr<Sink> listening(std::unique_ptr<Sink> sink, AuditThread& audit, std::string cache);
  // The rules in force, at the start and after each reload. Nothing is audited before the first ones.
  void use(std::shared_ptr<const RuleSet> rules);
  std::shared_ptr<const AuditStatus> status() const;

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
  std::optional<SideThread> thread_;
};

}  // namespace evictd
