#include "daemon/sinks/redis/walk.h"

#include <algorithm>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/plain_work.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/scripts.h"
#include "mapping/check.h"
#include "mapping/rules.h"

namespace evictd {
namespace {

// Up to this many keys, a call is not heavy: it costs Redis no more than an ordinary command.
constexpr std::size_t kLightKeys = 64;
// Names looked at by one SCAN of the key space.
constexpr std::size_t kScanCountMax = 1000;
// Bytes of names that one SCAN should bring, and one call take.
constexpr std::uint64_t kScanBytes = 1024 * 1024;
constexpr std::size_t kPageBytes = 256 * 1024;

std::string marker_name(std::string_view key) {
  std::string name;
  append_marker_name(name, key);
  return name;
}

// How many names the next SCAN asks for: begins small, doubles while pages are small, and keeps to kScanBytes where
// names are long, so that a set of huge members costs neither side much at a time.
class ScanCount {
 public:
  ScanCount(std::size_t first, std::size_t most) : count_(std::min(first, most)), most_(most) {}
  std::size_t value() const { return count_; }
  void saw(std::uint64_t bytes) {
    const std::uint64_t each = std::max<std::uint64_t>(bytes / count_, 1);
    const std::uint64_t fitting = std::max<std::uint64_t>(kScanBytes / each, 1);
    count_ = static_cast<std::size_t>(std::min<std::uint64_t>({fitting, 2 * count_, most_}));
  }

