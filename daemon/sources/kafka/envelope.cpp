#include "daemon/sources/kafka/envelope.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "daemon/sources/kafka/envelope_state.h"
#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {

std::optional<std::int64_t> integer(const JsonValue* json) {
  if (json == nullptr || (json->kind != JsonKind::kNumber && json->kind != JsonKind::kString)) {
    return std::nullopt;
  }
  std::int64_t number = 0;
  const char* last = json->text.data() + json->text.size();
  const auto [end, error] = std::from_chars(json->text.data(), last, number);
  if (error != std::errc{} || end != last) return std::nullopt;
  return number;
}

namespace {

std::string_view string_or_empty(const JsonValue* json) {
  return json != nullptr && json->kind == JsonKind::kString ? json->text : std::string_view{};
}

bool is_null(const JsonValue* json) { return json == nullptr || json->kind == JsonKind::kNull; }

// The year 9999: what a clock may say.
constexpr std::int64_t kMillisMax = 253'402'300'799'999;

// The time of commit, in as many units as the event has it.
class CommitTime {
 public:
  // Takes the field when it is one of them.
  void take(std::string_view name, const JsonValue& value) {
    if (!name.starts_with("ts_")) return;
    if (name == "ts_us") micros_ = integer(&value);
    if (name == "ts_ns") nanos_ = integer(&value);
    if (name == "ts_ms") millis_ = integer(&value);
  }
  // Microseconds are what PostgreSQL has.
  std::optional<SystemTime> finest() const {
    if (micros_ && *micros_ > 0 && *micros_ / 1000 <= kMillisMax) return SystemTime(std::chrono::microseconds(*micros_));
    if (nanos_ && *nanos_ > 0) return SystemTime(std::chrono::microseconds(*nanos_ / 1000));
    if (millis_ && *millis_ > 0 && *millis_ <= kMillisMax) return SystemTime(std::chrono::milliseconds(*millis_));
    return std::nullopt;
  }

 private:
  std::optional<std::int64_t> micros_, nanos_, millis_;
};

// By the record's own timestamp, which may be anything.
SystemTime time_of(const KafkaRecord& record) {
  return SystemTime(std::chrono::milliseconds(std::clamp<std::int64_t>(record.timestamp_ms, 0, kMillisMax)));
}

void take_transaction_id(const JsonValue& value, Decoded& decoded) {
  decoded.transaction_id.reset();
  if (const auto id = integer(&value); id && *id > 0) decoded.transaction_id = static_cast<std::uint64_t>(*id);
}

// Debezium documentation, "snapshot" of the source block: incremental ones are called so at each row.
SnapshotEnd snapshot_end_of(std::string_view text) {
  if (text == "first") return SnapshotEnd::kFirst;
  if (text == "last") return SnapshotEnd::kLast;
  if (text == "first_in_data_collection") return SnapshotEnd::kFirstOfTable;
  if (text == "last_in_data_collection") return SnapshotEnd::kLastOfTable;
  return SnapshotEnd::kNone;
}

Decoded not_a_change(RecordKind kind) {
  Decoded decoded;
  decoded.kind = kind;
  return decoded;
}

Decoded heartbeat_of(const KafkaRecord& record) {
  Decoded decoded = not_a_change(RecordKind::kHeartbeat);
  decoded.commit_time = time_of(record);
  return decoded;
}

std::string printable(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, 16)) shown += c >= ' ' && c <= '~' ? c : '?';
  return shown;
}

}  // namespace

EnvelopeDecoder::EnvelopeDecoder() = default;
EnvelopeDecoder::~EnvelopeDecoder() = default;

std::string EnvelopeDecoder::table_of_topic(std::string_view topic) {
  const std::size_t last = topic.rfind('.');
  if (last == std::string_view::npos || last == 0 || last + 1 == topic.size()) return {};
  const std::size_t before = topic.rfind('.', last - 1);
  if (before == std::string_view::npos) return {};
  return std::string(topic.substr(before + 1));
}

