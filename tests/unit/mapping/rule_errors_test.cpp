// Every error that a rules file can give, as a person reads it.
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using test::error_of;

TEST(RuleErrors, TheFileAsAWhole) {
  EXPECT_EQ(error_of(""),
            "rules.yaml:1:1: expected a list of rules, got nothing\nhint: begin each rule with '- "
            "table: ...'");
  EXPECT_EQ(error_of("hello"),
            "rules.yaml:1:1: expected a list of rules, got 'hello'\nhint: begin each rule with '- "
            "table: ...'");
  EXPECT_EQ(error_of("[]"), "rules.yaml:1:1: expected at least one rule, got an empty list");
  EXPECT_EQ(error_of("rules: []"), "rules.yaml:1:8: expected at least one rule, got an empty list");
  EXPECT_EQ(
      error_of("rule: []"),
      "rules.yaml:1:1: unknown setting 'rule' in the rules file\nhint: did you mean 'rules'?");
  EXPECT_EQ(error_of("table: products\nkeys: [\"p:{id}\"]"),
            "rules.yaml:1:1: expected a list of rules, got the settings of one\nhint: begin each rule with '- ', as in '- table: public.products'");
  EXPECT_EQ(error_of("defaults: {}"), "rules.yaml:1:1: missing setting 'rules' in the rules file");
  EXPECT_EQ(error_of("- hello"), "rules.yaml:1:3: expected a map of settings, got a text");
  std::string many;
  for (std::size_t i = 0; i <= kRulesMax; ++i) many += "- {table: a, purge: ['a']}\n";
  EXPECT_EQ(error_of(many), "rules.yaml:1:1: expected at most 1000 rules, got 1001");
}

// "evictd:{user:7}" is the marker of both: tried, the second one's old value stayed.
TEST(RuleErrors, TwoKeysWithOneMarker) {  // G3
  EXPECT_EQ(error_of("- {table: a, keys: ['user:{id}', '{{user:{id}}}'], fill: checked}"),
            "rules.yaml:1:34: the key '{{user:{id}}}' is nothing but a hash tag, and has the same marker as 'user:{id}' (rules.yaml:1:21): under "
            "'fill: checked' one would be taken for the other\nhint: give one of them another name, for example '{{user:{id}}}:v'");
  const std::string one = "- {table: b, keys: ['{{user:{id}}}']";
  EXPECT_THAT(error_of("- {table: a, keys: ['user:{id}'], fill: checked}\n" + one + "}"), ::testing::HasSubstr("has the same marker"));
  EXPECT_THAT(error_of("- {table: a, keys: ['user:{name|lower}'], fill: checked}\n" + one + "}"), ::testing::HasSubstr("has the same marker"));
  for (const char* other : {"- {table: a, keys: ['user:{id}']}\n",                                             // no markers at all
                            "- {table: a, keys: ['user:{id}:page'], fill: checked}\n",
                            "- {table: a, keys: ['{{user:{id}}}:page'], fill: checked}\n"}) {
    EXPECT_TRUE(RuleSet::parse(other + one + "}", "rules.yaml").has_value()) << other;
  }
  EXPECT_TRUE(RuleSet::parse("- {table: a, keys: ['user:{id}'], fill: checked, caches: [eu]}\n" + one + ", caches: [us]}", "rules.yaml").has_value());
}

