// What looks at a sink from the outside hands everything on, both ways: lost_parts() or on_sink_trouble() left out would be a
// repair that never comes, with every light green.
#include "daemon/interface/forwarding_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/app/key_trace.h"

namespace evictd {
namespace {

using testing::ElementsAre;

class Inner final : public Sink {
 public:
  explicit Inner(std::vector<std::string>& called) : called_(called) {}
  SinkTraits traits() const override { return note("traits"), SinkTraits{}; }
  void start(Now) override { note("start"); }
  void step(Now, SinkHandler& handler) override {
    note("step");
    handler.on_sink_connected({});
    handler.on_sink_trouble({}, "moved");
    handler.on_done(1, {});
    handler.on_lost(2);
    handler.on_replicas_missing(std::nullopt);
    handler.on_record_saved(3);
    handler.on_record_confirmed(3);
    handler.on_record_loaded(4, std::nullopt);
    handler.on_sink_disconnected({}, "io");
    handler.on_sink_refused({});
    handler.on_sink_failed({});
  }
  void wait_for(Waiting&) override { note("wait_for"); }
  void set_context(const SinkContext&) override { note("set_context"); }
  std::optional<Error> refusal(const SinkContext&) const override { return note("refusal"), Error{ErrorKind::kUsage, "no", {}}; }
  bool has_room(Urgency) const override { return note("has_room"), true; }
  void submit(Ticket, const Order&) override { note("submit"); }
  void save_record(const Record&) override { note("save_record"); }
  void load_record(std::uint64_t) override { note("load_record"); }
  std::vector<std::string> lost_parts() const override { return note("lost_parts"), std::vector<std::string>{"0-99"}; }
  void stop() override { note("stop"); }
  bool is_losing_keys() const override { return note("is_losing_keys"), true; }
  SinkStatus status() const override { return note("status"), SinkStatus{true, "inner", {}, {}, {}}; }

 private:
  void note(const char* what) const { called_.emplace_back(what); }
  std::vector<std::string>& called_;
};

class Handler final : public SinkHandler {
 public:
  std::vector<std::string> told;
  void on_sink_connected(const SinkConnected&) override { told.emplace_back("connected"); }
  void on_sink_disconnected(const Error&, std::string_view) override { told.emplace_back("disconnected"); }
  void on_sink_failed(const Error&) override { told.emplace_back("failed"); }
  void on_sink_refused(const Error&) override { told.emplace_back("refused"); }
  void on_sink_trouble(const Error&, std::string_view) override { told.emplace_back("trouble"); }
  void on_done(Ticket, const Outcome&) override { told.emplace_back("done"); }
  void on_lost(Ticket) override { told.emplace_back("lost"); }
  void on_replicas_missing(const std::optional<Error>&) override { told.emplace_back("replicas"); }
  void on_record_saved(std::uint64_t) override { told.emplace_back("saved"); }
  void on_record_confirmed(std::uint64_t) override { told.emplace_back("confirmed"); }
  void on_record_loaded(std::uint64_t, const std::optional<Record>&) override { told.emplace_back("loaded"); }
};

TEST(ForwardingSink, HandsEverythingOn) {
  std::vector<std::string> called;
  KeyTrace trace;
  const std::unique_ptr<Sink> sink = KeyTrace::listening(std::make_unique<Inner>(called), trace, "eu");
  Handler handler;
  const RuleInfo rule;
  const Texts texts;
  Order order;
  order.rule = &rule;
  order.texts = &texts;
  Waiting waiting;
  sink->traits();
  sink->start({});
  sink->step({}, handler);
  sink->wait_for(waiting);
  sink->set_context({});
  EXPECT_EQ(sink->refusal({})->text, "no");
  EXPECT_TRUE(sink->has_room(Urgency::kBulk));
  sink->submit(1, order);
  sink->save_record({});
  sink->load_record(1);
  EXPECT_THAT(sink->lost_parts(), ElementsAre("0-99"));
  EXPECT_TRUE(sink->is_losing_keys());
  sink->stop();
  EXPECT_EQ(sink->status().state, "inner");
  EXPECT_THAT(called, ElementsAre("traits", "start", "step", "wait_for", "set_context", "refusal", "has_room", "submit", "save_record", "load_record",
                                  "lost_parts", "is_losing_keys", "stop", "status"));
  EXPECT_THAT(handler.told, ElementsAre("connected", "trouble", "done", "lost", "replicas", "saved", "confirmed", "loaded", "disconnected", "refused", "failed"));
}

}  // namespace
}  // namespace evictd
