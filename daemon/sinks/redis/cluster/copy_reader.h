// The copies of the record that are read, and what they prove together (topology/record_copies.h): a round of questions about every slot
// that a copy may lie in, whoever serves it, and one judgement when each was answered. Slots whose data is not that of the last record
// are lost.
//
// A round that cannot come to its end (a node is away, a slot on the move) is given up, and another one asked, not faster than every
// 50 ms. Bounds: two questions for each master, and one for each kCopySlotStep slots.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/sinks/redis/cluster/calls.h"
#include "daemon/sinks/redis/topology/record_copies.h"

namespace evictd {

class CopyReader {
 public:
  // `routes` must outlive it.
  CopyReader(CallRoutes& routes, std::string record_key) : routes_(routes), record_key_(std::move(record_key)) {}

  // Somebody wants to know the record as it is from now on; take_wanted() when it was judged.
  void want(std::uint64_t sequence, SteadyTime now);
  bool is_wanted() const { return wanted_.has_value(); }
  std::optional<std::uint64_t> take_wanted() { return std::exchange(wanted_, std::nullopt); }

  // No round is under way, and the pause after the last one is over.
  bool is_due(SteadyTime now) const { return !is_under_way_ && now >= due_; }
  SteadyTime wake_at() const { return is_under_way_ ? SteadyTime::max() : due_; }
  // A round. `slots`: where this process knows copies to lie; where others put them is asked as well. REQUIRES: is_due().
  void ask(const std::vector<Slot>& slots, SteadyTime now);
  // The round that is under way does not come to its end.
  void give_up_round();
  // Who serves what has changed: at once, with all that is there now.
  void begin_anew(SteadyTime now);

  // Of kLoadCalls, as CallAnswers has them. `stored`: what this process knows to be stored everywhere.
  bool on_reply(const Call& call, const Reply& reply, const std::optional<StoredRecord>& stored);
  bool on_error(const Call& call, std::string_view text, const std::optional<StoredRecord>& stored);

  // After the last answer of a round, once.
  std::optional<JudgedCopies> take_judged() { return std::exchange(judged_, std::nullopt); }
  // By the last judgement.
  const SlotSet& lost() const { return lost_; }
  struct Proof {
    HostPort master;
    Slot slot = 0;
    std::uint64_t sequence = 0;
  };
  const std::vector<Proof>& proofs() const { return proofs_; }
  // The connection is lost: answers that come now are nobody's.
  void forget();

 private:
  CallRoutes& routes_;
  const std::string record_key_;
  bool is_under_way_ = false;
  SteadyTime due_ = SteadyTime::min();
  std::uint64_t round_ = 0;
  std::size_t missing_ = 0;  // answers of it
  std::map<HostPort, std::vector<RecordCopy>> copies_;  // of it, by who served them
  std::optional<std::uint64_t> wanted_;
  std::optional<JudgedCopies> judged_;
  SlotSet lost_;
  std::vector<Proof> proofs_;
};

}  // namespace evictd
