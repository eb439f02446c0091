#include "daemon/sources/postgres/lookups.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/sources/postgres/failure.h"
#include "daemon/sources/postgres/pgoutput.h"
#include "daemon/sources/postgres/sql_text.h"
#include "daemon/sources/postgres/value_types.h"
#include "mapping/check.h"
#include "mapping/lookup_sql.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kBackoffMin{50};
constexpr std::chrono::milliseconds kBackoffMax{1'000};
constexpr std::chrono::milliseconds kStatementMax{5'000};
constexpr std::chrono::milliseconds kAnswerMax{8'000};
constexpr std::chrono::milliseconds kUnused{5'000};
constexpr std::size_t kAnswerBytesMax = 16 * 1024 * 1024;
// Of reloads, which bring new ones: beyond it the session is made anew.
constexpr std::size_t kPreparedMax = 256;

// Of a type that an extension has, '=' means the extension's, as it does to whoever made the columns: out of sight, citext would be
// compared as text, and fewer rows found, without an error.
constexpr std::string_view kSeeExtensions =
    "select pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', nullif(pg_catalog.current_setting('search_path'), ''),"
    " pg_catalog.string_agg(distinct pg_catalog.quote_ident(n.nspname), ', ')), false) from pg_catalog.pg_extension e"
    " join pg_catalog.pg_namespace n on n.oid = e.extnamespace where n.nspname <> 'pg_catalog'; ";

// Behind one address there may be several servers. A standby refuses this (55000), and its rows may be older than the change that is
// looked up: what it does not have yet would pass for what is not there (G10).
constexpr std::string_view kAskForThePrimary = "select pg_catalog.pg_current_wal_lsn(); ";
constexpr std::string_view kNotInThisState = "55000";

}  // namespace

void Lookups::start(const Conninfo& conninfo) {
  stop();
  conninfo_ = conninfo;
  conninfo_.set("application_name", "evictd lookups");
  // Nothing is written, and no lock but that of a reader is waited for.
  conninfo_.set("options", conninfo_.get("options") + fmt::format(" -c default_transaction_read_only=on -c statement_timeout={}",
                                                                  kStatementMax.count()));
  started_ = true;
}

void Lookups::stop() {
  started_ = false;
  connection_.close();
  asked_.reset();
  answer_.reset();
  prepared_.clear();
  preparing_.clear();
  asking_types_of_.clear();
  types_.clear();
  forget_bases();
  problem_.clear();
  backoff_ = {};
  retry_at_ = {};
}

void Lookups::ask(LookupRequest request, std::optional<std::vector<LookupParameter>> parameters, Now now) {
  EVICTD_CHECK(started_ && !asked_);
  asked_.emplace(Asked{std::move(request), {}, now.steady});
  if (parameters) prepare_statement(*parameters);
  step(now, false);
}

void Lookups::forget() {
  asked_.reset();
  answer_.reset();
}

void Lookups::prepare_statement(const std::vector<LookupParameter>& parameters) {
  const RuleInfo& rule = asked_->request.rules->rules()[asked_->request.rule];
  asked_->sql = lookup_sql(rule.lookups[asked_->request.lookup], parameters, rule.fan_out);
}

std::optional<LookupAnswer> Lookups::take() { return std::exchange(answer_, std::nullopt); }

void Lookups::fail(std::string problem) {
  LookupAnswer answer;
  answer.number = asked_->request.number;
  answer.problem = std::move(problem);
  answer_ = std::move(answer);
  asked_.reset();
}

void Lookups::step(Now now, bool is_leaving) {
  if (!started_) return;
  using State = PostgresConnection::State;
  if (connection_.state() == State::kClosed) {
    if (!asked_) return;
    if (const auto& failure = connection_.failure()) {
      problem_ = failure->told();
      connection_.close();
      backoff_ = std::clamp(backoff_ * 2, kBackoffMin, kBackoffMax);
      retry_at_ = now.steady + backoff_;
    }
    asked_->is_sent = false;
    preparing_.clear();
    prepared_.clear();
    asking_types_of_.clear();
    types_.clear();
    forget_bases();
    if (now.steady - asked_->at >= kAnswerMax) return fail(problem_.empty() ? "no answer within 8 s" : problem_);
    if (now.steady < retry_at_) return;
    connection_.open(conninfo_, now);
  }
  connection_.step(now);
  // A lost connection ends a command too: then it is asked again on the next.
  auto answer = connection_.take_answer();
  if (answer && (connection_.state() != State::kClosed || answer->is_too_much)) read_answer(std::move(*answer));
  if (asked_ && now.steady - asked_->at >= kAnswerMax) {
    connection_.close();
    retry_at_ = now.steady;
    return fail(problem_.empty() ? "no answer within 8 s" : problem_);
  }
  if (connection_.state() != State::kIdle) return;
  if (asked_ && !asked_->is_sent) return send(now);
  if (!asked_ && (is_leaving || now.steady - used_at_ >= kUnused)) connection_.close();
}

void Lookups::send(Now now) {
  used_at_ = now.steady;
  if (asked_->sql.empty()) {
    const RuleInfo& rule = asked_->request.rules->rules()[asked_->request.rule];
    const auto types = types_.find(rule.qualified_table());
    if (types == types_.end()) {
      asking_types_of_ = rule.qualified_table();
      // Without its length: a cast to one that the column no longer has would cut values off, and say nothing.
      return connection_.send(fmt::format(
          "select a.attname, pg_catalog.format_type(a.atttypid, -1), t.typcategory, {} from pg_catalog.pg_attribute a"
          " join pg_catalog.pg_type t on t.oid = a.atttypid join pg_catalog.pg_class c on c.oid = a.attrelid"
          " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
          " where n.nspname = {} and c.relname = {} and a.attnum > 0 and not a.attisdropped",
          kLooseCollation, quoted_text(rule.schema), quoted_text(rule.table)));
    }
    std::vector<LookupParameter> parameters;
    for (const JoinStep::Match& match : rule.lookups[asked_->request.lookup].steps[0].match) {
      const auto column = types->second.find(match.from);
      if (column == types->second.end()) return fail(fmt::format("table '{}' has no column '{}'", rule.qualified_table(), match.from));
      if (column->second.is_array) {
        return fail(fmt::format("{}.{} is an array, which no join begins with", rule.qualified_table(), match.from));
      }
      parameters.push_back(column->second.as_parameter);
    }
    prepare_statement(parameters);
  }
  if (!unknown_types_.empty()) {
    is_asking_bases_ = true;
    return connection_.send(fmt::format(
        "with recursive below(whole, type) as (select t.oid, t.typelem from pg_catalog.pg_type t where t.oid in ({}) and t.typcategory = 'A'"
        " union all select b.whole, d.typbasetype from below b join pg_catalog.pg_type d on d.oid = b.type where d.typtype = 'd')"
        " select b.whole, e.typarray from below b join pg_catalog.pg_type e on e.oid = b.type where e.typtype <> 'd' and e.typarray <> 0",
        fmt::join(unknown_types_, ",")));
  }
  const auto known = prepared_.find(asked_->sql);
  if (known == prepared_.end()) {
    if (prepared_.size() >= kPreparedMax) {
      connection_.close();
      retry_at_ = now.steady;
      return;
    }
    preparing_ = asked_->sql;
    return connection_.send(fmt::format("{}{}prepare evictd_lookup_{} as {}", prepared_.empty() ? kAskForThePrimary : "", prepared_.empty() ? kSeeExtensions : "",
                                        ++last_name_, asked_->sql));
  }
  std::vector<std::string> parameters;
  for (const std::vector<std::string>& values : asked_->request.values) {
    parameters.push_back(array_literal({values.begin(), values.end()}));
  }
  asked_->is_sent = true;
  connection_.send_prepared(known->second, parameters, kAnswerBytesMax);
}

void Lookups::read_types(const PostgresConnection::Answer& answer) {
  const std::string table = std::exchange(asking_types_of_, {});
  if (answer.failure) {
    if (asked_) fail(text_without_values(*answer.failure));
    return;
  }
  auto& types = types_[table];
  for (const std::vector<std::string>& row : answer.rows) types[row[0]] = {{row[1], row[3]}, row[2] == "A"};
}

void Lookups::read_bases(const PostgresConnection::Answer& answer) {
  is_asking_bases_ = false;
  const auto unknown = std::exchange(unknown_types_, {});
  if (answer.failure) {
    if (asked_) fail(text_without_values(*answer.failure));
    return;
  }
  for (const std::uint32_t type : unknown) bases_[type] = type;
  for (const auto& row : answer.rows) bases_[static_cast<std::uint32_t>(std::stoul(row.at(0)))] = static_cast<std::uint32_t>(std::stoul(row.at(1)));
}

void Lookups::forget_bases() {
  bases_.clear();
  unknown_types_.clear();
  is_asking_bases_ = false;
}

void Lookups::read_answer(PostgresConnection::Answer answer) {
  backoff_ = {};
  problem_.clear();
  if (is_asking_bases_) return read_bases(answer);
  if (!asking_types_of_.empty()) return read_types(answer);
  if (!preparing_.empty()) {
    if (answer.failure && answer.failure->sqlstate == kNotInThisState && prepared_.empty()) {
      if (asked_) fail("expected the primary, got a standby, whose rows may be older than the change");
      connection_.close();  // the next one may be another server
    } else if (answer.failure) {
      if (asked_) fail(text_without_values(*answer.failure));
    } else {
      prepared_.emplace(preparing_, fmt::format("evictd_lookup_{}", last_name_));
    }
    preparing_.clear();
    return;
  }
  if (!asked_ || !asked_->is_sent) return;
  if (answer.failure) {
    // Altered columns end a prepared statement (0A000, "cached plan must not change result type"), and may have another type.
    prepared_.erase(asked_->sql);
    types_.clear();
    forget_bases();
    if (answer.failure->sqlstate != "0A000" || std::exchange(asked_->is_prepared_again, true)) return fail(text_without_values(*answer.failure));
    asked_->is_sent = false;
    return;
  }
  LookupAnswer found;
  found.number = asked_->request.number;
  const std::size_t items = asked_->request.values[0].size();
  const LookupInfo& lookup = asked_->request.rules->rules()[asked_->request.rule].lookups[asked_->request.lookup];
  if (answer.is_too_much) {
    found.outcome = LookupAnswer::Outcome::kTooMuch;
    answer_ = std::move(found);
    asked_.reset();
    return;
  }
  if (answer.types.size() != lookup.columns.size() + 1) return fail("expected other columns in the answer");
  for (std::size_t i = 1; i < answer.types.size(); ++i) {
    if (answer.types[i] >= kGenericTypesMin && !bases_.contains(answer.types[i])) unknown_types_.push_back(answer.types[i]);
  }
  if (!unknown_types_.empty()) {
    asked_->is_sent = false;
    return;
  }
  found.outcome = LookupAnswer::Outcome::kFound;
  for (std::size_t i = 0; i < lookup.columns.size(); ++i) {
    Column column;
    column.name = lookup.columns[i];
    const auto base = bases_.find(answer.types[i + 1]);
    const Oid type = base == bases_.end() ? answer.types[i + 1] : base->second;
    column.type = value_type_of(type);
    column.element = element_type_of(type);
    found.found.columns.push_back(std::move(column));
  }
  found.rows.reserve(answer.rows.size());
  for (std::size_t row = 0; row < answer.rows.size(); ++row) {
    LookupAnswer::Row& one = found.rows.emplace_back();
    std::uint64_t number = 0;
    for (const char c : answer.rows[row][0]) number = number * 10 + static_cast<std::uint64_t>(c - '0');
    if (number == 0 || number > items) return fail("expected the number of a value in the answer");
    one.item = static_cast<std::uint32_t>(number - 1);
    for (std::size_t i = 1; i < answer.rows[row].size(); ++i) {
      if (answer.nulls.contains({row, i})) {
        one.values.emplace_back();
      } else {
        one.values.emplace_back(std::move(answer.rows[row][i]));
      }
    }
  }
  answer_ = std::move(found);
  asked_.reset();
}

void Lookups::wait_for(Waiting& waiting) const {
  if (!started_) return;
  using State = PostgresConnection::State;
  if (answer_) waiting.wake_at(SteadyTime::min());
  if (asked_) waiting.wake_at(asked_->at + kAnswerMax);
  if (connection_.state() == State::kClosed) {
    if (asked_) waiting.wake_at(connection_.failure() ? SteadyTime::min() : retry_at_);
    return;
  }
  if (connection_.state() == State::kIdle) waiting.wake_at(asked_ && !asked_->is_sent ? SteadyTime::min() : used_at_ + kUnused);
  connection_.wait_for(waiting, true);
}

}  // namespace evictd
