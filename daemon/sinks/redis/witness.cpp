#include "daemon/sinks/redis/witness.h"

#include <algorithm>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/witness_key.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// A WAIT that takes longer holds up the next question, and looks like a server that does not answer.
constexpr std::chrono::milliseconds kSliceMax{500};
constexpr std::chrono::milliseconds kAgainPause{500};
constexpr std::chrono::milliseconds kBackoffMax{1000};

}  // namespace

// Asks again and again, until so many replicas have what its connection wrote.
class WaitWork final : public RedisWork {
 public:
  WaitWork(Witness& witness, WorkShared& shared) : RedisWork(0, Command{}, shared), witness_(witness) {}

  void pump(Session& session, SteadyTime now) override {
    if (is_under_way_ || is_finished_ || now < next_at_) return;
    is_under_way_ = true;
    next_at_ = now + witness_.slice_;  // some servers answer at once when they have no replicas
    append_command(session.output(), {"WAIT", std::to_string(witness_.options_.replicas_ack), std::to_string(witness_.slice_.count())});
    session.expect(*this, 0, now);
  }

  bool on_reply(std::uint64_t, Reply&& reply) override {
    constexpr std::uint64_t kReplicasMax = 1'000'000;
    const auto count = read_count(reply, kReplicasMax);
    if (!count) return false;
    is_under_way_ = false;
    witness_.wait_answered(*count);
    is_finished_ = *count >= witness_.options_.replicas_ack;
    return true;
  }

  bool on_error(std::uint64_t, std::string_view text, std::string& about) override {
    about = "it was about the replicas";
    witness_.wait_refused(text);
    return false;
  }

  bool is_finished() const override { return is_finished_; }
  std::optional<SteadyTime> wake_at() const override {
    return is_under_way_ || is_finished_ ? std::nullopt : std::optional(next_at_);
  }

 private:
  Witness& witness_;
  bool is_under_way_ = false;
  bool is_finished_ = false;
  SteadyTime next_at_ = SteadyTime::min();
};

Witness::Witness(RedisOptions options, RedisAddress address, NodeRole role, const std::string& slot_tag, const SinkContext& context)
    : options_(std::move(options)),
      address_(std::move(address)),
      context_([&] {
        SinkContext made = context;
        made.channels.clear();
        made.is_record_ours_alone = made.is_record_shared = false;  // what it writes is nobody's record
        return made;
      }()),
      slice_(std::clamp(std::min(options_.replicas_timeout, options_.command_timeout) / 2, std::chrono::milliseconds(1), kSliceMax)),
      shared_{.context = {}, .since = "0", .lifetime = "0", .pacer = WalkPacer(options_.walk_share, options_.walks_max)} {
  EVICTD_CHECK(options_.replicas_ack > 0);
  node_.role = role;
  node_.record_key = witness_key(options_.record_name);
  if (!slot_tag.empty()) {
    node_.record_key += ":{" + slot_tag + "}";
    node_.probe_key = "evictd:probe:{" + slot_tag + "}";
  }
}

Witness::~Witness() {
  if (sink_) sink_->stop();
}

void Witness::connect(Now now) {
  if (sink_) sink_->stop();
  is_connected_ = is_another_ = false;
  RedisOptions options = options_;
  options.replicas_ack = 0;
  options.sentinels.clear();  // the address is the master's own
  options.may_touch = {};
  options.backoff_max = std::min(options.backoff_max, kBackoffMax);
  sink_ = make_node_sink(std::move(options), address_, node_);
  sink_->set_context(context_);
  sink_->start(now);
}

void Witness::ask(const std::string& instance, std::uint64_t sequence, Now now) {
  now_ = now;
  next_ = Question{instance, sequence, next_ ? next_->since : now.steady};
  if (!sink_) connect(now);
  send_next();
}

void Witness::send_next() {
  if (!is_connected_ || asked_ || !next_) return;
  if (next_->instance != instance_) {
    error_ = Error{ErrorKind::kConnection, "redis at '" + address_.to_string() + "' is another process by now than the one that was written to", {}};
    is_another_ = true;
    again_at_ = now_.steady + kAgainPause;
    return;
  }
  asked_ = std::exchange(next_, std::nullopt);
  replicas_seen_ = 0;
  Record record;  // a small write that goes on record where any other does, also on a server that is full
  record.writer = "witness";
  record.sequence = asked_->sequence;
  sink_->save_record(record);
}

