#include "daemon/sources/postgres/doctor/dba_script.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <vector>

#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/sql_text.h"
#include "mapping/lookup_sql.h"

namespace evictd {
namespace {

// The columns of one table whose old values have to be sent, and those whose new value has to be, also when it is long
// and an UPDATE leaves it alone.
struct Needed {
  std::set<std::string> old_values;
  std::set<std::string> long_values;
};

std::string text_list(const std::set<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "" : ", ") + quoted_text(text);
  return list;
}

// A row of a VALUES list.
std::string table_values(const std::string& schema, const std::string& table, const std::set<std::string>& columns) {
  return fmt::format("({}, {}, array[{}]::text[])", quoted_text(schema), quoted_text(table), text_list(columns));
}

constexpr std::string_view kHead = R"(-- What PostgreSQL needs for evictd's rules. Run it with psql in {0}, as a superuser (on a hosted server:
-- as its administrator). Each statement is run only where something is missing, and psql shows it before it runs it.
-- What it does to your tables: REPLICA IDENTITY FULL where a rule needs old values (docs/postgres.md says what that costs).
-- It locks each of those tables for a moment; no table is rewritten{1}.
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
set lock_timeout = '10s';
)";

constexpr std::string_view kGuard = R"(
do $$ begin
  if current_database() <> {0} then
    raise exception 'this script is for another database: connect to it with \connect';
  end if;
end $$;
)";

constexpr std::string_view kRole = R"(
-- The role. {1}
select format('select %L', '-- a new role: give it a password with \password ' || quote_ident({0}))
  where not exists (select from pg_roles where rolname = {0}) \gexec
select format('select %L', made), made from (
select format('create role %I login', {0}) where not exists (select from pg_roles where rolname = {0})) as missing (made) \gexec
select format('select %L', made), made from (
select format('grant rds_replication to %I', {0}) from pg_roles where rolname = 'rds_replication'
  and not pg_has_role({0}, oid, 'member')) as missing (made) \gexec
select format('select %L', made), made from (
select format('alter role %I login replication', {0}) from pg_roles where rolname = {0}
  and not (rolcanlogin and (rolreplication or exists (select from pg_roles where rolname = 'rds_replication')))) as missing (made) \gexec
select format('select %L', made), made from (
select format('grant connect on database %I to %I', current_database(), {0})
  where not has_database_privilege({0}, current_database(), 'connect')) as missing (made) \gexec
select format('select %L', made), made from (
select format('grant execute on function %s to %I', oid::regprocedure, {0}) from pg_proc
  where proname = 'pg_logical_emit_message' and not has_function_privilege({0}, oid, 'execute')) as missing (made) \gexec
)";

// {0}: the values ('schema', 'table', array of columns whose old value is needed, array of those whose new value is);
// {1}: kIsIdentity; {2}: the publication. (to_jsonb: columns of the catalogue that older servers do not have.)
constexpr std::string_view kTables = R"(
-- The tables that the rules name, with what lies below them.
create temporary view evictd_named as
  select c.oid, n.nspname, c.relname, v.old_values, v.long_values
  from (values {0}) as v (schema_name, table_name, old_values, long_values)
  join pg_namespace n on n.nspname = v.schema_name
  join pg_class c on c.relnamespace = n.oid and c.relname = v.table_name;
create temporary view evictd_tree as
  with recursive tree as (
    select oid, old_values, long_values from evictd_named
    union
    select i.inhrelid, tree.old_values, tree.long_values from tree join pg_inherits i on i.inhparent = tree.oid)
  select tree.*, format('%I.%I', n.nspname, c.relname) as name, c.relkind, c.relreplident, c.relispartition,
    (select coalesce(array_agg(a.attname::text), '{{}}') from pg_attribute a join pg_index i on i.indrelid = a.attrelid
     and a.attnum = any (i.indkey) where a.attrelid = c.oid and {1}) as identity
  from tree join pg_class c on c.oid = tree.oid join pg_namespace n on n.oid = c.relnamespace
  where c.relpersistence = 'p' and c.relkind in ('r', 'p');

-- Of a column that a publication does not send, REPLICA IDENTITY FULL would make UPDATE and DELETE fail: one that a column list leaves out, of
-- PostgreSQL 18 a generated one. Such a table is left as it is, whoever's the publication.
select format('select %L', made), made from (
select format('alter publication %I set (publish_generated_columns = stored)', {2}) from pg_publication p
  where pubname = {2} and to_jsonb(p) ->> 'pubgencols' = 'n') as missing (made) \gexec

