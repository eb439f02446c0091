#include "daemon/app/watch_text.h"
#include "daemon/base/plain_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

WatchedChange update() {
  WatchedChange change;
  change.commit_time = SystemTime(std::chrono::seconds(1'700'000'000));
  change.xid = 742;
  change.operation = Operation::kUpdate;
  change.table = "public.products";
  change.row = "id=1";
  change.lines = {{"key", "product:1", "shop", "rules.yaml:3:5", "filled anew if it was cached"},
                  {"tag", "category:12345", "shop", "rules.yaml:3:5"}};
  return change;
}

TEST(WatchText, IsAlignedAndNamesRowAndTransaction) {
  EXPECT_EQ(watch_text(update(), {}),
            "2023-11-14T22:13:20.000Z  update   public.products  id=1  xid 742\n"
            "    key   product:1       rule 'shop' (rules.yaml:3:5), filled anew if it was cached\n"
            "    tag   category:12345  rule 'shop' (rules.yaml:3:5)\n");
}

TEST(WatchText, SaysWhyNothingIsDeleted) {
  WatchedChange change = update();
  change.lines.clear();
  change.why_nothing = "no rule of this table is on update";
  EXPECT_EQ(watch_text(change, {}),
            "2023-11-14T22:13:20.000Z  update   public.products  id=1  xid 742\n"
            "    nothing: no rule of this table is on update\n");
}

TEST(WatchText, ColoursOnlyWhenAsked) {
  EXPECT_EQ(watch_text(update(), {}).find('\x1b'), std::string::npos);
  WatchStyle style;
  style.colour = true;
  EXPECT_NE(watch_text(update(), style).find("\x1b[31mkey  \x1b[0m product:1 "), std::string::npos);
}

TEST(WatchText, JsonIsOneObjectPerLine) {
  WatchStyle style;
  style.json = true;
  EXPECT_EQ(watch_text(update(), style),
            R"-({"commit_time":"2023-11-14T22:13:20.000Z","xid":742,"op":"update","table":"public.products","row":"id=1",)-"
            R"-("actions":[{"kind":"key","text":"product:1","rule":"shop","place":"rules.yaml:3:5","note":"filled anew if it was cached"},)-"
            R"-({"kind":"tag","text":"category:12345","rule":"shop","place":"rules.yaml:3:5"}]})-"
            "\n");
}

// What `rules` make of a new row with id 1 in public.t.
void map_insert(const RuleSet& rules, ExplainReceiver& receiver) {
  Relation relation;
  relation.generation = 1;
  relation.schema = "public";
  relation.table = "t";
  relation.columns = {Column{"id", ValueType::kText, true}};
  const std::vector<Value> row = {Value{ValueState::kText, "1"}};
  Mapper(rules).map(Change{Operation::kInsert, &relation, {}, row}, receiver);
}

TEST(WatchText, TheRuleOfAnActionIsItsNameAlone) {
  const Result<RuleSet> rules = RuleSet::parse("- {name: shop, table: t, fill: checked, refresh: {stream: anew}, keys: ['t:{id}'], tags: ['u:{id}']}\n", "rules.yaml");
  ASSERT_TRUE(rules) << rules.error().to_string();
  ExplainReceiver receiver(*rules);
  map_insert(*rules, receiver);
  WatchedChange change = update();
  change.lines = receiver.lines();
  WatchStyle style;
  style.json = true;
  const std::string json = watch_text(change, style);
  const std::string note = "told to the stream 'anew' if it was cached";
  EXPECT_NE(json.find(R"("rule":"shop","place":"rules.yaml:1:3","note":")" + note + "\"}"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("text":"u:1","rule":"shop","place":"rules.yaml:1:3"})"), std::string::npos) << json;
  EXPECT_NE(watch_text(change, {}).find("rule 'shop' (rules.yaml:1:3), " + note + "\n"), std::string::npos) << watch_text(change, {});
}

TEST(WatchText, NamesTheRowByItsIdentity) {
  Relation relation;
  relation.columns = {Column{"id", ValueType::kText, true}, Column{"name", ValueType::kText, false},
                      Column{"region", ValueType::kText, true}};
  const std::vector<Value> row = {Value{ValueState::kText, "7"}, Value{ValueState::kText, "secret"},
                                  Value{ValueState::kText, std::string_view("e\x1bu")}};
  EXPECT_EQ(row_text(Change{Operation::kInsert, &relation, {}, row}), "id=7 region=e\\x1bu");
  EXPECT_EQ(row_text(Change{Operation::kTruncate, &relation, {}, {}}), "");
}

TEST(WatchText, TheReasonsAreThoseOfTheRules) {
  const RuleSet rules = *RuleSet::parse("- {table: t, on: [delete], keys: ['t:{id}']}\n- {table: t, where: {id: 2}, keys: ['u:{id}']}\n",
                                        "rules.yaml");
  ExplainReceiver receiver(rules);
  map_insert(rules, receiver);
  EXPECT_EQ(why_nothing(receiver), "rule 'public.t' (rules.yaml:1:3): 'on' does not name this operation; "
                                   "rule 'public.t#2' (rules.yaml:2:3): 'where' does not hold: column 'id' is '1'");
}

TEST(PrintableText, EscapesWhatSteersATerminal) {
  EXPECT_EQ(printable_text("a\x1b[2J"), "a\\x1b[2J");
  EXPECT_EQ(printable_text("\xc2\x9b" "2J"), "\\xc2\\x9b2J");                // CSI in one character
  EXPECT_EQ(printable_text("\xe2\x80\xae" "abc"), "\\xe2\\x80\\xaeabc");     // right to left from here on
  EXPECT_EQ(printable_text("\xff"), "\\xff");                               // no UTF-8
  EXPECT_EQ(printable_text("gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac"), "gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac");
}

// Names of tables, columns and rules come from people.
TEST(PrintableText, NoNameSteersATerminal) {
  const std::string turn = "\xe2\x80\xae";
  WatchedChange change = update();
  change.table = "public." + turn + "stnemyap";
  change.why_nothing = "rule '" + turn + "x': \xc2\x9b" "2J";
  change.lines = {{"note", "the value of column '" + turn + "y' is not sent", turn + "rule", {}, {}}};
  EXPECT_EQ(watch_text(change, {}).find(turn), std::string::npos) << watch_text(change, {});
  EXPECT_EQ(watch_text(change, {}).find("\xc2\x9b"), std::string::npos);
  const Result<RuleSet> rules = RuleSet::parse("- {name: \"" + turn + "r\", table: \"" + turn + "t\", keys: ['t:{id}']}\n", "rules.yaml");
  ASSERT_TRUE(rules) << rules.error().to_string();
  ExplainReceiver receiver(*rules);
  map_insert(*rules, receiver);
  EXPECT_EQ(explain_text("insert of " + turn + "t", receiver, {turn}).find(turn), std::string::npos);
}

}  // namespace
}  // namespace evictd
