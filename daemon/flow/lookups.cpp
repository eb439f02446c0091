#include "daemon/flow/lookups.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "mapping/check.h"

namespace evictd {
namespace {

// What waits for its turn longer than this is purged instead: the record must move on. Not counted from the snapshot that saw
// its transaction, which may be as old as the connection while evictd catches up.
constexpr std::chrono::seconds kWaitMax{30};
// Between two tries of a lookup that does not work. Each may take as long as the database lets it, and others wait behind it.
constexpr std::chrono::seconds kAgain{30};
// Of the values of one question.
constexpr std::size_t kAskedBytesMax = 1024 * 1024;

std::size_t bytes_of(const BatchLookup::Item& item) {
  std::size_t bytes = 0;
  for (const std::string& value : item.values) bytes += value.size();
  return bytes;
}

}  // namespace

LookupQueue::LookupQueue(Source& source, Observer& observer, FlowEvents& events, LookupsOut& out, std::size_t batch_items_max,
                         std::size_t batch_bytes_max)
    : source_(source), observer_(observer), events_(events), out_(out), builder_(batch_items_max, batch_bytes_max) {}

void LookupQueue::forget_all() {
  waiting_.clear();
  queue_.clear();
  asked_.reset();
  problems_.clear();
}

void LookupQueue::use(const std::shared_ptr<const RuleSet>& rules) {
  current_ = rules;
  for (auto problem = problems_.begin(); problem != problems_.end();) {
    problem = is_current(problem->second.again) ? std::next(problem) : problems_.erase(problem);
  }
}

// True when the rules in force have the same lookup, which the request is of then.
bool LookupQueue::is_current(LookupRequest& request) const {
  if (current_ == nullptr || request.rules == current_) return true;
  const RuleInfo& before = request.rules->rules()[request.rule];
  for (std::uint32_t rule = 0; rule < current_->rules().size(); ++rule) {
    const RuleInfo& now = current_->rules()[rule];
    if (now.name != before.name || now.digest != before.digest || now.lookups.size() <= request.lookup) continue;
    request.rules = current_;
    request.rule = rule;
    return true;
  }
  return false;
}

bool LookupQueue::has_failed(LookupRequest request, std::string text, Now now) {
  if (!is_current(request)) return true;
  Problem& problem = problems_[{request.rules->rules()[request.rule].name, request.lookup}];
  const bool is_new = problem.text != text;
  problem = {std::move(text), std::move(request), now.steady + kAgain};
  return is_new;
}

void LookupQueue::has_worked(const LookupName& lookup) {
  if (problems_.erase(lookup) == 0) return;
  events_.info(problems_.empty() ? "lookups work again" : fmt::format("lookups of rule '{}' work again", lookup.first));
}

LookupRequest LookupQueue::request_of(const Piece& piece) const {
  LookupRequest request;
  request.rules = waiting_.at(piece.number).batch->rules;
  request.rule = piece.lookup->rule;
  request.lookup = piece.lookup->lookup;
  for (const std::string& value : piece.lookup->items[piece.begin].values) request.values.push_back({value});
  return request;
}

// While nothing else is asked.
void LookupQueue::ask_again(Now now) {
  const auto due = std::find_if(problems_.begin(), problems_.end(), [&](const auto& entry) { return entry.second.again_at <= now.steady; });
  if (due == problems_.end()) return;
  asked_again_ = due->first;
  asked_.emplace();
  asked_at_ = now.steady;
  LookupRequest request = due->second.again;
  request.number = ++last_request_;
  source_.look_up(std::move(request), now);
}

const RuleInfo& LookupQueue::rule_of(const Piece& piece) const {
  return waiting_.at(piece.number).batch->rules->rules()[piece.lookup->rule];
}

void LookupQueue::take(const std::shared_ptr<const Batch>& batch, std::optional<SteadyTime> visible_at, Now now) {
  if (batch->lookups.empty()) return;
  Waiting& waiting = waiting_[batch->number];
  waiting = {batch, visible_at, 0};
  if (visible_at) enqueue(waiting, now);
}

void LookupQueue::became_visible(std::uint64_t number, SteadyTime since, Now now) {
  const auto found = waiting_.find(number);
  if (found == waiting_.end() || found->second.visible_at) return;
  found->second.visible_at = since;
  enqueue(found->second, now);
}

void LookupQueue::take_ahead(const std::shared_ptr<const Batch>& ahead, SteadyTime visible_at, std::uint64_t of, Now now) {
  if (const auto found = waiting_.find(of); found != waiting_.end()) {
    std::vector<Xid>& known = found->second.ahead;
    known.insert(known.end(), ahead->xids.begin(), ahead->xids.end());
    std::sort(known.begin(), known.end());
  }
  take(ahead, visible_at, now);
}

bool LookupQueue::Waiting::is_done(const BatchLookup::Item& item) const {
  return std::all_of(item.xids.begin(), item.xids.end(), [this](Xid xid) { return std::binary_search(ahead.begin(), ahead.end(), xid); });
}

void LookupQueue::enqueue(Waiting& waiting, Now now) {
  for (const BatchLookup& lookup : waiting.batch->lookups) {
    for (std::size_t begin = 0; begin < lookup.items.size();) {
      if (waiting.is_done(lookup.items[begin])) {
        ++begin;
        continue;
      }
      std::size_t end = begin;
      std::size_t bytes = 0;
      while (end < lookup.items.size() && end - begin < kLookupItemsMax && (end == begin || bytes < kAskedBytesMax) &&
             !waiting.is_done(lookup.items[end])) {
        bytes += bytes_of(lookup.items[end++]);
      }
      queue_.push_back({waiting.batch->number, &lookup, begin, end, now.steady});
      ++waiting.pieces_left;
      begin = end;
    }
  }
  if (waiting.pieces_left == 0) all_done(waiting.batch->number);
  step(now);
}

void LookupQueue::step(Now now) {
  now_ = now;
  while (!asked_ && !queue_.empty()) {
    const Piece piece = queue_.front();
    const bool has_room = out_.has_room_for_found();
    if (now.steady - piece.queued_at < kWaitMax) {
      if (has_room) ask(now);
      return;
    }
    queue_.pop_front();
    observer_.looked_up({rule_of(piece), true, piece.end - piece.begin, 0, 0, {}});
    const char* why = has_room ? "the database is too slow for them" : "the caches are too slow for what they find";
    if (has_failed(request_of(piece), why, now)) {
      events_.warning(fmt::format("lookups of rule '{}' are late by {} s, {}: its patterns are purged instead", rule_of(piece).name,
                                  kWaitMax.count(), why));
    }
    give_up(piece, now);
  }
  if (!asked_) ask_again(now);
}

SteadyTime LookupQueue::wake_at() const {
  if (asked_) return SteadyTime::max();
  if (!queue_.empty()) return out_.has_room_for_found() ? SteadyTime::min() : queue_.front().queued_at + kWaitMax;
  SteadyTime at = SteadyTime::max();
  for (const auto& [lookup, problem] : problems_) at = std::min(at, problem.again_at);
  return at;
}

// The oldest piece, with all others of the same lookup that fit.
void LookupQueue::ask(Now now) {
  const Piece first = queue_.front();
  const std::shared_ptr<const Batch>& batch = waiting_.at(first.number).batch;
  LookupRequest request;
  request.number = ++last_request_;
  request.rules = batch->rules;
  request.rule = first.lookup->rule;
  request.lookup = first.lookup->lookup;
  request.values.resize(first.lookup->items[first.begin].values.size());
  std::vector<Piece> pieces;
  std::size_t items = 0;
  std::size_t bytes = 0;
  std::deque<Piece> rest;
  for (const Piece& piece : queue_) {
    std::size_t more = 0;
    for (std::size_t i = piece.begin; i < piece.end; ++i) more += bytes_of(piece.lookup->items[i]);
    const bool is_same = piece.lookup->rule == request.rule && piece.lookup->lookup == request.lookup &&
                         waiting_.at(piece.number).batch->rules == request.rules;
    const bool fits = items + piece.end - piece.begin <= items_max_ && bytes + more <= kAskedBytesMax;
    if (!pieces.empty() && (!is_same || !fits)) {
      rest.push_back(piece);
      continue;
    }
    Piece taken = piece;
    if (taken.end - taken.begin > items_max_) {
      taken.end = taken.begin + items_max_;
      rest.push_back({piece.number, piece.lookup, taken.end, piece.end, piece.queued_at});
      ++waiting_.at(piece.number).pieces_left;
    }
    items += taken.end - taken.begin;
    bytes += more;
    pieces.push_back(taken);
    for (std::size_t i = taken.begin; i < taken.end; ++i) {
      const std::vector<std::string>& values = piece.lookup->items[i].values;
      for (std::size_t column = 0; column < values.size(); ++column) request.values[column].push_back(values[column]);
    }
  }
  queue_ = std::move(rest);
  asked_ = std::move(pieces);
  asked_at_ = now.steady;
  source_.look_up(std::move(request), now);
}

void LookupQueue::answer(const LookupAnswer& answer, Now now) {
  now_ = now;
  if (!asked_ || answer.number != last_request_) return;  // of an earlier connection
  const std::vector<Piece> pieces = *std::exchange(asked_, std::nullopt);
  if (pieces.empty()) {
    const auto problem = problems_.find(asked_again_);
    if (problem != problems_.end() && answer.outcome == LookupAnswer::Outcome::kFailed) {
      problem->second.text = answer.problem;
      problem->second.again_at = now.steady + kAgain;
    } else {
      has_worked(asked_again_);
    }
    return step(now);
  }
  const RuleInfo& rule = rule_of(pieces[0]);
  std::size_t items = 0;
  for (const Piece& piece : pieces) items += piece.end - piece.begin;
  Observer::LookedUp told{rule, false, items, answer.rows.size(), 0,
                          std::chrono::duration_cast<std::chrono::microseconds>(now.steady - asked_at_)};
  if (answer.outcome == LookupAnswer::Outcome::kTooMuch && items > 1) {
    items_max_ = std::max<std::size_t>(1, items / 2);
    queue_.insert(queue_.begin(), pieces.begin(), pieces.end());
    return step(now);
  }
  items_max_ = std::min(items_max_ * 2, kLookupItemsMax);
  if (answer.outcome == LookupAnswer::Outcome::kFailed) {
    told.is_failed = true;
    observer_.looked_up(told);
    if (has_failed(request_of(pieces[0]), answer.problem, now)) {
      events_.warning(fmt::format("a lookup of rule '{}' ({}) failed: {}", rule.name, rule.place.to_string(), answer.problem),
                      "its patterns are purged instead, until lookups work again; `evictd check` compares them with the database");
    }
    for (const Piece& piece : pieces) give_up(piece, now);
    return step(now);
  }
  if (answer.outcome == LookupAnswer::Outcome::kFound) has_worked({rule.name, pieces[0].lookup->lookup});
  const FoundRows found(answer, items);
  std::size_t first_item = 0;
  for (const Piece& piece : pieces) {
    if (answer.outcome == LookupAnswer::Outcome::kTooMuch) {
      ++told.overflows;
      const RuleInfo& info = rule_of(piece);
      if (info.on_overflow == OnOverflow::kStop) {
        out_.on_overflow_stop(Error{ErrorKind::kFatal, fmt::format("{}: one row leads to more rows of rule '{}' than can be held",
                                                                   info.place.to_string(), info.name),
                                    "choose on_overflow: purge"});
      }
      give_up(piece, now);
      continue;
    }
    render(piece, answer.found, found, first_item, told);
    first_item += piece.end - piece.begin;
  }
  observer_.looked_up(told);
  step(now);
}

void LookupQueue::render(const Piece& piece, const Relation& columns, const FoundRows& found, std::size_t first_item,
                         Observer::LookedUp& told) {
  const Waiting& waiting = waiting_.at(piece.number);
  const RuleInfo& rule = rule_of(piece);
  use_rules_of(waiting);
  mapper_->bind_found(piece.lookup->rule, piece.lookup->lookup, columns);
  const std::size_t items = piece.end - piece.begin;
  std::vector<bool> is_over(items, false);
  std::vector<std::vector<Rendered>> by_item(items);
  for (std::size_t item = 0; item < items; ++item) {
    is_over[item] = found.is_over(first_item + item, rule);
    if (is_over[item]) continue;
    for (const LookupAnswer::Row* row : found.of(first_item + item)) map_found(*row, *mapper_, *this);
    by_item[item] = std::exchange(rendered_, {});
  }
  // Transaction by transaction, as the builder has it: each item's texts under each of its transactions.
  std::vector<std::pair<Xid, std::size_t>> order;
  for (std::size_t item = 0; item < items; ++item) {
    for (const Xid xid : piece.lookup->items[piece.begin + item].xids) order.emplace_back(xid, item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return number(a.first) < number(b.first); });
  const SystemTime commit = waiting.batch->oldest_commit.value_or(SystemTime{});
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || order[i].first != order[i - 1].first) builder_.begin({0, order[i].first, commit});
    for (const Rendered& one : by_item[order[i].second]) {
      if (builder_.full() || builder_.crowded()) {
        flush(piece, false);
        builder_.begin({0, order[i].first, commit});
      }
      builder_.add(piece.lookup->rule, one.kind, one.text);
    }
  }
  const auto overflows = static_cast<std::uint64_t>(std::count(is_over.begin(), is_over.end(), true));
  if (overflows > 0) {
    told.overflows += overflows;
    if (rule.on_overflow == OnOverflow::kStop) {
      out_.on_overflow_stop(Error{ErrorKind::kFatal,
                                  fmt::format("{}: one row leads to more than {} rows (fan_out of rule '{}'), and the rule says "
                                              "on_overflow: stop",
                                              rule.place.to_string(), rule.fan_out, rule.name),
                                  "raise fan_out, or choose on_overflow: purge"});
      return;
    }
    events_.info(fmt::format("one row leads to more than {} rows of rule '{}': its patterns are purged instead", rule.fan_out, rule.name));
    purge_items(piece, is_over);
  }
  piece_done(piece);
}

