#include "daemon/sinks/redis/cluster/cluster_sink.h"

#include <algorithm>
#include <list>
#include <map>
#include <set>

#include "daemon/sinks/redis/cluster/cluster_orders.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/node_sink.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/topology/record_copies.h"
#include "daemon/sinks/redis/witness.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kLookInterval{1000};  // at the topology, while all is well
constexpr std::chrono::milliseconds kLookFirst{50};       // while it is not, growing to the above
constexpr std::chrono::milliseconds kRetryInterval{50};   // of calls that were told to come again
constexpr std::chrono::seconds kObserverTimeout{1};
constexpr std::chrono::seconds kUnobservedMax{5};         // a failover could have passed us by
constexpr std::chrono::seconds kRedirectedMax{5};         // until it is told that a call comes to no end
constexpr std::chrono::seconds kRedirectedShown{1};       // after it was told so last
constexpr std::chrono::seconds kRefusedPause{1};
constexpr std::chrono::seconds kRecordRetry{1};
constexpr std::chrono::seconds kExtraKept{60};            // a node that ASK named, without slots of its own
// Limits (G8).
constexpr std::size_t kOrdersMax = 1024;
constexpr std::size_t kHeldBytesMax = 8 * 1024 * 1024;  // of calls that wait for a node that is away
constexpr std::size_t kBusyKeysMax = 8192;              // that calls to nodes which are there are about

// What calls belong to that are no order's.
constexpr std::uint64_t kTopologyCalls = 0;
constexpr std::uint64_t kSaveCalls = 1;
constexpr std::uint64_t kLoadCalls = 2;
constexpr std::uint64_t kFirstOrder = 16;

struct NodeLess {
  bool operator()(const HostPort& a, const HostPort& b) const { return std::tie(a.host, a.port) < std::tie(b.host, b.port); }
};

class ClusterSink final : public Sink, private CallAnswers, private ClusterRoutes {
 public:
  ClusterSink(RedisOptions options, std::vector<RedisAddress> seeds)
      : options_(std::move(options)),
        seeds_(std::move(seeds)),
        shared_{.context = {},
                .since = "0",
                .lifetime = std::to_string((options_.tombstone_ttl + options_.tombstone_margin).count()),
                .page_keys = options_.page_keys,
                .may_touch = options_.may_touch,
                .pacer = WalkPacer(options_.walk_share, options_.walks_max)},
        record_key_(evictd::record_key(options_.record_name, options_.record_of)) {}

  void start(Now now) override {
    started_ = true;
    now_ = now;
    observe(now);
  }

  void step(Now now, SinkHandler& handler) override {
    if (!started_ || failed_) return;
    now_ = now;
    handler_ = &handler;
    step_observer();
    for (auto& [at, node] : nodes_) node->sink->step(now, *node);
    collect();
    if (failure_) return fail(*std::exchange(failure_, std::nullopt));
    if (judge_anew_ && is_up_) go_down(*judge_anew_);
    judge_anew_.reset();
    if (!is_up_) come_up();
    if (is_up_) {
      if (load_sequence_ && away().empty()) load_again();
      retry_held();
      send_refused_copies();
      pump_orders();
      finish_orders();
    }
    if (is_up_) ask_replicas();
    tell_trouble();
    for (auto& [at, node] : nodes_) node->sink->send_now();
    if (observer_) observer_->sink->send_now();
    handler_ = nullptr;
  }

  void wait_for(Waiting& waiting) override {
    if (!started_ || failed_) return;
    pump_orders();  // submitted in this turn of the loop
    for (auto& [at, node] : nodes_) {
      node->sink->send_now();
      node->sink->wait_for(waiting);
      waiting.wake_at(node->again_at);
    }
    observer_->sink->send_now();
    observer_->sink->wait_for(waiting);
    // For what the observer can do then: one that has yet to connect, or to answer, looks again when it has.
    if (is_observer_lost()) {
      waiting.wake_at(next_observer_);
    } else if (!observer_->is_connected) {
      waiting.wake_at(observed_since_ + kObserverTimeout);
    } else {
      waiting.wake_at(is_looking_ ? looked_at_ + kObserverTimeout : look_due_);
    }
    if (is_up_ && !held_.empty()) waiting.wake_at(retry_due_);
    if (!refused_copies_.empty()) waiting.wake_at(refused_copies_due_);
    if (!is_loading_ && (is_up_ ? load_sequence_.has_value() : !refusal_) && away().empty() && map_.unserved().none()) waiting.wake_at(load_due_);
    for (const auto& [id, order] : orders_) waiting.wake_at(order->wake_at());
    for (const auto& [at, witness] : witnesses_) witness->wait_for(waiting);
  }

  void set_context(const SinkContext& context) override {
    shared_.context = context;
    shared_.since = std::to_string(context.trust_since.count());
    constexpr std::size_t kSnapshotRunningMax = 64;
    if (context.snapshot && context.snapshot->in_progress().size() <= kSnapshotRunningMax) {
      shared_.since += ' ';
      shared_.since += context.snapshot->to_string();
    }
    for (auto& [at, node] : nodes_) tell(*node);
    refusal_ = refusal(context);
    if (refusal_ && is_up_) judge_anew_ = refusal_;
  }

