// Fills keys of one cache anew, a few at a time, as a checked reader: takes their leases, asks the rule's query for their
// values and a snapshot by one statement, and stores them by evictd_fill. Blocking; for the thread beside the loop, and for
// `evictd warm`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/refresh/cache.h"
#include "daemon/refresh/database.h"
#include "daemon/refresh/queue.h"
#include "mapping/key_shape.h"

namespace evictd {

// What becomes of a key that was deleted. Label values of evictd_refresh_total.
enum class RefreshOutcome : std::uint8_t {
  kFilled,
  kTold,        // added to the rule's stream
  kFresh,       // a reader was faster
  kBusy,        // a reader is at it
  kAbsent,      // the query has no value for it
  kTooLong,     // a value that is left to readers
  kRejected,    // every value that was read had not seen the last invalidation
  kUnreadable,  // the key does not tell its columns
  kFailed,      // the query, or a full Redis
  kDropped,     // no room, or its rule is gone
  kCoalesced,   // it waited already
};
inline constexpr std::size_t kRefreshOutcomes = 11;
std::string_view refresh_outcome_name(RefreshOutcome outcome);

class Refresher {
 public:
  // All must outlive it. `rules` are those of the database.
  Refresher(const RuleSet& rules, RefreshDatabase& database, RefreshCache& cache);

  struct Done {
    std::vector<RefreshOutcome> outcomes;  // one for each key
    // Of those that kRejected and kBusy stand for, which may be tried again; empty: none.
    std::vector<bool> may_try_again;
    std::string problem;          // of the query or the cache, for a person; empty: none
    bool is_query_wrong = false;  // it will answer no other key either, before something is changed
    bool is_slow = false;         // it did not answer in time
    bool is_full = false;         // the cache took no value
  };
  // An error: the connection to the database or to the cache is gone; nothing is known of these keys.
  Result<Done> work(std::uint32_t rule, const std::vector<std::string>& keys);

  // Longer than the query may take: readers wait for us, or have the old value.
  static constexpr std::chrono::milliseconds kLease{4'000};

 private:
  Result<void> ask(std::uint32_t rule, const std::vector<std::string>& keys, const std::vector<std::size_t>& wanted,
                   const std::vector<std::string>& leases, Done& done);

  const RuleSet& rules_;
  RefreshDatabase& database_;
  RefreshCache& cache_;
};

}  // namespace evictd
