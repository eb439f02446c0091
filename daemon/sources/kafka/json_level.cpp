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

  static Result<JsonValue> take(ondemand::value value);
  Result<std::string_view> take_name(ondemand::field& field) const;
  Result<void> take_fields(ondemand::document& document, ondemand::object object,
                           std::vector<JsonField>& fields, std::span<const Inner> inner) const;
  Result<JsonValue> take_inner(ondemand::document& document, ondemand::value value,
                               JsonLevel& level) const;
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

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\r' ||
                           text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

Result<JsonValue> JsonLevel::Parser::take(ondemand::value value) {
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return broken(error);
  JsonValue taken;
  switch (type) {
    case ondemand::json_type::null: {
      // The type was told from the first letter only.
      bool is_null = false;
      if (const auto error = value.is_null().get(is_null)) return broken(error);
      if (!is_null) return broken(simdjson::N_ATOM_ERROR);
      taken.kind = JsonKind::kNull;
      break;
    }
    case ondemand::json_type::boolean: {
      bool truth = false;
      if (const auto error = value.get_bool().get(truth)) return broken(error);
      taken.kind = truth ? JsonKind::kTrue : JsonKind::kFalse;
      break;
    }
    case ondemand::json_type::number: {
      taken.kind = JsonKind::kNumber;
      taken.text = trimmed(value.raw_json_token());
      // Checks the form without keeping a double: what a number must look like is short.
      if (taken.text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) {
        return broken(simdjson::NUMBER_ERROR);
      }
      break;
    }
    case ondemand::json_type::string: {
      taken.kind = JsonKind::kString;
      // Nearly all are as they are written, and need no copy.
      const std::string_view token = trimmed(value.raw_json_token());
      const bool is_plain = token.size() >= 2 && token.back() == '"' && token.find('\\') == std::string_view::npos;
      if (is_plain) {
        ondemand::raw_json_string passed;
        if (const auto error = value.get_raw_json_string().get(passed)) return broken(error);
        taken.text = token.substr(1, token.size() - 2);
      } else if (const auto error = value.get_string().get(taken.text)) {
        return broken(error);
      }
      break;
    }
    case ondemand::json_type::object: {
      taken.kind = JsonKind::kObject;
      ondemand::object object;
      if (const auto error = value.get_object().get(object)) return broken(error);
      if (const auto error = object.raw_json().get(taken.text)) return broken(error);
      taken.text = trimmed(taken.text);
      if (taken.text.back() != '}') return broken(simdjson::TAPE_ERROR);
      break;
    }
    case ondemand::json_type::array: {
      taken.kind = JsonKind::kArray;
      ondemand::array array;
      if (const auto error = value.get_array().get(array)) return broken(error);
      if (const auto error = array.raw_json().get(taken.text)) return broken(error);
      taken.text = trimmed(taken.text);
      if (taken.text.back() != ']') return broken(simdjson::TAPE_ERROR);
      break;
    }
  }
  return taken;
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

Result<std::string_view> JsonLevel::Parser::take_name(ondemand::field& field) const {
  const char* begin = field.key().raw();
  const auto* close = static_cast<const char*>(std::memchr(begin, '"', static_cast<std::size_t>(text_end - begin)));
  if (close != nullptr) {
    const std::string_view plain(begin, static_cast<std::size_t>(close - begin));
    if (plain.find('\\') == std::string_view::npos) return plain;
  }
  std::string_view name;
  if (const auto error = field.unescaped_key().get(name)) return broken(error);
  return name;
}

Result<void> JsonLevel::Parser::take_fields(ondemand::document& document, ondemand::object object,
                                            std::vector<JsonField>& fields,
                                            std::span<const Inner> inner) const {
  for (auto field : object) {
    ondemand::field found;
    if (const auto error = std::move(field).get(found)) return broken(error);
    auto name = take_name(found);
    if (!name) return tl::unexpected(name.error());
    const auto wanted = std::find_if(inner.begin(), inner.end(),
                                     [&](const Inner& one) { return one.name == *name; });
    auto value = wanted == inner.end() ? take(found.value())
                                       : take_inner(document, found.value(), *wanted->level);
    if (!value) return tl::unexpected(value.error());
    fields.push_back({*name, *value});
  }
  return {};
}

Result<JsonValue> JsonLevel::Parser::take_inner(ondemand::document& document, ondemand::value value,
                                                JsonLevel& level) const {
  level.fields_.clear();  // the last one of a name counts
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return broken(error);
  if (type != ondemand::json_type::object) return take(value);
  const char* begin = value.raw_json_token().data();
  ondemand::object object;
  if (const auto error = value.get_object().get(object)) return broken(error);
  if (auto taken = take_fields(document, object, level.fields_, {}); !taken)
    return tl::unexpected(taken.error());
  const char* end = nullptr;
  if (const auto error = document.current_location().get(end)) return broken(error);
  JsonValue whole;
  whole.kind = JsonKind::kObject;
  whole.text = trimmed({begin, static_cast<std::size_t>(end - begin)});
  return whole;
}

Result<void> JsonLevel::read_object(std::string_view text, std::span<const Inner> inner) {
  fields_.clear();
  for (const Inner& one : inner) one.level->fields_.clear();
  auto document = parser_->open(text);
  if (!document) return tl::unexpected(document.error());
  ondemand::object object;
  if (const auto error = document->get_object().get(object)) return broken(error);
  if (auto taken = parser_->take_fields(*document, object, fields_, inner); !taken) return taken;
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
    auto value = Parser::take(found);
    if (!value) return tl::unexpected(value.error());
    elements_.push_back(*value);
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
