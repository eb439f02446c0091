#include "tests/readers/race/load.h"

#include <chrono>
#include <random>

#include "tests/readers/race/clients.h"

namespace evictd::race {
namespace {

void sleep_us(std::int64_t duration_us) {
  std::this_thread::sleep_for(std::chrono::microseconds(duration_us));
}

constexpr char kUpdate[] =
    "update items set version = version + 1 where id = $1::int "
    "returning version, pg_current_xact_id()::text";
// One statement, one snapshot: what it says holds for every row of it.
constexpr char kSelect[] =
    "select id, version, (select pg_current_snapshot()::text) from items where id = any($1::int[])";

Commit change(Postgres& postgres, std::uint32_t row) {
  const auto result = postgres.run("update", {std::to_string(row)});
  return Commit{std::stoull(result.at(0).at(1)), row, std::stoull(result.at(0).at(0)), now_us()};
}

}  // namespace

void Writers::begin() {
  // One more for each of the last rows.
  commits_.resize(static_cast<std::size_t>(options_.writers) + kLastRows);
  for (int i = 0; i < options_.writers; ++i) threads_.emplace_back([this, i] { write(i); });
}

void Writers::write(int number) {
  Postgres postgres(options_.postgres);
  postgres.prepare("update", kUpdate);
  std::mt19937 random(static_cast<unsigned>(number));
  std::uniform_int_distribution<std::uint32_t> any_row(kLastRows + 1, options_.rows);
  while (!stop_) {
    commits_[static_cast<std::size_t>(number)].push_back(change(postgres, any_row(random)));
    if (options_.writer_pause_us > 0) sleep_us(options_.writer_pause_us);
  }
}

void Writers::change_last_rows() {
  for (std::uint32_t row = 1; row <= kLastRows; ++row) {
    threads_.emplace_back([this, row] {
      Postgres postgres(options_.postgres);
      postgres.prepare("update", kUpdate);
      commits_[static_cast<std::size_t>(options_.writers) + row - 1].push_back(change(postgres, row));
    });
  }
}

void Writers::stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::vector<Commit> Writers::commits() const {
  std::vector<Commit> all;
  for (const auto& some : commits_) all.insert(all.end(), some.begin(), some.end());
  return all;
}

// One reader: a connection to each server, and batches of keys until it is stopped.
class Readers::Reader {
 public:
  Reader(Readers& owner, unsigned seed)
      : owner_(owner),
        options_(owner.options_),
        postgres_(options_.readers_postgres),
        redis_(options_.redis_port),
        random_(seed) {
    postgres_.prepare("select", kSelect);
  }

  void work() {
    std::uniform_int_distribution<std::uint32_t> any_row(1, options_.rows);
    std::uniform_int_distribution<std::uint32_t> last_row(1, kLastRows);
    while (!owner_.stop_) {
      std::vector<std::uint32_t> rows;
      for (int i = 1; i < options_.batch; ++i) rows.push_back(any_row(random_));
      rows.push_back(last_row(random_));
      if (options_.level == "leased") {
        keep_leased(rows);
      } else if (options_.on_a_miss) {
        keep_missing(rows);
      }
      if (!rows.empty()) fill(rows);
    }
  }

 private:
  static std::string key(std::string_view row) { return "item:" + std::string(row); }
  static std::string marker(std::string_view row) { return "evictd:{item:" + std::string(row) + "}"; }

  void keep_missing(std::vector<std::uint32_t>& rows) {
    for (const std::uint32_t row : rows) redis_.send({"GET", key(std::to_string(row))});
    std::erase_if(rows, [&](std::uint32_t) { return !redis_.next().is_nil; });
  }

  void keep_leased(std::vector<std::uint32_t>& rows) {
    for (const std::uint32_t row : rows) {
      const std::string text = std::to_string(row);
      redis_.send({"FCALL", "evictd_get", "2", key(text), marker(text), "LEASE", "1000"});
    }
    // In one go: erase_if visits each once, in order.
    std::erase_if(rows, [&](std::uint32_t) { return redis_.next().elements.at(2).is_nil; });
  }

  std::string token(const std::string& snapshot) const {
    if (options_.token == "xmin") return snapshot.substr(0, snapshot.find(':'));
    if (options_.token == "broken") return "4503599627370496";
    return snapshot;
  }

  void fill(const std::vector<std::uint32_t>& rows) {
    std::string list = "{";
    for (const std::uint32_t row : rows) list += (list.size() > 1 ? "," : "") + std::to_string(row);
    list += "}";
    const std::int64_t began_us = ticking_us();
    const auto selected = postgres_.run("select", {list});
    owner_.selects_ += 1;
    if (options_.pause_us_max > 0 && random_() % 32 == 0) {
      sleep_us(static_cast<std::int64_t>(random_() % static_cast<unsigned>(options_.pause_us_max)));
    }
    const std::string age_ms = std::to_string((ticking_us() - began_us) / 1000);
    for (const auto& row : selected) {
      if (options_.level == "plain") {
        redis_.send({"SET", key(row[0]), row[1]});
      } else {
        redis_.send({"FCALL", "evictd_fill", "2", key(row[0]), marker(row[0]), token(row[2]), "600000",
                     row[1], "AGE", age_ms});
      }
    }
    std::uint64_t stored = 0;
    for (std::size_t i = 0; i < selected.size(); ++i) {
      const Reply reply = redis_.next();
      stored += options_.level == "plain" || reply.integer == 1 ? 1 : 0;
    }
    owner_.stored_ += stored;
    owner_.rejected_ += selected.size() - stored;
    const std::int64_t took_us = ticking_us() - began_us;
    std::int64_t slowest_us = owner_.slowest_us_;
    while (took_us > slowest_us && !owner_.slowest_us_.compare_exchange_weak(slowest_us, took_us)) {
    }
  }

  Readers& owner_;
  const LoadOptions& options_;
  Postgres postgres_;
  Redis redis_;
  std::mt19937 random_;
};

void Readers::begin() {
  for (int i = 0; i < options_.readers; ++i) {
    threads_.emplace_back([this, i] { Reader(*this, 1000u + static_cast<unsigned>(i)).work(); });
  }
}

void Readers::stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace evictd::race
