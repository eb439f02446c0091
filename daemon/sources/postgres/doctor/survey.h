// What a database says of its tables, for `evictd init`: keys, unique columns, foreign keys. Blocks; changes nothing.
#pragma once

#include <string>
#include <vector>

#include "mapping/error.h"

namespace evictd {

struct SurveyedTable {
  std::string schema;
  std::string name;
  bool is_unlogged = false;
  bool has_identity = false;             // may be published as it is
  std::vector<std::string> primary_key;  // columns, in its order
  std::vector<std::string> unique_columns;  // each unique by itself, and not the primary key
  struct ForeignKey {
    std::string column;
    std::string schema;  // of the table it refers to
    std::string table;
  };
  std::vector<ForeignKey> foreign_keys;  // those of one column
};

struct Survey {
  std::string database;
  std::vector<SurveyedTable> tables;  // ordinary and partitioned ones that are nobody's extension, by name
};

// `url` as in postgres.url.
Result<Survey> survey_database(const std::string& url);

// `url` without its password, as it may stand in a file; `had_password` says whether there was one.
Result<std::string> url_without_password(const std::string& url, bool& had_password);

}  // namespace evictd
