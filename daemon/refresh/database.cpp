#include "daemon/refresh/database.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "daemon/sources/postgres/catalogue_session.h"
#include "daemon/sources/postgres/catalogue_types.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/failure.h"
#include "daemon/sources/postgres/sql_text.h"
#include "daemon/sources/postgres/value_types.h"
#include "mapping/array_text.h"
#include "mapping/canonical.h"
#include "mapping/check.h"
#include "mapping/key_shape.h"

namespace evictd {
namespace {

using Answer = PostgresConnection::Answer;

// Beyond the statement's own timeout: the server, or the way to it, is gone.
constexpr std::chrono::milliseconds kAnswerGrace{3'000};
// A session ends after this, so that one to a server that is the primary no more does not stay.
constexpr std::chrono::seconds kSessionMax{5};
constexpr std::chrono::seconds kIdleMax{1};
constexpr std::size_t kMoreValues = 16;  // of kValueBytesMax, beside those that were asked for

// Elements of an array of texts.
void append_element(std::string& array, std::string_view text) {
  array += array.size() > 1 ? ",\"" : "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') array += '\\';
    array += c;
  }
  array += '"';
}

// Rights, names, syntax, other columns: it fails until somebody changes it. What its data make of it may pass.
ErrorKind kind_of(const std::string& sqlstate) {
  if (sqlstate.starts_with("57P")) return ErrorKind::kConnection;
  if (sqlstate.starts_with("22")) return ErrorKind::kData;
  return sqlstate.starts_with("42") || sqlstate.starts_with("25") || sqlstate.starts_with("0A") ? ErrorKind::kUsage : ErrorKind::kTransient;
}

}  // namespace

struct RefreshDatabase::Impl {
  Impl(Conninfo info, RefreshDatabaseOptions given, const RuleSet& rule_set)
      : conninfo(std::move(info)), options(std::move(given)), rules(rule_set) {}

  // How a rule is asked, by the table and the query as they are.
  struct Plan {
    KeyShape shape;
    std::vector<ValueType> types;     // of the key's columns
    std::optional<std::size_t> tags;  // where they stand in an answer
    std::optional<std::size_t> lazy_tags;
    std::string statement;
  };

  Conninfo conninfo;
  RefreshDatabaseOptions options;
  const RuleSet& rules;
  std::unique_ptr<CatalogueSession> session;
  std::map<std::uint32_t, Plan> plans;
  std::set<std::uint32_t> prepared;  // in this session
  SteadyTime connected_at{};
  SteadyTime used_at{};

  const RuleInfo& info(std::uint32_t rule) const { return rules.rules()[rule]; }
  std::string what(std::uint32_t rule) const { return fmt::format("the refresh query of rule '{}'", info(rule).name); }

  void use() {
    used_at = std::chrono::steady_clock::now();
    if (session && used_at - connected_at <= kSessionMax) return;
    session.reset();
    prepared.clear();
    auto made = std::make_unique<CatalogueSession>(conninfo, options.statement_timeout + kAnswerGrace);
    const TextRows rows = made->query("select pg_is_in_recovery()");
    if (rows.at(0).at(0) == "t") {
      throw SessionFailure(ErrorKind::kUsage, "a standby cannot be refreshed from: it does not know what is in progress on the primary");
    }
    made->query(fmt::format("set statement_timeout = {}", options.statement_timeout.count()));
    made->query("set default_transaction_read_only = on");
    connected_at = used_at = std::chrono::steady_clock::now();
    session = std::move(made);
  }

  [[noreturn]] void fail_with(std::uint32_t rule, const PostgresFailure& failure) const {
    std::string text = fmt::format("{}: {}", what(rule), text_without_values(failure));
    if (failure.sqlstate == "57014") {
      text = fmt::format("{} took longer than {} ms", what(rule), options.statement_timeout.count());
    } else if (failure.sqlstate == "42501") {
      text += "; grant SELECT on it to evictd's role, and BYPASSRLS where it is row level security";
    } else if (failure.sqlstate == "42P10") {
      text = fmt::format("{}: expected {} and then the value, got fewer columns", what(rule), column_list(rule));
    }
    throw SessionFailure(kind_of(failure.sqlstate), text, failure.sqlstate);
  }

  std::string column_list(std::uint32_t rule) const {
    const KeyShape shape = refresh_key(rules, rule).shape;
    std::string list;
    for (const std::string& column : shape.columns) list += (list.empty() ? "" : ", ") + column;
    return list;
  }

