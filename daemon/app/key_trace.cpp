#include "daemon/app/key_trace.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>

#include "daemon/interface/forwarding_sink.h"
#include "daemon/app/status.h"
#include "daemon/base/json.h"
#include "daemon/sinks/redis/glob.h"
#include "mapping/rules.h"

namespace evictd {
namespace {

std::string xids_text(std::span<const Xid> xids) {
  std::string text;
  for (std::size_t i = 0; i < std::min(xids.size(), KeyTrace::kXidsMax); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", number(xids[i]));
  }
  if (xids.size() > KeyTrace::kXidsMax) text += fmt::format(" and {} more", xids.size() - KeyTrace::kXidsMax);
  return text;
}

std::string_view act_name(Act act) {
  switch (act) {
    case Act::kInvalidate:
      return "delete";
    case Act::kSettle:
      return "second delete";
    case Act::kRenew:
      return "tombstone renewed";
  }
  return "";
}

// "absent"; of an order with other keys: "of 12 keys: 3 deleted, 9 absent".
std::string outcome_text(const Counts& counts, std::uint64_t size, std::string_view unit) {
  const std::pair<std::uint64_t, std::string_view> all[] = {{counts.deleted, "deleted"}, {counts.absent, "absent"},
                                                             {counts.kept, "kept"}, {counts.replayed, "replayed"}};
  const std::uint64_t sum = counts.deleted + counts.absent + counts.kept + counts.replayed;
  std::string text;
  for (const auto& [count, name] : all) {
    if (count == 0) continue;
    if (count == sum && size == 1 && sum == 1) return std::string(name);
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  }
  return fmt::format("of {} {}: {}", size, unit, text.empty() ? "none was there" : text);
}

}  // namespace

void KeyTrace::add(Entry entry) {
  bytes_ += entry.bytes();
  entries_.push_back(std::move(entry));
  while (entries_.size() > kEntriesMax || bytes_ > kBytesMax) {
    bytes_ -= entries_.front().bytes();
    entries_.pop_front();
  }
}

void KeyTrace::ordered(std::string_view cache, Ticket ticket, const Order& order, SystemTime at) {
  auto command = std::make_shared<Command>();
  command->at = at;
  command->cache = cache;
  command->act = order.act;
  command->target = order.target;
  command->is_unconditional = order.is_unconditional;
  if (order.rule != nullptr) command->rule = order.rule->name;
  const std::lock_guard lock(mutex_);
  if (order.target == Target::kPatterns) {
    command->size = order.patterns.size();
    for (const PatternRef& pattern : order.patterns) {
      add({command, pattern.pattern->glob, pattern.rule->name, xids_text(order.xids)});
    }
  } else {
    const Texts& texts = *order.texts;
    command->size = texts.size();
    for (std::size_t i = 0; i < std::min(texts.size(), kKeysPerOrderMax); ++i) {
      if (texts.text(i).size() > kKeyMax) continue;
      const std::size_t first = i == 0 ? 0 : texts.items[i - 1].xids_end;
      add({command, std::string(texts.text(i)), {}, xids_text(std::span(texts.xids).subspan(first, texts.items[i].xids_end - first))});
    }
  }
  under_way_[{std::string(cache), ticket}] = std::move(command);
}

void KeyTrace::done(std::string_view cache, Ticket ticket, const Outcome& outcome) {
  const std::lock_guard lock(mutex_);
  const auto found = under_way_.find({std::string(cache), ticket});
  if (found == under_way_.end()) return;
  found->second->state = Command::State::kDone;
  found->second->outcome = outcome;
  found->second->outcome.by_pattern.clear();
  under_way_.erase(found);
}

void KeyTrace::lost(std::string_view cache, Ticket ticket) {
  const std::lock_guard lock(mutex_);
  const auto found = under_way_.find({std::string(cache), ticket});
  if (found == under_way_.end()) return;
  found->second->state = Command::State::kLost;
  under_way_.erase(found);
}

std::string KeyTrace::json(std::string_view key) const {
  JsonWriter json;
  json.begin_object().field("key", key);
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) {
    json.field_null("since");
  } else {
    json.field("since", time_text(entries_.front().command->at));
  }
  json.begin_array("decisions");
  std::size_t told = 0;
  for (auto entry = entries_.rbegin(); entry != entries_.rend() && told < kAnswersMax; ++entry) {
    const Command& command = *entry->command;
    const bool is_pattern = command.target == Target::kPatterns;
    if (is_pattern ? !Glob(entry->text).matches(key) : entry->text != key) continue;
    ++told;
    json.begin_object().field("at", time_text(command.at)).field("cache", command.cache);
    json.field("rule", is_pattern ? entry->rule : command.rule);
    std::string what;
    if (is_pattern) {
      what = fmt::format("purge of '{}'{}{}", entry->text, command.is_unconditional ? ", whatever is there" : "",
                         command.act == Act::kSettle ? ", once more" : "");
    } else {
      what = act_name(command.act);
      if (command.target == Target::kTags) what += " of the keys under this tag";
      if (command.target == Target::kCounters) what = "raise of this counter";
      if (command.target == Target::kSurrogates) what = "purge of the responses of this surrogate key";
    }
    json.field("what", what).field("transactions", entry->xids);
    switch (command.state) {
      case Command::State::kUnderWay:
        json.field("outcome", "under way");
        break;
      case Command::State::kLost:
        json.field("outcome", "the connection was lost: it is done again");
        break;
      case Command::State::kDone:
        json.field("outcome", outcome_text(command.outcome, command.size, is_pattern ? "patterns" : "in one command"));
        break;
    }
    json.end_object();
  }
  json.end_array().end_object();
  return json.text() + "\n";
}

std::size_t KeyTrace::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

namespace {

class ListeningSink final : public ForwardingSink {
 public:
  ListeningSink(std::unique_ptr<Sink> sink, KeyTrace& trace, std::string cache)
      : ForwardingSink(std::move(sink)), trace_(trace), cache_(std::move(cache)) {}

  void start(Now now) override {
    now_ = now.system;
    ForwardingSink::start(now);
  }
  void step(Now now, SinkHandler& handler) override {
    now_ = now.system;
    ForwardingSink::step(now, handler);
  }
  void submit(Ticket ticket, const Order& order) override {
    trace_.ordered(cache_, ticket, order, now_);
    ForwardingSink::submit(ticket, order);
  }

 private:
  void on_done(Ticket ticket, const Outcome& outcome) override {
    trace_.done(cache_, ticket, outcome);
    ForwardingSink::on_done(ticket, outcome);
  }
  void on_lost(Ticket ticket) override {
    trace_.lost(cache_, ticket);
    ForwardingSink::on_lost(ticket);
  }

  KeyTrace& trace_;
  const std::string cache_;
  SystemTime now_{};
};

}  // namespace

std::unique_ptr<Sink> KeyTrace::listening(std::unique_ptr<Sink> sink, KeyTrace& trace, std::string cache) {
  return std::make_unique<ListeningSink>(std::move(sink), trace, std::move(cache));
}

}  // namespace evictd
