// The only file of the mapping that includes simdjson. Each step of a path parses the text that the
// step before found: the library goes forward only, and the last of two equal names is wanted.
#include "mapping/json_path.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mapping/canonical.h"

namespace evictd {

namespace {

namespace ondemand = simdjson::ondemand;

constexpr int kNormalDepthMax = 200;
constexpr std::size_t kKeptBytesMax = 1024 * 1024;  // of the buffers, from one call to the next

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::optional<std::size_t> array_index(std::string_view step) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(step.data(), step.data() + step.size(), index);
  if (error != std::errc() || end != step.data() + step.size()) return std::nullopt;
  return index;
}

// Of a JSON text between its quotes. PostgreSQL's json takes "\ud800", half of a character, which the library refuses: it is
// three bytes here, as UTF-8 would write it if it could, and so equal to nothing but itself. Nothing: no JSON.
std::optional<std::string> unescaped_with_halves(std::string_view raw) {
  const auto read_unit = [&](std::size_t at) -> std::optional<std::uint32_t> {
    if (at + 6 > raw.size() || raw[at] != '\\' || raw[at + 1] != 'u') return std::nullopt;
    std::uint32_t unit = 0;
    const auto [end, error] = std::from_chars(raw.data() + at + 2, raw.data() + at + 6, unit, 16);
    return error == std::errc() && end == raw.data() + at + 6 ? std::optional(unit) : std::nullopt;
  };
  std::string out;
  for (std::size_t at = 0; at < raw.size();) {
    if (raw[at] != '\\') {
      out += raw[at++];
      continue;
    }
    if (at + 1 == raw.size()) return std::nullopt;
    constexpr std::string_view kSigns = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    if (const std::size_t sign = kSigns.find(raw[at + 1]); sign != std::string_view::npos) {
      out += kMeant[sign];
      at += 2;
      continue;
    }
    auto unit = read_unit(at);
    if (!unit) return std::nullopt;
    at += 6;
    std::uint32_t code = *unit;
    if (code >= 0xd800 && code < 0xdc00) {
      if (const auto low = read_unit(at); low && *low >= 0xdc00 && *low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (*low - 0xdc00);
        at += 6;
      }
    }
    const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xc0 | code >> 6), put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
    } else {
      put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
    }
  }
  return out;
}

// The name of a field; `room` holds it where the library cannot tell.
std::string_view name_of(ondemand::field& field, std::string& room) {
  const char* raw = field.key().raw();  // it begins behind its quote, and the library has found that it ends
  std::string_view name;
  if (field.unescaped_key().get(name) == simdjson::SUCCESS) return name;
  const char* end = raw;
  while (*end != '"') end += *end == '\\' ? 2 : 1;
  auto with_halves = unescaped_with_halves(std::string_view(raw, static_cast<std::size_t>(end - raw)));
  if (!with_halves) throw simdjson::simdjson_error(simdjson::STRING_ERROR);
  room = std::move(*with_halves);
  return room;
}

// The value as a text in which equal values are equal texts. Throws on what is no JSON.
void append_normal(ondemand::value value, std::string& out, int depth) {
  if (depth > kNormalDepthMax) throw simdjson::simdjson_error(simdjson::DEPTH_ERROR);
  const auto append_text = [&out](std::string_view text) {
    out += '"';
    out += std::to_string(text.size());
    out += ':';
    out += text;
  };
  switch (value.type()) {
    case ondemand::json_type::object: {
      std::map<std::string, std::string> fields;
      for (ondemand::field field : value.get_object()) {
        std::string room;
        std::string name(name_of(field, room));
        std::string text;
        append_normal(field.value(), text, depth + 1);
        fields.insert_or_assign(std::move(name), std::move(text));
      }
      out += '{';
      for (const auto& [name, text] : fields) {
        append_text(name);
        out += text;
      }
      out += '}';
      return;
    }
    case ondemand::json_type::array:
      out += '[';
      for (auto item : value.get_array()) {
        append_normal(item.value(), out, depth + 1);
        out += ',';
      }
      out += ']';
      return;
    case ondemand::json_type::string: {
      const std::string_view token = trimmed(value.raw_json_token());
      std::string_view text;
      if (value.get_string().get(text) == simdjson::SUCCESS) return append_text(text);
      const auto with_halves = unescaped_with_halves(token.substr(1, token.size() - 2));
      if (!with_halves) throw simdjson::simdjson_error(simdjson::STRING_ERROR);
      return append_text(*with_halves);
    }
    case ondemand::json_type::boolean:
      out += bool(value.get_bool()) ? 't' : 'f';
      return;
    case ondemand::json_type::number: {
      const std::string_view text = trimmed(value.raw_json_token());
      // Not by the library's own numbers, which end at 64 bits.
      if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) {
        throw simdjson::simdjson_error(simdjson::NUMBER_ERROR);
      }
      out += '#';
      out += json_number_text(text);
      return;
    }
    default:
      if (!value.is_null()) throw simdjson::simdjson_error(simdjson::INCORRECT_TYPE);
      out += 'n';
  }
}

}  // namespace

