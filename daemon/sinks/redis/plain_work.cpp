#include "daemon/sinks/redis/plain_work.h"

#include <algorithm>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/walk.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Keys of one command. Redis serves nobody else meanwhile: well below 1 ms. Some servers take few arguments more than 4,000.
constexpr std::size_t kKeysMax = 512;

class PlainWork final : public RedisWork {
 public:
  using RedisWork::RedisWork;

  void pump(Session& session, SteadyTime now) override {
    if (std::exchange(sent_, true)) return;
    std::vector<std::string_view> keys;
    keys.reserve(std::min(kKeysMax, command_.size()));
    std::size_t first = 0;
    for (std::size_t i = 0; i < command_.size(); ++i) {
      const std::string_view key = command_.text(i);
      // A row may spell a key of evictd's own, and nobody caches under such a name. An operator may mean one.
      if (!command_.unconditional && is_own_key(key)) {
        ++outcome_.absent;
        ++shared_.skipped.own_keys;
        continue;
      }
      if (keys.empty()) first = i;
      keys.push_back(key);
      if (keys.size() == kKeysMax) send(session, keys, first, now);
    }
    if (!keys.empty()) send(session, keys, first, now);
  }

  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    const std::size_t keys = pieces_[tag].keys;
    const auto deleted = read_count(reply, keys);
    if (!deleted) return false;
    outcome_.deleted += *deleted;
    outcome_.absent += keys - *deleted;
    --under_way_;
    return true;
  }

  bool on_error(std::uint64_t tag, std::string_view, std::string& about) override {
    about = "it was about '" + std::string(command_.text(pieces_[tag].first).substr(0, 100)) + "'";
    return false;
  }

  bool is_finished() const override { return sent_ && under_way_ == 0; }
  std::size_t bytes() const override { return bytes_; }

 private:
  struct Piece {
    std::size_t first = 0;  // item
    std::size_t keys = 0;
  };

  void send(Session& session, std::vector<std::string_view>& keys, std::size_t first, SteadyTime now) {
    std::string& out = session.output();
    append_command_head(out, 1 + keys.size());
    append_argument(out, "UNLINK");
    for (const std::string_view key : keys) append_argument(out, key);
    pieces_.push_back({first, keys.size()});
    session.expect(*this, pieces_.size() - 1, now);
    ++under_way_;
    keys.clear();
  }

  const std::size_t bytes_ = command_.bytes();
  bool sent_ = false;
  std::size_t under_way_ = 0;
  std::vector<Piece> pieces_;
};

// Up to this many keys, a call is not heavy: it costs Redis no more than an ordinary command.
constexpr std::size_t kLightKeys = 64;
constexpr std::size_t kScanCount = 1000;      // names that one SCAN looks at
constexpr std::size_t kPageBytes = 256 * 1024;  // of names in one command

// Of one text of a command, one call under way at a time.
class PlainWalk final : public RedisWork {
 public:
  PlainWalk(Ticket ticket, const Command& command, WorkShared& shared, std::size_t item)
      : RedisWork(ticket, command, shared), item_(item), is_large_(!is_of_tags()) {
    shared_.pacer.begin_walk();
    if (is_of_tags()) begin_set(std::string(kTagPrefix) + name());
  }
  ~PlainWalk() override { shared_.pacer.end_walk(); }

