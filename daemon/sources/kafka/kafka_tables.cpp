// What the database says of the tables that events name: which tables that rules name lie above them.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/kafka/consumer_state.h"
#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {
namespace {

using namespace std::chrono_literals;

// How soon a table that was put below another one is known to be there. One that is new is asked for at once.
constexpr auto kAskEach = 60s;
constexpr auto kAskAgain = 1s;
// Of events of as many tables the place is remembered; then it is asked for anew.
constexpr std::size_t kPlacedMax = 10'000;

}  // namespace

void KafkaSource::ask_for_tables() {
  if (!ask_table_tree_ || asking_for_tables_ || now_.steady < ask_for_tables_at_) return;
  asking_for_tables_ = true;
  const std::vector<std::string> tables(mapped_tables_.begin(), mapped_tables_.end());
  database_helper_.run("the database which tables lie below those of the rules",
                       [this, session = tables_session_, ask = ask_table_tree_, tables,
                        placed = to_place_]() -> HelperThread::Completion {
                         auto tree = std::make_shared<Result<TableTree>>(ask(tables));
                         return [this, session, tree, placed] {
                           asking_for_tables_ = false;
                           if (session == tables_session_) take_tables(std::move(*tree), placed);
                         };
                       });
}

void KafkaSource::take_tables(Result<TableTree> tree, const std::set<std::string>& placed) {
  tables_problem_ = tree ? "" : tree.error().text;
  ask_for_tables_at_ = now_.steady + (tree ? kAskEach : kAskAgain);
  if (!tree) return;
  tree_ = std::move(*tree);
  tree_is_known_ = true;
  if (placed_.size() > kPlacedMax) placed_.clear();
  placed_.insert(placed.begin(), placed.end());
  std::erase_if(to_place_, [&](const std::string& table) { return placed.contains(table); });
  if (!to_place_.empty()) ask_for_tables_at_ = now_.steady;  // those came meanwhile
  decoder_.set_tables_above(tree_.above);
  if (handler_ != nullptr) report_retired();
}

// A table that was made since the database was asked may lie below one that rules name.
bool KafkaSource::must_wait_for_place(const Relation& relation) {
  if (!ask_table_tree_) return false;
  std::string name = relation.qualified_name();
  if (mapped_tables_.contains(name) || tree_.above.contains(name) || placed_.contains(name)) return false;
  to_place_.insert(std::move(name));
  ask_for_tables_at_ = now_.steady;
  return true;
}

std::string KafkaSource::tables_problem() const {
  if (!tables_problem_.empty()) return "the tables of the database that 'postgres_url' names: " + tables_problem_;
  if (tree_.filtered.empty()) return {};
  return fmt::format("the connector's publication leaves out rows of '{}' (a row filter): their changes never reach Kafka",
                     tree_.filtered.front());
}

// The mapped tables whose changes the topic carries. `known`: all tables of the topic are;
// otherwise an empty answer means any.
std::vector<std::string> KafkaSource::tables_of_topic(const std::string& topic, bool& known) const {
  const TopicTraits* traits = decoder_.traits(topic);
  known = false;
  if (traits != nullptr && traits->has_more_tables) return {};
  known = (traits != nullptr && !traits->tables.empty()) || !decoder_.named_table(topic).second.empty();
  std::set<std::string> tables;
  for (const std::string& table : mapped_tables_) {
    if ((traits != nullptr && traits->tables.contains(table)) || is_topic_of(topic, table)) tables.insert(table);
  }
  for (const auto& [below, above] : tree_.above) {
    if (!(traits != nullptr && traits->tables.contains(below)) && !is_topic_of(topic, below)) continue;
    for (const TableName& table : above) tables.insert(table.schema + "." + table.table);
  }
  return {tables.begin(), tables.end()};
}

}  // namespace evictd
