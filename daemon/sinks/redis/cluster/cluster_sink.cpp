#include "daemon/sinks/redis/cluster/cluster_sink.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "daemon/sinks/redis/cluster/cluster_nodes.h"
#include "daemon/sinks/redis/cluster/cluster_observer.h"
#include "daemon/sinks/redis/cluster/cluster_orders.h"
#include "daemon/sinks/redis/cluster/cluster_witness.h"
#include "daemon/sinks/redis/cluster/copy_reader.h"
#include "daemon/sinks/redis/cluster/copy_writer.h"
#include "daemon/sinks/redis/cluster/order_book.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/topology/judged_masters.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kRetryInterval{50};   // of calls that were told to come again
constexpr std::chrono::seconds kRedirectedMax{5};         // until it is told that a call comes to no end
constexpr std::chrono::seconds kRedirectedShown{1};       // after it was told so last
constexpr std::chrono::seconds kFullShown{30};            // after a tombstone was refused last
// Limits (G8).
constexpr std::size_t kOrdersMax = 1024;
constexpr std::size_t kHeldBytesMax = 8 * 1024 * 1024;  // of calls that wait for a node that is away
constexpr std::size_t kBusyKeysMax = 8192;              // that calls to nodes which are there are about

class ClusterSink final : public Sink, private ClusterNodeOwner, private ClusterRoutes {
 public:
  ClusterSink(RedisOptions options, std::vector<RedisAddress> seeds)
      : options_(std::move(options)),
        shared_{.context = {},
                .since = "0",
                .lifetime = std::to_string((options_.tombstone_ttl + options_.tombstone_margin).count()),
                .page_keys = options_.page_keys,
                .may_touch = options_.may_touch,
                .pacer = WalkPacer(options_.walk_share, options_.walks_max)},
        record_key_(evictd::record_key(options_.record_name, options_.record_of)),
        observer_(options_, seeds, shared_, topology_),
        nodes_(*this, shared_, topology_, options_, seeds.front()),
        writer_(*this, record_key_),
        reader_(*this, record_key_),
        witness_(options_, seeds.front()) {}

  void start(Now now) override {
    started_ = true;
    now_ = now;
    observer_.start(now);
  }

  void step(Now now, SinkHandler& handler) override {
    if (!started_ || failed_) return;
    now_ = now;
    handler_ = &handler;
    observer_.step(now_, is_up_ && held_.empty() && nodes_.away().empty());
    if (auto refusal = observer_.take_refusal(); refusal && !ever_up_) failure_ = std::move(refusal);
    if (const auto former = topology_.take_former()) follow_topology(*former);
    for (const auto& [at, node] : nodes_) node->step(now);
    collect();
    if (failure_) return fail(*std::exchange(failure_, std::nullopt));
    if (judge_anew_ && is_up_) go_down(*judge_anew_);
    judge_anew_.reset();
    if (!is_up_) come_up();
    if (is_up_) {
      if (reader_.is_wanted() && nodes_.away().empty()) read_copies();
      retry_held();
      writer_.retry(now_.steady);
      orders_.pump(now_.steady);
      finish_orders();
    }
    if (is_up_) ask_replicas();
    tell_trouble();
    for (const auto& [at, node] : nodes_) node->sink->send_now();
    observer_.send_now();
    handler_ = nullptr;
  }

  void wait_for(Waiting& waiting) override {
    if (!started_ || failed_) return;
    orders_.pump(now_.steady);  // submitted in this turn of the loop
    for (const auto& [at, node] : nodes_) {
      node->sink->send_now();
      node->sink->wait_for(waiting);
      waiting.wake_at(node->again_at);
    }
    observer_.send_now();
    observer_.wait_for(waiting);
    if (is_up_ && !held_.empty()) waiting.wake_at(held_.due());
    waiting.wake_at(writer_.wake_at());
    if ((is_up_ ? reader_.is_wanted() : !refusal_) && nodes_.away().empty() && topology_.map().unserved().none()) waiting.wake_at(reader_.wake_at());
    orders_.wait_for(waiting);
    witness_.wait_for(waiting);
  }

