// The flow in a world of faults. Each run draws everything from one seed: one to three caches, writers whose commits
// become visible late, plain or checked readers that are slow, a source that disconnects, loses its slot or a piece of its
// stream, or is taken; Redis servers that are slow, freeze, cut connections after applying, restart with all their data,
// with older data, empty, or with somebody else's; daemons that are stopped, killed, reloaded, and started with the same
// or other rules; in every third run two of them on one slot. In every seventh the source has no snapshots, as Kafka
// without a database to ask. In a third of those with three caches the last one is a CDN. In two of five a rule has keys of a joined table, whose lookups are slow, fail, or find too much.
//
// In every fifth run nothing fails but what is meant to cost nothing (restarts of daemons and of servers that lose
// nothing), so that bounds of time can be asserted; with several caches, one of them is in trouble there, and the bounds
// hold for the others (G9).
//
// After every step the guarantees are checked; at the end, when everything healed, every cached value of every cache is
// fresh.
//
//   flow_simulation [--seed=N] [--runs=N] [--expect-failure] [--verbose]
#include <fmt/format.h>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <unordered_map>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/forwarding_source.h"
#include "tests/support/null_observer.h"
#include "tests/simulation/runs.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

constexpr auto kSettle = 1000ms;
constexpr auto kPurgeEvery = 20ms;
constexpr auto kTombstoneTtl = 5000ms;
constexpr auto kDrainMax = 2100ms;  // as the loop's: a part of the life of a tombstone
constexpr auto kOriginTime = 300ms;
constexpr auto kReaderMax = 600ms;  // less than settle, less than the tombstones
constexpr auto kPace = 500ms;       // of snapshots and steps
constexpr auto kParkAge = 6000ms;  // longer than a cache that fell behind waits to be sent it again
constexpr int kRows = 12;
constexpr std::size_t kCollapseAfter = 6;
constexpr const char* kCacheNames[] = {"eu", "us", "edge"};

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

// A place where values are kept, and what happened to it.
struct Cache {
  std::string name;
  std::shared_ptr<FakeSink::Data> data = std::make_shared<FakeSink::Data>();
  std::optional<FakeSink::Data> dump;
  std::shared_ptr<const FakeSink::Data> at_record;  // as it was when the last record was stored, where that may come back
  std::shared_ptr<const FakeSink::Data> at_confirmed;  // likewise, the last that replicas confirmed
  bool is_in_trouble = false;  // in a run without faults: the one that others must not feel
  // It lost data, or was parked: until its purge, markers do not speak for all that was applied before.
  bool is_forgetful = false;
  SteadyTime went_back_at{};  // it restarted as of its last record, or failed over to it
  std::optional<std::uint64_t> failed_over_at;  // what was logged by then; until evictd has called it a loss
  std::size_t raised = 0;  // by so many transactions, at the last look
  std::uint64_t purged_through = 0;  // what was logged up to there is answered by a purge, not by its own deletes
  // Since when a daemon serves it: bounds of time are not those of restarts.
  SteadyTime served_since{};
  // When a daemon last had done in it all there is, in one connection, but for a moment's work.
  SteadyTime abreast_at{};
  // When one of the daemons last had rules that do not name its cards.
  SteadyTime cards_unwatched_at = SteadyTime::min();
  bool may_be_purged = false;  // something happened that a purge of patterns answers
  // By value: what its last look found nothing wrong in, and until when that holds if nothing of it changes. (What was
  // seen only grows, so that sets of one size are the same.)
  struct Looked {
    std::size_t seen = 0;
    std::size_t contains = 0;
    std::size_t applied = 0;
    std::size_t before_the_slot = 0;
    std::size_t lost_in_progress = 0;
    int rules = 0;
    bool is_forgetful = false;
    bool is_in_trouble = false;
    bool is_unrenewed = false;
    SteadyTime served_since{};
    auto operator<=>(const Looked&) const = default;
  };
  std::map<std::string, std::pair<Looked, SteadyTime>> looked;
};

// One process: its connections to the slot and to each cache, and the flow between them.
struct Daemon {
  std::vector<std::unique_ptr<FakeSink>> sinks;
  std::unique_ptr<FakeSource> source;
  std::unique_ptr<WatchedSource> watched;
  std::unique_ptr<Flow> flow;  // none while it is dead
  FlowStatus status;           // after its last step
  std::string writer;          // of its records
  int rules = 0;               // which version it has
  std::uint64_t last_source_steps = 0;
  int connects = 0;
  SteadyTime streams_since{};  // in this connection of its source
  SteadyTime starts_at{};
  bool is_stopping = false;
  SteadyTime stopping_since{};
};

class World {
 public:
  bool verbose = false;

