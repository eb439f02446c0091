// Checked readers of a Redis Cluster, as many as an application has, for the soak of tests/faults/test_cluster.py: each reads one
// value after the other and goes to the database for what is not cached, as the recipes do. Nodes that are away, that stand still or
// that moved a slot are met as by any client: the value is not cached this time.
//
//   cluster_readers POSTGRES_URL PORT[,PORT...] READERS ROWS SHELVES
//
// Prints one line of JSON each second, of all since the start, until its standard input ends.
#include <hiredis/hiredis.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "daemon/sinks/redis/topology/slots.h"
#include "tests/readers/race/clients.h"

namespace evictd::race {
namespace {

constexpr timeval kTimeout{1, 0};
constexpr const char* kLifetime = "3600000";

struct Counts {
  std::atomic<std::uint64_t> hits{0}, fills{0}, refused{0}, joins_refused{0}, troubles{0};
};

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};
struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Answer = std::unique_ptr<redisReply, FreeReply>;

// Null where there was none, or an error: whoever called looks at the topology again.
class ClusterClient {
 public:
  explicit ClusterClient(std::vector<int> seeds) : seeds_(std::move(seeds)) {}

  Answer call(const std::string& key, const std::vector<std::string>& words) {
    if (owners_.empty() && !look()) return nullptr;
    const int port = owners_[slot_of(key)];
    Answer answer = port == 0 ? nullptr : ask(port, words);
    if (answer && answer->type != REDIS_REPLY_ERROR) return answer;
    owners_.clear();
    return nullptr;
  }

 private:
  Answer ask(int port, const std::vector<std::string>& words) {
    auto& connection = connections_[port];
    if (!connection) connection.reset(redisConnectWithTimeout("127.0.0.1", port, kTimeout));
    if (!connection || connection->err != 0) {
      connection.reset();
      return nullptr;
    }
    redisSetTimeout(connection.get(), kTimeout);
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    Answer answer(static_cast<redisReply*>(redisCommandArgv(connection.get(), static_cast<int>(words.size()), texts.data(), sizes.data())));
    if (!answer) connection.reset();
    return answer;
  }

  bool look() {
    std::vector<int> known = seeds_;
    for (const auto& [port, connection] : connections_) known.push_back(port);
    const int port = known[next_++ % known.size()];
    const Answer slots = ask(port, {"CLUSTER", "SLOTS"});
    if (!slots || slots->type != REDIS_REPLY_ARRAY) return false;
    owners_.assign(kSlots, 0);
    for (std::size_t i = 0; i < slots->elements; ++i) {
      const redisReply& range = *slots->element[i];
      for (long long slot = range.element[0]->integer; slot <= range.element[1]->integer; ++slot) {
        owners_[static_cast<std::size_t>(slot)] = static_cast<int>(range.element[2]->element[1]->integer);
      }
    }
    return true;
  }

  const std::vector<int> seeds_;
  std::size_t next_ = 0;
  std::vector<int> owners_;  // by slot, ports; empty: to be asked for
  std::map<int, std::unique_ptr<redisContext, FreeContext>> connections_;
};

void read(ClusterClient& redis, Postgres& postgres, Counts& counts, bool is_list, const std::string& number) {
  const std::string key = (is_list ? "list:" : "item:") + number;
  const std::string marker = "evictd:{" + key + "}";
  const auto trouble = [&] {
    ++counts.troubles;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  };
  const Answer got = redis.call(key, {"FCALL", "evictd_get", "2", key, marker});
  if (!got || got->elements < 2) return trouble();
  if (got->element[1]->type != REDIS_REPLY_NIL) {
    ++counts.hits;
    return;
  }
  const std::vector<std::string> row = postgres.run(is_list ? "list" : "item", {number}).at(0);
  const std::string value = '"' + row[0] + '"';
  if (is_list) {
    const std::string tag = "tag:shelf:" + number;
    const Answer joined = redis.call(tag, {"FCALL", "evictd_join", "2", tag, "evictd:{" + tag + "}", key, kLifetime, row[1]});
    if (!joined) return trouble();
    if (joined->integer != 1) {
      ++counts.joins_refused;
      return;
    }
  }
  const Answer filled = redis.call(key, {"FCALL", "evictd_fill", "2", key, marker, row[1], kLifetime, value});
  if (!filled) return trouble();
  ++(filled->integer == 1 ? counts.fills : counts.refused);
}

int run(const std::string& url, const std::vector<int>& ports, int readers, unsigned rows, unsigned shelves) {
  Counts counts;
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int reader = 0; reader < readers; ++reader) {
    threads.emplace_back([&, reader] {
      Postgres postgres(url);
      postgres.prepare("item", "select shelf || '/' || n, pg_current_snapshot()::text from items where id = $1::integer");
      postgres.prepare("list", "select coalesce(string_agg(id || '=' || n, ' ' order by id), ''), pg_current_snapshot()::text from items where shelf = $1::integer");
      ClusterClient redis(ports);
      std::mt19937 random(static_cast<unsigned>(reader));
      while (!stop) {
        const bool is_list = random() % 10 < 3;
        read(redis, postgres, counts, is_list, std::to_string(is_list ? random() % shelves : 1 + random() % rows));
      }
    });
  }
  pollfd input{0, POLLIN, 0};
  while (::poll(&input, 1, 1000) == 0) {
    std::printf("{\"hits\": %llu, \"fills\": %llu, \"refused\": %llu, \"joins_refused\": %llu, \"troubles\": %llu}\n",
                static_cast<unsigned long long>(counts.hits), static_cast<unsigned long long>(counts.fills), static_cast<unsigned long long>(counts.refused),
                static_cast<unsigned long long>(counts.joins_refused), static_cast<unsigned long long>(counts.troubles));
    std::fflush(stdout);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace
}  // namespace evictd::race

int main(int count, char** words) {
  if (count != 6) evictd::race::fail("expected POSTGRES_URL PORT[,PORT...] READERS ROWS SHELVES");
  std::vector<int> ports;
  std::istringstream list(words[2]);
  for (std::string port; std::getline(list, port, ',');) ports.push_back(std::stoi(port));
  return evictd::race::run(words[1], ports, std::stoi(words[3]), static_cast<unsigned>(std::stoul(words[4])), static_cast<unsigned>(std::stoul(words[5])));
}
