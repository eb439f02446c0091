// {labels.*}: one key or tag for each element of an array.
#include <set>

#include "mapping/array_text.h"
#include "tests/unit/mapping/support.h"
// Behind GoogleTest, which it does not include itself.
#include <rapidcheck/gtest.h>

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

Table table() { return Table("t", {"id", "labels", "doc"}, {"id", "labels", "doc"}).with_type("doc", ValueType::kJson); }
const Table kTable = table();

TEST(Elements, OfAnArrayColumn) {
  const RuleSet rules = rules_from("- {table: t, tags: ['label:{labels.*}']}");
  EXPECT_THAT(map(rules, kTable.insert({{"labels", R"({a,"b c","d\"e",NULL,"NULL"})"}})),
              ElementsAre("tag label:a", "tag label:b c", "tag label:d\"e", "tag label:NULL"));
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "{{1,2},{2,3}}"}})), ElementsAre("tag label:1", "tag label:2", "tag label:3"));
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "[0:1]={x,y}"}})), ElementsAre("tag label:x", "tag label:y"));
  EXPECT_THAT(map(rules, kTable.insert({{"labels", R"(["x","y",null,1.50,{"a": 1}])"}})),
              ElementsAre("tag label:x", "tag label:y", "tag label:1.50", "tag label:{\"a\":1}"));
  for (const char* none : {"{}", "{NULL}", "[]", "[null]"})
    EXPECT_THAT(map(rules, kTable.insert({{"labels", none}})), IsEmpty()) << none;
  EXPECT_THAT(map(rules, kTable.insert({{"labels", kNull}})), IsEmpty());
}

TEST(Elements, OfAnArrayInsideJson) {
  const RuleSet rules = rules_from("- {table: t, keys: ['{doc.kind}:sku:{doc.items.*.sku}:{id}']}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"doc", R"({"kind":"o","items":[{"sku":"a"},{"sku":"b"},{},{"sku":null}]})"}})),
              ElementsAre("key o:sku:a:1", "key o:sku:b:1"));
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"doc", R"({"kind":"o","items":{"sku":"a"}})"}})), IsEmpty());
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"doc", R"({"kind":"o"})"}})), IsEmpty());
  EXPECT_THAT(map(rules, kTable.insert({{"id", "1"}, {"doc", "{"}})), ElementsAre("missing doc: bad_value"));
}

TEST(Elements, AreReadByTheirOwnType) {
  Table typed("t", {"id", "labels"});
  Relation relation = typed.relation();
  relation.columns[1].element = ValueType::kBoolean;
  const RuleSet rules = rules_from("- {table: t, keys: ['l:{labels.*}']}");
  EXPECT_THAT(map(rules, OwnedChange(Operation::kInsert, relation).with_new({{"id", "1"}, {"labels", "{t,f}"}})),
              ElementsAre("key l:true", "key l:false"));
}

TEST(Elements, OfTheOldAndOfTheNewRowGo) {
  const RuleSet rules = rules_from("- {table: t, tags: ['label:{labels.*}']}");
  EXPECT_THAT(map(rules, kTable.update({{"id", "1"}, {"labels", "{a,b}"}}).from({{"id", "1"}, {"labels", "{b,c}"}})),
              UnorderedElementsAre("tag label:a", "tag label:b", "tag label:c"));
  EXPECT_THAT(map(rules, kTable.truncate()), ElementsAre("purge tag:label:*"));
}

TEST(Elements, FiltersAreAppliedToEach) {
  const RuleSet rules = rules_from(R"(- {table: t, keys: ["l:{labels.*|lower|default('none')}", "d:{labels.*|date('%Y')}"]})");
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "{A,NULL,2024-01-02}"}})),
              ElementsAre("key l:a", "key l:none", "key l:2024-01-02", "key d:2024", "missing labels: bad_value"));
}

TEST(Elements, OthersThatAreMissingNullOrStrangeCountAsAlways) {
  const RuleSet rules = rules_from("- {table: t, keys: ['l:{labels.*}:{id}']}");
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "{a}"}})), ElementsAre("missing id: not_sent", "purge l:*:*"));
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "{}"}})), IsEmpty());
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "{a}"}, {"id", kNull}})), IsEmpty());
  EXPECT_THAT(map(rules, kTable.insert({{"labels", kUnchanged}, {"id", "1"}})),
              ElementsAre("missing labels: unchanged_toast", "purge l:*:*"));
  EXPECT_THAT(map(rules, kTable.insert({{"labels", "{" + std::string(kKeyBytesMax, 'x') + ",y}"}, {"id", "1"}})),
              ElementsAre("key l:y:1", "missing labels: too_long"));
  for (const char* broken : {"{a", "{a,}", "{\"a\"b}", "{a}}", "{", "", "x", "[1:2]{a}", "{{{{{{{a}}}}}}}"})
    EXPECT_THAT(map(rules, kTable.insert({{"labels", broken}, {"id", "1"}})), testing::Contains("missing labels: bad_value"))
        << broken;
}

TEST(Elements, AMillionOfThemAreMappedInBoundedMemory) {
  const RuleSet rules = rules_from("- {table: t, keys: ['l:{labels.*}']}");
  std::string labels = "{";
  for (int i = 0; i < 200'000; ++i) labels += std::to_string(i) + ",";
  labels.back() = '}';
  const std::vector<std::string> entries = map(rules, kTable.insert({{"labels", labels}}));
  EXPECT_GE(entries.size(), 200'000u);
  EXPECT_EQ(std::set<std::string>(entries.begin(), entries.end()).size(), 200'000u);
}

TEST(Elements, OneStarInATemplate) {
  EXPECT_EQ(error_of("- {table: t, keys: ['l:{labels.*}:{other.*}']}"),
            "rules.yaml:1:21: key 'l:{labels.*}:{other.*}': expected one '*' in a template, got another\nhint: each row would have a "
            "key for each pair of elements");
  EXPECT_EQ(error_of("- {table: t, keys: ['l:{labels.*.*}']}"),
            "rules.yaml:1:21: key 'l:{labels.*.*}': expected one '*' in a path, got another\nhint: each row would have a key for "
            "each pair");
}

RC_GTEST_PROP(ArrayTexts, AreReadAsPostgresWritesThem, ()) {
  const auto texts = *rc::gen::container<std::vector<std::string>>(
      rc::gen::element<std::string>("a", "", "NULL", "null", "b c", "{", "}", ",", "\"", "\\", "é", " x "));
  std::string text = "{";
  for (const std::string& one : texts) {
    text += text.size() > 1 ? ",\"" : "\"";
    for (const char c : one) text += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    text += '"';
  }
  text += '}';
  std::vector<std::string> read;
  RC_ASSERT(for_each_element(text, [&](std::optional<std::string_view> one) { read.emplace_back(one.value_or("?")); }));
  RC_ASSERT(read == texts);
}

RC_GTEST_PROP(ArrayTexts, AnyTextIsReadOrRefused, (const std::string& text)) {
  const std::string braced = "{" + text + "}";
  (void)for_each_element(braced, [](std::optional<std::string_view>) {});
}

}  // namespace
}  // namespace evictd
