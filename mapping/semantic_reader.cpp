#include "mapping/semantic_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "mapping/rules.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

constexpr std::pair<std::string_view, SemanticEngine> kEngines[] = {{"vset", SemanticEngine::kVset},
                                                                    {"search", SemanticEngine::kSearch}};
constexpr std::pair<std::string_view, SemanticOverflow> kOverflows[] = {{"clear", SemanticOverflow::kClear}, {"stop", SemanticOverflow::kStop}};
constexpr std::string_view kElement = "element";

// What a filter of a vector set may name after its dot, and a query of RediSearch after its '@'.
bool is_attribute_name(std::string_view name, SemanticEngine engine) {
  const bool fits = std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (c == '-' && engine == SemanticEngine::kVset);
  });
  const bool begins_with_digit = !name.empty() && name[0] >= '0' && name[0] <= '9';
  return fits && !name.empty() && name.size() <= kAttributeBytesMax && !begins_with_digit;
}

}  // namespace

SemanticReader::SemanticReader(const YamlNode& node, SemanticInfo& info) : node_(node), map_(node, "'semantic'"), info_(info) {
  info_.place = node.place;
}

void SemanticReader::refuse(const Place& place, std::string text, std::string hint) {
  map_.take(fail_at(place, std::move(text), std::move(hint)), place);
}

Result<void> SemanticReader::read() {
  map_.read("engine", info_.engine, kEngines);
  read_index();
  read_where();
  read_near();
  read_keys();
  map_.read("limit", info_.limit, 1, kSemanticLimitMax);
  map_.read("on_overflow", info_.on_overflow, kOverflows);
  if (!map_.has("where") && !map_.has("near") && map_.ok()) {
    map_.take_last(fail_at(node_.place, "'semantic': expected 'where', 'near' or both",
                           "where: {source: \"doc:{id}\"} finds elements by an attribute, near: embedding by similarity"));
  }
  Result<void> done = map_.finish();
  is_ok_ = done.has_value();
  return done;
}

void SemanticReader::read_index() {
  const YamlNode* index = map_.require("index");
  if (index == nullptr || !map_.read("index", info_.index)) return;
  if (info_.index.empty() || info_.index.size() > kTemplateBytesMax) {
    refuse(index->place, fmt::format("'index': expected a name of 1 to {} bytes, got {}", kTemplateBytesMax, describe(*index)));
  }
  if (info_.index.find_first_of("{}") != std::string::npos) {
    refuse(index->place, fmt::format("'index': braces are not supported, got '{}'", printable(info_.index)),
           "one index per entry; tenants in one index are told apart by 'where'");
  }
  if (info_.index.starts_with(kReservedPrefix)) {
    refuse(index->place, fmt::format("'index': keys that begin with '{}' are evictd's own", kReservedPrefix));
  }
}

void SemanticReader::read_where() {
  const YamlNode* where = map_.find("where");
  if (where == nullptr) return;
  if (where->kind != YamlNode::Kind::kMap || where->entries.empty()) {
    refuse(where->place, fmt::format("'where': expected a map of attributes and values, got {}",
                                     where->kind == YamlNode::Kind::kMap ? "an empty one" : describe(*where)),
           "write where: {source: \"doc:{id}\"}");
    return;
  }
  if (where->entries.size() > kAttributesMax) {
    refuse(where->place, fmt::format("'where': expected at most {} attributes, got {}", kAttributesMax, where->entries.size()));
    return;
  }
  for (const YamlEntry& entry : where->entries) read_attribute(entry);
}