  Answer ask(std::uint32_t rule, const std::string& statement, std::size_t keys) {
    // A value for each key, and some room: a query that joins too much answers with millions of rows.
    const std::size_t bytes_max = (keys + kMoreValues) * kValueBytesMax;
    Answer answer = session->ask(statement, bytes_max);
    if (answer.failure) fail_with(rule, *answer.failure);
    if (answer.is_too_much) {
      throw SessionFailure(ErrorKind::kUsage, fmt::format("{}: expected a value of at most {} bytes for each key, got more than {} bytes for {} keys",
                                                          what(rule), kValueBytesMax, bytes_max, keys));
    }
    return answer;
  }

  void prepare_as(std::uint32_t rule, const std::string& name, const std::string& statement) {
    if (const auto failure = session->prepare(name, statement)) fail_with(rule, *failure);
  }

  std::vector<ValueType> read_types_of(const TableName& table, const std::vector<std::string>& columns) {
    const TextRows found = session->query(fmt::format(
        "select a.attname, a.atttypid from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = "
        "c.relnamespace where n.nspname = {} and c.relname = {} and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped",
        quoted_text(table.schema), quoted_text(table.table)));
    if (found.empty()) throw SessionFailure(ErrorKind::kUsage, fmt::format("there is no table '{}'", table.qualified()));
    std::vector<ValueType> types;
    std::set<Oid> used;
    for (const auto& row : found) used.insert(static_cast<Oid>(std::stoul(row.at(1))));
    const CatalogueTypes all = read_types(*session, used);
    for (const std::string& column : columns) {
      const auto at = std::find_if(found.begin(), found.end(), [&](const auto& row) { return row.at(0) == column; });
      if (at == found.end()) {
        throw SessionFailure(ErrorKind::kUsage, fmt::format("the table '{}' has no column '{}'", table.qualified(), column));
      }
      types.push_back(value_type_of(all.base_of(static_cast<Oid>(std::stoul(at->at(1))))));
    }
    return types;
  }

  static std::string arguments(const std::vector<std::string>& arrays) {
    std::string list;
    for (const std::string& array : arrays) list += (list.empty() ? "(" : ", ") + quoted_text(array);
    return list.empty() ? list : list + ")";
  }

  // The query as a table whose first columns have names of ours. The line ends what may be a comment.
  static std::string as_table(const std::string& query, std::size_t columns) {
    std::string names;
    for (std::size_t i = 0; i < columns; ++i) names += fmt::format("evictd_key_{}, ", i);
    return fmt::format("(\n{}\n) as q ({}evictd_value)", query, names);
  }

  Plan& plan_of(std::uint32_t rule) {
    if (const auto known = plans.find(rule); known != plans.end()) return known->second;
    Plan plan;
    const RefreshKey key = refresh_key(rules, rule);
    plan.shape = key.shape;
    plan.types = read_types_of(key.table, plan.shape.columns);
    const std::size_t count = plan.shape.columns.size();
    const std::string& query = info(rule).refresh.query;
    const std::string probe = fmt::format("evictd_probe_{}", rule);
    prepare_as(rule, probe, "select * from " + as_table(query, count));
    const Answer answer = ask(rule, "execute " + probe + arguments(std::vector<std::string>(count, "{}")), 0);
    session->query("deallocate " + probe);
    std::string more;
    for (std::size_t i = count + 1; i < answer.columns.size(); ++i) {
      const std::string& name = answer.columns[i];
      std::optional<std::size_t>& place = name == "tags" ? plan.tags : plan.lazy_tags;
      if ((name != "tags" && name != "lazy_tags") || place) {
        throw SessionFailure(ErrorKind::kUsage,
                             fmt::format("{}: expected {} and then the value, and perhaps columns named 'tags' and 'lazy_tags', got '{}' "
                                         "behind the value",
                                         what(rule), column_list(rule), name));
      }
      place = count + 3 + (more.empty() ? 0 : 1);
      more += fmt::format(", q.{}::text[]", quoted_name(name));
    }
    std::string keys;
    for (std::size_t i = 0; i < count; ++i) keys += fmt::format("format('%s', q.evictd_key_{}), ", i);
    const std::string too_long = fmt::format("q.evictd_value is not null and octet_length(t.evictd_text) > {}", kValueBytesMax);
    // format() writes what the stream writes; a cast to text does not (booleans, character(n)).
    plan.statement = fmt::format(
        "select {}case when q.evictd_value is null or {} then null else t.evictd_text end, {}, pg_current_snapshot()::text{} from {} "
        "cross join lateral (select format('%s', q.evictd_value) as evictd_text) t",
        keys, too_long, too_long, more, as_table(query, count));
    return plans.emplace(rule, std::move(plan)).first->second;
  }

  Plan& ready(std::uint32_t rule) {
    Plan& plan = plan_of(rule);
    if (!prepared.contains(rule)) {
      prepare_as(rule, fmt::format("evictd_refresh_{}", rule), plan.statement);
      prepared.insert(rule);
    }
    return plan;
  }

