// The text of a schema, and the column types it tells.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <utility>

#include "daemon/sources/kafka/avro.h"
#include "daemon/sources/kafka/text_forms.h"

namespace evictd {
namespace {

tl::unexpected<Error> refuse(std::string text, std::string hint = {}) {
  return fail(ErrorKind::kData, std::move(text), std::move(hint));
}

std::string_view text_of(const JsonLevel& level, std::string_view name) {
  const JsonValue* value = level.find(name);
  return value != nullptr && value->kind == JsonKind::kString ? value->text : std::string_view{};
}

template <typename Number>
void take_number(const JsonLevel& level, std::string_view name, Number& number) {
  const JsonValue* value = level.find(name);
  if (value == nullptr) return;  // numbers may come as texts
  Number read = 0;
  const char* end = value->text.data() + value->text.size();
  if (const auto [at, error] = std::from_chars(value->text.data(), end, read); error == std::errc{} && at == end) number = read;
}

// Avro writes bytes in JSON as a text of the characters U+0000 to U+00FF.
std::string bytes_of(std::string_view text) {
  std::string bytes;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if ((c == 0xC2 || c == 0xC3) && at + 1 < text.size()) {
      bytes += static_cast<char>((c & 3U) << 6 | (static_cast<unsigned char>(text[++at]) & 0x3FU));
    } else {
      bytes += text[at];
    }
  }
  return bytes;
}

// A name in a message: short, and of one line.
std::string shown(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 100)) text += c >= ' ' && c <= '~' ? c : '?';
  return text;
}

}  // namespace

class AvroSchema::Parser {
 public:
  explicit Parser(AvroSchema& schema) : schema_(schema) {}

  Result<std::uint32_t> type(const JsonValue& json, std::string_view space, int depth) {
    if (depth > kDepthMax) return refuse(fmt::format("expected a schema of at most {} types in one another", kDepthMax));
    switch (json.kind) {
      case JsonKind::kString:
        return named(json.text, space);
      case JsonKind::kArray:
        return union_of(json.text, space, depth);
      case JsonKind::kObject:
        return described(json.text, space, depth);
      default:
        return refuse("expected a name, a list or an object as a type in the schema");
    }
  }

 private:
  Result<std::uint32_t> add(Type type) {
    if (schema_.types_.size() >= kTypesMax) return refuse(fmt::format("expected a schema of at most {} types", kTypesMax));
    schema_.types_.push_back(std::move(type));
    return static_cast<std::uint32_t>(schema_.types_.size() - 1);
  }

  static const Kind* primitive(std::string_view name) {
    static constexpr std::pair<std::string_view, Kind> kNames[] = {
        {"null", Kind::kNull},   {"boolean", Kind::kBoolean}, {"int", Kind::kInt},     {"long", Kind::kLong},
        {"float", Kind::kFloat}, {"double", Kind::kDouble},   {"bytes", Kind::kBytes}, {"string", Kind::kString}};
    for (const auto& [known, kind] : kNames) {
      if (known == name) return &kind;
    }
    return nullptr;
  }

  Result<std::uint32_t> named(std::string_view name, std::string_view space) {
    if (const Kind* kind = primitive(name)) {
      Type type;
      type.kind = *kind;
      return add(std::move(type));
    }
    auto found = names_.find(full_name(name, space));
    if (found == names_.end()) found = names_.find(std::string(name));
    if (found == names_.end()) {
      return refuse(fmt::format("the schema names the type '{}', and does not say what it is", shown(name)),
                    "schemas that refer to others are not followed: let the converter register them whole");
    }
    return found->second;
  }

  Result<std::uint32_t> union_of(std::string_view text, std::string_view space, int depth) {
    JsonLevel level;
    if (auto read = level.read_array(text); !read) return tl::unexpected(read.error());
    Type all;
    all.kind = Kind::kUnion;
    for (const JsonValue& branch : level.elements()) {
      auto one = type(branch, space, depth + 1);
      if (!one) return one;
      all.types.push_back(*one);
    }
    if (all.types.empty()) return refuse("expected a union of at least one type in the schema");
    return add(std::move(all));
  }

