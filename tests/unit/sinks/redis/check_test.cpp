// `evictd check` for Redis: each finding made for real.
#include "daemon/sinks/redis/doctor/check.h"

#include <chrono>
#include <sstream>
#include <thread>
#include <gmock/gmock.h>

#include "daemon/sinks/redis/doctor/acl.h"
#include "tests/unit/sinks/redis/script_fixture.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

bool wait_until(RedisClient& redis, const std::vector<std::string>& question, const char* told) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (redis.command(question).text.find(told) == std::string::npos) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return true;
}

class CheckRedis : public ::testing::Test {
 protected:
  void SetUp() override { EVICTD_NEED_REDIS(); }
  void start(std::vector<std::string> settings = {}) {
    server_ = std::make_unique<RedisServer>(std::move(settings));
    options_ = options_for(*server_);
  }
  RedisClient& redis() { return server_->client(); }

  // The findings as "RD001 object: cause -> fix".
  std::vector<std::string> findings(
      std::string_view text =
          "- {table: public.products, keys: ['product:{id}'], tags: ['c:{c}']}") {
    const auto rules = RuleSet::parse(text, "rules.yaml");
    EXPECT_TRUE(rules.has_value());
    std::vector<std::string> lines;
    for (const Finding& finding : check_redis(options_, *rules)) {
      if (finding.id == "RD015") continue;  // of every user without an ACL; see below
      lines.push_back(finding.id + " " + finding.object + ": " + finding.cause + " -> " +
                      finding.fix);
    }
    return lines;
  }
  std::string where() const { return "127.0.0.1:" + std::to_string(server_->port()); }

  std::unique_ptr<RedisServer> server_;
  RedisOptions options_;
};

TEST_F(CheckRedis, NothingToSayOfAnEmptyCache) {
  start();
  EXPECT_THAT(findings("- {table: public.products, keys: ['product:{id}']}"), IsEmpty());
  EXPECT_EQ(redis().integer({"DBSIZE"}), 0) << "the check leaves nothing behind";
}

TEST_F(CheckRedis, Unreachable) {
  start();
  server_->kill();
  EXPECT_EQ(findings(), std::vector<std::string>{
                            "RD001 " + where() + ": cannot connect to redis at '" + where() +
                            "': Connection refused -> start Redis, or look at 'redis: url:'"});
}

TEST_F(CheckRedis, WithoutInfoNoRightIsAskedFor) {
  start({"--rename-command", "INFO", ""});
  EXPECT_EQ(findings(), std::vector<std::string>{"RD013 " + where() + ": Redis has no command 'INFO' (evictd asks for it at every connect); it "
                                                 "concerns every rule -> take 'rename-command INFO' out of redis.conf"});
}

TEST_F(CheckRedis, CommandsThatWereRenamedAreNamedWithTheRulesTheyConcern) {
  start({"--rename-command", "EVALSHA", "", "--rename-command", "SSCAN", "hidden", "--rename-command", "INCRBY", ""});
  const std::string rules = "- {table: a, keys: ['a:{id}'], fill: checked}\n- {table: b, tags: ['b:{id}'], fill: checked}";
  const auto found = findings(rules);
  EXPECT_THAT(found, ::testing::Contains("RD013 " + where() + ": Redis has no command 'EVALSHA' (nothing is deleted without it); it "
                                         "concerns every rule -> take 'rename-command EVALSHA' out of redis.conf, or leave those "
                                         "rules out"));
  EXPECT_THAT(found, ::testing::Contains("RD013 " + where() + ": Redis has no command 'SSCAN' (tags are walked with it); it concerns "
                                         "'public.b' -> take 'rename-command SSCAN' out of redis.conf, or leave those rules out"));
  EXPECT_THAT(found, ::testing::Not(::testing::Contains(::testing::HasSubstr("INCRBY")))) << "no rule has counters";
}

