// The sink contract on a real Redis.
#include "daemon/sinks/redis/scripts.h"
#include "mapping/check.h"
#include "tests/contract/sink_contract.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

// The fill of the design's table, as the readers' function does it.
class RedisHarness final : public SinkHarness {
 public:
  RedisHarness() {
    auto made = make_redis_sink(options_for(server_));
    EVICTD_CHECK(made.has_value());
    sink_ = std::move(*made);
  }
  Sink& sink() override { return *sink_; }
  Now now() override { return read_clocks(); }
  void wait(Sink& sink) override { wait_for_sink(sink); }
  void plain_set(const std::string& key) override { server_.client().set(key, "value"); }
  bool checked_fill(const std::string& key, const std::string& snapshot) override {
    static const std::string fill = reader_scripts(std::chrono::seconds(60)).front().script.text;
    return server_.client().integer(
               {"EVAL", fill, "2", key, "evictd:{" + key + "}", snapshot, "60000", "value"}) == 1;
  }
  bool is_cached(const std::string& key) override { return server_.client().exists(key); }
  void add_to_tag(const std::string& tag, const std::string& key) override {
    server_.client().integer({"SADD", "tag:" + tag, key});
  }
  void break_connection() override {
    server_.client().command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  }

 private:
  RedisServer server_;
  std::unique_ptr<Sink> sink_;
};

INSTANTIATE_TEST_SUITE_P(Redis, SinkContract,
                         ::testing::Values([]() -> std::unique_ptr<SinkHarness> {
                           if (redis_server_program().empty() && !servers_are_required())
                             return nullptr;
                           return std::make_unique<RedisHarness>();
                         }));

}  // namespace
}  // namespace evictd::testing