  Result<std::uint32_t> described(std::string_view text, std::string_view space, int depth) {
    JsonLevel level;
    if (auto read = level.read_object(text); !read) return tl::unexpected(read.error());
    const JsonValue* what = level.find("type");
    if (what == nullptr) return refuse("expected a 'type' in the schema");
    if (what->kind != JsonKind::kString) return type(*what, space, depth + 1);
    const std::string_view name = what->text;
    Type made;
    if (auto read = take_properties(level, made); !read) return tl::unexpected(read.error());
    if (const Kind* kind = primitive(name)) {
      made.kind = *kind;
      return add(std::move(made));
    }
    if (name == "array" || name == "map") {
      made.kind = name == "array" ? Kind::kArray : Kind::kMap;
      const JsonValue* inner = level.find(name == "array" ? "items" : "values");
      if (inner == nullptr) return refuse(fmt::format("expected '{}' in the schema", name == "array" ? "items" : "values"));
      auto one = type(*inner, space, depth + 1);
      if (!one) return one;
      made.types.push_back(*one);
      return add(std::move(made));
    }
    if (name == "record" || name == "error") return record(level, std::move(made), space, depth);
    if (name == "enum" || name == "fixed") return leaf(level, std::move(made), name, space);
    return named(name, space);
  }

  Result<void> take_properties(const JsonLevel& level, Type& type) {
    type.connect_name = text_of(level, "connect.name");
    type.logical_type = text_of(level, "logicalType");
    take_number(level, "scale", type.scale);
    schema_.names_types_ |= !type.connect_name.empty();
    const JsonValue* parameters = level.find("connect.parameters");
    if (parameters == nullptr || parameters->kind != JsonKind::kObject) return {};
    JsonLevel inner;
    if (auto read = inner.read_object(parameters->text); !read) return read;
    take_number(inner, "scale", type.scale);
    take_number(inner, "length", type.length);
    return {};
  }

  static std::string full_name(std::string_view name, std::string_view space) {
    if (space.empty() || name.find('.') != std::string_view::npos) return std::string(name);
    return fmt::format("{}.{}", space, name);
  }

  // The full name of what is defined here, and the namespace within it.
  static std::pair<std::string, std::string> name_of(const JsonLevel& level, std::string_view space) {
    const std::string_view name = text_of(level, "name");
    const JsonValue* own = level.find("namespace");
    if (own != nullptr && own->kind == JsonKind::kString) space = own->text;
    std::string full = full_name(name, space);
    const std::size_t dot = full.rfind('.');
    return {full, dot == std::string::npos ? std::string() : full.substr(0, dot)};
  }

  Result<std::uint32_t> define(std::string name, Type type) {
    auto added = add(std::move(type));
    if (!added) return added;
    if (name.empty()) return refuse("expected a 'name' of each record, enum and fixed in the schema");
    if (!names_.emplace(name, *added).second) return refuse(fmt::format("the schema defines the type '{}' twice", shown(name)));
    return added;
  }

  Result<std::uint32_t> record(const JsonLevel& level, Type made, std::string_view space, int depth) {
    made.kind = Kind::kRecord;
    auto [name, inside] = name_of(level, space);
    const auto place = define(name, std::move(made));  // first: its fields may be of its own kind
    if (!place) return place;
    const JsonValue* fields = level.find("fields");
    if (fields == nullptr || fields->kind != JsonKind::kArray) return refuse("expected 'fields' of each record in the schema");
    JsonLevel list;
    if (auto read = list.read_array(fields->text); !read) return tl::unexpected(read.error());
    for (const JsonValue& one : list.elements()) {
      if (one.kind != JsonKind::kObject) return refuse("expected an object for each of 'fields' in the schema");
      auto read = field(one.text, inside, depth);
      if (!read) return tl::unexpected(read.error());
      schema_.types_[*place].fields.push_back(std::move(*read));
    }
    return place;
  }

