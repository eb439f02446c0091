// Readers of a cache, as many as an application has, for the bench of storms (storm.py): each waits a moment, reads one of
// the keys, and goes to the database for what is not cached, as the recipes do.
//
//   storm_readers POSTGRES_URL REDIS_PORT READERS KEYS PAUSE_MS SECONDS plain|checked|leased
//
// Prints one line of JSON for each second: what was read, and how long each read took (microseconds).
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/readers/race/clients.h"

namespace evictd::race {
namespace {

constexpr int kConnections = 20;       // to the database, shared as an application's pool is
constexpr int kBusyAttemptsMax = 100;  // of 10 ms, as in the recipes
constexpr const char* kLifetime = "3600000";

class Pool {
 public:
  explicit Pool(const std::string& url) {
    for (int i = 0; i < kConnections; ++i) {
      free_.push_back(std::make_unique<Postgres>(url));
      free_.back()->prepare("select", "select row_to_json(i)::text, pg_current_snapshot()::text from items i where id = $1");
    }
  }

  std::vector<std::string> select(const std::string& id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !free_.empty(); });
    std::unique_ptr<Postgres> one = std::move(free_.back());
    free_.pop_back();
    lock.unlock();
    std::vector<std::string> row = one->run("select", {id}).at(0);
    lock.lock();
    free_.push_back(std::move(one));
    changed_.notify_one();
    return row;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Postgres>> free_;
};

// Of one second.
struct Seen {
  std::uint64_t hits = 0;   // without the database and without waiting
  std::uint64_t stale = 0;  // of these, handed out as stale
  std::uint64_t loads = 0;  // SELECTs
  std::uint64_t waits = 0;  // reads that met a busy key
  std::vector<std::int64_t> took_us;
};

class Board {
 public:
  void add(bool hit, bool stale, bool load, bool waited, std::int64_t took_us) {
    const std::lock_guard lock(mutex_);
    seen_.hits += hit ? 1 : 0;
    seen_.stale += stale ? 1 : 0;
    seen_.loads += load ? 1 : 0;
    seen_.waits += waited ? 1 : 0;
    seen_.took_us.push_back(took_us);
  }
  Seen take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(seen_, Seen{});
  }

 private:
  std::mutex mutex_;
  Seen seen_;
};

void read(Redis& redis, Pool& pool, Board& board, const std::string& id, const std::string& level) {
  const std::string key = "item:" + id;
  const std::string marker = "evictd:{" + key + "}";
  const std::int64_t begin = now_us();
  bool may_fill = true;
  bool stale = false;
  bool waited = false;
  bool is_there = false;
  bool refreshes = false;
  for (int attempt = 1; level == "leased"; ++attempt) {
    const Reply got = redis.command({"FCALL", "evictd_get", "2", key, marker, "LEASE", "2000"});
    is_there = !got.elements.at(1).is_nil;
    stale = got.elements[0].text == "stale";
    refreshes = stale && !got.elements[2].is_nil;
    if (is_there || got.elements[0].text != "busy") break;
    waited = true;
    if (attempt == kBusyAttemptsMax) {
      may_fill = false;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (level != "leased") is_there = !redis.command({"GET", key}).is_nil;
  if (is_there) board.add(!waited, stale, refreshes, waited, now_us() - begin);
  if (is_there && !refreshes) return;
  const auto row = pool.select(id);
  if (level == "plain") {
    redis.command({"SET", key, row[0], "PX", kLifetime});
  } else if (may_fill) {
    redis.command({"FCALL", "evictd_fill", "2", key, marker, row[1], kLifetime, row[0]});
  }
  if (!is_there) board.add(false, false, true, waited, now_us() - begin);
}

int run(const std::string& url, int redis_port, int count, int keys, int pause_ms, int seconds, const std::string& level) {
  Pool pool(url);
  Board board;
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int number = 0; number < count; ++number) {
    readers.emplace_back([&, number] {
      Redis redis(redis_port);
      std::mt19937 random(static_cast<unsigned>(number));
      while (!stop) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % (2000U * static_cast<unsigned>(pause_ms) + 1)));
        read(redis, pool, board, std::to_string(1 + random() % static_cast<unsigned>(keys)), level);
      }
    });
  }
  for (int second = 0; second < seconds; ++second) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    const Seen seen = board.take();
    std::printf("{\"at_us\": %lld, \"hits\": %llu, \"stale\": %llu, \"loads\": %llu, \"waits\": %llu, \"took_us\": [", static_cast<long long>(now_us()),
                static_cast<unsigned long long>(seen.hits), static_cast<unsigned long long>(seen.stale), static_cast<unsigned long long>(seen.loads),
                static_cast<unsigned long long>(seen.waits));
    for (std::size_t i = 0; i < seen.took_us.size(); ++i) std::printf("%s%lld", i == 0 ? "" : ",", static_cast<long long>(seen.took_us[i]));
    std::printf("]}\n");
    std::fflush(stdout);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  return 0;
}

}  // namespace
}  // namespace evictd::race

int main(int count, char** words) {
  if (count != 8) evictd::race::fail("expected POSTGRES_URL REDIS_PORT READERS KEYS PAUSE_MS SECONDS plain|checked|leased");
  return evictd::race::run(words[1], std::stoi(words[2]), std::stoi(words[3]), std::stoi(words[4]), std::stoi(words[5]), std::stoi(words[6]), words[7]);
}
