#include "daemon/sinks/redis/redis_work.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <deque>
#include <span>

#include "daemon/sinks/redis/patterns.h"
#include "daemon/sinks/redis/plain_work.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/semantic_work.h"
#include "daemon/sinks/redis/walk.h"
#include "mapping/check.h"
#include "mapping/rules.h"

namespace evictd {
namespace {

// Keys, and transactions of them, in one script call. Redis serves nobody else during a call: about 0.5 ms, where 512 keys took 2 ms. Fewer cost more than they spare: 64 made a call a tenth dearer by key.
constexpr std::size_t kPieceItems = 128;
constexpr std::size_t kPieceXids = 1024;

// As TOKENS_MAX and TOKENS_KEPT of lua/marker.lua.
constexpr std::size_t kTokensMax = 32;
constexpr std::size_t kTokensKept = 8;

char* put_number(char* at, std::uint64_t number) { return std::to_chars(at, at + 20, number).ptr; }

char* put(char* at, std::string_view text) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

char* put_argument(char* at, std::string_view text) {
  *at++ = '$';
  at = put_number(at, text.size());
  *at++ = '\r';
  *at++ = '\n';
  at = put(at, text);
  *at++ = '\r';
  *at++ = '\n';
  return at;
}

// A token without its flags, as markers hold it: at most kTokenBytes.
constexpr std::size_t kTokenBytes = 1 + 20;
char* put_token(char* at, Xid xid) {
  if (!is_narrow(xid)) return put_number(at, number(xid));
  *at++ = '~';
  return put_number(at, static_cast<std::uint32_t>(number(xid)));
}

// As put_argument() of append_marker_name().
char* put_marker_argument(char* at, std::string_view key) {
  bool braces = true;
  if (const void* found = std::memchr(key.data(), '{', key.size())) {
    const std::size_t open = static_cast<std::size_t>(static_cast<const char*>(found) - key.data());
    const std::size_t close = key.find('}', open + 1);
    braces = close == std::string_view::npos || close == open + 1;
  }
  *at++ = '$';
  at = put_number(at, key.size() + (braces ? 9 : 7));
  *at++ = '\r';
  *at++ = '\n';
  at = put(at, "evictd:");
  if (braces) *at++ = '{';
  at = put(at, key);
  if (braces) *at++ = '}';
  *at++ = '\r';
  *at++ = '\n';
  return at;
}

// What this command deletes needs no second delete.
bool is_born_settled(const Command& command) {
  return command.act == Act::kSettle || (command.settled && command.act == Act::kInvalidate);
}

// True when one text of tokens holds for every item: a transaction of many rows.
bool tokens_are_shared(const Command& command, std::size_t begin, std::size_t end) {
  if (command.unconditional) return true;
  if (!command.row_versions.empty()) return false;
  const std::uint32_t first_xid = begin == 0 ? 0 : command.items[begin - 1].xids_end;
  for (std::size_t i = begin; i < end; ++i) {
    const std::uint32_t xids_begin = i == 0 ? 0 : command.items[i - 1].xids_end;
    if (command.items[i].xids_end != xids_begin + 1) return end == begin + 1;
    if (command.xids[xids_begin] != command.xids[first_xid]) return false;
  }
  return true;
}

// Too many transactions for one marker: leaves the latest in `xids` and appends a floor in place of the others, as
// tokens_text() of lua/marker.lua does. False when they are not of one kind.
bool append_floor(std::string& out, std::vector<Xid>& xids) {
  const auto is_wide = [](Xid xid) { return !is_opaque(xid); };
  const auto is_bare = [](Xid xid) { return is_opaque(xid) && !is_narrow(xid); };
  const auto kept = xids.end() - static_cast<std::ptrdiff_t>(kTokensKept);
  if (std::all_of(xids.begin(), xids.end(), is_wide)) {
    std::nth_element(xids.begin(), kept, xids.end());
    out += '^';
    out += std::to_string(number(*std::max_element(xids.begin(), kept)));
  } else if (std::all_of(xids.begin(), xids.end(), is_narrow)) {
    const auto latest = static_cast<std::uint32_t>(number(xids.back()));
    const auto is_earlier = [latest](Xid a, Xid b) {
      const auto ahead = [latest](Xid xid) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(number(xid)) - latest); };
      return ahead(a) < ahead(b);
    };
    std::nth_element(xids.begin(), kept, xids.end(), is_earlier);
    out += "^~";
    out += std::to_string(static_cast<std::uint32_t>(number(*std::max_element(xids.begin(), kept, is_earlier))));
  } else if (std::all_of(xids.begin(), xids.end(), is_bare)) {
    out += "^9007199254740992";  // 2^53: no snapshot is beyond it, as none proves any of these
  } else {
    return false;
  }
  xids.erase(xids.begin(), kept);
  return true;
}

