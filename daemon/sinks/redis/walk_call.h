// The calls of a walk, one at a time: whether one may be sent (WalkPacer), what every script call of a walk looks like, and
// what happens when Redis has forgotten its script.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/sinks/redis/redis_work.h"
#include "daemon/sinks/redis/scripts.h"

namespace evictd {

// Up to this many keys, a call is not heavy: it costs Redis no more than an ordinary command.
inline constexpr std::size_t kLightKeys = 64;
// Bytes of names that one call takes.
inline constexpr std::size_t kPageBytes = 256 * 1024;
// Names looked at by one SCAN of the key space.
inline constexpr std::size_t kScanCountMax = 1000;

// How many names the next SCAN asks for: begins small, doubles while pages are small, and shrinks where names are long, so
// that a set of huge members costs neither side much at a time.
class ScanCount {
 public:
  ScanCount(std::size_t first, std::size_t most);
  std::size_t value() const { return count_; }
  void saw(std::uint64_t bytes);

 private:
  std::size_t count_;
  std::size_t most_;
};

std::string marker_name_of(std::string_view key);

class WalkCall {
 public:
  // `urgency`: whose turn with the pacer it takes.
  WalkCall(Urgency urgency, WorkShared& shared) : urgency_(urgency), shared_(shared) {}

  // Whether the one before was answered. Asked at the beginning of each pump.
  bool is_free(SteadyTime now);
  // False when the pacer says "later".
  bool may_send(bool heavy, SteadyTime now);
  bool wants_wake() const { return wants_wake_; }

  // EVALSHA and the number of keys, after a load where the last call was told that the script is gone. Then follow `keys`
  // keys, and end_script(): the channel's counter and the arguments.
  void begin_script(Session& session, Script which, std::size_t keys, const Command& command, SteadyTime now);
  void end_script(Session& session, const Command& command, std::string_view tokens, std::string_view more_flags);
  void sent(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now);

  void answered();
  // By an error after which the walk goes on.
  void refused();
  // True when it says that the script is gone: refused, to be sent again as it was.
  bool is_to_be_repeated(std::string_view error);

 private:
  Urgency urgency_;
  WorkShared& shared_;
  bool under_way_ = false;
  bool heavy_ = false;       // the call under way holds the pacer
  bool heavy_came_ = false;  // its reply came; the pacer is told with the time
  bool wants_wake_ = false;
  std::optional<Script> called_;  // by the call under way
  std::optional<Script> reload_;
  std::size_t reloads_ = 0;  // in a row
};

}  // namespace evictd
