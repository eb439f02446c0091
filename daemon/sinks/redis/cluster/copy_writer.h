// The copies of the record that are written, one to each master (topology/record_copies.h): how, and when the record is stored.
//
//   script ── on a cluster whose rules need scripts: it writes on a full server, too
//   SET ── OOM ──► EVAL (the same script, which nobody may have loaded) ── refused ──► SET again, each second
//     └── where all rules ask for deletes only: the user may have no right to scripts, or Redis none
//
// A record is stored when each of its copies is. One record at a time is written; a copy that nobody waits for any more is never sent
// again: its master may have lost data since, for which it would vouch (G6). For the same reason a copy is stored only where the one
// before it still is, be it that it was stored here or that it was read and believed: a master whose data was flushed since is lost. (Where
// others write the record, too, any copy will do.) Bounds: a copy for each master.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/sinks/redis/cluster/calls.h"
#include "daemon/sinks/redis/topology/record_copies.h"

namespace evictd {

class CopyWriter {
 public:
  // `routes` must outlive it.
  CopyWriter(CallRoutes& routes, std::string record_key) : routes_(routes), record_key_(std::move(record_key)) {}

  struct Means {
    bool may_use_scripts = true;
    bool is_ours_alone = false;  // nobody else writes the record
    bool is_shared = false;      // others do
  };
  // `written`: by the system's clock.
  void save(const Record& record, std::chrono::milliseconds written, Means means);
  // A copy that was read, and proved what the master has: the next one is stored only where it is.
  void found(const HostPort& master, Slot slot, std::uint64_t sequence);
  // Where each master's copy lies: where it was written last, as long as that slot is the master's.
  std::vector<Slot> slots() const;
  // REQUIRES: it has slots.
  Slot slot_of(const HostPort& master) const;

  // Copies that a full master refused, when it is time.
  void retry(SteadyTime now);
  SteadyTime wake_at() const { return refused_.empty() ? SteadyTime::max() : retry_due_; }

  // Of kSaveCalls, as CallAnswers has them.
  bool on_reply(const Call& call, const Reply& reply);
  bool on_error(const Call& call, std::string_view text, std::string& about, SteadyTime now);
  // Somebody still waits for it.
  bool awaits(const Call& call) const { return under_way_.contains(call.tag); }

  // The record that is stored since the last call.
  std::optional<StoredRecord> take_stored() { return std::exchange(stored_, std::nullopt); }
  // A master that no longer has the copy that was stored there: what it had may be gone. Nobody is waited for any more.
  std::optional<HostPort> take_lost() { return std::exchange(lost_, std::nullopt); }
  // Who was too full for its copy, until all are stored; empty: nobody.
  const std::string& full() const { return full_; }
  // The connection is lost, and with it what was under way.
  void forget();

 private:
  enum class Way : std::uint8_t { kScript, kSet, kScriptIfFull };
  struct Copy {
    HostPort master;
    Slot slot = 0;
    std::optional<std::uint64_t> former;  // the sequence of the copy that has to be there
    std::string key;
    std::string text;
    Way way = Way::kScript;
  };
  struct Save {
    StoredRecord record;
    std::size_t missing = 0;  // copies that are not stored
  };
  void send(Copy copy, Way way);

  CallRoutes& routes_;
  const std::string record_key_;
  std::map<HostPort, Slot> last_slots_;
  struct Stored {
    Slot slot = 0;
    std::uint64_t sequence = 0;
  };
  std::map<HostPort, Stored> last_stored_;  // or found, in this connection
  std::optional<Save> save_;
  std::map<std::uint64_t, Copy> under_way_;  // by tag
  std::uint64_t next_tag_ = 0;
  std::vector<Copy> refused_;  // neither SET nor a script could store them
  SteadyTime retry_due_{};
  std::string full_;
  std::optional<StoredRecord> stored_;
  std::optional<HostPort> lost_;
};

}  // namespace evictd