// Tried: a review was written, and a checked fill of before was stored over it for good, since a plain rule leaves no tombstone.
TEST(RuleErrors, OneKeyThatIsFilledInTwoWays) {  // G3
  const std::string checked = "- {table: a, keys: ['page:{id}'], fill: checked}\n";
  EXPECT_EQ(error_of(checked + "- {table: b, keys: ['page:{a_id}']}"),
            "rules.yaml:2:21: the key 'page:{a_id}' is that of 'page:{id}' (rules.yaml:1:21) as well, and that rule has 'fill: checked', this one "
            "'fill: plain': readers fill a value in one way\nhint: give both rules the same 'fill', or the keys another name");
  EXPECT_THAT(error_of("- {table: a, tags: ['t:{id}'], fill: checked}\n- {table: b, tags: ['t:{a_id}']}"), ::testing::HasSubstr("the tag 't:{a_id}' is that of"));
  EXPECT_THAT(error_of("- {table: a, tags: ['t:{id}'], fill: checked, tags_mode: lazy}\n- {table: b, tags: ['t:{a_id}'], fill: checked}"),
              ::testing::HasSubstr("that rule has 'tags_mode: lazy', this one 'tags_mode: members'"));
  EXPECT_THAT(error_of("- {table: b, keys: ['x:{c.slug}'], fill: checked, via: {c: {table: c, match: {id: c_id}}}}\n- {table: c, keys: ['x:{slug}']}"),
              ::testing::HasSubstr("the key 'x:{slug}' is that of"));
  for (const char* other : {"- {table: b, keys: ['page:{a_id}'], fill: checked}", "- {table: b, tags: ['page:{a_id}']}", "- {table: b, keys: ['pages:{a_id}']}",
                            "- {table: b, keys: ['page:{a_id}:x']}"}) {
    EXPECT_TRUE(RuleSet::parse(checked + other, "rules.yaml").has_value()) << other;
  }
  EXPECT_TRUE(RuleSet::parse("- {table: a, keys: ['p:{id}'], fill: checked, caches: [eu]}\n- {table: b, keys: ['p:{id}'], caches: [us]}", "rules.yaml").has_value());
}

TEST(RuleErrors, UnknownAndMissingSettings) {
  EXPECT_EQ(error_of("- table: public.users\n  kyes: ['user:{id}']\n"),
            "rules.yaml:2:3: unknown setting 'kyes' in the rule for 'public.users'\nhint: did you "
            "mean 'keys'?");
  EXPECT_EQ(error_of("- {keys: ['a:{id}']}"),
            "rules.yaml:1:3: missing setting 'table' in this rule");
  EXPECT_EQ(
      error_of("- {table: a}"),
      "rules.yaml:1:3: expected at least one of 'keys', 'tags', 'bump', 'purge', 'surrogate_keys' and 'semantic' in the rule for 'a'");
  EXPECT_EQ(error_of("defaults: {keys: [a]}\nrules: [{table: a, purge: [a]}]"),
            "rules.yaml:1:12: unknown setting 'keys' in 'defaults'\nhint: known settings: 'fill', "
            "'settle', 'on_missing', "
            "'collapse_after', 'purge_every'");
}

TEST(RuleErrors, Table) {
  const std::string hint =
      "\nhint: put a name that holds a dot in double quotes: 'shop.\"old.products\"'; a quote inside is doubled";
  EXPECT_EQ(error_of("- {table: a.b.c, purge: [x]}"),
            "rules.yaml:1:11: 'table': expected 'table' or 'schema.table', got 'a.b.c'" + hint);
  EXPECT_EQ(error_of("- {table: .a, purge: [x]}"),
            "rules.yaml:1:11: 'table': expected 'table' or 'schema.table', got '.a'" + hint);
  EXPECT_EQ(error_of("- {table: 'a.\"b', purge: [x]}"),
            "rules.yaml:1:11: 'table': expected 'table' or 'schema.table', got 'a.\"b'" + hint);
  EXPECT_EQ(error_of("- {table: 'a\"b\"', purge: [x]}"),
            "rules.yaml:1:11: 'table': expected 'table' or 'schema.table', got 'a\"b\"'" + hint);
  EXPECT_EQ(error_of("- {table: [], purge: [x]}"), "rules.yaml:1:11: 'table': expected at least one table, got an empty list");
  EXPECT_EQ(error_of("- {table: [a, public.a], purge: [x]}"), "rules.yaml:1:15: 'table': 'public.a' is given twice");
  EXPECT_EQ(error_of("- {table: [a, b.c.d], purge: [x]}"),
            "rules.yaml:1:15: 'table': expected 'table' or 'schema.table', got 'b.c.d'" + hint);
}

