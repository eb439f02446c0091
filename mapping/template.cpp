#include "mapping/template.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "mapping/json_path.h"
#include "mapping/utf8.h"

namespace evictd {

namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '-' || static_cast<unsigned char>(c) >= 0x80;
}

bool is_hash(const Filter& filter) {
  return filter.kind == Filter::Kind::kMd5 || filter.kind == Filter::Kind::kSha1 || filter.kind == Filter::Kind::kSha256;
}

tl::unexpected<Error> usage(std::string text, std::string hint = {}) {
  return fail(ErrorKind::kUsage, std::move(text), std::move(hint));
}

// Reads the inside of one placeholder, from behind its '{' to behind its '}'.
class PlaceholderParser {
 public:
  explicit PlaceholderParser(std::string_view rest) : rest_(rest) {}

  std::string_view rest() const { return rest_; }

  Result<Placeholder> parse() {
    Placeholder placeholder;
    Result<std::string> column = name("a column name");
    if (!column) return tl::unexpected(column.error());
    placeholder.column = std::move(*column);
    skip_space();
    while (accept('.')) {
      skip_space();
      if (accept('*')) {
        if (placeholder.each) return usage("expected one '*' in a path, got another", "each row would have a key for each pair");
        placeholder.each = true;
        skip_space();
        continue;
      }
      Result<std::string> step = name("a name or '*' after '.'");
      if (!step) return tl::unexpected(step.error());
      if (placeholder.path.size() + placeholder.element_path.size() == kJsonPathStepsMax) {
        return usage(fmt::format("expected at most {} names in a JSON path", kJsonPathStepsMax));
      }
      (placeholder.each ? placeholder.element_path : placeholder.path).push_back(std::move(*step));
      skip_space();
    }
    while (accept('|')) {
      Result<Filter> filter = parse_filter();
      if (!filter) return tl::unexpected(filter.error());
      if (filter->kind == Filter::Kind::kDate && !placeholder.filters.empty() && is_hash(placeholder.filters.back())) {
        return usage(fmt::format("'date' after '{}' never has a date to print", filter_name(placeholder.filters.back().kind)),
                     "put it first");
      }
      if (placeholder.filters.size() == kFiltersPerPlaceholderMax) {
        return usage(
            fmt::format("expected at most {} filters in a placeholder", kFiltersPerPlaceholderMax));
      }
      placeholder.filters.push_back(std::move(*filter));
      skip_space();
    }
    if (!accept('}')) return unexpected("'}', '|' or '.'", "write '{{' for a brace that is text");
    return placeholder;
  }

 private:
  void skip_space() {
    while (!rest_.empty() && rest_[0] == ' ') rest_.remove_prefix(1);
  }

  bool accept(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  tl::unexpected<Error> unexpected(std::string_view expected, std::string hint = {}) const {
    if (rest_.empty())
      return usage(fmt::format("expected {}, got the end of the text", expected), std::move(hint));
    const std::size_t length = std::max<std::size_t>(1, utf8_length(rest_));
    return usage(fmt::format("expected {}, got '{}'", expected, printable(rest_.substr(0, length))),
                 std::move(hint));
  }

  // The text in the quotes that the rest begins with; nothing when they do not end.
  std::optional<std::string> quoted(char quote) {
    std::string text;
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == quote) {
        if (i + 1 == rest_.size() || rest_[i + 1] != quote) {
          rest_.remove_prefix(i + 1);
          return text;
        }
        ++i;
      }
      text += rest_[i];
    }
    return std::nullopt;
  }

  Result<std::string> name(std::string_view expected) {
    skip_space();
    if (!rest_.empty() && rest_[0] == '"') {
      std::optional<std::string> text = quoted('"');
      if (!text) return usage("a name's '\"' is not closed");
      if (text->empty()) return usage(fmt::format("expected {}, got an empty one", expected));
      return std::move(*text);
    }
    std::size_t length = 0;
    while (length < rest_.size() && is_name_character(rest_[length])) ++length;
    if (length == 0) return unexpected(expected);
    std::string text(rest_.substr(0, length));
    rest_.remove_prefix(length);
    return text;
  }

  Result<Filter> parse_filter() {
    Result<std::string> filter = name("a filter");
    if (!filter) return tl::unexpected(filter.error());
    skip_space();
    if (!accept('(')) return make_filter(*filter, false, {});
    skip_space();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) {
      return unexpected(
          fmt::format("a text in quotes as the argument of '{}'", printable(*filter)));
    }
    std::optional<std::string> argument = quoted(rest_[0]);
    if (!argument)
      return usage(
          fmt::format("the quotes of the argument of '{}' are not closed", printable(*filter)));
    skip_space();
    if (!accept(')')) return unexpected("')'");
    return make_filter(*filter, true, std::move(*argument));
  }

  std::string_view rest_;
};

}  // namespace

