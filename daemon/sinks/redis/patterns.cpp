#include "daemon/sinks/redis/patterns.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/sinks/redis/hunt.h"
#include "daemon/sinks/redis/plain_work.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/walk.h"
#include "daemon/sinks/redis/walk_call.h"
#include "mapping/rules.h"

namespace evictd {
namespace {

// Patterns whose markers one call writes.
constexpr std::size_t kGroupMax = 64;
// Bytes of names that may wait for company, of all patterns.
constexpr std::size_t kHeldBytesMax = 1024 * 1024;
class PatternsWork final : public RedisWork {
 public:
  PatternsWork(Ticket ticket, const Order& order, WorkShared& shared)
      : RedisWork(ticket, Command{}, shared), call_(Urgency::kBulk, shared), count_(2 * kLightKeys, kScanCountMax) {
    for (const PatternRef& ref : order.patterns) hunts_.emplace_back(order, ref);
    append_tokens(tokens_, hunts_.front().command(), 0);
    outcome_.by_pattern.resize(hunts_.size());
    treated_.resize(number_alike(hunts_));
    group_by_channel();
    if (groups_.empty()) begin_scan();
  }

  void pump(Session& session, SteadyTime now) override {
    while (stage_ != Stage::kDone) {
      if (inner_) {
        inner_->pump(session, *this, 0, now);
        if (!inner_->is_done()) return;
        inner_.reset();
      }
      if (!call_.is_free(now)) return;
      if (!send_next(session, now)) return;
    }
  }

  bool on_reply(std::uint64_t, Reply&& reply) override {
    if (inner_) {
      Outcome outcome;
      if (!inner_->on_reply(std::move(reply), outcome)) return false;
      count(at_, outcome);
      return true;
    }
    if (!take_reply(std::move(reply))) return false;
    call_.answered();
    return true;
  }

  bool on_error(std::uint64_t, std::string_view text, std::string& about) override {
    if (inner_) return inner_->on_error(text, about);
    if (call_.is_to_be_repeated(text)) return true;
    about = stage_ == Stage::kPage ? about_key(hunts_[at_].names.back(), false)
                                   : "it was about the pattern '" + std::string(hunts_[at_].text().substr(0, 100)) + "'";
    return false;
  }

  bool is_finished() const override { return stage_ == Stage::kDone; }
  bool is_bulk() const override { return true; }
  bool wants_wake() const override { return call_.wants_wake() || (inner_ && inner_->wants_wake()); }

 private:
  // Of the call under way, or of the next one: kSeek decides which it is.
  enum class Stage { kBegin, kSeek, kScan, kPage, kFinish, kDone };

  // Markers are written for patterns of one channel together.
  void group_by_channel() {
    std::map<std::string_view, std::vector<std::size_t>> by_channel;
    for (std::size_t i = 0; i < hunts_.size(); ++i) {
      if (!hunts_[i].is_plain) by_channel[hunts_[i].command().channel].push_back(i);
    }
    for (const auto& [channel, all] : by_channel) {
      for (std::size_t begin = 0; begin < all.size(); begin += kGroupMax) {
        const std::size_t end = std::min(begin + kGroupMax, all.size());
        groups_.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + static_cast<std::ptrdiff_t>(end));
      }
    }
  }

  // False when there is something to wait for.
  bool send_next(Session& session, SteadyTime now) {
    if (stage_ == Stage::kSeek) seek();
    switch (stage_) {
      case Stage::kBegin:
        send_markers(session, Script::kWalkBegin, "c", now);
        break;
      case Stage::kScan:
        if (!call_.may_send(true, now)) return false;
        send_scan(session);
        break;
      case Stage::kPage:
        if (hunts_[at_].kind == HuntKind::kSets) {
          begin_inner();
          return true;
        }
        page_size_ = next_page_size();
        if (!call_.may_send(page_size_ > kLightKeys, now)) return false;
        send_page(session, now);
        break;
      case Stage::kFinish:
        skip_groups_without_end();
        if (stage_ == Stage::kDone) return true;
        send_markers(session, Script::kWalkFinish, "y", now);
        break;
      case Stage::kSeek:
      case Stage::kDone:
        return true;
    }
    call_.sent(session, *this, 0, now);
    return false;
  }

  // What comes next: names that wait, more of them, or the end.
  void seek() {
    const bool is_scanned = scanned_ == Scanned::kAll;
    std::size_t held = 0;
    std::optional<std::size_t> most;
    for (std::size_t i = 0; i < hunts_.size(); ++i) {
      const Hunt& hunt = hunts_[i];
      if (hunt.names.empty()) continue;
      held += hunt.bytes;
      // Sets are few, or large: none of them waits.
      if (hunt.kind == HuntKind::kSets || hunt.names.size() >= shared_.page_keys || hunt.bytes >= kPageBytes) return treat(i);
      if (!most || hunt.bytes > hunts_[*most].bytes) most = i;
    }
    if (most && (is_scanned || held > kHeldBytesMax)) return treat(*most);
    group_ = 0;
    stage_ = is_scanned ? Stage::kFinish : Stage::kScan;
  }

