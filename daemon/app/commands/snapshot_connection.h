// Asks a PostgreSQL for snapshots where it is not the stream itself, for the Kafka source and for the floor of an operator's
// purge; and for rows of joined tables, for the Kafka source.
#pragma once

#include <memory>

#include "daemon/base/secret.h"
#include "daemon/interface/lookup.h"
#include "daemon/interface/snapshot_poll.h"
#include "daemon/net/credential.h"
#include "mapping/error.h"

namespace evictd {

// kUsage when the URL cannot be read.
Result<std::unique_ptr<SnapshotPoll>> make_snapshot_poll(const Secret& url, const CredentialSource& credential = {});
Result<std::unique_ptr<LookupSession>> make_lookup_session(const Secret& url);

}  // namespace evictd
