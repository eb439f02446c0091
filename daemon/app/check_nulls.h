// CF003 of `evictd check`: columns of templates that may be NULL. Needs to know the live columns,
// so it is apart from check_files.h.
#pragma once

#include <map>
#include <set>
#include <string>

#include "daemon/base/finding.h"
#include "mapping/rules.h"

namespace evictd {

// "schema.table" -> the columns that may hold NULL.
using NullableColumns = std::map<std::string, std::set<std::string>>;

// A note for each placeholder without default() whose column may be NULL: such a row has no key.
Findings check_nulls(const RuleSet& rules, const NullableColumns& nullable);

}  // namespace evictd
