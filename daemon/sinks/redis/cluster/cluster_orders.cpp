#include "daemon/sinks/redis/cluster/cluster_orders.h"

#include <algorithm>
#include <map>
#include <set>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/hunt.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/topology/record_copies.h"
#include "daemon/sinks/redis/walk.h"
#include "daemon/sinks/redis/walk_call.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Calls of one order that wait for their answers.
constexpr std::size_t kCallsMax = 2048;
// Keys, and transactions of them, in one call. A master serves nobody else during a script call: about 1 ms.
constexpr std::size_t kGatheredKeys = 256;
constexpr std::size_t kGatheredXids = 1024;
constexpr std::size_t kTagWalksMax = 16;

std::string unlink_call(std::string_view key) {
  std::string bytes;
  append_command(bytes, {"UNLINK", key});
  return bytes;
}

// Of one script call about `keys`, all of one slot.
std::string script_call(Script which, std::initializer_list<std::string_view> keys, const Command& command, std::string_view flags,
                        std::string_view tokens, const WorkShared& shared) {
  std::string bytes;
  append_command_head(bytes, 3 + keys.size() + 5);
  append_argument(bytes, "EVALSHA");
  append_argument(bytes, script(which).sha1);
  append_argument(bytes, keys.size());
  for (const std::string_view key : keys) append_argument(bytes, key);
  append_argument(bytes, shared.context.epoch);
  append_argument(bytes, shared.lifetime);
  append_argument(bytes, command_flags(command, flags));
  append_argument(bytes, shared.since);
  append_argument(bytes, tokens);
  return bytes;
}

struct KeyCall {
  std::string bytes;
  std::optional<Script> script;
};

// Whether a key's marker is in another slot than the key.
bool is_apart(std::string_view key) { return key.find('}') != std::string_view::npos && slot_of(marker_name_of(std::string(key))) != slot_of(key); }

// Of one key: deleted, invalidated or raised. A key such as 'a}b' has its marker in another slot: no reader's function can work with
// the two, so it is like a plain one; a counter of such a name forgets who raised it, and is raised again at a replay (a miss).
KeyCall key_call(std::string_view key, const Command& command, bool is_plain, bool is_counter, std::string_view flags, std::string_view tokens,
                 const WorkShared& shared) {
  if (is_counter && is_apart(key)) {
    KeyCall made;
    append_command(made.bytes, {"INCR", key});
    return made;
  }
  if (is_plain || is_apart(key)) return {unlink_call(key), std::nullopt};
  const std::string marker = marker_name_of(key);
  const Script which = is_counter ? Script::kRaise : Script::kInvalidate;
  return {script_call(which, {key, marker}, command, flags, tokens, shared), which};
}

// What one key's call says.
bool add_one(const Call& call, const Command& command, bool is_counter, const Reply& reply, WorkShared& shared, Outcome& outcome) {
  if (call.script) return add_outcome(reply, 1, command.tells_hits, shared, outcome).has_value();
  if (is_counter) {
    if (reply.kind != Reply::Kind::kInteger) return false;
    ++outcome.deleted;
    return true;
  }
  const auto deleted = read_count(reply, 1);
  if (!deleted) return false;
  outcome.deleted += *deleted;
  outcome.absent += 1 - *deleted;
  return true;
}

// ------------------------------------------------------------- Keys, counters, lazy tags

class KeysOrder final : public ClusterOrder {
 public:
  KeysOrder(Ticket ticket, std::uint64_t id, const Command& command, WorkShared& shared, ClusterRoutes& routes, std::string_view record_key)
      : ClusterOrder(ticket, id, shared, routes), command_(command), is_plain_(is_plain(command)), record_key_(record_key) {}

  void pump(SteadyTime now) override {
    now_ = now;
    if (!is_begun_) {
      is_begun_ = true;
      begin(now);
    }
    while (!alone_.empty() && under_way_ < kCallsMax) {
      call_alone(alone_.back());
      alone_.pop_back();
    }
  }

  bool on_reply(const Call& call, Reply&& reply, SteadyTime now) override {
    if (call.tag >= kGatheredTag) return on_gathered(call, reply, now);
    if (call.tag >= command_.size()) {  // of the record's copies
      if (!read_count(reply, 1)) return false;
      outcome_.deleted = std::max<std::uint64_t>(outcome_.deleted, static_cast<std::uint64_t>(reply.integer));
    } else if (!add_item(call, call.tag, reply, outcome_)) {
      return false;
    }
    --under_way_;
    return true;
  }

