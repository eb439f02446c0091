#include "daemon/sources/postgres/doctor/check.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/doctor/check_lookups.h"
#include "daemon/sources/postgres/doctor/check_server.h"
#include "daemon/sources/postgres/failure.h"
#include "daemon/sources/postgres/requirements.h"
#include "daemon/sources/postgres/doctor/stream_probe.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::seconds kRoundTripMax{5};
constexpr int kMessagesVersion = 140'000;

// What the pinned settings must read like in a session of ours.
constexpr const char* kPinnedNames =
    "'TimeZone','DateStyle','IntervalStyle','extra_float_digits','bytea_output','lc_monetary'";

std::int64_t to_number(const std::string& text, std::int64_t otherwise = 0) {
  return text.empty() ? otherwise : std::stoll(text);
}

// libpq's default asks for TLS and goes on without: whoever stands in between can say no for the server.
void judge_transport(const Conninfo& conninfo, Findings& findings) {
  const std::string server = conninfo.server();
  if (server.starts_with("service '")) return;  // its file has both the host and sslmode
  const std::string host = server.substr(0, server.rfind(':'));
  const bool is_near = host.empty() || host[0] == '/' || host[0] == '@' || host == "localhost" || host == "::1" ||
                       host.starts_with("127.");
  const char* environment = std::getenv("PGSSLMODE");
  std::string mode = conninfo.get("sslmode");
  if (mode.empty() && environment != nullptr) mode = environment;
  if (is_near || mode == "verify-full" || mode == "verify-ca") return;
  findings.push_back({"PG038", Severity::kWarning, conninfo.server(),
                      fmt::format("sslmode is '{}': whoever stands in between can read the password and change what the "
                                  "stream says",
                                  mode.empty() ? "prefer" : mode),
                      "add sslmode=verify-full and sslrootcert to postgres.url"});
}

Finding unreachable(const PostgresFailure& failure, const FailureContext& context) {
  const Error error = explain_failure(failure, context);
  const bool is_right = failure.sqlstate == "42501";
  Finding finding{is_right ? "PG003" : "PG001", Severity::kError, context.server, error.text,
                  error.hint.empty()
                      ? "check that PostgreSQL runs there and that postgres.url is right"
                      : error.hint};
  finding.is_unreachable = error.kind == ErrorKind::kTransient || error.kind == ErrorKind::kConnection;
  return finding;
}

void gather_limits(Catalogue& catalogue, CheckFacts& check) {
  const auto rows = catalogue.query(
      "select (select count(*) from pg_replication_slots), (select setting from pg_settings where "
      "name = 'max_replication_slots'),"
      " (select slot_name from pg_replication_slots where not active and not temporary"
      " and slot_type = 'logical' order by slot_name limit 1),"
      " (select count(*) from pg_stat_replication), (select setting from pg_settings where name = "
      "'max_wal_senders'),"
      " (select setting from pg_settings where name = 'max_slot_wal_keep_size'),"
      " (select setting from pg_settings where name = 'idle_replication_slot_timeout'),"
      " (select setting from pg_settings where name = 'synchronous_standby_names'),"
      " has_database_privilege(current_database(), 'CREATE')");
  if (!rows || rows->empty()) return;
  const auto& row = rows->front();
  check.slots_used = static_cast<int>(to_number(row[0]));
  check.slots_max = static_cast<int>(to_number(row[1]));
  check.idle_slot = row[2];
  check.senders_used = static_cast<int>(to_number(row[3]));
  check.senders_max = static_cast<int>(to_number(row[4]));
  check.slot_wal_keep_mb = to_number(row[5], -1);
  check.idle_slot_timeout_s = to_number(row[6]);
  check.synchronous_standby_names = row[7];
  check.may_create = row[8] == "t";
}

void gather_sessions(Catalogue& catalogue, CheckFacts& check) {
  const auto overridden = catalogue.query(fmt::format(
      "select split_part(c, '=', 1) || case when s.setrole <> 0 then ' of role \"' || "
      "pg_get_userbyid(s.setrole) || '\"'"
      " else ' of this database' end from pg_db_role_setting s, unnest(s.setconfig) c"
      " where (s.setrole = 0 or s.setrole = (select oid from pg_roles where rolname = "
      "current_user))"
      " and (s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = "
      "current_database()))"
      " and lower(split_part(c, '=', 1)) in (select lower(n) from unnest(array[{}]) n) order by 1",
      kPinnedNames));
  if (overridden) {
    for (const auto& row : *overridden) check.pins_overridden.push_back(row[0]);
  }
  const auto pinned = catalogue.query(
      "select name from pg_settings where (name = 'TimeZone' and setting <> 'UTC')"
      " or (name = 'DateStyle' and setting not like 'ISO%') or (name = 'IntervalStyle' and setting "
      "<> 'postgres')"
      " or (name = 'extra_float_digits' and setting <> '3') or (name = 'bytea_output' and setting "
      "<> 'hex')");
  if (pinned) {
    for (const auto& row : *pinned) check.pins_refused.push_back(row[0]);
  }
  const auto asynchronous = catalogue.query(
      "select 'the server' from pg_settings where name = 'synchronous_commit' and setting = 'off' "
      "and source like '%file'"
      " union all select case when s.setrole <> 0 then 'role ' || pg_get_userbyid(s.setrole)::text "
      "else 'database' end"
      " from pg_db_role_setting s, unnest(s.setconfig) c where c = 'synchronous_commit=off'"
      " and (s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = "
      "current_database()))");
  if (asynchronous) {
    for (const auto& row : *asynchronous) check.asynchronous.push_back(row[0]);
  }
  const auto before = std::chrono::system_clock::now();
  const auto clock =
      catalogue.query("select (extract(epoch from clock_timestamp()) * 1000)::bigint");
  const auto after = std::chrono::system_clock::now();
  if (clock && !clock->empty()) {
    const auto middle = before + (after - before) / 2;
    check.clock_ahead =
        std::chrono::milliseconds(std::stoll(clock->front()[0])) -
        std::chrono::duration_cast<std::chrono::milliseconds>(middle.time_since_epoch());
  }
}

