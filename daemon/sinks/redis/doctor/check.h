// `evictd check` for Redis: RD001 to RD006 and RD009 to RD013, each with its cause and its fix.
// Blocks; opens its own connection; changes nothing but a probe key of evictd's own, which it
// deletes again.
//
//   RD001 error    cannot connect or sign in
//   RD002 error    a replica, a cluster node, or too old a version
//   RD003 error    the user may not run a command, or not on a rule's keys
//   RD004 error    the scripts do not run here
//   RD005 warning  how Redis makes room when it is full
//   RD006 info     Redis can come back with older data
//   RD009 warning  no key matches a rule's pattern; info where another database has the keys
//   RD010 warning  a tag's set is very large, or no set
//   RD011 error    a write is refused
//   RD012 warning  how Redis makes room endangers what some rules keep
//   RD017 error    an index of vectors cannot be asked what a rule asks
//   RD018 info     an index of vectors, as it is; a warning where a rule has to read all of it
//   RD019 warning  this version of Redis may crash when elements are removed
//   RD013 error    a command that rules need is not there (renamed, or another server)
//   RD022 error    fewer replicas than 'replicas_ack' asks for, or nobody who tells of them
//   RD023 warning  the readers' functions are those of another 'tombstone_ttl'
#pragma once

#include <optional>

#include "daemon/base/finding.h"
#include "daemon/interface/record.h"
#include "daemon/sinks/redis/redis_sink.h"
#include "mapping/rules.h"

namespace evictd {

Findings check_redis(const RedisOptions& options, const RuleSet& rules);

// One address that turns out to be a node of a cluster. Asked without signing in: false when nobody answers within a second, or
// does not tell strangers.
bool is_cluster_by_its_own_word(RedisOptions options);

// What is on record there; nothing when there is none, or it cannot be read: check_redis says why. Blocks.
std::optional<Record> read_record(const RedisOptions& options);

}  // namespace evictd
