// A lane: what follows one cache. Takes every batch and moves each part of it through the cache's sink. Knows no other lane and no
// source; the flow tells it both. What is known of this cache and on record is its keeper's (record_keeper.h), how far the work may
// pass for done is the prefix's (prefix.h), whose turn it is to walk a pattern, purge_turns.h's.
//
// The life of a batch in a lane:
//
//   take() ─► waits for the lanes it stands behind ─► submitted ─► applied ─► finished ─► on record ─► acknowledged (flow)
//                                                        │            │
//                                                        └── lost ◄───┘ (the connection ended: submitted again)
//
// and of one of its parts, between submitted and finished:
//
//   fill: plain    delete ──► visible? ──► settle after visible ──► delete again ──► finished
//                     ├─ visible for `settle` already when sent: it is its own settle, finished at once
//                     ├─ visible in part: delete again `settle` after that, and wait on
//                     └─ known to be applied (ledger): begins behind the first delete
//   fill: checked  delete + tombstone ──► visible within the tombstone's margin: finished
//                     └─ invisible: renew each half lifetime, once more when visible, finished
//   counters       wait until visible ──► raise ──► finished
//   patterns       one walk at a time for each pattern; batches that ask meanwhile share the next one
//                  fill: checked and visible later than its tombstones are good for: walked again at once, and settled
//
// Applied means that every first act of the batch was answered; lag and latency speak of that moment. Finished means that
// nothing is owed any more; only a contiguous prefix of finished batches goes on record (G1), and one of applied batches,
// which is as far or further: a replay of what is finished owes nothing, one of what is applied only its settle, and that
// under `fill: plain` alone (tombstones know for themselves what was done, G2).
//
// One thread. Every function is bounded; nothing blocks.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/flow/away.h"
#include "daemon/flow/batch.h"
#include "daemon/flow/events.h"
#include "daemon/flow/flow.h"
#include "daemon/flow/purge_turns.h"
#include "daemon/flow/record_keeper.h"
#include "daemon/interface/observer.h"

namespace evictd {

class Lane final : private SinkHandler {
 public:
  using Surroundings = RecordKeeper::Surroundings;

  // Everything passed by reference must outlive the lane.
  Lane(LaneSpec spec, const Source& source, Observer& observer, CacheEvents events, const FlowOptions& options,
       std::shared_ptr<const RuleSet> rules);
  ~Lane() override;

  const std::string& name() const { return spec_.name; }
  const LaneSpec& spec() const { return spec_; }

  void start(Now now);
  // What the sink has to say, and timers that are due.
  void step(Now now);
  // Repairs, orders and records that can leave now.
  void work(Now now, const Surroundings& surroundings);
  void wait_for(Waiting& waiting, Now now, const Surroundings& surroundings);
  void stop_sink() { spec_.sink->stop(); }

  // ---- Rules.
  void use(std::shared_ptr<const RuleSet> rules, Now now);
  // Why this cache cannot serve the rule, or one of those in use (Sink::refusal).
  std::optional<Error> refusal(const RuleInfo& rule) const;
  bool is_refused() const { return spec_.sink->refusal(keeper_.rules().needs()).has_value(); }

  // ---- The source's connection.
  // What the source found. Judged against this cache's record when that has been read anew (or the cache is there). Gaps
  // are opened and go on record.
  void judge(const SourceFacts& facts, Now now);
  // Everything found is on record: the source may go on, as far as this cache is concerned.
  bool is_judged() const { return keeper_.is_judged(); }
  bool is_judging() const { return keeper_.is_judging(); }
  // Streaming began. What is applied and visible keeps its settle, which is due sooner than that of its redelivery (G4);
  // the rest is left to the redelivery. `starts_anew`: see Ledger::streaming.
  void source_connected(const SourceConnected& connected, std::uint64_t session, Now now);
  void source_gap(const Gap& gap, Now now);
  void source_tables(const std::map<std::string, std::string>& tables) { keeper_.source_tables(tables); }
  void source_streams(const std::map<std::string, std::uint64_t>& begins) { keeper_.source_streams(begins); }
  // We do not hold the source, or not for certain: another process may.
  void release() { keeper_.release(); }

