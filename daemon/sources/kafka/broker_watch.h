// The watch over the brokers while a client lives: when they are asked where the partitions end and which topics there are, and what is told
// of how they are. librdkafka itself tells when brokers are away, and not when they are there again. Pure: the caller asks.
//
// Owned by the source, which is on the loop thread. Bounds: one question of a kind at a time, the next 5 s after an answer, 1 s after none.
// A question outlives its client: the next one is asked when it is over.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "daemon/base/clock.h"

namespace evictd {

class BrokerWatch {
 public:
  static constexpr std::chrono::seconds kProbeEach{5};
  static constexpr std::chrono::seconds kProbeSoon{1};

  // A new client has reached them. `has_topics`: some that are wanted.
  void opened(bool has_topics, SteadyTime now);

  // ---- The probe.
  SteadyTime due() const { return is_probing_ ? SteadyTime::max() : probe_at_; }
  // -> whether to ask now; then answered() follows.
  bool probes(SteadyTime now);
  // `is_ours`: asked by the present client. `problem`: why there is no answer; empty: there is one.
  void answered(bool is_ours, std::string problem, SteadyTime now);
  // Something has happened that the brokers know more of.
  void look_at_once(SteadyTime now) { probe_at_ = now; }

  // ---- What librdkafka or a question tells: until a probe has an answer.
  void fails(std::string problem) { problem_ = std::move(problem); }
  void look_soon(SteadyTime now);
  // Empty: none.
  const std::string& problem() const { return problem_; }

  // ---- Topics that are wanted and are not there.
  void misses(std::string problem) { topic_problem_ = std::move(problem); }
  // The group has given us partitions of some.
  void has_topics() { topic_problem_.clear(); }
  const std::string& topic_problem() const { return topic_problem_; }

  // ---- Where the partitions end, beside the probe: the question keeps the fetching going.
  bool is_asking_for_ends() const { return is_asking_for_ends_; }
  void asks_for_ends() { is_asking_for_ends_ = true; }
  void ends_answered() { is_asking_for_ends_ = false; }

 private:
  std::string problem_;
  std::string topic_problem_;
  bool is_probing_ = false;
  SteadyTime probe_at_ = SteadyTime::max();
  bool is_asking_for_ends_ = false;
};

}  // namespace evictd