  void set_context(const SinkContext& context) override {
    shared_.context = context;
    shared_.since = std::to_string(context.trust_since.count());
    constexpr std::size_t kSnapshotRunningMax = 64;
    if (context.snapshot && context.snapshot->in_progress().size() <= kSnapshotRunningMax) {
      shared_.since += ' ';
      shared_.since += context.snapshot->to_string();
    }
    for (const auto& [at, node] : nodes_) node->tell_context();
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
    if (urgency == Urgency::kBulk) return orders_.bulk() < options_.bulk_max;
    if (orders_.size() >= kOrdersMax || held_.bytes() >= kHeldBytesMax) return false;
    std::size_t busy = 0;
    for (const auto& [at, node] : nodes_) {
      if (node->is_connected) busy += node->queue.keys;
    }
    return busy < kBusyKeysMax && orders_.unpumped() < options_.commands_max;
  }

  void submit(Ticket ticket, const Order& order) override {
    EVICTD_CHECK(has_room(order.urgency()));
    const std::uint64_t number = orders_.next_number();
    orders_.add(number, make_cluster_order(ticket, number, order, shared_, *this, record_key_));
  }

  void save_record(const Record& record) override {
    EVICTD_CHECK(is_up_);
    if (shared_.were_orphans_hunted && !record.gaps.contains(kRollbackGap)) shared_.has_orphans = shared_.were_orphans_hunted = false;
    const auto written = std::chrono::duration_cast<std::chrono::milliseconds>(now_.system.time_since_epoch());
    writer_.save(record, written,
                 {.may_use_scripts = !shared_.context.is_deletes_only,
                  .is_ours_alone = shared_.context.is_record_ours_alone,
                  .is_shared = shared_.context.is_record_shared});
  }

  void load_record(std::uint64_t sequence) override {
    EVICTD_CHECK(is_up_);
    reader_.want(sequence, now_.steady);
    read_copies();
  }

  std::vector<std::string> lost_parts() const override {
    std::vector<std::string> parts;
    if (reader_.lost().any()) parts.push_back(ranges_text(reader_.lost()));
    return parts;
  }

  void stop() override {
    nodes_.stop();
    observer_.stop();
    writer_.forget();
    witness_.forget();
    orders_.take_all();
    held_.take_all();
    is_up_ = started_ = false;
    is_stopped_ = true;
  }

  bool is_losing_keys() const override {
    return std::any_of(nodes_.begin(), nodes_.end(), [](const auto& one) { return one.second->sink->is_losing_keys(); });
  }

