// What holds of the topology of a Redis Cluster, by the word of its nodes: who serves which slot, what is wrong with it, and when to
// look again. Pure; cluster/cluster_observer.h asks.
//
// Nodes count what they agree on (the configuration epoch of CLUSTER INFO: it grows with each failover and each slot that is moved). One
// that counts less than was counted before, or says that the cluster is down, may be cut off and tell of former times: its answer is
// doubtful, and another one is asked. When all of them say so, one after the other, that is how it is.
//
//   all is well      each second
//   something is off once after 50 ms, and then less and less often, until each second
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sinks/redis/topology/slot_map.h"
#include "mapping/error.h"

namespace evictd {

inline constexpr std::chrono::milliseconds kLookInterval{1000};  // while all is well
inline constexpr std::chrono::milliseconds kLookFirst{50};       // while it is not, growing to the above

class TopologyWatch {
 public:
  // As it was told last.
  const SlotMap& map() const { return map_; }
  const std::vector<HostPort>& masters() const { return masters_; }
  // MOVED said so.
  void moved(Slot slot, const HostPort& to);
  // The map that held before, if another one was told since the last call.
  std::optional<SlotMap> take_former() { return std::exchange(former_, std::nullopt); }

  // ---- What a node says. `nodes`: how many can be asked.
  // `is_calm`: nothing else is off that a look could explain. -> false: it is doubtful, and changes nothing.
  bool told(const HostPort& by, const ClusterState& state, SlotMap map, std::size_t nodes, bool is_calm, SteadyTime now);
  // The one that was asked did not tell, or could not be asked.
  void not_told(Error error, std::string_view error_class);
  // How often in a row.
  std::size_t in_vain() const { return in_vain_; }
  // All of them, and so long that a failover could have passed us by.
  bool is_unobserved(std::size_t nodes, SteadyTime now) const;

  // What is wrong with it, or why nobody tells.
  const std::optional<Error>& error() const { return error_; }
  const std::string& error_class() const { return error_class_; }  // of the last not_told()

  // ---- When to look.
  SteadyTime look_due() const { return look_due_; }
  void looked(SteadyTime now) { looked_at_ = now; }
  // Something is off: soon, and then less and less often.
  void look_soon(SteadyTime now);
  void look_at_once(SteadyTime now) { look_due_ = std::min(look_due_, now); }

 private:
  SlotMap map_;
  std::vector<HostPort> masters_;  // of map_
  std::optional<SlotMap> former_;
  std::uint64_t epoch_ = 0;
  std::size_t doubtful_ = 0;  // answers in a row
  std::size_t in_vain_ = 0;   // questions in a row, to whomever
  SteadyTime told_at_{};
  std::optional<Error> error_;
  std::string error_class_;

  SteadyTime looked_at_ = SteadyTime::min();
  SteadyTime look_due_ = SteadyTime::min();
  std::chrono::milliseconds look_pause_ = kLookFirst;
};

}  // namespace evictd
