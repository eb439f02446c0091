// Rows' values in filters and queries, and what the engines answer.
#include "daemon/sinks/redis/semantic.h"

#include <gmock/gmock.h>

#include <random>

namespace evictd {
namespace {

SemanticInfo entry(SemanticEngine engine) {
  SemanticInfo info;
  info.engine = engine;
  info.index = "i";
  info.attributes = {"a"};
  return info;
}

SemanticOrder order_of(std::string value) {
  SemanticOrder order;
  order.values = {std::move(value)};
  return order;
}

std::string set_filter(const std::string& value) { return vector_set_filter(entry(SemanticEngine::kVset), order_of(value)).text; }

SearchIndex index_with(const std::string& type, const std::string& separator = ",") {
  SearchIndex index;
  index.fields["a"] = {.type = type, .separator = separator, .dimensions = 0, .metric = {}, .algorithm = {}, .data_type = {}};
  return index;
}

std::string query(const std::string& value, const std::string& type = "TAG", const std::string& separator = ",") {
  return search_filter(entry(SemanticEngine::kSearch), order_of(value), index_with(type, separator)).text;
}

TEST(SemanticFilters, OfVectorSets) {
  EXPECT_EQ(set_filter("doc:17"), R"(.a == "doc:17")");
  EXPECT_EQ(set_filter(R"(say "hi")"), R"(.a == 'say "hi"')");
  EXPECT_EQ(set_filter("it's"), R"(.a == "it's")");
  EXPECT_EQ(set_filter(R"(a\b)"), R"(.a == "a\b")");
  // JSON's escapes are left as they stand there.
  EXPECT_EQ(set_filter("\xc3\xa9"), "(.a == \"\xc3\xa9\" or .a == \"u00E9\" or .a == \"u00e9\")");
  EXPECT_EQ(set_filter("a\x1f"), "(.a == \"a\x1f\" or .a == \"au001F\" or .a == \"au001f\")");
  EXPECT_EQ(set_filter("true"), R"((.a == "true" or .a == "1"))");
  for (const std::string& value : {std::string(R"(it's "so")"), std::string("end\\"), std::string("a\0b", 3)}) {
    const SemanticFilter filter = vector_set_filter(entry(SemanticEngine::kVset), order_of(value));
    EXPECT_EQ(filter.text, "") << value;
    EXPECT_FALSE(filter.is_whole) << value;
  }
}

TEST(SemanticFilters, OfRediSearch) {
  EXPECT_EQ(query("doc:17"), R"(@a:{doc\:17})");
  EXPECT_EQ(query(" two words "), R"(@a:{two\ words})");
  EXPECT_EQ(query("} @b:{*"), R"(@a:{\}\ \@b\:\{\*})");
  EXPECT_EQ(query("x,y"), R"((@a:{x\,y} | (@a:{x} @a:{y})))");
  EXPECT_EQ(query("x,y", "TAG", "|"), R"(@a:{x\,y})");
  EXPECT_EQ(query("1.5", "NUMERIC"), "@a:[1.5 1.5]");
  EXPECT_TRUE(search_filter(entry(SemanticEngine::kSearch), order_of("one"), index_with("NUMERIC")).is_impossible);
  EXPECT_FALSE(search_filter(entry(SemanticEngine::kSearch), order_of("  "), index_with("TAG")).is_whole);
  for (const char* value : {",", ", ,", " ,\t"}) {
    const SemanticFilter filter = search_filter(entry(SemanticEngine::kSearch), order_of(value), index_with("TAG"));
    EXPECT_TRUE(filter.text.empty() && !filter.is_whole) << "'" << value << "' is indexed under no value";
  }
  EXPECT_EQ(query(",x,"), R"((@a:{\,x\,} | (@a:{x})))");
}

// As the engine reads a literal: a backslash keeps the character behind it from ending it, and stays.
std::optional<std::string> read_literal(std::string_view filter) {
  constexpr std::string_view kBefore = ".a == ";
  if (!filter.starts_with(kBefore)) return std::nullopt;
  filter.remove_prefix(kBefore.size());
  for (std::size_t i = 1; i < filter.size(); ++i) {
    if (filter[i] == '\\') {
      ++i;
    } else if (filter[i] == filter[0]) {
      if (i + 1 != filter.size()) return std::nullopt;  // something follows
      return std::string(filter.substr(1, i - 1));
    }
  }
  return std::nullopt;
}

// As the engine reads a tag: up to the first brace that is not escaped, escapes taken off.
std::optional<std::string> read_tag(std::string_view text) {
  constexpr std::string_view kBefore = "@a:{";
  if (!text.starts_with(kBefore)) return std::nullopt;
  std::string value;
  for (std::size_t i = kBefore.size(); i < text.size(); ++i) {
    if (text[i] == '}') return i + 1 == text.size() ? std::optional(value) : std::nullopt;
    if (text[i] == '\\' && ++i == text.size()) return std::nullopt;
    value += text[i];
  }
  return std::nullopt;
}

TEST(SemanticFilters, NoValueLeavesItsLiteral) {
  std::mt19937 random(20'26);
  const std::string letters = "\"'\\ab01 .,|{}()*@:$-=<>[]%~;\n\t";
  std::size_t written = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string value;
    for (std::size_t length = 1 + random() % 10; length > 0; --length) value += letters[random() % letters.size()];
    const SemanticFilter filter = vector_set_filter(entry(SemanticEngine::kVset), order_of(value));
    if (filter.is_whole) {
      ++written;
      ASSERT_EQ(read_literal(filter.text), value);
    } else {
      ASSERT_EQ(filter.text, "");
    }
    const std::string one = query(value, "TAG", "");
    if (one.empty()) continue;
    const auto tag = read_tag(one);
    ASSERT_TRUE(tag) << one;
    ASSERT_NE(value.find(*tag), std::string::npos) << one;
    ASSERT_EQ(value.find_first_not_of(" \t\n", value.find(*tag) + tag->size()), std::string::npos) << one;
  }
  EXPECT_GT(written, 100'000U);
}

TEST(SemanticAnswers, OfVinfo) {
  Reply reply;
  reply.kind = Reply::Kind::kArray;
  const auto text = [](const char* value) { return Reply{.kind = Reply::Kind::kText, .integer = 0, .text = value, .elements = {}}; };
  const auto number = [](std::int64_t value) { return Reply{.kind = Reply::Kind::kInteger, .integer = value, .text = {}, .elements = {}}; };
  reply.elements = {text("quant-type"), text("int8"), text("vector-dim"), number(384), text("projection-input-dim"), number(0), text("size"), number(7)};
  const auto read = read_vector_set(reply);
  ASSERT_TRUE(read && read->set);
  EXPECT_EQ(read->set->dimensions, 384U);
  EXPECT_EQ(read->set->size, 7U);
  EXPECT_TRUE(read->set->margin);
  reply.elements[5] = number(768);
  EXPECT_EQ(read_vector_set(reply)->set->dimensions, 768U);
  EXPECT_FALSE(read_vector_set(reply)->set->margin) << "a projection's scores are no cosines";
  reply.elements[5] = number(0);
  reply.elements[1] = text("bin");
  EXPECT_FALSE(read_vector_set(reply)->set->margin);
  EXPECT_FALSE(read_vector_set(Reply{})->set);
  reply.elements.resize(4);
  EXPECT_FALSE(read_vector_set(reply));
}

TEST(SemanticAnswers, ScoresBecomeCosines) {
  Reply reply;
  reply.kind = Reply::Kind::kArray;
  const auto text = [](const char* value) { return Reply{.kind = Reply::Kind::kText, .integer = 0, .text = value, .elements = {}}; };
  reply.elements = {text("e1"), text("1"), text("e2"), text("0.5")};
  const auto found = read_similar(reply, true);
  ASSERT_TRUE(found);
  EXPECT_DOUBLE_EQ(found->elements[0].similarity, 1);
  EXPECT_DOUBLE_EQ(found->elements[1].similarity, 0);
  reply.elements.pop_back();
  EXPECT_FALSE(read_similar(reply, true));
  EXPECT_TRUE(read_similar(reply, false));
}

// A vector of zeros, which an application may well have stored, is like nothing.
TEST(SemanticAnswers, WhatCannotBeComparedIsInDoubt) {
  const auto text = [](const char* value) { return Reply{.kind = Reply::Kind::kText, .integer = 0, .text = value, .elements = {}}; };
  const auto array = [](std::vector<Reply> elements) {
    return Reply{.kind = Reply::Kind::kArray, .integer = 0, .text = {}, .elements = std::move(elements)};
  };
  for (const char* score : {"nan", "-nan", "inf", "-inf"}) {
    const auto similar = read_similar(array({text("e1"), text(score), text("e2"), text("0.5")}), true);
    ASSERT_TRUE(similar) << score;
    EXPECT_DOUBLE_EQ(similar->elements[0].similarity, 1);
    EXPECT_DOUBLE_EQ(similar->elements[1].similarity, 0);
    EXPECT_FALSE(similar->is_ordered);
    const Reply one{.kind = Reply::Kind::kInteger, .integer = 1, .text = {}, .elements = {}};
    const auto search = read_search(array({one, text("e1"), array({text("evictd_distance"), text(score)})}), true);
    ASSERT_TRUE(search) << score;
    EXPECT_DOUBLE_EQ(search->elements[0].similarity, 1);
    EXPECT_FALSE(search->is_ordered);
  }
  EXPECT_TRUE(read_similar(array({text("e1"), text("1")}), true)->is_ordered);
}

TEST(SemanticVersions, ThatUseFreedMemory) {
  for (const char* version : {"8.0.2", "8.0.9", "8.2.3", "8.2.8", "8.4.5", "8.6.0", "8.8.1", "8.10.0"}) EXPECT_TRUE(is_removal_unsafe(version)) << version;
  for (const char* version : {"8.2.9", "8.2.10", "8.4.6", "8.6.6", "8.8.2", "8.10.1", "8.11.0", "8.12.0", "9.0.0"}) EXPECT_FALSE(is_removal_unsafe(version)) << version;
}

}  // namespace
}  // namespace evictd
