#include "daemon/sinks/redis/errors.h"

#include <string>

namespace evictd {
namespace {

struct Row {
  std::string_view text;
  bool anywhere;  // found anywhere in the reply, instead of at its beginning
  RedisErrorClass error_class;
  std::string_view hint;
};

// Scripts wrap the reason of an inner command; what can come from inside one is looked for
// anywhere.
constexpr Row kRows[] = {
    {"NOSCRIPT", false, {"noscript", RedisAction::kReload}, ""},
    {"LOADING", false, {"loading", RedisAction::kWait}, ""},
    {"BUSY",
     false,
     {"busy", RedisAction::kWait},
     "a script runs longer than 'busy-reply-threshold'; SCRIPT KILL ends it"},
    {"MASTERDOWN", false, {"master_down", RedisAction::kWait}, ""},
    {"NOREPLICAS", false, {"no_replicas", RedisAction::kWait}, "see 'min-replicas-to-write'"},
    {"MISCONF",
     false,
     {"misconf", RedisAction::kWait},
     "redis cannot write its snapshot: look at its disk and its log"},
    {"OOM",
     false,
     {"oom", RedisAction::kWait},
     "raise 'maxmemory', or set the 'maxmemory-policy' that fits the rules: evictd check names it"},
    {"TRYAGAIN", false, {"try_again", RedisAction::kWait}, ""},
    {"CLUSTERDOWN", false, {"try_again", RedisAction::kWait}, ""},
    {"READONLY",
     false,
     {"read_only", RedisAction::kReconnect},
     "this is a replica: point 'redis: url:' at the master; with Sentinels, 'SENTINEL MASTER' at each of them tells why they name it"},
    {"DENIED",
     false,
     {"protected", RedisAction::kReconnect},
     "redis is in protected mode, which ends when its default user has a password: 'CONFIG SET requirepass ...' on its own machine, and in its "
     "file; then put that password, or the one of a user of evictd's own, into 'redis: url:'"},
    {"NOAUTH",
     false,
     {"auth", RedisAction::kPerson},
     "put the password into 'redis: url:', for example by ${REDIS_PASSWORD}"},
    {"WRONGPASS",
     false,
     {"auth", RedisAction::kPerson},
     "look at the user and password in 'redis: url:'"},
    {"ERR invalid password",
     false,
     {"auth", RedisAction::kPerson},
     "look at the password in 'redis: url:'"},
    {"ERR Client sent AUTH",
     false,
     {"auth", RedisAction::kPerson},
     "redis has no password: take it out of 'redis: url:'"},
    {"ERR AUTH <password> called",
     false,
     {"auth", RedisAction::kPerson},
     "redis has no password: take it out of 'redis: url:'"},
    {"NOPERM",
     true,
     {"noperm", RedisAction::kPerson},
     "docs/redis.md has the ACL line for evictd"},
    {"can't run this command",
     true,
     {"noperm", RedisAction::kPerson},
     "docs/redis.md has the ACL line for evictd"},
    {"can't access at least one of the keys",
     true,
     {"noperm", RedisAction::kPerson},
     "docs/redis.md has the ACL line for evictd"},
    {"ERR unknown command",
     false,
     {kClassUnknownCommand, RedisAction::kPerson},
     "redis has no such command, or has it under another name ('rename-command'): evictd check names what it is needed for"},
    {"Unknown Redis command called from",
     true,
     {kClassUnknownCommand, RedisAction::kPerson},
     "redis has no such command, or has it under another name ('rename-command'): evictd check names what it is needed for"},
    {"ERR DB index",
     false,
     {"database", RedisAction::kPerson},
     "look at the database number in 'redis: url:'"},
    {"ERR SELECT is not allowed in cluster mode",
     false,
     {"cluster", RedisAction::kPerson},
     "a cluster has database 0 alone: leave the number out of 'redis: url:'"},
    {"MOVED", false, {"cluster", RedisAction::kPerson}, "a node of a Redis Cluster: docs/cluster.md"},
    {"ASK ", false, {"cluster", RedisAction::kPerson}, "a node of a Redis Cluster: docs/cluster.md"},
    {"CROSSSLOT", false, {"cluster", RedisAction::kPerson}, "a node of a Redis Cluster: docs/cluster.md"},
    {"ERR max number of clients",
     false,
     {"clients", RedisAction::kReconnect},
     "raise 'maxclients'"},
    {"-OOM",
     true,
     {"oom", RedisAction::kWait},
     "raise 'maxmemory', or set the 'maxmemory-policy' that fits the rules: evictd check names it"},
    {"-READONLY",
     true,
     {"read_only", RedisAction::kReconnect},
     "this is a replica: point 'redis: url:' at the master; with Sentinels, 'SENTINEL MASTER' at each of them tells why they name it"},
    {"-MISCONF",
     true,
     {"misconf", RedisAction::kWait},
     "redis cannot write its snapshot: look at its disk and its log"},
    {"-NOREPLICAS", true, {"no_replicas", RedisAction::kWait}, "see 'min-replicas-to-write'"},
};

const Row* find_row(std::string_view reply) {
  for (const Row& row : kRows) {
    if (row.anywhere ? reply.find(row.text) != std::string_view::npos
                     : reply.starts_with(row.text)) {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace

RedisErrorClass classify_redis_error(std::string_view reply) {
  if (const Row* row = find_row(reply)) return row->error_class;
  return RedisErrorClass{"other", RedisAction::kReconnect};
}

// Redis 6 and 7.0: "... has no permissions to access one of the keys used as arguments"; later: "No permissions to access
// a key".
bool is_key_forbidden(std::string_view reply) {
  return reply.starts_with("NOPERM") && reply.find("permissions to access") != std::string_view::npos &&
         reply.find("key") != std::string_view::npos;
}

bool is_passing_refusal(std::string_view error_class) {
  return error_class == kClassAuth || error_class == "noperm" || error_class == kClassUnknownCommand;
}

Error redis_error(std::string_view reply) {
  const Row* row = find_row(reply);
  const bool person = row != nullptr && row->error_class.action == RedisAction::kPerson;
  // Replies may quote arguments; none of ours holds a secret (AUTH's are never quoted), only length
  // is bounded.
  return Error{person ? ErrorKind::kUsage : ErrorKind::kConnection,
               "redis refused: '" + std::string(reply.substr(0, 300)) + "'",
               row != nullptr ? std::string(row->hint) : std::string()};
}

}  // namespace evictd
