#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/explain.h"
#include "daemon/base/poll.h"
#include "daemon/app/signals.h"
#include "mapping/mapper.h"

namespace evictd {
namespace {

constexpr std::size_t kStepBytesMax = 256 * 1024;

// Prints what the changes of a source would delete, and acknowledges everything to its temporary
// slot.
class Watcher final : public SourceHandler {
 public:
  Watcher(Source& source, const RuleSet& rules, Log& log)
      : source_(source), rules_(rules), mapper_(rules), log_(log) {}

  const std::optional<Error>& failure() const { return failure_; }
  void begin_step(Now now) { now_ = now; }

  void on_connected(const SourceConnected&) override {
    log_.info(fmt::format("watching {} tables; Ctrl-C ends it", rules_.tables().size()));
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
  void on_begin(const TransactionBegin& begin) override { commit_time_ = begin.commit_time; }

  void on_change(const Change& change) override {
    if (!mapper_.is_mapped(*change.relation)) return;
    ExplainReceiver receiver(rules_);
    mapper_.map(change, receiver);
    const std::string what =
        fmt::format("{}  {} {}", time_text(commit_time_), operation_name(change.operation),
                    change.relation->qualified_name());
    if (receiver.lines().empty()) std::printf("%s  nothing\n", what.c_str());
    for (const ExplainReceiver::Line& line : receiver.lines()) {
      std::printf("%s  %s %s  %s\n", what.c_str(), line.kind.c_str(), line.text.c_str(),
                  line.rule.c_str());
    }
  }

  void on_unknown_change(const UnknownChange& change) override {
    const std::string what = fmt::format("{}  unknown change ({})", time_text(commit_time_), change.detail);
    for (const RuleInfo& rule : rules_.rules()) {
      const bool is_affected = change.tables.empty() || std::find(change.tables.begin(), change.tables.end(),
                                                                  rule.qualified_table()) != change.tables.end();
      if (!is_affected) continue;
      for (const auto& pattern : rule.patterns) {
        std::printf("%s  purge %s  %s\n", what.c_str(), pattern.glob.c_str(), rule.name.c_str());
      }
    }
  }

  void on_commit(const Position& end) override { source_.acknowledge(end); }
  void on_relation_gone(const Relation& relation) override { mapper_.forget(relation); }
  void on_gap(const Gap& gap) override { log_.warning(fmt::format("gap: {}", gap.detail)); }
  void on_snapshot(const Snapshot&) override {}
  void on_heartbeat() override {}
  void on_keepalive(const Position& position) override { source_.acknowledge(position); }

 private:
  Source& source_;
  const RuleSet& rules_;
  Mapper mapper_;
  Log& log_;
  RepeatGuard repeats_;
  Now now_{};
  SystemTime commit_time_{};
  std::optional<Error> failure_;
};

int watch(Source& source, const RuleSet& rules, Log& log, Signals& signals) {
  Watcher watcher(source, rules, log);
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
  if (!(*config)->postgres) {
    return report(Error{ErrorKind::kUsage, "'watch' needs a PostgreSQL source", ""});
  }
  Log log((*config)->log_level, (*config)->log_format);
  PostgresOptions options = postgres_options(**config, *rules);
  options.temporary_slot = true;
  options.on_notice = [&log](const PostgresNotice& notice) {
    log.write(notice.is_warning ? LogLevel::kWarning : LogLevel::kInfo, notice.text, notice.hint);
  };
  const std::unique_ptr<Source> source = make_postgres_source(std::move(options));
  return watch(*source, *rules, log, signals);
}

}  // namespace evictd
