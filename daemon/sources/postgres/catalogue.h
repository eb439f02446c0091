// The catalogue: what the server says about itself, our slot, our publication and the mapped
// tables, and the few statements that change them. Blocking, but never for longer than connecting and
// one answer may take (kAnswerMax). One object, one thread. A failed call leaves the object usable:
// the next one connects anew.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/lsn.h"
#include "daemon/sources/postgres/pgoutput.h"
#include "mapping/error.h"

namespace evictd {

struct ServerFacts {
  int version = 0;  // 150020
  std::string wal_level;
  bool is_standby = false;
  std::string instance;  // start time of the server process
  std::string database;
  Oid database_oid = 0;
  std::string role;
  bool role_may_replicate = false;
  std::string encoding;
  std::chrono::milliseconds wal_sender_timeout{0};  // 0: never
  Lsn wal_end;
};

struct SlotFacts {
  bool exists = false;
  std::string plugin;
  std::string database;
  bool is_temporary = false;
  bool two_phase = false;
  bool is_active = false;
  int active_pid = 0;
  std::string holder;  // who has it: "pid 4711 (evictd, 10.0.0.7)"
  bool is_lost = false;  // what it stood for can no longer be read
  std::string lost_reason;
  Lsn restart;
  Lsn confirmed;
  std::optional<std::int64_t> safe_wal_bytes;
};

// The first that sends generated columns, where the publication says so.
inline constexpr int kGeneratedColumnsVersion = 180'000;

struct PublicationFacts {
  std::string name;  // what was asked for, whether or not it exists
  bool exists = false;
  bool is_ours = false;  // owned by our role: may be extended
  bool all_tables = false;
  bool via_root = false;
  bool inserts = false, updates = false, deletes = false, truncates = false;
  std::string mark;  // the row of the catalogue and who wrote it: "16390:731"
  bool sends_generated = false;  // stored generated columns too (PostgreSQL 18)
};

struct EnumLabel {
  std::string text;
  std::string written_by;  // xmin of its row in pg_enum
};

struct ColumnFacts {
  std::string name;
  Oid type = 0;
  Oid base_type = 0;  // of a domain; otherwise the type itself
  bool in_identity = false;
  bool is_generated = false;
  bool is_virtual = false;  // generated when it is read (PostgreSQL 18): never sent
  std::string computed_by;  // of a virtual one: the row of the catalogue with its expression, and who wrote it
  // Generated and not sent: as part of a replica identity it makes UPDATE and DELETE fail, from PostgreSQL 18 on, once published.
  bool breaks_identity = false;
  bool is_nullable = false;
  bool can_be_toasted = false;
  bool is_published = true;  // not left out by a column list
  int number = 0;            // pg_attribute.attnum: another one for a column dropped and added again
  std::string type_name;     // as SQL writes it: "numeric(10,2)"
  int modifier = -1;         // pg_attribute.atttypmod; of a domain, that of the type it is made from
  char category = '\0';      // pg_type.typcategory: 'A' an array, 'C' a composite type, 'E' an enum, 'R' a range
  std::vector<std::string> enum_labels;
  std::string base_type_name;  // pg_type.typname of base_type
  Oid element_type = 0;        // of an array: the type, no domain, that it is of
  std::string element_name;    // pg_type.typname of that type, where it is not PostgreSQL's own
  char element_category = '\0';
  std::vector<std::string> element_labels;
  std::string loose_collation;  // not deterministic: other texts may be equal (kLooseCollation)
  std::string type_text;     // the type and what it is made of (catalogue_types.h)
  std::uint32_t written_by = 0;  // xmin of its row in pg_attribute, which a rename writes anew, and one back once more
  std::string traits;            // what that row says besides its name and type: defaults, rights, statistics
};

// A row of the catalogue that puts a relation into the publication, and what leads to it from there.
struct PublicationWay {
  Oid ancestor = 0;        // whose row it is: the relation itself, or a partitioned table above it
  bool by_schema = false;  // through the schema that the ancestor lies in, which it may have left for a time
  std::string steps;       // the rows of pg_inherits from the relation up to there, and of pg_depend that put it into its schema
};

// One relation that holds rows: a plain table, a leaf partition, an inheritance child.
struct RelationFacts {
  Oid oid = 0;
  TableName name;
  char kind = 'r';  // pg_class.relkind
  bool is_unlogged = false;
  char identity = 'd';  // pg_class.relreplident
  bool is_published = false;
  // Created below its parent, so that it had no rows when it came there. False for one that was attached, and in doubt.
  bool is_born_partition = false;
  bool is_born_in_schema = false;  // and in the schema where it lies
  bool is_partition = false;  // of a partitioned table; false for an INHERITS child
  bool is_owned = true;       // by our role: may be added to a publication
  char persistence = 'p';     // pg_class.relpersistence
  Oid file = 0;               // pg_class.relfilenode
  Oid toast = 0;              // pg_class.reltoastrelid
  std::uint32_t written_by = 0;   // xmin of its row in pg_class
  std::uint32_t named_by = 0;     // xmin of its row type, which is written anew with its name, its schema or its owner only
  Oid owner = 0;
  std::string parents;            // rows of pg_inherits and who wrote them: "16384:731"
  std::string publication_marks;  // rows of the catalogue that publish it, likewise
  std::vector<PublicationWay> ways;  // of these rows, nearest first; by name before by schema
  std::string placed_by;             // the row of pg_depend that puts it into its schema, which only a move there writes anew
  bool has_inherited_marks = false;  // some of them are those of a partitioned table above it
  Oid published_as = 0;  // with publish_via_partition_root: the relation under which its changes are sent
  std::string row_filter;
  // A publication, anybody's, that sends not all of its columns: with REPLICA IDENTITY FULL, UPDATE and DELETE would fail. Empty: none.
  std::string full_refused_by;
  std::vector<ColumnFacts> columns;
  std::map<Oid, EnumLabel> labels;  // of the enums that its columns are made of

