// The only file of the mapping that includes simdjson. Each step of a path parses the text that the
// step before found: the library goes forward only, and the last of two equal names is wanted.
#include "mapping/json_path.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include "mapping/canonical.h"

namespace evictd {

namespace {

namespace ondemand = simdjson::ondemand;

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

}  // namespace

struct JsonReader::Impl {
  ondemand::parser parser;
  std::vector<char> buffer;  // the text and the padding that the library may read beyond it

  // The padding of a text inside the buffer is whatever follows it there.
  simdjson::padded_string_view padded(std::string_view text) const {
    const auto offset = static_cast<std::size_t>(text.data() - buffer.data());
    return simdjson::padded_string_view(text.data(), text.size(), buffer.size() - offset);
  }

  // The raw text at one step below `text`; empty when there is nothing. Throws on invalid JSON.
  std::string_view step_into(std::string_view text, const std::string& step) {
    std::string_view found;
    ondemand::document document = parser.iterate(padded(text));
    switch (document.type()) {
      case ondemand::json_type::object:
        for (auto field : document.get_object()) {
          const bool wanted = std::string_view(field.unescaped_key()) == step;
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

JsonFound JsonReader::find(std::string_view json, std::span<const std::string> path,
                           std::string& out) {
  const std::size_t length_before = out.size();
  try {
    const std::size_t needed = json.size() + simdjson::SIMDJSON_PADDING;
    // One huge document must not be paid for for ever (G8).
    if (impl_->buffer.size() > kKeptBytesMax && needed <= kKeptBytesMax) *impl_ = Impl();
    if (impl_->buffer.size() < needed) impl_->buffer.resize(needed);
    std::copy(json.begin(), json.end(), impl_->buffer.begin());
    std::string_view text = trimmed(std::string_view(impl_->buffer.data(), json.size()));
    for (const std::string& step : path) {
      text = impl_->step_into(text, step);
      if (text.empty()) return JsonFound::kNull;
    }
    return impl_->append_value(text, out);
  } catch (const simdjson::simdjson_error&) {
    out.resize(length_before);
    return JsonFound::kInvalid;
  }
}

}  // namespace evictd
