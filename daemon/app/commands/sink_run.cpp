#include "daemon/app/commands/sink_run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "daemon/base/poll.h"

namespace evictd {
namespace {

class SinkRun final : public SinkHandler {
 public:
  SinkRun(Sink& sink, const std::vector<Order>& orders,
          const std::function<void(std::size_t, const Outcome&)>& on_done)
      : sink_(sink), orders_(orders), on_done_(on_done) {}

  bool finished() const { return next_ == orders_.size(); }
  bool connected() const { return connected_; }
  const std::optional<Error>& failure() const { return failure_; }
  const std::string& problem() const { return problem_; }

  SinkContext context() const {
    SinkContext context;
    context.is_deletes_only = std::all_of(orders_.begin(), orders_.end(), [](const Order& order) {
      if (order.rule != nullptr) return asks_for_deletes_only(*order.rule);
      return std::all_of(order.patterns.begin(), order.patterns.end(),
                         [](const PatternRef& ref) { return asks_for_deletes_only(*ref.rule); });
    });
    return context;
  }

  void submit_next() {
    if (!connected_ || under_way_ || finished() || !sink_.has_room(orders_[next_].urgency())) return;
    under_way_ = true;
    sink_.submit(next_ + 1, orders_[next_]);
  }

  void on_sink_connected(const SinkConnected& connected) override {
    connected_ = true;
    // Tombstones of the epoch that the running evictd works in, if one ever ran here.
    SinkContext of_running = context();
    of_running.epoch = connected.record ? connected.record->epoch : "none";
    sink_.set_context(of_running);
  }
  void on_sink_disconnected(const Error& error, std::string_view) override {
    connected_ = false;
    problem_ = error.text;
  }
  void on_sink_failed(const Error& error) override { failure_ = error; }
  void on_done(Ticket, const Outcome& outcome) override {
    under_way_ = false;
    on_done_(next_++, outcome);
  }
  void on_lost(Ticket) override { under_way_ = false; }
  void on_record_saved(std::uint64_t) override {}
  void on_record_confirmed(std::uint64_t) override {}
  void on_record_loaded(std::uint64_t, const std::optional<Record>&) override {}

 private:
  Sink& sink_;
  const std::vector<Order>& orders_;
  const std::function<void(std::size_t, const Outcome&)>& on_done_;
  std::size_t next_ = 0;
  bool under_way_ = false;
  bool connected_ = false;
  std::string problem_ = "no answer";
  std::optional<Error> failure_;
};

// For a person who waits: a line that overwrites itself, once a second; nothing when nobody is
// there to see it.
class Progress {
 public:
  explicit Progress(SteadyTime begin) : begin_(begin), shown_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (seconds_ > 0) std::fputs("\r\x1b[K", stderr);
  }
  void turn(SteadyTime now) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - begin_).count();
    if (!shown_ || seconds == seconds_) return;
    seconds_ = seconds;
    std::fprintf(stderr, "\rworking, %lld s", static_cast<long long>(seconds));
  }

 private:
  const SteadyTime begin_;
  const bool shown_;
  long long seconds_ = 0;
};

}  // namespace

Result<void> run_on_sink(Sink& sink, const std::vector<Order>& orders, Signals& signals,
                         const std::function<void(std::size_t, const Outcome&)>& on_done) {
  SinkRun run(sink, orders, on_done);
  const Now begin = read_clocks();
  Progress progress(begin.steady);
  SteadyTime connected_at = begin.steady;
  sink.set_context(run.context());
  sink.start(begin);
  while (true) {
    const Now now = read_clocks();
    sink.step(now, run);
    if (run.failure()) return tl::unexpected(*run.failure());
    if (run.finished()) break;
    run.submit_next();
    if (run.connected()) connected_at = now.steady;
    if (now.steady - connected_at > kRedisPatience) {
      return fail(ErrorKind::kFatal, "gave up: " + run.problem(),
                  "run the command again when it is there");
    }
    while (const std::optional<Signal> signal = signals.next()) {
      if (*signal == Signal::kStop) {
        return fail(ErrorKind::kFatal, "stopped before the end", "run the command again");
      }
    }
    progress.turn(now.steady);
    Waiting waiting;
    waiting.descriptors.push_back(pollfd{signals.descriptor(), POLLIN, 0});
    waiting.wake_at(now.steady + std::chrono::seconds(1));
    sink.wait_for(waiting);
    wait_for_any(waiting);
  }
  sink.stop();
  return {};
}

}  // namespace evictd
