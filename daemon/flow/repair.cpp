#include "daemon/flow/repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kSettleMin{1000};

bool has_snapshot(const Repairs::Conditions& conditions) { return conditions.snapshot != nullptr && *conditions.snapshot; }

// What every fill has to have seen.
Xid floor_of(const Repairs::Conditions& conditions) { return Xid{number((*conditions.snapshot)->xmax()) - 1}; }

}  // namespace

void Repairs::open(Wanted wanted, SteadyTime now) {
  // Joins a repair that has not begun and waits for the same; else it is one of its own.
  for (Repair& repair : repairs_) {
    if (repair.state != State::kWaiting || repair.after_connect != wanted.after_connect) continue;
    const bool all = repair.tables.empty() || wanted.tables.empty();
    repair.opened_at = now;
    repair.reasons.insert(wanted.reason);
    repair.is_gap = repair.is_gap || wanted.is_gap;
    if (all) {
      repair.tables.clear();
    } else {
      repair.tables.insert(wanted.tables.begin(), wanted.tables.end());
    }
    if (repair.parts.empty() || wanted.parts.empty()) {
      repair.parts.clear();
    } else {
      repair.parts.insert(wanted.parts.begin(), wanted.parts.end());
    }
    return;
  }
  Repair repair;
  repair.opened_at = now;
  repair.reasons.insert(wanted.reason);
  repair.tables.insert(wanted.tables.begin(), wanted.tables.end());
  repair.parts.insert(wanted.parts.begin(), wanted.parts.end());
  repair.is_gap = wanted.is_gap;
  repair.after_connect = wanted.after_connect;
  repairs_.push_back(std::move(repair));
}

std::set<std::string> Repairs::drop_unbegun() {
  std::set<std::string> dropped;
  EVICTD_CHECK(walk_ == nullptr || repairs_[walking_].state != State::kWaiting);
  for (std::size_t index = 0; index < repairs_.size();) {
    if (repairs_[index].state == State::kWaiting && repairs_[index].after_connect) {
      dropped.merge(repairs_[index].reasons);
      repairs_.erase(repairs_.begin() + static_cast<std::ptrdiff_t>(index));
      if (walk_ && walking_ > index) --walking_;
    } else {
      ++index;
    }
  }
  return dropped;
}

std::set<std::string> Repairs::reasons(bool with_late) const {
  std::set<std::string> all;
  for (const Repair& repair : repairs_) {
    if (repair.state == State::kLate && !with_late) continue;
    all.insert(repair.reasons.begin(), repair.reasons.end());
  }
  return all;
}

bool Repairs::waits_for_connect() const {
  return std::any_of(repairs_.begin(), repairs_.end(), [](const Repair& repair) {
    return repair.state == State::kWaiting && repair.after_connect;
  });
}

bool Repairs::is_to_begin(const std::string& reason) const {
  return std::any_of(repairs_.begin(), repairs_.end(), [&](const Repair& repair) {
    return repair.state == State::kWaiting && repair.after_connect && repair.reasons.contains(reason);
  });
}

// What is walked is decided when the walk begins: by the rules of then, and with the transactions that are in progress
// then, since one of them may be a lost commit that hangs behind a standby.
void Repairs::begin(Repair& repair, SteadyTime now, const Conditions& conditions) {
  repair.rules = conditions.rules;
  const std::vector<RuleInfo>& rules = repair.rules->rules();
  for (std::size_t index = 0; index < rules.size(); ++index) {
    const RuleInfo& rule = rules[index];
    if (!(*conditions.acts)[index]) continue;
    if (!repair.tables.empty() && !repair.tables.contains(rule.qualified_table())) continue;
    for (const Pattern& pattern : rule.patterns) {
      if (pattern.is_surrogate != options_.is_edge) continue;
      repair.patterns.push_back({&rule, &pattern});
      if (rule.fill == FillMode::kChecked && !pattern.is_bump && !pattern.is_surrogate) repair.checked.push_back(repair.patterns.back());
      repair.settle = std::max(repair.settle, std::max(rule.settle, kSettleMin) + options_.origin_time);
    }
  }
  repair.is_blind = !has_snapshot(conditions);
  if (!repair.is_blind) {
    repair.hanging = (*conditions.snapshot)->in_progress();
    repair.floor = floor_of(conditions);
  }
  if (repair.hanging.empty()) repair.visible_at = now;
  repair.began_at = now;
  // Snapshots of a history that is over are numbers like those of this one, and mostly higher: no floor refuses them, and what was
  // filled with them passes for newer than what changes now (tests/model/epoch.pml).
  if (repair.is_gap && !repair.checked.empty() && conditions.history_since > now - options_.tombstone_ttl) {
    repair.readers_at = conditions.history_since + options_.tombstone_ttl;
  }
  repair.state = State::kFirst;
}

