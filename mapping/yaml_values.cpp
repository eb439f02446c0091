// Typed values of YAML nodes, and the reader of a map's settings.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "mapping/did_you_mean.h"
#include "mapping/utf8.h"
#include "mapping/yaml.h"

namespace evictd {

namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr Unit kDurationUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
constexpr Unit kSizeUnits[] = {{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};

constexpr std::string_view kDurationHint = "write a whole number and a unit: 250ms, 1s, 5m or 1h";
constexpr std::string_view kSizeHint =
    "write a whole number and a unit: 512B, 64KiB, 64MiB or 1GiB";

// "'settle': " of the setting a node belongs to.
std::string subject(const YamlNode& node) {
  return node.name.empty() ? std::string() : described_text(node.name) + ": ";
}

tl::unexpected<Error> expected(const YamlNode& node, std::string_view what, std::string hint = {}) {
  return fail_at(node.place,
                 fmt::format("{}expected {}, got {}", subject(node), what, describe(node)),
                 std::move(hint));
}

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// "<whole number><unit>"; nothing when it is anything else or does not fit.
std::optional<std::uint64_t> parse_with_unit(std::string_view text, std::span<const Unit> units) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::optional<std::uint64_t> count = parse_unsigned(text.substr(0, digits));
  if (!count) return std::nullopt;
  for (const Unit& unit : units) {
    if (text.substr(digits) != unit.name) continue;
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (*count > kMax / unit.factor) return std::nullopt;
    return *count * unit.factor;
  }
  return std::nullopt;
}

std::string text_with_unit(std::uint64_t value, std::span<const Unit> units) {
  for (std::size_t i = units.size(); i-- > 1;) {
    if (value != 0 && value % units[i].factor == 0) {
      return fmt::format("{}{}", value / units[i].factor, units[i].name);
    }
  }
  return fmt::format("{}{}", value, units[0].name);
}

// What tells how to connect has a password in it, as often as not. Empty: it does not look so.
std::string_view connection_in(std::string_view text) {
  if (text.find("://") != std::string_view::npos) return "a URL";
  return text.find("password=") != std::string_view::npos ? "settings of a connection" : "";
}

constexpr std::string_view kBlankHint = "a blank stands between the ':' of a setting and its value";

// "url:postgresql://..." or "slot=evictd": a setting that was meant for one, and is one text.
bool lacks_blank(std::string_view text) {
  const std::size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
  return end != std::string_view::npos && end > 0 && (text[end] == '=' || (text[end] == ':' && !text.substr(end).starts_with("://")));
}

bool is_before(int line, int column, const Place& place) {
  return line < place.line || (line == place.line && column <= place.column);
}

}  // namespace

std::string Place::to_string() const { return fmt::format("{}:{}:{}", file, line, column); }

tl::unexpected<Error> fail_at(const Place& place, std::string text, std::string hint) {
  return fail(ErrorKind::kUsage, place.to_string() + ": " + std::move(text), std::move(hint));
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kText:
      break;
  }
  return node.secret ? "another text" : described_text(node.text);
}

std::string described_text(std::string_view text) {
  const std::string_view connection = connection_in(text);
  return connection.empty() ? "'" + printable(text) + "'" : std::string(connection);
}

Result<std::string> yaml_text(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kText) return node.text;
  const bool braces = node.kind == YamlNode::Kind::kMap || node.kind == YamlNode::Kind::kList;
  return expected(node, "a text", braces ? "put texts that begin with '{' or '[' in quotes" : "");
}

Result<bool> yaml_bool(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kText && !node.quoted) {
    if (node.text == "true") return true;
    if (node.text == "false") return false;
  }
  return expected(node, "true or false");
}

Result<std::uint64_t> yaml_unsigned(const YamlNode& node, std::uint64_t min, std::uint64_t max) {
  if (node.kind == YamlNode::Kind::kText) {
    const std::optional<std::uint64_t> value = parse_unsigned(node.text);
    if (value && *value >= min && *value <= max) return *value;
  }
  return expected(node, fmt::format("a whole number from {} to {}", min, max));
}

