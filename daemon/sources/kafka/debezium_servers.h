// The Debezium servers (topic prefixes) whose topics are subscribed: together they make the epoch, and ids of transactions compare only
// where there is one. Pure.
//
// Owned by the source, which is on the loop thread; begun anew with each client.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace evictd {

class DebeziumServers {
 public:
  // Another client: what the topics are is looked at anew.
  void forget();
  // `tables`: those of the rules, "schema.table", which a topic's name may end in. -> whether a server is new.
  bool learn(const std::set<std::string>& topics, const std::set<std::string>& tables);

  std::string epoch() const;
  // Whether ids of transactions that this server names compare with snapshots: there is no other. `server` may be empty: an event
  // does not say.
  bool is_only(std::string_view server) const { return names_.size() == 1 && (server.empty() || server == *names_.begin()); }

 private:
  std::set<std::string> names_;
  std::set<std::string> learnt_;  // topics
};

}  // namespace evictd
