#include "daemon/audit/cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>

#include "daemon/sinks/redis/cluster/blocking_cache.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/scripts.h"

namespace evictd {
namespace {

constexpr const char* kPageKeys = "256";
constexpr unsigned kCursorBits = 52;  // of one server's own; the master's number stands above
constexpr std::string_view kOwnKeys = "evictd:";
// Values of that many keys are held beside each other, and of each no more than that.
constexpr std::size_t kKeysPerQuestion = 8;
constexpr std::size_t kValueBytesMax = 1024 * 1024;
constexpr std::int64_t kNoSuchKey = -2;  // PTTL's word

std::uint64_t number_of(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

tl::unexpected<Error> unexpected_reply(const std::string& command, const Reply& reply) {
  if (reply.is_error()) {
    Error error = redis_error(reply.text);
    return tl::unexpected(std::move(error).within(command));
  }
  return fail(ErrorKind::kConnection, "redis answered '" + command + "' with something else than it should");
}

}  // namespace

struct AuditCache::Impl {
  std::unique_ptr<BlockingCache> cache;
  RedisOptions options;

  Result<void> look(std::span<const std::string> keys, bool with_values, std::vector<Presence>& found);
};

AuditCache::AuditCache() : impl_(std::make_unique<Impl>()) {}
AuditCache::~AuditCache() = default;

Result<std::unique_ptr<AuditCache>> AuditCache::open(const RedisOptions& options) {
  Result<std::unique_ptr<BlockingCache>> there = BlockingCache::open(options);
  if (!there) return tl::unexpected(there.error());
  std::unique_ptr<AuditCache> cache(new AuditCache());
  cache->impl_->cache = std::move(*there);
  cache->impl_->options = options;
  return cache;
}

Result<std::optional<Record>> AuditCache::record() {
  return impl_->cache->record(record_key(impl_->options.record_name));
}

Result<std::vector<Presence>> AuditCache::look(const std::vector<std::string>& keys, bool with_values) {
  std::vector<Presence> found;
  const std::size_t together = with_values ? kKeysPerQuestion : keys.size();
  for (std::size_t from = 0; from < keys.size(); from += together) {
    const std::size_t count = std::min(together, keys.size() - from);
    Result<void> done = impl_->look(std::span(keys).subspan(from, count), with_values, found);
    if (!done) return tl::unexpected(done.error());
  }
  return found;
}

Result<void> AuditCache::Impl::look(std::span<const std::string> keys, bool with_values, std::vector<Presence>& found) {
  constexpr std::size_t kEach = 4;  // commands
  // A value that nobody compares does not travel; that it is a text has to be known all the same.
  const auto read = [&](const std::string& key) {
    return with_values ? std::vector<std::string>{"GET", key} : std::vector<std::string>{"GETRANGE", key, "0", "0"};
  };
  std::vector<KeyedCommand> commands;
  for (const std::string& key : keys) {
    std::string marker;
    append_marker_name(marker, key);
    commands.push_back({marker, {"GET", marker}});
    commands.push_back({key, read(key)});
    commands.push_back({key, {"PTTL", key}});
    commands.push_back({key, {"TIME"}});  // of the same server
  }
  const Result<std::vector<Reply>> replies = cache->pipeline(commands);
  if (!replies) return tl::unexpected(replies.error());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Reply& marker = (*replies)[kEach * i];
    const Reply& value = (*replies)[kEach * i + 1];
    const Reply& left = (*replies)[kEach * i + 2];
    const Reply& time = (*replies)[kEach * i + 3];
    if (time.kind != Reply::Kind::kArray || time.elements.size() != 2) return unexpected_reply("TIME", time);
    const auto now = static_cast<std::int64_t>(number_of(time.elements[0].text) * 1000 + number_of(time.elements[1].text) / 1000);
    Presence& presence = found.emplace_back();
    if (marker.kind == Reply::Kind::kText) presence.marker = marker.text;
    if (marker.is_error() && !marker.text.starts_with("WRONGTYPE")) return unexpected_reply("GET", marker);
    if (value.is_error() && !value.text.starts_with("WRONGTYPE")) return unexpected_reply(read(keys[i])[0], value);
    if (left.kind != Reply::Kind::kInteger) return unexpected_reply("PTTL", left);
    presence.is_there = value.kind != Reply::Kind::kNil && left.integer != kNoSuchKey;
    if (value.is_error()) presence.problem = "it is no text, but a hash, a list or another type";
    if (value.kind == Reply::Kind::kTooLong || value.text.size() > kValueBytesMax) {
      presence.problem = fmt::format("it is longer than {} bytes, and is not compared", kValueBytesMax);
    } else if (value.kind == Reply::Kind::kText) {
      presence.value = value.text;
    }
    if (left.integer > 0) presence.expires_at_ms = now + left.integer;
    // Kept for its grace, and handed out as stale: nobody takes it for fresh.
    if (presence.marker.starts_with("t ") && presence.marker.find(" k", 2) != std::string::npos) presence.is_there = false;
  }
  return {};
}

Result<AuditCache::Page> AuditCache::scan(const std::string& glob, std::uint64_t cursor) {
  // Of a cluster one master after the other: which one stands above the server's own cursor. Keys that move meanwhile may be met twice,
  // or in the next pass: the audit takes samples.
  const bool is_cluster = impl_->cache->is_cluster();
  const std::size_t masters = impl_->cache->masters().size();
  const std::size_t master = is_cluster ? (cursor >> kCursorBits) % masters : 0;
  const std::uint64_t own = is_cluster ? cursor & ((std::uint64_t{1} << kCursorBits) - 1) : cursor;
  const Result<std::vector<Reply>> replies = impl_->cache->pipeline_to(master, {{"SCAN", std::to_string(own), "MATCH", glob, "COUNT", kPageKeys}});
  if (!replies) return tl::unexpected(replies.error());
  const Reply& reply = replies->front();
  if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2) return unexpected_reply("SCAN", reply);
  Page page;
  page.cursor = number_of(reply.elements[0].text);
  if (is_cluster && page.cursor >> kCursorBits != 0) return unexpected_reply("SCAN", reply);
  if (is_cluster && page.cursor != 0) page.cursor |= std::uint64_t{master} << kCursorBits;
  if (is_cluster && page.cursor == 0 && master + 1 < masters) page.cursor = std::uint64_t{master + 1} << kCursorBits;
  for (const Reply& key : reply.elements[1].elements) {
    if (key.kind == Reply::Kind::kText && !key.text.starts_with(kOwnKeys)) page.keys.push_back(key.text);
  }
  return page;
}

Result<void> AuditCache::fix(const RuleInfo& rule, const std::string& key, const Epoch& epoch, const std::string& tokens) {
  std::vector<std::string> command;
  if (rule.fill == FillMode::kPlain && rule.announce.empty()) {
    command = {"UNLINK", key};
  } else {
    std::string marker;
    append_marker_name(marker, key);
    const std::string lifetime = std::to_string((impl_->options.tombstone_ttl + impl_->options.tombstone_margin).count());
    const bool is_told = !rule.announce.empty();
    command = {"EVAL", script(Script::kInvalidate).text, is_told ? "3" : "2", key, marker};
    if (is_told) command.push_back(channel_counter(rule.announce));
    const std::string flags = is_told ? "iu|" + rule.announce : "iu";
    for (const std::string& argument : {epoch, lifetime, flags, std::string("0"), tokens}) command.push_back(argument);
  }
  const Result<Reply> reply = impl_->cache->command(key, command);
  if (!reply) return tl::unexpected(reply.error());
  if (reply->is_error()) return unexpected_reply(command[0], *reply);
  return {};
}

}  // namespace evictd