  bool on_error(const Call& call, std::string_view, std::string& about) override {
    if (call.tag >= kGatheredTag) {
      // Asked for alone, each says what is wrong with it.
      Gathered& gathered = gathered_.at(call.tag);
      if (!is_plain_) {
        routes_.scattered().saw(0, gathered.items.size(), now_);
        alone_.insert(alone_.end(), gathered.items.begin(), gathered.items.end());
        gathered.items.clear();
      } else {
        if (call.answered == 0) gathered = {std::move(gathered.items)};
        gathered.elsewhere.push_back(gathered.items[call.answered]);
      }
      end_if_last(call);
      return true;
    }
    if (call.tag < command_.size()) about = about_key(command_.text(call.tag), command_.target == Target::kTags);
    return false;
  }

  // Its keys are others' now.
  void on_gone(const Call& call) override {
    const auto gathered = gathered_.find(call.tag);
    if (gathered == gathered_.end()) return;
    alone_.insert(alone_.end(), gathered->second.items.begin(), gathered->second.items.end());
    gathered_.erase(gathered);
    --under_way_;
  }

  bool is_finished() const override { return is_begun_ && alone_.empty() && under_way_ == 0; }

 private:
  static constexpr std::uint64_t kGatheredTag = std::uint64_t{1} << 32;  // and beyond; items lie below

  // Keys of one master, in one call.
  struct Gathered {
    std::vector<std::uint32_t> items;
    // Of UNLINKs, which are answered one by one, and all again when the connection is lost in between.
    Outcome outcome = {};
    std::vector<std::uint32_t> elsewhere = {};
  };

  void begin(SteadyTime now) {
    const bool is_gathered = command_.target == Target::kKeys &&
                             (is_plain_ || (command_.grace.count() == 0 && routes_.scattered().may_try(now)));
    struct Open {
      const HostPort* master = nullptr;
      std::vector<std::uint32_t> items;
      std::size_t xids = 0;
    };
    std::vector<Open> open;
    for (std::size_t i = 0; i < command_.size(); ++i) {
      const std::string_view text = command_.text(i);
      if (command_.target != Target::kTags && !command_.unconditional && is_own_key(text)) {
        ++outcome_.absent;
        ++shared_.skipped.own_keys;
        continue;
      }
      const auto item = static_cast<std::uint32_t>(i);
      const bool is_alone = !is_gathered || (command_.unconditional && text == record_key_) || (!is_plain_ && is_apart(text));
      const HostPort* master = is_alone ? nullptr : routes_.slots().owner(slot_of(text));
      if (master == nullptr) {
        alone_.push_back(item);
        continue;
      }
      auto one = std::find_if(open.begin(), open.end(), [&](const Open& known) { return known.master == master; });
      if (one == open.end()) one = open.insert(open.end(), Open{master, {}, 0});
      one->items.push_back(item);
      one->xids += command_.items[i].xids_end - (i == 0 ? 0 : command_.items[i - 1].xids_end);
      if (one->items.size() < kGatheredKeys && one->xids < kGatheredXids) continue;
      call_together(*one->master, std::move(one->items));
      one->items.clear();
      one->xids = 0;
    }
    for (Open& one : open) {
      if (one.items.size() == 1) {
        alone_.push_back(one.items.front());
      } else if (!one.items.empty()) {
        call_together(*one.master, std::move(one.items));
      }
    }
  }

  void call_together(const HostPort& master, std::vector<std::uint32_t> items) {
    Call call;
    call.order = id_;
    call.tag = next_gathered_++;
    call.node = master;
    call.keys = static_cast<std::uint32_t>(items.size());
    if (is_plain_) {
      call.commands = call.keys;
      for (const std::uint32_t item : items) append_command(call.bytes, {"UNLINK", command_.text(item)});
    } else {
      call.script = Script::kScattered;
      append_scattered(call.bytes, items);
    }
    ++under_way_;
    gathered_.emplace(call.tag, Gathered{std::move(items)});
    routes_.send(std::move(call));
  }

  void append_scattered(std::string& out, const std::vector<std::uint32_t>& items) {
    // One text of tokens for all, where it is the same: a transaction of many rows.
    std::string tokens;
    std::vector<std::size_t> ends;
    bool is_shared = true;
    for (const std::uint32_t item : items) {
      const std::size_t begin = tokens.size();
      append_tokens(tokens, command_, item);
      if (!ends.empty() && is_shared) is_shared = std::string_view(tokens).substr(begin) == std::string_view(tokens).substr(0, ends.front());
      ends.push_back(tokens.size());
    }
    append_command_head(out, 3 + 5 + items.size() + (is_shared ? 1 : items.size()));
    append_argument(out, "EVALSHA");
    append_argument(out, script(Script::kScattered).sha1);
    append_argument(out, std::size_t{0});
    append_argument(out, shared_.context.epoch);
    append_argument(out, shared_.lifetime);
    append_argument(out, command_flags(command_));
    append_argument(out, shared_.since);
    append_argument(out, items.size());
    for (const std::uint32_t item : items) append_argument(out, command_.text(item));
    for (std::size_t i = 0; i < (is_shared ? 1 : items.size()); ++i) {
      const std::size_t begin = i == 0 ? 0 : ends[i - 1];
      append_argument(out, std::string_view(tokens).substr(begin, ends[i] - begin));
    }
  }

