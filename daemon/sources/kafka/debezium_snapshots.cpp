#include "daemon/sources/kafka/debezium_snapshots.h"

namespace evictd {

// The row is of the snapshot that its partition begins with. An end that comes a second time is another one's.
bool DebeziumSnapshots::begins_with(const Decoded& decoded, std::uint32_t stream, std::int64_t offset) {
  if (offset == 0) beginnings_[stream].clear();
  const auto beginning = beginnings_.find(stream);
  if (beginning == beginnings_.end()) return false;
  const bool is_row = decoded.kind == RecordKind::kSnapshotRow;
  if (is_row && decoded.snapshot_end == SnapshotEnd::kNone) return true;
  if (is_row && beginning->second.insert({decoded.snapshot_end, decoded.change.relation->qualified_name()}).second) return true;
  beginnings_.erase(beginning);
  return false;
}

std::optional<std::vector<std::string>> DebeziumSnapshots::missing_before(const Decoded& decoded, std::uint32_t stream, std::int64_t offset) {
  if (begins_with(decoded, stream, offset)) return std::nullopt;
  if (decoded.kind != RecordKind::kSnapshotRow || decoded.snapshot_end == SnapshotEnd::kNone) return std::nullopt;
  const Relation& relation = *decoded.change.relation;
  const std::string server(decoded.server);
  const auto is_told = [&](const std::string& table) {
    const auto found = told_.find({server, table});
    return found != told_.end() && found->second == decoded.commit_time;
  };
  const bool is_of_all = decoded.snapshot_end == SnapshotEnd::kFirst || decoded.snapshot_end == SnapshotEnd::kLast;
  const std::string table = is_of_all ? std::string() : relation.qualified_name();
  if (is_told("") || is_told(table)) return std::nullopt;
  if (told_.size() >= kTablesMax) told_.clear();
  told_[{server, table}] = decoded.commit_time;
  std::vector<std::string> tables;
  if (is_of_all) return tables;
  tables.push_back(table);
  for (const TableName& also : relation.also) tables.push_back(also.qualified());
  return tables;
}

}  // namespace evictd
