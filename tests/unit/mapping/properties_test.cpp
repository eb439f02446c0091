// What holds for any rules and any change. The oracle below says in the plainest way what the
// mapper must do: it looks up names, copies strings, and knows nothing of binding or buffers.
//
// RapidCheck prints the seed of a failure; RC_PARAMS="seed=..." runs it again.
#include <optional>
#include <set>

#include "tests/unit/mapping/support.h"
// Behind GoogleTest, which it does not include itself.
#include <rapidcheck/gtest.h>

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests

const std::vector<std::string> kColumns = {"id", "a", "b", "c"};

// A template as the oracle knows it: text and columns by turns.
struct PlainTemplate {
  std::string prefix;
  std::vector<std::string> columns;

  std::string source() const {
    std::string text = prefix;
    for (const std::string& column : columns) text += ":{" + column + "}";
    return text;
  }
};

struct World {
  std::vector<std::string> identity;
  std::vector<std::string> immutable;
  std::vector<PlainTemplate> keys;
  std::vector<std::string> when_changed;
  std::vector<std::string> ignore_changed;
  std::map<std::string, std::vector<std::string>> where;
  enum class Compares { kNothing, kGreater, kNot, kCrosses } b = Compares::kNothing;  // what `where` asks of column b, with 1
  Operation operation = Operation::kInsert;
  Row new_row;
  std::optional<Row> old_row;
};

std::string yaml_list(const std::vector<std::string>& texts) {
  std::string list = "[";
  for (const std::string& text : texts) list += "'" + text + "', ";
  return list + "]";
}

RuleSet rules_of(const World& world) {
  std::vector<std::string> keys;
  std::vector<std::string> used;
  for (const PlainTemplate& key : world.keys) keys.push_back(key.source());
  std::string text = "- table: t\n  keys: " + yaml_list(keys) + "\n";
  if (!world.immutable.empty()) text += "  immutable: " + yaml_list(world.immutable) + "\n";
  if (!world.when_changed.empty())
    text += "  when_changed: " + yaml_list(world.when_changed) + "\n";
  if (!world.ignore_changed.empty()) text += "  ignore_changed: " + yaml_list(world.ignore_changed) + "\n";
  if (!world.where.empty() || world.b != World::Compares::kNothing) {
    text += "  where:\n";
    if (world.b == World::Compares::kGreater) text += "    b: {gt: 1}\n";
    if (world.b == World::Compares::kNot) text += "    b: {not: ['1', null]}\n";
    if (world.b == World::Compares::kCrosses) text += "    b: {crosses: 1}\n";
    for (const auto& [column, values] : world.where)
      text += "    " + column + ": " + yaml_list(values) + "\n";
  }
  return rules_from(text);
}

OwnedChange change_of(const World& world, const Table& table) {
  OwnedChange change(world.operation, table.relation());
  if (world.operation != Operation::kDelete) change.with_new(world.new_row);
  if (world.old_row) change.with_old(*world.old_row);
  return change;
}

