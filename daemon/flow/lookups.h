// The waiting place of keys of joined tables (`via:`), between the intake and the lanes. A batch that has something to look up
// goes to the lanes at once, and is not finished there before what was found is; here it waits until all its transactions are
// visible, is looked up, and what is found follows as batches of their own, with the transactions that asked for it.
//
//   batch ──► waits for visibility ──► asked, together with others ──► rendered ──► on_found() ... ──► on_looked_up()
//                                             │
//                                             └─► failed, late or too many rows: the patterns of the templates go instead (G5)
//
// Nothing else waits for it: not the other keys of the batch, nor other batches. What is held is bounded by the lanes, which hold
// the same batches; what is found, which may be a thousand keys for each row, by has_room_for_found() and one answer more.
// One question at a time. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/batch_builder.h"
#include "daemon/flow/events.h"
#include "daemon/flow/found_rows.h"
#include "daemon/interface/lookup.h"
#include "daemon/interface/observer.h"
#include "daemon/interface/source.h"
#include "mapping/mapper.h"

namespace evictd {

class LookupsOut {
 public:
  virtual ~LookupsOut() = default;
  // The number of the next batch.
  virtual std::uint64_t take_batch_number() = 0;
  // Some of what was looked up for batch `of`.
  virtual void on_found(std::shared_ptr<const Batch> found, SteadyTime visible_at, std::uint64_t of) = 0;
  // That was all of it.
  virtual void on_looked_up(std::uint64_t of) = 0;
  // A rule says `on_overflow: stop`, and a row led to too many.
  virtual void on_overflow_stop(const Error& error) = 0;
  // False: what was found for others fills the lanes; nothing more is to be asked before some of it is finished.
  virtual bool has_room_for_found() const = 0;
};

class LookupQueue final : private InvalidationReceiver {
 public:
  // Everything passed by reference must outlive it.
  LookupQueue(Source& source, Observer& observer, FlowEvents& events, LookupsOut& out, std::size_t batch_items_max,
              std::size_t batch_bytes_max);

  // Everything is sent again, or purged.
  void forget_all();
  // What is wrong with a lookup that these rules do not have is over.
  void use(const std::shared_ptr<const RuleSet>& rules);
  void take(const std::shared_ptr<const Batch>& batch, std::optional<SteadyTime> visible_at, Now now);
  void became_visible(std::uint64_t number, SteadyTime since, Now now);
  // Of batch `of`, what its visible transactions ask for: not asked again for it when the others are visible.
  void take_ahead(const std::shared_ptr<const Batch>& ahead, SteadyTime visible_at, std::uint64_t of, Now now);
  void answer(const LookupAnswer& answer, Now now);
  // Asks, and gives up what waits for too long.
  void step(Now now);
  SteadyTime wake_at() const;

  bool empty() const { return waiting_.empty(); }
  // Of what is visible and not looked up yet.
  std::optional<SystemTime> oldest_commit() const;
  // Why lookups do not work; empty: they do.
  std::string problem() const { return problems_.empty() ? std::string() : problems_.begin()->second.text; }

 private:
  struct Waiting {
    std::shared_ptr<const Batch> batch;
    std::optional<SteadyTime> visible_at;
    std::size_t pieces_left = 0;
    std::vector<Xid> ahead = {};  // what these asked for, take_ahead() brought; sorted
    bool is_done(const BatchLookup::Item& item) const;
  };
  // Items of one lookup of one batch.
  struct Piece {
    std::uint64_t number = 0;  // of the batch
    const BatchLookup* lookup = nullptr;
    std::size_t begin = 0;
    std::size_t end = 0;
    SteadyTime queued_at{};
  };
  // Of one lookup, until it works: that others do says nothing of it. What is asked again for that, without a change that needs
  // it, is one of the items that had no answer.
  struct Problem {
    std::string text;
    LookupRequest again;
    SteadyTime again_at{};
  };
  using LookupName = std::pair<std::string, std::uint32_t>;  // of a rule, and which of its lookups

  // InvalidationReceiver: what one row renders.
  void key(std::uint32_t rule, std::string_view key) override { add(InvalidationKind::kKey, rule, key); }
  void tag(std::uint32_t rule, std::string_view tag) override { add(InvalidationKind::kTag, rule, tag); }
  void bump(std::uint32_t rule, std::string_view counter) override { add(InvalidationKind::kBump, rule, counter); }
  void semantic(std::uint32_t, std::string_view) override {}  // an order reads its own row alone
  void surrogate_key(std::uint32_t rule, std::string_view key) override { add(InvalidationKind::kSurrogate, rule, key); }
  void row_version(std::uint32_t, std::string_view) override {}
  void purge(std::uint32_t, std::uint32_t) override {}
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override;
  void add(InvalidationKind kind, std::uint32_t rule, std::string_view text);

  void enqueue(Waiting& waiting, Now now);
  void ask(Now now);
  bool is_current(LookupRequest& request) const;
  // True when that is news.
  bool has_failed(LookupRequest request, std::string text, Now now);
  void has_worked(const LookupName& lookup);
  void ask_again(Now now);
  LookupRequest request_of(const Piece& piece) const;
  // `first_item`: the piece's first one, of those of the answer.
  void render(const Piece& piece, const Relation& columns, const FoundRows& found, std::size_t first_item,
              Observer::LookedUp& told);
  void use_rules_of(const Waiting& waiting);
  void give_up(const Piece& piece, Now now);
  void purge_items(const Piece& piece, const std::vector<bool>& which);
  void flush(const Piece& piece, bool is_last);
  void piece_done(const Piece& piece);
  void all_done(std::uint64_t number);
  const RuleInfo& rule_of(const Piece& piece) const;

  Source& source_;
  Observer& observer_;
  FlowEvents& events_;
  LookupsOut& out_;
  Now now_{};
  BatchBuilder builder_;
  std::shared_ptr<const RuleSet> rules_;  // of builder_ and mapper_
  std::unique_ptr<Mapper> mapper_;
  std::map<std::uint64_t, Waiting> waiting_;  // by number of the batch
  std::deque<Piece> queue_;
  std::size_t items_max_ = kLookupItemsMax;  // of one question: less after one that was too much
  std::uint64_t last_request_ = 0;
  std::optional<std::vector<Piece>> asked_;  // none of them: what is asked again
  SteadyTime asked_at_{};
  std::shared_ptr<const RuleSet> current_;  // in force; none: those of the start
  std::map<LookupName, Problem> problems_;
  LookupName asked_again_;
  struct Rendered {
    InvalidationKind kind = InvalidationKind::kKey;
    std::string text;
  };
  std::vector<Rendered> rendered_;  // of the item in hand
};

}  // namespace evictd
