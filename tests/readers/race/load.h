// The two sides of the race: writers that change rows, and readers that fill the cache from them.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tests/readers/race/judge.h"

namespace evictd::race {

struct LoadOptions {
  std::string postgres;  // where writers write
  std::string readers_postgres;  // where readers read: the same, or a standby
  int redis_port = 0;
  std::uint32_t rows = 1000;
  int writers = 8;
  int writer_pause_us = 0;
  int readers = 3;
  int batch = 10;           // keys that a reader loads by one SELECT
  std::string level = "checked";   // plain (SET), checked (evictd_fill), leased (evictd_get first)
  std::string token = "snapshot";  // snapshot, xmin (a standby's), broken (claims everything)
  bool on_a_miss = false;   // fill only what is not cached; otherwise everything, all the time
  int pause_us_max = 20000;  // one batch of 32 waits up to this between its SELECT and its fills
};

// Rows 1 to kLastRows are left alone until change_last_rows(): what happens to them has no later change to mend it.
inline constexpr std::uint32_t kLastRows = 8;

class Writers {
 public:
  explicit Writers(const LoadOptions& options) : options_(options) {}
  void begin();
  void stop();
  // Changes each of the last rows once, in transactions that may take long to become visible. Returns at once;
  // stop() waits for them.
  void change_last_rows();
  // After stop().
  std::vector<Commit> commits() const;

 private:
  void write(int number);

  const LoadOptions& options_;
  std::atomic<bool> stop_ = false;
  std::vector<std::vector<Commit>> commits_;
  std::vector<std::thread> threads_;
};

class Readers {
 public:
  explicit Readers(const LoadOptions& options) : options_(options) {}
  void begin();
  void stop();
  std::uint64_t fills() const { return stored_ + rejected_; }

  const std::atomic<std::uint64_t>& stored() const { return stored_; }
  const std::atomic<std::uint64_t>& rejected() const { return rejected_; }
  const std::atomic<std::uint64_t>& selects() const { return selects_; }
  std::int64_t slowest_us() const { return slowest_us_; }

 private:
  class Reader;

  const LoadOptions& options_;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> stored_ = 0;
  std::atomic<std::uint64_t> rejected_ = 0;
  std::atomic<std::uint64_t> selects_ = 0;
  std::atomic<std::int64_t> slowest_us_ = 0;  // from before a SELECT to the reply of its fill
  std::vector<std::thread> threads_;
};

}  // namespace evictd::race
