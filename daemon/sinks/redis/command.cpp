#include "daemon/sinks/redis/command.h"

namespace evictd {
namespace {

Command common(const Order& order, const RuleInfo& rule) {
  Command command;
  command.act = order.act;
  command.target = order.target;
  command.trust_filled = rule.fill == FillMode::kChecked && order.target != Target::kCounters;
  command.settled = order.is_settle;
  command.unconditional = order.is_unconditional;
  command.floor = order.floor;
  command.channel = rule.announce;
  return command;
}

}  // namespace

Command make_command(const Order& order) {
  const RuleInfo& rule = *order.rule;
  Command command = common(order, rule);
  command.tells_hits = order.target == Target::kKeys && rule.refresh.is_set();
  command.lazy = order.target == Target::kTags && rule.tags_mode == TagsMode::kLazy;
  if (rule.mode == RuleMode::kStale && order.target != Target::kCounters) command.grace = rule.grace;
  command.texts = order.texts->texts;
  command.xids = order.texts->xids;
  command.items = order.texts->items;
  command.row_versions = order.texts->row_versions;
  return command;
}

std::unique_ptr<PatternCommand> make_pattern_command(const Order& order, const PatternRef& ref) {
  auto made = std::make_unique<PatternCommand>();
  Command& command = made->command;
  command = common(order, *ref.rule);
  command.trust_filled = ref.rule->fill == FillMode::kChecked;
  command.lazy = ref.pattern->is_lazy;
  command.pattern_of = ref.pattern->is_tag    ? PatternOf::kTagSets
                       : ref.pattern->is_bump ? PatternOf::kCounters
                                              : PatternOf::kKeys;
  command.texts = ref.pattern->glob;
  command.xids = order.is_unconditional ? std::span<const Xid>() : order.xids;
  made->item = {static_cast<std::uint32_t>(command.texts.size()), static_cast<std::uint32_t>(command.xids.size())};
  command.items = std::span(&made->item, 1);
  return made;
}

}  // namespace evictd