void Repairs::make_walk(Repair& repair, std::vector<PatternRef> patterns, Act act, SteadyTime now) {
  std::string reason;
  for (const std::string& one : repair.reasons) reason += (reason.empty() ? "" : ", ") + one;
  walk_ = std::make_unique<Walk>(Walk{repair.rules, std::move(patterns), act, repair.floor, std::move(reason), now, {repair.parts.begin(), repair.parts.end()}});
}

bool Repairs::is_walk_of_late_readers() const {
  EVICTD_CHECK(walk_ != nullptr);
  return repairs_[walking_].late_under_way == Repair::Late::kReaders;
}

std::optional<SteadyTime> Repairs::due(const Repair& repair) const {
  switch (repair.state) {
    case State::kWaiting:
    case State::kFirst:
    case State::kSecond:
      return std::nullopt;
    case State::kSettling:
      // A repair does not wait for ever for transactions that merely might have been lost.
      return repair.visible_at ? std::max(*repair.visible_at, repair.first_done_at) + repair.settle
                               : repair.first_done_at + options_.tombstone_ttl;
    case State::kLate: {
      std::optional<SteadyTime> earliest = repair.readers_at;
      if (repair.is_late_for_hanging && repair.visible_at) {
        const SteadyTime hanging = *repair.visible_at + repair.settle;
        earliest = earliest ? std::min(*earliest, hanging) : hanging;
      }
      return earliest;
    }
  }
  return std::nullopt;
}

// It began while there was nobody to give a snapshot (a source that connects anew), and there may be by now.
bool Repairs::look_around(Repair& repair, SteadyTime now, const Conditions& conditions) {
  if (!conditions.has_snapshots) {
    if (conditions.is_streaming) repair.is_blind = false;  // this source has none
    return true;
  }
  repair.waits_for_snapshot = !(has_snapshot(conditions) && conditions.snapshot_asked_at >= repair.opened_at);
  if (repair.waits_for_snapshot) {
    wants_snapshot_ = true;
    return false;
  }
  repair.is_blind = false;
  repair.hanging = (*conditions.snapshot)->in_progress();
  if (repair.state == State::kLate) {
    // Some may have hung until just now, and what was read before they were visible stored after the second walk.
    repair.is_late_for_hanging = true;
    repair.visible_at = repair.hanging.empty() ? std::optional(now) : std::nullopt;
    return false;
  }
  // The second walk leaves the floor, and what readers of before filled meanwhile goes.
  if (!repair.checked.empty()) {
    repair.floor = floor_of(conditions);
    repair.leaves_floor = true;
  }
  if (repair.hanging.empty()) return true;
  repair.visible_at.reset();
  return false;
}

const Repairs::Walk* Repairs::next(SteadyTime now, const Conditions& conditions) {
  if (walk_) return nullptr;
  for (std::size_t index = 0; index < repairs_.size(); ++index) {
    Repair& repair = repairs_[index];
    if (repair.state == State::kWaiting) {
      if (repair.after_connect && !conditions.is_streaming) continue;
      // The floor for fills wants a snapshot, when there is a server to give one. One from before the gap was found would
      // let in what was read between the two.
      if (conditions.has_snapshots && !(has_snapshot(conditions) && conditions.snapshot_asked_at >= repair.opened_at)) {
        wants_snapshot_ = true;
        continue;
      }
      begin(repair, now, conditions);
      if (repair.patterns.empty()) {
        ready_.insert(ready_.end(), repair.reasons.begin(), repair.reasons.end());
        closed_.insert(closed_.end(), repair.reasons.begin(), repair.reasons.end());
        repairs_.erase(repairs_.begin() + static_cast<std::ptrdiff_t>(index--));
        continue;
      }
      make_walk(repair, repair.patterns, Act::kInvalidate, now);
      walking_ = index;
      return walk_.get();
    }
    if (repair.is_blind && repair.state == State::kLate) {
      look_around(repair, now, conditions);
      if (!repair.is_blind && close_if_over(repairs_.begin() + static_cast<std::ptrdiff_t>(index))) {
        --index;
        continue;
      }
    }
    const auto at = due(repair);
    if (!at || *at > now) continue;
    if (repair.state == State::kSettling) {
      if (repair.is_blind && !look_around(repair, now, conditions)) continue;
      walking_ = index;
      repair.state = State::kSecond;
      // What still hangs is purged once more when it becomes visible.
      repair.is_late_for_hanging = !repair.visible_at;
      make_walk(repair, repair.patterns, repair.leaves_floor ? Act::kInvalidate : Act::kSettle, now);
      return walk_.get();
    }
    walking_ = index;
    if (repair.readers_at && *repair.readers_at <= now) {
      repair.late_under_way = Repair::Late::kReaders;
      make_walk(repair, repair.checked, Act::kSettle, now);
    } else {
      repair.late_under_way = Repair::Late::kHanging;
      make_walk(repair, repair.patterns, Act::kSettle, now);
    }
    return walk_.get();
  }
  return nullptr;
}

