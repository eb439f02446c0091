#include "daemon/sinks/redis/plain_work.h"

#include <algorithm>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
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

}  // namespace

bool is_plain(const Command& command) {
  const bool is_counted = command.target == Target::kCounters ||
                          (command.target == Target::kPatterns && command.pattern_of == PatternOf::kCounters);
  return !command.trust_filled && command.channel.empty() && !is_counted && !command.lazy;
}

void PlainPage::send(std::string& out, std::span<const std::string> names, std::string_view set) {
  size_ = names.size();
  deleted_ = 0;
  is_forbidden_ = is_full_ = false;
  const auto append = [&](std::string_view command, std::string_view first) {
    append_command_head(out, 1 + (first.empty() ? 0 : 1) + names.size());
    append_argument(out, command);
    if (!first.empty()) append_argument(out, first);
    for (const std::string& name : names) append_argument(out, name);
  };
  if (set.empty()) {
    append("UNLINK", {});
    awaited_ = {Awaited::kDeleted};
    return;
  }
  append_command(out, {"MULTI"});
  append("UNLINK", {});
  append("SREM", set);
  append_command(out, {"EXEC"});
  awaited_ = {Awaited::kMulti, Awaited::kQueued, Awaited::kQueued, Awaited::kExec};
}

PlainPage::Answer PlainPage::on_reply(const Reply& reply) {
  const Awaited awaited = take_awaited();
  switch (awaited) {
    case Awaited::kMulti:
      return reply.is_ok() ? Answer::kMore : Answer::kWrong;
    case Awaited::kQueued:
      return reply.kind == Reply::Kind::kStatus && reply.text == "QUEUED" ? Answer::kMore : Answer::kWrong;
    case Awaited::kDeleted:
      return take_deleted(reply);
    case Awaited::kExec:
      break;
  }
  if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2) return Answer::kWrong;
  for (const Reply& element : reply.elements) {
    if (element.is_error() && is_key_forbidden(element.text)) return Answer::kForbidden;
  }
  return read_count(reply.elements[1], size_) ? take_deleted(reply.elements[0]) : Answer::kWrong;
}

PlainPage::Answer PlainPage::on_error(std::string_view text) {
  const Awaited awaited = take_awaited();
  if (is_key_forbidden(text)) is_forbidden_ = true;
  // "If client is in MULTI/EXEC context, queuing may consume an unlimited amount of memory" (server.c): whatever the command.
  if (awaited == Awaited::kQueued && classify_redis_error(text).name == "oom") is_full_ = true;
  // What was not queued ends the transaction with one more error.
  if (!is_forbidden_ && !is_full_) return Answer::kWrong;
  if (awaited == Awaited::kQueued) return Answer::kMore;
  return is_forbidden_ ? Answer::kForbidden : Answer::kFull;
}

PlainPage::Awaited PlainPage::take_awaited() {
  EVICTD_CHECK(!awaited_.empty());
  const Awaited awaited = awaited_.front();
  awaited_.erase(awaited_.begin());
  return awaited;
}

PlainPage::Answer PlainPage::take_deleted(const Reply& reply) {
  const auto deleted = read_count(reply, size_);
  if (!deleted) return Answer::kWrong;
  deleted_ = *deleted;
  return Answer::kDone;
}

std::unique_ptr<RedisWork> make_plain_work(Ticket ticket, const Command& command, WorkShared& shared) {
  EVICTD_CHECK(is_plain(command) && command.target == Target::kKeys);
  return std::make_unique<PlainWork>(ticket, command, shared);
}

}  // namespace evictd