  explicit World(std::uint64_t seed)
      : random_(seed), seed_(seed), checked_(seed % 2 == 1), faults_(seed % 5 != 0), database_(kRows) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    const std::size_t caches = 1 + seed / 2 % 3;
    for (std::size_t i = 0; i < caches; ++i) caches_.emplace_back().name = kCacheNames[i];
    // Not the first: the edge stands behind it.
    if (!faults_ && caches > 1) caches_[1 + static_cast<std::size_t>(pick(static_cast<int>(caches) - 1))].is_in_trouble = true;
    for (Daemon& daemon : daemons_) start_daemon(daemon);
  }

  // The first violation, or empty.
  std::string run() {
    const int steps = 600 + pick(600) + (has_pauses() ? 600 : 0);
    for (int step = 0; step < steps && problem_.empty(); ++step) {
      tick(std::chrono::milliseconds(1 + pick(20)));
      write();
      read();
      if (faults_) trouble();
      mishaps();
      step_daemons();
    }
    last_loss();
    heal();
    for (int step = 0; step < 4000 && problem_.empty(); ++step) {
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
  bool has_lookups() const { return has_snapshots() && seed_ / 6 % 5 < 2; }
  // The last of three is a CDN: pages by surrogate key, each made of what the first has of a row, or of the row.
  bool has_edge() const { return caches_.size() == 3 && seed_ / 12 % 3 == 0; }
  bool is_edge(const Cache& cache) const { return has_edge() && &cache == &caches_.back(); }
  static std::string edge_page(int row) { return "p:" + std::to_string(row); }
  static std::string key(int row) { return "row:" + std::to_string(row); }
  static std::string set_of(int row) { return fmt::format("tag:group:{}", FakeDatabase::group_of(row)); }
  static std::string page_of(int row) { return fmt::format("page:team{}", FakeDatabase::group_of(row)); }

  // ---- Rules, in versions: the first watches rows and groups, the second cards as well, the third cards in one cache only.
  std::string rules_text(int version) const {
    const char* fill = checked_ ? "checked" : "plain";
    std::string rules = fmt::format(
        "- {{table: public.rows, keys: ['row:{{id}}'], tags: ['group:{{grp}}'], {}fill: {}, settle: {}ms, collapse_after: {}, purge_every: {}ms}}\n"
        "- {{table: public.rows, bump: ['ns:rows']}}\n",
        has_edge() ? "surrogate_keys: ['p:{id}'], " : "", fill, kSettle.count(), kCollapseAfter, kPurgeEvery.count());
    if (has_lookups()) {
      rules += fmt::format("- {{table: public.rows, via: {{team: {{table: public.teams, match: {{id: grp}}}}}}, keys: ['page:{{team.name}}'], fill: {}, settle: {}ms, purge_every: {}ms}}\n",
                           fill, kSettle.count(), kPurgeEvery.count());
    }
    if (version > 0) {
      rules += fmt::format("- {{table: public.rows, keys: ['card:{{id}}'], fill: {}, settle: {}ms{}}}\n", fill, kSettle.count(),
                           version == 2 ? ", caches: [eu]" : "");
    }
    return rules;
  }
  bool is_watched(const std::string& name, const Cache& cache, int version) const {
    if (name.compare(0, 5, "card:") != 0) return true;
    return version == 1 || (version == 2 && cache.name == "eu");
  }

  RuleSet parse_rules(int version) {
    auto parsed = RuleSet::parse(rules_text(version), "rules.yaml");
    if (!parsed) {
      std::printf("%s\n", parsed.error().to_string().c_str());
      std::abort();
    }
    return std::move(*parsed);
  }

  void start_daemon(Daemon& daemon) {
    FlowOptions options;
    options.writer = daemon.writer = fmt::format("{:016x}", ++writers_);
    // Where nothing fails, what was held up by a restart is made up for in a moment.
    options.batch_items_max = faults_ ? 4 : 64;
    options.held_bytes_max = held_max();
    options.given_up_per_step = faults_ ? 3 : 64;
    daemon.flow.reset();
    daemon.watched.reset();
    daemon.source.reset();
    daemon.sinks.clear();
    daemon.is_stopping = false;
    daemon.source = std::make_unique<FakeSource>(database_, slot_);
    daemon.source->has_snapshots = has_snapshots();
    daemon.source->sends_keepalives = seed_ % 7 != 0 && seed_ % 5 != 1;
    daemon.source->instance = instance_;
    if (!faults_) daemon.source->changes_per_step = 50;
    daemon.watched = std::make_unique<WatchedSource>(*daemon.source, [this, &daemon](std::uint64_t end) { acknowledged(daemon, end); });
    std::vector<LaneSpec> lanes;
    for (Cache& cache : caches_) {
      LaneSpec& lane = lanes.emplace_back();
      daemon.sinks.push_back(std::make_unique<FakeSink>(kTombstoneTtl, cache.data));
      daemon.sinks.back()->on_plain_delete = [this, &daemon, &cache](const std::string& name, const std::set<Xid>& xids) {
        first_delete(daemon, cache, name, xids);
      };
      if (!faults_) daemon.sinks.back()->room = daemon.sinks.back()->orders_per_turn = 64;
      daemon.sinks.back()->on_saved = [this, &cache] { saved(cache); };
      daemon.sinks.back()->on_confirmed = [&cache](std::uint64_t sequence) {
        if (cache.at_record && cache.at_record->record->sequence == sequence) cache.at_confirmed = cache.at_record;
      };
      lane.name = cache.name;
      lane.sink = daemon.sinks.back().get();
      lane.tombstone_ttl = kTombstoneTtl;
      if (cache.name == "edge") lane.after = {"eu"};
      daemon.sinks.back()->is_edge = is_edge(cache);
      if (is_edge(cache)) lane.origin_time = kOriginTime;
      if (parks()) lane.park_after.age = kParkAge;
    }
    daemon.flow = std::make_unique<Flow>(parse_rules(daemon.rules), *daemon.watched, std::move(lanes), observer_, options);
    daemon.last_source_steps = ~std::uint64_t{0};
    daemon.flow->start(now_);
  }
  // The only cache is never given up.
  bool parks() const { return caches_.size() > 1; }

  void step_daemons() {
    for (Daemon& daemon : daemons_) {
      if (!daemon.flow && daemon.starts_at <= now_.steady) start_daemon(daemon);
      if (!daemon.flow) continue;
      daemon.flow->step(now_);
      daemon.status = daemon.flow->status();
      if (std::exchange(daemon.connects, daemon.source->connects()) != daemon.connects) daemon.streams_since = now_.steady;
      if (daemon.flow->failure()) violate("failed: " + daemon.flow->failure()->to_string());
      note_parked(daemon);
      // As Loop::kDrainMax: whoever stops does not renew for ever what it has not read again.
      if (daemon.is_stopping && (daemon.flow->finished() || now_.steady - daemon.stopping_since > kDrainMax)) {
        log(daemon.flow->finished() ? "stopped" : "stopped with work in hand");
        end_daemon(daemon, 0ms);
      }
    }
    note_first_start();
    note_lost_slot();
    note_rollbacks();
    note_served();
    note_late_records();
    tell();
    check();
  }
  void end_daemon(Daemon& daemon, std::chrono::milliseconds away) {
    // One that dies between the slot and its first record leaves a slot that nobody knows.
    for (Cache& cache : caches_) cache.may_be_purged = cache.may_be_purged || !cache.data->record;
    daemon.flow.reset();
    daemon.watched.reset();
    daemon.source.reset();
    daemon.starts_at = now_.steady + away;
  }

  // Where every row is written all the time, each tombstone is kept by the next transaction's. In some runs nobody writes for longer
  // than it lives, so that the one of a commit that hangs has to be renewed.
  bool has_pauses() const { return seed_ % 20 == 5; }
  bool is_pause() const { return has_pauses() && (now_.steady - SteadyTime(1h)) % (3 * kTombstoneTtl) > kTombstoneTtl / 5; }

  // ---- The world moves
  void write() {
    if (!is_pause() && chance(250)) {
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
      // (Without snapshots the source holds the log up until a commit is visible: a fault. And all that waits behind one
      // that hangs is delivered again after a restart, under the new rules.)
      const bool is_prompt = chance(700) || (!has_snapshots() && !faults_) || only_ == Loss::kRules;
      const auto late = is_prompt ? 0ms : chance(has_pauses() ? 500 : 900) ? std::chrono::milliseconds(pick(60))
                                                        : std::chrono::milliseconds(has_pauses() ? 6000 + pick(6000) : pick(9000));
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

  // A value's name: "row:7", "card:7", or of all rows of a group "list:1", listed under its tag, and "page:team1", whose key
  // a lookup finds.
  std::vector<int> rows_of(const std::string& name) const {
    const int number = std::stoi(name.substr(name.find_first_of("0123456789")));
    return is_list(name) || is_page(name) ? database_.rows_of(number) : std::vector<int>{number};
  }
  static bool is_list(const std::string& name) { return name.compare(0, 5, "list:") == 0; }
  static bool is_page(const std::string& name) { return name.compare(0, 5, "page:") == 0; }
  // What a reader sees now: put together anew only when there is more of it, for it is asked at every step for every value.
  const std::set<Xid>& select(const std::string& name) {
    const auto [found, is_new] = selected_.try_emplace(name);
    Selected& selected = found->second;
    if (is_new) selected.rows = rows_of(name);
    std::size_t versions = 0;
    for (const int row : selected.rows) versions += database_.select(row).size();
    if (std::exchange(selected.versions, versions) != versions) {
      for (const int row : selected.rows) selected.seen.insert(database_.select(row).begin(), database_.select(row).end());
    }
    return selected.seen;
  }
  // They are given out one after the other.
  const Logged& logged(Xid xid) const { return database_.log()[number(xid) - number(database_.log().front().xid)]; }
  static std::vector<std::string> tags_of(const std::string& name) {
    if (!is_list(name)) return {};
    return {"group:" + name.substr(5)};
  }
  struct Reader {
    Cache* cache;
    std::string name;
    std::set<Xid> saw;
    Snapshot snapshot;
  };
  void read() {
    if (chance(500)) {
      Cache& cache = caches_[static_cast<std::size_t>(pick(static_cast<int>(caches_.size())))];
      const int what = pick(has_lookups() ? 13 : 10);
      const std::string name = is_edge(cache) ? edge_page(pick(kRows))
                               : what < 5  ? key(pick(kRows))
                               : what < 8  ? fmt::format("list:{}", pick(FakeDatabase::kGroups))
                               : what < 10 ? fmt::format("card:{}", pick(kRows))
                                           : page_of(pick(kRows));
      if (cache.data->cache.count(name) == 0) {
        const auto takes = chance(850) ? std::chrono::milliseconds(pick(30))
                                       : std::chrono::milliseconds(pick(static_cast<int>(kReaderMax.count())));
        if (is_edge(cache)) {
          read_page(cache, name);
        } else {
          readers_.emplace(now_.steady + takes, Reader{&cache, name, select(name), database_.snapshot()});
        }
      }
    }
    read_finish();
  }
  void read_page(Cache& edge, const std::string& name) {
    const auto& before = caches_[0].data->cache;
    const auto cached = before.find(key(rows_of(name)[0]));
    const auto arrives = now_.steady + std::chrono::milliseconds(pick(static_cast<int>(kOriginTime.count()) - 20));
    readers_.emplace(arrives, Reader{&edge, name, cached == before.end() ? select(name) : cached->second.contains, database_.snapshot()});
  }
  void read_finish() {
    while (!readers_.empty() && readers_.begin()->first <= now_.steady) {
      const Reader& reader = readers_.begin()->second;
      // A connection of its own, that knows the epoch as readers' functions do.
      FakeSink connection(kTombstoneTtl, reader.cache->data);
      connection.start(now_);
      connection.set_context({.epoch = "1/1"});
      bool stored = true;
      if (checked_ && !is_edge(*reader.cache)) {
        stored = connection.checked_fill(reader.name, reader.snapshot, reader.saw, tags_of(reader.name));
      } else {
        connection.plain_set(reader.name, reader.saw, tags_of(reader.name));
      }
      log(fmt::format("fill {} {} {} snapshot {}", reader.cache->name, reader.name, stored ? "stored" : "rejected",
                      reader.snapshot.to_string()));
      readers_.erase(readers_.begin());
    }
    appear();
  }

  // ---- What must cost nothing: in every run.
  void mishaps() {
    if (!faults_) slow_one();
    if (is_pause()) return;  // what is sent again is written again
    // A server that restarts with all it had.
    for (Cache& cache : caches_) {
      if (!chance(faults_ ? 3 : 2) || redis_is_empty(cache)) continue;
      FakeSink::restart(*cache.data);
      log(fmt::format("{} restarts with its data", cache.name));
    }
    for (Daemon& daemon : daemons_) {
      if (!daemon.flow || daemon.is_stopping) continue;
      // A polite stop, and a start with the same rules; kill -9; a reload of the same rules.
      if (chance(2)) {
        log("stop");
        daemon.is_stopping = true;
        daemon.stopping_since = now_.steady;
        daemon.flow->stop(now_, now_.steady + kDrainMax);
      } else if (chance(faults_ ? 4 : 1)) {
        log("kill -9");
        end_daemon(daemon, std::chrono::milliseconds(chance(500) ? 0 : pick(faults_ ? 2000 : 100)));
        return;
      } else if (chance(2)) {
        log("reload of the same rules");
        daemon.flow->reload(parse_rules(daemon.rules), now_);
      }
    }
  }
  static bool redis_is_empty(const Cache& cache) { return !cache.data->record; }

  // In a run without faults: one cache that is slow, frozen or away for long.
  void slow_one() {
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      Cache& cache = caches_[i];
      if (!cache.is_in_trouble) continue;
      const int what = chance(10) ? pick(4) : -1;
      for (Daemon& daemon : daemons_) {
        if (!daemon.flow) continue;
        FakeSink& sink = *daemon.sinks[i];
        if (what < 0) continue;
        sink.frozen = what == 1;
        sink.steps_per_turn = what == 2 ? 20 : 1;
        sink.server_up = what != 3;
      }
      if (what > 0) log(fmt::format("{} is {}", cache.name, what == 1 ? "frozen" : what == 2 ? "slow" : "away"));
    }
  }

  // ---- Faults.
  void trouble() {
    for (Daemon& daemon : daemons_) trouble(daemon);
    // In some runs one kind of loss comes alone, for the purge that answers one hides that another was not answered.
    if (loses(Loss::kStream) && !slot_->lost && slot_->exists && chance(daemons_.size() > 1 ? 6 : 2)) lose_slot();
    if (loses(Loss::kStream) && slot_->exists && !slot_->lost && chance(2)) lose_a_piece();
    for (Cache& cache : caches_) {
      if (loses(Loss::kData)) trouble(cache);
    }
    // With a second one ready to take over, most often while a gap is on record and not repaired.
    for (Daemon& daemon : daemons_) {
      if (!daemon.flow || daemons_.size() < 2 || slot_->holder != daemon.source.get()) continue;
      const bool gap_is_on_record = std::any_of(caches_.begin(), caches_.end(), [](const Cache& cache) {
        return cache.data->record && !cache.data->record->gaps.empty();
      });
      if (!gap_is_on_record || !chance(300)) continue;
      log("kill -9 with a gap on record");
      end_daemon(daemon, std::chrono::milliseconds(pick(2000)));
    }
    // Other rules: by a reload, or while it is away (a rolling update, a start after an edit).
    for (Daemon& daemon : daemons_) {
      if (!loses(Loss::kRules) || !chance(only_ == Loss::kAll ? 2 : 5)) continue;
      const int rules = pick(3);
      if (rules == daemon.rules) continue;
      daemon.rules = rules;
      for (Cache& cache : caches_) cache.may_be_purged = true;
      if (!daemon.flow) {
        log(fmt::format("rules {} for the next start", rules));
      } else if (chance(500)) {
        log(fmt::format("reload of rules {}", rules));
        if (!daemon.is_stopping) daemon.flow->reload(parse_rules(rules), now_);
      } else {
        log(fmt::format("kill -9, rules {} for the next start", rules));
        end_daemon(daemon, std::chrono::milliseconds(pick(2000)));
      }
    }
  }
  enum class Loss { kAll, kStream, kData, kRules, kParked };
  bool loses(Loss what) const { return only_ == Loss::kAll || only_ == what; }
  // With commits that nobody has read, so that it matters.
  void commit_unread() {
    for (int i = pick(4); i > 0; --i) database_.make_visible(commit({pick(kRows)}, false), now_.steady);
  }
  void lose_slot() {
    commit_unread();
    slot_->lost = true;
    log("the slot is lost");
    missed();
  }
  void lose_a_piece() {
    commit_unread();
    slot_->gone_until = database_.log().size();
    log(fmt::format("the stream is gone until end {}", database_.log_end()));
    for (const Logged& logged : database_.log()) gone_.insert(logged.xid);
    missed();
  }
  void missed() {
    lost_in_progress_.insert(database_.invisible().begin(), database_.invisible().end());
    for (Cache& cache : caches_) cache.may_be_purged = true;
  }
  void trouble(Daemon& daemon) {
    if (!daemon.flow) return;
    FakeSource& source = *daemon.source;
    if (chance(8)) source.server_up = false;
    if (chance(60)) source.server_up = true;
    if (chance(4)) source.slot_taken = true;
    if (chance(60)) source.slot_taken = false;
    if (chance(10)) source.snapshot_delay_steps = pick(30);
    if (chance(30)) source.snapshot_delay_steps = 0;
    if (has_lookups()) {
      if (chance(10)) source.lookup_delay_steps = pick(chance(100) ? 2000 : 60);
      if (chance(30)) source.lookup_delay_steps = 0;
      if (chance(6)) source.lookup_outcome = chance(500) ? LookupAnswer::Outcome::kFailed : LookupAnswer::Outcome::kTooMuch;
      if (chance(30)) source.lookup_outcome = LookupAnswer::Outcome::kFound;
    }
    if (chance(1)) {
      // The server is another process: it disconnects everybody first.
      for (Daemon& each : daemons_) {
        if (each.flow) each.source->server_up = false;
      }
      instance_ = fmt::format("server-{}", ++instances_);
      restarted_at_ = now_.steady;
      confirmed_at_restart_ = slot_->confirmed;
      log(fmt::format("the database restarts as {}", instance_));
    }
    source.instance = instance_;
    for (const auto& each : daemon.sinks) {
      FakeSink& sink = *each;
      if (chance(10)) sink.frozen = true;
      if (chance(80)) sink.frozen = false;
      if (chance(15)) sink.cut(static_cast<std::size_t>(pick(6)));
      if (only_ == Loss::kParked) {
        // Away until everything heals, and for longer than it is waited for, and than a tombstone lives that nobody renews.
        caches_.back().is_forgetful = true;
        if (&each == &daemon.sinks.back()) sink.server_up = now_.steady - SteadyTime(1h) < 500ms;
        continue;
      }
      if (chance(8)) sink.lacks_replicas = true;
      if (chance(30)) sink.lacks_replicas = false;
      if (chance(6)) sink.server_up = false;
      if (chance(caches_.size() > 1 ? 15 : 60)) sink.server_up = true;
      if (chance(20)) sink.room = 1 + static_cast<std::size_t>(pick(8));
      if (chance(10)) sink.steps_per_turn = 1 + static_cast<std::size_t>(pick(10));
      if (chance(30)) sink.steps_per_turn = 1;
    }
  }
  void trouble(Cache& cache) {
    // The newest is lost, as with appendfsync everysec: all that followed the last record, which so is still the last.
    if (chance(4) && cache.at_record) {
      FakeSink::restore(*cache.data, *cache.at_record);
      cache.went_back_at = now_.steady;
      log(fmt::format("{} restarts as of its last record", cache.name));
    }
    // A replica takes over that has the last record it confirmed, and nothing of what followed.
    if (chance(4) && cache.at_confirmed) {
      FakeSink::restore(*cache.data, *cache.at_confirmed);
      cache.may_be_purged = true;  // a repair may have ended since
      cache.failed_over_at = database_.log_end();
      cache.went_back_at = now_.steady;
      log(fmt::format("{} fails over to its last confirmed record, sequence {}", cache.name, cache.data->record->sequence));
    }
    if (chance(3)) {
      cache.dump = *cache.data;
      log(fmt::format("{} dumps", cache.name));
    }
    if (!chance(2)) return;
    // What readers stored since is gone, what was deleted since is back.
    switch (pick(4)) {
      case 0:
      case 1:
        if (!cache.dump) return;
        FakeSink::restore(*cache.data, *cache.dump);
        break;
      case 2:
        FakeSink::restore(*cache.data, {});
        break;
      case 3:
        // As a replica would be that somebody else wrote to.
        if (!cache.dump || !cache.dump->record) return;
        FakeSink::restore(*cache.data, *cache.dump);
        cache.data->record->writer = "ffffffffffffffff";
        break;
    }
    cache.is_forgetful = cache.may_be_purged = true;
    cache.purged_through = database_.log_end();
    log(fmt::format("{} restarts with other data: {}", cache.name,
                    !cache.data->record ? "no record"
                                        : fmt::format("sequence {}, acknowledged {}, gaps '{}'", cache.data->record->sequence,
                                                      cache.data->record->acknowledged["wal"],
                                                      fmt::join(cache.data->record->gaps, ", "))));
  }

  // Right before everything heals, so that no later change hides what it left.
  void last_loss() {
    if (only_ == Loss::kRules) {
      for (Daemon& daemon : daemons_) {
        daemon.rules = 1;
        end_daemon(daemon, 0ms);
      }
    }
    if (only_ == Loss::kRules || only_ == Loss::kData) {
      for (Cache& cache : caches_) cache.may_be_purged = true;
    }
    if (only_ != Loss::kData) return;
    for (Cache& cache : caches_) {
      if (!cache.dump) continue;
      FakeSink::restore(*cache.data, *cache.dump);
      cache.is_forgetful = true;
      cache.purged_through = database_.log_end();
    }
  }
  void heal() {
    log("everything heals");
    for (Daemon& daemon : daemons_) {
      if (!daemon.flow) start_daemon(daemon);
      daemon.source->server_up = true;
      daemon.source->slot_taken = false;
      daemon.source->snapshot_delay_steps = 0;
      daemon.source->lookup_delay_steps = 0;
      daemon.source->lookup_outcome = LookupAnswer::Outcome::kFound;
      for (const auto& sink : daemon.sinks) {
        sink->frozen = sink->lacks_replicas = false;
        sink->server_up = true;
        sink->room = faults_ ? 8 : 64;
        sink->steps_per_turn = 1;
      }
    }
    for (const Xid xid : std::set<Xid>(database_.invisible())) appear_.emplace(now_.steady, xid);
    appear();
  }

  // One daemon is ready; another one stands by.
  const Daemon* ready_one() const {
    for (const Daemon& daemon : daemons_) {
      if (!daemon.flow || daemon.is_stopping) continue;
      if (daemon.status.not_ready.empty() && daemon.status.inflight_transactions == 0) return &daemon;
    }
    return nullptr;
  }
  bool settled() const {
    // A repair may end after it is ready; and then nothing may be left of it, or the next process makes it again.
    const bool is_repaired = std::none_of(caches_.begin(), caches_.end(), [](const Cache& cache) { return cache.data->record && !cache.data->record->gaps.empty(); });
    return readers_.empty() && appear_.empty() && slot_->confirmed >= database_.log_end() && ready_one() != nullptr && is_repaired;
  }

  // ---- What must hold
  void violate(std::string text) {
    if (problem_.empty()) problem_ = std::move(text);
  }

  // A record that a daemon had on its way when it lost the slot may arrive after its successor has read what was there:
  // then there is somebody else's record where the successor knows another, and that is a rollback to it.
  // A failover that evictd takes for a loss is answered by a purge of everything.
  void note_rollbacks() {
    for (const Daemon& daemon : daemons_) {
      if (!daemon.flow) continue;
      for (std::size_t i = 0; i < caches_.size(); ++i) {
        Cache& cache = caches_[i];
        if (!cache.failed_over_at || !daemon.status.lanes[i].gaps.contains("redis_rollback")) continue;
        cache.purged_through = std::max(cache.purged_through, *std::exchange(cache.failed_over_at, std::nullopt));
      }
    }
  }
  // What was committed before the slot existed comes never, and what was read before that is kept (on_first_start: keep).
  void note_first_start() {
    if (!slot_->exists || std::exchange(had_slot_, true)) return;
    // Two that start together for the first time: one may have looked for a slot just before the other has made it, and its
    // record. It takes the slot for lost, and purges when it is its turn.
    if (daemons_.size() > 1) {
      for (Cache& cache : caches_) cache.may_be_purged = true;
    }
    for (const Logged& logged : database_.log()) {
      if (logged.end <= slot_->confirmed) before_the_slot_.insert(logged.xid);
    }
  }
  // What was logged until there was a slot again was missed, too.
  void note_lost_slot() {
    if (!std::exchange(was_lost_, slot_->lost) || slot_->lost) return;
    lost_in_progress_.insert(database_.invisible().begin(), database_.invisible().end());
  }
  void note_late_records() {
    const void* holder = slot_->holder;
    if (holder == std::exchange(last_holder_, holder)) return;
    for (const Daemon& daemon : daemons_) {
      if (!daemon.flow || daemon.source.get() == holder) continue;
      for (std::size_t i = 0; i < caches_.size(); ++i) {
        if (daemon.sinks[i]->is_saving()) caches_[i].may_be_purged = true;
      }
    }
  }
  void note_served() {
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      const bool are_cards_watched = std::all_of(daemons_.begin(), daemons_.end(), [this, i](const Daemon& daemon) { return is_watched("card:0", caches_[i], daemon.rules); });
      if (!are_cards_watched) caches_[i].cards_unwatched_at = now_.steady;
      const bool is_served = std::any_of(daemons_.begin(), daemons_.end(), [i](const Daemon& daemon) {
        if (!daemon.flow || daemon.is_stopping) return false;
        return daemon.status.active && daemon.status.lanes[i].is_connected;
      });
      const bool is_abreast = std::any_of(daemons_.begin(), daemons_.end(), [this, i](const Daemon& daemon) {
        if (!daemon.flow) return false;
        const LaneStatus& lane = daemon.status.lanes[i];
        const bool is_applied = !lane.oldest_unapplied_commit || now_.system - *lane.oldest_unapplied_commit < kPace;
        return daemon.status.active && daemon.source->has_sent_all() && lane.is_connected && !lane.is_behind && is_applied;
      });
      if (is_abreast) caches_[i].abreast_at = now_.steady;
      if (is_served) continue;
      caches_[i].served_since = now_.steady;
      // One that was not there at the first start has no record of it.
      if (slot_->exists && !caches_[i].data->record) caches_[i].may_be_purged = true;
    }
  }
  void note_parked(const Daemon& daemon) {
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      // What was read in the step in which it came back is answered by its purge, too.
      const bool is_parked = daemon.status.lanes[i].is_parked;
      const bool was_parked = parked_.erase({&daemon, i}) != 0;
      if (is_parked) parked_.emplace(&daemon, i);
      if (!is_parked && !was_parked) continue;
      Cache& cache = caches_[i];
      cache.purged_through = database_.log_end();
      cache.is_forgetful = cache.may_be_purged = true;
      if (!parks()) violate("the only cache was parked");
      if (!faults_ && !cache.is_in_trouble) violate(cache.name + " was parked, although nothing ails it");
    }
  }

  // G1: at the moment of the acknowledgement, everything up to `end` is, in every cache that is not parked, applied,
  // visible and, under plain fills, settled (or a later, unacknowledged transaction owes the settle of that key).
  void acknowledged(const Daemon& daemon, std::uint64_t end) {
    log(fmt::format("acknowledged {}", end));
    const FlowStatus status = daemon.flow->status();
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      if (status.lanes[i].is_parked) continue;
      for (const Logged& logged : database_.log()) {
        const bool is_new = logged.end <= end && logged.end > slot_->confirmed && logged.end > caches_[i].purged_through;
        if (is_new && gone_.count(logged.xid) == 0) acknowledged(caches_[i], logged, end);
      }
    }
  }
  void acknowledged(const Cache& cache, const Logged& logged, std::uint64_t end) {
    const FakeSink::Data& data = *cache.data;
    const auto is_applied = [&](const std::string& name) { return data.applied.count({logged.xid, name}) != 0; };
    const auto what = [&](const std::string& name) {
      return fmt::format("G1: {} acknowledged, but in {} {} of xid {}", end, cache.name, name, number(logged.xid));
    };
    for (const int row : logged.rows) {
      if (is_edge(cache)) {
        if (!is_applied(edge_page(row)) && !is_applied("p:*")) return violate(what(edge_page(row)) + " was never purged");
        if (!database_.is_visible(logged.xid)) return violate(what(edge_page(row)) + " is not visible yet");
        if (!is_settled(cache, logged, edge_page(row), "p:*") && !is_owed_by_later(row, end)) return violate(what(edge_page(row)) + " was not purged again");
        continue;
      }
      if (has_lookups() && !is_applied(page_of(row)) && !is_applied("page:*")) return violate(what(page_of(row)) + " was never applied");
      if (!is_applied(key(row)) && !is_applied("row:*")) return violate(what(key(row)) + " was never applied");
      if (!is_applied(set_of(row)) && !is_applied("tag:group:*")) return violate(what(set_of(row)) + " was never applied");
      const auto counter = data.counters.find("ns:rows");
      if (counter == data.counters.end() || counter->second.raised_by.count(logged.xid) == 0) {
        return violate(what("the counter") + " was never raised");
      }
      // G5: nothing that was known of positions before the database restarted speaks for them now.
      for (const auto& [name, glob] : {std::pair(key(row), "row:*"), std::pair(set_of(row), "tag:group:*"), std::pair(page_of(row), "page:*")}) {
        if (is_page(name) && !has_lookups()) continue;
        if (checked_ || logged.end <= confirmed_at_restart_) continue;
        if (!was_deleted_since(cache, name, restarted_at_) && !was_deleted_since(cache, glob, restarted_at_)) {
          return violate(what(name) + " was not deleted since the database restarted");
        }
      }
      if (!database_.is_visible(logged.xid)) return violate(what(key(row)) + " is not visible yet");
      if (!checked_ && !is_settled(cache, logged, key(row), "row:*") && !is_owed_by_later(row, end)) {
        const auto last = data.last_delete.find(key(row));
        return violate(what(key(row)) +
                       fmt::format(" was not settled: visible {} ms ago, last deleted {} ms ago",
                                   (now_.steady - database_.visible_since(logged.xid)) / 1ms,
                                   last == data.last_delete.end() ? -1 : (now_.steady - last->second) / 1ms));
      }
    }
  }
  bool is_settled(const Cache& cache, const Logged& logged, const std::string& name, const std::string& glob) const {
    const SteadyTime due = database_.visible_since(logged.xid) + kSettle;
    if (was_deleted_since(cache, name, due) || was_deleted_since(cache, glob, due)) return true;
    return cache.data->purged.count({glob, logged.xid}) != 0;
  }
  static bool was_deleted_since(const Cache& cache, const std::string& name, SteadyTime time) {
    const auto last = cache.data->last_delete.find(name);
    return last != cache.data->last_delete.end() && last->second >= time;
  }
  bool is_owed_by_later(int row, std::uint64_t end) const {
    for (const Logged& logged : database_.log()) {
      if (logged.end <= end) continue;
      if (logged.rows.size() > kCollapseAfter / 2) return true;  // may owe a purge of every row
      if (std::find(logged.rows.begin(), logged.rows.end(), row) != logged.rows.end()) return true;
    }
    return false;
  }

  void check() {
    for (Daemon& daemon : daemons_) {
      if (daemon.flow) check(daemon);
    }
    for (Cache& cache : caches_) check(cache);
    check_order();
  }
  // What applies to a value that was made of these rows: itself, its tag, or everything.
  // -> when it last was; min(): never.
  SteadyTime last_applied(const Cache& cache, const std::string& name, Xid xid) const {
    const auto& applied = cache.data->applied;
    const auto found = applied.find({xid, is_list(name) ? "tag:group:" + name.substr(5) : name});
    return found == applied.end() ? SteadyTime::min() : found->second.last;
  }
  void check(Cache& cache) {
    const FakeSink::Data& data = *cache.data;
    // A raised counter promises that the database shows what raised it. (A truncate raises twice.)
    const auto counter = data.counters.find("ns:rows");
    const std::size_t raised = counter == data.counters.end() ? 0 : counter->second.raised_by.size();
    if (std::exchange(cache.raised, raised) < raised) {
      for (const Xid xid : counter->second.raised_by) {
        if (!database_.is_visible(xid) && !logged(xid).truncate) {
          violate(fmt::format("{}: the counter was raised for xid {} before it was visible", cache.name, number(xid)));
        }
      }
    }
    // (What stands behind a cache that was purged may have been filled from it.)
    const bool is_behind_purged = cache.name == "edge" && caches_[0].may_be_purged;
    if (!cache.may_be_purged && !is_behind_purged && data.unconditional_walks > 0) {
      violate(fmt::format("{} was purged, although it lost nothing and missed nothing", cache.name));
    }
    for (const auto& [name, cached] : data.cache) {
      // A value was made of what could be seen once, of which nothing ever goes. What it lacks is mostly the newest.
      const std::set<Xid>& seen = select(name);
      std::size_t lacks = seen.size() - cached.contains.size();
      if (lacks == 0) continue;
      const bool is_unrenewed = now_.steady - cache.abreast_at > kTombstoneTtl;
      const Cache::Looked looked{seen.size(), cached.contains.size(), data.applied.size(), before_the_slot_.size(),
                                 lost_in_progress_.size(), daemons_[0].rules, cache.is_forgetful, cache.is_in_trouble,
                                 is_unrenewed, cache.served_since};
      auto& [last_look, holds_until] = cache.looked[name];
      if (last_look == looked && now_.steady <= holds_until) continue;
      last_look = looked;
      holds_until = SteadyTime::max();
      for (auto newest = seen.rbegin(); lacks > 0; ++newest) {
        const Xid xid = *newest;
        if (cached.contains.count(xid) != 0) continue;
        --lacks;
        if (before_the_slot_.count(xid) != 0) continue;
        // G3: never older than an applied invalidation. (A Redis that went back to an old dump forgot renewals
        // and tombstones, and so did a commit that hung when the slot was lost; what that lets in is gone again when
        // the gap is repaired.)
        const bool is_forgotten = cache.is_forgetful || cache.is_in_trouble || lost_in_progress_.count(xid) != 0;
        const SteadyTime applied_at = checked_ && !is_edge(cache) && !is_forgotten ? last_applied(cache, name, xid) : SteadyTime::min();
        // Where evictd does not come to the cache, or to the one before it, for longer than a tombstone lives, nobody renews those
        // of commits that hang, until it has caught up: README, "Not promised".
        // And nobody renews those of a purge that hangs: what they let in goes when it is visible, in the time of G4 below.
        // And those of keys that no rule names any more; when one names them again, they are purged.
        const bool was_dropped = name.compare(0, 5, "card:") == 0 && cache.cards_unwatched_at >= applied_at;
        const bool was_applied = applied_at != SteadyTime::min();
        const bool has_ended = was_applied && (((is_unrenewed || was_dropped) && now_.steady - applied_at > kTombstoneTtl) ||
                                               (is_purge(xid) && database_.visible_since(xid) - applied_at > kTombstoneTtl));
        if (was_applied && !has_ended) {
          return violate(fmt::format("G3: {} in {} lacks xid {}, which was applied {} ms ago; abreast {} ms ago", name, cache.name, number(xid),
                                     (now_.steady - applied_at) / 1ms, (now_.steady - cache.abreast_at) / 1ms));
        }
        // G4, where nothing fails, and G9, where another cache does: the longest staleness is settle, a tenth for
        // settling together, and the pace of snapshots and steps.
        if (faults_ || cache.is_in_trouble || !is_watched(name, cache, daemons_[0].rules)) continue;
        const auto since = std::max(database_.visible_since(xid), cache.served_since);
        const auto stale = now_.steady - since;
        const auto bound = (checked_ && !is_edge(cache) ? 0ms : kSettle + kSettle / 10) + (is_edge(cache) ? 2 * kOriginTime : 0ms) + kPace;
        // The edge stands behind: a purge of it leaves when the cache below has applied the same.
        const bool may_wait_for_purges = is_purge(xid) || cache.name == "edge";
        const auto allowed = bound + (is_page(name) ? kPace : 0ms) + (cache.name == "edge" ? kPace : 0ms) + (may_wait_for_purges ? kPurgeEvery : 0ms);
        holds_until = std::min(holds_until, since + allowed);
        if (stale > allowed) {
          return violate(fmt::format("G4, G9: {} in {} lacks xid {} since {} ms", name, cache.name, number(xid), stale / 1ms));
        }
      }
    }
  }
  bool is_purge(Xid xid) const {
    return logged(xid).truncate || logged(xid).rows.size() > kCollapseAfter / 2;
  }
  bool touches(Xid xid, const std::string& name) const {
    const std::vector<int>& rows = logged(xid).rows;
    return std::any_of(rows.begin(), rows.end(), [&](const int row) { return name == key(row) || name == set_of(row) || name == edge_page(row); });
  }
  // What stands behind a cache is purged after it.
  void check_order() {
    if (caches_.size() < 3 || faults_) return;
    const FakeSink::Data& before = *caches_[0].data;
    const FakeSink::Data& edge = *caches_[2].data;
    if (std::exchange(ordered_, edge.applied.size()) == edge.applied.size()) return;
    for (const auto& [applied, at] : edge.applied) {
      // (A walk carries every transaction of the batches that asked for it, and marks whatever it meets.)
      const auto& [xid, name] = applied;
      if (!touches(xid, name)) continue;
      const std::string before_it = name.compare(0, 2, "p:") == 0 ? key(rows_of(name)[0]) : name;
      if (before.applied.count({xid, before_it.compare(0, 4, "row:") == 0 ? "row:*" : "tag:group:*"}) != 0) continue;
      const auto first = before.applied.find({xid, before_it});
      if (first == before.applied.end() || first->second.first > at.first) {
        return violate(fmt::format("{} of xid {} was applied in edge before it was in eu", name, number(xid)));
      }
    }
  }
  void check(Daemon& daemon) {
    // G8
    for (const LaneStatus& lane : daemon.status.lanes) {
      if (lane.held_bytes > held_allowed()) {
        violate(fmt::format("G8: {} bytes held by {}, at most {} allowed", lane.held_bytes, lane.name, held_allowed()));
      }
    }
    // G7: the source is served at every step, whatever Redis does.
    if (daemon.source->steps() == daemon.last_source_steps && daemon.source->is_started()) {
      violate("G7: the source was not served");
    }
    daemon.last_source_steps = daemon.source->steps();
  }

  // What is on record as applied was, whatever happens after: a replay does not do it again.
  void saved(Cache& cache) {
    if (faults_ && loses(Loss::kData)) cache.at_record = std::make_shared<const FakeSink::Data>(*cache.data);
    const Record& record = *cache.data->record;
    const auto applied = record.applied.find("wal");
    const auto acknowledged = record.acknowledged.find("wal");
    log(fmt::format("{} has on record: sequence {} of {}, {}, applied {}, acknowledged {}", cache.name, record.sequence, record.writer, record.source_instance,
                    applied == record.applied.end() ? 0 : applied->second,
                    acknowledged == record.acknowledged.end() ? 0 : acknowledged->second));
    if (checked_ || applied == record.applied.end() || record.epoch.empty()) return;
    for (const Logged& logged : database_.log()) {
      if (logged.end > applied->second || (acknowledged != record.acknowledged.end() && logged.end <= acknowledged->second)) continue;
      if (logged.end <= std::max(slot_->confirmed, cache.purged_through) || gone_.count(logged.xid) != 0) continue;
      for (const int row : logged.rows) {
        // (Of keys that are looked up it says nothing: they are looked up again.)
        for (auto [name, glob] : {std::pair(key(row), std::string("row:*")), std::pair(set_of(row), std::string("tag:group:*"))}) {
          const auto& first = cache.data->applied;
          if (is_edge(cache)) std::tie(name, glob) = std::pair(edge_page(row), std::string("p:*"));
          if (first.count({logged.xid, name}) != 0 || first.count({logged.xid, glob}) != 0) continue;
          violate(fmt::format("G1: on record in {} as applied, but {} of xid {} never was", cache.name, name, number(logged.xid)));
        }
      }
    }
  }

  // G2 under plain fills: what is on record as applied is not deleted as if it were new. (One that has
  // lost the slot may still have orders on their way; with several caches, one that comes later than the stream is given
  // what was sent by then as new. And a cache that came back with old data is believed of nothing, and purged: README, G2 and
  // G6. What it has on record until the gap is stored there is the old record, which knows no gap.)
  void first_delete(const Daemon& daemon, const Cache& cache, const std::string& name, const std::set<Xid>& xids) {
    if (is_page(name)) return;  // looked up again
    // What it had done beyond its record was known to be done; the rest of this connection's stream may share batches with it.
    if (cache.went_back_at >= daemon.streams_since) return;
    const std::optional<Record>& record = cache.data->record;
    if (caches_.size() > 1 || !record || !record->gaps.empty()) return;
    if (daemon.status.lanes[0].gaps.contains("redis_rollback")) return;
    if (slot_->holder != daemon.source.get() || !record->writer.starts_with(daemon.writer + "/")) return;
    if (record->source_instance != daemon.source->instance) return;
    std::uint64_t applied = 0;
    if (const auto found = record->applied.find("wal"); found != record->applied.end()) applied = found->second;
    if (const auto found = record->acknowledged.find("wal"); found != record->acknowledged.end()) {
      applied = std::max(applied, found->second);
    }
    for (const Logged& logged : database_.log()) {
      if (xids.count(logged.xid) != 0 && logged.end > applied) return;
    }
    violate(fmt::format("G2: {} was deleted again for xid {}, which is on record as applied", name, number(*xids.begin())));
  }

  // --verbose: what the flow would log, and what the world does.
  void tell() {
    for (std::size_t i = 0; i < daemons_.size(); ++i) {
      if (!daemons_[i].flow) continue;
      for (const FlowEvent& event : daemons_[i].flow->take_events()) log(fmt::format("[{}] {}", i, event.text));
    }
  }
  void log(const std::string& text) const {
    if (verbose) std::printf("  %6ld ms: %s\n", static_cast<long>((now_.steady - SteadyTime(1h)) / 1ms), text.c_str());
  }

  void check_end() {
    const Daemon* active = ready_one();
    if (!settled() || active == nullptr) {
      std::string text = fmt::format("not settled at the end: confirmed {} of {}", slot_->confirmed, database_.log_end());
      for (const Daemon& daemon : daemons_) {
        if (!daemon.flow) continue;
        const FlowStatus status = daemon.flow->status();
        text += fmt::format("; {} transactions in flight, {}", status.inflight_transactions, fmt::join(status.not_ready, ", "));
      }
      text += fmt::format("; {} readers, {} commits hang, snapshots: {}", readers_.size(), appear_.size(), has_snapshots());
      for (const Cache& cache : caches_) {
        if (cache.data->record && !cache.data->record->gaps.empty()) text += fmt::format("; on record of {}: {}", cache.name, fmt::join(cache.data->record->gaps, ", "));
      }
      return violate(text);
    }
    for (const Cache& cache : caches_) {
      for (const auto& [name, cached] : cache.data->cache) {
        if (!is_watched(name, cache, active->rules)) continue;
        for (const Xid xid : select(name)) {
          // A source without snapshots cannot know that a commit of the lost stretch still hangs (docs/kafka.md).
          const bool is_beyond_knowing = !has_snapshots() && lost_in_progress_.count(xid) != 0;
          if (cached.contains.count(xid) == 0 && before_the_slot_.count(xid) == 0 && !is_beyond_knowing) {
            return violate(fmt::format("stale at the end: {} in {} lacks xid {}", name, cache.name, number(xid)));
          }
        }
      }
    }
  }

  // Where nothing fails, a hanging commit must not fill the memory and hold the rest up: that is not G4's case.
  std::size_t held_max() const { return faults_ ? 8 * 1024 : 256 * 1024; }
  static constexpr std::size_t kHeldSlack = 8 * 1024;  // one step's worth, and open batches
  // With what is found for as much, and one answer more: of small changes each leads to a batch of its own, twice its size.
  std::size_t held_allowed() const { return (held_max() + kHeldSlack) * (has_lookups() ? 5 : 1); }

  std::mt19937_64 random_;
  std::uint64_t seed_;
  bool checked_;
  bool faults_;
  Loss only_ = !faults_ || seed_ % 3 != 1 ? Loss::kAll : static_cast<Loss>(seed_ / 15 % 5);
  Now now_;
  FakeDatabase database_;
  std::shared_ptr<FakeSlot> slot_ = std::make_shared<FakeSlot>();
  std::vector<Cache> caches_;
  NullObserver observer_;
  std::vector<Daemon> daemons_ = std::vector<Daemon>(seed_ % 3 == 0 ? 2 : 1);  // the second one stands by
  struct Selected {
    std::vector<int> rows;
    std::size_t versions = 0;  // of all its rows
    std::set<Xid> seen;
  };
  std::unordered_map<std::string, Selected> selected_;  // by the name of a value
  std::multimap<SteadyTime, Xid> appear_;
  std::multimap<SteadyTime, Reader> readers_;
  std::set<Xid> lost_in_progress_;  // logged and not visible when the slot, or a piece of the stream, was lost
  std::set<Xid> gone_;              // need not have been delivered
  std::uint64_t writers_ = 0;
  bool had_slot_ = false;
  bool was_lost_ = false;
  std::set<std::pair<const Daemon*, std::size_t>> parked_;  // at the last look: by whom, which cache
  std::set<Xid> before_the_slot_;
  std::size_t ordered_ = 0;  // of what the edge applied first, at the last look
  const void* last_holder_ = nullptr;
  std::string instance_ = "server-1";
  int instances_ = 1;
  SteadyTime restarted_at_{};               // the database, last
  std::uint64_t confirmed_at_restart_ = 0;  // of the slot
  std::string problem_;
};

}  // namespace
}  // namespace evictd::testing

int main(int argc, char** argv) { return evictd::testing::run_worlds<evictd::testing::World>(argc, argv, "flow simulation"); }