TEST(RuleErrors, Comparisons) {
  const auto where = [](const std::string& condition) { return error_of("- {table: a, purge: [x], where: {n: " + condition + "}}"); };
  EXPECT_EQ(where("{gt: abc}"),
            "rules.yaml:1:42: 'gt' of 'n': expected a number or a time, got 'abc'\nhint: for example 0, 9.99, '2024-02-03' or "
            "'2024-02-03T04:05:06Z' (in UTC)");
  EXPECT_EQ(where("{gtt: 1}"),
            "rules.yaml:1:38: unknown setting 'gtt' in the condition of 'n'\nhint: did you mean 'gt'?");
  EXPECT_EQ(where("{}"), "rules.yaml:1:37: 'n': expected a value or comparisons, got an empty map\nhint: write {gt: 0}, {not: [draft]} "
                         "or {crosses: 0}");
  EXPECT_EQ(where("{not: []}"), "rules.yaml:1:43: 'not' of 'n': expected at least one value, got an empty list");
  EXPECT_EQ(where("{gt: 5, lt: 5}"), "rules.yaml:1:34: 'n': no value is both gt 5 and lt 5");
  EXPECT_EQ(where("{gte: 5, lte: 5}"), "");
  EXPECT_EQ(where("{gt: 5, lt: '2024-01-01'}"), "rules.yaml:1:34: 'n': no value is both gt 5 and lt 2024-01-01");
}

TEST(RuleErrors, RulesThatWouldNeverActOnAnUpdate) {
  EXPECT_EQ(error_of("- {table: a, purge: [x], when_changed: [n, m], immutable: [m, n]}"),
            "rules.yaml:1:59: 'immutable' names every column of 'when_changed': the rule would act on no update ever\nhint: leave "
            "'update' out of 'on' if that is meant; otherwise take the column out of 'immutable'");
  EXPECT_EQ(error_of("- {table: a, purge: [x], when_changed: [n, m], immutable: [m]}"), "");
  EXPECT_EQ(error_of("- {table: a, purge: [x], where: {n: {crosses: 0}}, immutable: [n]}"),
            "rules.yaml:1:34: 'crosses' of 'n', which is immutable: the rule would act on no update ever\nhint: take the column out of "
            "'immutable'");
}

TEST(RuleErrors, IgnoreChanged) {
  EXPECT_EQ(error_of("- {table: a, purge: [x], when_changed: [n], ignore_changed: [m]}"),
            "rules.yaml:1:45: 'when_changed' and 'ignore_changed' exclude one another\nhint: name the columns that matter, or those "
            "that do not");
  EXPECT_EQ(error_of("- {table: a, purge: [x], ignore_changed: [m], on: [insert]}"),
            "rules.yaml:1:26: 'ignore_changed' has no effect: 'on' does not name 'update'");
}

TEST(RuleErrors, KeysOfEvictdsOwn) {
  EXPECT_EQ(error_of("- {table: a, keys: ['evictd:{id}']}"),
            "rules.yaml:1:21: key 'evictd:{id}': keys that begin with 'evictd:' are evictd's own");
  EXPECT_EQ(error_of("- {table: a, tags: ['evictd:{id}']}"), "");
}

TEST(RuleErrors, TabsThatIndent) {
  EXPECT_EQ(error_of("rules:\n\t- {table: a, purge: [x]}\n"),
            "rules.yaml:2:1: not valid YAML: a tab indents this line\nhint: indent with spaces");
}

TEST(RuleErrors, Name) {
  EXPECT_EQ(error_of("- {table: a, name: '', purge: [x]}"),
            "rules.yaml:1:20: 'name': expected one line of 1 to 128 bytes, got ''");
  EXPECT_EQ(error_of("- {table: a, name: x, purge: [x]}\n- {table: b, name: x, purge: [x]}"),
            "rules.yaml:2:3: another rule has the name 'x'\nhint: names of rules are labels of "
            "metrics: give each its own");
}

TEST(RuleErrors, Operations) {
  EXPECT_EQ(error_of("- {table: a, on: [updat], purge: [x]}"),
            "rules.yaml:1:19: 'on': expected 'insert', 'update', 'delete' or 'truncate', got "
            "'updat'\nhint: did you mean 'update'?");
  EXPECT_EQ(error_of("- {table: a, on: [], purge: [x]}"),
            "rules.yaml:1:18: 'on': expected at least one operation, got an empty list");
  EXPECT_EQ(error_of("- {table: a, on: [insert, insert], purge: [x]}"),
            "rules.yaml:1:27: 'on': 'insert' is given twice");
}