  void treat(std::size_t hunt) {
    at_ = hunt;
    stage_ = Stage::kPage;
  }

  // ------------------------------------------------------------- Markers

  void send_markers(Session& session, Script which, std::string_view flags, SteadyTime now) {
    const std::vector<std::size_t>& group = groups_[group_];
    at_ = group.front();
    call_.begin_script(session, which, group.size() + 1, hunts_[at_].command(), now);
    // An operator's purge is never a replay, its own marker would say nothing: but it does no harm.
    for (const std::size_t i : group) append_argument(session.output(), marker_name_of("purge:" + std::string(hunts_[i].text())));
    append_argument(session.output(), kPurgedMarker);
    call_.end_script(session, hunts_[at_].command(), tokens_, flags);
  }

  bool take_begun(const Reply& reply) {
    std::vector<std::size_t>& group = groups_[group_];
    const auto begun = read_walk(reply, group.size() + 1);
    if (!begun) return false;
    // The last marker is nobody's own.
    if (!begun->finished.empty() && begun->finished.back() >= group.size()) return false;
    if (begun->is_finished != (begun->finished.size() == group.size())) return false;
    shared_.tombstones_refused += begun->refused;
    for (const std::uint32_t index : begun->finished) {
      hunts_[group[index]].is_finished = true;
      Outcome outcome;
      outcome.replayed = 1;
      count(group[index], outcome);
    }
    std::erase_if(group, [this](std::size_t i) { return hunts_[i].is_finished; });
    if (++group_ == groups_.size()) begin_scan();
    return true;
  }

  // Never replayed, and nobody to be told: no need to note the end.
  void skip_groups_without_end() {
    const auto has_end = [this](const std::vector<std::size_t>& group) {
      if (group.empty()) return false;
      const Command& command = hunts_[group.front()].command();
      return !command.unconditional || !command.channel.empty();
    };
    while (group_ < groups_.size() && !has_end(groups_[group_])) ++group_;
    if (group_ == groups_.size()) stage_ = Stage::kDone;
  }

  // ------------------------------------------------------------- Names

  void begin_scan() {
    stage_ = Stage::kSeek;
    for (std::size_t i = 0; i < hunts_.size(); ++i) {
      Hunt& hunt = hunts_[i];
      if (hunt.is_finished) continue;
      if (hunt.is_one_name()) {
        hunt.hold(hunt.glob.prefix());
      } else {
        wanted_.push_back(i);
      }
    }
    scanned_ = wanted_.empty() ? Scanned::kAll : Scanned::kSome;
    if (wanted_.empty()) return;
    at_ = wanted_.front();
    const Hunt& first = hunts_[at_];
    if (wanted_.size() == 1) {
      match_ = first.kind == HuntKind::kLazyTags ? std::string(kOwnPrefix) + "*" + std::string(first.text()) + "*" : std::string(first.text());
    } else {
      std::string_view prefix = prefix_of(first);
      for (const std::size_t i : wanted_) prefix = common_prefix(prefix, prefix_of(hunts_[i]));
      if (!prefix.empty()) match_ = glob_of_prefix(prefix);
    }
    type_ = type_of(first);
    for (const std::size_t i : wanted_) {
      if (type_of(hunts_[i]) != type_) type_ = {};
    }
  }

  static std::string_view prefix_of(const Hunt& hunt) {
    return hunt.kind == HuntKind::kLazyTags ? kOwnPrefix : std::string_view(hunt.glob.prefix());
  }
  static std::string_view type_of(const Hunt& hunt) {
    if (hunt.kind == HuntKind::kKeys || hunt.kind == HuntKind::kSets) return {};  // tags are of two types
    return "string";
  }

  void send_scan(Session& session) {
    at_ = wanted_.front();
    std::string& out = session.output();
    append_command_head(out, 4 + (match_.empty() ? 0 : 2) + (type_.empty() ? 0 : 2));
    append_argument(out, "SCAN");
    append_argument(out, cursor_);
    append_argument(out, "COUNT");
    append_argument(out, count_.value());
    if (!match_.empty()) {
      append_argument(out, "MATCH");
      append_argument(out, match_);
    }
    if (!type_.empty()) {
      append_argument(out, "TYPE");
      append_argument(out, type_);
    }
  }

  bool take_names(Reply&& reply) {
    auto page = read_scan(std::move(reply));
    if (!page) return false;
    count_.saw(page->bytes);
    if (wanted_.size() == 1) shared_.skipped.too_long += page->too_long;  // of several: nobody knows whose they are
    cursor_ = std::move(page->cursor);
    if (cursor_ == "0") scanned_ = Scanned::kAll;
    for (std::string& name : page->names) give_out(std::move(name));
    stage_ = Stage::kSeek;
    return true;
  }

