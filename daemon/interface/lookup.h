// A lookup: what a source with a database is asked about rows of other tables (rules with `via:`, mapping/via.h). It is asked
// once a change is visible, beside the stream and never inside it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/waiting.h"
#include "mapping/change.h"
#include "mapping/rules.h"

namespace evictd {

struct LookupRequest {
  std::uint64_t number = 0;  // in the answer again
  std::shared_ptr<const RuleSet> rules;
  std::uint32_t rule = 0;    // rules->rules()[rule].lookups[lookup]
  std::uint32_t lookup = 0;
  // For each column that the lookup begins with, its values as the stream sent them; all lists have the same length. At
  // most kLookupItemsMax.
  std::vector<std::vector<std::string>> values;
};
inline constexpr std::size_t kLookupItemsMax = 1000;

// Every request has one answer, within a bound of the source's own; none when the connection of the source ends before.
struct LookupAnswer {
  enum class Outcome : std::uint8_t {
    kFound,
    kTooMuch,  // the rows are more than one answer should hold: asked for less, it may do
    kFailed,   // `problem` says why
  };
  struct Row {
    std::uint32_t item = 0;  // of the values, from 0
    std::vector<std::optional<std::string>> values;  // of `found`; none: NULL
  };
  std::uint64_t number = 0;
  Outcome outcome = Outcome::kFailed;
  std::string problem;
  Relation found;  // its columns: those of the lookup, with their types
  std::vector<Row> rows;  // of one item at most the rule's fan_out and one more
};

// Asks a PostgreSQL that is not the stream itself: for the Kafka source. Implemented by whoever wires the parts over the
// postgres room. All calls come from the loop thread; nothing blocks; it connects by itself when there is something to ask.
class LookupSession {
 public:
  virtual ~LookupSession() = default;
  // REQUIRES: nothing asked that is neither answered nor forgotten.
  virtual void ask(LookupRequest request, Now now) = 0;
  // What was asked has no answer any more.
  virtual void forget() = 0;
  virtual void step(Now now) = 0;
  virtual void wait_for(Waiting& waiting) const = 0;
  // The answer, once.
  virtual std::optional<LookupAnswer> take() = 0;
};

}  // namespace evictd
