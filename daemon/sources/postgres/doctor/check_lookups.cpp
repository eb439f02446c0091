#include "daemon/sources/postgres/doctor/check_lookups.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <set>

#include "daemon/sources/postgres/requirements.h"
#include "daemon/sources/postgres/sql_text.h"
#include "mapping/did_you_mean.h"
#include "mapping/lookup_sql.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kPatience{10};

std::string shown_table(const TableName& table) { return shown_name(table.schema) + "." + shown_name(table.table); }

// The types of the columns that it begins with; nothing when one of them is not there, which another finding says.
std::optional<std::vector<LookupParameter>> parameters_of(const RuleInfo& rule, const LookupInfo& lookup, const Facts& facts) {
  const auto table = facts.tables.find(rule.qualified_table());
  if (table == facts.tables.end()) return std::nullopt;
  std::vector<LookupParameter> parameters;
  for (const JoinStep::Match& match : lookup.steps[0].match) {
    const ColumnFacts* column = table->second.table.find_column(match.from);
    if (column == nullptr) return std::nullopt;
    parameters.push_back({column->type_name, column->loose_collation});
  }
  return parameters;
}

// The question itself, with no values. The server says what it lacks: a column, a right, an operator for two types.
std::string tried(const LookupInfo& lookup, const std::vector<LookupParameter>& parameters, std::uint64_t fan_out) {
  std::string sql = lookup_sql(lookup, parameters, fan_out);
  for (std::size_t i = 1; i <= parameters.size(); ++i) {
    const std::string parameter = fmt::format("${}::", i);
    sql.replace(sql.find(parameter), parameter.size(), "'{}'::");  // the first: names come behind
  }
  return "explain " + sql;
}

std::string grants(const LookupInfo& lookup, const std::string& role) {
  std::string text;
  for (std::size_t step = 0; step < lookup.steps.size(); ++step) {
    std::set<std::string> columns;
    for (const std::string& column : columns_read(lookup, step)) columns.insert(shown_name(column));
    text += fmt::format("{}GRANT SELECT ({}) ON {} TO {};", text.empty() ? "" : " ", fmt::join(columns, ", "),
                        shown_table(lookup.steps[step].table), shown_name(role));
  }
  return text;
}

// A table or a column of the lookup that is not there.
std::optional<Error> missing_of(const LookupInfo& lookup, const Facts& facts) {
  for (std::size_t step = 0; step < lookup.steps.size(); ++step) {
    const std::string name = lookup.steps[step].table.qualified();
    const auto table = facts.tables.find(name);
    if (table == facts.tables.end()) {
      return Error{ErrorKind::kUsage, fmt::format("table '{}' does not exist in database '{}'", name, facts.server.database),
                   missing_table_hint(facts, name)};
    }
    for (const std::string& column : columns_read(lookup, step)) {
      const RelationFacts& relation = table->second.table;
      if (relation.find_column(column) != nullptr) continue;
      std::vector<std::string_view> names;
      for (const ColumnFacts& one : relation.columns) names.push_back(one.name);
      return Error{ErrorKind::kUsage, fmt::format("table '{}' has no column '{}'", name, column), did_you_mean(column, names, "columns")};
    }
  }
  return std::nullopt;
}

// True when a lookup in it is an error of the server's whatever the question is: said here. `kind`: of the table, pg_class.relkind.
bool judge_step(Catalogue& catalogue, const JoinStep& step, char kind, const std::string& role, Findings& findings) {
  const std::string relation = quoted_text(quoted_name(step.table.schema) + "." + quoted_name(step.table.table)) + "::regclass";
  std::string names;
  std::string shown;
  for (const JoinStep::Match& match : step.match) {
    names += (names.empty() ? "" : ", ") + quoted_text(match.column);
    shown += (shown.empty() ? "" : ", ") + shown_name(match.column);
  }
  const auto answer = catalogue.query(fmt::format(
      "select row_security_active({0}), exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = "
      "i.indkey[0] where i.indrelid = {0} and i.indisvalid and i.indpred is null and a.attname in ({1}))",
      relation, names));
  if (!answer || answer->size() != 1) return false;  // it is not there, or may not be asked: said elsewhere
  const auto& row = answer->front();
  if (row[1] != "t" && (kind == 'r' || kind == 'p')) {  // a view has no index, whatever it reads
    findings.push_back({"PG053", Severity::kWarning, step.place.to_string(),
                        fmt::format("the join '{}' looks rows of '{}' up by ({}), and no index begins with one of these: each lookup reads "
                                    "the whole table",
                                    step.alias, step.table.qualified(), shown),
                        fmt::format("CREATE INDEX{} ON {} ({});", kind == 'p' ? "" : " CONCURRENTLY", shown_table(step.table), shown)});
  }
  if (row[0] != "t") return false;
  findings.push_back({"PG054", Severity::kError, step.place.to_string(),
                      fmt::format("row level security may hide rows of '{}' from evictd's role: lookups of the join '{}' are refused, and "
                                  "whole patterns are purged instead",
                                  step.table.qualified(), step.alias),
                      fmt::format("ALTER ROLE {} BYPASSRLS; or make it a member of the role that owns {} (without FORCE ROW LEVEL SECURITY)",
                                  shown_name(role), shown_table(step.table))});
  return true;
}

}  // namespace

