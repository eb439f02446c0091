// What a row that is in its table now can be cached under, by all rules of the table: for `purge --where` and `explain
// --from-table`. Pure.
#pragma once

#include <span>

#include "mapping/mapper.h"

namespace evictd {

// Calls `receiver` once for each key, tag and counter that an insert, an update or a delete of this row would touch, whatever
// columns it changes. REQUIRES: one known value for each column.
void map_row(Mapper& mapper, const Relation& relation, std::span<const Value> row, InvalidationReceiver& receiver);

}  // namespace evictd
