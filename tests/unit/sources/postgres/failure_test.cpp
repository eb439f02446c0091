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

TEST(Failure, ARoleThatIsNotThereOrMayNotLogInIsNotTakenForAWrongPassword) {
  for (const char* text : {"role \"evictd\" does not exist", "role \"evictd\" is not permitted to log in",
                           "no pg_hba.conf entry for host \"10.0.0.7\", user \"evictd\", database \"shop\", no encryption"}) {
    const Error error = explained("28000", text);
    EXPECT_EQ(error.kind, ErrorKind::kUsage);
    EXPECT_TRUE(error.hint.starts_with("is \"evictd\" there, and may it log in (")) << error.hint;
    EXPECT_TRUE(error.hint.find("'evictd check --sql'") != std::string::npos && error.hint.ends_with("pg_hba.conf")) << error.hint;
  }
  FailureContext context{"db:5432", "evictd", "evictd"};
  context.credential = "password_file 'p'";
  EXPECT_EQ(explain_failure(PostgresFailure{"28000", "role \"evictd\" does not exist"}, context).hint,
            "the password came from password_file 'p': does it belong to \"evictd\"? Is that role there, and may it log in? Then look at pg_hba.conf");
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

TEST(Failure, ACertificateThatDoesNotFitIsNotTakenForAServerThatIsAway) {
  const auto hint = [](const std::string& text) { return explained("", "connection to server at \"db\", port 5432 failed: " + text).hint; };
  EXPECT_TRUE(hint("root certificate file \"system\" does not exist; Either provide the file or change sslmode to disable server certificate verification.")
                  .starts_with("libpq before 16 takes 'system' for a file's name: write sslrootcert=/"));
  EXPECT_TRUE(hint("server certificate for \"db.lan\" does not match host name \"10.0.0.7\"").starts_with("PostgreSQL is there: name it"));
  for (const char* text : {"SSL error: certificate verify failed", "could not read root certificate file \"/tmp\": no certificate or crl found",
                           "root certificate file \"ca.crt\" does not exist; Either provide the file or change sslmode to disable server certificate verification.",
                           "could not load private key file \"s.key\": key values mismatch", "SSL error: tlsv13 alert certificate required"}) {
    EXPECT_TRUE(hint(text).starts_with("PostgreSQL is there, and the handshake failed: look at sslrootcert")) << text;
  }
  EXPECT_EQ(explained("", "invalid sslmode value: \"always\"").hint, "libpq refuses this setting of postgres.url");
  EXPECT_EQ(hint("Connection refused"), "");
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