  void give_out(std::string name) {
    bool is_clean = true;
    for (const std::size_t i : wanted_) {
      Hunt& hunt = hunts_[i];
      if (!hunt.matches(name)) continue;
      if (is_clean) std::fill(treated_.begin(), treated_.end(), false);
      is_clean = false;
      if (!treated_[hunt.alike]) hunt.hold(name);
      treated_[hunt.alike] = true;
      if (treated_.size() == 1) return;
    }
  }

  // ------------------------------------------------------------- Pages

  void begin_inner() {
    Hunt& hunt = hunts_[at_];
    inner_ = std::make_unique<MemberWalk>(MemberWalk::FoundBy::kPattern, hunt.names.back(), tokens_, hunt.command(), shared_);
    drop(hunt, 1);
    stage_ = Stage::kSeek;
  }

  // From the back of those that wait.
  std::size_t next_page_size() const {
    const std::vector<std::string>& names = hunts_[at_].names;
    const std::size_t most = std::min(names.size(), std::max<std::size_t>(shared_.page_keys, 1));
    std::size_t bytes = 0;
    std::size_t size = 0;
    while (size < most && (size == 0 || bytes + names[names.size() - size - 1].size() <= kPageBytes)) {
      bytes += names[names.size() - size - 1].size();
      ++size;
    }
    return size;
  }

  void send_page(Session& session, SteadyTime now) {
    const Hunt& hunt = hunts_[at_];
    std::string& out = session.output();
    if (hunt.is_plain) return plain_page_.send(out, std::span(hunt.names).last(page_size_), {});
    // The last one first: what a call that ends early has done is dropped from the back.
    const auto first = hunt.names.rbegin();
    const auto end = first + static_cast<std::ptrdiff_t>(page_size_);
    if (hunt.kind == HuntKind::kLazyTags) {
      call_.begin_script(session, Script::kLazyTags, page_size_, hunt.command(), now);
      for (auto name = first; name != end; ++name) append_argument(out, *name);
      call_.end_script(session, hunt.command(), tokens_, "");
      return;
    }
    const bool raises = hunt.kind == HuntKind::kCounters;
    call_.begin_script(session, raises ? Script::kRaise : Script::kInvalidate, 2 * page_size_, hunt.command(), now);
    for (auto name = first; name != end; ++name) append_argument(out, *name);
    for (auto name = first; name != end; ++name) append_argument(out, marker_name_of(*name));
    // A counter does not remember a pattern: its transactions' own raise, when they are visible, is still to come.
    call_.end_script(session, hunt.command(), tokens_, !raises ? "" : hunt.is_one_name() ? "u" : "up");
  }

  static void drop(Hunt& hunt, std::size_t size) {
    for (; size > 0; --size) {
      hunt.bytes -= hunt.names.back().size() + kNameBytes;
      hunt.names.pop_back();
    }
  }

  bool take_reply(Reply&& reply) {
    switch (stage_) {
      case Stage::kBegin:
        return take_begun(reply);
      case Stage::kScan:
        return take_names(std::move(reply));
      case Stage::kPage: {
        Outcome outcome;
        if (hunts_[at_].is_plain) {
          if (plain_page_.on_reply(reply) != PlainPage::Answer::kDone) return false;
          outcome.deleted = plain_page_.deleted();
          outcome.absent = page_size_ - outcome.deleted;
        } else {
          const auto done = add_outcome(reply, page_size_, false, shared_, outcome);
          if (!done) return false;
          page_size_ = done->keys;
        }
        count(at_, outcome);
        drop(hunts_[at_], page_size_);
        stage_ = Stage::kSeek;
        return true;
      }
      case Stage::kFinish: {
        const auto finished = read_walk(reply, groups_[group_].size() + 1);
        if (!finished) return false;
        shared_.tombstones_refused += finished->refused;
        ++group_;
        skip_groups_without_end();
        return true;
      }
      case Stage::kSeek:
      case Stage::kDone:
        break;
    }
    return false;
  }

  void count(std::size_t hunt, const Counts& more) {
    outcome_ += more;
    outcome_.by_pattern[hunt] += more;
  }

  std::vector<Hunt> hunts_;
  std::string tokens_;  // the same of all
  WalkCall call_;

  Stage stage_ = Stage::kBegin;
  std::size_t at_ = 0;  // the hunt that the call is about
  std::vector<std::vector<std::size_t>> groups_;
  std::size_t group_ = 0;

  enum class Scanned { kSome, kAll } scanned_ = Scanned::kSome;
  std::vector<std::size_t> wanted_;  // what is looked for: hunts
  std::string match_;
  std::string_view type_;
  std::string cursor_ = "0";
  ScanCount count_;
  std::vector<bool> treated_;  // by Hunt::alike, of the name in hand

  std::size_t page_size_ = 0;  // of the call under way
  PlainPage plain_page_;       // likewise, where it is one
  std::unique_ptr<MemberWalk> inner_;
};

}  // namespace

std::unique_ptr<RedisWork> make_patterns_work(Ticket ticket, const Order& order, WorkShared& shared) {
  return std::make_unique<PatternsWork>(ticket, order, shared);
}

}  // namespace evictd
