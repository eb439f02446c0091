// The pipeline in a world of faults. Each run draws everything from one seed: writers whose commits become
// visible late, plain or checked readers that are slow, a source that disconnects, loses its slot or is taken, a
// Redis that freezes, cuts connections after applying, restarts from an old dump, and kills of the daemon itself. In
// every third run a second daemon stands by on the same slot; in every seventh the source has no snapshots, as Kafka
// without a database to ask.
// After every step the guarantees are checked; at the end, when everything healed, every cached value is fresh.
//
//   pipeline_simulation [--seed=N] [--runs=N] [--expect-failure] [--verbose]
#include <fmt/format.h>
#include <charconv>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "daemon/flow/pipeline.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/forwarding_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

constexpr auto kSettle = 1000ms;
constexpr auto kTombstoneTtl = 5000ms;
constexpr auto kReaderMax = 600ms;  // less than settle, less than the tombstones
constexpr int kRows = 12;
constexpr std::size_t kCollapseAfter = 6;

// A source that tells the simulation what is acknowledged, before it is.
class WatchedSource final : public ForwardingSource {
 public:
  WatchedSource(Source& source, std::function<void(std::uint64_t)> on_acknowledge)
      : ForwardingSource(source), on_acknowledge_(std::move(on_acknowledge)) {}
  void acknowledge(const Position& end) override {
    on_acknowledge_(end.value);
    ForwardingSource::acknowledge(end);
  }

 private:
  std::function<void(std::uint64_t)> on_acknowledge_;
};

// One process: its connections to the slot and to Redis, and the pipeline between them.
struct Daemon {
  std::unique_ptr<FakeSink> sink;
  std::unique_ptr<FakeSource> source;
  std::unique_ptr<WatchedSource> watched;
  std::unique_ptr<Pipeline> pipeline;  // none while it is dead
  std::uint64_t last_source_steps = 0;
  SteadyTime starts_at{};
};

class World {
 public:
  bool verbose = false;

