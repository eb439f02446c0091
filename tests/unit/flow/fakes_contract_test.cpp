// The fakes of the simulation under the same contracts as PostgreSQL and Redis.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/contract/sink_contract.h"
#include "tests/contract/source_contract.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/forwarding_source.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class FakeSinkHarness final : public SinkHarness {
 public:
  explicit FakeSinkHarness(bool is_cluster = false) { sink_.is_cluster = is_cluster; }
  Sink& sink() override { return sink_; }
  Now now() override { return now_; }
  void wait(Sink&) override {
    now_.steady += 5ms;
    now_.system += 5ms;
  }
  void plain_set(const std::string& key) override { sink_.plain_set(key, {}); }
  bool checked_fill(const std::string& key, const std::string& snapshot) override {
    return sink_.checked_fill(key, *Snapshot::parse(snapshot), {});
  }
  bool is_cached(const std::string& key) override { return sink_.data.cache.contains(key); }
  void add_to_tag(const std::string& tag, const std::string& key) override { sink_.data.tags["tag:" + tag].insert(key); }
  void break_connection() override { sink_.cut(0); }

 private:
  FakeSink sink_{60s};
  Now now_ = read_clocks();
};

class FakeSourceHarness final : public SourceHarness {
 public:
  std::unique_ptr<Source> make_source() override {
    sources_.push_back(std::make_unique<FakeSource>(database_, slot_));
    return std::make_unique<Lent>(*sources_.back());
  }
  std::vector<std::string> tables() const override { return {"public.rows"}; }
  void write(int changes) override {
    const std::vector<int> rows(static_cast<std::size_t>(changes), 1);
    database_.make_visible(database_.commit(rows, false, read_clocks().system).xid, read_clocks().steady);
  }
  bool can_lose_history() const override { return true; }
  void lose_history() override { slot_->lost = true; }
  void break_connection() override { sources_.back()->restart(read_clocks()); }

 private:
  class Lent final : public ForwardingSource {
   public:
    explicit Lent(Source& source) : ForwardingSource(source) {}
    void wait_for(Waiting& waiting, bool want) override {
      ForwardingSource::wait_for(waiting, want);
      waiting.wake_at(std::chrono::steady_clock::now() + 1ms);
    }
  };

  FakeDatabase database_{4};
  // What the server knows outlives the process that told it.
  std::shared_ptr<FakeSlot> slot_ = std::make_shared<FakeSlot>();
  std::vector<std::unique_ptr<FakeSource>> sources_;
};

INSTANTIATE_TEST_SUITE_P(Fake, SinkContract, ::testing::Values([]() -> std::unique_ptr<SinkHarness> {
                           return std::make_unique<FakeSinkHarness>();
                         }));
INSTANTIATE_TEST_SUITE_P(FakeCluster, SinkContract, ::testing::Values([]() -> std::unique_ptr<SinkHarness> {
                           return std::make_unique<FakeSinkHarness>(true);
                         }));
INSTANTIATE_TEST_SUITE_P(Fake, SourceContract, ::testing::Values([]() -> std::unique_ptr<SourceHarness> {
                           return std::make_unique<FakeSourceHarness>();
                         }));

}  // namespace
}  // namespace evictd::testing
