// Types of PostgreSQL, as far as the text of their values is concerned.
#pragma once

#include "daemon/sources/postgres/pgoutput.h"
#include "mapping/change.h"

namespace evictd {

// Types below it are PostgreSQL's own, are fixed for ever, and none of them is a domain (access/transam.h).
inline constexpr Oid kGenericTypesMin = 10'000;

// What the text of a value of this type is; `type` is no domain.
ValueType value_type_of(Oid type);
// Of an array of one of those types: how its elements' texts are read.
ValueType element_type_of(Oid type);

}  // namespace evictd
