// What the envelope decoder remembers of topics and tables. The inside of envelope.cpp and
// envelope_rows.cpp.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/sources/kafka/envelope.h"

namespace evictd {

// Limits of one table and one topic (G8). A topic that passes them is not one of Debezium's.
inline constexpr std::size_t kColumnsMax = 4096;
inline constexpr std::size_t kTablesPerTopicMax = 1024;

// The whole number that a number or a text is; nothing: none, or no value at all.
std::optional<std::int64_t> integer(const JsonValue* json);

inline constexpr std::string_view kHeartbeatPrefix = "__debezium-heartbeat";

// PostgreSQL's replica identity, as far as the events show it.
enum class Identity : std::uint8_t {
  kUnknown,
  kPartial,  // an update came without an old row
  kMore,     // no update came without one, and one had a value outside the key: FULL, or an index
  kFull,     // an update came with an old row that has a value wherever the new one has, or any old row with a value in
             // a column that may be NULL
};

// The columns of a table as its rows have shown them. They are only ever added: a column that
// vanished from the rows has no value in them any more.
struct EnvelopeDecoder::Table {
  std::unique_ptr<Relation> relation;
  std::vector<FieldType> types;  // one per column
  std::vector<bool> is_read;     // one per column: by a rule, as far as is known
  std::unordered_map<std::string, std::size_t> index;
  bool believes_old_rows = false;  // the connector always sends whole old rows
  Identity identity = Identity::kUnknown;
  bool is_document = false;  // MongoDB: rows are JSON texts, absent fields are null
  bool identity_is_known = false;
  std::uint64_t types_generation = 0;  // of Topic::types_generation, when the types were last taken
};

struct EnvelopeDecoder::Topic {
  std::string name;
  bool is_heartbeat = false;
  TopicTraits traits;
  // {"schema":...,"payload": as the last record with a schema began.
  std::string value_prefix;
  std::string schema_json;
  std::shared_ptr<const AvroSchema> avro;            // of the last record, where it was Avro; `types` are its
  std::unordered_map<std::string, FieldType> types;  // by column; empty without schema
  std::uint64_t types_generation = 1;
  std::string key_schema_json;
  std::shared_ptr<const AvroSchema> key_avro;  // `key_types` are its
  std::unordered_map<std::string, FieldType> key_types;  // where the value's schema does not say
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Table>> tables;
  Table* last_table = nullptr;
  Table* only_table = nullptr;  // while the topic has shown one table only
  std::unordered_map<std::int32_t, std::string>
      last_delete_key;  // by partition, of the record before

  // What a field of a key or a row is called as a column; empty: it is none (added by topic routing).
  static std::string_view column_name(const Table& table, std::string_view field, bool of_key) {
    if (of_key && field.starts_with("__dbz__")) return {};
    return of_key && table.is_document && field == "id" ? "_id" : field;
  }

  // The type of a column as far as the schemas tell.
  FieldType type_of(const std::string& column) const {
    if (const auto found = types.find(column); found != types.end()) return found->second;
    if (const auto found = key_types.find(column); found != key_types.end()) return found->second;
    return {};
  }

  void forget_types() {
    types.clear();
    schema_json.clear();
    value_prefix.clear();
    avro.reset();
    ++types_generation;
  }

  // The last record came without one.
  void go_without_schema() {
    if (!types.empty()) forget_types();
    value_prefix.clear();
    traits.with_schema = false;
  }
};

}  // namespace evictd