  bool on_gathered(const Call& call, const Reply& reply, SteadyTime now) {
    Gathered& gathered = gathered_.at(call.tag);
    if (is_plain_) {
      if (call.answered == 0) gathered = {std::move(gathered.items)};
      if (!add_item(call, gathered.items[call.answered], reply, gathered.outcome)) return false;
    } else {
      const auto read = add_outcome_of_scattered(reply, gathered.items.size(), command_.tells_hits, shared_, outcome_);
      if (!read) return false;
      for (const std::uint32_t hit : read->counts.hits) outcome_.hits.push_back(gathered.items[hit]);
      for (const std::uint32_t key : read->elsewhere) gathered.elsewhere.push_back(gathered.items[key]);
      for (std::size_t key = read->counts.keys; key < gathered.items.size(); ++key) gathered.elsewhere.push_back(gathered.items[key]);
      routes_.scattered().saw(read->counts.keys - read->elsewhere.size(), read->counts.keys, now);
    }
    end_if_last(call);
    return true;
  }

  // A command of the call is over.
  void end_if_last(const Call& call) {
    if (call.answered + 1 < call.commands) return;
    const auto gathered = gathered_.find(call.tag);
    Gathered& done = gathered->second;
    outcome_ += done.outcome;
    outcome_.hits.insert(outcome_.hits.end(), done.outcome.hits.begin(), done.outcome.hits.end());
    alone_.insert(alone_.end(), done.elsewhere.begin(), done.elsewhere.end());
    gathered_.erase(gathered);
    --under_way_;
  }

  bool add_item(const Call& call, std::size_t item, const Reply& reply, Outcome& outcome) {
    const std::uint64_t before = outcome.deleted;
    if (!add_one(call, command_, command_.target == Target::kCounters, reply, shared_, outcome)) return false;
    if (command_.tells_hits && outcome.deleted > before) outcome.hits.push_back(static_cast<std::uint32_t>(item));
    return true;
  }

  void call_alone(std::size_t item) {
    const std::string_view text = command_.text(item);
    if (command_.unconditional && text == record_key_) return drop_record();
    ++under_way_;
    std::string tokens;
    if (!is_plain_) append_tokens(tokens, command_, item);
    if (command_.target == Target::kTags) {
      const std::string marker = marker_name_of(std::string(kTagPrefix) + std::string(text));
      return send(item, marker, script_call(Script::kLazyTags, {marker}, command_, {}, tokens, shared_), Script::kLazyTags);
    }
    KeyCall made = key_call(text, command_, is_plain_, command_.target == Target::kCounters, {}, tokens, shared_);
    send(item, text, std::move(made.bytes), made.script);
  }

  // It is in copies.
  void drop_record() {
    std::set<Slot> slots;
    for (std::size_t slot = 0; slot < kSlots; slot += kCopySlotStep) slots.insert(static_cast<Slot>(slot));
    for (const HostPort& master : routes_.slots().masters()) slots.insert(copy_slot(routes_.slots().slots_of(master), std::nullopt));
    for (const Slot slot : slots) {
      const std::string key = copy_key(std::string(record_key_), slot);
      ++under_way_;
      send(command_.size(), key, unlink_call(key));
    }
  }

  const Command command_;
  const bool is_plain_;
  const std::string record_key_;
  SteadyTime now_{};
  bool is_begun_ = false;
  std::vector<std::uint32_t> alone_;  // items that wait for a call of their own
  std::map<std::uint64_t, Gathered> gathered_;  // under way, by the tag of their call
  std::uint64_t next_gathered_ = kGatheredTag;
  std::size_t under_way_ = 0;  // calls
};

// ------------------------------------------------------------- Tags

// The walk of one tag's set. Its calls have tags of `walk` << 32.
class TagWalk {
 public:
  using Send = std::function<void(std::uint64_t tag, std::string_view key, std::string bytes, std::optional<Script>)>;

  TagWalk(std::uint64_t walk, MemberWalk::FoundBy found_by, std::string set, std::string_view tokens, const Command& command,
          WorkShared& shared, Send send)
      : walk_(walk << 32),
        found_by_(found_by),
        set_(std::move(set)),
        tokens_(tokens),
        command_(command),
        shared_(shared),
        send_(std::move(send)),
        is_plain_(is_plain(command)),
        stage_(is_plain_ ? Stage::kScan : Stage::kBegin),
        count_(kLightKeys, std::max<std::size_t>(shared.page_keys, 1)) {}

  bool is_done() const { return stage_ == Stage::kDone; }

