#include "daemon/sources/kafka/debezium_servers.h"

#include "daemon/sources/kafka/envelope.h"
#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {
namespace {

// The part of a topic's name in front of schema and table: Debezium's topic.prefix.
std::string server_of_topic(const std::string& topic, const std::set<std::string>& tables) {
  std::string table = table_named_by(topic, tables);
  if (table.empty()) table = EnvelopeDecoder::table_of_topic(topic);
  if (table.empty()) return {};
  return topic.substr(0, topic.size() - table.size() - 1);
}

}  // namespace

void DebeziumServers::forget() {
  names_.clear();
  learnt_.clear();
}

bool DebeziumServers::learn(const std::set<std::string>& topics, const std::set<std::string>& tables) {
  bool is_new = false;
  for (const std::string& topic : topics) {
    if (!learnt_.insert(topic).second) continue;
    const std::string server = server_of_topic(topic, tables);
    // Of "my.shop.transaction" it would be "my".
    if (!server.empty() && !is_control_topic(topic, tables)) is_new |= names_.insert(server).second;
  }
  return is_new;
}

std::string DebeziumServers::epoch() const {
  std::string epoch = "debezium/";
  for (const std::string& name : names_) {
    if (!epoch.ends_with('/')) epoch += '+';
    for (const char c : name) epoch += c == ' ' || c == ',' ? '_' : c;
  }
  return epoch;
}

}  // namespace evictd