 private:
  std::size_t count_;
  std::size_t most_;
};

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
        shared_(shared),
        count_(over == Over::kMembers ? kLightKeys : 2 * kLightKeys,
               over == Over::kMembers ? std::max<std::size_t>(shared.page_keys, 1) : kScanCountMax) {
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
        page_size_ = next_page_size();
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

  bool on_reply(Reply&& reply, Outcome& outcome) {
    if (inner_) return inner_->on_reply(std::move(reply), outcome);
    if (!take_reply(std::move(reply), outcome)) return false;
    ended();
    reloads_ = 0;
    return true;
  }

  bool on_error(std::string_view text, std::string& about) {
    if (inner_) return inner_->on_error(text, about);
    if (!take_error(text)) {
      about = stage_ == Stage::kPage && !page_.empty() ? about_key(page_.front(), false) : "it was about '" + name_.substr(0, 100) + "'";
      return false;
    }
    ended();
    return true;
  }

 private:
  enum class Stage { kBegin, kScan, kPage, kUnlink, kFinish, kDone };
  static constexpr std::size_t kMarkersMax = 2;  // of one walk: its own, and that of purges
  static constexpr std::size_t kPageLimitMax = 1 << 20;

  // The call under way was answered.
  void ended() {
    under_way_ = false;
    if (heavy_) {
      heavy_ = false;
      heavy_came_ = true;
    }
  }

  // As many as one call may take of the page, fewer while one member is looked for that the ACL keeps us from.
  std::size_t next_page_size() const {
    const std::size_t most = std::min({page_.size(), shared_.page_keys, page_limit_});
    std::size_t bytes = 0;
    std::size_t size = 0;
    while (size < most && (size == 0 || bytes + page_[size].size() <= kPageBytes)) bytes += page_[size++].size();
    return size;
  }

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
    const std::string count = std::to_string(count_.value());
    std::string& out = session.output();
    if (over_ == Over::kMembers) {
      append_command(out, {"SSCAN", name_, cursor_, "COUNT", count});
    } else if (over_ == Over::kKeys) {
      append_command(out, {"SCAN", cursor_, "MATCH", name_, "COUNT", count});
    } else if (over_ == Over::kCounters) {
      append_command(out, {"SCAN", cursor_, "MATCH", name_, "COUNT", count, "TYPE", "string"});
    } else if (over_ == Over::kLazyTags) {
      const std::string markers = std::string(kOwnPrefix) + "*" + name_ + "*";
      append_command(out, {"SCAN", cursor_, "MATCH", markers, "COUNT", count, "TYPE", "string"});
    } else {
      append_command(out, {"SCAN", cursor_, "MATCH", name_, "COUNT", count, "TYPE", "set"});
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

  bool take_reply(Reply&& reply, Outcome& outcome) {
    switch (stage_) {
      case Stage::kBegin:
        return take_begun(reply, outcome);
      case Stage::kScan:
        return take_names(std::move(reply));
      case Stage::kPage:
        if (!add_outcome(reply, page_size_, shared_, outcome)) return false;
        drop_page();
        page_limit_ = std::min(2 * page_limit_, kPageLimitMax);
        return true;
      case Stage::kUnlink: {
        const auto unlinked = read_count(reply, 1);
        if (!unlinked) return false;
        outcome.deleted += *unlinked;
        ++shared_.wrong_type_tags;
        stage_ = Stage::kFinish;
        return true;
      }
      case Stage::kFinish: {
        const auto finished = read_walk(reply, kMarkersMax);
        if (!finished) return false;
        shared_.tombstones_refused += finished->refused;
        stage_ = Stage::kDone;
        return true;
      }
      case Stage::kDone:
        break;
    }
    return false;
  }

  bool take_error(std::string_view text) {
    if (is_flushed(text)) {
      if (stage_ == Stage::kScan || stage_ == Stage::kUnlink || ++reloads_ > kReloadsMax) return false;
      reload_ = called_;
      return true;
    }
    if (over_ != Over::kMembers) return false;
    // Anybody who may write a tag's set may put a name there that is not ours to touch. It is found by halves, and
    // left alone; a walk that waited for the right to it would hold up everything.
    if (stage_ == Stage::kPage && is_key_forbidden(text)) {
      page_limit_ = std::max<std::size_t>(page_size_ / 2, 1);
      if (page_size_ == 1) {
        drop_page();
        ++shared_.skipped.forbidden;
      }
      return true;
    }
    // A tag's key that is no set: nothing in it can be a member, and fills cannot add to it.
    if (stage_ != Stage::kScan || !text.starts_with("WRONGTYPE")) return false;
    stage_ = Stage::kUnlink;
    return true;
  }

  void drop_page() {
    page_.erase(page_.begin(), page_.begin() + static_cast<std::ptrdiff_t>(page_size_));
  }

  bool take_begun(const Reply& reply, Outcome& outcome) {
    const auto begun = read_walk(reply, kMarkersMax);
    if (!begun) return false;
    shared_.tombstones_refused += begun->refused;
    if (begun->is_finished) ++outcome.replayed;
    stage_ = begun->is_finished ? Stage::kDone : is_one_name_ ? Stage::kPage : Stage::kScan;
    is_large_ = over_ != Over::kMembers;
    return true;
  }

  bool take_names(Reply&& reply) {
    auto page = read_scan(std::move(reply));
    if (!page) return false;
    count_.saw(page->bytes);
    shared_.skipped.too_long += page->too_long;
    cursor_ = std::move(page->cursor);
    if (cursor_ != "0") is_large_ = true;
    for (std::string& name : page->names) {
      if (is_wanted(name)) page_.push_back(std::move(name));
    }
    stage_ = Stage::kPage;
    return true;
  }

  bool is_wanted(std::string_view name) {
    if (over_ == Over::kLazyTags) return is_tag_marker(name);
    // Never evictd's own keys: a pattern such as '*' must not eat the tombstones it rests on.
    if (is_own_key(name)) return false;
    // Nor a tag's set, unless the pattern means it: unlinked as a key, it would strand its members.
    const bool meets_tags = over_ == Over::kKeys && !name_.starts_with(kTagPrefix);
    if (meets_tags && name.starts_with(kTagPrefix)) return false;
    if (over_ != Over::kMembers || !shared_.may_touch || shared_.may_touch(name)) return true;
    ++shared_.skipped.foreign;
    return false;
  }

  // The glob over the markers is wider than the tags': the prefix of a tag must follow at once.
  static bool is_tag_marker(std::string_view name) {
    if (!is_own_key(name)) return false;
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
  ScanCount count_;
  std::vector<std::string> page_;
  std::size_t page_size_ = 0;  // of the call under way, from the front of page_
  std::size_t page_limit_ = kPageLimitMax;
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

  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    for (Entry& entry : walks_) {
      if (entry.tag == tag) return entry.walk->on_reply(std::move(reply), outcome_);
    }
    return false;
  }
  bool on_error(std::uint64_t tag, std::string_view text, std::string& about) override {
    for (Entry& entry : walks_) {
      if (entry.tag == tag) return entry.walk->on_error(text, about);
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

// Walks of the patterns of one order, each a work of its own under the ticket of them all.
class PatternsWork final : public RedisWork {
 public:
  PatternsWork(Ticket ticket, const Order& order, WorkShared& shared) : RedisWork(ticket, Command{}, shared) {
    for (const PatternRef& ref : order.patterns) commands_.push_back(make_pattern_command(order, ref));
    outcome_.by_pattern.resize(commands_.size());
    begin_next();
  }

  void pump(Session& session, SteadyTime now) override {
    while (walk_) {
      walk_->pump(session, now);
      if (!walk_->is_finished()) return;
      Counts& counts = outcome_.by_pattern[next_ - 1];
      counts = walk_->outcome();
      outcome_.deleted += counts.deleted;
      outcome_.absent += counts.absent;
      outcome_.kept += counts.kept;
      outcome_.replayed += counts.replayed;
      begin_next();
    }
  }

  // Replies come to the walk itself: it is the one that the session was given.
  bool on_reply(std::uint64_t, Reply&&) override { return false; }
  bool on_error(std::uint64_t, std::string_view, std::string&) override { return false; }
  bool is_finished() const override { return walk_ == nullptr; }
  bool is_bulk() const override { return true; }
  bool wants_wake() const override { return walk_ && walk_->wants_wake(); }

 private:
  void begin_next() {
    walk_.reset();
    if (next_ == commands_.size()) return;
    walk_ = make_walk_work(ticket_, commands_[next_]->command, shared_);
    ++next_;
  }

  std::vector<std::unique_ptr<PatternCommand>> commands_;
  std::size_t next_ = 0;
  std::unique_ptr<RedisWork> walk_;
};

}  // namespace

std::unique_ptr<RedisWork> make_patterns_work(Ticket ticket, const Order& order, WorkShared& shared) {
  return std::make_unique<PatternsWork>(ticket, order, shared);
}

std::unique_ptr<RedisWork> make_walk_work(Ticket ticket, const Command& command,
                                          WorkShared& shared) {
  if (is_plain(command)) return make_plain_work(ticket, command, shared);
  return std::make_unique<WalkWork>(ticket, command, shared);
}

}  // namespace evictd
