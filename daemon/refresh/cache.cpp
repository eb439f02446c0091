#include "daemon/refresh/cache.h"

#include "daemon/sinks/redis/blocking_client.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/scripts.h"

namespace evictd {
namespace {

constexpr std::size_t kFillsTogether = 20;  // values of up to a megabyte each
constexpr std::size_t kErrorsShown = 200;

std::string marker_of(const std::string& key) {
  std::string marker;
  append_marker_name(marker, key);
  return marker;
}

bool is_full(const Reply& reply) { return reply.is_error() && reply.text.find("OOM") != std::string::npos; }

}  // namespace

struct RefreshCache::Impl {
  std::unique_ptr<BlockingClient> client;
  RefreshScripts scripts;

  // A call of a script: EVALSHA, and once more behind a SCRIPT LOAD where a server has forgotten it.
  Result<std::vector<Reply>> call(const ScriptText& script, std::vector<std::vector<std::string>> calls) {
    for (std::vector<std::string>& one : calls) {
      one.insert(one.begin(), script.sha1);
      one.insert(one.begin(), "EVALSHA");
    }
    Result<std::vector<Reply>> replies = client->pipeline(calls);
    if (!replies) return replies;
    std::vector<std::size_t> again;
    std::vector<std::vector<std::string>> commands = {{"SCRIPT", "LOAD", script.text}};
    for (std::size_t i = 0; i < replies->size(); ++i) {
      if (!(*replies)[i].is_error() || !(*replies)[i].text.starts_with("NOSCRIPT")) continue;
      again.push_back(i);
      commands.push_back(std::move(calls[i]));
    }
    if (again.empty()) return replies;
    Result<std::vector<Reply>> second = client->pipeline(commands);
    if (!second) return second;
    for (std::size_t i = 0; i < again.size(); ++i) (*replies)[again[i]] = std::move((*second)[i + 1]);
    return replies;
  }

  // What no single key is to blame for: READONLY, LOADING, NOPERM ...
  static tl::unexpected<Error> unusable(const char* what, const Reply& reply) {
    if (!reply.is_error()) return fail(ErrorKind::kConnection, std::string("redis answered ") + what + " with something else than it should");
    Error error = redis_error(reply.text.substr(0, kErrorsShown));
    return tl::unexpected(std::move(error).within(what));
  }
};

RefreshCache::RefreshCache() : impl_(std::make_unique<Impl>()) {}
RefreshCache::~RefreshCache() = default;

Result<std::unique_ptr<RefreshCache>> RefreshCache::open(const RedisOptions& options) {
  Result<std::unique_ptr<BlockingClient>> client = BlockingClient::open(options);
  if (!client) return tl::unexpected(client.error());
  if (const Result<Reply> slots = (*client)->command({"CLUSTER", "SLOTS"}); slots && !slots->is_error()) {
    return fail(ErrorKind::kUsage, "redis at '" + (*client)->address().to_string() + "' is a node of a cluster, which nothing fills yet",
                "leave 'refresh' out for this cache (docs/cluster.md)");
  }
  std::unique_ptr<RefreshCache> cache(new RefreshCache());
  cache->impl_->client = std::move(*client);
  cache->impl_->scripts = refresh_scripts(options.tombstone_ttl);
  return cache;
}

Result<std::vector<RefreshCache::Claim>> RefreshCache::claim(const std::vector<std::string>& keys, std::chrono::milliseconds lease) {
  std::vector<std::vector<std::string>> calls;
  const std::string ms = std::to_string(lease.count());
  for (const std::string& key : keys) calls.push_back({"2", key, marker_of(key), "LEASE", ms});
  const Result<std::vector<Reply>> replies = impl_->call(impl_->scripts.get, std::move(calls));
  if (!replies) return tl::unexpected(replies.error());
  std::vector<Claim> claims(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Reply& reply = (*replies)[i];
    Claim& claim = claims[i];
    // A key of another type, which no reader of this rule can use either.
    if (is_full(reply) || (reply.is_error() && reply.text.find("WRONGTYPE") != std::string::npos)) {
      claim.problem = reply.text.substr(0, kErrorsShown);
      claim.is_full = is_full(reply);
      continue;
    }
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 4) return Impl::unusable("evictd_get", reply);
    const std::string& state = reply.elements[0].text;
    if (state == "fresh") {
      claim.state = Claim::State::kFresh;
    } else if (reply.elements[2].kind == Reply::Kind::kText) {
      claim.state = Claim::State::kOurs;
      claim.lease = reply.elements[2].text;
    } else {
      claim.state = Claim::State::kBusy;
    }
  }
  return claims;
}

Result<std::vector<RefreshCache::Filled>> RefreshCache::fill(const RefreshInfo& refresh, const std::string& token, std::chrono::milliseconds age,
                                                             const std::vector<RefreshValue>& values) {
  std::vector<Filled> filled;
  for (std::size_t first = 0; first < values.size(); first += kFillsTogether) {
    std::vector<std::vector<std::string>> calls;
    for (std::size_t i = first; i < std::min(first + kFillsTogether, values.size()); ++i) {
      const RefreshValue& value = values[i];
      std::vector<std::string>& call = calls.emplace_back();
      call.push_back(std::to_string(2 + value.tags.size() + value.lazy_tags.size()));
      call.push_back(value.key);
      call.push_back(marker_of(value.key));
      for (const std::string& tag : value.tags) call.push_back(std::string(kTagPrefix) + tag);
      for (const std::string& tag : value.lazy_tags) call.push_back(marker_of(std::string(kTagPrefix) + tag));
      for (const std::string& argument : {token, std::to_string(refresh.ttl.count()), *value.text, std::string("AGE"), std::to_string(age.count()),
                                          std::string("JITTER"), std::to_string(refresh.jitter)}) {
        call.push_back(argument);
      }
    }
    const Result<std::vector<Reply>> replies = impl_->call(impl_->scripts.fill, std::move(calls));
    if (!replies) return tl::unexpected(replies.error());
    for (const Reply& reply : *replies) {
      if (is_full(reply)) {
        filled.push_back(Filled::kRefused);
      } else if (reply.kind == Reply::Kind::kInteger) {
        filled.push_back(reply.integer == 1 ? Filled::kStored : Filled::kRejected);
      } else {
        return Impl::unusable("evictd_fill", reply);
      }
    }
  }
  return filled;
}

Result<void> RefreshCache::release(const std::vector<Lease>& leases) {
  if (leases.empty()) return {};
  std::vector<std::vector<std::string>> calls;
  for (const Lease& lease : leases) calls.push_back({"2", lease.key, marker_of(lease.key), lease.id});
  const Result<std::vector<Reply>> replies = impl_->call(impl_->scripts.release, std::move(calls));
  if (!replies) return tl::unexpected(replies.error());
  return {};  // one that was refused ends by itself
}

Result<std::size_t> RefreshCache::tell(const RuleInfo& rule, const std::vector<Told>& keys) {
  std::vector<std::vector<std::string>> commands;
  for (const Told& one : keys) {
    commands.push_back({"XADD", rule.refresh.stream, "MAXLEN", "~", std::to_string(rule.refresh.maxlen), "*", "key", one.key, "rule", rule.name,
                        "version", one.version});
  }
  const Result<std::vector<Reply>> replies = impl_->client->pipeline(commands);
  if (!replies) return tl::unexpected(replies.error());
  std::size_t refused = 0;
  for (const Reply& reply : *replies) {
    if (is_full(reply)) {
      ++refused;
    } else if (reply.is_error()) {
      return Impl::unusable("XADD", reply);
    }
  }
  return refused;
}

}  // namespace evictd
