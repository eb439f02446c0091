#include "mapping/held_back.h"

#include <algorithm>

#include "mapping/binding.h"
#include "mapping/canonical.h"

namespace evictd {
namespace {

std::string quoted_list(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return list;
}

bool has_row(const Change& change, Side side) {
  return change.operation != Operation::kTruncate &&
         change.operation != (side == Side::kNew ? Operation::kDelete : Operation::kInsert);
}

std::string canonical_text(const BoundColumn& column, const Value& value) {
  std::string text;
  append_canonical(column.type, value.text, text);
  return text;
}

// The first condition that a value of this row proves not to hold; null: the row matches, or may.
const BoundCondition* failing(const BoundRule& rule, const Change& change, Side side) {
  for (const BoundCondition& condition : rule.where) {
    if (condition.column.index == kNoColumn) continue;
    const Value value = resolve(change, condition.column, side);
    if (!is_known(value)) continue;
    const std::vector<std::string>& texts = condition.source->texts;
    const bool holds = value.state == ValueState::kNull
                           ? condition.source->matches_null
                           : std::binary_search(texts.begin(), texts.end(), canonical_text(condition.column, value));
    if (!holds) return &condition;
  }
  return nullptr;
}

// Empty: one of the rows matches.
std::string why_no_row_matches(const BoundRule& rule, const Change& change) {
  std::string why;
  for (const Side side : {Side::kNew, Side::kOld}) {
    if (!has_row(change, side)) continue;
    const BoundCondition* condition = failing(rule, change, side);
    if (condition == nullptr) return {};
    const Value value = resolve(change, condition->column, side);
    const std::string text = value.state == ValueState::kNull ? "NULL" : "'" + canonical_text(condition->column, value) + "'";
    why += (why.empty() ? "'where': '" : "; '") + condition->source->column + "' is " + text +
           (side == Side::kNew ? " in the new row" : " in the old row");
  }
  return why;
}

// Templates that a NULL keeps from making anything of either row. Filters and paths may make a value of a NULL, or a NULL
// of a value: of those nothing is said.
void tell_nulls(const BoundRule& rule, const Change& change, std::vector<HeldBack>& told) {
  for (const BoundTemplate& entry : rule.templates) {
    for (const BoundPlaceholder& placeholder : entry.placeholders) {
      if (placeholder.column.index == kNoColumn || !placeholder.source->filters.empty()) continue;
      const auto is_null = [&](Side side) {
        return !has_row(change, side) || resolve(change, placeholder.column, side).state == ValueState::kNull;
      };
      if (!is_null(Side::kNew) || !is_null(Side::kOld)) continue;
      told.push_back({rule.index, "'" + placeholder.source->column + "' is NULL, which makes no " +
                                      std::string(invalidation_kind_name(entry.source->kind))});
      break;
    }
  }
}

}  // namespace

std::vector<HeldBack> held_back(const RuleSet& rules, const Change& change) {
  std::vector<HeldBack> told;
  const RuleSet::Compiled& compiled = rules.compiled();
  for (std::uint32_t index = 0; index < compiled.rules.size(); ++index) {
    const RuleInfo& info = compiled.infos[index];
    if (!change.relation->is_of(info.schema, info.table)) continue;
    if (!info.is_on(change.operation)) {
      told.push_back({index, "its 'on' does not name " + std::string(operation_name(change.operation))});
      continue;
    }
    if (change.operation == Operation::kTruncate) continue;
    const BoundRule rule = bind_rule(index, compiled, *change.relation);
    const bool may_act = change.operation != Operation::kUpdate || rule.when_changed.empty() ||
                         std::any_of(rule.when_changed.begin(), rule.when_changed.end(),
                                     [&](const BoundColumn& column) { return may_have_changed(change, column); });
    if (!may_act) {
      told.push_back({index, "'when_changed': none of its columns changed: " + quoted_list(rule.source->when_changed)});
      continue;
    }
    if (std::string why = why_no_row_matches(rule, change); !why.empty()) {
      told.push_back({index, std::move(why)});
      continue;
    }
    tell_nulls(rule, change, told);
  }
  return told;
}

}  // namespace evictd