  std::vector<std::string> names_in(std::uint32_t rule, const Answer& answer, std::size_t row, const std::optional<std::size_t>& column) const {
    std::vector<std::string> names;
    if (!column || answer.nulls.contains({row, *column})) return names;
    const bool is_array = for_each_element(answer.rows[row].at(*column), [&](std::optional<std::string_view> name) {
      if (name && !name->empty()) names.emplace_back(*name);
    });
    if (!is_array) throw SessionFailure(ErrorKind::kUsage, fmt::format("{}: expected an array of tags", what(rule)));
    return names;
  }

  RefreshAnswer read(std::uint32_t rule, const std::vector<std::vector<std::string>>& texts) {
    use();
    const Plan& plan = ready(rule);
    const std::size_t count = plan.shape.columns.size();
    std::vector<std::string> arrays(count, "{");
    for (const std::vector<std::string>& one : texts) {
      for (std::size_t i = 0; i < count; ++i) append_element(arrays[i], one.at(i));
    }
    for (std::string& array : arrays) array += '}';
    const Answer answer = ask(rule, fmt::format("execute evictd_refresh_{}{}", rule, arguments(arrays)), texts.size());
    used_at = std::chrono::steady_clock::now();
    RefreshAnswer read;
    for (std::size_t row = 0; row < answer.rows.size(); ++row) {
      const std::vector<std::string>& cells = answer.rows[row];
      if (row == 0) read.token = cells.at(count + 2);
      RefreshValue& value = read.values.emplace_back();
      std::vector<std::string> key;
      for (std::size_t i = 0; i < count; ++i) {
        key.emplace_back();
        append_canonical(plan.types[i], cells.at(i), key.back());
      }
      value.key = plan.shape.render(key);
      if (!answer.nulls.contains({row, count})) value.text = cells.at(count);
      value.is_too_long = cells.at(count + 1) == "t";
      value.tags = names_in(rule, answer, row, plan.tags);
      value.lazy_tags = names_in(rule, answer, row, plan.lazy_tags);
    }
    return read;
  }

  template <typename T, typename Work>
  Result<T> guard(Work work) {
    Result<T> done = CatalogueSession::guard<T>(std::move(work), conninfo);
    if (!done && done.error().kind != ErrorKind::kData) session.reset();
    if (!done && done.error().kind == ErrorKind::kUsage) plans.clear();  // the table may be another one the next time
    return done;
  }
};

RefreshDatabase::RefreshDatabase() = default;
RefreshDatabase::~RefreshDatabase() = default;

Result<std::unique_ptr<RefreshDatabase>> RefreshDatabase::make(const RefreshDatabaseOptions& options, const RuleSet& rules) {
  Result<Conninfo> conninfo = Conninfo::of(options.database, "evictd refresh");
  if (!conninfo) return tl::unexpected(conninfo.error());
  std::unique_ptr<RefreshDatabase> database(new RefreshDatabase());
  database->impl_ = std::make_unique<Impl>(std::move(*conninfo), options, rules);
  return database;
}

Result<void> RefreshDatabase::connect() {
  const Result<bool> done = impl_->guard<bool>([&] {
    impl_->use();
    return true;
  });
  if (done) return {};
  Error error = done.error();
  return tl::unexpected(std::move(error).within("postgres at '" + impl_->conninfo.server() + "'"));
}

Result<void> RefreshDatabase::prepare(std::uint32_t rule) {
  const Result<bool> done = impl_->guard<bool>([&] {
    impl_->use();
    impl_->ready(rule);
    return true;
  });
  if (!done) return tl::unexpected(done.error());
  return {};
}

bool RefreshDatabase::has_tags(std::uint32_t rule) const {
  const auto plan = impl_->plans.find(rule);
  EVICTD_CHECK(plan != impl_->plans.end());
  return plan->second.tags || plan->second.lazy_tags;
}

Result<RefreshAnswer> RefreshDatabase::read(std::uint32_t rule, const std::vector<std::vector<std::string>>& texts) {
  const auto ask = [&] { return impl_->guard<RefreshAnswer>([&] { return impl_->read(rule, texts); }); };
  Result<RefreshAnswer> answer = ask();
  // Of a table that was altered meanwhile, what was planned before is of no use: once more, from the start.
  if (!answer && answer.error().kind == ErrorKind::kUsage) answer = ask();
  return answer;
}

void RefreshDatabase::rest() {
  if (impl_->session && std::chrono::steady_clock::now() - impl_->used_at > kIdleMax) impl_->session.reset();
}

}  // namespace evictd
