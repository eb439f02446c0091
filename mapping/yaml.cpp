// The only file that includes yaml-cpp. Its event interface is used, not its node tree: the tree
// silently accepts duplicate keys and follows aliases, events show everything with its place.
#include "mapping/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <unordered_map>

#include "mapping/utf8.h"

namespace evictd {

namespace {

// Thrown out of yaml-cpp's parser by our handler; caught in parse_yaml.
struct Stop {
  Place place;
  std::string text;
  std::string hint;
};

class Builder : public YAML::EventHandler {
 public:
  explicit Builder(const std::string& file) : file_(file) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Stop{place(mark), "expected one document, got a second one", {}};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    YamlNode node = node_of(YamlNode::Kind::kNull, mark);
    // A missing value has no place of its own: the setting's name is what a person looks for.
    if (!open_.empty() && open_.back().has_name) node.place = open_.back().name_place;
    add(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Stop{place(mark), "aliases ('*name') are not supported", "write the value out in full"};
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(mark, tag);
    YamlNode node = node_of(YamlNode::Kind::kText, mark);
    node.text = value;
    node.quoted = tag == "!";
    add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  // A list or map whose end was not seen yet.
  struct Open {
    YamlNode node;
    bool has_name = false;  // of a map: the name was read, its value comes next
    std::string name;
    Place name_place;
    std::unordered_map<std::string, int> lines;  // of a map: where each name stands
  };

  Place place(const YAML::Mark& mark) const {
    return Place{file_, std::max(0, mark.line) + 1, std::max(0, mark.column) + 1};
  }

  YamlNode node_of(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > kYamlNodesMax) {
      throw Stop{
          place(mark), fmt::format("expected at most {} values in a file", kYamlNodesMax), {}};
    }
    YamlNode node;
    node.kind = kind;
    node.place = place(mark);
    return node;
  }

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) {
      throw Stop{place(mark), "anchors ('&name') are not supported", "write the value out in full"};
    }
  }

  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    throw Stop{place(mark), fmt::format("tags are not supported, got '{}'", printable(tag)), {}};
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(mark, tag);
    if (open_.size() >= static_cast<std::size_t>(kYamlDepthMax)) {
      throw Stop{
          place(mark), fmt::format("expected at most {} levels, got more", kYamlDepthMax), {}};
    }
    if (!open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap &&
        !open_.back().has_name) {
      throw Stop{place(mark), "expected the name of a setting, got a list or map",
                 "put texts that begin with '{' or '[' in quotes"};
    }
    Open opened;
    opened.node = node_of(kind, mark);
    open_.push_back(std::move(opened));
  }

  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.has_name) {
      node.name = parent.name;
      for (YamlNode& item : node.items) item.name = parent.name;
      parent.node.entries.push_back({parent.name, parent.name_place, std::move(node)});
      parent.has_name = false;
    } else {
      take_name(parent, node);
    }
  }

  void take_name(Open& map, const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kText) {
      throw Stop{node.place, "expected the name of a setting, got nothing", {}};
    }
    const auto [first, is_new] = map.lines.emplace(node.text, node.place.line);
    if (!is_new) {
      throw Stop{node.place, fmt::format("duplicate setting {}", described_text(node.text)),
                 fmt::format("it was given before, in line {}", first->second)};
    }
    map.has_name = true;
    map.name = node.text;
    map.name_place = node.place;
  }

  const std::string& file_;
  YamlNode root_;
  std::vector<Open> open_;
  std::size_t nodes_ = 0;
  int documents_ = 0;
};

// yaml-cpp takes some control characters for the end of the input and passes broken UTF-8 on.
Result<void> check_bytes(std::string_view text, const std::string& file) {
  Place place{file, 1, 1};
  if (text.size() > kYamlBytesMax) {
    return fail_at(place, fmt::format("expected a file of at most {}, got {} bytes",
                                      size_text(kYamlBytesMax), text.size()));
  }
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      return fail_at(place, fmt::format("expected UTF-8 text, got the byte 0x{:02x}", byte));
    }
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
      return fail_at(place, fmt::format("unexpected control character 0x{:02x}", byte));
    }
    if (byte == '\n') {
      ++place.line;
      place.column = 1;
    } else {
      ++place.column;
    }
    i += length;
  }
  return {};
}

std::optional<Place> first_indenting_tab(std::string_view text, const std::string& file) {
  Place place{file, 1, 1};
  bool is_indent = true;
  for (const char c : text) {
    if (c == '\t' && is_indent) return place;
    if (c == '\n') {
      ++place.line;
      place.column = 1;
      is_indent = true;
      continue;
    }
    is_indent = is_indent && c == ' ';
    ++place.column;
  }
  return std::nullopt;
}

struct Line {
  std::size_t start = 0;  // where it begins
  std::size_t indent = 0;  // the same behind the "- " of a list's item
  std::string_view text;  // behind that; empty: nothing, or a comment
};

