// The Redis in memory against a real one: the same commands to both, and the same replies. A fake that is better than the real
// thing hides faults, so whatever the simulation rests on is asked here, at random and by evictd's own scripts.
// EVICTD_SEED repeats a run.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <regex>
#include <thread>

#include "daemon/sinks/redis/scripts.h"
#include "tests/simulation/memory_redis.h"
#include "tests/support/redis_server.h"

namespace evictd::testing {
namespace {

using Arguments = MemoryRedis::Arguments;
constexpr auto kTombstoneTtl = std::chrono::milliseconds(5000);
constexpr std::int64_t kClockSlack = 2000;  // ms that a busy machine may put between the two

// What differs by nature is made alike: times and leases, and where in a script an error arose.
std::string comparable(const Reply& reply, bool is_unordered) {
  static const std::regex lease(R"(\d{10}-\d+)"), time(R"(\b1[6-9]\d{11}\b)"), place(R"( script: [0-9a-f]{40}.*| script: evictd_\w+.*)");
  switch (reply.kind) {
    case Reply::Kind::kArray: {
      std::vector<std::string> all;
      for (const Reply& element : reply.elements) all.push_back(comparable(element, is_unordered));
      if (is_unordered) std::sort(all.begin(), all.end());
      return fmt::format("[{}]", fmt::join(all, ", "));
    }
    case Reply::Kind::kInteger:
      return fmt::format(":{}", reply.integer);
    case Reply::Kind::kNil:
      return "nil";
    default:
      break;
  }
  const std::string text = std::regex_replace(std::regex_replace(std::regex_replace(reply.text, place, ""), lease, "LEASE"), time, "TIME");
  return (reply.is_error() ? "error " : reply.kind == Reply::Kind::kStatus ? "status " : "") + text;
}

class MemoryRedisTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    server_ = std::make_unique<RedisServer>();
    clock_ = std::make_unique<RedisClient>(server_->port());
    const char* given = std::getenv("EVICTD_SEED");
    seed_ = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    random_.seed(seed_);
    std::printf("seed %lu\n", static_cast<unsigned long>(seed_));
  }
  int pick(int below) { return static_cast<int>(random_() % static_cast<std::uint64_t>(below)); }
  template <typename T, std::size_t size>
  T one_of(const T (&all)[size]) {
    return all[pick(static_cast<int>(size))];
  }

  // Asks both.
  void same(const Arguments& command) {
    const Reply time = clock_->command({"TIME"});
    memory_.set_time(std::chrono::seconds(std::stoll(time.elements[0].text)) + std::chrono::microseconds(std::stoll(time.elements[1].text)));
    const Reply real = server_->client().command(command);
    const Reply ours = memory_.execute(client_, command);
    history_.push_back(fmt::format("{}", fmt::join(command, " ")).substr(0, 300));
    const bool is_lifetime = command[0] == "PTTL" && real.integer > 0;
    if (is_lifetime) {
      ASSERT_NEAR(static_cast<double>(real.integer), static_cast<double>(ours.integer), kClockSlack) << story();
      return;
    }
    const bool is_unordered = command[0] == "SMEMBERS" || command[0] == "EXEC";  // the members of sets have no order
    ASSERT_EQ(comparable(real, is_unordered), comparable(ours, is_unordered)) << story();
  }
  // All that a cursor gives, of both, whatever the pages.
  void same_names(const Arguments& scan, std::size_t cursor_at) {
    std::set<std::string> found[2];
    for (int which = 0; which < 2; ++which) {
      Arguments command = scan;
      do {
        const Reply page = which == 0 ? server_->client().command(command) : memory_.execute(client_, command);
        ASSERT_EQ(page.kind, Reply::Kind::kArray) << page.text << story();
        const std::size_t step = scan[0] == "ZSCAN" ? 2 : 1;  // each name has its score behind it
        for (std::size_t i = 0; i < page.elements[1].elements.size(); i += step) found[which].insert(page.elements[1].elements[i].text);
        command[cursor_at] = page.elements[0].text;
      } while (command[cursor_at] != "0");
    }
    ASSERT_EQ(found[0], found[1]) << fmt::format("{}", fmt::join(scan, " ")) << story();
  }
  // Everything that is there.
  void same_data() {
    same_names({"SCAN", "0", "COUNT", "7"}, 1);
    for (const auto& [name, value] : std::map(memory_.data().keys)) {
      same({"TYPE", name});
      same({"PTTL", name});
      if (std::holds_alternative<std::string>(value.data)) same({"GET", name});
      if (std::holds_alternative<MemoryRedis::Set>(value.data)) same({"SMEMBERS", name});
      if (std::holds_alternative<MemoryRedis::SortedSet>(value.data)) {
        same_names({"ZSCAN", name, "0"}, 2);
        if (!name.starts_with("evictd:") && !name.starts_with("tag:")) same({"ZRANGE", name, "0", "-1", "WITHSCORES"});
      }
      if (HasFatalFailure()) return;
    }
  }
  std::string story() const {
    std::string text = fmt::format("\nseed {}, the last commands:\n", seed_);
    for (std::size_t i = history_.size() > 12 ? history_.size() - 12 : 0; i < history_.size(); ++i) text += history_[i] + "\n";
    return text;
  }

  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<RedisClient> clock_;  // a connection of its own: never within MULTI
  MemoryRedis memory_{1};
  MemoryRedis::Client client_;
  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::vector<std::string> history_;
};

