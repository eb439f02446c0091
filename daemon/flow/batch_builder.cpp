#include "daemon/flow/batch_builder.h"

#include <algorithm>
#include <functional>

#include "mapping/check.h"
#include "mapping/row_version.h"

namespace evictd {
namespace {

// Transactions of one batch: bounds the visibility look-ups and what one lost reply repeats. Many more than items, so that
// keys that change all the time are few.
constexpr std::size_t kTransactionsMax = 32768;
// Of counters alone: each of them raises, and is remembered, by itself.
constexpr std::size_t kRaisesMax = 1024;

// Parts of one rule: keys, tags, counters, surrogate keys, semantic orders.
constexpr std::size_t kKinds = 5;

std::size_t kind_index(InvalidationKind kind) {
  switch (kind) {
    case InvalidationKind::kTag:
      return 1;
    case InvalidationKind::kBump:
      return 2;
    case InvalidationKind::kSurrogate:
      return 3;
    case InvalidationKind::kSemantic:
      return 4;
    default:
      return 0;
  }
}

// Two changes of one key in one batch: a fill has to reach the higher version. Where they do not compare, no
// version proves anything.
void merge_row_version(std::string& known, std::string_view other) {
  if (row_version_reaches(known, other)) return;
  known = row_version_reaches(other, known) ? other : std::string_view();
}

}  // namespace

BatchBuilder::BatchBuilder(std::size_t items_max, std::size_t bytes_max)
    : items_max_(std::min(items_max, kSlots / 2)),
      bytes_max_(bytes_max),
      batch_(std::make_unique<Batch>()),
      slots_(kSlots) {}

void BatchBuilder::use(std::shared_ptr<const RuleSet> rules) {
  EVICTD_CHECK(batch_->parts.empty());
  part_of_.assign(rules->rules().size() * kKinds, PartOf{});
  rules_ = std::move(rules);
  batch_->rules = rules_;
}

void BatchBuilder::begin(const TransactionBegin& begin, std::optional<SystemTime> owed_since) {
  current_ = begin;
  owed_since_ = owed_since.value_or(begin.commit_time);
  in_transaction_ = true;
  noted_ = has_direct_ = has_lookup_ = is_carried_ = false;
}

void BatchBuilder::note_xid() {
  if (noted_) return;
  noted_ = true;
  batch_->xids.push_back(current_.xid);
  batch_->known_since = std::max(batch_->known_since, current_.known_since.value_or(SteadyTime::max()));
  if (!batch_->oldest_commit || owed_since_ < *batch_->oldest_commit) batch_->oldest_commit = owed_since_;
  bytes_ += sizeof(Xid);
}

BatchPart& BatchBuilder::part_for(std::uint32_t rule, InvalidationKind kind, std::uint32_t& index) {
  PartOf& known = part_of_[rule * kKinds + kind_index(kind)];
  if (known.generation != generation_) {
    known = {generation_, static_cast<std::uint32_t>(batch_->parts.size())};
    batch_->parts.push_back({rule, kind, {}});
    if (further_xids_.size() < batch_->parts.size()) further_xids_.emplace_back();
    bytes_ += sizeof(BatchPart);
  }
  index = known.part;
  return batch_->parts[index];
}

void BatchBuilder::add(std::uint32_t rule, InvalidationKind kind, std::string_view text,
                       std::string_view row_version) {
  note_xid();
  has_direct_ = true;
  std::uint32_t part_number = 0;
  Texts& part = part_for(rule, kind, part_number).texts;
  const std::size_t hash = std::hash<std::string_view>{}(text) * 31 + part_number;
  for (std::size_t probe = hash & (kSlots - 1);; probe = (probe + 1) & (kSlots - 1)) {
    Slot& slot = slots_[probe];
    if (slot.generation != generation_) {
      slot = {generation_, part_number, static_cast<std::uint32_t>(part.items.size()), current_.xid};
      break;
    }
    if (slot.part == part_number && part.text(slot.item) == text) {
      // Transactions arrive one after the other: the same one is always the item's last.
      if (slot.last != current_.xid) {
        slot.last = current_.xid;
        further_xids_[part_number].emplace_back(slot.item, current_.xid);
        bytes_ += sizeof(further_xids_[part_number][0]);
        if (kind == InvalidationKind::kBump) ++raises_;
      }
      if (!part.row_versions.empty()) merge_row_version(part.row_versions[slot.item], row_version);
      return;
    }
  }
  part.texts.append(text);
  part.xids.push_back(current_.xid);
  part.items.push_back({static_cast<std::uint32_t>(part.texts.size()),
                           static_cast<std::uint32_t>(part.xids.size())});
  if (kind == InvalidationKind::kKey && !rules_->rules()[rule].version_column.empty()) {
    part.row_versions.emplace_back(row_version);
    bytes_ += sizeof(std::string) + row_version.size();
  }
  ++items_;
  bytes_ += text.size() + sizeof(Xid) + sizeof(Item);
}

void BatchBuilder::add_lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) {
  note_xid();
  has_lookup_ = true;
  std::string framed = std::to_string(rule) + " " + std::to_string(lookup);
  for (const std::string_view value : values) {
    framed += " " + std::to_string(value.size()) + ":";
    framed += value;
  }
  const auto known = lookup_items_.find(framed);
  if (known != lookup_items_.end()) {
    std::vector<Xid>& xids = batch_->lookups[known->second.first].items[known->second.second].xids;
    if (xids.back() == current_.xid) return;
    xids.push_back(current_.xid);
    bytes_ += sizeof(Xid);
    return;
  }
  std::vector<BatchLookup>& lookups = batch_->lookups;
  const auto same = std::find_if(lookups.begin(), lookups.end(),
                                 [&](const BatchLookup& one) { return one.rule == rule && one.lookup == lookup; });
  const auto number = static_cast<std::size_t>(same - lookups.begin());
  if (same == lookups.end()) lookups.push_back({rule, lookup, {}});
  BatchLookup::Item& item = lookups[number].items.emplace_back();
  item.values.assign(values.begin(), values.end());
  item.xids.push_back(current_.xid);
  bytes_ += 2 * framed.size() + sizeof(BatchLookup::Item) + sizeof(Xid) + values.size() * sizeof(std::string);
  lookup_items_.emplace(std::move(framed), std::pair(number, lookups[number].items.size() - 1));
  ++items_;
}