void check_lookups(Catalogue& catalogue, const RuleSet& rules, const Facts& facts, Findings& findings) {
  std::set<std::string> asked;
  std::map<std::string, bool> judged;  // by step: whether it is refused
  for (const RuleInfo& rule : rules.rules()) {
    for (const LookupInfo& lookup : rule.lookups) {
      const auto parameters = parameters_of(rule, lookup, facts);
      if (!parameters) continue;
      if (const auto array = std::find_if(parameters->begin(), parameters->end(), [](const auto& one) { return one.type.ends_with("[]"); });
          array != parameters->end()) {
        const std::string& column = lookup.steps[0].match[static_cast<std::size_t>(array - parameters->begin())].from;
        findings.push_back({"PG052", Severity::kError, lookup.place.to_string(),
                            fmt::format("'{}' of '{}' is an array, which no join begins with", column, rule.qualified_table()),
                            "keep the elements in a table of their own"});
        continue;
      }
      if (missing_of(lookup, facts)) continue;  // which another finding says
      bool is_refused = false;
      for (const JoinStep& step : lookup.steps) {
        const auto [known, is_new] = judged.try_emplace(step.place.to_string() + step.alias);
        if (is_new) known->second = judge_step(catalogue, step, facts.tables.at(step.table.qualified()).table.kind, facts.server.role, findings);
        is_refused = is_refused || known->second;
      }
      const std::string question = tried(lookup, *parameters, rule.fan_out);
      if (!is_refused && asked.insert(question).second) {
        if (const auto answer = catalogue.query(question); !answer) {
          const bool is_right = answer.error().text.find("permission denied") != std::string::npos;
          findings.push_back({"PG052", Severity::kError, lookup.place.to_string(),
                              fmt::format("rows of '{}' cannot be looked up for rule '{}': {}", lookup.steps.back().table.qualified(), rule.name,
                                          answer.error().text),
                              is_right ? grants(lookup, facts.server.role) : "both columns of a 'match' need types that '=' compares"});
        }
      }
    }
  }
}

Findings check_lookups_at(const DatabaseAddress& database, const RuleSet& rules) {
  if (std::all_of(rules.rules().begin(), rules.rules().end(), [](const RuleInfo& rule) { return rule.lookups.empty(); })) return {};
  Findings findings;
  Result<Conninfo> conninfo = Conninfo::of(database, "evictd check");
  if (!conninfo) return {{"PG001", Severity::kError, "postgres_url", conninfo.error().text, conninfo.error().hint}};
  Catalogue catalogue(*conninfo, kPatience, true);
  const Result<Facts> facts = catalogue.read_facts(Subject{"", "", rules.tables(), true});
  if (!facts) {
    findings.push_back({"PG001", Severity::kError, conninfo->server(), "rows of joined tables cannot be looked up: " + facts.error().text,
                        facts.error().hint.empty() ? "check that PostgreSQL runs there and that postgres_url is right" : facts.error().hint});
    return findings;
  }
  // What a rule begins with comes from the events; that the database has it as well, nobody else looks at.
  for (const RuleInfo& rule : rules.rules()) {
    for (const LookupInfo& lookup : rule.lookups) {
      if (parameters_of(rule, lookup, *facts)) {
        if (const auto missing = missing_of(lookup, *facts)) {
          findings.push_back({"PG052", Severity::kError, lookup.place.to_string(),
                              fmt::format("rows of '{}' cannot be looked up for rule '{}': {}", lookup.steps.back().table.qualified(), rule.name, missing->text),
                              missing->hint});
        }
        continue;
      }
      std::string columns;
      for (const JoinStep::Match& match : lookup.steps[0].match) columns += (columns.empty() ? "" : ", ") + shown_name(match.from);
      findings.push_back({"PG052", Severity::kError, lookup.place.to_string(),
                          fmt::format("the database has no table '{}' with ({}), which lookups of rule '{}' begin with", rule.qualified_table(),
                                      columns, rule.name),
                          "see that postgres_url names the database of these events; a 'match' is {column of the joined table: column}"});
    }
  }
  check_lookups(catalogue, rules, *facts, findings);
  return findings;
}

}  // namespace evictd
