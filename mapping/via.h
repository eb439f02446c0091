// `via:` of a rule: joined tables, whose columns its templates may read. For the inside of mapping/ only.
//
//   rule's table ──order──► orders        {order.user_id}: a change of the rule's row is followed to the rows of orders
//        └───────variant──► variants ──product──► products
//
// A template reads the columns of one joined table and of no other, the rule's own included. Then each key that a reader can
// have rendered is found: by looking up, once a change is visible, what the row leads to; and, since what it led to
// before may have changed meanwhile, by the changes of the joined tables themselves, which carry their former values. So every
// joined table on the way to a template is followed as if a rule of its own named it: add_implied_rules() adds that rule.
//
// With columns of two tables that is not so. One transaction changes the row from a to b, a later one the joined row from x to
// y, and the lookup already sees y: the first finds (a, y) and (b, y), the second (b, x) and (b, y), and (a, x) stays for ever.
#pragma once

#include <string>
#include <vector>

#include "mapping/error.h"
#include "mapping/rules_compiled.h"
#include "mapping/yaml.h"

namespace evictd {

struct Join {
  JoinStep step;
  std::size_t from = 0;  // the join before it, an index; kFromRow: the rule's table
  std::vector<std::string> immutable;
};
inline constexpr std::size_t kFromRow = static_cast<std::size_t>(-1);

Result<std::vector<Join>> parse_via(const YamlNode& node);

// Which join a template reads, an index; kFromRow: none. Takes the join's name off its placeholders. The error has no place.
Result<std::size_t> take_join(Template& compiled, const std::vector<Join>& joins);

// The lookup of `info` that leads from `from` to `target`, made where there is none yet. REQUIRES: target lies behind from.
std::uint32_t lookup_to(RuleInfo& info, const std::vector<Join>& joins, std::size_t from, std::size_t target);

// Whether some template of the rule is rendered from this join, or from one behind it.
bool is_used(const CompiledRule& rule, const RuleInfo& info, const Join& join);

// The rules that `via:` implies, one for each joined table on the way to a template.
void add_implied_rules(const RuleInfo& info, const CompiledRule& rule, const std::vector<Join>& joins,
                       RuleSet::Compiled& compiled);

}  // namespace evictd
