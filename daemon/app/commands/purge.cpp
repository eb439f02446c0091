#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/live_lookups.h"
#include "daemon/app/commands/sink_run.h"
#include "daemon/app/commands/snapshot_connection.h"
#include "daemon/app/commands/wiring.h"
#include "daemon/app/explain.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/poll.h"
#include "daemon/app/row_keys.h"
#include "daemon/app/signals.h"
#include "daemon/flow/cache_rules.h"
#include "daemon/flow/found_rows.h"
#include "daemon/sources/postgres/live_rows.h"
#include "mapping/mapper.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kSnapshotPatience{5};

// What to purge, with the rule that says how, in the order of the rules. The same text may stand there more than once: for other
// caches, or to be left behind in another way.
using Patterns = std::vector<PatternRef>;

// For a pattern that no rule has. What points there must not outlive it.
struct Unruled {
  RuleInfo rule;
  Pattern pattern;
};

Result<Patterns> patterns_of(const CommandLine& request, const RuleSet& rules, Unruled& unruled) {
  Patterns patterns;
  std::optional<TableName> table;
  if (!request.table.empty()) {
    Result<TableName> found = find_mapped_table(rules, request.table);
    if (!found) return tl::unexpected(found.error());
    table = std::move(*found);
  }
  for (const RuleInfo& rule : rules.rules()) {
    if (table && (rule.schema != table->schema || rule.table != table->table)) continue;
    for (const Pattern& pattern : rule.patterns) {
      if (table || pattern.glob == request.pattern) patterns.push_back({&rule, &pattern});
    }
  }
  if (table || !patterns.empty()) return patterns;
  if (!request.yes) {
    return fail(ErrorKind::kUsage,
                fmt::format("no rule has the pattern '{}': it may match keys that are no cache",
                            printable_text(request.pattern)),
                "add --yes to delete what matches all the same");
  }
  unruled.pattern.glob = request.pattern;
  unruled.pattern.is_tag = request.pattern.starts_with(kTagPrefix);
  return Patterns{{&unruled.rule, &unruled.pattern}};
}

// Whether one walk does what both ask for.
bool is_same_purge(const PatternRef& a, const PatternRef& b) {
  const auto asked = [](const PatternRef& ref) {
    const Pattern& pattern = *ref.pattern;
    return std::tie(pattern.glob, pattern.is_tag, pattern.is_lazy, pattern.is_bump, pattern.is_surrogate, pattern.exact, pattern.is_semantic,
                    ref.rule->fill, ref.rule->announce);
  };
  // Two rules' entries of one index may find its elements by different attributes.
  return asked(a) == asked(b) && !a.pattern->is_semantic;
}

Patterns patterns_in(const Patterns& patterns, const CacheSettings& cache) {
  Patterns found;
  for (const PatternRef& ref : patterns) {
    if (ref.pattern->is_surrogate != cache.edge.has_value() || !acts_on(*ref.rule, cache.name)) continue;
    const bool is_known = std::any_of(found.begin(), found.end(), [&](const PatternRef& other) { return is_same_purge(ref, other); });
    if (!is_known) found.push_back(ref);
  }
  return found;
}

