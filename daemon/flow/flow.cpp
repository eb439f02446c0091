#include "daemon/flow/flow.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "daemon/flow/away.h"
#include "daemon/flow/intake.h"
#include "daemon/flow/lane.h"
#include "daemon/flow/lookups.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using namespace std::chrono_literals;

// How long an open batch waits for company while the caches are busy anyway, or for more of the same transaction.
constexpr auto kBatchAgeMax = 1ms;
// And while no cache has room for it: it would only queue up, so better that it gathers more changes of the keys it has.
constexpr auto kBusyBatchAgeMax = 50ms;
constexpr auto kSliceAgeMax = 5ms;
// A stop that cannot reach a cache gives up after this: nothing is lost, it will be delivered again.
constexpr auto kStopWithoutCacheMax = 2s;
// A cache that is full may hold the others up for so long, since most that are full have room again in a moment; then it
// falls behind (G9).
constexpr auto kFullMax = 200ms;
// Between two redeliveries asked for on behalf of caches that fell behind.
constexpr auto kRedeliveryInterval = 5s;
// How often it is looked whether a cache has to be parked: the limits are minutes and gigabytes.
constexpr auto kParkingInterval = 100ms;
// A cache that owes something for so long is late; a moment's work is not.
constexpr auto kLateMin = 10s;
// A cache is parked while so much of the WAL that PostgreSQL may keep is left (max_slot_wal_keep_size), or a quarter of it
// where that is less.
constexpr std::int64_t kSafeWalMin = 64LL * 1024 * 1024;

// The gap of those who stand behind a cache that was repaired.
std::string gap_behind(const Lane& lane) { return "after_" + lane.name(); }

bool nearly_lost(const SourceStatus& source) {
  if (!source.slot_safe_wal_bytes) return false;
  const std::int64_t safe = *source.slot_safe_wal_bytes;
  const auto all = safe + static_cast<std::int64_t>(source.slot_retained_bytes.value_or(4 * kSafeWalMin));
  return safe < std::min(kSafeWalMin, all / 4);
}

}  // namespace

class Flow::Impl final : public SourceHandler, private IntakeOut, private LookupsOut {
 public:
  Impl(RuleSet rules, Source& source, std::vector<LaneSpec> lanes, Observer& observer, FlowOptions options)
      : rules_(std::make_shared<const RuleSet>(std::move(rules))),
        source_(source),
        observer_(observer),
        options_(std::move(options)),
        intake_(rules_, observer, events_, *this,
                {options_.batch_items_max, options_.batch_bytes_max, options_.snapshot_interval}),
        lookups_(source, observer, events_, *this, options_.batch_items_max, options_.batch_bytes_max) {
    EVICTD_CHECK(!lanes.empty());
    for (LaneSpec& spec : lanes) {
      CacheEvents events(events_, lanes.size() > 1 ? fmt::format("cache '{}': ", spec.name) : "");
      lanes_.push_back(
          {std::make_unique<Lane>(std::move(spec), source_, observer_, std::move(events), options_, rules_), {}, {}, {}, {}});
    }
    for (Entry& entry : lanes_) {
      if (lanes_.size() > 1) entry.lane->set_beside_others();
      for (const std::string& name : entry.lane->spec().after) {
        for (Entry& other : lanes_) {
          if (other.lane->name() != name) continue;
          other.behind.emplace_back(entry.lane.get(), entry.after.size());
          other.lane->set_followed();
          entry.after.push_back(other.lane.get());
        }
      }
      EVICTD_CHECK(entry.after.size() == entry.lane->spec().after.size());
    }
  }

  void start(Now now);
  void step(Now now);
  void wait_for(Waiting& waiting, Now now);
  void reload(RuleSet rules, Now now);
  std::optional<Error> refusal(const RuleSet& rules) const;
  void stop(Now now, SteadyTime until);
  FlowStatus status() const;

  std::shared_ptr<const RuleSet> rules_;
  std::optional<Error> failure_;
  FlowEvents events_;
  bool finished_ = false;

 private:
  struct Entry {
    std::unique_ptr<Lane> lane;
    std::vector<Lane*> after;
    std::vector<std::pair<Lane*, std::size_t>> behind;  // those who stand behind it, and its place among what they name
    std::optional<SteadyTime> full_since;
    std::optional<SteadyTime> away_since;  // something waits for it since then, by what was acknowledged
  };
  // Where the source stands with us.
  enum class Stage {
    kWaitingForCache,  // not started: claimed without a place to apply to, it would only hold the database up
    kConnecting,
    kJudging,  // its facts are compared with what the caches have on record
    kProceeding,
    kStreaming,
    kStandby,
  };

