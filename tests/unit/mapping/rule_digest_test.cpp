// What makes a digest another one, and what does not.
#include <set>

#include "tests/unit/mapping/support.h"
// Behind GoogleTest, which it does not include itself.
#include <rapidcheck/gtest.h>

namespace evictd {
namespace {

using test::rules_from;

std::uint64_t digest_of(const std::string& rule) { return rules_from("- " + rule).rules()[0].digest; }

TEST(RuleDigest, IsTheSameOnEveryMachineAndInEveryBuild) {
  // Numbers of digests stand in the records of running caches: a change here purges every cache once.
  EXPECT_EQ(digest_of("{table: a, keys: ['a:{id}']}"), 7049881688636607120u);
  EXPECT_EQ(digest_of("{table: s.a, name: x, on: [insert, update], when_changed: [v], where: {k: [b, a, null]}, "
                      "keys: ['a:{id|lower}'], tags: ['t:{j.x}'], bump: ['n:{id}'], purge: ['p:*'], immutable: [id], "
                      "fill: checked, mode: stale, version: {column: v}, on_missing: ignore, announce: c}"),
            15436306205963612569u);
  EXPECT_EQ(rules_from("- {table: a, keys: ['a:{id}']}\n- {table: a, tags: ['t:{id}']}").table_digest("public.a"),
            837505056574423682u);
}

TEST(RuleDigest, EverythingThatDecidesWhatIsTouchedAndHowCounts) {
  const std::vector<std::string> rules = {
      "{table: a, keys: ['k:{id}']}",
      "{table: b, keys: ['k:{id}']}",
      "{table: s.a, keys: ['k:{id}']}",
      "{table: a, keys: ['k:{id}'], on: [insert, update, delete]}",
      "{table: a, keys: ['k:{id}'], where: {v: a}}",
      "{table: a, keys: ['k:{id}'], where: {w: a}}",
      "{table: a, keys: ['k:{id}'], where: {v: [a, b]}}",
      "{table: a, keys: ['k:{id}'], where: {v: 'a, b'}}",
      "{table: a, keys: ['k:{id}'], where: {v: [a, null]}}",
      "{table: a, keys: ['k:{id}'], where: {v: a, w: a}}",
      "{table: a, keys: ['k:{id}'], where: {v: {not: a}}}",
      "{table: a, keys: ['k:{id}'], where: {v: {gt: 1}}}",
      "{table: a, keys: ['k:{id}'], where: {v: {gte: 1}}}",
      "{table: a, keys: ['k:{id}'], where: {v: {gte: 1, lt: 2}}}",
      "{table: a, keys: ['k:{id}'], where: {v: {crosses: 1}}}",
      "{table: a, keys: ['k:{id}'], ignore_changed: [v]}",
      "{table: a, keys: ['k:{id.*}']}",
      "{table: a, keys: ['k:{id.\"*\"}']}",
      "{table: a, keys: ['k:{id.*.v}']}",
      "{table: a, keys: ['k:{id.v.*}']}",
      "{table: a, keys: ['k:{id}'], when_changed: [v]}",
      "{table: a, keys: ['k:{id}'], when_changed: [v, w]}",
      "{table: a, keys: ['k:{id}'], immutable: [id]}",
      "{table: a, keys: ['k:{v}']}",
      "{table: a, keys: ['l:{id}']}",
      "{table: a, keys: ['k:{id}:']}",
      "{table: a, keys: ['k:{id.v}']}",
      "{table: a, keys: ['k:{\"id.v\"}']}",
      "{table: a, keys: ['k:{id|lower}']}",
      "{table: a, keys: ['k:{id|upper}']}",
      "{table: a, keys: ['k:{id|lower|trim}']}",
      "{table: a, keys: ['k:{id|trim|lower}']}",
      "{table: a, keys: ['k:{id|default(''a'')}']}",
      "{table: a, keys: ['k:{id|default(''b'')}']}",
      "{table: a, keys: ['k:{id}', 'l:{id}']}",
      "{table: a, tags: ['k:{id}']}",
      "{table: a, bump: ['k:{id}']}",
      "{table: a, purge: ['k:*']}",
      "{table: a, purge: ['k:?']}",
      "{table: a, keys: ['k:{id}'], purge: ['k:*']}",
      "{table: a, keys: ['k:{id}'], fill: checked}",
      "{table: a, keys: ['k:{id}'], fill: checked, mode: stale}",
      "{table: a, keys: ['k:{id}'], fill: checked, version: {column: v}}",
      "{table: a, tags: ['k:{id}'], fill: checked}",
      "{table: a, tags: ['k:{id}'], fill: checked, tags_mode: lazy}",
      "{table: a, keys: ['k:{id}'], on_missing: ignore}",
      "{table: a, keys: ['k:{id}'], announce: c}",
      "{table: a, keys: ['k:{id}'], announce: d}",
  };
  std::set<std::uint64_t> digests;
  for (const std::string& rule : rules) EXPECT_TRUE(digests.insert(digest_of(rule)).second) << rule;
}

TEST(RuleDigest, NamesOrderAndPaceDoNotCount) {
  const std::uint64_t digest = digest_of("{table: a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y], w: z}, fill: checked}");
  for (const std::string same : {
           "{name: mine, table: public.a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y], w: z}, fill: checked}",
           "{keys: ['l:{ id }', 'k:{\"id\"}'], fill: checked, where: {w: [z], v: [y, x]}, table: '\"public\".a'}",
           "{table: a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y, x], w: z}, fill: checked, settle: 9s}",
           "{table: a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y], w: z}, fill: checked, collapse_after: 9}",
           "{table: a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y], w: z}, fill: checked, caches: [eu, us]}",
           "{table: a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y], w: z}, fill: checked, on_missing: stop}",
           "{table: a, keys: ['k:{id}', 'l:{id}'], where: {v: [x, y], w: z}, fill: checked, mode: delete, "
           "version: snapshot, tags_mode: members, on: [truncate, delete, update, insert]}",
       }) {
    EXPECT_EQ(digest_of(same), digest) << same;
  }
  const std::string stale = "{table: a, keys: ['k:{id}'], fill: checked, mode: stale";
  EXPECT_EQ(digest_of(stale + ", grace: 1m}"), digest_of(stale + "}"));
  EXPECT_EQ(rules_from("defaults: {fill: checked}\nrules: [{table: a, keys: ['k:{id}']}]").rules()[0].digest,
            digest_of("{table: a, keys: ['k:{id}'], fill: checked}"));
}

// What an edge knows is no concern of the other caches, nor theirs of the edge: neither is purged when the other changes.
TEST(RuleDigest, SurrogateKeysHaveOneOfTheirOwn) {
  const RuleSet keys = rules_from("- {table: a, keys: ['k:{id}']}");
  const RuleSet both = rules_from("- {table: a, keys: ['k:{id}'], surrogate_keys: ['s-{id}']}");
  const RuleSet surrogates = rules_from("- {table: a, surrogate_keys: ['s-{id}']}");
  const RuleSet others = rules_from("- {table: a, surrogate_keys: ['t-{id}']}");
  EXPECT_EQ(both.rules()[0].digest, keys.rules()[0].digest);
  EXPECT_EQ(both.rules()[0].surrogate_digest, surrogates.rules()[0].surrogate_digest);
  EXPECT_EQ(surrogates.rules()[0].digest, 0u);
  EXPECT_EQ(keys.rules()[0].surrogate_digest, 0u);
  EXPECT_NE(others.rules()[0].surrogate_digest, surrogates.rules()[0].surrogate_digest);
  EXPECT_NE(rules_from("- {table: a, surrogate_keys: ['s-{id}'], where: {id: 1}}").rules()[0].surrogate_digest,
            surrogates.rules()[0].surrogate_digest);
  EXPECT_NE(both.table_digest("public.a"), keys.table_digest("public.a"));
}

TEST(RuleDigest, OfATableIsThatOfItsRulesInAnyOrder) {
  const std::string one = "- {table: a, keys: ['k:{id}']}\n";
  const std::string other = "- {table: a, tags: ['t:{id}']}\n";
  const std::string of_b = "- {table: b, tags: ['t:{id}']}\n";
  const std::uint64_t both = rules_from(one + other).table_digest("public.a");
  EXPECT_EQ(rules_from(of_b + other + one).table_digest("public.a"), both);
  EXPECT_NE(rules_from(one).table_digest("public.a"), both);
  EXPECT_NE(rules_from(of_b).table_digest("public.b"), both);
  EXPECT_EQ(rules_from(one + one).table_digest("public.a"), rules_from(one).table_digest("public.a"));
  EXPECT_EQ(rules_from(one).table_digest("public.c"), 0u);
}

// A rule as its settings, so that one of them can be changed and their order shuffled.
struct Setting {
  std::string name;
  std::vector<std::string> items;
  bool is_map = false;
};

std::string text_of(const std::vector<Setting>& settings, const std::string& first) {
  std::string text = "{" + first;
  for (const Setting& setting : settings) {
    if (setting.items.empty()) continue;
    text += ", " + setting.name + (setting.is_map ? ": {" : ": [");
    for (const std::string& item : setting.items) text += item + ", ";
    text += setting.is_map ? "}" : "]";
  }
  return text + "}";
}

rc::Gen<std::vector<std::string>> some_of(std::vector<std::string> items, std::size_t min) {
  return rc::gen::exec([items = std::move(items), min] {
    std::vector<std::string> some = items;
    const std::size_t count = *rc::gen::inRange(min, items.size() + 1);
    while (some.size() > count) {
      some.erase(some.begin() + static_cast<std::ptrdiff_t>(*rc::gen::inRange<std::size_t>(0, some.size())));
    }
    return some;
  });
}

template <typename T>
void shuffle(std::vector<T>& items) {
  for (std::size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[*rc::gen::inRange<std::size_t>(0, i)]);
  }
}

RC_GTEST_PROP(RuleDigestProperties, AnyOrderIsTheSameAndAnyItemLessIsAnother, ()) {
  std::vector<Setting> settings = {
      {"keys", *some_of({"'k:{a}'", "'k:{b}'", "'l:{a}:{b}'"}, 0)},
      {"tags", *some_of({"'t:{a}'", "'t:{b}'"}, 0)},
      {"bump", *some_of({"n", "'n:{a}'"}, 0)},
      {"purge", *some_of({"'p:*'", "'q:?'"}, 0)},
      {"on", *some_of({"insert", "delete", "truncate"}, 1)},
      {"immutable", *some_of({"a", "b"}, 0)},
      {"where", *some_of({"a: [1, 2]", "b: null", "c: 'x'"}, 0), true},
  };
  settings[0].items.push_back("'m:{a}:{b}'");  // so that `immutable` always names a column that is used
  settings[4].items.push_back("update");
  const std::uint64_t digest = digest_of(text_of(settings, "table: t"));
  std::vector<Setting> shuffled = settings;
  for (Setting& setting : shuffled) shuffle(setting.items);
  shuffle(shuffled);
  RC_ASSERT(digest_of(text_of(shuffled, "table: public.t, name: other, settle: 3s")) == digest);

  std::vector<std::size_t> shorter;  // settings that may lose their first item
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const bool is_required = i == 0 || i == 4;
    if (settings[i].items.size() > (is_required ? 1u : 0u)) shorter.push_back(i);
  }
  RC_PRE(!shorter.empty());
  std::vector<std::string>& items = settings[*rc::gen::elementOf(shorter)].items;
  items.erase(items.begin());
  RC_ASSERT(digest_of(text_of(settings, "table: t")) != digest);
}

}  // namespace
}  // namespace evictd