  Result<Field> field(std::string_view text, std::string_view space, int depth) {
    JsonLevel level;
    if (auto read = level.read_object(text); !read) return tl::unexpected(read.error());
    Field field;
    field.name = text_of(level, "name");
    if (field.name.empty()) return refuse("expected a 'name' of each field in the schema");
    append_json_text(field.name, field.quoted_name);
    field.quoted_name += ':';
    const JsonValue* what = level.find("type");
    if (what == nullptr) return refuse(fmt::format("expected a 'type' of the field '{}' in the schema", shown(field.name)));
    const auto place = type(*what, space, depth + 1);
    if (!place) return tl::unexpected(place.error());
    field.type = *place;
    if (const JsonValue* otherwise = level.find("default")) take_default(*otherwise, field);
    return field;
  }

  // As the JSON of a value would be written.
  void take_default(const JsonValue& json, Field& field) const {
    field.default_kind = json.kind;
    field.default_text = json.text;
    std::uint32_t place = field.type;
    if (schema_.types_[place].kind == Kind::kUnion) {
      const auto& branches = schema_.types_[place].types;
      const auto found = std::find_if(branches.begin(), branches.end(), [&](std::uint32_t one) {
        return schema_.types_[one].kind != Kind::kNull;
      });
      if (found == branches.end()) return;
      place = *found;
    }
    const Kind kind = schema_.types_[place].kind;
    if ((kind == Kind::kBytes || kind == Kind::kFixed) && json.kind == JsonKind::kString) {
      field.default_text.clear();
      append_base64(bytes_of(json.text), field.default_text);
    }
    if ((kind == Kind::kFloat || kind == Kind::kDouble) && json.kind == JsonKind::kNumber) {
      double number = 0;
      std::from_chars(json.text.data(), json.text.data() + json.text.size(), number);
      field.default_text = kind == Kind::kDouble ? fmt::format("{}", number) : fmt::format("{}", static_cast<float>(number));
    }
  }

  Result<std::uint32_t> leaf(const JsonLevel& level, Type made, std::string_view what, std::string_view space) {
    made.kind = what == "enum" ? Kind::kEnum : Kind::kFixed;
    if (made.kind == Kind::kFixed) {
      made.size = UINT64_MAX;
      take_number(level, "size", made.size);
      if (made.size > kJsonBytesMax) return refuse("expected a reasonable 'size' of each fixed in the schema");
    } else {
      const JsonValue* symbols = level.find("symbols");
      if (symbols == nullptr || symbols->kind != JsonKind::kArray) return refuse("expected 'symbols' of each enum in the schema");
      JsonLevel list;
      if (auto read = list.read_array(symbols->text); !read) return tl::unexpected(read.error());
      for (const JsonValue& symbol : list.elements()) {
        if (symbol.kind != JsonKind::kString) return refuse("expected texts as 'symbols' in the schema");
        append_json_text(symbol.text, made.symbols.emplace_back());
      }
    }
    return define(name_of(level, space).first, std::move(made));
  }

  AvroSchema& schema_;
  std::unordered_map<std::string, std::uint32_t> names_;
};

Result<std::shared_ptr<const AvroSchema>> AvroSchema::parse(std::string_view text) {
  if (text.size() > kTextBytesMax) return refuse(fmt::format("expected a schema of at most {} bytes, got {}", kTextBytesMax, text.size()));
  // A list of one, since a schema may be a bare name.
  PaddedText padded;
  JsonLevel level;
  if (auto read = level.read_array(padded.assign(fmt::format("[{}]", text))); !read) return tl::unexpected(std::move(read.error()).within("the schema"));
  if (level.elements().size() != 1) return refuse("expected one schema");
  const std::shared_ptr<AvroSchema> schema(new AvroSchema());
  auto root = Parser(*schema).type(level.elements()[0], "", 0);
  if (!root) return tl::unexpected(root.error());
  schema->root_ = *root;
  if (const std::uint32_t record = schema->record_of(*root); record != kNone) {
    schema->own_types_ = schema->field_types(record);
    schema->row_types_ = schema->own_types_;
    for (const Field& field : schema->types_[record].fields) {
      const std::uint32_t row = schema->record_of(field.type);
      if (row != kNone && (field.name == "before" || field.name == "after")) schema->row_types_ = schema->field_types(row);
    }
  }
  return std::shared_ptr<const AvroSchema>(schema);
}