void SemanticReader::read_attribute(const YamlEntry& entry) {
  if (!is_attribute_name(entry.name, info_.engine)) {
    refuse(entry.place,
           fmt::format("'where': expected an attribute's name of letters, digits and '_', at most {} bytes, got '{}'", kAttributeBytesMax,
                       printable(entry.name)),
           info_.engine == SemanticEngine::kVset ? "filters of vector sets reach the top level of an element's JSON, and nothing below it"
                                                 : "it is the field's name in the index: 'AS name' of FT.CREATE gives it one");
    return;
  }
  const Result<std::string> text = yaml_text(entry.value);
  map_.take(text, entry.value);
  if (!text) return;
  Result<Template> value = parse_template(*text);
  if (!value) {
    refuse(entry.value.place, fmt::format("'where': '{}': {}", printable(*text), value.error().text), value.error().hint);
    return;
  }
  std::size_t placeholders = value->placeholders.size();
  bool has_each = value->each_index() < value->placeholders.size();
  for (const Template& other : where_) {
    placeholders += other.placeholders.size();
    if (has_each && other.each_index() < other.placeholders.size()) {
      refuse(entry.value.place, "'where': expected one '.*' in an entry, got another");
    }
  }
  if (placeholders > kPlaceholdersPerTemplateMax) {
    refuse(entry.value.place, fmt::format("'where': expected at most {} placeholders in an entry", kPlaceholdersPerTemplateMax));
  }
  info_.attributes.push_back(entry.name);
  info_.attribute_templates.push_back(*text);
  where_.push_back(std::move(*value));
}

void SemanticReader::read_near() {
  const YamlNode* near = map_.find("near");
  if (near != nullptr && map_.read("near", info_.near) && info_.near.empty()) {
    refuse(near->place, "'near': expected a column, got an empty name");
  }
  std::string similarity;
  if (const YamlNode* node = map_.find("min_similarity"); node != nullptr && map_.read("min_similarity", similarity)) {
    const auto [end, error] = std::from_chars(similarity.data(), similarity.data() + similarity.size(), info_.min_similarity);
    const bool is_number = error == std::errc() && end == similarity.data() + similarity.size();
    if (!is_number || !(info_.min_similarity >= -1 && info_.min_similarity <= 1)) {
      refuse(node->place, fmt::format("'min_similarity': expected a cosine from -1 to 1, got {}", describe(*node)), "such as 0.85");
    }
  } else if (near != nullptr) {
    map_.require("min_similarity");
  }
  if (map_.read("field", info_.field) && !is_attribute_name(info_.field, SemanticEngine::kSearch)) {
    refuse(map_.place_of("field"), fmt::format("'field': expected a name of letters, digits and '_', got '{}'", printable(info_.field)));
  }
  if (map_.has("field") && info_.engine == SemanticEngine::kVset) {
    refuse(map_.place_of("field"), "'field' needs 'engine: search'", "a vector set has one vector for each element");
  }
  if (near != nullptr) return;
  for (const std::string_view setting : {"min_similarity", "field", "limit"}) {
    if (map_.has(setting)) refuse(map_.place_of(setting), fmt::format("'{}' has no effect without 'near'", setting));
  }
}

void SemanticReader::read_keys() {
  std::vector<std::string> texts;
  if (!map_.read("keys", texts)) return;
  const YamlNode& node = *map_.find("keys");
  if (texts.empty() || texts.size() > kElementKeysMax) {
    refuse(node.place, fmt::format("'keys': expected 1 to {} keys, got {}", kElementKeysMax, texts.size()));
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const Place& place = node.kind == YamlNode::Kind::kList ? node.items[i].place : node.place;
    const Result<Template> key = parse_template(texts[i]);
    if (!key) {
      refuse(place, fmt::format("key '{}': {}", printable(texts[i]), key.error().text), key.error().hint);
      continue;
    }
    const bool names_element = !key->placeholders.empty() && std::all_of(key->placeholders.begin(), key->placeholders.end(), [](const Placeholder& one) {
      return one.column == kElement && one.path.empty() && one.filters.empty() && !one.each;
    });
    if (!names_element) {
      refuse(place, fmt::format("key '{}': expected '{{element}}' as its only placeholder", printable(texts[i])),
             "such a key goes with an element of the index; a key made of the row's columns belongs into the rule's own 'keys'");
      continue;
    }
    if (key->literals[0].starts_with(kReservedPrefix)) {
      refuse(place, fmt::format("key '{}': keys that begin with '{}' are evictd's own", printable(texts[i]), kReservedPrefix));
    }
    info_.keys.push_back(key->literals);
  }
}

}  // namespace evictd
