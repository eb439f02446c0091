#include "daemon/sources/postgres/catalogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/sources/postgres/catalogue_session.h"
#include "daemon/sources/postgres/catalogue_types.h"
#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

// One in constant use is made anew this often: only a new one learns that the server is shutting down.
constexpr std::chrono::seconds kSessionMax{5};
constexpr std::string_view kLockTimeout = "set local lock_timeout = '3s'";

Lsn lsn_of(const std::string& text) { return Lsn::parse(text).value_or(Lsn{}); }

SlotFacts slot_facts(CatalogueSession& session, const std::string& slot) {
  const int version = session.version();
  const auto rows = session.query(fmt::format(
      "select s.plugin, coalesce(s.database, ''), s.temporary, s.active, coalesce(s.active_pid, 0),"
      " s.restart_lsn, s.confirmed_flush_lsn, {}, {}, {}, {},"
      " a.application_name, host(a.client_addr)"
      " from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid"
      " where s.slot_name = {}",
      version >= 130000 ? "s.wal_status" : "''", version >= 130000 ? "s.safe_wal_size" : "null",
      version >= 140000 ? "s.two_phase" : "false",
      version >= 170000 ? "s.invalidation_reason" : "null", session.quote(slot)));
  SlotFacts facts;
  if (rows.empty()) return facts;
  const auto& row = rows[0];
  facts.exists = true;
  facts.plugin = row[0];
  facts.database = row[1];
  facts.is_temporary = row[2] == "t";
  facts.is_active = row[3] == "t";
  facts.active_pid = std::stoi(row[4]);
  facts.restart = lsn_of(row[5]);
  facts.confirmed = lsn_of(row[6]);
  facts.is_lost = row[7] == "lost" || !row[10].empty();
  if (!row[8].empty()) facts.safe_wal_bytes = std::stoll(row[8]);
  facts.two_phase = row[9] == "t";
  // Before 17 nothing tells the reason, and there was but this one.
  const bool is_wal_removed = row[10] == "wal_removed" || row[10].empty();
  facts.lost_reason = facts.is_lost && is_wal_removed ? "more WAL than max_slot_wal_keep_size" : row[10];
  facts.holder =
      fmt::format("pid {} ({}, {})", facts.active_pid, row[11].empty() ? "unnamed" : row[11],
                  row[12].empty() ? "local or hidden address" : row[12]);
  return facts;
}

// For "did you mean" alone: the name of some table may be one that the server cannot send in our encoding.
std::vector<std::string> other_tables(CatalogueSession& session) {
  std::vector<std::string> names;
  try {
    for (const auto& other : session.query(
             "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
             " where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'"
             " order by c.relispartition, c.oid limit 1000")) {
      names.push_back(other[0]);
    }
  } catch (const SessionFailure& failure) {
    if (failure.kind == ErrorKind::kConnection) throw;
  }
  return names;
}

}  // namespace

