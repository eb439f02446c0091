// Templates of keys and tags, compiled. Grammar:
//
//   template    = { text | "{{" | "}}" | placeholder }
//   placeholder = "{" name { "." name } [ "." "*" { "." name } ] { "|" filter } "}"
//   name        = letters, digits, "_", "$", "-", anything beyond ASCII; or any text in double
//   quotes ("" is one ") filter      = name [ "(" quoted ")" ]            quoted: in ' or ",
//   doubled inside
//
// The first name is a column, the others a path into its JSON. "*" stands for each element of the array there: the template
// renders one text for each, and may have one "*". White space around names and filters is free.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/error.h"
#include "mapping/filters.h"

namespace evictd {

// Limits (G8).
inline constexpr std::size_t kTemplateBytesMax = 1024;
inline constexpr std::size_t kPlaceholdersPerTemplateMax = 16;
inline constexpr std::size_t kFiltersPerPlaceholderMax = 8;

struct Placeholder {
  std::string column;
  std::vector<std::string> path;  // into the column's JSON; empty: the column itself
  bool each = false;              // one text for each element of the array that is found there
  std::vector<std::string> element_path;  // into the JSON of an element
  std::vector<Filter> filters;
  // The vector of a semantic order (semantic.h): one that is not sent is as NULL, for then `where` alone decides.
  bool is_vector = false;
};

// A template is: literals[0] placeholders[0] literals[1] placeholders[1] ... literals[n].
struct Template {
  std::string source;  // as written
  std::vector<std::string> literals;
  std::vector<Placeholder> placeholders;

  // The one that stands for each element of an array; placeholders.size(): none.
  std::size_t each_index() const;
};

// The error has no place: the caller knows it.
Result<Template> parse_template(std::string_view source);

// The Redis glob that matches everything the template can render: "product:{id}" -> "product:*".
// Neighbouring placeholders give one "*"; glob characters of the text are escaped.
std::string template_glob(const Template& compiled, std::string_view prefix);

// "{{user:{id}}}" -> "user:{id}": what is inside, where a template renders nothing but a hash tag of Redis Cluster. Such a key lies
// in the slot of what is inside, and has the same marker (evictd:{user:7}).
std::optional<Template> inside_hash_tag(const Template& compiled);

// Whether two templates can render the same text, whatever their values are (also empty ones).
bool can_render_alike(const Template& a, const Template& b);

// The columns it reads, each once, in the order of their first appearance. Views into `compiled`.
std::vector<std::string_view> columns_of(const Template& compiled);

// Whether the text of the template has a letter or a digit. Without one its glob ("*", "*:*") would
// match almost every key there is, other people's included.
bool has_telling_text(const Template& compiled);

}  // namespace evictd
