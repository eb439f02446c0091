// `semantic:` in a rule: what a row orders of an index of vectors.
#include "mapping/semantic.h"

#include <cmath>
#include <cstring>

#include "tests/unit/mapping/support.h"
// Behind GoogleTest, which it does not include itself.
#include <rapidcheck/gtest.h>

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<float> parsed(std::string_view text) {
  std::string floats;
  if (!parse_vector(text, floats)) {
    EXPECT_TRUE(floats.empty());
    return {};
  }
  std::vector<float> numbers(floats.size() / sizeof(float));
  std::memcpy(numbers.data(), floats.data(), floats.size());
  return numbers;
}

TEST(Vectors, OfPgvectorArraysAndJson) {
  EXPECT_THAT(parsed("[1,2.5,-3e-2]"), ElementsAre(1.0F, 2.5F, -0.03F));
  EXPECT_THAT(parsed("{1,2.5,-0.03}"), ElementsAre(1.0F, 2.5F, -0.03F));
  EXPECT_THAT(parsed("[0:1]={1,2}"), ElementsAre(1.0F, 2.0F));
  EXPECT_THAT(parsed(" [ 1 , 2.5E0 ]\n"), ElementsAre(1.0F, 2.5F));
  EXPECT_THAT(parsed("[1e-14,0,1e-40]"), ElementsAre(1e-14F, 0.0F, 1e-40F));
}

TEST(Vectors, WhatIsNone) {
  for (const char* text : {"", "[]", "{}", "[", "1,2", "[1,2", "[1,,2]", "[1,2,]", "[,1]", "[1 2]", "[a]", "{1,NULL}", "[1,null]", "[[1,2]]",
                           "{{1},{2}}", "[NaN]", "[inf]", "[1e39]", "[1e999]", "[0,0,-0]", "[1e-16,0]", "[1e16,1]", "{1:0.5,3:1}/5", "[1]x", "[\"1\"]", "(1,2)"}) {
    EXPECT_THAT(parsed(text), IsEmpty()) << text;
  }
  std::string many = "[1";
  for (std::size_t i = 1; i < kVectorDimensionsMax; ++i) many += ",1";
  EXPECT_EQ(parsed(many + "]").size(), kVectorDimensionsMax);
  EXPECT_THAT(parsed(many + ",1]"), IsEmpty());
}

TEST(Vectors, TheirCosine) {
  std::string a;
  std::string b;
  ASSERT_TRUE(parse_vector("[3,0]", a) && parse_vector("[5,5]", b));
  EXPECT_NEAR(cosine(a, b), std::sqrt(0.5), 1e-6);
  EXPECT_NEAR(cosine(a, a), 1, 1e-6);
}

const Table kTable("documents", {"id", "tenant", "embedding"}, {"id", "tenant", "embedding"});

const char* const kNear =
    "- {table: documents, semantic: [{index: answers, near: embedding, min_similarity: 0.85, where: {tenant: 't{tenant}'}}]}";

TEST(Semantic, ByAttributeOfTheOldAndTheNewRow) {
  const RuleSet rules = rules_from("- {table: documents, semantic: [{index: 'llm:answers', where: {source: 'doc:{id}'}}]}");
  EXPECT_THAT(map(rules, kTable.insert({{"id", "17"}})), ElementsAre("semantic llm:answers where source = 'doc:17'"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "18"}}).from({{"id", "17"}})),
              ElementsAre("semantic llm:answers where source = 'doc:18'", "semantic llm:answers where source = 'doc:17'"));
  EXPECT_THAT(map(rules, kTable.update({{"id", "17"}}).from({{"id", "17"}})), ElementsAre("semantic llm:answers where source = 'doc:17'"));
  EXPECT_THAT(map(rules, kTable.insert({{"id", kNull}})), IsEmpty()) << "no answer is made from a row without that value";
  EXPECT_THAT(map(rules, kTable.truncate()), ElementsAre("purge llm:answers"));
}