std::pair<std::string, std::string> EnvelopeDecoder::named_table(std::string_view topic) const {
  std::string named = table_named_by(topic, tables_);
  if (named.empty()) named = table_of_topic(topic);
  const std::size_t dot = named.find('.');
  if (dot == std::string::npos) return {};
  return {named.substr(0, dot), named.substr(dot + 1)};
}

void EnvelopeDecoder::set_tables(std::set<std::string> tables) { tables_ = std::move(tables); }

const TopicTraits* EnvelopeDecoder::traits(std::string_view topic) const {
  const auto found = topics_.find(std::string(topic));
  return found == topics_.end() ? nullptr : &found->second->traits;
}

EnvelopeDecoder::Topic& EnvelopeDecoder::topic_of(std::string_view name) {
  if (last_topic_ != nullptr && last_topic_->name == name) return *last_topic_;
  auto& topic = topics_[std::string(name)];
  if (!topic) {
    topic = std::make_unique<Topic>();
    topic->name = name;
    topic->is_heartbeat = name.starts_with(kHeartbeatPrefix);
  }
  last_topic_ = topic.get();
  return *topic;
}

// No record ends the process: what cannot be decoded, for whatever reason, is for the caller to judge.
Result<Decoded> EnvelopeDecoder::decode(const KafkaRecord& record) {
  try {
    return decode_record(record);
  } catch (const std::exception& exception) {
    forget(record.topic);  // what is known of it may be half of something
    return fail(ErrorKind::kData, fmt::format("expected a record that can be decoded, got '{}'", exception.what()),
                "please report this with the record, it is a fault of evictd's");
  }
}

void EnvelopeDecoder::forget(std::string_view name) {
  const auto found = topics_.find(std::string(name));
  if (found == topics_.end()) return;
  for (auto& [names, table] : found->second->tables) {
    if (table && table->relation) retired_.push_back(std::move(table->relation));
  }
  last_topic_ = nullptr;
  topics_.erase(found);
}

void EnvelopeDecoder::read_only(std::optional<ReadColumns> columns) {
  read_columns_ = std::move(columns);
  for (auto& [name, topic] : topics_) {
    for (auto& [names, table] : topic->tables) note_read_columns(*table);
  }
}

Result<Decoded> EnvelopeDecoder::decode_record(const KafkaRecord& record) {
  Topic& topic = topic_of(record.topic);
  arena_.reset();
  if (topic.is_heartbeat) return heartbeat_of(record);
  if (!record.value) return decode_tombstone(record, topic);
  const auto has_payload = open_value(topic, record);
  if (!has_payload) return tl::unexpected(has_payload.error());
  if (!*has_payload) return decode_tombstone(record, topic);  // {"schema":null,"payload":null}
  auto decoded = decode_value(record, topic);
  if (!decoded) return decoded;
  if (decoded->change.operation == Operation::kDelete && record.key) {
    topic.last_delete_key[record.partition] = *record.key;
  } else {
    topic.last_delete_key.erase(record.partition);
  }
  return decoded;
}

// The payload and the rows in it, in one pass: reading JSON is most of the work of an event.
Result<void> EnvelopeDecoder::read_payload(std::string_view text) {
  const JsonLevel::Inner inner[] = {{"before", &rows_[0]}, {"after", &rows_[1]}, {"source", &source_}};
  return payload_.read_object(text, inner);
}

// Finds the payload and reads it; learns the schema in front of it. The schema of a topic repeats in
// every record; it is several times as long as the row, so that comparing it beats reading it.
// False: it is null, the record is a tombstone.
Result<bool> EnvelopeDecoder::open_value(Topic& topic, const KafkaRecord& record) {
  const Unframed value = unframed(*record.value, record.schemas.value);
  if (value.kind == Unframed::Kind::kBare || value.kind == Unframed::Kind::kJson) return open_json(topic, value.bytes);
  return open_avro(topic, value);
}

