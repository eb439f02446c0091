#include "daemon/sources/postgres/failure.h"

#include <fmt/format.h>

#include "daemon/sources/postgres/sql_text.h"

namespace evictd {

Error explain_failure(const PostgresFailure& failure, const FailureContext& context) {
  const std::string& state = failure.sqlstate;
  const std::string at = fmt::format("PostgreSQL at {}: ", context.server);
  const std::string text = at + failure.text;
  const std::string role = context.role.empty() ? "the role" : quoted_name(context.role);
  if (!context.credential.empty() && (failure.needs_password || state == "28P01" || state == "28000")) {
    // Asked again with the next try: it may just have changed.
    return {ErrorKind::kConnection, text,
            fmt::format("the password came from {}: does it belong to {}? Then look at pg_hba.conf", context.credential, role)};
  }
  if (failure.needs_password || state.starts_with("28")) {
    return {
        ErrorKind::kUsage, text,
        "check the user in postgres.url, its password (PGPASSWORD or a passfile) and pg_hba.conf"};
  }
  if (state == "3D000") return {ErrorKind::kUsage, text, "check the database name in postgres.url"};
  if (state == "42501")
    return {ErrorKind::kUsage, text, fmt::format("ALTER ROLE {} REPLICATION;", role)};
  if (state == "42601" ||
      (state == "08P01" && failure.text.find("startup parameter") != std::string::npos)) {
    return {ErrorKind::kUsage,
            at + "expected a server that speaks the replication protocol, got: " + failure.text,
            "this looks like a connection pooler: point postgres.url at the server itself"};
  }
  if (state == "22021") {
    return {ErrorKind::kData,
            at + "the stream stops at a value that is not valid text: " + failure.text,
            "set postgres.client_encoding: SQL_ASCII to pass such bytes on unchanged"};
  }
  if (state == "42602") {
    return {ErrorKind::kUsage, text,
            "postgres.slot: lower-case letters, digits and underscores, at most 63 of them"};
  }
  if (state == "53400") {
    return {ErrorKind::kTransient, text,
            "raise max_replication_slots, or drop a slot that nobody uses"};
  }
  if (state == "53300") {
    return {ErrorKind::kTransient, text,
            "raise max_connections and max_wal_senders, or close other connections"};
  }
  return {state.empty() || state.starts_with("08") || state.starts_with("57")
              ? ErrorKind::kConnection
              : ErrorKind::kTransient,
          text,
          {}};
}

}  // namespace evictd
