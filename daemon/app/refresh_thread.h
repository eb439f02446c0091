// The refresher of one cache: a thread beside the loop, with connections of its own to the cache and to the database. The loop
// tells it which keys a delete hit; everything else, the waiting included, is the thread's. Nothing of it holds a delete or an
// acknowledgement up: what it cannot take is dropped and counted, and while the cache has no room for deletes it rests.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/app/side_thread.h"
#include "daemon/interface/sink.h"
#include "daemon/refresh/refresher.h"
#include "mapping/rules.h"

namespace evictd {

// What one refresher has done since the start.
struct RefreshStatus {
  using Counts = std::array<std::uint64_t, kRefreshOutcomes>;
  std::string cache;
  std::map<std::string, Counts> by_rule;
  std::uint64_t waiting = 0;          // keys
  std::vector<std::string> problems;  // why keys of a rule, or all, are not filled at the moment
};

class RefreshThread {
 public:
  struct Options {
    std::string cache;
    RedisOptions redis;
    RefreshDatabaseOptions database;  // unused where every rule has a stream
  };
  explicit RefreshThread(Options options);
  // Does not wait for an answer that does not come: such a thread is left behind.
  ~RefreshThread();
  RefreshThread(const RefreshThread&) = delete;
  RefreshThread& operator=(const RefreshThread&) = delete;

  // A sink that tells `refresh`, which must outlive it, which keys its deletes hit, and when it has no room for more.
  static std::unique_ptr<Sink> listening(std::unique_ptr<Sink> sink, RefreshThread& refresh);
  // From the loop: these items of `keys` were deleted.
  void hit(const RuleInfo& rule, const Texts& keys, const std::vector<std::uint32_t>& items);
  // From the loop: deletes wait for room.
  void pressed();
  // From the loop: the rules in force, at the start and after each reload. Nothing is refreshed before the first ones.
  void use(std::shared_ptr<const RuleSet> rules);
  std::shared_ptr<const RefreshStatus> status() const;

 private:
  struct State;
  class Work;
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
  std::optional<SideThread> thread_;
};

}  // namespace evictd
