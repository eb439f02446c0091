// What an order becomes on a cluster: calls that keep to one slot each, wherever that is served. A cluster order makes the
// calls, takes their answers, and is finished when the last one was a success. Who has which slot, redirections and connections
// are the sink's (cluster_sink.h); of them it knows only that the topology may move while it walks.
//
//   keys      those that one master serves, together: of checked rules in one script call (lua/scattered.lua), of plain ones in as many
//             commands. One that it does not take then goes by a call of its own, which can be redirected
//   counters, lazy tags   one call for each: they lie in as many slots
//   tags      the tag's tombstone in the tag's slot, BEFORE its members are read; then a tombstone on each member in the
//             member's slot; at the end a note in the tag's marker. No membership is taken away: nothing is atomic over two
//             slots, and a fill or a plain reader may count on it. They end by themselves (evictd_join), or with their set
//   patterns  a tombstone in the purge marker of each slot (`fill: checked`), BEFORE the first key is looked for; SCAN on every
//             master; each key in its slot. Done again when a slot has moved meanwhile, by the masters' own word: what was moved
//             from a master that was not read yet to one that was, nobody has seen
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/cluster/calls.h"

namespace evictd {

// Whether the servers take script calls about keys of several slots. Redis and Valkey do; a proxy or a service in between may let scripts
// touch declared keys alone. Found out by trying, now and then.
class ScatteredTrial {
 public:
  bool may_try(SteadyTime now) const { return now >= again_at_; }
  // One of them was answered: `taken` of its `keys` were.
  void saw(std::size_t taken, std::size_t keys, SteadyTime now) {
    if (taken > 0) in_vain_ = 0;
    if (taken == 0 && keys > 1 && ++in_vain_ >= kInVainMax) {
      in_vain_ = 0;
      again_at_ = now + kPause;
    }
  }

 private:
  static constexpr std::size_t kInVainMax = 8;  // in a row: all keys of some calls may be on the move
  static constexpr std::chrono::seconds kPause{60};
  std::size_t in_vain_ = 0;
  SteadyTime again_at_ = SteadyTime::min();
};

// What an order needs of the cluster.
class ClusterRoutes : public CallRoutes {
 public:
  virtual ScatteredTrial& scattered() = 0;
};

class ClusterOrder {
 public:
  ClusterOrder(Ticket ticket, std::uint64_t id, WorkShared& shared, ClusterRoutes& routes)
      : ticket_(ticket), id_(id), shared_(shared), routes_(routes) {}
  virtual ~ClusterOrder() = default;

  // Makes calls that can be made now.
  virtual void pump(SteadyTime now) = 0;
  virtual bool on_reply(const Call& call, Reply&& reply, SteadyTime now) = 0;
  // True: an error to live with.
  virtual bool on_error(const Call& call, std::string_view text, std::string& about) = 0;
  // The node that `call` was for is no master any more.
  virtual void on_gone(const Call& /*call*/) {}
  virtual bool is_finished() const = 0;
  virtual bool is_bulk() const { return false; }
  // When pump() may have something by the clock alone.
  virtual SteadyTime wake_at() const { return SteadyTime::max(); }

  Ticket ticket() const { return ticket_; }
  const Outcome& outcome() const { return outcome_; }

 protected:
  void send(std::uint64_t tag, std::string_view key, std::string bytes, std::optional<Script> script = {}) {
    routes_.send(Call{id_, tag, slot_of(key), std::move(bytes), script, {}});
  }

  const Ticket ticket_;
  const std::uint64_t id_;
  WorkShared& shared_;
  ClusterRoutes& routes_;
  Outcome outcome_;
};

// `order` may end before the cluster order does, if that is told nothing more.
std::unique_ptr<ClusterOrder> make_cluster_order(Ticket ticket, std::uint64_t id, const Order& order, WorkShared& shared,
                                                 ClusterRoutes& routes, std::string_view record_key);

}  // namespace evictd
