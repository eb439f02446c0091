#include "daemon/sinks/redis/topology/topology_watch.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kUnobservedMax{5};

}  // namespace

void TopologyWatch::moved(Slot slot, const HostPort& to) {
  map_.moved(slot, to);
  masters_ = map_.masters();
}

bool TopologyWatch::told(const HostPort& by, const ClusterState& state, SlotMap map, std::size_t nodes, bool is_calm, SteadyTime now) {
  error_.reset();
  in_vain_ = 0;
  told_at_ = now;
  const SlotSet unserved = map.unserved();
  if (unserved.any()) is_calm = false;
  look_pause_ = is_calm ? kLookFirst : std::min(look_pause_ * 2, kLookInterval);
  look_due_ = now + (is_calm ? kLookInterval : look_pause_);
  if (!state.is_ok || state.epoch < epoch_) {
    if (++doubtful_ % nodes != 0) {
      error_ = Error{ErrorKind::kConnection,
                     "redis at '" + by.to_string() + "' is cut off from the rest of the cluster, or the cluster is down", {}};
      return false;
    }
    if (!state.is_ok) {
      error_ = Error{ErrorKind::kConnection, "the cluster is down, says redis at '" + by.to_string() + "'",
                     "look at 'cluster info' and 'cluster nodes'"};
    }
  } else {
    doubtful_ = 0;
  }
  epoch_ = state.epoch;
  if (unserved.any()) {
    error_ = Error{ErrorKind::kConnection,
                   "no node of the cluster serves the slots " + ranges_text(unserved).substr(0, 100) + " (" +
                       std::to_string(unserved.count()) + " of 16384), says redis at '" + by.to_string() + "'",
                   "give them to a master: redis-cli --cluster fix"};
  }
  const bool is_another = !(map == map_);
  SlotMap former = std::exchange(map_, std::move(map));
  masters_ = map_.masters();
  if (!is_another) return true;
  look_pause_ = kLookFirst;
  former_ = std::move(former);
  return true;
}

void TopologyWatch::not_told(Error error, std::string_view error_class) {
  ++in_vain_;
  error_ = std::move(error);
  error_class_ = error_class;
}

bool TopologyWatch::is_unobserved(std::size_t nodes, SteadyTime now) const {
  return error_ && in_vain_ >= nodes && now - told_at_ >= kUnobservedMax;
}

void TopologyWatch::look_soon(SteadyTime now) { look_due_ = std::min(look_due_, std::max(now, looked_at_ + look_pause_)); }

}  // namespace evictd
