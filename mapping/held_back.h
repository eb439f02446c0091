// Why the rules of a table make nothing, or less, of a change: for a person who wonders. Pure, and apart from the mapper,
// which says nothing and is fast.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mapping/change.h"
#include "mapping/rules.h"

namespace evictd {

struct HeldBack {
  std::uint32_t rule = 0;  // in rules.rules()
  std::string why;         // "'where': 'status' is 'draft' in the new row"
};

// In the order of the rules. A rule with a NULL in one of its templates may stand there as well as make keys of others.
std::vector<HeldBack> held_back(const RuleSet& rules, const Change& change);

}  // namespace evictd
