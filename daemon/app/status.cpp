#include "daemon/app/status.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <algorithm>

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

void write_pipeline(JsonWriter& json, const PipelineStatus& pipeline, Now now) {
  json.begin_object("pipeline").field("lag_seconds", seconds(lag(pipeline, now.system)));
  time_field(json, "last_applied_commit", pipeline.last_applied_commit);
  if (pipeline.last_heartbeat) {
    json.field("heartbeat_age_seconds",
               std::chrono::duration<double>(now.steady - *pipeline.last_heartbeat).count());
  } else {
    json.field_null("heartbeat_age_seconds");
  }
  json.field("inflight_transactions", pipeline.inflight_transactions);
  json.field("inflight_bytes", pipeline.inflight_bytes);
  text_field(json, "gap", pipeline.gap);
  if (pipeline.acknowledged) {
    json.field("acknowledged", pipeline.acknowledged->value);
  } else {
    json.field_null("acknowledged");
  }
  json.end_object();
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

std::vector<std::string> readiness_problems(const StatusBoard& board, SteadyTime now) {
  std::vector<std::string> reasons;
  const std::shared_ptr<const Status> status = board.read();
  if (!status) {
    reasons.emplace_back("starting");
    return reasons;
  }
  if (!board.is_alive(now)) {
    reasons.push_back(fmt::format(
        "the loop has not turned for {} s",
        std::chrono::duration_cast<std::chrono::seconds>(now - board.last_turn()).count()));
  }
  if (status->stopping) reasons.emplace_back("stopping");
  for (const std::string& reason : status->pipeline.not_ready) add_once(reasons, reason);
  if (status->source.problem) add_once(reasons, *status->source.problem);
  if (status->sink.problem) add_once(reasons, *status->sink.problem);
  return reasons;
}

std::chrono::microseconds lag(const PipelineStatus& pipeline, SystemTime now) {
  if (!pipeline.oldest_unapplied_commit) return std::chrono::microseconds(0);
  return std::max(now - *pipeline.oldest_unapplied_commit, std::chrono::microseconds(0));
}

std::string time_text(SystemTime time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time - whole);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(whole)),
                     milliseconds.count());
}

std::string status_json(const StatusBoard& board, Now now) {
  const std::shared_ptr<const Status> status = board.read();
  const std::vector<std::string> problems = readiness_problems(board, now.steady);
  JsonWriter json;
  json.begin_object();
  json.field("ready", problems.empty()).begin_array("not_ready");
  for (const std::string& problem : problems) json.value(problem);
  json.end_array();
  if (status) {
    json.field("version", status->identity->version);
    json.field("started", time_text(status->identity->started));
    json.field("now", time_text(now.system)).field("stopping", status->stopping);
    write_source(json, *status);
    json.begin_object("redis").field("address", status->identity->redis);
    json.field("state", status->sink.state).field("connected", status->sink.connected);
    text_field(json, "problem", status->sink.problem.value_or(""));
    optional_field(json, "evicted_keys", status->sink.evicted_keys);
    json.end_object();
    write_pipeline(json, status->pipeline, now);
    json.begin_object("rules").field("file", status->identity->rules_file);
    text_field(json, "reload_problem", status->reload_problem);
    json.begin_array("list");
    for (const StatusRule& rule : *status->rules) {
      json.begin_object().field("name", rule.name).field("table", rule.table);
      json.field("place", rule.place).end_object();
    }
    json.end_array().end_object();
  }
  json.end_object();
  return json.text() + "\n";
}

}  // namespace evictd