TEST(RuleErrors, Templates) {
  EXPECT_EQ(error_of("- {table: a, keys: ['p:{id']}"),
            "rules.yaml:1:21: key 'p:{id': expected '}', '|' or '.', got the end of the "
            "text\nhint: write '{{' for a brace that is text");
  EXPECT_EQ(
      error_of("- {table: a, tags: ['p:{id|lowr}']}"),
      "rules.yaml:1:21: tag 'p:{id|lowr}': unknown filter 'lowr'\nhint: did you mean 'lower'?");
  EXPECT_EQ(error_of("- {table: a, keys: []}"),
            "rules.yaml:1:20: 'keys': expected at least one key, got an empty list");
  EXPECT_EQ(error_of("- {table: a, tags: []}"),
            "rules.yaml:1:20: 'tags': expected at least one tag, got an empty list");
  EXPECT_EQ(
      error_of("- table: a\n  keys: [p:{id}]\n"),
      "rules.yaml:2:12: not valid YAML: end of sequence flow not found\nhint: a text that holds "
      "one of { } [ ] : # or , or begins with one of * & ! | > % @ or `, stands in quotes");
  EXPECT_EQ(
      error_of("- table: a\n  keys:\n    - {id}:x\n"),
      "rules.yaml:3:11: not valid YAML: end of sequence not found\nhint: a text that holds one of "
      "{ } [ ] : # or , or begins with one of * & ! | > % @ or `, stands in quotes");
  EXPECT_EQ(
      error_of("- table: a\n  keys: ['p:{id}]\n"),
      "rules.yaml:3:1: not valid YAML: expected a closing quote, got the end of the file\nhint: "
      "some text above begins with a quote and does not end with one");
  const std::string hint =
      "\nhint: its pattern would match almost every key in Redis; begin it with a name, such as "
      "'product:{id}'";
  EXPECT_EQ(
      error_of("- {table: a, keys: ['{id}']}"),
      "rules.yaml:1:21: key '{id}': expected a letter or digit beside the placeholders, got none" +
          hint);
  EXPECT_EQ(error_of("- {table: a, keys: ['{a}:{b}']}"),
            "rules.yaml:1:21: key '{a}:{b}': expected a letter or digit beside the placeholders, "
            "got none" +
                hint);
  std::string many = "- {table: a, keys: [";
  for (std::size_t i = 0; i <= kTemplatesPerRuleMax; ++i) many += "k" + std::to_string(i) + ",";
  EXPECT_EQ(error_of(many + "]}"),
            "rules.yaml:1:20: expected at most 64 keys, tags and patterns in a rule");
}

TEST(RuleErrors, Purge) {
  EXPECT_EQ(error_of("- {table: a, purge: []}"),
            "rules.yaml:1:21: 'purge': expected at least one pattern, got an empty list");
  EXPECT_EQ(error_of("- {table: a, purge: ['']}"),
            "rules.yaml:1:22: 'purge': expected a pattern of 1 to 1024 bytes, got an empty one");
  EXPECT_EQ(error_of("- {table: a, purge: ['" + std::string(1025, 'x') + "']}"),
            "rules.yaml:1:22: 'purge': expected a pattern of 1 to 1024 bytes, got 1025");
  EXPECT_EQ(error_of("- {table: a, purge: ['p:{id}']}"),
            "rules.yaml:1:22: purge 'p:{id}': placeholders are not supported in a pattern\nhint: "
            "write '*' in their place, or '{{' and '}}' for braces that are text");
}

TEST(RuleErrors, Conditions) {
  EXPECT_EQ(error_of("- {table: a, purge: [x], where: [status]}"),
            "rules.yaml:1:33: 'where': expected a map of columns and values, got a list\nhint: "
            "write where: {status: [published, hidden]}, or where: {stock: {gt: 0}}");
  EXPECT_EQ(error_of("- {table: a, purge: [x], where: {}}"),
            "rules.yaml:1:33: 'where': expected a map of columns and values, got an empty "
            "one\nhint: write where: {status: [published, hidden]}, or where: {stock: {gt: 0}}");
  EXPECT_EQ(error_of("- {table: a, purge: [x], where: {status: []}}"),
            "rules.yaml:1:42: 'status': expected at least one value, got an empty list");
  EXPECT_EQ(error_of("- {table: a, purge: [x], where: {status: [[1]]}}"),
            "rules.yaml:1:43: 'status': expected a text, got a list\nhint: put texts that begin "
            "with '{' or '[' in quotes");
  std::string many = "- {table: a, purge: [x], where: {status: [";
  for (std::size_t i = 0; i <= kConditionTextsMax; ++i) many += std::to_string(i) + ",";
  EXPECT_EQ(error_of(many + "]}}"),
            "rules.yaml:1:42: 'status': expected at most 1000 values, got 1001");
  EXPECT_EQ(error_of("- {table: a, purge: [x], when_changed: []}"),
            "rules.yaml:1:40: 'when_changed': expected at least one column, got an empty list");
  EXPECT_EQ(error_of("- {table: a, purge: [x], when_changed: ['']}"),
            "rules.yaml:1:40: 'when_changed': expected at least one column, got an empty name");
  EXPECT_EQ(error_of("- {table: a, on: [insert], purge: [x], when_changed: [b]}"),
            "rules.yaml:1:40: 'when_changed' has no effect: 'on' does not name 'update'");
}