std::uint32_t AvroSchema::record_of(std::uint32_t type) const {
  if (types_[type].kind == Kind::kRecord) return type;
  if (types_[type].kind != Kind::kUnion) return kNone;
  std::uint32_t record = kNone;
  for (const std::uint32_t branch : types_[type].types) {
    if (types_[branch].kind == Kind::kNull) continue;
    if (record != kNone || types_[branch].kind != Kind::kRecord) return kNone;
    record = branch;
  }
  return record;
}

FieldType AvroSchema::field_type(std::uint32_t place, int depth) const {
  const Type& type = types_[place];
  FieldType field;
  switch (type.kind) {
    case Kind::kNull:
      field.is_optional = true;
      return field;
    case Kind::kUnion: {
      std::uint32_t only = kNone;
      bool is_optional = false;
      int others = 0;
      for (const std::uint32_t branch : type.types) {
        if (types_[branch].kind == Kind::kNull) {
          is_optional = true;
        } else {
          only = branch;
          ++others;
        }
      }
      if (others == 1 && types_[only].kind != Kind::kUnion) field = field_type(only, depth);
      field.is_optional = is_optional;
      return field;
    }
    case Kind::kBoolean:
      field.kind = FieldKind::kBoolean;
      break;
    case Kind::kInt:
    case Kind::kLong:
      field.kind = FieldKind::kInteger;
      break;
    case Kind::kFloat:
      field.kind = FieldKind::kFloat32;
      break;
    case Kind::kDouble:
      field.kind = FieldKind::kFloat64;
      break;
    case Kind::kBytes:
    case Kind::kFixed:
      field.kind = FieldKind::kBytes;
      break;
    case Kind::kString:
    case Kind::kEnum:
      field.kind = FieldKind::kString;
      break;
    case Kind::kRecord:
    case Kind::kMap:
      field.kind = FieldKind::kStructure;
      break;
    case Kind::kArray:
      field.kind = FieldKind::kArray;
      if (depth < kDepthMax) field.element = std::make_shared<const FieldType>(field_type(type.types[0], depth + 1));
      if (!field.element) field.element = std::make_shared<const FieldType>();
      break;
  }
  field.scale = type.scale;
  field.length = type.length;
  if (take_logical_name(type.connect_name, field) || !type.connect_name.empty()) return field;
  // Written without Connect's own names (connect.meta.data=false), or by another writer.
  static constexpr std::pair<std::string_view, std::string_view> kLogicalTypes[] = {
      {"decimal", "org.apache.kafka.connect.data.Decimal"},
      {"date", "org.apache.kafka.connect.data.Date"},
      {"time-millis", "org.apache.kafka.connect.data.Time"},
      {"time-micros", "io.debezium.time.MicroTime"},
      {"timestamp-millis", "org.apache.kafka.connect.data.Timestamp"},
      {"timestamp-micros", "io.debezium.time.MicroTimestamp"},
      {"local-timestamp-millis", "org.apache.kafka.connect.data.Timestamp"},
      {"local-timestamp-micros", "io.debezium.time.MicroTimestamp"},
      {"uuid", "io.debezium.data.Uuid"},
  };
  for (const auto& [logical, name] : kLogicalTypes) {
    if (logical == type.logical_type) take_logical_name(name, field);
  }
  return field;
}

FieldTypes AvroSchema::field_types(std::uint32_t record) const {
  FieldTypes types;
  for (const Field& field : types_[record].fields) {
    FieldType type = field_type(field.type, 0);
    type.default_kind = field.default_kind;
    type.default_text = field.default_text;
    types.insert_or_assign(field.name, std::move(type));
  }
  return types;
}

}  // namespace evictd
