// A fake sink: a Redis small enough to look into, with the marker table of the design in a few lines of C++.
// Passes the same contract tests as the real one; its faults are switches. The simulation reads its data.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/interface/sink.h"
#include "mapping/check.h"

namespace evictd::testing {

class FakeSink final : public Sink {
 public:
  struct Cached {
    std::set<Xid> contains;  // the transactions whose change is in the value
    bool checked = false;
  };
  struct Marker {
    bool is_tombstone = false;
    std::set<Xid> xids;                // tombstone
    Xid floor{};                       // tombstone: fills need an xmin beyond it
    bool settled = false;              // tombstone
    std::optional<Snapshot> snapshot;  // filled; of a tombstone: of the fill it replaced, which fills must cover
    Epoch epoch;
    SteadyTime expires{};
  };
  // Everything a Redis has, so that it can be dumped and restored.
  struct Data {
    std::map<std::string, Cached> cache;
    std::map<std::string, Marker> markers;
    std::set<std::pair<std::string, Xid>> purged;  // done-markers of pattern purges
    struct Counter {
      std::uint64_t number = 0;
      std::set<Xid> raised_by;
    };
    std::map<std::string, Counter> counters;
    std::optional<Record> record;
    // Evidence for the simulation.
    std::map<std::pair<std::string, Xid>, SteadyTime> first_applied;
    std::map<std::string, SteadyTime> last_delete;  // or proof that the delete was done and settled
    int instance = 1;  // of the server
  };

  // Two sinks over one `server` are two connections to it.
  explicit FakeSink(std::chrono::milliseconds tombstone_ttl, std::shared_ptr<Data> server = std::make_shared<Data>())
      : data(*server), server_(std::move(server)), ttl_(tombstone_ttl) {}

  Data& data;

  // ---- Faults
  bool server_up = true;
  bool frozen = false;             // takes commands, answers nothing
  std::size_t commands_per_step = 4;
  std::size_t room = 8;
  // Cuts the connection after applying this many of the commands under way, replies unread.
  void cut(std::size_t apply_first) {
    if (!connected_) return;
    for (std::size_t i = 0; i < apply_first && i < under_way_.size(); ++i) {
      if (under_way_[i].command) apply(*under_way_[i].command);
    }
    cut_ = true;
  }
  // The server starts anew from an older state; every connection breaks.
  static void restore(Data& server, Data older) {
    older.instance = server.instance + 1;
    server = std::move(older);
  }

  std::uint64_t applied_commands() const { return applied_commands_; }
  std::uint64_t fresh_values_deleted_by_replay() const { return fresh_deleted_by_replay_; }
  bool connected() const { return connected_; }

  // ---- What readers do
  void plain_set(const std::string& key, std::set<Xid> contains) { data.cache[key] = {std::move(contains), false}; }

  bool checked_fill(const std::string& key, const Snapshot& seen, std::set<Xid> contains) {
    Marker* marker = find_marker(key);
    if (marker != nullptr && marker->is_tombstone) {
      const auto sees = [&](Xid xid) { return seen.sees(xid); };
      if (!std::all_of(marker->xids.begin(), marker->xids.end(), sees)) return false;
      if (number(marker->floor) != 0 && seen.xmin() <= marker->floor) return false;
    }
    if (marker != nullptr && marker->snapshot && !covers(seen, *marker->snapshot)) {
      return false;
    }
    data.cache[key] = {std::move(contains), true};
    Marker filled;
    filled.snapshot = seen;
    filled.epoch = context_.epoch;
    filled.expires = SteadyTime::max();
    data.markers[key] = filled;
    return true;
  }

  // ---- Sink
  void start(Now now) override { now_ = now.steady; started_ = true; }

