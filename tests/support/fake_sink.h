// A fake sink: a Redis small enough to look into, with the marker table of DESIGN.md in a few lines of C++.
// Passes the same contract tests as the real one; its faults are switches. The simulation reads its data.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/flow.h"
#include "daemon/interface/sink.h"
#include "mapping/check.h"

namespace evictd::testing {

class FakeSink final : public Sink {
 public:
  static constexpr const char* kPurgedMarker = "evictd:purged";
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
    std::chrono::milliseconds filled_at{0};  // filled, by the clock of the server
    SteadyTime expires{};
  };
  // Everything a Redis has, so that it can be dumped and restored.
  struct Data {
    std::map<std::string, Cached> cache;
    std::map<std::string, Marker> markers;
    std::map<std::string, std::set<std::string>> tags;  // "tag:" + tag -> keys
    std::map<std::pair<std::string, Xid>, SteadyTime> purged;  // done-markers of pattern purges, and until when they are there
    struct Counter {
      std::uint64_t number = 0;
      std::set<Xid> raised_by;
    };
    std::map<std::string, Counter> counters;
    std::optional<Record> record;
    // Evidence for the simulation. Names are keys, "tag:" + tag, and globs.
    struct Applied {
      SteadyTime first;
      SteadyTime last;  // the tombstone lives from there
    };
    std::map<std::pair<Xid, std::string>, Applied> applied;
    std::map<std::string, SteadyTime> last_delete;  // or proof that the delete was done and settled
    std::uint64_t unconditional_walks = 0;          // patterns walked without a transaction that asks for it: repairs
    int instance = 1;                               // of the server
  };

  // Two sinks over one `server` are two connections to it.
  explicit FakeSink(std::chrono::milliseconds tombstone_ttl, std::shared_ptr<Data> server = std::make_shared<Data>())
      : data(*server), server_(std::move(server)), ttl_(tombstone_ttl) {}

  Data& data;
  // Told of each first delete under `fill: plain`, with the transactions that ask for it.
  std::function<void(const std::string& name, const std::set<Xid>& xids)> on_plain_delete;

  std::vector<std::string> parts_lost;                 // what lost_parts() says
  bool loses_keys = false;                             // what is_losing_keys() says
  std::vector<std::vector<std::string>> walked_parts;  // of each unconditional walk

  // Told of each record that is stored.
  std::function<void()> on_saved;

  // Told of each record that is confirmed.
  std::function<void(std::uint64_t sequence)> on_confirmed;

  bool is_edge = false;  // has surrogate keys, no counters and no markers

  bool is_cluster = false;  // serves no rule with 'announce'

  // ---- Faults
  bool server_up = true;
  bool frozen = false;               // takes orders, answers nothing
  bool lacks_replicas = false;       // nobody confirms what is on record
  std::optional<std::string> held_up;  // what status() says
  bool refuses_records = false;      // in so many words, and the connection with it
  std::size_t confirms_after = 0;    // so many steps later
  std::size_t orders_per_turn = 4;
  std::size_t steps_per_turn = 1;    // beyond 1: slow, most steps do nothing
  std::size_t room = 8;
  std::size_t room_bulk = 2;
  // Cuts the connection after applying this many of the orders under way, replies unread. Of a walk, about half.
  void cut(std::size_t apply_first) {
    if (!connected_) return;
    for (std::size_t i = 0; i < apply_first && i < under_way_.size(); ++i) {
      if (under_way_[i].kind == UnderWay::kOrder) apply(under_way_[i].order);
      if (under_way_[i].kind == UnderWay::kSave) save(under_way_[i].record);
    }
    if (apply_first > 0 && !walks_.empty()) walk_on(walks_.front());
    cut_ = true;
  }
  // The server starts anew, with all it had (its data is on disk) or from an older state, and every connection breaks.
  static void restart(Data& server) { ++server.instance; }
  static void restore(Data& server, Data older) {
    older.instance = server.instance + 1;
    server = std::move(older);
  }

  std::uint64_t applied_orders() const { return applied_orders_; }
  bool connected() const { return connected_; }
  bool is_saving() const {
    return std::any_of(under_way_.begin(), under_way_.end(), [](const UnderWay& each) { return each.kind == UnderWay::kSave; });
  }

  // ---- What readers do
  void plain_set(const std::string& key, std::set<Xid> contains, const std::vector<std::string>& tags = {}) {
    for (const std::string& tag : tags) data.tags["tag:" + tag].insert(key);
    data.cache[key] = {std::move(contains), false};
  }

