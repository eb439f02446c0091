// Have so many replicas of each master of a cluster what was written there? A record is confirmed when a witness (witness.h) of each
// master has confirmed it. Where no replicas are asked for, it is confirmed when it is stored. A node that ASK named and that serves no
// slot yet is not asked: no replica takes its place, and whatever is served there later is proven by a copy that was written later.
//
// One record is asked about at a time; of those that are stored meanwhile the newest stands for all. Bounds: a witness for each node.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/sinks/redis/topology/record_copies.h"
#include "daemon/sinks/redis/url.h"
#include "daemon/sinks/redis/witness.h"

namespace evictd {

class ClusterWitness {
 public:
  // Witnesses sign in as at `like`.
  ClusterWitness(RedisOptions options, RedisAddress like) : options_(std::move(options)), like_(std::move(like)) {}

  // Each of its copies is stored, which the handler knows.
  void stored(const StoredRecord& record, SinkHandler& handler);

  struct Written {
    HostPort at;
    std::string instance;  // the process that was written to
    Slot slot = 0;         // one that it serves
  };
  // A record waits for its confirmation, and is asked about by ask().
  bool has_question() const { return options_.replicas_ack > 0 && waiting_ && !asked_; }
  void ask(const std::vector<Written>& nodes, const SinkContext& context, Now now);
  // Those whose witness writes into a slot that has moved, or is about to.
  std::vector<HostPort> misplaced() const;
  // Asks one of them, where its slot is another by now.
  void ask_elsewhere(const Written& node, const SinkContext& context, Now now);
  // Tells the handler what is confirmed, and which replicas are missing.
  void step(Now now, SinkHandler& handler);
  void wait_for(Waiting& waiting);

  // What it holds is where others are asked, from now on.
  void gone(const HostPort& at);
  // The connection is lost, and with it all questions.
  void forget();

  // The last record that is, and all that was answered before it.
  const std::optional<StoredRecord>& confirmed() const { return confirmed_; }
  // As it was told last.
  const std::optional<Error>& missing() const { return missing_; }

 private:
  struct One {
    std::unique_ptr<Witness> witness;
    Slot slot = 0;  // that it writes into
  };
  void ask_one(const Written& node, const SinkContext& context, Now now);
  void confirm(StoredRecord record, SinkHandler& handler);

  const RedisOptions options_;
  const RedisAddress like_;
  std::map<HostPort, One> witnesses_;
  std::optional<StoredRecord> waiting_;  // the last one that is stored, until it is confirmed
  std::optional<StoredRecord> asked_;    // what they are asked about
  std::set<HostPort> unanswered_;        // who has not confirmed that yet
  std::optional<StoredRecord> confirmed_;
  std::optional<Error> missing_;
};

}  // namespace evictd
