#include "daemon/sinks/redis/walk.h"

#include <algorithm>

#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/scripts.h"
#include "mapping/check.h"
#include "mapping/rules.h"

namespace evictd {
namespace {

// Up to this many keys, a call is not heavy: it costs Redis no more than an ordinary command.
constexpr std::size_t kLightKeys = 64;
// Names looked at by one SCAN of the key space.
constexpr std::string_view kScanCount = "1000";
constexpr std::string_view kOwnPrefix = "evictd:";
constexpr std::size_t kReloadsMax = 100;  // in a row

std::string marker_name(std::string_view key) {
  std::string name;
  append_marker_name(name, key);
  return name;
}

// One set or one glob; see walk.h. For a tag pattern, `sets_` are walked one by one inside it.
class Walk {
 public:
  enum class Over { kMembers, kKeys, kSets, kLazyTags, kCounters };

  // For kMembers, `name` is the set's key; otherwise a glob. For kLazyTags that of the sets the tags do not have.
  Walk(Over over, std::string name, std::string tokens, const Command& command, WorkShared& shared)
      : over_(over),
        name_(std::move(name)),
        tokens_(std::move(tokens)),
        command_(command),
        shared_(shared) {
    // A counter by its own name need not be looked for, and is raised even if it is not there yet.
    if (over_ == Over::kCounters && name_.find_first_of("*?[") == std::string::npos) {
      std::erase(name_, '\\');
      page_.push_back(name_);
      is_one_name_ = true;
    }
  }

  bool is_done() const { return stage_ == Stage::kDone; }
  bool wants_wake() const { return wants_wake_ || (inner_ && inner_->wants_wake()); }

  void pump(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now) {
    if (heavy_came_) {
      heavy_came_ = false;
      shared_.pacer.heavy_done(now);
    }
    wants_wake_ = false;
    if (under_way_ || is_done()) return;
    if (stage_ == Stage::kPage && over_ == Over::kSets) {
      if (pump_inner(session, receiver, tag, now)) return;
    }
    if (stage_ == Stage::kPage && page_.empty())
      stage_ = cursor_ == "0" ? Stage::kFinish : Stage::kScan;
    if (stage_ == Stage::kFinish && command_.unconditional && command_.channel.empty())
      stage_ = Stage::kDone;  // never replayed
    switch (stage_) {
      case Stage::kBegin:
        reload_if_flushed(session, now);
        send_marker_call(session, Script::kWalkBegin);
        break;
      case Stage::kScan:
        if (!take_turn(is_large_, now)) return;
        send_scan(session);
        break;
      case Stage::kPage:
        page_size_ = std::min(page_.size(), shared_.page_keys);
        if (!take_turn(page_size_ > kLightKeys, now)) return;
        reload_if_flushed(session, now);
        send_page(session);
        break;
      case Stage::kUnlink:
        append_command(session.output(), {"UNLINK", name_});
        break;
      case Stage::kFinish:
        reload_if_flushed(session, now);
        send_marker_call(session, Script::kWalkFinish);
        break;
      case Stage::kDone:
        return;
    }
    under_way_ = true;
    session.expect(receiver, tag, now);
  }

  bool on_reply(const Reply& reply, Outcome& outcome) {
    if (inner_) return inner_->on_reply(reply, outcome);
    under_way_ = false;
    if (heavy_) {
      heavy_ = false;
      heavy_came_ = true;
    }
    if (reply.is_error()) return take_error(reply);
    reloads_ = 0;
    switch (stage_) {
      case Stage::kBegin:
        return take_begun(reply, outcome);
      case Stage::kScan:
        return take_names(reply);
      case Stage::kPage:
        if (!add_outcome(reply, page_size_, shared_, outcome)) return false;
        outcome.already_settled.clear();  // has a meaning for keys only
        page_.erase(page_.begin(), page_.begin() + static_cast<std::ptrdiff_t>(page_size_));
        return true;
      case Stage::kUnlink:
        if (reply.kind != Reply::Kind::kInteger) return false;
        outcome.deleted += static_cast<std::uint64_t>(reply.integer);
        ++shared_.wrong_type_tags;
        stage_ = Stage::kFinish;
        return true;
      case Stage::kFinish:
        if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2) return false;
        shared_.tombstones_refused += static_cast<std::uint64_t>(reply.elements[1].integer);
        stage_ = Stage::kDone;
        return true;
      case Stage::kDone:
        break;
    }
    return false;
  }

 private:
  enum class Stage { kBegin, kScan, kPage, kUnlink, kFinish, kDone };

  // The last call was told NOSCRIPT: load it right before it is sent again.
  void reload_if_flushed(Session& session, SteadyTime now) {
    if (reload_) session.load_script(*reload_, now);
    reload_.reset();
  }

  // False when the pacer says "later".
  bool take_turn(bool heavy, SteadyTime now) {
    if (!heavy) return true;
    if (!shared_.pacer.may_send_heavy(now)) {
      wants_wake_ = true;
      return false;
    }
    shared_.pacer.heavy_sent(now);
    heavy_ = true;
    return true;
  }

