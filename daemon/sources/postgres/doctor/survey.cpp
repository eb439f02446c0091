#include "daemon/sources/postgres/doctor/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kPatience{20};

// {}: kIsIdentity
constexpr const char* kTables =
    "select c.oid, n.nspname, c.relname, c.relpersistence = 'u',"
    // Its own rows and those of what lies below it, whose identities are their own: an INHERITS child has not even the key.
    " not exists (with recursive tree (oid) as (select c.oid union all select h.inhrelid from pg_inherits h join tree on h.inhparent = tree.oid)"
    "  select from tree join pg_class r on r.oid = tree.oid where r.relkind = 'r' and r.relreplident <> 'f'"
    "  and not exists (select from pg_index i join pg_class c on c.oid = i.indrelid where i.indrelid = r.oid and {}))"
    " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'"
    " and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"
    " and not exists (select from pg_inherits h where h.inhrelid = c.oid)"
    " and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')"
    " order by 2, 3";

constexpr const char* kKeys =
    "select i.indrelid, i.indisprimary, a.attname, i.indnkeyatts from pg_index i"
    " join unnest(i.indkey::int2[]) with ordinality k (number, place) on k.place <= i.indnkeyatts"
    " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number"
    " where i.indisvalid and i.indpred is null and (i.indisprimary or i.indisunique and i.indnkeyatts = 1)"
    " order by i.indrelid, i.indisprimary desc, i.indexrelid, k.place";

constexpr const char* kForeignKeys =
    "select f.conrelid, a.attname, n.nspname, c.relname from pg_constraint f"
    " join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]"
    " join pg_class c on c.oid = f.confrelid join pg_namespace n on n.oid = c.relnamespace"
    " where f.contype = 'f' and array_length(f.conkey, 1) = 1 order by f.conrelid, a.attnum";

}  // namespace

Result<Survey> survey_database(const std::string& url) {
  Result<Conninfo> conninfo = Conninfo::parse(url);
  if (!conninfo) return tl::unexpected(conninfo.error());
  conninfo->pin_session("evictd init", "");
  Catalogue catalogue(std::move(*conninfo), kPatience, true);
  Survey survey;
  std::map<std::string, std::size_t> by_oid;
  const auto database = catalogue.query("select current_database()");
  if (!database) return tl::unexpected(database.error());
  survey.database = database->at(0).at(0);
  const auto tables = catalogue.query(fmt::format(kTables, kIsIdentity));
  if (!tables) return tl::unexpected(tables.error());
  for (const auto& row : *tables) {
    by_oid[row[0]] = survey.tables.size();
    SurveyedTable& table = survey.tables.emplace_back();
    table.schema = row[1];
    table.name = row[2];
    table.is_unlogged = row[3] == "t";
    table.has_identity = row[4] == "t";
  }
  const auto keys = catalogue.query(kKeys);
  if (!keys) return tl::unexpected(keys.error());
  for (const auto& row : *keys) {
    const auto table = by_oid.find(row[0]);
    if (table == by_oid.end()) continue;
    SurveyedTable& into = survey.tables[table->second];
    if (row[1] == "t") {
      into.primary_key.push_back(row[2]);
    } else if (into.primary_key != std::vector<std::string>{row[2]} &&
               std::find(into.unique_columns.begin(), into.unique_columns.end(), row[2]) == into.unique_columns.end()) {
      into.unique_columns.push_back(row[2]);
    }
  }
  const auto references = catalogue.query(kForeignKeys);
  if (!references) return tl::unexpected(references.error());
  for (const auto& row : *references) {
    const auto table = by_oid.find(row[0]);
    if (table != by_oid.end()) survey.tables[table->second].foreign_keys.push_back({row[1], row[2], row[3]});
  }
  return survey;
}

Result<std::string> url_without_password(const std::string& url, bool& had_password) {
  const Result<Conninfo> conninfo = Conninfo::parse(url);
  if (!conninfo) return tl::unexpected(conninfo.error());
  had_password = !conninfo->get("password").empty();
  if (!had_password) return url;
  // As keywords, which need no escapes of a URI; those that say where and how.
  std::string text;
  for (const char* keyword : {"host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert", "sslcert", "sslkey",
                              "target_session_attrs"}) {
    const std::string value = conninfo->get(keyword);
    if (value.empty()) continue;
    std::string escaped;
    for (const char c : value) {
      if (c == '\'' || c == '\\') escaped += '\\';
      escaped += c;
    }
    const bool is_plain = value.find_first_of(" '\\") == std::string::npos;
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", keyword, is_plain ? value : "'" + escaped + "'");
  }
  return text;
}

}  // namespace evictd
