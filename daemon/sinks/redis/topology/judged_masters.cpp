#include "daemon/sinks/redis/topology/judged_masters.h"

#include <algorithm>
#include <vector>

namespace evictd {

void JudgedMasters::judged(const SlotMap& map, const InstanceOf& instance_of) {
  masters_.clear();
  for (const HostPort& master : map.masters()) masters_[master] = instance_of(master);
}

std::optional<Error> JudgedMasters::connected(const HostPort& at, const std::string& instance) {
  const auto master = masters_.find(at);
  if (master == masters_.end()) return std::nullopt;
  if (master->second.empty()) master->second = instance;
  if (master->second == instance) return std::nullopt;
  return Error{ErrorKind::kConnection, "redis at '" + at.to_string() + "' came back as another process", {}};
}

std::optional<Error> JudgedMasters::changed(const SlotMap& former, const SlotMap& map, const InstanceOf& instance_of) {
  const std::vector<HostPort> all = map.masters();
  const auto is_master = [&](const HostPort& at) { return std::find(all.begin(), all.end(), at) != all.end(); };
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    const HostPort* owner = map.owner(static_cast<Slot>(slot));
    const HostPort* before = former.owner(static_cast<Slot>(slot));
    if (owner == nullptr || contains(*owner)) continue;
    if (before != nullptr && contains(*before) && is_master(*before)) continue;
    return Error{ErrorKind::kConnection,
                 "redis at '" + owner->to_string() + "' is a master of the cluster now, in place of '" +
                     (before ? before->to_string() : "nobody") + "'",
                 {}};
  }
  for (const HostPort& master : all) {
    std::string& instance = masters_[master];
    if (instance.empty()) instance = instance_of(master);
  }
  // Whoever serves nothing any more may come back as another.
  std::erase_if(masters_, [&](const auto& one) { return !is_master(one.first); });
  return std::nullopt;
}

}  // namespace evictd
