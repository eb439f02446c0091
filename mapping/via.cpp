#include "mapping/via.h"

#include <fmt/format.h>

#include <algorithm>

#include "mapping/did_you_mean.h"
#include "mapping/rule_digest.h"
#include "mapping/rule_values.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

constexpr const char* kExample = "write via: {order: {table: orders, match: {id: order_id}}}";

std::vector<std::string_view> names_of(const std::vector<Join>& joins) {
  std::vector<std::string_view> names;
  for (const Join& join : joins) names.push_back(join.step.alias);
  return names;
}

std::size_t find_join(const std::vector<Join>& joins, std::string_view alias) {
  const auto found = std::find_if(joins.begin(), joins.end(), [&](const Join& join) { return join.step.alias == alias; });
  return found == joins.end() ? kFromRow : static_cast<std::size_t>(found - joins.begin());
}

// What a match begins with: a column, or the name of a join and a column of its table.
struct From {
  std::string alias;  // empty: the rule's table
  std::string column;
  Place place;
};

Result<From> parse_from(const YamlNode& node) {
  const Result<std::string> text = yaml_text(node);
  if (!text) return tl::unexpected(text.error());
  const auto wrong = [&] {
    return fail_at(node.place, fmt::format("'match': expected a column, or a join and its column, got '{}'", printable(*text)),
                   "write {id: order_id}, or {id: variant.product_id}");
  };
  const Result<Template> compiled = parse_template("{" + *text + "}");
  if (!compiled || compiled->placeholders.size() != 1 || !compiled->literals[0].empty() || !compiled->literals[1].empty()) return wrong();
  const Placeholder& placeholder = compiled->placeholders[0];
  if (placeholder.each || !placeholder.filters.empty() || placeholder.path.size() > 1) return wrong();
  if (placeholder.path.empty()) return From{"", placeholder.column, node.place};
  return From{placeholder.column, placeholder.path[0], node.place};
}

Result<void> parse_join(const YamlEntry& entry, Join& join, std::vector<From>& froms) {
  join.step.alias = entry.name;
  join.step.place = entry.place;
  YamlMap map(entry.value, fmt::format("the join '{}'", printable(entry.name)));
  if (const YamlNode* table = map.require("table")) {
    Result<TableName> name = parse_table(*table);
    map.take(name, *table);
    if (name) join.step.table = std::move(*name);
  }
  if (const YamlNode* match = map.require("match")) {
    if (match->kind != YamlNode::Kind::kMap || match->entries.empty() || match->entries.size() > kMatchesMax) {
      map.take(fail_at(match->place,
                       fmt::format("'match': expected a map of 1 to {} columns, got {}", kMatchesMax,
                                   match->kind == YamlNode::Kind::kMap ? fmt::format("{}", match->entries.size()) : describe(*match)),
                       kExample),
               match->place);
    } else {
      for (const YamlEntry& one : match->entries) {
        Result<From> from = parse_from(one.value);
        map.take(from, one.value);
        if (!from) continue;
        join.step.match.push_back({one.name, from->column});
        froms.push_back(std::move(*from));
      }
    }
  }
  map.read("immutable", join.immutable);
  return map.finish();
}

// `join` is one of the circle's.
std::string circle_hint(const Join& join, const From& from) {
  return fmt::format("begin one of them at a column of the rule's table, which has no join before it: in '{}' write {{{}: {}}} in place of {{{}: {}.{}}}",
                     printable(join.step.alias), printable(join.step.match[0].column), printable(from.column), printable(join.step.match[0].column),
                     printable(from.alias), printable(from.column));
}

}  // namespace

