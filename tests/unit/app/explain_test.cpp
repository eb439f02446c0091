#include "daemon/app/explain.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

constexpr const char* kRules = R"(rules:
  - table: products
    keys: ["product:{id}", "product:slug:{slug}"]
    tags: ["category:{category_id}"]
  - table: settings
    name: all-settings
    purge: ["config:*"]
  - table: documents
    keys: ["document:{id}:{meta.lang}"]
    on_missing: ignore
)";

std::string explained(CommandLine request) {
  const Result<RuleSet> rules = RuleSet::parse(kRules, "rules.yaml");
  EXPECT_TRUE(rules) << rules.error().to_string();
  const Result<std::string> text = explain(request, *rules);
  if (text) return *text;
  EXPECT_EQ(text.error().kind, ErrorKind::kUsage);
  return text.error().to_string();
}

CommandLine request(const std::string& table, Operation operation, const std::string& old_row,
                    const std::string& new_row) {
  CommandLine made;
  made.table = table;
  made.operation = operation;
  made.old_row = old_row;
  made.new_row = new_row;
  return made;
}

TEST(Explain, AnUpdateDropsOldAndNewKeys) {
  EXPECT_EQ(explained(request("products", Operation::kUpdate,
                              R"({"id": 1, "slug": "blue", "category_id": 5})",
                              R"({"id": 1, "slug": "red", "category_id": 5})")),
            "update of public.products\n"
            "  key    product:1          rule 'public.products' (rules.yaml:2:5)\n"
            "  key    product:slug:red   rule 'public.products' (rules.yaml:2:5)\n"
            "  key    product:slug:blue  rule 'public.products' (rules.yaml:2:5)\n"
            "  tag    category:5         rule 'public.products' (rules.yaml:2:5)\n"
            "4 invalidations\n");
}

TEST(Explain, WhatIsLookedUpIsTold) {
  const Result<RuleSet> rules = RuleSet::parse(R"(- table: prices
  via:
    variant: {table: variants, match: {id: variant_id}}
    product: {table: shop.products, match: {id: variant.product_id}}
  keys: ["product:{product.slug}:page", "price:{id}"]
)", "rules.yaml");
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(*explain(request("prices", Operation::kInsert, "", R"({"id": 1, "variant_id": 7})"), *rules),
            "insert of public.prices\n"
            "  key    price:1  rule 'public.prices' (rules.yaml:1:3)\n"
            "  lookup public.variants where id = '7', then shop.products where id = its product_id: product:{product.slug}:page  rule "
            "'public.prices' (rules.yaml:1:3)\n"
            "1 invalidation, and what the lookups find\n");
  // A joined table's own change.
  EXPECT_EQ(*explain(request("variants", Operation::kInsert, "", R"({"id": 7, "product_id": 3})"), *rules),
            "insert of public.variants\n"
            "  lookup shop.products where id = '3': product:{product.slug}:page  rule 'public.prices via variant' (rules.yaml:3:5)\n"
            "what the lookups find is deleted\n");
}

// What a lookup finds, as the database would answer: so many rows with a slug each.
LookupAnswer found_slugs(const std::vector<std::optional<std::string>>& slugs) {
  LookupAnswer answer;
  answer.outcome = LookupAnswer::Outcome::kFound;
  Column slug;
  slug.name = "slug";
  answer.found.columns.push_back(slug);
  for (const auto& text : slugs) answer.rows.push_back({0, {text}});
  return answer;
}

// The page of a price's product, with the lookup's answer.
std::string joined_text(const std::string& more, const LookupAnswer& answer, std::vector<std::string>* asked = nullptr,
                        const std::string& old_row = R"({"id": 1, "product_id": 3})") {
  const Result<RuleSet> rules = RuleSet::parse(R"(- table: prices
  via: {product: {table: products, match: {id: product_id}}}
  keys: ["product:{product.slug}:page"]
)" + more, "rules.yaml");
  EXPECT_TRUE(rules) << rules.error().to_string();
  ExplainReceiver receiver(*rules, [&](std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) {
    EXPECT_EQ(rules->rules()[rule].lookups[lookup].steps[0].alias, "product");
    if (asked != nullptr) asked->emplace_back(values[0]);
    return answer;
  });
  Result<ExplainedChange> change = ExplainedChange::make(request("prices", Operation::kUpdate, old_row, R"({"id": 1, "product_id": 3})"), *rules);
  EXPECT_TRUE(change) << change.error().to_string();
  Mapper mapper(*rules);
  mapper.map(change->change(), receiver);
  return explain_text("a row", receiver);
}