void Repairs::done(SteadyTime now) {
  EVICTD_CHECK(walk_ != nullptr);
  walk_.reset();
  const auto place = repairs_.begin() + static_cast<std::ptrdiff_t>(walking_);
  Repair& repair = *place;
  switch (repair.state) {
    case State::kFirst:
      repair.first_done_at = now;
      repair.state = State::kSettling;
      return;
    case State::kSecond:
      repair.state = State::kLate;
      ready_.insert(ready_.end(), repair.reasons.begin(), repair.reasons.end());
      // A checked reader that began before the gap may fill until tombstone_ttl from the first walk. The walk left a
      // tombstone for keys that were not there (Order::floor), which refuses it; without a snapshot it asks for nothing.
      if (!repair.checked.empty() && repair.floor == Xid{}) repair.readers_at = repair.began_at + options_.tombstone_ttl;
      break;
    case State::kLate:
      if (repair.late_under_way == Repair::Late::kReaders) {
        repair.readers_at.reset();
      } else {
        repair.is_late_for_hanging = false;
      }
      repair.late_under_way = Repair::Late::kNone;
      break;
    case State::kWaiting:
    case State::kSettling:
      EVICTD_CHECK(false);
  }
  close_if_over(place);
}

bool Repairs::close_if_over(std::deque<Repair>::iterator repair) {
  if (repair->state != State::kLate || repair->readers_at || repair->is_late_for_hanging || repair->is_blind) return false;
  const std::set<std::string> reasons = std::move(repair->reasons);
  repairs_.erase(repair);
  // Another repair of the same reason keeps it on record.
  const std::set<std::string> rest = this->reasons(true);
  for (const std::string& reason : reasons) {
    if (!rest.contains(reason)) closed_.push_back(reason);
  }
  return true;
}

void Repairs::lost() {
  EVICTD_CHECK(walk_ != nullptr);
  Repair& repair = repairs_[walking_];
  walk_.reset();
  switch (repair.state) {
    case State::kFirst:
      return reset(repair, repair.opened_at);
    case State::kSecond:
      repair.state = State::kSettling;
      return;
    default:
      repair.late_under_way = Repair::Late::kNone;
  }
}

// Begins anew, under the rules and with the snapshot of then.
void Repairs::reset(Repair& repair, SteadyTime opened_at) {
  Repair again;
  again.opened_at = opened_at;
  again.reasons = std::move(repair.reasons);
  again.tables = std::move(repair.tables);
  again.parts = std::move(repair.parts);
  again.is_gap = repair.is_gap;
  again.after_connect = repair.after_connect;
  repair = std::move(again);
}

void Repairs::begin_again(SteadyTime now) {
  EVICTD_CHECK(walk_ == nullptr);
  for (Repair& repair : repairs_) reset(repair, now);
}

void Repairs::snapshot(const Snapshot& snapshot, SteadyTime now) {
  wants_snapshot_ = false;
  for (Repair& repair : repairs_) {
    if (repair.visible_at || repair.state == State::kWaiting) continue;
    std::erase_if(repair.hanging, [&](Xid xid) { return snapshot.sees(xid); });
    if (repair.hanging.empty()) repair.visible_at = now;
  }
}

void Repairs::forget_other_history(SteadyTime now) {
  for (Repair& repair : repairs_) {
    if (repair.visible_at || repair.state == State::kWaiting) continue;
    repair.hanging.clear();
    repair.visible_at = now;
  }
}

bool Repairs::waits_for_visibility() const {
  return wants_snapshot_ || std::any_of(repairs_.begin(), repairs_.end(),
                     [](const Repair& repair) { return repair.state != State::kWaiting && !repair.visible_at; });
}

SteadyTime Repairs::wake_at() const {
  SteadyTime earliest = SteadyTime::max();
  if (walk_) return earliest;
  for (const Repair& repair : repairs_) {
    if (const auto at = due(repair); at && !repair.waits_for_snapshot) earliest = std::min(earliest, *at);
  }
  return earliest;
}

}  // namespace evictd
