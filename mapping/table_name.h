// How tables are written by people: in rules, and after --table.
//
//   products                   public.products
//   shop.products              schema, then table
//   "app.v1".orders            a part that holds a dot, or a quote, stands in double quotes
//   "a""b"                     a quote inside of them is doubled
//
// Names are those that the database stores: nothing is folded to lower case, with quotes or without.
#pragma once

#include <string>
#include <string_view>

#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

// The error has no place: the caller knows it.
Result<TableName> parse_table_name(std::string_view text);

// The name as parse_table_name() reads it, with quotes where they are needed: "\"app.v1\".orders".
std::string written_table_name(const TableName& name);

}  // namespace evictd
