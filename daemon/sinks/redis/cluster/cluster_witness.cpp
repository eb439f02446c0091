#include "daemon/sinks/redis/cluster/cluster_witness.h"

#include <utility>

#include "daemon/sinks/redis/cluster/cluster_node.h"

namespace evictd {

void ClusterWitness::stored(const StoredRecord& record, SinkHandler& handler) {
  waiting_ = record;
  if (options_.replicas_ack == 0) confirm(record, handler);
}

void ClusterWitness::confirm(StoredRecord record, SinkHandler& handler) {
  asked_.reset();
  if (waiting_ && waiting_->sequence == record.sequence) waiting_.reset();
  confirmed_ = std::move(record);
  handler.on_record_confirmed(confirmed_->sequence);
}

void ClusterWitness::ask(const std::vector<Written>& nodes, const SinkContext& context, Now now) {
  asked_ = waiting_;
  for (const Written& node : nodes) {
    ask_one(node, context, now);
    unanswered_.insert(node.at);
  }
}

void ClusterWitness::ask_one(const Written& node, const SinkContext& context, Now now) {
  One& one = witnesses_[node.at];
  if (!one.witness || one.slot != node.slot) {
    one = {std::make_unique<Witness>(options_, address_of(like_, node.at), NodeRole::kShard, slot_tag(node.slot), context), node.slot};
  }
  one.witness->ask(node.instance, asked_->sequence, now);
}

std::vector<HostPort> ClusterWitness::misplaced() const {
  std::vector<HostPort> found;
  for (const HostPort& at : unanswered_) {
    if (witnesses_.at(at).witness->is_misplaced()) found.push_back(at);
  }
  return found;
}

void ClusterWitness::ask_elsewhere(const Written& node, const SinkContext& context, Now now) {
  if (witnesses_.at(node.at).slot != node.slot) ask_one(node, context, now);
}

void ClusterWitness::step(Now now, SinkHandler& handler) {
  if (options_.replicas_ack == 0) return;
  std::optional<Error> missing;
  std::size_t others = 0;
  for (const auto& [at, one] : witnesses_) {
    Witness* const witness = one.witness.get();
    witness->step(now);
    if (const auto sequence = witness->take_confirmed(); sequence && asked_ && *sequence == asked_->sequence) unanswered_.erase(at);
    if (auto problem = witness->problem()) {
      if (missing) ++others;
      if (!missing) missing = std::move(problem);
    }
  }
  if (asked_ && unanswered_.empty()) confirm(*asked_, handler);
  if (others > 0) missing->text += " (and " + std::to_string(others) + " more of the cluster's masters)";
  const bool is_told = missing.has_value() == missing_.has_value() && (!missing || missing->text == missing_->text);
  missing_ = std::move(missing);
  if (!is_told) handler.on_replicas_missing(missing_);
}

void ClusterWitness::wait_for(Waiting& waiting) {
  for (const auto& [at, one] : witnesses_) one.witness->wait_for(waiting);
}

void ClusterWitness::gone(const HostPort& at) {
  witnesses_.erase(at);
  unanswered_.erase(at);
}

void ClusterWitness::forget() {
  witnesses_.clear();
  unanswered_.clear();
  asked_.reset();
  waiting_.reset();
  missing_.reset();
}

}  // namespace evictd
