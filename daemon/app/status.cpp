#include "daemon/app/status.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <algorithm>

#include "daemon/app/audit_thread.h"
#include "daemon/app/refresh_thread.h"
#include "daemon/base/json.h"

namespace evictd {
namespace {

void add_once(std::vector<std::string>& reasons, const std::string& reason) {
  if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end()) reasons.push_back(reason);
}

double seconds(std::chrono::microseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

template <typename Number>
void optional_field(JsonWriter& json, std::string_view name, const std::optional<Number>& value) {
  if (value) {
    json.field(name, *value);
  } else {
    json.field_null(name);
  }
}

void time_field(JsonWriter& json, std::string_view name, const std::optional<SystemTime>& time) {
  if (time) {
    json.field(name, time_text(*time));
  } else {
    json.field_null(name);
  }
}

void text_field(JsonWriter& json, std::string_view name, const std::string& text) {
  if (text.empty()) {
    json.field_null(name);
  } else {
    json.field(name, text);
  }
}

void write_source(JsonWriter& json, const Status& status) {
  const SourceStatus& source = status.source;
  json.begin_object("source").field("address", status.identity->source);
  json.field("state", source.state).field("connected", source.connected);
  json.field("active", source.active);
  text_field(json, "problem", source.problem.value_or(""));
  optional_field(json, "lag_bytes", source.lag_bytes);
  optional_field(json, "slot_retained_bytes", source.slot_retained_bytes);
  optional_field(json, "slot_safe_wal_bytes", source.slot_safe_wal_bytes);
  json.end_object();
}

void write_flow(JsonWriter& json, const FlowStatus& flow, Now now) {
  json.begin_object("flow");
  if (flow.last_heartbeat) {
    json.field("heartbeat_age_seconds",
               std::chrono::duration<double>(now.steady - *flow.last_heartbeat).count());
  } else {
    json.field_null("heartbeat_age_seconds");
  }
  if (flow.acknowledged) {
    json.field("acknowledged", flow.acknowledged->value);
  } else {
    json.field_null("acknowledged");
  }
  json.end_object();
}

void write_caches(JsonWriter& json, const Status& status) {
  json.begin_array("caches");
  for (std::size_t index = 0; index < status.flow.lanes.size(); ++index) {
    const LaneStatus& lane = status.flow.lanes[index];
    json.begin_object().field("name", lane.name);
    if (index < status.sinks.size()) {
      const StatusSink& cache = status.sinks[index];
      json.field("address", cache.address).field("state", cache.sink.state);
      text_field(json, "problem", cache.sink.problem.value_or(""));
      optional_field(json, "evicted_keys", cache.sink.evicted_keys);
    }
    json.field("connected", lane.is_connected).field("parked", lane.is_parked).field("behind", lane.is_behind);
    if (lane.lag) {
      json.field("lag_seconds", seconds(*lane.lag));
    } else {
      json.field_null("lag_seconds");
    }
    time_field(json, "last_applied_commit", lane.last_applied_commit);
    json.field("inflight_transactions", lane.held_transactions).field("inflight_bytes", lane.held_bytes);
    json.begin_array("gaps");
    for (const std::string& reason : lane.gaps) json.value(reason);
    json.end_array().end_object();
  }
  json.end_array();
}

void write_audit(JsonWriter& json, const AuditStatus& audit) {
  const auto write_counts = [&json](const AuditCounts& counts) {
    json.field("checked", counts.checked()).field("fresh", counts.fresh).field("stale", counts.stale);
    json.field("in_flight", counts.in_flight).field("unreadable", counts.unreadable);
  };
  json.begin_object("audit");
  text_field(json, "problem", audit.problem);
  write_counts(audit.counts);
  json.field("says", nines_text(audit.counts.fresh, audit.counts.stale));
  json.field("behind", audit.behind);
  text_field(json, "behind_reason", audit.behind_reason);
  json.begin_array("rules");
  for (const auto& [where, counts] : audit.by_rule) {
    json.begin_object().field("cache", where.first).field("rule", where.second);
    write_counts(counts);
    json.end_object();
  }
  json.end_array().begin_array("not_audited");
  for (const std::string& text : audit.not_audited) json.value(text);
  json.end_array().begin_array("last_stale");
  for (const AuditStatus::Stale& one : audit.last_stale) {
    json.begin_object().field("at", time_text(one.at)).field("cache", one.cache).field("rule", one.rule);
    json.field("key", one.key).field("reason", one.reason);
    text_field(json, "marker", one.marker);
    json.field("stale_seconds", one.seconds).end_object();
  }
  json.end_array().end_object();
}

// Of rules that have filled something, or could not.
void write_refreshes(JsonWriter& json, const std::vector<std::shared_ptr<const RefreshStatus>>& refreshes) {
  json.begin_array("refresh");
  for (const std::shared_ptr<const RefreshStatus>& refresh : refreshes) {
    if (refresh->by_rule.empty() && refresh->problems.empty() && refresh->waiting == 0) continue;
    json.begin_object().field("cache", refresh->cache).field("waiting", refresh->waiting).begin_array("problems");
    for (const std::string& problem : refresh->problems) json.value(problem);
    json.end_array().begin_array("rules");
    for (const auto& [rule, counts] : refresh->by_rule) {
      json.begin_object().field("rule", rule);
      for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i] > 0) json.field(refresh_outcome_name(static_cast<RefreshOutcome>(i)), counts[i]);
      }
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array();
}

}  // namespace

