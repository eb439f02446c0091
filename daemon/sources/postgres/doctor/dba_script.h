// `evictd check --sql`: what whoever owns the database has to do for the rules, as one script for psql. Pure, and made from
// the rules alone, so that it is to be had before the role exists: the script itself asks the server what is missing, runs
// that and nothing else, and may be run again.
#pragma once

#include <string>

#include "daemon/sources/postgres/postgres_source.h"
#include "mapping/rules.h"

namespace evictd {

// kUsage when postgres.url cannot be read.
Result<std::string> dba_script(const PostgresOptions& options, const RuleSet& rules);

}  // namespace evictd
