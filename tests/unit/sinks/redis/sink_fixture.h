// A RedisSink on a private redis-server, driven by the real clock.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <functional>
#include <memory>
#include <string>

#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/scripts.h"
#include "tests/support/redis_server.h"
#include "tests/support/sink_journal.h"

namespace evictd::testing {

inline Record numbered_record(std::uint64_t sequence) {
  Record record;
  record.writer = "writer";
  record.sequence = sequence;
  record.epoch = "epoch/1";
  return record;
}

// One turn of a loop: wait for what the sink waits for (at most `patience`).
inline void wait_for_sink(Sink& sink,
                          std::chrono::milliseconds patience = std::chrono::milliseconds(50)) {
  Waiting waiting;
  waiting.wake_at(std::chrono::steady_clock::now() + patience);
  sink.wait_for(waiting);
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::max(waiting.deadline, std::chrono::steady_clock::now()) -
      std::chrono::steady_clock::now());
  ::poll(waiting.descriptors.data(), waiting.descriptors.size(),
         static_cast<int>(left.count()) + (left.count() > 0));
}

inline RedisOptions options_for(const RedisServer& server) {
  RedisOptions options;
  options.url = server.url();
  options.backoff_first = std::chrono::milliseconds(10);
  options.backoff_max = std::chrono::milliseconds(100);
  return options;
}

// A sink, its journal, and the loop that drives them.
class DrivenSink {
 public:
  explicit DrivenSink(RedisOptions options) {
    auto made = make_redis_sink(std::move(options));
    EXPECT_TRUE(made.has_value());
    sink_ = std::move(*made);
    sink_->start(read_clocks());
  }

  Sink& sink() { return *sink_; }
  SinkJournal& journal() { return journal_; }

  void turn() {
    wait_for_sink(*sink_);
    sink_->step(read_clocks(), journal_);
  }
  [[nodiscard]] bool until(const std::function<bool()>& condition,
                           std::chrono::seconds patience = std::chrono::seconds(30)) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      turn();
    }
    return true;
  }
  [[nodiscard]] bool until_connected() {
    const bool connected = until([&] { return sink_->status().connected; });
    sink_->set_context(SinkContext{"epoch/1", std::chrono::milliseconds(0)});
    return connected;
  }
  Outcome run(const OrderBuilder& built) { return run(built.order()); }
  // What it points to outlives the call.
  Outcome run(const Order& order) {
    const Ticket ticket = ++last_ticket_;
    EXPECT_TRUE(until([&] { return sink_->has_room(order.urgency()); }));
    sink_->submit(ticket, order);
    EXPECT_TRUE(until([&] { return journal_.done.contains(ticket); }, std::chrono::seconds(120)))
        << journal_.last_error.to_string();
    return journal_.done[ticket];
  }

 private:
  std::unique_ptr<Sink> sink_;
  SinkJournal journal_;
  Ticket last_ticket_ = 0;
};

// A sink that is connected, and the server behind it.
class SinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    server_ = std::make_unique<RedisServer>();
    driven_ = std::make_unique<DrivenSink>(options_for(*server_));
    ASSERT_TRUE(driven_->until_connected());
  }

  RedisClient& redis() { return server_->client(); }
  Outcome run(const OrderBuilder& built) { return driven_->run(built); }
  static std::string marker_name(std::string_view key) {
    std::string name;
    append_marker_name(name, key);
    return name;
  }
  std::string marker(std::string_view key) { return redis().get(marker_name(key)); }

  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<DrivenSink> driven_;
};

}  // namespace evictd::testing
