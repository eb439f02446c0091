#include "daemon/sources/postgres/doctor/stream_probe.h"

#include "daemon/base/poll.h"
#include "daemon/sources/postgres/pgoutput.h"

namespace evictd {
namespace {

using State = ReplicationStream::State;

class Listener : public PgoutputReceiver {
 public:
  Listener(std::string_view prefix, std::string_view content)
      : prefix_(prefix), content_(content) {}
  bool heard = false;

  void on_begin(const BeginMessage&) override {}
  void on_change(const Change&) override {}
  void on_commit(Lsn) override {}
  void on_relation_gone(const Relation&) override {}
  void on_logical_message(std::string_view prefix, std::string_view content) override {
    heard = heard || (prefix == prefix_ && content == content_);
  }

 private:
  std::string_view prefix_;
  std::string_view content_;
};

}  // namespace

bool StreamProbe::turn(SteadyTime deadline, const std::function<bool()>& done) {
  while (true) {
    const Now now = read_clocks();
    stream_.step(now);
    if (done() || stream_.state() == State::kClosed) return true;
    if (now.steady >= deadline) return false;
    Waiting waiting;
    waiting.wake_at(deadline);
    stream_.wait_for(waiting, true);
    wait_for_any(waiting);
  }
}

std::optional<PostgresFailure> StreamProbe::connect(const Conninfo& conninfo,
                                                    std::chrono::milliseconds patience) {
  const Now now = read_clocks();
  stream_.open(conninfo, now);
  if (!turn(now.steady + patience, [&] { return stream_.state() == State::kReady; })) {
    return PostgresFailure{"", "no answer in time", false};
  }
  return stream_.take_failure();
}

StreamProbe::Outcome StreamProbe::round_trip(const std::string& slot,
                                             const std::string& publication,
                                             const std::string& prefix, const std::string& content,
                                             const std::function<Result<void>()>& emit,
                                             std::chrono::milliseconds patience) {
  const auto failed = [&] {
    const auto failure = stream_.take_failure();
    failure_text_ = failure ? failure->text : "the connection was closed";
    return Outcome::kFailed;
  };
  stream_.create_slot(slot, true);
  if (!turn(read_clocks().steady + patience, [&] { return stream_.state() == State::kReady; })) {
    return Outcome::kSlotNotReady;
  }
  if (stream_.state() != State::kReady) return failed();
  ReplicationStream::StartOptions start;
  start.slot = slot;
  start.publication = publication;
  start.with_messages = true;
  start.confirmed = stream_.created_at();
  stream_.start_streaming(start, read_clocks());
  if (!turn(read_clocks().steady + patience, [&] { return stream_.state() == State::kStreaming; }))
    return Outcome::kNotArrived;
  if (stream_.state() != State::kStreaming) return failed();
  if (const Result<void> emitted = emit(); !emitted) {
    failure_text_ = emitted.error().text;
    return Outcome::kFailed;
  }
  PgoutputDecoder decoder;
  Listener listener(prefix, content);
  bool is_broken = false;
  const bool in_time = turn(read_clocks().steady + patience, [&] {
    while (stream_.state() == State::kStreaming) {
      const auto message = stream_.read(true);
      if (!message) break;
      if (message->is_keepalive) continue;
      if (auto done = decoder.decode(message->start, message->payload, listener); !done) {
        failure_text_ = done.error().text;
        is_broken = true;
        return true;
      }
    }
    return listener.heard;
  });
  if (listener.heard) return Outcome::kArrived;
  if (is_broken) return Outcome::kFailed;
  if (stream_.state() == State::kClosed) return failed();
  return in_time ? Outcome::kFailed : Outcome::kNotArrived;
}

}  // namespace evictd
