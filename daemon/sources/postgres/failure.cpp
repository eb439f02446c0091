#include "daemon/sources/postgres/failure.h"

#include <fmt/format.h>

#include "daemon/sources/postgres/sql_text.h"

namespace evictd {

bool is_unreadable_text(std::string_view sqlstate) { return sqlstate == "22021" || sqlstate == "22P05"; }

std::string text_without_values(const PostgresFailure& failure) {
  const bool may_spell_one = failure.sqlstate.starts_with("22") || failure.sqlstate.starts_with("23") || failure.sqlstate.starts_with("P0");
  return may_spell_one ? fmt::format("the database refuses a value (SQLSTATE {}; its own log has the message)", failure.sqlstate) : failure.text;
}

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
  if (state == "42501") {
    return {ErrorKind::kUsage, text,
            context.role.empty() ? "the role that postgres.url signs in as needs REPLICATION" : fmt::format("ALTER ROLE {} REPLICATION;", role)};
  }
  if (state == "42601" ||
      (state == "08P01" && failure.text.find("startup parameter") != std::string::npos)) {
    return {ErrorKind::kUsage,
            at + "expected a server that speaks the replication protocol, got: " + failure.text,
            "this looks like a connection pooler: point postgres.url at the server itself"};
  }
  if (is_unreadable_text(state)) return {ErrorKind::kData, text, {}};
  if (state.starts_with("22") && state != "22023") {  // that one is of the connection's settings
    // Of what the stream sends, only a row filter computes; and the publication decides as it was when the row was written.
    return {ErrorKind::kData, at + text_without_values(failure),
            fmt::format("a row filter of the publication fails at a row: publish the tables without one. What was written before that still fails: "
                        "SELECT pg_drop_replication_slot({}); evictd makes it anew, and purges what its rules match",
                        quoted_text(context.slot))};
  }
  if (state == "42602") {
    return {ErrorKind::kUsage, text,
            "postgres.slot: lower-case letters, digits and underscores, at most 63 of them"};
  }
  if (state == "58P01") {
    // pg_resetwal, or WAL that was removed by hand: the server does not call such a slot lost.
    return {ErrorKind::kTransient, text,
            fmt::format("if the WAL that the slot needs is gone for good: SELECT pg_drop_replication_slot({}); evictd makes it anew, and "
                        "purges what its rules match", quoted_text(context.slot))};
  }
  if (state == "53400") {
    return {ErrorKind::kTransient, text,
            "raise max_replication_slots, or drop a slot that nobody needs any more"};
  }
  if (state == "53300") {
    return {ErrorKind::kTransient, text,
            "raise max_connections and max_wal_senders, or close other connections"};
  }
  return {state.empty() || state.starts_with("08") || state.starts_with("57")
              ? ErrorKind::kConnection
              : ErrorKind::kTransient,
          text, failure.hint};
}

}  // namespace evictd
