#include <fmt/core.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/explain.h"
#include "daemon/app/watch_text.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/poll.h"
#include "daemon/base/text.h"
#include "daemon/app/signals.h"
#include "mapping/mapper.h"

namespace evictd {
namespace {

constexpr std::size_t kStepBytesMax = 256 * 1024;

// Prints what the changes of a source would delete, and acknowledges everything to its temporary
// slot.
class Watcher final : public SourceHandler {
 public:
  Watcher(Source& source, const RuleSet& rules, Log& log, const CommandLine& request)
      : source_(source), rules_(rules), mapper_(rules), log_(log), rule_(request.rule) {
    if (const auto table = find_mapped_table(rules, request.table); !request.table.empty() && table) table_ = *table;
    style_.json = request.json;
    style_.colour = !request.json && isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  }

  const std::optional<Error>& failure() const { return failure_; }
  void begin_step(Now now) { now_ = now; }

  void on_connected(const SourceConnected&) override {
    log_.info(fmt::format("watching {}; Ctrl-C ends it", counted(rules_.tables().size(), "table")));
  }
  void on_disconnected(const Error& error) override {
    const std::optional<std::string> text = repeats_.pass(error.text, now_.steady);
    if (text) log_.warning(*text, error.hint);
  }
  void on_standby(std::string_view holder) override {
    log_.info(fmt::format("waiting for the slot, held by {}", holder));
  }
  void on_facts(const SourceFacts&) override { source_.proceed({}); }
  void on_tables(const std::map<std::string, std::string>&) override {}
  void on_failed(const Error& error) override { failure_ = error; }
  void on_begin(const TransactionBegin& begin) override {
    commit_time_ = begin.commit_time;
    xid_ = number(begin.xid);
  }

  void on_change(const Change& change) override {
    if (!mapper_.is_mapped(*change.relation)) return;
    if (table_ && !change.relation->is_of(table_->schema, table_->table)) return;
    ExplainReceiver receiver(rules_);
    mapper_.map(change, receiver);
    WatchedChange watched;
    watched.commit_time = commit_time_;
    watched.xid = xid_;
    watched.operation = change.operation;
    watched.table = change.relation->qualified_name();
    watched.row = row_text(change);
    for (const ExplainReceiver::Line& line : receiver.lines()) {
      if (is_wanted(line)) watched.lines.push_back(line);
    }
    if (!rule_.empty() && watched.lines.empty()) return;
    if (receiver.lines().empty()) watched.why_nothing = why_nothing(receiver);
    std::fputs(watch_text(watched, style_).c_str(), stdout);
  }

  void on_unknown_change(const UnknownChange& change) override {
    WatchedChange watched;
    watched.commit_time = commit_time_;
    watched.xid = xid_;
    watched.operation = Operation::kUpdate;
    watched.lines.push_back({"note", "an unknown change: " + printable_text(change.detail)});
    for (const RuleInfo& rule : rules_.rules()) {
      if (table_ && rule.qualified_table() != table_->qualified()) continue;
      if (!is_wanted(rule)) continue;
      const bool is_affected = change.tables.empty() || std::find(change.tables.begin(), change.tables.end(),
                                                                  rule.qualified_table()) != change.tables.end();
      if (!is_affected) continue;
      for (const auto& pattern : rule.patterns) {
        watched.lines.push_back({"purge", printable_text(pattern.glob), rule.name, style_.json ? rule.place.to_string() : std::string()});
        watched.table = rule.qualified_table();
      }
    }
    if (watched.lines.size() > 1) std::fputs(watch_text(watched, style_).c_str(), stdout);
  }

  void on_commit(const Position& end) override { source_.acknowledge(end); }
  void on_relation_gone(const Relation& relation) override { mapper_.forget(relation); }
  void on_gap(const Gap& gap) override { log_.warning(fmt::format("gap: {}", gap.detail)); }
  void on_snapshot(const Snapshot&) override {}
  void on_heartbeat(SteadyTime) override {}
  void on_keepalive(const Position& position) override { source_.acknowledge(position); }

 private:
  // What `via:` implies does the work of the rule that was written.
  bool is_wanted(const RuleInfo& rule) const { return rule_.empty() || rule.name == rule_ || rule.implied_by == rule_; }
  bool is_wanted(const ExplainReceiver::Line& line) const {
    return rule_.empty() || std::any_of(rules_.rules().begin(), rules_.rules().end(), [&](const RuleInfo& rule) {
             return is_wanted(rule) && line.rule == rule.name;
           });
  }

  Source& source_;
  const RuleSet& rules_;
  Mapper mapper_;
  Log& log_;
  RepeatGuard repeats_;
  Now now_{};
  SystemTime commit_time_{};
  std::uint64_t xid_ = 0;
  std::optional<TableName> table_;  // absent: every table
  std::string rule_;                // empty: every rule
  WatchStyle style_;
  std::optional<Error> failure_;
};

int watch(Source& source, const RuleSet& rules, Log& log, Signals& signals, const CommandLine& request) {
  Watcher watcher(source, rules, log, request);
  source.set_tables(rules.tables());
  source.start(read_clocks());
  std::string problem;  // said last: a table that prints nothing must not look like one that does not change
  while (true) {
    const Now now = read_clocks();
    watcher.begin_step(now);
    source.step(now, kStepBytesMax, watcher);
    const std::string problem_now = source.status().problem.value_or("");
    if (!problem_now.empty() && problem_now != problem) log.warning(problem_now);
    problem = problem_now;
    if (std::fflush(stdout) != 0) return kExitDone;  // whoever read it has gone
    if (watcher.failure()) return report(*watcher.failure());
    while (const std::optional<Signal> signal = signals.next()) {
      if (*signal == Signal::kStop) return kExitDone;
    }
    Waiting waiting;
    waiting.descriptors.push_back(pollfd{signals.descriptor(), POLLIN, 0});
    source.wait_for(waiting, true);
    wait_for_any(waiting);
  }
}

}  // namespace

int watch_command(const CommandLine& request) {
  Signals signals;
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  if (!request.table.empty()) {
    if (const Result<TableName> table = find_mapped_table(*rules, request.table); !table) return report(table.error());
  }
  if (Result<void> known = require_rule(*rules, request.rule); !known) return report(known.error());
  if (!(*config)->postgres) {
    return report(Error{ErrorKind::kUsage, "'watch' needs a PostgreSQL source", ""});
  }
  Log log((*config)->log_level, (*config)->log_format);
  PostgresOptions options = postgres_options(**config, *rules);
  options.temporary_slot = true;
  options.on_notice = [&log](const PostgresNotice& notice) {
    log.write(notice.is_error ? LogLevel::kError : notice.is_warning ? LogLevel::kWarning : LogLevel::kInfo, notice.text, notice.hint);
  };
  const std::unique_ptr<Source> source = make_postgres_source(std::move(options));
  return watch(*source, *rules, log, signals, request);
}

}  // namespace evictd
