#include "daemon/refresh/cache.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "daemon/refresh/bursts.h"
#include "daemon/sinks/redis/cluster/blocking_cache.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/topology/slots.h"

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

// Of evictd_fill and evictd_join: somebody keeps something else under the name of a tag. One value's trouble, not the cache's.
bool is_of_wrong_tag(const Reply& reply) { return reply.is_error() && reply.text.find("got another type") != std::string::npos; }

}  // namespace

struct RefreshCache::Impl {
  std::unique_ptr<BlockingCache> cache;
  RefreshScripts scripts;
  RefreshBursts bursts;

  // `together` at a time, each behind the answers to those before.
  Result<std::vector<Reply>> send(const std::vector<KeyedCommand>& commands, std::size_t together) {
    std::vector<Reply> replies;
    while (replies.size() < commands.size()) {
      const auto first = commands.begin() + static_cast<std::ptrdiff_t>(replies.size());
      const std::size_t size = std::min(together, commands.size() - replies.size());
      const SteadyTime began = std::chrono::steady_clock::now();
      Result<std::vector<Reply>> some = cache->pipeline(std::vector<KeyedCommand>(first, first + static_cast<std::ptrdiff_t>(size)));
      if (!some) return some;
      bursts.took(std::chrono::steady_clock::now() - began);
      std::move(some->begin(), some->end(), std::back_inserter(replies));
    }
    return replies;
  }

  // Calls of a script, each {number of keys, first key, ...}: EVALSHA, and once more behind a SCRIPT LOAD where a server has forgotten it.
  Result<std::vector<Reply>> call(const ScriptText& script, std::vector<std::vector<std::string>> calls) {
    const std::size_t together = bursts.size(calls.size());
    return call(script, std::move(calls), together);
  }

  Result<std::vector<Reply>> call(const ScriptText& script, std::vector<std::vector<std::string>> calls, std::size_t together) {
    std::vector<KeyedCommand> commands;
    for (std::vector<std::string>& one : calls) {
      const std::string key = one[1];
      one.insert(one.begin(), script.sha1);
      one.insert(one.begin(), "EVALSHA");
      commands.push_back({key, std::move(one)});
    }
    Result<std::vector<Reply>> replies = send(commands, together);
    if (!replies) return replies;
    std::vector<std::size_t> again;
    std::vector<KeyedCommand> second;
    std::set<std::string> loaded;
    for (std::size_t i = 0; i < replies->size(); ++i) {
      if (!(*replies)[i].is_error() || !(*replies)[i].text.starts_with("NOSCRIPT")) continue;
      const std::string& key = commands[i].key;
      const HostPort* at = cache->is_cluster() ? cache->slots().owner(slot_of(key)) : nullptr;
      if (loaded.insert(at ? at->to_string() : std::string()).second) second.push_back({key, {"SCRIPT", "LOAD", script.text}});
      again.push_back(i);
    }
    if (again.empty()) return replies;
    const std::size_t loads = second.size();
    for (const std::size_t i : again) second.push_back(std::move(commands[i]));
    Result<std::vector<Reply>> answers = cache->pipeline(second);
    if (!answers) return answers;
    for (std::size_t i = 0; i < again.size(); ++i) (*replies)[again[i]] = std::move((*answers)[loads + i]);
    return replies;
  }

  // On a cluster a value's tags lie in other slots and are joined first, each in its own: whatever invalidates one of them then finds the
  // key. Whether all of them were; a value with one that was not is left out, for it has not seen what that was invalidated for.
  Result<std::vector<Filled>> join(const std::vector<RefreshValue>& values, const std::string& token, std::chrono::milliseconds ttl) {
    std::vector<Filled> joined(values.size(), Filled::kStored);
    std::vector<std::vector<std::string>> calls;
    std::vector<std::size_t> of;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto add = [&](std::vector<std::string> keys) {
        std::vector<std::string>& call = calls.emplace_back();
        call.push_back(std::to_string(keys.size()));
        call.insert(call.end(), keys.begin(), keys.end());
        for (const std::string& argument : {values[i].key, std::to_string(ttl.count()), token}) call.push_back(argument);
        of.push_back(i);
      };
      for (const std::string& tag : values[i].tags) add({std::string(kTagPrefix) + tag, marker_of(std::string(kTagPrefix) + tag)});
      for (const std::string& tag : values[i].lazy_tags) add({marker_of(std::string(kTagPrefix) + tag)});
    }
    if (calls.empty()) return joined;
    const Result<std::vector<Reply>> replies = call(scripts.join, std::move(calls));
    if (!replies) return tl::unexpected(replies.error());
    for (std::size_t i = 0; i < replies->size(); ++i) {
      const Reply& reply = (*replies)[i];
      if (is_full(reply)) {
        joined[of[i]] = Filled::kRefused;
      } else if (is_of_wrong_tag(reply)) {
        joined[of[i]] = Filled::kWrongTag;
      } else if (reply.kind != Reply::Kind::kInteger) {
        return unusable("evictd_join", reply);
      } else if (reply.integer != 1 && joined[of[i]] == Filled::kStored) {
        joined[of[i]] = Filled::kRejected;
      }
    }
    return joined;
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
  Result<std::unique_ptr<BlockingCache>> there = BlockingCache::open(options);
  if (!there) return tl::unexpected(there.error());
  std::unique_ptr<RefreshCache> cache(new RefreshCache());
  cache->impl_->scripts = refresh_scripts(options.tombstone_ttl, (*there)->is_cluster());
  cache->impl_->cache = std::move(*there);
  return cache;
}

