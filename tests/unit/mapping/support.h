// The words that tests of the mapping are written in.
//
//   const RuleSet rules = rules_from("- {table: users, keys: ['user:{email}']}");
//   Table users("users", {"id", "email"}, {"id"});
//   EXPECT_THAT(map(rules, users.update({{"id", "1"}, {"email", "b"}}).from({{"id", "1"}, {"email",
//   "a"}})),
//               UnorderedElementsAre("key user:a", "key user:b"));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <initializer_list>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/mapper.h"
#include "mapping/rules.h"

namespace evictd::test {

inline constexpr const char* kFile = "rules.yaml";

// REQUIRES: the text is valid; a test that gets this wrong ends with the error.
inline RuleSet rules_from(std::string_view text) {
  Result<RuleSet> rules = RuleSet::parse(text, kFile);
  if (!rules) {
    std::cerr << "the rules of a test are wrong: " << rules.error().to_string() << "\n";
    std::abort();
  }
  return std::move(*rules);
}

// The whole text of the error that these rules give; empty when they are valid.
inline std::string error_of(std::string_view text) {
  const Result<RuleSet> rules = RuleSet::parse(text, kFile);
  return rules ? std::string() : rules.error().to_string();
}

// A value as a source hands it over.
struct Cell {
  ValueState state = ValueState::kNotSent;
  std::string text;
  Cell() = default;
  Cell(const char* value) : state(ValueState::kText), text(value) {}  // NOLINT: reads as a value
  Cell(std::string value) : state(ValueState::kText), text(std::move(value)) {}  // NOLINT
  explicit Cell(ValueState value_state) : state(value_state) {}
};
inline const Cell kNull{ValueState::kNull};
inline const Cell kUnchanged{ValueState::kUnchanged};
inline const Cell kNotSent{ValueState::kNotSent};

using Row = std::map<std::string, Cell>;  // a column that is not named was not sent

// A change that owns its texts.
class OwnedChange {
 public:
  OwnedChange(Operation operation, const Relation& relation)
      : operation_(operation), relation_(&relation) {}

  OwnedChange& with_new(const Row& row) { return set(new_, row); }
  OwnedChange& with_old(const Row& row) { return set(old_, row); }
  // Of an update: the source sent this old row.
  OwnedChange& from(const Row& row) { return with_old(row); }

  Change change() const {
    old_values_ = values(old_);
    new_values_ = values(new_);
    return Change{operation_, relation_, old_values_, new_values_};
  }

 private:
  OwnedChange& set(std::vector<Cell>& cells, const Row& row) {
    cells.clear();
    for (const Column& column : relation_->columns) {
      const auto found = row.find(column.name);
      cells.push_back(found == row.end() ? kNotSent : found->second);
    }
    return *this;
  }

  static std::vector<Value> values(const std::vector<Cell>& cells) {
    std::vector<Value> result;
    for (const Cell& cell : cells) {
      result.push_back({cell.state, cell.state == ValueState::kText ? std::string_view(cell.text)
                                                                    : std::string_view()});
    }
    return result;
  }

  Operation operation_;
  const Relation* relation_;
  std::vector<Cell> old_;
  std::vector<Cell> new_;
  mutable std::vector<Value> old_values_;
  mutable std::vector<Value> new_values_;
};

// A table of schema public, as the stream describes it.
class Table {
 public:
  Table(const std::string& name, const std::vector<std::string>& columns,
        const std::vector<std::string>& identity = {}) {
    static std::uint64_t generation = 0;
    relation_.generation = ++generation;
    relation_.schema = "public";
    relation_.table = name;
    for (const std::string& column : columns) {
      const bool in_identity =
          std::find(identity.begin(), identity.end(), column) != identity.end();
      relation_.columns.push_back({column, ValueType::kText, in_identity});
    }
  }

  Table& with_type(const std::string& column, ValueType type) {
    for (Column& candidate : relation_.columns) {
      if (candidate.name == column) candidate.type = type;
    }
    return *this;
  }
  Table& in_schema(const std::string& schema) {
    relation_.schema = schema;
    return *this;
  }

  Table& and_of(const std::string& schema, const std::string& name) {
    relation_.also.push_back({schema, name});
    return *this;
  }

  const Relation& relation() const { return relation_; }
  OwnedChange insert(const Row& row) const {
    return OwnedChange(Operation::kInsert, relation_).with_new(row);
  }
  OwnedChange update(const Row& row) const {
    return OwnedChange(Operation::kUpdate, relation_).with_new(row);
  }
  OwnedChange erase(const Row& row) const {
    return OwnedChange(Operation::kDelete, relation_).with_old(row);
  }
  OwnedChange truncate() const { return OwnedChange(Operation::kTruncate, relation_); }

 private:
  Relation relation_;
};

// Writes down what it receives: "key product:7", "tag category:2", "purge product:*",
// "missing slug: not_sent"; with "#2 " in front from the second rule on.
class Journal : public InvalidationReceiver {
 public:
  explicit Journal(const RuleSet& rules) : rules_(rules) {}

  void key(std::uint32_t rule, std::string_view key) override {
    add(rule, "key " + std::string(key));
  }
  void tag(std::uint32_t rule, std::string_view tag) override {
    add(rule, "tag " + std::string(tag));
  }
  void bump(std::uint32_t rule, std::string_view counter) override {
    add(rule, "bump " + std::string(counter));
  }
  // As a person reads the order.
  void semantic(std::uint32_t rule, std::string_view order) override {
    const std::vector<SemanticInfo>& known = rules_.rules().at(rule).semantic;
    const std::optional<SemanticOrder> read = read_semantic_order(order, known);
    add(rule, "semantic " + (read ? semantic_order_text(known.at(read->entry), *read) : "unreadable"));
  }
  void surrogate_key(std::uint32_t rule, std::string_view key) override { add(rule, "surrogate " + std::string(key)); }
  void row_version(std::uint32_t rule, std::string_view version) override {
    add(rule, version.empty() ? "version unknown" : "version " + std::string(version));
  }
  void purge(std::uint32_t rule, std::uint32_t pattern) override {
    add(rule, "purge " + rules_.rules().at(rule).patterns.at(pattern).glob);
  }
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override {
    add(rule,
        "missing " + std::string(column) + ": " + std::string(unmappable_reason_name(reason)));
  }

  // "lookup variant product: 3": the joins it goes over, then the values it begins with.
  void lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) override {
    std::string entry = "lookup";
    for (const JoinStep& step : rules_.rules().at(rule).lookups.at(lookup).steps) entry += " " + step.alias;
    entry += ":";
    for (const std::string_view value : values) entry += " " + std::string(value);
    add(rule, std::move(entry));
  }

  std::vector<std::string> entries;

 private:
  void add(std::uint32_t rule, std::string entry) {
    entries.push_back((rule == 0 ? "" : "#" + std::to_string(rule + 1) + " ") + std::move(entry));
  }
  const RuleSet& rules_;
};

inline std::vector<std::string> map(const RuleSet& rules, const OwnedChange& change) {
  Journal journal(rules);
  Mapper(rules).map(change.change(), journal);
  return journal.entries;
}

}  // namespace evictd::test
