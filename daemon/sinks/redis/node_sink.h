// One server as a sink: what a cache of one server is, and what a cluster is made of.
#pragma once

#include <memory>
#include <string>

#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/redis_work.h"
#include "daemon/sinks/redis/session.h"
#include "daemon/sinks/redis/url.h"

namespace evictd {

struct NodeOptions {
  NodeRole role = NodeRole::kAlone;
  std::string probe_key = "evictd:probe";  // kShard: in a slot of its own
  std::string record_key = {};             // where save_record() writes; empty: by the names of RedisOptions
};

class NodeSink : public Sink {
 public:
  // kAlone: it turned out to be a node of a cluster. Nothing was told to the handler, and nothing more will be.
  virtual bool is_cluster_found() const = 0;
  // Its password is asked for (RedisOptions::credential), which takes as long as that may take: no connection is opened yet.
  virtual bool is_asking_for_password() const = 0;
  // Takes a work beside those of orders: on_lost(its ticket) when the connection ends. REQUIRES: connected.
  virtual void run(std::unique_ptr<RedisWork> work) = 0;
  // Works have more to send. Nothing happens while there is no connection.
  virtual void send_now() = 0;
};

std::unique_ptr<NodeSink> make_node_sink(RedisOptions options, RedisAddress address, NodeOptions node);

}  // namespace evictd