  void pump() {
    while (under_way_ == 0 && !is_done()) {
      switch (stage_) {
        case Stage::kBegin:
          // The tombstone first: a join that comes after the members are read finds it.
          marker_call(Script::kWalkBegin);
          return;
        case Stage::kScan: {
          sent_cursor_ = cursor_;
          std::string bytes;
          append_command(bytes, {members_have_ends_ ? "ZSCAN" : "SSCAN", set_, cursor_, "COUNT", std::to_string(count_.value())});
          call(0, set_, std::move(bytes));
          return;
        }
        case Stage::kPage:
          if (page_.empty()) {
            stage_ = cursor_ != "0" ? Stage::kScan : Stage::kFinish;
            break;
          }
          for (std::size_t i = 0; i < page_.size(); ++i) {
            KeyCall made = key_call(page_[i], command_, is_plain_, false, {}, tokens_, shared_);
            call(i, page_[i], std::move(made.bytes), made.script);
          }
          return;
        case Stage::kUnlink:
          call(0, set_, unlink_call(set_));
          return;
        case Stage::kFinish:
          if (is_plain_ || command_.unconditional) {
            stage_ = Stage::kDone;
            break;
          }
          marker_call(Script::kWalkFinish);
          return;
        case Stage::kDone:
          return;
      }
    }
  }

  bool on_reply(const Call& call, Reply&& reply, Outcome& outcome) {
    switch (stage_) {
      case Stage::kBegin:
      case Stage::kFinish: {
        const auto walk = read_walk(reply, 1);
        if (!walk) return false;
        shared_.tombstones_refused += walk->refused;
        if (stage_ == Stage::kBegin && walk->is_finished) ++outcome.replayed;
        stage_ = stage_ == Stage::kFinish || walk->is_finished ? Stage::kDone : Stage::kScan;
        break;
      }
      case Stage::kScan:
        if (!take_names(call, std::move(reply))) return false;
        break;
      case Stage::kPage:
        if (!add_one(call, command_, false, reply, shared_, outcome)) return false;
        member_done();
        return true;
      case Stage::kUnlink: {
        const auto unlinked = read_count(reply, 1);
        if (!unlinked) return false;
        outcome.deleted += *unlinked;
        ++shared_.wrong_type_tags;
        stage_ = Stage::kFinish;
        break;
      }
      case Stage::kDone:
        return false;
    }
    --under_way_;
    return true;
  }

  bool on_error(const Call& call, std::string_view text, std::string& about) {
    // Anybody who may write a tag's set may put a name there that is not ours to touch.
    if (stage_ == Stage::kPage && is_key_forbidden(text)) {
      ++shared_.skipped.forbidden;
      member_done();
      return true;
    }
    if (stage_ == Stage::kScan && text.starts_with("WRONGTYPE")) {
      members_have_ends_ = !members_have_ends_;
      cursor_ = "0";
      // A tag's key that is no set of either kind: nothing in it can be a member.
      if (std::exchange(is_wrong_type_, true)) stage_ = found_by_ == MemberWalk::FoundBy::kTag ? Stage::kUnlink : Stage::kDone;
      --under_way_;
      return true;
    }
    const std::size_t index = call.tag & 0xffffffff;
    about = stage_ == Stage::kPage && index < page_.size() ? about_key(page_[index], false) : "it was about '" + set_.substr(0, 100) + "'";
    return false;
  }

 private:
  enum class Stage { kBegin, kScan, kPage, kUnlink, kFinish, kDone };

  void call(std::size_t index, std::string_view key, std::string bytes, std::optional<Script> which = {}) {
    ++under_way_;
    send_(walk_ | index, key, std::move(bytes), which);
  }

  void marker_call(Script which) {
    const std::string marker = marker_name_of(set_);
    call(0, marker, script_call(which, {marker}, command_, {}, tokens_, shared_), which);
  }

  bool take_names(const Call& call, Reply&& reply) {
    auto page = read_scan(std::move(reply), members_have_ends_);
    if (!page) return false;
    is_wrong_type_ = false;
    // A cursor means something on its own server alone: where the set has moved in between, from the beginning.
    if (sent_cursor_ != "0" && call.served_by != scanned_at_) {
      cursor_ = "0";
      return true;
    }
    scanned_at_ = call.served_by;
    count_.saw(page->bytes);
    shared_.skipped.too_long += page->too_long;
    cursor_ = std::move(page->cursor);
    for (std::string& name : page->names) {
      if (is_own_key(name)) continue;
      if (shared_.may_touch && !shared_.may_touch(name)) {
        ++shared_.skipped.foreign;
        continue;
      }
      page_.push_back(std::move(name));
    }
    stage_ = Stage::kPage;
    return true;
  }

  void member_done() {
    if (--under_way_ == 0) page_.clear();
  }

