// Which nodes of a cluster there are connections to: the masters, and for a minute those that ASK named, which may have no slots of
// their own yet.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/sinks/redis/cluster/cluster_node.h"
#include "daemon/sinks/redis/topology/topology_watch.h"

namespace evictd {

class ClusterNodes {
 public:
  using Map = std::map<HostPort, std::unique_ptr<ClusterNode>>;

  // Nodes sign in as at `like`. What it is given must outlive it.
  ClusterNodes(ClusterNodeOwner& owner, WorkShared& shared, const TopologyWatch& topology, RedisOptions options, RedisAddress like)
      : owner_(owner), shared_(shared), topology_(topology), options_(std::move(options)), like_(std::move(like)) {}

  Map::const_iterator begin() const { return nodes_.begin(); }
  Map::const_iterator end() const { return nodes_.end(); }
  // Null: there is none.
  ClusterNode* find(const HostPort& at) const;
  // Connects to it when it is new.
  ClusterNode& need(const HostPort& at, Now now);
  // ASK named it.
  ClusterNode& need_for_a_while(const HostPort& at, Now now);

  // Masters that are not connected.
  std::vector<const ClusterNode*> away() const;

  // Those that are needed no more, out of their hands.
  std::vector<std::unique_ptr<ClusterNode>> take_needless(Now now);
  // Those that refuse us are tried again, as one server is that was connected before.
  void renew_refused(Now now);
  void stop();

 private:
  std::unique_ptr<ClusterNode> make(const HostPort& at, Now now) const;

  ClusterNodeOwner& owner_;
  WorkShared& shared_;
  const TopologyWatch& topology_;
  const RedisOptions options_;
  const RedisAddress like_;
  Map nodes_;
  std::map<HostPort, SteadyTime> kept_;  // until then, whatever they serve
};

}  // namespace evictd
