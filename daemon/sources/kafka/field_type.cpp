#include "daemon/sources/kafka/field_type.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "daemon/sources/kafka/text_forms.h"

namespace evictd {
namespace {

constexpr int kArrayDepthMax = 16;
constexpr std::size_t kBitsMax = 64 * 1024;
constexpr std::int64_t kDaysMax = 4'000'000'000;  // either way

struct Logical {
  std::string_view name;
  FieldKind kind;
  std::int64_t unit = 0;
};

// Logical names that Debezium and Kafka Connect give to a plain type. Those that are absent here
// (Enum, EnumSet, Xml, Ltree, Year, MicroDuration, ...) mean what their plain type says.
constexpr Logical kLogicals[] = {
    {"org.apache.kafka.connect.data.Decimal", FieldKind::kDecimal},
    {"org.apache.kafka.connect.data.Date", FieldKind::kDays},
    {"org.apache.kafka.connect.data.Time", FieldKind::kTime, kMillis},
    {"org.apache.kafka.connect.data.Timestamp", FieldKind::kTimestamp, kMillis},
    {"io.debezium.data.VariableScaleDecimal", FieldKind::kVariableDecimal},
    {"io.debezium.time.Date", FieldKind::kDays},
    {"io.debezium.time.Time", FieldKind::kTime, kMillis},
    {"io.debezium.time.MicroTime", FieldKind::kTime, kMicros},
    {"io.debezium.time.NanoTime", FieldKind::kTime, kNanos},
    {"io.debezium.time.Timestamp", FieldKind::kTimestamp, kMillis},
    {"io.debezium.time.MicroTimestamp", FieldKind::kTimestamp, kMicros},
    {"io.debezium.time.NanoTimestamp", FieldKind::kTimestamp, kNanos},
    {"io.debezium.time.ZonedTimestamp", FieldKind::kZonedTimestamp},
    {"io.debezium.time.IsoDate", FieldKind::kIsoDate},
    {"io.debezium.time.IsoTime", FieldKind::kIsoTime},
    {"io.debezium.time.IsoTimestamp", FieldKind::kIsoTimestamp},
    {"io.debezium.time.Interval", FieldKind::kIsoInterval},
    {"io.debezium.data.Uuid", FieldKind::kUuid},
    {"io.debezium.data.Json", FieldKind::kJson},
    {"io.debezium.data.Bits", FieldKind::kBits},
};

constexpr std::pair<std::string_view, FieldKind> kPlain[] = {
    {"string", FieldKind::kString},    {"int8", FieldKind::kInteger},
    {"int16", FieldKind::kInteger},    {"int32", FieldKind::kInteger},
    {"int64", FieldKind::kInteger},    {"float", FieldKind::kFloat32},
    {"double", FieldKind::kFloat64},   {"float32", FieldKind::kFloat32},
    {"float64", FieldKind::kFloat64},  {"boolean", FieldKind::kBoolean},
    {"bytes", FieldKind::kBytes},      {"array", FieldKind::kArray},
    {"struct", FieldKind::kStructure}, {"map", FieldKind::kStructure},
};

template <typename Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

Result<FieldType> read_type(std::string_view schema_json, int depth) {
  if (depth > kArrayDepthMax)
    return fail(ErrorKind::kData, "arrays nested too deeply in the schema");
  JsonLevel schema;
  if (auto read = schema.read_object(schema_json); !read) return tl::unexpected(read.error());
  const JsonValue* type_name = schema.find("type");
  if (type_name == nullptr || type_name->kind != JsonKind::kString) {
    return fail(ErrorKind::kData, "expected a 'type' in the schema of a field");
  }
  FieldType type;
  for (const auto& [name, kind] : kPlain) {
    if (type_name->text == name) type.kind = kind;
  }
  if (const JsonValue* logical_name = schema.find("name");
      logical_name != nullptr && logical_name->kind == JsonKind::kString) {
    take_logical_name(logical_name->text, type);
  }
  if (const JsonValue* parameters = schema.find("parameters");
      parameters != nullptr && parameters->kind == JsonKind::kObject) {
    JsonLevel reader;
    if (auto read = reader.read_object(parameters->text); !read)
      return tl::unexpected(read.error());
    if (const JsonValue* scale = reader.find("scale")) read_number(scale->text, type.scale);
    if (const JsonValue* length = reader.find("length")) read_number(length->text, type.length);
  }
  if (const JsonValue* optional = schema.find("optional")) type.is_optional = optional->kind == JsonKind::kTrue;
  if (const JsonValue* otherwise = schema.find("default")) {
    type.default_kind = otherwise->kind;
    type.default_text = otherwise->text;
  }
  if (type.kind == FieldKind::kArray) {
    const JsonValue* items = schema.find("items");
    if (items == nullptr || items->kind != JsonKind::kObject) {
      return fail(ErrorKind::kData, "expected 'items' in the schema of an array");
    }
    auto element = read_type(items->text, depth + 1);
    if (!element) return tl::unexpected(element.error());
    type.element = std::make_shared<const FieldType>(std::move(*element));
  }
  return type;
}

Value text_value(std::string_view text) { return Value{ValueState::kText, text}; }

// Debezium's infinities under time.precision.mode=isostring.
constexpr std::string_view kIsoInfinity = "+294247-01-10T04:00:25.2Z";
constexpr std::string_view kIsoMinusInfinity = "-290308-12-21T19:59:27.6Z";

tl::unexpected<Error> expected(std::string_view what) {
  return fail(ErrorKind::kData, fmt::format("expected {}", what));
}

const std::string& unavailable_base64() {
  static const std::string text = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
  return text;
}

constexpr std::string_view kUnavailableHstore =
    R"({"__debezium_unavailable_value":"__debezium_unavailable_value"})";

// Arrays of numbers or UUIDs cannot hold the placeholder's text: Debezium puts its bytes there as
// numbers, or the UUID made of its MD5 sum.
bool is_unavailable_array(const std::vector<JsonValue>& elements) {
  constexpr std::string_view kNameUuid = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";
  if (elements.size() == 1) {
    const JsonValue& only = elements[0];
    return only.is_string(kUnavailableValue) || only.is_string(unavailable_base64()) ||
           only.is_string(kNameUuid);
  }
  return std::equal(elements.begin(), elements.end(), kUnavailableValue.begin(),
                    kUnavailableValue.end(), [](const JsonValue& element, char byte) {
                      return element.kind == JsonKind::kNumber &&
                             element.text == std::to_string(static_cast<int>(byte));
                    });
}

Result<Value> array_value(const FieldType& type, const JsonValue& json, TextArena& arena,
                          int depth);

Result<Value> decimal_value(std::string_view base64, std::int32_t scale, TextArena& arena) {
  const auto bytes = decode_base64(base64);
  if (!bytes) return expected("a decimal in base64");
  const auto text = decimal_text(*bytes, scale);
  if (!text) return expected("a decimal of reasonable size");
  return text_value(arena.keep(*text));
}

Result<Value> variable_decimal_value(std::string_view json, TextArena& arena) {
  PaddedText padded;
  JsonLevel reader;
  if (auto read = reader.read_object(padded.assign(json)); !read)
    return tl::unexpected(read.error());
  const JsonValue* scale = reader.find("scale");
  const JsonValue* value = reader.find("value");
  std::int32_t scale_number = 0;
  if (scale == nullptr || value == nullptr || value->kind != JsonKind::kString ||
      !read_number(scale->text, scale_number)) {
    return expected("a decimal of the form {'scale', 'value'}");
  }
  return decimal_value(value->text, scale_number, arena);
}

template <typename Float>
Result<Value> float_value(const JsonValue& json, TextArena& arena) {
  // NaN and the infinities come as strings, spelt as PostgreSQL spells them.
  if (json.kind == JsonKind::kString) return text_value(json.text);
  Float number = 0;
  if (json.kind != JsonKind::kNumber || !read_number(json.text, number))
    return expected("a number");
  if constexpr (sizeof(Float) == sizeof(float)) return text_value(arena.keep(float4_text(number)));
  return text_value(arena.keep(float8_text(number)));
}

Result<Value> unknown_value(const JsonValue& json) {
  switch (json.kind) {
    case JsonKind::kTrue:
      return text_value("true");
    case JsonKind::kFalse:
      return text_value("false");
    default:
      return text_value(json.text);
  }
}

Result<Value> value_at(const FieldType& type, const JsonValue& json, TextArena& arena, int depth) {
  if (json.kind == JsonKind::kNull) return Value{ValueState::kNull, {}};
  if (json.kind == JsonKind::kString &&
      (json.text == kUnavailableValue || json.text == unavailable_base64())) {
    return Value{ValueState::kUnchanged, {}};
  }
  const bool is_string = json.kind == JsonKind::kString;
  std::int64_t number = 0;
  const bool is_integer = json.kind == JsonKind::kNumber && read_number(json.text, number);
  switch (type.kind) {
    case FieldKind::kUnknown:
      if (json.kind == JsonKind::kArray) return array_value(type, json, arena, depth);
      return unknown_value(json);
    case FieldKind::kStructure:
      if (json.kind != JsonKind::kObject) return expected("an object");
      if (json.text == kUnavailableHstore) return Value{ValueState::kUnchanged, {}};
      return text_value(json.text);
    case FieldKind::kString:
    case FieldKind::kUuid:
    case FieldKind::kJson:
      if (!is_string) return expected("a string");
      if (json.text == kUnavailableHstore) return Value{ValueState::kUnchanged, {}};
      return text_value(json.text);
    case FieldKind::kInteger:
      if (!is_integer) return expected("an integer");
      return text_value(json.text);
    case FieldKind::kFloat32:
      return float_value<float>(json, arena);
    case FieldKind::kFloat64:
      return float_value<double>(json, arena);
    case FieldKind::kBoolean:
      if (json.kind != JsonKind::kTrue && json.kind != JsonKind::kFalse)
        return expected("true or false");
      return text_value(json.kind == JsonKind::kTrue ? "t" : "f");
    case FieldKind::kBytes: {
      if (!is_string) return expected("bytes in base64");
      const auto bytes = decode_base64(json.text);
      if (!bytes) return expected("bytes in base64");
      return text_value(arena.keep(bytea_text(*bytes)));
    }
    case FieldKind::kDecimal:
      if (!is_string) return expected("a decimal in base64");
      return decimal_value(json.text, type.scale, arena);
    case FieldKind::kVariableDecimal:
      if (json.kind != JsonKind::kObject)
        return expected("a decimal of the form {'scale', 'value'}");
      return variable_decimal_value(json.text, arena);
    case FieldKind::kDays:
      if (!is_integer || number > kDaysMax || number < -kDaysMax) return expected("a number of days");
      if (const std::string_view infinite = infinite_days_text(number); !infinite.empty()) return text_value(infinite);
      return text_value(arena.keep(date_text(number)));
    case FieldKind::kTime:
      if (!is_integer || number == std::numeric_limits<std::int64_t>::min()) return expected("a time as an integer");
      // MySQL's TIME is a duration as well.
      if (number < 0) return text_value(arena.keep("-" + time_text(-number, type.unit)));
      return text_value(arena.keep(time_text(number, type.unit)));
    case FieldKind::kTimestamp:
      if (!is_integer) return expected("a timestamp as an integer");
      if (const std::string_view infinite = infinite_timestamp_text(number, type.unit); !infinite.empty())
        return text_value(infinite);
      return text_value(arena.keep(timestamp_text(number, type.unit, "")));
    case FieldKind::kZonedTimestamp: {
      if (!is_string) return expected("an ISO 8601 timestamp");
      if (json.text == "infinity" || json.text == "-infinity") return text_value(json.text);
      const auto text = zoned_timestamp_text(json.text);
      if (!text) return expected("an ISO 8601 timestamp");
      return text_value(arena.keep(*text));
    }
    case FieldKind::kIsoTimestamp: {
      if (!is_string) return expected("an ISO 8601 timestamp");
      if (json.text == kIsoInfinity) return text_value("infinity");
      if (json.text == kIsoMinusInfinity) return text_value("-infinity");
      auto text = zoned_timestamp_text(json.text);
      if (!text) return expected("an ISO 8601 timestamp");
      text->erase(text->find("+00"), 3);
      return text_value(arena.keep(*text));
    }
    case FieldKind::kIsoDate: {
      if (!is_string) return expected("an ISO 8601 date");
      const auto text = iso_date_text(json.text);
      if (!text) return expected("an ISO 8601 date");
      return text_value(arena.keep(*text));
    }
    case FieldKind::kIsoInterval: {
      if (!is_string) return expected("an ISO 8601 interval");
      const auto text = iso_interval_text(json.text);
      if (!text) return expected("an ISO 8601 interval");
      return text_value(arena.keep(*text));
    }
    case FieldKind::kIsoTime: {
      if (!is_string) return expected("an ISO 8601 time");
      std::string_view text = json.text;
      if (text.ends_with('Z')) text.remove_suffix(1);
      return text_value(text);
    }
    case FieldKind::kBits: {
      if (!is_string) return expected("bits in base64");
      const auto bytes = decode_base64(json.text);
      if (!bytes || type.length < 0) return expected("bits in base64");
      // Debezium leaves out the zero bytes at the high end. The length is that of the column; bit
      // varying does not tell its own, and without a limit declares the largest there is.
      const auto declared = static_cast<std::size_t>(type.length);
      const std::size_t length = declared <= kBitsMax ? declared : bytes->size() * 8;
      return text_value(arena.keep(bit_text(*bytes, length)));
    }
    case FieldKind::kArray:
      return array_value(type, json, arena, depth);
  }
  return expected("a known type");
}

Result<Value> array_value(const FieldType& type, const JsonValue& json, TextArena& arena,
                          int depth) {
  if (json.kind != JsonKind::kArray) return expected("an array");
  if (depth > kArrayDepthMax) return expected("an array that is not nested so deeply");
  PaddedText padded;
  JsonLevel reader;
  if (auto read = reader.read_array(padded.assign(json.text)); !read)
    return tl::unexpected(read.error());
  if (is_unavailable_array(reader.elements())) {
    return Value{ValueState::kUnchanged, {}};
  }
  if (type.kind == FieldKind::kUnknown) return text_value(json.text);
  std::string literal = "{";
  for (const JsonValue& element : reader.elements()) {
    // An element of a few bytes may have a text of thousands.
    if (arena.is_full()) return expected("values of reasonable size");
    if (literal.size() > 1) literal += ',';
    auto value = value_at(*type.element, element, arena, depth + 1);
    if (!value) return value;
    if (value->state != ValueState::kText) {
      literal += "NULL";
    } else if (type.element->kind == FieldKind::kArray) {
      literal += value->text;
    } else {
      append_array_element(literal, value->text);
    }
  }
  literal += '}';
  return text_value(arena.keep(literal));
}

}  // namespace

ValueType FieldType::value_type() const {
  switch (kind) {
    case FieldKind::kBoolean:
      return ValueType::kBoolean;
    case FieldKind::kBytes:
      return ValueType::kBytea;
    case FieldKind::kDays:
    case FieldKind::kIsoDate:
      return ValueType::kDate;
    case FieldKind::kTimestamp:
    case FieldKind::kIsoTimestamp:
      return ValueType::kTimestamp;
    case FieldKind::kZonedTimestamp:
      return ValueType::kTimestampTz;
    case FieldKind::kUuid:
      return ValueType::kUuid;
    case FieldKind::kJson:
    case FieldKind::kStructure:
      return ValueType::kJson;
    default:
      return ValueType::kText;
  }
}

ValueType FieldType::element_value_type() const {
  const FieldType* type = this;
  while (type->kind == FieldKind::kArray && type->element) type = type->element.get();
  return type == this ? ValueType::kText : type->value_type();
}

bool FieldType::operator==(const FieldType& other) const {
  if (kind != other.kind || unit != other.unit || scale != other.scale || length != other.length ||
      is_optional != other.is_optional || default_kind != other.default_kind || default_text != other.default_text)
    return false;
  if ((element == nullptr) != (other.element == nullptr)) return false;
  return element == nullptr || *element == *other.element;
}

bool take_logical_name(std::string_view name, FieldType& type) {
  const auto* found = std::find_if(std::begin(kLogicals), std::end(kLogicals), [&](const Logical& one) { return one.name == name; });
  if (found == std::end(kLogicals)) return false;
  type.kind = found->kind;
  type.unit = found->unit;
  return true;
}

Result<FieldType> read_field_type(std::string_view schema_json) {
  return read_type(schema_json, 0);
}

Result<FieldTypes> read_field_types(std::string_view fields_json) {
  FieldTypes types;
  PaddedText padded;
  JsonLevel columns;
  if (auto read = columns.read_array(padded.assign(fields_json)); !read)
    return tl::unexpected(read.error());
  for (const JsonValue& column : columns.elements()) {
    if (column.kind != JsonKind::kObject) continue;
    JsonLevel field;
    if (auto read = field.read_object(column.text); !read) return tl::unexpected(read.error());
    const JsonValue* name = field.find("field");
    if (name == nullptr || name->kind != JsonKind::kString) continue;
    const std::string column_name(name->text);
    auto type = read_field_type(column.text);
    if (!type)
      return tl::unexpected(
          std::move(type.error()).within(fmt::format("column '{}'", column_name)));
    types.insert_or_assign(column_name, std::move(*type));
  }
  return types;
}

Result<FieldTypes> read_struct_types(std::string_view schema_json) {
  PaddedText padded;
  JsonLevel schema;
  if (auto read = schema.read_object(padded.assign(schema_json)); !read)
    return tl::unexpected(read.error());
  const JsonValue* fields = schema.find("fields");
  if (fields == nullptr || fields->kind != JsonKind::kArray) return FieldTypes{};
  return read_field_types(fields->text);
}

std::string_view TextArena::keep(std::string_view text) {
  while (block_ < blocks_.size() &&
         blocks_[block_].capacity() - blocks_[block_].size() < text.size())
    ++block_;
  if (block_ == blocks_.size()) blocks_.emplace_back().reserve(std::max(kBlockBytes, text.size()));
  bytes_ += text.size();
  std::string& block = blocks_[block_];
  const std::size_t begin = block.size();
  block += text;
  return std::string_view(block).substr(begin);
}

void TextArena::reset() {
  if (blocks_.size() > 1) blocks_.resize(1);  // a rare large row must not be kept
  if (!blocks_.empty()) blocks_[0].clear();
  block_ = 0;
  bytes_ = 0;
}

Result<Value> field_value(const FieldType& type, const JsonValue& json, TextArena& arena) {
  auto value = value_at(type, json, arena, 0);
  if (arena.is_full()) return expected("values of reasonable size");
  return value;
}

Value unread_value(const JsonValue& json) {
  if (json.kind == JsonKind::kNull) return Value{ValueState::kNull, {}};
  if (json.kind == JsonKind::kTrue) return text_value("true");
  return text_value(json.kind == JsonKind::kFalse ? "false" : json.text);
}

bool null_may_be_unchanged(const FieldType& type) {
  return type.kind == FieldKind::kArray || type.kind == FieldKind::kBits || type.kind == FieldKind::kVariableDecimal;
}

bool looks_unset(const FieldType& type, const JsonValue& json) {
  if (type.default_kind != JsonKind::kNull && json.kind == type.default_kind && json.text == type.default_text)
    return true;
  switch (json.kind) {
    case JsonKind::kNull:
    case JsonKind::kFalse:
      return true;
    case JsonKind::kTrue:
      return false;
    case JsonKind::kNumber:
      return json.text.find_first_not_of("0.-") == std::string_view::npos;
    case JsonKind::kString:
      if (type.kind == FieldKind::kDecimal)
        return json.text.find_first_not_of("A=") == std::string_view::npos;
      // The zeros of strings, the temporal types, UUID, JSON and decimals as text.
      return json.text.starts_with("1970-01-01") || json.text.starts_with("00:00:00") ||
             json.text == "{}" || json.text.find_first_not_of("0.-:Z") == std::string_view::npos;
    case JsonKind::kArray:
      return json.text == "[]";
    case JsonKind::kObject:
      return json.text == "{}" || json.text.find("\"AA==\"") != std::string_view::npos ||
             json.text.find("\"\"") != std::string_view::npos;
  }
  return true;
}

}  // namespace evictd
