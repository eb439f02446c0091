#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "daemon/commands/commands.h"
#include "daemon/commands/snapshot_connection.h"
#include "daemon/commands/wiring.h"
#include "daemon/explain.h"
#include "daemon/poll.h"
#include "daemon/signals.h"

namespace evictd {
namespace {

// Without Redis for this long, the command gives up; what was purged stays purged.
constexpr std::chrono::seconds kRedisPatience{15};
constexpr std::chrono::seconds kSnapshotPatience{5};

// What to purge: (glob, whether it names tag sets), each once, in the order of the rules.
using Patterns = std::vector<Pattern>;

Patterns patterns_of_table(const RuleSet& rules, const std::string& qualified) {
  Patterns patterns;
  for (const RuleInfo& rule : rules.rules()) {
    if (rule.qualified_table() != qualified) continue;
    for (const Pattern& pattern : rule.patterns) {
      const bool known = std::any_of(patterns.begin(), patterns.end(), [&](const Pattern& p) {
        return p.glob == pattern.glob && p.is_tag == pattern.is_tag;
      });
      if (!known) patterns.push_back(pattern);
    }
  }
  return patterns;
}

Result<Patterns> patterns_of(const CommandLine& request, const RuleSet& rules) {
  if (!request.table.empty()) {
    const std::string qualified = qualified_table_name(request.table);
    if (Result<void> mapped = require_mapped_table(rules, qualified); !mapped) {
      return tl::unexpected(mapped.error());
    }
    return patterns_of_table(rules, qualified);
  }
  for (const RuleInfo& rule : rules.rules()) {
    for (const Pattern& pattern : rule.patterns) {
      if (pattern.glob == request.pattern) return Patterns{pattern};
    }
  }
  if (!request.yes) {
    return fail(ErrorKind::kUsage,
                fmt::format("no rule has the pattern '{}': it may match keys that are no cache",
                            printable_text(request.pattern)),
                "add --yes to delete what matches all the same");
  }
  return Patterns{Pattern{request.pattern, request.pattern.starts_with(kTagPrefix)}};
}

// A snapshot taken now: fills that began earlier are refused where it is known. Nothing when the
// database does not answer in time, with the reason.
std::optional<Snapshot> snapshot_now(const Config& config, std::string& problem) {
  const Secret& url = config.postgres ? config.postgres->url : config.kafka->postgres_url;
  if (url.empty()) {
    problem = "no PostgreSQL is configured";
    return std::nullopt;
  }
  Result<std::unique_ptr<SnapshotPoll>> poll = make_snapshot_poll(url);
  if (!poll) {
    problem = poll.error().text;
    return std::nullopt;
  }
  const Now begin = read_clocks();
  (*poll)->start(begin);
  (*poll)->request();
  while (true) {
    const Now now = read_clocks();
    (*poll)->step(now);
    if (std::optional<Snapshot> snapshot = (*poll)->take()) return snapshot;
    if (now.steady - begin.steady > kSnapshotPatience) break;
    Waiting waiting;
    waiting.wake_at(begin.steady + kSnapshotPatience + std::chrono::milliseconds(1));
    (*poll)->wait_for(waiting);
    wait_for_any(waiting);
  }
  problem = (*poll)->problem();
  return std::nullopt;
}

// Submits one command per pattern, one after the other, again when the connection was lost under
// it.
class Purger final : public SinkHandler {
 public:
  Purger(Sink& sink, Patterns patterns, Xid floor)
      : sink_(sink), patterns_(std::move(patterns)), floor_(floor) {}

  bool finished() const { return next_ == patterns_.size(); }
  const std::optional<Error>& failure() const { return failure_; }
  bool connected() const { return connected_; }
  const std::string& problem() const { return problem_; }