-- Old values: in the stream, or the rule's whole pattern is purged in their place.
select format('select %L', made), made from (
select distinct format('alter table only %s replica identity full', name) from evictd_tree t
  where relkind = 'r' and relreplident <> 'f'
  and not exists (select from pg_attribute a where a.attrelid = t.oid and not a.attisdropped and to_jsonb(a) ->> 'attgenerated' = 'v')
  and not exists (select from pg_publication p left join pg_publication_rel r on r.prpubid = p.oid
      and r.prrelid in (select t.oid union select relid from pg_partition_ancestors(t.oid))
    where (r.prrelid is not null or p.puballtables
      or exists (select from pg_publication_tables l where l.pubname = p.pubname and format('%I.%I', l.schemaname, l.tablename) = t.name))
    and (to_jsonb(r) ->> 'prattrs' is not null or (to_jsonb(p) ->> 'pubgencols' = 'n'
      and exists (select from pg_attribute a where a.attrelid = t.oid and not a.attisdropped and to_jsonb(a) ->> 'attgenerated' <> ''))))
  and (identity = '{{}}' or not old_values <@ identity
    or exists (select from pg_attribute a where a.attrelid = t.oid and a.attname = any (long_values)
      and a.attname <> all (identity) and a.attstorage in ('x', 'e', 'm') and a.attlen < 0))) as missing (made) \gexec
)";

constexpr std::string_view kPublication = R"(
-- The publication: these tables and no other. A partitioned table stands for its partitions, also those still to come.
-- Not one on which UPDATE and DELETE would fail then: without a replica identity, or with a virtual generated column in it.
create temporary view evictd_refused as select distinct oid, name from evictd_tree t where relkind = 'r' and (relreplident <> 'f' and identity = '{{}}'
  or relreplident = 'f' and exists (select from pg_attribute a where a.attrelid = t.oid and not a.attisdropped and to_jsonb(a) ->> 'attgenerated' = 'v'));
select format('-- not published, since its replica identity would make UPDATE and DELETE fail: %s', name) from evictd_refused;
create temporary view evictd_wanted as select distinct oid, name from evictd_tree where (not relispartition
  or not exists (select from pg_inherits i join evictd_tree above on above.oid = i.inhparent where i.inhrelid = evictd_tree.oid))
  and not exists (select from evictd_refused r where r.oid = evictd_tree.oid
    or exists (select from pg_partition_ancestors(r.oid) a where a.relid = evictd_tree.oid));
select format('select %L', made), made from (
select format('create publication %I for table %s%s', {0}, string_agg('only ' || name, ', ' order by name),
    case when current_setting('server_version_num')::int >= 180000 then ' with (publish_generated_columns = stored)' end) from evictd_wanted
  where not exists (select from pg_publication where pubname = {0}) having count(*) > 0) as missing (made) \gexec
select format('select %L', made), made from (
select format('alter publication %I add table only %s', {0}, name) from evictd_wanted w
  where exists (select from pg_publication where pubname = {0} and not puballtables)
  and not exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
    where p.pubname = {0} and r.prrelid = w.oid)
  and not exists (select from pg_publication_tables l where l.pubname = {0}
    and format('%I.%I', l.schemaname, l.tablename) = name) order by name) as missing (made) \gexec
select format('select %L', made), made from (
select format('alter publication %I set (publish = ''insert, update, delete, truncate'')', {0}) from pg_publication
  where pubname = {0} and not (pubinsert and pubupdate and pubdelete and pubtruncate)) as missing (made) \gexec
drop view evictd_wanted, evictd_refused, evictd_tree, evictd_named;
)";

// {0}: the role; {1}: the values ('schema', 'table', array of columns that are read); {2}: ('schema', 'table', array of columns
// that rows are looked up by).
constexpr std::string_view kLookups = R"(
-- Tables that rules join: rows are looked up in them by SQL, so the role reads these columns, and no others.
select format('select %L', made), made from (
select format('grant usage on schema %I to %I', n.nspname, {0}) from pg_namespace n
  where n.nspname in (select v.schema_name from (values {1}) as v (schema_name, table_name, columns))
  and not has_schema_privilege({0}, n.oid, 'usage')) as missing (made) \gexec
select format('select %L', made), made from (
select format('grant select (%s) on %I.%I to %I', string_agg(quote_ident(a.attname), ', ' order by a.attnum), n.nspname, c.relname, {0})
  from (values {1}) as v (schema_name, table_name, columns) join pg_namespace n on n.nspname = v.schema_name
  join pg_class c on c.relnamespace = n.oid and c.relname = v.table_name
  join pg_attribute a on a.attrelid = c.oid and a.attname = any (v.columns) and a.attnum > 0
  where not has_column_privilege({0}, c.oid, a.attnum, 'select') group by n.nspname, c.relname) as missing (made) \gexec