  // ---- Batches.
  void take(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at, Now now);
  // A batch of what was looked up for batch `of`, which is not finished before this one is.
  void take_found(std::shared_ptr<const Batch> found, SteadyTime visible_at, std::uint64_t of, Now now);
  // Everything that was to be looked up for it has been taken.
  void looked_up(std::uint64_t of, Now now);
  void became_visible(std::uint64_t number, SteadyTime since, Now now);
  // Some of it, and more than before.
  void became_partly_visible(std::uint64_t number, SteadyTime since, Now now);
  void snapshot(const Snapshot& snapshot, Now now);
  // Nothing of this connection is still to come up to there; counts only when nothing of it is in hand.
  void keepalive(const Position& position);
  // The lanes it stands behind have applied all batches up to this number.
  void release_through(std::uint64_t number, Now now);
  // All batches up to this number are applied here, or are no concern of those who stand behind this lane.
  std::uint64_t applied_through() const;

  // ---- Second deletes, for those who stand behind this lane, batch by batch: one that waits for a commit which hangs holds
  // up no other.
  struct Settled {
    std::uint64_t number = 0;
    bool is_whole = true;  // false: given up. It comes again, or a purge answers for it
  };
  // Kept from now on.
  void set_followed() { is_followed_ = true; }
  // Batches whose second deletes were done since the last call, and those that were given up before.
  std::vector<Settled> take_settled() { return std::exchange(settled_, {}); }
  // The same of a lane that this one stands behind, by its place in LaneSpec::after. A second purge here waits for the second
  // delete of its batch in each of them, and origin_time longer.
  void settled_before(std::size_t place, const Settled& settled, Now now);
  // One that is parked holds nothing up: a purge follows its return.
  void parked_before(std::size_t place, bool is_parked, Now now);

  // ---- Room, falling behind, parking.
  bool is_full() const { return held_bytes_ >= options_.held_bytes_max; }
  // What was found by lookups and is not finished may be as much again as the changes that they are for, and no more.
  bool has_room_for_found() const { return found_bytes_ < options_.held_bytes_max; }
  bool is_busy() const;  // first acts wait for room in the sink
  // Whether the sink has few orders under way: what is gathered should leave at once.
  bool is_idle() const { return tickets_.size() < 2; }
  bool has_room() const { return spec_.sink->has_room(Urgency::kPrompt); }
  bool has_unapplied() const { return !unapplied_.empty(); }
  // Nothing is in hand any more, and what was finished is on record.
  bool has_nothing_in_hand() const { return !giving_up_ && works_.empty() && batches_.empty() && ledger().is_all_recorded(); }
  // Drops what is not under way, but for the oldest batch where the cache is at it: it will be asked for again
  // (wants_redelivery) when the cache can take it.
  void fall_behind();
  bool is_behind() const { return is_behind_; }
  // Forgets everything: the cache no longer holds the database up, and is purged when it returns.
  void park(std::string why);
  bool is_parked() const { return is_parked_; }
  // A parked cache may return when it is connected and owes no answer: one that stands still is connected for a while.
  bool may_come_back() const { return is_parked_ && is_connected_ && tickets_.empty() && !repair_ticket_; }
  // A parked cache returns: what it missed is a gap. `confirmed`: by stream name, what was told to the
  // source meanwhile.
  void come_back(const std::map<std::string, std::uint64_t>& confirmed, Now now);
  // The source has to send again what is not on record here. Cleared by the question.
  bool take_wants_redelivery() { return keeper_.take_wants_redelivery(); }

  // ---- What others may know.
  bool is_connected() const { return is_connected_; }
  bool was_connected() const { return was_connected_; }
  const Ledger& ledger() const { return keeper_.ledger(); }
  bool waits_for_visibility() const { return keeper_.waits_for_visibility(); }
  std::optional<SystemTime> oldest_unapplied() const;
  // Since when it may lack what oldest_unapplied() does not tell: since the process began until its record was judged;
  // while it is parked or behind, and until what it missed then was sent again or purged. Absent: it lacks nothing else.
  std::optional<SteadyTime> lacks_since() const { return lacks_since_; }
  // Everything there is was received in this connection: it lacks nothing else any more, if it is followed.
  void everything_is_received();
  std::optional<SystemTime> last_applied() const { return last_applied_commit_; }
  // Since when the cache owes an answer; absent: it owes none.
  std::optional<SteadyTime> waiting_since() const;
  // What is on record waits for replicas to confirm it. It owes nobody an answer, and yet the source keeps what it sent.
  bool lacks_replicas() const { return lacks_replicas_; }
  // Nothing of what it holds comes to an end before `until`.
  bool is_drained(SteadyTime until) const;
  std::uint64_t held_transactions() const { return held_transactions_; }
  std::uint64_t held_bytes() const { return held_bytes_; }
  std::set<std::string> gap_reasons() const { return keeper_.gap_reasons(); }
  // Why, but for gaps.
  std::vector<std::string> not_ready() const;
  const std::optional<Error>& failure() const { return failure_; }
  // Repairs that became over since the last call: whoever stands behind this lane has to be purged again.
  bool take_repaired() { return keeper_.take_repaired(); }
  // See RecordKeeper::set_beside_others().
  void set_beside_others() { keeper_.set_beside_others(); }
  const std::set<std::string>& repaired_gaps() const { return keeper_.repaired_gaps(); }
  void close_repaired_gaps() { keeper_.close_repaired_gaps(); }
  std::optional<RecordKeeper::ForAll> take_for_all() { return keeper_.take_for_all(); }
  void hear(const RecordKeeper::ForAll& told, Now now);
  bool has_untold(const std::string& gap) const { return !is_parked_ && keeper_.has_untold(gap); }
  void purge_after(const std::string& reason, Now now);