Result<std::vector<RefreshCache::Claim>> RefreshCache::claim(const std::vector<std::string>& keys, std::chrono::milliseconds lease) {
  std::vector<std::vector<std::string>> calls;
  const std::string ms = std::to_string(lease.count());
  std::vector<Claim> claims(keys.size());
  std::vector<std::size_t> called;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    std::string marker = marker_of(keys[i]);
    if (impl_->cache->is_cluster() && slot_of(marker) != slot_of(keys[i])) {
      claims[i].problem = "a key has a '}' and no hash tag, so that its marker lies in another slot of the cluster: nobody can fill it checked";
      continue;
    }
    calls.push_back({"2", keys[i], std::move(marker), "LEASE", ms});
    called.push_back(i);
  }
  const Result<std::vector<Reply>> replies = impl_->call(impl_->scripts.get, std::move(calls));
  if (!replies) return tl::unexpected(replies.error());
  for (std::size_t i = 0; i < called.size(); ++i) {
    const Reply& reply = (*replies)[i];
    Claim& claim = claims[called[i]];
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
  const bool is_cluster = impl_->cache->is_cluster();
  std::vector<Filled> filled(values.size(), Filled::kStored);
  if (is_cluster) {
    Result<std::vector<Filled>> joined = impl_->join(values, token, refresh.ttl);
    if (!joined) return joined;
    filled = std::move(*joined);
  }
  std::vector<std::size_t> wanted;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (filled[i] == Filled::kStored) wanted.push_back(i);
  }
  const SteadyTime began = std::chrono::steady_clock::now();
  const std::size_t together = std::min(kFillsTogether, impl_->bursts.size(wanted.size()));
  for (std::size_t first = 0; first < wanted.size(); first += together) {
    const std::size_t last = std::min(first + together, wanted.size());
    // Older by what those before it took: a Redis that answers slowly is not to make a value look younger than it is.
    const auto age_now = age + std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
    std::vector<std::vector<std::string>> calls;
    for (std::size_t i = first; i < last; ++i) {
      const RefreshValue& value = values[wanted[i]];
      std::vector<std::string>& call = calls.emplace_back();
      call.push_back(std::to_string(is_cluster ? 2 : 2 + value.tags.size() + value.lazy_tags.size()));
      call.push_back(value.key);
      call.push_back(marker_of(value.key));
      if (!is_cluster) {
        for (const std::string& tag : value.tags) call.push_back(std::string(kTagPrefix) + tag);
        for (const std::string& tag : value.lazy_tags) call.push_back(marker_of(std::string(kTagPrefix) + tag));
      }
      for (const std::string& argument : {token, std::to_string(refresh.ttl.count()), *value.text, std::string("AGE"), std::to_string(age_now.count()),
                                          std::string("JITTER"), std::to_string(refresh.jitter)}) {
        call.push_back(argument);
      }
    }
    const Result<std::vector<Reply>> replies = impl_->call(impl_->scripts.fill, std::move(calls), together);
    if (!replies) return tl::unexpected(replies.error());
    for (std::size_t i = first; i < last; ++i) {
      const Reply& reply = (*replies)[i - first];
      if (is_full(reply)) {
        filled[wanted[i]] = Filled::kRefused;
      } else if (is_of_wrong_tag(reply)) {
        filled[wanted[i]] = Filled::kWrongTag;
      } else if (reply.kind == Reply::Kind::kInteger) {
        filled[wanted[i]] = reply.integer == 1 ? Filled::kStored : Filled::kRejected;
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
  std::vector<KeyedCommand> commands;
  const std::string& stream = rule.refresh.stream;
  for (const Told& one : keys) {
    commands.push_back({stream, {"XADD", stream, "MAXLEN", "~", std::to_string(rule.refresh.maxlen), "*", "key", one.key, "rule", rule.name,
                                 "version", one.version}});
  }
  const Result<std::vector<Reply>> replies = impl_->cache->pipeline(commands);
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