Result<std::vector<Join>> parse_via(const YamlNode& node) {
  if (node.kind != YamlNode::Kind::kMap || node.entries.empty()) {
    return fail_at(node.place,
                   fmt::format("'via': expected a map of joins, got {}",
                               node.kind == YamlNode::Kind::kMap ? "an empty one" : describe(node)),
                   kExample);
  }
  if (node.entries.size() > kJoinsMax) {
    return fail_at(node.place, fmt::format("'via': expected at most {} joins, got {}", kJoinsMax, node.entries.size()));
  }
  std::vector<Join> joins;
  std::vector<std::vector<From>> froms;
  for (const YamlEntry& entry : node.entries) {
    if (entry.name.empty()) return fail_at(entry.place, "'via': expected a name for the join, got an empty one", kExample);
    if (Result<void> parsed = parse_join(entry, joins.emplace_back(), froms.emplace_back()); !parsed) return tl::unexpected(parsed.error());
  }
  for (std::size_t i = 0; i < joins.size(); ++i) {
    for (const From& from : froms[i]) {
      if (from.alias != froms[i][0].alias) {
        return fail_at(from.place, fmt::format("the join '{}' begins at two tables", printable(joins[i].step.alias)),
                       "all columns of one 'match' are of the same table");
      }
    }
    const From& from = froms[i][0];
    joins[i].from = from.alias.empty() ? kFromRow : find_join(joins, from.alias);
    if (!from.alias.empty() && joins[i].from == kFromRow) {
      return fail_at(from.place, fmt::format("no join has the name '{}'", printable(from.alias)),
                     did_you_mean(from.alias, names_of(joins), "joins"));
    }
  }
  for (const Join& join : joins) {
    std::size_t steps = 0;
    for (std::size_t at = join.from; at != kFromRow; at = joins[at].from) {
      if (++steps > joins.size()) {
        return fail_at(join.step.place, fmt::format("the join '{}' never begins at the rule's table: its steps are a circle",
                                                    printable(join.step.alias)),
                       circle_hint(joins[at], froms[at][0]));
      }
    }
  }
  return joins;
}

Result<std::size_t> take_join(Template& compiled, const std::vector<Join>& joins) {
  std::vector<std::size_t> reads;
  for (const Placeholder& placeholder : compiled.placeholders) reads.push_back(find_join(joins, placeholder.column));
  const auto joined = std::find_if(reads.begin(), reads.end(), [](std::size_t join) { return join != kFromRow; });
  if (joined == reads.end()) return kFromRow;
  const std::string& alias = joins[*joined].step.alias;
  for (const std::size_t other : reads) {
    if (other == *joined) continue;
    return fail(ErrorKind::kUsage,
                fmt::format("it reads columns of '{}' and of {}: such a key cannot be kept complete", printable(alias),
                            other == kFromRow ? "the row itself" : "'" + printable(joins[other].step.alias) + "'"),
                "when both change, the former values of both are known to nobody together: name columns of one table alone, or let "
                "readers list the key under a tag of each row (docs/rules.md)");
  }
  for (Placeholder& placeholder : compiled.placeholders) {
    if (placeholder.path.empty()) {
      return fail(ErrorKind::kUsage, fmt::format("'{}' is a join: expected one of its columns", printable(alias)),
                  fmt::format("write {{{}.id}}", alias));
    }
    placeholder.column = std::move(placeholder.path[0]);
    placeholder.path.erase(placeholder.path.begin());
  }
  return *joined;
}

std::uint32_t lookup_to(RuleInfo& info, const std::vector<Join>& joins, std::size_t from, std::size_t target) {
  std::vector<JoinStep> steps;
  for (std::size_t at = target; at != from; at = joins[at].from) steps.insert(steps.begin(), joins[at].step);
  const auto leads_there = [&](const LookupInfo& lookup) {
    return lookup.steps.size() == steps.size() && lookup.steps.back().alias == steps.back().alias;
  };
  const auto known = std::find_if(info.lookups.begin(), info.lookups.end(), leads_there);
  if (known != info.lookups.end()) return static_cast<std::uint32_t>(known - info.lookups.begin());
  info.lookups.push_back({steps, {}, {}, steps[0].place});
  return static_cast<std::uint32_t>(info.lookups.size() - 1);
}

bool is_used(const CompiledRule& rule, const RuleInfo& info, const Join& join) {
  return std::any_of(rule.templates.begin(), rule.templates.end(), [&](const CompiledTemplate& entry) {
    if (entry.lookup == kOwnRow) return false;
    const std::vector<JoinStep>& steps = info.lookups[entry.lookup].steps;
    return std::any_of(steps.begin(), steps.end(), [&](const JoinStep& step) { return step.alias == join.step.alias; });
  });
}