  bool checked_fill(const std::string& key, const Snapshot& seen, std::set<Xid> contains,
                    const std::vector<std::string>& tags = {}) {
    if (!allows(find_marker(key), seen) || !allows(find_marker(kPurgedMarker), seen)) return false;
    for (const std::string& tag : tags) {
      if (!allows(find_marker("tag:" + tag), seen)) return false;
    }
    for (const std::string& tag : tags) data.tags["tag:" + tag].insert(key);
    data.cache[key] = {std::move(contains), true};
    Marker filled;
    filled.snapshot = seen;
    filled.epoch = context_.epoch;
    filled.filled_at = time();
    filled.expires = SteadyTime::max();
    data.markers[key] = filled;
    return true;
  }

  // ---- Sink
  SinkTraits traits() const override { return is_edge ? SinkTraits{.has_patterns = true, .has_counters = false, .is_edge = true} : Sink::traits(); }
  void start(Now now) override { now_ = now.steady; started_ = true; }

  void step(Now now, SinkHandler& handler) override {
    now_ = now.steady;
    if (!started_) return;
    const bool is_refused = refusal(context_).has_value();
    if (connected_ && (!server_up || cut_ || is_refused || seen_instance_ != data.instance)) {
      cut_ = false;
      disconnect(handler);
      return;
    }
    cut_ = false;
    if (!connected_) {
      if (!server_up || is_refused) return;
      connected_ = true;
      seen_instance_ = data.instance;
      handler.on_sink_connected({data.record, time(), "instance-" + std::to_string(data.instance)});
      return;
    }
    if (frozen || ++turn_ < steps_per_turn) return;
    turn_ = 0;
    confirm(handler);
    for (std::size_t i = 0; i < orders_per_turn && !under_way_.empty(); ++i) {
      const UnderWay next = std::move(under_way_.front());
      under_way_.pop_front();
      switch (next.kind) {
        case UnderWay::kOrder:
          handler.on_done(next.number, apply(next.order));
          break;
        case UnderWay::kSave:
          if (refuses_records) {
            handler.on_sink_refused(Error{ErrorKind::kConnection, "fake sink: no record is taken", ""});
            return disconnect(handler);
          }
          save(next.record);
          handler.on_record_saved(next.number);
          unconfirmed_ = next.number;
          confirm(handler);
          break;
        case UnderWay::kLoad:
          handler.on_record_loaded(next.number, data.record);
          break;
      }
    }
    // A walk goes on beside them, a pattern at a time.
    if (walks_.empty()) return;
    if (!walk_on(walks_.front())) return;
    ++applied_orders_;
    const Walk done = std::move(walks_.front());
    walks_.pop_front();
    handler.on_done(done.ticket, done.outcome);
  }

  void wait_for(Waiting&) override {}
  void set_context(const SinkContext& context) override { context_ = context; }
  const SinkContext& context() const { return context_; }
  std::optional<Error> refusal(const SinkContext& context) const override {
    if (!is_cluster || context.channels.empty()) return std::nullopt;
    return Error{ErrorKind::kUsage, "a rule has 'announce', and this cache is a cluster", "leave 'announce' out"};
  }
  bool has_room(Urgency urgency) const override {
    if (!connected_) return false;
    return urgency == Urgency::kBulk ? walks_.size() < room_bulk : under_way_.size() < room;
  }
  std::vector<std::string> lost_parts() const override { return parts_lost; }
  void submit(Ticket ticket, const Order& order) override {
    EVICTD_CHECK(has_room(order.urgency()));
    check_order(order);
    if (order.is_unconditional) walked_parts.emplace_back(order.parts.begin(), order.parts.end());
    if (order.target == Target::kPatterns) {
      walks_.push_back({ticket, order, 0, {}});
    } else {
      under_way_.push_back({UnderWay::kOrder, ticket, order, {}});
    }
  }
  void save_record(const Record& record) override {
    EVICTD_CHECK(connected_);
    under_way_.push_back({UnderWay::kSave, record.sequence, {}, record});
  }
  void load_record(std::uint64_t sequence) override {
    EVICTD_CHECK(connected_);
    under_way_.push_back({UnderWay::kLoad, sequence, {}, {}});
  }
  void stop() override {
    started_ = connected_ = false;
    under_way_.clear();
    walks_.clear();
    unconfirmed_.reset();
    asked_.reset();
    told_missing_ = false;
  }
  bool is_losing_keys() const override { return loses_keys; }
  SinkStatus status() const override {
    return SinkStatus{connected_, "fake", {}, loses_keys ? std::optional<std::string>("fake sink: keys are evicted") : std::nullopt, held_up};
  }

