// Decodes Debezium change events: one Kafka record in, at most one change out. Pure.
//
// Accepts, record by record: the JSON converter's form with and without a schema, in key and value; Avro, and JSON in the frame of
// a schema registry (wire_format.h), where use_registry() was called;
// the envelope (before, after, source, op), and rows flattened by ExtractNewRecordState. Rests on:
// Debezium documentation, "Data change events" of each connector, and "New Record State
// Extraction".
//
// The old row of an event is believed only as far as it can be. PostgreSQL sends old values of the
// replica identity only, and Debezium writes null, the column's default or zero into the columns it got none for;
// so such a value of a column outside the key counts as not sent, and without a schema any, unless the events show
// that the identity is FULL (G5).
//
// Not thread-safe. Everything in a Decoded stays valid until the next decode() only.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sources/kafka/field_type.h"
#include "daemon/sources/kafka/json_level.h"
#include "daemon/sources/kafka/schema_store.h"
#include "daemon/sources/kafka/wire_format.h"
#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

// A record as Kafka delivers it. Keys and values may be absent, which is not the same as empty.
struct KafkaRecord {
  std::string_view topic;
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;
  std::int64_t timestamp_ms = 0;
  SchemaHeaders schemas;  // what its headers say, where a registry is used
};

enum class RecordKind : std::uint8_t {
  kChange,
  kSnapshotRow,  // op 'r': a change, should the policy want it
  kHeartbeat,
  kTransactionMarker,  // BEGIN and END of Debezium's transaction topic
  kSchemaChange,
  kMessage,    // op 'm': a logical decoding message
  kTombstone,  // follows the delete that was decoded before it
};

// Of a snapshot that is not incremental: its first and last row, and the first and last of each table between them.
enum class SnapshotEnd : std::uint8_t { kNone, kFirst, kLast, kFirstOfTable, kLastOfTable };

struct Decoded {
  RecordKind kind = RecordKind::kChange;
  Change change;                                // kChange, kSnapshotRow
  std::optional<std::uint64_t> transaction_id;  // source.txId, where it is a number
  SystemTime commit_time;                       // source.ts_*, or else the record's own timestamp
  bool has_commit_time = false;                 // from the source
  std::string_view connector;                   // "postgresql", "mysql", ...; may be empty
  std::string_view server;                      // source.name, the topic prefix; may be empty
  SnapshotEnd snapshot_end = SnapshotEnd::kNone;  // by source.snapshot
};

// What decode() learnt of a topic, for messages and `check`.
struct TopicTraits {
  bool with_schema = false;
  bool flattened = false;
  bool is_avro_without_names = false;  // a schema that does not name Connect's types
  bool has_old_rows = false;  // some update came with an old row
  bool has_commit_times = false;
  bool has_transactions = false;  // some record named one of PostgreSQL
  std::set<std::string> tables;  // "schema.table", bounded
  bool has_more_tables = false;  // than these: some were forgotten
};

class EnvelopeDecoder {
 public:
  EnvelopeDecoder();
  ~EnvelopeDecoder();

  // `store` must outlive the decoder. Without it, what is not JSON is refused.
  void use_registry(SchemaStore* store, IdWidth width);
  // The schemas that decode() needs and the store has not: empty, or what to ask the registry for first.
  struct NeededSchema {
    std::uint64_t id = 0;
    int id_bytes = 0;          // as it was read; 0: from a header
    std::uint64_t other_id = 0;  // as it would be, were the ids of the other width; 0: that cannot be
  };
  std::vector<NeededSchema> missing_schemas(const KafkaRecord& record) const;

  // kData: the record cannot be understood; the text says what was expected and what was found.
  Result<Decoded> decode(const KafkaRecord& record);

  // From now on only the values of these columns, by "schema.table", are turned into PostgreSQL's texts; the others come
  // as the JSON they are, which still tells whether they changed. None: all are.
  using ReadColumns = std::map<std::string, std::set<std::string>>;
  void read_only(std::optional<ReadColumns> columns);

  // Those that a topic's name may name, "schema.table". Of others it is the last two parts of the name that do.
  void set_tables(std::set<std::string> tables);

  // The tables that rules name above the relation that an event names, by "schema.table" of that: Relation::also.
  using TablesAbove = std::map<std::string, std::vector<TableName>>;
  void set_tables_above(TablesAbove above);

