// What rules do with the values of columns, and whether a column's type can give them such values. Pure; for `check`, and for
// `run` before it streams: a condition that can never hold, or a template that never renders, does nothing and says nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapping/bound.h"
#include "mapping/rules.h"

namespace evictd {

struct ColumnUse {
  std::uint32_t rule = 0;
  std::string column;
  Place place;
  std::string where;                // "key 'product:{id}'", "where": for messages
  std::vector<std::string> values;  // that it has to be one of
  std::vector<std::string> except;  // that it must not be one of
  std::vector<Bound> bounds;        // that it is compared with
  bool has_path = false;            // a path into its JSON
  bool has_each = false;            // one key for each element
  bool has_date = false;            // date(...) of its own text
};
std::vector<ColumnUse> column_uses(const RuleSet& rules);

// A column's type, as far as it decides what texts its values can have (canonical.h).
struct ColumnType {
  enum class Family : std::uint8_t {
    kUnknown,  // anything
    kText,
    kBoolean,
    kInteger,
    kNumeric,
    kFloat,
    kUuid,
    kDate,
    kTimestamp,
    kTimestampTz,
    kBytea,
    kJson,
    kArray,
    kEnum,
    kTime,      // without a date
    kInet,
    kCidr,
    kMacaddr,
    kBits,      // bit, bit varying
    kOid,
    kOther,  // a type with a text of its own that is no JSON, date or number, and many ways to write it: interval, money, ranges ...
  };
  Family family = Family::kUnknown;
  std::string name;                  // "numeric(10,2)", for messages
  std::size_t bytes = 0;             // of an integer: 2, 4, 8; of a hardware address: 6, 8
  std::optional<int> scale;          // of a numeric: digits after the point
  std::optional<std::size_t> length; // of a text, in characters; of bits
  bool is_padded = false;            // char(n), bit(n): always that long
  bool has_zone = false;             // of a time without a date
  std::string equal_by;              // why two texts may be equal to the database and not the same: "citext"; empty: they are not
  std::vector<std::string> labels;   // of an enum
};

struct TypeDoubt {
  bool is_certain = false;  // the type proves it; otherwise it only suggests it
  std::string cause;        // "where: 'price' is never 'abc': its type is integer"
  std::string hint;
};
std::vector<TypeDoubt> type_doubts(const ColumnUse& use, const ColumnType& type);

}  // namespace evictd
