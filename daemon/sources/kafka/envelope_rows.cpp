// Rows: objects of columns become values in the order of the table's relation.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "daemon/sources/kafka/envelope_state.h"
#include "daemon/sources/kafka/text_forms.h"

namespace evictd {
namespace {

// Unique over all relations of the process, whichever decoder made them.
std::uint64_t next_generation() {
  // Far from the numbers that another source would give.
  static std::atomic<std::uint64_t> generation{1ULL << 32};
  return ++generation;
}

std::unique_ptr<Relation> copy_of(const Relation& relation) {
  auto copy = std::make_unique<Relation>(relation);
  copy->generation = next_generation();
  return copy;
}

// The milliseconds of a date: bare, or as {"$numberLong": "..."}. Never a date in a date: whoever writes to the topic decides how deep a
// document is, and each level would be read again by every one above it.
std::optional<std::int64_t> document_millis(const JsonValue& json) {
  if (json.kind != JsonKind::kObject) return integer(&json);
  JsonLevel wrapper;
  PaddedText padded;
  if (!wrapper.read_object(padded.assign(json.text)) || wrapper.fields().size() != 1) return std::nullopt;
  const JsonValue* number = wrapper.find("$numberLong");
  return integer(number);
}

}  // namespace

EnvelopeDecoder::Table& EnvelopeDecoder::table_of(Topic& topic, std::string_view schema,
                                                  std::string_view name) {
  if (topic.last_table != nullptr && topic.last_table->relation->table == name &&
      topic.last_table->relation->schema == schema) {
    return *topic.last_table;
  }
  auto& table = topic.tables[{std::string(schema), std::string(name)}];
  if (!table) {
    if (topic.tables.size() > kTablesPerTopicMax) {
      // Forget the others rather than grow; they are learnt again.
      for (auto& [names, other] : topic.tables) {
        if (other) retired_.push_back(std::move(other->relation));
      }
      topic.last_table = topic.only_table = nullptr;
      topic.tables.clear();
      topic.traits.tables.clear();
      topic.traits.has_more_tables = true;
      return table_of(topic, schema, name);
    }
    table = std::make_unique<Table>();
    table->relation = std::make_unique<Relation>();
    table->relation->schema = schema;
    table->relation->table = name;
    table->relation->also = tables_above(*table->relation);
    table->relation->generation = next_generation();
    table->relation->id = static_cast<std::uint32_t>(table->relation->generation);
    const std::string qualified = table->relation->qualified_name();
    topic.only_table = topic.traits.tables.empty() && !topic.traits.has_more_tables ? table.get() : nullptr;
    topic.traits.tables.insert(qualified);
  }
  topic.last_table = table.get();
  return *table;
}

void EnvelopeDecoder::replace_relation(Table& table, std::unique_ptr<Relation> relation) {
  retired_.push_back(std::move(table.relation));
  table.relation = std::move(relation);
}

// Adds those that are new, all at once: each time the relation is another one.
Result<void> EnvelopeDecoder::add_columns(Topic& topic, Table& table, std::span<const JsonField> fields, bool of_key) {
  std::unique_ptr<Relation> relation;
  std::size_t position = 0;
  for (const JsonField& field : fields) {
    const std::string_view name = Topic::column_name(table, field.name, of_key);
    if (name.empty() && of_key) continue;
    const auto& known = table.relation->columns;
    if (position < known.size() && known[position].name == name) {
      ++position;
      continue;
    }
    if (const auto found = table.index.find(std::string(name)); found != table.index.end()) {
      position = found->second + 1;
      continue;
    }
    if (!relation) relation = copy_of(*table.relation);
    if (relation->columns.size() >= kColumnsMax) {
      if (relation->columns.size() > known.size()) replace_relation(table, std::move(relation));
      note_read_columns(table);
      return fail(ErrorKind::kData, fmt::format("expected at most {} columns", kColumnsMax));
    }
    table.types.push_back(topic.type_of(std::string(name)));
    table.index.emplace(name, relation->columns.size());
    relation->columns.push_back({std::string(name), table.types.back().value_type(), false, table.types.back().element_value_type()});
  }
  if (!relation) return {};
  replace_relation(table, std::move(relation));
  note_read_columns(table);
  return {};
}

// The position of a column that is there. `guess`: rows list their columns in one order.
std::size_t EnvelopeDecoder::column_of(const Table& table, std::string_view name, std::size_t guess) {
  const auto& columns = table.relation->columns;
  if (guess < columns.size() && columns[guess].name == name) return guess;
  return table.index.at(std::string(name));
}

void EnvelopeDecoder::set_tables_above(TablesAbove above) {
  tables_above_ = std::move(above);
  for (auto& [name, topic] : topics_) {
    for (auto& [names, table] : topic->tables) {
      auto also = tables_above(*table->relation);
      if (also == table->relation->also) continue;
      auto relation = copy_of(*table->relation);
      relation->also = std::move(also);
      replace_relation(*table, std::move(relation));
      note_read_columns(*table);
    }
  }
}

std::vector<TableName> EnvelopeDecoder::tables_above(const Relation& relation) const {
  const auto found = tables_above_.find(relation.qualified_name());
  return found == tables_above_.end() ? std::vector<TableName>() : found->second;
}

void EnvelopeDecoder::note_read_columns(Table& table) const {
  const auto& columns = table.relation->columns;
  table.is_read.assign(columns.size(), !read_columns_);
  if (!read_columns_) return;
  const auto note = [&](const std::string& of) {
    const auto read = read_columns_->find(of);
    if (read == read_columns_->end()) return;
    for (std::size_t column = 0; column < columns.size(); ++column) {
      if (read->second.contains(columns[column].name)) table.is_read[column] = true;
    }
  };
  note(table.relation->qualified_name());
  for (const TableName& above : table.relation->also) note(above.schema + "." + above.table);
}

Result<Value> EnvelopeDecoder::value_of(const Table& table, std::size_t column, const JsonValue& json) {
  if (!table.is_read[column]) return unread_value(json);
  return table.is_document ? document_value(json) : field_value(table.types[column], json, arena_);
}

// The columns of the record's key are those whose old values an update that sends no old row did
// not change.
Result<void> EnvelopeDecoder::learn_identity(const KafkaRecord& record, Topic& topic,
                                             Table& table) {
  if (table.types_generation != topic.types_generation) {
    table.types_generation = topic.types_generation;
    auto relation = copy_of(*table.relation);
    bool changed = false;
    for (std::size_t i = 0; i < relation->columns.size(); ++i) {
      FieldType now = topic.type_of(relation->columns[i].name);
      if (now == table.types[i]) continue;
      table.types[i] = std::move(now);
      relation->columns[i].type = table.types[i].value_type();
      relation->columns[i].element = table.types[i].element_value_type();
      changed = true;
    }
    if (changed) replace_relation(table, std::move(relation));
    table.identity_is_known = false;  // a changed table may have another key
  }
  if (table.identity_is_known || !record.key) return {};
  table.identity_is_known = true;
  // A key that is not a JSON object (another converter) names no column: nothing counts as
  // unchanged.
  if (!read_key(record, topic)) return {};
  if (auto added = add_columns(topic, table, key_.fields(), true); !added) return added;
  std::vector<std::size_t> identity;
  for (const JsonField& field : key_.fields()) {
    const std::string_view name = Topic::column_name(table, field.name, true);
    if (!name.empty()) identity.push_back(column_of(table, name, identity.size()));
  }
  auto relation = copy_of(*table.relation);
  for (Column& column : relation->columns) column.in_identity = false;
  for (const std::size_t column : identity) relation->columns[column].in_identity = true;
  replace_relation(table, std::move(relation));
  return {};
}

// Leaves the fields of the key, with or without schema, in key_.
Result<void> EnvelopeDecoder::read_key(const KafkaRecord& record, Topic& topic) {
  std::shared_ptr<const AvroSchema> schema_of_key;
  auto json = key_json(record, schema_of_key);
  if (!json) return tl::unexpected(std::move(json.error()).within("key"));
  if (!json->starts_with('{')) return fail(ErrorKind::kData, "expected a JSON object as the key");
  const std::string_view text = key_text_.assign(*json);
  if (auto read = key_.read_object(text); !read)
    return tl::unexpected(std::move(read.error()).within("key"));
  if (schema_of_key != nullptr) {
    if (topic.key_avro == schema_of_key) return {};
    topic.key_types = schema_of_key->own_types();
    topic.key_avro = std::move(schema_of_key);
    topic.key_schema_json.clear();
    ++topic.types_generation;
    return {};
  }
  const JsonValue* payload = key_.find("payload");
  if (key_.fields().size() != 2 || payload == nullptr) return {};
  // Apicurio's ExtJsonConverter: see open_json().
  if (key_.find("schemaId") != nullptr) return payload->kind == JsonKind::kObject ? key_.read_object(payload->text) : Result<void>();
  if (key_.find("schema") == nullptr) return {};
  if (payload->kind != JsonKind::kObject)
    return fail(ErrorKind::kData, "expected an object as the key's payload");
  const std::string_view payload_text = payload->text;
  const JsonValue* schema = key_.find("schema");
  if (schema->kind == JsonKind::kObject && schema->text != topic.key_schema_json) {
    auto types = read_struct_types(schema->text);
    if (!types) return tl::unexpected(std::move(types.error()).within("key"));
    topic.key_schema_json = schema->text;
    topic.key_avro.reset();
    topic.key_types = std::move(*types);
    ++topic.types_generation;
  }
  if (auto read = key_.read_object(payload_text); !read)
    return tl::unexpected(std::move(read.error()).within("key"));
  return {};
}

// A delete of which the key is all there is: every other column was not sent.
Result<void> EnvelopeDecoder::row_from_key(const KafkaRecord& record, Topic& topic, Table& table,
                                           std::vector<Value>& row) {
  if (auto read = read_key(record, topic); !read)
    return read;  // first, for the types in its schema
  if (auto known = learn_identity(record, topic, table); !known) return known;
  if (auto read = read_key(record, topic); !read) return read;
  if (auto added = add_columns(topic, table, key_.fields(), true); !added) return added;
  row.assign(table.relation->columns.size(), Value{});
  std::size_t position = 0;
  for (const JsonField& field : key_.fields()) {
    const std::string_view name = Topic::column_name(table, field.name, true);
    if (name.empty()) continue;
    const bool is_id = name != field.name;
    const std::size_t column = column_of(table, name, position);
    position = column + 1;
    Result<Value> value = Value{};
    if (is_id && field.value.kind == JsonKind::kString) {
      // The id is extended JSON inside a string: {"$oid":"..."}, "\"text\"", 42.
      const std::string wrapped = fmt::format("[{}]", field.value.text);
      if (auto read = nested_.read_array(document_text_[2].assign(wrapped)); !read)
        return tl::unexpected(read.error());
      if (nested_.elements().size() != 1)
        return fail(ErrorKind::kData, "expected one value as the document's id");
      const JsonValue id = nested_.elements()[0];
      value = document_value(id);
    } else {
      value = value_of(table, column, field.value);
    }
    if (!value)
      return tl::unexpected(
          std::move(value.error()).within(fmt::format("key column '{}'", field.name)));
    row[column] = *value;
  }
  return {};
}

Result<void> EnvelopeDecoder::read_row(Topic& topic, Table& table, const JsonValue& json,
                                       RowKind kind, std::vector<Value>& row) {
  JsonLevel& reader = rows_[kind == RowKind::kOld ? 0 : 1];
  if (json.kind == JsonKind::kString && table.is_document) {
    const std::string_view document =
        document_text_[kind == RowKind::kOld ? 0 : 1].assign(json.text);
    if (auto read = reader.read_object(document); !read) return read;
  } else if (json.kind != JsonKind::kObject) {  // which has been read with the payload
    return fail(ErrorKind::kData, "expected an object");
  }
  return read_fields(topic, table, reader.fields(), kind, row);
}

Result<void> EnvelopeDecoder::read_fields(Topic& topic, Table& table,
                                          const std::vector<JsonField>& fields, RowKind kind,
                                          std::vector<Value>& row) {
  const Value absent{table.is_document ? ValueState::kNull : ValueState::kNotSent, {}};
  if (fields.size() > kColumnsMax)
    return fail(ErrorKind::kData, fmt::format("expected at most {} columns", kColumnsMax));
  if (auto added = add_columns(topic, table, fields, false); !added) return added;
  row.assign(table.relation->columns.size(), absent);
  std::size_t position = 0;
  for (const JsonField& field : fields) {
    const std::size_t column = column_of(table, field.name, position);
    position = column + 1;
    auto value = value_of(table, column, field.value);
    if (!value)
      return tl::unexpected(
          std::move(value.error()).within(fmt::format("column '{}'", field.name)));
    row[column] = *value;
  }
  const bool may_doubt = !table.believes_old_rows && table.identity != Identity::kFull;
  if (kind == RowKind::kOld && may_doubt) doubt_old_row(table, fields, row);
  return {};
}

// Nulls in the new row of an update that may stand for values which were not sent (G5).
void EnvelopeDecoder::doubt_nulls(const Table& table, std::vector<Value>& row) {
  for (std::size_t column = 0; column < row.size(); ++column) {
    if (row[column].state == ValueState::kNull && null_may_be_unchanged(table.types[column]))
      row[column] = Value{ValueState::kUnchanged, {}};
  }
}

// Whether the old row of an update could have come of any identity but FULL. It could not when it
// has a value wherever the new row has one, the key included, and in two columns outside the key at
// least. Old and new row are in rows_[0] and rows_[1].
void EnvelopeDecoder::learn_from_update(Table& table) {
  if (table.identity == Identity::kFull) return;
  if (rows_[0].fields().size() > kColumnsMax) return;  // refused when it is read
  std::unordered_map<std::string_view, const JsonValue*> old_values;  // the last one of a name counts
  for (const JsonField& field : rows_[0].fields()) old_values[field.name] = &field.value;
  int beyond_the_key = 0;
  std::size_t position = 0;
  for (const JsonField& field : rows_[1].fields()) {
    const std::size_t column = column_of(table, field.name, position);
    position = column + 1;
    const auto known = old_values.find(field.name);
    const JsonValue* old = known == old_values.end() ? nullptr : known->second;
    const bool has_old = old != nullptr && !looks_unset(table.types[column], *old);
    if (has_old && !table.relation->columns[column].in_identity) {
      ++beyond_the_key;
      if (table.identity == Identity::kUnknown) table.identity = Identity::kMore;
    }
    if (!has_old && !looks_unset(table.types[column], field.value)) return;
  }
  if (beyond_the_key >= 2) table.identity = Identity::kFull;
}

// What an old row of which nothing is known tells: the key, and with a schema values that stand for nothing else.
void EnvelopeDecoder::doubt_old_row(Table& table, const std::vector<JsonField>& fields,
                                    std::vector<Value>& row) {
  const auto column_at = [&, position = std::size_t{0}](const JsonField& field) mutable {
    const auto& columns = table.relation->columns;
    const std::size_t column = position < columns.size() && columns[position].name == field.name
                                   ? position
                                   : table.index.at(std::string(field.name));
    position = column + 1;
    return column;
  };
  // Without a schema nobody knows the defaults.
  const auto was_sent = [&](const JsonField& field, std::size_t column) {
    const bool may_be_default = table.types[column].kind == FieldKind::kUnknown && table.identity != Identity::kMore;
    return !may_be_default && !looks_unset(table.types[column], field.value);
  };
  // The columns of a primary key and of an index that serves as the identity are NOT NULL.
  const auto shows_more = [&, at = column_at](const JsonField& field) mutable {
    const std::size_t column = at(field);
    return !table.relation->columns[column].in_identity && table.types[column].is_optional && was_sent(field, column);
  };
  const bool shows_full = std::any_of(fields.begin(), fields.end(), shows_more);
  if (shows_full) {
    table.identity = Identity::kFull;
    return;
  }
  for (auto at = column_at; const JsonField& field : fields) {
    const std::size_t column = at(field);
    if (!table.relation->columns[column].in_identity && !was_sent(field, column))
      row[column] = Value{ValueState::kNotSent, {}};
  }
}

// MongoDB's extended JSON: the text that a person would write for the value.
Result<Value> EnvelopeDecoder::document_value(const JsonValue& json) {
  switch (json.kind) {
    case JsonKind::kNull:
      return Value{ValueState::kNull, {}};
    case JsonKind::kTrue:
      return Value{ValueState::kText, "true"};
    case JsonKind::kFalse:
      return Value{ValueState::kText, "false"};
    case JsonKind::kObject:
      break;
    default:
      return Value{ValueState::kText, json.text};
  }
  JsonLevel wrapper;
  PaddedText padded;
  if (auto read = wrapper.read_object(padded.assign(json.text)); !read)
    return tl::unexpected(read.error());
  if (wrapper.fields().size() != 1 || !wrapper.fields()[0].name.starts_with('$')) {
    return Value{ValueState::kText, json.text};
  }
  const std::string_view name = wrapper.fields()[0].name;
  const JsonValue& inner = wrapper.fields()[0].value;
  constexpr std::string_view kPlain[] = {
      "$oid", "$numberLong", "$numberInt", "$numberDouble", "$numberDecimal", "$symbol", "$uuid"};
  if (inner.kind == JsonKind::kString &&
      std::find(std::begin(kPlain), std::end(kPlain), name) != std::end(kPlain)) {
    return Value{ValueState::kText, arena_.keep(inner.text)};
  }
  if (name == "$date") {
    std::optional<std::string> text;
    if (inner.kind == JsonKind::kString) {
      text = zoned_timestamp_text(inner.text);
    } else {
      const auto millis = document_millis(inner);
      if (millis) text = timestamp_text(*millis, kMillis, "+00");
    }
    if (!text) return fail(ErrorKind::kData, "expected a date in '$date'");
    // Written as the canonical text is: documents have no column types to say so.
    if (text->ends_with("+00")) text->replace(text->size() - 3, 3, "Z");
    if (const std::size_t space = text->find(' '); space != std::string::npos) (*text)[space] = 'T';
    return Value{ValueState::kText, arena_.keep(*text)};
  }
  return Value{ValueState::kText, json.text};
}

}  // namespace evictd
