#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/sink_run.h"
#include "daemon/app/commands/snapshot_connection.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/explain.h"
#include "daemon/base/poll.h"
#include "daemon/app/signals.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kSnapshotPatience{5};

// What to purge, and the rule that says how (where it is announced). Each once, in the order of the rules.
struct Doomed {
  const RuleInfo* rule = nullptr;
  Pattern pattern;
};
using Patterns = std::vector<Doomed>;

// For a pattern that no rule has.
const RuleInfo& no_rule() {
  static const RuleInfo kNone;
  return kNone;
}

Patterns patterns_of_table(const RuleSet& rules, const TableName& table) {
  Patterns patterns;
  for (const RuleInfo& rule : rules.rules()) {
    if (rule.schema != table.schema || rule.table != table.table) continue;
    for (const Pattern& pattern : rule.patterns) {
      const bool known = std::any_of(patterns.begin(), patterns.end(), [&](const Doomed& doomed) {
        return doomed.pattern.glob == pattern.glob && doomed.pattern.is_tag == pattern.is_tag &&
               doomed.pattern.is_lazy == pattern.is_lazy && doomed.rule->announce == rule.announce;
      });
      if (!known) patterns.push_back({&rule, pattern});
    }
  }
  return patterns;
}

Result<Patterns> patterns_of(const CommandLine& request, const RuleSet& rules) {
  if (!request.table.empty()) {
    const Result<TableName> table = find_mapped_table(rules, request.table);
    if (!table) return tl::unexpected(table.error());
    return patterns_of_table(rules, *table);
  }
  for (const RuleInfo& rule : rules.rules()) {
    for (const Pattern& pattern : rule.patterns) {
      if (pattern.glob == request.pattern) return Patterns{{&rule, pattern}};
    }
  }
  if (!request.yes) {
    return fail(ErrorKind::kUsage,
                fmt::format("no rule has the pattern '{}': it may match keys that are no cache",
                            printable_text(request.pattern)),
                "add --yes to delete what matches all the same");
  }
  Pattern pattern;
  pattern.glob = request.pattern;
  pattern.is_tag = request.pattern.starts_with(kTagPrefix);
  return Patterns{{&no_rule(), pattern}};
}

// A snapshot taken now: fills that began earlier are refused where it is known. Nothing when the
// database does not answer in time, with the reason.
std::optional<Snapshot> snapshot_now(const Config& config, std::string& problem) {
  const Secret& url = config.postgres ? config.postgres->url : config.kafka->postgres_url;
  if (url.empty()) {
    problem = "no PostgreSQL is configured";
    return std::nullopt;
  }
  Result<std::unique_ptr<SnapshotPoll>> poll =
      make_snapshot_poll(url, config.postgres ? config.postgres->credential : CredentialSource{});
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

void print_outcome(const Pattern& pattern, const Outcome& outcome) {
  if (pattern.is_bump) {
    fmt::print("{}  raised {}\n", printable_text(pattern.glob), outcome.deleted);
  } else {
    fmt::print("{}  {} {}, already gone {}\n", printable_text(pattern.glob),
               pattern.is_lazy ? "made stale" : "deleted", outcome.deleted, outcome.absent);
  }
  std::fflush(stdout);
}

}  // namespace

int purge_command(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  Result<Patterns> patterns = patterns_of(request, *rules);
  if (!patterns) return report(patterns.error());
  std::string problem;
  const std::optional<Snapshot> snapshot = snapshot_now(**config, problem);
  if (!snapshot) {
    std::fprintf(
        stderr,
        "warning: no snapshot of the database (%s): a checked fill that is under way now may "
        "be stored\n",
        problem.c_str());
  }
  // Everything that is in progress now, or later, must be visible to a fill (DESIGN.md, "The protocol").
  const Xid floor = snapshot ? Xid{number(snapshot->xmax()) - 1} : Xid{0};
  Signals signals;
  for (const CacheSettings& cache : (*config)->caches) {
    std::vector<PatternRef> refs;
    for (const Doomed& doomed : *patterns) {
      if (acts_on(*doomed.rule, cache.name)) refs.push_back({doomed.rule, &doomed.pattern});
    }
    if (refs.empty()) continue;
    Result<std::unique_ptr<Sink>> sink = make_redis_sink(redis_options(**config, cache));
    if (!sink) return report(sink.error());
    if ((*config)->caches.size() > 1) fmt::print("cache '{}'\n", cache.name);
    std::vector<Order> orders(refs.size());
    for (std::size_t i = 0; i < refs.size(); ++i) {
      orders[i].target = Target::kPatterns;
      orders[i].patterns = std::span(&refs[i], 1);
      orders[i].is_unconditional = true;
      orders[i].floor = floor;
    }
    const Result<void> done = run_on_sink(**sink, orders, signals, [&](std::size_t index, const Outcome& outcome) {
      print_outcome(*refs[index].pattern, outcome);
    });
    if (!done) return report(done.error());
  }
  return kExitDone;
}

}  // namespace evictd