Result<bool> EnvelopeDecoder::open_avro(Topic& topic, const Unframed& value) {
  std::shared_ptr<const AvroSchema> schema;
  const auto json = transcode(value, value_json_, schema);
  if (!json) return tl::unexpected(json.error());
  if (schema == nullptr) return open_json(topic, *json);
  if (*json == "null") return false;
  if (topic.avro != schema) {
    topic.forget_types();
    topic.types = schema->row_types();
    topic.avro = std::move(schema);
  }
  topic.traits.with_schema = true;
  topic.traits.is_avro_without_names = !topic.avro->names_types();
  if (!json->starts_with('{')) return fail(ErrorKind::kData, "expected a record as the value, got another type of Avro's");
  if (auto read = read_payload(value_text_.assign(*json)); !read) return tl::unexpected(read.error());
  return true;
}

Result<bool> EnvelopeDecoder::open_json(Topic& topic, std::string_view value) {
  if (value.empty()) return fail(ErrorKind::kData, "expected a JSON object, got an empty value");
  const std::string_view prefix = topic.value_prefix;
  if (!prefix.empty() && value.size() > prefix.size() + 1 && value.starts_with(prefix) &&
      value[prefix.size()] == '{' && value.back() == '}') {
    value.remove_prefix(prefix.size());
    value.remove_suffix(1);
    if (auto read = read_payload(value_text_.assign(value)); !read)
      return tl::unexpected(read.error());
    return true;
  }
  const std::string_view text = value_text_.assign(value);
  // Without schemas JsonConverter writes so what is null and has one: a delete that the transform flattened.
  if (text == "null") return false;
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{') {
    return fail(ErrorKind::kData, fmt::format("expected a JSON object, got '{}'", printable(text)));
  }
  if (auto read = read_payload(text); !read) return tl::unexpected(read.error());
  const auto& fields = payload_.fields();
  const JsonValue* schema = payload_.find("schema");
  const JsonValue* payload = payload_.find("payload");
  // Apicurio's ExtJsonConverter, in its readable form: the schema lies in the registry, the payload is JSON without one. A row
  // of two columns of these names has no object in either.
  if (fields.size() == 2 && payload_.find("schemaId") != nullptr && payload != nullptr &&
      (payload->kind == JsonKind::kObject || payload->kind == JsonKind::kNull)) {
    topic.go_without_schema();
    if (payload->kind == JsonKind::kNull) return false;
    if (auto read = read_payload(payload->text); !read) return tl::unexpected(read.error());
    return true;
  }
  if (fields.size() != 2 || schema == nullptr || payload == nullptr ||
      (schema->kind != JsonKind::kObject && schema->kind != JsonKind::kNull)) {
    topic.go_without_schema();
    return true;
  }
  if (payload->kind == JsonKind::kNull) return false;
  if (payload->kind != JsonKind::kObject) {
    return fail(ErrorKind::kData, "expected an object as 'payload'");
  }
  if (schema->kind == JsonKind::kObject && topic.schema_json != schema->text) {
    if (auto learnt = learn_schema(topic, schema->text); !learnt)
      return tl::unexpected(learnt.error());
    topic.schema_json = schema->text;
  }
  topic.traits.with_schema = schema->kind == JsonKind::kObject;
  // Only where the payload follows the schema and ends the record may the shortcut above be taken.
  const auto begin = static_cast<std::size_t>(payload->text.data() - text.data());
  topic.value_prefix =
      fields[1].value.text.data() == payload->text.data() ? text.substr(0, begin) : "";
  if (auto read = read_payload(payload->text); !read) return tl::unexpected(read.error());
  return true;
}

// The column types: of "after" in an envelope, of the struct itself when flattened.
Result<void> EnvelopeDecoder::learn_schema(Topic& topic, std::string_view schema_json) {
  topic.forget_types();
  JsonLevel schema;
  if (auto read = schema.read_object(schema_json); !read) return read;
  const JsonValue* members = schema.find("fields");
  if (members == nullptr || members->kind != JsonKind::kArray) return {};
  JsonLevel list;
  if (auto read = list.read_array(members->text); !read) return read;
  std::string_view row_fields = members->text;
  for (const JsonValue& member : list.elements()) {
    if (member.kind != JsonKind::kObject) continue;
    JsonLevel field;
    if (auto read = field.read_object(member.text); !read) return read;
    const std::string_view name = string_or_empty(field.find("field"));
    if (name != "after" && name != "before") continue;
    const JsonValue* inner = field.find("fields");
    row_fields = inner != nullptr && inner->kind == JsonKind::kArray ? inner->text : "[]";
  }
  auto types = read_field_types(row_fields);
  if (!types) return tl::unexpected(types.error());
  topic.types = std::move(*types);
  return {};
}

