// What a row that is in its table now can be cached under, by all rules of the table: for `purge --where` and `explain
// --from-table`. Pure.
#pragma once

#include <span>

#include "mapping/mapper.h"

namespace evictd {

// Calls `receiver` once for each key, tag, counter and `purge:` pattern that an insert, an update or a delete of this row would touch, whatever
// columns it changes. Of rules that are on updates alone also what the row would have had under another condition.
// REQUIRES: one known value for each column; `rules` are those of the mapper.
void map_row(const RuleSet& rules, Mapper& mapper, const Relation& relation, std::span<const Value> row, InvalidationReceiver& receiver);

}  // namespace evictd
