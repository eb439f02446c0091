#include "daemon/app/loop.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "daemon/app/audit_thread.h"
#include "daemon/app/refresh_thread.h"
#include "daemon/base/poll.h"
#include "daemon/base/text.h"

namespace evictd {
namespace {

// A snapshot of the status is made at most this often, and is at most this old while the loop
// turns.
constexpr std::chrono::milliseconds kPublishInterval{100};
// The loop turns at least this often, for /livez.
constexpr std::chrono::milliseconds kIdleTurn{1000};
// Between two attempts to read new rules, or to have them compared with the tables, while nobody can; and so many times as long as
// the last one took, since it may be a look at thousands of partitions that a busy server ended.
constexpr std::chrono::milliseconds kRulesRetry{1000};
constexpr std::chrono::seconds kRulesRetryMax{30};
constexpr int kRulesRest = 20;
// The pause after the system refused to wait.
constexpr std::chrono::milliseconds kRefusedPause{50};
constexpr const char* kComesAgain = "what is in hand comes again at the next start";

LogLevel level_of(FlowEvent::Level level) {
  switch (level) {
    case FlowEvent::Level::kDebug:
      return LogLevel::kDebug;
    case FlowEvent::Level::kInfo:
      return LogLevel::kInfo;
    case FlowEvent::Level::kWarning:
      return LogLevel::kWarning;
    case FlowEvent::Level::kError:
      return LogLevel::kError;
  }
  return LogLevel::kError;
}

}  // namespace

Loop::Loop(Parts parts) : parts_(std::move(parts)) { take_rules(); }

void Loop::take_rules() {
  auto list = std::make_shared<std::vector<StatusRule>>();
  for (const RuleInfo& rule : parts_.flow.rules().rules()) {
    list->push_back({rule.name, rule.qualified_table(), rule.place.to_string()});
  }
  rules_ = std::move(list);
  parts_.metrics.set_rules(parts_.flow.rules().rules());
  if (parts_.activity != nullptr) parts_.activity->set_rules(parts_.flow.rules().rules());
  // Nobody reads them for themselves: a file that was edited and not reloaded, or refused, is not in force.
  if (parts_.audit != nullptr) parts_.audit->use(parts_.flow.shared_rules());
  for (RefreshThread* refresh : parts_.refreshes) refresh->use(parts_.flow.shared_rules());
}

int Loop::run() {
  Now now = read_clocks();
  parts_.flow.start(now);
  notify_service_manager("READY=1");
  while (true) {
    now = read_clocks();
    parts_.board.turned(now.steady);
    if (parts_.activity != nullptr) parts_.activity->turn(now);
    if (signals_came_) take_signals(now);
    if (exit_at_once_) return 1;
    parts_.flow.step(now);
    finish_reload(now);
    log_events(now);
    parts_.log.flush();
    if (const std::optional<Error>& failure = parts_.flow.failure()) {
      parts_.log.error(*failure);
      return failure->kind == ErrorKind::kUsage ? 2 : 1;
    }
    if (stopping_ && parts_.flow.finished()) {
      const std::uint64_t in_hand = parts_.flow.status().inflight_transactions;
      parts_.log.info(in_hand == 0 ? "stopped" : fmt::format("stopped with {} in hand: {}", counted(in_hand, "transaction"), kComesAgain));
      return 0;
    }
    if (stopping_ && now.steady >= stop_deadline_) {
      parts_.log.warning(
          fmt::format("stopped with {} in hand after {} s",
                      counted(parts_.flow.status().inflight_transactions, "transaction"), std::chrono::duration_cast<std::chrono::seconds>(parts_.drain_max).count()),
          kComesAgain);
      return 0;
    }
    published_ = now.steady - published_at_ >= kPublishInterval;
    if (published_) publish(now);
    wait(now);
  }
}

void Loop::take_signals(Now now) {
  while (const std::optional<Signal> signal = parts_.signals.next()) {
    if (*signal == Signal::kReload) {
      reload(now);
    } else if (stopping_) {
      parts_.log.warning("asked to stop again: leaving at once");
      exit_at_once_ = true;
    } else {
      begin_stop(now);
    }
  }
}

void Loop::begin_stop(Now now) {
  stopping_ = true;
  stop_deadline_ = now.steady + parts_.drain_max;
  notify_service_manager("STOPPING=1");
  parts_.log.info("stopping: finishing what is in hand");
  parts_.flow.stop(now, stop_deadline_);
  publish(now);
}

void Loop::reload(Now now) {
  if (stopping_) return;
  new_rules_.reset();
  reload_on_at_.reset();
  reload_tried_at_ = now.steady;
  Result<RuleSet> rules = parts_.read_rules();
  if (!rules && rules.error().kind == ErrorKind::kTransient) return put_off_rules(rules.error(), now);
  if (!rules) return refuse_rules(rules.error(), now);
  new_rules_ = std::move(*rules);
  if (refused_by_cache(now)) return;
  parts_.source.check_rules(*new_rules_);
  publish(now);  // whoever asked for them may look at once whether they are in force
}

// Taken over, they would leave that cache unfollowed.
bool Loop::refused_by_cache(Now now) {
  const std::optional<Error> refusal = parts_.flow.refusal(*new_rules_);
  if (refusal) refuse_rules(*refusal, now);
  return refusal.has_value();
}

// They are read, and compared with the tables, as soon as that is possible: whoever asked for the reload is gone by then.
void Loop::put_off_rules(const Error& error, Now now) {
  const SteadyTime::duration rest = kRulesRest * (now.steady - reload_tried_at_);
  reload_on_at_ = now.steady + std::clamp<SteadyTime::duration>(rest, kRulesRetry, kRulesRetryMax);
  if (reload_problem_ != error.text) tell_not_reloaded(error, "the rules are reloaded later: until then the old ones stay", now);
}

void Loop::refuse_rules(const Error& error, Now now) {
  new_rules_.reset();
  tell_not_reloaded(error, "the rules were not reloaded: the old ones stay", now);
}

void Loop::tell_not_reloaded(const Error& error, const std::string& consequence, Now now) {
  parts_.metrics.rules_reloaded(false);
  reload_problem_ = error.text;
  if (parts_.activity != nullptr) parts_.activity->reloaded({now.system, false, error.text});
  parts_.log.error(error);
  parts_.log.warning(consequence);
  publish(now);
}

void Loop::finish_reload(Now now) {
  if (stopping_) return;
  if (reload_on_at_) {
    if (now.steady < *reload_on_at_) return;
    reload_on_at_.reset();
    if (!new_rules_) return reload(now);
    reload_tried_at_ = now.steady;
    if (refused_by_cache(now)) return;
    parts_.source.check_rules(*new_rules_);
  }
  if (!new_rules_) return;
  const std::optional<Result<void>> checked = parts_.source.take_rules_check();
  if (!checked) return;
  if (!*checked && checked->error().kind == ErrorKind::kConnection) return put_off_rules(checked->error(), now);
  if (!*checked) return refuse_rules(checked->error(), now);
  // What is behind it may have been found out meanwhile. What the source compared last is what it goes by.
  if (refused_by_cache(now)) return parts_.source.check_rules(parts_.flow.rules());
  parts_.metrics.rules_reloaded(true);
  reload_problem_.clear();
  const std::string difference = rules_difference(parts_.flow.rules().rules(), new_rules_->rules());
  parts_.flow.reload(std::move(*std::exchange(new_rules_, std::nullopt)), now);
  take_rules();
  if (parts_.activity != nullptr) parts_.activity->reloaded({now.system, true, difference});
  parts_.log.info(fmt::format("reloaded the rules: {} for {}; changed: {}", counted(rules_->size(), "rule"),
                              counted(parts_.flow.rules().tables().size(), "table"), difference));
  publish(now);
}

void Loop::log_events(Now now) {
  for (const FlowEvent& event : parts_.flow.take_events()) {
    if (event.level == FlowEvent::Level::kDebug) {  // for somebody who wants to see each of them
      parts_.log.debug(event.text);
    } else if (const std::optional<std::string> text = repeats_.pass(event.text, now.steady)) {
      parts_.log.write(level_of(event.level), *text, event.hint);
    }
  }
}

void Loop::publish(Now now) {
  parts_.metrics.flush();
  auto status = std::make_shared<Status>();
  status->identity = parts_.identity;
  status->rules = rules_;
  status->flow = parts_.flow.status();
  status->source = parts_.source.status();
  for (const LoopCache& cache : parts_.caches) {
    status->sinks.push_back({cache.name, cache.address, cache.sink->status()});
  }
  read_side_threads(*status, now);
  status->stopping = stopping_;
  status->reload_problem = reload_problem_;
  if (reload_on_at_) status->rules_to_come = reload_problem_;
  if (!reload_on_at_ && new_rules_) status->rules_to_come = "they are being compared with the tables";
  status->log_dropped_lines = parts_.log.dropped_lines();
  if (parts_.activity != nullptr) {
    if (!activity_ || parts_.activity->is_sample_due(now.steady)) {
      parts_.activity->sample(status->flow, status->source, now);
      activity_ = parts_.activity->view();
    }
    status->activity = activity_;
  }
  parts_.board.publish(std::move(status));
  published_at_ = now.steady;
}

void Loop::read_side_threads(Status& status, Now now) {
  struct Problem {
    std::string text;
    const char* hint;
  };
  std::vector<Problem> problems;
  for (const RefreshThread* refresh : parts_.refreshes) {
    status.refreshes.push_back(refresh->status());
    for (const std::string& problem : status.refreshes.back()->problems) {
      problems.push_back({"not refreshed: " + problem, "the keys stay deleted, and readers fill them; nothing else is held up"});
    }
  }
  if (parts_.audit != nullptr) {
    status.audit = parts_.audit->status();
    if (!status.audit->problem.empty()) {
      problems.push_back({"not audited: " + status.audit->problem, "it is tried again each few seconds; nothing else is held up"});
    }
  }
  std::vector<std::string> texts;
  for (Problem& problem : problems) {
    const bool is_new = std::find(side_problems_.begin(), side_problems_.end(), problem.text) == side_problems_.end();
    if (const std::optional<std::string> text = is_new ? repeats_.pass(problem.text, now.steady) : std::nullopt) {
      parts_.log.warning(*text, problem.hint);
    }
    texts.push_back(std::move(problem.text));
  }
  side_problems_ = std::move(texts);
}

void Loop::wait(Now now) {
  Waiting waiting;
  waiting.descriptors = std::move(descriptors_);
  waiting.descriptors.clear();
  waiting.descriptors.push_back(pollfd{parts_.signals.descriptor(), POLLIN, 0});
  waiting.wake_at(published_ ? now.steady + kIdleTurn : published_at_ + kPublishInterval);
  if (stopping_) waiting.wake_at(stop_deadline_);
  if (reload_on_at_) waiting.wake_at(*reload_on_at_);
  parts_.flow.wait_for(waiting, now);
  parts_.log.wait_for(waiting, now.steady);

  const int ready = wait_for_any(waiting);
  // Refused without memory, and when the limit of descriptors was lowered below what is open: the next turn tries again.
  if (ready < 0 && errno != EINTR) std::this_thread::sleep_for(kRefusedPause);
  descriptors_ = std::move(waiting.descriptors);
  signals_came_ = ready > 0 && descriptors_.front().revents != 0;
}

}  // namespace evictd