// What a text of the command is to the script.
Script script_of(const Command& command) {
  if (command.target == Target::kCounters) return Script::kRaise;
  if (command.target == Target::kKeys && !command.trust_filled) return Script::kPlain;
  return command.target == Target::kTags ? Script::kLazyTags : Script::kInvalidate;
}

// Keys, the common case; counters and lazy tags alike: straight into script calls, all at once.
class KeysWork final : public RedisWork {
 public:
  KeysWork(Ticket ticket, const Command& command, WorkShared& shared) : RedisWork(ticket, command, shared) {
    // The markers of lazy tags are ours by intent. Unconditional orders of single keys are an operator's (`drop`), and
    // made of no row.
    if (command.target == Target::kTags || command.unconditional) return;
    for (std::size_t i = 0; i < command.size(); ++i) {
      if (is_own_key(command.text(i))) own_.push_back(i);
    }
  }

  void pump(Session& session, SteadyTime now) override {
    if (!sent_) {
      sent_ = true;
      // A row may spell a key of evictd's own. Nobody caches under such a name, and it is never touched.
      outcome_.absent += own_.size();
      shared_.skipped.own_keys += own_.size();
      for (std::size_t begin = 0; begin < command_.size(); begin += std::max<std::size_t>(piece_size(begin), 1)) {
        if (piece_size(begin) > 0) send(session, begin, now);
      }
    }
    // One at a time: what takes Redis long leaves it to others in between.
    if (!rest_ && !rests_.empty()) {
      rest_ = rests_.back();
      rests_.pop_back();
      send(session, rest_->begin, now);
    }
    if (resend_.empty()) return;
    // The scripts were flushed: load, and send again what was refused, behind the load.
    ++reloads_;
    session.load_script(script_of(command_), now);
    for (const std::size_t begin : resend_) send(session, begin, now);
    resend_.clear();
  }

  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    const std::size_t begin = tag;
    const std::size_t size = piece_size(begin);
    const auto read = add_outcome(reply, size, command_.tells_hits, shared_, outcome_);
    if (!read) return false;
    for (const std::uint32_t hit : read->hits) outcome_.hits.push_back(static_cast<std::uint32_t>(begin) + hit);
    if (rest_ && rest_->begin == begin) rest_.reset();
    if (read->keys < size) rests_.push_back({begin + read->keys, begin + size});
    --under_way_;
    reloads_ = 0;
    return true;
  }

  bool on_error(std::uint64_t tag, std::string_view text, std::string& about) override {
    if (is_flushed(text) && reloads_ < kReloadsMax) {
      --under_way_;
      resend_.push_back(tag);
      return true;
    }
    about = about_key(command_.text(tag), command_.target == Target::kTags);
    return false;
  }

  bool is_finished() const override { return sent_ && under_way_ == 0 && resend_.empty() && rests_.empty(); }
  std::size_t bytes() const override { return bytes_; }

 private:
  // One item at least, and none of evictd's own; 0: `begin` is one of those.
  std::size_t piece_size(std::size_t begin) const {
    if (rest_ && rest_->begin == begin) return rest_->end - begin;
    std::size_t most = std::min(kPieceItems, command_.size() - begin);
    if (const auto own = std::lower_bound(own_.begin(), own_.end(), begin); own != own_.end()) {
      most = std::min(most, *own - begin);
      if (most == 0) return 0;
    }
    const auto first = command_.items.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = first + static_cast<std::ptrdiff_t>(most);
    const std::size_t xids_begin = begin == 0 ? 0 : std::prev(first)->xids_end;
    const auto beyond = std::upper_bound(std::next(first), last, xids_begin + kPieceXids,
                                         [](std::size_t most_xids, const Item& item) { return most_xids < item.xids_end; });
    return static_cast<std::size_t>(beyond - first);
  }

  void send(Session& session, std::size_t begin, SteadyTime now) {
    const std::size_t end = begin + piece_size(begin);
    const std::size_t count = end - begin;
    const bool shared_tokens = tokens_are_shared(command_, begin, end);
    const std::uint32_t xids_begin = begin == 0 ? 0 : command_.items[begin - 1].xids_end;

    const bool markers_only = command_.target == Target::kTags;
    const bool keys_only = script_of(command_) == Script::kPlain;
    const std::size_t keys = (markers_only || keys_only ? count : 2 * count) + (command_.channel.empty() ? 0 : 1);

    std::string& out = session.output();
    append_command_head(out, 3 + keys + 4 + (shared_tokens ? 1 : count));
    append_argument(out, "EVALSHA");
    append_argument(out, script(script_of(command_)).sha1);
    append_argument(out, keys);
    if (markers_only) {
      for (std::size_t i = begin; i < end; ++i) {
        scratch_.clear();
        append_marker_name(scratch_, std::string(kTagPrefix) + std::string(command_.text(i)));
        append_argument(out, scratch_);
      }
    } else if (keys_only) {
      for (std::size_t i = begin; i < end; ++i) append_argument(out, command_.text(i));
    } else {
      append_keys_and_markers(out, begin, end);
    }
    if (!command_.channel.empty()) append_argument(out, channel_counter(command_.channel));

    append_argument(out, shared_.context.epoch);
    append_argument(out, shared_.lifetime);
    append_argument(out, command_flags(command_));
    append_argument(out, shared_.since);
    if (shared_tokens) {
      scratch_.clear();
      append_tokens(scratch_, command_, begin);
      append_argument(out, scratch_);
    } else if (command_.row_versions.empty() && command_.items[end - 1].xids_end - xids_begin == count) {
      append_single_tokens(out, begin, end);
    } else {
      for (std::size_t i = begin; i < end; ++i) {
        scratch_.clear();
        append_tokens(scratch_, command_, i);
        append_argument(out, scratch_);
      }
    }
    session.expect(*this, begin, now);
    ++under_way_;
  }

  // At memory speed: sized for the worst case, then cut.
  void append_keys_and_markers(std::string& out, std::size_t begin, std::size_t end) {
    constexpr std::size_t kArgumentFrame = 1 + 20 + 2 + 2;
    const std::uint32_t text_begin = begin == 0 ? 0 : command_.items[begin - 1].text_end;
    const std::size_t text_bytes = command_.items[end - 1].text_end - text_begin;
    const std::size_t before = out.size();
    out.resize(before + 2 * text_bytes + (end - begin) * (2 * kArgumentFrame + 9));
    char* at = out.data() + before;
    for (std::size_t i = begin; i < end; ++i) at = put_argument(at, command_.text(i));
    for (std::size_t i = begin; i < end; ++i) at = put_marker_argument(at, command_.text(i));
    out.resize(static_cast<std::size_t>(at - out.data()));
  }

  // Where there are as many xids as items, it is nearly always one each.
  void append_single_tokens(std::string& out, std::size_t begin, std::size_t end) {
    const bool settled = is_born_settled(command_);
    char token[kTokenBytes + 1];
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint32_t first = i == 0 ? 0 : command_.items[i - 1].xids_end;
      scratch_.clear();
      if (command_.items[i].xids_end != first + 1) {
        append_tokens(scratch_, command_, i);
        append_argument(out, scratch_);
        continue;
      }
      char* stop = put_token(token, command_.xids[first]);
      if (settled) *stop++ = 's';
      append_argument(out, std::string_view(token, static_cast<std::size_t>(stop - token)));
    }
  }

  // What a call that ended early left of its piece, never the first item of it.
  struct Rest {
    std::size_t begin;
    std::size_t end;
  };

  const std::size_t bytes_ = command_.bytes();
  std::vector<Rest> rests_;
  std::optional<Rest> rest_;  // under way
  std::vector<std::size_t> own_;  // items that spell a key of evictd's own, growing; usually none
  bool sent_ = false;
  std::size_t under_way_ = 0;
  std::size_t reloads_ = 0;  // in a row
  std::vector<std::size_t> resend_;
  std::string scratch_;
};

}  // namespace