// A snapshot taken now: fills that began earlier are refused where it is known. Nothing when the
// database does not answer in time, with the reason.
std::optional<Snapshot> snapshot_now(const Config& config, std::string& problem) {
  const DatabaseAddress database = database_address(config);
  if (database.url.empty()) {
    problem = "no PostgreSQL is configured";
    return std::nullopt;
  }
  Result<std::unique_ptr<SnapshotPoll>> poll = make_snapshot_poll(database);
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

// Everything that is in progress now, or later, must be visible to a fill (DESIGN.md, "The protocol").
Xid floor_now(const Config& config) {
  std::string problem;
  const std::optional<Snapshot> snapshot = snapshot_now(config, problem);
  if (snapshot) return Xid{number(snapshot->xmax()) - 1};
  std::fprintf(stderr,
               "warning: no snapshot of the database (%s): a checked fill that is under way now may "
               "be stored\n",
               problem.c_str());
  return Xid{0};
}

// `ref` must outlive the order.
Order pattern_order(const PatternRef& ref, Xid floor) {
  Order order;
  order.target = Target::kPatterns;
  order.patterns = std::span(&ref, 1);
  order.is_unconditional = true;
  order.floor = floor;
  return order;
}

void print_outcome(const Pattern& pattern, const Outcome& outcome) {
  if (pattern.is_surrogate) {
    fmt::print("{}  {}\n", printable_text(pattern.glob), outcome.deleted > 0 ? "purged at the edge" : "left alone (on_gap: ignore)");
  } else if (pattern.is_semantic) {
    fmt::print("{}  cleared, {} elements\n", printable_text(pattern.glob), outcome.deleted);
  } else if (pattern.is_bump) {
    fmt::print("{}  raised {}\n", printable_text(pattern.glob), outcome.deleted);
  } else {
    fmt::print("{}  {} {}, already gone {}\n", printable_text(pattern.glob),
               pattern.is_lazy ? "made stale" : "deleted", outcome.deleted, outcome.absent);
  }
  std::fflush(stdout);
}

// Keys of more rows than this are the table's: they are purged by its patterns.
constexpr std::size_t kRowKeysMax = 5'000'000;
constexpr std::size_t kOrderTextsMax = 2000;

// The keys, tags and counters of rows, by rule; each once.
class RowKeys final : public InvalidationReceiver {
 public:
  explicit RowKeys(const RuleSet& rules) : rules_(rules) {}
  void key(std::uint32_t rule, std::string_view key) override { add(rule, Target::kKeys, key); }
  void tag(std::uint32_t rule, std::string_view tag) override { add(rule, Target::kTags, tag); }
  void bump(std::uint32_t rule, std::string_view counter) override { add(rule, Target::kCounters, counter); }
  void surrogate_key(std::uint32_t rule, std::string_view key) override { add(rule, Target::kSurrogates, key); }
  void semantic(std::uint32_t rule, std::string_view order) override { add(rule, Target::kSemantic, order); }
  void row_version(std::uint32_t, std::string_view) override {}
  void purge(std::uint32_t rule, std::uint32_t pattern) override { patterns_.emplace(rule, pattern); }
  void lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) override {
    if (lookups_[{rule, lookup}].emplace(values.begin(), values.end()).second) ++size_;
  }
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override {
    problems_.insert(fmt::format("rule '{}': column '{}': {}", rules_.rules()[rule].name, column, unmappable_reason_name(reason)));
  }

  // What joined rows give, of the lookups that were gathered.
  Result<void> look_up(LiveLookups& database, Mapper& mapper) {
    for (auto& [about, values] : std::exchange(lookups_, {})) {
      std::vector<std::vector<std::string>> items(values.begin(), values.end());
      std::size_t at_once = kLookupItemsMax;
      for (std::size_t begin = 0; begin < items.size();) {
        const std::size_t count = std::min(at_once, items.size() - begin);
        const LookupAnswer answer = ask(database, about, std::span(items).subspan(begin, count));
        if (answer.outcome == LookupAnswer::Outcome::kTooMuch && count > 1) {
          at_once = count / 2;
          continue;
        }
        take_found(about, answer, count, mapper);
        begin += count;
        if (Result<void> few = require_few(rules_.rules()[about.first].qualified_table()); !few) return few;
      }
    }
    return {};
  }

  Result<void> require_few(const std::string& table) const {
    if (size_ <= kRowKeysMax) return {};
    return fail(ErrorKind::kUsage, fmt::format("more than {} keys: they are better purged by pattern", kRowKeysMax),
                fmt::format("evictd purge --table {}", table));
  }

  const RuleSet& rules() const { return rules_; }
  const std::set<std::string>& problems() const { return problems_; }
  // Of rules with 'purge:': the rule, and which of its patterns.
  const std::set<std::pair<std::uint32_t, std::uint32_t>>& patterns() const { return patterns_; }

  struct Batch {
    std::uint32_t rule = 0;
    Target target = Target::kKeys;
    Texts texts;
  };
  // Takes what was gathered.
  std::vector<Batch> take_batches() {
    std::vector<Batch> batches;
    for (const auto& [about, texts] : texts_) {
      for (const std::string& text : texts) {
        if (batches.empty() || batches.back().rule != about.first || batches.back().target != about.second ||
            batches.back().texts.size() == kOrderTextsMax) {
          batches.push_back({about.first, about.second, {}});
        }
        Texts& into = batches.back().texts;
        into.texts += text;
        into.items.push_back({static_cast<std::uint32_t>(into.texts.size()), 0});
      }
    }
    texts_.clear();
    return batches;
  }

 private:
  void add(std::uint32_t rule, Target target, std::string_view text) {
    if (texts_[{rule, target}].emplace(text).second) ++size_;
  }
  using Lookup = std::pair<std::uint32_t, std::uint32_t>;  // rule, and which of its lookups

  static LookupAnswer ask(LiveLookups& database, const Lookup& about, std::span<const std::vector<std::string>> items) {
    std::vector<std::vector<std::string>> columns(items[0].size());
    for (const std::vector<std::string>& item : items) {
      for (std::size_t column = 0; column < item.size(); ++column) columns[column].push_back(item[column]);
    }
    return database.ask(about.first, about.second, std::move(columns));
  }

  // What leads to too much, or cannot be looked up, goes by pattern, as in the daemon.
  void take_found(const Lookup& about, const LookupAnswer& answer, std::size_t items, Mapper& mapper) {
    const RuleInfo& rule = rules_.rules()[about.first];
    const FoundRows found(answer, items);
    if (answer.outcome == LookupAnswer::Outcome::kFound) mapper.bind_found(about.first, about.second, answer.found);
    bool is_any_over = false;
    for (std::size_t item = 0; item < items; ++item) {
      if (found.is_over(item, rule)) {
        is_any_over = true;
        continue;
      }
      for (const LookupAnswer::Row* row : found.of(item)) map_found(*row, mapper, *this);
    }
    if (!is_any_over) return;
    for (const std::uint32_t pattern : rule.lookups[about.second].templates) purge(about.first, pattern);
    problems_.insert(answer.outcome == LookupAnswer::Outcome::kFailed
                         ? fmt::format("rule '{}': its joined rows cannot be looked up, so its patterns are purged: {}", rule.name, answer.problem)
                         : fmt::format("rule '{}': a row leads to more than {} joined rows, so its patterns are purged", rule.name, rule.fan_out));
  }

  const RuleSet& rules_;
  std::map<Lookup, std::set<std::vector<std::string>>> lookups_;
  std::map<std::pair<std::uint32_t, Target>, std::unordered_set<std::string>> texts_;
  std::set<std::string> problems_;
  std::set<std::pair<std::uint32_t, std::uint32_t>> patterns_;
  std::size_t size_ = 0;
};