  // SourceHandler
  void on_facts(const SourceFacts& facts) override;
  void on_connected(const SourceConnected& connected) override;
  void on_tables(const std::map<std::string, std::string>& tables) override;
  void on_streams(const std::map<std::string, std::uint64_t>& begins) override;
  void on_disconnected(const Error& error) override;
  void on_standby(std::string_view holder) override;
  void on_failed(const Error& error) override { failure_ = error; }
  void on_begin(const TransactionBegin& begin) override;
  void on_change(const Change& change) override { intake_.change(change, now_); }
  void on_unknown_change(const UnknownChange& change) override { intake_.unknown_change(change, now_); }
  void on_commit(const Position& end) override;
  void on_relation_gone(const Relation& relation) override { intake_.relation_gone(relation); }
  void on_gap(const Gap& gap) override;
  void on_snapshot(const Snapshot& snapshot) override;
  void on_found(const LookupAnswer& answer) override { lookups_.answer(answer, now_); }
  void on_heartbeat(SteadyTime sent) override;
  void on_keepalive(const Position& position) override;
  void came_to(const Position& position, bool is_end);
  void leave_known(std::uint32_t stream, std::uint64_t reached);

  // IntakeOut
  void on_batch(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at) override;
  void on_visible(std::uint64_t number, SteadyTime since) override;
  void on_partly_visible(std::uint64_t number, SteadyTime since) override;
  void on_ahead(std::shared_ptr<const Batch> ahead, SteadyTime visible_at, std::uint64_t of) override;
  void on_unmappable_stop(const Error& error) override { failure_ = error; }

  // LookupsOut
  std::uint64_t take_batch_number() override { return intake_.take_number(); }
  void on_found(std::shared_ptr<const Batch> found, SteadyTime visible_at, std::uint64_t of) override;
  void on_looked_up(std::uint64_t of) override;
  void on_overflow_stop(const Error& error) override { failure_ = error; }
  bool has_room_for_found() const override;

  bool is_streaming() const { return stage_ == Stage::kStreaming; }
  Lane::Surroundings surroundings() const;
  bool wants_data() const;
  SteadyTime batch_due() const;
  bool batch_should_wait() const;
  void open_gates();
  void tell_parked();
  void judge();
  void watch_lanes();
  void tell_all();
  bool is_told_to_others(const Entry& entry) const;
  void ask_for_redelivery();
  void park_late_ones();
  void acknowledge();
  std::map<std::string, std::uint64_t> told_by_name() const;
  bool waits_for_visibility() const;
  std::uint64_t wal_kept_for(const Lane& lane, std::uint64_t lag_bytes) const;
  std::optional<std::chrono::microseconds> lag(const Lane& lane) const;

  Source& source_;
  Observer& observer_;
  const FlowOptions options_;
  Now now_{};
  Intake intake_;
  LookupQueue lookups_;
  std::vector<Entry> lanes_;
  Stage stage_ = Stage::kWaitingForCache;
  std::uint64_t session_ = 0;  // counts connections of the source

  std::map<std::uint32_t, std::uint64_t> received_;      // in this session: the last commit or keepalive
  // Ends of transactions that caches know from before this connection, and that it has to send again (Ledger::awaited).
  std::map<std::string, std::set<std::uint64_t>> awaited_;
  // Where what some cache knows to be done ends, as far as this session has not passed it: by name of the stream, and by its
  // number from its first transaction on.
  std::map<std::string, std::set<std::uint64_t>> known_ends_;
  std::unordered_map<std::uint32_t, std::set<std::uint64_t>> known_ends_of_;
  std::map<std::uint32_t, std::uint64_t> acknowledged_;  // told to the source in this session
  std::optional<SteadyTime> last_heartbeat_;
  // The last moment at which everything the database had committed was known to have been received; and whether that was in
  // this connection: after a reconnection what was committed meanwhile is still to come.
  SteadyTime current_at_{};
  bool is_caught_up_ = false;
  SteadyTime streaming_since_{};
  SystemTime connected_at_{};
  SystemTime committed_{};  // of the transaction under way
  bool redelivery_wanted_ = false;
  SteadyTime parking_looked_at_{};
  SteadyTime redelivered_at_ = SteadyTime::min();
  Away source_away_;
  std::string source_lost_;  // why the source was last lost; empty while it streams

  bool stopping_ = false;
  SteadyTime stopping_since_{};
  SteadyTime stop_until_{};
};

void Flow::Impl::start(Now now) {
  now_ = now;
  current_at_ = now.steady;
  source_.set_tables(rules_->tables());
  for (Entry& entry : lanes_) entry.lane->start(now);
}

Lane::Surroundings Flow::Impl::surroundings() const {
  return {is_streaming(), intake_.has_snapshots(), &intake_.latest_snapshot(), intake_.latest_snapshot_asked_at(), stopping_};
}

