// A node of a cluster: the connection to it, what is asked of it (calls.h), and what it told of itself last. Its owner is told when it
// comes and goes, and takes the answers. What was asked and not answered stays in `queue` when the connection ends.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/sinks/redis/cluster/calls.h"
#include "daemon/sinks/redis/node_sink.h"

namespace evictd {

struct ClusterNode;

class ClusterNodeOwner : public CallAnswers {
 public:
  // Inside the node's step().
  virtual void on_node_connected(ClusterNode& node) = 0;
  virtual void on_node_lost(ClusterNode& node) = 0;
  // Before it is lost: what was asked of it was refused.
  virtual void on_node_refused(ClusterNode& node, const Error& why) = 0;
};

// The node at `at`, whose user, password and TLS are those of `like`.
RedisAddress address_of(const RedisAddress& like, const HostPort& at);

struct ClusterNode final : private SinkHandler {
  // Connects. `owner` and `shared` must outlive it.
  ClusterNode(ClusterNodeOwner& owner, WorkShared& shared, RedisOptions options, RedisAddress address, NodeOptions role, Now now);

  // As the sink's context is now.
  void tell_context();
  void step(Now now) { sink->step(now, *this); }

  const HostPort at;
  std::unique_ptr<NodeSink> sink;
  CallQueue queue;
  bool is_connected = false;
  bool has_failed = false;                      // it refuses us, as a person has to mend
  SteadyTime again_at = SteadyTime::max();      // then: when it is tried again
  std::string instance;                         // of the last connection; empty: never met
  std::chrono::milliseconds time{0};            // its clock, then
  std::optional<Error> error;                   // why there is no connection
  std::string error_class;

 private:
  void on_sink_connected(const SinkConnected& connected) override;
  void on_sink_disconnected(const Error& why, std::string_view why_class) override;
  void on_sink_refused(const Error& why) override { owner_.on_node_refused(*this, why); }
  void on_sink_failed(const Error& why) override;
  void on_done(Ticket, const Outcome&) override {}
  void on_lost(Ticket) override { lost(); }
  void on_record_saved(std::uint64_t) override {}
  void on_record_confirmed(std::uint64_t) override {}
  void on_record_loaded(std::uint64_t, const std::optional<Record>&) override {}
  void lost();

  ClusterNodeOwner& owner_;
  WorkShared& shared_;
};

}  // namespace evictd
