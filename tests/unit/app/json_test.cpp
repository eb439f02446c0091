#include "daemon/base/json.h"

#include <gtest/gtest.h>

#include <limits>

namespace evictd {
namespace {

TEST(Json, QuotesWhatHasToBeQuoted) {
  EXPECT_EQ(json_quoted("plain"), R"("plain")");
  EXPECT_EQ(json_quoted("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(json_quoted("line\nnext\ttab\rback"), R"("line\nnext\ttab\rback")");
  EXPECT_EQ(json_quoted(std::string_view("\0\x1b\x7f", 3)), R"("\u0000\u001b\u007f")");
  EXPECT_EQ(json_quoted("Zürich €  😀"), "\"Zürich €  😀\"");
}

TEST(Json, ReplacesBytesThatAreNoUtf8) {
  EXPECT_EQ(json_quoted("a\xff"
                        "b"),
            R"("a\ufffdb")");
  EXPECT_EQ(json_quoted("cut\xe2\x82"), R"("cut\ufffd\ufffd")");
  EXPECT_EQ(json_quoted("\xc0\xaf"), R"("\ufffd\ufffd")");                      // overlong
  EXPECT_EQ(json_quoted("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");            // surrogate
  EXPECT_EQ(json_quoted("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")");  // > U+10FFFF
}

TEST(JsonWriter, PlacesCommas) {
  JsonWriter json;
  json.begin_object().field("a", true).field("b", "x").begin_array("c").value("1").value("2");
  json.end_array().begin_object("d").field("e", std::uint64_t{7}).field("f", std::int64_t{-7});
  json.end_object().field("g", 0.25).field("h", std::numeric_limits<double>::infinity());
  json.begin_array("i").begin_object().end_object().begin_object().end_object().end_array();
  json.end_object();
  EXPECT_EQ(json.text(),
            R"({"a":true,"b":"x","c":["1","2"],"d":{"e":7,"f":-7},"g":0.25,"h":null,"i":[{},{}]})");
}

}  // namespace
}  // namespace evictd