void Flow::Impl::step(Now now) {
  now_ = now;
  if (finished_ || failure_) return;
  const auto is_refused = [](const Entry& entry) { return entry.lane->is_refused(); };
  if (stage_ == Stage::kWaitingForCache && std::all_of(lanes_.begin(), lanes_.end(), is_refused)) {
    failure_ = refusal(*rules_);  // with these rules no cache will ever be there
    return;
  }
  if (const std::optional<std::string> still = source_away_.still(now.steady)) {
    events_.warning(fmt::format("nothing is streamed {}{}", *still, source_lost_.empty() ? "" : ": " + source_lost_));
  }
  for (Entry& entry : lanes_) {
    entry.lane->step(now);
    if (entry.lane->failure()) {
      failure_ = entry.lane->failure();
      return;
    }
  }
  if (stage_ == Stage::kWaitingForCache) {
    const bool any = std::any_of(lanes_.begin(), lanes_.end(), [](const Entry& entry) { return entry.lane->was_connected(); });
    if (any) {
      stage_ = Stage::kConnecting;
      source_.start(now);
    }
  }
  if (stage_ != Stage::kWaitingForCache) {
    source_.step(now, wants_data() ? options_.step_bytes_max : 0, *this);
    // What the source is not read for, it may have sent: then we do not know.
    if (failure_) return;
  }
  if (is_streaming()) lookups_.step(now);
  intake_.count_changes();
  if (!batch_should_wait()) intake_.close(now);
  open_gates();
  for (Entry& entry : lanes_) entry.lane->work(now, surroundings());
  tell_all();
  if (stage_ == Stage::kJudging) judge();
  watch_lanes();
  tell_parked();  // of the next batch it is taken for granted
  if (is_streaming() && intake_.wants_snapshot(waits_for_visibility(), now.steady)) {
    intake_.snapshot_requested(now.steady);
    source_.request_snapshot();
  }
  acknowledge();

  if (!stopping_) return;
  // A repair under way stays on record, and begins anew after the restart.
  bool drained = true;
  bool hopeless = true;
  for (const Entry& entry : lanes_) {
    const Lane& lane = *entry.lane;
    const bool done = lane.is_parked() || (lane.is_drained(stop_until_) && (!is_streaming() || lane.ledger().is_all_recorded()));
    drained = drained && done;
    const bool is_away = !lane.is_connected() || lane.lacks_replicas();
    hopeless = hopeless && (done || (is_away && now.steady - stopping_since_ > kStopWithoutCacheMax));
  }
  if ((drained || hopeless) && (stage_ == Stage::kWaitingForCache || source_.stop(now))) {
    for (Entry& entry : lanes_) entry.lane->stop_sink();
    finished_ = true;
  }
}

// ---------------------------------------------------------------- The source's connection

void Flow::Impl::on_facts(const SourceFacts& facts) {
  stage_ = Stage::kJudging;
  for (Entry& entry : lanes_) {
    if (!entry.lane->is_parked()) entry.lane->judge(facts, now_);
  }
}

// The source may go on when every cache that is there has on record what it misses, and at least one was asked. A cache
// that is away is judged when it comes: its record then lacks what the source has been told, or what the facts have become.
void Flow::Impl::judge() {
  bool any = false;
  std::set<std::string> on_record;
  for (const Entry& entry : lanes_) {
    const Lane& lane = *entry.lane;
    if (lane.is_parked()) continue;
    for (const auto& [name, position] : lane.ledger().record().acknowledged) on_record.insert(name);
    if (lane.is_judged()) any = true;
    if (lane.is_connected() && !lane.is_judged()) return;
  }
  const bool all_parked =
      std::all_of(lanes_.begin(), lanes_.end(), [](const Entry& entry) { return entry.lane->is_parked(); });
  if (!any && !all_parked) return;
  stage_ = Stage::kProceeding;
  source_.proceed(on_record);
}

void Flow::Impl::on_connected(const SourceConnected& connected) {
  ++session_;
  stage_ = Stage::kStreaming;
  source_lost_.clear();
  received_.clear();
  acknowledged_.clear();
  is_caught_up_ = false;
  connected_at_ = now_.system;
  streaming_since_ = now_.steady;
  lookups_.forget_all();  // what was to be looked up comes again
  intake_.connected(session_, connected.has_snapshots, now_);
  events_.info(fmt::format("streaming{}, epoch {}", source_away_.ended(now_.steady), connected.epoch));
  known_ends_.clear();
  known_ends_of_.clear();
  awaited_.clear();
  for (Entry& entry : lanes_) {
    entry.lane->source_connected(connected, session_, now_);
    for (const auto& [name, ends] : entry.lane->ledger().known_ends()) known_ends_[name].insert(ends.begin(), ends.end());
    for (const auto& [name, end] : entry.lane->ledger().awaited()) awaited_[name].insert(end);
  }
}

void Flow::Impl::on_tables(const std::map<std::string, std::string>& tables) {
  for (Entry& entry : lanes_) entry.lane->source_tables(tables);
}

