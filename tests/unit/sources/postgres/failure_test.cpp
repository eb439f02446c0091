#include "daemon/sources/postgres/failure.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

Error explained(const std::string& sqlstate, const std::string& text, bool needs_password = false) {
  return explain_failure(PostgresFailure{sqlstate, text, needs_password},
                         FailureContext{"db:5432", "evictd", "evictd"});
}

TEST(Failure, WhatAPersonMustChangeIsUsage) {
  const Error password = explained("28P01", "password authentication failed for user \"evictd\"");
  EXPECT_EQ(password.kind, ErrorKind::kUsage);
  EXPECT_EQ(password.to_string(),
            "PostgreSQL at db:5432: password authentication failed for user \"evictd\"\n"
            "hint: check the user in postgres.url, its password (PGPASSWORD or a passfile) and "
            "pg_hba.conf");
  EXPECT_EQ(explained("", "fe_sendauth: no password supplied", true).kind, ErrorKind::kUsage);
  EXPECT_EQ(explained("3D000", "database \"x\" does not exist").to_string(),
            "PostgreSQL at db:5432: database \"x\" does not exist\nhint: check the database name "
            "in postgres.url");
  EXPECT_EQ(
      explained("42501", "must be superuser or replication role to start walsender").to_string(),
      "PostgreSQL at db:5432: must be superuser or replication role to start walsender\n"
      "hint: ALTER ROLE \"evictd\" REPLICATION;");
  EXPECT_EQ(explain_failure(PostgresFailure{"42501", "must be superuser"}, FailureContext{}).hint,
            "the role that postgres.url signs in as needs REPLICATION") << "no statement without a name";
}

// One code for both, and the statement for the other one helps nobody.
TEST(Failure, ADatabaseThatTheRoleMayNotConnectToIsGranted) {
  const FailureContext context{"db:5432", "evictd", "evictd", "My Shop"};
  const Error error = explain_failure(PostgresFailure{"42501", "permission denied for database \"My Shop\"; DETAIL:  User does not have CONNECT privilege."}, context);
  EXPECT_EQ(error.kind, ErrorKind::kUsage);
  EXPECT_EQ(error.hint, "GRANT CONNECT ON DATABASE \"My Shop\" TO \"evictd\";");
  EXPECT_EQ(explain_failure(PostgresFailure{"42501", "keine Berechtigung f\u00fcr Datenbank My Shop"}, context).hint, error.hint) << "in any language";
  EXPECT_EQ(explain_failure(PostgresFailure{"42501", "permission denied to start WAL sender; DETAIL:  Only roles with the REPLICATION attribute may start a "
                                            "WAL sender process."}, FailureContext{"db:5432", "evictd", "evictd", "start"}).hint,
            "ALTER ROLE \"evictd\" REPLICATION;");
}

TEST(Failure, AServerWithoutTlsIsToldAsOne) {
  const Error error = explained("", "connection to server at \"db\", port 5432 failed: server does not support SSL, but SSL was required");
  EXPECT_EQ(error.kind, ErrorKind::kConnection);
  EXPECT_TRUE(error.hint.starts_with("PostgreSQL is there, without TLS: ")) << error.hint;
}

TEST(Failure, AnImpossibleSlotNameIsUsage) {
  const Error error =
      explained("42602", "replication slot name \"My-Slot\" contains invalid character");
  EXPECT_EQ(error.kind, ErrorKind::kUsage);
  EXPECT_EQ(error.hint,
            "postgres.slot: lower-case letters, digits and underscores, at most 63 of them");
}

TEST(Failure, APoolerIsRecognised) {
  const std::string expected =
      "PostgreSQL at db:5432: expected a server that speaks the replication protocol, got: ";
  const std::string hint =
      "this looks like a connection pooler: point postgres.url at the server itself";
  for (const auto& [state, text] :
       {std::pair<std::string, std::string>{"42601", "syntax error at or near \"IDENTIFY_SYSTEM\""},
        {"08P01", "unsupported startup parameter: replication"}}) {
    const Error error = explained(state, text);
    EXPECT_EQ(error.kind, ErrorKind::kUsage);
    EXPECT_EQ(error.text, expected + text);
    EXPECT_EQ(error.hint, hint);
  }
  EXPECT_EQ(explained("08P01", "invalid frontend message").kind, ErrorKind::kConnection);
}

TEST(Failure, DataThatStopsTheStreamIsData) {
  for (const auto& [state, text] :
       {std::pair<std::string, std::string>{"22021", "invalid byte sequence for encoding \"UTF8\": 0xe9"},
        {"22P05", "character with byte sequence 0x81 in encoding \"WIN1252\" has no equivalent in encoding \"UTF8\""}}) {
    const Error error = explained(state, text);
    EXPECT_EQ(error.kind, ErrorKind::kData);
    EXPECT_EQ(error.to_string(), "PostgreSQL at db:5432: " + text);
  }
}

TEST(Failure, WalThatIsGoneTellsHowToGoOn) {
  const Error error = explained("58P01", "requested WAL segment 000000010000000000000001 has already been removed");
  EXPECT_EQ(error.kind, ErrorKind::kTransient);
  EXPECT_EQ(error.hint,
            "if the WAL that the slot needs is gone for good: SELECT pg_drop_replication_slot('evictd'); evictd makes it anew, and purges "
            "what its rules match");
}

// The server fails at the same row each time, whatever became of the filter since.
TEST(Failure, ARowFilterThatFailsTellsHowToGoOnAndNoValue) {
  const Error error = explained("22P02", "invalid input syntax for type integer: \"a name\"");
  EXPECT_EQ(error.kind, ErrorKind::kData);
  EXPECT_EQ(error.text.find("a name"), std::string::npos) << error.text;
  EXPECT_NE(error.hint.find("SELECT pg_drop_replication_slot('evictd');"), std::string::npos) << error.hint;
}

TEST(Failure, WhatPassesIsRetried) {
  EXPECT_EQ(explained("", "connection refused").kind, ErrorKind::kConnection);
  EXPECT_EQ(explained("57P03", "the database system is starting up").kind, ErrorKind::kConnection);
  EXPECT_EQ(explained("53300", "sorry, too many clients already").hint,
            "raise the limit that it speaks of (max_connections, max_wal_senders, CONNECTION LIMIT of the role or the database), or close other "
            "connections");
  EXPECT_EQ(explained("53400", "all replication slots are in use").hint,
            "raise max_replication_slots, or drop a slot that nobody needs any more");
  EXPECT_EQ(explained("55P03", "lock not available").kind, ErrorKind::kTransient);
}

}  // namespace
}  // namespace evictd
