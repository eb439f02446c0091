// A private Redis Cluster for one test: masters with all slots shared out evenly, and replicas of theirs, each a RedisServer.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/redis_server.h"

namespace evictd::testing {

class RedisCluster {
 public:
  // Returns when every node agrees on all slots, and every replica is in step. `settings`: of each server.
  explicit RedisCluster(std::size_t masters, std::size_t replicas_each = 0, std::vector<std::string> settings = {});

  std::size_t size() const { return nodes_.size(); }
  // The masters of the beginning first, then their replicas: those of master i at masters + i * replicas_each.
  RedisServer& node(std::size_t index) { return *nodes_[index]; }
  std::string url() const { return nodes_.front()->url(); }
  const std::string& id(std::size_t index) const { return ids_[index]; }

  // The index of the node that serves this key's slot, by the word of node `asked`.
  std::size_t owner_of(std::string_view key, std::size_t asked = 0);
  RedisClient& client_of(std::string_view key) { return node(owner_of(key)).client(); }

  // Moves a slot with all its keys, one key at a time, as redis-cli does.
  void move_slot(unsigned slot, std::size_t from, std::size_t to);
  // The two halves of it: the slot is open in between.
  void open_slot(unsigned slot, std::size_t from, std::size_t to);
  void migrate_keys(unsigned slot, std::size_t from, std::size_t to, std::size_t most);
  void close_slot(unsigned slot, std::size_t to);

  // A master without slots joins. Returns its index.
  std::size_t add_node();
  // Waits until all nodes that answer agree on who has which slot and are well.
  void wait_until_agreed(const std::vector<std::size_t>& without = {});

 private:
  std::size_t start_node();
  void meet(std::size_t index);

  std::vector<std::string> settings_;
  std::vector<std::unique_ptr<RedisServer>> nodes_;
  std::vector<std::string> ids_;
  std::vector<int> bus_ports_;
};

}  // namespace evictd::testing