Result<Decoded> EnvelopeDecoder::decode_value(const KafkaRecord& record, Topic& topic) {
  const JsonValue* op = payload_.find("op");
  if (op != nullptr && op->kind == JsonKind::kString &&
      (payload_.find("source") != nullptr || payload_.find("before") != nullptr ||
       payload_.find("after") != nullptr)) {
    topic.traits.flattened = false;
    return decode_envelope(record, topic);
  }
  if (payload_.find("specversion") != nullptr && payload_.find("datacontenttype") != nullptr) {
    return fail(
        ErrorKind::kData, "expected a Debezium event, got a CloudEvent",
        "use org.apache.kafka.connect.json.JsonConverter instead of the CloudEvents converter");
  }
  // `topic.heartbeat.prefix` may be another one than the default.
  if (payload_.fields().size() == 1 && payload_.fields()[0].name == "ts_ms" && record.key) {
    std::shared_ptr<const AvroSchema> schema;
    const auto key = key_json(record, schema);
    if (key && key->find("\"serverName\"") != std::string_view::npos) return heartbeat_of(record);
  }
  if (payload_.find("status") != nullptr && payload_.find("id") != nullptr &&
      payload_.find("event_count") != nullptr && record.topic.ends_with(".transaction")) {
    return not_a_change(RecordKind::kTransactionMarker);
  }
  if (payload_.find("tableChanges") != nullptr || payload_.find("databaseName") != nullptr) {
    if (payload_.find("ddl") != nullptr) return not_a_change(RecordKind::kSchemaChange);
  }
  return decode_flattened(record, topic);
}

void EnvelopeDecoder::read_source(Decoded& decoded) {
  std::string_view schema, db, table, collection;
  CommitTime time;
  for (const JsonField& field : source_.fields()) {
    const std::string_view name = field.name;
    if (name == "connector") {
      decoded.connector = string_or_empty(&field.value);
    } else if (name == "name") {
      decoded.server = string_or_empty(&field.value);
    } else if (name == "schema") {
      schema = string_or_empty(&field.value);
    } else if (name == "db") {
      db = string_or_empty(&field.value);
    } else if (name == "table") {
      table = string_or_empty(&field.value);
    } else if (name == "collection") {
      collection = string_or_empty(&field.value);
    } else if (name == "txId") {
      take_transaction_id(field.value, decoded);
    } else if (name == "snapshot") {
      decoded.snapshot_end = snapshot_end_of(string_or_empty(&field.value));
    } else {
      time.take(name, field.value);
    }
  }
  // MySQL has databases only, MongoDB databases and collections; rules name them as schema and
  // table.
  schema_name_ = schema.empty() ? db : schema;
  table_name_ = table.empty() ? collection : table;
  if (const auto finest = time.finest()) {
    decoded.commit_time = *finest;
    decoded.has_commit_time = true;
  }
}