void Flow::Impl::on_streams(const std::map<std::string, std::uint64_t>& begins) {
  for (Entry& entry : lanes_) entry.lane->source_streams(begins);
}

void Flow::Impl::on_disconnected(const Error& error) {
  stage_ = Stage::kConnecting;
  source_lost_ = error.text;
  source_away_.began(now_.steady);
  intake_.cut_off(now_);
  lookups_.forget_all();
  // Somebody else may hold the source before we see it: the record is written by none but those who stream, and read
  // anew before the next facts are judged.
  for (Entry& entry : lanes_) entry.lane->release();
  observer_.reconnect(options_.source_peer);
  events_.warning(error.whole_text(), error.hint);
}

void Flow::Impl::on_standby(std::string_view holder) {
  if (stage_ != Stage::kStandby) events_.info(fmt::format("standby: {}", holder));
  stage_ = Stage::kStandby;
  (void)source_away_.ended(now_.steady);  // nothing is to be streamed
  for (Entry& entry : lanes_) entry.lane->release();
}

void Flow::Impl::on_gap(const Gap& gap) {
  if (gap.is_expected) {
    events_.info(gap.detail, "what is cached for these tables is purged, since nobody watched it");
  } else {
    events_.error(fmt::format("gap in the change stream ({}): {}", gap.reason, gap.detail),
                  "the cached values it may have touched are purged now; evictd reports ready when that is done");
  }
  for (Entry& entry : lanes_) entry.lane->source_gap(gap, now_);
}

void Flow::Impl::on_begin(const TransactionBegin& begin) {
  committed_ = begin.committed(now_);
  // Nothing need end where what is known does: it may be a keepalive's position, or lie in a stretch that is gone by now.
  if (begin.place) leave_known(begin.stream, *begin.place);
  intake_.begin(begin, now_);
}

// Transactions come in the order of their commits: up to this one's everything was received, and of a backlog no more.
void Flow::Impl::on_commit(const Position& end) {
  current_at_ = std::max(current_at_, now_.steady - std::max(now_.system - committed_, SystemTime::duration(0)));
  if (committed_ >= connected_at_) is_caught_up_ = true;
  std::uint64_t& received = received_[end.stream];
  received = std::max(received, end.value);
  if (!awaited_.empty()) came_to(end, true);
  intake_.commit(end, now_);
  leave_known(end.stream, end.value);
}

// A batch of what some cache has done before holds nothing else, so that nothing of it is done once more for its company.
void Flow::Impl::leave_known(std::uint32_t stream, std::uint64_t reached) {
  const auto [found, is_new] = known_ends_of_.try_emplace(stream);
  if (is_new) found->second = std::move(known_ends_[source_.stream_name(stream)]);
  std::set<std::uint64_t>& known = found->second;
  if (known.empty() || reached < *known.begin()) return;
  intake_.close(now_);
  known.erase(known.begin(), known.upper_bound(reached));
}

// What is awaited comes before anything beyond it, or the server was set back to before it and has gone another way since.
void Flow::Impl::came_to(const Position& position, bool is_end) {
  const auto awaited = awaited_.find(source_.stream_name(position.stream));
  if (awaited == awaited_.end()) return;
  std::set<std::uint64_t>& ends = awaited->second;
  if (is_end) ends.erase(position.value);
  if (!ends.empty() && *ends.begin() < position.value) {
    const std::uint64_t missed = *ends.begin();
    awaited_.clear();
    return on_gap({"epoch_changed",
                   fmt::format("expected the transaction that ended at {} once more, got to {} without it: the server was set back to an earlier moment",
                               missed, position.value),
                   {}});
  }
  if (ends.empty()) awaited_.erase(awaited);
}

void Flow::Impl::on_snapshot(const Snapshot& snapshot) {
  intake_.snapshot(snapshot, now_);
  for (Entry& entry : lanes_) entry.lane->snapshot(snapshot, now_);
}

// One that took long says nothing of what came behind it; and one from before the connection is of a backlog.
void Flow::Impl::on_heartbeat(SteadyTime sent) {
  last_heartbeat_ = now_.steady;
  current_at_ = std::max(current_at_, std::min(sent, now_.steady));
  if (sent >= streaming_since_) is_caught_up_ = true;
}

void Flow::Impl::on_keepalive(const Position& position) {
  // It says how far the server has read, of a backlog too: that is news of the end where we know where the end is.
  const std::optional<std::uint64_t> lag_bytes = source_.status().lag_bytes;
  const auto told = acknowledged_.find(position.stream);
  if (lag_bytes && told != acknowledged_.end() && position.value >= told->second + *lag_bytes) {
    current_at_ = now_.steady;
    is_caught_up_ = true;
  }
  if (!awaited_.empty()) came_to(position, false);
  if (intake_.in_transaction() || !intake_.empty()) return;
  std::uint64_t& received = received_[position.stream];
  received = std::max(received, position.value);
  for (Entry& entry : lanes_) entry.lane->keepalive(position);
}

