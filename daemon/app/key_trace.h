// The last decisions about single keys, for the status page (`http.show_keys: true`): which orders named a key, or had a pattern
// that it matches, and what the cache answered. Listens between a lane and its sink; where it is not asked for, it is not there.
//
// The loop writes, the HTTP thread asks; a mutex between them. Bounded: kEntriesMax decisions of kBytesMax together, the oldest
// go first; of one order the first kKeysPerOrderMax keys are kept, and longer keys than kKeyMax are not.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/base/clock.h"
#include "daemon/interface/sink.h"

namespace evictd {

class KeyTrace {
 public:
  static constexpr std::size_t kEntriesMax = 50'000;
  static constexpr std::size_t kBytesMax = 8 * 1024 * 1024;
  static constexpr std::size_t kKeysPerOrderMax = 2'000;
  static constexpr std::size_t kKeyMax = 1024;
  static constexpr std::size_t kAnswersMax = 50;
  static constexpr std::size_t kXidsMax = 8;

  // From the loop.
  void ordered(std::string_view cache, Ticket ticket, const Order& order, SystemTime at);
  void done(std::string_view cache, Ticket ticket, const Outcome& outcome);
  // The connection was lost: the order is given again, or its batch is.
  void lost(std::string_view cache, Ticket ticket);

  // {"key": ..., "since": the oldest decision that is known, "decisions": [the latest first]}
  std::string json(std::string_view key) const;

  std::size_t bytes() const;

  // A sink that tells `trace`, which must outlive it, of every order.
  static std::unique_ptr<Sink> listening(std::unique_ptr<Sink> sink, KeyTrace& trace, std::string cache);

 private:
  // What the entries of one order share.
  struct Command {
    SystemTime at;
    std::string cache;
    std::string rule;
    Act act = Act::kInvalidate;
    Target target = Target::kKeys;
    bool is_unconditional = false;
    std::uint64_t size = 0;  // keys, or patterns, in the order
    enum class State : std::uint8_t { kUnderWay, kDone, kLost } state = State::kUnderWay;
    Outcome outcome;
  };
  struct Entry {
    std::shared_ptr<Command> command;
    std::string text;  // the key, or the pattern's glob
    std::string rule;  // of a pattern: its own
    std::string xids;  // "1042, 1043 and 7 more"
    std::size_t bytes() const { return sizeof(Entry) + text.size() + rule.size() + xids.size(); }
  };
  void add(Entry entry);

  mutable std::mutex mutex_;
  std::deque<Entry> entries_;  // the oldest first
  std::size_t bytes_ = 0;
  std::map<std::pair<std::string, Ticket>, std::shared_ptr<Command>> under_way_;
};

}  // namespace evictd
