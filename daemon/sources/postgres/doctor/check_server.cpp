#include "daemon/sources/postgres/doctor/check_server.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/postgres/new_slot_hint.h"
#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/requirements.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

constexpr std::int64_t kMiB = 1024 * 1024;
constexpr std::int64_t kSafeWalMin = 256 * kMiB;

// The first minor of each major version that does not lose changes around ALTER PUBLICATION ... ADD
// TABLE.
struct GoodMinor {
  int major, minor;
};
constexpr GoodMinor kGoodMinors[] = {{13, 21}, {14, 18}, {15, 13}, {16, 9}, {17, 5}};

class Judge {
 public:
  Judge(const CheckFacts& check, const PostgresOptions& options, const RuleSet& rules,
        const Record* record)
      : check_(check),
        server_(check.facts.server),
        slot_(check.facts.slot),
        publication_(check.facts.publication),
        options_(options),
        rules_(rules),
        record_(record) {}

  Findings run() {
    server();
    slot();
    history();
    publication();
    sessions();
    return std::move(findings_);
  }

 private:
  void add(std::string id, Severity severity, std::string object, std::string cause,
           std::string fix) {
    findings_.push_back(
        {std::move(id), severity, std::move(object), std::move(cause), std::move(fix)});
  }
  std::string slot_name() const { return fmt::format("slot '{}'", options_.slot); }

