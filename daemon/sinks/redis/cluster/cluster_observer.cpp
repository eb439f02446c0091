#include "daemon/sinks/redis/cluster/cluster_observer.h"

#include <algorithm>
#include <utility>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/resp.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kTimeout{1};

// Its calls, by tag, in the order in which they are sent.
constexpr std::uint64_t kInfo = 0;
constexpr std::uint64_t kSlotsCall = 1;

RedisOptions observer_options(RedisOptions options) {
  options.command_timeout = std::min<std::chrono::milliseconds>(options.command_timeout, kTimeout);
  options.connect_timeout = std::min<std::chrono::milliseconds>(options.connect_timeout, kTimeout);
  return options;
}

}  // namespace

ClusterObserver::ClusterObserver(RedisOptions options, std::vector<RedisAddress> seeds, WorkShared& shared, TopologyWatch& topology)
    : options_(observer_options(std::move(options))), seeds_(std::move(seeds)), shared_(shared), topology_(topology) {}

void ClusterObserver::start(Now now) {
  now_ = now;
  connect_to_next();
}

void ClusterObserver::step(Now now, bool is_calm) {
  now_ = now;
  is_calm_ = is_calm;
  node_->step(now);
  if (node_->sink->is_asking_for_password()) since_ = now.steady;  // that has a patience of its own
  if (is_lost()) {
    if (now.steady < next_) return;
    Error error = node_->error ? *node_->error : not_in_time();
    topology_.not_told(error, node_->error_class.empty() ? kClassConnection : std::string_view(node_->error_class));
    const std::size_t all = askable();
    if (node_->has_failed && topology_.in_vain() >= all) refusal_ = std::move(error);
    next_ = now.steady + (topology_.in_vain() % all == 0 ? kLookInterval : kLookFirst);
    return connect_to_next();
  }
  if (is_looking_) {
    if (now.steady - looked_at_ >= kTimeout) node_->error = not_in_time();
    return;
  }
  if (!node_->is_connected || now.steady < topology_.look_due()) return;
  is_looking_ = true;
  looked_at_ = now.steady;
  topology_.looked(now.steady);
  std::string bytes;
  append_command(bytes, {"CLUSTER", "INFO"});
  node_->queue.add(Call{0, kInfo, 0, std::move(bytes), {}, node_->at});
  bytes.clear();
  append_command(bytes, {"CLUSTER", "SLOTS"});
  node_->queue.add(Call{0, kSlotsCall, 0, std::move(bytes), {}, node_->at});
}

// One that has yet to connect, or to answer, looks again when it has.
void ClusterObserver::wait_for(Waiting& waiting) {
  node_->sink->wait_for(waiting);
  if (is_lost()) {
    waiting.wake_at(next_);
  } else if (!node_->is_connected) {
    waiting.wake_at(since_ + kTimeout);
  } else {
    waiting.wake_at(is_looking_ ? looked_at_ + kTimeout : topology_.look_due());
  }
}

void ClusterObserver::stop() {
  if (node_) node_->sink->stop();
  node_.reset();
}

void ClusterObserver::on_node_lost(ClusterNode& node) {
  node.queue = CallQueue();
  is_looking_ = false;
}

bool ClusterObserver::on_call_reply(Call& call, Reply&& reply) {
  if (call.tag == kInfo) {
    state_ = read_cluster_state(reply);
    return state_.has_value();
  }
  is_looking_ = false;
  auto map = SlotMap::read(reply, node_->at);
  if (!map || !state_) return false;
  if (!topology_.told(node_->at, *state_, std::move(*map), askable(), is_calm_, now_.steady)) node_->error = topology_.error();
  return true;
}

// Those who were told of as replicas come last: they know who took the place of the only master that there was.
std::vector<RedisAddress> ClusterObserver::addresses() const {
  std::vector<RedisAddress> all;
  const auto add = [&all](RedisAddress address) {
    const auto is_it = [&](const RedisAddress& one) { return one.host == address.host && one.port == address.port; };
    if (std::none_of(all.begin(), all.end(), is_it)) all.push_back(std::move(address));
  };
  for (const HostPort& master : topology_.masters()) add(address_of(seeds_.front(), master));
  for (const RedisAddress& seed : seeds_) add(seed);
  for (const HostPort& replica : topology_.map().replicas()) add(address_of(seeds_.front(), replica));
  return all;
}

void ClusterObserver::connect_to_next() {
  const std::vector<RedisAddress> all = addresses();
  ClusterNodeOwner& owner = *this;
  const RedisAddress& next = all[index_++ % all.size()];
  node_ = std::make_unique<ClusterNode>(owner, shared_, options_, next, NodeOptions{NodeRole::kObserver, {}}, now_);
  is_looking_ = false;
  since_ = now_.steady;
  topology_.look_at_once(now_.steady);
}

bool ClusterObserver::is_lost() const {
  return node_->has_failed || node_->error || (!node_->is_connected && now_.steady - since_ >= kTimeout);
}

Error ClusterObserver::not_in_time() const {
  return Error{ErrorKind::kConnection, "redis at '" + node_->at.to_string() + "' did not tell of the cluster in time", {}};
}

}  // namespace evictd