  void pump(Session& session, SteadyTime now) override {
    if (std::exchange(heavy_came_, false)) shared_.pacer.heavy_done(now);
    wants_wake_ = false;
    if (under_way_ > 0 || is_over_) return;
    if (page_.empty() && !next()) {
      is_over_ = true;
      return;
    }
    page_size_ = next_page_size();
    const bool is_heavy = page_.empty() ? is_large_ : page_size_ > kLightKeys;
    if (is_heavy && !shared_.pacer.may_send_heavy(now)) {
      wants_wake_ = true;
      return;
    }
    if (is_heavy) shared_.pacer.heavy_sent(now);
    is_heavy_ = is_heavy;
    failed_page_ = false;
    if (is_wrong_type_) {
      send(session, {"UNLINK", set_}, Call::kSet, now);
    } else if (page_.empty()) {
      send_scan(session, now);
    } else {
      send_page(session, now);
    }
  }

  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    --under_way_;
    const bool fits = take(static_cast<Call>(tag), std::move(reply));
    if (under_way_ == 0 && std::exchange(is_heavy_, false)) heavy_came_ = true;
    return fits;
  }

  bool on_error(std::uint64_t tag, std::string_view text, std::string& about) override {
    --under_way_;
    if (under_way_ == 0 && std::exchange(is_heavy_, false)) heavy_came_ = true;
    const auto call = static_cast<Call>(tag);
    // A tag's key that is no set: nothing in it can be a member.
    if (call == Call::kMembers && text.starts_with("WRONGTYPE")) return is_wrong_type_ = true;
    // Anybody who may write a tag's set may put a name there that is not ours to touch. It is found by halves.
    const bool is_page = call == Call::kDelete || call == Call::kQueued || call == Call::kExec;
    if (!set_.empty() && is_page && (failed_page_ || is_key_forbidden(text))) {
      failed_page_ = true;
      if (under_way_ == 0) halve_page();
      return true;
    }
    about = "it was about '" + (page_.empty() ? name() : page_.front()).substr(0, 100) + "'";
    return false;
  }

  bool is_finished() const override { return is_over_; }
  bool wants_wake() const override { return wants_wake_; }

 private:
  enum class Call : std::uint64_t { kNames, kMembers, kSet, kDelete, kMulti, kQueued, kExec };

  std::string name() const { return std::string(command_.text(item_)); }
  bool is_of_tags() const { return command_.target == Target::kTags; }
  bool is_over_sets() const { return command_.pattern_of == PatternOf::kTagSets; }
  // The first walk leaves the members in the set, for readers that stored a value meanwhile: the second one finds them.
  bool members_leave() const { return command_.act != Act::kInvalidate || command_.settled || command_.unconditional; }

  void begin_set(std::string set) {
    set_ = std::move(set);
    member_cursor_ = "0";
    is_set_scanned_ = is_wrong_type_ = false;
  }

  // Where to look next, with nothing left of the last page. False: everything was looked at.
  bool next() {
    while (true) {
      if (!set_.empty() && (!is_set_scanned_ || is_wrong_type_)) return true;
      set_.clear();
      if (!sets_.empty()) {
        begin_set(std::move(sets_.back()));
        sets_.pop_back();
        continue;
      }
      return !is_of_tags() && !is_scanned_;
    }
  }

  std::size_t next_page_size() const {
    const std::size_t most = std::min({page_.size(), shared_.page_keys, page_limit_});
    std::size_t bytes = 0, size = 0;
    while (size < most && (size == 0 || bytes + page_[size].size() <= kPageBytes)) bytes += page_[size++].size();
    return size;
  }

  void send(Session& session, std::initializer_list<std::string_view> arguments, Call call, SteadyTime now) {
    append_command(session.output(), arguments);
    expect(session, call, now);
  }
  void expect(Session& session, Call call, SteadyTime now) {
    session.expect(*this, static_cast<std::uint64_t>(call), now);
    ++under_way_;
  }

  void send_scan(Session& session, SteadyTime now) {
    const std::string page = std::to_string(std::max<std::size_t>(shared_.page_keys, 1));
    const std::string glob = name(), count = std::to_string(kScanCount);
    if (!set_.empty()) {
      send(session, {"SSCAN", set_, member_cursor_, "COUNT", page}, Call::kMembers, now);
    } else if (is_over_sets()) {
      send(session, {"SCAN", cursor_, "MATCH", glob, "COUNT", count, "TYPE", "set"}, Call::kNames, now);
    } else {
      send(session, {"SCAN", cursor_, "MATCH", glob, "COUNT", count}, Call::kNames, now);
    }
  }

  void append_page(std::string& out, std::string_view command, std::string_view first) {
    append_command_head(out, 1 + (first.empty() ? 0 : 1) + page_size_);
    append_argument(out, command);
    if (!first.empty()) append_argument(out, first);
    for (std::size_t i = 0; i < page_size_; ++i) append_argument(out, page_[i]);
  }

  void send_page(Session& session, SteadyTime now) {
    std::string& out = session.output();
    const bool leaves = !set_.empty() && members_leave();
    if (leaves) send(session, {"MULTI"}, Call::kMulti, now);
    append_page(out, "UNLINK", "");
    expect(session, leaves ? Call::kQueued : Call::kDelete, now);
    if (!leaves) return;
    append_page(out, "SREM", set_);
    expect(session, Call::kQueued, now);
    send(session, {"EXEC"}, Call::kExec, now);
  }

  bool take(Call call, Reply&& reply) {
    switch (call) {
      case Call::kNames:
      case Call::kMembers:
        return take_names(std::move(reply), call == Call::kMembers);
      case Call::kSet: {
        const auto unlinked = read_count(reply, 1);
        if (!unlinked) return false;
        outcome_.deleted += *unlinked;
        ++shared_.wrong_type_tags;
        is_wrong_type_ = false;
        is_set_scanned_ = true;
        return true;
      }
      case Call::kMulti:
        return reply.is_ok();
      case Call::kQueued:
        return reply.kind == Reply::Kind::kStatus && reply.text == "QUEUED";
      case Call::kDelete:
        return take_deleted(reply);
      case Call::kExec:
        if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2) return false;
        if (reply.elements[0].is_error() && is_key_forbidden(reply.elements[0].text)) {
          halve_page();
          return true;
        }
        return read_count(reply.elements[1], page_size_) && take_deleted(reply.elements[0]);
    }
    return false;
  }

  bool take_deleted(const Reply& reply) {
    const auto deleted = read_count(reply, page_size_);
    if (!deleted) return false;
    outcome_.deleted += *deleted;
    outcome_.absent += page_size_ - *deleted;
    drop_page();
    page_limit_ = std::min(2 * page_limit_, kPageLimitMax);
    return true;
  }

  void halve_page() {
    page_limit_ = std::max<std::size_t>(page_size_ / 2, 1);
    if (page_size_ > 1) return;
    drop_page();
    ++shared_.skipped.forbidden;
  }
  void drop_page() { page_.erase(page_.begin(), page_.begin() + static_cast<std::ptrdiff_t>(page_size_)); }

  bool take_names(Reply&& reply, bool are_members) {
    auto page = read_scan(std::move(reply));
    if (!page) return false;
    shared_.skipped.too_long += page->too_long;
    std::string& cursor = are_members ? member_cursor_ : cursor_;
    cursor = std::move(page->cursor);
    if (cursor == "0") {
      (are_members ? is_set_scanned_ : is_scanned_) = true;
    } else {
      is_large_ = true;
    }
    for (std::string& found : page->names) {
      if (is_own_key(found)) continue;  // a pattern such as '*' must not eat what evictd rests on
      if (are_members) {
        if (!shared_.may_touch || shared_.may_touch(found)) {
          page_.push_back(std::move(found));
        } else {
          ++shared_.skipped.foreign;
        }
      } else if (is_over_sets()) {
        sets_.push_back(std::move(found));
      } else if (name().starts_with(kTagPrefix) || !found.starts_with(kTagPrefix)) {
        page_.push_back(std::move(found));  // unlinked as a key, a tag's set would strand its members
      }
    }
    return true;
  }

  static constexpr std::size_t kPageLimitMax = 1 << 20;

  const std::size_t item_;
  std::string cursor_ = "0";
  bool is_scanned_ = false;          // of a pattern: the key space was
  std::vector<std::string> sets_;    // found by a pattern of tags, still to be walked
  std::string set_;                  // whose members are being walked; empty: none
  std::string member_cursor_;
  bool is_set_scanned_ = false;
  bool is_wrong_type_ = false;
  std::vector<std::string> page_;    // names to be deleted
  std::size_t page_size_ = 0;        // of the call under way, from its front
  std::size_t page_limit_ = kPageLimitMax;
  bool failed_page_ = false;
  std::size_t under_way_ = 0;
  bool is_heavy_ = false, heavy_came_ = false, wants_wake_ = false, is_large_, is_over_ = false;
};

