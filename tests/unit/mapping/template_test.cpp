#include "mapping/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using testing::ElementsAre;

Template parsed(std::string_view source) {
  Result<Template> compiled = parse_template(source);
  EXPECT_TRUE(compiled.has_value()) << (compiled ? "" : compiled.error().to_string());
  return compiled ? std::move(*compiled) : Template{};
}

std::string error_of(std::string_view source) {
  const Result<Template> compiled = parse_template(source);
  return compiled ? "" : compiled.error().to_string();
}

TEST(Template, CanRenderAlike) {
  const auto alike = [](const char* a, const char* b) {
    const bool is = can_render_alike(*parse_template(a), *parse_template(b));
    EXPECT_EQ(is, can_render_alike(*parse_template(b), *parse_template(a)));
    return is;
  };
  for (const auto& [a, b] : {std::pair{"a:{x}", "a:{y}"}, {"a:{x}", "a:"}, {"a:{x}b", "a:cb"}, {"{x}:a", "b:{y}"}, {"a{x}b{y}c", "a1b2c"}, {"a{x}{y}", "a"},
                             {"{x}ab", "a{y}b"}, {"ab", "ab"}}) {
    EXPECT_TRUE(alike(a, b)) << a << ' ' << b;
  }
  for (const auto& [a, b] : {std::pair{"a:{x}", "b:{y}"}, {"a:{x}b", "a:c"}, {"{x}:a", "{y}:b"}, {"a{x}b{y}c", "a1c"}, {"ab", "a"}, {"a", "ab"}, {"a{x}aa", "aa"}}) {
    EXPECT_FALSE(alike(a, b)) << a << ' ' << b;
  }
}

TEST(Template, TextAndPlaceholdersAlternate) {
  const Template compiled = parsed("product:{id}:{lang}");
  EXPECT_EQ(compiled.source, "product:{id}:{lang}");
  EXPECT_THAT(compiled.literals, ElementsAre("product:", ":", ""));
  ASSERT_EQ(compiled.placeholders.size(), 2u);
  EXPECT_EQ(compiled.placeholders[0].column, "id");
  EXPECT_EQ(compiled.placeholders[1].column, "lang");
}

TEST(Template, DoubledBracesAreText) {
  const Template compiled = parsed("{{user:{id}}}:x}}");
  EXPECT_THAT(compiled.literals, ElementsAre("{user:", "}:x}"));
}

TEST(Template, PathsFiltersAndFreeSpace) {
  const Template compiled = parsed("{ data . a . 0 | lower | default( 'it''s' ) }");
  ASSERT_EQ(compiled.placeholders.size(), 1u);
  const Placeholder& placeholder = compiled.placeholders[0];
  EXPECT_EQ(placeholder.column, "data");
  EXPECT_THAT(placeholder.path, ElementsAre("a", "0"));
  ASSERT_EQ(placeholder.filters.size(), 2u);
  EXPECT_EQ(placeholder.filters[0].kind, Filter::Kind::kLower);
  EXPECT_EQ(placeholder.filters[1].kind, Filter::Kind::kDefault);
  EXPECT_EQ(placeholder.filters[1].argument, "it's");
}

TEST(Template, NamesInDoubleQuotesMayHoldAnything) {
  const Template compiled = parsed(R"({"My ""odd"" {col}.x"."a.b"|default("}")})");
  EXPECT_EQ(compiled.placeholders[0].column, "My \"odd\" {col}.x");
  EXPECT_THAT(compiled.placeholders[0].path, ElementsAre("a.b"));
  EXPECT_EQ(compiled.placeholders[0].filters[0].argument, "}");
}

TEST(Template, NamesBeyondAsciiNeedNoQuotes) {
  EXPECT_EQ(parsed("{größe}").placeholders[0].column, "größe");
}

TEST(Template, GlobHasAStarPerPlaceholder) {
  EXPECT_EQ(template_glob(parsed("product:{id}"), ""), "product:*");
  EXPECT_EQ(template_glob(parsed("{tenant}:product:{id}"), ""), "*:product:*");
  EXPECT_EQ(template_glob(parsed("a{x}{y}{z}b{w}"), ""), "a*b*");
  EXPECT_EQ(template_glob(parsed("{x}{y}"), "tag:"), "tag:*");
  EXPECT_EQ(template_glob(parsed("config"), ""), "config");
}

TEST(Template, GlobEscapesWhatRedisWouldRead) {
  EXPECT_EQ(template_glob(parsed("a*b?[c]\\{id}"), ""), "a\\*b\\?\\[c\\]\\\\*");
}

TEST(Template, TellingTextHasALetterOrDigit) {
  EXPECT_TRUE(has_telling_text(parsed("p:{id}")));
  EXPECT_TRUE(has_telling_text(parsed("{id}:é")));
  EXPECT_FALSE(has_telling_text(parsed("{id}")));
  EXPECT_FALSE(has_telling_text(parsed("{a}:{b}")));
}

TEST(Template, ErrorTexts) {
  EXPECT_EQ(error_of(""), "expected a text, got an empty one");
  EXPECT_EQ(error_of(std::string(1025, 'x')), "expected at most 1024 bytes, got 1025");
  EXPECT_EQ(error_of("p:{id"),
            "expected '}', '|' or '.', got the end of the text\nhint: write '{{' for a brace that "
            "is text");
  EXPECT_EQ(error_of("p:{id name}"),
            "expected '}', '|' or '.', got 'n'\nhint: write '{{' for a brace that is text");
  EXPECT_EQ(error_of("p:id}"), "unexpected '}'\nhint: write '}}' for a brace that is text");
  EXPECT_EQ(error_of("p:{}"), "expected a column name, got '}'");
  EXPECT_EQ(error_of("p:{"), "expected a column name, got the end of the text");
  EXPECT_EQ(error_of("p:{a.}"), "expected a name or '*' after '.', got '}'");
  EXPECT_EQ(error_of("p:{a|}"), "expected a filter, got '}'");
  EXPECT_EQ(error_of("p:{\"a}"), "a name's '\"' is not closed");
  EXPECT_EQ(error_of("p:{\"\"}"), "expected a column name, got an empty one");
  EXPECT_EQ(error_of("p:{a|lowr}"), "unknown filter 'lowr'\nhint: did you mean 'lower'?");
  EXPECT_EQ(error_of("p:{a|default(x)}"),
            "expected a text in quotes as the argument of 'default', got 'x'");
  EXPECT_EQ(error_of("p:{a|default('x)}"),
            "the quotes of the argument of 'default' are not closed");
  EXPECT_EQ(error_of("p:{a|default('x'}"), "expected ')', got '}'");
  std::string path = "{a";
  for (int i = 0; i < 17; ++i) path += ".b";
  EXPECT_EQ(error_of(path + "}"), "expected at most 16 names in a JSON path");
  std::string filters = "{a";
  for (int i = 0; i < 9; ++i) filters += "|trim";
  EXPECT_EQ(error_of(filters + "}"), "expected at most 8 filters in a placeholder");
  std::string placeholders;
  for (int i = 0; i < 17; ++i) placeholders += "{a}";
  EXPECT_EQ(error_of(placeholders), "expected at most 16 placeholders");
}

}  // namespace
}  // namespace evictd