  const std::uint64_t walk_;
  MemberWalk::FoundBy found_by_;
  const std::string set_;
  const std::string tokens_;
  const Command& command_;
  WorkShared& shared_;
  Send send_;
  const bool is_plain_;
  Stage stage_;
  bool members_have_ends_ = true;  // what evictd_join makes
  bool is_wrong_type_ = false;
  std::string cursor_ = "0";
  std::string sent_cursor_;
  HostPort scanned_at_;
  ScanCount count_;
  std::vector<std::string> page_;  // under way
  std::size_t under_way_ = 0;
};

class TagsOrder final : public ClusterOrder {
 public:
  TagsOrder(Ticket ticket, std::uint64_t id, const Command& command, WorkShared& shared, ClusterRoutes& routes)
      : ClusterOrder(ticket, id, shared, routes), command_(command) {}

  void pump(SteadyTime) override {
    for (auto& [item, walk] : walks_) walk.pump();
    std::erase_if(walks_, [](const auto& entry) { return entry.second.is_done(); });
    while (next_ < command_.size() && walks_.size() < kTagWalksMax) {
      std::string tokens;
      append_tokens(tokens, command_, next_);
      const auto added = walks_.emplace(
          std::piecewise_construct, std::forward_as_tuple(next_),
          std::forward_as_tuple(next_, MemberWalk::FoundBy::kTag, std::string(kTagPrefix) + std::string(command_.text(next_)), tokens, command_,
                                shared_, [this](std::uint64_t tag, std::string_view key, std::string bytes, std::optional<Script> which) {
                                  send(tag, key, std::move(bytes), which);
                                }));
      added.first->second.pump();
      ++next_;
    }
  }

  bool on_reply(const Call& call, Reply&& reply, SteadyTime) override {
    const auto walk = walks_.find(call.tag >> 32);
    return walk != walks_.end() && walk->second.on_reply(call, std::move(reply), outcome_);
  }
  bool on_error(const Call& call, std::string_view text, std::string& about) override {
    const auto walk = walks_.find(call.tag >> 32);
    return walk != walks_.end() && walk->second.on_error(call, text, about);
  }
  bool is_finished() const override { return next_ == command_.size() && walks_.empty(); }

 private:
  const Command command_;
  std::size_t next_ = 0;
  std::map<std::uint64_t, TagWalk> walks_;  // by item
};

// ------------------------------------------------------------- Patterns

// A master that has lost its data takes the sets of tags with it, and the values that were listed in them may lie on any other master,
// under names that no rule knows. So where memberships were lost, a purge that walks tags of `fill: checked` reads all masters, and what any
// checked fill has left there goes too: its marker tells. What plain readers had listed leaves no trace (docs/cluster.md).
class PatternsOrder final : public ClusterOrder {
 public:
  PatternsOrder(Ticket ticket, std::uint64_t id, const Order& order, WorkShared& shared, ClusterRoutes& routes)
      : ClusterOrder(ticket, id, shared, routes) {
    for (const PatternRef& ref : order.patterns) hunts_.emplace_back(order, ref);
    append_tokens(tokens_, hunts_.front().command(), 0);
    outcome_.by_pattern.resize(hunts_.size());
    for (std::size_t i = 0; i < hunts_.size(); ++i) {
      if (!hunts_[i].is_plain && hunts_[i].kind != HuntKind::kCounters && !checked_) checked_ = i;
      if (hunts_[i].is_plain || !order.is_unconditional || !shared.has_orphans) continue;
      if (hunts_[i].kind == HuntKind::kSets) orphans_ = i;
      if (hunts_[i].kind == HuntKind::kSets || hunts_[i].kind == HuntKind::kLazyTags) marks_all_ = true;
    }
    treated_.resize(number_alike(hunts_));
    for (const std::string& part : order.parts) part_ |= slots_from_ranges(part).value_or(SlotSet().set());
    if (order.parts.empty()) part_.set();
    stage_ = checked_ ? Stage::kMarkers : Stage::kRaise;
  }

  bool is_bulk() const override { return true; }
  bool is_finished() const override { return stage_ == Stage::kDone; }

  SteadyTime wake_at() const override {
    if (stage_ != Stage::kScan) return under_way_ == 0 ? SteadyTime::min() : SteadyTime::max();
    SteadyTime earliest = SteadyTime::max();
    for (const MasterScan& scan : scans_) {
      if (scan.is_idle()) earliest = std::min(earliest, scan.ready_at);
    }
    return earliest;
  }