TEST(RuleErrors, Immutable) {
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{slug}'], immutable: [slgu]}"),
            "rules.yaml:1:45: 'immutable': this rule does not use the column 'slgu'\nhint: did you "
            "mean 'slug'?");
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{slug}'], immutable: []}"),
            "rules.yaml:1:45: 'immutable': expected at least one column, got an empty list");
}

TEST(RuleErrors, FillsAndSettle) {
  EXPECT_EQ(error_of("- {table: a, purge: [x], fill: chekced}"),
            "rules.yaml:1:32: 'fill': expected 'plain' or 'checked', got 'chekced'\nhint: did you "
            "mean 'checked'?");
  EXPECT_EQ(error_of("- {table: a, purge: [x], settle: 5}"),
            "rules.yaml:1:34: 'settle': expected a duration, got '5'\nhint: write a whole number "
            "and a unit: 250ms, 1s, 5m or 1h");
  EXPECT_EQ(error_of("- {table: a, purge: [x], settle: 2h}"),
            "rules.yaml:1:34: 'settle': expected a duration from 0ms to 1h, got '2h'");
  EXPECT_EQ(
      error_of("- {table: a, purge: [x], settle: 0s}"),
      "rules.yaml:1:26: 'settle': expected more than 0ms with 'fill: plain', got '0ms'\nhint: "
      "plain fills are made safe by the second delete; only 'fill: checked' needs none");
  EXPECT_EQ(error_of("defaults: {settle: 0s}\nrules: [{table: a, purge: [x]}]"),
            "rules.yaml:2:9: 'settle': expected more than 0ms with 'fill: plain', got '0ms'\nhint: "
            "plain fills are made safe by the second delete; only 'fill: checked' needs none");
  EXPECT_EQ(error_of("- {table: a, purge: [x], on_missing: skip}"),
            "rules.yaml:1:38: 'on_missing': expected 'purge', 'stop' or 'ignore', got 'skip'");
  EXPECT_EQ(
      error_of("- {table: a, purge: [x], collapse_after: 0}"),
      "rules.yaml:1:42: 'collapse_after': expected a whole number from 1 to 1000000000, got '0'");
}

TEST(RuleErrors, ReaderSettingsNeedCheckedFills) {
  const std::string rule = "- {table: a, keys: ['a:{id}'], ";
  EXPECT_EQ(error_of(rule + "mode: stale}"),
            "rules.yaml:1:32: 'mode: stale' needs 'fill: checked', got 'fill: plain'\nhint: a plain GET cannot "
            "tell a stale value from a fresh one: readers have to use evictd_get");
  EXPECT_EQ(error_of(rule + "grace: 1m}"), "rules.yaml:1:32: 'grace' has no effect without 'mode: stale'");
  EXPECT_EQ(error_of(rule + "version: {column: v}}"),
            "rules.yaml:1:32: 'version: {column: ...}' needs 'fill: checked', got 'fill: plain'\nhint: plain fills "
            "carry no version that could be compared");
  EXPECT_EQ(error_of("- {table: a, tags: ['a:{id}'], fill: checked, version: {column: v}}"),
            "rules.yaml:1:47: 'version' has no effect without 'keys'\nhint: a row's version says nothing of the "
            "other rows under a tag or a pattern");
  EXPECT_EQ(error_of("- {table: a, tags: ['a:{id}'], tags_mode: lazy}"),
            "rules.yaml:1:32: 'tags_mode: lazy' needs 'fill: checked', got 'fill: plain'\nhint: only evictd_fill "
            "and evictd_get look at a lazy tag's marker");
  EXPECT_EQ(error_of(rule + "fill: checked, tags_mode: lazy}"),
            "rules.yaml:1:47: 'tags_mode' has no effect without 'tags'");
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id}'], tags: [t], fill: checked, version: {column: v}, tags_mode: lazy}"),
            "rules.yaml:1:80: 'tags_mode: lazy' and 'version: {column: ...}' exclude one another\nhint: a tag depends on "
            "many rows: no row's version proves that a value has seen its invalidation. Give the tags a rule of their own, "
            "with 'version: snapshot'");
  EXPECT_EQ(error_of(rule + "announce: ''}"),
            "rules.yaml:1:32: 'announce': expected a channel of 1 to 256 bytes, got ''");
  EXPECT_EQ(error_of(rule + "bump: ['{id}']}"),
            "rules.yaml:1:39: bump '{id}': expected a letter or digit beside the placeholders, got none\nhint: its "
            "pattern would match almost every key in Redis; begin it with a name, such as 'product:{id}'");
}

