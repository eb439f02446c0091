// The orders that are under way on a cluster (cluster_orders.h), by their numbers, which their calls carry.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/base/waiting.h"
#include "daemon/sinks/redis/cluster/cluster_orders.h"

namespace evictd {

class OrderBook {
 public:
  std::uint64_t next_number() { return next_++; }
  void add(std::uint64_t number, std::unique_ptr<ClusterOrder> order) {
    if (order->is_bulk()) ++bulk_;
    orders_.emplace(number, std::move(order));
    ++unpumped_;
  }
  // Null: it is over.
  ClusterOrder* find(std::uint64_t number) const {
    const auto order = orders_.find(number);
    return order == orders_.end() ? nullptr : order->second.get();
  }
  std::size_t size() const { return orders_.size(); }
  std::size_t bulk() const { return bulk_; }          // of them
  std::size_t unpumped() const { return unpumped_; }  // added since the last pump()

  void pump(SteadyTime now) {
    unpumped_ = 0;
    for (const auto& [number, order] : orders_) order->pump(now);
  }
  void wait_for(Waiting& waiting) const {
    for (const auto& [number, order] : orders_) waiting.wake_at(order->wake_at());
  }
  std::vector<std::unique_ptr<ClusterOrder>> take_finished() {
    std::vector<std::unique_ptr<ClusterOrder>> finished;
    for (auto order = orders_.begin(); order != orders_.end();) {
      if (!order->second->is_finished()) {
        ++order;
        continue;
      }
      if (order->second->is_bulk()) --bulk_;
      finished.push_back(std::move(order->second));
      order = orders_.erase(order);
    }
    return finished;
  }
  // They are lost.
  std::vector<Ticket> take_all() {
    std::vector<Ticket> lost;
    for (const auto& [number, order] : orders_) lost.push_back(order->ticket());
    orders_.clear();
    bulk_ = unpumped_ = 0;
    return lost;
  }

 private:
  std::map<std::uint64_t, std::unique_ptr<ClusterOrder>> orders_;
  std::uint64_t next_ = kFirstOrder;
  std::size_t bulk_ = 0;
  std::size_t unpumped_ = 0;
};

}  // namespace evictd
