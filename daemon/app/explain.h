// What one change would delete: for `evictd explain` and `evictd watch`. Pure; what joined tables hold is asked of the caller.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/app/command_line.h"
#include "daemon/interface/lookup.h"
#include "mapping/mapper.h"
#include "mapping/rules.h"

namespace evictd {

// Turns what the mapper says of one change into lines for a person:
//   key    product:1                rule 'public.products' (rules.yaml:3:5)
class ExplainReceiver final : public InvalidationReceiver {
 public:
  // What rules()[rule].lookups[lookup] leads to from these values of one row.
  using FindJoined = std::function<LookupAnswer(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values)>;

  // `rules` must outlive the receiver. With `find_joined`, what lookups find is told behind each of them; without, only what
  // would be looked up.
  explicit ExplainReceiver(const RuleSet& rules, FindJoined find_joined = {});
  ~ExplainReceiver() override;

  void key(std::uint32_t rule, std::string_view key) override;
  void tag(std::uint32_t rule, std::string_view tag) override;
  void bump(std::uint32_t rule, std::string_view counter) override;
  void surrogate_key(std::uint32_t rule, std::string_view key) override;
  void semantic(std::uint32_t rule, std::string_view order) override;
  void row_version(std::uint32_t, std::string_view version) override { row_version_ = version; }
  void purge(std::uint32_t rule, std::uint32_t pattern) override;
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override;
  void lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) override;
  void held_back(std::uint32_t rule, const HeldBack& why) override;

  struct Line {
    std::string kind;  // "key", "tag", "bump", "surrogate", "semantic", "purge", "lookup", "joined", "note"
    std::string text;
    std::string rule{};   // its name; empty: of no rule
    std::string place{};  // "rules.yaml:3:5"
    std::string note{};   // what else happens: "filled anew if it was cached"
    std::string rule_text() const;  // "rule 'public.products' (rules.yaml:3:5), filled anew if it was cached"
  };
  const std::vector<Line>& lines() const { return lines_; }
  std::size_t invalidations() const;  // those that are known
  bool awaits_lookups() const;        // what some lookup leads to is not known
  // The semantic orders among them: the rule, and the order's text (mapping/semantic.h).
  const std::vector<std::pair<std::uint32_t, std::string>>& semantic_orders() const { return semantic_orders_; }
  // Notes too: why rules of the table, or templates of them, do nothing. Each once.
  const std::vector<Line>& held_back() const { return held_back_; }

 private:
  Line line_of(std::uint32_t rule, std::string kind, std::string text, std::string note = {}) const;
  void add(Line line);
  void tell_joined(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values);
  void tell_all_purged(std::uint32_t rule, std::uint32_t lookup, std::string why);

  const RuleSet& rules_;
  FindJoined find_joined_;
  std::unique_ptr<Mapper> found_mapper_;  // of what lookups find
  std::string row_version_;
  std::vector<Line> lines_;
  // Of lookups: rows of different ways lead to the same keys.
  bool is_of_lookup_ = false;
  std::set<std::pair<std::string, std::string>> found_;  // kind and text, with the rule
  std::size_t rows_shown_ = 0;
  std::size_t not_shown_ = 0;  // invalidations beyond what is shown
  std::vector<Line> held_back_;
  std::vector<std::pair<std::uint32_t, std::string>> semantic_orders_;
};

// The table and columns of an explain request, with the values of its rows. Owns what Change refers
// to.
class ExplainedChange {
 public:
  // Reads the JSON rows of the request. Columns that a rule reads and a row does not name are "not
  // sent". kUsage when a row is no JSON object, or no rule names the table.
  static Result<ExplainedChange> make(const CommandLine& request, const RuleSet& rules);

  // A row by itself, of no table: the new row of an insert.
  static Result<ExplainedChange> read_only(const std::string& json);

  // The views into this object; valid while it is neither moved nor destroyed.
  Change change();
  const Relation& relation() const { return relation_; }
  // Columns of the rows that no rule reads, and that are spelled like one that a rule reads and no row has; columns of the identity that
  // neither a row nor a rule has.
  std::vector<std::string> doubts(const RuleSet& rules) const;

 private:
  struct Cell {
    ValueState state = ValueState::kNotSent;
    std::string text;
  };
  Result<void> read_row(const std::string& json, std::string_view option, std::vector<Cell>& row);
  std::size_t column_number(std::string_view name);  // added when it is not there
  std::size_t index_of(std::string_view name) const;  // columns.size(): not there
  static std::vector<Value> values_of(const std::vector<Cell>& row);

  Operation operation_ = Operation::kUpdate;
  Relation relation_;
  std::vector<Cell> old_cells_;
  std::vector<Cell> new_cells_;
  std::vector<std::string> given_;  // columns that the rows name
  std::vector<std::string> unknown_identity_;
  std::vector<Value> old_row_;
  std::vector<Value> new_row_;
};

// The columns of a row that `json` names, in place of those of `row`; what is text in it is owned by `texts`, which must be
// empty and outlive `row`. For `explain --from-table --op update --new`.
Result<void> change_row(const std::string& json, const Relation& relation, std::vector<Value>& row,
                        std::vector<std::string>& texts);

// What the stream sends as the old row of a change of `row` into `changed` (a delete: nothing), by the replica identity: all of it under FULL, its
// columns alone of a row that is deleted or whose identity changes, otherwise nothing. For `explain --from-table --op`.
std::vector<Value> sent_old_row(const Relation& relation, std::span<const Value> row, std::span<const Value> changed);

// What a change deletes: a line for each invalidation and note, also those of `notes`, and the number of invalidations.
std::string explain_text(std::string_view heading, const ExplainReceiver& receiver, const std::vector<std::string>& notes = {});

// The whole answer of `evictd explain`.
Result<std::string> explain(const CommandLine& request, const RuleSet& rules);

// The table that a person means by "products", "shop.products" or "\"app.v1\".orders" (table_name.h). kUsage with a hint
// when no rule names it.
Result<TableName> find_mapped_table(const RuleSet& rules, const std::string& written);
// Fails, with the name that was probably meant, where no rule has this one. `name`: empty: any.
Result<void> require_rule(const RuleSet& rules, const std::string& name);

}  // namespace evictd
