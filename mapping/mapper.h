// The mapper: one change in, the invalidations it causes out. Pure: no I/O, clock, thread or log.
//
// A Mapper holds, per Relation it has seen, the rules bound to column positions, so that a change
// is mapped without looking anything up by name and without allocating. Not thread-safe; one per
// pipeline.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "mapping/change.h"
#include "mapping/rules.h"

namespace evictd {

// Why a rule could not be rendered for a change. Label values of evictd_unmappable_changes_total.
enum class UnmappableReason : std::uint8_t {
  kNotSent,  // the value is not in the replica identity
  kUnchangedToast,
  kMissingColumn,  // the table no longer has the column
  kBadValue,       // not what the template expects of it (a JSON path into invalid JSON, a filter's
                   // input)
  kTooLong,        // the rendered key would pass kKeyBytesMax
  kReserved,       // the key would be one of evictd's own
  kNoVector,       // of an order by similarity: NULL, not sent, or no vector
};
std::string_view unmappable_reason_name(UnmappableReason reason);
// The value exists and is unknown, so `on_missing` decides. Of the other reasons the value is there and gives no key that
// anybody could have: it is counted, and nothing follows, for otherwise whoever writes a value could purge everybody's keys.
bool is_not_sent(UnmappableReason reason);

// What kept a rule from acting.
struct HeldBack {
  enum class Why : std::uint8_t {
    kOperation,    // `on` does not name it
    kUnchanged,    // of when_changed, or of all columns but ignore_changed: none changed
    kWhere,        // neither row matches; `column` and `value` are those of the first condition that fails, in the newest row
    kCrosses,      // `column` stays on one side of its bound
    kNull,         // a template needs `column`, and that is NULL: there is no such key
  };
  Why why = Why::kOperation;
  std::string_view column;
  std::optional<std::string_view> value;  // the canonical text; nothing: NULL
};

// Receives what a change invalidates. Texts are valid only during the call.
class InvalidationReceiver {
 public:
  virtual ~InvalidationReceiver() = default;
  virtual void key(std::uint32_t rule, std::string_view key) = 0;
  virtual void tag(std::uint32_t rule, std::string_view tag) = 0;
  // A namespace counter is to be raised, once for this transaction.
  virtual void bump(std::uint32_t rule, std::string_view counter) = 0;
  // A name of responses at an edge.
  virtual void surrogate_key(std::uint32_t rule, std::string_view key) = 0;
  // An order to a semantic cache (semantic.h).
  virtual void semantic(std::uint32_t rule, std::string_view order) = 0;
  // Of a rule with a version column, before its invalidations: what a fill of these keys has to reach. Empty
  // when the change does not tell (not sent, NULL, no version, not newer than before): nothing proves a fill then.
  virtual void row_version(std::uint32_t rule, std::string_view version) = 0;
  // Everything that matches rules()[rule].patterns[pattern] must go: the rule asks for it (purge:),
  // the table was truncated (called once per pattern), or on_missing: purge applies to that
  // template.
  virtual void purge(std::uint32_t rule, std::uint32_t pattern) = 0;
  // At most twice per template and change: once for what was not sent, once for what cannot be used. With a reason that
  // is_not_sent() the rule's on_missing decides: for `purge`, purge() is then called as well (with kNoVector: semantic(), for
  // `where` tells what may be meant).
  virtual void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) = 0;
  // rules()[rule].lookups[lookup] has to be looked up with these values, as the source sent them; what is found is rendered by
  // map_found(). May be called twice for the same values. The default is for those who only tell.
  virtual void lookup(std::uint32_t, std::uint32_t, std::span<const std::string_view>) {}
  // Why a rule of the table, or one template of it, does nothing: for those who explain it to a person.
  virtual void held_back(std::uint32_t, const HeldBack&) {}
};

class Mapper {
 public:
  // `rules` must outlive the mapper.
  explicit Mapper(const RuleSet& rules);
  ~Mapper();

  // True when some rule names the relation's table. Cheap after the first call for a Relation.
  bool is_mapped(const Relation& relation);

  // Calls `receiver` once for each distinct invalidation of this change (arrays of thousands of elements apart, which may
  // name some twice): for an update, the union of those of the old and of the new row. Never renders a key or tag from a value that was not
  // sent.
  void map(const Change& change, InvalidationReceiver& receiver);

  // What a lookup found: the templates that it renders, from each row. `found` has its columns and must live until the
  // last map_found() of it.
  void bind_found(std::uint32_t rule, std::uint32_t lookup, const Relation& found);
  void map_found(std::span<const Value> row, InvalidationReceiver& receiver);

  // Forgets a Relation that the source is about to destroy.
  void forget(const Relation& relation);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