void Witness::step(Now now) {
  now_ = now;
  if (!sink_) return;
  if (is_another_ && now.steady >= again_at_) connect(now);
  sink_->step(now, *this);
}

void Witness::wait_for(Waiting& waiting) {
  if (!sink_) return;
  sink_->send_now();
  sink_->wait_for(waiting);
  if (is_another_) waiting.wake_at(again_at_);
  const std::optional<Question>& oldest = asked_ ? asked_ : next_;
  const SteadyTime due = oldest ? oldest->since + options_.replicas_timeout : SteadyTime::max();
  if (due > now_.steady) waiting.wake_at(due);
}

std::optional<std::uint64_t> Witness::take_confirmed() { return std::exchange(confirmed_, std::nullopt); }

std::optional<Error> Witness::problem() const {
  const std::optional<Question>& oldest = asked_ ? asked_ : next_;
  if (!oldest) return std::nullopt;
  if (refusal_) return refusal_;  // no replica is merely slow
  if (now_.steady - oldest->since < options_.replicas_timeout) return std::nullopt;
  const std::string held = "; nothing is acknowledged until they have it, deletes go on";
  const std::string wanted = std::to_string(options_.replicas_ack);
  if (!is_connected_ || is_another_) {
    return Error{ErrorKind::kConnection,
                 "redis at '" + address_.to_string() + "' cannot be asked whether " + wanted + " of its replicas have what was written ('replicas_ack')" +
                     (error_ ? ": " + error_->text : "") + held,
                 error_ ? error_->hint : std::string()};
  }
  return Error{ErrorKind::kConnection,
               "what was written to redis at '" + address_.to_string() + "' is confirmed by " + std::to_string(replicas_seen_) +
                   " of its replicas, and 'replicas_ack' asks for " + wanted + held,
               "look at 'INFO replication' there; start the replica, or lower 'replicas_ack'"};
}

void Witness::on_sink_connected(const SinkConnected& connected) {
  is_connected_ = true;
  is_another_ = false;
  instance_ = connected.instance;
  error_.reset();
  replicas_seen_ = 0;
  send_next();
}

// What was under way is asked anew.
void Witness::lost(const Error& error) {
  is_connected_ = false;
  error_ = error;
  if (!asked_) return;
  if (next_) {
    next_->since = asked_->since;
  } else {
    next_ = std::move(asked_);
  }
  asked_.reset();
}

void Witness::on_sink_disconnected(const Error& error, std::string_view error_class) {
  is_misplaced_ = is_misplaced_ || error_class == kClassCluster;
  lost(error);
}

// The main connection was let in, so it may pass: tried again.
void Witness::on_sink_failed(const Error& error) {
  lost(error);
  is_another_ = true;
  again_at_ = now_.steady + kBackoffMax;
}

void Witness::on_record_saved(std::uint64_t sequence) {
  is_misplaced_ = false;
  if (asked_ && asked_->sequence == sequence) sink_->run(std::make_unique<WaitWork>(*this, shared_));
}

void Witness::on_done(Ticket, const Outcome&) {
  EVICTD_CHECK(asked_.has_value());
  confirmed_ = asked_->sequence;
  asked_.reset();
  send_next();
}

void Witness::wait_answered(std::uint64_t replicas) {
  replicas_seen_ = replicas;
  refusal_.reset();  // what may be missing now is a replica
}

void Witness::wait_refused(std::string_view reply) {
  const bool is_forbidden = classify_redis_error(reply).name == "noperm";
  if (!is_forbidden && reply.find("unknown command") == std::string_view::npos) return;
  const std::string user = address_.user.empty() ? "default" : address_.user;
  refusal_ = Error{ErrorKind::kConnection,
                   "redis at '" + address_.to_string() + (is_forbidden ? "' does not let user '" + user + "' run WAIT" : "' has no command WAIT") +
                       ", so nobody can tell whether replicas have what was written ('replicas_ack'): '" + std::string(reply.substr(0, 200)) +
                       "'; nothing is acknowledged until it does, deletes go on",
                   is_forbidden ? "there: ACL SETUSER " + user + " +wait; 'evictd check --acl' prints all that evictd needs"
                                : "leave 'replicas_ack' out, or use a server that has WAIT"};
}

}  // namespace evictd
