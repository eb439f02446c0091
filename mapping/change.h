// A change: one row event of a table, as every source hands it to the mapping.
//
// Nothing here owns row data: Value::text points into the source's buffer and stays valid only
// until the call that received the Change returns. A Relation is owned by the source and outlives
// every Change that refers to it; a new shape of the table is a new Relation object with a new
// `generation`.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace evictd {

// How a value's text has to be read to get its canonical text (canonical.h). Sources that already
// deliver canonical text (Debezium) use kCanonical.
enum class ValueType : std::uint8_t {
  kText,     // used as it is
  kBoolean,  // t/f
  kUuid,
  kTimestamp,    // 2024-02-03 04:05:06.789
  kTimestampTz,  // 2024-02-03 04:05:06.789+00
  kDate,
  kBytea,  // \xdeadbeef
  kJson,   // json and jsonb
  kCanonical,
};

enum class ValueState : std::uint8_t {
  kNotSent,  // the source did not send it ('n' in a pgoutput key tuple, a column without old value)
  kUnchanged,  // unchanged TOAST ('u', Debezium's placeholder): exists, value unknown
  kNull,
  kText,
};

struct Value {
  ValueState state = ValueState::kNotSent;
  std::string_view text;  // empty unless kText
};

struct Column {
  std::string name;
  ValueType type = ValueType::kText;
  // Part of the replica identity: an update that sends no old row left it unchanged.
  bool in_identity = false;
  ValueType element = ValueType::kText;  // of an array: how the text of an element has to be read
};

struct TableName {
  std::string schema;
  std::string table;
  std::string qualified() const { return schema + "." + table; }
  friend bool operator==(const TableName&, const TableName&) = default;
};

// The shape of a table as the stream described it.
struct Relation {
  std::uint32_t id = 0;          // the source's identifier (PostgreSQL: OID)
  std::uint64_t generation = 0;  // unique per Relation object of a process; never reused
  std::string schema;            // of the table that rules name: for a partition, its root
  std::string table;
  // Further tables that rules name and whose rows these are too: a child of two parents, a partition that rules
  // name beside its root. Rules of every one of them act.
  std::vector<TableName> also;
  std::vector<Column> columns;

  std::string qualified_name() const { return schema + "." + table; }
  bool is_of(std::string_view of_schema, std::string_view of_table) const;
};

enum class Operation : std::uint8_t { kInsert, kUpdate, kDelete, kTruncate };

// "insert", "update", "delete", "truncate": the words of rules, metrics and messages.
std::string_view operation_name(Operation operation);

// kInsert: new_row.  kDelete: old_row.  kTruncate: neither.
// kUpdate: new_row, and old_row when the source sent one. An update WITHOUT old_row says: the
// columns in the replica identity kept their values, the old values of all others are unknown
// (PostgreSQL manual, "Logical Replication Message Formats", Update). A row has one Value per
// column of the relation, or is empty.
struct Change {
  Operation operation = Operation::kInsert;
  const Relation* relation = nullptr;
  std::span<const Value> old_row;
  std::span<const Value> new_row;
};

}  // namespace evictd
