// Asks a cluster's nodes who serves what, one at a time, without blocking: the socket side of TopologyWatch.
//
//   connect ─► CLUSTER INFO, CLUSTER SLOTS ─► told ─► the same one again, when the watch says so
//      ▲                                       │
//      └── the next one ◄── no answer within a second, refused, doubtful
//
// Its connection is its own: what it asks waits behind nothing. The masters are asked first, any of which knows; then what the url
// names.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/base/waiting.h"
#include "daemon/sinks/redis/cluster/cluster_node.h"
#include "daemon/sinks/redis/topology/topology_watch.h"

namespace evictd {

class ClusterObserver final : private ClusterNodeOwner {
 public:
  // `seeds` not empty. `shared` and `topology` must outlive it.
  ClusterObserver(RedisOptions options, std::vector<RedisAddress> seeds, WorkShared& shared, TopologyWatch& topology);

  void start(Now now);
  // `is_calm`: as TopologyWatch::told() has it.
  void step(Now now, bool is_calm);
  // REQUIRES: started, as all below.
  void send_now() { node_->sink->send_now(); }
  void wait_for(Waiting& waiting);
  void stop();

  // How many may be asked.
  std::size_t askable() const { return addresses().size(); }
  // Each of them was asked in vain, and the last one refuses us, which a person has to mend.
  std::optional<Error> take_refusal() { return std::exchange(refusal_, std::nullopt); }

 private:
  void on_node_connected(ClusterNode&) override {}
  void on_node_lost(ClusterNode& node) override;
  void on_node_refused(ClusterNode&, const Error&) override {}
  bool on_call_reply(Call& call, Reply&& reply) override;
  bool on_call_error(Call&, std::string_view, std::string&) override { return false; }

  std::vector<RedisAddress> addresses() const;
  void connect_to_next();
  bool is_lost() const;
  Error not_in_time() const;

  const RedisOptions options_;
  const std::vector<RedisAddress> seeds_;
  WorkShared& shared_;
  TopologyWatch& topology_;

  std::unique_ptr<ClusterNode> node_;
  std::size_t index_ = 0;               // of the next one among all
  SteadyTime since_{};                  // when it was turned to
  SteadyTime next_ = SteadyTime::min();  // when another one may be, at the earliest
  bool is_looking_ = false;
  SteadyTime looked_at_ = SteadyTime::min();
  std::optional<ClusterState> state_;  // by its last CLUSTER INFO
  std::optional<Error> refusal_;
  Now now_{};
  bool is_calm_ = false;
};

}  // namespace evictd
