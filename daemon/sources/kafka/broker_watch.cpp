#include "daemon/sources/kafka/broker_watch.h"

#include <algorithm>

namespace evictd {

void BrokerWatch::opened(bool has_topics, SteadyTime now) {
  problem_.clear();
  topic_problem_ = has_topics ? "" : "no topic exists yet that 'topics' names or matches";
  probe_at_ = now + kProbeSoon;
}

bool BrokerWatch::probes(SteadyTime now) {
  if (now < due()) return false;
  is_probing_ = true;
  probe_at_ = SteadyTime::max();
  return true;
}

void BrokerWatch::answered(bool is_ours, std::string problem, SteadyTime now) {
  is_probing_ = false;
  if (!is_ours) return;
  problem_ = std::move(problem);
  // Unless another one has been asked for meanwhile.
  probe_at_ = std::min(probe_at_, now + (problem_.empty() ? kProbeEach : kProbeSoon));
}

void BrokerWatch::look_soon(SteadyTime now) { probe_at_ = std::min(probe_at_, now + kProbeSoon); }

}  // namespace evictd
