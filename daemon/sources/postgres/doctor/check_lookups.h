// PG052 to PG054: whether the rows of joined tables (`via:`) can be looked up, quickly, and all of them. Asks the server; changes
// nothing.
#pragma once

#include "daemon/base/finding.h"
#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/conninfo.h"
#include "mapping/rules.h"

namespace evictd {

void check_lookups(Catalogue& catalogue, const RuleSet& rules, const Facts& facts, Findings& findings);

// The same of a database that is asked beside another source; PG001 when it does not answer. Nothing is asked, and nothing
// found, where no rule joins tables.
Findings check_lookups_at(const DatabaseAddress& database, const RuleSet& rules);

}  // namespace evictd
