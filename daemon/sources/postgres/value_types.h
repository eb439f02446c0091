// Types of PostgreSQL, as far as the text of their values is concerned.
#pragma once

#include "daemon/sources/postgres/pgoutput.h"
#include "mapping/change.h"

namespace evictd {

// What the text of a value of this type is; `type` is no domain.
ValueType value_type_of(Oid type);
// Of an array of one of those types: how its elements' texts are read.
ValueType element_type_of(Oid type);

}  // namespace evictd
