// The pipeline in a world of faults. Each run draws everything from one seed: writers whose commits become
// visible late, plain or checked readers that are slow, a source that disconnects, loses its slot or is taken, a
// Redis that freezes, cuts connections after applying, restarts from an old dump, and kills of the daemon itself.
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

#include "daemon/pipeline.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
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
class WatchedSource final : public Source {
 public:
  WatchedSource(FakeSource& source, std::function<void(std::uint64_t)> on_acknowledge)
      : source_(source), on_acknowledge_(std::move(on_acknowledge)) {}
  void start(const std::optional<Record>& record, Now now) override { source_.start(record, now); }
  void step(Now now, std::size_t bytes, SourceHandler& handler) override { source_.step(now, bytes, handler); }
  void wait_for(Waiting& waiting, bool want) override { source_.wait_for(waiting, want); }
  void acknowledge(const Position& end) override {
    on_acknowledge_(end.value);
    source_.acknowledge(end);
  }
  void request_snapshot() override { source_.request_snapshot(); }
  void confirm_gap() override { source_.confirm_gap(); }
  void set_tables(const std::vector<std::string>& tables) override { source_.set_tables(tables); }
  void restart(Now now) override { source_.restart(now); }
  bool stop(Now now) override { return source_.stop(now); }
  SourceStatus status() const override { return source_.status(); }

 private:
  FakeSource& source_;
  std::function<void(std::uint64_t)> on_acknowledge_;
};

class World {
 public:
  bool verbose = false;

  explicit World(std::uint64_t seed)
      : random_(seed), seed_(seed), checked_(seed % 2 == 1), faults_(seed % 5 != 0), database_(kRows), sink_(kTombstoneTtl) {
    source_ = std::make_unique<FakeSource>(database_);
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    start_daemon();
  }

