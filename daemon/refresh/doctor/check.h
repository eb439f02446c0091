// What `evictd check` finds about the refresh queries of the rules, live.
#pragma once

#include "daemon/base/finding.h"
#include "daemon/refresh/database.h"
#include "mapping/rules.h"

namespace evictd {

// Each query is prepared, planned and run for no key, as the daemon does it.
Findings check_refresh(const RefreshDatabaseOptions& options, const RuleSet& rules);

}  // namespace evictd
