// YAML tree -> compiled rules.
#pragma once

#include "mapping/error.h"
#include "mapping/rules.h"

namespace evictd {

struct YamlNode;

// A list of rules, or a map of `defaults` and `rules`.
Result<void> parse_rules(const YamlNode& root, RuleSet::Compiled& compiled);

}  // namespace evictd
