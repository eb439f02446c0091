// Rows of a table as they are now, with values as the stream would write them: for `explain --from-table` and `purge
// --where`. Blocks as the catalogue does; reads in a read-only transaction, page by page. One thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/conninfo.h"
#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

struct LiveRowsWanted {
  std::string table;  // "schema.table"
  std::string where;  // SQL; empty: all
  // Written since so long ago; needs track_commit_timestamp.
  std::optional<std::chrono::milliseconds> since;
  std::size_t page = 1000;  // rows at a time
};

class LiveRows {
 public:
  // kUsage for a table that does not exist, or SQL that the server does not understand.
  static Result<std::unique_ptr<LiveRows>> open(const DatabaseAddress& database, const LiveRowsWanted& wanted);
  ~LiveRows();
  LiveRows(const LiveRows&) = delete;
  LiveRows& operator=(const LiveRows&) = delete;

  // Its generation is the same for every row of this object.
  const Relation& relation() const;
  // The next page, empty at the end. Values stay until the next call.
  Result<std::vector<std::vector<Value>>> next();

 private:
  struct Impl;
  explicit LiveRows(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
