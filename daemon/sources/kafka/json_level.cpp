#include "daemon/sources/kafka/json_level.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>

namespace evictd {

namespace ondemand = simdjson::ondemand;

std::string_view PaddedText::assign(std::string_view text) {
  const std::size_t needed = text.size() + simdjson::SIMDJSON_PADDING;
  if (buffer_.size() < needed) buffer_.resize(needed * 2);
  if (!text.empty()) std::memcpy(buffer_.data(), text.data(), text.size());
  std::memset(buffer_.data() + text.size(), 0, simdjson::SIMDJSON_PADDING);
  return {buffer_.data(), text.size()};
}

struct JsonLevel::Parser {
  ondemand::parser parser;
  const char* text_end = nullptr;  // of the text being read

  // An event has dozens of values: they are written where they stay, and an error is a number until somebody reads it.
  static simdjson::error_code take(ondemand::value& value, JsonValue& taken);
  simdjson::error_code take_name(ondemand::field& field, std::string_view& name) const;
  simdjson::error_code take_fields(ondemand::document& document, ondemand::object object,
                                   std::vector<JsonField>& fields, std::span<const Inner> inner) const;
  simdjson::error_code take_inner(ondemand::document& document, ondemand::value& value, JsonLevel& level,
                                  JsonValue& taken) const;
  Result<ondemand::document> open(std::string_view text);
};

namespace {

tl::unexpected<Error> broken(simdjson::error_code code) {
  return fail(ErrorKind::kData, fmt::format("broken JSON: {}", simdjson::error_message(code)));
}

// There is a place to go on from unless everything was read.
bool at_end(ondemand::document& document) {
  return document.current_location().error() == simdjson::OUT_OF_BOUNDS;
}

constexpr bool may_be_in_a_number(char c) {
  return (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '+' || c == 'e' || c == 'E';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\r' ||
                           text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

simdjson::error_code JsonLevel::Parser::take(ondemand::value& value, JsonValue& taken) {
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return error;
  switch (type) {
    case ondemand::json_type::null: {
      // The type was told from the first letter only.
      bool is_null = false;
      if (const auto error = value.is_null().get(is_null)) return error;
      if (!is_null) return simdjson::N_ATOM_ERROR;
      taken.kind = JsonKind::kNull;
      break;
    }
    case ondemand::json_type::boolean: {
      bool truth = false;
      if (const auto error = value.get_bool().get(truth)) return error;
      taken.kind = truth ? JsonKind::kTrue : JsonKind::kFalse;
      break;
    }
    case ondemand::json_type::number: {
      taken.kind = JsonKind::kNumber;
      taken.text = trimmed(value.raw_json_token());
      // Checks the form without keeping a double: what a number must look like is short.
      if (!std::all_of(taken.text.begin(), taken.text.end(), may_be_in_a_number)) return simdjson::NUMBER_ERROR;
      break;
    }
    case ondemand::json_type::string: {
      taken.kind = JsonKind::kString;
      // Nearly all are as they are written, and need no copy.
      const std::string_view token = trimmed(value.raw_json_token());
      const bool is_plain = token.size() >= 2 && token.back() == '"' && token.find('\\') == std::string_view::npos;
      if (is_plain) {
        ondemand::raw_json_string passed;
        if (const auto error = value.get_raw_json_string().get(passed)) return error;
        taken.text = token.substr(1, token.size() - 2);
      } else if (const auto error = value.get_string().get(taken.text)) {
        return error;
      }
      break;
    }
    case ondemand::json_type::object: {
      taken.kind = JsonKind::kObject;
      ondemand::object object;
      if (const auto error = value.get_object().get(object)) return error;
      if (const auto error = object.raw_json().get(taken.text)) return error;
      taken.text = trimmed(taken.text);
      if (taken.text.back() != '}') return simdjson::TAPE_ERROR;
      break;
    }
    case ondemand::json_type::array: {
      taken.kind = JsonKind::kArray;
      ondemand::array array;
      if (const auto error = value.get_array().get(array)) return error;
      if (const auto error = array.raw_json().get(taken.text)) return error;
      taken.text = trimmed(taken.text);
      if (taken.text.back() != ']') return simdjson::TAPE_ERROR;
      break;
    }
  }
  return simdjson::SUCCESS;
}

Result<ondemand::document> JsonLevel::Parser::open(std::string_view text) {
  ondemand::document document;
  const simdjson::padded_string_view padded(text.data(), text.size(),
                                            text.size() + simdjson::SIMDJSON_PADDING);
  if (const auto error = parser.iterate(padded).get(document)) return broken(error);
  text_end = text.data() + text.size();
  return document;
}

JsonLevel::JsonLevel() : parser_(std::make_unique<Parser>()) {}
JsonLevel::~JsonLevel() = default;
JsonLevel::JsonLevel(JsonLevel&&) noexcept = default;

simdjson::error_code JsonLevel::Parser::take_name(ondemand::field& field, std::string_view& name) const {
  const char* const begin = field.key().raw();
  const char* end = begin;  // a name is short
  while (end != text_end && *end != '"' && *end != '\\') ++end;
  if (end == text_end || *end != '"') return field.unescaped_key().get(name);
  name = {begin, static_cast<std::size_t>(end - begin)};
  return simdjson::SUCCESS;
}

simdjson::error_code JsonLevel::Parser::take_fields(ondemand::document& document, ondemand::object object,
                                                    std::vector<JsonField>& fields,
                                                    std::span<const Inner> inner) const {
  for (auto field : object) {
    if (const auto error = field.error()) return error;
    ondemand::field&& found = std::move(field).value_unsafe();
    JsonField& taken = fields.emplace_back();
    if (const auto error = take_name(found, taken.name)) return error;
    const auto wanted = std::find_if(inner.begin(), inner.end(),
                                     [&](const Inner& one) { return one.name == taken.name; });
    const auto error = wanted == inner.end() ? take(found.value(), taken.value)
                                             : take_inner(document, found.value(), *wanted->level, taken.value);
    if (error != simdjson::SUCCESS) return error;
  }
  return simdjson::SUCCESS;
}

simdjson::error_code JsonLevel::Parser::take_inner(ondemand::document& document, ondemand::value& value,
                                                   JsonLevel& level, JsonValue& taken) const {
  level.fields_.clear();  // the last one of a name counts
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return error;
  if (type != ondemand::json_type::object) return take(value, taken);
  const char* begin = value.raw_json_token().data();
  ondemand::object object;
  if (const auto error = value.get_object().get(object)) return error;
  if (const auto error = take_fields(document, object, level.fields_, {})) return error;
  const char* end = nullptr;
  if (const auto error = document.current_location().get(end)) return error;
  taken.kind = JsonKind::kObject;
  taken.text = trimmed({begin, static_cast<std::size_t>(end - begin)});
  return simdjson::SUCCESS;
}

Result<void> JsonLevel::read_object(std::string_view text, std::span<const Inner> inner) {
  fields_.clear();
  for (const Inner& one : inner) one.level->fields_.clear();
  auto document = parser_->open(text);
  if (!document) return tl::unexpected(document.error());
  ondemand::object object;
  if (const auto error = document->get_object().get(object)) return broken(error);
  if (const auto error = parser_->take_fields(*document, object, fields_, inner)) return broken(error);
  if (!at_end(*document)) return broken(simdjson::TRAILING_CONTENT);
  return {};
}

Result<void> JsonLevel::read_array(std::string_view text) {
  elements_.clear();
  auto document = parser_->open(text);
  if (!document) return tl::unexpected(document.error());
  ondemand::array array;
  if (const auto error = document->get_array().get(array)) return broken(error);
  for (auto element : array) {
    ondemand::value found;
    if (const auto error = std::move(element).get(found)) return broken(error);
    if (const auto error = Parser::take(found, elements_.emplace_back())) return broken(error);
  }
  if (!at_end(*document)) return broken(simdjson::TRAILING_CONTENT);
  return {};
}

const JsonValue* JsonLevel::find(std::string_view name) const {
  for (auto field = fields_.rbegin(); field != fields_.rend(); ++field) {
    if (field->name == name) return &field->value;
  }
  return nullptr;
}

}  // namespace evictd