// ---------------------------------------------------------------- Batches

void Flow::Impl::on_batch(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at) {
  for (Entry& entry : lanes_) entry.lane->take(batch, visible_at, now_);
  // Where no cache takes it, nothing is owed.
  const bool is_taken = std::any_of(lanes_.begin(), lanes_.end(), [](const Entry& entry) {
    return !entry.lane->is_parked() && !entry.lane->is_behind();
  });
  if (is_taken && is_streaming()) lookups_.take(batch, visible_at, now_);
  // In the middle of a large transaction: what can leave leaves now.
  if (intake_.in_transaction()) {
    for (Entry& entry : lanes_) entry.lane->work(now_, surroundings());
  }
}

void Flow::Impl::on_visible(std::uint64_t number, SteadyTime since) {
  for (Entry& entry : lanes_) entry.lane->became_visible(number, since, now_);
  lookups_.became_visible(number, since, now_);
}

void Flow::Impl::on_partly_visible(std::uint64_t number, SteadyTime since) {
  for (Entry& entry : lanes_) entry.lane->became_partly_visible(number, since, now_);
}

void Flow::Impl::on_ahead(std::shared_ptr<const Batch> ahead, SteadyTime visible_at, std::uint64_t of) {
  for (Entry& entry : lanes_) entry.lane->take_found(ahead, visible_at, of, now_);
  if (is_streaming()) lookups_.take_ahead(ahead, visible_at, of, now_);
}

void Flow::Impl::on_found(std::shared_ptr<const Batch> found, SteadyTime visible_at, std::uint64_t of) {
  for (Entry& entry : lanes_) entry.lane->take_found(found, visible_at, of, now_);
}

void Flow::Impl::on_looked_up(std::uint64_t of) {
  for (Entry& entry : lanes_) entry.lane->looked_up(of, now_);
}

bool Flow::Impl::has_room_for_found() const {
  return std::all_of(lanes_.begin(), lanes_.end(), [](const Entry& entry) { return entry.lane->has_room_for_found(); });
}

void Flow::Impl::open_gates() {
  for (Entry& entry : lanes_) {
    if (entry.after.empty()) continue;
    std::uint64_t through = UINT64_MAX;
    for (const Lane* before : entry.after) through = std::min(through, before->applied_through());
    entry.lane->release_through(through, now_);
  }
  tell_parked();
  for (Entry& entry : lanes_) {
    for (const Lane::Settled& settled : entry.lane->take_settled()) {
      for (const auto& [lane, place] : entry.behind) lane->settled_before(place, settled, now_);
    }
  }
}

void Flow::Impl::tell_parked() {
  for (Entry& entry : lanes_) {
    for (const auto& [lane, place] : entry.behind) lane->parked_before(place, entry.lane->is_parked(), now_);
  }
}

// Alone, an invalidation leaves at once. While the caches are busy with earlier ones, or more of the same
// transaction is on its way, a moment's wait makes one order of many.
bool Flow::Impl::batch_should_wait() const {
  if (stopping_ || intake_.full() || intake_.empty()) return false;
  return now_.steady < batch_due();
}

// By the cache that is quickest: no other holds it up.
SteadyTime Flow::Impl::batch_due() const {
  if (intake_.in_transaction()) return intake_.open_since() + kSliceAgeMax;
  SteadyTime due = intake_.open_since() + kBusyBatchAgeMax;
  for (const Entry& entry : lanes_) {
    const Lane& lane = *entry.lane;
    if (lane.is_parked() || lane.is_behind() || !lane.is_connected()) continue;
    due = std::min(due, intake_.open_since() + (lane.is_idle()    ? SteadyTime::duration(0)
                                                : lane.has_room() ? SteadyTime::duration(kBatchAgeMax)
                                                                  : SteadyTime::duration(kBusyBatchAgeMax)));
  }
  return due;
}

bool Flow::Impl::wants_data() const {
  if (!is_streaming() || stopping_) return false;
  bool any_takes = false;
  bool any_lives = false;
  for (const Entry& entry : lanes_) {
    const Lane& lane = *entry.lane;
    if (lane.is_parked() || lane.is_behind()) continue;
    any_lives = true;
    if (lane.held_bytes() + intake_.bytes() >= options_.held_bytes_max) return false;
    // Settles that wait for a cache out of reach must not keep new transactions out of sight: the oldest one that
    // is not applied is what the lag is measured by.
    if (!lane.is_busy() || (!lane.has_unapplied() && intake_.empty())) any_takes = true;
  }
  return any_takes || !any_lives;
}

// ---------------------------------------------------------------- Lanes that are full, away, or back