  // What a cluster does not have.
  std::optional<Error> refusal(const SinkContext& context) const override {
    if (const std::string& setting = context.needs_one_server; !setting.empty()) {
      return Error{ErrorKind::kUsage, "a rule has '" + setting + "', and this Redis is a cluster, on which that is not there yet",
                   "leave '" + setting + "' out of the rules that act on this cache"};
    }
    if (context.channels.empty()) return std::nullopt;
    return Error{ErrorKind::kUsage, "a rule has 'announce', and this Redis is a cluster: the numbers of a channel's messages lie in one slot, and cannot be raised together with a delete in another",
                 "leave 'announce' out of the rules that act on this cache"};
  }

  bool has_room(Urgency urgency) const override {
    if (!is_up_) return false;
    if (urgency == Urgency::kBulk) return bulk_orders_ < options_.bulk_max;
    if (orders_.size() >= kOrdersMax || held_bytes_ >= kHeldBytesMax) return false;
    std::size_t busy = 0;
    for (const auto& [at, node] : nodes_) {
      if (node->is_connected) busy += node->queue.keys;
    }
    return busy < kBusyKeysMax && unpumped_ < options_.commands_max;
  }

  void submit(Ticket ticket, const Order& order) override {
    EVICTD_CHECK(has_room(order.urgency()));
    const std::uint64_t id = next_order_++;
    auto made = make_cluster_order(ticket, id, order, shared_, *this, record_key_);
    if (made->is_bulk()) ++bulk_orders_;
    orders_.emplace(id, std::move(made));
    ++unpumped_;
  }

  void save_record(const Record& record) override {
    EVICTD_CHECK(is_up_);
    save_ = Save{record.writer, record.sequence, 0};
    if (shared_.were_orphans_hunted && !record.gaps.contains(kRollbackGap)) shared_.has_orphans = shared_.were_orphans_hunted = false;
    const auto written = std::chrono::duration_cast<std::chrono::milliseconds>(now_.system.time_since_epoch());
    for (const HostPort& master : masters_) {
      const SlotSet slots = map_.slots_of(master);
      const Slot slot = copy_slots_[master] = copy_slot(slots, find_slot(master));
      send_copy({slot, copy_key(record_key_, slot), copy_to_text(written, slots, record)}, shared_.context.is_deletes_only ? Way::kSet : Way::kScript);
    }
  }

  void load_record(std::uint64_t sequence) override {
    EVICTD_CHECK(is_up_);
    load_sequence_ = sequence;
    is_loading_ = false;
    load_due_ = now_.steady;
    load_again();
  }

  std::vector<std::string> lost_parts() const override {
    std::vector<std::string> parts;
    if (lost_.any()) parts.push_back(ranges_text(lost_));
    return parts;
  }

  void stop() override {
    for (auto& [at, node] : nodes_) node->sink->stop();
    if (observer_) observer_->sink->stop();
    forget_questions();
    nodes_.clear();
    observer_.reset();
    orders_.clear();
    held_.clear();
    is_up_ = started_ = false;
    is_stopped_ = true;
  }

  SinkStatus status() const override {
    SinkStatus status;
    status.connected = is_up_ && away().empty() && map_.unserved().none();
    status.state = state_text();
    std::uint64_t evicted = 0;
    std::map<std::string, std::uint64_t> fills;
    for (const auto& [at, node] : nodes_) {
      const SinkStatus one = node->sink->status();
      if (one.evicted_keys) evicted += *one.evicted_keys;
      for (const auto& [name, count] : one.fills) fills[name] += count;
      if (node->is_connected && one.problem && !status.problem) status.problem = at.to_string() + ": " + *one.problem;
    }
    if (status.connected) {
      if (trouble_) status.problem = trouble_->text;
      status.evicted_keys = evicted;
      status.fills.assign(fills.begin(), fills.end());
      if (now_.steady < refused_until_) {
        status.problem = "redis is full: tombstones are refused, deletes work";
      } else if (!full_.empty()) {
        status.problem = "redis at '" + full_ + "' is full: evictd's record is refused, deletes work; until it is stored, the database keeps what is not acknowledged";
      }
    } else if (trouble_) {
      status.problem = trouble_->text;
    }
    if (status.connected && now_.steady < stuck_until_) status.held_up = stuck_.text;
    if (replicas_missing_) status.held_up = replicas_missing_->text;
    if (status.held_up && !status.problem) status.problem = status.held_up;
    return status;
  }

 private:
  enum class Way : std::uint8_t { kScript, kSet, kScriptIfFull };
  struct Copy {
    Slot slot = 0;
    std::string key;
    std::string text;
  };
  struct Save {
    std::string writer;
    std::uint64_t sequence = 0;
    std::size_t under_way = 0;
  };

  // A connection, and what it tells.
  struct Node final : SinkHandler {
    Node(ClusterSink& cluster, HostPort address) : owner(cluster), at(std::move(address)) {}
    void on_sink_connected(const SinkConnected& connected) override {
      instance = connected.instance;
      time = connected.time;
      is_connected = true;
      error.reset();
      sink->run(std::make_unique<CallPipe>(owner.shared_, queue, owner.answers()));
      owner.connected(*this);
    }
    void on_sink_disconnected(const Error& why, std::string_view why_class) override {
      error = why;
      error_class = std::string(why_class);
      lost();
    }
    void on_sink_failed(const Error& why) override {
      error = why;
      has_failed = true;
      lost();
    }
    void on_done(Ticket, const Outcome&) override {}
    void on_lost(Ticket) override { lost(); }
    void on_record_saved(std::uint64_t) override {}
    void on_record_confirmed(std::uint64_t) override {}
    void on_record_loaded(std::uint64_t, const std::optional<Record>&) override {}
    void lost() {
      if (std::exchange(is_connected, false)) owner.disconnected(*this);
    }