Result<std::size_t> gather_rows(const Config& config, const CommandLine& request, const std::string& table, Mapper& mapper,
                                RowKeys& keys) {
  LiveRowsWanted wanted;
  wanted.table = table;
  wanted.where = request.where;
  wanted.since = request.since;
  Result<std::unique_ptr<LiveRows>> live = LiveRows::open(database_address(config), wanted);
  if (!live) return tl::unexpected(live.error());
  std::size_t count = 0;
  while (true) {
    const Result<std::vector<std::vector<Value>>> rows = (*live)->next();
    if (!rows) return tl::unexpected(rows.error());
    if (rows->empty()) break;
    for (const std::vector<Value>& row : *rows) map_row(keys.rules(), mapper, (*live)->relation(), row, keys);
    count += rows->size();
    if (Result<void> few = keys.require_few(table); !few) return tl::unexpected(few.error());
  }
  return count;
}

void print_rows_outcome(const RuleInfo& rule, Target target, const Counts& counts) {
  if (target == Target::kSurrogates) {
    fmt::print("rule '{}' surrogate keys  purged {}\n", printable_text(rule.name), counts.deleted);
  } else if (target == Target::kSemantic) {
    fmt::print("rule '{}' semantic  removed {}\n", printable_text(rule.name), counts.deleted);
  } else if (target == Target::kCounters) {
    fmt::print("rule '{}' counters  raised {}\n", printable_text(rule.name), counts.deleted);
  } else {
    fmt::print("rule '{}' {}  deleted {}, already gone {}\n", printable_text(rule.name),
               target == Target::kTags ? "tags" : "keys", counts.deleted, counts.absent);
  }
}

// A cache that is away is no reason to leave the others stale.
class CacheErrors {
 public:
  explicit CacheErrors(const Config& config) : is_one_of_several_(config.caches.size() > 1) {}
  void add(const CacheSettings& cache, Error error) {
    if (is_one_of_several_) {
      error.text = fmt::format("cache '{}': {}", cache.name, error.text);
      error.hint += fmt::format("{}the other caches are purged all the same; purge again when this one can be", error.hint.empty() ? "" : "; ");
    }
    exit_ = std::max(exit_, report(error));
  }
  int exit() const { return exit_; }

 private:
  const bool is_one_of_several_;
  int exit_ = kExitDone;
};

