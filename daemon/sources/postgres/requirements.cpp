#include "daemon/sources/postgres/requirements.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/sql_text.h"
#include "daemon/sources/postgres/value_types.h"
#include "mapping/did_you_mean.h"

namespace evictd {
namespace {

std::string full_name(const RelationFacts& relation) {
  return relation.name.schema + "." + relation.name.table;
}

std::string identity_text(const RelationFacts& relation) {
  std::string columns;
  for (const ColumnFacts& column : relation.columns) {
    if (column.in_identity) columns += (columns.empty() ? "" : ", ") + column.name;
  }
  switch (relation.identity) {
    case 'f':
      return "FULL";
    case 'n':
      return "NOTHING";
    case 'i':
      return columns.empty() ? "an index that is gone" : fmt::format("an index ({})", columns);
    default:
      return columns.empty() ? "the primary key, and there is none that is not DEFERRABLE"
                             : fmt::format("the primary key ({})", columns);
  }
}

// The operations whose old value of the column is needed and not sent: "UPDATE and DELETE".
std::string operations_without_old(const ColumnNeed& need, const ColumnFacts& column,
                                   const RelationFacts& relation) {
  if (column.in_identity || relation.identity == 'f') return {};
  if (need.on_update_old && need.on_delete_old) return "UPDATE and DELETE";
  if (need.on_update_old) return "UPDATE";
  return need.on_delete_old ? "DELETE" : "";
}

std::string fallback_text(const RuleInfo& rule, const ColumnNeed& need) {
  if (need.where == "version") return "; no fill of such a row's keys is accepted until their tombstones have passed";
  if (need.is_condition) return "; the rule then deletes more than it must";
  switch (rule.on_missing) {
    case OnMissing::kPurge:
      return "; each such change purges the rule's pattern instead";
    case OnMissing::kStop:
      return "; the rule says on_missing: stop";
    case OnMissing::kIgnore:
      return "; such changes are ignored, as the rule says";
  }
  return {};
}

Severity missing_severity(const RuleInfo& rule, const ColumnNeed& need) {
  if (need.is_condition) return Severity::kInfo;
  // `run` goes on with the purge, which loses nothing, and refuses only where the rule says so.
  return rule.on_missing == OnMissing::kStop ? Severity::kError : Severity::kWarning;
}

Error no_such_column(const RuleInfo& rule, const ColumnNeed& need, const RelationFacts& relation) {
  std::vector<std::string_view> names;
  for (const ColumnFacts& column : relation.columns) names.push_back(column.name);
  return Error{ErrorKind::kUsage,
               fmt::format("{}: {} names column '{}', which table '{}' does not have",
                           need.place.to_string(), need.where, need.column, rule.qualified_table()),
               did_you_mean(need.column, names, "columns")};
}

using Relations = std::vector<const RelationFacts*>;

constexpr std::size_t kRelationsShown = 5;

// "; so is that of 'public.p2', 'public.p3' and 4 more": the first has been named.
std::string others_text(const Relations& lacking) {
  if (lacking.size() < 2) return {};
  std::string names;
  const std::size_t end = std::min(lacking.size(), kRelationsShown);
  for (std::size_t i = 1; i < end; ++i) names += fmt::format("{}'{}'", i == 1 ? "" : ", ", full_name(*lacking[i]));
  return fmt::format("; nor is that of {}{} enough", names, end == lacking.size() ? "" : fmt::format(" and {} more", lacking.size() - end));
}

// What makes the old values of all of them be sent.
std::string identity_fixes(const Relations& lacking, const std::string& publication, bool is_in_script = true) {
  std::string fixes;
  for (std::size_t i = 0; i < std::min(lacking.size(), kRelationsShown); ++i) {
    fixes += (i == 0 ? "" : " ") + full_identity_fix(*lacking[i], publication);
  }
  if (lacking.size() > kRelationsShown) {
    fixes += fmt::format(" and so for {} more{}", lacking.size() - kRelationsShown, is_in_script ? ": 'evictd check --sql' has all" : "");
  }
  return fixes;
}

// One need against one relation; at most one finding. `lacking`: the relations of the table that lack the same, this one first.
std::optional<Finding> judge(const RuleInfo& rule, const ColumnNeed& need, const RelationFacts& relation, const Facts& facts, const Relations& lacking) {
  const int server_version = facts.server.version;
  const std::string& publication = facts.publication.name;
  Finding finding;
  finding.object = need.place.to_string();
  const ColumnFacts* column = relation.find_column(need.column);
  const std::string table = full_name(relation);
  if (column == nullptr) {
    const Error error = no_such_column(rule, need, relation);
    finding.id = "PG018";
    finding.cause = fmt::format("{} names column '{}', which table '{}' does not have", need.where,
                                need.column, table);
    finding.fix = error.hint;
    return finding;
  }
  if (column->is_generated && server_version < kGeneratedColumnsVersion) {
    finding.id = "PG022";
    finding.severity = missing_severity(rule, need);
    finding.cause =
        fmt::format("{} needs '{}' of '{}', which is generated and not sent before PostgreSQL 18{}",
                    need.where, need.column, table, fallback_text(rule, need));
    finding.fix = "use the columns it is generated from";
    return finding;
  }
  if (column->is_generated && (column->is_virtual || !column->is_published)) {
    finding.id = "PG022";
    finding.severity = missing_severity(rule, need);
    finding.cause = fmt::format("{} needs '{}' of '{}', {}{}", need.where, need.column, table,
                                column->is_virtual ? "a virtual generated column, which is never sent" : "which is generated, and not sent by the publication",
                                fallback_text(rule, need));
    finding.fix = column->is_virtual ? "use the columns it is generated from"
                                     : fmt::format("ALTER PUBLICATION {} SET (publish_generated_columns = stored);", shown_name(publication));
    return finding;
  }
  if (!column->is_published) {
    finding.id = "PG018";
    finding.severity = missing_severity(rule, need);
    finding.cause =
        fmt::format("{} needs '{}' of '{}', which the publication's column list leaves out{}",
                    need.where, need.column, table, fallback_text(rule, need));
    finding.fix = "publish the table without a column list";
    return finding;
  }
  // A view has no old values to send, whatever is asked of it: PG024 says what to do.
  if (relation.kind != 'r' && relation.kind != 'p') return std::nullopt;
  if (const std::string operations = operations_without_old(need, *column, relation);
      !operations.empty()) {
    finding.id = "PG019";
    finding.severity = missing_severity(rule, need);
    finding.cause = fmt::format(
        "{} needs the old '{}' of '{}' for {}, but its replica identity is {}{}{}", need.where,
        need.column, table, operations, identity_text(relation), others_text(lacking), fallback_text(rule, need));
    // A promise only for what a template names, and no condition waits for: it would keep the rule from acting at all, or be refused.
    const bool may_promise = !need.on_delete_old && !need.is_condition && !need.is_awaited;
    finding.fix = fmt::format("{}{}", identity_fixes(lacking, publication),
                              may_promise ? fmt::format(" or, if no UPDATE ever changes it, say immutable: [{}]{}", need.column,
                                                        rule.implied_via.empty() ? "" : fmt::format(" in the join '{}'", rule.implied_via))
                                          : "");
    return finding;
  }
  if (need.on_update_new && column->can_be_toasted && !column->in_identity &&
      relation.identity != 'f') {
    finding.id = "PG021";
    finding.severity = need.is_condition ? Severity::kInfo : Severity::kWarning;
    finding.cause = fmt::format(
        "{} needs '{}' of '{}': a value of more than about 2 kB that an UPDATE leaves alone is not"
        " sent{}",
        need.where, need.column, table, fallback_text(rule, need));
    finding.fix = fmt::format("nothing while its values are short; otherwise {}", identity_fixes(lacking, publication));
    return finding;
  }
  return std::nullopt;
}

void judge_tables(const Requirements& requirements, const Facts& facts, Findings& findings) {
  std::vector<std::string> seen;
  for (const RuleInfo& rule : requirements.rules) {
    const std::string name = rule.qualified_table();
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    const auto found = facts.tables.find(name);
    if (found == facts.tables.end()) continue;
    const RelationFacts& table = found->second.table;
    const Publishing publishing = plan_publishing(found->second, facts.publication, "", facts.server.version);
    bool is_whole = false;  // the table itself cannot be followed, nor judged further
    for (const Unserved& unserved : publishing.unserved) {
      using Why = Unserved::Why;
      if (unserved.why == Why::kNoIdentity || unserved.why == Why::kNotOurs || unserved.why == Why::kNotOwned) continue;
      is_whole = is_whole || (unserved.relation == table.name && found->second.members.empty());
      const char* fix = unserved.why == Why::kNoTable   ? "name the tables it is made from"
                        : unserved.why == Why::kForeign ? "`evictd purge` after each change of it, or a table of this server"
                                                        : "make it an ordinary table";
      findings.push_back({"PG024", Severity::kError, rule.place.to_string(), unserved.text,
                          unserved.fix.empty() ? fix : unserved.fix});
    }
    if (is_whole) continue;
    for (const RelationFacts* relation : found->second.row_relations()) {
      // A foreign table cannot be given one, nor be published.
      if (!relation->has_identity() && relation->kind != 'f') {
        const IdentityProblem problem = identity_problem(*relation, facts.publication.name);
        findings.push_back({"PG020", Severity::kError, name,
                            fmt::format("'{}' {}: once published, UPDATE and DELETE on it fail for everybody", full_name(*relation), problem.text),
                            (problem.is_none ? "give it a primary key that is not DEFERRABLE, or " : "") + problem.fix});
      }
      if (!relation->row_filter.empty()) {
        findings.push_back(
            {"PG017", Severity::kError, name,
             fmt::format(
                 "the publication sends only rows where {}: other rows are never invalidated",
                 relation->row_filter),
             "publish the table without a row filter"});
      }
    }
    if (table.kind == 'p') {
      findings.push_back(
          {"PG023", facts.publication.via_root ? Severity::kWarning : Severity::kInfo, name,
           fmt::format("partitioned: attaching, detaching or dropping a partition{} sends no "
                       "change; evictd notices it"
                       " within 5 s and purges",
                       facts.publication.via_root
                           ? " and truncating one (publish_via_partition_root is on)"
                           : ""),
           facts.publication.via_root ? fmt::format("ALTER PUBLICATION {} SET (publish_via_partition_root = false); so that TRUNCATE of a partition is sent",
                                                    shown_name(facts.publication.name))
                                      : ""});
    }
  }
}

// An UPDATE that moves a row to another partition is sent as what it is to the two: a DELETE and an INSERT.
void judge_moved_rows(const Requirements& requirements, const Facts& facts, Findings& findings) {
  for (const RuleInfo& rule : requirements.rules) {
    const auto found = facts.tables.find(rule.qualified_table());
    if (found == facts.tables.end() || (found->second.table.kind != 'p' && !found->second.table.is_partition)) continue;
    if (!rule.is_on(Operation::kUpdate) || (rule.is_on(Operation::kInsert) && rule.is_on(Operation::kDelete))) continue;
    findings.push_back({"PG023", Severity::kWarning, rule.place.to_string(),
                        fmt::format("'{}' is partitioned: an UPDATE that moves a row to another partition is sent as a DELETE and an INSERT, which 'on' leaves out",
                                    rule.qualified_table()),
                        "nothing where no update changes a column that partitions are made by; otherwise name insert and delete as well"});
  }
}

// A row's version says nothing of another row. A key that does not name the row by its primary key may pass from
// one row to another, whose versions never compare. (FULL does not tell which columns the key has.)
void judge_versioned_keys(const Requirements& requirements, const Facts& facts, Findings& findings) {
  for (std::uint32_t index = 0; index < requirements.rules.size(); ++index) {
    const RuleInfo& rule = requirements.rules[index];
    const auto found = facts.tables.find(rule.qualified_table());
    if (rule.version_column.empty() || found == facts.tables.end()) continue;
    const RelationFacts& table = found->second.table;
    if (table.identity != 'd' && table.identity != 'i') continue;
    for (const std::string& key : rule.key_templates) {
      const std::string where = "key '" + key + "'";
      const bool names_row = std::all_of(table.columns.begin(), table.columns.end(), [&](const ColumnFacts& column) {
        return !column.in_identity ||
               std::any_of(requirements.needs.begin(), requirements.needs.end(), [&](const ColumnNeed& need) {
                 return need.rule == index && need.where == where && need.column == column.name;
               });
      });
      if (names_row) continue;
      findings.push_back({"PG034", Severity::kWarning, rule.version_place.to_string(),
                          fmt::format("version '{}' of '{}' is compared under {}, which does not name {}: another row "
                                      "may take that key, and its versions do not compare",
                                      rule.version_column, full_name(table), where, identity_text(table)),
                          "make the primary key part of the key, or leave 'version' at 'snapshot'"});
    }
  }
}

std::optional<Finding> judge_need(const Requirements& requirements, const Facts& facts, const ColumnNeed& need) {
  const RuleInfo& rule = requirements.rules.at(need.rule);
  const auto found = facts.tables.find(rule.qualified_table());
  if (found == facts.tables.end()) return std::nullopt;
  // Partitions have replica identities of their own; the first that lacks something speaks for all that lack the same.
  Relations relations = found->second.row_relations();
  if (relations.empty()) relations.push_back(&found->second.table);
  Relations lacking;
  std::string id;
  for (const RelationFacts* relation : relations) {
    const auto finding = judge(rule, need, *relation, facts, {relation});
    if (!finding || (!lacking.empty() && finding->id != id)) continue;
    id = finding->id;
    lacking.push_back(relation);
  }
  return lacking.empty() ? std::nullopt : judge(rule, need, *lacking.front(), facts, lacking);
}

// What the catalogue knows of a type that is no domain and, by its modifier, of one column's.
struct TypeFacts {
  Oid type = 0;
  std::string_view name;  // pg_type.typname
  int modifier = -1;
  char category = '\0';  // pg_type.typcategory
  const std::vector<std::string>& labels;
};

ColumnType type_of(const TypeFacts& facts) {
  using Family = ColumnType::Family;
  constexpr int kHeader = 4;  // what a modifier is larger by, but of bits and of times
  const int modifier = facts.modifier;
  ColumnType type;
  const auto of_family = [&type](Family family) {
    type.family = family;
    return type;
  };
  type.labels = facts.labels;
  if (facts.name == "citext") {
    type.equal_by = "citext";
    return of_family(Family::kText);
  }
  switch (facts.type) {
    case 16:
      return of_family(Family::kBoolean);
    case 17:
      return of_family(Family::kBytea);
    case 20:
    case 21:
    case 23:
      type.bytes = facts.type == 20 ? 8 : facts.type == 21 ? 2 : 4;
      return of_family(Family::kInteger);
    case 700:
    case 701:
      type.bytes = facts.type == 700 ? 4 : 8;
      return of_family(Family::kFloat);
    case 1700:
      if (modifier >= kHeader) {
        type.digits = (modifier - kHeader) >> 16 & 0xffff;
        // 11 bits, a signed number since PostgreSQL 15.
        type.scale = (((modifier - kHeader) & 0x7ff) ^ 1024) - 1024;
      }
      return of_family(Family::kNumeric);
    case 18:  // "char"
      type.length = 1;
      return of_family(Family::kText);
    case 19:  // name
      type.length = 63;
      return of_family(Family::kText);
    case 25:
    case 1790:  // refcursor
      return of_family(Family::kText);
    case 1042:
    case 1043:
      if (modifier >= kHeader) type.length = static_cast<std::size_t>(modifier - kHeader);
      type.is_padded = facts.type == 1042 && type.length;
      return of_family(Family::kText);
    case 114:
    case 3802:
      type.is_binary = facts.type == 3802;
      return of_family(Family::kJson);
    case 1082:
      return of_family(Family::kDate);
    case 1083:
    case 1114:
    case 1184:
    case 1266:
      if (modifier >= 0) type.scale = modifier;
      type.has_zone = facts.type == 1266;
      return of_family(facts.type == 1114 ? Family::kTimestamp : facts.type == 1184 ? Family::kTimestampTz : Family::kTime);
    case 2950:
      return of_family(Family::kUuid);
    case 26:
      return of_family(Family::kOid);
    case 869:
      return of_family(Family::kInet);
    case 650:
      return of_family(Family::kCidr);
    case 829:
    case 774:
      type.bytes = facts.type == 829 ? 6 : 8;
      return of_family(Family::kMacaddr);
    case 1560:
    case 1562:
      if (modifier > 0) type.length = static_cast<std::size_t>(modifier);
      type.is_padded = facts.type == 1560 && type.length;
      return of_family(Family::kBits);
    case 22:  // int2vector, oidvector: arrays to the catalogue, with a text of their own
    case 30:
      return of_family(Family::kOther);
    default:
      break;
  }
  if (facts.category == 'A') return of_family(Family::kArray);
  if (facts.category == 'E' && !facts.labels.empty()) return of_family(Family::kEnum);
  // Interval, money, ranges, composite types, points, tsvector, regclass ...
  const bool is_known = facts.type < kGenericTypesMin || facts.category == 'C' || facts.category == 'R';
  return of_family(is_known ? Family::kOther : Family::kForeign);
}

ColumnType column_type(const ColumnFacts& column, bool is_nullable) {
  if (column.type_name.empty()) return {};
  ColumnType type = type_of({column.base_type, column.base_type_name, column.modifier, column.category, column.enum_labels});
  type.name = column.type_name;
  type.is_nullable = is_nullable;
  if (!column.loose_collation.empty() && type.equal_by.empty()) type.equal_by = "its collation";
  if (type.family == ColumnType::Family::kArray && column.element_type != 0) {
    type.element.push_back(type_of({column.element_type, column.element_name, column.modifier, column.element_category, column.element_labels}));
  }
  return type;
}

void judge_uses(const Requirements& requirements, const Facts& facts, Findings& findings) {
  for (const ColumnUse& use : requirements.uses) {
    const auto found = facts.tables.find(requirements.rules.at(use.rule).qualified_table());
    if (found == facts.tables.end()) continue;
    const ColumnFacts* column = found->second.table.find_column(use.column);
    if (column == nullptr) continue;
    // NOT NULL of a table need not be one of the tables below it.
    const auto relations = found->second.row_relations();
    const bool is_nullable = column->is_nullable || std::any_of(relations.begin(), relations.end(), [&](const RelationFacts* relation) {
      const ColumnFacts* same = relation->find_column(use.column);
      return same == nullptr || same->is_nullable;
    });
    for (TypeDoubt& doubt : type_doubts(use, column_type(*column, is_nullable))) {
      findings.push_back({"PG050", doubt.is_certain ? Severity::kError : Severity::kWarning, use.place.to_string(),
                          std::move(doubt.cause), std::move(doubt.hint)});
    }
  }
}

// What a type proves to have no effect ever.
Findings proven_useless(const Requirements& requirements, const Facts& facts) {
  Findings findings;
  judge_uses(requirements, facts, findings);
  std::erase_if(findings, [](const Finding& finding) { return finding.severity != Severity::kError; });
  return findings;
}

// Which columns changed is known only where every old value is sent.
void judge_ignored(const Requirements& requirements, const Facts& facts, Findings& findings) {
  for (const RuleInfo& rule : requirements.rules) {
    const auto found = facts.tables.find(rule.qualified_table());
    if (rule.ignore_changed.empty() || found == facts.tables.end()) continue;
    Relations lacking = found->second.row_relations();
    if (lacking.empty()) lacking.push_back(&found->second.table);
    std::erase_if(lacking, [](const RelationFacts* relation) { return relation->identity == 'f'; });
    if (lacking.empty()) continue;
    findings.push_back({"PG051", Severity::kWarning, rule.place.to_string(),
                        fmt::format("'ignore_changed' needs every old value of '{}', but its replica identity is {}{}: the rule acts on "
                                    "every update",
                                    full_name(*lacking.front()), identity_text(*lacking.front()), others_text(lacking)),
                        identity_fixes(lacking, facts.publication.name, false)});
  }
}

}  // namespace

Findings check_requirements(const Requirements& requirements, const Facts& facts) {
  Findings findings;
  judge_tables(requirements, facts, findings);
  judge_moved_rows(requirements, facts, findings);
  judge_versioned_keys(requirements, facts, findings);
  judge_uses(requirements, facts, findings);
  judge_ignored(requirements, facts, findings);
  for (const ColumnNeed& need : requirements.needs) {
    if (auto finding = judge_need(requirements, facts, need)) findings.push_back(std::move(*finding));
  }
  return findings;
}

std::string similar_table(const Facts& facts, const std::string& table) {
  const std::vector<std::string_view> others(facts.other_tables.begin(), facts.other_tables.end());
  const std::size_t dot = std::min(table.find('.'), table.size());
  const std::string_view name = std::string_view(table).substr(dot);
  std::string_view meant = same_but_for_case(table, others);
  for (const std::string_view other : others) {
    if (meant.empty() && other.ends_with(name)) meant = other;  // the same name in another schema
  }
  // In its schema, whose name says nothing of how near two tables are.
  std::vector<std::string_view> beside;
  for (const std::string_view other : others) {
    if (dot < table.size() && other.starts_with(std::string_view(table).substr(0, dot + 1))) beside.push_back(other.substr(dot + 1));
  }
  if (meant.empty() && !name.empty()) {
    if (const std::string_view nearest = nearest_name(name.substr(1), beside); !nearest.empty()) {
      return fmt::format("did you mean '{}.{}'?", table.substr(0, dot), nearest);
    }
  }
  return meant.empty() ? std::string() : fmt::format("did you mean '{}'?", meant);
}

std::string missing_table_hint(const Facts& facts, const std::string& table) {
  if (std::string meant = similar_table(facts, table); !meant.empty()) return meant;
  return "names are matched exactly, without folding to lower case; without a schema, 'public' is meant";
}

std::vector<std::string> unserved_rules(const Requirements& requirements, const Facts& facts) {
  std::vector<std::string> texts;
  std::set<std::pair<std::string, std::string>> told;
  for (const ColumnNeed& need : requirements.needs) {
    const RuleInfo& rule = requirements.rules.at(need.rule);
    const auto found = facts.tables.find(rule.qualified_table());
    if (found == facts.tables.end() || found->second.table.find_column(need.column) != nullptr) continue;
    if (!told.emplace(rule.qualified_table(), need.column).second) continue;
    const Error error = no_such_column(rule, need, found->second.table);
    texts.push_back(error.hint.empty() ? error.text : error.text + ": " + error.hint);
  }
  for (const Finding& finding : proven_useless(requirements, facts)) {
    texts.push_back(fmt::format("{}: {}{}", finding.object, finding.cause, finding.fix.empty() ? "" : ": " + finding.fix));
  }
  return texts;
}

std::optional<Error> first_refusal(const Requirements& requirements, const Facts& facts) {
  for (const RuleInfo& rule : requirements.rules) {
    if (facts.tables.count(rule.qualified_table()) != 0) continue;
    return Error{ErrorKind::kUsage,
                 fmt::format("{}: table '{}' does not exist in database '{}'", rule.place.to_string(),
                             rule.qualified_table(), facts.server.database),
                 missing_table_hint(facts, rule.qualified_table())};
  }
  for (const ColumnNeed& need : requirements.needs) {
    const RuleInfo& rule = requirements.rules.at(need.rule);
    const auto found = facts.tables.find(rule.qualified_table());
    if (found == facts.tables.end()) continue;
    if (found->second.table.find_column(need.column) == nullptr)
      return no_such_column(rule, need, found->second.table);
  }
  for (const Finding& finding : proven_useless(requirements, facts)) {
    return Error{ErrorKind::kUsage, fmt::format("{}: {}", finding.object, finding.cause), finding.fix};
  }
  return start_refusal(requirements, facts);
}

std::optional<Error> start_refusal(const Requirements& requirements, const Facts& facts) {
  for (const ColumnNeed& need : requirements.needs) {
    if (requirements.rules.at(need.rule).on_missing != OnMissing::kStop) continue;
    const auto finding = judge_need(requirements, facts, need);
    if (!finding || finding->severity != Severity::kError) continue;
    return Error{ErrorKind::kUsage, fmt::format("{}: {}", finding->object, finding->cause), finding->fix};
  }
  return std::nullopt;
}

}  // namespace evictd