void Flow::Impl::watch_lanes() {
  for (Entry& entry : lanes_) {
    Lane& lane = *entry.lane;
    if (is_streaming() && lane.may_come_back()) lane.come_back(told_by_name(), now_);
    if (is_streaming() && is_caught_up_) lane.everything_is_received();
    // Only a cache that owes something, or waits for one that is behind, falls behind: what is held for settles and for
    // transactions that hang is held for all of them, and makes room by itself. And only where it holds another one up.
    const std::optional<SteadyTime> waiting = lane.waiting_since();
    const bool owes = !lane.is_connected() || (waiting && now_.steady - *waiting >= kFullMax) ||
                      std::any_of(entry.after.begin(), entry.after.end(), [](const Lane* before) { return before->is_behind(); });
    const bool holds_another_up = std::any_of(lanes_.begin(), lanes_.end(), [](const Entry& other) {
      const Lane& each = *other.lane;
      return each.is_connected() && !each.is_parked() && !each.is_behind() && !each.is_full();
    });
    if (!lane.is_full() || !owes || !holds_another_up) {
      entry.full_since.reset();
    } else if (lane.is_connected() && !entry.full_since) {
      entry.full_since = now_.steady;  // it may make room in a moment; one that is away will not, and nobody waits for it
    } else if (!lane.is_connected() || now_.steady - *entry.full_since >= kFullMax) {
      entry.full_since.reset();
      lane.fall_behind();
    }
    if (lane.take_wants_redelivery()) redelivery_wanted_ = true;
    if (lane.take_repaired()) {
      // What stands behind it may have been filled again from what was stale here.
      for (const auto& [behind, place] : entry.behind) behind->purge_after(gap_behind(lane), now_);
    }
    if (!lane.repaired_gaps().empty() && is_told_to_others(entry)) lane.close_repaired_gaps();
  }
  park_late_ones();
  ask_for_redelivery();
}

// What one cache's record proves of the source's history.
void Flow::Impl::tell_all() {
  for (Entry& entry : lanes_) {
    const auto told = entry.lane->take_for_all();
    if (!told) continue;
    for (Entry& other : lanes_) {
      if (&other != &entry) other.lane->hear(*told, now_);
    }
  }
}

// Each has on record what the repaired gaps of this one mean for it. Whoever is parked is purged when it returns, whatever it missed.
bool Flow::Impl::is_told_to_others(const Entry& entry) const {
  for (const auto& [behind, place] : entry.behind) {
    if (behind->has_untold(gap_behind(*entry.lane))) return false;
  }
  for (const std::string& gap : entry.lane->repaired_gaps()) {
    if (!concerns_every_cache(gap)) continue;
    for (const Entry& other : lanes_) {
      if (&other != &entry && other.lane->has_untold(gap)) return false;
    }
  }
  return true;
}

// A cache that fell behind, or came back as another process, needs what it has not on record once more. The others know
// what they have finished and skip it.
void Flow::Impl::ask_for_redelivery() {
  if (!is_streaming()) {
    redelivery_wanted_ = false;  // it comes with the connection
    return;
  }
  bool wanted = redelivery_wanted_;
  for (const Entry& entry : lanes_) {
    const Lane& lane = *entry.lane;
    // Not before what it has kept is on record: else its redelivery, begun again and again, would never get further.
    if (lane.is_behind() && lane.is_connected() && lane.has_nothing_in_hand() &&
        (redelivered_at_ == SteadyTime::min() || now_.steady - redelivered_at_ >= kRedeliveryInterval)) {
      wanted = true;
    }
  }
  if (!wanted) return;
  redelivery_wanted_ = false;
  redelivered_at_ = now_.steady;
  source_.restart(now_);
}

void Flow::Impl::park_late_ones() {
  if (!is_streaming()) {
    for (Entry& entry : lanes_) entry.away_since.reset();  // nobody is held up by us
    return;
  }
  if (now_.steady < parking_looked_at_ + kParkingInterval) return;
  parking_looked_at_ = now_.steady;
  const SourceStatus source = source_.status();
  for (Entry& entry : lanes_) {
    Lane& lane = *entry.lane;
    if (lane.is_parked()) continue;
    const bool owes = !lane.is_connected() || lane.is_behind() || lane.waiting_since();
    // One whose replicas are away is no older than the others are: it is parked for nothing but the WAL that is kept for it.
    const bool holds_wal = owes || lane.lacks_replicas();
    if (!owes) entry.away_since.reset();
    if (!holds_wal) continue;
    if (owes && !entry.away_since) entry.away_since = now_.steady;
    if (lane.is_connected() && !lane.is_behind() && lane.waiting_since()) {
      entry.away_since = std::max(*entry.away_since, *lane.waiting_since());
    }
    const ParkAfter& limits = lane.spec().park_after;
    // One that is only busy at this moment keeps nothing.
    const bool is_late = !lane.is_connected() || lane.is_behind() || lane.is_full() || lane.lacks_replicas() ||
                         now_.steady - *entry.away_since >= kLateMin;
    const std::uint64_t kept = source.lag_bytes ? wal_kept_for(lane, *source.lag_bytes) : 0;
    if (limits.age && owes && now_.steady - *entry.away_since >= *limits.age) {
      lane.park(fmt::format("its oldest change waits since {} s",
                            std::chrono::duration_cast<std::chrono::seconds>(now_.steady - *entry.away_since).count()));
    } else if (limits.wal_bytes && is_late && kept >= *limits.wal_bytes) {
      lane.park(fmt::format("the database keeps {} bytes of WAL for it", kept));
    } else if (limits.before_slot_is_lost && is_late && nearly_lost(source) && kept > 0) {
      lane.park(fmt::format("PostgreSQL would give the slot up in {} bytes of WAL (max_slot_wal_keep_size)",
                            *source.slot_safe_wal_bytes));
    }
  }
}

