// PG052 to PG054: whether the rows of joined tables (`via:`) can be looked up, quickly, and all of them. Asks the server; changes
// nothing.
#pragma once

#include "daemon/base/finding.h"
#include "daemon/sources/postgres/catalogue.h"
#include "mapping/rules.h"

namespace evictd {

void check_lookups(Catalogue& catalogue, const RuleSet& rules, const Facts& facts, Findings& findings);

}  // namespace evictd
