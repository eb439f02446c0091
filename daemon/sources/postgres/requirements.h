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

// What a person may have meant by "schema.table", which does not exist: "did you mean 'shop.orders'?", or nothing.
std::string similar_table(const Facts& facts, const std::string& table);
// The same, or how names are read.
std::string missing_table_hint(const Facts& facts, const std::string& table);

// What rules ask of tables that these cannot give, a sentence for each: columns that they do not have, conditions and
// templates that the type of a column can never fulfil. Readiness names them; the other rules are served.
std::vector<std::string> unserved_rules(const Requirements& requirements, const Facts& facts);

// What a start refuses: a value that will not be sent while the rule says `on_missing: stop`. What DDL can do to a table
// that was fine (it or a column is gone, a type is another) does not stop the others.
std::optional<Error> start_refusal(const Requirements& requirements, const Facts& facts);

// What a reload refuses, since rules that work are there to be kept: the same, what unserved_rules() names, and a table
// that does not exist.
std::optional<Error> first_refusal(const Requirements& requirements, const Facts& facts);

}  // namespace evictd
