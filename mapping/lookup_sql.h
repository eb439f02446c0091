// The SQL of a lookup. Pure: what is asked, not how it is sent.
//
//   select i.n, r.* from unnest($1::bigint[]) with ordinality as i(v0, n)
//     cross join lateral (select j1."user_id" as c0 from "public"."orders" j1 where j1."id" = i.v0 limit 10001) r
//
// One array for each column of the row that is followed; an answer names the row it is of (i.n, from 1) and has the columns
// that templates read. The limit holds for each of them: the planner is left no other way than an index for each, and nobody
// gets more rows than were asked for.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/rules.h"

namespace evictd {

// A column that a lookup begins with, as SQL writes it.
struct LookupParameter {
  std::string type;
  // Of a column for which texts are equal that differ; otherwise empty. A cast loses it, and '=' would find fewer rows than
  // the readers' join.
  std::string collation{};
};

// `parameters`: those of LookupInfo::parameters().
std::string lookup_sql(const LookupInfo& lookup, const std::vector<LookupParameter>& parameters, std::uint64_t fan_out);

// The columns that it reads of the table of one step.
std::set<std::string> columns_read(const LookupInfo& lookup, std::size_t step);

// A parameter of that query: the values of one column as the text of an array.
std::string array_literal(const std::vector<std::string_view>& values);

}  // namespace evictd