TEST(Semantic, BySimilarityToTheOldAndTheNewVector) {
  const RuleSet rules = rules_from(kNear);
  EXPECT_THAT(map(rules, kTable.update({{"tenant", "1"}, {"embedding", "[1,2]"}}).from({{"tenant", "2"}, {"embedding", "[1,2,3]"}})),
              ElementsAre("semantic answers where tenant = 't1', within 0.85 of embedding (2 dimensions)",
                          "semantic answers where tenant = 't2', within 0.85 of embedding (3 dimensions)"));
  EXPECT_THAT(map(rules, kTable.insert({{"tenant", kNull}, {"embedding", "[1,2]"}})),
              ElementsAre("semantic answers, within 0.85 of embedding (2 dimensions)"))
      << "NULL names no tenant, so every one may be meant";
}

TEST(Semantic, AVectorThatIsNotKnownIsNeverPassedOver) {
  const std::string all = "semantic answers where tenant = 't1', every vector: the row's own is not known";
  const RuleSet rules = rules_from(kNear);
  for (const char* none : {"[]", "hello", "[0,0]"}) {
    EXPECT_THAT(map(rules, kTable.insert({{"tenant", "1"}, {"embedding", none}})), ElementsAre("missing embedding: no_vector", all)) << none;
  }
  EXPECT_THAT(map(rules, kTable.insert({{"tenant", "1"}, {"embedding", kNull}})), ElementsAre("missing embedding: no_vector", all));
  EXPECT_THAT(map(rules, kTable.insert({{"tenant", "1"}})), ElementsAre("missing embedding: no_vector", all));
  const Table other("documents", {"id", "tenant"}, {"id"});
  EXPECT_THAT(map(rules, other.insert({{"tenant", "1"}})), ElementsAre("missing embedding: no_vector", all));
  EXPECT_THAT(map(rules, kTable.insert({{"embedding", "[1,2]"}})), ElementsAre("missing tenant: not_sent", "purge answers"));
  for (const char* on_missing : {"ignore", "stop"}) {
    const RuleSet others = rules_from(std::string(kNear).insert(std::strlen(kNear) - 1, std::string(", on_missing: ") + on_missing));
    EXPECT_THAT(map(others, kTable.insert({{"tenant", "1"}, {"embedding", kNull}})), ElementsAre("missing embedding: no_vector")) << on_missing;
  }
}

RC_GTEST_PROP(Semantic, NoValueEndsEarlyOrBeginsAnother, ()) {
  const RuleSet rules = rules_from(
      "- {table: documents, semantic: [{index: i, near: embedding, min_similarity: 0.5, where: {a: 'x{id}', b: '{tenant}'}}]}");
  class Keeper final : public Journal {
   public:
    using Journal::Journal;
    void semantic(std::uint32_t, std::string_view order) override { orders.emplace_back(order); }
    std::vector<std::string> orders;
  };
  const auto text = rc::gen::container<std::string>(rc::gen::oneOf(rc::gen::elementOf(std::string("\x1b\x1e\x1f;>?a")), rc::gen::nonZero<char>()));
  const std::string id = *text;
  const std::string tenant = *text;
  const std::vector<float> vector = *rc::gen::nonEmpty(rc::gen::container<std::vector<float>>(rc::gen::map(rc::gen::arbitrary<int>(), [](int i) {
    return static_cast<float>(i) + 0.5F;
  })));
  std::string written = "[";
  for (const float number : vector) written += (written.size() == 1 ? "" : ",") + std::to_string(number);
  Keeper keeper(rules);
  const OwnedChange change = kTable.insert({{"id", id}, {"tenant", tenant}, {"embedding", written + "]"}});
  Mapper(rules).map(change.change(), keeper);
  RC_ASSERT(keeper.orders.size() == 1U);
  const auto order = read_semantic_order(keeper.orders[0], rules.rules()[0].semantic);
  RC_ASSERT(order.has_value());
  RC_ASSERT(order->values[0] == "x" + id);
  RC_ASSERT(order->values[1] == tenant);
  RC_ASSERT(order->vector.size() == vector.size() * sizeof(float));
}

