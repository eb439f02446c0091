#include "daemon/app/row_keys.h"

#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace evictd {
namespace {

// Passes on each text and pattern of a rule once.
class Once final : public InvalidationReceiver {
 public:
  Once(const RuleSet& rules, InvalidationReceiver& to) : rules_(rules), to_(to) {}
  void key(std::uint32_t rule, std::string_view key) override {
    if (is_new(InvalidationKind::kKey, rule, key)) to_.key(rule, key);
  }
  void tag(std::uint32_t rule, std::string_view tag) override {
    if (is_new(InvalidationKind::kTag, rule, tag)) to_.tag(rule, tag);
  }
  void bump(std::uint32_t rule, std::string_view counter) override {
    if (is_new(InvalidationKind::kBump, rule, counter)) to_.bump(rule, counter);
  }
  void semantic(std::uint32_t rule, std::string_view order) override {
    if (is_new(InvalidationKind::kSemantic, rule, order)) to_.semantic(rule, order);
  }
  void surrogate_key(std::uint32_t rule, std::string_view key) override {
    if (is_new(InvalidationKind::kSurrogate, rule, key)) to_.surrogate_key(rule, key);
  }
  void row_version(std::uint32_t, std::string_view) override {}
  void purge(std::uint32_t rule, std::uint32_t pattern) override {
    if (is_new(InvalidationKind::kKey, rule, "purge " + std::to_string(pattern))) to_.purge(rule, pattern);
  }
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override {
    if (is_told) to_.unmappable(rule, reason, column);
  }

  void lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) override {
    std::string asked = "lookup " + std::to_string(lookup);
    for (const std::string_view value : values) asked.append(1, '\0').append(value);
    if (is_new(InvalidationKind::kKey, rule, asked)) to_.lookup(rule, lookup, values);
  }
  void held_back(std::uint32_t rule, const HeldBack& why) override {
    // What depends on the row alone; which operation, and what it changes, is open.
    if (!is_told && !is_on_updates_alone(rule)) return;
    if (why.why == HeldBack::Why::kWhere || why.why == HeldBack::Why::kNull) to_.held_back(rule, why);
  }

  bool is_told = true;            // what holds rules back, and which values give no key
  bool of_updates_alone = false;  // nothing of the other rules

 private:
  bool is_on_updates_alone(std::uint32_t rule) const {
    const RuleInfo& info = rules_.rules()[rule];
    return !info.is_on(Operation::kInsert) && !info.is_on(Operation::kDelete);
  }
  bool is_new(InvalidationKind kind, std::uint32_t rule, std::string_view text) {
    return (!of_updates_alone || is_on_updates_alone(rule)) && seen_.emplace(kind, rule, text).second;
  }
  const RuleSet& rules_;
  InvalidationReceiver& to_;
  std::set<std::tuple<InvalidationKind, std::uint32_t, std::string>> seen_;
};

}  // namespace

void map_row(const RuleSet& rules, Mapper& mapper, const Relation& relation, std::span<const Value> row,
             InvalidationReceiver& receiver) {
  Once once(rules, receiver);
  Change change;
  change.relation = &relation;
  change.operation = Operation::kDelete;
  change.old_row = row;
  mapper.map(change, once);
  once.is_told = false;
  change.operation = Operation::kInsert;
  change.old_row = {};
  change.new_row = row;
  mapper.map(change, once);
  // Of an update nothing is known but what the row has become: any column may have changed, and with it a condition.
  once.of_updates_alone = true;
  const std::vector<Value> unknown(row.size());
  change.operation = Operation::kUpdate;
  change.old_row = unknown;
  mapper.map(change, once);
}

}  // namespace evictd