  void pump(SteadyTime now) override {
    switch (stage_) {
      case Stage::kMarkers:
        for (; next_marker_ < kSlots && under_way_ < kCallsMax; ++next_marker_) {
          if (!part_.test(next_marker_) && !marks_all_) continue;
          const std::string marker = purged_marker(static_cast<Slot>(next_marker_));
          ++under_way_;
          send(0, marker, script_call(Script::kWalkBegin, {marker}, hunts_[*checked_].command(), {}, tokens_, shared_), Script::kWalkBegin);
        }
        if (next_marker_ < kSlots || under_way_ > 0) return;
        stage_ = Stage::kRaise;
        [[fallthrough]];
      case Stage::kRaise:
        raise_by_name();
        begin_round();
        if (stage_ != Stage::kLook) return;
        [[fallthrough]];
      case Stage::kLook:
      case Stage::kLookAgain:
        return look();
      case Stage::kScan:
        return scan(now);
      case Stage::kDone:
        return;
    }
  }

  bool on_reply(const Call& call, Reply&& reply, SteadyTime now) override {
    const std::uint64_t kind = call.tag >> 56;
    if (kind == kWalkTag) {
      Outcome outcome;
      const auto walk = walks_.find(call.tag >> 32);
      if (walk == walks_.end() || !walk->second->walk.on_reply(call, std::move(reply), outcome)) return false;
      count(walk->second->hunt, outcome);
      return true;
    }
    switch (kind) {
      case kMarkerTag: {
        const auto begun = read_walk(reply, 1);
        if (!begun) return false;
        shared_.tombstones_refused += begun->refused;
        --under_way_;
        return true;
      }
      case kLookTag:
        if (reply.kind != Reply::Kind::kText || own_slots(reply.text).empty()) return false;
        take_look(call, own_slots(reply.text));
        return true;
      case kScanTag:
        return take_names(call, std::move(reply), now);
      case kNameTag: {
        const std::size_t hunt = call.tag >> 24 & 0xffffff;
        Outcome outcome;
        if (!add_one(call, hunts_[hunt].command(), hunts_[hunt].kind == HuntKind::kCounters, reply, shared_, outcome)) return false;
        count(hunt, outcome);
        --under_way_;
        name_done(call);
        return true;
      }
      default:
        return false;
    }
  }

  bool on_error(const Call& call, std::string_view text, std::string& about) override {
    if (call.tag >> 56 == kWalkTag) {
      const auto walk = walks_.find(call.tag >> 32);
      return walk != walks_.end() && walk->second->walk.on_error(call, text, about);
    }
    about = "it was about the pattern '" + std::string(hunts_[call.tag >> 56 == kNameTag ? call.tag >> 24 & 0xffffff : 0].text().substr(0, 100)) + "'";
    return false;
  }

  // The masters are others: from the beginning.
  void on_gone(const Call& call) override {
    has_moved_ = true;
    if (MasterScan* scan = scan_of(call)) {
      scan->is_under_way = false;
      scan->cursor = "0";
      scan->is_read = true;
    }
    if (stage_ == Stage::kLook || stage_ == Stage::kLookAgain) --under_way_;
  }

 private:
  enum class Stage { kMarkers, kRaise, kLook, kScan, kLookAgain, kDone };
  static constexpr std::uint64_t kMarkerTag = 0, kLookTag = 1, kScanTag = 2, kNameTag = 3, kWalkTag = 4;

  struct MasterScan {
    MasterScan(HostPort master, bool is_in_part, std::size_t first_count)
        : at(std::move(master)), is_part(is_in_part), count(first_count, kScanCountMax) {}
    HostPort at;
    bool is_part;     // else it is read for orphans alone
    std::string own;  // what it said of its slots before
    std::string cursor = "0";
    ScanCount count;
    bool is_read = false;
    bool is_under_way = false;
    std::size_t names_under_way = 0;
    SteadyTime sent_at{};
    SteadyTime ready_at{};
    bool is_idle() const { return !is_read && !is_under_way && names_under_way == 0; }
  };
  struct SetWalk {
    std::size_t hunt = 0;
    std::size_t scan = 0;
    TagWalk walk;
  };

  void raise_by_name() {
    for (std::size_t i = 0; i < hunts_.size(); ++i) {
      if (hunts_[i].is_one_name()) {
        treat(i, hunts_[i].glob.prefix(), kNoScan);
      } else {
        wanted_.push_back(i);
      }
    }
  }

  void begin_round() {
    scans_.clear();
    has_moved_ = false;
    if (wanted_.empty()) {
      stage_ = Stage::kScan;
      return;
    }
    for (const HostPort& master : routes_.slots().masters()) {
      const bool is_part = (routes_.slots().slots_of(master) & part_).any();
      if (is_part || orphans_) scans_.emplace_back(master, is_part, 2 * kLightKeys);
    }
    stage_ = Stage::kLook;
    is_asked_ = false;
  }

