// `evictd check --acl`: the user of Redis that the rules need and no more, as lines for redis-cli. Pure.
#pragma once

#include <string>
#include <vector>

#include "mapping/rules.h"

namespace evictd {

// In quotes where redis-cli would take it apart.
std::string redis_word(const std::string& word);

struct RedisAcl {
  std::string daemon;  // "ACL SETUSER evictd on >PASSWORD resetkeys ~product:* ... -@all +get ..."
  std::string check;   // what `evictd check` asks besides, for the same user
};

// What the cache is, besides its rules.
struct RedisAclNeeds {
  bool is_cluster = false;
  bool has_replicas_ack = false;
};

// `rules`: those that act on this cache.
RedisAcl redis_acl(const std::string& user, const std::vector<const RuleInfo*>& rules, const RedisAclNeeds& needs = {});

}  // namespace evictd
