#include "daemon/audit/database.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "daemon/sources/postgres/catalogue_session.h"
#include "daemon/sources/postgres/catalogue_types.h"
#include "daemon/sources/postgres/sql_text.h"
#include "mapping/canonical.h"

namespace evictd {
namespace {

using Answer = PostgresConnection::Answer;

constexpr std::chrono::milliseconds kAnswerMax{20'000};
constexpr std::chrono::seconds kSessionMax{5};
constexpr std::chrono::seconds kIdleMax{1};
constexpr int kStatementTimeoutMs = 5'000;
// Of one answer. What a query makes of 50 keys may be anything.
constexpr std::size_t kAnswerBytesMax = 64 * 1024 * 1024;
constexpr std::int64_t kSmallTablePages = 256;  // read whole: a sample of pages would hardly be one

// '{"7","a\"b"}' as a literal.
std::string array_literal(const std::vector<std::string>& texts) {
  std::string array = "{";
  for (const std::string& text : texts) {
    if (array.size() > 1) array += ',';
    array += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') array += '\\';
      array += c;
    }
    array += '"';
  }
  array += '}';
  return quoted_text(array);
}

std::string name_list(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + quoted_name(name);
  return list;
}

std::string text_list(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "" : ", ") + quoted_text(text);
  return list;
}

bool is_number(std::uint32_t type) {
  constexpr std::uint32_t kNumbers[] = {20, 21, 23, 26, 700, 701, 1700};  // int8, int2, int4, oid, float4, float8, numeric
  return std::find(std::begin(kNumbers), std::end(kNumbers), type) != std::end(kNumbers);
}

// Keys that one rule renders for a row.
class KeyCollector final : public InvalidationReceiver {
 public:
  explicit KeyCollector(std::uint32_t rule) : rule_(rule) {}
  void key(std::uint32_t rule, std::string_view key) override {
    if (rule == rule_) keys.emplace_back(key);
  }
  void tag(std::uint32_t, std::string_view) override {}
  void bump(std::uint32_t, std::string_view) override {}
  void surrogate_key(std::uint32_t, std::string_view) override {}
  void semantic(std::uint32_t, std::string_view) override {}
  void row_version(std::uint32_t rule, std::string_view text) override {
    if (rule == rule_) version = std::string(text);
  }
  void purge(std::uint32_t, std::uint32_t) override {}
  void unmappable(std::uint32_t, UnmappableReason, std::string_view) override {}

  std::vector<std::string> keys;
  std::string version;

 private:
  std::uint32_t rule_;
};

// A table as a rule reads it.
struct Table {
  std::unique_ptr<Relation> relation;
  std::vector<std::set<std::string>> unique;  // columns of each unique index
  std::vector<std::string> primary_key;
  std::int64_t pages = 0;
  bool has_children = false;  // INHERITS: an index of the parent says nothing of theirs
  std::string problem;
};

std::string problem_of(const PostgresFailure& failure, const std::string& what) {
  if (failure.sqlstate == "42501") return what + ": " + failure.text + "; grant SELECT on it to evictd's role, and BYPASSRLS where it is row level security";
  if (failure.sqlstate == "57014") return fmt::format("{} took longer than {} s", what, kStatementTimeoutMs / 1000);
  return what + ": " + failure.text;
}

}  // namespace

bool AuditPlan::can_scan(std::size_t shape, const RuleInfo& rule) const {
  if (!shapes[shape].is_readable) return false;
  return !rule.audit.query.empty() || is_unique[shape];
}

struct AuditDatabase::Impl {
  Impl(Conninfo info, const RuleSet& rule_set) : conninfo(std::move(info)), rules(rule_set), mapper(rule_set) {}

  Conninfo conninfo;
  const RuleSet& rules;
  Mapper mapper;
  std::unique_ptr<CatalogueSession> session;
  std::string epoch;
  std::map<std::string, Table> tables;
  std::vector<AuditPlan> plans;
  std::vector<std::vector<std::string>> needed;  // columns that each rule reads
  std::map<std::uint32_t, std::string> prepared;  // what is wrong with a rule's query, empty: nothing
  std::uint64_t questions = 0;

  std::string what(std::uint32_t rule) const { return fmt::format("the {}'s query of rule '{}'", rules.rules()[rule].audit.is_of_refresh ? "refresh" : "audit", rules.rules()[rule].name); }

  SteadyTime connected_at{};
  SteadyTime used_at{};

