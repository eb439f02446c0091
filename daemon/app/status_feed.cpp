#include "daemon/app/status_feed.h"

#include <fmt/core.h>

#include "daemon/base/json.h"

namespace evictd {
namespace {

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

void append_number(std::string& out, const std::optional<double>& number) {
  out += number ? fmt::format("{:.6g}", *number) : std::string("null");
}

// [time, changes/s, deletes/s, retained bytes, waiting records, [lag, p50, p99] of each cache...]
void append_sample(std::string& out, const ActivitySample& sample) {
  const auto whole = [](const std::optional<std::uint64_t>& number) {
    return number ? std::to_string(*number) : std::string("null");
  };
  out += fmt::format("[{:.3f},{:.6g},{:.6g},{},{}", seconds(sample.at.time_since_epoch()), sample.changes_per_second,
                     sample.deletes_per_second, whole(sample.retained_bytes), whole(sample.waiting_records));
  for (const ActivitySample::Cache& cache : sample.caches) {
    out += ",[";
    append_number(out, cache.lag_seconds);
    out += ',';
    append_number(out, cache.p50_seconds);
    out += ',';
    append_number(out, cache.p99_seconds);
    out += ']';
  }
  out += ']';
}

std::string rules_json(const Status& status) {
  JsonWriter json;
  json.begin_object().field("file", status.identity->rules_file);
  std::size_t listed = 0;
  json.begin_array("rules");
  for (const StatusRule& rule : *status.rules) {
    if (listed++ == kFeedRulesMax) break;
    RuleActivity activity;
    if (const auto found = status.activity->rules.find(rule.name); found != status.activity->rules.end()) {
      activity = found->second;
    }
    json.begin_object().field("name", rule.name).field("table", rule.table).field("place", rule.place);
    json.field("deleted", activity.keys.deleted).field("absent", activity.keys.absent).field("kept", activity.keys.kept);
    json.field("replayed", activity.keys.replayed).field("purged", activity.purged).field("changes", activity.changes);
    if (activity.last_hit) {
      json.field("last_hit", time_text(*activity.last_hit));
    } else {
      json.field_null("last_hit");
    }
    json.field("note", rule_note(activity)).end_object();
  }
  json.end_array();
  const std::size_t count = status.rules->size();
  json.field("left_out", std::uint64_t{count > kFeedRulesMax ? count - kFeedRulesMax : 0});
  if (const std::optional<ReloadActivity>& reload = status.activity->reload) {
    json.begin_object("reload").field("at", time_text(reload->at)).field("success", reload->is_success);
    json.field("text", reload->text).end_object();
  } else {
    json.field_null("reload");
  }
  json.end_object();
  return json.text();
}

std::string_view kind_name(ActivityEvent::Kind kind) {
  switch (kind) {
    case ActivityEvent::Kind::kGap:
      return "gap";
    case ActivityEvent::Kind::kRepaired:
      return "repaired";
    case ActivityEvent::Kind::kPurge:
      return "purge";
    case ActivityEvent::Kind::kUnmappable:
      break;
  }
  return "unmappable";
}

std::string events_json(const Status& status) {
  JsonWriter json;
  json.begin_object().begin_array("events");
  for (const ActivityEvent& event : status.activity->events) {
    json.begin_object().field("kind", kind_name(event.kind)).field("at", time_text(event.at));
    json.field("cache", event.cache).field("rule", event.rule).field("what", event.what).field("reason", event.reason);
    json.field("count", event.count).field("seconds", seconds(event.took)).end_object();
  }
  json.end_array().end_object();
  return json.text();
}

void append_event(std::string& out, std::string_view name, std::string_view json) {
  out += fmt::format("event: {}\ndata: {}\n\n", name, json);
}

}  // namespace

std::string rule_note(const RuleActivity& rule) {
  const std::uint64_t looked = rule.keys.deleted + rule.keys.absent + rule.keys.kept + rule.keys.replayed;
  if (looked > 0 && rule.keys.absent == looked) {
    return "never hit although rows change: another prefix or database than the readers', or nothing is cached";
  }
  if (looked == 0 && rule.applied_changes > 0 && !rule.has_purged && rule.unmappable == 0) {
    return "rows change, and none makes a key: 'evictd explain' says what holds the rule back";
  }
  return {};
}

StatusFeed make_status_feed(const StatusBoard& board, Now now) {
  StatusFeed feed;
  feed.status = board.read();
  std::string status = status_json(board, now, false);
  if (status.ends_with('\n')) status.pop_back();
  feed.state = fmt::format("{{\"clock\":{:.3f},\"status\":{}}}", seconds(now.steady.time_since_epoch()), status);
  if (feed.status && feed.status->activity) {
    feed.rules = rules_json(*feed.status);
    feed.events = events_json(*feed.status);
  }
  return feed;
}

std::string StatusViewer::next(const StatusFeed& feed) {
  std::string out;
  append_event(out, "state", feed.state);
  if (feed.rules != rules_) append_event(out, "rules", rules_ = feed.rules);
  if (feed.events != events_) append_event(out, "events", events_ = feed.events);
  if (!feed.status || !feed.status->activity) return out;
  std::string rows;
  for (const auto& sample : feed.status->activity->samples) {
    if (sample->number <= last_sample_) continue;
    last_sample_ = sample->number;
    if (!rows.empty()) rows += ',';
    append_sample(rows, *sample);
  }
  if (!rows.empty()) append_event(out, "samples", "[" + rows + "]");
  return out;
}

}  // namespace evictd