  void submit_next() {
    if (!connected_ || under_way_ || finished() || !sink_.has_room()) return;
    command_ = Command{};
    command_.act = Act::kInvalidate;
    command_.target = Target::kPattern;
    command_.pattern_is_tag = patterns_[next_].is_tag;
    command_.unconditional = true;
    command_.floor = floor_;
    command_.texts = patterns_[next_].glob;
    command_.items.push_back(Item{static_cast<std::uint32_t>(command_.texts.size()), 0});
    under_way_ = true;
    sink_.submit(next_ + 1, command_);
  }

  void on_sink_connected(const SinkConnected& connected) override {
    connected_ = true;
    // Tombstones of the epoch that the running evictd works in, if one ever ran here.
    SinkContext context;
    context.epoch = connected.record ? connected.record->epoch : "purge";
    sink_.set_context(context);
  }
  void on_sink_disconnected(const Error& error, std::string_view) override {
    connected_ = false;
    problem_ = error.text;
  }
  void on_sink_failed(const Error& error) override { failure_ = error; }
  void on_done(Ticket, const Outcome& outcome) override {
    std::printf("%s  deleted %llu, already gone %llu\n",
                printable_text(patterns_[next_].glob).c_str(),
                static_cast<unsigned long long>(outcome.deleted),
                static_cast<unsigned long long>(outcome.absent));
    std::fflush(stdout);
    under_way_ = false;
    ++next_;
  }
  void on_lost(Ticket) override { under_way_ = false; }
  void on_record_saved(std::uint64_t) override {}

 private:
  Sink& sink_;
  const Patterns patterns_;
  const Xid floor_;
  std::size_t next_ = 0;
  Command command_;
  bool under_way_ = false;
  bool connected_ = false;
  std::string problem_ = "no answer";
  std::optional<Error> failure_;
};

// A line that overwrites itself, for a person who waits; nothing when nobody is there to see it.
void show_progress(std::chrono::steady_clock::duration elapsed) {
  if (isatty(STDERR_FILENO) == 0) return;
  std::fprintf(
      stderr, "purging ... %lld s\r",
      static_cast<long long>(std::chrono::duration_cast<std::chrono::seconds>(elapsed).count()));
}

int purge(Sink& sink, Purger& purger, Signals& signals) {
  const SteadyTime begin = read_clocks().steady;
  SteadyTime connected_at = begin;
  sink.start(read_clocks());
  while (!purger.finished()) {
    const Now now = read_clocks();
    sink.step(now, purger);
    if (purger.failure()) return report(*purger.failure());
    purger.submit_next();
    if (purger.connected()) connected_at = now.steady;
    if (now.steady - connected_at > kRedisPatience) {
      return report(Error{ErrorKind::kFatal, "gave up on Redis: " + purger.problem(),
                          "run the command again when Redis is there"});
    }
    while (const std::optional<Signal> signal = signals.next()) {
      if (*signal == Signal::kStop) return kExitFailed;
    }
    show_progress(now.steady - begin);
    Waiting waiting;
    waiting.descriptors.push_back(pollfd{signals.descriptor(), POLLIN, 0});
    waiting.wake_at(now.steady + std::chrono::seconds(1));
    sink.wait_for(waiting);
    wait_for_any(waiting);
  }
  sink.stop();
  return kExitDone;
}

}  // namespace

int purge_command(const CommandLine& request) {
  Signals signals;
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  Result<Patterns> patterns = patterns_of(request, *rules);
  if (!patterns) return report(patterns.error());
  Result<std::unique_ptr<Sink>> sink = make_redis_sink(redis_options(**config));
  if (!sink) return report(sink.error());

  std::string problem;
  const std::optional<Snapshot> snapshot = snapshot_now(**config, problem);
  if (!snapshot) {
    std::fprintf(
        stderr,
        "warning: no snapshot of the database (%s): a checked fill that is under way now may "
        "be stored\n",
        problem.c_str());
  }
  // Everything that is in progress now, or later, must be visible to a fill (design, section 4).
  const Xid floor = snapshot ? Xid{number(snapshot->xmax()) - 1} : Xid{0};
  Purger purger(**sink, std::move(*patterns), floor);
  return purge(**sink, purger, signals);
}

}  // namespace evictd
