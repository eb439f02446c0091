#include "daemon/app/watch_text.h"

#include <fmt/core.h>

#include <algorithm>

#include "daemon/app/status.h"
#include "daemon/base/json.h"
#include "daemon/base/plain_text.h"

namespace evictd {
namespace {

constexpr std::size_t kTextWidthMax = 60;
constexpr std::size_t kRowValueMax = 40;
constexpr std::size_t kReasonsShown = 4;

constexpr const char* kSoft = "\x1b[2m";
constexpr const char* kStrong = "\x1b[1m";
constexpr const char* kDeletes = "\x1b[31m";
constexpr const char* kNote = "\x1b[33m";
constexpr const char* kPlain = "\x1b[0m";

std::string painted(const WatchStyle& style, const char* colour, std::string_view text) {
  return style.colour ? fmt::format("{}{}{}", colour, text, kPlain) : std::string(text);
}

std::string json_text(const WatchedChange& change) {
  JsonWriter json;
  json.begin_object().field("commit_time", time_text(change.commit_time));
  if (change.xid == 0) {
    json.field_null("xid");
  } else {
    json.field("xid", change.xid);
  }
  json.field("op", operation_name(change.operation)).field("table", change.table).field("row", change.row);
  json.begin_array("actions");
  for (const ExplainReceiver::Line& line : change.lines) {
    json.begin_object().field("kind", line.kind).field("text", line.text).field("rule", line.rule);
    if (!line.place.empty()) json.field("place", line.place);
    if (!line.note.empty()) json.field("note", line.note);
    json.end_object();
  }
  json.end_array();
  if (!change.why_nothing.empty()) json.field("nothing", change.why_nothing);
  json.end_object();
  return json.text() + "\n";
}

}  // namespace

std::string row_text(const Change& change) {
  const std::span<const Value> row = change.new_row.empty() ? change.old_row : change.new_row;
  std::string text;
  for (std::size_t i = 0; i < std::min(row.size(), change.relation->columns.size()); ++i) {
    const Column& column = change.relation->columns[i];
    if (!column.in_identity || row[i].state != ValueState::kText) continue;
    if (!text.empty()) text += ' ';
    std::string_view value = row[i].text;
    const bool is_long = value.size() > kRowValueMax;
    text += fmt::format("{}={}{}", printable_text(column.name), printable_text(value.substr(0, kRowValueMax)),
                        is_long ? "..." : "");
  }
  return text;
}

std::string why_nothing(const ExplainReceiver& receiver) {
  std::string text;
  std::size_t shown = 0;
  for (const ExplainReceiver::Line& line : receiver.held_back()) {
    if (shown++ == kReasonsShown) return text + fmt::format("; and {} more", receiver.held_back().size() - kReasonsShown);
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", line.rule_text(), line.text);
  }
  return text;
}

std::string watch_text(const WatchedChange& change, const WatchStyle& style) {
  if (style.json) return json_text(change);
  std::string out = fmt::format(
      "{}  {:<8} {}{}{}\n", painted(style, kSoft, time_text(change.commit_time)), operation_name(change.operation),
      painted(style, kStrong, plain_line(change.table)), change.row.empty() ? "" : "  " + change.row,
      change.xid == 0 ? "" : painted(style, kSoft, fmt::format("  xid {}", change.xid)));
  if (!change.why_nothing.empty()) {
    out += "    " + painted(style, kSoft, "nothing: " + plain_line(change.why_nothing)) + "\n";
  }
  std::size_t width = 0;
  for (const ExplainReceiver::Line& line : change.lines) {
    if (line.kind != "note") width = std::max(width, std::min(line.text.size(), kTextWidthMax));
  }
  for (const ExplainReceiver::Line& line : change.lines) {
    const char* colour = line.kind == "note" ? kNote : kDeletes;
    out += fmt::format("    {} {:<{}}  {}\n", painted(style, colour, fmt::format("{:<5}", line.kind)), plain_line(line.text), width,
                       painted(style, kSoft, plain_line(line.rule_text())));
  }
  return out;
}

}  // namespace evictd
