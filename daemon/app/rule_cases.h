// `evictd rules test`: changes of rows with the keys they have to make, so that a team's CI sees when a rule does
// something else. Pure.
//
//   - name: a slug is renamed          # optional
//     table: products
//     op: update                       # optional: told by which rows there are
//     old: {id: 1, slug: blue}
//     new: {id: 1, slug: red}
//     keys: ["product:1", "product:slug:blue", "product:slug:red"]
//     tags: []                         # as keys, bump, purge, surrogate_keys and semantic: left out means none
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/app/command_line.h"
#include "mapping/error.h"
#include "mapping/place.h"
#include "mapping/rules.h"

namespace evictd {

struct RuleCase {
  std::string name;
  Place place;
  CommandLine change;  // table, operation, old_row, new_row, identity: as `evictd explain` takes them
  std::vector<std::pair<std::string, std::string>> expected;  // ("key", "product:1"), sorted, each once
};

// `file` is used in messages, which carry file:line:column.
Result<std::vector<RuleCase>> parse_rule_cases(std::string_view text, const std::string& file);

struct RuleCasesResult {
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::string text;  // a line for each case, for each that failed what is missing and what is too much, and what was not compared
};

// A case that names a table without a rule is an error, as in `explain`.
Result<RuleCasesResult> run_rule_cases(const std::vector<RuleCase>& cases, const RuleSet& rules);

}  // namespace evictd