// The keys of rows that are in the tables now.
int purge_rows(const CommandLine& request, const Config& config, const std::shared_ptr<const RuleSet>& shared_rules) {
  const RuleSet& rules = *shared_rules;
  if (database_address(config).url.empty()) {
    return report(Error{ErrorKind::kUsage, "'--where' and '--since' need PostgreSQL", "set postgres.url, or kafka.postgres_url"});
  }
  std::vector<std::string> tables = rules.tables();
  if (!request.table.empty()) {
    const Result<TableName> table = find_mapped_table(rules, request.table);
    if (!table) return report(table.error());
    tables = {table->qualified()};
  }
  RowKeys keys(rules);
  for (const std::string& table : tables) {
    Mapper mapper(rules);
    const Result<std::size_t> count = gather_rows(config, request, table, mapper, keys);
    if (!count) return report(count.error());
    fmt::print("{} row{} of {}\n", *count, *count == 1 ? "" : "s", table);
  }
  const Result<std::unique_ptr<LiveLookups>> lookups = LiveLookups::open(database_address(config), shared_rules);
  if (!lookups) return report(lookups.error());
  Mapper found_mapper(rules);
  if (const Result<void> done = keys.look_up(**lookups, found_mapper); !done) return report(done.error());
  for (const std::string& problem : keys.problems()) std::fprintf(stderr, "warning: %s\n", printable_text(problem).c_str());
  const std::vector<RowKeys::Batch> batches = keys.take_batches();
  const Xid floor = floor_now(config);
  Signals signals;
  CacheErrors errors(config);
  for (const CacheSettings* next : in_order_of_filling(config)) {
    const CacheSettings& cache = *next;
    std::vector<Order> orders;
    std::vector<PatternRef> refs;
    for (const auto& [number, pattern] : keys.patterns()) {
      const RuleInfo& rule = rules.rules()[number];
      if (rule.patterns[pattern].is_surrogate != cache.edge.has_value()) continue;
      if (acts_on(rule, cache.name)) refs.push_back({&rule, &rule.patterns[pattern]});
    }
    for (const PatternRef& ref : refs) orders.push_back(pattern_order(ref, floor));
    for (const RowKeys::Batch& batch : batches) {
      const RuleInfo& rule = rules.rules()[batch.rule];
      if ((batch.target == Target::kSurrogates) != cache.edge.has_value() || !acts_on(rule, cache.name)) continue;
      Order& order = orders.emplace_back();
      order.target = batch.target;
      order.rule = &rule;
      order.texts = &batch.texts;
      order.is_unconditional = true;
      order.floor = floor;
    }
    if (orders.empty()) continue;
    Result<std::unique_ptr<Sink>> sink = make_sink(config, cache);
    if (!sink) return report(sink.error());
    if (config.caches.size() > 1) fmt::print("cache '{}'\n", cache.name);
    std::map<std::pair<const RuleInfo*, Target>, Counts> sums;
    const Result<void> done = run_on_sink(**sink, orders, signals, [&](std::size_t index, const Outcome& outcome) {
      if (index < refs.size()) return print_outcome(*refs[index].pattern, outcome);
      Counts& sum = sums[{orders[index].rule, orders[index].target}];
      sum.deleted += outcome.deleted;
      sum.absent += outcome.absent;
    });
    for (const auto& [about, counts] : sums) print_rows_outcome(*about.first, about.second, counts);
    if (!done) errors.add(cache, done.error());
    if (signals.has_stopped()) break;
  }
  return errors.exit();
}

}  // namespace

int purge_command(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  Result<RuleSet> loaded = load_rules(**config);
  if (!loaded) return report(loaded.error());
  const auto rules = std::make_shared<const RuleSet>(std::move(*loaded));
  if (!request.where.empty() || request.since) return purge_rows(request, **config, rules);
  Unruled unruled;
  const Result<Patterns> patterns = patterns_of(request, *rules, unruled);
  if (!patterns) return report(patterns.error());
  const Xid floor = floor_now(**config);
  Signals signals;
  CacheErrors errors(**config);
  for (const CacheSettings* next : in_order_of_filling(**config)) {
    const CacheSettings& cache = *next;
    const Patterns refs = patterns_in(*patterns, cache);
    if (refs.empty()) continue;
    Result<std::unique_ptr<Sink>> sink = make_sink(**config, cache);
    if (!sink) return report(sink.error());
    if ((*config)->caches.size() > 1) fmt::print("cache '{}'\n", cache.name);
    std::vector<Order> orders;
    for (const PatternRef& ref : refs) orders.push_back(pattern_order(ref, floor));
    const Result<void> done = run_on_sink(**sink, orders, signals, [&](std::size_t index, const Outcome& outcome) {
      print_outcome(*refs[index].pattern, outcome);
    });
    if (!done) errors.add(cache, done.error());
    if (signals.has_stopped()) break;
  }
  return errors.exit();
}

}  // namespace evictd