 private:
  struct UnderWay {
    enum Kind { kOrder, kSave, kLoad } kind = kOrder;
    std::uint64_t number = 0;  // the ticket, or the sequence
    Order order;
    Record record;
  };
  struct Walk {
    Ticket ticket = 0;
    Order order;
    std::size_t next_pattern = 0;
    Outcome outcome;
  };

  void save(const Record& record) {
    data.record = record;
    if (on_saved) on_saved();
  }
  void confirm(SinkHandler& handler) {
    if (lacks_replicas != told_missing_ && (unconfirmed_ || told_missing_)) {
      told_missing_ = lacks_replicas;
      handler.on_replicas_missing(lacks_replicas ? std::optional(Error{ErrorKind::kConnection, "fake sink: nobody confirms it", ""}) : std::nullopt);
    }
    if (lacks_replicas) return;
    if (!asked_) asked_ = unconfirmed_;
    if (!asked_ || ++confirming_steps_ <= confirms_after) return;
    confirming_steps_ = 0;
    if (asked_ == unconfirmed_) unconfirmed_.reset();
    if (on_confirmed) on_confirmed(*asked_);
    handler.on_record_confirmed(*std::exchange(asked_, std::nullopt));
  }
  void disconnect(SinkHandler& handler) {
    connected_ = false;
    unconfirmed_.reset();
    asked_.reset();
    told_missing_ = false;
    const auto lost = std::exchange(under_way_, {});
    const auto lost_walks = std::exchange(walks_, {});
    handler.on_sink_disconnected(Error{ErrorKind::kConnection, "fake sink: connection lost", ""}, "connection");
    for (const UnderWay& each : lost) {
      if (each.kind == UnderWay::kOrder) handler.on_lost(each.number);
    }
    for (const Walk& walk : lost_walks) handler.on_lost(walk.ticket);
  }