  SinkStatus status() const override {
    SinkStatus status;
    status.connected = is_up_ && nodes_.away().empty() && topology_.map().unserved().none();
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
      } else if (const std::string& full = writer_.full(); !full.empty()) {
        status.problem = "redis at '" + full + "' is full: evictd's record is refused, deletes work; until it is stored, the database keeps what is not acknowledged";
      }
    } else if (trouble_) {
      status.problem = trouble_->text;
    }
    if (status.connected && now_.steady < stuck_until_) status.held_up = stuck_.text;
    if (witness_.missing()) status.held_up = witness_.missing()->text;
    if (status.held_up && !status.problem) status.problem = status.held_up;
    return status;
  }

 private:
  // ------------------------------------------------------------- Topology and nodes

  // Another map holds than `former`.
  void follow_topology(const SlotMap& former) {
    held_.due_at(now_.steady);
    for (const HostPort& master : topology_.masters()) nodes_.need(master, now_);
    reader_.begin_anew(now_.steady);
    if (!is_up_) return;
    auto why = judged_.changed(former, topology_.map(), [&](const HostPort& at) {
      const ClusterNode* node = nodes_.find(at);
      return node->is_connected ? node->instance : std::string();
    });
    if (why) judge_anew_ = std::move(why);
  }

  // Nodes that serve nothing go; calls that were for them are routed anew.
  void collect() {
    for (const auto& node : nodes_.take_needless(now_)) {
      hold_queue(*node);
      witness_.gone(node->at);
      node->sink->stop();
    }
    for (const auto& [at, node] : nodes_) {
      if (node->has_failed && !ever_up_) failure_ = *node->error;
    }
    nodes_.renew_refused(now_);
  }

  void on_node_connected(ClusterNode& node) override {
    held_.due_at(now_.steady);
    if (!is_up_) return;
    if (auto why = judged_.connected(node.at, node.instance)) judge_anew_ = std::move(why);
  }

  void on_node_lost(ClusterNode& node) override {
    hold_queue(node);
    reader_.give_up_round();
    topology_.look_soon(now_.steady);
  }

  void on_node_refused(ClusterNode&, const Error& why) override {
    if (is_up_) handler_->on_sink_refused(why);
  }

  // ------------------------------------------------------------- Up and down

  void come_up() {
    if (refusal_ || topology_.masters().empty() || topology_.map().unserved().any() || !nodes_.away().empty()) return;
    read_copies();
  }

  void read_copies() {
    if (reader_.is_due(now_.steady)) reader_.ask(writer_.slots(), now_.steady);
  }

  // The copies of the record, all of them.
  void judged(const JudgedCopies& copies) {
    for (const CopyReader::Proof& proof : reader_.proofs()) writer_.found(proof.master, proof.slot, proof.sequence);
    // Another process may have found it, and not come to the end of it.
    if (copies.lost.any() || (copies.record && copies.record->gaps.contains(kRollbackGap))) {
      shared_.has_orphans = true;
      shared_.were_orphans_hunted = false;
    }
    if (!is_up_) {
      go_up(copies.record);
    } else if (const auto sequence = reader_.take_wanted()) {
      handler_->on_record_loaded(*sequence, copies.record);
    }
  }

  void go_up(const std::optional<Record>& record) {
    if (refusal_) return;
    SinkConnected connected;
    connected.record = record;
    std::set<std::string> instances;
    judged_.judged(topology_.map(), [&](const HostPort& master) {
      const ClusterNode& node = *nodes_.find(master);
      instances.insert(node.instance);
      connected.time = std::max(connected.time, node.time);
      return node.instance;
    });
    for (const std::string& instance : instances) connected.instance += instance + " ";
    is_up_ = ever_up_ = true;
    trouble_.reset();
    handler_->on_sink_connected(connected);
  }

  void go_down(const Error& why) {
    is_up_ = false;
    const std::vector<Ticket> lost = orders_.take_all();
    writer_.forget();
    reader_.forget();
    witness_.forget();
    held_.take_all();
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
    const HostPort* at = call.node ? &*call.node : slots().owner(call.slot);
    ClusterNode* node = at == nullptr ? nullptr : nodes_.find(*at);
    if (node == nullptr || !node->is_connected) {
      if (call.order == kLoadCalls) reader_.give_up_round();
      return hold(std::move(call));
    }
    call.served_by = node->at;
    node->queue.add(std::move(call));
  }
  const SlotMap& slots() const override { return topology_.map(); }
  ScatteredTrial& scattered() override { return scattered_; }

  // Nobody waits for it any more.
  bool is_dead(const Call& call) const {
    if (call.order == kSaveCalls) return !writer_.awaits(call);
    return call.order >= kFirstOrder && orders_.find(call.order) == nullptr;
  }

  void hold(Call call) {
    if (call.order == kLoadCalls) return;  // asked anew
    if (is_dead(call)) return;
    if (call.is_asking) {
      call.is_asking = false;
      call.node.reset();
    }
    held_.add(std::move(call));
  }

  void hold_queue(ClusterNode& node) {
    for (Call& call : node.queue.take_all()) hold(std::move(call));
  }

  // What waits for a node, or was told to come again.
  void retry_held() {
    if (held_.empty() || now_.steady < held_.due()) return;
    held_.due_at(now_.steady + kRetryInterval);
    const std::vector<HostPort>& masters = topology_.masters();
    for (Call& call : held_.take_all()) {
      if (call.node && std::find(masters.begin(), masters.end(), *call.node) == masters.end()) {
        if (ClusterOrder* order = orders_.find(call.order)) order->on_gone(call);
        continue;
      }
      send(std::move(call));
    }
  }

  bool on_call_reply(Call& call, Reply&& reply) override {
    switch (call.order) {
      case kSaveCalls:
        return writer_.on_reply(call, reply);
      case kLoadCalls:
        return copy_taken(reader_.on_reply(call, reply, witness_.confirmed()));
    }
    ClusterOrder* order = orders_.find(call.order);
    return order == nullptr || order->on_reply(call, std::move(reply), now_.steady);
  }

  bool on_call_error(Call& call, std::string_view text, std::string& about) override {
    if (call.commands == 1) {
      if (auto redirect = read_redirect(text)) {
        follow(std::move(call), std::move(*redirect));
        return true;
      }
    }
    switch (call.order) {
      case kSaveCalls:
        return writer_.on_error(call, text, about, now_.steady);
      case kLoadCalls:
        return copy_taken(reader_.on_error(call, text, witness_.confirmed()));
    }
    ClusterOrder* order = orders_.find(call.order);
    return order == nullptr || order->on_error(call, text, about);
  }

  bool copy_taken(bool is_taken) {
    if (const auto copies = reader_.take_judged()) judged(*copies);
    return is_taken;
  }

  void follow(Call call, Redirect redirect) {
    if (is_dead(call)) return;
    const std::optional<HostPort> to = slots().located(redirect.to, call.served_by);
    if (call.is_asking) {
      call.is_asking = false;
      call.node.reset();
    }
    topology_.look_soon(now_.steady);
    switch (redirect.kind) {
      case Redirect::Kind::kMoved:
        // A node that we do not know yet is for the topology to tell: it may have taken another's place.
        if (const HostPort* owner = slots().owner(redirect.slot); to && is_up_ && judged_.contains(*to) && !(owner && *owner == *to)) {
          topology_.moved(redirect.slot, *to);
          return send(std::move(call));
        }
        break;
      case Redirect::Kind::kAsk:
        if (to && nodes_.need_for_a_while(*to, now_).is_connected) {
          call.is_asking = true;
          call.node = *to;
          return send(std::move(call));
        }
        break;
      case Redirect::Kind::kTryAgain:
      case Redirect::Kind::kDown:
        break;
    }
    if (call.order == kLoadCalls) reader_.give_up_round();
    if (held_.empty()) held_.due_at(now_.steady + kRetryInterval);
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

  // ------------------------------------------------------------- Orders and the record

  void finish_orders() {
    if (shared_.tombstones_refused != refused_seen_) {
      refused_seen_ = shared_.tombstones_refused;
      refused_until_ = now_.steady + kFullShown;
    }
    const auto finished = orders_.take_finished();
    if (const auto lost = writer_.take_lost()) {
      judge_anew_ = Error{ErrorKind::kConnection,
                          "the data of redis at '" + lost->to_string() + "' was flushed: the record in it is not the one that was written last",
                          "or another evictd, with the same name, writes it: 'evictd check' tells"};
    }
    const auto stored = writer_.take_stored();
    for (const auto& order : finished) handler_->on_done(order->ticket(), order->outcome());
    if (!stored) return;
    handler_->on_record_saved(stored->sequence);
    witness_.stored(*stored, *handler_);
  }

  void ask_replicas() {
    if (witness_.has_question()) {
      std::vector<ClusterWitness::Written> written;
      for (const auto& [at, node] : nodes_) {
        if (node->instance.empty() || slots().slots_of(at).none()) continue;  // never met, or nobody's master
        written.push_back({at, node->instance, writer_.slot_of(at)});
      }
      witness_.ask(written, shared_.context, now_);
    }
    for (const HostPort& at : witness_.misplaced()) {
      if (slots().slots_of(at).none()) {
        witness_.gone(at);
      } else {
        witness_.ask_elsewhere({at, nodes_.find(at)->instance, writer_.slot_of(at)}, shared_.context, now_);
      }
    }
    witness_.step(now_, *handler_);
  }

  // ------------------------------------------------------------- What people read

  void tell_trouble() {
    std::optional<Error> now;
    std::string now_class(kClassConnection);
    if (refusal_ && !is_up_) {
      now = refusal_;
      now_class = kClassCluster;
    } else if (topology_.error() && topology_.map().unserved().any() && (is_up_ || !topology_.masters().empty())) {
      now = topology_.error();  // it is why its masters refuse us, too
    } else if (const auto gone = nodes_.away(); !gone.empty()) {
      const ClusterNode& first = *gone.front();
      std::string text = "the cluster's master at '" + first.at.to_string() + "' is not connected";
      if (gone.size() > 1) text += ", and " + std::to_string(gone.size() - 1) + " more";
      if (first.error) {
        text += ": " + first.error->text;
        if (!first.error_class.empty()) now_class = first.error_class;
        now = Error{ErrorKind::kConnection, text, first.error->hint};
      } else if (is_up_ || ever_up_) {
        now = Error{ErrorKind::kConnection, text, {}};
      }
    } else if (topology_.error() && !is_up_) {
      now = topology_.error();
    } else if (topology_.error() && topology_.is_unobserved(observer_.askable(), now_.steady)) {
      // Each of them may say something else: told once.
      constexpr std::string_view kTold = "nobody tells";
      trouble_ = Error{ErrorKind::kConnection,
                       "no node tells any more who serves which slots of the cluster: " + topology_.error()->text + "; deletes go where they went, and wait where that is no more",
                       topology_.error()->hint};
      if (std::exchange(told_, std::string(kTold)) != kTold) handler_->on_sink_trouble(*trouble_, topology_.error_class());
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
    const std::size_t masters = topology_.masters().size();
    if (masters == 0) return "asking for the cluster's topology";
    const std::size_t missing = nodes_.away().size();
    std::string text = "cluster of " + std::to_string(masters) + (masters == 1 ? " master" : " masters");
    if (refusal_ && !is_up_) {
      text += ", which cannot serve the rules";
    } else if (missing > 0) {
      text += ", " + std::to_string(missing) + " not connected";
    } else if (!is_up_) {
      text += topology_.map().unserved().any() ? ", not all slots served" : ", reading the record";
    } else {
      text = "ready (" + text + ")";
    }
    if (!held_.empty()) text += ", " + std::to_string(held_.size()) + " calls wait";
    return text;
  }

  const RedisOptions options_;
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

  TopologyWatch topology_;
  ClusterObserver observer_;
  ClusterNodes nodes_;
  JudgedMasters judged_;
  std::optional<Error> judge_anew_;

  OrderBook orders_;
  ScatteredTrial scattered_;
  HeldCalls held_;
  Error stuck_;                 // of a slot, until then
  SteadyTime stuck_until_{};
  SteadyTime refused_until_{};
  std::uint64_t refused_seen_ = 0;

  CopyWriter writer_;
  CopyReader reader_;
  ClusterWitness witness_;
};

}  // namespace

std::unique_ptr<Sink> make_cluster_sink(RedisOptions options, std::vector<RedisAddress> seeds) {
  return std::make_unique<ClusterSink>(std::move(options), std::move(seeds));
}

}  // namespace evictd