void try_round_trip(StreamProbe& probe, Catalogue& catalogue, const PostgresOptions& options,
                    const ServerFacts& server, Findings& findings) {
  const std::string content = fmt::format("check-{}", ::getpid());
  const auto outcome = probe.round_trip(
      fmt::format("{}_check_{}", options.slot.substr(0, 40), ::getpid()), options.publication,
      "evictd", content, [&]() -> Result<void> { return catalogue.emit_message("evictd", content).map([](Lsn) {}); },
      kRoundTripMax);
  const std::string object = "stream";
  switch (outcome) {
    case StreamProbe::Outcome::kArrived:
      return;
    case StreamProbe::Outcome::kSlotNotReady:
      findings.push_back({"PG032", Severity::kInfo, object,
                          "not tried: a slot cannot be created while transactions are open", ""});
      return;
    case StreamProbe::Outcome::kNotArrived:
      findings.push_back({"PG032", Severity::kError, object,
                          "connected, but a message of our own did not come back within 5 s",
                          "look at the server's log, and for a pooler or proxy in between"});
      return;
    case StreamProbe::Outcome::kFailed:
      findings.push_back(
          {"PG032", Severity::kError, object,
           "a message of our own could not be sent through a stream: " + probe.failure_text(),
           "look at the server's log"});
      if (probe.failure_text().find("pg_logical_emit_message") != std::string::npos) {
        // `run` goes on without heartbeats.
        findings.back().severity = Severity::kWarning;
        findings.back().fix = heartbeat_grant(server);
      }
      return;
  }
}

}  // namespace

Findings check_postgres(const PostgresOptions& options, const RuleSet& rules,
                        const Record* record) {
  Findings findings;
  auto conninfo = Conninfo::parse(options.url);
  if (!conninfo)
    return {
        {"PG001", Severity::kError, "postgres.url", conninfo.error().text, conninfo.error().hint}};
  conninfo->use(options.credential);
  conninfo->pin_session("evictd check", options.client_encoding);
  // As `run` does: what the role has for a limit is for its own questions.
  conninfo->set("options", conninfo->get("options") + fmt::format(" -c statement_timeout={}", std::chrono::milliseconds(kPatience).count()));
  const FailureContext context{conninfo->server(), conninfo->user(), options.slot, conninfo->get("dbname"),
                               options.credential.is_set() ? options.credential.to_string() : std::string()};

  judge_transport(*conninfo, findings);

  StreamProbe probe;
  const auto failure = probe.connect(*conninfo, kPatience);
  Conninfo pinned = *conninfo;
  if (!failure) probe.pin_server(pinned);

  Catalogue catalogue(pinned, kPatience, true);
  CheckFacts check;
  auto facts =
      catalogue.read_facts(Subject{options.slot, options.publication, rules.tables(), true});
  if (failure && (!facts || facts->server.role_may_replicate))
    findings.push_back(unreachable(*failure, context));
  if (!facts) {
    if (!failure) {
      findings.push_back({"PG001", Severity::kError, context.server,
                          "cannot read the catalogue: " + facts.error().text,
                          facts.error().hint.empty() ? "check pg_hba.conf for ordinary connections of this user" : facts.error().hint});
    }
    return findings;
  }
  check.facts = std::move(*facts);
  if (!failure) {
    check.system = probe.identity().system;
    check.timeline = probe.identity().timeline;
  }
  gather_limits(catalogue, check);
  if (!failure) --check.senders_used;  // our own try
  gather_sessions(catalogue, check);
  if (!check.facts.slot.exists) {
    if (auto open = catalogue.read_blockers()) check.open_transactions = std::move(*open);
  }
  for (Finding& finding : judge_server(check, options, rules, record))
    findings.push_back(std::move(finding));
  for (Finding& finding : check_requirements(requirements_of(rules), check.facts))
    findings.push_back(std::move(finding));
  check_lookups(catalogue, rules, check.facts, findings);
  const bool can_stream =
      !failure && check.facts.server.wal_level == "logical" && !check.facts.server.is_standby &&
      check.facts.server.version >= kMessagesVersion && check.slots_used < check.slots_max;
  if (can_stream) try_round_trip(probe, catalogue, options, check.facts.server, findings);
  return findings;
}

}  // namespace evictd