-- From rows that row level security hides, nothing would be found: the server refuses such questions of evictd's.
select format('select %L', made), made from (
select format('alter role %I bypassrls', {0}) from pg_roles r where r.rolname = {0} and not r.rolsuper and not r.rolbypassrls
  and exists (select from (values {1}) as v (schema_name, table_name, columns) join pg_namespace n on n.nspname = v.schema_name
    join pg_class c on c.relnamespace = n.oid and c.relname = v.table_name
    where c.relrowsecurity and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')))) as missing (made) \gexec
-- An index where a lookup would read the whole table. Building it takes long on a large table; it waits for transactions that
-- are under way, and no writer waits for it (for that of a partitioned table, writers do).
set lock_timeout = 0;
select format('select %L', made), made from (
select format('create index%s on %I.%I (%s)', case when c.relkind = 'p' then '' else ' concurrently' end, n.nspname, c.relname,
    (select string_agg(quote_ident(m), ', ') from unnest(v.columns) m))
  from (values {2}) as v (schema_name, table_name, columns) join pg_namespace n on n.nspname = v.schema_name
  join pg_class c on c.relnamespace = n.oid and c.relname = v.table_name
  where not exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = c.oid and i.indisvalid and i.indpred is null and a.attname = any (v.columns))
  and c.relkind in ('r', 'p')) as missing (made) \gexec
)";

constexpr std::string_view kServer = R"(
-- The server. While evictd is away, its slot keeps WAL: with a limit, the disk does not fill, and evictd survives the loss of
-- the slot with a purge. Choose the limit by your disk. A hosted server has these settings in its console, and refuses them here.
select format('select %L', made), made from (
select 'alter system set max_slot_wal_keep_size = ''10GB''' from pg_settings where name = 'max_slot_wal_keep_size'
  and setting = '-1') as missing (made) \gexec
select format('select %L', made), made from (
select 'alter system set wal_sender_timeout = ''60s''' from pg_settings where name = 'wal_sender_timeout'
  and setting::int between 1 and 4999) as missing (made) \gexec
do $$ begin perform pg_reload_conf(); end $$;
select format('select %L', made), made from (
select 'alter system set wal_level = logical' from pg_settings where name = 'wal_level' and setting <> 'logical') as missing (made) \gexec
select case when setting = 'logical' then 'done: run evictd check again'
  else 'restart PostgreSQL now (wal_level), then run evictd check again' end as next from pg_settings where name = 'wal_level';
)";

}  // namespace

Result<std::string> dba_script(const PostgresOptions& options, const RuleSet& rules) {
  Result<Conninfo> conninfo = Conninfo::parse(options.url);
  if (!conninfo) return tl::unexpected(conninfo.error());
  const std::string database = conninfo->get("dbname");
  std::string role = conninfo->get("user");
  if (role.empty()) role = "evictd";
  std::map<std::pair<std::string, std::string>, Needed> tables;
  for (const RuleInfo& rule : rules.rules()) tables[{rule.schema, rule.table}];
  const Requirements requirements = requirements_of(rules);
  for (const ColumnNeed& need : requirements.needs) {
    const RuleInfo& rule = requirements.rules.at(need.rule);
    Needed& needed = tables[{rule.schema, rule.table}];
    if (need.on_update_old || need.on_delete_old) needed.old_values.insert(need.column);
    if (need.on_update_new) needed.long_values.insert(need.column);
  }
  // Of each table that is joined: what is read of it, and what its rows are looked up by.
  std::map<std::pair<std::string, std::string>, std::set<std::string>> read;
  std::set<std::string> matched;
  for (const RuleInfo& rule : rules.rules()) {
    for (const LookupInfo& lookup : rule.lookups) {
      for (std::size_t step = 0; step < lookup.steps.size(); ++step) {
        const TableName& table = lookup.steps[step].table;
        read[{table.schema, table.table}].merge(columns_read(lookup, step));
        std::set<std::string> columns;
        for (const JoinStep::Match& match : lookup.steps[step].match) columns.insert(match.column);
        matched.insert(table_values(table.schema, table.table, columns));
      }
    }
  }
  std::string values;
  for (const auto& [table, needed] : tables) {
    values += fmt::format("{}\n    ({}, {}, array[{}]::text[], array[{}]::text[])", values.empty() ? "" : ",",
                          quoted_text(table.first), quoted_text(table.second),
                          text_list(needed.old_values), text_list(needed.long_values));
  }
  std::string script = fmt::format(kHead, database.empty() ? "the database of the rules" : fmt::format("database {}", shown_name(database)),
                                   read.empty() ? " and no row is read" : "");
  if (!database.empty()) script += fmt::format(kGuard, quoted_text(database));
  script += fmt::format(kRole, quoted_text(role),
                        read.empty() ? "It reads no row of your tables by SQL."
                                     : "It reads by SQL what rules join, and nothing else of your tables.");
  script += fmt::format(kTables, values, kIsIdentity, quoted_text(options.publication));
  script += fmt::format(kPublication, quoted_text(options.publication));
  if (!read.empty()) {
    std::vector<std::string> readable;
    for (const auto& [table, columns] : read) readable.push_back(table_values(table.first, table.second, columns));
    script += fmt::format(kLookups, quoted_text(role), fmt::join(readable, ", "), fmt::join(matched, ", "));
  }
  script += kServer;
  return script;
}

}  // namespace evictd
