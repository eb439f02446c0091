// Work: what the pipeline holds between receiving a transaction and acknowledging it. Plain data with small
// invariants; the pipeline moves it along.
//
//   part:   waiting -> under way -> applied -> (settle or renew: waiting -> under way -> ...) -> finished
//             ^___________| lost
//
// A Work is finished when all its parts are, and the purges it depends on.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"
#include "mapping/rules.h"

namespace evictd {

struct Work;

using Timers = std::multimap<SteadyTime, std::pair<Work*, std::uint32_t>>;

enum class PartState : std::uint8_t {
  kWaiting,   // to be submitted
  kUnderWay,  // the sink has it
  kApplied,   // done in Redis; waits for visibility, or for its timer
  kFinished,
};

// One command on its way through its acts.
struct Part {
  const RuleInfo* rule = nullptr;  // kept alive by Work::rules
  InvalidationKind kind = InvalidationKind::kKey;
  Command command;
  PartState state = PartState::kWaiting;
  bool last_renew = false;  // the tombstones outlive the visibility of their transactions after this
  SteadyTime written_at{};  // when the tombstones were last sent to be written
  std::optional<Timers::iterator> timer;
  // Items that a replayed, settled tombstone excuses from the settle.
  std::vector<std::uint32_t> already_settled;
  // Not to be submitted before its transactions are visible: a counter, which readers take as proof that the database
  // shows what it stands for.
  bool waits_for_visibility = false;

  // How long after its transactions became visible the second delete is due (design, "Settle"); 0: there is
  // none. Purges always have one, because no tombstone stands for a key that was not there to be purged: under
  // `fill: checked` they wait for the slowest reader that is promised anything, tombstone_ttl.
  std::chrono::milliseconds settle{0};
  bool settles() const { return settle.count() > 0; }
};

struct Work {
  std::uint64_t id = 0;
  std::uint64_t session = 0;  // of the source connection it was received on; 0: of none (repairs)
  std::shared_ptr<const RuleSet> rules;
  std::vector<Part> parts;
  std::uint32_t unapplied = 0;   // parts (and purges depended on) whose first act is not done yet
  std::uint32_t unfinished = 0;  // parts (and purges depended on) that are not finished
  bool abandoned = false;        // will be delivered again: end it as soon as nothing is under way

  // The transactions in it, in order of arrival, distinct from their neighbours. xids[0, seen) are known
  // to be visible to other sessions.
  std::vector<Xid> xids;
  std::size_t seen = 0;
  std::optional<SteadyTime> visible_at;  // since when at the latest all of them are visible
  // When all of them were known to be in the stream; min(): nothing is known of that, max(): not of all.
  SteadyTime known_since = SteadyTime::min();

  Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
  virtual ~Work() = default;
};

// Consecutive transactions taken together, or a slice of a large one.
struct Batch final : Work {
  std::optional<SystemTime> oldest_commit;
  std::vector<SystemTime> commits;     // of each transaction that ends here; dropped when applied
  std::uint64_t transactions = 0;      // that end here
  std::vector<Position> ends;          // per stream, the last commit in it
  std::size_t bytes = 0;               // counted against PipelineOptions::held_bytes_max
  std::list<std::unique_ptr<Batch>>::iterator place;
};

// The purge of one pattern of one rule, shared by every batch that asks for it while it waits.
struct Purge final : Work {
  std::uint32_t rule = 0;
  std::uint32_t pattern = 0;
  std::vector<std::uint64_t> dependents;  // ids of batches
  std::uint64_t repair = 0;       // the repair it belongs to, or 0
  bool first_done = false;
  bool late = false;  // a repair's last purge, for readers that began before the gap
};

}  // namespace evictd
