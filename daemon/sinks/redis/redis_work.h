// What a Command becomes on the wire. A RedisWork sends its calls into the session, receives their
// replies, and is finished when the last one was a success. Pure of sockets and time of its own,
// like the session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sinks/redis/session.h"
#include "daemon/interface/sink.h"
#include "daemon/sinks/redis/command.h"
#include "daemon/sinks/redis/replies.h"

namespace evictd {

// The walks of large sets and patterns share Redis with everybody else: one heavy call at a time,
// and a pause after each, as long as the call took (at a share of 0.5). The time a call takes is
// measured from outside, so that a busy Redis slows the walks further.
class WalkPacer {
 public:
  WalkPacer(double share, std::size_t walks_max) : share_(share), walks_max_(walks_max) {}

  bool may_begin_walk() const { return walks_ < walks_max_; }
  void begin_walk() { ++walks_; }
  void end_walk() { --walks_; }

  bool may_send_heavy(SteadyTime now) const { return !heavy_under_way_ && now >= next_heavy_; }
  void heavy_sent(Urgency urgency, SteadyTime now);
  // Whose turn the next one is, when both want it: they take it one after the other.
  Urgency next_urgency() const { return last_urgency_ == Urgency::kBulk ? Urgency::kPrompt : Urgency::kBulk; }
  void heavy_done(SteadyTime now);
  // When somebody was refused and time alone will change that.
  SteadyTime wake_at() const { return heavy_under_way_ ? SteadyTime::max() : next_heavy_; }

  // The connection is gone, and with it everything under way.
  void reset();

 private:
  double share_;
  std::size_t walks_max_;
  std::size_t walks_ = 0;
  bool heavy_under_way_ = false;
  Urgency last_urgency_ = Urgency::kBulk;
  SteadyTime heavy_since_{};
  SteadyTime next_heavy_{};
};

// What a command met and left alone, counted since the start.
struct Skipped {
  std::uint64_t own_keys = 0;        // keys that spell one of evictd's own
  std::uint64_t foreign = 0;         // members of tags that no rule may touch
  std::uint64_t forbidden = 0;       // members of tags that the ACL keeps us from
  std::uint64_t too_long = 0;        // members of tags, and keys, longer than any key that rules make
};

// Of orders to indexes of vectors, counted since the start.
struct SemanticCounts {
  bool is_used = false;
  std::uint64_t searches = 0;
  std::uint64_t keys = 0;  // deleted with elements
  // Orders that found more than they may, or could not say what they mean, by why.
  std::uint64_t over_limit = 0;
  std::uint64_t dimensions = 0;    // the row's vector has another number of them than the index
  std::uint64_t no_scores = 0;     // the index's scores are no cosines
  std::uint64_t unwritable = 0;    // a value that the engine's filters cannot hold
  std::uint64_t cleared = 0;       // indexes, whole
};

// What all works of a sink share. Outlives them.
struct WorkShared {
  SinkContext context;
  std::string since;     // ARGV[4] of lua/invalidate.lua: trust_since, and the snapshot
  std::string lifetime;  // of a tombstone, milliseconds as text
  std::size_t page_keys = 256;
  // Whether some rule may touch this key; empty: any.
  std::function<bool(std::string_view)> may_touch = {};
  WalkPacer pacer;
  std::uint64_t tombstones_refused = 0;  // by a full Redis, since the start
  std::uint64_t wrong_type_tags = 0;     // tag keys that were no sets, deleted
  Skipped skipped = {};
  SemanticCounts semantic = {};
  std::optional<Error> fatal = {};  // a rule says that evictd has to stop
  // Of a cluster: a master has lost what it held, sets of tags among it, whose members other masters still hold. Until they are hunted
  // down (PatternsOrder), and that is on record.
  bool has_orphans = false;
  bool were_orphans_hunted = false;
};

class RedisWork : public ReplyReceiver {
 public:
  // What `command` looks at, and `shared`, must outlive the work.
  RedisWork(Ticket ticket, const Command& command, WorkShared& shared)
      : ticket_(ticket), command_(command), shared_(shared) {}

  // Sends what can be sent now.
  virtual void pump(Session& session, SteadyTime now) = 0;
  virtual bool is_finished() const = 0;
  // True when it waits for the pacer only.
  virtual bool wants_wake() const { return false; }

  // When it goes on by time alone, whatever the pacer says.
  virtual std::optional<SteadyTime> wake_at() const { return std::nullopt; }
  // Why it cannot go on now; for a person. Empty: nothing holds it up.
  virtual std::string problem() const { return {}; }

  // What it counts for among those under way. A walk goes on for long with little of it in Redis at any time: nothing.
  virtual std::size_t bytes() const { return 0; }

  // Walks patterns: has a room of its own (Urgency::kBulk).
  virtual bool is_bulk() const { return false; }

  Ticket ticket() const { return ticket_; }
  const Outcome& outcome() const { return outcome_; }

 protected:
  Ticket ticket_;
  const Command command_;
  WorkShared& shared_;
  Outcome outcome_;
};

std::unique_ptr<RedisWork> make_work(Ticket ticket, const Order& order, WorkShared& shared);

// Used by works of both kinds.

// evictd's own keys begin with it: records, markers, counters. No key, member or pattern of a rule reaches them.
inline constexpr std::string_view kOwnPrefix = "evictd:";
bool is_own_key(std::string_view key);

// An error that says: the script is gone.
bool is_flushed(std::string_view error);
// A script that is gone again right after it was loaded, so often in a row: nobody flushes like this.
inline constexpr std::size_t kReloadsMax = 10;

// For a person: which key a refused call was about.
std::string about_key(std::string_view key, bool is_tag);

// {deleted, kept, replayed, refused} of lua/invalidate.lua; `with_hits`: of a call with the flag 'h'. What was read of it, about the first
// `keys` of them or fewer: the others were not done. Nothing, and nothing added, when it is none.
std::optional<InvalidateReply> add_outcome(const Reply& reply, std::size_t keys, bool with_hits, WorkShared& shared, Outcome& outcome);
// Of lua/scattered.lua: what was read of it, counted but for the keys that were not taken.
std::optional<ScatteredReply> add_outcome_of_scattered(const Reply& reply, std::size_t keys, bool with_hits, WorkShared& shared, Outcome& outcome);
// ARGV[3] of lua/invalidate.lua; `more`: flags of the call's own.
std::string command_flags(const Command& command, std::string_view more = {});
// The tokens of one item, as a marker holds them.
void append_tokens(std::string& out, const Command& command, std::size_t item);

}  // namespace evictd
