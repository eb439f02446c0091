// Which texts the values of a column's type can have, as the rules compare them (canonical.h). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace evictd {

// A column's type, as far as it decides what texts its values can have.
struct ColumnType {
  enum class Family : std::uint8_t {
    kUnknown,  // nothing is known of the column
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
    kOther,     // a type with a text of its own that is no JSON, date or number, and many ways to write it: interval, money, ranges ...
    kForeign,   // an extension's: prints what it likes
  };
  Family family = Family::kUnknown;
  std::string name;                  // "numeric(10,2)", for messages
  std::size_t bytes = 0;             // of an integer: 2, 4, 8; of a float: 4, 8; of a hardware address: 6, 8
  std::optional<int> digits;         // of a numeric: all of them
  std::optional<int> scale;          // of a numeric, or of the seconds of a time: digits after the point
  std::optional<std::size_t> length; // of a text, in characters; of bits
  bool is_padded = false;            // char(n), bit(n): always that long
  bool is_binary = false;            // of JSON: jsonb, which is stored in one form
  bool has_zone = false;             // of a time without a date
  bool is_nullable = true;
  std::string equal_by;              // why two texts may be equal to the database and not the same: "citext"; empty: they are not
  std::vector<std::string> labels;   // of an enum
  std::vector<ColumnType> element;   // of an array: what it is of, where that is known
};

struct NeverPrinted {
  std::string hint;
};
// Nothing: a value may have this text, as far as is known here.
std::optional<NeverPrinted> never_printed(const std::string& text, const ColumnType& type);

// "write {gt: 0}" for ">0": somebody wrote a comparison as a text. Empty: it does not look like one.
std::string comparison_hint(std::string_view text);

}  // namespace evictd