  void use() {
    used_at = std::chrono::steady_clock::now();
    if (!session || used_at - connected_at > kSessionMax) connect();
  }

  void connect() {
    session.reset();
    prepared.clear();
    connected_at = used_at = std::chrono::steady_clock::now();
    session = std::make_unique<CatalogueSession>(conninfo, kAnswerMax);
    const TextRows rows = session->query(
        "select pg_is_in_recovery(), case when pg_is_in_recovery() then '' else "
        "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end");
    if (rows.at(0).at(0) == "t") {
      throw SessionFailure(ErrorKind::kUsage, "a standby cannot be audited against: it is behind the primary and does not "
                                              "know what is in progress there");
    }
    std::uint32_t timeline = 0;
    const std::string& text = rows[0].at(1);
    std::from_chars(text.data(), text.data() + text.size(), timeline, 16);
    const Answer system = session->ask("select system_identifier from pg_control_system()");
    if (!system.failure && !system.rows.empty()) epoch = fmt::format("{}/{}", system.rows[0].at(0), timeline);
  }

  void read_table(const std::string& name) {
    Table& table = tables[name];
    const TextRows found = session->query(fmt::format(
        "select c.oid, c.relkind, n.nspname, c.relname, c.relkind = 'r' and exists (select from pg_inherits i where "
        "i.inhparent = c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname || '.' || "
        "c.relname = {} and c.relkind in ('r', 'p')",
        quoted_text(name)));
    if (found.empty()) {
      table.problem = fmt::format("there is no table '{}'", name);
      return;
    }
    const std::string& oid = found[0].at(0);
    table.has_children = found[0].at(4) == "t";
    table.relation = std::make_unique<Relation>();
    table.relation->id = static_cast<std::uint32_t>(std::stoul(oid));
    table.relation->generation = tables.size();
    table.relation->schema = found[0].at(2);
    table.relation->table = found[0].at(3);
    const TextRows columns = session->query(
        "select attname, atttypid from pg_attribute where attrelid = " + oid + " and attnum > 0 and not attisdropped order by attnum");
    std::set<Oid> used;
    for (const auto& row : columns) used.insert(static_cast<Oid>(std::stoul(row.at(1))));
    const CatalogueTypes types = read_types(*session, used);
    for (const auto& row : columns) {
      Column column;
      column.name = row.at(0);
      const Oid base = types.base_of(static_cast<Oid>(std::stoul(row.at(1))));
      column.type = value_type_of(base);
      column.element = element_type_of(base);
      table.relation->columns.push_back(std::move(column));
    }
    const TextRows indexes = session->query(
        "select i.indexrelid, i.indisprimary, a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid"
        " and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]) where i.indrelid = " + oid +
        " and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null order by 1, 3");
    std::map<std::string, std::set<std::string>> by_index;
    for (const auto& row : indexes) {
      by_index[row.at(0)].insert(row.at(2));
      if (row.at(1) == "t") table.primary_key.push_back(row.at(2));
    }
    for (auto& [index, names] : by_index) table.unique.push_back(std::move(names));
    if (table.has_children) table.unique.clear();
    const TextRows size = session->query(
        "select coalesce(sum(pg_relation_size(relid)), 0) / current_setting('block_size')::bigint from pg_partition_tree('" + oid + "'::regclass)");
    table.pages = std::stoll(size.at(0).at(0));
  }