  // Relations that no change will refer to any more, to be reported before they are destroyed: call
  // after each decode(), report each, then drop the vector.
  std::vector<std::unique_ptr<const Relation>> take_retired() { return std::move(retired_); }

  // What is known of a topic, or null.
  const TopicTraits* traits(std::string_view topic) const;

  // The schema and the table that the topic is named after; empty: none.
  std::pair<std::string, std::string> named_table(std::string_view topic) const;
  // "schema.table" as the last two parts of a topic's name say it, or empty.
  static std::string table_of_topic(std::string_view topic);

 private:
  struct Table;
  struct Topic;
  enum class RowKind : std::uint8_t { kNew, kOld };

  Result<Decoded> decode_record(const KafkaRecord& record);
  void forget(std::string_view topic);
  void note_read_columns(Table& table) const;
  std::vector<TableName> tables_above(const Relation& relation) const;
  Result<Decoded> decode_value(const KafkaRecord& record, Topic& topic);
  Result<Decoded> decode_envelope(const KafkaRecord& record, Topic& topic);
  Result<Decoded> decode_flattened(const KafkaRecord& record, Topic& topic);
  Result<Decoded> decode_tombstone(const KafkaRecord& record, Topic& topic);
  void read_source(Decoded& decoded);
  Result<bool> open_value(Topic& topic, const KafkaRecord& record);
  Result<bool> open_avro(Topic& topic, const Unframed& value);
  Result<bool> open_json(Topic& topic, std::string_view value);
  // The JSON of what was framed, or empty: it was none. `schema`: what it was written with, where that is Avro.
  Result<std::string_view> transcode(const Unframed& framed, std::string& json, std::shared_ptr<const AvroSchema>& schema);
  Unframed unframed(std::string_view bytes, const SchemaHeader& header) const;
  Result<std::string_view> key_json(const KafkaRecord& record, std::shared_ptr<const AvroSchema>& schema);
  Result<void> read_payload(std::string_view text);
  Result<void> learn_schema(Topic& topic, std::string_view schema_json);
  Result<void> read_key(const KafkaRecord& record, Topic& topic);

  Topic& topic_of(std::string_view name);
  Table& table_of(Topic& topic, std::string_view schema, std::string_view table);
  Result<void> read_row(Topic& topic, Table& table, const JsonValue& json, RowKind kind,
                        std::vector<Value>& row);
  Result<void> read_fields(Topic& topic, Table& table, const std::vector<JsonField>& fields,
                           RowKind kind, std::vector<Value>& row);
  void learn_from_update(Table& table);
  static void doubt_nulls(const Table& table, std::vector<Value>& row);
  void doubt_old_row(Table& table, const std::vector<JsonField>& fields, std::vector<Value>& row);
  Result<void> row_from_key(const KafkaRecord& record, Topic& topic, Table& table,
                            std::vector<Value>& row);
  Result<void> add_columns(Topic& topic, Table& table, std::span<const JsonField> fields, bool of_key);
  static std::size_t column_of(const Table& table, std::string_view name, std::size_t guess);
  Result<Value> value_of(const Table& table, std::size_t column, const JsonValue& json);
  Result<void> learn_identity(const KafkaRecord& record, Topic& topic, Table& table);
  void replace_relation(Table& table, std::unique_ptr<Relation> relation);
  Result<Value> document_value(const JsonValue& json);

  SchemaStore* schemas_ = nullptr;
  IdWidth id_width_ = IdWidth::kAuto;
  std::string value_json_;  // of Avro
  std::string key_json_;

  std::unordered_map<std::string, std::unique_ptr<Topic>> topics_;
  Topic* last_topic_ = nullptr;
  std::optional<ReadColumns> read_columns_;
  std::set<std::string> tables_;
  TablesAbove tables_above_;
  std::vector<std::unique_ptr<const Relation>> retired_;

  PaddedText value_text_;
  PaddedText key_text_;
  PaddedText document_text_[3];  // old, new, id
  JsonLevel payload_;
  JsonLevel source_;
  JsonLevel key_;
  JsonLevel rows_[2];
  JsonLevel nested_;
  TextArena arena_;
  std::vector<Value> old_row_;
  std::vector<Value> new_row_;
  std::vector<JsonField> flattened_fields_;
  std::string schema_name_;
  std::string table_name_;
};

}  // namespace evictd
