// A batch: what the source said in a row, mapped once and never changed afterwards; every lane reads the same one.
// Consecutive transactions taken together, or a slice of a large one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/sink.h"
#include "daemon/interface/source.h"
#include "mapping/rules.h"

namespace evictd {

// The keys, tags or counters of one rule.
struct BatchPart {
  std::uint32_t rule = 0;  // in Batch::rules
  InvalidationKind kind = InvalidationKind::kKey;
  Texts texts;
};

// What has to be looked up for one rule, once every transaction of it is visible.
struct BatchLookup {
  std::uint32_t rule = 0;    // in Batch::rules
  std::uint32_t lookup = 0;  // in RuleInfo::lookups
  struct Item {
    std::vector<std::string> values;
    std::vector<Xid> xids;
  };
  std::vector<Item> items;  // distinct by their values
};

struct Batch {
  std::uint64_t number = 0;   // 1, 2, 3 ... in order of arrival, over all connections
  std::uint64_t session = 0;  // of the source connection it was received on
  std::shared_ptr<const RuleSet> rules;
  std::vector<BatchPart> parts;
  // Patterns asked for, each once: (rule, index in its patterns).
  std::vector<std::pair<std::uint32_t, std::uint32_t>> purges;

  // Keys of joined tables, which come as batches of their own (lookups.h); this one is not finished before they are.
  std::vector<BatchLookup> lookups;
  std::vector<SystemTime> lookup_commits;  // as `commits`, of transactions that have something in `lookups`

  // The transactions in it, in order of arrival, distinct from their neighbours.
  std::vector<Xid> xids;
  // When all of them were known to be in the stream; min(): nothing is known of that, max(): not of all.
  SteadyTime known_since = SteadyTime::min();
  std::optional<SystemTime> oldest_commit;  // never from the future of when it came: what lag is measured by
  std::vector<SystemTime> commits;   // of each transaction that ends here and has something in `parts` or `purges`
  // Of the transaction that began in an earlier batch and ends here, with nothing in `parts` or `purges` of this one.
  std::optional<SystemTime> carried_commit;
  std::uint64_t transactions = 0;    // that end here
  std::vector<Position> ends;        // per stream, the last commit in it
  bool is_cut = false;               // its last transaction goes on in the next batch, or was cut off: `ends` does not speak for it
  std::optional<Position> cut_at;    // where that one lies, see TransactionBegin::place; absent: not known
  std::size_t bytes = 0;             // counted against FlowOptions::held_bytes_max, by each lane that holds it
};

// What of a batch waits for its transactions to become visible, its counters and its lookups, of those `visible` alone (sorted): for
// a commit may hang for hours beside others that readers have long seen. Null where they have none. Without a number.
std::unique_ptr<Batch> what_waits(const Batch& batch, const std::vector<Xid>& visible);
// Whether anything of it does.
bool has_what_waits(const Batch& batch);

}  // namespace evictd