  void step(Now now, SinkHandler& handler) override {
    now_ = now.steady;
    if (!started_) {
      connected_ = false;
      for (const UnderWay& each : std::exchange(under_way_, {})) {
        if (each.command) handler.on_lost(each.ticket);
      }
      return;
    }
    if (connected_ && (!server_up || cut_ || seen_instance_ != data.instance)) {
      connected_ = cut_ = false;
      const auto lost = std::move(under_way_);
      under_way_.clear();
      handler.on_sink_disconnected(Error{ErrorKind::kConnection, "fake sink: connection lost", ""}, "connection");
      for (const UnderWay& each : lost) {
        if (each.command) handler.on_lost(each.ticket);
      }
      return;
    }
    cut_ = false;
    if (!connected_) {
      if (!server_up) return;
      connected_ = true;
      seen_instance_ = data.instance;
      handler.on_sink_connected({data.record, std::chrono::milliseconds(0), "instance-" + std::to_string(data.instance)});
      return;
    }
    for (std::size_t i = 0; i < commands_per_step && !frozen && !under_way_.empty(); ++i) {
      const UnderWay next = under_way_.front();
      under_way_.pop_front();
      if (next.command) {
        handler.on_done(next.ticket, apply(*next.command));
      } else if (!next.record) {
        handler.on_record_loaded(next.ticket, data.record);
      } else {
        data.record = next.record;
        handler.on_record_saved(next.ticket);
      }
    }
  }

  void wait_for(Waiting&) override {}
  void set_context(const SinkContext& context) override { context_ = context; }
  bool has_room() const override { return connected_ && under_way_.size() < room; }
  void submit(Ticket ticket, const Command& command) override {
    EVICTD_CHECK(has_room());
    check_command(command);
    under_way_.push_back({ticket, &command, {}});
  }
  void save_record(const Record& record, std::uint64_t sequence) override {
    EVICTD_CHECK(connected_);
    under_way_.push_back({sequence, nullptr, record});
  }
  void load_record(std::uint64_t sequence) override {
    EVICTD_CHECK(connected_);
    under_way_.push_back({sequence, nullptr, std::nullopt});
  }
  void stop() override { started_ = false; }
  SinkStatus status() const override { return SinkStatus{connected_, "fake", {}, {}}; }

 private:
  struct UnderWay {
    Ticket ticket;
    const Command* command;        // null: a record
    std::optional<Record> record;  // to save; none: to load
  };

  static void check_command(const Command& command) {
    EVICTD_CHECK(!command.items.empty());
    EVICTD_CHECK(command.items.back().text_end == command.texts.size());
    EVICTD_CHECK(command.unconditional || command.items.back().xids_end == command.xids.size());
    std::set<std::string_view> distinct;
    for (std::size_t i = 0; i < command.size(); ++i) EVICTD_CHECK(distinct.insert(command.text(i)).second);
  }

  // Everything visible in `older` is visible in `newer`.
  static bool covers(const Snapshot& newer, const Snapshot& older) {
    for (std::uint64_t xid = number(newer.xmin()); xid < number(older.xmax()); ++xid) {
      if (older.sees(Xid{xid}) && !newer.sees(Xid{xid})) return false;
    }
    return true;
  }

  Marker* find_marker(const std::string& key) {
    const auto found = data.markers.find(key);
    if (found == data.markers.end()) return nullptr;
    if (found->second.expires > now_) return &found->second;
    data.markers.erase(found);
    return nullptr;
  }

  Outcome apply(const Command& command) {
    ++applied_commands_;
    Outcome outcome;
    for (std::uint32_t item = 0; item < command.size(); ++item) {
      const std::uint32_t begin = item == 0 ? 0 : command.items[item - 1].xids_end;
      const std::set<Xid> xids(command.xids.begin() + begin,
                               command.xids.begin() + (command.unconditional ? begin : command.items[item].xids_end));
      const std::string text(command.text(item));
      if (command.target == Target::kCounters || command.pattern_of == PatternOf::kCounters) {
        raise(command, text, xids, outcome);
      } else if (command.target == Target::kPattern) {
        purge(command, text, xids, outcome);
      } else {
        apply_one(command, text, xids, item, outcome);
      }
    }
    return outcome;
  }

  void raise(const Command& command, const std::string& counter, const std::set<Xid>& xids, Outcome& outcome) {
    Data::Counter& known = data.counters[counter];
    if (command.target == Target::kPattern) {
      ++known.number;
      ++outcome.deleted;
      return;
    }
    std::uint64_t fresh = 0;
    for (const Xid xid : xids) fresh += known.raised_by.insert(xid).second ? 1 : 0;
    known.number += fresh;
    ++(fresh > 0 ? outcome.deleted : outcome.replayed);
  }