  explicit World(std::uint64_t seed)
      : random_(seed), seed_(seed), checked_(seed % 2 == 1), faults_(seed % 5 != 0), database_(kRows) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    for (Daemon& daemon : daemons_) start_daemon(daemon);
  }

  // The first violation, or empty.
  std::string run() {
    const int steps = 600 + pick(600);
    for (int step = 0; step < steps && problem_.empty(); ++step) {
      tick(std::chrono::milliseconds(1 + pick(20)));
      write();
      read();
      if (faults_) trouble();
      step_daemons();
    }
    heal();
    for (int step = 0; step < 3000 && problem_.empty(); ++step) {
      tick(10ms);
      read_finish();
      step_daemons();
      if (step > 400 && settled()) break;
    }
    if (problem_.empty()) check_end();
    return problem_;
  }

 private:
  int pick(int below) { return static_cast<int>(random_() % static_cast<std::uint64_t>(below)); }
  bool chance(int percent_tenths) { return pick(1000) < percent_tenths; }
  void tick(std::chrono::milliseconds by) {
    now_.steady += by;
    now_.system += by;
  }
  bool has_snapshots() const { return seed_ % 7 != 0; }
  std::string key(int row) const { return "row:" + std::to_string(row); }

  void start_daemon(Daemon& daemon) {
    const std::string rules = fmt::format(
        "- {{table: public.rows, keys: ['row:{{id}}'], fill: {}, settle: {}ms, collapse_after: {}}}\n"
        "- {{table: public.rows, bump: ['ns:rows']}}\n",
        checked_ ? "checked" : "plain", kSettle.count(), kCollapseAfter);
    auto parsed = RuleSet::parse(rules, "rules.yaml");
    if (!parsed) {
      problem_ = parsed.error().to_string();
      return;
    }
    PipelineOptions options;
    options.writer = fmt::format("daemon-{}", ++started_);
    options.tombstone_ttl = kTombstoneTtl;
    options.batch_items_max = 4;
    options.held_bytes_max = held_max();
    daemon.pipeline.reset();
    daemon.sink = std::make_unique<FakeSink>(kTombstoneTtl, redis_);
    daemon.source = std::make_unique<FakeSource>(database_, slot_);
    daemon.source->has_snapshots = has_snapshots();
    daemon.watched =
        std::make_unique<WatchedSource>(*daemon.source, [this](std::uint64_t end) { acknowledged(end); });
    daemon.pipeline = std::make_unique<Pipeline>(std::move(*parsed), *daemon.watched, *daemon.sink, observer_, options);
    daemon.last_source_steps = ~std::uint64_t{0};
    daemon.pipeline->start(now_);
  }

  void step_daemons() {
    for (Daemon& daemon : daemons_) {
      if (!daemon.pipeline && daemon.starts_at <= now_.steady) start_daemon(daemon);
      if (daemon.pipeline) daemon.pipeline->step(now_);
    }
    tell();
    check();
  }

  // ---- The world moves
  void write() {
    if (chance(250)) {
      std::vector<int> rows;
      const int count = chance(20) ? 3 + pick(8) : 1 + pick(2);
      for (int i = 0; i < count; ++i) rows.push_back(pick(kRows));
      const bool truncate = chance(15);
      if (truncate) {
        rows.clear();
        for (int row = 0; row < kRows; ++row) rows.push_back(row);
      }
      const Xid xid = commit(rows, truncate);
      // Most are visible at once, some late, a few hang for long.
      // (Without snapshots the source holds the log up until a commit is visible: a fault.)
      const bool is_prompt = chance(700) || (!has_snapshots() && !faults_);
      const auto late = is_prompt ? 0ms : chance(900) ? std::chrono::milliseconds(pick(60))
                                                        : std::chrono::milliseconds(pick(9000));
      appear_.emplace(now_.steady + late, xid);
    }
    appear();
  }
  Xid commit(const std::vector<int>& rows, bool truncate) {
    const Xid xid = database_.commit(rows, truncate, now_.system).xid;
    log(fmt::format("commit xid {} end {} rows {}{}", number(xid), database_.log_end(), fmt::join(rows, ","),
                    truncate ? " truncate" : ""));
    return xid;
  }
  void appear() {
    while (!appear_.empty() && appear_.begin()->first <= now_.steady) {
      database_.make_visible(appear_.begin()->second, now_.steady);
      log(fmt::format("visible xid {}", number(appear_.begin()->second)));
      appear_.erase(appear_.begin());
    }
  }

  struct Reader {
    int row;
    std::set<Xid> saw;
    Snapshot snapshot;
  };
  void read() {
    if (chance(500)) {
      const int row = pick(kRows);
      if (redis_->cache.count(key(row)) == 0) {
        const auto takes = chance(850) ? std::chrono::milliseconds(pick(30))
                                       : std::chrono::milliseconds(pick(static_cast<int>(kReaderMax.count())));
        readers_.emplace(now_.steady + takes, Reader{row, database_.select(row), database_.snapshot()});
      }
    }
    read_finish();
  }
  void read_finish() {
    while (!readers_.empty() && readers_.begin()->first <= now_.steady) {
      const Reader& reader = readers_.begin()->second;
      FakeSink& sink = *daemons_.front().sink;
      bool stored = true;
      if (checked_) {
        stored = sink.checked_fill(key(reader.row), reader.snapshot, reader.saw);
      } else {
        sink.plain_set(key(reader.row), reader.saw);
      }
      log(fmt::format("fill {} {} snapshot {}", key(reader.row), stored ? "stored" : "rejected",
                      reader.snapshot.to_string()));
      readers_.erase(readers_.begin());
    }
    appear();
  }

  void trouble() {
    for (Daemon& daemon : daemons_) trouble(daemon);
    if (!slot_->lost && chance(daemons_.size() > 1 ? 6 : 2)) lose_slot();
    if (chance(3)) {
      dump_ = *redis_;
      log("redis dumps");
    }
    if (chance(2) && dump_) {
      // A restart from an old dump. What readers stored since is gone, what was deleted since is back.
      FakeSink::restore(*redis_, *dump_);
      rolled_back_ = true;
      log(fmt::format("redis restarts from an old dump: {}",
                      !redis_->record ? "no record"
                                      : fmt::format("acknowledged {}, gap '{}'",
                                                    redis_->record->acknowledged.empty()
                                                        ? 0
                                                        : redis_->record->acknowledged.begin()->second,
                                                    redis_->record->gap)));
    }
    // kill -9: nothing of the process survives; what its connections carried may or may not have been applied.
    // With a second one ready to take over, most often while a gap is on record and not repaired.
    const bool gap_is_on_record = redis_->record && !redis_->record->gap.empty();
    for (Daemon& daemon : daemons_) {
      if (!daemon.pipeline) continue;
      const bool leaves_a_gap = daemons_.size() > 1 && gap_is_on_record && slot_->holder == daemon.source.get();
      if (!chance(leaves_a_gap ? 300 : 4)) continue;
      log("kill -9");
      daemon.pipeline.reset();
      daemon.source.reset();
      daemon.starts_at = now_.steady + std::chrono::milliseconds(chance(500) ? 0 : pick(2000));
    }
  }
  // With commits that nobody has read, so that it matters.
  void lose_slot() {
    for (int i = pick(4); i > 0; --i) database_.make_visible(commit({pick(kRows)}, false), now_.steady);
    slot_->lost = true;
    log("the slot is lost");
    lost_in_progress_.insert(database_.invisible().begin(), database_.invisible().end());
  }
  void trouble(Daemon& daemon) {
    if (!daemon.pipeline) return;
    FakeSource& source = *daemon.source;
    FakeSink& sink = *daemon.sink;
    if (chance(8)) source.server_up = false;
    if (chance(60)) source.server_up = true;
    if (chance(4)) source.slot_taken = true;
    if (chance(60)) source.slot_taken = false;
    if (chance(10)) source.snapshot_delay_steps = pick(30);
    if (chance(30)) source.snapshot_delay_steps = 0;
    if (chance(10)) sink.frozen = true;
    if (chance(80)) sink.frozen = false;
    if (chance(15)) sink.cut(static_cast<std::size_t>(pick(6)));
    if (chance(6)) sink.server_up = false;
    if (chance(60)) sink.server_up = true;
    if (chance(20)) sink.room = 1 + static_cast<std::size_t>(pick(8));
  }

  void heal() {
    for (Daemon& daemon : daemons_) {
      if (!daemon.pipeline) start_daemon(daemon);
      daemon.source->server_up = true;
      daemon.source->slot_taken = false;
      daemon.source->snapshot_delay_steps = 0;
      daemon.sink->frozen = false;
      daemon.sink->server_up = true;
      daemon.sink->room = 8;
    }
    for (const Xid xid : std::set<Xid>(database_.invisible())) appear_.emplace(now_.steady, xid);
    appear();
  }

  // One daemon is ready; another one stands by.
  bool settled() {
    return readers_.empty() && appear_.empty() && slot_->confirmed >= database_.log_end() &&
           std::any_of(daemons_.begin(), daemons_.end(), [](const Daemon& daemon) {
             const PipelineStatus status = daemon.pipeline->status();
             return status.not_ready.empty() && status.inflight_transactions == 0;
           });
  }

  // ---- What must hold
  void violate(std::string text) {
    if (problem_.empty()) problem_ = std::move(text);
  }

  // G1: at the moment of the acknowledgement, everything up to `end` is applied, visible and, under plain fills,
  // settled (or a later, unacknowledged transaction owes the settle of that key).
  void acknowledged(std::uint64_t end) {
    log(fmt::format("acknowledged {}", end));
    for (const Logged& logged : database_.log()) {
      if (logged.end > end || logged.end <= slot_->confirmed) continue;
      for (const int row : logged.rows) {
        const bool applied = redis_->first_applied.count({key(row), logged.xid}) != 0 ||
                             redis_->first_applied.count({"row:*", logged.xid}) != 0;
        if (!applied) {
          return violate(fmt::format("G1: {} acknowledged, but {} of xid {} was never applied", end, key(row),
                                     number(logged.xid)));
        }
        if (redis_->counters["ns:rows"].raised_by.count(logged.xid) == 0) {
          return violate(fmt::format("G1: {} acknowledged, but the counter was never raised for xid {}", end,
                                     number(logged.xid)));
        }
        if (!database_.is_visible(logged.xid)) {
          return violate(fmt::format("G1: {} acknowledged, but xid {} is not visible yet", end, number(logged.xid)));
        }
        if (!checked_ && !is_settled(logged, row) && !is_owed_by_later(row, end)) {
          const auto last = redis_->last_delete.find(key(row));
          return violate(fmt::format(
              "G1: {} acknowledged, but {} of xid {} was not settled: visible {} ms ago, last deleted {} ms ago", end,
              key(row), number(logged.xid), (now_.steady - database_.visible_since(logged.xid)) / 1ms,
              last == redis_->last_delete.end() ? -1 : (now_.steady - last->second) / 1ms));
        }
      }
    }
  }
  bool is_settled(const Logged& logged, int row) const {
    const SteadyTime due = database_.visible_since(logged.xid) + kSettle;
    for (const std::string& name : {key(row), std::string("row:*")}) {
      const auto last = redis_->last_delete.find(name);
      if (last != redis_->last_delete.end() && last->second >= due) return true;
    }
    return redis_->purged.count({"row:*", logged.xid}) != 0;
  }
  bool is_owed_by_later(int row, std::uint64_t end) const {
    for (const Logged& logged : database_.log()) {
      if (logged.end <= end) continue;
      if (logged.rows.size() > kCollapseAfter) return true;  // owes a purge of every row
      if (std::find(logged.rows.begin(), logged.rows.end(), row) != logged.rows.end()) return true;
    }
    return false;
  }

  void check() {
    for (Daemon& daemon : daemons_) {
      if (daemon.pipeline) check(daemon);
    }
    // A raised counter promises that the database shows what raised it. (A truncate raises twice.)
    for (const Xid xid : redis_->counters["ns:rows"].raised_by) {
      if (!database_.is_visible(xid) && !database_.is_truncate(xid)) {
        violate(fmt::format("the counter was raised for xid {} before it was visible", number(xid)));
      }
    }
    for (const auto& [name, cached] : redis_->cache) {
      const int row = std::stoi(name.substr(4));
      for (const Xid xid : database_.select(row)) {
        if (cached.contains.count(xid) != 0) continue;
        // G3: never older than an applied invalidation. (A Redis that went back to an old dump forgot renewals
        // and tombstones, and so did a commit that hung when the slot was lost; what that lets in is gone again when
        // the gap is repaired.)
        const bool is_forgotten = rolled_back_ || lost_in_progress_.count(xid) != 0;
        if (checked_ && !is_forgotten && redis_->first_applied.count({name, xid}) != 0) {
          return violate(fmt::format("G3: {} lacks xid {}, which was applied", name, number(xid)));
        }
        // G4, where nothing fails: the longest staleness is settle, a tenth for settling together, and the
        // pace of snapshots and steps.
        const auto stale = now_.steady - database_.visible_since(xid);
        if (!checked_ && !faults_ && stale > kSettle + kSettle / 10 + kPace) {
          return violate(fmt::format("G4: {} lacks xid {} since {} ms", name, number(xid), stale / 1ms));
        }
      }
    }
  }
  void check(Daemon& daemon) {
    // G8
    const PipelineStatus status = daemon.pipeline->status();
    if (status.inflight_bytes > held_max() + kHeldSlack) {
      violate(fmt::format("G8: {} bytes held, at most {} allowed", status.inflight_bytes, held_max() + kHeldSlack));
    }
    // G7: the source is served at every step, whatever Redis does.
    if (daemon.source->steps() == daemon.last_source_steps && daemon.source->is_started()) {
      violate("G7: the source was not served");
    }
    daemon.last_source_steps = daemon.source->steps();
    // G2
    if (daemon.sink->fresh_values_deleted_by_replay() != 0) {
      violate("G2: a replay deleted a value filled after the settle");
    }
  }

  // --verbose: what the pipeline would log, and what the world does.
  void tell() {
    for (std::size_t i = 0; i < daemons_.size(); ++i) {
      if (!daemons_[i].pipeline) continue;
      for (const PipelineEvent& event : daemons_[i].pipeline->take_events()) log(fmt::format("[{}] {}", i, event.text));
    }
  }
  void log(const std::string& text) const {
    if (verbose) std::printf("  %6ld ms: %s\n", static_cast<long>((now_.steady - SteadyTime(1h)) / 1ms), text.c_str());
  }

  void check_end() {
    if (!settled()) {
      std::string text = fmt::format("not settled at the end: confirmed {} of {}", slot_->confirmed, database_.log_end());
      for (const Daemon& daemon : daemons_) {
        const PipelineStatus status = daemon.pipeline->status();
        text += fmt::format("; {} transactions in flight, {}", status.inflight_transactions,
                            fmt::join(status.not_ready, ", "));
      }
      return violate(text);
    }
    for (const auto& [name, cached] : redis_->cache) {
      for (const Xid xid : database_.select(std::stoi(name.substr(4)))) {
        if (cached.contains.count(xid) == 0) {
          return violate(fmt::format("stale at the end: {} lacks xid {}", name, number(xid)));
        }
      }
    }
  }

  // Where nothing fails, a hanging commit must not fill the memory and hold the rest up: that is not G4's case.
  std::size_t held_max() const { return faults_ ? 8 * 1024 : 256 * 1024; }
  static constexpr std::size_t kHeldSlack = 8 * 1024;  // one step's worth, and open batches
  static constexpr auto kPace = 500ms;

  std::mt19937_64 random_;
  std::uint64_t seed_;
  int started_ = 0;
  bool checked_;
  bool faults_;
  Now now_;
  FakeDatabase database_;
  std::shared_ptr<FakeSlot> slot_ = std::make_shared<FakeSlot>();
  std::shared_ptr<FakeSink::Data> redis_ = std::make_shared<FakeSink::Data>();
  NullObserver observer_;
  std::vector<Daemon> daemons_ = std::vector<Daemon>(seed_ % 3 == 0 ? 2 : 1);  // the second one stands by
  std::multimap<SteadyTime, Xid> appear_;
  std::multimap<SteadyTime, Reader> readers_;
  std::optional<FakeSink::Data> dump_;
  bool rolled_back_ = false;
  std::set<Xid> lost_in_progress_;  // logged and not visible when a slot was lost
  std::string problem_;
};

