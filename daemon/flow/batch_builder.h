// The batch builder: gathers the invalidations of consecutive changes into a Batch. The same key from many changes is
// one invalidation that carries each of their xids.
//
//   texts:  product:1product:2product:7      one growing string per part
//   table:  hash(product:7) -> part 0, item 2  open addressing, emptied per batch by a generation count
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/flow/batch.h"

namespace evictd {

class BatchBuilder {
 public:
  BatchBuilder(std::size_t items_max, std::size_t bytes_max);

  // The rules of the batches from here on. REQUIRES: empty().
  void use(std::shared_ptr<const RuleSet> rules);

  // `owed_since`: by our clock; none: as the commit says.
  void begin(const TransactionBegin& begin, std::optional<SystemTime> owed_since = {});
  // `row_version`: for keys of a rule with a version column, see Texts::row_versions.
  void add(std::uint32_t rule, InvalidationKind kind, std::string_view text, std::string_view row_version = {});
  void add_purge(std::uint32_t rule, std::uint32_t pattern);
  void add_lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values);
  void commit(const Position& end);
  // The transaction under way was cut off: nothing of it ends here.
  void cut_off() { in_transaction_ = false; }

  bool in_transaction() const { return in_transaction_; }
  bool empty() const { return batch_->xids.empty() && batch_->ends.empty(); }
  // Its table of texts fills up; REQUIRES of add(): not crowded.
  bool crowded() const { return items_ >= kSlots / 2; }
  // As much as one command or the book-keeping of one batch should hold.
  bool full() const;
  std::size_t bytes() const { return bytes_; }
  const Batch& batch() const { return *batch_; }

  // Hands the batch over and starts an empty one. Everything but number and session is filled in.
  std::unique_ptr<Batch> take();

 private:
  struct Slot {
    std::uint32_t generation = 0;
    std::uint32_t part = 0;
    std::uint32_t item = 0;
    Xid last{};  // of the item's transactions
  };
  static constexpr std::size_t kSlots = 8192;  // a power of two, at least twice items_max

  BatchPart& part_for(std::uint32_t rule, InvalidationKind kind, std::uint32_t& index);
  void note_xid();

  std::size_t items_max_;
  std::size_t bytes_max_;
  std::shared_ptr<const RuleSet> rules_;
  std::unique_ptr<Batch> batch_;
  // Per part: transactions of an item beyond its first, as (item, xid); merged by take().
  std::vector<std::vector<std::pair<std::uint32_t, Xid>>> further_xids_;
  std::vector<Slot> slots_;
  struct PartOf {
    std::uint32_t generation = 0;
    std::uint32_t part = 0;
  };
  std::vector<PartOf> part_of_;  // [rule * kKinds + key, tag, bump, surrogate or semantic], of this generation; else none yet
  std::uint32_t generation_ = 1;
  std::size_t items_ = 0;
  std::size_t raises_ = 0;  // of counters by further transactions
  std::size_t bytes_ = 0;
  TransactionBegin current_{};
  SystemTime owed_since_{};
  bool in_transaction_ = false;
  // What of the current transaction is in the batch.
  bool has_direct_ = false;
  bool has_lookup_ = false;
  std::unordered_map<std::string, std::pair<std::size_t, std::size_t>> lookup_items_;  // framed -> lookup, item
  bool is_carried_ = false;  // something direct of the current transaction is in an earlier batch
  bool noted_ = false;  // the current transaction's xid is in the batch
};

}  // namespace evictd