void LookupQueue::unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view) {
  observer_.unmappable(rules_->rules()[rule], reason);
}

void LookupQueue::add(InvalidationKind kind, std::uint32_t, std::string_view text) { rendered_.push_back({kind, std::string(text)}); }

void LookupQueue::use_rules_of(const Waiting& waiting) {
  if (rules_ == waiting.batch->rules) return;
  rules_ = waiting.batch->rules;
  mapper_ = std::make_unique<Mapper>(*rules_);
  builder_.use(rules_);
}

void LookupQueue::give_up(const Piece& piece, Now now) {
  now_ = now;
  use_rules_of(waiting_.at(piece.number));
  purge_items(piece, std::vector<bool>(piece.end - piece.begin, true));
  piece_done(piece);
}

// Whatever these items may lead to goes.
void LookupQueue::purge_items(const Piece& piece, const std::vector<bool>& which) {
  const Waiting& waiting = waiting_.at(piece.number);
  const auto less = [](Xid a, Xid b) { return number(a) < number(b); };
  std::set<Xid, decltype(less)> xids(less);
  for (std::size_t i = 0; i < which.size(); ++i) {
    if (!which[i]) continue;
    const std::vector<Xid>& of_item = piece.lookup->items[piece.begin + i].xids;
    xids.insert(of_item.begin(), of_item.end());
  }
  for (const Xid xid : xids) {
    builder_.begin({0, xid, waiting.batch->oldest_commit.value_or(SystemTime{})});
    for (const std::uint32_t pattern : rule_of(piece).lookups[piece.lookup->lookup].templates) {
      builder_.add_purge(piece.lookup->rule, pattern);
    }
  }
}

void LookupQueue::flush(const Piece& piece, bool is_last) {
  const Waiting& waiting = waiting_.at(piece.number);
  if (builder_.empty()) return;
  std::unique_ptr<Batch> batch = builder_.take();
  batch->number = out_.take_batch_number();
  batch->session = waiting.batch->session;
  batch->is_cut = true;
  if (is_last) batch->commits = waiting.batch->lookup_commits;
  out_.on_found(std::move(batch), *waiting.visible_at, piece.number);
}

void LookupQueue::piece_done(const Piece& piece) {
  Waiting& waiting = waiting_.at(piece.number);
  const bool is_last = waiting.pieces_left == 1;
  flush(piece, is_last);
  builder_.cut_off();
  if (!is_last) {
    --waiting.pieces_left;
    return;
  }
  all_done(piece.number);
}

void LookupQueue::all_done(std::uint64_t number) {
  waiting_.erase(number);
  out_.on_looked_up(number);
}

std::optional<SystemTime> LookupQueue::oldest_commit() const {
  for (const auto& [number, waiting] : waiting_) {
    if (waiting.visible_at && waiting.batch->oldest_commit) return waiting.batch->oldest_commit;
  }
  return std::nullopt;
}

}  // namespace evictd
