// What the rules need of the tables, against what the tables give: replica identity decides which
// old values are sent. Pure; used by `check`, and by `run` before it streams.
#pragma once

#include <optional>

#include "daemon/base/finding.h"
#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/postgres_source.h"

namespace evictd {

// PG015, PG018 to PG022, PG024, PG034 and PG050 for every rule whose table exists.
Findings check_requirements(const Requirements& requirements, const Facts& facts);

// What a person may have meant by "schema.table", which does not exist.
std::string missing_table_hint(const Facts& facts, const std::string& table);

// The columns that rules name and their tables do not have, a sentence for each.
std::vector<std::string> missing_columns(const Requirements& requirements, const Facts& facts);

// What a start refuses: a value that will not be sent while the rule says `on_missing: stop`, and what a column's type
// proves to have no effect ever. A table or column that is not there does not stop the others.
std::optional<Error> start_refusal(const Requirements& requirements, const Facts& facts);

// What a reload refuses, since rules that work are there to be kept: the same, and a table or a column that does not
// exist.
std::optional<Error> first_refusal(const Requirements& requirements, const Facts& facts);

}  // namespace evictd