TEST_F(MemoryRedisTest, CommandsAtRandomHaveTheSameReplies) {
  static const std::string kKeys[] = {"a", "b", "c", "d", "e", "set", "set2", "z", "z2", "evictd:{a}", ""};
  static const std::string kTexts[] = {"", "x", "7", "-3", "007", "9223372036854775807", "1.5", "text with spaces", std::string("\0\r\n", 3)};
  static const std::string kNumbers[] = {"0", "1", "-1", "3", "100000", "x", "1.5", "-100000", "9223372036854775807"};
  static const std::string kLives[] = {"60000", "90000", "120000", "0", "-1", "x"};
  static const std::string kScores[] = {"1", "2", "2.5", "-7", "1700000000000", "inf", "x", "-inf", "0.1"};
  static const std::string kBounds[] = {"-inf", "+inf", "2", "(2", "(2.5", "1700000000000", "x"};
  for (int i = 0; i < 6000 && !HasFatalFailure(); ++i) {
    const std::string key = one_of(kKeys), other = one_of(kKeys), text = one_of(kTexts), number = one_of(kNumbers);
    switch (pick(31)) {
      case 0: same({"GET", key}); break;
      case 1: same({"MGET", key, other, one_of(kKeys)}); break;
      case 2: same({"SET", key, text}); break;
      case 3: same({"SET", key, text, "PX", one_of(kLives)}); break;
      case 4: same({"set", key, text, "KEEPTTL"}); break;
      case 5: pick(3) == 0 ? same({"SET", key, text, "GET"}) : same({"SET", key, text, pick(2) == 0 ? "NX" : "XX", "PX", one_of(kLives)}); break;
      case 6: same({"UNLINK", key, other}); break;
      case 7: same({"EXISTS", key, key, other}); break;
      case 8:
        if (!client_.in_multi) same({"PTTL", key});  // what is left of a life is compared by itself alone
        break;
      case 9: same({"PEXPIRE", key, one_of(kLives)}); break;
      // Longer than all before it, or shorter: which of two equal ones is greater would be decided by a millisecond between the clocks.
      case 10: same({"PEXPIRE", key, pick(2) == 0 ? "30000" : std::to_string(200'000 + 1000 * i), "GT"}); break;
      case 11: same({"PERSIST", key}); break;
      case 12: same({"INCR", key}); break;
      case 13: same({"INCRBY", key, number}); break;
      case 14: same({"SADD", key, text, one_of(kTexts)}); break;
      case 15: same({"SREM", key, text, one_of(kTexts)}); break;
      case 16: same({"SMEMBERS", key}); break;
      case 17: same({"ZADD", key, one_of(kScores), text, one_of(kScores), one_of(kTexts)}); break;
      case 18: same({"ZADD", key, pick(2) == 0 ? "NX" : "GT", one_of(kScores), text}); break;
      case 19: same({"ZREM", key, text}); break;
      case 20: same({"ZRANGE", key, number, one_of(kNumbers), "WITHSCORES"}); break;
      case 21: same({"ZRANGEBYSCORE", key, one_of(kBounds), one_of(kBounds), "LIMIT", "0", "2"}); break;
      case 22: same({"ZREMRANGEBYSCORE", key, one_of(kBounds), one_of(kBounds)}); break;
      case 23: same({"ZREMRANGEBYRANK", key, number, one_of(kNumbers)}); break;
      case 24: same({"TYPE", key}); break;
      case 25: same({"PEXPIREAT", key, pick(2) == 0 ? "1000" : "33000000000000"}); break;
      case 26: same({pick(2) == 0 ? "MULTI" : "EXEC"}); break;
      case 27: same(pick(3) == 0 ? Arguments{"DISCARD"} : Arguments{"PUBLISH", "channel", "text"}); break;
      case 28: same({"GET"}); break;
      case 29: same({"GETRANGE", key, number, one_of(kNumbers)}); break;
      default: same({"SADD", key, std::to_string(pick(40)), std::to_string(pick(40))}); break;
    }
    if (i % 500 == 499) {
      if (client_.in_multi) same({"EXEC"});
      same_data();
    }
  }
}

TEST_F(MemoryRedisTest, CursorsFindTheSameNames) {
  for (int i = 0; i < 300; ++i) same({"SET", fmt::format("{}:{}", i % 3 == 0 ? "row" : i % 3 == 1 ? "r?w" : "[row]", i), "x"});
  for (int i = 0; i < 700; ++i) same({"SADD", "many", std::to_string(i)});
  for (int i = 0; i < 300; ++i) same({"ZADD", "ranked", std::to_string(i), fmt::format("member {}", i)});
  for (const char* glob : {"*", "row:*", "r\\?w:*", "\\[row\\]:*", "r?w:1*", "[rx]*", "[^r]*", "*:[0-2]?", "row:1", "nothing*", "[a-", "\\", "ro[v-x]:2[^0-5]"}) {
    for (const char* count : {"1", "10", "1000"}) {
      same_names({"SCAN", "0", "COUNT", count, "MATCH", glob}, 1);
      if (HasFatalFailure()) return;
    }
  }
  same_names({"SCAN", "0", "TYPE", "zset"}, 1);
  same_names({"SCAN", "0", "TYPE", "string", "COUNT", "50", "MATCH", "row*"}, 1);
  for (const std::size_t page : {3u, 1000u}) {
    memory_.page_max = page;
    same_names({"SSCAN", "many", "0", "COUNT", "64"}, 2);
    same_names({"ZSCAN", "ranked", "0", "COUNT", "64"}, 2);
    same_names({"SSCAN", "nothing", "0"}, 2);
  }
  same({"SSCAN", "ranked", "0"});
  same({"SCAN", "x"});
}

TEST_F(MemoryRedisTest, WhatIsOverIsGone) {
  same({"SET", "a", "x", "PX", "1"});
  same({"SADD", "s", "x"});
  same({"PEXPIRE", "s", "1"});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (server_->client().exists("a") || server_->client().exists("s")) ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  same({"GET", "a"});
  same({"SMEMBERS", "s"});
  same_names({"SCAN", "0"}, 1);
}

TEST_F(MemoryRedisTest, WhatScriptsMayDoIsTheSame) {
  for (const char* text :
       {"return 1.9", "return {1, 'a', false, 'b'}", "return {1, nil, 2}", "return true", "return nil", "return redis.call('GET', KEYS[1])",
        "return redis.error_reply('ERR wrong')", "return redis.status_reply('FINE')", "return redis.pcall('INCR', KEYS[1])",
        "local r = redis.pcall('INCR', KEYS[1]); return r.err", "return redis.call('INCR', KEYS[1])", "error({err = 'ERR mine'})",
        "return redis.call('SET', 'n', 1700000000123)", "return redis.call('SET', 'n', 0.5)", "return redis.call('GET', 'n')",
        "return redis.sha1hex('x')", "return cjson.encode('a\"/\\\\\\n\\1\127b')", "return redis.call('SET', 'n', 1).ok",
        "return type(redis.call('GET', 'absent'))", "return redis.REDIS_VERSION_NUM >= 0x070000 and 1 or 0", "return #ARGV[1] + #KEYS",
        "return {redis.call('ZADD', 'zz', 3, 'm'), redis.call('ZRANGE', 'zz', 0, -1, 'WITHSCORES')}", "return redis.call('GET')"}) {
    same({"SET", "key", "no number"});
    same({"EVAL", text, "1", "key", "argument"});
    if (HasFatalFailure()) return;
  }
  same({"EVALSHA", std::string(40, '0'), "0"});
  same({"EVAL", "return 1", "2", "a"});
  same({"EVAL", "return 1", "-1"});
  same({"FCALL", "evictd_fill", "0"});
  same({"SCRIPT", "LOAD", "return 7"});
  same({"EVALSHA", sha1_of("return 7"), "0"});
  same({"SCRIPT", "FLUSH"});
  same({"EVALSHA", sha1_of("return 7"), "0"});
}

// evictd's own scripts and functions, as the sink and readers call them, in any order.
TEST_F(MemoryRedisTest, TheScriptsAndFunctionsHaveTheSameReplies) {
  same({"FUNCTION", "LOAD", "REPLACE", function_library(kTombstoneTtl)});
  for (const ScriptText& each : scripts()) same({"SCRIPT", "LOAD", each.text});
  static const std::string kNames[] = {"row:1", "row:2", "row:3", "list:1", "{x}y"};
  static const std::string kTags[] = {"group:1", "group:2"};
  const auto marker = [](const std::string& name) {
    std::string made;
    append_marker_name(made, name);
    return made;
  };
  const auto xid = [this] { return 100 + pick(30); };
  const auto snapshot = [&] {
    const int low = xid(), high = low + pick(20), running = low + pick(10);
    return fmt::format("{}:{}:{}", low, high, running < high ? std::to_string(running) : "");
  };
  const auto tokens = [&] {
    std::string text;
    const int many = pick(12) == 0 ? 40 : 1 + pick(3);
    for (int i = 0; i < many; ++i) text += fmt::format("{}{}{}", i > 0 ? "," : "", many > 3 ? 100 + i : xid(), pick(3) == 0 ? "s" : "");
    switch (pick(14)) {
      case 0: return fmt::format("^{}", xid());
      case 1: return fmt::format("v{}", pick(9));
      case 2: return fmt::format("~{}", xid());
      default: return text;
    }
  };
  static const std::string kActs[] = {"i", "s", "r"}, kFlags[] = {"", "f", "f", "f", "u", "fk2000", "h", "fh"}, kEpochs[] = {"1/1", "1/1", "1/1", "1/2"};
  const auto command = [&](Script which, std::vector<std::string> keys, const std::string& more) {
    const bool has_channel = pick(8) == 0;
    if (has_channel) keys.push_back(channel_counter("news"));
    Arguments call = {"EVALSHA", script(which).sha1, std::to_string(keys.size())};
    call.insert(call.end(), keys.begin(), keys.end());
    call.insert(call.end(), {one_of(kEpochs), "6000", one_of(kActs) + one_of(kFlags) + more + (has_channel ? "|news" : ""),
                             pick(2) == 0 ? "0" : "0 " + snapshot(), tokens()});
    same(call);
  };
  for (int i = 0; i < 2500 && !HasFatalFailure(); ++i) {
    const std::string name = one_of(kNames), other = name == "row:1" ? "row:2" : "row:1", tag = one_of(kTags);
    switch (pick(16)) {
      case 0:
      case 1:
      case 2: command(Script::kInvalidate, {name, other, marker(name), marker(other)}, ""); break;
      case 3: command(Script::kWalkBegin, {marker("tag:" + tag)}, "w"); break;
      case 4: command(Script::kWalkBegin, {marker("purge:row:*"), "evictd:purged"}, "c"); break;
      case 5: command(Script::kWalkMembers, {"tag:" + tag, name, other, marker(name), marker(other)}, "m"); break;
      case 6: command(Script::kWalkFinish, {marker("tag:" + tag)}, pick(2) == 0 ? "y" : ""); break;
      case 7: command(Script::kLazyTags, {marker("tag:lazy"), marker("tag:" + tag)}, ""); break;
      case 8: command(Script::kRaise, {"ns:rows", marker("ns:rows")}, pick(3) == 0 ? "up" : ""); break;
      case 9: same({"EVALSHA", script(Script::kSaveRecord).sha1, "1", "evictd:record:x", "a record"}); break;
      case 10:
      case 11:
      case 12: {
        Arguments fill = {"FCALL", "evictd_fill", "2", name, marker(name)};
        if (pick(2) == 0) fill.push_back(pick(2) == 0 ? "tag:" + tag : marker("tag:lazy"));
        fill[2] = std::to_string(fill.size() - 3);
        fill.insert(fill.end(), {pick(8) == 0 ? "v:5" : pick(8) == 0 ? "nonsense" : snapshot(), "60000", "value"});
        if (pick(4) == 0) fill.insert(fill.end(), {"AGE", pick(2) == 0 ? "20" : "5001"});
        same(fill);
        break;
      }
      case 13: {
        Arguments get = {"FCALL", "evictd_get", "2", name, marker(name)};
        if (pick(2) == 0) get.push_back(marker("tag:lazy"));
        get[2] = std::to_string(get.size() - 3);
        if (pick(2) == 0) get.insert(get.end(), {"LEASE", "60000"});
        if (pick(2) == 0) break;
        // A refused fill ends its lease 10 ms later: then it is over by both clocks.
        std::this_thread::sleep_for(std::chrono::milliseconds(15));
        same(get);
        break;
      }
      case 14: same({"FCALL", "evictd_invalidate", "2", name, marker(name), std::to_string(xid())}); break;
      default:
        if (pick(3) == 0) {
          same({"FCALL", "evictd_fill", "2", name, "wrong", snapshot(), "60000", "value"});
        } else if (pick(2) == 0) {
          same({"FCALL", "evictd_join", "2", "tag:joined", marker("tag:joined"), name, "60000", snapshot()});
        } else {
          same({"FCALL", "evictd_seen", "1", marker("tag:lazy"), snapshot()});
        }
    }
    if (i % 250 == 249) {
      same_data();
      same({"FCALL", "evictd_stats", "0"});
      same({"UNLINK", one_of(kNames), marker(one_of(kNames)), "evictd:purged", marker("tag:lazy")});
    }
  }
  same({"FCALL", "evictd_version", "0"});
}

}  // namespace
}  // namespace evictd::testing