  // The sets found by a tag pattern, one after another. True while there is something to wait for.
  bool pump_inner(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now) {
    while (true) {
      if (!inner_) {
        if (page_.empty()) return false;
        inner_ = std::make_unique<Walk>(Over::kMembers, std::move(page_.back()), tokens_, command_,
                                        shared_);
        page_.pop_back();
      }
      inner_->pump(session, receiver, tag, now);
      if (!inner_->is_done()) return true;
      inner_.reset();
    }
  }

  void append_call_head(std::string& out, Script which, std::size_t keys) {
    if (!command_.channel.empty()) ++keys;
    append_command_head(out, 3 + keys + 5);
    append_argument(out, "EVALSHA");
    append_argument(out, script(which).sha1);
    append_argument(out, keys);
    called_ = which;
  }

  void append_call_tail(std::string& out, std::string_view more_flags) {
    if (!command_.channel.empty()) append_argument(out, channel_counter(command_.channel));
    append_argument(out, shared_.context.epoch);
    append_argument(out, shared_.lifetime);
    append_argument(out, command_flags(command_, more_flags));
    append_argument(out, shared_.since);
    append_argument(out, tokens_);
  }

  void send_marker_call(Session& session, Script which) {
    std::string& out = session.output();
    const bool is_purge = over_ != Over::kMembers;
    append_call_head(out, which, is_purge ? 2 : 1);
    if (is_purge) {
      // An operator's purge is never a replay, its own marker would say nothing: but it does no
      // harm.
      append_argument(out, marker_name("purge:" + name_));
      append_argument(out, kPurgedMarker);
    } else {
      append_argument(out, marker_name(name_));
    }
    append_call_tail(out, which == Script::kWalkBegin ? (is_purge ? "" : "w") : (is_purge ? "y" : ""));
  }

  void send_scan(Session& session) {
    const std::string count =
        is_large_ ? std::to_string(shared_.page_keys) : std::to_string(kLightKeys);
    std::string& out = session.output();
    if (over_ == Over::kMembers) {
      append_command(out, {"SSCAN", name_, cursor_, "COUNT", count});
    } else if (over_ == Over::kKeys) {
      append_command(out, {"SCAN", cursor_, "MATCH", name_, "COUNT", kScanCount});
    } else if (over_ == Over::kCounters) {
      append_command(out, {"SCAN", cursor_, "MATCH", name_, "COUNT", kScanCount, "TYPE", "string"});
    } else if (over_ == Over::kLazyTags) {
      const std::string markers = std::string(kOwnPrefix) + "*" + name_ + "*";
      append_command(out, {"SCAN", cursor_, "MATCH", markers, "COUNT", kScanCount, "TYPE", "string"});
    } else {
      append_command(out, {"SCAN", cursor_, "MATCH", name_, "COUNT", kScanCount, "TYPE", "set"});
    }
  }

  void send_page(Session& session) {
    const bool of_set = over_ == Over::kMembers;
    std::string& out = session.output();
    if (over_ == Over::kLazyTags) {
      append_call_head(out, Script::kLazyTags, page_size_);
      for (std::size_t i = 0; i < page_size_; ++i) append_argument(out, page_[i]);
      append_call_tail(out, "");
      return;
    }
    append_call_head(out,
                     of_set                     ? Script::kWalkMembers
                     : over_ == Over::kCounters ? Script::kRaise
                                                : Script::kInvalidate,
                     2 * page_size_ + (of_set ? 1 : 0));
    if (of_set) append_argument(out, name_);
    for (std::size_t i = 0; i < page_size_; ++i) append_argument(out, page_[i]);
    std::string name;
    for (std::size_t i = 0; i < page_size_; ++i) {
      name.clear();
      append_marker_name(name, page_[i]);
      append_argument(out, name);
    }
    // A counter does not remember a pattern: its transactions' own raise, when they are visible, is still to come.
    append_call_tail(out, of_set && members_leave()    ? "m"
                          : over_ != Over::kCounters   ? ""
                          : is_one_name_               ? "u"
                                                       : "up");
  }

  // Plain readers may add a key to the set a moment before or after they store its value. So the
  // first walk of a plain rule leaves the members in, for the settle walk to find them again.
  bool members_leave() const {
    return command_.trust_filled || command_.act != Act::kInvalidate || command_.settled ||
           command_.unconditional;
  }

  bool take_error(const Reply& reply) {
    if (reply.text.starts_with("NOSCRIPT")) {
      if (stage_ == Stage::kScan || stage_ == Stage::kUnlink || ++reloads_ > kReloadsMax)
        return false;
      reload_ = called_;
      return true;
    }
    // A tag's key that is no set: nothing in it can be a member, and fills cannot add to it.
    if (stage_ != Stage::kScan || over_ != Over::kMembers) return false;
    stage_ = Stage::kUnlink;
    return true;
  }

