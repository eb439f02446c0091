// The sink contract on the daemon's Redis sink over the network in memory: what the real sink is held to on a real server, it
// does here as well, in time that is given.
#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/scripts.h"
#include "mapping/check.h"
#include "tests/contract/sink_contract.h"
#include "tests/simulation/memory_network.h"

namespace evictd::testing {
namespace {

class MemoryHarness final : public SinkHarness {
 public:
  MemoryHarness() {
    memory_network()["memory"] = &server_;
    server_.tears = true;
    RedisOptions options;
    options.url = "redis://memory:6379/0";
    options.backoff_first = options.backoff_max = std::chrono::milliseconds(0);
    auto made = make_redis_sink(options);
    EVICTD_CHECK(made.has_value());
    sink_ = std::move(*made);
  }
  ~MemoryHarness() override { sink_.reset(); }
  Sink& sink() override { return *sink_; }
  Now now() override { return now_; }
  void wait(Sink& sink) override {
    now_.steady += std::chrono::milliseconds(1);
    now_.system += std::chrono::milliseconds(1);
    server_.redis.set_time(now_.system.time_since_epoch());
    Waiting waiting;
    sink.wait_for(waiting);
    server_.turn();
  }
  void plain_set(const std::string& key) override { ask({"SET", key, "value"}); }
  bool checked_fill(const std::string& key, const std::string& snapshot) override {
    return ask({"FCALL", "evictd_fill", "2", key, "evictd:{" + key + "}", snapshot, "60000", "value"}).integer == 1;
  }
  bool is_cached(const std::string& key) override { return server_.redis.look(key) != nullptr; }
  void add_to_tag(const std::string& tag, const std::string& key) override { ask({"SADD", "tag:" + tag, key}); }
  void break_connection() override { server_.cut(1, true); }

 private:
  Reply ask(const MemoryRedis::Arguments& command) {
    MemoryRedis::Client client;
    return server_.redis.execute(client, command);
  }

  MemoryServer server_{1};
  std::unique_ptr<Sink> sink_;
  Now now_{SteadyTime(std::chrono::hours(1)), SystemTime(std::chrono::seconds(1'700'000'000))};
};

INSTANTIATE_TEST_SUITE_P(Memory, SinkContract, ::testing::Values([]() -> std::unique_ptr<SinkHarness> { return std::make_unique<MemoryHarness>(); }));

}  // namespace
}  // namespace evictd::testing