 private:
  struct Work;
  struct BatchWork;
  struct PurgeWork;
  using Timers = std::multimap<SteadyTime, std::pair<Work*, std::uint32_t>>;
  using Owed = std::multiset<SteadyTime>;
  using Gated = std::multimap<std::uint64_t, std::pair<Work*, std::uint32_t>>;  // by batch
  enum class PartState : std::uint8_t {
    kWaiting,   // to be submitted, or for those before it
    kUnderWay,  // the sink has it
    kApplied,   // done in the cache; waits for visibility, or for its timer
    kFinished,
  };
  struct Part;
  using Batches = std::list<std::unique_ptr<BatchWork>>;
  struct OrderOf {
    std::uint64_t work = 0;
    std::uint32_t part = 0;
  };

  // What the cache says, and what the source's connection comes to: lane_connections.cpp.
  void on_sink_connected(const SinkConnected& connected) override;
  void on_sink_disconnected(const Error& error, std::string_view error_class) override;
  void on_sink_refused(const Error& error) override;
  void on_sink_failed(const Error& error) override;
  void on_sink_trouble(const Error& error, std::string_view error_class) override;
  void on_done(Ticket ticket, const Outcome& outcome) override;
  void on_lost(Ticket ticket) override;
  void on_replicas_missing(const std::optional<Error>& error) override;
  void on_record_saved(std::uint64_t sequence) override;
  void on_record_confirmed(std::uint64_t sequence) override;
  void on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) override;

  // Batches: lane.cpp.
  void work_repairs(const Surroundings& surroundings);
  void note_applied();
  bool hold(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at);  // whether some part or purge of it acts here
  void begin_batch(BatchWork& work);
  void enqueue(Work& work, std::uint32_t part);
  void owe(Part& part);
  void owe_no_more(Part& part);
  bool owes_what_was_refused() const;
  bool submit_one(std::deque<OrderOf>& ready, Urgency urgency);  // the next that still waits; whether there was one, and room
  void first_act_done(Work& work, std::uint32_t part);
  void now_visible(Work& work, SteadyTime since);
  void now_partly_visible(Work& work, SteadyTime since);
  void wait_for_settle(Work& work, std::uint32_t part);
  bool owes_renewal(Work& work, const Part& part) const;
  void wait_for_timer(Work& work, std::uint32_t part, SteadyTime due);
  void run_timers();
  void tell_absence();
  void settle(Work& work, std::uint32_t part);
  void finish_part(Work& work, std::uint32_t part);
  void first_acts_left(Work& work, std::uint32_t left);
  void applied(Work& work);
  void tell_latency(SystemTime commit);
  void finished(Work& work);
  void batch_finished(BatchWork& batch);
  void let_go(std::uint64_t number, bool is_whole);
  void merge_into(BatchWork& batch, Batches::iterator earlier);
  void pop_finished();
  // Batches have even ids, see take(); purges odd ones.
  static bool is_purge_id(std::uint64_t id) { return id % 2 == 1; }
  void note_lack();

  // Purges that batches ask for: lane_purges.cpp.
  static bool leaves_nothing(const PatternRef& ref);
  void request_purge(const PatternRef& ref, BatchWork& dependent);
  void share(PurgeWork& purge, BatchWork& dependent);
  static void name_transactions(PurgeWork& purge, const std::vector<Xid>& xids);
  static void sort_transactions(PurgeWork& purge);
  void start_purge(PurgeWork& purge);
  void release_held_purges();
  void prepare_purge(PurgeWork& purge);
  void dependent_visible(PurgeWork& purge, SteadyTime since);
  void purge_first_act_done(PurgeWork& purge);
  bool leaves_tombstones(const PurgeWork& purge) const;
  void purge_settled(PurgeWork& purge, SteadyTime settled_for);
  void purge_finished(PurgeWork& purge);

