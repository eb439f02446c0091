// What the group waits for from us: that what it gave is taken, once it is known where to begin, and that what it wants back is given,
// once what was delivered of it is finished. Pure: the caller asks the brokers and answers the group.
//
// Owned by the source, which is on the loop thread. Bounds: one look-up at a time; what is to be given back waits no longer than the caller
// says.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sources/kafka/kafka_client.h"

namespace evictd {

class OwedToGroup {
 public:
  static constexpr std::chrono::milliseconds kLookUpAgain{500};

  // ---- The group gives.
  // It is added to what is still to be taken: under a cooperative protocol each call names what is new alone, and what was given and not
  // taken is never offered again. Another one may come while the first is being looked up.
  void gives(std::vector<TopicPartition> partitions);
  // When to look up where to begin with what is to be taken; max(): not now, or it is under way.
  SteadyTime look_up_due() const { return look_up_at_; }
  // What to look up now. None: nothing is to be taken, or a look-up is under way.
  std::optional<std::vector<TopicPartition>> looks_up();
  // -> whether these are still what is to be taken: if not, the answer is of no use.
  bool looked_up(const std::vector<TopicPartition>& partitions);
  // There was no answer.
  void looks_up_again(SteadyTime now) { look_up_at_ = now + kLookUpAgain; }
  void took() { to_take_.reset(); }

  // ---- The group takes.
  // What was being looked up may be taken back before it was begun; the rest of it stays ours. -> whether nothing is left of it: then
  // the group is told so.
  bool takes(const std::vector<TopicPartition>& partitions);
  // The group wants these back, by then.
  void wants_back(std::vector<TopicPartition> partitions, SteadyTime by);
  // max(): nothing is to be given back.
  SteadyTime give_back_by() const { return give_back_by_; }
  // -> whether to give back now. `is_busy`: something of it is not finished yet.
  bool gives_back(bool is_busy, SteadyTime now) const;
  const std::vector<TopicPartition>& to_give_back() const { return to_give_back_; }
  void gave_back();

  // The client leaves the group: no answer to a look-up is waited for any more. -> whether something was to be taken: then the group is told
  // that nothing is.
  bool leaves();

 private:
  std::optional<std::vector<TopicPartition>> to_take_;
  bool is_looking_up_ = false;
  SteadyTime look_up_at_ = SteadyTime::max();
  std::vector<TopicPartition> to_give_back_;
  SteadyTime give_back_by_ = SteadyTime::max();
};

}  // namespace evictd
