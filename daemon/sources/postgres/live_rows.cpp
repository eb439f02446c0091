#include "daemon/sources/postgres/live_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/catalogue_session.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/requirements.h"
#include "daemon/sources/postgres/sql_text.h"
#include "daemon/sources/postgres/value_types.h"

namespace evictd {
namespace {

constexpr std::chrono::minutes kAnswerMax{5};  // a scan of a large table

// The server's own words, with what helps.
Error explained(Error error, const LiveRowsWanted& wanted, const TableName& table, const std::string& role) {
  if (error.text.find("track_commit_timestamp") != std::string::npos ||
      error.text.find("commit timestamp") != std::string::npos) {
    error.hint = "set track_commit_timestamp = on and restart PostgreSQL (it knows only what is written after that); or say "
                 "--where with a column of your own, or purge the whole --table";
  } else if (error.text.find("permission denied for schema") != std::string::npos) {
    error.hint = fmt::format("GRANT USAGE ON SCHEMA {} TO {}; or name another role in the url of PostgreSQL", shown_name(table.schema), shown_name(role));
  } else if (error.text.find("permission denied") != std::string::npos) {
    error.hint = fmt::format("GRANT SELECT ON {} TO {}; or name another role in the url of PostgreSQL", shown_relation(table), shown_name(role));
  } else if (!wanted.where.empty() && error.kind == ErrorKind::kUsage) {
    return std::move(error).within("'--where'");
  }
  return error;
}

}  // namespace

struct LiveRows::Impl {
  Impl(Conninfo where, LiveRowsWanted asked) : conninfo(std::move(where)), wanted(std::move(asked)) {}
  Result<TextRows> query(const std::string& statement) {
    return CatalogueSession::guard<TextRows>([&] { return session->query(statement); }, conninfo);
  }
  Conninfo conninfo;
  LiveRowsWanted wanted;
  std::optional<CatalogueSession> session;  // of the cursor
  Relation relation;
  TableName table;
  std::string role;
  std::vector<std::vector<std::string>> page;
};

LiveRows::LiveRows(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LiveRows::~LiveRows() = default;

Result<std::unique_ptr<LiveRows>> LiveRows::open(const DatabaseAddress& database, const LiveRowsWanted& wanted) {
  Result<Conninfo> conninfo = Conninfo::of(database, "evictd rows");
  if (!conninfo) return tl::unexpected(conninfo.error());
  auto impl = std::make_unique<Impl>(std::move(*conninfo), wanted);
  const Result<Facts> facts = Catalogue(impl->conninfo, kAnswerMax, true).read_facts(Subject{"", "", {wanted.table}, true});
  if (!facts) return tl::unexpected(facts.error());
  const auto found = facts->tables.find(wanted.table);
  if (found == facts->tables.end()) {
    return fail(ErrorKind::kUsage, fmt::format("table '{}' does not exist in database '{}'", wanted.table, facts->server.database),
                missing_table_hint(*facts, wanted.table));
  }
  const RelationFacts& table = found->second.table;
  impl->table = table.name;
  impl->role = facts->server.role;
  impl->relation.id = table.oid;
  impl->relation.generation = 1;
  impl->relation.schema = table.name.schema;
  impl->relation.table = table.name.table;
  std::string columns;
  for (const ColumnFacts& column : table.columns) {
    Column made;
    made.name = column.name;
    const Oid type = column.base_type == 0 ? column.type : column.base_type;
    made.type = value_type_of(type);
    made.element = element_type_of(type);
    // Partitions have identities of their own; what one of them does not send counts as not sent.
    const auto holders = found->second.row_relations();
    made.in_identity = holders.empty() ? column.in_identity : std::all_of(holders.begin(), holders.end(), [&](const RelationFacts* holder) {
      const ColumnFacts* own = holder->find_column(column.name);
      return own != nullptr && own->in_identity;
    });
    impl->relation.columns.push_back(std::move(made));
    // format() writes what the stream writes; a cast to text does not (booleans, character(n)).
    columns += fmt::format("{}case when {} is null then 'n' else format('v%s', {}) end", columns.empty() ? "" : ", ",
                           quoted_name(column.name), quoted_name(column.name));
  }
  std::string conditions;
  const auto add = [&conditions](const std::string& condition) {
    conditions += (conditions.empty() ? " where (" : " and (") + condition + ")";
  };
  if (!wanted.where.empty()) add(wanted.where + "\n");  // the line ends what may be a comment
  if (wanted.since) {
    // A row without a timestamp was written before the server began to keep them, or so long ago that it has dropped them. Where that may
    // be later than `since`, it counts as written since. (They are kept from a start of the server on; the oldest that is kept:
    // pg_control_checkpoint(), as of the last checkpoint.)
    add(fmt::format("pg_xact_commit_timestamp(xmin) >= now() - interval '{0} milliseconds' or (pg_xact_commit_timestamp(xmin) is null and not "
                    "(pg_postmaster_start_time() <= now() - interval '{0} milliseconds' or coalesce((select pg_xact_commit_timestamp(nullif("
                    "oldest_commit_ts_xid, '0')) from pg_control_checkpoint()) <= now() - interval '{0} milliseconds', false)))",
                    wanted.since->count()));
  }
  const Result<bool> connected = CatalogueSession::guard<bool>(
      [&] {
        impl->session.emplace(impl->conninfo, kAnswerMax);
        return true;
      },
      impl->conninfo);
  if (!connected) return tl::unexpected(connected.error());
  const std::string from = shown_relation(table.name);
  if (!wanted.where.empty()) {
    // By itself first, and never run: what the server says of it then is not about what stands around it below, nor can it
    // close a bracket of ours.
    const auto failure = CatalogueSession::guard<std::optional<PostgresFailure>>(
        [&] {
          auto wrong = impl->session->prepare("evictd_where", fmt::format("select from {} where {}\n", from, wanted.where));
          const bool is_ours = wrong && !wrong->sqlstate.starts_with("42") && !wrong->sqlstate.starts_with("22");
          if (is_ours) throw SessionFailure(ErrorKind::kTransient, wrong->text, wrong->sqlstate);  // a lock, a server that stops
          return wrong;
        },
        impl->conninfo);
    if (!failure) return tl::unexpected(failure.error());
    if (*failure) {
      const bool is_syntax = (*failure)->sqlstate == "42601";
      return tl::unexpected(explained(
          Error{ErrorKind::kUsage,
                is_syntax ? fmt::format("expected a condition in SQL, got '{}': {}", wanted.where, (*failure)->text) : (*failure)->text,
                is_syntax ? "for example --where 'id = 7'" : ""},
          wanted, impl->table, impl->role));
    }
  }
  for (const std::string& statement :
       {std::string("begin transaction isolation level repeatable read, read only"),
        fmt::format("declare evictd_rows no scroll cursor for select {} from {}{}", columns.empty() ? "1" : columns, from, conditions)}) {
    const auto done = impl->query(statement);
    if (done) continue;
    Error error = explained(done.error(), wanted, impl->table, impl->role);
    // Alone it is one half of a statement, such as 'true order by id'; between brackets it is not.
    if (!wanted.where.empty() && error.text.find("syntax error") != std::string::npos) {
      error = Error{ErrorKind::kUsage, fmt::format("'--where': expected a condition in SQL and nothing behind it, got '{}'", wanted.where),
                    "for example --where 'id = 7'"};
    }
    return tl::unexpected(std::move(error));
  }
  return std::unique_ptr<LiveRows>(new LiveRows(std::move(impl)));
}

const Relation& LiveRows::relation() const { return impl_->relation; }

Result<std::vector<std::vector<Value>>> LiveRows::next() {
  auto page = impl_->query(fmt::format("fetch {} from evictd_rows", impl_->wanted.page));
  if (!page) return tl::unexpected(explained(page.error(), impl_->wanted, impl_->table, impl_->role));
  impl_->page = std::move(*page);
  std::vector<std::vector<Value>> rows;
  for (const std::vector<std::string>& texts : impl_->page) {
    std::vector<Value>& row = rows.emplace_back();
    for (const std::string& text : texts) {
      if (text.starts_with('v')) {
        row.push_back(Value{ValueState::kText, std::string_view(text).substr(1)});
      } else {
        row.push_back(Value{ValueState::kNull, {}});
      }
    }
    row.resize(impl_->relation.columns.size());
  }
  return rows;
}

}  // namespace evictd