void StatusBoard::publish(std::shared_ptr<const Status> status) {
  const std::lock_guard lock(mutex_);
  status_ = std::move(status);
}

std::shared_ptr<const Status> StatusBoard::read() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::vector<std::string> readiness_problems(const Status& status) {
  std::vector<std::string> reasons;
  if (status.stopping) reasons.emplace_back("stopping");
  for (const std::string& reason : status.flow.not_ready) add_once(reasons, reason);
  if (status.source.problem) add_once(reasons, *status.source.problem);
  if (!status.rules_to_come.empty()) add_once(reasons, "rules that were to be reloaded are not in force: " + status.rules_to_come);
  return reasons;
}

std::vector<std::string> readiness_problems(const StatusBoard& board, SteadyTime now) {
  const std::shared_ptr<const Status> status = board.read();
  if (!status) return {"starting"};
  std::vector<std::string> reasons;
  if (!board.is_alive(now)) {
    reasons.push_back(fmt::format(
        "the loop has not turned for {} s",
        std::chrono::duration_cast<std::chrono::seconds>(now - board.last_turn()).count()));
  }
  for (std::string& reason : readiness_problems(*status)) add_once(reasons, reason);
  return reasons;
}

std::string time_text(SystemTime time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time - whole);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::time_t{whole.time_since_epoch().count()}),  // the clock's own ends in the year 2262
                     milliseconds.count());
}

std::string_view state_name(Verdict::State state) {
  switch (state) {
    case Verdict::State::kReady:
      return "ready";
    case Verdict::State::kStandby:
      return "standby";
    case Verdict::State::kStarting:
      return "starting";
    case Verdict::State::kStopping:
      return "stopping";
    case Verdict::State::kNotReady:
      break;
  }
  return "not_ready";
}

Verdict verdict(const StatusBoard& board, SteadyTime now) {
  using State = Verdict::State;
  const std::shared_ptr<const Status> status = board.read();
  Verdict result{State::kNotReady, {}, readiness_problems(board, now)};
  if (!status) {
    result.state = State::kStarting;
    result.line = "Starting.";
  } else if (result.reasons.empty()) {
    result.state = State::kReady;
    const std::size_t caches = status->flow.lanes.size();
    result.line = caches > 1 ? fmt::format("Ready: {} caches follow the database.", caches)
                             : "Ready: the cache follows the database.";
  } else if (status->flow.standby && result.reasons.size() == 1 && board.is_alive(now)) {
    result.state = State::kStandby;
    result.line = "Standing by: another evictd holds the source, this one takes over when it goes.";
  } else if (status->stopping && board.is_alive(now)) {
    result.state = State::kStopping;
    result.line = "Stopping: what is in hand is being finished.";
  } else {
    result.line = "Not ready: " + result.reasons.front();
    if (result.reasons.size() > 1) result.line += fmt::format(" (and {} more)", result.reasons.size() - 1);
  }
  return result;
}

std::string status_json(const StatusBoard& board, Now now, bool with_rules) {
  const std::shared_ptr<const Status> status = board.read();
  const Verdict judged = verdict(board, now.steady);
  JsonWriter json;
  json.begin_object();
  if (board.keys() != nullptr) json.field("shows_keys", true);
  json.field("ready", judged.reasons.empty()).field("state", state_name(judged.state)).field("line", judged.line);
  json.begin_array("not_ready");
  for (const std::string& problem : judged.reasons) json.value(problem);
  json.end_array();
  if (status) {
    json.field("version", status->identity->version);
    json.field("started", time_text(status->identity->started));
    json.field("now", time_text(now.system)).field("stopping", status->stopping);
    write_source(json, *status);
    write_caches(json, *status);
    write_flow(json, status->flow, now);
    if (status->audit) write_audit(json, *status->audit);
    write_refreshes(json, status->refreshes);
    json.begin_object("rules").field("file", status->identity->rules_file);
    text_field(json, "reload_problem", status->reload_problem);
    if (with_rules) {
      json.begin_array("list");
      for (const StatusRule& rule : *status->rules) {
        json.begin_object().field("name", rule.name).field("table", rule.table);
        json.field("place", rule.place).end_object();
      }
      json.end_array();
    }
    json.end_object();
  }
  json.end_object();
  return json.text() + "\n";
}

}  // namespace evictd
