// The intake: turns the stream into batches, once, whatever the number of lanes. Owns the mapper, the batch that is being
// gathered, and what is known of the visibility of transactions. Knows nothing of caches, records or acknowledgements.
//
//   change ──► mapper ──► builder ──close()──► Batch ──► out.on_batch() ──► every lane
//   snapshot ─────────────────────────────────────────► out.on_visible() ─┘
//
// One thread; out's functions are called from inside the calls made here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/flow/batch_builder.h"
#include "daemon/flow/events.h"
#include "daemon/flow/visibility.h"
#include "daemon/interface/observer.h"
#include "daemon/interface/source.h"
#include "mapping/mapper.h"

namespace evictd {

class IntakeOut {
 public:
  virtual ~IntakeOut() = default;
  // `visible_at`: since when at the latest all its transactions are visible; absent: on_visible() tells.
  virtual void on_batch(std::shared_ptr<const Batch> batch, std::optional<SteadyTime> visible_at) = 0;
  virtual void on_visible(std::uint64_t number, SteadyTime since) = 0;
  // More of its transactions are visible than before, and others are not: one that hangs must not keep the rest from
  // their second deletes (G4).
  virtual void on_partly_visible(std::uint64_t number, SteadyTime since) = 0;
  // What had to wait for that, of those that are visible, as a batch of its own: that of number `of` hangs on. It does the same
  // once more when it is visible itself, but for lookups that were for these alone.
  virtual void on_ahead(std::shared_ptr<const Batch> ahead, SteadyTime visible_at, std::uint64_t of) = 0;
  // A rule says `on_missing: stop`, and its value was not sent.
  virtual void on_unmappable_stop(const Error& error) = 0;
};

struct IntakeOptions {
  std::size_t batch_items_max = 2048;
  std::size_t batch_bytes_max = 1024 * 1024;
  std::chrono::milliseconds snapshot_interval{10};
};

class Intake final : private InvalidationReceiver {
 public:
  // Everything passed by reference must outlive the intake.
  Intake(std::shared_ptr<const RuleSet> rules, Observer& observer, FlowEvents& events, IntakeOut& out,
         IntakeOptions options);

  // From the next change on. Closes the batch of the old rules.
  void use(std::shared_ptr<const RuleSet> rules, Now now);

  // A new connection: its transactions are of `session`; nothing known of visibility holds any more.
  void connected(std::uint64_t session, bool has_snapshots, Now now);
  // The transaction under way is cut off: what was mapped of it leaves, nothing of it ends.
  void cut_off(Now now);

  // The source's words, see SourceHandler.
  void begin(const TransactionBegin& begin, Now now);
  void change(const Change& change, Now now);
  void unknown_change(const UnknownChange& change, Now now);
  void commit(const Position& end, Now now);
  void relation_gone(const Relation& relation);
  void snapshot(const Snapshot& snapshot, Now now);

  // Hands over what is gathered, if anything.
  void close(Now now);
  // The number of the next batch: for those that are made of what was looked up.
  std::uint64_t take_number() { return ++last_number_; }
  // Counts what was mapped since the last call.
  void count_changes();

  bool empty() const { return builder_.empty(); }
  bool full() const { return builder_.full(); }
  bool in_transaction() const { return builder_.in_transaction(); }
  // When the first invalidation of the open batch came. REQUIRES: !empty().
  SteadyTime open_since() const { return open_since_; }
  std::size_t bytes() const { return builder_.bytes(); }
  std::optional<SystemTime> oldest_open_commit() const { return builder_.batch().oldest_commit; }
  std::uint64_t open_transactions() const { return builder_.batch().transactions; }

  // Snapshots are asked for only while something waits for one: a batch, or `others`.
  bool wants_snapshot(bool others, SteadyTime now) const;
  void snapshot_requested(SteadyTime now) { visibility_.poll_sent(now); }
  // When wants_snapshot() may become true by the clock alone; max(): never.
  SteadyTime next_snapshot(bool others, SteadyTime now) const;
  bool has_snapshots() const { return visibility_.has_snapshots(); }
  // Of this connection; absent before the first.
  const std::optional<Snapshot>& latest_snapshot() const { return visibility_.latest(); }
  SteadyTime latest_snapshot_asked_at() const { return visibility_.latest_asked_at(); }

 private:
  // InvalidationReceiver
  void key(std::uint32_t rule, std::string_view key) override;
  void tag(std::uint32_t rule, std::string_view tag) override;
  void bump(std::uint32_t rule, std::string_view counter) override;
  void surrogate_key(std::uint32_t rule, std::string_view key) override;
  void semantic(std::uint32_t rule, std::string_view order) override;
  void row_version(std::uint32_t rule, std::string_view version) override;
  void purge(std::uint32_t rule, std::uint32_t pattern) override;
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override;
  void lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) override;

  struct Invisible;
  void send_ahead(Invisible& waiting);
  void make_room();
  void collapse(std::uint32_t rule);

  std::shared_ptr<const RuleSet> rules_;
  Observer& observer_;
  FlowEvents& events_;
  IntakeOut& out_;
  Now now_{};  // of the call under way
  std::unique_ptr<Mapper> mapper_;
  BatchBuilder builder_;
  Visibility visibility_;
  std::uint64_t session_ = 0;
  std::uint64_t last_number_ = 0;
  bool is_alone_ = false;  // the transaction under way gets a batch of its own, see begin()
  SteadyTime open_since_{};

  // Batches not known to be visible, in order of arrival.
  struct Invisible {
    std::shared_ptr<const Batch> batch;
    Visibility::Looked looked;
    SteadyTime closed_at{};
    std::vector<Xid> ahead = {};  // of these all is done, as on_ahead() has it; sorted
    std::size_t hanging = 0;      // so many were not visible when that was looked at
  };
  std::vector<Invisible> invisible_;

  // Keys of each rule in the transaction under way, for collapse_after. Stamped with the transaction's count, so that
  // nothing has to be cleared for each transaction, however many rules there are.
  struct InTransaction {
    std::uint64_t transaction = 0;
    std::uint64_t keys = 0;
    bool is_collapsed = false;
    std::uint64_t semantic = 0;  // orders to indexes of vectors
  };
  std::vector<InTransaction> in_transaction_;
  std::uint64_t transaction_ = 0;
  std::string row_version_;  // of the rule that is being mapped

  // Changes of each table since count_changes(), by Relation::generation.
  struct Counted {
    std::string table;
    std::uint64_t by_operation[4] = {};
    bool is_touched = false;
  };
  std::unordered_map<std::uint64_t, Counted> counts_;
  std::vector<Counted*> touched_;  // of counts_, with something to tell
  // The relation of the last change: nearly always that of the next.
  const Relation* last_relation_ = nullptr;
  bool last_is_mapped_ = false;
  Counted* last_counted_ = nullptr;
};

}  // namespace evictd
