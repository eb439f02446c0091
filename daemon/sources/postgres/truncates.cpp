#include "daemon/sources/postgres/truncates.h"

namespace evictd {

bool SeenTruncates::explain(std::map<std::string, TableFacts>& tables) {
  bool is_unexplained = false;
  for (auto& [name, table] : tables) {
    is_unexplained = explain(table.table) || is_unexplained;
    for (RelationFacts& member : table.members) is_unexplained = explain(member) || is_unexplained;
  }
  return is_unexplained;
}

bool SeenTruncates::explain(RelationFacts& relation) {
  if (relation.toast != 0 || relation.file == 0) return false;
  Files& files = files_[relation.oid];
  if (files.counted == 0) {
    files.counted = files.actual = relation.file;
    return false;
  }
  // The catalogue's row is the TRUNCATE's own: nothing has touched the table since.
  if (relation.file != files.actual && relation.written_by != files.truncated_by) return true;
  files.actual = relation.file;
  relation.file = files.counted;
  return false;
}

void SeenTruncates::accept(const std::map<std::string, TableFacts>& tables) {
  for (const auto& [name, table] : tables) {
    accept(table.table);
    for (const RelationFacts& member : table.members) accept(member);
  }
}

void SeenTruncates::accept(const RelationFacts& relation) {
  if (relation.toast != 0 || relation.file == 0) return;
  Files& files = files_[relation.oid];
  if (relation.file != files.counted) files.counted = files.actual = relation.file;
}

}  // namespace evictd
