// `evictd drop`: removes what evictd left on the server, the slot and the publication. Blocks.
#pragma once

#include <string>
#include <vector>

#include "daemon/sources/postgres/postgres_source.h"
#include "mapping/error.h"

namespace evictd {

// Drops the slot, then the publication, unless it is another role's or another slot in the database may
// be read with it: then it is left, and the line says so. What does not exist is fine. Refuses (kUsage) while another
// process uses the slot, and a slot that is not pgoutput's. Returns one line per thing, for a
// person: "dropped slot 'evictd'", "publication 'evictd' does not exist".
Result<std::vector<std::string>> drop_postgres(const PostgresOptions& options);

}  // namespace evictd
