// What an order means to Redis: the rule's words turned into what the scripts know (flags, grace, channel). A command looks
// at the order's texts and owns none, but for the glob of a pattern.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/interface/sink.h"

namespace evictd {

// What the keys are that a pattern's glob matches.
enum class PatternOf : std::uint8_t { kKeys, kTagSets, kCounters };

struct Command {
  Act act = Act::kInvalidate;
  Target target = Target::kKeys;
  PatternOf pattern_of = PatternOf::kKeys;
  // kTags, and kPatterns of tag sets: tags have no set of members; their markers alone say what a value has to
  // have seen (`tags_mode: lazy`).
  bool lazy = false;
  bool trust_filled = false;   // `fill: checked`: a filled marker may prove freshness
  bool settled = false;        // Order::is_settle
  bool tells_hits = false;     // Outcome::hits
  bool unconditional = false;  // Order::is_unconditional; xids are ignored then
  Xid floor{};
  // `mode: stale`: values stay for so long, marked stale, instead of being deleted. 0: they are deleted.
  std::chrono::milliseconds grace{0};
  // Each invalidation, and what a settle deletes, is announced on this channel with a number that tells subscribers
  // whether they missed one; of a pattern, its end as well, with the order to drop everything. Empty: nothing is.
  std::string channel;

  std::string_view texts;
  std::span<const Xid> xids;
  std::span<const Item> items;
  std::span<const std::string> row_versions;  // see Texts::row_versions

  std::size_t size() const { return items.size(); }
  std::size_t bytes() const {
    return texts.size() + xids.size() * sizeof(Xid) + items.size() * sizeof(Item) +
           row_versions.size() * sizeof(std::string);
  }
  std::string_view text(std::size_t index) const {
    const std::uint32_t begin = index == 0 ? 0 : items[index - 1].text_end;
    return texts.substr(begin, items[index].text_end - begin);
  }
};

// Of an order with texts. What the order points to must outlive the command.
Command make_command(const Order& order);

// Of one pattern of an order; owns the item of its glob.
struct PatternCommand {
  Item item;
  Command command;
};
std::unique_ptr<PatternCommand> make_pattern_command(const Order& order, const PatternRef& ref);

}  // namespace evictd