void WalkPacer::heavy_sent(Urgency urgency, SteadyTime now) {
  heavy_under_way_ = true;
  last_urgency_ = urgency;
  heavy_since_ = now;
}

void WalkPacer::heavy_done(SteadyTime now) {
  heavy_under_way_ = false;
  const auto took = now - heavy_since_;
  const double share = std::clamp(share_, 0.01, 1.0);
  next_heavy_ = now + std::chrono::duration_cast<SteadyTime::duration>(took * (1.0 / share - 1.0));
}

void WalkPacer::reset() {
  walks_ = 0;
  heavy_under_way_ = false;
  next_heavy_ = SteadyTime{};
}

std::unique_ptr<RedisWork> make_work(Ticket ticket, const Order& order, WorkShared& shared) {
  if (order.target == Target::kSemantic || has_semantic_patterns(order)) return make_semantic_work(ticket, order, shared);
  if (order.target == Target::kPatterns) return make_patterns_work(ticket, order, shared);
  const Command command = make_command(order);
  if (command.target == Target::kTags && !command.lazy) return make_tags_work(ticket, command, shared);
  if (is_plain(command)) return make_plain_work(ticket, command, shared);
  return std::make_unique<KeysWork>(ticket, command, shared);
}

bool is_own_key(std::string_view key) { return key.starts_with(kOwnPrefix); }

