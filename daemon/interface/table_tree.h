// What a database says of the relations that lie below the tables which rules name, for a source whose events come from
// elsewhere and name the relation that holds the row. Implemented over the postgres room, asked by the Kafka source.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

struct TableTree {
  // "schema.table" of a partition or INHERITS child -> the tables that rules name above it, sorted.
  std::map<std::string, std::vector<TableName>> above;
  // Of the tables and what lies below: those of which the connector's publication leaves out rows (a row filter), sorted.
  std::vector<std::string> filtered;
  // Of what lies below: INHERITS children, whose events never come under the name of a table above them; and partitions that
  // are partitioned themselves, of which no row is.
  std::set<std::string> children{};
  std::set<std::string> partitioned{};
};

// `tables`: "schema.table". May block; asked by one thread at a time.
using AskTableTree = std::function<Result<TableTree>(const std::vector<std::string>& tables)>;

}  // namespace evictd
