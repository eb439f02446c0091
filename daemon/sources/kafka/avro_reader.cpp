// Values in Avro's binary form, as JSON.
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

#include "daemon/sources/kafka/avro.h"
#include "daemon/sources/kafka/text_forms.h"

namespace evictd {

class AvroSchema::Reader {
 public:
  Reader(const AvroSchema& schema, std::string_view bytes, std::string& json)
      : types_(schema.types_), rest_(bytes), json_(json), json_begin_(json.size()), values_left_(kFreeValues + 4 * bytes.size()) {}

  // False: see problem().
  bool value(std::uint32_t place, int depth) {
    // Nulls, empty records and the like take no byte: only counting ends a list of them.
    if (depth > kDepthMax) return refuse("values that are not nested so deeply");
    if (values_left_-- == 0 || json_.size() - json_begin_ > kJsonBytesMax) return refuse("values of reasonable size");
    const Type& type = types_[place];
    switch (type.kind) {
      case Kind::kNull:
        json_ += "null";
        return true;
      case Kind::kBoolean: {
        if (rest_.empty() || static_cast<unsigned char>(rest_.front()) > 1) return refuse("true or false");
        json_ += rest_.front() == 1 ? "true" : "false";
        rest_.remove_prefix(1);
        return true;
      }
      case Kind::kInt:
      case Kind::kLong: {
        std::int64_t number = 0;
        if (!integer(number) || (type.kind == Kind::kInt && (number < INT32_MIN || number > INT32_MAX))) return refuse("an integer");
        const fmt::format_int text(number);
        json_.append(text.data(), text.size());
        return true;
      }
      case Kind::kFloat:
        return floating<float, std::uint32_t>();
      case Kind::kDouble:
        return floating<double, std::uint64_t>();
      case Kind::kBytes: {
        std::string_view bytes;
        if (!counted(bytes)) return refuse("bytes");
        base64(bytes);
        return true;
      }
      case Kind::kFixed: {
        if (rest_.size() < type.size) return refuse(fmt::format("{} bytes", type.size));
        base64(rest_.substr(0, type.size));
        rest_.remove_prefix(type.size);
        return true;
      }
      case Kind::kString: {
        std::string_view text;
        if (!counted(text)) return refuse("a text");
        append_json_text(text, json_);
        return true;
      }
      case Kind::kEnum: {
        std::int64_t index = 0;
        if (!integer(index) || index < 0 || static_cast<std::uint64_t>(index) >= type.symbols.size()) return refuse("one of the values of an enum");
        json_ += type.symbols[static_cast<std::size_t>(index)];
        return true;
      }
      case Kind::kUnion: {
        std::int64_t index = 0;
        if (!integer(index) || index < 0 || static_cast<std::uint64_t>(index) >= type.types.size()) return refuse("one of the types of a union");
        return value(type.types[static_cast<std::size_t>(index)], depth + 1);
      }
      case Kind::kRecord:
        return record(type, depth);
      case Kind::kArray:
        return blocks('[', ']', [&] { return value(type.types[0], depth + 1); });
      case Kind::kMap:
        return blocks('{', '}', [&] {
          std::string_view name;
          if (!counted(name)) return refuse("the name of a value");
          append_json_text(name, json_);
          json_ += ':';
          return value(type.types[0], depth + 1);
        });
    }
    return refuse("a known type");
  }

  std::size_t left() const { return rest_.size(); }
  Error problem() && { return {ErrorKind::kData, where_ + problem_, {}}; }

 private:
  // Small arrays of small records are never in need of more.
  static constexpr std::size_t kFreeValues = 64 * 1024;

  bool refuse(std::string_view expected) {
    if (problem_.empty()) problem_ = fmt::format("expected {}{}", expected, rest_.empty() ? ", got the end of the record" : "");
    return false;
  }

  bool record(const Type& type, int depth) {
    char separator = '{';
    for (const Field& field : type.fields) {
      json_ += separator;
      separator = ',';
      json_ += field.quoted_name;
      if (!value(field.type, depth + 1)) {
        where_.insert(0, fmt::format("'{}': ", std::string_view(field.name).substr(0, 100)));
        return false;
      }
    }
    json_ += type.fields.empty() ? "{}" : "}";
    return true;
  }

  // Items in blocks, each with their number before it; a negative one is followed by the bytes of the block.
  template <typename Item>
  bool blocks(char open, char close, const Item& item) {
    json_ += open;
    bool is_first = true;
    for (;;) {
      std::int64_t count = 0;
      if (!integer(count)) return refuse("a number of items");
      if (count == 0) break;
      if (count < 0) {
        std::int64_t bytes = 0;
        if (count == INT64_MIN || !integer(bytes) || bytes < 0) return refuse("a number of items");
        count = -count;
      }
      for (std::int64_t i = 0; i < count; ++i) {
        if (!std::exchange(is_first, false)) json_ += ',';
        if (!item()) return false;
      }
    }
    json_ += close;
    return true;
  }

  bool integer(std::int64_t& number) {
    std::uint64_t bits = 0;
    for (std::size_t at = 0; at < rest_.size() && at < 10; ++at) {
      const auto byte = static_cast<unsigned char>(rest_[at]);
      if (at == 9 && byte > 1) return false;  // beyond 64 bits
      bits |= static_cast<std::uint64_t>(byte & 0x7FU) << (7 * at);
      if ((byte & 0x80U) != 0) continue;
      rest_.remove_prefix(at + 1);
      number = static_cast<std::int64_t>(bits >> 1) ^ -static_cast<std::int64_t>(bits & 1);
      return true;
    }
    return false;
  }

  bool counted(std::string_view& bytes) {
    std::int64_t size = 0;
    if (!integer(size) || size < 0 || static_cast<std::uint64_t>(size) > rest_.size()) return false;
    bytes = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(static_cast<std::size_t>(size));
    return true;
  }

  template <typename Float, typename Bits>
  bool floating() {
    if (rest_.size() < sizeof(Bits)) return refuse("a number");
    Bits bits = 0;
    for (std::size_t at = sizeof(Bits); at-- > 0;) bits = bits << 8 | static_cast<unsigned char>(rest_[at]);
    rest_.remove_prefix(sizeof(Bits));
    const auto number = std::bit_cast<Float>(bits);
    // As JsonConverter spells them.
    if (std::isnan(number)) {
      json_ += "\"NaN\"";
    } else if (std::isinf(number)) {
      json_ += number < 0 ? "\"-Infinity\"" : "\"Infinity\"";
    } else {
      fmt::format_to(std::back_inserter(json_), "{}", number);
    }
    return true;
  }

  void base64(std::string_view bytes) {
    json_ += '"';
    append_base64(bytes, json_);
    json_ += '"';
  }

  const std::vector<Type>& types_;
  std::string_view rest_;
  std::string& json_;
  const std::size_t json_begin_;
  std::size_t values_left_;
  std::string where_;
  std::string problem_;
};

Result<void> AvroSchema::append_json(std::string_view bytes, std::string& json) const {
  Reader reader(*this, bytes, json);
  if (!reader.value(root_, 0)) return tl::unexpected(std::move(reader).problem());
  if (reader.left() != 0) {
    return fail(ErrorKind::kData, fmt::format("expected the end of the record, got {} more bytes than its schema tells", reader.left()));
  }
  return {};
}

}  // namespace evictd