// ---------------------------------------------------------------- The acknowledgement

// The least position that every lane which is not parked has on record (G1). With none to wait for, what was received:
// the parked ones are purged when they return.
void Flow::Impl::acknowledge() {
  if (!is_streaming()) return;
  for (const auto& [stream, received] : received_) {
    std::uint64_t least = received;
    for (const Entry& entry : lanes_) {
      if (entry.lane->is_parked()) continue;
      const auto& recorded = entry.lane->ledger().recorded();
      const auto found = recorded.find(stream);
      least = std::min(least, found == recorded.end() ? 0 : found->second);
    }
    std::uint64_t& told = acknowledged_[stream];
    if (least <= told) continue;
    told = least;
    source_.acknowledge({stream, least});
  }
}

// What lies between its own record and the end of the log: of all that the slot keeps, parking it would free that.
std::uint64_t Flow::Impl::wal_kept_for(const Lane& lane, std::uint64_t lag_bytes) const {
  std::uint64_t ahead = 0;
  for (const auto& [stream, recorded] : lane.ledger().recorded()) {
    const auto told = acknowledged_.find(stream);
    if (told != acknowledged_.end() && recorded > told->second) ahead = std::max(ahead, recorded - told->second);
  }
  return lag_bytes - std::min(lag_bytes, ahead);
}

std::map<std::string, std::uint64_t> Flow::Impl::told_by_name() const {
  std::map<std::string, std::uint64_t> told;
  for (const auto& [stream, position] : acknowledged_) told[source_.stream_name(stream)] = position;
  return told;
}

bool Flow::Impl::waits_for_visibility() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Entry& entry) { return entry.lane->waits_for_visibility(); });
}

// ---------------------------------------------------------------- From outside

void Flow::Impl::wait_for(Waiting& waiting, Now now) {
  now_ = now;
  if (stage_ != Stage::kWaitingForCache) source_.wait_for(waiting, wants_data());
  for (Entry& entry : lanes_) {
    entry.lane->wait_for(waiting, now, surroundings());
    if (entry.full_since) waiting.wake_at(*entry.full_since + kFullMax);
    if (entry.lane->is_behind() && entry.lane->is_connected() && redelivered_at_ != SteadyTime::min()) {
      waiting.wake_at(std::max(redelivered_at_ + kRedeliveryInterval, now.steady + 100ms));
    }
  }
  if (is_streaming()) waiting.wake_at(lookups_.wake_at());
  if (!intake_.empty()) waiting.wake_at(batch_due());
  if (is_streaming()) waiting.wake_at(intake_.next_snapshot(waits_for_visibility(), now.steady));
  if (stopping_) waiting.wake_at(now.steady + 20ms);
}

void Flow::Impl::reload(RuleSet rules, Now now) {
  now_ = now;
  intake_.close(now);
  rules_ = std::make_shared<const RuleSet>(std::move(rules));
  intake_.use(rules_, now);
  lookups_.use(rules_);
  source_.set_tables(rules_->tables());
  for (Entry& entry : lanes_) entry.lane->use(rules_, now);
}

std::optional<Error> Flow::Impl::refusal(const RuleSet& rules) const {
  for (const RuleInfo& rule : rules.rules()) {
    for (const Entry& entry : lanes_) {
      std::optional<Error> refusal = entry.lane->refusal(rule);
      if (!refusal) continue;
      if (lanes_.size() > 1) refusal->text = fmt::format("cache '{}': {}", entry.lane->name(), refusal->text);
      return std::move(*refusal).within(rule.place.to_string());
    }
  }
  return std::nullopt;
}

void Flow::Impl::stop(Now now, SteadyTime until) {
  now_ = now;
  if (stopping_) return;
  stopping_ = true;
  stopping_since_ = now.steady;
  stop_until_ = until;
  // A transaction cut off here is not acknowledged, and so delivered again.
  intake_.cut_off(now);
}

