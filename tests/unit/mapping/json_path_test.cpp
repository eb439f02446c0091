#include "mapping/json_path.h"

#include <gtest/gtest.h>

#include <vector>

namespace evictd {
namespace {

// The text found, or "NULL", or "invalid".
std::string find(std::string_view json, const std::vector<std::string>& path) {
  static JsonReader reader;  // one for all: its buffers must not leak from call to call
  std::string out = ">";
  switch (reader.find(json, path, out)) {
    case JsonFound::kValue:
      return out.substr(1);
    case JsonFound::kNull:
      EXPECT_EQ(out, ">");
      return "NULL";
    case JsonFound::kInvalid:
      EXPECT_EQ(out, ">");
      return "invalid";
  }
  return "?";
}

TEST(JsonPath, FollowsNamesAndIndices) {
  EXPECT_EQ(find(R"({"a": {"b": [10, {"c": "x"}]}})", {"a", "b", "1", "c"}), "x");
  EXPECT_EQ(find(R"([[1, 2], [3, 4]])", {"1", "0"}), "3");
  EXPECT_EQ(find(R"({"0": "zero"})", {"0"}), "zero");
}

TEST(JsonPath, NumbersAreTakenAsWritten) {
  EXPECT_EQ(find(R"({"n": 9007199254740993})", {"n"}), "9007199254740993");
  EXPECT_EQ(find(R"({"n": 123456789012345678901234567890})", {"n"}),
            "123456789012345678901234567890");
  EXPECT_EQ(find(R"({"n": 1.50 })", {"n"}), "1.50");
  EXPECT_EQ(find(R"({"n": -1e-400})", {"n"}), "-1e-400");
}

TEST(JsonPath, StringsAreUnescaped) {
  EXPECT_EQ(find(R"({"s": "a\"b\\c\u00e9\n"})", {"s"}), "a\"b\\c\xc3\xa9\n");
  EXPECT_EQ(find(R"({"k\u0065y": "v"})", {"key"}), "v");
  EXPECT_EQ(find(R"({"s": ""})", {"s"}), "");
}

TEST(JsonPath, BooleansAndContainers) {
  EXPECT_EQ(find(R"({"b": true, "c": false})", {"b"}), "true");
  EXPECT_EQ(find(R"({"b": true, "c": false})", {"c"}), "false");
  EXPECT_EQ(find(R"({"o": {"x": [1, 2]}})", {"o"}), R"({"x":[1,2]})");
}

TEST(JsonPath, NothingThereIsNull) {
  EXPECT_EQ(find(R"({"a": null})", {"a"}), "NULL");
  EXPECT_EQ(find(R"({"a": 1})", {"b"}), "NULL");
  EXPECT_EQ(find(R"({"a": 1})", {"a", "b"}), "NULL");
  EXPECT_EQ(find(R"([1])", {"1"}), "NULL");
  EXPECT_EQ(find(R"([1])", {"x"}), "NULL");
  EXPECT_EQ(find(R"([1])", {"-1"}), "NULL");
  EXPECT_EQ(find("null", {"a"}), "NULL");
  EXPECT_EQ(find("\"text\"", {"a"}), "NULL");
  EXPECT_EQ(find("12345678901234567890123", {"a"}), "NULL");
  EXPECT_EQ(find("{}", {"a"}), "NULL");
  EXPECT_EQ(find("[]", {"0"}), "NULL");
}

TEST(JsonPath, OfANameGivenTwiceTheLastCounts) {
  EXPECT_EQ(find(R"({"a": 1, "a": 2})", {"a"}), "2");
  EXPECT_EQ(find(R"({"a": {"b": 1}, "a": {"c": 2}})", {"a", "b"}), "NULL");
}

TEST(JsonPath, TextThatIsNotJsonIsInvalid) {
  EXPECT_EQ(find("", {"a"}), "invalid");
  EXPECT_EQ(find("   ", {"a"}), "invalid");
  EXPECT_EQ(find("hello", {"a"}), "invalid");
  EXPECT_EQ(find("{\"a\": ", {"a"}), "invalid");
  EXPECT_EQ(find("{\"a\": 1", {"a"}), "invalid");
  EXPECT_EQ(find("{\"a\": \"x}", {"a"}), "invalid");
  EXPECT_EQ(find("{\"a\": 1x}", {"a"}), "invalid");
  EXPECT_EQ(find("{\"a\" 1}", {"a"}), "invalid");
  EXPECT_EQ(find("{\"a\": \"\xff\"}", {"a"}), "invalid");
}

// As PostgreSQL's json takes it, and jsonb does not.
TEST(JsonPath, HalfOfACharacterHidesNothingElse) {
  EXPECT_EQ(find(R"({"\ud800": 1, "slug": "x"})", {"slug"}), "x");
  EXPECT_EQ(find(R"({"slug": "x", "a\"\udc00": {"slug": "y"}, "b": 1})", {"slug"}), "x");
  EXPECT_EQ(find(R"({"a": {"\ud83d\u0041": 1, "n": 7}})", {"a", "n"}), "7");
  EXPECT_EQ(find(R"({"s": "\ud800", "slug": "x"})", {"slug"}), "x");
  EXPECT_EQ(find(R"({"s": "\ud800", "slug": "x"})", {"s"}), "invalid") << "a key that nobody can have";
  EXPECT_EQ(find(R"({"\x": 1, "slug": "x"})", {"slug"}), "invalid");
  EXPECT_EQ(find(R"({"\ud8": 1, "slug": "x"})", {"slug"}), "invalid");
}

TEST(JsonPath, DeepJsonEndsWithoutHarm) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_EQ(find(deep, std::vector<std::string>(kJsonPathStepsMax, "0")).substr(0, 2), "[[");
  EXPECT_EQ(find(std::string(100'000, '['), {"0"}), "invalid");
}

bool same(std::string_view a, std::string_view b) {
  static JsonReader reader;
  const JsonSame result = reader.same(a, b);
  EXPECT_EQ(result == JsonSame::kSame, reader.same(b, a) == JsonSame::kSame) << a << " and " << b;
  return result == JsonSame::kSame;
}

TEST(JsonPath, TheSameJsonMayBeWrittenInManyWays) {
  EXPECT_TRUE(same(R"({"a": 1, "b": [true, null]})", R"( {"b":[true,null],"a":1} )"));
  EXPECT_TRUE(same("1.50", "15e-1"));
  EXPECT_TRUE(same("0.0", "-0"));
  EXPECT_TRUE(same("100", "1E+2"));
  EXPECT_TRUE(same(R"("\u00e4")", "\"\xc3\xa4\""));
  EXPECT_TRUE(same(R"({"a": 1, "a": 2})", R"({"a": 2})"));
  EXPECT_TRUE(same("123456789012345678901234567890", "123456789012345678901234567890.0"));
}

TEST(JsonPath, HalvesOfCharactersAreThemselves) {
  EXPECT_TRUE(same(R"({"\ud800": "\uDC00 x"})", R"({"\uD800":"\udc00\u0020x"})"));
  EXPECT_FALSE(same(R"({"\ud800": 1})", R"({"\ud801": 1})"));
  EXPECT_FALSE(same(R"(["\ud800"])", R"(["\ud801"])"));
  EXPECT_TRUE(same(R"({"\ud800\u0020\ud83d\ude00": 1})", "{\"\\ud800 \xf0\x9f\x98\x80\": 1}"));
}

TEST(JsonPath, OtherJsonIsNotTheSame) {
  EXPECT_FALSE(same("9007199254740993", "9007199254740992"));
  EXPECT_FALSE(same(R"({"a": 1})", R"({"a": "1"})"));
  EXPECT_FALSE(same(R"({"a": null})", "{}"));
  EXPECT_FALSE(same("[1, 2]", "[2, 1]"));
  EXPECT_FALSE(same("[[1], 2]", "[[1, 2]]"));
  EXPECT_FALSE(same("-1", "1"));
  EXPECT_FALSE(same("\"\"", "[]"));
}

TEST(JsonPath, WhichTextIsNoJsonIsTold) {
  JsonReader reader;
  EXPECT_EQ(reader.same("{", "{}"), JsonSame::kFirstInvalid);
  EXPECT_EQ(reader.same("{}", ""), JsonSame::kSecondInvalid);
  EXPECT_EQ(reader.same("1, 2", "1"), JsonSame::kFirstInvalid);
  EXPECT_EQ(reader.same("1] [", "1"), JsonSame::kFirstInvalid);
  EXPECT_EQ(reader.same("O:8:\"stdClass\"", "1"), JsonSame::kFirstInvalid);
  EXPECT_EQ(reader.same("\xac\xed", "1"), JsonSame::kFirstInvalid);
  EXPECT_EQ(reader.same("{}", "{}"), JsonSame::kSame);
}

}  // namespace
}  // namespace evictd