constexpr const char* kJoinedRule = "  rule 'public.prices' (rules.yaml:1:3)\n";
const std::string kJoinedLookup = std::string("a row\n  lookup public.products where id = '3': product:{product.slug}:page") + kJoinedRule;

TEST(Explain, WhatALookupFoundStandsBehindIt) {
  std::vector<std::string> asked;
  EXPECT_EQ(joined_text("", found_slugs({"red", std::nullopt, "blue", "red"}), &asked),
            kJoinedLookup +
                "  joined public.products slug=red\n"
                "  key    product:red:page " + kJoinedRule +
                "  joined public.products slug=NULL\n"
                "  joined public.products slug=blue\n"
                "  key    product:blue:page" + kJoinedRule +
                "  joined public.products slug=red\n"
                "  note   column 'slug' gives NULL or nothing: there is no such key" + kJoinedRule +
                "2 invalidations\n");
  EXPECT_EQ(asked, std::vector<std::string>{"3"});  // the old and the new row lead there: asked once
}

TEST(Explain, ALookupThatFindsNothingSaysSo) {
  EXPECT_EQ(joined_text("", found_slugs({})),
            kJoinedLookup + "  note   no row of public.products is there now: no key" + kJoinedRule + "nothing is deleted\n");
}

TEST(Explain, BothRowsOfAnUpdateAreLookedUp) {
  std::vector<std::string> asked;
  joined_text("", found_slugs({"red"}), &asked, R"({"id": 1, "product_id": 4})");
  EXPECT_EQ(asked, (std::vector<std::string>{"3", "4"}));
}

TEST(Explain, MoreRowsThanFanOutPurge) {
  const LookupAnswer three = found_slugs({"a", "b", "c"});
  EXPECT_EQ(joined_text("  fan_out: 2\n", three),
            kJoinedLookup + "  note   it leads to more than 2 rows (fan_out); on_overflow: purge" + kJoinedRule +
                "  purge  product:*:page" + kJoinedRule + "1 invalidation\n");
  EXPECT_EQ(joined_text("  fan_out: 2\n  on_overflow: stop\n", three),
            kJoinedLookup + "  note   it leads to more than 2 rows (fan_out); on_overflow: stop, evictd would end here" + kJoinedRule +
                "nothing is deleted\n");
}

TEST(Explain, AFailedLookupSaysWhyAndWhatIsPurged) {
  LookupAnswer failed;
  failed.problem = "permission denied for table products";
  EXPECT_EQ(joined_text("", failed),
            kJoinedLookup + "  note   the lookup fails: permission denied for table products; evictd purges its patterns" + kJoinedRule +
                "  purge  product:*:page" + kJoinedRule + "1 invalidation\n");
}