std::string json_number_text(std::string_view number) {
  bool is_negative = false;
  if (!number.empty() && (number[0] == '-' || number[0] == '+')) {
    is_negative = number[0] == '-';
    number.remove_prefix(1);
  }
  std::string digits;
  std::int64_t exponent = 0;
  bool after_point = false;
  for (std::size_t i = 0; i < number.size(); ++i) {
    const char c = number[i];
    if (c == '.') {
      after_point = true;
    } else if (c == 'e' || c == 'E') {
      std::string_view rest = number.substr(i + 1);
      if (rest.starts_with('+')) rest.remove_prefix(1);
      std::int64_t written = 0;
      std::from_chars(rest.data(), rest.data() + rest.size(), written);
      exponent += written;
      break;
    } else {
      digits += c;
      if (after_point) --exponent;
    }
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  while (!digits.empty() && digits.back() == '0') {
    digits.pop_back();
    ++exponent;
  }
  if (digits.empty()) return "0";
  return (is_negative ? "-" : "") + digits + "e" + std::to_string(exponent);
}

struct JsonReader::Impl {
  ondemand::parser parser;
  std::vector<char> buffer;  // the text and the padding that the library may read beyond it

  // The padding of a text inside the buffer is whatever follows it there.
  simdjson::padded_string_view padded(std::string_view text) const {
    const auto offset = static_cast<std::size_t>(text.data() - buffer.data());
    return simdjson::padded_string_view(text.data(), text.size(), buffer.size() - offset);
  }

  // A copy of the text, with room behind it; without the space around it.
  std::string_view hold(std::string_view json) {
    const std::size_t needed = json.size() + simdjson::SIMDJSON_PADDING;
    // One huge document must not be paid for for ever (G8).
    if (buffer.size() > kKeptBytesMax && needed <= kKeptBytesMax) *this = Impl();
    if (buffer.size() < needed) buffer.resize(needed);
    std::copy(json.begin(), json.end(), buffer.begin());
    return trimmed(std::string_view(buffer.data(), json.size()));
  }

  // The raw text at one step below `text`; empty when there is nothing. Throws on invalid JSON.
  std::string_view step_into(std::string_view text, const std::string& step) {
    std::string_view found;
    std::string room;
    ondemand::document document = parser.iterate(padded(text));
    switch (document.type()) {
      case ondemand::json_type::object:
        for (ondemand::field field : document.get_object()) {
          const bool wanted = name_of(field, room) == step;
          const std::string_view raw = simdjson::to_json_string(field.value());
          if (wanted) found = raw;
        }
        break;
      case ondemand::json_type::array: {
        const std::optional<std::size_t> index = array_index(step);
        std::size_t position = 0;
        for (auto item : document.get_array()) {
          const std::string_view raw = simdjson::to_json_string(item.value());
          if (index && position++ == *index) found = raw;
        }
        break;
      }
      default:  // a path goes nowhere below a scalar
        (void)append_scalar(document, text, nullptr);
        return {};
    }
    return trimmed(found);
  }

  // `out` may be null: then the text is only checked.
  static JsonFound append_scalar(ondemand::document& document, std::string_view text,
                                 std::string* out) {
    std::string_view value;
    switch (document.type()) {
      case ondemand::json_type::string:
        value = std::string_view(document.get_string());
        break;
      case ondemand::json_type::boolean:
        value = bool(document.get_bool()) ? "true" : "false";
        break;
      case ondemand::json_type::number:
        // As written, whatever its size; the library's own numbers end at 64 bits.
        if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) {
          throw simdjson::simdjson_error(simdjson::NUMBER_ERROR);
        }
        value = text;
        break;
      default:
        if (!document.is_null()) throw simdjson::simdjson_error(simdjson::INCORRECT_TYPE);
        return JsonFound::kNull;
    }
    if (out != nullptr) *out += value;
    return JsonFound::kValue;
  }

  std::optional<std::string> normal(std::string_view json) {
    try {
      // In an array of one: the library's documents that are a scalar have another type than its values.
      buffer.assign(1, '[');
      buffer.insert(buffer.end(), json.begin(), json.end());
      buffer.push_back(']');
      const std::size_t length = buffer.size();
      buffer.resize(length + simdjson::SIMDJSON_PADDING);
      ondemand::document document = parser.iterate(padded(std::string_view(buffer.data(), length)));
      std::string out;
      std::size_t items = 0;
      for (auto item : document.get_array()) {
        append_normal(item.value(), out, 0);
        ++items;
      }
      const bool is_at_end = document.current_location().error() != simdjson::SUCCESS;
      if (items != 1 || !is_at_end) return std::nullopt;
      return out;
    } catch (const simdjson::simdjson_error&) {
      return std::nullopt;
    }
  }

  JsonFound append_value(std::string_view text, std::string& out) {
    ondemand::document document = parser.iterate(padded(text));
    const ondemand::json_type type = document.type();
    if (type == ondemand::json_type::object || type == ondemand::json_type::array) {
      append_canonical(ValueType::kJson, text, out);
      return JsonFound::kValue;
    }
    return append_scalar(document, text, &out);
  }
};

