// A strict reader for the YAML that people write for evictd: every node knows its place, and
// whatever is not understood is a placed error (kind kUsage): duplicate and unknown settings, wrong
// types, units left out, anchors and aliases (a file of ours needs none, and they can make a small
// file huge), tags, several documents, control characters.
//
//   Result<YamlNode> root = parse_yaml(text, "evictd.yaml");
//   YamlMap map(*root, "the configuration");        // "unknown setting 'x' in the configuration"
//   map.read("slot", config.slot);                   // absent: keeps the default
//   map.read("settle", config.settle, 0ms, 60s);     // a duration in bounds
//   map.read("format", config.format, kFormatNames); // one of several words
//   if (const YamlNode* redis = map.find("redis")) ... // anything else
//   if (auto done = map.finish(); !done) return ...;  // the first error in the file, if any
//
// The library behind it is included in yaml.cpp only. Nothing here is thread-safe or needs to be.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mapping/error.h"
#include "mapping/place.h"

namespace evictd {

// Limits of one document. A configuration is written by a person: these are far beyond what one
// writes.
inline constexpr std::size_t kYamlBytesMax = 1024 * 1024;
inline constexpr std::size_t kYamlNodesMax = 100'000;
inline constexpr int kYamlDepthMax = 32;

struct YamlEntry;

struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kText, kList, kMap };

  Kind kind = Kind::kNull;
  bool quoted = false;  // kText: was written in quotes or as a block
  // The value must not appear in a message. Set by whoever knows it (a url, a value from the
  // environment).
  bool secret = false;
  Place place;
  std::string
      name;  // the setting it is the value of (for list items: the list's); empty at the root
  std::string text;                // kText
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap, in the order of the file, names distinct
};

struct YamlEntry {
  std::string name;
  Place place;  // of the name
  YamlNode value;
};

// `file` is used in messages only. An empty text is a null node.
Result<YamlNode> parse_yaml(std::string_view text, const std::string& file);

// An error at a node: "file:line:column: text".
tl::unexpected<Error> fail_at(const Place& place, std::string text, std::string hint = {});

// "a text", "a list", ...: what a message says was found; with the text in quotes unless secret or
// long.
std::string describe(const YamlNode& node);

// A text of the file, quoted; of one that tells how to connect, and so may hold a password, only that it does.
std::string described_text(std::string_view text);

// One node's value. Texts are taken as written, so 1 and "1" are the same text; null is not a text.
Result<std::string> yaml_text(const YamlNode& node);
Result<bool> yaml_bool(const YamlNode& node);  // true, false
Result<std::uint64_t> yaml_unsigned(const YamlNode& node, std::uint64_t min, std::uint64_t max);
// 250ms, 1s, 5m, 1h; whole numbers, the unit required (also for 0).
Result<std::chrono::milliseconds> yaml_duration(const YamlNode& node, std::chrono::milliseconds min,
                                                std::chrono::milliseconds max);
// 512B, 64KiB, 64MiB, 1GiB; the unit required. Result in bytes.
Result<std::uint64_t> yaml_size(const YamlNode& node, std::uint64_t min, std::uint64_t max);
// A list of texts, none of them given twice. One text stands for a list of one.
Result<std::vector<std::string>> yaml_texts(const YamlNode& node);
// The index of the word among `names`.
Result<std::size_t> yaml_choice(const YamlNode& node, std::span<const std::string_view> names);

// "250ms", "1s", "90s", "5m": the shortest exact form.
std::string duration_text(std::chrono::milliseconds duration);
std::string size_text(std::uint64_t bytes);  // "64MiB"

template <typename Enum>
using YamlNames = std::span<const std::pair<std::string_view, Enum>>;

// Reads the settings of one map. Asking for a setting makes it known; finish() reports those that
// nobody asked for. Errors are kept, and finish() returns the one that comes first in the file.
class YamlMap {
 public:
  // `what` is the end of "unknown setting 'x' in ...". `node` must outlive the reader. A null node
  // is an empty map (a heading with nothing below it); anything else but a map is an error.
  YamlMap(const YamlNode& node, std::string what);

  // The value of a setting; null when it is absent. `name` must be a literal (kept by reference).
  const YamlNode* find(std::string_view name);
  bool has(std::string_view name) const;
  // Place of the setting's name, or of the map when absent.
  const Place& place_of(std::string_view name) const;
  // As find(), and an error when absent.
  const YamlNode* require(std::string_view name);

  // Each keeps `value` when the setting is absent or wrong. True when it was read.
  bool read(std::string_view name, std::string& value);
  bool read(std::string_view name, std::optional<std::string>& value);
  bool read(std::string_view name, bool& value);
  bool read(std::string_view name, std::uint64_t& value, std::uint64_t min, std::uint64_t max);
  bool read(std::string_view name, std::chrono::milliseconds& value, std::chrono::milliseconds min,
            std::chrono::milliseconds max);
  bool read(std::string_view name, std::vector<std::string>& value);
  bool read_size(std::string_view name, std::uint64_t& bytes, std::uint64_t min, std::uint64_t max);
  template <typename Enum, std::size_t kCount>
  bool read(std::string_view name, Enum& value,
            const std::pair<std::string_view, Enum> (&names)[kCount]) {
    std::string_view words[kCount];
    for (std::size_t i = 0; i < kCount; ++i) words[i] = names[i].first;
    std::size_t index = 0;
    if (!read_choice(name, index, words)) return false;
    value = names[index].second;
    return true;
  }
  bool read_choice(std::string_view name, std::size_t& index,
                   std::span<const std::string_view> names);

  // Keeps an error found by the caller.
  void take(Error error, const Place& place);
  void take(tl::unexpected<Error> error, const Place& place);
  // The same for one that a mistyped name explains better: it counts only when there is no other.
  void take_last(tl::unexpected<Error> error);
  template <typename T>
  void take(const Result<T>& result, const YamlNode& node) {
    if (!result) take(tl::unexpected(result.error()), node.place);
  }

  // True when no error was kept so far (unknown settings are not counted before finish()).
  bool ok() const { return !error_.has_value(); }
  const YamlNode& node() const { return *node_; }

  // The earliest error, unknown settings included.
  Result<void> finish();

 private:
  const YamlEntry* entry(std::string_view name) const;
  template <typename T, typename Parse>
  bool read_with(std::string_view name, T& value, Parse parse);

  const YamlNode* node_;
  std::string what_;
  std::vector<std::string_view> known_;
  std::optional<Error> error_;
  int error_line_ = 0;
  int error_column_ = 0;
};

}  // namespace evictd
