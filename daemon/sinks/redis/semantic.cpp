#include "daemon/sinks/redis/semantic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "daemon/base/text.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

// Scores of whole floats differ by rounding; of bytes by at most half a step in each dimension, whose sum rarely reaches a
// tenth of this.
constexpr double kFloatMargin = 0.001;
constexpr double kByteMargin = 0.01;

std::string upper(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

bool read_double(std::string_view text, double& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool is_textual(const Reply& reply) { return reply.kind == Reply::Kind::kText || reply.kind == Reply::Kind::kStatus; }

// Replies give numbers as such or as texts.
std::optional<double> number_of(const Reply& reply) {
  if (reply.kind == Reply::Kind::kInteger) return static_cast<double>(reply.integer);
  double number = 0;
  if (!is_textual(reply) || !read_double(reply.text, number)) return std::nullopt;
  return number;
}

std::optional<std::uint64_t> count_of(const Reply& reply) {
  const std::optional<double> number = number_of(reply);
  if (!number || *number < 0 || *number > 1e15) return std::nullopt;
  return static_cast<std::uint64_t>(*number);
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// ---- Filters of vector sets: a literal has no escapes; a backslash only keeps the next character from ending it.

std::optional<std::string> string_literal(std::string_view value) {
  if (value.find('\0') != std::string_view::npos) return std::nullopt;
  for (const char quote : {'"', '\''}) {
    bool fits = true;
    std::size_t i = 0;
    for (; i < value.size() && fits; ++i) {
      if (value[i] == '\\') {
        fits = ++i < value.size();  // else it would take the closing quote
      } else if (value[i] == quote) {
        fits = false;
      }
    }
    if (fits) return quote + std::string(value) + quote;
  }
  return std::nullopt;
}

// How an attribute of this value may read to a filter, which leaves the code of an escape in JSON as it stands behind its
// backslash ("\\u00e9" is u00e9): as it is; with controls escaped, as every encoder writes them; with all beyond ASCII escaped
// too, as some do, in either case of letters.
std::vector<std::string> spellings(std::string_view value) {
  const auto spelled = [&](bool is_ascii_only, bool is_upper) {
    std::string out;
    const auto append_code = [&](std::uint32_t unit) { out += is_upper ? fmt::format("u{:04X}", unit) : fmt::format("u{:04x}", unit); };
    for (std::size_t i = 0; i < value.size();) {
      const auto byte = static_cast<unsigned char>(value[i]);
      const std::size_t length = std::max<std::size_t>(1, utf8_length(value.substr(i)));
      if (length == 1) {
        const bool is_plain = (byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\r' || byte == '\t';
        if (byte == '\b' || byte == '\f') {
          out += byte == '\b' ? 'b' : 'f';
        } else if (is_plain || (byte == 0x7f && !is_ascii_only)) {
          out += value[i];
        } else {
          append_code(byte);
        }
      } else if (!is_ascii_only) {
        out += value.substr(i, length);
      } else {
        std::uint32_t code = byte & (0xffU >> (length + 1));
        for (std::size_t k = 1; k < length; ++k) code = (code << 6U) | (static_cast<unsigned char>(value[i + k]) & 0x3fU);
        if (code >= 0x10000) {
          append_code(0xd800 + ((code - 0x10000) >> 10U));
          append_code(0xdc00 + ((code - 0x10000) & 0x3ffU));
        } else {
          append_code(code);
        }
      }
      i += length;
    }
    return out;
  };
  std::vector<std::string> all = {spelled(false, false), spelled(false, true), spelled(true, false), spelled(true, true)};
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::erase(all, value);
  all.insert(all.begin(), std::string(value));
  return all;
}

void add_condition(SemanticFilter& filter, std::string_view between, std::string condition) {
  if (!filter.text.empty()) filter.text += between;
  filter.text += condition;
}

// ---- Queries of RediSearch

// Every character that is no letter, digit or part of one beyond ASCII may mean something.
std::string escaped_tag(std::string_view value) {
  std::string out;
  for (const char c : value) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                          static_cast<unsigned char>(c) >= 0x80;
    if (!is_plain) out += '\\';
    out += c;
  }
  return out;
}

// Nothing: such a value is not in the index, or cannot be asked for.
std::optional<std::string> tag_condition(std::string_view field, std::string_view value, std::string_view separator) {
  // No query has a word for a control character, but for white space.
  const auto is_control = [](char c) { return (c >= 0 && c < ' ' && !(c >= '\t' && c <= '\r')) || c == 0x7f; };
  if (std::any_of(value.begin(), value.end(), is_control)) return std::nullopt;
  const std::string_view whole = trimmed(value);
  if (whole.empty()) return std::nullopt;
  const std::string as_one = fmt::format("@{}:{{{}}}", field, escaped_tag(whole));
  if (separator.size() != 1 || whole.find(separator[0]) == std::string_view::npos) return as_one;
  // The field of a hash was taken apart where the separator stands; that of a JSON document may be whole.
  std::string parts;
  for (std::size_t begin = 0; begin <= whole.size();) {
    const std::size_t end = std::min(whole.find(separator[0], begin), whole.size());
    const std::string_view part = trimmed(whole.substr(begin, end - begin));
    if (!part.empty()) parts += fmt::format("{}@{}:{{{}}}", parts.empty() ? "" : " ", field, escaped_tag(part));
    begin = end + 1;
  }
  if (parts.empty()) return std::nullopt;  // nothing but separators: a hash is indexed under no value at all
  return fmt::format("({} | ({}))", as_one, parts);
}

const Reply* find_value(const std::vector<Reply>& pairs, std::string_view name) {
  for (std::size_t i = 0; i + 1 < pairs.size(); ++i) {
    if (is_textual(pairs[i]) && upper(pairs[i].text) == upper(std::string(name))) return &pairs[i + 1];
  }
  return nullptr;
}

std::string text_at(const std::vector<Reply>& pairs, std::string_view name) {
  const Reply* value = find_value(pairs, name);
  return value != nullptr && is_textual(*value) ? value->text : std::string();
}

}  // namespace

std::optional<VectorSetReply> read_vector_set(const Reply& reply) {
  if (reply.kind == Reply::Kind::kNil) return VectorSetReply{};
  if (reply.kind != Reply::Kind::kArray) return std::nullopt;
  VectorSet set;
  set.quantisation = text_at(reply.elements, "quant-type");
  const Reply* dimensions = find_value(reply.elements, "vector-dim");
  const Reply* projected = find_value(reply.elements, "projection-input-dim");
  const Reply* size = find_value(reply.elements, "size");
  if (dimensions == nullptr || size == nullptr || set.quantisation.empty()) return std::nullopt;
  const std::optional<std::uint64_t> stored = count_of(*dimensions);
  const std::optional<std::uint64_t> given = projected == nullptr ? std::optional<std::uint64_t>(0) : count_of(*projected);
  const std::optional<std::uint64_t> count = count_of(*size);
  if (!stored || !given || !count) return std::nullopt;
  set.dimensions = *given != 0 ? *given : *stored;
  set.size = *count;
  if (*given == 0 && set.quantisation == "int8") set.margin = kByteMargin;
  if (*given == 0 && (set.quantisation == "f32" || set.quantisation == "fp32")) set.margin = kFloatMargin;
  if (*given != 0) set.quantisation += ", reduced";
  return VectorSetReply{std::move(set)};
}

std::optional<SearchIndex> read_search_index(const Reply& reply) {
  if (reply.kind != Reply::Kind::kArray) return std::nullopt;
  SearchIndex index;
  const Reply* attributes = find_value(reply.elements, "attributes");
  if (attributes == nullptr || attributes->kind != Reply::Kind::kArray) return std::nullopt;
  for (const Reply& attribute : attributes->elements) {
    if (attribute.kind != Reply::Kind::kArray) return std::nullopt;
    SearchField field;
    field.type = upper(text_at(attribute.elements, "type"));
    field.separator = text_at(attribute.elements, "SEPARATOR");
    field.metric = upper(text_at(attribute.elements, "distance_metric"));
    field.algorithm = upper(text_at(attribute.elements, "algorithm"));
    field.data_type = upper(text_at(attribute.elements, "data_type"));
    if (const Reply* dimensions = find_value(attribute.elements, "dim")) field.dimensions = count_of(*dimensions).value_or(0);
    const std::string name = text_at(attribute.elements, "attribute");
    if (name.empty() || field.type.empty()) return std::nullopt;
    index.fields[name] = std::move(field);
  }
  if (const Reply* definition = find_value(reply.elements, "index_definition"); definition != nullptr) {
    if (const Reply* prefixes = find_value(definition->elements, "prefixes"); prefixes != nullptr) {
      for (const Reply& prefix : prefixes->elements) index.prefixes.push_back(prefix.text);
    }
  }
  if (const Reply* indexing = find_value(reply.elements, "indexing")) index.is_indexing = number_of(*indexing).value_or(0) != 0;
  if (const Reply* documents = find_value(reply.elements, "num_docs")) index.documents = count_of(*documents).value_or(0);
  return index;
}

std::string search_index_problem(const SemanticInfo& info, const SearchIndex& index) {
  for (const std::string& attribute : info.attributes) {
    const auto field = index.fields.find(attribute);
    if (field == index.fields.end()) return fmt::format("index '{}' has no field '{}'", info.index, attribute);
    if (field->second.type == "TAG" || field->second.type == "NUMERIC") continue;
    return fmt::format("field '{}' of index '{}' is of type {}, where TAG or NUMERIC find a whole value", attribute, info.index,
                       field->second.type);
  }
  if (!info.is_near()) return {};
  std::vector<std::string> vectors;
  for (const auto& [name, field] : index.fields) {
    if (field.type == "VECTOR" && (info.field.empty() || info.field == name)) vectors.push_back(name);
  }
  if (vectors.empty() && info.field.empty()) return fmt::format("index '{}' has no vector field", info.index);
  if (vectors.empty()) return fmt::format("index '{}' has no vector field '{}'", info.index, info.field);
  if (vectors.size() > 1) return fmt::format("index '{}' has {} vector fields: 'field' has to name one", info.index, vectors.size());
  const SearchField& field = index.fields.at(vectors[0]);
  if (field.metric != "COSINE") {
    return fmt::format("vector field '{}' of index '{}' compares by {}, where only COSINE gives cosines", vectors[0], info.index, field.metric);
  }
  if (field.data_type != "FLOAT32") {
    return fmt::format("vector field '{}' of index '{}' is of {}, expected FLOAT32", vectors[0], info.index, field.data_type);
  }
  return {};
}

const std::string& vector_field(const SemanticInfo& info, const SearchIndex& index) {
  const auto found = std::find_if(index.fields.begin(), index.fields.end(), [&](const auto& field) {
    return field.second.type == "VECTOR" && (info.field.empty() || info.field == field.first);
  });
  return found->first;
}

SemanticFilter vector_set_filter(const SemanticInfo& info, const SemanticOrder& order) {
  SemanticFilter filter;
  for (std::size_t i = 0; i < info.attributes.size(); ++i) {
    if (!order.values[i]) continue;
    // Numbers compare with a text's literal by its value; true and false are 1 and 0 there. (A number's literal would be equal
    // to every text that is none, were it 0.)
    std::vector<std::string> literals;
    bool can_be_written = true;
    for (const std::string& spelling : spellings(*order.values[i])) {
      const std::optional<std::string> literal = string_literal(spelling);
      can_be_written = can_be_written && literal;
      if (literal) literals.push_back(*literal);
    }
    if (!can_be_written) {
      filter.is_whole = false;
      continue;
    }
    if (*order.values[i] == "true") literals.emplace_back("\"1\"");
    if (*order.values[i] == "false") literals.emplace_back("\"0\"");
    std::string condition;
    for (const std::string& literal : literals) condition += fmt::format("{}.{} == {}", condition.empty() ? "" : " or ", info.attributes[i], literal);
    if (literals.size() > 1) condition = "(" + condition + ")";
    add_condition(filter, " and ", std::move(condition));
  }
  return filter;
}

SemanticFilter search_filter(const SemanticInfo& info, const SemanticOrder& order, const SearchIndex& index) {
  SemanticFilter filter;
  for (std::size_t i = 0; i < info.attributes.size(); ++i) {
    if (!order.values[i]) continue;
    const std::string& value = *order.values[i];
    const SearchField& field = index.fields.at(info.attributes[i]);
    if (field.type == "NUMERIC") {
      double number = 0;
      if (read_double(value, number) && std::isfinite(number)) {
        const std::string text = fmt::format("{:.17g}", number);
        add_condition(filter, " ", fmt::format("@{}:[{} {}]", info.attributes[i], text, text));
      } else {
        filter.is_impossible = true;
      }
      continue;
    }
    std::optional<std::string> condition = tag_condition(info.attributes[i], value, field.separator);
    if (condition) {
      add_condition(filter, " ", std::move(*condition));
    } else {
      filter.is_whole = false;
    }
  }
  return filter;
}

// What cannot be compared is in doubt.
void FoundElements::take(double similarity, FoundElement& element) {
  is_ordered = is_ordered && std::isfinite(similarity);
  element.similarity = std::isfinite(similarity) ? similarity : 1;
}

std::optional<FoundElements> read_similar(const Reply& reply, bool with_scores) {
  if (reply.kind != Reply::Kind::kArray || (with_scores && reply.elements.size() % 2 != 0)) return std::nullopt;
  FoundElements found;
  for (std::size_t i = 0; i < reply.elements.size(); i += with_scores ? 2 : 1) {
    const Reply& name = reply.elements[i];
    if (name.kind == Reply::Kind::kTooLong) {
      ++found.too_long;
      continue;
    }
    if (name.kind != Reply::Kind::kText) return std::nullopt;
    FoundElement element{name.text, 0};
    if (with_scores) {
      const std::optional<double> score = number_of(reply.elements[i + 1]);
      if (!score) return std::nullopt;
      found.take(2 * *score - 1, element);
    }
    found.elements.push_back(std::move(element));
  }
  return found;
}

std::optional<FoundElements> read_search(const Reply& reply, bool with_scores) {
  if (reply.kind != Reply::Kind::kArray || reply.elements.empty() || reply.elements[0].kind != Reply::Kind::kInteger) return std::nullopt;
  const std::size_t step = with_scores ? 2 : 1;
  if ((reply.elements.size() - 1) % step != 0) return std::nullopt;
  FoundElements found;
  for (std::size_t i = 1; i < reply.elements.size(); i += step) {
    const Reply& name = reply.elements[i];
    if (name.kind == Reply::Kind::kTooLong) {
      ++found.too_long;
      continue;
    }
    if (name.kind != Reply::Kind::kText) return std::nullopt;
    FoundElement element{name.text, 0};
    if (with_scores) {
      const Reply& fields = reply.elements[i + 1];
      // One that expired in between has none.
      if (fields.kind != Reply::Kind::kArray) continue;
      const Reply* distance = find_value(fields.elements, "evictd_distance");
      const std::optional<double> value = distance == nullptr ? std::nullopt : number_of(*distance);
      if (!value) return std::nullopt;
      found.take(1 - *value, element);
    }
    found.elements.push_back(std::move(element));
  }
  return found;
}

void append_similar(std::string& out, const SemanticInfo& info, std::string_view vector, std::size_t count, std::string_view filter,
                    bool is_exact, bool with_scores, std::size_t effort) {
  append_command_head(out, 6 + (filter.empty() ? 0 : 2) + (is_exact ? 1 : 2) + (with_scores ? 1 : 0));
  append_argument(out, "VSIM");
  append_argument(out, info.index);
  append_argument(out, "FP32");
  append_argument(out, vector);
  append_argument(out, "COUNT");
  append_argument(out, count);
  if (with_scores) append_argument(out, "WITHSCORES");
  if (!filter.empty()) {
    append_argument(out, "FILTER");
    append_argument(out, filter);
  }
  if (is_exact) {
    append_argument(out, "TRUTH");
  } else {
    append_argument(out, "EF");
    append_argument(out, std::max(effort, count));
  }
}

void append_search(std::string& out, const SemanticInfo& info, const SearchIndex& index, std::string_view vector, std::size_t count,
                   std::string_view filter, std::size_t effort) {
  const std::string text = std::to_string(count);
  const std::string everything = filter.empty() ? "*" : std::string(filter);
  if (vector.empty()) {
    append_command(out, {"FT.SEARCH", info.index, everything, "NOCONTENT", "LIMIT", "0", text, "TIMEOUT", "0", "DIALECT", "2"});
    return;
  }
  const std::string& field = vector_field(info, index);
  const bool has_effort = index.fields.at(field).algorithm == "HNSW";
  const std::string query = fmt::format("{}=>[KNN {} @{} $vector {}AS evictd_distance]", filter.empty() ? everything : "(" + everything + ")", count,
                                        field, has_effort ? fmt::format("EF_RUNTIME {} ", std::max(effort, count)) : "");
  append_command(out, {"FT.SEARCH", info.index, query, "RETURN", "1", "evictd_distance", "SORTBY", "evictd_distance", "LIMIT", "0", text,
                       "PARAMS", "2", "vector", vector, "TIMEOUT", "0", "DIALECT", "2"});
}

std::string any_vector(std::uint64_t dimensions) {
  std::string floats(dimensions * sizeof(float), '\0');
  const float one = 1;
  if (!floats.empty()) std::memcpy(floats.data(), &one, sizeof(one));
  return floats;
}

bool is_removal_unsafe(std::string_view version) {
  // The first of each line that is safe; later lines were begun safe.
  constexpr std::array<std::array<int, 3>, 5> kSafe = {{{8, 2, 9}, {8, 4, 6}, {8, 6, 6}, {8, 8, 2}, {8, 10, 1}}};
  std::array<int, 3> numbers{};
  const char* at = version.data();
  const char* const end = version.data() + version.size();
  for (int& one : numbers) {
    const auto read = std::from_chars(at, end, one);
    if (read.ec != std::errc()) break;
    at = read.ptr == end ? end : read.ptr + 1;
  }
  for (const auto& safe : kSafe) {
    if (numbers[0] == safe[0] && numbers[1] == safe[1]) return numbers[2] < safe[2];
  }
  return numbers < kSafe.back();
}

bool is_engine_missing(std::string_view error) {
  return error.starts_with("ERR unknown command") || error.starts_with("unknown command");
}

// "Unknown index name", "no such index", "SEARCH_INDEX_NOT_FOUND Index not found"
bool is_index_missing(std::string_view error) {
  const std::string text = upper(std::string(error.substr(0, 200)));
  return text.find("UNKNOWN INDEX NAME") != std::string::npos || text.find("NO SUCH INDEX") != std::string::npos ||
         text.find("INDEX_NOT_FOUND") != std::string::npos || text.find("INDEX NOT FOUND") != std::string::npos;
}

}  // namespace evictd
