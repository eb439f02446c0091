#include "daemon/sources/postgres/failure.h"

#include <fmt/format.h>

#include "daemon/sources/postgres/sql_text.h"

namespace evictd {

namespace {

// One code for a role that may not connect to the database and for one that may not replicate, and texts in the server's language:
// the first of them names the database.
bool names_database(std::string_view text, const std::string& database) {
  return !database.empty() && text.find(database) != std::string_view::npos && text.find("walsender") == std::string_view::npos &&
         text.find("WAL sender") == std::string_view::npos;
}

// Of what libpq itself says, before and in the handshake.
std::string_view hint_of_libpq(std::string_view text) {
  const auto says = [&](std::string_view words) { return text.find(words) != std::string_view::npos; };
  if (says("root certificate file \"system\"")) {
    return "libpq before 16 takes 'system' for a file's name: write sslrootcert=/etc/ssl/certs/ca-certificates.crt into postgres.url (of the package ca-certificates)";
  }
  if (says("invalid ") && says(" value: ")) return "libpq refuses this setting of postgres.url";
  if (says("does not match host name")) return "PostgreSQL is there: name it in postgres.url by a name that its certificate has";
  if (says("certificate") || says("SSL error") || says("private key")) {
    return "PostgreSQL is there, and the handshake failed: look at sslrootcert (the authority of its certificate), sslcert and sslkey in postgres.url";
  }
  return {};
}

}  // namespace

std::string_view hint_when_full(std::string_view sqlstate) {
  if (sqlstate != "53300") return {};
  return "raise the limit that it speaks of (max_connections, max_wal_senders, CONNECTION LIMIT of the role or the database), or close other "
         "connections";
}

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
            fmt::format("the password came from {}: does it belong to {}? {} pg_hba.conf", context.credential, role,
                        state == "28000" ? "Is that role there, and may it log in? Then look at" : "Then look at")};
  }
  if (state == "28000" && !failure.needs_password) {
    return {ErrorKind::kUsage, text,
            fmt::format("is {} there, and may it log in (CREATE ROLE ... LOGIN REPLICATION; 'evictd check --sql' writes what is missing)? "
                        "If so, look at the user in postgres.url and at pg_hba.conf", role)};
  }
  if (failure.needs_password || state.starts_with("28")) {
    return {
        ErrorKind::kUsage, text,
        "check the user in postgres.url, its password (PGPASSWORD or a passfile) and pg_hba.conf"};
  }
  if (state == "3D000") return {ErrorKind::kUsage, text, "check the database name in postgres.url"};
  if (state == "42501" && !context.role.empty() && names_database(failure.text, context.database)) {
    return {ErrorKind::kUsage, text, fmt::format("GRANT CONNECT ON DATABASE {} TO {};", quoted_name(context.database), role)};
  }
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
  if (state.empty() && failure.text.find("does not support SSL") != std::string::npos) {
    return {ErrorKind::kConnection, text,
            "PostgreSQL is there, without TLS: give it a certificate (ssl = on, ssl_cert_file, ssl_key_file); or name another sslmode in postgres.url, where "
            "nobody on the way may read passwords and rows"};
  }
  if (state.empty()) {
    if (const std::string_view hint = hint_of_libpq(failure.text); !hint.empty()) return {ErrorKind::kConnection, text, std::string(hint)};
  }
  if (const std::string_view hint = hint_when_full(state); !hint.empty()) return {ErrorKind::kTransient, text, std::string(hint)};
  return {state.empty() || state.starts_with("08") || state.starts_with("57")
              ? ErrorKind::kConnection
              : ErrorKind::kTransient,
          text, failure.hint};
}

}  // namespace evictd