void BatchBuilder::add_purge(std::uint32_t rule, std::uint32_t pattern) {
  note_xid();
  has_direct_ = true;
  const std::pair<std::uint32_t, std::uint32_t> purge{rule, pattern};
  std::vector<std::pair<std::uint32_t, std::uint32_t>>& known = batch_->purges;
  if (std::find(known.begin(), known.end(), purge) == known.end()) known.push_back(purge);
}

void BatchBuilder::commit(const Position& end) {
  EVICTD_CHECK(in_transaction_);
  in_transaction_ = false;
  ++batch_->transactions;
  noted_ = false;
  const bool is_carried = std::exchange(is_carried_, false);
  if (std::exchange(has_direct_, false)) {
    batch_->commits.push_back(current_.commit_time);
    bytes_ += sizeof(SystemTime);
  } else if (is_carried) {
    batch_->carried_commit = current_.commit_time;
  }
  if (std::exchange(has_lookup_, false)) {
    batch_->lookup_commits.push_back(current_.commit_time);
    bytes_ += sizeof(SystemTime);
  }
  const auto known = std::find_if(batch_->ends.begin(), batch_->ends.end(),
                                  [&](const Position& known_end) { return known_end.stream == end.stream; });
  if (known == batch_->ends.end()) {
    batch_->ends.push_back(end);
  } else {
    *known = end;
  }
}

bool BatchBuilder::full() const {
  return items_ >= items_max_ || raises_ >= kRaisesMax || bytes_ >= bytes_max_ ||
         batch_->xids.size() >= kTransactionsMax;
}

std::unique_ptr<Batch> BatchBuilder::take() {
  for (std::size_t number = 0; number < batch_->parts.size(); ++number) {
    auto& further = further_xids_[number];
    if (further.empty()) continue;
    // Lay each item's transactions side by side: its first, then the further ones in order.
    Texts& part = batch_->parts[number].texts;
    std::stable_sort(further.begin(), further.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<Xid> xids;
    xids.reserve(part.xids.size() + further.size());
    auto next = further.begin();
    for (std::uint32_t item = 0; item < part.items.size(); ++item) {
      xids.push_back(part.xids[item]);
      for (; next != further.end() && next->first == item; ++next) xids.push_back(next->second);
      part.items[item].xids_end = static_cast<std::uint32_t>(xids.size());
    }
    part.xids = std::move(xids);
    further.clear();
  }
  auto batch = std::exchange(batch_, std::make_unique<Batch>());
  batch->bytes = sizeof(Batch) + bytes_;
  batch->is_cut = noted_;
  if (noted_ && current_.place) batch->cut_at = Position{current_.stream, *current_.place};
  batch_->rules = rules_;
  if (++generation_ == 0) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    std::fill(part_of_.begin(), part_of_.end(), PartOf{});
    generation_ = 1;
  }
  lookup_items_.clear();
  items_ = raises_ = bytes_ = 0;
  // A slice of a large transaction: its next slice names it again.
  is_carried_ = in_transaction_ && (is_carried_ || has_direct_);
  noted_ = has_direct_ = has_lookup_ = false;
  return batch;
}

}  // namespace evictd