    ClusterSink& owner;
    const HostPort at;
    std::unique_ptr<NodeSink> sink;
    CallQueue queue;
    bool is_connected = false;
    bool has_failed = false;
    SteadyTime again_at = SteadyTime::max();
    std::string instance;
    std::chrono::milliseconds time{0};
    std::optional<Error> error;
    std::string error_class;
  };

  CallAnswers& answers() { return *this; }

  // ------------------------------------------------------------- Topology

  RedisAddress address_of(const HostPort& at) const {
    RedisAddress address = seeds_.front();
    address.host = at.host;
    address.port = at.port;
    address.socket_path.clear();
    return address;
  }

  std::unique_ptr<Node> make_node(RedisAddress address, NodeOptions role) {
    auto node = std::make_unique<Node>(*this, HostPort{address.host, address.port});
    RedisOptions options = options_;
    options.sentinels.clear();
    options.replicas_ack = 0;  // asked for all of them together
    options.backoff_max = std::min<std::chrono::milliseconds>(options.backoff_max, std::chrono::seconds(1));
    if (role.role == NodeRole::kObserver) {
      options.command_timeout = std::min<std::chrono::milliseconds>(options.command_timeout, kObserverTimeout);
      options.connect_timeout = std::min<std::chrono::milliseconds>(options.connect_timeout, kObserverTimeout);
    }
    node->sink = make_node_sink(std::move(options), std::move(address), std::move(role));
    tell(*node);
    node->sink->start(now_);
    return node;
  }

  void tell(Node& node) const {
    SinkContext context = shared_.context;
    context.channels.clear();
    node.sink->set_context(context);
  }

  // Whoever may be asked: the masters first, any of which knows, then what the url names.
  std::vector<RedisAddress> observed() const {
    std::vector<RedisAddress> all;
    for (const HostPort& master : masters_) all.push_back(address_of(master));
    for (const RedisAddress& seed : seeds_) {
      if (std::none_of(all.begin(), all.end(), [&](const RedisAddress& one) { return one.host == seed.host && one.port == seed.port; })) all.push_back(seed);
    }
    return all;
  }

  void observe(Now now) {
    const std::vector<RedisAddress> all = observed();
    observer_ = make_node(all[observer_index_++ % all.size()], NodeOptions{NodeRole::kObserver, {}});
    is_looking_ = false;
    observed_since_ = now.steady;
    look_due_ = std::min(look_due_, now.steady);
  }

  void step_observer() {
    observer_->sink->step(now_, *observer_);
    if (observer_->sink->is_asking_for_password()) observed_since_ = now_.steady;  // that has a patience of its own
    const std::size_t all = observed().size();
    if (is_observer_lost()) {
      if (now_.steady < next_observer_) return;
      Error error = observer_->error ? *observer_->error
                                     : Error{ErrorKind::kConnection, "redis at '" + observer_->at.to_string() + "' did not tell of the cluster in time", {}};
      const bool is_person = observer_->has_failed;
      ++observers_failed_;
      if (is_person && observers_failed_ >= all && !ever_up_) failure_ = error;
      topology_error_ = std::move(error);
      topology_class_ = observer_->error_class.empty() ? kClassConnection : std::string_view(observer_->error_class);
      next_observer_ = now_.steady + (observers_failed_ % all == 0 ? kLookInterval : kLookFirst);
      graveyard_.push_back(std::move(observer_));
      observe(now_);
      return;
    }
    if (!observer_->is_connected || is_looking_ || now_.steady < look_due_) {
      if (is_looking_ && now_.steady - looked_at_ >= kObserverTimeout) observer_->error = Error{ErrorKind::kConnection, "redis at '" + observer_->at.to_string() + "' did not tell of the cluster in time", {}};
      return;
    }
    is_looking_ = true;
    looked_at_ = now_.steady;
    std::string bytes;
    append_command(bytes, {"CLUSTER", "INFO"});
    observer_->queue.add(Call{kTopologyCalls, 0, 0, std::move(bytes), {}, observer_->at});
    bytes.clear();
    append_command(bytes, {"CLUSTER", "SLOTS"});
    observer_->queue.add(Call{kTopologyCalls, 1, 0, std::move(bytes), {}, observer_->at});
  }

  bool is_observer_lost() const {
    return observer_->has_failed || observer_->error || (!observer_->is_connected && now_.steady - observed_since_ >= kObserverTimeout);
  }

  // Something is off: soon, and then less and less often.
  void look_soon() {
    look_due_ = std::min(look_due_, std::max(now_.steady, looked_at_ + look_pause_));
  }