  const ColumnFacts* find_column(std::string_view column) const;
  // False: publishing its updates would make the application's UPDATE and DELETE fail (identity_problem() says why).
  bool has_identity() const;
};

// A table that a rule names, with everything below it.
struct TableFacts {
  RelationFacts table;
  std::vector<RelationFacts>
      members;                // the relations below it, not itself; empty for a plain table
  bool is_published = false;  // every row of it

  // Some of its rows reach us.
  bool is_followed() const;
  // The relations whose rows count: the members that hold rows, or the table itself.
  std::vector<const RelationFacts*> row_relations() const;
};

struct Facts {
  ServerFacts server;
  SlotFacts slot;
  PublicationFacts publication;
  std::map<std::string, TableFacts> tables;  // only those that exist
  std::vector<std::string> other_tables;     // when one does not: some that do, for a hint
};

// What facts are wanted about.
struct Subject {
  std::string slot;
  std::string publication;
  std::vector<std::string> tables;  // "schema.table"
  bool with_columns = true;
};

// Which history of which system a server writes.
struct ServerHistory {
  bool is_primary = false;
  std::string system;
  std::uint32_t timeline = 0;
};

struct SlotStatistics {
  Lsn wal_end;
  Lsn restart;
  Lsn confirmed;
  std::optional<std::int64_t> safe_wal_bytes;
};

// A transaction that the creation of a slot has to wait for.
struct Blocker {
  int pid = 0;
  std::string application;
  std::int64_t open_seconds = 0;
  std::string database;
  std::string prepared;  // the name of a prepared transaction, which has no pid

  // "pid 4711 (psql), open for 12 s"; "prepared transaction 'order 7' of database 'shop', open for 12 s"
  std::string describe() const;
  // The statement that ends it.
  std::string ending() const;
};

// What lets a role send a message of its own through the stream.
std::string heartbeat_grant(const ServerFacts& server);

class Catalogue {
 public:
  // How long one answer may take before the session counts as hung, and is dropped.
  static constexpr std::chrono::seconds kAnswerMax{25};

  // `is_for_a_person`: once a connection is lost, or an answer did not come, every later question fails at
  // once, so that whoever waits is not kept for the sum of all deadlines.
  explicit Catalogue(Conninfo conninfo, std::chrono::milliseconds answer_max = kAnswerMax,
                     bool is_for_a_person = false);
  ~Catalogue();
  Catalogue(const Catalogue&) = delete;
  Catalogue& operator=(const Catalogue&) = delete;

  // The same server as another connection found, from the next connection on.
  void reset(Conninfo conninfo);
  // The same, but a session with that server is kept.
  void go_to(const Conninfo& conninfo);
  // No session is kept for long: a server that shuts down smartly waits for each to leave by itself (G7).
  void disconnect();

  Result<Facts> read_facts(const Subject& subject);
  Result<SlotFacts> read_slot(const std::string& slot);
  Result<ServerHistory> read_history();
  Result<SlotStatistics> read_statistics(const std::string& slot);
  Result<std::vector<Blocker>> read_blockers();
  // The mapped tables that a relation is or lies below, nearest first, and what `types` are made of.
  struct Resolved {
    Oid relation = 0;
    std::vector<TableName> names;
    bool exists = false;
    std::map<Oid, Oid> base_types;  // a type that is gone, or is no domain: itself
  };
  Result<Resolved> resolve(Oid relation, const std::vector<std::string>& tables,
                           const std::vector<Oid>& types);

  // Never FOR ALL TABLES: that would break updates of tables without a replica identity.
  Result<void> create_publication(const std::string& publication,
                                  const std::vector<TableName>& relations);
  Result<void> add_relations(const std::string& publication, const std::vector<TableName>& relations);
  // Whether the server has not given that id to a transaction yet.
  Result<bool> is_future(std::uint64_t xid);
  // Every transaction that has an id by now has a lower one.
  Result<std::uint64_t> next_xid();
  Result<void> drop_slot(const std::string& slot);
  // Ends the session that holds the slot, if it is still that process.
  Result<void> end_holder(const std::string& slot, int pid);
  Result<void> drop_publication(const std::string& publication);
  // A logical message in a transaction of its own. -> where the WAL was once that had committed.
  Result<Lsn> emit_message(const std::string& prefix, const std::string& content);
  // Rows as text, NULL as an empty text; for `check`.
  Result<std::vector<std::vector<std::string>>> query(const std::string& statement);

 private:
  struct Session;
  // Runs `work` with a session, which is made when there is none, and turns what it throws into an
  // Error.
  template <typename T, typename Work>
  Result<T> run(Work work);

  Conninfo conninfo_;
  std::chrono::milliseconds answer_max_;
  const bool is_for_a_person_;
  std::optional<Error> lost_;
  std::unique_ptr<Session> session_;
  std::chrono::steady_clock::time_point session_since_{};
};

}  // namespace evictd