Line line_at(std::string_view text, int number) {
  for (; number > 0; --number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  text = text.substr(0, text.find_first_of("\r\n"));
  const std::size_t start = text.find_first_not_of(' ');
  std::size_t first = start;
  while (first < text.size() && text.substr(first).starts_with("- ")) first = text.find_first_not_of(' ', first + 2);
  if (first >= text.size() || text[first] == '#') return {};
  return {start, first, text.substr(first)};
}

// Whether this line begins where one above does whose list or map it can go on.
bool stands_beside_one_above(std::string_view text, int number) {
  const Line line = line_at(text, number);
  const bool is_item = line.start != line.indent;
  for (int i = number - 1; i >= 0; --i) {
    const Line above = line_at(text, i);
    if (above.text.empty()) continue;
    const bool is_above_item = above.start != above.indent;
    if (is_item ? is_above_item && above.start == line.start : above.indent == line.start) return true;
    if (above.start < line.start || (is_item && above.start == line.start)) return false;  // what owns them
  }
  return false;
}

// What the library calls an illegal value in line `number` is, most of the time, of the line before, which it took for a part of
// a longer text.
std::string_view hint_of_line_before(std::string_view text, int number) {
  const Line line = line_at(text, number);
  Line before;
  for (int i = number - 1; i >= 0 && before.text.empty(); --i) before = line_at(text, i);
  const std::size_t colon = before.text.find(':');
  const bool has_value = colon != std::string_view::npos && before.text.substr(colon + 1).find_first_not_of(' ') != std::string_view::npos;
  if (has_value && before.text[0] == '-') return "in the line before, a blank stands between the '-' of a list's item and its text";
  if (has_value && colon > 0 && before.text[colon + 1] != ' ' && before.text.find(": ") == std::string_view::npos &&
      before.text.find_first_of("\"'{[") > colon) {
    return "in the line before, a blank stands between the ':' of a setting and its value";
  }
  if (has_value && line.indent > before.indent) {
    return "the settings of one map begin in one column, and this line begins further right than the one before, which has a value already";
  }
  return {};
}

std::string_view hint_at(std::string_view text, int number, const YAML::Exception& error) {
  if (const std::string_view hint = hint_of_line_before(text, number); !hint.empty()) return hint;
  const Line line = line_at(text, number);
  const auto column = static_cast<std::size_t>(std::max(error.mark.column, 0));
  const char found = column >= line.indent && column - line.indent < line.text.size() ? line.text[column - line.indent] : '\0';
  if (error.msg == YAML::ErrorMsg::END_OF_MAP || error.msg == YAML::ErrorMsg::END_OF_SEQ) {
    if (found == ',' || found == ';') return "nothing stands behind the value of a setting: take that out";
    if (column <= line.indent && !stands_beside_one_above(text, number)) {
      return "this line begins where none does that it can go on: indent it as the line above it that it belongs beside";
    }
  }
  if (error.msg.find("flow") != std::string::npos && found != '{' && found != '[') {
    return "'[' ends with ']' and '{' with '}', a ',' stands between what is in them, and a text that holds one of { } [ ] : # or , in quotes";
  }
  return "a text that holds one of { } [ ] : # or , or begins with one of * & ! | > % @ or `, stands in quotes";
}

// In the library's own words, which say nothing of the values.
tl::unexpected<Error> fail_syntax(const YAML::Exception& error, std::string_view text,
                                  const std::string& file) {
  const auto lines = static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  const int line_behind = lines + (text.ends_with('\n') ? 0 : 1);
  if (error.mark.line >= line_behind && error.msg.find("scalar") != std::string::npos) {
    return fail_at(Place{file, lines + 1, 1},
                   "not valid YAML: expected a closing quote, got the end of the file",
                   "some text above begins with a quote and does not end with one");
  }
  // The library speaks of an illegal value, or of what the line before lacks.
  if (const std::optional<Place> tab = first_indenting_tab(text, file)) {
    return fail_at(*tab, "not valid YAML: a tab indents this line", "indent with spaces");
  }
  const int number = std::clamp(error.mark.line, 0, lines);
  return fail_at(Place{file, number + 1, std::max(0, error.mark.column) + 1}, "not valid YAML: " + error.msg,
                 std::string(hint_at(text, number, error)));
}

}  // namespace

Result<YamlNode> parse_yaml(std::string_view text, const std::string& file) {
  if (Result<void> bytes = check_bytes(text, file); !bytes) return tl::unexpected(bytes.error());
  Builder builder(file);
  try {
    // Without the mark behind it, the library takes the end of the file for the closing quote that
    // is missing somewhere above, and the rest of the file for one text.
    const std::string_view line_end = text.ends_with('\n') ? "" : "\n";
    std::istringstream stream(fmt::format("{}{}...\n", text, line_end));
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Stop& stop) {
    return fail_at(stop.place, stop.text, stop.hint);
  } catch (const YAML::Exception& error) {
    return fail_syntax(error, text, file);
  } catch (const std::exception& error) {
    return fail_at(Place{file, 1, 1}, std::string("not valid YAML: ") + error.what());
  }
  YamlNode root = builder.take_root();
  if (root.kind == YamlNode::Kind::kNull) root.place = Place{file, 1, 1};
  return root;
}

}  // namespace evictd
