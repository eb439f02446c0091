// The refresher's side of a cache (Redis), on a connection of its own: takes leases and fills as a checked reader does, by the
// same functions. Blocking, each reply with a deadline. An error is a connection of no more use; what is wrong with one key
// stands in its answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/refresh/database.h"
#include "daemon/sinks/redis/redis_sink.h"

namespace evictd {

class RefreshCache {
 public:
  static Result<std::unique_ptr<RefreshCache>> open(const RedisOptions& options);
  ~RefreshCache();

  // Whether a key is to be filled.
  struct Claim {
    enum class State : std::uint8_t {
      kOurs,    // nobody else is at it: the lease is ours
      kFresh,   // there is a value already
      kBusy,    // a reader has the lease
      kRefused, // see `problem`
    } state = State::kRefused;
    std::string lease;
    std::string problem;
    bool is_full = false;  // the cache, not this key
  };
  // One for each key.
  Result<std::vector<Claim>> claim(const std::vector<std::string>& keys, std::chrono::milliseconds lease);

  enum class Filled : std::uint8_t {
    kStored,
    kRejected,  // the value has not seen what was invalidated meanwhile
    kRefused,   // a full Redis
    kWrongTag,  // the key of one of its tags is of another type
  };
  // One for each value; each has a text. `age`: since before the database was asked.
  Result<std::vector<Filled>> fill(const RefreshInfo& refresh, const std::string& token, std::chrono::milliseconds age,
                                   const std::vector<RefreshValue>& values);

  struct Lease {
    std::string key;
    std::string id;
  };
  // Nobody need wait for these any more.
  Result<void> release(const std::vector<Lease>& leases);

  struct Told {
    std::string key;
    std::string version;
  };
  // Adds them to the rule's stream: how many a full Redis refused.
  Result<std::size_t> tell(const RuleInfo& rule, const std::vector<Told>& keys);

 private:
  RefreshCache();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
