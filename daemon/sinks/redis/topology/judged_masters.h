// Whose data is known to be what the record says: the masters of a Redis Cluster that were there when the copies of the record were
// judged, each as the process that it was then, and those that got their slots from one of these. Pure.
//
//   another process at a master's address   may have less than that had: the copies are judged anew
//   a master that is new                    got its slots key by key from one that is still there, and lost nothing;
//                                           or it took the place of one that is not: the copies are judged anew
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "daemon/sinks/redis/topology/slot_map.h"
#include "mapping/error.h"

namespace evictd {

class JudgedMasters {
 public:
  // The process at this address (SinkConnected::instance); empty: not known.
  using InstanceOf = std::function<std::string(const HostPort&)>;

  // The copies were judged, of all masters of this map.
  void judged(const SlotMap& map, const InstanceOf& instance_of);
  bool contains(const HostPort& master) const { return masters_.contains(master); }

  // A master's connection, another map. -> why the copies have to be judged anew; nothing: they need not.
  std::optional<Error> connected(const HostPort& at, const std::string& instance);
  std::optional<Error> changed(const SlotMap& former, const SlotMap& map, const InstanceOf& instance_of);

 private:
  std::map<HostPort, std::string> masters_;  // with their processes; empty: not met yet
};

}  // namespace evictd
