#include "daemon/sinks/redis/cluster/cluster_nodes.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "daemon/sinks/redis/topology/record_copies.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kKept{60};
constexpr std::chrono::seconds kRefusedPause{1};

}  // namespace

ClusterNode* ClusterNodes::find(const HostPort& at) const {
  const auto node = nodes_.find(at);
  return node == nodes_.end() ? nullptr : node->second.get();
}

ClusterNode& ClusterNodes::need(const HostPort& at, Now now) {
  std::unique_ptr<ClusterNode>& node = nodes_[at];
  if (!node) node = make(at, now);
  return *node;
}

ClusterNode& ClusterNodes::need_for_a_while(const HostPort& at, Now now) {
  ClusterNode& node = need(at, now);
  kept_[at] = now.steady + kKept;
  return node;
}

std::vector<const ClusterNode*> ClusterNodes::away() const {
  std::vector<const ClusterNode*> found;
  for (const HostPort& master : topology_.masters()) {
    if (const ClusterNode* node = find(master); node != nullptr && !node->is_connected) found.push_back(node);
  }
  return found;
}

std::vector<std::unique_ptr<ClusterNode>> ClusterNodes::take_needless(Now now) {
  std::erase_if(kept_, [&](const auto& one) { return now.steady >= one.second; });
  const std::vector<HostPort>& masters = topology_.masters();
  std::vector<std::unique_ptr<ClusterNode>> taken;
  for (auto node = nodes_.begin(); node != nodes_.end();) {
    if (std::find(masters.begin(), masters.end(), node->first) != masters.end() || kept_.contains(node->first)) {
      ++node;
      continue;
    }
    taken.push_back(std::move(node->second));
    node = nodes_.erase(node);
  }
  return taken;
}

void ClusterNodes::renew_refused(Now now) {
  for (auto& [at, node] : nodes_) {
    if (!node->has_failed) continue;
    if (node->again_at == SteadyTime::max()) node->again_at = now.steady + kRefusedPause;
    if (now.steady >= node->again_at) node = make(at, now);
  }
}

void ClusterNodes::stop() {
  for (const auto& [at, node] : nodes_) node->sink->stop();
  nodes_.clear();
}

// Its probe is about a slot that it serves: any other node would only name that.
std::unique_ptr<ClusterNode> ClusterNodes::make(const HostPort& at, Now now) const {
  const SlotSet slots = topology_.map().slots_of(at);
  NodeOptions role;
  role.role = NodeRole::kShard;
  role.probe_key = "evictd:probe:{" + slot_tag(slots.any() ? copy_slot(slots, std::nullopt) : Slot{0}) + "}";
  return std::make_unique<ClusterNode>(owner_, shared_, options_, address_of(like_, at), std::move(role), now);
}

}  // namespace evictd