TEST(Semantic, WhatIsRefused) {
  const auto error = [](const std::string& entry, const std::string& more = "") {
    return error_of("- {table: a, semantic: [{" + entry + "}]" + more + "}");
  };
  EXPECT_EQ(error_of("- {table: a, semantic: []}"),
            "rules.yaml:1:24: 'semantic': expected a list of orders, got an empty list\n"
            "hint: write semantic: [{index: \"llm:answers\", where: {source: \"doc:{id}\"}}]");
  EXPECT_EQ(error("where: {a: b}"), "rules.yaml:1:25: missing setting 'index' in 'semantic'");
  EXPECT_EQ(error("index: i"), "rules.yaml:1:25: 'semantic': expected 'where', 'near' or both\n"
                               "hint: where: {source: \"doc:{id}\"} finds elements by an attribute, near: embedding by similarity");
  EXPECT_EQ(error("index: 'i:{id}', where: {a: b}"), "rules.yaml:1:33: 'index': braces are not supported, got 'i:{id}'\n"
                                                     "hint: one index per entry; tenants in one index are told apart by 'where'");
  EXPECT_EQ(error("index: i, near: v"), "rules.yaml:1:25: missing setting 'min_similarity' in 'semantic'");
  EXPECT_EQ(error("index: i, near: v, min_similarity: 1.5"),
            "rules.yaml:1:61: 'min_similarity': expected a cosine from -1 to 1, got '1.5'\nhint: such as 0.85");
  EXPECT_EQ(error("index: i, where: {a: b}, limit: 5"), "rules.yaml:1:51: 'limit' has no effect without 'near'");
  EXPECT_EQ(error("index: i, where: {'a.b': c}"),
            "rules.yaml:1:44: 'where': expected an attribute's name of letters, digits and '_', at most 64 bytes, got 'a.b'\n"
            "hint: filters of vector sets reach the top level of an element's JSON, and nothing below it");
  EXPECT_EQ(error("index: i, where: {a: b}, keys: ['x:{id}']"),
            "rules.yaml:1:58: key 'x:{id}': expected '{element}' as its only placeholder\n"
            "hint: such a key goes with an element of the index; a key made of the row's columns belongs into the rule's own 'keys'");
  EXPECT_EQ(error("index: i, near: v, min_similarity: 0, field: f"), "rules.yaml:1:64: 'field' needs 'engine: search'\n"
                                                                     "hint: a vector set has one vector for each element");
  EXPECT_EQ(error("index: i, where: {a: b}", ", fill: checked"),
            "rules.yaml:1:14: 'semantic' needs 'fill: plain', got 'fill: checked'\n"
            "hint: an element of an index carries no version: its second delete, after 'settle', makes it safe. Give it a rule of its own");
  EXPECT_EQ(error("index: i, where: {a: b}", ", keys: ['k:{id}'], announce: c"),
            "rules.yaml:1:14: 'semantic' and 'announce' exclude one another\n"
            "hint: elements of an index are not announced: give them a rule of their own");
}

TEST(Semantic, TheDigestKnowsWhatAnEntryMatches) {
  const auto digest = [](const std::string& entries) {
    return rules_from("- {table: a, semantic: [" + entries + "]}").rules()[0].digest;
  };
  const std::string one = "{index: i, where: {a: '{id}'}}";
  const std::string other = "{index: j, where: {a: '{id}'}}";
  EXPECT_EQ(digest(one + "," + other), digest(other + "," + one));
  EXPECT_NE(digest(one), digest(other));
  EXPECT_NE(digest(one), digest("{index: i, where: {b: '{id}'}}"));
  EXPECT_NE(digest(one), digest("{index: i, where: {a: '{id}'}, keys: ['k:{element}']}"));
  EXPECT_NE(digest("{index: i, near: v, min_similarity: 0.5}"), digest("{index: i, near: v, min_similarity: 0.6}"));
  EXPECT_EQ(digest("{index: i, near: v, min_similarity: 0.5}"), digest("{index: i, near: v, min_similarity: 0.5, limit: 7}"));
}

}  // namespace
}  // namespace evictd
