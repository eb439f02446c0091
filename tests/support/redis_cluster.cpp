#include "tests/support/redis_cluster.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "mapping/check.h"

namespace evictd::testing {
namespace {

void until(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    EVICTD_CHECK(std::chrono::steady_clock::now() < deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

RedisCluster::RedisCluster(std::size_t masters, std::size_t replicas_each, std::vector<std::string> settings)
    : settings_(std::move(settings)) {
  for (std::size_t i = 0; i < masters * (1 + replicas_each); ++i) start_node();
  for (std::size_t i = 0; i < masters; ++i) {
    const std::size_t first = 16384 * i / masters, last = 16384 * (i + 1) / masters - 1;
    EVICTD_CHECK(node(i).client().command({"CLUSTER", "ADDSLOTSRANGE", std::to_string(first), std::to_string(last)}).is_ok());
    EVICTD_CHECK(node(i).client().command({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)}).is_ok());
  }
  for (std::size_t i = 1; i < size(); ++i) meet(i);
  wait_until_agreed();
  for (std::size_t i = masters; i < size(); ++i) {
    const std::string& of = ids_[(i - masters) / replicas_each];
    until([&] { return node(i).client().command({"CLUSTER", "REPLICATE", of}).is_ok(); });
  }
  for (std::size_t i = masters; i < size(); ++i) {
    until([&] { return node(i).client().command({"INFO", "replication"}).text.find("master_link_status:up") != std::string::npos; });
  }
  if (replicas_each > 0) wait_until_agreed();
}

std::size_t RedisCluster::start_node() {
  bus_ports_.push_back(free_port());
  std::vector<std::string> settings = {"--cluster-enabled", "yes", "--cluster-port", std::to_string(bus_ports_.back()),
                                       "--cluster-node-timeout", "2000", "--cluster-allow-replica-migration", "no"};
  settings.insert(settings.end(), settings_.begin(), settings_.end());
  nodes_.push_back(std::make_unique<RedisServer>(settings));
  ids_.push_back(nodes_.back()->client().command({"CLUSTER", "MYID"}).text);
  return nodes_.size() - 1;
}

void RedisCluster::meet(std::size_t index) {
  EVICTD_CHECK(node(0).client().command({"CLUSTER", "MEET", "127.0.0.1", std::to_string(node(index).port()),
                                         std::to_string(bus_ports_[index])}).is_ok());
}

std::size_t RedisCluster::add_node() {
  const std::size_t index = start_node();
  meet(index);
  wait_until_agreed();
  return index;
}

void RedisCluster::wait_until_agreed(const std::vector<std::size_t>& without) {
  until([&] {
    std::vector<std::string> seen;
    for (std::size_t i = 0; i < size(); ++i) {
      if (std::find(without.begin(), without.end(), i) != without.end()) continue;
      if (node(i).client().command({"CLUSTER", "INFO"}).text.find("cluster_state:ok") == std::string::npos) return false;
      std::string slots;
      const Reply reply = node(i).client().command({"CLUSTER", "SLOTS"});
      for (const Reply& range : reply.elements) {
        slots += std::to_string(range.elements.at(0).integer) + "-" + range.elements.at(2).elements.at(2).text + " ";
      }
      const Reply nodes = node(i).client().command({"CLUSTER", "NODES"});
      slots += std::to_string(std::count(nodes.text.begin(), nodes.text.end(), '\n'));
      seen.push_back(slots);
    }
    return std::adjacent_find(seen.begin(), seen.end(), std::not_equal_to<>()) == seen.end();
  });
}

std::size_t RedisCluster::owner_of(std::string_view key, std::size_t asked) {
  const long long slot = node(asked).client().integer({"CLUSTER", "KEYSLOT", key});
  const Reply reply = node(asked).client().command({"CLUSTER", "SLOTS"});
  for (const Reply& range : reply.elements) {
    if (slot < range.elements.at(0).integer || slot > range.elements.at(1).integer) continue;
    const std::string& owner = range.elements.at(2).elements.at(2).text;
    for (std::size_t i = 0; i < size(); ++i) {
      if (ids_[i] == owner) return i;
    }
  }
  EVICTD_CHECK(false);
  return 0;
}

void RedisCluster::open_slot(unsigned slot, std::size_t from, std::size_t to) {
  const std::string number = std::to_string(slot);
  EVICTD_CHECK(node(to).client().command({"CLUSTER", "SETSLOT", number, "IMPORTING", ids_[from]}).is_ok());
  EVICTD_CHECK(node(from).client().command({"CLUSTER", "SETSLOT", number, "MIGRATING", ids_[to]}).is_ok());
}

void RedisCluster::migrate_keys(unsigned slot, std::size_t from, std::size_t to, std::size_t most) {
  while (most > 0) {
    const Reply keys = node(from).client().command({"CLUSTER", "GETKEYSINSLOT", std::to_string(slot), "1"});
    if (keys.elements.empty()) return;
    node(from).client().command({"MIGRATE", "127.0.0.1", std::to_string(node(to).port()), keys.elements[0].text, "0", "5000"});
    --most;
  }
}

void RedisCluster::close_slot(unsigned slot, std::size_t to) {
  const std::string number = std::to_string(slot);
  node(to).client().command({"CLUSTER", "SETSLOT", number, "NODE", ids_[to]});
  for (std::size_t i = 0; i < size(); ++i) {
    if (i != to) node(i).client().command({"CLUSTER", "SETSLOT", number, "NODE", ids_[to]});
  }
  // The epoch that the new owner has taken is known to all: whoever takes one without knowing it takes the same, and which of the two has
  // the slot then is never settled.
  const auto epoch_of = [](const std::string& info) {
    constexpr std::string_view kName = "cluster_current_epoch:";
    const std::size_t begin = info.find(kName);
    return begin == std::string::npos ? std::string() : info.substr(begin + kName.size(), info.find('\r', begin) - begin - kName.size());
  };
  until([&] {
    const std::string wanted = epoch_of(node(to).client().command({"CLUSTER", "INFO"}).text);
    for (std::size_t i = 0; i < size(); ++i) {
      if (i != to && epoch_of(node(i).client().command({"CLUSTER", "INFO"}).text) != wanted) return false;
    }
    return !wanted.empty();
  });
}

void RedisCluster::move_slot(unsigned slot, std::size_t from, std::size_t to) {
  open_slot(slot, from, to);
  migrate_keys(slot, from, to, SIZE_MAX);
  close_slot(slot, to);
}

}  // namespace evictd::testing