// Several side by side.
class PlainWalks final : public RedisWork {
 public:
  using RedisWork::RedisWork;

  void pump(Session& session, SteadyTime now) override {
    for (const auto& walk : walks_) walk->pump(session, now);
    std::erase_if(walks_, [this](const std::unique_ptr<PlainWalk>& walk) {
      if (!walk->is_finished()) return false;
      outcome_.deleted += walk->outcome().deleted;
      outcome_.absent += walk->outcome().absent;
      return true;
    });
    while (next_item_ < command_.size() && shared_.pacer.may_begin_walk()) {
      walks_.push_back(std::make_unique<PlainWalk>(ticket_, command_, shared_, next_item_++));
      walks_.back()->pump(session, now);
    }
  }

  // Replies come to the walks themselves: they are those that the session was given.
  bool on_reply(std::uint64_t, Reply&&) override { return false; }
  bool on_error(std::uint64_t, std::string_view, std::string&) override { return false; }
  bool is_finished() const override { return next_item_ == command_.size() && walks_.empty(); }
  bool wants_wake() const override {
    return std::any_of(walks_.begin(), walks_.end(), [](const auto& walk) { return walk->wants_wake(); });
  }

 private:
  std::size_t next_item_ = 0;
  std::vector<std::unique_ptr<PlainWalk>> walks_;
};

}  // namespace

bool is_plain(const Command& command) {
  const bool is_counted = command.target == Target::kCounters ||
                          (command.target == Target::kPatterns && command.pattern_of == PatternOf::kCounters);
  return !command.trust_filled && command.channel.empty() && !is_counted && !command.lazy;
}

std::unique_ptr<RedisWork> make_plain_work(Ticket ticket, const Command& command, WorkShared& shared) {
  EVICTD_CHECK(is_plain(command));
  if (command.target == Target::kKeys) return std::make_unique<PlainWork>(ticket, command, shared);
  return std::make_unique<PlainWalks>(ticket, command, shared);
}

}  // namespace evictd