  void read_plans() {
    needed.resize(rules.rules().size());
    for (const ColumnNeed& need : column_needs(rules)) {
      std::vector<std::string>& columns = needed[need.rule];
      if (std::find(columns.begin(), columns.end(), need.column) == columns.end()) columns.push_back(need.column);
    }
    for (std::uint32_t rule = 0; rule < rules.rules().size(); ++rule) {
      const RuleInfo& info = rules.rules()[rule];
      if (!info.version_column.empty()) {
        std::vector<std::string>& columns = needed[rule];
        if (std::find(columns.begin(), columns.end(), info.version_column) == columns.end()) columns.push_back(info.version_column);
      }
      AuditPlan& plan = plans.emplace_back();
      plan.problem = why_not_audited(info, passes_over_updates(rules, rule));
      if (!plan.problem.empty()) continue;
      const std::string name = info.qualified_table();
      if (tables.find(name) == tables.end()) read_table(name);
      const Table& table = tables[name];
      plan.problem = table.problem;
      if (!plan.problem.empty()) continue;
      for (const std::string& column : needed[rule]) {
        const auto& columns = table.relation->columns;
        const bool is_there = std::any_of(columns.begin(), columns.end(), [&](const Column& one) { return one.name == column; });
        if (!is_there) plan.problem = fmt::format("the table '{}' has no column '{}'", name, column);
      }
      plan.shapes = key_shapes(rules, rule);
      if (!table.has_children) plan.primary_key = table.primary_key;
      for (const KeyShape& shape : plan.shapes) read_joined(shape, info, plan);
      for (const KeyShape& shape : plan.shapes) {
        const std::set<std::string> columns(shape.columns.begin(), shape.columns.end());
        plan.names_one_row.push_back(shape.is_of_own_row && std::any_of(table.unique.begin(), table.unique.end(), [&](const auto& unique) {
          return std::includes(columns.begin(), columns.end(), unique.begin(), unique.end());
        }));
        plan.is_unique.push_back(shape.is_readable && plan.names_one_row.back());
      }
      const bool can_scan = std::any_of(plan.is_unique.begin(), plan.is_unique.end(), [](bool is_one) { return is_one; });
      if (plan.problem.empty() && info.audit.query.empty() && !can_scan && plan.primary_key.empty()) {
        plan.problem = "its table has no primary key by which a row could be looked up: give it an 'audit' with a query";
      }
    }
  }

  // A key of a joined table: only the rule's query judges it.
  void read_joined(const KeyShape& shape, const RuleInfo& info, AuditPlan& plan) {
    if (shape.is_of_own_row) return;
    if (info.audit.query.empty()) {
      plan.left_out.push_back(fmt::format("key '{}': it is of a joined table, whose rows no marker tells of: give it a rule of its own, "
                                          "with an 'audit' and a query",
                                          shape.source));
      return;
    }
    const std::string name = shape.table.qualified();
    if (tables.find(name) == tables.end()) read_table(name);
    const Table& joined = tables[name];
    if (!joined.problem.empty()) {
      plan.problem = joined.problem;
      return;
    }
    for (const std::string& column : shape.columns) {
      const auto& columns = joined.relation->columns;
      const bool is_there = std::any_of(columns.begin(), columns.end(), [&](const Column& one) { return one.name == column; });
      if (!is_there) plan.problem = fmt::format("the table '{}' has no column '{}'", name, column);
    }
  }

  const Table& table_of(std::uint32_t rule) { return tables[rules.rules()[rule].qualified_table()]; }
  std::string table_name(std::uint32_t rule) {
    const Relation& relation = *table_of(rule).relation;
    return quoted_name(relation.schema) + "." + quoted_name(relation.table);
  }

  // One statement against the application's tables, inside a transaction that goes on whatever becomes of it.
  Answer question(const std::string& statement) {
    ++questions;
    session->query("savepoint audit");
    Answer answer = session->ask(statement, kAnswerBytesMax);
    if (answer.is_too_much) throw SessionFailure(ErrorKind::kTransient, fmt::format("an answer of more than {} bytes", kAnswerBytesMax));
    if (answer.failure) session->query("rollback to savepoint audit");
    session->query("release savepoint audit");
    return answer;
  }

  // Row values, in the order of the relation's columns, of a row of `names`.
  struct Row {
    std::vector<std::string> texts;
    std::vector<Value> values;
  };
  void fill_row(const Relation& relation, const Answer& answer, std::size_t row, std::size_t first, Row& into) const {
    into.texts = answer.rows[row];
    into.values.assign(relation.columns.size(), Value{});
    for (std::size_t i = first; i < answer.columns.size(); ++i) {
      for (std::size_t at = 0; at < relation.columns.size(); ++at) {
        if (relation.columns[at].name != answer.columns[i]) continue;
        const bool is_null = answer.nulls.count({row, i}) != 0;
        into.values[at] = is_null ? Value{ValueState::kNull, {}} : Value{ValueState::kText, into.texts[i]};
      }
    }
  }

  KeyCollector keys_of(std::uint32_t rule, const Relation& relation, const Row& row) {
    KeyCollector collector(rule);
    Change change;
    change.operation = Operation::kInsert;
    change.relation = &relation;
    change.new_row = row.values;
    mapper.map(change, collector);
    return collector;
  }

