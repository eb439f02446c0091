// TRUNCATEs that came through the stream, so that the new file they gave a table is not taken for a change that the
// stream did not tell. Only tables without a TOAST table are known by their file (table_digest.h). Pure; one entry per
// followed relation.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

#include "daemon/sources/postgres/catalogue.h"

namespace evictd {

class SeenTruncates {
 public:
  // A TRUNCATE of the relation in the stream, by the transaction with these low 32 bits.
  void saw(Oid relation, std::uint32_t xid) { files_[relation].truncated_by = xid; }

  // Puts back the file that each relation had before its TRUNCATEs, so that the facts compare equal. True when some
  // relation has another file that no TRUNCATE explains, not yet at least: the look may be ahead of the stream.
  bool explain(std::map<std::string, TableFacts>& tables);
  // What is there now is what later looks are compared with; after a gap.
  void accept(const std::map<std::string, TableFacts>& tables);

 private:
  struct Files {
    Oid counted = 0;  // what the facts say; 0: none seen yet
    Oid actual = 0;
    std::uint32_t truncated_by = 0;
  };
  bool explain(RelationFacts& relation);
  void accept(const RelationFacts& relation);
  std::unordered_map<Oid, Files> files_;
};

}  // namespace evictd
