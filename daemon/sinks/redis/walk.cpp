#include "daemon/sinks/redis/walk.h"

#include <algorithm>
#include <span>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "mapping/rules.h"

namespace evictd {
namespace {

constexpr std::size_t kPageLimitMax = 1 << 20;
constexpr std::size_t kMarkers = 1;  // of one walk

}  // namespace

MemberWalk::MemberWalk(FoundBy found_by, std::string set, std::string_view tokens, const Command& command, WorkShared& shared)
    : found_by_(found_by),
      set_(std::move(set)),
      tokens_(tokens),
      command_(command),
      shared_(shared),
      call_(found_by == FoundBy::kTag ? Urgency::kPrompt : Urgency::kBulk, shared),
      is_plain_(is_plain(command)),
      stage_(is_plain_ ? Stage::kScan : Stage::kBegin),
      count_(kLightKeys, std::max<std::size_t>(shared.page_keys, 1)),
      page_limit_(kPageLimitMax) {}

void MemberWalk::pump(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now) {
  if (!call_.is_free(now) || is_done()) return;
  if (stage_ == Stage::kPage && page_.empty()) stage_ = cursor_ == "0" ? Stage::kFinish : Stage::kScan;
  if (stage_ == Stage::kFinish && (is_plain_ || (command_.unconditional && command_.channel.empty()))) {
    stage_ = Stage::kDone;  // nothing to be noted in, or never replayed
  }
  switch (stage_) {
    case Stage::kBegin:
      send_marker_call(session, Script::kWalkBegin, "w", now);
      break;
    case Stage::kScan:
      if (!call_.may_send(is_large_, now)) return;
      append_command(session.output(), {members_have_ends_ ? "ZSCAN" : "SSCAN", set_, cursor_, "COUNT", std::to_string(count_.value())});
      break;
    case Stage::kPage:
      page_size_ = next_page_size();
      if (!call_.may_send(page_size_ > kLightKeys, now)) return;
      return send_page(session, receiver, tag, now);
    case Stage::kUnlink:
      append_command(session.output(), {"UNLINK", set_});
      break;
    case Stage::kFinish:
      send_marker_call(session, Script::kWalkFinish, "", now);
      break;
    case Stage::kDone:
      return;
  }
  call_.sent(session, receiver, tag, now);
}

bool MemberWalk::on_reply(Reply&& reply, Outcome& outcome) {
  if (stage_ == Stage::kPage && is_plain_) return take_page(plain_page_.on_reply(reply), outcome);
  if (!take_reply(std::move(reply), outcome)) return false;
  call_.answered();
  return true;
}

bool MemberWalk::on_error(std::string_view text, std::string& about) {
  if (call_.is_to_be_repeated(text)) return true;
  if (stage_ == Stage::kPage && is_plain_) {
    Outcome none;
    if (take_page(plain_page_.on_error(text), none)) return true;
  } else if (take_error(text)) {
    call_.refused();
    return true;
  }
  about = stage_ == Stage::kPage && !page_.empty() ? about_key(page_.front(), false)
                                                   : "it was about '" + set_.substr(0, 100) + "'";
  return false;
}

// As many as one call may take of the page, fewer while one member is looked for that the ACL keeps us from.
std::size_t MemberWalk::next_page_size() const {
  const std::size_t most = std::min({page_.size(), shared_.page_keys, page_limit_});
  std::size_t bytes = 0;
  std::size_t size = 0;
  while (size < most && (size == 0 || bytes + page_[size].size() <= kPageBytes)) bytes += page_[size++].size();
  return size;
}

void MemberWalk::send_marker_call(Session& session, Script which, std::string_view flags, SteadyTime now) {
  call_.begin_script(session, which, 1, command_, now);
  append_argument(session.output(), marker_name_of(set_));
  call_.end_script(session, command_, tokens_, flags);
}

void MemberWalk::send_page(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now) {
  // Memberships that have an end are not taken away before it: a fill that is under way may count on one (evictd_join).
  const bool stays = members_have_ends_;
  if (is_plain_) {
    const std::string_view set = members_leave() && !stays && !is_full_ ? std::string_view(set_) : std::string_view();
    plain_page_.send(session.output(), std::span(page_).first(page_size_), set);
    call_.sent(session, receiver, tag, now);
    for (std::size_t more = 1; more < plain_page_.replies(); ++more) session.expect(receiver, tag, now);
    return;
  }
  call_.begin_script(session, stays ? Script::kInvalidate : Script::kWalkMembers, (stays ? 0 : 1) + 2 * page_size_, command_, now);
  std::string& out = session.output();
  if (!stays) append_argument(out, set_);
  for (std::size_t i = 0; i < page_size_; ++i) append_argument(out, page_[i]);
  for (std::size_t i = 0; i < page_size_; ++i) append_argument(out, marker_name_of(page_[i]));
  call_.end_script(session, command_, tokens_, !stays && members_leave() ? "m" : "");
  call_.sent(session, receiver, tag, now);
}

// Plain readers may add a key to the set a moment before or after they store its value. So the
// first walk of a plain rule leaves the members in, for the settle walk to find them again.
bool MemberWalk::members_leave() const {
  return command_.trust_filled || command_.act != Act::kInvalidate || command_.settled || command_.unconditional;
}

bool MemberWalk::take_reply(Reply&& reply, Outcome& outcome) {
  switch (stage_) {
    case Stage::kBegin: {
      const auto begun = read_walk(reply, kMarkers);
      if (!begun) return false;
      shared_.tombstones_refused += begun->refused;
      if (begun->is_finished) ++outcome.replayed;
      stage_ = begun->is_finished ? Stage::kDone : Stage::kScan;
      return true;
    }
    case Stage::kScan:
      return take_names(std::move(reply));
    case Stage::kPage: {
      const auto done = add_outcome(reply, page_size_, false, shared_, outcome);
      if (!done) return false;
      page_size_ = done->keys;
      page_done();
      return true;
    }
    case Stage::kUnlink: {
      const auto unlinked = read_count(reply, 1);
      if (!unlinked) return false;
      outcome.deleted += *unlinked;
      ++shared_.wrong_type_tags;
      stage_ = Stage::kFinish;
      return true;
    }
    case Stage::kFinish: {
      const auto finished = read_walk(reply, kMarkers);
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

bool MemberWalk::take_names(Reply&& reply) {
  auto page = read_scan(std::move(reply), members_have_ends_);
  if (!page) return false;
  is_wrong_type_ = false;
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

// Never evictd's own keys, which anybody may have put there, nor what no rule may touch.
bool MemberWalk::is_wanted(std::string_view name) {
  if (is_own_key(name)) return false;
  if (!shared_.may_touch || shared_.may_touch(name)) return true;
  ++shared_.skipped.foreign;
  return false;
}

bool MemberWalk::take_error(std::string_view text) {
  // Anybody who may write a tag's set may put a name there that is not ours to touch. It is found by halves, and
  // left alone; a walk that waited for the right to it would hold up everything.
  if (stage_ == Stage::kPage && is_key_forbidden(text)) {
    halve_page();
    return true;
  }
  if (stage_ != Stage::kScan || !text.starts_with("WRONGTYPE")) return false;
  members_have_ends_ = !members_have_ends_;
  cursor_ = "0";
  if (!std::exchange(is_wrong_type_, true)) return true;
  // A tag's key that is no set of either kind: nothing in it can be a member, and fills cannot add to it.
  stage_ = found_by_ == FoundBy::kTag ? Stage::kUnlink : Stage::kDone;
  return true;
}

// False when it is no answer to what was sent.
bool MemberWalk::take_page(PlainPage::Answer answer, Outcome& outcome) {
  switch (answer) {
    case PlainPage::Answer::kMore:
      return true;
    case PlainPage::Answer::kDone:
      outcome.deleted += plain_page_.deleted();
      outcome.absent += page_size_ - plain_page_.deleted();
      page_done();
      call_.answered();
      return true;
    case PlainPage::Answer::kForbidden:
      halve_page();
      call_.refused();
      return true;
    case PlainPage::Answer::kFull:
      is_full_ = true;  // the same page again, whose members stay
      call_.refused();
      return true;
    case PlainPage::Answer::kWrong:
      break;
  }
  return false;
}

void MemberWalk::page_done() {
  drop_page();
  page_limit_ = std::min(2 * page_limit_, kPageLimitMax);
}

void MemberWalk::halve_page() {
  page_limit_ = std::max<std::size_t>(page_size_ / 2, 1);
  if (page_size_ > 1) return;
  drop_page();
  ++shared_.skipped.forbidden;
}

void MemberWalk::drop_page() {
  page_.erase(page_.begin(), page_.begin() + static_cast<std::ptrdiff_t>(page_size_));
}

namespace {

class TagsWork final : public RedisWork {
 public:
  using RedisWork::RedisWork;
  ~TagsWork() override {
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
    return std::any_of(walks_.begin(), walks_.end(), [](const Entry& entry) { return entry.walk->wants_wake(); });
  }

 private:
  struct Entry {
    std::uint64_t tag = 0;  // the item
    std::unique_ptr<MemberWalk> walk;
  };

  std::unique_ptr<MemberWalk> make_walk(std::size_t item) {
    std::string tokens;
    append_tokens(tokens, command_, item);
    std::string set(kTagPrefix);
    set += command_.text(item);
    return std::make_unique<MemberWalk>(MemberWalk::FoundBy::kTag, std::move(set), tokens, command_, shared_);
  }

  std::size_t next_item_ = 0;
  std::vector<Entry> walks_;
};

}  // namespace

std::unique_ptr<RedisWork> make_tags_work(Ticket ticket, const Command& command, WorkShared& shared) {
  return std::make_unique<TagsWork>(ticket, command, shared);
}

}  // namespace evictd
