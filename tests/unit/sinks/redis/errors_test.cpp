#include "daemon/sinks/redis/errors.h"

#include <gtest/gtest.h>

#include <string>

namespace evictd {
namespace {

struct Case {
  const char* reply;
  const char* name;
  RedisAction action;
};

TEST(RedisErrors, EachStateOfTheMatrixHasItsClassAndAction) {
  const Case cases[] = {
      {"LOADING Redis is loading the dataset in memory", "loading", RedisAction::kWait},
      {"BUSY Redis is busy running a script.", "busy", RedisAction::kWait},
      {"MASTERDOWN Link with MASTER is down", "master_down", RedisAction::kWait},
      {"NOREPLICAS Not enough good replicas to write.", "no_replicas", RedisAction::kWait},
      {"MISCONF Redis is configured to save RDB snapshots", "misconf", RedisAction::kWait},
      {"OOM command not allowed when used memory > 'maxmemory'.", "oom", RedisAction::kWait},
      {"TRYAGAIN Multiple keys request during rehashing of slot", "try_again", RedisAction::kWait},
      {"CLUSTERDOWN Hash slot not served", "try_again", RedisAction::kWait},
      {"READONLY You can't write against a read only replica.", "read_only",
       RedisAction::kReconnect},
      {"ERR max number of clients reached", "clients", RedisAction::kReconnect},
      {"NOAUTH Authentication required.", "auth", RedisAction::kPerson},
      {"WRONGPASS invalid username-password pair or user is disabled.", "auth",
       RedisAction::kPerson},
      {"ERR AUTH <password> called without any password configured", "auth", RedisAction::kPerson},
      {"ERR DB index is out of range", "database", RedisAction::kPerson},
      {"NOPERM User joe has no permissions to run the 'unlink' command", "noperm",
       RedisAction::kPerson},
      {"ERR The user executing the script can't run this command or subcommand script: x", "noperm",
       RedisAction::kPerson},
      {"ERR The user executing the script can't access at least one of the keys mentioned in the "
       "command",
       "noperm", RedisAction::kPerson},
      {"ERR unknown command 'SSCAN', with args beginning with: 'tag:a' ", "unknown_command", RedisAction::kPerson},
      {"ERR Unknown Redis command called from script script: x", "unknown_command", RedisAction::kPerson},
      {"MOVED 3999 127.0.0.1:6381", "cluster", RedisAction::kPerson},
      {"CROSSSLOT Keys in request don't hash to the same slot", "cluster", RedisAction::kPerson},
      {"NOSCRIPT No matching script.", "noscript", RedisAction::kReload},
      {"ERR Error running script: -READONLY You can't write", "read_only", RedisAction::kReconnect},
      {"ERR something new", "other", RedisAction::kReconnect},
      {"", "other", RedisAction::kReconnect},
  };
  for (const Case& one : cases) {
    const RedisErrorClass error_class = classify_redis_error(one.reply);
    EXPECT_EQ(error_class.name, one.name) << one.reply;
    EXPECT_EQ(error_class.action, one.action) << one.reply;
  }
}

TEST(RedisErrors, TextQuotesTheReplyAndHintsAtTheWayOut) {
  const Error wrong = redis_error("WRONGPASS invalid username-password pair or user is disabled.");
  EXPECT_EQ(wrong.kind, ErrorKind::kUsage);
  EXPECT_EQ(wrong.to_string(),
            "redis refused: 'WRONGPASS invalid username-password pair or user is disabled.'\n"
            "hint: look at the user and password in 'redis: url:'");
  const Error replica = redis_error("READONLY You can't write against a read only replica.");
  EXPECT_EQ(replica.kind, ErrorKind::kConnection);
  EXPECT_EQ(replica.hint, "this is a replica: point 'redis: url:' at the master; with Sentinels, 'SENTINEL MASTER' at each of them tells why they name it");
}

TEST(RedisErrors, LongRepliesAreCut) {
  EXPECT_EQ(redis_error(std::string(5000, 'x')).text.size(),
            std::string("redis refused: ''").size() + 300);
}

}  // namespace
}  // namespace evictd