  bool take_topology(const Call& call, const Reply& reply) {
    if (call.tag == 0) {
      state_ = read_cluster_state(reply);
      return state_.has_value();
    }
    is_looking_ = false;
    auto map = SlotMap::read(reply, observer_->at);
    if (!map || !state_) return false;
    topology_error_.reset();
    observers_failed_ = 0;
    observed_at_ = now_.steady;
    const bool is_calm = is_up_ && held_.empty() && away().empty() && map->unserved().none();
    look_pause_ = is_calm ? kLookFirst : std::min(look_pause_ * 2, kLookInterval);
    look_due_ = now_.steady + (is_calm ? kLookInterval : look_pause_);
    // One that was cut off tells of former times. When all of them do, that is how it is.
    if (!state_->is_ok || state_->epoch < epoch_) {
      if (++doubtful_ % observed().size() != 0) {
        observer_->error = Error{ErrorKind::kConnection, "redis at '" + observer_->at.to_string() + "' is cut off from the rest of the cluster, or the cluster is down", {}};
        topology_error_ = observer_->error;
        return true;
      }
      if (!state_->is_ok) topology_error_ = Error{ErrorKind::kConnection, "the cluster is down, says redis at '" + observer_->at.to_string() + "'", "look at 'cluster info' and 'cluster nodes'"};
    } else {
      doubtful_ = 0;
    }
    epoch_ = state_->epoch;
    use(std::move(*map));
    return true;
  }