bool contains(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

// What is certain about a column of the old or the new row.
Cell certain(const World& world, const std::string& column, bool of_old_row) {
  const auto cell = [&](const Row& row) {
    const auto found = row.find(column);
    return found == row.end() ? kNotSent : found->second;
  };
  const auto known = [](const Cell& value) {
    return value.state == ValueState::kText || value.state == ValueState::kNull;
  };
  if (world.operation == Operation::kInsert) return cell(world.new_row);
  if (world.operation == Operation::kDelete) return world.old_row ? cell(*world.old_row) : kNotSent;
  const Cell now = cell(world.new_row);
  const Cell before = world.old_row ? cell(*world.old_row) : kNotSent;
  if (!of_old_row) return now.state == ValueState::kUnchanged && known(before) ? before : now;
  if (known(before)) return before;
  const bool same =
      contains(world.immutable, column) || (!world.old_row && contains(world.identity, column));
  return same ? now : kNotSent;
}

struct Expected {
  std::set<std::string> keys;
  std::set<std::string> purged;
};

void expect_row(const World& world, bool of_old_row, Expected& expected) {
  for (const PlainTemplate& key : world.keys) {
    std::string text = key.prefix;
    bool is_null = false;
    bool is_missing = false;
    for (const std::string& column : key.columns) {
      const Cell value = certain(world, column, of_old_row);
      if (value.state == ValueState::kNull) is_null = true;
      if (value.state == ValueState::kNotSent || value.state == ValueState::kUnchanged)
        is_missing = true;
      text += ":" + value.text;
    }
    if (is_null) continue;
    if (is_missing) {
      expected.purged.insert(key.prefix);
    } else {
      expected.keys.insert(text);
    }
  }
}

bool row_may_match(const World& world, bool of_old_row) {
  for (const auto& [column, values] : world.where) {
    const Cell value = certain(world, column, of_old_row);
    if (value.state == ValueState::kNull) return false;
    if (value.state == ValueState::kText && !contains(values, value.text)) return false;
  }
  const Cell b = certain(world, "b", of_old_row);
  if (b.state == ValueState::kNull) return world.b != World::Compares::kGreater && world.b != World::Compares::kNot;
  if (b.state != ValueState::kText) return true;
  const bool is_beyond = b.text != "1" && b.text != "-7";  // the other values are greater, or no numbers
  if (world.b == World::Compares::kGreater) return is_beyond;
  return world.b != World::Compares::kNot || b.text != "1";
}

// -1, 0, 1 around 1; 2 for NULL; nothing when it is not known or no number.
std::optional<int> side_of(const World& world, bool of_old_row) {
  const Cell b = certain(world, "b", of_old_row);
  if (b.state == ValueState::kNull) return 2;
  if (b.state != ValueState::kText) return std::nullopt;
  if (b.text == "-7") return -1;
  if (b.text == "1") return 0;
  return b.text == "2" || b.text == "10.0" ? std::optional(1) : std::nullopt;
}

bool may_have_changed(const World& world, const std::string& column) {
  const auto sent = world.new_row.find(column);
  const bool is_toast = sent != world.new_row.end() && sent->second.state == ValueState::kUnchanged;
  const auto old = world.old_row ? world.old_row->find(column) : world.new_row.end();
  const bool old_is_sent = world.old_row && old != world.old_row->end() && old->second.state != ValueState::kUnchanged;
  const bool new_is_sent = sent != world.new_row.end() && !is_toast;
  if (old_is_sent && new_is_sent) return old->second.state != sent->second.state || old->second.text != sent->second.text;
  if (is_toast || contains(world.immutable, column)) return false;
  return world.old_row || !contains(world.identity, column);
}

bool may_apply(const World& world) {
  if (world.operation == Operation::kUpdate && !(world.when_changed.empty() && world.ignore_changed.empty())) {
    bool changed = false;
    for (const std::string& column : kColumns) {
      const bool matters = world.ignore_changed.empty() ? contains(world.when_changed, column) : !contains(world.ignore_changed, column);
      changed = changed || (matters && may_have_changed(world, column));
    }
    if (!changed) return false;
  }
  if (world.operation == Operation::kUpdate && world.b == World::Compares::kCrosses) {
    const std::optional<int> now = side_of(world, false);
    const std::optional<int> before = side_of(world, true);
    if (now && before && *now == *before) return false;
  }
  const bool has_new = world.operation != Operation::kDelete;
  const bool has_old = world.operation != Operation::kInsert;
  return (has_new && row_may_match(world, false)) || (has_old && row_may_match(world, true));
}

Expected oracle(const World& world) {
  Expected expected;
  if (!may_apply(world)) return expected;
  if (world.operation != Operation::kDelete) expect_row(world, false, expected);
  if (world.operation != Operation::kInsert) expect_row(world, true, expected);
  return expected;
}

rc::Gen<std::string> any_value() {
  return rc::gen::element<std::string>("", "1", "2", "x", "y:z", "*", "[a]", "\\", "é", "{q}",
                                       "a?b", "live", "-7", "10.0");
}

rc::Gen<std::vector<std::string>> some_columns() {
  return rc::gen::map(rc::gen::inRange(0u, 16u), [](unsigned mask) {
    std::vector<std::string> columns;
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      if ((mask >> i & 1U) != 0) columns.push_back(kColumns[i]);
    }
    return columns;
  });
}

rc::Gen<Row> any_row() {
  return rc::gen::exec([] {
    Row row;
    for (const std::string& column : kColumns) {
      switch (*rc::gen::weightedElement<int>({{6, 0}, {1, 1}, {1, 2}, {1, 3}})) {
        case 0:
          row[column] = *any_value();
          break;
        case 1:
          row[column] = kNull;
          break;
        case 2:
          row[column] = kUnchanged;
          break;
        default:
          break;  // not sent
      }
    }
    return row;
  });
}