  // How the sample's row is found; nothing: it is not.
  std::optional<std::pair<std::vector<std::string>, std::vector<std::string>>> lookup_of(const AuditSample& sample) const {
    const AuditPlan& plan = plans[sample.rule];
    if (!sample.row.empty()) return std::pair(plan.primary_key, sample.row);
    const std::size_t shape = sample.shape.value_or(0);
    if (!plan.is_unique[shape]) return std::nullopt;
    if (std::optional<std::vector<std::string>> texts = plan.shapes[shape].read(sample.key)) {
      const std::vector<std::string>& columns = plan.shapes[shape].columns;
      for (std::size_t i = 0; i < columns.size(); ++i) {
        if (type_of(sample.rule, columns[i]) == ValueType::kBytea) (*texts)[i].insert(0, "\\x");  // the one text that is not read as it is written
      }
      return std::pair(columns, std::move(*texts));
    }
    return std::nullopt;
  }

  void look_up_rows(std::uint32_t rule, const std::vector<AuditSample>& samples, std::vector<AuditFacts>& facts) {
    // Samples that are looked up by the same columns, together.
    std::map<std::vector<std::string>, std::vector<std::pair<std::size_t, std::vector<std::string>>>> groups;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (auto lookup = lookup_of(samples[i])) groups[lookup->first].emplace_back(i, std::move(lookup->second));
    }
    for (const auto& [columns, members] : groups) {
      if (ask_rows(rule, columns, members, samples, facts) || members.size() == 1) continue;
      for (const auto& member : members) {
        facts[member.first].problem.clear();
        ask_rows(rule, columns, {member}, samples, facts);
      }
    }
  }

  // False when one of several may have spoiled it for the others.
  bool ask_rows(std::uint32_t rule, const std::vector<std::string>& columns,
                const std::vector<std::pair<std::size_t, std::vector<std::string>>>& members,
                const std::vector<AuditSample>& samples, std::vector<AuditFacts>& facts) {
    const Relation& relation = *table_of(rule).relation;
    std::vector<std::string> wanted = needed[rule];
    for (const std::string& column : columns) {
      if (std::find(wanted.begin(), wanted.end(), column) == wanted.end()) wanted.push_back(column);
    }
    std::string condition;
    for (const auto& [index, texts] : members) {
      condition += condition.empty() ? "" : ", ";
      condition += columns.size() == 1 ? quoted_text(texts[0]) : "(" + text_list(texts) + ")";
    }
    const std::string left = columns.size() == 1 ? quoted_name(columns[0]) : "(" + name_list(columns) + ")";
    const Answer answer = question(fmt::format("select xmin as \"evictd xmin\", {} from {} where {} in ({})", name_list(wanted),
                                               table_name(rule), left, condition));
    if (answer.failure) {
      for (const auto& [index, texts] : members) {
        // A key of another kind that only looks like one of this rule's.
        const bool is_no_value = answer.failure->sqlstate.starts_with("22");
        facts[index].problem = is_no_value ? "the key's text is no value of its column: " + answer.failure->text
                                           : problem_of(*answer.failure, "looking up its row");
      }
      return !answer.failure->sqlstate.starts_with("22");
    }
    std::map<std::string, std::vector<AuditedRow>> rows;
    Row row;
    for (std::size_t i = 0; i < answer.rows.size(); ++i) {
      fill_row(relation, answer, i, 1, row);
      const KeyCollector collector = keys_of(rule, relation, row);
      AuditedRow one;
      one.xmin = static_cast<std::uint32_t>(std::stoul(row.texts[0]));
      one.row_version = collector.version;
      for (const std::string& key : collector.keys) rows[key].push_back(one);
    }
    for (const auto& [index, texts] : members) {
      facts[index].rows_were_read = true;
      if (const auto found = rows.find(samples[index].key); found != rows.end()) facts[index].rows = found->second;
    }
    return true;
  }

  void ask_values(std::uint32_t rule, const std::vector<AuditSample>& samples, std::vector<AuditFacts>& facts) {
    auto [at, is_new] = prepared.try_emplace(rule);
    if (is_new) {
      session->query("savepoint audit");
      const auto failure = session->prepare(fmt::format("evictd_audit_{}", rule), rules.rules()[rule].audit.query);
      if (failure) at->second = problem_of(*failure, what(rule));
      session->query(failure ? "rollback to savepoint audit" : "release savepoint audit");
    }
    std::vector<std::size_t> asked;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      facts[i].problem = at->second;
      if (!at->second.empty()) continue;
      facts[i].problem = fmt::format("{} does not answer for this key", what(rule));
      if (samples[i].texts.size() == plans[rule].shapes[0].columns.size()) asked.push_back(i);
    }
    if (asked.empty()) return;
    if (ask_values_of(rule, asked, samples, facts) || asked.size() == 1) return;
    for (const std::size_t index : asked) ask_values_of(rule, {index}, samples, facts);
  }

  // As ask_rows().
  bool ask_values_of(std::uint32_t rule, const std::vector<std::size_t>& asked, const std::vector<AuditSample>& samples,
                     std::vector<AuditFacts>& facts) {
    const std::vector<std::string>& columns = plans[rule].shapes[0].columns;
    std::string parameters;
    for (std::size_t column = 0; column < columns.size(); ++column) {
      std::vector<std::string> texts;
      for (const std::size_t index : asked) texts.push_back(samples[index].texts[column]);
      parameters += (column == 0 ? "" : ", ") + array_literal(texts);
    }
    const Answer answer =
        question(fmt::format("execute evictd_audit_{}{}", rule, columns.empty() ? "" : "(" + parameters + ")"));
    if (answer.failure) {
      for (const std::size_t index : asked) facts[index].problem = problem_of(*answer.failure, what(rule));
      return !answer.failure->sqlstate.starts_with("22");
    }
    if (answer.columns.size() <= columns.size()) {
      for (const std::size_t index : asked) {
        facts[index].problem = fmt::format("{}: expected the {} column{} of the key and then the value, got {} column{}", what(rule),
                                           columns.size(), columns.size() == 1 ? "" : "s", answer.columns.size(),
                                           answer.columns.size() == 1 ? "" : "s");
      }
      return true;
    }
    std::map<std::vector<std::string>, std::vector<std::size_t>> found;
    for (std::size_t row = 0; row < answer.rows.size(); ++row) {
      std::vector<std::string> key;
      for (std::size_t i = 0; i < columns.size(); ++i) {
        key.emplace_back();
        append_canonical(type_of(rule, columns[i]), answer.rows[row][i], key.back());
      }
      found[key].push_back(row);
    }
    for (const std::size_t index : asked) {
      const auto rows = found.find(samples[index].texts);
      if (rows == found.end()) continue;
      if (rows->second.size() != 1) {
        facts[index].problem = fmt::format("{} answers {} times for this key", what(rule), rows->second.size());
        continue;
      }
      const std::size_t row = rows->second[0];
      AuditAnswer& into = facts[index].answer.emplace();
      for (std::size_t i = columns.size(); i < answer.columns.size(); ++i) {
        into.columns.push_back(answer.columns[i]);
        into.are_numbers.push_back(is_number(answer.types[i]));
        const bool is_null = answer.nulls.count({row, i}) != 0;
        into.values.push_back(is_null ? std::nullopt : std::optional(answer.rows[row][i]));
      }
      facts[index].problem.clear();
    }
    return true;
  }

  // Of a column of the rule's table; where the rule has a query, of the one table that its key is of.
  ValueType type_of(std::uint32_t rule, const std::string& name) const {
    for (const Column& column : tables.at(plans[rule].shapes[0].table.qualified()).relation->columns) {
      if (column.name == name) return column.type;
    }
    return ValueType::kText;
  }

  AuditMoment begin() {
    use();
    session->query("begin isolation level repeatable read, read only");
    session->query(fmt::format("set local statement_timeout = {}", kStatementTimeoutMs));
    const TextRows rows = session->query("select pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text");
    AuditMoment moment;
    const Result<Snapshot> snapshot = Snapshot::parse(rows.at(0).at(0));
    const std::optional<Lsn> wal = Lsn::parse(rows[0].at(1));
    if (!snapshot || !wal) throw SessionFailure(ErrorKind::kConnection, "unexpected answer to 'select pg_current_snapshot()'");
    moment.snapshot = *snapshot;
    moment.wal = *wal;
    return moment;
  }

  Seen look(std::uint32_t rule, const std::vector<AuditSample>& samples) {
    Seen seen;
    seen.moment = begin();
    const bool has_query = !rules.rules()[rule].audit.query.empty();
    seen.facts.resize(samples.size());
    for (AuditFacts& facts : seen.facts) {
      facts.snapshot = seen.moment.snapshot;
      facts.has_query = has_query;
    }
    try {
      look_up_rows(rule, samples, seen.facts);
      if (has_query) ask_values(rule, samples, seen.facts);
      session->query("commit");
    } catch (const SessionFailure& failure) {
      // Whatever a query did to this session, the next keys have another one.
      if (failure.kind == ErrorKind::kConnection) throw;
      session.reset();
      for (AuditFacts& facts : seen.facts) {
        facts.answer.reset();
        facts.rows.clear();
        facts.problem = fmt::format("looking at {} keys of rule '{}': {}", samples.size(), rules.rules()[rule].name, failure.what());
      }
    }
    return seen;
  }

  std::vector<AuditSample> draw_rows(std::uint32_t rule, std::size_t count) {
    const Table& table = table_of(rule);
    const AuditPlan& plan = plans[rule];
    std::vector<std::string> wanted = needed[rule];
    for (const std::string& column : plan.primary_key) {
      if (std::find(wanted.begin(), wanted.end(), column) == wanted.end()) wanted.push_back(column);
    }
    const bool is_small = table.pages <= kSmallTablePages || table.has_children;
    const double share = std::min(100.0, 100.0 * static_cast<double>(count + 4) / static_cast<double>(std::max<std::int64_t>(table.pages, 1)));
    begin();
    const Answer answer = question(fmt::format(
        "select {} from {}{} limit {}", name_list(wanted), table_name(rule),
        is_small ? std::string(" order by random()") : fmt::format(" tablesample system ({:.6f})", share), count));
    session->query("commit");
    if (answer.failure) throw SessionFailure(ErrorKind::kUsage, problem_of(*answer.failure, "reading rows of '" + rules.rules()[rule].qualified_table() + "'"));
    std::vector<AuditSample> samples;
    Row row;
    for (std::size_t i = 0; i < answer.rows.size(); ++i) {
      fill_row(*table.relation, answer, i, 0, row);
      for (std::string& key : keys_of(rule, *table.relation, row).keys) {
        AuditSample sample;
        sample.rule = rule;
        sample.key = std::move(key);
        for (const std::string& column : plan.primary_key) sample.row.push_back(text_of(answer, i, column));
        if (plan.shapes.size() == 1) {
          for (const std::string& column : plan.shapes[0].columns) {
            sample.texts.emplace_back();
            append_canonical(type_of(rule, column), text_of(answer, i, column), sample.texts.back());
          }
        }
        samples.push_back(std::move(sample));
      }
    }
    return samples;
  }

  static std::string text_of(const Answer& answer, std::size_t row, const std::string& column) {
    const auto at = std::find(answer.columns.begin(), answer.columns.end(), column);
    return at == answer.columns.end() ? "" : answer.rows[row][static_cast<std::size_t>(at - answer.columns.begin())];
  }
};