bool is_flushed(std::string_view error) { return error.starts_with("NOSCRIPT"); }

std::string about_key(std::string_view key, bool is_tag) {
  constexpr std::size_t kShownMax = 100;
  std::string name;
  if (is_tag) name = kTagPrefix;
  name += key.substr(0, kShownMax);
  std::string marker;
  append_marker_name(marker, name);
  return "it was about '" + name + "', with its marker '" + marker + "'";
}

namespace {

void add_counts(const InvalidateReply& read, std::size_t keys, WorkShared& shared, Outcome& outcome) {
  outcome.deleted += read.deleted;
  outcome.kept += read.kept;
  outcome.replayed += read.replayed;
  outcome.absent += keys - read.deleted - read.kept - read.replayed;
  shared.tombstones_refused += read.refused;
}

}  // namespace

std::optional<InvalidateReply> add_outcome(const Reply& reply, std::size_t keys, bool with_hits, WorkShared& shared, Outcome& outcome) {
  auto read = read_invalidate(reply, keys, with_hits);
  if (read) add_counts(*read, read->keys, shared, outcome);
  return read;
}

std::optional<ScatteredReply> add_outcome_of_scattered(const Reply& reply, std::size_t keys, bool with_hits, WorkShared& shared, Outcome& outcome) {
  auto read = read_scattered(reply, keys, with_hits);
  if (read) add_counts(read->counts, read->counts.keys - read->elsewhere.size(), shared, outcome);
  return read;
}

std::string command_flags(const Command& command, std::string_view more) {
  std::string flags(1, command.act == Act::kInvalidate ? 'i'
                       : command.act == Act::kSettle   ? 's'
                                                       : 'r');
  if (command.trust_filled) flags += 'f';
  if (command.unconditional) flags += 'u';
  if (command.tells_hits) flags += 'h';
  flags += more;
  if (command.grace.count() > 0) flags += "k" + std::to_string(command.grace.count());
  if (!command.channel.empty()) flags += "|" + command.channel;
  return flags;
}

void append_tokens(std::string& out, const Command& command, std::size_t item) {
  if (command.unconditional) {
    out += '^';
    out += std::to_string(number(command.floor));
    return;
  }
  if (!command.row_versions.empty() && !command.row_versions[item].empty()) {
    out += 'v';
    out += command.row_versions[item];
    return;
  }
  const std::uint32_t begin = item == 0 ? 0 : command.items[item - 1].xids_end;
  const std::uint32_t end = command.items[item].xids_end;
  if (begin == end) out += "^0";  // no transaction to remember: any snapshot will do
  std::span<const Xid> xids(command.xids.begin() + begin, command.xids.begin() + end);
  std::vector<Xid> kept;
  if (xids.size() > kTokensMax && command.target != Target::kCounters) {  // a counter is raised by each
    kept.assign(xids.begin(), xids.end());
    if (append_floor(out, kept)) {
      out += is_born_settled(command) ? "s," : ",";
      xids = kept;
    }
  }
  for (std::size_t i = 0; i < xids.size(); ++i) {
    if (i != 0) out += ',';
    char token[kTokenBytes];
    out.append(token, put_token(token, xids[i]));
    if (is_born_settled(command)) out += 's';
  }
}

}  // namespace evictd