  void use(SlotMap map) {
    const bool is_another = !(map == map_);
    const SlotMap before = std::exchange(map_, std::move(map));
    masters_ = map_.masters();
    if (const SlotSet missing = map_.unserved(); missing.any()) {
      topology_error_ = Error{ErrorKind::kConnection,
                              "no node of the cluster serves the slots " + ranges_text(missing).substr(0, 100) + " (" + std::to_string(missing.count()) +
                                  " of 16384), says redis at '" + observer_->at.to_string() + "'",
                              "give them to a master: redis-cli --cluster fix"};
    }
    if (!is_another) return;
    look_pause_ = kLookFirst;
    retry_due_ = load_due_ = now_.steady;
    for (const HostPort& master : masters_) need(master);
    if (load_sequence_) is_loading_ = false;
    if (!is_up_) {
      is_loading_ = false;
      return;
    }
    // A master that is new got its slots from one that is still there, key by key; or it took the place of one that is not.
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
      const HostPort* owner = map_.owner(static_cast<Slot>(slot));
      const HostPort* former = before.owner(static_cast<Slot>(slot));
      if (owner == nullptr || judged_.contains(*owner)) continue;
      const bool is_there = former != nullptr && judged_.contains(*former) && std::find(masters_.begin(), masters_.end(), *former) != masters_.end();
      if (is_there) continue;
      judge_anew_ = Error{ErrorKind::kConnection,
                          "redis at '" + owner->to_string() + "' is a master of the cluster now, in place of '" + (former ? former->to_string() : "nobody") + "'", {}};
      return;
    }
    for (const HostPort& master : masters_) {
      std::string& instance = judged_[master];
      if (const Node& node = need(master); instance.empty() && node.is_connected) instance = node.instance;
    }
    // Whoever serves nothing any more may come back as another.
    std::erase_if(judged_, [&](const auto& one) { return std::find(masters_.begin(), masters_.end(), one.first) == masters_.end(); });
  }

  Node& need(const HostPort& at) {
    auto& node = nodes_[at];
    if (!node) {
      const SlotSet slots = map_.slots_of(at);
      node = make_node(address_of(at), {NodeRole::kShard, "evictd:probe:{" + slot_tag(slots.any() ? copy_slot(slots, std::nullopt) : 0) + "}"});
    }
    return *node;
  }

  // Nodes that serve nothing go; calls that were for them are routed anew.
  void collect() {
    graveyard_.clear();
    std::erase_if(extras_, [&](const auto& extra) { return now_.steady >= extra.second; });
    for (auto node = nodes_.begin(); node != nodes_.end();) {
      if (std::find(masters_.begin(), masters_.end(), node->first) != masters_.end() || extras_.contains(node->first)) {
        ++node;
        continue;
      }
      hold_queue(*node->second);
      witnesses_.erase(node->first);  // what its slots hold is where they are now
      confirming_.erase(node->first);
      node->second->sink->stop();
      node = nodes_.erase(node);
    }
    for (auto& [at, node] : nodes_) {
      if (node->has_failed && !ever_up_) failure_ = *node->error;
      if (!node->has_failed) continue;
      // Told no to: it is tried again, as for one server that was connected before.
      if (node->again_at == SteadyTime::max()) node->again_at = now_.steady + kRefusedPause;
      if (now_.steady < node->again_at) continue;
      graveyard_.push_back(std::move(node));
      node = make_node(address_of(at), {NodeRole::kShard, "evictd:probe:{" + slot_tag(0) + "}"});
    }
  }

  // ------------------------------------------------------------- Nodes

  void connected(Node& node) {
    if (&node == observer_.get()) return;
    retry_due_ = now_.steady;
    if (!is_up_) return;
    const auto judged = judged_.find(node.at);
    if (judged == judged_.end()) return;
    if (judged->second.empty()) judged->second = node.instance;
    if (judged->second == node.instance) return;
    judge_anew_ = Error{ErrorKind::kConnection, "redis at '" + node.at.to_string() + "' came back as another process", {}};
  }

  void disconnected(Node& node) {
    if (&node == observer_.get()) {
      node.queue = CallQueue();
      is_looking_ = false;
      return;
    }
    hold_queue(node);
    is_loading_ = false;
    look_soon();
  }

  void hold_queue(Node& node) {
    for (Call& call : node.queue.take_all()) hold(std::move(call));
  }

  // Nobody waits for it any more. A copy of the record from before all was lost must not be sent again: its master may have lost data
  // since, for which it would vouch (G6).
  bool is_dead(const Call& call) const {
    if (call.order == kSaveCalls) return !saving_.contains(call.tag);
    return call.order >= kFirstOrder && !orders_.contains(call.order);
  }

  void hold(Call call) {
    if (call.order == kLoadCalls) return;  // asked anew
    if (is_dead(call)) return;
    if (call.is_asking) {
      call.is_asking = false;
      call.node.reset();
    }
    held_bytes_ += call.bytes.size();
    held_.push_back(std::move(call));
  }

  std::vector<const Node*> away() const {
    std::vector<const Node*> found;
    for (const HostPort& master : masters_) {
      const auto node = nodes_.find(master);
      if (node != nodes_.end() && !node->second->is_connected) found.push_back(node->second.get());
    }
    return found;
  }

  // ------------------------------------------------------------- Up and down

  void come_up() {
    if (refusal_ || masters_.empty() || map_.unserved().any() || !away().empty()) return;
    load_again();
  }

  void load_again() {
    if (is_loading_ || now_.steady < load_due_) return;
    is_loading_ = true;
    load_due_ = now_.steady + kRetryInterval;
    ask_copies();
  }

  void ask_copies() {
    ++load_;
    copies_.clear();
    std::set<Slot> slots;
    for (std::size_t slot = 0; slot < kSlots; slot += kCopySlotStep) slots.insert(static_cast<Slot>(slot));
    for (const HostPort& master : masters_) {
      copies_[master];
      slots.insert(copy_slot(map_.slots_of(master), find_slot(master)));
      slots.insert(copy_slot(map_.slots_of(master), std::nullopt));
    }
    copies_asked_ = slots.size();
    for (const Slot slot : slots) {
      std::string bytes;
      append_command(bytes, {"GET", copy_key(record_key_, slot)});
      send(Call{kLoadCalls, load_, slot, std::move(bytes), {}, {}});
    }
  }

  std::optional<Slot> find_slot(const HostPort& master) const {
    const auto known = copy_slots_.find(master);
    return known == copy_slots_.end() ? std::nullopt : std::optional(known->second);
  }

  bool take_copy(const Call& call, const Reply& reply) {
    if (call.tag != load_) return true;
    if (reply.kind == Reply::Kind::kText) {
      if (auto copy = copy_from_text(reply.text)) copies_[call.served_by].push_back(std::move(*copy));
    } else if (reply.kind != Reply::Kind::kNil) {
      return false;
    }
    if (--copies_asked_ > 0) return true;
    std::vector<ShardCopies> shards;
    for (const HostPort& master : masters_) shards.push_back({map_.slots_of(master), copies_[master]});
    const JudgedCopies judged = judge_copies(shards, stored_);
    copies_.clear();
    lost_ = judged.lost;
    is_loading_ = false;
    // Another process may have found it, and not come to the end of it.
    if (lost_.any() || (judged.record && judged.record->gaps.contains(kRollbackGap))) {
      shared_.has_orphans = true;
      shared_.were_orphans_hunted = false;
    }
    if (is_up_) {
      if (load_sequence_) handler_->on_record_loaded(*std::exchange(load_sequence_, std::nullopt), judged.record);
      return true;
    }
    go_up(judged.record);
    return true;
  }

  void go_up(const std::optional<Record>& record) {
    if (refusal_) return;
    SinkConnected connected;
    connected.record = record;
    judged_.clear();
    std::set<std::string> instances;
    for (const HostPort& master : masters_) {
      const Node& node = *nodes_.at(master);
      judged_[master] = node.instance;
      instances.insert(node.instance);
      connected.time = std::max(connected.time, node.time);
    }
    for (const std::string& instance : instances) connected.instance += instance + " ";
    is_up_ = ever_up_ = true;
    trouble_.reset();
    handler_->on_sink_connected(connected);
  }

  void go_down(const Error& why) {
    is_up_ = is_loading_ = false;
    save_.reset();
    load_sequence_.reset();
    ++load_;
    std::vector<Ticket> lost;
    for (const auto& [id, order] : orders_) lost.push_back(order->ticket());
    orders_.clear();
    saving_.clear();
    refused_copies_.clear();
    full_.clear();
    forget_questions();
    bulk_orders_ = unpumped_ = 0;
    held_.clear();
    held_bytes_ = 0;
    trouble_ = why;
    handler_->on_sink_disconnected(why, kClassMoved);
    for (const Ticket ticket : lost) handler_->on_lost(ticket);
  }

  void fail(const Error& error) {
    failed_ = true;
    trouble_ = error;
    if (is_up_) go_down(error);
    handler_->on_sink_failed(error);
  }

  // ------------------------------------------------------------- Calls

  void send(Call call) override {
    const HostPort* at = call.node ? &*call.node : map_.owner(call.slot);
    const auto node = at == nullptr ? nodes_.end() : nodes_.find(*at);
    if (node == nodes_.end() || !node->second->is_connected) {
      if (call.order == kLoadCalls) is_loading_ = false;
      return hold(std::move(call));
    }
    call.served_by = node->first;
    node->second->queue.add(std::move(call));
  }
  const SlotMap& slots() const override { return map_; }
  ScatteredTrial& scattered() override { return scattered_; }

  // What waits for a node, or was told to come again. In the order they came.
  void retry_held() {
    if (held_.empty() || now_.steady < retry_due_) return;
    retry_due_ = now_.steady + kRetryInterval;
    std::list<Call> all = std::move(held_);
    held_.clear();
    held_bytes_ = 0;
    for (Call& call : all) {
      if (call.node && std::find(masters_.begin(), masters_.end(), *call.node) == masters_.end()) {
        if (const auto order = orders_.find(call.order); order != orders_.end()) order->second->on_gone(call);
        continue;
      }
      send(std::move(call));
    }
  }

  bool on_call_reply(Call& call, Reply&& reply) override {
    switch (call.order) {
      case kTopologyCalls:
        return take_topology(call, reply);
      case kSaveCalls:
        return take_saved(call, reply);
      case kLoadCalls:
        return take_copy(call, reply);
    }
    const auto order = orders_.find(call.order);
    return order == orders_.end() || order->second->on_reply(call, std::move(reply), now_.steady);
  }

  bool on_call_error(Call& call, std::string_view text, std::string& about) override {
    if (call.order != kTopologyCalls && call.commands == 1) {
      if (auto redirect = read_redirect(text)) {
        follow(std::move(call), std::move(*redirect));
        return true;
      }
    }
    if (call.order == kTopologyCalls) return false;
    if (call.order == kLoadCalls) {
      if (!text.starts_with("WRONGTYPE")) return false;
      return take_copy(call, Reply{});
    }
    if (call.order == kSaveCalls) {
      about = "it was about evictd's record";
      const auto copy = saving_.find(call.tag);
      if (copy == saving_.end()) return true;
      const Way way = copy->second.first;
      if (way == Way::kScript || (way == Way::kSet && classify_redis_error(text).name != "oom")) return false;
      Copy again = std::move(copy->second.second);
      saving_.erase(copy);
      if (way == Way::kSet) {
        --save_->under_way;
        send_copy(std::move(again), Way::kScriptIfFull);
      } else {  // scripts may be forbidden: there has to be room first. It stays under way
        full_ = call.served_by.to_string();
        if (refused_copies_.empty()) refused_copies_due_ = now_.steady + kRecordRetry;
        refused_copies_.push_back(std::move(again));
      }
      return true;
    }
    const auto order = orders_.find(call.order);
    return order == orders_.end() || order->second->on_error(call, text, about);
  }

  void follow(Call call, Redirect redirect) {
    if (is_dead(call)) return;
    if (redirect.to.host.empty()) redirect.to.host = call.served_by.host;
    if (call.is_asking) {
      call.is_asking = false;
      call.node.reset();
    }
    look_soon();
    switch (redirect.kind) {
      case Redirect::Kind::kMoved:
        // A node that we do not know yet is for the topology to tell: it may have taken another's place.
        if (is_up_ && judged_.contains(redirect.to) && !(map_.owner(redirect.slot) && *map_.owner(redirect.slot) == redirect.to)) {
          map_.moved(redirect.slot, redirect.to);
          masters_ = map_.masters();
          return send(std::move(call));
        }
        break;
      case Redirect::Kind::kAsk:
        need(redirect.to);
        extras_[redirect.to] = now_.steady + kExtraKept;
        if (const auto node = nodes_.find(redirect.to); node->second->is_connected) {
          call.is_asking = true;
          call.node = redirect.to;
          return send(std::move(call));
        }
        break;
      case Redirect::Kind::kTryAgain:
      case Redirect::Kind::kDown:
        break;
    }
    if (call.order == kLoadCalls) is_loading_ = false;
    if (held_.empty()) retry_due_ = now_.steady + kRetryInterval;
    if (!call.redirected_at) call.redirected_at = now_.steady;
    if (now_.steady - *call.redirected_at >= kRedirectedMax) tell_of_slot(call, now_.steady);
    hold(std::move(call));
  }

  // Asked for again and again, it does not come to its end.
  void tell_of_slot(const Call& call, SteadyTime now) {
    const bool is_told = now < stuck_until_;
    stuck_until_ = now + kRedirectedShown;
    if (is_told) return;
    stuck_ = Error{ErrorKind::kConnection,
                   "slot " + std::to_string(call.slot) + " of the cluster is on the move, says redis at '" + call.served_by.to_string() +
                       "', and what is asked about it has waited for more than " + std::to_string(kRedirectedMax.count()) + " s; nothing is acknowledged until that is done",
                   "a move that somebody has begun and left open: redis-cli --cluster fix"};
    handler_->on_sink_trouble(stuck_, kClassMoved);
  }

  // ------------------------------------------------------------- Orders

  void pump_orders() {
    unpumped_ = 0;
    for (auto& [id, order] : orders_) order->pump(now_.steady);
  }

  void finish_orders() {
    if (shared_.tombstones_refused != refused_seen_) {
      constexpr std::chrono::seconds kFullShown{30};
      refused_seen_ = shared_.tombstones_refused;
      refused_until_ = now_.steady + kFullShown;
    }
    std::vector<std::unique_ptr<ClusterOrder>> finished;
    for (auto order = orders_.begin(); order != orders_.end();) {
      if (!order->second->is_finished()) {
        ++order;
        continue;
      }
      if (order->second->is_bulk()) --bulk_orders_;
      finished.push_back(std::move(order->second));
      order = orders_.erase(order);
    }
    const std::optional<std::uint64_t> saved = std::exchange(saved_, std::nullopt);
    for (const auto& order : finished) handler_->on_done(order->ticket(), order->outcome());
    if (!saved) return;
    handler_->on_record_saved(*saved);
    unconfirmed_ = *saved;
    if (options_.replicas_ack == 0) confirm(*saved);
  }

  // ------------------------------------------------------------- Replicas

  // Everything that was answered up to the record `sequence` is where it has to be.
  void confirm(std::uint64_t sequence) {
    confirming_sequence_.reset();
    if (unconfirmed_ == sequence) unconfirmed_.reset();
    stored_ = StoredRecord{writer_, sequence};
    handler_->on_record_confirmed(sequence);
  }

  // Each node that may have been written to since: the masters, and those that ASK named.
  void ask_replicas() {
    if (options_.replicas_ack == 0) return;
    if (unconfirmed_ && !confirming_sequence_) {
      confirming_sequence_ = unconfirmed_;
      for (const auto& [at, node] : nodes_) {
        if (node->instance.empty()) continue;  // never met
        std::unique_ptr<Witness>& witness = witnesses_[at];
        if (!witness) {
          const SlotSet slots = map_.slots_of(at);
          const Slot slot = slots.any() ? copy_slot(slots, find_slot(at)) : Slot{0};
          witness = std::make_unique<Witness>(options_, address_of(at), NodeRole::kShard, slot_tag(slot), shared_.context);
        }
        witness->ask(node->instance, *confirming_sequence_, now_);
        confirming_.insert(at);
      }
    }
    std::optional<Error> missing;
    std::size_t others = 0;
    for (const auto& [at, witness] : witnesses_) {
      witness->step(now_);
      if (const auto sequence = witness->take_confirmed(); sequence && sequence == confirming_sequence_) confirming_.erase(at);
      if (auto problem = witness->problem()) {
        if (missing) ++others;
        if (!missing) missing = std::move(problem);
      }
    }
    if (confirming_sequence_ && confirming_.empty()) confirm(*confirming_sequence_);
    if (others > 0) missing->text += " (and " + std::to_string(others) + " more of the cluster's masters)";
    const bool is_told = missing.has_value() == replicas_missing_.has_value() && (!missing || missing->text == replicas_missing_->text);
    replicas_missing_ = std::move(missing);
    if (!is_told) handler_->on_replicas_missing(replicas_missing_);
  }

  void forget_questions() {
    witnesses_.clear();
    confirming_.clear();
    confirming_sequence_.reset();
    unconfirmed_.reset();
    saved_.reset();
    replicas_missing_.reset();
  }

  // ------------------------------------------------------------- The record

  void send_copy(Copy copy, Way way) {
    std::string bytes;
    std::optional<Script> which;
    switch (way) {
      case Way::kScript:
        append_command(bytes, {"EVALSHA", script(Script::kSaveRecord).sha1, "1", copy.key, copy.text});
        which = Script::kSaveRecord;
        break;
      case Way::kSet:
        append_command(bytes, {"SET", copy.key, copy.text});
        break;
      case Way::kScriptIfFull:
        append_command(bytes, {"EVAL", script(Script::kSaveRecord).text, "1", copy.key, copy.text});
        break;
    }
    ++save_->under_way;
    const std::uint64_t tag = ++next_copy_;
    const Slot slot = copy.slot;
    saving_.emplace(tag, std::pair(way, std::move(copy)));
    send(Call{kSaveCalls, tag, slot, std::move(bytes), which, {}});
  }

  void send_refused_copies() {
    if (refused_copies_.empty() || now_.steady < refused_copies_due_) return;
    for (Copy& copy : std::exchange(refused_copies_, {})) {
      --save_->under_way;
      send_copy(std::move(copy), Way::kSet);
    }
  }

  bool take_saved(const Call& call, const Reply& reply) {
    const auto copy = saving_.find(call.tag);
    if (copy == saving_.end()) return true;
    const bool is_stored = copy->second.first == Way::kSet
                               ? reply.is_ok()
                               : reply.kind == Reply::Kind::kInteger && reply.integer == static_cast<std::int64_t>(copy->second.second.text.size());
    if (!is_stored) return false;
    saving_.erase(copy);
    if (!save_ || --save_->under_way > 0) return true;
    full_.clear();
    writer_ = save_->writer;
    saved_ = save_->sequence;
    save_.reset();
    return true;
  }

  // ------------------------------------------------------------- What people read

  void tell_trouble() {
    std::optional<Error> now;
    std::string now_class(kClassConnection);
    if (refusal_ && !is_up_) {
      now = refusal_;
      now_class = kClassCluster;
    } else if (topology_error_ && !masters_.empty() && map_.unserved().any()) {
      now = topology_error_;  // it is why its masters refuse us, too
    } else if (const auto gone = away(); !gone.empty()) {
      const Node& first = *gone.front();
      std::string text = "the cluster's master at '" + first.at.to_string() + "' is not connected";
      if (gone.size() > 1) text += ", and " + std::to_string(gone.size() - 1) + " more";
      if (first.error) {
        text += ": " + first.error->text;
        if (!first.error_class.empty()) now_class = first.error_class;
        now = Error{ErrorKind::kConnection, text, first.error->hint};
      } else if (is_up_ || ever_up_) {
        now = Error{ErrorKind::kConnection, text, {}};
      }
    } else if (topology_error_ && !is_up_) {
      now = topology_error_;
    } else if (topology_error_ && observers_failed_ >= observed().size() && now_.steady - observed_at_ >= kUnobservedMax) {
      // Each of them may say something else: told once.
      constexpr std::string_view kTold = "nobody tells";
      trouble_ = Error{ErrorKind::kConnection,
                       "no node tells any more who serves which slots of the cluster: " + topology_error_->text + "; deletes go where they went, and wait where that is no more",
                       topology_error_->hint};
      if (std::exchange(told_, std::string(kTold)) != kTold) handler_->on_sink_trouble(*trouble_, topology_class_);
      return;
    }
    if (!now) {
      if (is_up_) {
        trouble_.reset();
        told_.clear();
      }
      return;
    }
    const bool is_told = trouble_ && trouble_->text == now->text;
    trouble_ = now;
    if (is_told || told_ == now->text) return;
    told_ = now->text;
    if (is_up_) {
      handler_->on_sink_trouble(*now, now_class);
    } else {
      handler_->on_sink_disconnected(*now, now_class);
    }
  }

  std::string state_text() const {
    if (failed_) return "failed";
    if (is_stopped_) return "stopped";
    const std::size_t masters = masters_.size();
    if (masters == 0) return "asking for the cluster's topology";
    const std::size_t missing = away().size();
    std::string text = "cluster of " + std::to_string(masters) + (masters == 1 ? " master" : " masters");
    if (refusal_ && !is_up_) {
      text += ", which cannot serve the rules";
    } else if (missing > 0) {
      text += ", " + std::to_string(missing) + " not connected";
    } else if (!is_up_) {
      text += map_.unserved().any() ? ", not all slots served" : ", reading the record";
    } else {
      text = "ready (" + text + ")";
    }
    if (!held_.empty()) text += ", " + std::to_string(held_.size()) + " calls wait";
    return text;
  }

  RedisOptions options_;
  const std::vector<RedisAddress> seeds_;
  WorkShared shared_;
  const std::string record_key_;
  Now now_{};
  SinkHandler* handler_ = nullptr;  // inside step()

  bool started_ = false;
  bool is_stopped_ = false;
  bool failed_ = false;
  bool is_up_ = false;     // connected, as the flow sees it
  bool ever_up_ = false;
  std::optional<Error> failure_;
  std::optional<Error> refusal_;  // of the rules in use
  std::optional<Error> trouble_;
  std::string told_;

  SlotMap map_;
  std::vector<HostPort> masters_;  // of map_
  std::uint64_t epoch_ = 0;
  std::optional<ClusterState> state_;
  std::size_t doubtful_ = 0;  // answers in a row
  std::optional<Error> topology_error_;
  std::string topology_class_;
  SteadyTime observed_at_{};  // when a node last told of it
  std::unique_ptr<Node> observer_;
  std::size_t observer_index_ = 0;
  std::size_t observers_failed_ = 0;  // in a row
  SteadyTime observed_since_{};
  SteadyTime next_observer_ = SteadyTime::min();
  bool is_looking_ = false;
  SteadyTime looked_at_ = SteadyTime::min();
  SteadyTime look_due_ = SteadyTime::min();
  std::chrono::milliseconds look_pause_ = kLookFirst;

  std::map<HostPort, std::unique_ptr<Node>, NodeLess> nodes_;
  std::map<HostPort, SteadyTime, NodeLess> extras_;  // kept until then without slots
  std::vector<std::unique_ptr<Node>> graveyard_;     // until the next step
  // Masters whose data is known to be what the record says, with their processes; empty: not met yet.
  std::map<HostPort, std::string, NodeLess> judged_;
  std::optional<Error> judge_anew_;

  std::map<std::uint64_t, std::unique_ptr<ClusterOrder>> orders_;
  std::uint64_t next_order_ = kFirstOrder;
  std::size_t bulk_orders_ = 0;
  std::size_t unpumped_ = 0;
  ScatteredTrial scattered_;
  std::list<Call> held_;
  std::size_t held_bytes_ = 0;
  Error stuck_;                 // of a slot, until then
  SteadyTime stuck_until_{};
  SteadyTime retry_due_ = SteadyTime::min();
  SteadyTime refused_until_{};
  std::uint64_t refused_seen_ = 0;

  std::optional<Save> save_;
  std::map<std::uint64_t, std::pair<Way, Copy>> saving_;  // by tag
  std::uint64_t next_copy_ = 0;
  std::vector<Copy> refused_copies_;  // under way, and neither SET nor a script could store them
  SteadyTime refused_copies_due_{};
  std::string full_;                  // who refused one, until all are stored
  std::optional<std::uint64_t> saved_;
  std::string writer_;                   // of what is stored
  std::optional<StoredRecord> stored_;   // and confirmed
  std::optional<std::uint64_t> unconfirmed_;  // the last record that is stored, until then
  std::map<HostPort, std::unique_ptr<Witness>, NodeLess> witnesses_;
  std::optional<std::uint64_t> confirming_sequence_;  // what they are asked about
  std::set<HostPort, NodeLess> confirming_;           // who has not answered yet
  std::optional<Error> replicas_missing_;             // as it was told
  std::map<HostPort, Slot, NodeLess> copy_slots_;
  bool is_loading_ = false;  // asked, and not all answered
  SteadyTime load_due_ = SteadyTime::min();
  std::uint64_t load_ = 0;
  std::size_t copies_asked_ = 0;
  std::map<HostPort, std::vector<RecordCopy>, NodeLess> copies_;
  std::optional<std::uint64_t> load_sequence_;
  SlotSet lost_;
};

}  // namespace

std::unique_ptr<Sink> make_cluster_sink(RedisOptions options, std::vector<RedisAddress> seeds) {
  return std::make_unique<ClusterSink>(std::move(options), std::move(seeds));
}

}  // namespace evictd
