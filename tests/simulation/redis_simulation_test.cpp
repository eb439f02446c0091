// The daemon's flow, its Redis sink and its Lua in a world of faults, in simulated time, from a seed. Nothing of the protocol
// is written down here: the real sink talks to servers in memory (memory_network.h), which run the very scripts it sends
// (memory_redis.h), and readers call the very functions it loads.
//
// A run has one or two caches and one or two daemons on one slot: the second stands by, takes over, and a daemon that stood
// still comes back late, with orders that were on their way. Commits become visible late and out of order. Readers of every
// kind fill the caches, slowly: plain, listed under a tag, checked, leased, of values that are kept stale, of lazy tags, and
// under a number that `bump` raises. Servers are slow, freeze, are away, cut connections before or after they carried out what
// is on its way, forget scripts, and restart with their data, with what they had at their last record, with older data, or
// with none, or have other data from one moment to the next. The slot is lost, or a piece of the stream. Daemons are stopped, killed, killed between two pages of a cursor.
//
// The oracle knows only rows: what was acknowledged is in every cached value from then on, while nothing was lost; at the end,
// when everything healed, every cached value is its row as it is now; and no foreign key was ever touched.
//
// The command line is that of runs.h.
#include <fmt/format.h>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "daemon/flow/flow.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/scripts.h"
#include "tests/simulation/memory_network.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_source.h"
#include "tests/support/forwarding_source.h"
#include "tests/support/null_observer.h"
#include "tests/simulation/runs.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

constexpr auto kSettle = 1000ms;
constexpr auto kTombstoneTtl = 5000ms;
constexpr auto kReaderMax = 600ms;  // less than settle, less than the tombstones
constexpr auto kLease = 500ms;      // less than settle
constexpr auto kSlowestLent = 3000ms;
constexpr auto kParkAge = 6000ms;
constexpr int kRows = 12;
constexpr const char* kCacheNames[] = {"eu", "us"};
constexpr const char* kRecordName = "simulation";
const SteadyTime kBegin = SteadyTime(1h);


// What evictd must never touch, whatever it looks like.
const std::map<std::string, MemoryRedis::Value>& foreign_keys() {
  static const std::map<std::string, MemoryRedis::Value> all = {
      {"row", {"a", 0}},       {"rows:1", {"b", 0}},       {"xrow:1", {"c", 0}},   {"Row:1", {"d", 0}},  {"tag:groups:1", {MemoryRedis::Set{"row", "rows:1"}, 0}},
      {"ns:rows2", {"7", 0}},  {"session:1", {"e", 0}},    {"cards:3", {"f", 0}},  {"", {"g", 0}},       {"ranking", {MemoryRedis::SortedSet{{"h", 1}, {"i", 2}}, 0}},
  };
  return all;
}

bool is_same(const MemoryRedis::Value& a, const MemoryRedis::Value& b) { return a.data == b.data && a.expires_ms == b.expires_ms; }

// A source that tells the simulation what is acknowledged.
class WatchedSource final : public ForwardingSource {
 public:
  WatchedSource(Source& source, std::function<void(std::uint64_t)> on_acknowledge)
      : ForwardingSource(source), on_acknowledge_(std::move(on_acknowledge)) {}
  void acknowledge(const Position& end) override {
    ForwardingSource::acknowledge(end);
    on_acknowledge_(end.value);
  }

 private:
  std::function<void(std::uint64_t)> on_acknowledge_;
};

struct Cache {
  std::string name;
  std::unique_ptr<MemoryServer> server;
  std::optional<MemoryRedis::Data> dump;
  std::optional<MemoryRedis::Data> at_record;  // as it was when the last record was stored
  // It lost data, or missed a piece of the stream: what was acknowledged before proves nothing until the end.
  int exchanges = 0;  // of its data, under open connections
  bool is_doubtful = false;
  std::chrono::milliseconds clock_is_ahead{0};
};

struct Daemon {
  std::vector<std::unique_ptr<Sink>> sinks;
  std::unique_ptr<FakeSource> source;
  std::unique_ptr<WatchedSource> watched;
  std::unique_ptr<Flow> flow;  // none while it is dead
  SteadyTime starts_at{};
  SteadyTime stands_still_until{};
  bool is_stopping = false;
};