Result<Template> parse_template(std::string_view source) {
  if (source.empty()) return usage("expected a text, got an empty one");
  if (source.size() > kTemplateBytesMax) {
    return usage(
        fmt::format("expected at most {} bytes, got {}", kTemplateBytesMax, source.size()));
  }
  Template compiled;
  compiled.source = std::string(source);
  compiled.literals.emplace_back();
  std::string_view rest = source;
  while (!rest.empty()) {
    const char c = rest[0];
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      compiled.literals.back() += c;
      rest.remove_prefix(2);
    } else if (c == '}') {
      return usage("unexpected '}'", "write '}}' for a brace that is text");
    } else if (c == '{') {
      PlaceholderParser parser(rest.substr(1));
      Result<Placeholder> placeholder = parser.parse();
      if (!placeholder) return tl::unexpected(placeholder.error());
      if (compiled.placeholders.size() == kPlaceholdersPerTemplateMax) {
        return usage(fmt::format("expected at most {} placeholders", kPlaceholdersPerTemplateMax));
      }
      if (placeholder->each && compiled.each_index() < compiled.placeholders.size()) {
        return usage("expected one '*' in a template, got another", "each row would have a key for each pair of elements");
      }
      compiled.placeholders.push_back(std::move(*placeholder));
      compiled.literals.emplace_back();
      rest = parser.rest();
    } else {
      compiled.literals.back() += c;
      rest.remove_prefix(1);
    }
  }
  return compiled;
}

std::size_t Template::each_index() const {
  const auto each = std::find_if(placeholders.begin(), placeholders.end(), [](const Placeholder& one) { return one.each; });
  return static_cast<std::size_t>(each - placeholders.begin());
}

std::string template_glob(const Template& compiled, std::string_view prefix) {
  std::string glob(prefix);
  for (std::size_t i = 0; i < compiled.literals.size(); ++i) {
    for (const char c : compiled.literals[i]) {
      if (c == '*' || c == '?' || c == '[' || c == ']' || c == '\\') glob += '\\';
      glob += c;
    }
    const bool is_last = i + 1 == compiled.literals.size();
    const bool follows_another = i > 0 && compiled.literals[i].empty();
    if (!is_last && !follows_another) glob += '*';
  }
  return glob;
}

std::optional<Template> inside_hash_tag(const Template& compiled) {
  Template inside = compiled;
  std::string& first = inside.literals.front();
  if (!first.starts_with('{')) return std::nullopt;
  first.erase(0, 1);
  std::string& last = inside.literals.back();
  if (!last.ends_with('}')) return std::nullopt;
  last.pop_back();
  // The first '}' ends the tag: what follows it would be outside.
  const auto ends = [](const std::string& literal) { return literal.find('}') != std::string::npos; };
  if (std::any_of(inside.literals.begin(), inside.literals.end(), ends)) return std::nullopt;
  return inside;
}

bool can_render_alike(const Template& a, const Template& b) {
  static constexpr int kValue = -1;
  const auto parts_of = [](const Template& compiled) {
    std::vector<int> parts;
    for (std::size_t i = 0; i < compiled.literals.size(); ++i) {
      if (i > 0) parts.push_back(kValue);
      for (const char c : compiled.literals[i]) parts.push_back(static_cast<unsigned char>(c));
    }
    return parts;
  };
  const std::vector<int> left = parts_of(a);
  const std::vector<int> right = parts_of(b);
  for (std::size_t i = 0; i < left.size() && i < right.size() && left[i] != kValue && right[i] != kValue; ++i) {
    if (left[i] != right[i]) return false;  // most end here
  }
  // row[j]: the first i parts of `left` and the first j of `right` can be one text.
  std::vector<bool> row(right.size() + 1, false);
  for (std::size_t i = 0; i <= left.size(); ++i) {
    bool diagonal = false;
    for (std::size_t j = 0; j <= right.size(); ++j) {
      const bool above = row[j];
      bool can = i == 0 && j == 0;
      if (i > 0 && j > 0) can = diagonal && left[i - 1] == right[j - 1];
      if (i > 0 && above) can = can || left[i - 1] == kValue || (j > 0 && right[j - 1] == kValue);
      if (j > 0 && row[j - 1]) can = can || right[j - 1] == kValue || (i > 0 && left[i - 1] == kValue);
      diagonal = above;
      row[j] = can;
    }
  }
  return row[right.size()];
}

std::vector<std::string_view> columns_of(const Template& compiled) {
  std::vector<std::string_view> columns;
  for (const Placeholder& placeholder : compiled.placeholders) {
    if (std::find(columns.begin(), columns.end(), placeholder.column) == columns.end()) {
      columns.push_back(placeholder.column);
    }
  }
  return columns;
}

bool has_telling_text(const Template& compiled) {
  for (const std::string& literal : compiled.literals) {
    for (const char c : literal) {
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
          static_cast<unsigned char>(c) >= 0x80) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace evictd