  void purge(const Command& command, const std::string& glob, const std::set<Xid>& xids, Outcome& outcome) {
    EVICTD_CHECK(glob.back() == '*');
    const auto is_done = [&](Xid xid) { return data.purged.count({glob, xid}) != 0; };
    if (!command.unconditional && std::all_of(xids.begin(), xids.end(), is_done)) {
      ++outcome.replayed;
      return;
    }
    const std::string prefix = glob.substr(0, glob.size() - 1);
    std::vector<std::string> keys;
    for (const auto& [key, cached] : data.cache) {
      if (key.compare(0, prefix.size(), prefix) == 0) keys.push_back(key);
    }
    for (const std::string& key : keys) apply_one(command, key, xids, 0, outcome);
    if (command.act == Act::kSettle || command.settled) {
      for (const Xid xid : xids) data.purged.insert({glob, xid});
    }
    for (const Xid xid : xids) data.first_applied.try_emplace({glob, xid}, now_);
    data.last_delete[glob] = now_;
  }

  void apply_one(const Command& command, const std::string& key, const std::set<Xid>& xids, std::uint32_t item,
                 Outcome& outcome) {
    for (const Xid xid : xids) data.first_applied.try_emplace({key, xid}, now_);
    Marker* marker = find_marker(key);
    const bool same_epoch = marker != nullptr && marker->epoch == context_.epoch;
    const bool filled_sees = marker != nullptr && !marker->is_tombstone && marker->snapshot && same_epoch && !command.unconditional &&
                             std::all_of(xids.begin(), xids.end(), [&](Xid xid) { return marker->snapshot->sees(xid); });
    const bool remembered = marker != nullptr && marker->is_tombstone && same_epoch && !command.unconditional &&
                            std::includes(marker->xids.begin(), marker->xids.end(), xids.begin(), xids.end());
    if (filled_sees && command.trust_filled) {
      ++outcome.kept;
      data.last_delete[key] = now_;
      return;
    }
    const bool owes_settle = command.act == Act::kSettle || command.settled;
    if (remembered && command.act != Act::kRenew && (marker->settled || !owes_settle)) {
      ++outcome.replayed;
      // A tombstone must outlive the visibility of its transactions: whoever asks again may still wait for it.
      marker->expires = std::max(marker->expires, now_ + ttl_ + kTombstoneMargin);
      if (marker->settled) {
        outcome.already_settled.push_back(item);
        data.last_delete[key] = now_;
      }
      return;
    }
    if (command.act == Act::kRenew && remembered) {
      marker->expires = now_ + ttl_ + kTombstoneMargin;
      return;
    }
    if (remembered && marker->settled) {
      const auto cached = data.cache.find(key);
      if (cached != data.cache.end() &&
          std::includes(cached->second.contains.begin(), cached->second.contains.end(), xids.begin(), xids.end())) {
        ++fresh_deleted_by_replay_;
      }
    }
    ++(data.cache.erase(key) != 0 ? outcome.deleted : outcome.absent);
    data.last_delete[key] = now_;
    if (owes_settle) {
      if (remembered) {
        marker->settled = std::includes(xids.begin(), xids.end(), marker->xids.begin(), marker->xids.end());
        return;
      }
      if (command.act == Act::kSettle && marker != nullptr && marker->is_tombstone) return;
    }
    Marker tombstone;
    tombstone.is_tombstone = true;
    if (marker != nullptr && marker->is_tombstone && same_epoch) tombstone = *marker;
    tombstone.epoch = context_.epoch;
    // Settled speaks for every transaction remembered: one that still owes its settle clears it.
    const bool others_settled = tombstone.settled || std::includes(xids.begin(), xids.end(), tombstone.xids.begin(),
                                                                   tombstone.xids.end());
    tombstone.xids.insert(xids.begin(), xids.end());
    if (marker != nullptr) tombstone.snapshot = marker->snapshot;
    tombstone.floor = std::max(tombstone.floor, command.unconditional ? command.floor : Xid{});
    tombstone.settled = others_settled && (command.settled || (command.act == Act::kSettle && !command.unconditional));
    tombstone.expires = now_ + ttl_ + kTombstoneMargin;
    data.markers[key] = tombstone;
  }

  const std::shared_ptr<Data> server_;
  std::chrono::milliseconds ttl_;
  SinkContext context_;
  SteadyTime now_{};
  std::deque<UnderWay> under_way_;
  bool started_ = false, connected_ = false, cut_ = false;
  int seen_instance_ = 0;
  std::uint64_t applied_commands_ = 0;
  std::uint64_t fresh_deleted_by_replay_ = 0;
};

}  // namespace evictd::testing
