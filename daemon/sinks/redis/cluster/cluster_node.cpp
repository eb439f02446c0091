#include "daemon/sinks/redis/cluster/cluster_node.h"

#include <algorithm>
#include <utility>

namespace evictd {
namespace {

constexpr std::chrono::seconds kBackoffMax{1};  // the whole cluster waits for it

RedisOptions node_options(RedisOptions options) {
  options.sentinels.clear();
  options.replicas_ack = 0;  // asked for all of them together (cluster_witness.h)
  options.backoff_max = std::min<std::chrono::milliseconds>(options.backoff_max, kBackoffMax);
  return options;
}

}  // namespace

RedisAddress address_of(const RedisAddress& like, const HostPort& at) {
  RedisAddress address = like;
  address.host = at.host;
  address.port = at.port;
  address.socket_path.clear();
  return address;
}

ClusterNode::ClusterNode(ClusterNodeOwner& owner, WorkShared& shared, RedisOptions options, RedisAddress address, NodeOptions role, Now now)
    : at{address.host, address.port},
      sink(make_node_sink(node_options(std::move(options)), std::move(address), std::move(role))),
      owner_(owner),
      shared_(shared) {
  tell_context();
  sink->start(now);
}

void ClusterNode::tell_context() {
  SinkContext context = shared_.context;
  context.channels.clear();
  sink->set_context(context);
}

void ClusterNode::on_sink_connected(const SinkConnected& connected) {
  instance = connected.instance;
  time = connected.time;
  is_connected = true;
  error.reset();
  sink->run(std::make_unique<CallPipe>(shared_, queue, owner_));
  owner_.on_node_connected(*this);
}

void ClusterNode::on_sink_disconnected(const Error& why, std::string_view why_class) {
  error = why;
  error_class = std::string(why_class);
  lost();
}

void ClusterNode::on_sink_failed(const Error& why) {
  error = why;
  has_failed = true;
  lost();
}

void ClusterNode::lost() {
  if (std::exchange(is_connected, false)) owner_.on_node_lost(*this);
}

}  // namespace evictd