  std::chrono::milliseconds time() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch());
  }

  static void check_order(const Order& order) {
    if (order.target == Target::kPatterns) {
      EVICTD_CHECK(!order.patterns.empty() && order.rule == nullptr && order.texts == nullptr);
      EVICTD_CHECK(order.is_unconditional ? order.xids.empty() : !order.xids.empty());
      EVICTD_CHECK(std::is_sorted(order.xids.begin(), order.xids.end()));
      return;
    }
    const Texts& texts = *order.texts;
    EVICTD_CHECK(order.rule != nullptr && !texts.items.empty());
    EVICTD_CHECK(texts.items.back().text_end == texts.texts.size());
    EVICTD_CHECK(texts.items.back().xids_end == texts.xids.size());
    std::set<std::string_view> distinct;
    for (std::size_t i = 0; i < texts.size(); ++i) EVICTD_CHECK(distinct.insert(texts.text(i)).second);
  }

  // Everything visible in `older` is visible in `newer`.
  static bool covers(const Snapshot& newer, const Snapshot& older) {
    for (std::uint64_t xid = number(newer.xmin()); xid < number(older.xmax()); ++xid) {
      if (older.sees(Xid{xid}) && !newer.sees(Xid{xid})) return false;
    }
    return true;
  }

  static bool allows(const Marker* marker, const Snapshot& seen) {
    if (marker == nullptr) return true;
    if (marker->is_tombstone) {
      const auto sees = [&](Xid xid) { return seen.sees(xid); };
      if (!std::all_of(marker->xids.begin(), marker->xids.end(), sees)) return false;
      if (number(marker->floor) != 0 && seen.xmin() <= marker->floor) return false;
    }
    return !marker->snapshot || covers(seen, *marker->snapshot);
  }

  Marker* find_marker(const std::string& name) {
    const auto found = data.markers.find(name);
    if (found == data.markers.end()) return nullptr;
    if (found->second.expires > now_) return &found->second;
    data.markers.erase(found);
    return nullptr;
  }

  // How one name is to be treated.
  struct How {
    const Order& order;
    bool trusts_filled = false;
    std::set<Xid> xids;
  };

  Outcome apply(const Order& order) {
    ++applied_orders_;
    Outcome outcome;
    const Texts& texts = *order.texts;
    for (std::uint32_t item = 0; item < texts.size(); ++item) {
      const std::uint32_t begin = item == 0 ? 0 : texts.items[item - 1].xids_end;
      EVICTD_CHECK((order.target == Target::kSurrogates) == is_edge);
      const How how{order, order.rule->fill == FillMode::kChecked && !is_edge,
                    std::set<Xid>(texts.xids.begin() + begin, texts.xids.begin() + texts.items[item].xids_end)};
      const std::string text(texts.text(item));
      switch (order.target) {
        case Target::kCounters:
          raise(how, text, outcome);
          break;
        case Target::kTags:
          apply_tag(how, "tag:" + text, outcome);
          break;
        case Target::kKeys:
          apply_one(how, text, outcome);
          break;
        case Target::kSurrogates:
          apply_one(how, text, outcome);
          break;
        case Target::kSemantic:    // held to by tests with real servers
        case Target::kPatterns:
          break;
      }
    }
    return outcome;
  }

  // True when it is over.
  bool walk_on(Walk& walk) {
    const PatternRef& ref = walk.order.patterns[walk.next_pattern++];
    EVICTD_CHECK(ref.pattern->is_surrogate == is_edge);
    const How how{walk.order, ref.rule->fill == FillMode::kChecked && !is_edge,
                  std::set<Xid>(walk.order.xids.begin(), walk.order.xids.end())};
    Outcome outcome;
    purge(how, *ref.pattern, outcome);
    walk.outcome.by_pattern.push_back(outcome);
    walk.outcome += outcome;
    return walk.next_pattern == walk.order.patterns.size();
  }

  void raise(const How& how, const std::string& counter, Counts& counts) {
    Data::Counter& known = data.counters[counter];
    std::uint64_t fresh = 0;
    for (const Xid xid : how.xids) fresh += known.raised_by.insert(xid).second ? 1 : 0;
    known.number += fresh;
    ++(fresh > 0 ? counts.deleted : counts.replayed);
  }

  static bool matches(const std::string& glob, const std::string& name) {
    EVICTD_CHECK(!glob.empty() && glob.find('*') >= glob.size() - 1);  // a prefix, or one name
    if (glob.back() != '*') return name == glob;
    return name.compare(0, glob.size() - 1, glob, 0, glob.size() - 1) == 0;
  }

  void purge(const How& how, const Pattern& pattern, Counts& counts) {
    const std::string& glob = pattern.glob;
    if (how.order.is_unconditional) ++data.unconditional_walks;
    const bool leaves_tombstone = how.trusts_filled && !pattern.is_bump;
    Marker* tombstone = leaves_tombstone ? find_marker(kPurgedMarker) : nullptr;
    const auto is_done = [&](Xid xid) {
      const auto done = data.purged.find({glob, xid});
      return done != data.purged.end() && done->second > now_ && (!leaves_tombstone || (tombstone != nullptr && tombstone->xids.count(xid) != 0));
    };
    if ((how.trusts_filled || pattern.is_bump) && !how.order.is_unconditional && std::all_of(how.xids.begin(), how.xids.end(), is_done)) {
      ++counts.replayed;
      for (const Xid xid : how.xids) data.purged[{glob, xid}] = now_ + ttl_ + kTombstoneMargin;
      if (tombstone != nullptr) tombstone->expires = std::max(tombstone->expires, now_ + ttl_ + kTombstoneMargin);
      return;
    }
    // For keys that are absent now: every fill looks here as well.
    if (leaves_tombstone) leave_tombstone(how, kPurgedMarker);
    if (pattern.is_bump) {
      for (auto& [name, counter] : data.counters) {
        if (matches(glob, name)) ++counter.number;
      }
    } else if (pattern.is_tag) {
      std::vector<std::string> names;
      for (const auto& [name, keys] : data.tags) {
        if (matches(glob, name)) names.push_back(name);
      }
      for (const std::string& name : names) apply_tag(how, name, counts);
    } else {
      std::vector<std::string> keys;
      for (const auto& [key, cached] : data.cache) {
        if (matches(glob, key)) keys.push_back(key);
      }
      for (const std::string& key : keys) apply_one(how, key, counts);
    }
    if (how.order.act == Act::kSettle || how.order.is_settle) {
      for (const Xid xid : how.xids) data.purged[{glob, xid}] = now_ + ttl_ + kTombstoneMargin;
    }
    note_applied(how.xids, glob);
    data.last_delete[glob] = now_;
  }

  void note_applied(const std::set<Xid>& xids, const std::string& name) {
    for (const Xid xid : xids) data.applied.try_emplace({xid, name}, Data::Applied{now_, now_}).first->second.last = now_;
  }

  // Its tombstone first, for readers that have not listed their key yet; then each member. Memberships stay: somebody may
  // still count on them.
  void apply_tag(const How& how, const std::string& name, Counts& counts) {
    Counts of_tag;
    const std::set<std::string> members = data.tags[name];
    apply_one(how, name, of_tag);
    for (const std::string& key : members) apply_one(how, key, counts);
  }

  void apply_one(const How& how, const std::string& name, Counts& counts) {
    const Order& order = how.order;
    const std::set<Xid>& xids = how.xids;
    note_applied(xids, name);
    if (!how.trusts_filled) {
      // `fill: plain`: deleted, and nothing is left behind.
      if (order.act == Act::kInvalidate && !order.is_settle && !order.is_unconditional && on_plain_delete) {
        on_plain_delete(name, xids);
      }
      ++(data.cache.erase(name) != 0 ? counts.deleted : counts.absent);
      data.last_delete[name] = now_;
      return;
    }
    Marker* marker = find_marker(name);
    const bool same_epoch = marker != nullptr && marker->epoch == context_.epoch && !order.is_unconditional;
    const bool filled_sees = same_epoch && !marker->is_tombstone && marker->snapshot &&
                             marker->filled_at >= context_.trust_since &&
                             std::all_of(xids.begin(), xids.end(), [&](Xid xid) { return marker->snapshot->sees(xid); });
    const bool remembered = same_epoch && marker->is_tombstone &&
                            std::includes(marker->xids.begin(), marker->xids.end(), xids.begin(), xids.end());
    if (filled_sees) {
      ++counts.kept;
      data.last_delete[name] = now_;
      return;
    }
    const bool owes_settle = order.act == Act::kSettle || order.is_settle;
    if (remembered && order.act != Act::kRenew && (marker->settled || !owes_settle)) {
      ++counts.replayed;
      // A tombstone must outlive the visibility of its transactions: whoever asks again may still wait for it.
      marker->expires = std::max(marker->expires, now_ + ttl_ + kTombstoneMargin);
      if (marker->settled) data.last_delete[name] = now_;
      return;
    }
    if (order.act == Act::kRenew && remembered) {
      marker->expires = now_ + ttl_ + kTombstoneMargin;
      return;
    }
    ++(data.cache.erase(name) != 0 ? counts.deleted : counts.absent);
    data.last_delete[name] = now_;
    if (owes_settle) {
      if (remembered) {
        marker->settled = std::includes(xids.begin(), xids.end(), marker->xids.begin(), marker->xids.end());
        return;
      }
      if (order.act == Act::kSettle && marker != nullptr && marker->is_tombstone) return;
    }
    leave_tombstone(how, name);
  }

  void leave_tombstone(const How& how, const std::string& name) {
    const Order& order = how.order;
    const std::set<Xid>& xids = how.xids;
    const Marker* marker = find_marker(name);
    Marker tombstone;
    tombstone.is_tombstone = true;
    if (marker != nullptr && marker->is_tombstone && marker->epoch == context_.epoch) tombstone = *marker;
    tombstone.epoch = context_.epoch;
    // Settled speaks for every transaction remembered: one that still owes its settle clears it.
    const bool others_settled = tombstone.settled || std::includes(xids.begin(), xids.end(), tombstone.xids.begin(),
                                                                   tombstone.xids.end());
    tombstone.xids.insert(xids.begin(), xids.end());
    if (marker != nullptr) tombstone.snapshot = marker->snapshot;
    tombstone.floor = std::max(tombstone.floor, order.is_unconditional ? order.floor : Xid{});
    tombstone.settled = others_settled && (order.is_settle || (order.act == Act::kSettle && !order.is_unconditional));
    tombstone.expires = now_ + ttl_ + kTombstoneMargin;
    data.markers[name] = tombstone;
  }

  const std::shared_ptr<Data> server_;
  std::chrono::milliseconds ttl_;
  SinkContext context_;
  SteadyTime now_{};
  std::deque<UnderWay> under_way_;
  std::deque<Walk> walks_;
  std::optional<std::uint64_t> unconfirmed_;  // the last record that is stored, if nobody confirmed it
  std::optional<std::uint64_t> asked_;        // the one that is being confirmed
  std::size_t confirming_steps_ = 0;
  bool told_missing_ = false;
  std::size_t turn_ = 0;
  bool started_ = false, connected_ = false, cut_ = false;
  int seen_instance_ = 0;
  std::uint64_t applied_orders_ = 0;
};

// The lanes of a daemon with one cache, called as a configuration without `caches` calls it.
inline std::vector<LaneSpec> one_cache(Sink& sink) {
  LaneSpec lane;
  lane.name = "redis";
  lane.sink = &sink;
  return {lane};
}

}  // namespace evictd::testing