  // The lanes before this one and behind it: lane_neighbours.cpp.
  struct Gate {
    std::uint64_t waits_for = 0;  // the batch whose second delete before this lane is not done; 0: all are
    SteadyTime open_at = SteadyTime::min();
  };
  Gate settle_gate(Work& work);
  void open_settle_gate(BatchWork& batch);
  bool is_lost_before(Work& work) const;
  void note_settled(BatchWork& batch, std::uint32_t parts);

  // What is given up: lane_giving_up.cpp.
  void abandon(Work& work);
  void abandon_with_purges(BatchWork& batch);
  void abandon_all(bool keep_settles);
  void give_up(Work& work, bool keep_settles);
  void give_up_some();
  void settle_for_kept(PurgeWork& purge);
  const BatchWork* batch_in_work() const;

  const LaneSpec spec_;
  const bool is_edge_;  // see SinkTraits
  Observer& observer_;
  CacheEvents events_;
  const FlowOptions options_;
  Now now_{};

  RecordKeeper keeper_;

  // Held work.
  Batches batches_;                                         // in order of arrival
  std::unordered_map<std::uint64_t, Work*> works_;          // by id: batches and purges that are not finished
  std::map<std::uint64_t, std::unique_ptr<PurgeWork>> purges_;
  std::unordered_map<std::uint64_t, BatchWork*> invisible_; // by number
  std::unordered_map<std::uint64_t, BatchWork*> held_;      // by number: those that wait for what is looked up
  std::vector<std::unique_ptr<Work>> graveyard_;            // ended; destroyed at the end of the step
  std::map<std::uint64_t, std::optional<SystemTime>> unapplied_;  // batch number -> oldest commit
  PurgeTurns purge_turns_;
  std::size_t held_bytes_ = 0;
  std::size_t found_bytes_ = 0;  // of these, of what was looked up
  std::uint64_t held_transactions_ = 0;
  std::uint64_t next_purge_ = 1;
  std::uint64_t last_taken_ = 0;      // number of the last batch seen, taken or not
  Timers timers_;
  // Of each order that the cache is asked for or is to be asked for, since when. What waits for the visibility of a
  // transaction, or for a timer, is not the cache's fault.
  Owed owed_;
  // The cache refused what it was asked for, in so many words: until all that it owed then is done, to be connected proves nothing.
  struct Refused {
    std::string why;
    SteadyTime at{};
    bool is_of_record = false;  // a record was under way
  };
  std::optional<Refused> refused_;

  // Falling behind, parking.
  bool is_behind_ = false;
  bool is_parked_ = false;
  std::uint64_t behind_after_ = 0;  // while it is behind: all up to this number are applied, and no more will be
  // What is given up by a cache that falls behind, a piece at each step: batches of these numbers, but for the one in work, then the
  // purges.
  struct GivingUp {
    std::uint64_t next = 0;
    std::uint64_t last = 0;
    std::optional<std::uint64_t> kept_id;  // of the batch in work
  };
  std::optional<GivingUp> giving_up_;
  std::optional<SteadyTime> lacks_since_;

  // Orders: those that wait for room in the sink, and those under way.
  struct Ready {
    std::deque<OrderOf> first;  // first acts
    std::deque<OrderOf> again;  // settles and renewals
    std::deque<OrderOf> bulk;   // walks
  };
  Ready ready_;
  std::unordered_map<Ticket, OrderOf> tickets_;
  std::optional<Ticket> repair_ticket_;
  Ticket next_ticket_ = 1;

  // The lanes that this one stands behind.
  struct Before {
    std::uint64_t gate = UINT64_MAX;    // batches beyond it wait for them
    std::deque<std::uint64_t> unbegun;  // numbers of these, in order; some may be given up
    Gated gated;                        // second purges that are due, and wait for them
    std::uint64_t parked = 0;           // which of them are parked, by their place in LaneSpec::after: a bit for each
  };
  Before before_;
  // Those that stand behind this one.
  bool is_followed_ = false;
  std::vector<Settled> settled_;  // for them

  // The cache.
  bool is_connected_ = false;
  bool lacks_replicas_ = false;
  bool was_connected_ = false;
  Away away_;
  std::optional<SystemTime> last_applied_commit_;
  std::optional<Error> failure_;

  // The source, and the daemon.
  std::uint64_t session_ = 0;  // of the source's connection
  bool is_hurried_ = false;    // stopping
};

}  // namespace evictd
