#include "mapping/semantic.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>

#include "mapping/check.h"

namespace evictd {
namespace {

// Of a vector's length: what engines compute in floats. Beyond, a vector has no direction there, as one of zeros alone has none.
constexpr double kSquareMin = 1e-30;
constexpr double kSquareMax = 1e30;

static_assert(std::endian::native == std::endian::little, "vectors are sent as they lie in memory");

// An order's text: entry kBetween value kBetween ... kBetween vector. The vector is what is left, and may hold any byte.
constexpr char kBetween = '\x1f';
constexpr char kNull = '\x1e';
constexpr char kEscape = '\x1b';
constexpr char kEscaped = 0x20;  // what is added to an escaped byte

bool is_special(char c) { return c == kBetween || c == kNull || c == kEscape; }

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Nothing when what is escaped is none of ours.
std::optional<std::string> unframed(std::string_view text) {
  std::string value;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != kEscape) {
      value += text[i];
      continue;
    }
    if (++i == text.size() || !is_special(static_cast<char>(text[i] - kEscaped))) return std::nullopt;
    value += static_cast<char>(text[i] - kEscaped);
  }
  return value;
}

void append_framed(std::string& out, std::string_view text) {
  std::string framed(text);
  frame_semantic_value(framed);
  out += framed;
}

float float_at(std::string_view floats, std::size_t index) {
  float value = 0;
  std::memcpy(&value, floats.data() + index * sizeof(float), sizeof(float));
  return value;
}

}  // namespace

std::string_view semantic_engine_name(SemanticEngine engine) { return engine == SemanticEngine::kVset ? "vset" : "search"; }

std::string SemanticInfo::element_key(std::size_t key, std::string_view element) const {
  std::string text = keys[key][0];
  for (std::size_t i = 1; i < keys[key].size(); ++i) {
    text += element;
    text += keys[key][i];
  }
  return text;
}

void frame_semantic_value(std::string& value) {
  if (std::none_of(value.begin(), value.end(), is_special)) return;
  std::string framed;
  for (const char c : value) {
    if (is_special(c)) framed += kEscape;
    framed += is_special(c) ? static_cast<char>(c + kEscaped) : c;
  }
  value = std::move(framed);
}

Template semantic_template(const SemanticInfo& info, std::uint32_t entry, std::vector<Template> where) {
  EVICTD_CHECK(where.size() == info.attributes.size());
  Template made;
  made.literals.push_back(std::to_string(entry));
  const auto between = [&] { made.literals.back() += kBetween; };
  const std::string null(1, kNull);
  for (Template& value : where) {
    between();
    append_framed(made.literals.back(), value.literals[0]);
    for (std::size_t i = 0; i < value.placeholders.size(); ++i) {
      Placeholder& placeholder = made.placeholders.emplace_back(std::move(value.placeholders[i]));
      placeholder.filters.push_back({Filter::Kind::kFrame, {}});
      // By attribute alone, NULL is no value that an element could have: there is no such order.
      if (info.is_near()) placeholder.filters.push_back({Filter::Kind::kDefault, null});
      made.literals.emplace_back();
      append_framed(made.literals.back(), value.literals[i + 1]);
    }
  }
  between();
  if (info.is_near()) {
    Placeholder& placeholder = made.placeholders.emplace_back();
    placeholder.column = info.near;
    placeholder.is_vector = true;
    placeholder.filters = {{Filter::Kind::kVector, {}}, {Filter::Kind::kDefault, {}}};
    made.literals.emplace_back();
  }
  made.source = info.index;
  if (!info.attributes.empty()) {
    made.source += " where";
    for (std::size_t i = 0; i < info.attributes.size(); ++i) {
      made.source += fmt::format("{} {} = {}", i == 0 ? "" : ",", info.attributes[i], info.attribute_templates[i]);
    }
  }
  if (info.is_near()) made.source += fmt::format(" near {{{}}}", info.near);
  return made;
}

std::uint32_t semantic_entry(std::string_view order) {
  std::uint32_t entry = 0;
  std::from_chars(order.data(), order.data() + order.size(), entry);
  return entry;
}

bool lacks_vector(const SemanticInfo& info, std::string_view order) { return info.is_near() && order.ends_with(kBetween); }

std::optional<SemanticOrder> read_semantic_order(std::string_view text, const std::vector<SemanticInfo>& entries) {
  SemanticOrder order;
  std::size_t at = text.find(kBetween);
  if (at == std::string_view::npos) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + at, order.entry);
  if (error != std::errc() || end != text.data() + at || order.entry >= entries.size()) return std::nullopt;
  const SemanticInfo& info = entries[order.entry];
  for (std::size_t i = 0; i < info.attributes.size(); ++i) {
    const std::size_t begin = at + 1;
    at = text.find(kBetween, begin);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view framed = text.substr(begin, at - begin);
    if (framed.find(kNull) != std::string_view::npos) {
      order.values.emplace_back();
      continue;
    }
    std::optional<std::string> value = unframed(framed);
    if (!value) return std::nullopt;
    order.values.push_back(std::move(value));
  }
  order.vector = text.substr(at + 1);
  if (order.vector.size() % sizeof(float) != 0 || (!info.is_near() && !order.vector.empty())) return std::nullopt;
  return order;
}

std::string semantic_order_text(const SemanticInfo& info, const SemanticOrder& order) {
  std::string text = info.index;
  const char* between = " where ";
  for (std::size_t i = 0; i < info.attributes.size(); ++i) {
    if (!order.values[i]) continue;
    text += fmt::format("{}{} = '{}'", between, info.attributes[i], *order.values[i]);
    between = " and ";
  }
  if (!info.is_near()) return text;
  if (order.vector.empty()) return text + ", every vector: the row's own is not known";
  return text + fmt::format(", within {} of {} ({} dimensions)", info.min_similarity, info.near, order.vector.size() / sizeof(float));
}

bool parse_vector(std::string_view text, std::string& floats) {
  floats.clear();
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  // An array whose numbering does not begin with 1: [0:1]={1,2}.
  if (const std::size_t bounds = text.find("]={"); bounds != std::string_view::npos) text.remove_prefix(bounds + 2);
  const bool is_array = text.starts_with('{') && text.ends_with('}');
  if (text.size() < 2 || !(is_array || (text.starts_with('[') && text.ends_with(']')))) return false;
  text = text.substr(1, text.size() - 2);
  double square = 0;
  for (std::size_t count = 0;; ++count) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    // As wide as JSON writes it: a double's text may be no float's.
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const float value = static_cast<float>(number);
    if (error != std::errc() || !std::isfinite(value) || count == kVectorDimensionsMax) break;
    square += static_cast<double>(value) * value;
    floats.append(reinterpret_cast<const char*>(&value), sizeof(value));
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (text.empty() && square >= kSquareMin && square <= kSquareMax) return true;
    if (!text.starts_with(',')) break;
    text.remove_prefix(1);
  }
  floats.clear();
  return false;
}

double cosine(std::string_view a, std::string_view b) {
  EVICTD_CHECK(a.size() == b.size());
  double dot = 0;
  double length_a = 0;
  double length_b = 0;
  for (std::size_t i = 0; i < a.size() / sizeof(float); ++i) {
    const double x = float_at(a, i);
    const double y = float_at(b, i);
    dot += x * y;
    length_a += x * x;
    length_b += y * y;
  }
  return length_a == 0 || length_b == 0 ? 0 : dot / std::sqrt(length_a) / std::sqrt(length_b);
}

}  // namespace evictd