rc::Gen<World> any_world() {
  return rc::gen::exec([] {
    World world;
    world.identity = *some_columns();
    const int templates = *rc::gen::inRange(1, 4);
    std::vector<std::string> used;
    for (int i = 0; i < templates; ++i) {
      PlainTemplate key;
      key.prefix = std::string("k") + static_cast<char>('0' + i);
      key.columns = *some_columns();
      used.insert(used.end(), key.columns.begin(), key.columns.end());
      world.keys.push_back(key);
    }
    if (*rc::gen::weightedElement<bool>({{1, true}, {2, false}}))
      world.when_changed = *some_columns();
    if (*rc::gen::weightedElement<bool>({{1, true}, {2, false}})) world.where["a"] = {"1", "live"};
    if (world.when_changed.empty() && *rc::gen::weightedElement<bool>({{1, true}, {2, false}}))
      world.ignore_changed = *some_columns();
    world.b = *rc::gen::weightedElement<World::Compares>({{4, World::Compares::kNothing},
                                                          {1, World::Compares::kGreater},
                                                          {1, World::Compares::kNot},
                                                          {1, World::Compares::kCrosses}});
    used.insert(used.end(), world.when_changed.begin(), world.when_changed.end());
    for (const std::string& column : *some_columns()) {
      const bool is_refused = world.b == World::Compares::kCrosses && column == "b";
      if (contains(used, column) && !is_refused) world.immutable.push_back(column);
    }
    const bool would_never_act = std::all_of(world.when_changed.begin(), world.when_changed.end(),
                                             [&](const std::string& column) { return contains(world.immutable, column); });
    if (!world.when_changed.empty() && would_never_act) world.immutable.clear();
    world.operation = *rc::gen::element(Operation::kInsert, Operation::kUpdate, Operation::kDelete);
    world.new_row = *any_row();
    if (world.operation != Operation::kInsert && *rc::gen::arbitrary<bool>())
      world.old_row = *any_row();
    return world;
  });
}

// Redis's glob matching, as far as our patterns use it.
bool glob_matches(std::string_view glob, std::string_view text) {
  if (glob.empty()) return text.empty();
  if (glob[0] == '*') {
    for (std::size_t skip = 0; skip <= text.size(); ++skip) {
      if (glob_matches(glob.substr(1), text.substr(skip))) return true;
    }
    return false;
  }
  if (glob[0] == '\\' && glob.size() > 1) glob.remove_prefix(1);
  return !text.empty() && text[0] == glob[0] && glob_matches(glob.substr(1), text.substr(1));
}

// G5 at the first step: no key from a missing value, and nothing forgotten.
RC_GTEST_PROP(Properties, TheMapperDoesWhatTheOracleSays, ()) {
  const World world = *any_world();
  const RuleSet rules = rules_of(world);
  const Table table("t", kColumns, world.identity);
  const Expected expected = oracle(world);
  std::set<std::string> keys;
  std::set<std::string> purged;
  std::size_t count = 0;
  for (const std::string& entry : map(rules, change_of(world, table))) {
    if (entry.starts_with("key ")) keys.insert(entry.substr(4));
    if (entry.starts_with("purge ")) purged.insert(entry.substr(6, 2));
    count += entry.starts_with("missing ") ? 0 : 1;
  }
  RC_TAG(std::string(operation_name(world.operation)), !purged.empty());
  RC_ASSERT(keys == expected.keys);
  RC_ASSERT(purged == expected.purged);
  RC_ASSERT(count == keys.size() + purged.size());  // each once
}

RC_GTEST_PROP(Properties, AnUpdateIsTheUnionOfADeleteAndAnInsert, ()) {
  World world = *any_world();
  for (const std::string& column : kColumns) {  // everything is sent
    if (world.new_row[column].state != ValueState::kText) world.new_row[column] = kNull;
  }
  Row old_row = *any_row();
  for (const std::string& column : kColumns) {
    if (old_row[column].state != ValueState::kText) old_row[column] = kNull;
  }
  world.when_changed.clear();
  world.ignore_changed.clear();
  world.b = World::Compares::kNothing;
  world.where.clear();
  world.immutable.clear();
  const RuleSet rules = rules_of(world);
  const Table table("t", kColumns, world.identity);
  const auto entries = [&](const OwnedChange& change) {
    const std::vector<std::string> list = map(rules, change);
    return std::set<std::string>(list.begin(), list.end());
  };
  std::set<std::string> expected = entries(table.insert(world.new_row));
  expected.merge(entries(table.erase(old_row)));
  RC_ASSERT(entries(table.update(world.new_row).from(old_row)) == expected);
}

