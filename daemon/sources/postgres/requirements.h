// What the rules need of the tables, against what the tables give: replica identity decides which
// old values are sent. Pure; used by `check`, and by `run` before it streams.
#pragma once

#include <optional>

#include "daemon/base/finding.h"
#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/postgres_source.h"

namespace evictd {

// PG015, PG018 to PG022, PG024 and PG034 for every rule whose table exists.
Findings check_requirements(const Requirements& requirements, const Facts& facts);

// The first thing that `run` must refuse at start, and a reload too: a table or a column that does not
// exist, or a value that will not be sent while the rule says `on_missing: stop`.
std::optional<Error> first_refusal(const Requirements& requirements, const Facts& facts);

}  // namespace evictd