TEST_F(CheckRedis, RunsWithTheDocumentedRights) {  // docs/redis.md
  start();
  ASSERT_TRUE(redis().command(documented("redis.md", "ACL SETUSER evictd ")).is_ok());
  options_.url = "redis://evictd:password@" + where();
  for (const std::string& finding : findings("- {table: public.products, keys: ['product:{id}'], tags: ['c:{c}']}")) {
    EXPECT_THAT(finding, ::testing::Not(StartsWith("RD001"))) << "it signs in";
    EXPECT_THAT(finding, ::testing::Not(::testing::HasSubstr("may not run")));
    EXPECT_THAT(finding, ::testing::Not(StartsWith("RD004"))) << "the script is run as the daemon runs it";
  }
  ASSERT_TRUE(redis().command({"ACL", "SETUSER", "evictd", "+acl|whoami", "+acl|dryrun", "+config|get", "+ping", "+randomkey",
                               "+scard", "+type", "+command|info"}).is_ok());
  EXPECT_THAT(findings("- {table: public.products, keys: ['product:{id}'], tags: ['c:{c}']}"), IsEmpty());
}

TEST_F(CheckRedis, AUserThatMayDeleteAnyKeyWhereTagsListWhatIsDeleted) {
  start();
  const auto ids = [&](const char* text) {
    std::vector<std::string> found;
    for (const Finding& finding : check_redis(options_, *RuleSet::parse(text, "rules.yaml"))) found.push_back(finding.id);
    return found;
  };
  EXPECT_EQ(ids("- {table: a.b, keys: ['product:{id}'], tags: ['c:{c}']}"), std::vector<std::string>{"RD015"});
  EXPECT_THAT(ids("- {table: a.b, keys: ['product:{id}']}"), IsEmpty()) << "no set names anything";
  ASSERT_TRUE(redis().command({"ACL", "SETUSER", "narrow", "on", ">pw", "~product:*", "~tag:*", "~evictd:*", "+@all"}).is_ok());
  options_.url = "redis://narrow:pw@" + where();
  EXPECT_THAT(ids("- {table: a.b, keys: ['product:{id}'], tags: ['c:{c}']}"), IsEmpty());
}

TEST_F(CheckRedis, WrongPassword) {
  start({"--requirepass", "right"});
  options_.url = "redis://:wrong@" + where();
  EXPECT_EQ(findings(), std::vector<std::string>{"RD001 " + where() + ": redis refused: 'WRONGPASS invalid "
                                                 "username-password pair or user is disabled.' -> "
                                                 "look at the user and password in 'redis: url:'"});
}

TEST_F(CheckRedis, Replica) {
  start({"--replicaof", "127.0.0.1 1"});
  EXPECT_EQ(findings(),
            std::vector<std::string>{
                "RD002 " + where() +
                ": this is a replica of '127.0.0.1' -> point 'redis: url:' at the master"});
}

bool wait_until_well(RedisClient& redis) { return wait_until(redis, {"CLUSTER", "INFO"}, "cluster_state:ok"); }

TEST_F(CheckRedis, ReplicasThatAreAskedForAndNotThere) {
  start();
  const std::string rules = "- {table: public.products, keys: ['product:{id}']}";
  EXPECT_THAT(findings(rules), IsEmpty()) << "nobody asks for one";
  options_.replicas_ack = 1;
  EXPECT_THAT(findings(rules), ::testing::ElementsAre("RD022 " + where() + ": 'replicas_ack' asks for 1 replica, and 0 are in step: nothing would be "
                                                      "acknowledged -> start a replica, or lower 'replicas_ack'"));
  redis().command({"ACL", "SETUSER", "default", "-wait"});
  EXPECT_THAT(findings(rules), ::testing::ElementsAre(::testing::HasSubstr("RD022 " + where() + ": 'replicas_ack' asks for 1, and WAIT was refused: 'NOPERM")));
  redis().command({"ACL", "SETUSER", "default", "+wait"});
  RedisServer replica({"--replicaof", "127.0.0.1 " + std::to_string(server_->port())});
  ASSERT_TRUE(wait_until(redis(), {"INFO", "replication"}, "state=online"));
  EXPECT_THAT(findings(rules), ::testing::Each(::testing::Not(StartsWith("RD022"))));
}

