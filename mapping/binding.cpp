#include "mapping/binding.h"

#include <algorithm>
#include <limits>

#include "mapping/canonical.h"

namespace evictd {

namespace {

BoundColumn bind_column(const std::string& name, const CompiledRule& rule,
                        const Relation& relation) {
  BoundColumn bound;
  bound.is_immutable = rule.is_immutable(name);
  for (std::size_t i = 0; i < relation.columns.size(); ++i) {
    if (relation.columns[i].name != name) continue;
    bound.index = static_cast<int>(i);
    bound.type = relation.columns[i].type;
    bound.element = relation.columns[i].element;
    bound.in_identity = relation.columns[i].in_identity;
  }
  return bound;
}

// A hash, a date, a path and white space make short texts of long ones. Folding a character makes at most a third of it.
std::size_t useful_bytes(const Placeholder& placeholder, ValueType type) {
  constexpr std::size_t kFoldsTo = 3;
  const bool only_folds = std::all_of(placeholder.filters.begin(), placeholder.filters.end(), [](const Filter& filter) {
    return filter.kind == Filter::Kind::kLower || filter.kind == Filter::Kind::kUpper ||
           filter.kind == Filter::Kind::kUrlEncode || filter.kind == Filter::Kind::kDefault;
  });
  if (!only_folds || placeholder.each || !placeholder.path.empty() || type == ValueType::kJson) return std::numeric_limits<std::size_t>::max();
  return kFoldsTo * kKeyBytesMax;
}

Value value_in(std::span<const Value> row, const BoundColumn& column) {
  const auto index = static_cast<std::size_t>(column.index);
  return index < row.size() ? row[index] : Value{};
}

}  // namespace

namespace {

void bind_templates(BoundRule& bound, std::uint32_t lookup, const Relation& relation) {
  const CompiledRule& rule = *bound.source;
  for (const CompiledTemplate& source : rule.templates) {
    BoundTemplate& entry = bound.templates.emplace_back();
    entry.source = &source;
    entry.is_elsewhere = source.lookup != lookup;
    if (entry.is_elsewhere) continue;
    entry.each = source.compiled.each_index();
    for (const Placeholder& placeholder : source.compiled.placeholders) {
      const BoundColumn column = bind_column(placeholder.column, rule, relation);
      const bool is_direct = placeholder.path.empty() && !placeholder.each && placeholder.filters.empty() &&
                             is_canonical_as_sent(column.type);
      entry.placeholders.push_back({column, &placeholder, is_direct, useful_bytes(placeholder, column.type)});
      if (!column.in_identity && !column.is_immutable) entry.is_stable_without_old_row = false;
    }
  }
}

}  // namespace

BoundRule bind_found(std::uint32_t index, std::uint32_t lookup, const RuleSet::Compiled& compiled, const Relation& found) {
  BoundRule bound;
  bound.index = index;
  bound.info = &compiled.infos[index];
  bound.source = &compiled.rules[index];
  bind_templates(bound, lookup, found);
  return bound;
}

BoundRule bind_rule(std::uint32_t index, const RuleSet::Compiled& compiled,
                    const Relation& relation) {
  BoundRule bound;
  bound.index = index;
  bound.info = &compiled.infos[index];
  bound.source = &compiled.rules[index];
  const CompiledRule& rule = *bound.source;
  bind_templates(bound, kOwnRow, relation);
  for (const LookupInfo& lookup : bound.info->lookups) {
    BoundLookup& entry = bound.lookups.emplace_back();
    for (const JoinStep::Match& match : lookup.steps[0].match) {
      const BoundColumn column = bind_column(match.from, rule, relation);
      entry.columns.push_back(column);
      if (!column.in_identity && !column.is_immutable) entry.is_stable_without_old_row = false;
    }
  }
  for (const Condition& condition : rule.where) {
    bound.where.push_back({bind_column(condition.column, rule, relation), &condition});
  }
  for (const std::string& column : rule.when_changed) {
    bound.when_changed.push_back(bind_column(column, rule, relation));
  }
  if (!rule.ignore_changed.empty()) {
    for (const Column& column : relation.columns) {
      if (std::find(rule.ignore_changed.begin(), rule.ignore_changed.end(), column.name) != rule.ignore_changed.end()) continue;
      bound.when_changed.push_back(bind_column(column.name, rule, relation));
    }
  }
  if (!bound.info->version_column.empty())
    bound.version = bind_column(bound.info->version_column, rule, relation);
  return bound;
}

Value resolve(const Change& change, const BoundColumn& column, Side side) {
  if (side == Side::kNew) {
    const Value now = value_in(change.new_row, column);
    if (now.state != ValueState::kUnchanged) return now;
    const Value before = value_in(change.old_row, column);
    return is_known(before) ? before : now;
  }
  const Value before = value_in(change.old_row, column);
  if (is_known(before) || change.operation != Operation::kUpdate) return before;
  // Here an update said nothing of the old value.
  const Value now = value_in(change.new_row, column);
  const bool kept = column.is_immutable || (column.in_identity && change.old_row.empty());
  if (kept && is_known(now)) return now;
  return now.state == ValueState::kUnchanged ? now : before;
}

bool may_have_changed(const Change& change, const BoundColumn& column) {
  if (column.index == kNoColumn) return true;
  const Value now = value_in(change.new_row, column);
  const Value before = value_in(change.old_row, column);
  if (is_known(now) && is_known(before)) {
    return now.state != before.state || now.text != before.text;
  }
  if (now.state == ValueState::kUnchanged || column.is_immutable) return false;
  return !(column.in_identity && change.old_row.empty());
}

}  // namespace evictd
