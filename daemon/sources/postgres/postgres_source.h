// The PostgreSQL source: the change stream of one logical replication slot (pgoutput, protocol 1,
// text), as transactions (source.h). It makes its publication and slot, finds gaps (G6), waits as
// standby while another process holds the slot, answers snapshot requests, and lets the server shut
// down (G7).
//
// Inside: three connections to the same server. The stream (replication.h) and the snapshots
// (snapshots.h) are non-blocking and belong to the loop thread; the catalogue (catalogue.h) blocks
// and has one thread of its own (worker.h). No text that leaves this room contains a password.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/interface/source.h"
#include "daemon/net/credential.h"
#include "mapping/column_use.h"
#include "mapping/rules.h"

namespace evictd {

// What the rules ask of the tables, kept by value so that a source need not outlive a RuleSet.
struct Requirements {
  std::vector<RuleInfo> rules;
  std::vector<ColumnNeed> needs;
  std::vector<ColumnUse> uses;
};
Requirements requirements_of(const RuleSet& rules);

// Something a person should read that does not change what the source does: a replica identity that
// makes a rule fall back to its purge, who delays the creation of the slot, why a connection
// attempt failed.
struct PostgresNotice {
  bool is_warning = false;
  std::string text;
  std::string hint;
  bool is_error = false;  // of the same severity as in `check`
};

struct PostgresOptions {
  std::string url;  // libpq URI or keywords
  CredentialSource credential;  // of the password, when it is not in `url`
  std::string slot = "evictd";
  std::string publication = "evictd";
  // Empty: UTF8. "SQL_ASCII" passes the bytes of a SQL_ASCII database through unchanged.
  std::string client_encoding;
  // Between two of our own logical messages through the stream; 0 switches them off.
  std::chrono::milliseconds heartbeat{10'000};
  // How long a server that is shutting down is kept waiting for acknowledgements (G7).
  std::chrono::milliseconds shutdown_grace{5'000};
  // Between two looks at the catalogue: publication, table identities, columns.
  std::chrono::milliseconds watch_interval{5'000};
  // How long one answer of the catalogue's session may take before it is given up and made anew.
  std::chrono::milliseconds answer_max{25'000};
  // For `watch`: a temporary slot, gone with the connection; nothing is created, repaired or
  // written.
  bool temporary_slot = false;
  // Checked against the live tables at start: a missing table or column is kUsage with its place.
  Requirements requirements;
  // Called from inside step(), may be empty.
  std::function<void(const PostgresNotice&)> on_notice;
};

std::unique_ptr<Source> make_postgres_source(PostgresOptions options);

}  // namespace evictd