  bool take_begun(const Reply& reply, Outcome& outcome) {
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2) return false;
    shared_.tombstones_refused += static_cast<std::uint64_t>(reply.elements[1].integer);
    const bool finished_before = reply.elements[0].integer == 1;
    if (finished_before) ++outcome.replayed;
    stage_ = finished_before ? Stage::kDone : is_one_name_ ? Stage::kPage : Stage::kScan;
    is_large_ = over_ != Over::kMembers;
    return true;
  }

  bool take_names(const Reply& reply) {
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2 ||
        reply.elements[1].kind != Reply::Kind::kArray) {
      return false;
    }
    cursor_ = reply.elements[0].text;
    if (cursor_ != "0") is_large_ = true;
    for (const Reply& element : reply.elements[1].elements) {
      if (element.kind != Reply::Kind::kText) continue;
      if (over_ == Over::kLazyTags) {
        if (is_tag_marker(element.text)) page_.push_back(element.text);
        continue;
      }
      // Never evictd's own keys: a pattern such as '*' must not eat the tombstones it rests on.
      if (element.text.starts_with(kOwnPrefix)) continue;
      // Nor a tag's set, unless the pattern means it: unlinked as a key, it would strand its members.
      const bool meets_tags = over_ == Over::kKeys && !name_.starts_with(kTagPrefix);
      if (meets_tags && element.text.starts_with(kTagPrefix)) continue;
      page_.push_back(element.text);
    }
    stage_ = Stage::kPage;
    return true;
  }

  // The glob over the markers is wider than the tags': the prefix of a tag must follow at once.
  static bool is_tag_marker(std::string_view name) {
    name.remove_prefix(kOwnPrefix.size());
    return name.starts_with(kTagPrefix) || (name.starts_with('{') && name.substr(1).starts_with(kTagPrefix));
  }

  Over over_;
  std::string name_;
  std::string tokens_;
  const Command& command_;
  WorkShared& shared_;

  Stage stage_ = Stage::kBegin;
  bool under_way_ = false;
  bool heavy_ = false;       // the call under way holds the pacer
  bool heavy_came_ = false;  // its reply came; the pacer is told with the time, by pump()
  bool wants_wake_ = false;
  bool is_large_ = false;
  bool is_one_name_ = false;  // nothing to scan for
  std::string cursor_ = "0";
  std::vector<std::string> page_;
  std::size_t page_size_ = 0;  // of the call under way, from the front of page_
  std::unique_ptr<Walk> inner_;
  Script called_ = Script::kWalkBegin;
  std::optional<Script> reload_;
  std::size_t reloads_ = 0;
};

class WalkWork final : public RedisWork {
 public:
  using RedisWork::RedisWork;
  ~WalkWork() override {
    for (std::size_t i = 0; i < walks_.size(); ++i) shared_.pacer.end_walk();
  }

  void pump(Session& session, SteadyTime now) override {
    for (Entry& entry : walks_) entry.walk->pump(session, *this, entry.tag, now);
    std::erase_if(walks_, [this](const Entry& entry) {
      if (entry.walk->is_done()) shared_.pacer.end_walk();
      return entry.walk->is_done();
    });
    while (next_item_ < command_.size() && shared_.pacer.may_begin_walk()) {
      shared_.pacer.begin_walk();
      walks_.push_back(Entry{next_item_, make_walk(next_item_)});
      ++next_item_;
      walks_.back().walk->pump(session, *this, walks_.back().tag, now);
    }
  }

  bool on_reply(std::uint64_t tag, const Reply& reply) override {
    for (Entry& entry : walks_) {
      if (entry.tag == tag) return entry.walk->on_reply(reply, outcome_);
    }
    return false;
  }

  bool is_finished() const override { return next_item_ == command_.size() && walks_.empty(); }
  bool wants_wake() const override {
    return std::any_of(walks_.begin(), walks_.end(),
                       [](const Entry& entry) { return entry.walk->wants_wake(); });
  }

 private:
  struct Entry {
    std::uint64_t tag = 0;
    std::unique_ptr<Walk> walk;
  };

  std::unique_ptr<Walk> make_walk(std::size_t item) {
    std::string tokens;
    append_tokens(tokens, command_, item);
    std::string name(command_.text(item));
    if (command_.target == Target::kTags) {
      return std::make_unique<Walk>(Walk::Over::kMembers, std::string(kTagPrefix) + name,
                                    std::move(tokens), command_, shared_);
    }
    const Walk::Over over = command_.pattern_of == PatternOf::kCounters ? Walk::Over::kCounters
                            : command_.pattern_of == PatternOf::kKeys   ? Walk::Over::kKeys
                            : command_.lazy                             ? Walk::Over::kLazyTags
                                                                        : Walk::Over::kSets;
    return std::make_unique<Walk>(over, std::move(name), std::move(tokens), command_, shared_);
  }

  std::size_t next_item_ = 0;
  std::vector<Entry> walks_;
};

}  // namespace

std::unique_ptr<RedisWork> make_walk_work(Ticket ticket, const Command& command,
                                          WorkShared& shared) {
  return std::make_unique<WalkWork>(ticket, command, shared);
}

}  // namespace evictd