std::string heartbeat_grant(const ServerFacts& server) {
  return fmt::format("GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text{}) TO {};",
                     server.version >= 170'000 ? ", boolean" : "", quoted_name(server.role));
}

std::string Blocker::describe() const {
  if (prepared.empty()) return fmt::format("pid {} ({}), open for {} s", pid, application, open_seconds);
  return fmt::format("prepared transaction {} of database '{}', open for {} s", quoted_text(prepared), database,
                     open_seconds);
}

std::string Blocker::ending() const {
  if (prepared.empty()) return fmt::format("SELECT pg_terminate_backend({});", pid);
  return fmt::format("ROLLBACK PREPARED {}; (or COMMIT PREPARED) in database '{}'", quoted_text(prepared), database);
}

const ColumnFacts* RelationFacts::find_column(std::string_view column) const {
  const auto found = std::find_if(columns.begin(), columns.end(),
                                  [&](const ColumnFacts& facts) { return facts.name == column; });
  return found == columns.end() ? nullptr : &*found;
}

bool RelationFacts::has_identity() const {
  if (std::any_of(columns.begin(), columns.end(), [](const ColumnFacts& column) { return column.in_identity && column.breaks_identity; })) return false;
  if (identity == 'f') return true;
  return identity != 'n' &&
         std::any_of(columns.begin(), columns.end(),
                     [](const ColumnFacts& column) { return column.in_identity; });
}

bool TableFacts::is_followed() const {
  const auto holders = row_relations();
  if (holders.empty()) return table.is_published;
  return std::any_of(holders.begin(), holders.end(),
                     [](const RelationFacts* relation) { return relation->is_published; });
}

std::vector<const RelationFacts*> TableFacts::row_relations() const {
  std::vector<const RelationFacts*> result;
  if (table.kind != 'p') result.push_back(&table);
  for (const RelationFacts& member : members) {
    if (member.kind != 'p') result.push_back(&member);
  }
  return result;
}

struct Catalogue::Session : CatalogueSession {
  using CatalogueSession::CatalogueSession;
};

Catalogue::Catalogue(Conninfo conninfo, std::chrono::milliseconds answer_max, bool is_for_a_person)
    : conninfo_(std::move(conninfo)), answer_max_(answer_max), is_for_a_person_(is_for_a_person) {}
Catalogue::~Catalogue() = default;

void Catalogue::reset(Conninfo conninfo) {
  conninfo_ = std::move(conninfo);
  session_.reset();
}

void Catalogue::go_to(const Conninfo& conninfo) {
  if (conninfo.text() != conninfo_.text()) session_.reset();
  conninfo_ = conninfo;
}

void Catalogue::disconnect() { session_.reset(); }

template <typename T, typename Work>
Result<T> Catalogue::run(Work work) {
  if (lost_) return tl::unexpected<Error>(*lost_);
  const auto now = std::chrono::steady_clock::now();
  if (now - session_since_ > kSessionMax) session_.reset();
  std::optional<Error> error;
  Result<T> result = CatalogueSession::guard<T>(
      [&]() -> T {
        if (!session_) {
          session_ = std::make_unique<Session>(conninfo_, answer_max_);
          session_since_ = now;
        }
        return work(static_cast<CatalogueSession&>(*session_));
      },
      conninfo_);
  if (!result && result.error().kind == ErrorKind::kConnection) {
    session_.reset();
    if (is_for_a_person_) lost_ = result.error();
  }
  return result;
}

Result<Facts> Catalogue::read_facts(const Subject& subject) {
  return run<Facts>([&](CatalogueSession& session) {
    const int version = session.version();
    Facts facts;
    const auto server = session.query(
        "select current_setting('wal_level'), pg_is_in_recovery(),"
        " extract(epoch from pg_postmaster_start_time())::numeric(20,3),"
        // Set anew when statistics are thrown away by crash recovery, which leaves the start time
        // alone.
        " (select coalesce(extract(epoch from stats_reset)::numeric(20,3), 0) from "
        "pg_stat_archiver),"
        " current_database(), (select oid from pg_database where datname = current_database()), "
        "current_user,"
        " (select rolreplication or rolsuper from pg_roles where rolname = current_user),"
        " current_setting('server_encoding'),"
        " (select setting from pg_settings where name = 'wal_sender_timeout'),"
        " case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() "
        "end");
    const auto& row = server.at(0);
    facts.server.version = version;
    facts.server.wal_level = row[0];
    facts.server.is_standby = row[1] == "t";
    facts.server.instance = row[2] + "/" + row[3];
    facts.server.database = row[4];
    facts.server.database_oid = static_cast<Oid>(std::stoul(row[5]));
    facts.server.role = row[6];
    facts.server.role_may_replicate = row[7] == "t";
    facts.server.encoding = row[8];
    facts.server.wal_sender_timeout = std::chrono::milliseconds(std::stoll(row[9]));
    facts.server.wal_end = lsn_of(row[10]);

    facts.slot = slot_facts(session, subject.slot);

    const auto publication = session.query(fmt::format(
        "select pg_has_role(current_user, pubowner, 'USAGE'), puballtables, pubinsert, pubupdate, "
        "pubdelete,"
        " {}, {}, oid::text || ':' || xmin::text, {} from pg_publication where pubname = {}",
        version >= 110000 ? "pubtruncate" : "false", version >= 130000 ? "pubviaroot" : "false", version >= kGeneratedColumnsVersion ? "pubgencols = 's'" : "false",
        session.quote(subject.publication)));
    facts.publication.name = subject.publication;
    if (!publication.empty()) {
      const auto& p = publication[0];
      facts.publication = {subject.publication, true, p[0] == "t", p[1] == "t", p[6] == "t",
                           p[2] == "t", p[3] == "t", p[4] == "t", p[5] == "t", p[7], p[8] == "t"};
    }
    facts.tables = read_tables(session, subject, facts.publication);
    if (facts.tables.size() < subject.tables.size()) facts.other_tables = other_tables(session);
    return facts;
  });
}

Result<SlotFacts> Catalogue::read_slot(const std::string& slot) {
  return run<SlotFacts>([&](CatalogueSession& session) { return slot_facts(session, slot); });
}

Result<ServerHistory> Catalogue::read_history() {
  return run<ServerHistory>([&](CatalogueSession& session) {
    // The timeline of what is written, not that of the last checkpoint, which a promotion does not wait for.
    const auto rows = session.query(
        "select not pg_is_in_recovery(), system_identifier,"
        " case when pg_is_in_recovery() then '0' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end from pg_control_system()");
    return ServerHistory{rows.at(0)[0] == "t", rows[0][1], static_cast<std::uint32_t>(std::stoul(rows[0][2], nullptr, 16))};
  });
}

Result<SlotStatistics> Catalogue::read_statistics(const std::string& slot) {
  return run<SlotStatistics>([&](CatalogueSession& session) {
    const auto rows = session.query(
        fmt::format("select pg_current_wal_lsn(), s.restart_lsn, {}, s.confirmed_flush_lsn from (select 1) one left join pg_replication_slots s on "
                    "s.slot_name = {}",
                    session.version() >= 130000 ? "s.safe_wal_size" : "null", session.quote(slot)));
    SlotStatistics statistics;
    statistics.wal_end = lsn_of(rows.at(0)[0]);
    statistics.restart = lsn_of(rows[0][1]);
    statistics.confirmed = lsn_of(rows[0][3]);
    if (!rows[0][2].empty()) statistics.safe_wal_bytes = std::stoll(rows[0][2]);
    return statistics;
  });
}

Result<std::vector<Blocker>> Catalogue::read_blockers() {
  return run<std::vector<Blocker>>([&](CatalogueSession& session) {
    // Whoever has an xid; the slot's own creation has none.
    const auto rows = session.query(
        "select pid, application_name, coalesce(extract(epoch from now() - xact_start)::bigint, 0) as open,"
        " datname::text, '' from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()"
        " union all select 0, '', extract(epoch from now() - prepared)::bigint, database::text, gid"
        " from pg_prepared_xacts order by open desc limit 5");
    std::vector<Blocker> blockers;
    for (const auto& row : rows) {
      blockers.push_back({std::stoi(row[0]), row[1].empty() ? "unnamed" : row[1], std::stoll(row[2]), row[3], row[4]});
    }
    return blockers;
  });
}

Result<Catalogue::Resolved> Catalogue::resolve(Oid relation,
                                               const std::vector<std::string>& tables,
                                               const std::vector<Oid>& types) {
  return run<Resolved>([&](CatalogueSession& session) {
    const auto rows = session.query(fmt::format(
        "with recursive up(relation, level) as (select {}::oid, 0 union"
        " select i.inhparent, up.level + 1 from up join pg_inherits i on i.inhrelid = up.relation)"
        " select n.nspname, c.relname from up join pg_class c on c.oid = up.relation"
        " join pg_namespace n on n.oid = c.relnamespace group by c.oid, n.nspname, c.relname"
        " order by min(up.level), c.oid",
        relation));
    Resolved resolved;
    resolved.relation = relation;
    resolved.exists = !rows.empty();
    for (const auto& row : rows) {
      const std::string name = row[0] + "." + row[1];
      if (std::find(tables.begin(), tables.end(), name) == tables.end()) continue;
      resolved.names.push_back(TableName{row[0], row[1]});
    }
    const CatalogueTypes known = read_types(session, {types.begin(), types.end()});
    for (const Oid type : types) resolved.base_types[type] = known.base_of(type);
    return resolved;
  });
}

Result<void> Catalogue::create_publication(const std::string& publication,
                                           const std::vector<TableName>& relations) {
  auto done = run<bool>([&](CatalogueSession& session) {
    session.transaction({std::string(kLockTimeout), create_publication_statement(publication, relations, session.version())});
    return true;
  });
  if (!done) return tl::unexpected<Error>(std::move(done.error()));
  return {};
}

Result<void> Catalogue::add_relations(const std::string& publication, const std::vector<TableName>& relations) {
  auto done = run<bool>([&](CatalogueSession& session) {
    session.transaction({std::string(kLockTimeout), add_relations_statement(publication, relations)});
    return true;
  });
  if (!done) return tl::unexpected<Error>(std::move(done.error()));
  return {};
}

Result<bool> Catalogue::is_future(std::uint64_t xid) {
  return run<bool>([&](CatalogueSession& session) {
    // Only the server's counter tells: what a snapshot calls the end are the transactions that have ended.
    try {
      session.query(fmt::format("select txid_status({})", xid));
    } catch (const SessionFailure& failure) {
      if (failure.sqlstate == "22023") return true;
      throw;
    }
    return false;
  });
}

Result<std::uint64_t> Catalogue::next_xid() {
  return run<std::uint64_t>([&](CatalogueSession& session) {
    const auto rows = session.query(session.version() >= 130000
                                        ? "select pg_snapshot_xmax(pg_current_snapshot())"
                                        : "select txid_snapshot_xmax(txid_current_snapshot())");
    return std::stoull(rows.at(0)[0]);
  });
}

Result<void> Catalogue::drop_slot(const std::string& slot) {
  auto done = run<bool>([&](CatalogueSession& session) {
    session.query(fmt::format("select pg_drop_replication_slot({})", session.quote(slot)));
    return true;
  });
  if (!done) return tl::unexpected<Error>(std::move(done.error()));
  return {};
}

Result<void> Catalogue::end_holder(const std::string& slot, int pid) {
  auto done = run<bool>([&](CatalogueSession& session) {
    session.query(fmt::format("select pg_terminate_backend(active_pid) from pg_replication_slots"
                              " where slot_name = {} and active_pid = {}",
                              session.quote(slot), pid));
    return true;
  });
  if (!done) return tl::unexpected<Error>(std::move(done.error()));
  return {};
}

Result<void> Catalogue::drop_publication(const std::string& publication) {
  auto done = run<bool>([&](CatalogueSession& session) {
    session.transaction({std::string(kLockTimeout),
                         fmt::format("drop publication {}", session.quote_name(publication))});
    return true;
  });
  if (!done) return tl::unexpected<Error>(std::move(done.error()));
  return {};
}

Result<Lsn> Catalogue::emit_message(const std::string& prefix, const std::string& content) {
  return run<Lsn>([&](CatalogueSession& session) {
    session.query(fmt::format("select pg_logical_emit_message(true, {}, {})", session.quote(prefix), session.quote(content)));
    return lsn_of(session.query("select pg_current_wal_insert_lsn()").at(0).at(0));
  });
}

Result<std::vector<std::vector<std::string>>> Catalogue::query(const std::string& statement) {
  return run<std::vector<std::vector<std::string>>>(
      [&](CatalogueSession& session) { return session.query(statement); });
}

}  // namespace evictd