  // The first violation, or empty.
  std::string run() {
    const int steps = 600 + pick(600);
    for (int step = 0; step < steps && problem_.empty(); ++step) {
      tick(std::chrono::milliseconds(1 + pick(20)));
      write();
      read();
      if (faults_) trouble();
      pipeline_->step(now_);
      tell();
      check();
    }
    heal();
    for (int step = 0; step < 3000 && problem_.empty(); ++step) {
      tick(10ms);
      read_finish();
      pipeline_->step(now_);
      tell();
      check();
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
  std::string key(int row) const { return "row:" + std::to_string(row); }

  void start_daemon() {
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
    options.tombstone_ttl = kTombstoneTtl;
    options.batch_items_max = 4;
    options.held_bytes_max = held_max();
    watched_ = std::make_unique<WatchedSource>(*source_, [this](std::uint64_t end) { acknowledged(end); });
    pipeline_ = std::make_unique<Pipeline>(std::move(*parsed), *watched_, sink_, observer_, options);
    pipeline_->start(now_);
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
      const Xid xid = database_.commit(rows, truncate, now_.system).xid;
      log(fmt::format("commit xid {} end {} rows {}{}", number(xid), database_.log_end(), fmt::join(rows, ","),
                      truncate ? " truncate" : ""));
      // Most are visible at once, some late, a few hang for long.
      const auto late = chance(700) ? 0ms : chance(900) ? std::chrono::milliseconds(pick(60))
                                                        : std::chrono::milliseconds(pick(9000));
      appear_.emplace(now_.steady + late, xid);
    }
    appear();
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
      if (sink_.data.cache.count(key(row)) == 0) {
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
      bool stored = true;
      if (checked_) {
        stored = sink_.checked_fill(key(reader.row), reader.snapshot, reader.saw);
      } else {
        sink_.plain_set(key(reader.row), reader.saw);
      }
      log(fmt::format("fill {} {} snapshot {}", key(reader.row), stored ? "stored" : "rejected",
                      reader.snapshot.to_string()));
      readers_.erase(readers_.begin());
    }
    appear();
  }

  void trouble() {
    if (chance(8)) source_->server_up = false;
    if (chance(60)) source_->server_up = true;
    if (chance(4)) source_->slot_taken = true;
    if (chance(60)) source_->slot_taken = false;
    const bool lost_before = source_->lose_slot;
    if (chance(2)) source_->lose_slot = true;
    if (chance(10)) source_->snapshot_delay_steps = pick(30);
    if (chance(30)) source_->snapshot_delay_steps = 0;
    if (chance(10)) sink_.frozen = true;
    if (chance(80)) sink_.frozen = false;
    if (chance(15)) sink_.cut(static_cast<std::size_t>(pick(6)));
    if (chance(6)) sink_.server_up = false;
    if (chance(60)) sink_.server_up = true;
    if (chance(20)) sink_.room = 1 + static_cast<std::size_t>(pick(8));
    if (chance(3)) dump_ = sink_.data;
    if (chance(2) && dump_) {
      // A restart from an old dump. What readers stored since is gone, what was deleted since is back.
      sink_.restore(*dump_);
      rolled_back_ = true;
      log("redis restarts from an old dump");
    }
    if (source_->lose_slot && !lost_before) log("the slot is lost");
    if (chance(4)) kill_daemon();
  }

  // kill -9: nothing of the process survives; what its connections carried may or may not have been applied.
  void kill_daemon() {
    log("kill -9");
    pipeline_.reset();
    FakeSink::Data data = std::move(sink_.data);
    sink_ = FakeSink(kTombstoneTtl);
    sink_.data = std::move(data);
    auto fresh = std::make_unique<FakeSource>(database_);
    fresh->inherit(*source_);
    source_ = std::move(fresh);
    last_source_steps_ = ~std::uint64_t{0};
    start_daemon();
  }

  void heal() {
    source_->server_up = true;
    source_->slot_taken = false;
    source_->snapshot_delay_steps = 0;
    sink_.frozen = false;
    sink_.server_up = true;
    sink_.room = 8;
    for (const Xid xid : std::set<Xid>(database_.invisible())) appear_.emplace(now_.steady, xid);
    appear();
  }

  bool settled() {
    const PipelineStatus status = pipeline_->status();
    return readers_.empty() && appear_.empty() && status.not_ready.empty() && status.inflight_transactions == 0 &&
           source_->confirmed() >= database_.log_end();
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
      if (logged.end > end || logged.end <= source_->confirmed()) continue;
      for (const int row : logged.rows) {
        const bool applied = sink_.data.first_applied.count({key(row), logged.xid}) != 0 ||
                             sink_.data.first_applied.count({"row:*", logged.xid}) != 0;
        if (!applied) {
          return violate(fmt::format("G1: {} acknowledged, but {} of xid {} was never applied", end, key(row),
                                     number(logged.xid)));
        }
        if (sink_.data.counters["ns:rows"].raised_by.count(logged.xid) == 0) {
          return violate(fmt::format("G1: {} acknowledged, but the counter was never raised for xid {}", end,
                                     number(logged.xid)));
        }
        if (!database_.is_visible(logged.xid)) {
          return violate(fmt::format("G1: {} acknowledged, but xid {} is not visible yet", end, number(logged.xid)));
        }
        if (!checked_ && !is_settled(logged, row) && !is_owed_by_later(row, end)) {
          const auto last = sink_.data.last_delete.find(key(row));
          return violate(fmt::format(
              "G1: {} acknowledged, but {} of xid {} was not settled: visible {} ms ago, last deleted {} ms ago", end,
              key(row), number(logged.xid), (now_.steady - database_.visible_since(logged.xid)) / 1ms,
              last == sink_.data.last_delete.end() ? -1 : (now_.steady - last->second) / 1ms));
        }
      }
    }
  }
  bool is_settled(const Logged& logged, int row) const {
    const SteadyTime due = database_.visible_since(logged.xid) + kSettle;
    for (const std::string& name : {key(row), std::string("row:*")}) {
      const auto last = sink_.data.last_delete.find(name);
      if (last != sink_.data.last_delete.end() && last->second >= due) return true;
    }
    return sink_.data.purged.count({"row:*", logged.xid}) != 0;
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
    // G8
    const PipelineStatus status = pipeline_->status();
    if (status.inflight_bytes > held_max() + kHeldSlack) {
      violate(fmt::format("G8: {} bytes held, at most {} allowed", status.inflight_bytes, held_max() + kHeldSlack));
    }
    // G7: the source is served at every step, whatever Redis does.
    if (source_->steps() == last_source_steps_ && source_started()) violate("G7: the source was not served");
    last_source_steps_ = source_->steps();
    // A raised counter promises that the database shows what raised it. (A truncate raises twice.)
    for (const Xid xid : sink_.data.counters["ns:rows"].raised_by) {
      if (!database_.is_visible(xid) && !database_.is_truncate(xid)) {
        violate(fmt::format("the counter was raised for xid {} before it was visible", number(xid)));
      }
    }
    // G2
    if (sink_.fresh_values_deleted_by_replay() != 0) violate("G2: a replay deleted a value filled after the settle");
    for (const auto& [name, cached] : sink_.data.cache) {
      const int row = std::stoi(name.substr(4));
      for (const Xid xid : database_.select(row)) {
        if (cached.contains.count(xid) != 0) continue;
        // G3: never older than an applied invalidation. (A Redis that went back to an old dump forgot renewals
        // and tombstones; what that lets in is gone again when the gap is repaired.)
        if (checked_ && !rolled_back_ && sink_.data.first_applied.count({name, xid}) != 0) {
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
  bool source_started() const { return source_->is_started(); }

  // --verbose: what the pipeline would log, and what the world does.
  void tell() {
    for (const PipelineEvent& event : pipeline_->take_events()) log(event.text);
  }
  void log(const std::string& text) const {
    if (verbose) std::printf("  %6ld ms: %s\n", static_cast<long>((now_.steady - SteadyTime(1h)) / 1ms), text.c_str());
  }

  void check_end() {
    if (!settled()) {
      const PipelineStatus status = pipeline_->status();
      return violate(fmt::format("not settled at the end: {} transactions in flight, confirmed {} of {}, {}",
                                 status.inflight_transactions, source_->confirmed(), database_.log_end(),
                                 status.not_ready.empty() ? "" : status.not_ready.front()));
    }
    for (const auto& [name, cached] : sink_.data.cache) {
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
  bool checked_;
  bool faults_;
  Now now_;
  FakeDatabase database_;
  FakeSink sink_;
  NullObserver observer_;
  std::unique_ptr<FakeSource> source_;
  std::unique_ptr<WatchedSource> watched_;
  std::unique_ptr<Pipeline> pipeline_;
  std::multimap<SteadyTime, Xid> appear_;
  std::multimap<SteadyTime, Reader> readers_;
  std::optional<FakeSink::Data> dump_;
  bool rolled_back_ = false;
  std::uint64_t last_source_steps_ = 0;
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
