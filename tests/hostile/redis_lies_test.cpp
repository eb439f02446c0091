// A Redis that lies: now and then it does not do what it was asked, and answers something. Whatever it answers, a command
// that the sink calls done was done (G1), and the sink goes on by itself.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

void append_reply(std::string& out, const Reply& reply) {
  switch (reply.kind) {
    case Reply::Kind::kStatus: out += "+" + reply.text + "\r\n"; return;
    case Reply::Kind::kError: out += "-" + reply.text + "\r\n"; return;
    case Reply::Kind::kInteger: out += ":" + std::to_string(reply.integer) + "\r\n"; return;
    case Reply::Kind::kText: append_argument(out, reply.text); return;
    case Reply::Kind::kNil: out += "$-1\r\n"; return;
    case Reply::Kind::kArray: break;
    case Reply::Kind::kTooLong: std::abort();
  }
  out += "*" + std::to_string(reply.elements.size()) + "\r\n";
  for (const Reply& element : reply.elements) append_reply(out, element);
}

// Each is the reply of some command, or of none. None of them fits EVALSHA of ours, but for NOSCRIPT.
const std::vector<std::string> kLies = {
    "$-1\r\n", "+OK\r\n", "+QUEUED\r\n", ":1\r\n", ":0\r\n", ":-1\r\n", "*0\r\n", "*-1\r\n", "$5\r\nhello\r\n",
    "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
    "*4\r\n:99\r\n:0\r\n:0\r\n:0\r\n", "*4\r\n:-1\r\n:1\r\n:0\r\n:0\r\n", "*4\r\n:9223372036854775807\r\n:9223372036854775807\r\n:7\r\n:0\r\n",
    "*5\r\n:0\r\n:0\r\n:1\r\n:0\r\n:99\r\n", "*1\r\n*0\r\n", "*2\r\n$1\r\nx\r\n*0\r\n", "-WRONGTYPE x\r\n", "-NOSCRIPT x\r\n", "-ERR x\r\n",
    "-LOADING x\r\n", "%1\r\n+a\r\n+b\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "$2147483648\r\n", "*2147483647\r\n", ""};

// Between the sink and a real Redis, one connection at a time. "" is a lie as well: it hangs up.
class LyingRedis {
 public:
  LyingRedis(int port, std::uint64_t seed) : upstream_port_(port), random_(seed) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
    socklen_t length = sizeof(where);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&where), &length);
    port_ = ntohs(where.sin_port);
    EXPECT_EQ(::listen(listener_, 64), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~LyingRedis() {
    is_over_ = true;
    thread_.join();
    ::close(listener_);
  }
  int port() const { return port_; }
  int lies() const { return lies_; }

 private:
  // False when it is over.
  bool wait_for_bytes(int socket) const {
    while (!is_over_) {
      pollfd ready{socket, POLLIN, 0};
      if (::poll(&ready, 1, 20) > 0) return true;
    }
    return false;
  }

  void serve() {
    while (wait_for_bytes(listener_)) {
      const int peer = ::accept(listener_, nullptr, nullptr);
      if (peer < 0) continue;
      talk(peer);
      ::close(peer);
    }
  }

  void talk(int peer) {
    RedisClient upstream(upstream_port_);
    ReplyReader commands(ReplyLimits{1u << 28, 1u << 28, 2});
    char bytes[64 * 1024];
    while (wait_for_bytes(peer)) {
      const ssize_t got = ::recv(peer, bytes, sizeof(bytes), 0);
      if (got <= 0) return;
      commands.feed(std::string_view(bytes, static_cast<std::size_t>(got)));
      while (true) {
        auto command = commands.next();
        if (!command || !*command) break;
        std::string answer;
        if (!answered(**command, upstream, answer)) return;
        ::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
    }
  }

  // What nothing in the answer could tell from the truth: that a set is no set, and how many of some keys were there.
  static bool is_like_the_truth(const std::vector<std::string>& words, const std::string& answer) {
    if ((words[0] == "SSCAN" || words[0] == "ZSCAN") && answer.starts_with("-WRONGTYPE")) return true;
    return words[0] == "UNLINK" && answer.starts_with(':') && answer.size() > 1 && std::isdigit(static_cast<unsigned char>(answer[1])) &&
           std::strtoull(answer.c_str() + 1, nullptr, 10) < words.size();
  }

  bool answered(const Reply& command, RedisClient& upstream, std::string& answer) {
    std::vector<std::string> words;
    for (const Reply& word : command.elements) words.push_back(word.text);
    if (std::uniform_int_distribution<int>(0, 19)(random_) == 0) {
      answer = kLies[std::uniform_int_distribution<std::size_t>(0, kLies.size() - 1)(random_)];
      if (!is_like_the_truth(words, answer)) {
        ++lies_;
        return !answer.empty();
      }
    }
    answer.clear();
    append_reply(answer, upstream.command(words));
    return true;
  }

  int upstream_port_;
  int listener_ = -1;
  int port_ = 0;
  std::mt19937_64 random_;
  std::atomic<bool> is_over_{false};
  std::atomic<int> lies_{0};
  std::thread thread_;
};

TEST(LyingRedisTest, WhatIsCalledDoneWasDone) {  // G1
  EVICTD_NEED_REDIS();
  const std::uint64_t seed = number_from_environment("EVICTD_SEED", std::random_device{}());
  const std::uint64_t rounds = number_from_environment("EVICTD_HOSTILE_ROUNDS", 100);
  SCOPED_TRACE("EVICTD_SEED=" + std::to_string(seed));
  RedisServer server;
  LyingRedis lying(server.port(), seed);
  RedisOptions options = options_for(server);
  options.url = "redis://127.0.0.1:" + std::to_string(lying.port());
  options.backoff_first = std::chrono::milliseconds(1);
  options.backoff_max = std::chrono::milliseconds(4);
  // A head that announces more than comes, or half a reply, is a silence.
  options.command_timeout = std::chrono::milliseconds(200);
  DrivenSink driven(options);
  RedisClient& redis = server.client();
  Ticket ticket = 1000;
  for (std::uint64_t round = 1; round <= rounds; ++round) {
    OrderBuilder keys(Act::kInvalidate);
    OrderBuilder tags(Act::kInvalidate, Target::kTags);
    tags.trusting().key("t", {round});
    std::vector<std::string> values;
    for (int i = 0; i < 4; ++i) {
      const std::string key = "k:" + std::to_string(round) + ":" + std::to_string(i);
      const std::string member = "m:" + std::to_string(round) + ":" + std::to_string(i);
      redis.set(key, "v");
      redis.set(member, "v");
      redis.command({"SADD", "tag:t", member});
      keys.key(key, {round});
      values.insert(values.end(), {key, member});
    }
    // A pattern of this round's keys of its own.
    const std::string matching = "p:" + std::to_string(round) + ":x";
    redis.set(matching, "v");
    values.push_back(matching);
    OrderBuilder pattern(Act::kInvalidate, Target::kPatterns);
    pattern.key("p:" + std::to_string(round) + ":*", {round});

    for (const OrderBuilder& command : {OrderBuilder(keys), OrderBuilder(tags), OrderBuilder(pattern)}) {
      SinkJournal& journal = driven.journal();
      do {  // lost: sent again, as the pipeline does
        ASSERT_TRUE(driven.until([&] { return driven.sink().has_room(Urgency::kPrompt); }));
        driven.sink().set_context(SinkContext{"epoch/1", std::chrono::milliseconds(0)});
        driven.sink().submit(++ticket, command.order());
        ASSERT_TRUE(driven.until([&] { return journal.done.contains(ticket) || journal.lost.contains(ticket); }));
      } while (!journal.done.contains(ticket));
    }
    Record record;
    record.epoch_since = std::chrono::milliseconds(round);
    const auto is_saved = [&] {
      const auto& saved = driven.journal().records_saved;
      return !saved.empty() && saved.back() == round;
    };
    while (!is_saved()) {
      ASSERT_TRUE(driven.until([&] { return driven.sink().has_room(Urgency::kPrompt); }));
      const int disconnects = driven.journal().disconnects;
      driven.sink().save_record(numbered(record, round));
      ASSERT_TRUE(driven.until([&] { return is_saved() || driven.journal().disconnects != disconnects || !driven.sink().status().connected; }));
    }
    ASSERT_NE(redis.get(record_key("evictd")).find("epoch_since " + std::to_string(round) + "\n"), std::string::npos)
        << "the record was called saved";
    for (const std::string& value : values) ASSERT_FALSE(redis.exists(value)) << value << " was called deleted";
    ASSERT_FALSE(driven.journal().failed);
  }
  EXPECT_GT(lying.lies(), static_cast<int>(rounds / 4)) << "too few to prove anything";
}

}  // namespace
}  // namespace evictd::testing
