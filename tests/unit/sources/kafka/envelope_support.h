// Records in, one line of text out: what the envelope decoder made of them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "daemon/sources/kafka/envelope.h"
#include "mapping/canonical.h"

namespace evictd {

inline std::string row_text(const Relation& relation, std::span<const Value> row) {
  std::string text;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (row[i].state == ValueState::kNotSent) continue;
    if (!text.empty()) text += " ";
    text += relation.columns[i].name + "=";
    if (row[i].state == ValueState::kNull) text += "NULL";
    if (row[i].state == ValueState::kUnchanged) text += "UNCHANGED";
    if (row[i].state == ValueState::kText) {
      std::string canonical;
      append_canonical(relation.columns[i].type, row[i].text, canonical);
      text += "'" + canonical + "'";
    }
  }
  return "{" + text + "}";
}

// "update public.t old{id='1'} new{id='1' name='b'}", values in canonical text; or what kind of
// record it is; or "error: ...".
inline std::string decoded_text(const Result<Decoded>& decoded) {
  if (!decoded) return "error: " + decoded.error().text;
  switch (decoded->kind) {
    case RecordKind::kHeartbeat:
      return "heartbeat";
    case RecordKind::kTransactionMarker:
      return "transaction marker";
    case RecordKind::kSchemaChange:
      return "schema change";
    case RecordKind::kMessage:
      return "message";
    case RecordKind::kTombstone:
      return "tombstone";
    case RecordKind::kChange:
    case RecordKind::kSnapshotRow:
      break;
  }
  const Change& change = decoded->change;
  std::string text = decoded->kind == RecordKind::kSnapshotRow ? "snapshot " : "";
  constexpr const char* kNames[] = {"insert", "update", "delete", "truncate"};
  text += kNames[static_cast<int>(change.operation)];
  text += " " + change.relation->qualified_name();
  if (!change.old_row.empty()) text += " old" + row_text(*change.relation, change.old_row);
  if (!change.new_row.empty()) text += " new" + row_text(*change.relation, change.new_row);
  return text;
}

inline KafkaRecord record_of(std::string_view topic, std::optional<std::string_view> key,
                             std::optional<std::string_view> value) {
  KafkaRecord record;
  record.topic = topic;
  record.key = key;
  record.value = value;
  record.timestamp_ms = 1'700'000'000'000;
  return record;
}

}  // namespace evictd
