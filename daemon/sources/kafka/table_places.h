// Which tables that rules name an event acts for: the one it names, those above that one in the database, or, where the event cannot be
// read, what its topic carries; and when the database is asked what lies below the rules' tables. Pure: the caller asks the database.
//
// A table that was made since the database was asked may lie below one that rules name: its first event waits for another answer. How soon
// a table that was put below another one is known to be there: kAskEach.
//
// Owned by the source, which is on the loop thread; outlives clients. Bounds: one question at a time; the places of kPlacedMax tables.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/table_tree.h"
#include "daemon/sources/kafka/envelope.h"

namespace evictd {

// Those of the rules whose changes a topic carries.
struct TopicTables {
  std::vector<std::string> tables;
  bool are_all = false;  // no others; else an empty list means any
  bool is_none() const { return are_all && tables.empty(); }
};

class TablePlaces {
 public:
  static constexpr std::chrono::seconds kAskEach{60};
  static constexpr std::chrono::seconds kAskAgain{1};  // after no answer
  // Of events of as many tables the place is remembered; then it is asked for anew.
  static constexpr std::size_t kPlacedMax = 10'000;

  // Without a database nothing is asked, and an event acts for the table it names alone.
  explicit TablePlaces(bool has_database) : has_database_(has_database) {}

  // Those of the rules, "schema.table".
  const std::set<std::string>& tables() const { return tables_; }
  void set_tables(std::set<std::string> tables);

  // ---- When the database is asked.
  // max(): not before the answer that is under way.
  SteadyTime due() const { return has_database_ && !is_asked_ ? ask_at_ : SteadyTime::max(); }
  struct Question {
    std::set<std::string> below;   // which tables lie below these
    std::set<std::string> placed;  // whose places are known then
    std::uint64_t number = 0;      // of set_tables()
  };
  // None: not now. Every question is answered.
  std::optional<Question> asks(SteadyTime now);
  // -> whether above() is another one.
  bool answered(const Question& question, Result<TableTree> tree, SteadyTime now);
  // By "schema.table" of what lies below.
  const EnvelopeDecoder::TablesAbove& above() const { return tree_.above; }

  // ---- What events act for.
  // Nothing can be handed out yet.
  bool waits() const { return has_database_ && (!tree_is_known_ || !to_place_.empty()); }
  // The event of this table waits for an answer.
  bool must_wait_for(const Relation& relation, SteadyTime now);
  // `traits`: of the topic, where it has any; `names_table`: the topic's name is that of one of the tables.
  TopicTables tables_of(const std::string& topic, const TopicTraits* traits, bool names_table) const;

  // Why readiness is refused; empty: it is not.
  std::string problem() const;

 private:
  const bool has_database_;
  std::set<std::string> tables_;
  std::uint64_t number_ = 0;  // counts set_tables()
  TableTree tree_;
  bool tree_is_known_ = false;      // of the rules in force
  std::set<std::string> placed_;    // "schema.table" that was there, or not, when the database was asked last
  std::set<std::string> to_place_;  // whose first event waits
  bool is_asked_ = false;
  SteadyTime ask_at_ = SteadyTime::min();
  std::string no_answer_;
};

}  // namespace evictd
