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
    std::unique_ptr<Witness>& witness = witnesses_[node.at];
    if (!witness) witness = std::make_unique<Witness>(options_, address_of(like_, node.at), NodeRole::kShard, slot_tag(node.slot), context);
    witness->ask(node.instance, asked_->sequence, now);
    unanswered_.insert(node.at);
  }
}

void ClusterWitness::step(Now now, SinkHandler& handler) {
  if (options_.replicas_ack == 0) return;
  std::optional<Error> missing;
  std::size_t others = 0;
  for (const auto& [at, witness] : witnesses_) {
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
  for (const auto& [at, witness] : witnesses_) witness->wait_for(waiting);
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