Result<std::chrono::milliseconds> yaml_duration(const YamlNode& node, std::chrono::milliseconds min,
                                                std::chrono::milliseconds max) {
  std::optional<std::uint64_t> value;
  if (node.kind == YamlNode::Kind::kText) value = parse_with_unit(node.text, kDurationUnits);
  if (!value) return expected(node, "a duration", std::string(kDurationHint));
  const std::chrono::milliseconds duration(static_cast<std::int64_t>(*value));
  if (duration < min || duration > max) {
    return expected(
        node, fmt::format("a duration from {} to {}", duration_text(min), duration_text(max)));
  }
  return duration;
}

Result<std::uint64_t> yaml_size(const YamlNode& node, std::uint64_t min, std::uint64_t max) {
  std::optional<std::uint64_t> value;
  if (node.kind == YamlNode::Kind::kText) value = parse_with_unit(node.text, kSizeUnits);
  if (!value) return expected(node, "a size", std::string(kSizeHint));
  if (*value < min || *value > max) {
    return expected(node, fmt::format("a size from {} to {}", size_text(min), size_text(max)));
  }
  return *value;
}

Result<std::vector<std::string>> yaml_texts(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kText) return std::vector<std::string>{node.text};
  if (node.kind != YamlNode::Kind::kList) return expected(node, "a list of texts");
  std::vector<std::string> texts;
  texts.reserve(node.items.size());
  for (const YamlNode& item : node.items) {
    Result<std::string> text = yaml_text(item);
    if (!text) return tl::unexpected(text.error());
    texts.push_back(std::move(*text));
  }
  std::vector<std::string_view> sorted(texts.begin(), texts.end());
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end()) {
    const std::string_view text = *twice;
    std::size_t last = texts.size();
    while (texts[--last] != text) {
    }
    return fail_at(node.items[last].place,
                   fmt::format("{}{} is given twice", subject(node), describe(node.items[last])));
  }
  return texts;
}

Result<std::size_t> yaml_choice(const YamlNode& node, std::span<const std::string_view> names) {
  if (node.kind == YamlNode::Kind::kText) {
    const auto found = std::find(names.begin(), names.end(), node.text);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  }
  std::string choice;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) choice += i + 1 == names.size() ? " or " : ", ";
    choice += "'" + std::string(names[i]) + "'";
  }
  std::string hint;
  if (node.kind == YamlNode::Kind::kText && !node.secret) {
    if (const std::string_view nearest = nearest_name(node.text, names); !nearest.empty()) {
      hint = "did you mean '" + std::string(nearest) + "'?";
    }
  }
  return expected(node, choice, std::move(hint));
}

std::string duration_text(std::chrono::milliseconds duration) {
  return text_with_unit(static_cast<std::uint64_t>(duration.count()), kDurationUnits);
}

std::string size_text(std::uint64_t bytes) { return text_with_unit(bytes, kSizeUnits); }

YamlMap::YamlMap(const YamlNode& node, std::string what) : node_(&node), what_(std::move(what)) {
  if (node.kind == YamlNode::Kind::kMap || node.kind == YamlNode::Kind::kNull) return;
  // What stands in place of a server's settings is its URL or its token: not for a log.
  const bool is_text = node.kind == YamlNode::Kind::kText;
  const bool has_url = is_text && !node.secret && !connection_in(node.text).empty();
  std::string_view hint = has_url ? "write it as {url: ...}" : "";
  if (is_text && !node.quoted && lacks_blank(node.text)) hint = kBlankHint;
  take(fail_at(node.place, fmt::format("{}expected a map of settings, got {}", subject(node), has_url || !is_text ? describe(node) : "a text"),
               std::string(hint)),
       node.place);
}

