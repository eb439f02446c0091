#include "mapping/rules.h"

#include <algorithm>
#include <unordered_set>

#include "mapping/rule_digest.h"
#include "mapping/rules_compiled.h"
#include "mapping/rules_parser.h"
#include "mapping/yaml.h"

namespace evictd {

std::string_view operation_name(Operation operation) {
  switch (operation) {
    case Operation::kInsert:
      return "insert";
    case Operation::kUpdate:
      return "update";
    case Operation::kDelete:
      return "delete";
    case Operation::kTruncate:
      return "truncate";
  }
  return "unknown";
}

std::string_view invalidation_kind_name(InvalidationKind kind) {
  switch (kind) {
    case InvalidationKind::kKey:
      return "key";
    case InvalidationKind::kTag:
      return "tag";
    case InvalidationKind::kPurge:
      return "purge";
    case InvalidationKind::kBump:
      return "bump";
    case InvalidationKind::kSurrogate:
      return "surrogate_key";
    case InvalidationKind::kSemantic:
      return "semantic";
  }
  return "unknown";
}

bool CompiledRule::is_immutable(std::string_view column) const {
  return std::find(immutable.begin(), immutable.end(), column) != immutable.end();
}

RuleSet::RuleSet(std::unique_ptr<Compiled> compiled) : compiled_(std::move(compiled)) {}
RuleSet::RuleSet(RuleSet&&) noexcept = default;
RuleSet& RuleSet::operator=(RuleSet&&) noexcept = default;
RuleSet::~RuleSet() = default;

const std::vector<RuleInfo>& RuleSet::rules() const { return compiled_->infos; }

std::vector<std::string> RuleSet::tables() const {
  std::vector<std::string> tables;
  std::unordered_set<std::string> seen;
  for (const RuleInfo& info : compiled_->infos) {
    std::string table = info.qualified_table();
    if (seen.insert(table).second) tables.push_back(std::move(table));
  }
  return tables;
}

std::uint64_t RuleSet::table_digest(std::string_view table) const {
  std::vector<std::uint64_t> digests;
  for (const RuleInfo& info : compiled_->infos) {
    if (info.qualified_table() != table) continue;
    for (const std::uint64_t digest : {info.digest, info.surrogate_digest}) {
      if (digest != 0) digests.push_back(digest);
    }
  }
  return digests.empty() ? 0 : combined_digest(std::move(digests));
}

Result<RuleSet> RuleSet::parse(std::string_view text, const std::string& file) {
  Result<YamlNode> root = parse_yaml(text, file);
  if (!root) return tl::unexpected(root.error());
  return parse(*root);
}

Result<RuleSet> RuleSet::parse(const YamlNode& node) {
  auto compiled = std::make_unique<Compiled>();
  if (Result<void> parsed = parse_rules(node, *compiled); !parsed)
    return tl::unexpected(parsed.error());
  return RuleSet(std::move(compiled));
}

std::vector<ColumnNeed> column_needs(const RuleSet& rules) {
  std::vector<ColumnNeed> needs;
  const RuleSet::Compiled& compiled = rules.compiled();
  for (std::uint32_t index = 0; index < compiled.rules.size(); ++index) {
    const RuleInfo& info = compiled.infos[index];
    const CompiledRule& rule = compiled.rules[index];
    // What a join implies is made of its templates, and follows their promises.
    const auto is_awaited = [&](const std::string& column) {
      return info.implied_via.empty() &&
             (std::find(rule.when_changed.begin(), rule.when_changed.end(), column) != rule.when_changed.end() ||
              std::any_of(rule.where.begin(), rule.where.end(),
                          [&](const Condition& condition) { return condition.crosses && condition.column == column; }));
    };
    const auto add = [&](const std::string& column, const Place& place, std::string where,
                         bool is_condition, bool update_only) {
      ColumnNeed need;
      need.rule = index;
      need.column = column;
      need.place = place;
      need.where = std::move(where);
      need.is_condition = is_condition;
      need.on_insert = !update_only && info.is_on(Operation::kInsert);
      need.on_update_new = info.is_on(Operation::kUpdate);
      need.on_update_old = info.is_on(Operation::kUpdate) && !rule.is_immutable(column);
      need.on_delete_old = !update_only && info.is_on(Operation::kDelete);
      need.is_awaited = is_awaited(column);
      needs.push_back(std::move(need));
    };
    const std::string via = "via '" + info.implied_via + "'";
    for (const LookupInfo& lookup : info.lookups) {
      for (const JoinStep::Match& match : lookup.steps[0].match) {
        add(match.from, lookup.place, "via '" + lookup.steps[0].alias + "'", false, false);
      }
    }
    for (const CompiledTemplate& entry : rule.templates) {
      if (entry.lookup != kOwnRow) continue;
      std::unordered_set<std::string_view> seen;
      for (const Placeholder& placeholder : entry.compiled.placeholders) {
        if (!seen.insert(placeholder.column).second) continue;
        add(placeholder.column, entry.place,
            std::string(invalidation_kind_name(entry.kind)) + " '" + entry.compiled.source + "'",
            false, false);
      }
    }
    if (!info.version_column.empty()) {
      ColumnNeed need;
      need.rule = index;
      need.column = info.version_column;
      need.place = info.version_place;
      need.where = "version";
      need.is_condition = true;
      need.on_insert = info.is_on(Operation::kInsert);
      need.on_update_new = info.is_on(Operation::kUpdate);
      need.on_delete_old = info.is_on(Operation::kDelete);
      needs.push_back(std::move(need));
    }
    for (const Condition& condition : rule.where)
      add(condition.column, condition.place, "where", true, false);
    for (const std::string& column : rule.when_changed) {
      add(column, rule.when_changed_place, info.implied_via.empty() ? "when_changed" : via, true, true);
    }
    for (const std::string& column : rule.ignore_changed) {
      add(column, rule.ignore_changed_place, "ignore_changed", true, true);
      needs.back().on_update_new = needs.back().on_update_old = false;  // only that it exists
    }
  }
  return needs;
}

}  // namespace evictd