void add_implied_rules(const RuleInfo& info, const CompiledRule& rule, const std::vector<Join>& joins,
                       RuleSet::Compiled& compiled) {
  for (std::size_t number = 0; number < joins.size(); ++number) {
    const Join& join = joins[number];
    if (!is_used(rule, info, join)) continue;
    RuleInfo implied;
    CompiledRule rules;
    implied.name = fmt::format("{} via {}", info.name, join.step.alias);
    implied.implied_via = join.step.alias;
    implied.implied_by = info.name;
    implied.schema = join.step.table.schema;
    implied.table = join.step.table.table;
    implied.place = join.step.place;
    implied.fill = info.fill;
    implied.settle = info.settle;
    implied.on_missing = info.on_missing;
    implied.collapse_after = info.collapse_after;
    for (const Operation operation : {Operation::kInsert, Operation::kUpdate, Operation::kDelete, Operation::kTruncate}) {
      implied.operations = static_cast<std::uint8_t>(implied.operations | 1U << static_cast<unsigned>(operation));
    }
    implied.mode = info.mode;
    implied.grace = info.grace;
    implied.tags_mode = info.tags_mode;
    implied.announce = info.announce;
    implied.caches = info.caches;
    implied.cache_places = info.cache_places;
    implied.purge_every = info.purge_every;
    implied.fan_out = info.fan_out;
    implied.on_overflow = info.on_overflow;
    implied.refresh = info.refresh;
    implied.refresh.rule = info.name;
    rules.immutable = join.immutable;
    rules.when_changed_place = join.step.place;
    // What decides which rows the join leads to and from, and what is rendered: nothing else of the row matters.
    const auto matters = [&](const std::string& column) {
      std::vector<std::string>& columns = rules.when_changed;
      if (std::find(columns.begin(), columns.end(), column) == columns.end()) columns.push_back(column);
    };
    for (const JoinStep::Match& match : join.step.match) matters(match.column);
    for (std::size_t i = 0; i < rule.templates.size(); ++i) {
      const CompiledTemplate& entry = rule.templates[i];
      if (entry.lookup == kOwnRow) continue;
      const std::vector<JoinStep>& steps = info.lookups[entry.lookup].steps;
      const auto here = std::find_if(steps.begin(), steps.end(), [&](const JoinStep& step) { return step.alias == join.step.alias; });
      if (here == steps.end()) continue;
      CompiledTemplate copy = entry;
      if (std::next(here) == steps.end()) {
        copy.lookup = kOwnRow;
        for (const Placeholder& placeholder : copy.compiled.placeholders) matters(placeholder.column);
      } else {
        for (const JoinStep::Match& match : std::next(here)->match) matters(match.from);
        copy.lookup = lookup_to(implied, joins, number, static_cast<std::size_t>(
            std::find_if(joins.begin(), joins.end(), [&](const Join& one) { return one.step.alias == steps.back().alias; }) - joins.begin()));
        LookupInfo& lookup = implied.lookups[copy.lookup];
        lookup.columns = info.lookups[entry.lookup].columns;
        lookup.templates.push_back(static_cast<std::uint32_t>(implied.patterns.size()));
      }
      std::vector<std::string>& texts = entry.kind == InvalidationKind::kKey         ? implied.key_templates
                                        : entry.kind == InvalidationKind::kTag       ? implied.tag_templates
                                        : entry.kind == InvalidationKind::kSurrogate ? implied.surrogate_templates
                                                                                     : implied.bump_templates;
      texts.push_back(entry.compiled.source);
      implied.patterns.push_back(info.patterns[i]);
      rules.templates.push_back(std::move(copy));
    }
    rules.first_purge_pattern = static_cast<std::uint32_t>(implied.patterns.size());
    implied.digest = rule_digest(implied, rules, DigestOf::kKeys);
    implied.surrogate_digest = rule_digest(implied, rules, DigestOf::kSurrogates);
    compiled.infos.push_back(std::move(implied));
    compiled.rules.push_back(std::move(rules));
  }
}

}  // namespace evictd