Result<Decoded> EnvelopeDecoder::decode_envelope(const KafkaRecord& record, Topic& topic) {
  Decoded decoded;
  decoded.commit_time = time_of(record);
  const std::string_view op = payload_.find("op")->text;
  if (op == "m") {
    decoded.kind = RecordKind::kMessage;
    return decoded;
  }
  schema_name_.clear();
  table_name_.clear();
  if (const JsonValue* source = payload_.find("source");
      source != nullptr && source->kind == JsonKind::kObject) {
    read_source(decoded);
  }
  if (table_name_.empty()) {
    std::tie(schema_name_, table_name_) = named_table(record.topic);
    if (table_name_.empty()) {
      return fail(ErrorKind::kData,
                  "expected 'source' with the table's name, or a topic named '...schema.table'");
    }
  }
  topic.traits.has_commit_times |= decoded.has_commit_time;
  topic.traits.has_transactions |= decoded.connector == "postgresql" && decoded.transaction_id;
  Table& table = table_of(topic, schema_name_, table_name_);
  table.believes_old_rows = !decoded.connector.empty() && decoded.connector != "postgresql";
  table.is_document = decoded.connector == "mongodb";

  Change& change = decoded.change;
  if (op == "c" || op == "r") {
    change.operation = Operation::kInsert;
    if (op == "r") decoded.kind = RecordKind::kSnapshotRow;
  } else if (op == "u") {
    change.operation = Operation::kUpdate;
  } else if (op == "d") {
    change.operation = Operation::kDelete;
  } else if (op == "t") {
    change.operation = Operation::kTruncate;
  } else {
    return fail(ErrorKind::kData,
                fmt::format("expected an operation c, u, d, r, t or m, got '{}'", printable(op)));
  }
  if (change.operation == Operation::kTruncate) {
    change.relation = table.relation.get();
    return decoded;
  }
  if (auto known = learn_identity(record, topic, table); !known)
    return tl::unexpected(known.error());

  const JsonValue* before = payload_.find("before");
  const JsonValue* after = payload_.find("after");
  bool has_old = false;
  bool has_new = false;
  if (change.operation != Operation::kDelete) {
    if (!is_null(after)) {
      if (auto read = read_row(topic, table, *after, RowKind::kNew, new_row_); !read) {
        return tl::unexpected(std::move(read.error()).within("'after'"));
      }
      if (change.operation == Operation::kUpdate && !table.believes_old_rows) doubt_nulls(table, new_row_);
    } else if (table.is_document && change.operation == Operation::kUpdate) {
      // Change streams without the full document: only the key is known.
      if (auto read = row_from_key(record, topic, table, new_row_); !read)
        return tl::unexpected(read.error());
    } else {
      return fail(ErrorKind::kData,
                  fmt::format("expected 'after' in an event of operation '{}'", op));
    }
    has_new = true;
  }
  if (change.operation != Operation::kInsert) {
    if (!is_null(before)) {
      if (has_new && !table.believes_old_rows && before->kind == JsonKind::kObject) {
        learn_from_update(table);
      }
      if (auto read = read_row(topic, table, *before, RowKind::kOld, old_row_); !read) {
        return tl::unexpected(std::move(read.error()).within("'before'"));
      }
      has_old = true;
    } else if (change.operation == Operation::kDelete) {
      if (auto read = row_from_key(record, topic, table, old_row_); !read)
        return tl::unexpected(read.error());
      has_old = true;
    } else {
      table.identity = Identity::kPartial;
    }
    if (change.operation == Operation::kUpdate) topic.traits.has_old_rows |= has_old;
  }
  // Reading the later row may have added columns; the earlier one has no value for them.
  const std::size_t columns = table.relation->columns.size();
  if (has_old) old_row_.resize(columns), change.old_row = old_row_;
  if (has_new) new_row_.resize(columns), change.new_row = new_row_;
  change.relation = table.relation.get();
  return decoded;
}