// How a value is filled and read, by the first word of its name.
enum class Kind { kPlain, kListed, kChecked, kTagged, kStale, kLent, kLazy, kCounted };
struct KindOf {
  std::string_view word;
  Kind kind;
  bool is_of_group;
};
constexpr KindOf kKinds[] = {{"row", Kind::kPlain, false},  {"list", Kind::kListed, true}, {"card", Kind::kChecked, false}, {"hand", Kind::kTagged, true},
                             {"page", Kind::kStale, false}, {"lent", Kind::kLent, false},  {"shelf", Kind::kLazy, true},    {"made", Kind::kCounted, false}};

class World {
 public:
  bool verbose = false;

  explicit World(std::uint64_t seed)
      : random_(seed), seed_(seed), database_(kRows), loses_data_(seed % 4 == 1 || seed % 4 == 3), loses_stream_(seed % 4 >= 2) {
    now_.steady = kBegin;
    now_.system = SystemTime(1'700'000'000s);
    const std::size_t caches = 1 + seed / 4 % 2;
    for (std::size_t i = 0; i < caches; ++i) {
      Cache& cache = caches_.emplace_back();
      cache.name = kCacheNames[i];
      cache.server = std::make_unique<MemoryServer>(random_());
      cache.clock_is_ahead = std::chrono::milliseconds(pick(4000) - 2000);
      cache.server->redis.restart({foreign_keys(), {}});
      cache.server->on_carried_out = [this, &cache](const MemoryRedis::Arguments& command) { carried_out(cache, command); };
      cache.server->redis.on_cut_off = [this] { is_between_pages_ = true; };
      memory_network()[cache.name] = cache.server.get();
    }
    tick(0ms);
    for (Daemon& daemon : daemons_) start_daemon(daemon);
  }
  ~World() {
    for (Daemon& daemon : daemons_) end_daemon(daemon, 0ms);
    memory_network().clear();
  }

  // The first violation, or empty.
  std::string run() {
    // A first start keeps what is cached: nothing is, nor is anything written.
    for (int step = 0; step < 1000 && ready_one() == nullptr; ++step) {
      tick(10ms);
      step_all();
    }
    const int steps = 500 + pick(500);
    for (int step = 0; step < steps && problem_.empty(); ++step) {
      tick(std::chrono::milliseconds(1 + pick(20)));
      write();
      read();
      trouble();
      step_all();
      if (step % 25 == 0) check_acknowledged();
    }
    last_loss();
    heal();
    // As long as a tombstone lives, and longer: what a gap left to be purged late is over as well.
    for (int step = 0; step < 12'000 && problem_.empty(); ++step) {
      tick(10ms);
      appear();
      if (step < 200) read();
      read_finish();
      step_all();
      if (step > 800 && step % 10 == 0 && settled()) break;
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
    for (Cache& cache : caches_) cache.server->redis.set_time(now_.system.time_since_epoch() + cache.clock_is_ahead + std::chrono::microseconds(pick(1000)));
  }

  // Else as Kafka without a database to ask.
  bool has_snapshots() const { return seed_ % 5 != 2; }

  static RuleSet make_rules() {
    const std::string more = ", collapse_after: 6, purge_every: 20ms}\n";
    const std::string plain = fmt::format(", fill: plain, settle: {}ms", kSettle.count()) + more;
    const std::string checked = ", fill: checked" + more;
    const std::string text = "- {table: public.rows, keys: ['row:{id}', 'lent:{id}'], tags: ['group:{grp}']" + plain +
                             "- {table: public.rows, keys: ['card:{id}'], tags: ['deck:{grp}']" + checked +
                             "- {table: public.rows, keys: ['page:{id}'], mode: stale, grace: 2s" + checked +
                             "- {table: public.rows, tags: ['shelf:{grp}'], tags_mode: lazy" + checked +
                             "- {table: public.rows, bump: ['ns:rows']}\n";
    auto parsed = RuleSet::parse(text, "rules.yaml");
    if (!parsed) {
      std::printf("%s\n", parsed.error().to_string().c_str());
      std::abort();
    }
    return std::move(*parsed);
  }

  void start_daemon(Daemon& daemon) {
    FlowOptions options;
    options.writer = fmt::format("{:016x}", ++writers_);
    options.batch_items_max = 4;
    options.held_bytes_max = 64 * 1024;
    daemon.is_stopping = false;
    daemon.stands_still_until = {};
    daemon.source = std::make_unique<FakeSource>(database_, slot_);
    daemon.source->instance = instance_;
    daemon.source->has_snapshots = daemon.source->sends_keepalives = has_snapshots();
    daemon.watched = std::make_unique<WatchedSource>(*daemon.source, [this, &daemon](std::uint64_t end) { acknowledged(daemon, end); });
    std::vector<LaneSpec> lanes;
    for (Cache& cache : caches_) {
      RedisOptions redis;
      redis.url = "redis://" + cache.name + ":6379/0";
      redis.tombstone_ttl = kTombstoneTtl;
      redis.connect_timeout = redis.command_timeout = 1000ms;
      redis.backoff_first = redis.backoff_max = 0ms;  // a pause is drawn at random; here, servers are away for long enough
      redis.commands_max = 8;
      redis.bulk_max = 2;
      redis.walks_max = 3;
      redis.page_keys = 4;
      redis.record_name = kRecordName;
      auto sink = make_redis_sink(redis);
      if (!sink) std::abort();
      LaneSpec& lane = lanes.emplace_back();
      lane.name = cache.name;
      lane.sink = daemon.sinks.emplace_back(std::move(*sink)).get();
      lane.tombstone_ttl = kTombstoneTtl;
      if (caches_.size() > 1) lane.park_after.age = kParkAge;
    }
    daemon.flow = std::make_unique<Flow>(make_rules(), *daemon.watched, std::move(lanes), observer_, options);
    daemon.flow->start(now_);
  }
  void end_daemon(Daemon& daemon, std::chrono::milliseconds away) {
    daemon.flow.reset();
    daemon.watched.reset();
    daemon.source.reset();
    daemon.sinks.clear();
    daemon.starts_at = now_.steady + away;
  }

  void step_all() {
    for (Cache& cache : caches_) cache.server->turn();
    for (Daemon& daemon : daemons_) {
      if (!daemon.flow && daemon.starts_at <= now_.steady) start_daemon(daemon);
      if (!daemon.flow || daemon.stands_still_until > now_.steady) continue;
      daemon.flow->step(now_);
      // What was submitted in this turn of the loop leaves before it sleeps.
      Waiting waiting;
      daemon.flow->wait_for(waiting, now_);
      if (daemon.flow->failure()) violate("failed: " + daemon.flow->failure()->to_string());
      tell(daemon);
      note_parked(daemon);
      if (daemon.is_stopping && daemon.flow->finished()) {
        log("stopped");
        end_daemon(daemon, 0ms);
      }
    }
  }

  // What is acknowledged without it is purged when it returns.
  void note_parked(const Daemon& daemon) {
    const FlowStatus status = daemon.flow->status();
    for (std::size_t i = 0; i < caches_.size(); ++i) caches_[i].is_doubtful |= status.lanes[i].is_parked;
  }

  // ---- The world moves
  // Some rows change all the time, others seldom: what is stale there stays.
  int pick_row() { return chance(700) ? pick(kRows / 3) : pick(kRows); }
  void write() {
    if (chance(120)) {
      std::vector<int> rows;
      const int count = chance(8) ? 3 + pick(8) : 1 + pick(2);
      for (int i = 0; i < count; ++i) rows.push_back(pick_row());
      const bool truncate = chance(5);
      if (truncate) {
        rows.clear();
        for (int row = 0; row < kRows; ++row) rows.push_back(row);
      }
      const Xid xid = commit(rows, truncate);
      // Most are visible at once, some late, a few hang for long.
      // But for those that the stream may lose where there are no snapshots: nobody knows of them then.
      const auto late = chance(600) || (loses_stream_ && !has_snapshots()) ? 0ms : chance(900) ? std::chrono::milliseconds(pick(80)) : std::chrono::milliseconds(pick(9000));
      appear_.emplace(now_.steady + late, xid);
      // Readers meet what has just been committed.
      for (int i = pick(4); i > 0 && !truncate; --i) {
        const KindOf& kind = kKinds[pick(static_cast<int>(std::size(kKinds)))];
        begin_reader(kind, kind.is_of_group ? FakeDatabase::group_of(rows.front()) : rows.front());
      }
    }
    appear();
  }
  Xid commit(const std::vector<int>& rows, bool truncate) {
    const Xid xid = database_.commit(rows, truncate, now_.system).xid;
    log("commit xid {} end {} rows {}{}", number(xid), database_.log_end(), fmt::join(rows, ","), truncate ? " truncate" : "");
    return xid;
  }
  void appear() {
    while (!appear_.empty() && appear_.begin()->first <= now_.steady) {
      database_.make_visible(appear_.begin()->second, now_.steady);
      log("visible xid {}", number(appear_.begin()->second));
      appear_.erase(appear_.begin());
    }
  }

  // "row:7" -> 7; "made:7:v3" -> 7.
  static int number_of(const std::string& name) { return std::atoi(name.c_str() + name.find(':') + 1); }
  static const KindOf& kind_of(const std::string& name) {
    const std::string_view word = std::string_view(name).substr(0, name.find(':'));
    return *std::find_if(std::begin(kKinds), std::end(kKinds), [word](const KindOf& each) { return each.word == word; });
  }
  // What a value is made of: the transactions that its rows show.
  std::set<Xid> select(const std::string& name) const {
    std::set<Xid> seen;
    const std::vector<int> rows = kind_of(name).is_of_group ? database_.rows_of(number_of(name)) : std::vector<int>{number_of(name)};
    for (const int row : rows) seen.insert(database_.select(row).begin(), database_.select(row).end());
    return seen;
  }
  std::string select_text(const std::string& name) const {
    std::string text = "rows";
    for (const Xid xid : select(name)) text += fmt::format(",{}", number(xid));
    return text;
  }
  static std::set<Xid> parse_text(const std::string& text) {
    std::set<Xid> xids;
    for (std::size_t at = text.find(','); at != std::string::npos; at = text.find(',', at + 1)) xids.insert(Xid{std::strtoull(text.c_str() + at + 1, nullptr, 10)});
    return xids;
  }

  static std::string marker(const std::string& name) {
    std::string made;
    append_marker_name(made, name);
    return made;
  }
  static std::string lazy_tag(const std::string& name) { return marker(fmt::format("tag:shelf:{}", number_of(name))); }

  struct Reader {
    Cache* cache;
    std::string name;
    std::string value;
    std::string token;  // a snapshot, or lease:<id>
    std::string server;  // its run_id
    SteadyTime began;
  };
  Reply ask(Cache& cache, const MemoryRedis::Arguments& command) {
    MemoryRedis::Client client;
    return cache.server->redis.execute(client, command);
  }
  static bool answers(const Cache& cache) { return cache.server->is_up && !cache.server->is_frozen; }

  void read() {
    for (int i = 0; i < 2; ++i) {
      const KindOf& kind = kKinds[pick(static_cast<int>(std::size(kKinds)))];
      if (chance(700)) begin_reader(kind, pick(kind.is_of_group ? FakeDatabase::kGroups : kRows));
    }
    read_finish();
  }
  void begin_reader(const KindOf& kind, int number) {
    Cache& cache = caches_[static_cast<std::size_t>(pick(static_cast<int>(caches_.size())))];
    std::string name = fmt::format("{}:{}", kind.word, number);
    if (!answers(cache)) return;
    if (kind.kind == Kind::kCounted) {
      // The number first, then the rows.
      const Reply counter = ask(cache, {"GET", "ns:rows"});
      name += ":v" + (counter.text.empty() ? "0" : counter.text);
    }
    Reader reader{&cache, name, {}, database_.snapshot().to_string(), data_of(cache), now_.steady};
    const bool gets = kind.kind == Kind::kStale || kind.kind == Kind::kLent || kind.kind == Kind::kLazy;
    if (gets) {
      MemoryRedis::Arguments get = {"FCALL", "evictd_get", "2", name, marker(name)};
      if (kind.kind == Kind::kLazy) {
        get[2] = "3";
        get.push_back(lazy_tag(name));
      }
      get.insert(get.end(), {"LEASE", std::to_string(kLease.count())});
      const Reply reply = ask(cache, get);
      if (reply.is_error()) {
        if (reply.text.find("Function not found") == std::string::npos) violate("evictd_get: " + reply.text);
        return;
      }
      if (reply.elements[2].text.empty()) return;  // fresh, or somebody else has the lease
      if (kind.kind == Kind::kLent) reader.token = "lease:" + reply.elements[2].text;
    } else if (!ask(cache, {"GET", name}).text.empty()) {
      return;
    }
    reader.value = select_text(name);
    // A lease is what bounds who has one; the others may count on themselves alone.
    const auto most = kind.kind == Kind::kLent ? kSlowestLent : kReaderMax;
    const auto takes = chance(800) ? std::chrono::milliseconds(pick(30)) : std::chrono::milliseconds(pick(static_cast<int>(most.count())));
    readers_.emplace(now_.steady + takes, std::move(reader));
  }
  void read_finish() {
    while (!readers_.empty() && readers_.begin()->first <= now_.steady) {
      const Reader reader = std::move(readers_.begin()->second);
      readers_.erase(readers_.begin());
      // One that was held up for longer drops its value.
      const bool is_late = now_.steady - reader.began > kReaderMax && kind_of(reader.name).kind != Kind::kLent;
      if (!answers(*reader.cache) || is_late) continue;
      // A Redis that came back with older data gives the numbers of its counters away again, to other rows: who has one from
      // before must not store under it.
      if (kind_of(reader.name).kind == Kind::kCounted && reader.server != data_of(*reader.cache)) continue;
      store(reader);
    }
  }
  void store(const Reader& reader) {
    const std::string lifetime = chance(900) ? "60000" : "800";
    const Kind kind = kind_of(reader.name).kind;
    if (kind == Kind::kPlain || kind == Kind::kCounted || kind == Kind::kListed) {
      const MemoryRedis::Arguments set = {"SET", reader.name, reader.value, "PX", lifetime};
      MemoryRedis::Client client;
      MemoryRedis& redis = reader.cache->server->redis;
      if (kind == Kind::kListed) redis.execute(client, {"MULTI"});
      redis.execute(client, set);
      if (kind == Kind::kListed) {
        redis.execute(client, {"SADD", fmt::format("tag:group:{}", number_of(reader.name)), reader.name});
        redis.execute(client, {"EXEC"});
      }
      return log("{} stores {} in {}: {}", "reader", reader.name, reader.cache->name, reader.value);
    }
    MemoryRedis::Arguments fill = {"FCALL", "evictd_fill", "2", reader.name, marker(reader.name)};
    if (kind == Kind::kTagged) fill.push_back(fmt::format("tag:deck:{}", number_of(reader.name)));
    if (kind == Kind::kLazy) fill.push_back(lazy_tag(reader.name));
    if (fill.size() == 6) fill[2] = "3";
    fill.insert(fill.end(), {reader.token, lifetime, reader.value});
    if (chance(300)) fill.insert(fill.end(), {"AGE", std::to_string((now_.steady - reader.began) / 1ms)});
    if (chance(100)) fill.insert(fill.end(), {"JITTER", "20"});
    const Reply reply = ask(*reader.cache, fill);
    if (reply.is_error() && reply.text.find("Function not found") == std::string::npos) violate("evictd_fill: " + reply.text);
    log("reader fills {} in {} with {}: {} -> {}", reader.name, reader.cache->name, reader.token, reader.value, reply.integer);
  }

  // Changes when its counters may have gone back: another process, or other data in the same one.
  static std::string data_of(const Cache& cache) { return fmt::format("{}/{}", cache.server->redis.run_id(), cache.exchanges); }

  // ---- Faults
  void trouble() {
    const bool is_between_pages = std::exchange(is_between_pages_, false);
    for (Daemon& daemon : daemons_) trouble(daemon, is_between_pages);
    for (Cache& cache : caches_) trouble(cache);
    if (!loses_stream_ || !slot_->exists || slot_->lost) return;
    if (chance(3)) lose_slot();
    if (chance(2)) lose_a_piece();
  }
  void trouble(Daemon& daemon, bool is_between_pages) {
    if (!daemon.flow) return;
    FakeSource& source = *daemon.source;
    if (chance(8)) source.server_up = false;
    if (chance(60)) source.server_up = true;
    if (chance(4)) source.slot_taken = true;
    if (chance(60)) source.slot_taken = false;
    if (chance(10)) source.snapshot_delay_steps = pick(30);
    if (chance(30)) source.snapshot_delay_steps = 0;
    if (chance(1)) {
      for (Daemon& each : daemons_) {
        if (each.flow) each.source->server_up = false;
      }
      instance_ = fmt::format("server-{}", ++instances_);
    }
    source.instance = instance_;
    const bool stands_still = daemon.stands_still_until > now_.steady;
    // The server gives up on one that says nothing.
    if (stands_still && slot_->holder == &source && chance(20)) {
      slot_->holder = nullptr;
      log("the slot is taken from one that stands still");
    }
    if (chance(4)) {
      daemon.stands_still_until = now_.steady + std::chrono::milliseconds(pick(2500));
      log("stands still");
    }
    if (daemon.is_stopping || stands_still) return;
    if (chance(2)) {
      log("stop");
      daemon.is_stopping = true;
      daemon.flow->stop(now_, now_.steady + 2s);
    } else if (chance(4) || (is_between_pages && chance(60))) {
      log("kill -9{}", is_between_pages ? " between two pages" : "");
      end_daemon(daemon, std::chrono::milliseconds(chance(500) ? 0 : pick(2000)));
    } else if (chance(2)) {
      log("reload of the same rules");
      daemon.flow->reload(make_rules(), now_);
    }
  }
  void trouble(Cache& cache) {
    MemoryServer& server = *cache.server;
    if (chance(8)) server.is_frozen = true;
    if (chance(60)) server.is_frozen = false;
    if (chance(4)) server.is_up = false;
    if (chance(60)) server.is_up = true;
    if (chance(20)) server.commands_per_turn = static_cast<std::size_t>(1 + pick(6));
    if (chance(40)) server.commands_per_turn = 64;
    if (chance(20)) server.tears = chance(500);
    if (chance(20)) server.redis.page_max = static_cast<std::size_t>(chance(500) ? 1000 : 3 + pick(30));
    if (chance(15)) {
      log("{} cuts its connections", cache.name);
      server.cut(static_cast<std::size_t>(pick(4)), chance(400));
    }
    if (chance(2)) ask(cache, {"SCRIPT", "FLUSH"});
    if (chance(3)) {
      log("{} restarts with its data", cache.name);
      server.restart(MemoryRedis::Data(server.redis.data()));
    }
    if (!loses_data_) return;
    if (chance(3)) {
      cache.dump = server.redis.data();
      log("{} dumps", cache.name);
    }
    // The newest is lost, as with appendfsync everysec: all that followed the last record, which so is still the last.
    if (chance(3) && cache.at_record) {
      log("{} restarts as of its last record", cache.name);
      server.restart(*cache.at_record);
      cache.is_doubtful = true;
    }
    if (!chance(2)) return;
    if (chance(400)) {
      log("{} has other data under its open connections", cache.name);
      ++cache.exchanges;
      server.redis.exchange(cache.dump && chance(500) ? *cache.dump : MemoryRedis::Data{foreign_keys(), {}});
    } else if (chance(300)) {
      log("{} restarts empty", cache.name);
      server.restart({foreign_keys(), {}});
    } else if (cache.dump) {
      log("{} restarts with older data", cache.name);
      server.restart(*cache.dump);
    }
    cache.is_doubtful = true;
  }
  // With commits that nobody has read, so that it matters.
  void commit_unread() {
    for (int i = pick(4); i > 0; --i) database_.make_visible(commit({pick(kRows)}, false), now_.steady);
  }
  void lose_slot() {
    commit_unread();
    slot_->lost = true;
    log("the slot is lost");
    for (Cache& cache : caches_) cache.is_doubtful = true;
  }
  void lose_a_piece() {
    commit_unread();
    slot_->gone_until = database_.log().size();
    log("the stream is gone until end {}", database_.log_end());
    for (Cache& cache : caches_) cache.is_doubtful = true;
  }
  // Right before everything heals, so that no later change hides what it left.
  void last_loss() {
    for (Cache& cache : caches_) {
      if (!loses_data_ || !cache.dump || chance(500)) continue;
      if (chance(400)) {
        log("{} has older data under its open connections at last", cache.name);
        ++cache.exchanges;
        cache.server->redis.exchange(*cache.dump);
      } else {
        log("{} restarts with older data at last", cache.name);
        cache.server->restart(*cache.dump);
      }
      cache.is_doubtful = true;
    }
    if (loses_stream_ && slot_->exists && !slot_->lost && chance(300)) lose_slot();
  }
  void heal() {
    log("everything heals");
    for (Cache& cache : caches_) {
      cache.server->is_up = true;
      cache.server->is_frozen = false;
      cache.server->commands_per_turn = 64;
      cache.server->redis.page_max = 20;
    }
    for (Daemon& daemon : daemons_) {
      daemon.starts_at = std::min(daemon.starts_at, now_.steady);
      // One that still stands still comes back in the middle of it.
      if (!daemon.flow) continue;
      daemon.source->server_up = true;
      daemon.source->slot_taken = false;
      daemon.source->snapshot_delay_steps = 0;
    }
  }

  const Daemon* ready_one() const {
    for (const Daemon& daemon : daemons_) {
      if (!daemon.flow || daemon.is_stopping || daemon.stands_still_until > now_.steady) continue;
      const FlowStatus status = daemon.flow->status();
      if (status.not_ready.empty() && status.active && status.inflight_transactions == 0) return &daemon;
    }
    return nullptr;
  }
  bool has_gaps(const Cache& cache) const {
    const MemoryRedis::Value* text = cache.server->redis.look(record_key(kRecordName));
    if (text == nullptr) return true;
    const auto record = record_from_text(std::get<std::string>(text->data));
    return !record || !record->gaps.empty();
  }
  bool settled() const {
    return readers_.empty() && appear_.empty() && slot_->confirmed >= database_.log_end() && ready_one() != nullptr &&
           std::none_of(caches_.begin(), caches_.end(), [this](const Cache& cache) { return has_gaps(cache); });
  }

  // ---- What must hold
  void violate(std::string text) {
    if (problem_.empty()) problem_ = std::move(text);
  }

  void carried_out(Cache& cache, const MemoryRedis::Arguments& command) {
    if (verbose) {
      std::string text;
      for (const std::string& argument : command) text += " " + argument.substr(0, 60);
      log("  {} <-{}", cache.name, text);
    }
    const std::string record = record_key(kRecordName);
    const bool is_record = (command.size() >= 5 && command[3] == record) || (command.size() >= 3 && command[0] == "SET" && command[1] == record);
    if (is_record && loses_data_) cache.at_record = cache.server->redis.data();
  }

  void acknowledged(const Daemon& daemon, std::uint64_t end) {
    if (slot_->holder != daemon.source.get()) return;  // nobody hears it
    log("acknowledged {}", end);
    for (; acknowledged_ < database_.log().size() && database_.log()[acknowledged_].end <= end; ++acknowledged_) {
      acknowledged_xids_.insert(database_.log()[acknowledged_].xid);
    }
    note_parked(daemon);
    check_acknowledged();
  }

  // The value that a reader is served as fresh; nothing: none.
  std::optional<std::string> served(Cache& cache, const std::string& name) {
    const MemoryRedis::Value* value = cache.server->redis.look(name);
    if (value == nullptr) return std::nullopt;
    const Kind kind = kind_of(name).kind;
    if (kind == Kind::kCounted) {
      const MemoryRedis::Value* counter = cache.server->redis.look("ns:rows");
      const std::string current = counter == nullptr ? "0" : std::get<std::string>(counter->data);
      if (name.substr(name.find(":v") + 2) != current) return std::nullopt;
    }
    if (kind == Kind::kStale || kind == Kind::kLazy) {
      MemoryRedis::Arguments get = {"FCALL", "evictd_get", "2", name, marker(name)};
      if (kind == Kind::kLazy) {
        get[2] = "3";
        get.push_back(lazy_tag(name));
      }
      const Reply reply = ask(cache, get);
      if (reply.is_error() || reply.elements[0].text != "fresh") return std::nullopt;
      return reply.elements[1].text;
    }
    return std::get<std::string>(value->data);
  }
  std::vector<std::string> cached_names(const Cache& cache) const {
    std::vector<std::string> names;
    for (const auto& [name, value] : cache.server->redis.data().keys) {
      if (foreign_keys().contains(name) || !std::holds_alternative<std::string>(value.data)) continue;
      if (std::any_of(std::begin(kKinds), std::end(kKinds), [&](const KindOf& kind) { return name.starts_with(std::string(kind.word) + ":"); })) names.push_back(name);
    }
    return names;
  }

  // G1, G3, G4: what was acknowledged is in every value that is served from then on, whatever fails but for losses.
  void check_acknowledged() {
    for (Cache& cache : caches_) {
      if (cache.is_doubtful) continue;
      for (const std::string& name : cached_names(cache)) {
        const auto value = served(cache, name);
        if (!value) continue;
        const std::set<Xid> has = parse_text(*value);
        for (const Xid xid : select(name)) {
          if (has.contains(xid) || !acknowledged_xids_.contains(xid)) continue;
          return violate(fmt::format("{} in {} lacks xid {}, which was acknowledged", name, cache.name, number(xid)));
        }
      }
    }
  }

  void check_end() {
    if (!settled()) {
      std::string text = fmt::format("not settled at the end: confirmed {} of {}", slot_->confirmed, database_.log_end());
      for (const Daemon& daemon : daemons_) {
        if (!daemon.flow) continue;
        const FlowStatus status = daemon.flow->status();
        text += fmt::format("; {} transactions in flight, {}", status.inflight_transactions, fmt::join(status.not_ready, ", "));
      }
      for (const Cache& cache : caches_) text += fmt::format("; {} has {}gaps on record", cache.name, has_gaps(cache) ? "" : "no ");
      return violate(text);
    }
    for (Cache& cache : caches_) {
      for (const std::string& name : cached_names(cache)) {
        const auto value = served(cache, name);
        if (value) ++values_compared;
        if (value && *value != select_text(name)) {
          return violate(fmt::format("stale at the end: {} in {} is '{}', and its row '{}'", name, cache.name, *value, select_text(name)));
        }
      }
      for (const auto& [name, value] : foreign_keys()) {
        const MemoryRedis::Value* there = cache.server->redis.look(name);
        if (there == nullptr || !is_same(*there, value)) return violate(fmt::format("the foreign key '{}' in {} was touched", name, cache.name));
      }
    }
  }

  // --verbose
  void tell(Daemon& daemon) {
    for (const FlowEvent& event : daemon.flow->take_events()) log("[{}] {}", &daemon - daemons_.data(), event.text);
  }
  template <typename... Parts>
  void log(fmt::format_string<Parts...> text, Parts&&... parts) const {
    if (verbose) std::printf("  %6ld ms: %s\n", static_cast<long>((now_.steady - kBegin) / 1ms), fmt::format(text, std::forward<Parts>(parts)...).c_str());
  }

 public:
  std::uint64_t values_compared = 0;  // at the end

 private:
  std::mt19937_64 random_;
  std::uint64_t seed_;
  Now now_;
  FakeDatabase database_;
  bool loses_data_;
  bool loses_stream_;
  std::shared_ptr<FakeSlot> slot_ = std::make_shared<FakeSlot>();
  std::deque<Cache> caches_;
  NullObserver observer_;
  std::vector<Daemon> daemons_ = std::vector<Daemon>(seed_ % 2 == 0 || seed_ % 3 == 0 ? 2 : 1);
  std::multimap<SteadyTime, Xid> appear_;
  std::multimap<SteadyTime, Reader> readers_;
  std::size_t acknowledged_ = 0;  // of the log
  std::set<Xid> acknowledged_xids_;
  std::uint64_t writers_ = 0;
  std::string instance_ = "server-1";
  int instances_ = 1;
  bool is_between_pages_ = false;
  std::string problem_;
};

}  // namespace
}  // namespace evictd::testing

int main(int argc, char** argv) { return evictd::testing::run_worlds<evictd::testing::World>(argc, argv, "redis simulation"); }
