// What a lane holds of a batch or of a purge: its progress. For the inside of lane*.cpp.
#pragma once

#include "daemon/flow/lane.h"

namespace evictd {

// One order on its way through its acts.
struct Lane::Part {
  const RuleInfo* rule = nullptr;  // kept alive by Work::rules; null: a walk of patterns
  InvalidationKind kind = InvalidationKind::kKey;
  Target target = Target::kKeys;
  const Texts* texts = nullptr;  // the batch's
  Act act = Act::kInvalidate;
  bool is_settle = false;  // see Order
  PartState state = PartState::kWaiting;
  bool is_renewal = false;  // what the timer of a purge is for: a walk that leaves its tombstones anew, before the second one
  bool last_renew = false;  // the tombstones outlive the visibility of their transactions after this
  SteadyTime wanted_since{};  // kWaiting, kUnderWay: since when the cache owes it
  SteadyTime written_at{};  // when the tombstones were last sent to be written
  std::optional<Owed::iterator> owed;  // its place among what the cache owes
  std::optional<Timers::iterator> timer;
  std::optional<Gated::iterator> gated;  // the timer is over, and the lanes before this one are not done
  bool waits_to_settle() const { return timer || gated; }
  // Not to be submitted before its transactions are visible: a counter, which readers take as proof that the database
  // shows what it stands for.
  bool waits_for_visibility = false;
  // How long after its transactions became visible the second delete is due; 0: there is none. Purges always have one,
  // because no tombstone stands for a key that was not there to be purged: under `fill: checked` they wait for the
  // slowest reader that is promised anything, tombstone_ttl.
  std::chrono::milliseconds settle{0};
  bool settles() const { return settle.count() > 0; }
  // What was visible by then has had its delete, or its second one, late enough. Where it settles.
  SteadyTime settled_for = SteadyTime::min();
  // Of its transactions that became visible in part, while others hang: since when the first of those whose second delete
  // may still be owed.
  SteadyTime partly_since = SteadyTime::min();
};

struct Lane::Work {
  std::uint64_t id = 0;
  std::shared_ptr<const RuleSet> rules;
  std::vector<Part> parts;
  std::uint32_t unapplied = 0;   // parts (and purges depended on) whose first act is not done yet
  std::uint32_t held = 0;        // of these, parts that wait for visibility: the cache does not owe them
  std::uint32_t unfinished = 0;  // parts (and purges depended on) that are not finished
  bool abandoned = false;        // will be delivered again, or purged: ends as soon as nothing of it is under way
  std::optional<SteadyTime> visible_at;  // since when at the latest all its transactions are visible
  std::optional<SteadyTime> partly_at;   // before that: since when the latest of those that are

  Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
  virtual ~Work() = default;
  virtual BatchWork* as_batch() { return nullptr; }
  virtual PurgeWork* as_purge() { return nullptr; }
};

struct Lane::BatchWork final : Work {
  std::shared_ptr<const Batch> batch;  // null when finished
  std::uint64_t number = 0;
  std::uint64_t session = 0;
  bool begun = false;  // false: waits for the lanes before this one
  // What it waits for beside its parts, counted in `unfinished`: the look-up itself, and each batch of what was found.
  std::uint32_t holds = 0;
  std::uint32_t unsettled = 0;   // parts, and purges it depends on, whose second delete is not done for its transactions
  // Of an edge: the lanes before it that have not done the batch's second delete, a bit for each place in LaneSpec::after;
  // since when the last of them has; and whether one of them gave it up.
  std::uint64_t unsettled_before = 0;
  SteadyTime settled_before_at = SteadyTime::min();
  bool is_lost_before = false;
  std::size_t found_bytes = 0;  // counted in Lane::found_bytes_
  std::uint64_t found_for = 0;  // made of what was looked up for the batch of this number; 0: none
  bool is_incomplete = false;   // something found for it was given up: it does not go on record
  std::vector<PatternRef> purges;  // to be asked for when it begins; counted in unapplied and unfinished
  std::vector<std::uint64_t> purge_ids;  // that were asked for; some may be over
  bool is_replay = false;          // was applied before, see Lane::take(): of plain rules, only the settle is owed
  std::size_t bytes = 0;
  std::uint64_t transactions = 0;
  std::vector<Position> ends;
  SteadyTime taken_at{};
  Batches::iterator place;
  BatchWork* as_batch() override { return this; }
};

// The walk of one pattern of one rule, shared by every batch that asks for it while it waits.
struct Lane::PurgeWork final : Work {
  PatternRef ref;
  std::vector<Xid> xids;       // of all who asked, see name_transactions(); sorted when sent
  bool is_unconditional = false;  // they are too many: `floor` is the newest
  Xid floor{};
  // Ids of batches. None is finished before the purge is, given up or not. They may be all that the lane holds: walked where
  // the purge itself comes to something, never for one of them.
  std::vector<std::uint64_t> dependents;
  std::size_t invisible = 0;              // of these, those that are not visible
  SteadyTime latest_visible_at = SteadyTime::min();  // of the others
  std::set<std::uint64_t> settled;        // of these, while others hang: those who have had their second delete
  // Of an edge: so many dependents had their second delete in the lanes before it, the last of them then.
  std::size_t settled_before = 0;
  SteadyTime settled_before_at = SteadyTime::min();
  bool first_done = false;
  SteadyTime held_until{};  // while is_held()
  // Its walk waits for the rule's `purge_every`.
  bool is_held() const { return parts[0].state == PartState::kWaiting && parts[0].timer; }
  PurgeWork* as_purge() override { return this; }
};

}  // namespace evictd
