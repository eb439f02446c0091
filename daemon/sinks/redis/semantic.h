// What orders to indexes of vectors become in the words of their engines, and what the answers say. Pure.
//
// Values of rows go into filters and queries here, and nowhere else: none of them may end the literal it stands in. One that
// cannot be written is left out, so that more is found than was asked for, never less and never something else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/resp.h"
#include "mapping/semantic.h"

namespace evictd {

// A scan of so many elements is no burden; beyond, the nearest ones are looked for by the index's graph.
inline constexpr std::uint64_t kExactNearMax = 10'000;
// How thoroughly the graph is searched (EF, EF_RUNTIME): at once, and the second time, for which nobody waits.
inline constexpr std::size_t kSearchEffort = 200;
inline constexpr std::size_t kSettleEffort = 300;

// Of VINFO.
struct VectorSet {
  std::uint64_t dimensions = 0;  // of vectors as they are given
  std::uint64_t size = 0;
  // How far a score may be from the cosine of the vectors that were given; nothing: it is none (`BIN`, `REDUCE`).
  std::optional<double> margin;
  std::string quantisation;
};
// A nil answer: there is no such set. Nothing: it is no answer to VINFO.
struct VectorSetReply {
  std::optional<VectorSet> set;
};
std::optional<VectorSetReply> read_vector_set(const Reply& reply);

// Of FT.INFO.
struct SearchField {
  std::string type;       // "TAG", "NUMERIC", "VECTOR", "TEXT" ...
  std::string separator;  // of a TAG; empty: its values are whole
  std::uint64_t dimensions = 0;
  std::string metric;     // of a VECTOR: "COSINE", "L2", "IP"
  std::string algorithm;  // of a VECTOR: "HNSW", "FLAT" ...
  std::string data_type;  // of a VECTOR: "FLOAT32"
};
struct SearchIndex {
  std::map<std::string, SearchField> fields;  // by the name that queries use
  std::vector<std::string> prefixes;
  bool is_indexing = false;  // some documents cannot be found yet
  std::uint64_t documents = 0;
};
std::optional<SearchIndex> read_search_index(const Reply& reply);

// The index cannot answer what the entry asks; for a person. Empty: it can.
std::string search_index_problem(const SemanticInfo& info, const SearchIndex& index);
// The vector field that the entry means. REQUIRES: search_index_problem() is empty, info.is_near().
const std::string& vector_field(const SemanticInfo& info, const SearchIndex& index);
// A score is the cosine of float32s there.
inline constexpr double kSearchMargin = 0.001;

// The conditions of an order in the words of an engine.
struct SemanticFilter {
  std::string text;  // empty: everything passes
  bool is_whole = true;  // false: a value cannot be written, and its condition was left out
  bool is_impossible = false;  // no element can have such a value
};
SemanticFilter vector_set_filter(const SemanticInfo& info, const SemanticOrder& order);
SemanticFilter search_filter(const SemanticInfo& info, const SemanticOrder& order, const SearchIndex& index);

struct FoundElement {
  std::string name;
  double similarity = 0;  // cosine; only where scores were asked for
};
struct FoundElements {
  std::vector<FoundElement> elements;
  std::size_t too_long = 0;  // names that are longer than any key
  bool is_ordered = true;    // false: something is like nothing (a vector of zeros), and the nearest need not come first
  std::size_t size() const { return elements.size() + too_long; }
  void take(double similarity, FoundElement& element);
};
// Of VSIM, with its scores or without.
std::optional<FoundElements> read_similar(const Reply& reply, bool with_scores);
// Of FT.SEARCH: NOCONTENT, or with the distance `d` of each.
std::optional<FoundElements> read_search(const Reply& reply, bool with_scores);

// VSIM's arguments, as read_similar() reads the answer. `vector`: what is looked for.
void append_similar(std::string& out, const SemanticInfo& info, std::string_view vector, std::size_t count, std::string_view filter,
                    bool is_exact, bool with_scores, std::size_t effort = kSearchEffort);
// FT.SEARCH's. `vector`: empty: by the filter alone.
void append_search(std::string& out, const SemanticInfo& info, const SearchIndex& index, std::string_view vector, std::size_t count,
                   std::string_view filter, std::size_t effort = kSearchEffort);

// A vector of so many numbers, whichever: for questions where only the filter matters.
std::string any_vector(std::uint64_t dimensions);

// Redis of this version ("8.2.3") may use memory that is given back already when elements are removed while searches of other
// clients run: VREM, or UNLINK of a set, beside VSIM.
bool is_removal_unsafe(std::string_view version);

// An error that says: this server does not have the engine.
bool is_engine_missing(std::string_view error);
// RediSearch does not know the index.
bool is_index_missing(std::string_view error);

}  // namespace evictd
