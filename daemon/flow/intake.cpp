#include "daemon/flow/intake.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "mapping/check.h"

namespace evictd {
namespace {

// Most become visible within that time, all of them: what waits for it is not done twice.
constexpr std::chrono::milliseconds kAheadAfter{50};

std::chrono::milliseconds longest_settle(const RuleSet& rules) {
  std::chrono::milliseconds longest{1000};
  for (const RuleInfo& rule : rules.rules()) longest = std::max(longest, rule.settle);
  return longest;
}

}  // namespace

Intake::Intake(std::shared_ptr<const RuleSet> rules, Observer& observer, FlowEvents& events, IntakeOut& out,
               IntakeOptions options)
    : observer_(observer),
      events_(events),
      out_(out),
      builder_(options.batch_items_max, options.batch_bytes_max),
      visibility_(options.snapshot_interval, longest_settle(*rules)) {
  use(std::move(rules), Now{});
}

void Intake::use(std::shared_ptr<const RuleSet> rules, Now now) {
  if (rules_) close(now);
  rules_ = std::move(rules);
  mapper_ = std::make_unique<Mapper>(*rules_);
  last_relation_ = nullptr;
  builder_.use(rules_);
  in_transaction_.assign(rules_->rules().size(), {});
  visibility_.remember_for(longest_settle(*rules_));
}

void Intake::connected(std::uint64_t session, bool has_snapshots, Now now) {
  close(now);
  session_ = session;
  invisible_.clear();
  visibility_.reset(has_snapshots);
}

void Intake::cut_off(Now now) {
  builder_.cut_off();
  close(now);
}

// A batch settles when all of it is visible. A commit that waits (for a standby that must confirm it, perhaps for hours) and
// that a redelivery brings together with others must not keep them from it: G4 counts for each from its own visibility.
void Intake::begin(const TransactionBegin& begin, Now now) {
  is_alone_ = visibility_.is_hanging(begin, now);
  if (is_alone_) close(now);
  // A commit from the future, by a server whose clock is ahead, is owed since now: its age would else be none for as long as the
  // clocks differ.
  builder_.begin(begin, std::min(begin.committed(now), now.system));
  ++transaction_;
}

void Intake::change(const Change& change, Now now) {
  now_ = now;
  if (change.relation != last_relation_) {
    last_relation_ = change.relation;
    last_is_mapped_ = mapper_->is_mapped(*change.relation);
    if (last_is_mapped_) {
      last_counted_ = &counts_[change.relation->generation];
      if (last_counted_->table.empty()) last_counted_->table = change.relation->qualified_name();
    }
  }
  if (!last_is_mapped_) return;
  if (!std::exchange(last_counted_->is_touched, true)) touched_.push_back(last_counted_);
  ++last_counted_->by_operation[static_cast<std::size_t>(change.operation)];
  // Not behind the change that filled it: its commit mostly comes next, and belongs to it.
  if (builder_.full()) close(now);
  mapper_->map(change, *this);
}

void Intake::unknown_change(const UnknownChange& change, Now now) {
  now_ = now;
  events_.warning(fmt::format("a change cannot be read: {}", change.detail),
                  "what its table's rules may have cached is purged");
  for (std::uint32_t rule = 0; rule < rules_->rules().size(); ++rule) {
    const RuleInfo& info = rules_->rules()[rule];
    const bool affected = change.tables.empty() || std::find(change.tables.begin(), change.tables.end(),
                                                             info.qualified_table()) != change.tables.end();
    for (std::uint32_t pattern = 0; affected && pattern < info.patterns.size(); ++pattern) purge(rule, pattern);
  }
}

void Intake::commit(const Position& end, Now now) {
  if (builder_.empty()) open_since_ = now.steady;
  builder_.commit(end);
  if (std::exchange(is_alone_, false) || builder_.full()) close(now);
}

void Intake::relation_gone(const Relation& relation) {
  count_changes();
  mapper_->forget(relation);
  counts_.erase(relation.generation);
  last_relation_ = nullptr;
}

// As the settles of those that are visible, so what waits to be done at all.
void Intake::send_ahead(Invisible& waiting) {
  if (now_.steady - waiting.closed_at < kAheadAfter || !waiting.looked.hanging || !has_what_waits(*waiting.batch)) return;
  const std::vector<Xid>& hanging = *waiting.looked.hanging;
  if (hanging.size() == std::exchange(waiting.hanging, hanging.size())) return;
  const auto is_done = [&](Xid xid) {
    return std::binary_search(hanging.begin(), hanging.end(), xid) ||
           std::binary_search(waiting.ahead.begin(), waiting.ahead.end(), xid);
  };
  std::vector<Xid> visible;
  std::remove_copy_if(waiting.batch->xids.begin(), waiting.batch->xids.end(), std::back_inserter(visible), is_done);
  std::sort(visible.begin(), visible.end());
  visible.erase(std::unique(visible.begin(), visible.end()), visible.end());
  waiting.ahead.insert(waiting.ahead.end(), visible.begin(), visible.end());
  std::sort(waiting.ahead.begin(), waiting.ahead.end());
  std::unique_ptr<Batch> ahead = what_waits(*waiting.batch, visible);
  if (!ahead) return;
  ahead->number = take_number();
  out_.on_ahead(std::move(ahead), visibility_.latest_at(), waiting.batch->number);
}

void Intake::snapshot(const Snapshot& snapshot, Now now) {
  now_ = now;
  visibility_.add(snapshot, now.steady);
  bool helped = false;
  std::size_t kept = 0;
  for (Invisible& waiting : invisible_) {
    if (const auto since = visibility_.look(*waiting.batch, waiting.looked, now.steady)) {
      helped = true;
      out_.on_visible(waiting.batch->number, *since);
    } else {
      if (visibility_.grew(*waiting.batch, waiting.looked)) {
        helped = true;
        out_.on_partly_visible(waiting.batch->number, visibility_.latest_at());
      }
      send_ahead(waiting);
      if (&invisible_[kept] != &waiting) invisible_[kept] = std::move(waiting);
      ++kept;
    }
  }
  invisible_.resize(kept);
  visibility_.hurry(std::any_of(invisible_.begin(), invisible_.end(), [](const auto& waiting) { return !waiting.batch->lookups.empty(); }));
  visibility_.poll_helped(helped);
}

void Intake::close(Now now) {
  if (builder_.empty()) return;
  std::unique_ptr<Batch> taken = builder_.take();
  taken->number = take_number();
  taken->session = session_;
  const std::shared_ptr<const Batch> batch = std::move(taken);
  Visibility::Looked looked;
  const bool is_idle = batch->parts.empty() && batch->purges.empty() && batch->lookups.empty();
  const auto visible_at = is_idle ? std::optional(now.steady) : visibility_.look(*batch, looked, now.steady);
  const bool is_partly = !visible_at && visibility_.grew(*batch, looked);
  if (!visible_at) {
    invisible_.push_back({batch, std::move(looked), now.steady, {}, batch->xids.size()});
    if (!batch->lookups.empty()) visibility_.hurry(true);
  }
  out_.on_batch(batch, visible_at);
  if (is_partly) out_.on_partly_visible(batch->number, visibility_.latest_at());
}

// At each step: it must not cost more with a thousand tables than with one.
void Intake::count_changes() {
  for (Counted* counted : touched_) {
    counted->is_touched = false;
    for (std::size_t operation = 0; operation < 4; ++operation) {
      if (counted->by_operation[operation] == 0) continue;
      observer_.changes(counted->table, static_cast<Operation>(operation), counted->by_operation[operation]);
      counted->by_operation[operation] = 0;
    }
  }
  touched_.clear();
}

// Asked for only while something waits, and once after connecting: what that one sees need not settle any more once it is
// old enough, which makes catching up cost one delete per key.
bool Intake::wants_snapshot(bool others, SteadyTime now) const {
  return visibility_.poll_is_due(others || !invisible_.empty() || !visibility_.latest(), now);
}

SteadyTime Intake::next_snapshot(bool others, SteadyTime now) const {
  if (!visibility_.has_snapshots() || visibility_.poll_under_way()) return SteadyTime::max();
  if (!others && invisible_.empty() && visibility_.latest()) return SteadyTime::max();
  return std::max(visibility_.next_poll(), now);
}

// Batches are closed between changes, or here, when hundreds of rules make thousands of keys of one change.
void Intake::make_room() {
  if (builder_.crowded()) close(now_);
  if (builder_.empty()) open_since_ = now_.steady;
}

void Intake::key(std::uint32_t rule, std::string_view key) {
  InTransaction& here = in_transaction_[rule];
  if (here.transaction != transaction_) here = {transaction_, 0, false, 0};
  if (here.is_collapsed) return;
  if (++here.keys > rules_->rules()[rule].collapse_after) return collapse(rule);
  make_room();
  builder_.add(rule, InvalidationKind::kKey, key, row_version_);
}

void Intake::tag(std::uint32_t rule, std::string_view tag) {
  make_room();
  builder_.add(rule, InvalidationKind::kTag, tag);
}

void Intake::bump(std::uint32_t rule, std::string_view counter) {
  make_room();
  builder_.add(rule, InvalidationKind::kBump, counter);
}

void Intake::surrogate_key(std::uint32_t rule, std::string_view key) {
  make_room();
  builder_.add(rule, InvalidationKind::kSurrogate, key);
}

// A search costs a hundred times what a key does: many of them in one transaction become one clearing.
void Intake::semantic(std::uint32_t rule, std::string_view order) {
  InTransaction& here = in_transaction_[rule];
  if (here.transaction != transaction_) here = {transaction_, 0, false, 0};
  const RuleInfo& info = rules_->rules()[rule];
  const std::uint64_t most = std::min(info.collapse_after, kSemanticOrdersMax);
  if (here.semantic > most) return;
  if (++here.semantic <= most) {
    make_room();
    return builder_.add(rule, InvalidationKind::kSemantic, order);
  }
  events_.info(fmt::format("a transaction has more than {} semantic orders of rule '{}': its indexes are cleared instead", most, info.name));
  for (std::uint32_t pattern = 0; pattern < info.patterns.size(); ++pattern) {
    if (info.patterns[pattern].is_semantic) purge(rule, pattern);
  }
}

void Intake::lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) {
  make_room();
  builder_.add_lookup(rule, lookup, values);
}

