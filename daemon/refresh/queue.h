// Keys that wait to be filled anew in one cache. Pure: no clock, thread or connection; time comes with each call.
//
// Bounded: keys and bytes over all rules; what finds no room is dropped. A key that waits is not taken a second time, but what
// its fill has to have seen grows with each change. Each rule has a pace of its own (keys per second), and its turn after the
// others. What could not be filled yet comes back later, a few times.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"

namespace evictd {

struct RefreshEntry {
  std::string key;
  std::string version;  // what its fill has to have seen, for workers: "v" and a row's version, or up to kVersionXids xids
  int tries = 0;        // that failed
};

// The transactions that a version names at most: the last ones.
inline constexpr std::size_t kVersionXids = 8;
// What a fill has to have seen that was asked for twice.
std::string joined_version(std::string_view earlier, std::string_view later);

struct RefreshBatch {
  std::string rule;
  std::vector<RefreshEntry> entries;
};

class RefreshQueue {
 public:
  struct Limits {
    std::size_t keys = 200'000;
    std::size_t bytes = 64 * 1024 * 1024;
    std::size_t batch = 100;  // keys taken together
  };
  // How long a key waits before each next try; behind the last one it is given up.
  static constexpr std::chrono::milliseconds kRetryAfter[] = {
      std::chrono::milliseconds(10),  std::chrono::milliseconds(50),    std::chrono::milliseconds(250),
      std::chrono::seconds(1),        std::chrono::seconds(5),          std::chrono::seconds(20)};

  explicit RefreshQueue(Limits limits) : limits_(limits) {}

  // Makes a rule known, or gives it another pace. 0: as fast as can be.
  void set_pace(const std::string& rule, std::uint64_t per_second, SteadyTime now);
  // Forgets a rule; how many keys of it waited.
  std::size_t forget(const std::string& rule);

  enum class Added : std::uint8_t { kQueued, kCoalesced, kDropped };
  // kDropped also where the rule is not known.
  Added add(const std::string& rule, std::string_view key, std::string version);

  // The next keys of one rule whose turn and time it is.
  std::optional<RefreshBatch> take(SteadyTime now);
  // When take() may have something; max(): not before the next add().
  SteadyTime due(SteadyTime now) const;

  // A taken entry was not filled. False: it was its last try, and is over.
  bool retry(const std::string& rule, RefreshEntry entry, SteadyTime now);
  // Nothing of the rule is taken until then.
  void suspend(const std::string& rule, SteadyTime until);
  // Drops what waits of the rule; how many.
  std::size_t clear(const std::string& rule);

  std::size_t size() const { return keys_; }

 private:
  struct Rule {
    std::uint64_t per_second = 0;
    double tokens = 0;
    SteadyTime counted_at{};  // when `tokens` was right
    SteadyTime suspended_until = SteadyTime::min();
    std::deque<RefreshEntry> ready;
    std::multimap<SteadyTime, RefreshEntry> later;
    std::unordered_map<std::string, std::string> waits;  // keys of both -> their version, which those do not have meanwhile

    std::size_t size() const { return ready.size() + later.size(); }
  };

  std::size_t burst_of(const Rule& rule) const;
  double tokens_at(const Rule& rule, SteadyTime now) const;
  // When so many keys may be taken.
  SteadyTime paced_at(const Rule& rule, std::size_t keys, SteadyTime now) const;
  void wait(Rule& rule, const std::string& key, std::string version);
  void leave(Rule& rule, RefreshEntry& entry);
  void set_version(std::string& known, std::string version);

  Limits limits_;
  std::map<std::string, Rule> rules_;
  std::string last_;  // whose turn it was
  std::size_t keys_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace evictd
