// Have so many replicas of a master what was written there? Asked by WAIT, over a connection of its own: whatever is sent behind
// a WAIT stands behind it, and deletes must not.
//
//   everybody's connection   delete, delete, record ── answered ──►  ask()
//   the witness's            a small write ── answered ──►  WAIT n t ── fewer than n ──► WAIT again
//                                                                   └── n ──► confirmed
//
// WAIT speaks of the writes of the connection that it is sent on. But replicas get the writes of all connections in the order in
// which the master did them: who has the small write, which was sent after the answers to the others had come, has those too.
// That holds within one process: a witness that finds itself connected to another one than was asked about asks nobody, and
// connects again.
//
// Loop thread only. Nothing blocks here. What goes wrong with its connection is tried again, and told by problem().
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sinks/redis/node_sink.h"

namespace evictd {

class WaitWork;

class Witness final : private SinkHandler {
 public:
  // Of `options`: replicas_ack replicas (at least one), replicas_timeout; how to sign in, and timeouts. `slot_tag`: of a slot
  // that the master serves, for its small write; empty: it is no cluster's. Connects when it is asked first.
  Witness(RedisOptions options, RedisAddress address, NodeRole role, const std::string& slot_tag, const SinkContext& context);
  ~Witness() override;

  // Everything that process `instance` (SinkConnected::instance) of the master has answered until now. One question is under way
  // at a time; of those that wait the newest stands for all.
  void ask(const std::string& instance, std::uint64_t sequence, Now now);
  void step(Now now);
  void wait_for(Waiting& waiting);
  // The highest `sequence` that was confirmed since the last call.
  std::optional<std::uint64_t> take_confirmed();

  // A question waits for longer than replicas_timeout, or this server refuses to tell, and why. It is asked again all the same:
  // a right may be granted meanwhile.
  std::optional<Error> problem() const;
  // The slot of its small write is another master's, or on its way there.
  bool is_misplaced() const { return is_misplaced_; }

 private:
  friend class WaitWork;
  struct Question {
    std::string instance;
    std::uint64_t sequence = 0;
    SteadyTime since{};
  };

  void on_sink_connected(const SinkConnected& connected) override;
  void on_sink_disconnected(const Error& error, std::string_view error_class) override;
  void on_sink_failed(const Error& error) override;
  void on_done(Ticket ticket, const Outcome& outcome) override;
  void on_lost(Ticket) override {}
  void on_record_saved(std::uint64_t sequence) override;
  void on_record_confirmed(std::uint64_t) override {}
  void on_record_loaded(std::uint64_t, const std::optional<Record>&) override {}

  void connect(Now now);
  void send_next();
  void lost(const Error& error);
  void wait_answered(std::uint64_t replicas);
  void wait_refused(std::string_view reply);

  const RedisOptions options_;
  const RedisAddress address_;
  NodeOptions node_;
  const SinkContext context_;
  const std::chrono::milliseconds slice_;  // of one WAIT
  WorkShared shared_;

  std::unique_ptr<NodeSink> sink_;
  bool is_connected_ = false;
  std::string instance_;
  bool is_another_ = false;  // than was asked about
  bool is_misplaced_ = false;
  SteadyTime again_at_ = SteadyTime::min();
  std::optional<Question> asked_;
  std::optional<Question> next_;
  std::optional<std::uint64_t> confirmed_;
  std::uint64_t replicas_seen_ = 0;  // by the last WAIT
  std::optional<Error> error_;       // of the connection
  std::optional<Error> refusal_;     // of the last WAIT: forbidden, or not there
  Now now_{};
};

}  // namespace evictd