TEST(Explain, OfManyJoinedRowsTheFirstAreShownAndAllAreCounted) {
  std::vector<std::optional<std::string>> slugs;
  for (int i = 0; i < 130; ++i) slugs.emplace_back(fmt::format("s{}", i / 2));  // each twice
  const std::string text = joined_text("", found_slugs(slugs));
  EXPECT_NE(text.find("  key    product:s49:page"), std::string::npos) << text;
  EXPECT_EQ(text.find("product:s50:page"), std::string::npos) << text;
  EXPECT_NE(text.find("  note   and 30 more rows of public.products, with 15 more invalidations"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\n65 invalidations\n")) << text;
}

TEST(Explain, ValuesThatAreNotGivenAreNotSent) {
  EXPECT_EQ(explained(request("public.products", Operation::kDelete,
                              R"({"id": 12345678901234567890})", "")),
            "delete of public.products\n"
            "  key    product:12345678901234567890  rule 'public.products' (rules.yaml:2:5)\n"
            "  note   the value of column 'slug' is not sent; on_missing: purge  rule "
            "'public.products' (rules.yaml:2:5)\n"
            "  purge  product:slug:*                rule 'public.products' (rules.yaml:2:5)\n"
            "  note   the value of column 'category_id' is not sent; on_missing: purge  rule "
            "'public.products' (rules.yaml:2:5)\n"
            "  purge  tag:category:*                rule 'public.products' (rules.yaml:2:5)\n"
            "3 invalidations\n");
}

TEST(Explain, AnUpdateWithoutAnOldRowLeftTheIdentityAsItWas) {
  EXPECT_EQ(explained(request("documents", Operation::kUpdate, "",
                              R"({"id": 7, "meta": {"lang": "de"}})")),
            "update of public.documents\n"
            "  key    document:7:de  rule 'public.documents' (rules.yaml:8:5)\n"
            "  note   the value of column 'meta' is not sent; on_missing: ignore, nothing is "
            "deleted for it  rule 'public.documents' (rules.yaml:8:5)\n"
            "1 invalidation\n");
}

TEST(Explain, PurgeAndTruncate) {
  EXPECT_EQ(explained(request("settings", Operation::kInsert, "", R"({"name": "x"})")),
            "insert of public.settings\n"
            "  purge  config:*  rule 'all-settings' (rules.yaml:5:5)\n"
            "1 invalidation\n");
  EXPECT_EQ(explained(request("products", Operation::kTruncate, "", "")),
            "truncate of public.products\n"
            "  purge  product:*       rule 'public.products' (rules.yaml:2:5)\n"
            "  purge  product:slug:*  rule 'public.products' (rules.yaml:2:5)\n"
            "  purge  tag:category:*  rule 'public.products' (rules.yaml:2:5)\n"
            "3 invalidations\n");
}

TEST(Explain, NullMakesNoKey) {
  EXPECT_EQ(explained(request("products", Operation::kInsert, "",
                              R"({"id": null, "slug": null, "category_id": null})")),
            "insert of public.products\n"
            "  note   column 'id' gives NULL or nothing: there is no such key  rule 'public.products' (rules.yaml:2:5)\n"
            "  note   column 'slug' gives NULL or nothing: there is no such key  rule 'public.products' (rules.yaml:2:5)\n"
            "  note   column 'category_id' gives NULL or nothing: there is no such key  rule 'public.products' (rules.yaml:2:5)\n"
            "nothing is deleted\n");
}

std::string explained_by(const std::string& text, CommandLine request) {
  const Result<RuleSet> rules = RuleSet::parse(text, "rules.yaml");
  EXPECT_TRUE(rules) << rules.error().to_string();
  const Result<std::string> answer = explain(request, *rules);
  return answer ? *answer : answer.error().to_string();
}

TEST(Explain, NamesTheConditionThatHeldARuleBack) {
  const std::string rules =
      "- {table: t, keys: ['a:{id}'], where: {id: [1, 2], live: True}}\n"
      "- {table: t, keys: ['b:{id}'], when_changed: [body]}\n"
      "- {table: t, keys: ['c:{id}'], ignore_changed: [seen]}\n"
      "- {table: t, keys: ['d:{id}'], on: [delete]}\n"
      "- {table: t, keys: ['e:{id}'], where: {stock: {crosses: 0}}}\n";
  const std::string row = R"({"id": 1, "live": true, "body": null, "seen": 1, "stock": 5})";
  EXPECT_EQ(explained_by(rules, request("t", Operation::kUpdate, row, row)),
            "update of public.t\n"
            "  note   'where' does not hold: column 'live' is 'true'  rule 'public.t' (rules.yaml:1:3)\n"
            "  note   no column of 'when_changed' changed  rule 'public.t#2' (rules.yaml:2:3)\n"
            "  note   no column but those of 'ignore_changed' changed  rule 'public.t#3' (rules.yaml:3:3)\n"
            "  note   'on' does not name this operation  rule 'public.t#4' (rules.yaml:4:3)\n"
            "  note   'where' does not hold: column 'stock' does not cross its bound  rule 'public.t#5' (rules.yaml:5:3)\n"
            "nothing is deleted\n");
}

// What pgoutput writes: the old row by the replica identity, and none of an update that leaves it alone.
TEST(Explain, OldValuesOutsideTheReplicaIdentityAreNotSent) {
  Relation relation;
  relation.columns = {{"id", ValueType::kText, true}, {"slug", ValueType::kText, false}};
  const auto row_of = [](std::string_view id, std::string_view slug) {
    return std::vector<Value>{{ValueState::kText, id}, {ValueState::kText, slug}};
  };
  const auto shown = [](const std::vector<Value>& row) {
    std::string text;
    for (const Value& value : row) text += value.state == ValueState::kText ? "[" + std::string(value.text) + "]" : "-";
    return text;
  };
  const std::vector<Value> row = row_of("1", "a");
  EXPECT_EQ(shown(sent_old_row(relation, row, {})), "[1]-") << "a delete";
  EXPECT_EQ(shown(sent_old_row(relation, row, row_of("1", "b"))), "");
  EXPECT_EQ(shown(sent_old_row(relation, row, row_of("2", "a"))), "[1]-");
  relation.columns[1].in_identity = true;  // FULL
  EXPECT_EQ(shown(sent_old_row(relation, row, {})), "[1][a]");
  EXPECT_EQ(shown(sent_old_row(relation, row, row)), "[1][a]");
  relation.columns[0].in_identity = relation.columns[1].in_identity = false;
  EXPECT_EQ(shown(sent_old_row(relation, row, {})), "--");
}

TEST(Explain, DoubtsAColumnThatLooksMisspelled) {
  EXPECT_EQ(explained(request("products", Operation::kInsert, "", R"({"id": 1, "slgu": "x", "category_id": 2, "price": 3})")),
            "insert of public.products\n"
            "  key    product:1       rule 'public.products' (rules.yaml:2:5)\n"
            "  note   the value of column 'slug' is not sent; on_missing: purge  rule 'public.products' (rules.yaml:2:5)\n"
            "  purge  product:slug:*  rule 'public.products' (rules.yaml:2:5)\n"
            "  tag    category:2      rule 'public.products' (rules.yaml:2:5)\n"
            "  note   no rule reads column 'slgu': did you mean 'slug'?\n"
            "3 invalidations\n");
}

TEST(Explain, DoubtsAColumnOfTheIdentityThatIsNowhere) {
  CommandLine one = request("products", Operation::kUpdate, "", R"({"id": 1, "slug": "x", "category_id": 2, "price": 3})");
  one.identity = {"id", "slgu", "tenant"};
  const std::string text = explained(one);
  EXPECT_NE(text.find("  note   no row has column 'slgu' of the identity, and no rule reads it: did you mean 'slug'?\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  note   no row has column 'tenant' of the identity, and no rule reads it: it decides nothing here\n"), std::string::npos) << text;
  EXPECT_EQ(explained_by("- {table: t, keys: ['a:{nr}']}\n", request("t", Operation::kInsert, "", R"({"nr": 1})")).find("identity"), std::string::npos);
}

TEST(Explain, TablesAreNamedAsInRules) {
  const std::string rules = R"(- {table: '"app.v1".orders', keys: ['o:{id}']})" "\n" R"(- {table: '"a""b"', keys: ['q:{id}']})" "\n";
  for (const char* name : {R"("app.v1".orders)", R"("app.v1"."orders")", "app.v1.orders"}) {
    EXPECT_EQ(explained_by(rules, request(name, Operation::kInsert, "", R"({"id": 1})")),
              "insert of app.v1.orders\n  key    o:1  rule 'app.v1.orders' (rules.yaml:1:3)\n1 invalidation\n")
        << name;
  }
  EXPECT_EQ(explained_by(rules, request(R"("a""b")", Operation::kInsert, "", R"({"id": 1})")),
            "insert of public.a\"b\n  key    q:1  rule 'public.a\"b' (rules.yaml:2:3)\n1 invalidation\n");
  EXPECT_EQ(explained_by(rules, request(R"("app.v1".order)", Operation::kTruncate, "", "")),
            "no rule names the table '\"app.v1\".order'\nhint: did you mean '\"app.v1\".orders'?");
}

TEST(Explain, AValueThatGivesNoKeyIsANoteAndNothingElse) {
  EXPECT_EQ(explained(request("documents", Operation::kInsert, "", R"({"id": 7, "meta": "{"})")),
            "insert of public.documents\n"
            "  note   the value of column 'meta' is not what the template expects; it has no key, so nothing is deleted for "
            "it  rule 'public.documents' (rules.yaml:8:5)\n"
            "nothing is deleted\n");
  EXPECT_EQ(explained(request("documents", Operation::kInsert, "",
                              R"({"id": 7, "meta": {"lang": ")" + std::string(70'000, 'x') + "\"}}")),
            "insert of public.documents\n"
            "  note   the value of column 'meta' makes a key longer than 65536 bytes; it has no key, so nothing is deleted for "
            "it  rule 'public.documents' (rules.yaml:8:5)\n"
            "nothing is deleted\n");
}

TEST(Explain, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(explained(request("products", Operation::kInsert, "",
                              R"({"id": "\u001b[2J", "slug": null, "category_id": null})")),
            "insert of public.products\n"
            "  key    product:\\x1b[2J  rule 'public.products' (rules.yaml:2:5)\n"
            "  note   column 'slug' gives NULL or nothing: there is no such key  rule 'public.products' (rules.yaml:2:5)\n"
            "  note   column 'category_id' gives NULL or nothing: there is no such key  rule 'public.products' (rules.yaml:2:5)\n"
            "1 invalidation\n");
}

TEST(Explain, RefusesWhatIsNoRow) {
  const std::string hint = "\nhint: for example '{\"id\": 1, \"slug\": \"blue\"}'";
  for (const char* row :
       {"[1]", "{", "1", "{\"id\": }", "nothing", "{\"id\": tru}", "{\"id\": 1x}"}) {
    EXPECT_EQ(explained(request("products", Operation::kInsert, "", row)),
              "'--new': expected a JSON object" + hint)
        << row;
  }
  EXPECT_EQ(explained(request("products", Operation::kInsert, "", R"({"id": 1} {"id": 2})")),
            "'--new': expected one JSON object, got more text after it" + hint);
  EXPECT_EQ(explained(request("products", Operation::kDelete, R"({"id": 1, "id": 2})", "")),
            "'--old': column 'id' is given twice" + hint);
}

TEST(Explain, TablesOfSeveralRulesAreNamedOnce) {
  const Result<RuleSet> rules = RuleSet::parse("[{table: a, keys: ['a:{id}']}, {table: b, keys: ['b:{id}']}, {table: a, keys: ['c:{id}']}]", "rules.yaml");
  ASSERT_TRUE(rules);
  EXPECT_EQ(find_mapped_table(*rules, "elsewhere").error().hint, "known tables: 'public.a', 'public.b'");
}

TEST(Explain, ElementsOfAnArrayAreTakenFromBothOfItsTexts) {
  const Result<RuleSet> rules = RuleSet::parse("- {table: a, keys: ['a:{labels.*}']}", "rules.yaml");
  ASSERT_TRUE(rules);
  const auto text = [&](const std::string& labels) { return *explain(request("a", Operation::kInsert, "", "{\"labels\": " + labels + "}"), *rules); };
  EXPECT_NE(text(R"(["x","y z"])").find("a:y z"), std::string::npos);
  EXPECT_EQ(text(R"("{x,\"y z\"}")"), text(R"(["x","y z"])"));
}

TEST(Explain, NamesTheTableThatNoRuleKnows) {
  EXPECT_EQ(explained(request("product", Operation::kTruncate, "", "")),
            "no rule names the table 'public.product'\nhint: did you mean 'public.products'?");
}

}  // namespace
}  // namespace evictd