AuditDatabase::AuditDatabase() = default;
AuditDatabase::~AuditDatabase() = default;

Result<std::unique_ptr<AuditDatabase>> AuditDatabase::open(const DatabaseAddress& address, const RuleSet& rules) {
  Result<Conninfo> conninfo = Conninfo::of(address, "evictd audit");
  if (!conninfo) return tl::unexpected(conninfo.error());
  std::unique_ptr<AuditDatabase> database(new AuditDatabase());
  database->impl_ = std::make_unique<Impl>(*conninfo, rules);
  const Result<bool> done = CatalogueSession::guard<bool>(
      [&] {
        database->impl_->connect();
        database->impl_->read_plans();
        return true;
      },
      *conninfo);
  if (!done) {
    Error error = done.error();
    return tl::unexpected(std::move(error).within("postgres at '" + conninfo->server() + "'"));
  }
  return database;
}

void AuditDatabase::rest() {
  if (std::chrono::steady_clock::now() - impl_->used_at > kIdleMax) impl_->session.reset();
}

const std::string& AuditDatabase::epoch() const { return impl_->epoch; }
const AuditPlan& AuditDatabase::plan(std::uint32_t rule) const { return impl_->plans[rule]; }
std::uint64_t AuditDatabase::questions() const { return impl_->questions; }

Result<AuditDatabase::Seen> AuditDatabase::look(std::uint32_t rule, const std::vector<AuditSample>& samples) {
  return CatalogueSession::guard<Seen>([&] { return impl_->look(rule, samples); }, impl_->conninfo);
}

Result<std::vector<AuditSample>> AuditDatabase::draw_rows(std::uint32_t rule, std::size_t rows) {
  return CatalogueSession::guard<std::vector<AuditSample>>([&] { return impl_->draw_rows(rule, rows); }, impl_->conninfo);
}

}  // namespace evictd
