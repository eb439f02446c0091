// The record on a Redis Cluster: each master holds a copy, in a slot of its own, with the slots it had when that was written. So
// a master that was replaced by one that knows less is found out by itself, and what it serves is purged alone. Pure.
//
// A copy proves its home (the slots of its master then), on the master where it is found: whoever has it has all that went
// before it. What no copy of the last record proves is lost: an older one, none at all, or slots that came in between.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/interface/record.h"
#include "daemon/sinks/redis/topology/slot_map.h"

namespace evictd {

struct RecordCopy {
  std::chrono::milliseconds written{0};  // by the writer's clock: which of two writers came later
  SlotSet home;
  Record record;
  Slot slot = 0;  // that it was found in
};
std::string copy_to_text(std::chrono::milliseconds written, const SlotSet& home, const Record& record);
// Nothing when it is not one, or not whole.
std::optional<RecordCopy> copy_from_text(std::string_view text);

// Which slots copies lie in, whoever serves them: so few have to be looked at.
inline constexpr std::size_t kCopySlotStep = 64;
// Of a master with these slots; `last`: where it was before. REQUIRES: slots.any().
Slot copy_slot(const SlotSet& slots, std::optional<Slot> last);
std::string copy_key(const std::string& record_key, Slot slot);

struct ShardCopies {
  SlotSet slots;
  std::vector<RecordCopy> copies;
};
// What this process knows to be stored everywhere.
struct StoredRecord {
  std::string writer;
  std::uint64_t sequence = 0;
};
struct JudgedCopies {
  std::optional<Record> record;  // what every slot that is not lost has
  SlotSet lost;
  // A copy that proved something, where each shard has one: a master that has it no longer was flushed since.
  struct Proof {
    std::size_t shard = 0;
    Slot slot = 0;
    std::uint64_t sequence = 0;
  };
  std::vector<Proof> proofs;
};
JudgedCopies judge_copies(const std::vector<ShardCopies>& shards, const std::optional<StoredRecord>& stored);

}  // namespace evictd
