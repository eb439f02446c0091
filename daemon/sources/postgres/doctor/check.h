// `evictd check` for PostgreSQL: PG001 to PG034, each with its cause and its fix. Blocks; opens its
// own connections; changes nothing on the server except one logical message (PG032).
#pragma once

#include "daemon/base/finding.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "mapping/rules.h"

namespace evictd {

struct Record;

// `record` as found in Redis, when the caller has it: lets PG011 compare the server with the one
// last used.
Findings check_postgres(const PostgresOptions& options, const RuleSet& rules,
                        const Record* record = nullptr);

}  // namespace evictd
