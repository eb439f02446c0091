#include "daemon/app/explain.h"

#include <gmock/gmock.h>
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
            "  held   'id' is NULL, which makes no key  rule 'public.products' (rules.yaml:2:5)\n"
            "  held   'slug' is NULL, which makes no key  rule 'public.products' (rules.yaml:2:5)\n"
            "  held   'category_id' is NULL, which makes no tag  rule 'public.products' (rules.yaml:2:5)\n"
            "nothing is deleted\n");
}

TEST(Explain, SaysWhatHoldsARuleBack) {
  const RuleSet rules = *RuleSet::parse(
      "- {name: on, table: products, on: [insert], keys: ['a:{id}']}\n"
      "- {name: changed, table: products, when_changed: [price, name], keys: ['b:{id}']}\n"
      "- {name: where, table: products, where: {status: [live, null]}, keys: ['c:{id}']}\n", "rules.yaml");
  const auto text = [&](const CommandLine& line) { return *explain(line, rules); };
  const std::string update = text(request("products", Operation::kUpdate, R"({"id": 1, "price": 2, "name": "x", "status": "draft"})",
                                          R"({"id": 1, "price": 2, "name": "x", "status": "gone"})"));
  EXPECT_EQ(update,
            "update of public.products\n"
            "  held   its 'on' does not name update  rule 'on' (rules.yaml:1:3)\n"
            "  held   'when_changed': none of its columns changed: 'price', 'name'  rule 'changed' (rules.yaml:2:3)\n"
            "  held   'where': 'status' is 'gone' in the new row; 'status' is 'draft' in the old row  rule 'where' (rules.yaml:3:3)\n"
            "nothing is deleted\n");
  // A row that leaves the condition is deleted still.
  EXPECT_THAT(text(request("products", Operation::kUpdate, R"({"id": 1, "status": "live"})", R"({"id": 1, "status": "gone"})")),
              ::testing::HasSubstr("key    c:1"));
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
            "  held   'slug' is NULL, which makes no key  rule 'public.products' (rules.yaml:2:5)\n"
            "  held   'category_id' is NULL, which makes no tag  rule 'public.products' (rules.yaml:2:5)\n"
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

TEST(Explain, NamesTheTableThatNoRuleKnows) {
  EXPECT_EQ(explained(request("product", Operation::kTruncate, "", "")),
            "no rule names the table 'public.product'\nhint: did you mean 'public.products'?");
}

}  // namespace
}  // namespace evictd