  // What each of them says of its slots.
  void look() {
    if (!is_asked_) {
      is_asked_ = true;
      for (std::size_t i = 0; i < scans_.size(); ++i) {
        std::string bytes;
        append_command(bytes, {"CLUSTER", "NODES"});
        ++under_way_;
        routes_.send(Call{id_, kLookTag << 56 | i, 0, std::move(bytes), {}, scans_[i].at});
      }
    }
    if (under_way_ > 0) return;
    is_asked_ = false;
    if (stage_ == Stage::kLook) {
      stage_ = Stage::kScan;
      return;
    }
    if (has_moved_) return begin_round();
    // What is on the move goes one way: who reads all of them a second time has met each key once.
    if (is_open_ && !std::exchange(is_second_, true)) return begin_round();
    if (orphans_) shared_.were_orphans_hunted = true;
    stage_ = Stage::kDone;
  }

  void take_look(const Call& call, std::string_view own) {
    MasterScan& scan = scans_[call.tag & 0xffffff];
    if (stage_ == Stage::kLookAgain && scan.own != own) {
      has_moved_ = true;
      is_second_ = false;
    }
    if (has_open_slot(own)) is_open_ = true;
    scan.own = own;
    --under_way_;
  }

  void scan(SteadyTime now) {
    for (auto& [id, walk] : walks_) walk->walk.pump();
    for (auto walk = walks_.begin(); walk != walks_.end();) {
      if (walk->second->walk.is_done()) {
        --scans_[walk->second->scan].names_under_way;
        walk = walks_.erase(walk);
      } else {
        ++walk;
      }
    }
    bool is_over = under_way_ == 0 && walks_.empty();
    for (std::size_t i = 0; i < scans_.size(); ++i) {
      MasterScan& scan = scans_[i];
      if (!scan.is_read || scan.is_under_way || scan.names_under_way > 0) is_over = false;
      if (!scan.is_idle() || now < scan.ready_at) continue;
      scan.is_under_way = true;
      scan.sent_at = now;
      std::string bytes;
      const std::string match = match_of();
      append_command_head(bytes, 4 + (match.empty() ? 0 : 2));
      append_argument(bytes, "SCAN");
      append_argument(bytes, scan.cursor);
      append_argument(bytes, "COUNT");
      append_argument(bytes, scan.count.value());
      if (!match.empty()) {
        append_argument(bytes, "MATCH");
        append_argument(bytes, match);
      }
      routes_.send(Call{id_, kScanTag << 56 | i, 0, std::move(bytes), {}, scan.at});
    }
    if (!is_over) return;
    if (scans_.empty()) {
      stage_ = Stage::kDone;
      return;
    }
    stage_ = Stage::kLookAgain;
    look();
  }

  std::string match_of() const {
    const Hunt& first = hunts_[wanted_.front()];
    if (wanted_.size() == 1 && !orphans_) {
      return first.kind == HuntKind::kLazyTags ? std::string(kOwnPrefix) + "*" + std::string(first.text()) + "*" : std::string(first.text());
    }
    const auto prefix_of = [](const Hunt& hunt) {
      return hunt.kind == HuntKind::kLazyTags ? kOwnPrefix : std::string_view(hunt.glob.prefix());
    };
    std::string_view prefix = prefix_of(first);
    for (const std::size_t i : wanted_) prefix = common_prefix(prefix, prefix_of(hunts_[i]));
    if (orphans_) prefix = common_prefix(prefix, kOwnPrefix);
    return prefix.empty() ? std::string() : glob_of_prefix(prefix);
  }

  MasterScan* scan_of(const Call& call) {
    const std::size_t index = call.tag & 0xffffff;
    return call.tag >> 56 == kScanTag && index < scans_.size() ? &scans_[index] : nullptr;
  }

  bool take_names(const Call& call, Reply&& reply, SteadyTime now) {
    auto page = read_scan(std::move(reply));
    if (!page) return false;
    const std::size_t index = call.tag & 0xffffff;
    MasterScan& scan = scans_[index];
    scan.is_under_way = false;
    scan.count.saw(page->bytes);
    if (wanted_.size() == 1) shared_.skipped.too_long += page->too_long;
    scan.cursor = std::move(page->cursor);
    scan.is_read = scan.cursor == "0";
    for (const std::string& name : page->names) give_out(name, index);
    rest(scan, now);
    return true;
  }

  // A walk takes half of a server's time at most.
  static void rest(MasterScan& scan, SteadyTime now) {
    constexpr std::chrono::milliseconds kRestMax{100};
    scan.ready_at = now + std::min<SteadyTime::duration>(now - scan.sent_at, kRestMax);
  }

  void give_out(const std::string& name, std::size_t scan) {
    if (orphans_) take_orphan(name, scan);
    if (!scans_[scan].is_part) return;
    std::fill(treated_.begin(), treated_.end(), false);
    for (const std::size_t i : wanted_) {
      if (!hunts_[i].matches(name) || treated_[hunts_[i].alike]) continue;
      treated_[hunts_[i].alike] = true;
      treat(i, name, scan);
    }
  }

