#include "daemon/sources/kafka/table_places.h"

#include <fmt/format.h>

#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {

void TablePlaces::set_tables(std::set<std::string> tables) {
  tables_ = std::move(tables);
  ++number_;
  tree_is_known_ = false;
  placed_.clear();
  ask_at_ = SteadyTime::min();
}

std::optional<TablePlaces::Question> TablePlaces::asks(SteadyTime now) {
  if (now < due()) return std::nullopt;
  is_asked_ = true;
  return Question{tables_, to_place_, number_};
}

bool TablePlaces::answered(const Question& question, Result<TableTree> tree, SteadyTime now) {
  is_asked_ = false;
  if (question.number != number_) return false;
  no_answer_ = tree ? "" : tree.error().text;
  ask_at_ = now + (tree ? kAskEach : kAskAgain);
  if (!tree) return false;
  tree_ = std::move(*tree);
  tree_is_known_ = true;
  if (placed_.size() > kPlacedMax) placed_.clear();
  placed_.insert(question.placed.begin(), question.placed.end());
  std::erase_if(to_place_, [&](const std::string& table) { return question.placed.contains(table); });
  if (!to_place_.empty()) ask_at_ = now;  // those came meanwhile
  return true;
}

bool TablePlaces::must_wait_for(const Relation& relation, SteadyTime now) {
  if (!has_database_) return false;
  std::string name = relation.qualified_name();
  if (tables_.contains(name) || tree_.above.contains(name) || placed_.contains(name)) return false;
  to_place_.insert(std::move(name));
  ask_at_ = now;
  return true;
}

TopicTables TablePlaces::tables_of(const std::string& topic, const TopicTraits* traits, bool names_table) const {
  if (traits != nullptr && traits->has_more_tables) return {};
  const auto carries = [&](const std::string& table) {
    return (traits != nullptr && traits->tables.contains(table)) || is_topic_of(topic, table);
  };
  std::set<std::string> tables;
  for (const std::string& table : tables_) {
    if (carries(table)) tables.insert(table);
  }
  for (const auto& [below, above] : tree_.above) {
    if (!carries(below)) continue;
    for (const TableName& table : above) tables.insert(table.schema + "." + table.table);
  }
  return {{tables.begin(), tables.end()}, (traits != nullptr && !traits->tables.empty()) || names_table};
}

std::string TablePlaces::problem() const {
  if (!no_answer_.empty()) return "the tables of the database that 'postgres_url' names: " + no_answer_;
  if (tree_.filtered.empty()) return {};
  return fmt::format("the connector's publication leaves out rows of '{}' (a row filter): their changes never reach Kafka",
                     tree_.filtered.front());
}

}  // namespace evictd