RC_GTEST_PROP(Properties, EveryKeyMatchesThePatternOfItsTemplate, ()) {
  const std::vector<std::string> texts = *rc::gen::container<std::vector<std::string>>(
      4, rc::gen::element<std::string>("", "a", "*", "?", "[x]", "\\", "{{", "}}", "-", "^"));
  const std::string key = "k" + texts[0] + "{id}" + texts[1] + "{a|default(''N'')}" + texts[2] +
                          "{b|urlencode}" + texts[3];
  const RuleSet rules = rules_from("- {table: t, keys: ['" + key + "']}");
  const Table table("t", kColumns, {});
  Row row = *any_row();
  for (const std::string& entry : map(rules, table.insert(row))) {
    if (!entry.starts_with("key ")) continue;
    RC_ASSERT(glob_matches(rules.rules()[0].patterns[0].glob, entry.substr(4)));
  }
}

// A file that holds a bit of everything, as material for mutations.
constexpr std::string_view kEverything =
    R"(defaults: {fill: plain, settle: 1s, on_missing: purge, collapse_after: 10}
rules:
  - table: public.products
    name: products
    on: [insert, update, delete, truncate]
    when_changed: [a, b]
    where: {status: [published, null], live: true, n: {gt: 0, lte: 1.5}, m: {not: [a, null]}, k: {crosses: '2024-02-03'}}
    keys: ["p:{id}", 'q:{data.x."y z".0|lower|date(''%Y'')|default("n")}', "{{r}}:{c|md5}"]
    tags:
      - "t:{d|trim|urlencode}"
      - "e:{j.x.*.y}"
    purge: ["config:*"]
    fill: checked
    settle: 250ms
    immutable: [a]
    on_missing: stop
    mode: delete
    version: snapshot
    tags_mode: members
  - table: [a, '"b.c".d']
    ignore_changed: [seen]
    bump: [n]
)";

// "f:LINE:COLUMN: text", both from 1; one line; no period at the end.
bool is_placed(std::string_view text) {
  if (!text.starts_with("f:")) return false;
  text.remove_prefix(2);
  for (int i = 0; i < 2; ++i) {
    const std::size_t digits = text.find_first_not_of("0123456789");
    if (digits == 0 || digits == std::string_view::npos || text[0] == '0') return false;
    if (text[digits] != ':') return false;
    text.remove_prefix(digits + 1);
  }
  return text.starts_with(' ') && text.size() > 1 && text.find('\n') == std::string_view::npos &&
         !text.ends_with('.');
}

void expect_parsed_or_placed(const std::string& text) {
  const Result<RuleSet> rules = RuleSet::parse(text, "f");
  if (rules) {
    RC_ASSERT(!rules->rules().empty());
    return;
  }
  RC_LOG(rules.error().text);
  RC_ASSERT(rules.error().kind == ErrorKind::kUsage);
  RC_ASSERT(is_placed(rules.error().text));
  RC_ASSERT(rules.error().hint.find('\n') == std::string::npos);
}

TEST(Properties, TheMaterialOfTheMutationsIsValid) { EXPECT_EQ(error_of(kEverything), ""); }

RC_GTEST_PROP(Properties, AnyTextParsesOrGivesAPlacedError, (const std::string& text)) {
  expect_parsed_or_placed(text);
}

RC_GTEST_PROP(Properties, AnyMutationOfAFileParsesOrGivesAPlacedError, ()) {
  std::string text(kEverything);
  const int mutations = *rc::gen::inRange(1, 6);
  for (int i = 0; i < mutations && !text.empty(); ++i) {
    const std::size_t at = *rc::gen::inRange<std::size_t>(0, text.size());
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        text.erase(at, *rc::gen::inRange<std::size_t>(1, 20));
        break;
      case 1:
        text[at] = *rc::gen::element('{', '}', '[', ']', '"', '\'', ':', '\n', ' ', '|', '&', '*',
                                     '!', '\0', '\xff', '0');
        break;
      case 2:
        text.insert(at, *rc::gen::element<std::string>("{", "}", "\"", "'", ": ", "\n", "  ", "|",
                                                       "- ", "é", "~", "...", "---\n"));
        break;
      default:
        text.insert(at, text.substr(*rc::gen::inRange<std::size_t>(0, text.size()), 30));
    }
  }
  expect_parsed_or_placed(text);
}

RC_GTEST_PROP(Properties, CompactJsonIsCompactAlready, (const std::string& text)) {
  const Table table = Table("t", {"j"}).with_type("j", ValueType::kJson);
  const RuleSet rules = rules_from("- {table: t, keys: ['k:{j}']}");
  const std::vector<std::string> once = map(rules, table.insert({{"j", text}}));
  RC_ASSERT(once.size() == 1);
  RC_ASSERT(map(rules, table.insert({{"j", once[0].substr(6)}})) == once);
}

}  // namespace
}  // namespace evictd
