#include "daemon/sinks/redis/topology/record_copies.h"

#include <algorithm>

#include "daemon/sinks/redis/record_text.h"
#include "daemon/base/text.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::string_view kHead = "evictd-copy 1 ";

}  // namespace

std::string copy_to_text(std::chrono::milliseconds written, const SlotSet& home, const Record& record) {
  return std::string(kHead) + std::to_string(written.count()) + " " + ranges_text(home) + "\n" + record_to_text(record);
}

std::optional<RecordCopy> copy_from_text(std::string_view text) {
  if (!text.starts_with(kHead)) return std::nullopt;
  text.remove_prefix(kHead.size());
  const std::size_t end = text.find('\n');
  const std::size_t space = text.find(' ');
  if (end == std::string_view::npos || space > end) return std::nullopt;
  RecordCopy copy;
  std::int64_t written = 0;
  if (!read_number(text.substr(0, space), written)) return std::nullopt;
  copy.written = std::chrono::milliseconds(written);
  auto home = slots_from_ranges(text.substr(space + 1, end - space - 1));
  auto record = record_from_text(text.substr(end + 1));
  if (!home || !record) return std::nullopt;
  copy.home = *home;
  copy.record = std::move(*record);
  return copy;
}

// In the middle: resharding takes slots from either end.
Slot copy_slot(const SlotSet& slots, std::optional<Slot> last) {
  EVICTD_CHECK(slots.any());
  if (last && slots.test(*last)) return *last;
  std::vector<Slot> candidates;
  for (std::size_t slot = 0; slot < kSlots; slot += kCopySlotStep) {
    if (slots.test(slot)) candidates.push_back(static_cast<Slot>(slot));
  }
  if (!candidates.empty()) return candidates[candidates.size() / 2];
  return static_cast<Slot>(slots._Find_first());
}

std::string copy_key(const std::string& record_key, Slot slot) { return record_key + ":{" + slot_tag(slot) + "}"; }

JudgedCopies judge_copies(const std::vector<ShardCopies>& shards, const std::optional<StoredRecord>& stored) {
  JudgedCopies judged;
  const RecordCopy* newest = nullptr;
  for (const ShardCopies& shard : shards) {
    for (const RecordCopy& copy : shard.copies) {
      if (newest == nullptr || copy.written > newest->written) newest = &copy;
    }
  }
  if (newest == nullptr) return judged;
  std::uint64_t latest = 0;
  for (const ShardCopies& shard : shards) {
    for (const RecordCopy& copy : shard.copies) {
      if (copy.record.writer == newest->record.writer) latest = std::max(latest, copy.record.sequence);
    }
  }
  // One at a time is written, so a process that ended in the middle left copies that are one apart.
  std::uint64_t least = latest - std::min<std::uint64_t>(latest, 1);
  if (stored && stored->writer == newest->record.writer) least = std::max(least, stored->sequence);
  if (latest < least) {  // all of them lost the last ones
    judged.record = newest->record;
    return judged;
  }
  std::set<std::string> gaps;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const ShardCopies& shard = shards[i];
    SlotSet proven;
    std::optional<JudgedCopies::Proof> last;
    for (const RecordCopy& copy : shard.copies) {
      if (copy.record.writer != newest->record.writer || copy.record.sequence < least) continue;
      proven |= copy.home;
      if (!last || copy.record.sequence > last->sequence) last = {i, copy.slot, copy.record.sequence};
      gaps.insert(copy.record.gaps.begin(), copy.record.gaps.end());
      if (!judged.record || copy.record.sequence < judged.record->sequence) judged.record = copy.record;
    }
    judged.lost |= shard.slots & ~proven;
    if (last) judged.proofs.push_back(*last);
  }
  judged.record->gaps = std::move(gaps);
  return judged;
}

}  // namespace evictd