void Intake::row_version(std::uint32_t, std::string_view version) { row_version_ = version; }

void Intake::purge(std::uint32_t rule, std::uint32_t pattern) {
  if (builder_.empty()) open_since_ = now_.steady;
  builder_.add_purge(rule, pattern);
}

// One purge instead of the remaining keys of this rule in this transaction. Once is enough: what a reader
// can have cached of the remaining rows it cached before, or the settle purge comes after it.
void Intake::collapse(std::uint32_t rule) {
  in_transaction_[rule].is_collapsed = true;
  const RuleInfo& info = rules_->rules()[rule];
  events_.info(fmt::format("a transaction touches more than {} keys of rule '{}': its patterns are purged instead",
                           info.collapse_after, info.name));
  for (std::uint32_t pattern = 0; pattern < info.patterns.size(); ++pattern) {
    const Pattern& each = info.patterns[pattern];
    if (!each.is_tag && !each.is_bump && !each.is_surrogate && !each.is_semantic) purge(rule, pattern);
  }
}

void Intake::unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) {
  const RuleInfo& info = rules_->rules()[rule];
  observer_.unmappable(info, reason);
  if (!is_not_sent(reason) || info.on_missing != OnMissing::kStop) return;
  out_.on_unmappable_stop(
      Error{ErrorKind::kFatal,
            fmt::format("{}: rule '{}' cannot be mapped: column '{}': {}, and the rule says on_missing: stop",
                        info.place.to_string(), info.name, column, unmappable_reason_name(reason)),
            fmt::format("ALTER TABLE {} REPLICA IDENTITY FULL sends old values; or choose on_missing: purge",
                        info.qualified_table())});
}

}  // namespace evictd