  void server() {
    if (server_.wal_level != "logical") {
      add("PG002", Severity::kError, "wal_level",
          fmt::format("expected 'logical', got '{}'", server_.wal_level),
          "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL");
    }
    // Hosted servers grant the right by membership in a role of theirs: what was let in may.
    if (!server_.role_may_replicate && check_.system.empty()) {
      add("PG003", Severity::kError, fmt::format("role '{}'", server_.role),
          "it may not use replication",
          fmt::format("ALTER ROLE {} REPLICATION;", quoted_name(server_.role)));
    }
    if (server_.is_standby) {
      add("PG004", Severity::kError, "server",
          "expected a primary server, got a standby, which shows commits that the primary still hides, and does not tell when "
          "another primary, without what is cached, has taken over",
          "connect to the primary; with several hosts in postgres.url add "
          "target_session_attrs=read-write");
    }
    const int version = server_.version;
    for (const GoodMinor& good : kGoodMinors) {
      if (version / 10'000 != good.major || version % 10'000 >= good.minor) continue;
      add("PG031", Severity::kWarning, "server",
          fmt::format("PostgreSQL {}.{} can lose changes of open transactions when a table is "
                      "added to a publication",
                      good.major, version % 10'000),
          fmt::format("upgrade to {}.{} or later", good.major, good.minor));
    }
    if (server_.encoding == "SQL_ASCII" && options_.client_encoding != "SQL_ASCII") {
      add("PG025", Severity::kWarning, fmt::format("database '{}'", server_.database),
          "its encoding is SQL_ASCII: a transaction with bytes that are not UTF-8 is read twice, and its texts beyond ASCII count as not sent",
          "set postgres.client_encoding: SQL_ASCII");
    }
    if (server_.encoding != "SQL_ASCII" && server_.encoding != "UTF8" && options_.client_encoding == "SQL_ASCII") {
      add("PG025", Severity::kWarning, fmt::format("database '{}'", server_.database),
          fmt::format("its encoding is {}, and postgres.client_encoding leaves it so: in keys, texts beyond ASCII are the bytes of {}, and keys of "
                      "readers that use UTF-8 stay", server_.encoding, server_.encoding),
          fmt::format("remove postgres.client_encoding, unless all readers connect with client_encoding {}", server_.encoding));
    }
    const auto timeout = server_.wal_sender_timeout;
    if (timeout.count() > 0 && timeout < std::chrono::seconds(5)) {
      add("PG027", Severity::kWarning, "wal_sender_timeout",
          fmt::format("it is {} ms: a short pause of this machine ends the stream",
                      timeout.count()),
          "set wal_sender_timeout to 5 s or more");
    }
    if (options_.heartbeat.count() == 0) {
      add("PG055", Severity::kInfo, "postgres.heartbeat",
          "it is off: what something in between leaves out of the stream is not found, and while nobody writes nothing shows that changes would come",
          "remove it, for every 10 s, unless the database must not be written to");
    }
  }

  void slot() {
    if (!slot_.exists) {
      if (check_.slots_max == 0) {
        add("PG005", Severity::kError, "max_replication_slots", fmt::format("it is 0, and {} is still to be created", slot_name()),
            "ALTER SYSTEM SET max_replication_slots = 10; then restart PostgreSQL");
      } else if (check_.slots_max > 0 && check_.slots_used >= check_.slots_max) {
        add("PG005", Severity::kError, "max_replication_slots",
            fmt::format("all {} are in use, and {} is still to be created", check_.slots_max,
                        slot_name()),
            check_.idle_slot.empty()
                ? "raise max_replication_slots and restart PostgreSQL"
                : fmt::format("raise max_replication_slots and restart PostgreSQL; or ask whose the logical slot '{}' is, which is not in use just now: when "
                              "it is dropped, its owner misses what it has not read yet",
                              check_.idle_slot));
      }
      if (!check_.open_transactions.empty()) {
        const Blocker& oldest = check_.open_transactions.front();
        add("PG030", Severity::kWarning, slot_name(),
            "creating it waits for the transaction of " + oldest.describe(),
            "wait, or end it with " + oldest.ending());
      }
    } else {
      existing_slot();
    }
    if (check_.senders_max > 0 && check_.senders_used >= check_.senders_max && !slot_.is_active) {
      add("PG005", Severity::kError, "max_wal_senders",
          fmt::format("all {} are in use", check_.senders_max),
          "raise max_wal_senders and restart PostgreSQL");
    }
    if (check_.slot_wal_keep_mb < 0) {
      add("PG009", Severity::kWarning, "max_slot_wal_keep_size",
          "no limit: while evictd is away, WAL is kept until the disk is full",
          "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; evictd survives the loss of its slot "
          "with a purge");
    }
    if (check_.idle_slot_timeout_s > 0) {
      add("PG010", Severity::kWarning, "idle_replication_slot_timeout",
          fmt::format("a stop of evictd for more than {} s loses its slot",
                      check_.idle_slot_timeout_s),
          "raise it, or accept a purge after a long stop");
    }
  }

  // `evictd run` ends with an error while it is not, and neither makes nor purges anything.
  bool is_slot_ours() const { return !slot_.exists || (slot_.plugin == "pgoutput" && slot_.database == server_.database); }
  bool is_slot_usable() const { return is_slot_ours() && !(slot_.exists && slot_.two_phase); }

  void existing_slot() {
    if (!is_slot_ours()) {
      add("PG006", Severity::kError, slot_name(),
          fmt::format("expected plugin 'pgoutput' in database '{}', got '{}' in '{}'",
                      server_.database, slot_.plugin, slot_.database),
          fmt::format("choose another name in postgres.slot, or drop that slot, {}", kNewSlotHint));
      return;
    }
    if (slot_.is_active) {
      add("PG007", Severity::kWarning, slot_name(), fmt::format("in use by {}", slot_.holder),
          "nothing if that is evictd; another one waits as standby until it is free");
    }
    if (slot_.is_lost) {
      add("PG008", Severity::kError, slot_name(),
          fmt::format("lost ({}): the changes since {} cannot be read any more", slot_.lost_reason,
                      slot_.confirmed.to_string()),
          fmt::format("`evictd run` creates it anew and purges what the rules cover; raise {}",
                      slot_.lost_reason == "idle_timeout" ? "idle_replication_slot_timeout" : "max_slot_wal_keep_size"));
    } else if (slot_.safe_wal_bytes && *slot_.safe_wal_bytes < kSafeWalMin) {
      add("PG009", Severity::kWarning, slot_name(),
          fmt::format("{} MiB of WAL may still be written before it is lost",
                      std::max<std::int64_t>(0, *slot_.safe_wal_bytes) / kMiB),
          "start evictd, or raise max_slot_wal_keep_size");
    }
    if (slot_.two_phase) {
      add("PG012", Severity::kError, slot_name(),
          "two_phase is on: changes would come before their commit",
          fmt::format("drop the slot, evictd creates it as it needs it, {}", kNewSlotHint));
    }
  }

  // The server against the one of the record in Redis.
  void history() {
    if (record_ == nullptr || record_->epoch.empty() || check_.system.empty()) return;
    const std::string epoch = check_.system + "/" + check_.timeline;
    const std::string fix = is_slot_usable() ? "`evictd run` says so too, purges what the rules cover, and goes on"
                                             : fmt::format("see {}: `evictd run` does not start with it", slot_name());
    if (epoch != record_->epoch) {
      add("PG011", Severity::kWarning, "server",
          fmt::format("expected system and timeline '{}', got '{}'", record_->epoch, epoch),
          fix + fmt::format("; if another evictd keeps this Redis true to that server, give one of them another name "
                            "in postgres.slot (now '{}'), and 'on_first_start: purge' for its first start under it: they overwrite each other's record", options_.slot));
      return;
    }
    if (!slot_.exists) {
      add("PG011", Severity::kWarning, slot_name(),
          "evictd used it before, and it no longer exists", fix);
      return;
    }
    // While somebody streams, the slot moves on after the record was read; what it is not read for says nothing.
    if (slot_.is_active || !is_slot_usable()) return;
    const auto known = record_->acknowledged.find(kOnlyStream);
    if (known != record_->acknowledged.end() && slot_.confirmed.value > known->second) {
      add("PG011", Severity::kWarning, slot_name(),
          fmt::format("somebody moved it from {} to {}", Lsn{known->second}.to_string(),
                      slot_.confirmed.to_string()),
          fix);
    }
  }

  void publication() {
    const std::string name = fmt::format("publication '{}'", options_.publication);
    if (!publication_.exists) {
      std::vector<TableName> relations;
      bool is_owner = true;
      for (const std::string& table : rules_.tables()) {
        const auto found = check_.facts.tables.find(table);
        if (found == check_.facts.tables.end()) continue;
        const Publishing publishing = plan_publishing(found->second, PublicationFacts{}, options_.publication, server_.version);
        relations.insert(relations.end(), publishing.to_add.begin(), publishing.to_add.end());
        for (const Unserved& unserved : publishing.unserved) {
          if (unserved.why != Unserved::Why::kNotOwned) continue;
          relations.push_back(unserved.relation);
          is_owner = false;
        }
      }
      if (!check_.may_create || !is_owner) {
        add("PG014", Severity::kError, name,
            fmt::format("it does not exist, and role '{}' may not create it", server_.role),
            std::string(kWhoMayCreate) + create_publication_statement(options_.publication, relations, server_.version));
      } else if (!is_slot_usable()) {
        add("PG014", Severity::kWarning, name, "it does not exist", fmt::format("`evictd run` creates it once it can start: see {}", slot_name()));
      } else if (slot_.exists) {
        add("PG014", Severity::kWarning, name, "it does not exist, although the slot does",
            "`evictd run` creates it, makes the slot anew, and purges what the rules cover");
      } else {
        add("PG014", Severity::kInfo, name, "it does not exist yet; `evictd run` creates it", "");
      }
    }
    for (const std::string& table : rules_.tables()) {
      const auto found = check_.facts.tables.find(table);
      if (found == check_.facts.tables.end()) {
        add("PG015", Severity::kError, place_of(table),
            fmt::format("table '{}' does not exist in database '{}'", table, server_.database),
            missing_table_hint(check_.facts, table));
        continue;
      }
      if (!publication_.exists) continue;
      const Publishing publishing = plan_publishing(found->second, publication_, options_.publication, server_.version);
      for (const TableName& relation : publishing.to_add) {
        add("PG015", Severity::kInfo, place_of(table),
            fmt::format("table '{}.{}' is not in {}; `evictd run` adds it", relation.schema, relation.table, name), "");
      }
      for (const Unserved& unserved : publishing.unserved) {
        if (unserved.why != Unserved::Why::kNotOurs && unserved.why != Unserved::Why::kNotOwned) continue;
        add("PG015", Severity::kError, place_of(table),
            publication_.all_tables
                ? unserved.text
                : fmt::format("table '{}.{}' is not in {}", unserved.relation.schema, unserved.relation.table, name),
            unserved.fix);
      }
    }
    if (!publication_.exists) return;
    const std::pair<bool, const char*> operations[] = {{publication_.inserts, "insert"},
                                                       {publication_.updates, "update"},
                                                       {publication_.deletes, "delete"},
                                                       {publication_.truncates, "truncate"}};
    for (const auto& [is_published, operation] : operations) {
      if (is_published) continue;
      add("PG016", Severity::kError, name, fmt::format("it does not publish {}", operation), publish_all_statement(options_.publication));
    }
  }

  std::string place_of(const std::string& table) const {
    for (const RuleInfo& rule : rules_.rules()) {
      if (rule.qualified_table() == table) return rule.place.to_string();
    }
    return table;
  }

  void sessions() {
    for (const std::string& setting : check_.pins_overridden) {
      add("PG026", Severity::kInfo, setting,
          "it would change the text of values; evictd's sessions pin their own", "");
    }
    for (const std::string& setting : check_.pins_refused) {
      add("PG026", Severity::kWarning, setting,
          "evictd's session could not set it: keys may be built from other texts",
          "connect to the server itself, without a pooler");
    }
    for (const std::string& place : check_.asynchronous) {
      add("PG028", Severity::kWarning, place,
          "synchronous_commit is off: after a crash of the server a cached value may hold what it "
          "lost",
          "evictd distrusts values filled before a crash; plain fills need a purge then");
    }
    const std::string& standbys = check_.synchronous_standby_names;
    if (standbys.find('*') != std::string::npos) {
      add("PG029", Severity::kWarning, "synchronous_standby_names",
          fmt::format(
              "'{}' may take evictd's own connection for a standby, and commits would wait for it",
              standbys),
          "name the standbys");
    } else if (!standbys.empty()) {
      add("PG029", Severity::kInfo, "synchronous_standby_names",
          "changes arrive before readers can see them; evictd watches for that", "");
    }
    const auto ahead = check_.clock_ahead;
    if (ahead > std::chrono::seconds(1) || ahead < std::chrono::seconds(-1)) {
      add("PG033", Severity::kWarning, "clock",
          fmt::format("the server's clock is {} ms {} this machine's: lag is off by as much",
                      ahead.count() < 0 ? -ahead.count() : ahead.count(),
                      ahead.count() < 0 ? "behind" : "ahead of"),
          "keep both clocks with NTP");
    }
  }

  const CheckFacts& check_;
  const ServerFacts& server_;
  const SlotFacts& slot_;
  const PublicationFacts& publication_;
  const PostgresOptions& options_;
  const RuleSet& rules_;
  const Record* record_;
  Findings findings_;
};

}  // namespace

Findings judge_server(const CheckFacts& check, const PostgresOptions& options, const RuleSet& rules,
                      const Record* record) {
  return Judge(check, options, rules, record).run();
}

}  // namespace evictd
