// Readers of a cache, as many as an application has, for the bench of storms (storm.py): each waits a moment, reads one of
// the keys, and goes to the database for what is not cached, as the recipes do.
//
//   storm_readers POSTGRES_URL REDIS_PORT READERS KEYS CONTROLS PAUSE_MS SECONDS plain|checked|leased
//
// Rows 1 to KEYS are read; and, by one read in ten, one of the CONTROLS rows behind them, whose values end a millisecond after
// they were filled: what a miss costs while nothing was deleted.
//
// Prints one line of JSON for each second, an array of its reads: [begun at (us of the wall clock), took (us; where it misses,
// with its SELECT and the fill), its thread was woken so many us late, 1 for a control, how it ended (see End)].
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
constexpr unsigned kControlEvery = 10;  // reads

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

// How a read ended.
enum class End : char {
  kHit = 'h',           // without the database and without waiting
  kStale = 's',         // the same, with a stale value
  kStaleAndAsked = 'S',  // the same; this reader had the lease, and asked the database when it had its value
  kMiss = 'm',          // by a SELECT of its own
  kWaited = 'w',        // met a busy key, and found the value later
  kWaitedAndAsked = 'W',  // met a busy key, and asked the database in the end
};

struct Read {
  std::int64_t begun_us = 0;  // wall clock
  std::int64_t took_us = 0;
  std::int64_t late_us = 0;  // the thread was woken so long after it had asked to be: nothing of evictd, Redis or PostgreSQL is in it
  bool is_control = false;
  End end = End::kHit;
};

// Of one second.
class Board {
 public:
  void add(const Read& read) {
    const std::lock_guard lock(mutex_);
    reads_.push_back(read);
  }
  std::vector<Read> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(reads_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Read> reads_;
};

// `lifetime`: of what it fills, in ms. Adds `read` to the board when the value is there.
void read_one(Redis& redis, Pool& pool, Board& board, const std::string& id, const std::string& level, const char* lifetime, Read read) {
  const std::string key = "item:" + id;
  const std::string marker = "evictd:{" + key + "}";
  read.begun_us = now_us();
  const std::int64_t begin = ticking_us();
  const auto ends = [&](End end) {
    read.took_us = ticking_us() - begin;
    read.end = end;
    board.add(read);
  };
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
  if (is_there) ends(waited ? End::kWaited : refreshes ? End::kStaleAndAsked : stale ? End::kStale : End::kHit);
  if (is_there && !refreshes) return;
  const auto row = pool.select(id);
  if (level == "plain") {
    redis.command({"SET", key, row[0], "PX", lifetime});
  } else if (may_fill) {
    redis.command({"FCALL", "evictd_fill", "2", key, marker, row[1], lifetime, row[0]});
  }
  if (!is_there) ends(waited ? End::kWaitedAndAsked : End::kMiss);
}

void print(const std::vector<Read>& reads) {
  std::printf("[");
  for (std::size_t i = 0; i < reads.size(); ++i) {
    const Read& read = reads[i];
    std::printf("%s[%lld,%lld,%lld,%d,\"%c\"]", i == 0 ? "" : ",", static_cast<long long>(read.begun_us), static_cast<long long>(read.took_us),
                static_cast<long long>(read.late_us), read.is_control ? 1 : 0, static_cast<char>(read.end));
  }
  std::printf("]\n");
  std::fflush(stdout);
}

int run(const std::string& url, int redis_port, int count, unsigned keys, unsigned controls, unsigned pause_ms, int seconds, const std::string& level) {
  Pool pool(url);
  Board board;
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int number = 0; number < count; ++number) {
    readers.emplace_back([&, number] {
      Redis redis(redis_port);
      std::mt19937 random(static_cast<unsigned>(number));
      while (!stop) {
        const auto pause = std::chrono::microseconds(random() % (2000U * pause_ms + 1));
        const std::int64_t due = ticking_us() + pause.count();
        std::this_thread::sleep_for(pause);
        Read read;
        read.late_us = ticking_us() - due;
        read.is_control = controls > 0 && random() % kControlEvery == 0;
        const unsigned id = read.is_control ? keys + 1 + random() % controls : 1 + random() % keys;
        read_one(redis, pool, board, std::to_string(id), level, read.is_control ? "1" : kLifetime, read);
      }
    });
  }
  for (int second = 0; second < seconds; ++second) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    print(board.take());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  return 0;
}

}  // namespace
}  // namespace evictd::race

int main(int count, char** words) {
  if (count != 9) evictd::race::fail("expected POSTGRES_URL REDIS_PORT READERS KEYS CONTROLS PAUSE_MS SECONDS plain|checked|leased");
  const auto unsigned_of = [](const char* word) { return static_cast<unsigned>(std::stoul(word)); };
  return evictd::race::run(words[1], std::stoi(words[2]), std::stoi(words[3]), unsigned_of(words[4]), unsigned_of(words[5]), unsigned_of(words[6]),
                           std::stoi(words[7]), words[8]);
}