JsonReader::JsonReader() : impl_(std::make_unique<Impl>()) {}
JsonReader::~JsonReader() = default;

JsonFound JsonReader::each(std::string_view json, std::span<const std::string> path,
                           std::span<const std::string> element_path,
                           const std::function<void(std::optional<std::string_view>)>& element) {
  try {
    std::string_view text = impl_->hold(json);
    for (const std::string& step : path) {
      text = impl_->step_into(text, step);
      if (text.empty()) return JsonFound::kNull;
    }
    std::vector<std::string_view> items;
    {
      ondemand::document document = impl_->parser.iterate(impl_->padded(text));
      if (document.type() != ondemand::json_type::array) {
        std::string ignored;
        (void)impl_->append_value(text, ignored);  // throws on what is no JSON
        return JsonFound::kNull;
      }
      for (auto item : document.get_array()) items.push_back(trimmed(simdjson::to_json_string(item.value())));
    }
    std::string value;
    for (std::string_view item : items) {
      for (const std::string& step : element_path) {
        if (!item.empty()) item = impl_->step_into(item, step);
      }
      value.clear();
      const bool is_null = item.empty() || impl_->append_value(item, value) == JsonFound::kNull;
      element(is_null ? std::nullopt : std::optional<std::string_view>(value));
    }
    return JsonFound::kValue;
  } catch (const simdjson::simdjson_error&) {
    return JsonFound::kInvalid;
  }
}

JsonFound JsonReader::find(std::string_view json, std::span<const std::string> path, std::string& out, bool* is_string) {
  const std::size_t length_before = out.size();
  try {
    std::string_view text = impl_->hold(json);
    for (const std::string& step : path) {
      text = impl_->step_into(text, step);
      if (text.empty()) return JsonFound::kNull;
    }
    if (is_string != nullptr) *is_string = text.starts_with('"');
    return impl_->append_value(text, out);
  } catch (const simdjson::simdjson_error&) {
    out.resize(length_before);
    return JsonFound::kInvalid;
  }
}

JsonSame JsonReader::same(std::string_view a, std::string_view b) {
  std::string texts[2];
  for (int side = 0; side < 2; ++side) {
    const std::string_view json = side == 0 ? a : b;
    const std::optional<std::string> text = impl_->normal(json);
    if (!text) return side == 0 ? JsonSame::kFirstInvalid : JsonSame::kSecondInvalid;
    texts[side] = *text;
  }
  return texts[0] == texts[1] ? JsonSame::kSame : JsonSame::kDifferent;
}

}  // namespace evictd