std::optional<std::chrono::microseconds> Flow::Impl::lag(const Lane& lane) const {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  if (stage_ == Stage::kStandby) return std::nullopt;
  const auto since = [&](SteadyTime time) { return duration_cast<microseconds>(std::max(now_.steady - time, SteadyTime::duration(0))); };
  std::optional<SystemTime> oldest = lane.oldest_unapplied();
  if (const auto open = intake_.oldest_open_commit(); open && (!oldest || *open < *oldest)) oldest = open;
  if (const auto looked_up = lookups_.oldest_commit(); looked_up && (!oldest || *looked_up < *oldest)) oldest = looked_up;
  std::optional<microseconds> lag;
  if (oldest) lag = std::max(duration_cast<microseconds>(now_.system - *oldest), microseconds(0));
  const bool is_current = is_streaming() && is_caught_up_ && wants_data() && now_.steady - current_at_ <= options_.current_for;
  if (!is_current) lag = std::max(lag.value_or(microseconds(0)), since(current_at_));
  if (const auto lacks = lane.lacks_since()) lag = std::max(lag.value_or(microseconds(0)), since(*lacks));
  return lag.value_or(microseconds(0));
}

FlowStatus Flow::Impl::status() const {
  FlowStatus status;
  status.source_connected = is_streaming();
  status.standby = stage_ == Stage::kStandby;
  status.active = is_streaming();
  status.last_heartbeat = last_heartbeat_;
  if (!acknowledged_.empty()) {
    status.acknowledged = Position{acknowledged_.begin()->first, acknowledged_.begin()->second};
  }
  for (const Entry& entry : lanes_) {
    const Lane& lane = *entry.lane;
    LaneStatus& one = status.lanes.emplace_back();
    one.name = lane.name();
    one.is_connected = lane.is_connected();
    one.is_parked = lane.is_parked();
    one.is_behind = lane.is_behind();
    one.oldest_unapplied_commit = lane.oldest_unapplied();
    if (const auto open = intake_.oldest_open_commit(); open && !one.oldest_unapplied_commit) {
      one.oldest_unapplied_commit = open;
    }
    one.lag = lag(lane);
    one.last_applied_commit = lane.last_applied();
    one.held_transactions = lane.held_transactions() + intake_.open_transactions();
    one.held_bytes = lane.held_bytes() + intake_.bytes();
    // While another process works, repairs are its concern, and what is on record here is out of date.
    if (!status.standby) one.gaps = lane.gap_reasons();
    one.not_ready = lane.not_ready();
    if (!one.gaps.empty()) one.not_ready.push_back(fmt::format("gap not repaired yet: {}", fmt::join(one.gaps, ", ")));
    if (lanes_.size() > 1) {
      for (std::string& reason : one.not_ready) reason = fmt::format("cache '{}': {}", lane.name(), reason);
    }
    status.inflight_transactions = std::max(status.inflight_transactions, one.held_transactions);
    status.inflight_bytes = std::max(status.inflight_bytes, one.held_bytes);
    for (const std::string& reason : one.not_ready) status.not_ready.push_back(reason);
  }
  if (status.standby) {
    status.not_ready.push_back("standby: another process holds the slot");
  } else if (!is_streaming()) {
    status.not_ready.push_back(source_lost_.empty() ? "the source is not streaming"
                                                    : "the source is not streaming: " + source_lost_);
  }
  if (const std::string problem = lookups_.problem(); !problem.empty()) {
    status.not_ready.push_back(fmt::format("joined tables cannot be looked up, and whole patterns are purged instead: {}", problem));
  }
  if (const auto problem = source_.status().problem) status.not_ready.push_back(*problem);
  if (stopping_) status.not_ready.push_back("stopping");
  return status;
}

Flow::Flow(RuleSet rules, Source& source, std::vector<LaneSpec> lanes, Observer& observer, FlowOptions options)
    : impl_(std::make_unique<Impl>(std::move(rules), source, std::move(lanes), observer, std::move(options))) {}
Flow::~Flow() = default;
void Flow::start(Now now) { impl_->start(now); }
void Flow::step(Now now) { impl_->step(now); }
void Flow::wait_for(Waiting& waiting, Now now) { impl_->wait_for(waiting, now); }
void Flow::reload(RuleSet rules, Now now) { impl_->reload(std::move(rules), now); }
const RuleSet& Flow::rules() const { return *impl_->rules_; }
std::shared_ptr<const RuleSet> Flow::shared_rules() const { return impl_->rules_; }
std::optional<Error> Flow::refusal(const RuleSet& rules) const { return impl_->refusal(rules); }
void Flow::stop(Now now, SteadyTime until) { impl_->stop(now, until); }
bool Flow::finished() const { return impl_->finished_; }
const std::optional<Error>& Flow::failure() const { return impl_->failure_; }
FlowStatus Flow::status() const { return impl_->status(); }
std::vector<FlowEvent> Flow::take_events() { return impl_->events_.take(); }

}  // namespace evictd