const YamlEntry* YamlMap::entry(std::string_view name) const {
  for (const YamlEntry& candidate : node_->entries) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

const YamlNode* YamlMap::find(std::string_view name) {
  if (std::find(known_.begin(), known_.end(), name) == known_.end()) known_.push_back(name);
  const YamlEntry* found = entry(name);
  return found == nullptr ? nullptr : &found->value;
}

bool YamlMap::has(std::string_view name) const { return entry(name) != nullptr; }

const Place& YamlMap::place_of(std::string_view name) const {
  const YamlEntry* found = entry(name);
  return found == nullptr ? node_->place : found->place;
}

const YamlNode* YamlMap::require(std::string_view name) {
  const YamlNode* found = find(name);
  if (found == nullptr &&
      (node_->kind == YamlNode::Kind::kMap || node_->kind == YamlNode::Kind::kNull)) {
    take_last(fail_at(node_->place, fmt::format("missing setting '{}' in {}", name, what_)));
  }
  return found;
}

template <typename T, typename Parse>
bool YamlMap::read_with(std::string_view name, T& value, Parse parse) {
  const YamlNode* node = find(name);
  if (node == nullptr) return false;
  auto result = parse(*node);
  if (!result) {
    take(result.error(), node->place);
    return false;
  }
  value = std::move(*result);
  return true;
}

bool YamlMap::read(std::string_view name, std::string& value) {
  return read_with(name, value, yaml_text);
}

bool YamlMap::read(std::string_view name, std::optional<std::string>& value) {
  return read_with(name, value, yaml_text);
}

bool YamlMap::read(std::string_view name, bool& value) { return read_with(name, value, yaml_bool); }

bool YamlMap::read(std::string_view name, std::uint64_t& value, std::uint64_t min,
                   std::uint64_t max) {
  return read_with(name, value,
                   [&](const YamlNode& node) { return yaml_unsigned(node, min, max); });
}

bool YamlMap::read(std::string_view name, std::chrono::milliseconds& value,
                   std::chrono::milliseconds min, std::chrono::milliseconds max) {
  return read_with(name, value,
                   [&](const YamlNode& node) { return yaml_duration(node, min, max); });
}

bool YamlMap::read(std::string_view name, std::vector<std::string>& value) {
  return read_with(name, value, yaml_texts);
}

bool YamlMap::read_size(std::string_view name, std::uint64_t& bytes, std::uint64_t min,
                        std::uint64_t max) {
  return read_with(name, bytes, [&](const YamlNode& node) { return yaml_size(node, min, max); });
}

bool YamlMap::read_choice(std::string_view name, std::size_t& index,
                          std::span<const std::string_view> names) {
  return read_with(name, index, [&](const YamlNode& node) { return yaml_choice(node, names); });
}

void YamlMap::take(Error error, const Place& place) {
  if (error_ && is_before(error_line_, error_column_, place)) return;
  error_ = std::move(error);
  error_line_ = place.line;
  error_column_ = place.column;
}

void YamlMap::take(tl::unexpected<Error> error, const Place& place) {
  take(std::move(error.value()), place);
}

void YamlMap::take_last(tl::unexpected<Error> error) {
  take(std::move(error.value()), Place{{}, std::numeric_limits<int>::max(), 0});
}

Result<void> YamlMap::finish() {
  for (const YamlEntry& candidate : node_->entries) {
    if (std::find(known_.begin(), known_.end(), candidate.name) != known_.end()) continue;
    // '{url:postgresql://...}' is the name of a setting that has no value.
    take(connection_in(candidate.name).empty()
             ? fail_at(candidate.place, fmt::format("unknown setting '{}' in {}", printable(candidate.name), what_),
                       did_you_mean(candidate.name, known_, "settings"))
             : fail_at(candidate.place, fmt::format("expected the name of a setting in {}, got {}", what_, described_text(candidate.name)),
                       std::string(kBlankHint)),
         candidate.place);
  }
  if (error_) return tl::unexpected(*error_);
  return {};
}

}  // namespace evictd
