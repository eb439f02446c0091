#include "daemon/sinks/redis/walk_call.h"

#include <algorithm>
#include <utility>

#include "daemon/sinks/redis/resp.h"

namespace evictd {
namespace {

// Bytes of names that one SCAN should bring.
constexpr std::uint64_t kScanBytes = 1024 * 1024;

}  // namespace

ScanCount::ScanCount(std::size_t first, std::size_t most) : count_(std::min(first, most)), most_(most) {}

void ScanCount::saw(std::uint64_t bytes) {
  const std::uint64_t each = std::max<std::uint64_t>(bytes / count_, 1);
  const std::uint64_t fitting = std::max<std::uint64_t>(kScanBytes / each, 1);
  count_ = static_cast<std::size_t>(std::min<std::uint64_t>({fitting, 2 * count_, most_}));
}

std::string marker_name_of(std::string_view key) {
  std::string name;
  append_marker_name(name, key);
  return name;
}

bool WalkCall::is_free(SteadyTime now) {
  if (std::exchange(heavy_came_, false)) shared_.pacer.heavy_done(now);
  wants_wake_ = false;
  return !under_way_;
}

bool WalkCall::may_send(bool heavy, SteadyTime now) {
  if (!heavy) return true;
  if (!shared_.pacer.may_send_heavy(now)) {
    wants_wake_ = true;
    return false;
  }
  shared_.pacer.heavy_sent(urgency_, now);
  heavy_ = true;
  return true;
}

void WalkCall::begin_script(Session& session, Script which, std::size_t keys, const Command& command, SteadyTime now) {
  if (reload_) session.load_script(*std::exchange(reload_, std::nullopt), now);
  if (!command.channel.empty()) ++keys;
  std::string& out = session.output();
  append_command_head(out, 3 + keys + 5);
  append_argument(out, "EVALSHA");
  append_argument(out, script(which).sha1);
  append_argument(out, keys);
  called_ = which;
}

void WalkCall::end_script(Session& session, const Command& command, std::string_view tokens, std::string_view more_flags) {
  std::string& out = session.output();
  if (!command.channel.empty()) append_argument(out, channel_counter(command.channel));
  append_argument(out, shared_.context.epoch);
  append_argument(out, shared_.lifetime);
  append_argument(out, command_flags(command, more_flags));
  append_argument(out, shared_.since);
  append_argument(out, tokens);
}

void WalkCall::sent(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now) {
  under_way_ = true;
  session.expect(receiver, tag, now);
}

void WalkCall::answered() {
  refused();
  reloads_ = 0;
}

void WalkCall::refused() {
  under_way_ = false;
  called_.reset();
  if (std::exchange(heavy_, false)) heavy_came_ = true;
}

bool WalkCall::is_to_be_repeated(std::string_view error) {
  if (!called_ || !is_flushed(error) || reloads_ == kReloadsMax) return false;
  ++reloads_;
  reload_ = called_;
  refused();
  return true;
}

}  // namespace evictd
