#include "mapping/table_name.h"

#include <gtest/gtest.h>
// Behind GoogleTest, which it does not include itself.
#include <rapidcheck/gtest.h>

namespace evictd {
namespace {

TEST(TableNames, AreReadAsPeopleWriteThem) {
  const auto parsed = [](const char* text) {
    const Result<TableName> name = parse_table_name(text);
    return name ? "(" + name->schema + ")(" + name->table + ")" : name.error().text;
  };
  EXPECT_EQ(parsed("products"), "(public)(products)");
  EXPECT_EQ(parsed("shop.Products"), "(shop)(Products)");
  EXPECT_EQ(parsed(R"(shop."old.products")"), "(shop)(old.products)");
  EXPECT_EQ(parsed(R"("app.v1".orders)"), "(app.v1)(orders)");
  EXPECT_EQ(parsed(R"("app.v1"."or""ders")"), "(app.v1)(or\"ders)");
  EXPECT_EQ(parsed(R"("a""b")"), "(public)(a\"b)");
  EXPECT_EQ(parsed("my-shop.a b"), "(my-shop)(a b)");
  for (const char* text : {"", ".", "a.", ".a", "a.b.c", "\"", "\"a", "a\"b\"", "\"a\"b", "\"\"", "\"a\".\"\"", "\"a\"\"", "a.b."})
    EXPECT_EQ(parsed(text), "expected 'table' or 'schema.table', got '" + std::string(text) + "'");
}

RC_GTEST_PROP(TableNames, AreReadBackAsTheyAreWritten, (std::string schema, std::string table)) {
  const auto tame = [](std::string text) {
    for (const char* extra : {".", "\""}) {
      if (*rc::gen::arbitrary<bool>()) text += extra;
    }
    return text.empty() ? std::string("x") : text;
  };
  const TableName name{tame(std::move(schema)), tame(std::move(table))};
  const Result<TableName> back = parse_table_name(written_table_name(name));
  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == name);
}

}  // namespace
}  // namespace evictd
