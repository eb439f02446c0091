#include "daemon/app/rule_cases.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "daemon/app/explain.h"
#include "daemon/base/json.h"
#include "daemon/base/plain_text.h"
#include "mapping/mapper.h"
#include "mapping/yaml.h"

namespace evictd {
namespace {

constexpr std::pair<std::string_view, Operation> kOperationNames[] = {{"insert", Operation::kInsert},
                                                                      {"update", Operation::kUpdate},
                                                                      {"delete", Operation::kDelete},
                                                                      {"truncate", Operation::kTruncate}};
constexpr std::pair<const char*, const char*> kExpectations[] = {
    {"keys", "key"}, {"tags", "tag"}, {"bump", "bump"}, {"purge", "purge"},
    {"surrogate_keys", "surrogate"}, {"semantic", "semantic"}};

using Expected = std::vector<std::pair<std::string, std::string>>;

// As JSON writes a number; what YAML alone calls one (0x10, .5, 1_000) stays a text, as it is written.
bool is_json_number(std::string_view text) {
  std::size_t at = text.starts_with('-') ? 1 : 0;
  const auto digits = [&] {
    const std::size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  const std::size_t first = at;
  const std::size_t whole = digits();
  if (whole == 0 || (whole > 1 && text[first] == '0')) return false;
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (digits() == 0) return false;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

void append_json(std::string& out, const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      out += "null";
      return;
    case YamlNode::Kind::kText:
      if (!node.quoted && (node.text == "true" || node.text == "false" || is_json_number(node.text))) {
        out += node.text;
      } else {
        append_json_quoted(out, node.text);
      }
      return;
    case YamlNode::Kind::kList: {
      out += '[';
      for (const YamlNode& item : node.items) {
        if (out.back() != '[') out += ',';
        append_json(out, item);
      }
      out += ']';
      return;
    }
    case YamlNode::Kind::kMap: {
      out += '{';
      for (const YamlEntry& entry : node.entries) {
        if (out.back() != '{') out += ',';
        append_json_quoted(out, entry.name);
        out += ':';
        append_json(out, entry.value);
      }
      out += '}';
      return;
    }
  }
}

void read_row(YamlMap& map, const char* name, std::string& row) {
  const YamlNode* node = map.find(name);
  if (node == nullptr || node->kind == YamlNode::Kind::kNull) return;
  if (node->kind != YamlNode::Kind::kMap) {
    map.take(fail_at(node->place, fmt::format("'{}': expected a row, a map of column to value, got {}", name, describe(*node)),
                     "for example {id: 1, slug: blue}"),
             node->place);
    return;
  }
  append_json(row, *node);
}

Result<RuleCase> read_case(const YamlNode& node) {
  if (node.kind != YamlNode::Kind::kMap) {
    return fail_at(node.place, fmt::format("expected a case, a map with 'table', got {}", describe(node)));
  }
  RuleCase made;
  made.place = node.place;
  YamlMap map(node, "a case");
  map.read("name", made.name);
  if (const YamlNode* table = map.require("table")) {
    const Result<std::string> text = yaml_text(*table);
    map.take(text, *table);
    if (text) made.change.table = *text;
  }
  read_row(map, "old", made.change.old_row);
  read_row(map, "new", made.change.new_row);
  const bool has_old = !made.change.old_row.empty();
  const bool has_new = !made.change.new_row.empty();
  made.change.operation = has_new ? has_old ? Operation::kUpdate : Operation::kInsert : Operation::kDelete;
  const bool has_operation = map.read("op", made.change.operation, kOperationNames);
  map.read("identity", made.change.identity);
  for (const auto& [setting, kind] : kExpectations) {
    std::vector<std::string> texts;
    map.read(setting, texts);
    for (std::string& text : texts) made.expected.emplace_back(kind, std::move(text));
  }
  if (Result<void> read = map.finish(); !read) return tl::unexpected(read.error());
  const Operation operation = made.change.operation;
  const auto wrong = [&](std::string text) { return fail_at(node.place, std::move(text)); };
  if (!has_operation && !has_old && !has_new) return wrong("a case needs 'old', 'new' or 'op: truncate'");
  if ((operation == Operation::kInsert || operation == Operation::kUpdate) && !has_new) {
    return wrong(fmt::format("'op: {}' needs 'new'", operation_name(operation)));
  }
  if (operation == Operation::kDelete && !has_old) return wrong("'op: delete' needs 'old'");
  if (operation == Operation::kInsert && has_old) return wrong("'op: insert' has no old row");
  if ((operation == Operation::kDelete || operation == Operation::kTruncate) && has_new) {
    return wrong(fmt::format("'op: {}' has no new row", operation_name(operation)));
  }
  if (operation == Operation::kTruncate && has_old) return wrong("'op: truncate' has no old row");
  std::sort(made.expected.begin(), made.expected.end());
  if (made.name.empty()) made.name = fmt::format("{} of {}", operation_name(operation), made.change.table);
  return made;
}

// What the mapper says, with the rules that say so.
class Gatherer final : public InvalidationReceiver {
 public:
  explicit Gatherer(const RuleSet& rules) : rules_(rules), reasons_(rules) {}
  void key(std::uint32_t rule, std::string_view key) override { add("key", key, rule); }
  void tag(std::uint32_t rule, std::string_view tag) override { add("tag", tag, rule); }
  void bump(std::uint32_t rule, std::string_view counter) override { add("bump", counter, rule); }
  void surrogate_key(std::uint32_t rule, std::string_view key) override { add("surrogate", key, rule); }
  void semantic(std::uint32_t rule, std::string_view order) override {
    const std::vector<SemanticInfo>& entries = rules_.rules()[rule].semantic;
    const std::optional<SemanticOrder> read = read_semantic_order(order, entries);
    if (read) add("semantic", semantic_order_text(entries[read->entry], *read), rule);
  }
  void row_version(std::uint32_t, std::string_view) override {}
  void purge(std::uint32_t rule, std::uint32_t pattern) override {
    add("purge", rules_.rules()[rule].patterns[pattern].glob, rule);
  }
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override {
    if (rules_.rules()[rule].on_missing != OnMissing::kStop) return;
    add("stop", fmt::format("column '{}': {}", column, unmappable_reason_name(reason)), rule);
  }
  void lookup(std::uint32_t rule, std::uint32_t, std::span<const std::string_view>) override {
    lookups.insert(fmt::format("rule '{}' looks for rows of joined tables, and a case has none: those keys are not compared",
                               rules_.rules()[rule].name));
  }
  void held_back(std::uint32_t rule, const HeldBack& why) override { reasons_.held_back(rule, why); }

  // By (kind, text), with one of the rules.
  std::map<std::pair<std::string, std::string>, std::string> found;
  std::set<std::string> lookups;  // notes, of what is not known here
  // Why rules of the table made nothing, or less.
  const std::vector<ExplainReceiver::Line>& reasons() const { return reasons_.held_back(); }

 private:
  void add(const char* kind, std::string_view text, std::uint32_t rule) {
    const RuleInfo& info = rules_.rules()[rule];
    found.emplace(std::pair(std::string(kind), std::string(text)),
                  fmt::format("rule '{}' ({})", info.name, info.place.to_string()));
  }
  const RuleSet& rules_;
  ExplainReceiver reasons_;
};

// `doubts`: of the case itself, told where something is missing.
std::string difference(const Expected& expected, const Gatherer& gathered, const std::vector<std::string>& doubts) {
  std::string out;
  for (const auto& [kind, text] : expected) {
    if (gathered.found.contains({kind, text})) continue;
    out += fmt::format("    missing  {:<5}  {}   no rule makes it\n", kind, printable_text(text));
  }
  if (!out.empty()) {
    for (const ExplainReceiver::Line& line : gathered.reasons()) out += fmt::format("    note     {}   {}\n", line.text, line.rule_text());
    for (const std::string& doubt : doubts) out += fmt::format("    note     {}\n", doubt);
  }
  for (const auto& [what, rule] : gathered.found) {
    if (std::binary_search(expected.begin(), expected.end(), what)) continue;
    out += fmt::format("    too much {:<5}  {}   {}\n", what.first, printable_text(what.second), rule);
  }
  return out;
}

}  // namespace

Result<std::vector<RuleCase>> parse_rule_cases(std::string_view text, const std::string& file) {
  Result<YamlNode> root = parse_yaml(text, file);
  if (!root) return tl::unexpected(root.error());
  if (root->kind != YamlNode::Kind::kList || root->items.empty()) {
    return fail(ErrorKind::kUsage, fmt::format("{}: expected a list of cases, got {}", file,
                                            root->kind == YamlNode::Kind::kList ? "an empty list" : describe(*root)),
                R"(for example - {table: products, new: {id: 1}, keys: ["product:1"]})");
  }
  std::vector<RuleCase> cases;
  for (const YamlNode& item : root->items) {
    Result<RuleCase> one = read_case(item);
    if (!one) return tl::unexpected(one.error());
    cases.push_back(std::move(*one));
  }
  return cases;
}

Result<RuleCasesResult> run_rule_cases(const std::vector<RuleCase>& cases, const RuleSet& rules) {
  RuleCasesResult result;
  for (const RuleCase& one : cases) {
    Result<ExplainedChange> change = ExplainedChange::make(one.change, rules);
    if (!change) {
      Error error = change.error();
      return tl::unexpected(std::move(error).within(one.place.to_string()));
    }
    Mapper mapper(rules);
    Gatherer gathered(rules);
    mapper.map(change->change(), gathered);
    const std::string differs = difference(one.expected, gathered, change->doubts(rules));
    ++(differs.empty() ? result.passed : result.failed);
    result.text += differs.empty() ? fmt::format("ok    {}\n", printable_text(one.name))
                                   : fmt::format("FAIL  {} ({})\n{}", printable_text(one.name), one.place.to_string(), differs);
    // Of a case that passed too: nobody shall take these keys for tested.
    for (const std::string& note : gathered.lookups) result.text += fmt::format("    note     {}\n", printable_text(note));
  }
  return result;
}

}  // namespace evictd
