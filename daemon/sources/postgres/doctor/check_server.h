// The part of `check` that judges facts already gathered: pure, so that each finding can be tested
// without a server in that state.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/finding.h"
#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "daemon/interface/record.h"

namespace evictd {

// What only `check` asks the server.
struct CheckFacts {
  Facts facts;
  std::string system;  // empty when the replication connection failed
  std::string timeline;
  int slots_used = 0, slots_max = -1;  // -1: not known
  std::string idle_slot;  // a logical one that nobody uses now; of a physical one a standby lives
  int senders_used = 0, senders_max = 0;
  std::int64_t slot_wal_keep_mb = -1;    // max_slot_wal_keep_size; -1: no limit
  std::int64_t idle_slot_timeout_s = 0;  // PostgreSQL 18; 0: never
  std::vector<std::string> pins_overridden;  // "DateStyle of role \"shop\""
  std::vector<std::string> pins_refused;     // settings that did not become what we asked for
  std::vector<std::string> asynchronous;     // where synchronous_commit is off
  std::string synchronous_standby_names;
  std::vector<Blocker> open_transactions;
  std::chrono::milliseconds clock_ahead{0};  // of the server's clock over ours
  bool may_create = true;                    // publications in this database
};

Findings judge_server(const CheckFacts& check, const PostgresOptions& options, const RuleSet& rules,
                      const Record* record);

}  // namespace evictd