std::uint64_t flag(int argc, char** argv, std::string_view name, std::uint64_t otherwise) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, name.size()) != name) continue;
    std::from_chars(argument.data() + name.size(), argument.data() + argument.size(), otherwise);
  }
  return otherwise;
}

bool has(int argc, char** argv, std::string_view name) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == name) return true;
  }
  return false;
}

}  // namespace
}  // namespace evictd::testing

int main(int argc, char** argv) {
  using namespace evictd::testing;
  const std::uint64_t first = flag(argc, argv, "--seed=", 1);
  const std::uint64_t runs = flag(argc, argv, "--runs=", 1);
  const bool expect_failure = has(argc, argv, "--expect-failure");
  std::uint64_t failures = 0;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    World world(seed);
    world.verbose = has(argc, argv, "--verbose");
    const std::string problem = world.run();
    if (problem.empty()) continue;
    ++failures;
    if (!expect_failure || failures == 1) std::printf("seed %lu: %s\n", static_cast<unsigned long>(seed), problem.c_str());
    if (expect_failure || failures == 20) break;
  }
  std::printf("pipeline simulation: %lu runs from seed %lu, %lu failed\n", static_cast<unsigned long>(runs),
              static_cast<unsigned long>(first), static_cast<unsigned long>(failures));
  if (expect_failure) {
    if (failures == 0) std::printf("expected a failure of the broken build, got none: the simulation proves nothing\n");
    return failures == 0 ? 1 : 0;
  }
  return failures == 0 ? 0 : 1;
}