TEST_F(CheckRedis, ClusterNode) {
  // By default the bus takes the port plus 10,000, which may be beyond the last port.
  start({"--cluster-enabled", "yes", "--cluster-port", std::to_string(free_port())});
  EXPECT_EQ(findings(), std::vector<std::string>{"RD017 " + where() +
                                                 ": no node of the cluster serves the slots 0-16383 (16384 of 16384) -> give them to a "
                                                 "master: redis-cli --cluster fix"});
  redis().command({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"});
  const std::string rules = "- {table: a.b, keys: ['product:{id}'], fill: checked}";
  ASSERT_TRUE(wait_until_well(redis()));
  EXPECT_THAT(findings(rules), IsEmpty());
  EXPECT_THAT(findings("- {table: a.b, keys: ['product:{id}'], announce: news}"),
              ::testing::ElementsAre(::testing::HasSubstr("the rule has 'announce', which cannot be counted on a Redis Cluster")));
  EXPECT_THAT(findings("- {table: a.b, keys: ['product:{id}'], fill: checked, refresh: {query: 'select id, v from b where id = any($1)', ttl: 1m}}"),
              ::testing::Not(::testing::Contains(StartsWith("RD017"))));
  EXPECT_THAT(findings("- {table: a.b, semantic: [{index: answers, where: {source: 'doc:{id}'}}]}"),
              ::testing::Contains(::testing::HasSubstr("the rule has 'semantic', which is not there yet on a Redis Cluster")));
  options_.url = "redis://" + where() + "/3";
  EXPECT_THAT(findings(rules), ::testing::ElementsAre(::testing::HasSubstr("a cluster has database 0 alone: leave the number out of 'redis: url:'")));
}

TEST_F(CheckRedis, MissingRights) {
  start();
  redis().command({"ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-sscan"});
  options_.url = "redis://weak:pw@" + where();
  EXPECT_EQ(findings("- {table: a.b, keys: ['product:{id}'], tags: ['all:{id}'], fill: checked}"),
            std::vector<std::string>{"RD003 " + where() +
                                     ": user 'weak' may not run SSCAN on 'tag:all:x' -> 'evictd check --acl' prints the user that "
                                     "the rules need (docs/redis.md)"});
  EXPECT_THAT(findings("- {table: a.b, keys: ['product:{id}'], fill: checked}"), IsEmpty()) << "no tag has a set to read";
}

// Rules that ask for deletes only work where scripts and functions are forbidden, or were renamed.
TEST_F(CheckRedis, PlainRulesNeedNoScripts) {
  start({"--rename-command", "EVALSHA", "", "--rename-command", "SCRIPT", "", "--rename-command", "FCALL", "", "--rename-command", "EVAL", ""});
  redis().command({"ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-mget", "-pttl", "-pexpire", "-persist"});
  options_.url = "redis://plain:pw@" + where();
  const std::string rules = "- {table: a.b, keys: ['product:{id}'], tags: ['c:{c}']}";
  EXPECT_THAT(findings(rules), IsEmpty());
  const auto found = findings(rules + "\n- {table: a.c, keys: ['c:{id}'], fill: checked}");
  EXPECT_THAT(found, ::testing::Contains(::testing::HasSubstr(
                         "Redis has no command 'EVALSHA' (nothing is deleted without it); it concerns 'a.c' -> ")));
  redis().command({"ACL", "SETUSER", "plain", "-exec"});
  EXPECT_THAT(findings(rules), ::testing::Contains(::testing::HasSubstr("user 'plain' may not run EXEC on 'tag:c:x'")));
}

TEST_F(CheckRedis, RuleOutsideTheUsersKeys) {
  start();
  redis().command({"ACL", "SETUSER", "weak", "on", ">pw", "~evictd:*", "+@all"});
  options_.url = "redis://weak:pw@" + where();
  const auto lines = findings("- {table: a.b, keys: ['product:{id}']}");
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines[0], "RD003 " + where() +
                          ": user 'weak' may not run UNLINK on 'product:x' -> 'evictd check --acl' prints the user "
                          "that the rules need (docs/redis.md)");
}

TEST_F(CheckRedis, Policies) {
  start({"--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"});
  const char* kChecked = "- {table: public.products, keys: ['product:{id}'], fill: checked}";
  const char* kPlain = "- {table: public.products, keys: ['product:{id}']}";
  EXPECT_EQ(findings(kChecked),
            std::vector<std::string>{"RD005 " + where() +
                                     ": 'maxmemory-policy' is 'volatile-ttl', which may take a tombstone, and a late fill is then not refused -> CONFIG SET "
                                     "maxmemory-policy allkeys-lru"});
  EXPECT_EQ(findings(kPlain),
            std::vector<std::string>{"RD005 " + where() +
                                     ": 'maxmemory-policy' is 'volatile-ttl': values without a lifetime are never evicted -> CONFIG SET maxmemory-policy allkeys-lru"});
  for (const char* policy : {"allkeys-lru", "allkeys-lfu"}) {
    redis().command({"CONFIG", "SET", "maxmemory-policy", policy});
    EXPECT_THAT(findings(kChecked), IsEmpty()) << policy;
    EXPECT_THAT(findings(kPlain), IsEmpty()) << policy;
  }
  for (const char* policy : {"noeviction", "volatile-lru", "volatile-random", "allkeys-random"}) {
    redis().command({"CONFIG", "SET", "maxmemory-policy", policy});
    EXPECT_EQ(findings(kChecked).size(), 1u) << policy;
    EXPECT_EQ(findings(kPlain).size(), 1u) << policy;
  }
}

TEST_F(CheckRedis, WhatCountersAndStaleValuesAskOfEviction) {
  start({"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"});
  EXPECT_EQ(findings("- {table: a, bump: ['ns:a']}"),
            std::vector<std::string>{
                "RD012 rules.yaml:1:3: 'maxmemory-policy' is 'allkeys-lru', which may take a counter of 'bump', which begins "
                "again at 1, and keys with old numbers come back to life -> CONFIG SET maxmemory-policy volatile-lru, and "
                "give every value a lifetime"});
  EXPECT_THAT(findings("- {table: a, keys: ['a:{id}'], fill: checked, mode: stale}").at(0), StartsWith("RD012 "));
  redis().command({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  EXPECT_THAT(findings("- {table: a, bump: ['ns:a']}").at(0), StartsWith("RD005 "));
}

// `run` is not ready then.
TEST_F(CheckRedis, WhatWasEvictedAlreadyIsAnError) {
  start({"--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"});
  const std::string rules = "- {table: public.products, keys: ['product:{id}'], tags: ['of:{id}']}";
  const auto severity = [&]() -> std::optional<Severity> {
    for (const Finding& finding : check_redis(options_, *RuleSet::parse(rules, "rules.yaml"))) {
      if (finding.id == "RD012") return finding.severity;
    }
    return std::nullopt;
  };
  EXPECT_EQ(severity(), Severity::kWarning);
  for (int i = 0; i < 60; ++i) redis().set("product:" + std::to_string(i), std::string(100'000, 'x'));
  EXPECT_EQ(severity(), Severity::kError);
}

TEST_F(CheckRedis, FunctionsOfAnotherTombstoneTtl) {  // G3
  start();
  const char* rules = "- {table: public.products, keys: ['product:{id}'], fill: checked}";
  options_.tombstone_ttl = std::chrono::seconds(10);
  EXPECT_THAT(findings(rules), IsEmpty()) << "nobody has loaded any";
  redis().command({"FUNCTION", "LOAD", "REPLACE", function_library(std::chrono::seconds(60))});
  EXPECT_EQ(findings(rules),
            std::vector<std::string>{"RD023 " + where() +
                                     ": the functions for readers are those of a 'tombstone_ttl' of 1m, and this configuration says 10s: the one with the "
                                     "shorter one is not safe from late fills -> give every evictd on this Redis the same 'tombstone_ttl'; if there is no "
                                     "other, restart this one"});
  EXPECT_THAT(findings("- {table: public.products, keys: ['product:{id}']}"), IsEmpty());
  options_.tombstone_ttl = std::chrono::seconds(60);
  EXPECT_THAT(findings(rules), IsEmpty());
}

TEST_F(CheckRedis, ATagsSetThatIsEvictedIsTold) {
  start({"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"});
  redis().command({"ACL", "SETUSER", "narrow", "on", ">pw", "~a:*", "~tag:*", "~evictd:*", "+@all"});
  options_.url = "redis://narrow:pw@" + where();
  EXPECT_EQ(findings("- {table: a, keys: ['a:{id}'], tags: ['t:{id}']}"),
            std::vector<std::string>{
                "RD012 rules.yaml:1:3: 'maxmemory-policy' is 'allkeys-lru', which may take the set of a tag, and what it listed then stays stale -> CONFIG SET maxmemory-policy volatile-lru, and give every value a lifetime; or use "
                "'tags_mode: lazy'"});
  EXPECT_THAT(findings("- {table: a, keys: ['a:{id}'], fill: checked, tags: ['t:{id}'], tags_mode: lazy}"), IsEmpty());
}

// Whoever follows one warning must not meet another, nor lose what a third one is about.
TEST_F(CheckRedis, TheAdviceOnEvictionEnds) {
  start({"--maxmemory", "100mb"});
  redis().command({"ACL", "SETUSER", "narrow", "on", ">pw", "~a:*", "~ns:*", "~tag:*", "~evictd:*", "+@all"});
  options_.url = "redis://narrow:pw@" + where();
  for (const char* rules : {"- {table: a, keys: ['a:{id}']}", "- {table: a, keys: ['a:{id}'], tags: ['t:{id}']}", "- {table: a, bump: ['ns:a']}",
                            "- {table: a, keys: ['a:{id}'], fill: checked, mode: stale}",
                            "- {table: a, keys: ['a:{id}'], fill: checked, mode: stale}\n- {table: a, bump: ['ns:a']}\n- {table: a, tags: ['t']}"}) {
    for (const char* policy : {"noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"}) {
      redis().command({"CONFIG", "SET", "maxmemory-policy", policy});
      std::vector<std::string> said = findings(rules);
      std::size_t steps = 0;
      for (; !said.empty() && steps < 4; ++steps) {
        // The last one, so that none of several leads in a circle.
        const std::size_t advice = said.back().find("CONFIG SET maxmemory-policy ");
        ASSERT_NE(advice, std::string::npos) << said.back();
        std::string next = said.back().substr(advice + std::string("CONFIG SET maxmemory-policy ").size());
        next = next.substr(0, next.find_first_of(" ,;"));
        redis().command({"CONFIG", "SET", "maxmemory-policy", next});
        said = findings(rules);
      }
      EXPECT_THAT(said, IsEmpty()) << rules << " from " << policy;
    }
  }
}

TEST_F(CheckRedis, Persistence) {
  start({"--save", "3600 1"});
  EXPECT_EQ(
      findings(),
      std::vector<std::string>{
          "RD006 " + where() +
          ": Redis can restart from older data (save '3600 1', appendonly 'no') and bring back "
          "deleted "
          "keys; evictd notices the restart and repairs -> for a pure cache: CONFIG SET save ''"});
}

TEST_F(CheckRedis, NoKeyOfARule) {
  start();
  redis().set("prod:1", "v");
  EXPECT_EQ(
      findings("- {table: a.b, keys: ['product:{id}']}"),
      std::vector<std::string>{
          "RD009 rules.yaml:1:3: no key in Redis matches 'product:*' -> look at the template's "
          "prefix and at the database number; a key that is there: 'prod:1'"});
  // Among markers of our own, which are no example; by themselves they are no cache.
  const std::vector<std::string> with_key = findings("- {table: a.b, keys: ['product:{id}']}");
  for (int i = 0; i < 3; ++i) redis().set("evictd:m:" + std::to_string(i), "v");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(findings("- {table: a.b, keys: ['product:{id}']}"), with_key);
  redis().command({"UNLINK", "prod:1"});
  EXPECT_EQ(findings("- {table: a.b, keys: ['product:{id}']}"),
            std::vector<std::string>{"RD009 rules.yaml:1:3: no key in Redis matches 'product:*' -> nothing to do when the cache is still empty"});
  redis().set("product:1", "v");
  EXPECT_THAT(findings("- {table: a.b, keys: ['product:{id}']}"), IsEmpty());
}

TEST_F(CheckRedis, KeysInAnotherDatabaseThanTheUrlNames) {
  start();
  const char* rules = "- {table: a.b, keys: ['product:{id}']}";
  EXPECT_THAT(findings(rules), IsEmpty());
  redis().command({"SELECT", "3"});
  redis().set("product:1", "v");
  redis().set("product:2", "v");
  redis().command({"SELECT", "5"});
  redis().set("session:1", "v");
  redis().command({"SELECT", "0"});
  const std::string expected = "RD009 " + where() + ": database 0 of this Redis has no cached key, and database 3 has 2 keys -> nothing, when the cache is still "
                               "empty; when that one is the readers', write its number behind the '/' of 'redis: url:'";
  EXPECT_EQ(findings(rules), std::vector<std::string>{expected});
  redis().set("evictd:record:evictd", "v");  // our own is no cached key
  EXPECT_THAT(findings(rules), Contains(expected));
  redis().set("prod:1", "v");
  EXPECT_THAT(findings(rules), Not(Contains(expected)));
}

TEST_F(CheckRedis, SeveralAddressesAreThoseOfACluster) {
  start();
  options_.url = "redis://" + where() + ",127.0.0.1:1";
  EXPECT_EQ(findings(), std::vector<std::string>{"RD017 " + where() + ": this server is not in cluster mode, and 'redis: url:' names several addresses -> "
                                                 "several addresses are those of one cluster's nodes; one server has one address"});
}

// The user that `check --acl` prints for a pattern with a class is let through by what looks at it.
TEST_F(CheckRedis, KeysOfPatternsWithClassesAreTriedByANameOfThem) {
  start();
  const char* rules = "- {table: a.b, purge: ['page:[ab]:*', 'n[^x]\\[']}";
  const auto parsed = RuleSet::parse(rules, "rules.yaml");
  ASSERT_TRUE(parsed);
  const RedisAcl acl = redis_acl("e v", {&parsed->rules()[0]}, {});
  EXPECT_THAT(acl.daemon, StartsWith("ACL SETUSER \"e v\" "));
  const RedisAcl usable = redis_acl("narrow", {&parsed->rules()[0]}, {});
  for (std::string line : {usable.daemon, usable.check}) {
    std::vector<std::string> words;
    std::istringstream in(line);
    for (std::string word; in >> word;) {
      std::string plain;  // as redis-cli reads what stands in quotes
      for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[0] == '"' && (i == 0 || i + 1 == word.size())) continue;
        if (word[0] == '"' && word[i] == '\\') ++i;
        plain += word[i];
      }
      words.push_back(plain);
    }
    ASSERT_TRUE(redis().command(words).is_ok()) << line;
  }
  options_.url = "redis://narrow:PASSWORD@" + where();
  EXPECT_THAT(findings(rules), IsEmpty());
  ASSERT_TRUE(redis().command({"ACL", "SETUSER", "narrow", "-info"}).is_ok());
  EXPECT_THAT(findings(rules), ::testing::ElementsAre(::testing::EndsWith(" -> ACL SETUSER narrow +info")));
}

TEST_F(CheckRedis, TagThatIsNoSet) {
  start();
  redis().set("tag:c:1", "v");
  EXPECT_EQ(
      findings("- {table: a.b, tags: ['c:{c}']}"),
      std::vector<std::string>{
          "RD010 tag:c:1: expected a set of keys, got a string: evictd would delete it -> keep "
          "tags and cached values under different names"});
}

TEST_F(CheckRedis, RefusedWrites) {
  start({"--min-replicas-to-write", "1"});
  EXPECT_EQ(findings(), std::vector<std::string>{
                            "RD011 " + where() +
                            ": a probe write was refused: 'NOREPLICAS Not enough good replicas to "
                            "write.' -> see 'min-replicas-to-write'"});
}

}  // namespace
}  // namespace evictd::testing
