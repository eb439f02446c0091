// A sink that hands everything on to another one, and what that one says back to the handler: for what looks at orders and what
// became of them and changes nothing, and for what chooses the other one. They override what they look at. Whatever the
// interface grows by is handed on here, once. Loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/interface/sink.h"

namespace evictd {

class ForwardingSink : public Sink, protected SinkHandler {
 public:
  // REQUIRES, of null: replace() before anything else.
  explicit ForwardingSink(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}

  SinkTraits traits() const override { return sink_->traits(); }
  void start(Now now) override { sink_->start(now); }
  void step(Now now, SinkHandler& handler) override {
    handler_ = &handler;
    sink_->step(now, *this);
    handler_ = nullptr;
  }
  void wait_for(Waiting& waiting) override { sink_->wait_for(waiting); }
  void set_context(const SinkContext& context) override { sink_->set_context(context); }
  std::optional<Error> refusal(const SinkContext& context) const override { return sink_->refusal(context); }
  bool has_room(Urgency urgency) const override { return sink_->has_room(urgency); }
  void submit(Ticket ticket, const Order& order) override { sink_->submit(ticket, order); }
  void save_record(const Record& record) override { sink_->save_record(record); }
  void load_record(std::uint64_t sequence) override { sink_->load_record(sequence); }
  std::vector<std::string> lost_parts() const override { return sink_->lost_parts(); }
  bool is_losing_keys() const override { return sink_->is_losing_keys(); }
  void stop() override { sink_->stop(); }
  SinkStatus status() const override { return sink_->status(); }

 protected:
  // REQUIRES: not within step() of the one before, and nothing is under way there.
  void replace(std::unique_ptr<Sink> sink) { sink_ = std::move(sink); }

  void on_sink_connected(const SinkConnected& connected) override { handler_->on_sink_connected(connected); }
  void on_sink_disconnected(const Error& error, std::string_view error_class) override {
    handler_->on_sink_disconnected(error, error_class);
  }
  void on_sink_refused(const Error& error) override { handler_->on_sink_refused(error); }
  void on_sink_failed(const Error& error) override { handler_->on_sink_failed(error); }
  void on_sink_trouble(const Error& error, std::string_view error_class) override { handler_->on_sink_trouble(error, error_class); }
  void on_done(Ticket ticket, const Outcome& outcome) override { handler_->on_done(ticket, outcome); }
  void on_lost(Ticket ticket) override { handler_->on_lost(ticket); }
  void on_replicas_missing(const std::optional<Error>& error) override { handler_->on_replicas_missing(error); }
  void on_record_saved(std::uint64_t sequence) override { handler_->on_record_saved(sequence); }
  void on_record_confirmed(std::uint64_t sequence) override { handler_->on_record_confirmed(sequence); }
  void on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) override {
    handler_->on_record_loaded(sequence, record);
  }

 private:
  std::unique_ptr<Sink> sink_;
  SinkHandler* handler_ = nullptr;  // during step()
};

}  // namespace evictd