// ExtractNewRecordState: the new row alone, with what add.fields was told to add under names that
// begin "__".
Result<Decoded> EnvelopeDecoder::decode_flattened(const KafkaRecord& record, Topic& topic) {
  Decoded decoded;
  decoded.commit_time = time_of(record);
  std::string_view op, schema, db, table_name, deleted;
  CommitTime time;
  flattened_fields_.clear();
  for (const JsonField& field : payload_.fields()) {
    std::string_view name = field.name;
    if (!name.starts_with("__")) {
      flattened_fields_.push_back(field);
      continue;
    }
    name.remove_prefix(2);
    if (name.starts_with("source_")) name.remove_prefix(7);
    if (name == "op") op = string_or_empty(&field.value);
    if (name == "schema") schema = string_or_empty(&field.value);
    if (name == "db") db = string_or_empty(&field.value);
    if (name == "table" || name == "collection") table_name = string_or_empty(&field.value);
    if (name == "deleted")
      deleted = field.value.kind == JsonKind::kTrue ? "true" : string_or_empty(&field.value);
    if (name == "connector") decoded.connector = string_or_empty(&field.value);
    if (name == "name") decoded.server = string_or_empty(&field.value);
    if (name == "txId") take_transaction_id(field.value, decoded);
    if (name == "snapshot") decoded.snapshot_end = snapshot_end_of(string_or_empty(&field.value));
    if (field.name.starts_with("__source_")) time.take(name, field.value);
  }
  if (const auto finest = time.finest()) {
    decoded.commit_time = *finest;
    decoded.has_commit_time = true;
  }
  if (schema.empty()) schema = db;
  std::pair<std::string, std::string> named;
  if (table_name.empty() || schema.empty()) named = named_table(record.topic);
  if (table_name.empty()) table_name = named.second;
  if (schema.empty()) schema = named.first;
  if (table_name.empty() || schema.empty()) {
    return fail(
        ErrorKind::kData,
        "expected a Debezium envelope with 'op', or a flattened row in a topic named "
        "'...schema.table'",
        "let add.fields include 'table' and 'schema', or keep the topic names Debezium gives");
  }
  schema_name_ = schema;
  table_name_ = table_name;
  topic.traits.flattened = true;
  topic.traits.has_commit_times |= decoded.has_commit_time;
  topic.traits.has_transactions |= decoded.connector == "postgresql" && decoded.transaction_id;
  Table& table = table_of(topic, schema_name_, table_name_);
  table.believes_old_rows = !decoded.connector.empty() && decoded.connector != "postgresql";
  if (auto known = learn_identity(record, topic, table); !known)
    return tl::unexpected(known.error());

  Change& change = decoded.change;
  if (op == "r") decoded.kind = RecordKind::kSnapshotRow;
  change.operation = op == "c" || op == "r" ? Operation::kInsert : Operation::kUpdate;
  if (deleted == "true" || op == "d") change.operation = Operation::kDelete;
  const bool is_delete = change.operation == Operation::kDelete;
  if (!is_delete) table.identity = Identity::kPartial;
  std::vector<Value>& row = is_delete ? old_row_ : new_row_;
  if (auto read = read_fields(topic, table, flattened_fields_,
                              is_delete ? RowKind::kOld : RowKind::kNew, row);
      !read) {
    return tl::unexpected(read.error());
  }
  if (!is_delete && !table.believes_old_rows) doubt_nulls(table, row);
  (is_delete ? change.old_row : change.new_row) = row;
  change.relation = table.relation.get();
  return decoded;
}

// The value is null. After a delete in the same partition it adds nothing; alone (flattened rows,
// or a compacted topic that has dropped the delete before it) it is the delete, of which the key
// alone is known.
Result<Decoded> EnvelopeDecoder::decode_tombstone(const KafkaRecord& record, Topic& topic) {
  Decoded decoded;
  decoded.commit_time = time_of(record);
  const auto last = topic.last_delete_key.find(record.partition);
  if (last != topic.last_delete_key.end() && record.key && last->second == *record.key) {
    topic.last_delete_key.erase(last);
    decoded.kind = RecordKind::kTombstone;
    return decoded;
  }
  auto named = named_table(record.topic);
  if (topic.only_table != nullptr) named = {topic.only_table->relation->schema, topic.only_table->relation->table};
  if (!record.key || named.second.empty()) {
    return fail(ErrorKind::kData, "expected a key of a known table with an empty value");
  }
  Table& table = table_of(topic, named.first, named.second);
  if (auto read = row_from_key(record, topic, table, old_row_); !read)
    return tl::unexpected(read.error());
  decoded.change.operation = Operation::kDelete;
  decoded.change.old_row = old_row_;
  decoded.change.relation = table.relation.get();
  return decoded;
}

}  // namespace evictd
