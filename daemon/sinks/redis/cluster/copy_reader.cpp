#include "daemon/sinks/redis/cluster/copy_reader.h"

#include <chrono>
#include <set>
#include <utility>

#include "daemon/sinks/redis/resp.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kRoundPause{50};

}  // namespace

void CopyReader::want(std::uint64_t sequence, SteadyTime now) {
  wanted_ = sequence;
  begin_anew(now);
}

// Answers that are still on their way were asked of who served what then.
void CopyReader::give_up_round() {
  is_under_way_ = false;
  ++round_;
}

void CopyReader::begin_anew(SteadyTime now) {
  give_up_round();
  due_ = now;
}

void CopyReader::ask(const std::vector<Slot>& known, SteadyTime now) {
  EVICTD_CHECK(is_due(now));
  is_under_way_ = true;
  due_ = now + kRoundPause;
  const std::uint64_t round = ++round_;  // it may be given up while it is asked
  copies_.clear();
  std::set<Slot> slots(known.begin(), known.end());
  for (std::size_t slot = 0; slot < kSlots; slot += kCopySlotStep) slots.insert(static_cast<Slot>(slot));
  for (const HostPort& master : routes_.slots().masters()) slots.insert(copy_slot(routes_.slots().slots_of(master), std::nullopt));
  missing_ = slots.size();
  for (const Slot slot : slots) {
    std::string bytes;
    append_command(bytes, {"GET", copy_key(record_key_, slot)});
    routes_.send(Call{kLoadCalls, round, slot, std::move(bytes), {}, {}});
  }
}

bool CopyReader::on_reply(const Call& call, const Reply& reply, const std::optional<StoredRecord>& stored) {
  if (call.tag != round_) return true;
  if (reply.kind == Reply::Kind::kText) {
    if (auto copy = copy_from_text(reply.text)) {
      copy->slot = call.slot;
      copies_[call.served_by].push_back(std::move(*copy));
    }
  } else if (reply.kind != Reply::Kind::kNil) {
    return false;
  }
  if (--missing_ > 0) return true;
  const std::vector<HostPort> masters = routes_.slots().masters();
  std::vector<ShardCopies> shards;
  for (const HostPort& master : masters) shards.push_back({routes_.slots().slots_of(master), std::move(copies_[master])});
  judged_ = judge_copies(shards, stored);
  proofs_.clear();
  for (const JudgedCopies::Proof& proof : judged_->proofs) proofs_.push_back({masters[proof.shard], proof.slot, proof.sequence});
  copies_.clear();
  lost_ = judged_->lost;
  is_under_way_ = false;
  return true;
}

bool CopyReader::on_error(const Call& call, std::string_view text, const std::optional<StoredRecord>& stored) {
  // Somebody else's value under the name of a copy: there is none.
  return text.starts_with("WRONGTYPE") && on_reply(call, Reply{}, stored);
}

void CopyReader::forget() {
  give_up_round();
  wanted_.reset();
}

}  // namespace evictd
