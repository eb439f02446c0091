// Who serves which slot of a Redis Cluster, by the word of its nodes, and what their redirections mean. Pure.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/topology/sentinel.h"
#include "daemon/sinks/redis/topology/slots.h"

namespace evictd {

using SlotSet = std::bitset<kSlots>;

// "0-5460,7000": what a record's copy speaks of, and how a part of a cache is named.
std::string ranges_text(const SlotSet& slots);
std::optional<SlotSet> slots_from_ranges(std::string_view text);

class SlotMap {
 public:
  SlotMap() { owner_.fill(kNobody); }
  // Of CLUSTER SLOTS. A node without an address is to be reached as the one that was asked. Nothing when the reply is of another shape.
  static std::optional<SlotMap> read(const Reply& slots, const HostPort& asked);

  // Null: nobody serves it.
  const HostPort* owner(Slot slot) const { return owner_[slot] == kNobody ? nullptr : &masters_[owner_[slot]]; }
  // Each has one slot at least.
  std::vector<HostPort> masters() const;
  // As they were told, each once; no more than a cluster can have.
  const std::vector<HostPort>& replicas() const { return replicas_; }
  SlotSet slots_of(const HostPort& master) const;
  SlotSet unserved() const;
  // Where node `by` redirects to: without a host, to a port of its own; "?", to whom it has no name for. Nothing: to whom is not known.
  std::optional<HostPort> located(const HostPort& to, const HostPort& by) const;
  // MOVED said so.
  void moved(Slot slot, const HostPort& to);

  friend bool operator==(const SlotMap& a, const SlotMap& b);

 private:
  static constexpr std::uint16_t kNobody = 0xffff;
  std::uint16_t index_of(const HostPort& master);
  void add_replica(const Reply& node, const HostPort& asked);

  std::vector<HostPort> masters_;  // those without slots stay
  std::array<std::uint16_t, kSlots> owner_;
  std::vector<HostPort> replicas_;
};

// What CLUSTER INFO tells. Nothing when it is of another shape.
struct ClusterState {
  bool is_ok = false;
  std::uint64_t epoch = 0;  // grows with each failover and each slot that is moved
};
std::optional<ClusterState> read_cluster_state(const Reply& info);

// Of CLUSTER NODES, of the node that was asked itself: its configuration's epoch, its slots and those that are on the move, as
// text. Another text means that something moved. Empty when it is not there.
std::string_view own_slots(std::string_view nodes);
// One of them is on the move.
inline bool has_open_slot(std::string_view own) { return own.find('[') != std::string_view::npos; }

struct Redirect {
  enum class Kind : std::uint8_t {
    kMoved,     // `to` serves the slot now
    kAsk,       // `to` has this key already: this once, after ASKING
    kTryAgain,  // some keys of the call have moved, and some have not
    kDown,      // nobody serves it for the moment
  } kind = Kind::kDown;
  Slot slot = 0;
  HostPort to;  // kMoved, kAsk; as it was said: SlotMap::located()
};
// Nothing: another error.
std::optional<Redirect> read_redirect(std::string_view error);

}  // namespace evictd