TEST(RuleErrors, ReaderSettingsAreReadStrictly) {
  const std::string rule = "- {table: a, keys: ['a:{id}'], ";
  EXPECT_EQ(error_of(rule + "mode: fresh}"),
            "rules.yaml:1:38: 'mode': expected 'delete' or 'stale', got 'fresh'");
  EXPECT_EQ(error_of(rule + "version: v}"),
            "rules.yaml:1:41: 'version': expected 'snapshot' or {column: name}, got 'v'");
  EXPECT_EQ(error_of(rule + "version: {colunm: v}}"),
            "rules.yaml:1:42: unknown setting 'colunm' in 'version'\nhint: did you mean 'column'?");
  EXPECT_EQ(error_of(rule + "tags_mode: eager}"),
            "rules.yaml:1:43: 'tags_mode': expected 'members' or 'lazy', got 'eager'");
}

TEST(RuleErrors, Caches) {
  const std::string rule = "- {table: a, keys: ['a:{id}'], ";
  EXPECT_EQ(error_of(rule + "caches: []}"), "rules.yaml:1:40: 'caches': expected at least one cache, got an empty list");
  EXPECT_EQ(error_of(rule + "caches: [eu, '']}"),
            "rules.yaml:1:45: 'caches': expected the name of a cache, got an empty one");
  EXPECT_EQ(error_of(rule + "caches: [eu, eu]}"), "rules.yaml:1:45: 'caches': 'eu' is given twice");
}

TEST(RuleErrors, AnAuditIsReadStrictly) {
  const std::string rule = "- {table: a, keys: ['a:{id}'], audit: ";
  EXPECT_EQ(error_of(rule + "{compare: json}}"), "rules.yaml:1:39: missing setting 'query' in 'audit'");
  EXPECT_EQ(error_of(rule + "{query: ' ; '}}"), "rules.yaml:1:47: 'query': expected a SELECT of 1 to 16384 bytes, got ' ; '");
  EXPECT_EQ(error_of(rule + "{query: 'select $1', compare: yaml}}"),
            "rules.yaml:1:69: 'compare': expected 'text' or 'json', got 'yaml'");
  EXPECT_EQ(error_of(rule + "{query: 'select $1', compare: {}}}"),
            "rules.yaml:1:69: 'compare': expected 1 to 64 paths with their columns, got 0\nhint: write compare: {price: "
            "price_cents}");
  EXPECT_EQ(error_of(rule + "{query: 'select $1', compare: {a..b: c}}}"),
            "rules.yaml:1:70: 'compare': expected a path of names with dots between them and a column, got 'a..b: c'");
  EXPECT_EQ(error_of(rule + "{query: 'select 1 from a where $2 and $1'}}"),
            "rules.yaml:1:47: 'query': expected 1 parameter, got 2: an array of texts for each column of the key 'a:{id}' "
            "(id)\nhint: write where id = any($1), or for two columns: where (a, b) in (select * from unnest($1::int[], "
            "$2::text[]))");
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id}', 'b:{id}'], audit: {query: 'select $1'}}"),
            "rules.yaml:1:57: 'audit': expected a rule with one key, got 2\nhint: the query answers with one value: give "
            "each key a rule of its own");
}

TEST(RuleErrors, YamlErrorsAreThoseOfTheReader) {
  EXPECT_EQ(error_of("- table: a\n  keys: [x]\n  keys: [y]\n"),
            "rules.yaml:3:3: duplicate setting 'keys'\nhint: it was given before, in line 2");
}

}  // namespace
}  // namespace evictd
