// Orders to a semantic cache: which elements of an index of vectors a change makes stale. `semantic:` in a rule.
//
//   by attribute    where: {source: "doc:{id}"}     the elements whose attribute has this value
//   by similarity   near: embedding                  the elements whose vector is like the row's, of those that pass `where`
//
// A rule's entry is compiled to a template (rules_compiled.h) like that of a key, so that what is said of columns there
// holds here: old and new row, values that are not sent, NULL. What it renders is an order's text: nobody's key, but a
// message from the mapper to the sink. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/place.h"
#include "mapping/template.h"

namespace evictd {

enum class SemanticEngine : std::uint8_t { kVset, kSearch };  // a vector set (Redis 8), an index of RediSearch
enum class SemanticOverflow : std::uint8_t { kClear, kStop };

std::string_view semantic_engine_name(SemanticEngine engine);  // "vset", "search"

// Limits (G8).
inline constexpr std::size_t kVectorDimensionsMax = 8192;
inline constexpr std::uint64_t kSemanticLimitDefault = 10'000;
inline constexpr std::uint64_t kSemanticLimitMax = 1'000'000;
inline constexpr std::size_t kAttributesMax = 16;      // of `where`
inline constexpr std::size_t kAttributeBytesMax = 64;  // of a name
inline constexpr std::size_t kElementKeysMax = 16;
// Of one rule in one transaction: beyond, the whole index is cleared once instead. A search is dear.
inline constexpr std::uint64_t kSemanticOrdersMax = 10'000;

// One entry of `semantic:`.
struct SemanticInfo {
  SemanticEngine engine = SemanticEngine::kVset;
  std::string index;
  std::vector<std::string> attributes;  // of `where`, in the order of SemanticOrder::values
  std::vector<std::string> attribute_templates;  // as written, for messages
  std::string near;   // the column of the vector; empty: by attribute alone
  std::string field;  // kSearch: the index's vector field; empty: the only one it has
  double min_similarity = 0;  // cosine
  std::uint64_t limit = kSemanticLimitDefault;
  SemanticOverflow on_overflow = SemanticOverflow::kClear;
  // Keys that go with an element: pieces of text, with the element's name between them.
  std::vector<std::vector<std::string>> keys;
  Place place;

  bool is_near() const { return !near.empty(); }
  std::string element_key(std::size_t key, std::string_view element) const;
};

// What an order's text says.
struct SemanticOrder {
  std::uint32_t entry = 0;  // in RuleInfo::semantic
  std::vector<std::optional<std::string>> values;  // one for each attribute; nothing: NULL, so every value is meant
  // FLOAT32, little endian, as both engines take them. Empty in an order by similarity: the row's vector is not known, or is
  // none, and whatever passes `where` has to go.
  std::string vector;
};

// The template of an entry: `where` are its compiled values. REQUIRES: one for each attribute.
Template semantic_template(const SemanticInfo& info, std::uint32_t entry, std::vector<Template> where);

// Nothing when the text is not one that the template of an entry of `entries` has rendered.
std::optional<SemanticOrder> read_semantic_order(std::string_view text, const std::vector<SemanticInfo>& entries);

// An order by similarity without a vector.
bool lacks_vector(const SemanticInfo& info, std::string_view order);
// The entry that an order's text is of. REQUIRES: read_semantic_order() reads it.
std::uint32_t semantic_entry(std::string_view order);

// For people: "llm:answers where source = 'doc:17'".
std::string semantic_order_text(const SemanticInfo& info, const SemanticOrder& order);

// Makes FLOAT32s of the text of a vector: pgvector's and JSON's [1,2.5], an array's {1,2.5}. False when it is none, has more
// than kVectorDimensionsMax numbers or none, one that no float can hold, or no direction (all zero); `floats` is empty then.
bool parse_vector(std::string_view text, std::string& floats);

// What stands between values in an order's text is taken out of the values. In place.
void frame_semantic_value(std::string& value);

// The cosine of the angle between two vectors of the same number of FLOAT32s.
double cosine(std::string_view a, std::string_view b);

}  // namespace evictd
