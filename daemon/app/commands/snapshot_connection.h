// Asks a PostgreSQL for snapshots where it is not the stream itself, for the Kafka source and for the floor of an operator's
// purge; and for rows of joined tables, for the Kafka source.
#pragma once

#include <memory>

#include "daemon/interface/lookup.h"
#include "daemon/interface/snapshot_poll.h"
#include "daemon/sources/postgres/conninfo.h"
#include "mapping/error.h"

namespace evictd {

// kUsage when the URL cannot be read.
Result<std::unique_ptr<SnapshotPoll>> make_snapshot_poll(const DatabaseAddress& database);
Result<std::unique_ptr<LookupSession>> make_lookup_session(const DatabaseAddress& database);

}  // namespace evictd
