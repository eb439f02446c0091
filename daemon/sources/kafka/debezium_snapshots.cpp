#include "daemon/sources/kafka/debezium_snapshots.h"

namespace evictd {

std::optional<std::vector<std::string>> DebeziumSnapshots::missing_before(const Decoded& decoded) {
  if (decoded.kind != RecordKind::kSnapshotRow || decoded.snapshot_end == SnapshotEnd::kNone) return std::nullopt;
  const Relation& relation = *decoded.change.relation;
  const std::string server(decoded.server);
  const auto is_told = [&](const std::string& table) {
    const auto found = told_.find({server, table});
    return found != told_.end() && found->second == decoded.commit_time;
  };
  const bool is_of_all = decoded.snapshot_end == SnapshotEnd::kOfAll;
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
