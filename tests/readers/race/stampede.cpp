// Many readers ask for one key in the moment after evictd deleted it. How often do they ask the database?
//
//   stampede POSTGRES_URL REDIS_PORT READERS ROUNDS lease|alone
//
// In each round the row changes, the key is deleted, and all readers ask at once, each until it has a value, as the
// recipes do. Prints one line of JSON.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/readers/race/clients.h"

namespace evictd::race {
namespace {

constexpr char kKey[] = "item:1";
constexpr char kMarker[] = "evictd:{item:1}";
constexpr int kConnections = 20;       // to the database, shared as an application's pool is
constexpr int kBusyAttemptsMax = 100;  // of 10 ms, as in the recipes

void pause_ms(int duration_ms) { std::this_thread::sleep_for(std::chrono::milliseconds(duration_ms)); }

class Pool {
 public:
  explicit Pool(const std::string& url) {
    for (int i = 0; i < kConnections; ++i) {
      free_.push_back(std::make_unique<Postgres>(url));
      // A query that is worth caching.
      free_.back()->prepare("select",
                            "select version, pg_current_snapshot()::text from items, pg_sleep(0.005) where id = 1");
    }
  }

  std::vector<std::string> select() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !free_.empty(); });
    std::unique_ptr<Postgres> one = std::move(free_.back());
    free_.pop_back();
    lock.unlock();
    ++selects;
    std::vector<std::string> row = one->run("select", {}).at(0);
    lock.lock();
    free_.push_back(std::move(one));
    changed_.notify_one();
    return row;
  }

  std::atomic<std::uint64_t> selects = 0;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Postgres>> free_;
};

// Counts rounds; readers wait for the next one.
class Rounds {
 public:
  void begin_next() {
    const std::lock_guard lock(mutex_);
    ++number_;
    changed_.notify_all();
  }
  void wait_for(int number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return number_ >= number; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int number_ = 0;
};

std::uint64_t read(Redis& redis, Pool& pool, bool with_lease) {
  std::vector<std::string> ask = {"FCALL", "evictd_get", "2", kKey, kMarker};
  if (with_lease) ask.insert(ask.end(), {"LEASE", "2000"});
  bool may_fill = true;
  for (int attempt = 1;; ++attempt) {
    const Reply got = redis.command(ask);
    if (!got.elements.at(1).is_nil) return std::stoull(got.elements[1].text);
    if (got.elements[0].text != "busy") break;
    if (attempt == kBusyAttemptsMax) {
      may_fill = false;
      break;
    }
    pause_ms(10);
  }
  const auto row = pool.select();
  if (may_fill) redis.command({"FCALL", "evictd_fill", "2", kKey, kMarker, row[1], "600000", row[0]});
  return std::stoull(row[0]);
}

int run(const std::string& url, int redis_port, int count, int rounds, bool with_lease) {
  Pool pool(url);
  Rounds round;
  Postgres writer(url);
  writer.prepare("update", "update items set version = version + 1 where id = 1 returning version");
  Redis redis(redis_port);
  std::atomic<int> done = 0;
  std::atomic<std::uint64_t> newest = 0;
  std::atomic<std::uint64_t> older = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < count; ++i) {
    readers.emplace_back([&] {
      Redis own(redis_port);
      for (int number = 1; number <= rounds; ++number) {
        round.wait_for(number);
        if (read(own, pool, with_lease) < newest) ++older;
        ++done;
      }
    });
  }
  for (int number = 1; number <= rounds; ++number) {
    redis.command({"FCALL", "evictd_fill", "2", kKey, kMarker, pool.select()[1], "600000", "0"});
    --pool.selects;
    newest = std::stoull(writer.run("update", {}).at(0).at(0));
    while (redis.command({"EXISTS", kKey}).integer == 1) pause_ms(1);
    round.begin_next();
    while (done < number * count) pause_ms(1);
  }
  for (std::thread& reader : readers) reader.join();
  std::printf("{\"rounds\": %d, \"reads\": %d, \"selects\": %llu, \"older\": %llu}\n", rounds, done.load(),
              static_cast<unsigned long long>(pool.selects), static_cast<unsigned long long>(older));
  return 0;
}

}  // namespace
}  // namespace evictd::race

int main(int count, char** words) {
  if (count != 6) evictd::race::fail("expected POSTGRES_URL REDIS_PORT READERS ROUNDS lease|alone");
  return evictd::race::run(words[1], std::stoi(words[2]), std::stoi(words[3]), std::stoi(words[4]),
                           std::string(words[5]) == "lease");
}