  // The value whose marker this is, if it is that of a value: of 'evictd:{user:7}', 'user:7' and '{user:7}'.
  void take_orphan(std::string_view name, std::size_t scan) {
    if (!is_own_key(name)) return;
    const std::string_view rest = name.substr(kOwnPrefix.size());
    const bool is_enclosed = rest.starts_with('{') && rest.ends_with('}');
    for (const std::string_view key : {is_enclosed ? rest.substr(1, rest.size() - 2) : std::string_view(), rest}) {
      if (key.empty() || is_own_key(key) || key.starts_with(kTagPrefix) || is_apart(key) || marker_name_of(std::string(key)) != name) continue;
      if (shared_.may_touch && !shared_.may_touch(key)) {
        ++shared_.skipped.foreign;
        continue;
      }
      ++scans_[scan].names_under_way;
      ++under_way_;
      KeyCall made = key_call(key, hunts_[*orphans_].command(), false, false, "o", tokens_, shared_);
      send(kNameTag << 56 | static_cast<std::uint64_t>(*orphans_) << 24 | scan, key, std::move(made.bytes), made.script);
    }
  }

  static constexpr std::size_t kNoScan = 0xffffff;

  void treat(std::size_t hunt, const std::string& name, std::size_t scan) {
    const Hunt& one = hunts_[hunt];
    if (scan != kNoScan) ++scans_[scan].names_under_way;
    if (one.kind == HuntKind::kSets) {
      const std::uint64_t id = kWalkTag << 24 | (next_walk_++ & 0xffffff);
      auto made = std::unique_ptr<SetWalk>(new SetWalk{
          hunt, scan,
          TagWalk(id, MemberWalk::FoundBy::kPattern, name, tokens_, one.command(), shared_,
                  [this](std::uint64_t tag, std::string_view key, std::string bytes, std::optional<Script> which) {
                    send(tag, key, std::move(bytes), which);
                  })});
      walks_.emplace(id, std::move(made)).first->second->walk.pump();
      return;
    }
    ++under_way_;
    const std::uint64_t tag = kNameTag << 56 | static_cast<std::uint64_t>(hunt) << 24 | scan;
    if (one.kind == HuntKind::kLazyTags) {
      return send(tag, name, script_call(Script::kLazyTags, {name}, one.command(), {}, tokens_, shared_), Script::kLazyTags);
    }
    const bool raises = one.kind == HuntKind::kCounters;
    // A counter does not remember a pattern: its transactions' own raise, when they are visible, is still to come.
    KeyCall made = key_call(name, one.command(), one.is_plain, raises, !raises ? "" : one.is_one_name() ? "u" : "up", tokens_, shared_);
    send(tag, name, std::move(made.bytes), made.script);
  }

  void name_done(const Call& call) {
    const std::size_t scan = call.tag & 0xffffff;
    if (scan != kNoScan) --scans_[scan].names_under_way;
  }

  void count(std::size_t hunt, const Counts& more) {
    outcome_ += more;
    outcome_.by_pattern[hunt] += more;
  }

  std::vector<Hunt> hunts_;
  std::string tokens_;  // the same of all
  SlotSet part_;        // what is walked: the masters of these slots
  std::optional<std::size_t> checked_;  // a hunt whose readers check their fills
  std::optional<std::size_t> orphans_;  // one of tags' sets, where memberships were lost
  bool marks_all_ = false;  // tags were lost: what their tombstones asked of fills has to be asked in every slot
  Stage stage_ = Stage::kMarkers;
  std::size_t next_marker_ = 0;
  std::size_t under_way_ = 0;  // calls, but for SCANs and walks
  std::vector<std::size_t> wanted_;  // what is looked for: hunts
  std::vector<bool> treated_;        // by Hunt::alike, of the name in hand
  std::vector<MasterScan> scans_;
  bool is_asked_ = false;
  bool has_moved_ = false;  // in this round
  bool is_open_ = false;    // a slot was on the move, in this round or before
  bool is_second_ = false;  // of rounds without a change
  std::map<std::uint64_t, std::unique_ptr<SetWalk>> walks_;
  std::uint64_t next_walk_ = 0;
};

}  // namespace

std::unique_ptr<ClusterOrder> make_cluster_order(Ticket ticket, std::uint64_t id, const Order& order, WorkShared& shared,
                                                 ClusterRoutes& routes, std::string_view record_key) {
  if (order.target == Target::kPatterns) return std::make_unique<PatternsOrder>(ticket, id, order, shared, routes);
  const Command command = make_command(order);
  if (command.target == Target::kTags && !command.lazy) return std::make_unique<TagsOrder>(ticket, id, command, shared, routes);
  return std::make_unique<KeysOrder>(ticket, id, command, shared, routes, record_key);
}

}  // namespace evictd
