// Writing JSON: /status, the json log, `check --json`. Reading it is simdjson's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace evictd {

// Appends `text` in quotes. Always valid JSON: bytes that are no UTF-8 become U+FFFD.
void append_json_quoted(std::string& out, std::string_view text);
std::string json_quoted(std::string_view text);

// Builds one JSON document, field by field; commas are placed by the writer.
//   JsonWriter json;
//   json.begin_object().field("ready",
//   true).begin_array("reasons").value("x").end_array().end_object();
class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& begin_object(std::string_view name);
  JsonWriter& end_object();
  JsonWriter& begin_array(std::string_view name);
  JsonWriter& end_array();
  JsonWriter& value(std::string_view text);
  JsonWriter& field(std::string_view name, std::string_view text);
  JsonWriter& field(std::string_view name, const char* text);
  JsonWriter& field(std::string_view name, bool flag);
  JsonWriter& field(std::string_view name, std::uint64_t number);
  JsonWriter& field(std::string_view name, std::int64_t number);
  JsonWriter& field(std::string_view name, double number);  // null when not finite
  JsonWriter& field_null(std::string_view name);

  const std::string& text() const { return out_; }

 private:
  void separate();
  void name(std::string_view text);
  std::string out_;
  bool first_ = true;
};

}  // namespace evictd
