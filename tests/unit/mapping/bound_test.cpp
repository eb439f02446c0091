// Numbers and times compare by value, exactly.
#include "mapping/bound.h"

#include <gtest/gtest.h>
// Behind GoogleTest, which it does not include itself.
#include <rapidcheck/gtest.h>

namespace evictd {
namespace {

// -1, 0, 1; 9: no answer.
int compare(const std::string& value, const std::string& bound) {
  const auto parsed = Bound::parse(bound);
  if (!parsed) return 8;
  const auto order = parsed->compare(value);
  return !order ? 9 : *order < 0 ? -1 : *order > 0 ? 1 : 0;
}

TEST(Bound, NumbersByValue) {
  EXPECT_EQ(compare("9", "10"), -1);
  EXPECT_EQ(compare("10", "9"), 1);
  EXPECT_EQ(compare("-10", "9"), -1);
  EXPECT_EQ(compare("-10", "-9"), -1);
  EXPECT_EQ(compare("-9", "-10"), 1);
  EXPECT_EQ(compare("1.50", "1.5"), 0);
  EXPECT_EQ(compare("1.5", "150e-2"), 0);
  EXPECT_EQ(compare("0.00", "0"), 0);
  EXPECT_EQ(compare("-0", "0"), 0);
  EXPECT_EQ(compare("0.01", "0"), 1);
  EXPECT_EQ(compare("-0.01", "0"), -1);
  EXPECT_EQ(compare("9007199254740993", "9007199254740992"), 1);
  EXPECT_EQ(compare("1e+20", "100000000000000000000"), 0);
  EXPECT_EQ(compare("1e-7", "0"), 1);
  EXPECT_EQ(compare("99", "100"), -1);
  EXPECT_EQ(compare("123.4", "123.35"), 1);
  EXPECT_EQ(compare("NaN", "1e300"), 1);
  EXPECT_EQ(compare("Infinity", "1e300"), 1);
  EXPECT_EQ(compare("-Infinity", "-1e300"), -1);
  EXPECT_EQ(compare(std::string(10'000, '9'), "1e9999"), 1);
}

TEST(Bound, TimesByValue) {
  EXPECT_EQ(compare("2024-02-03", "2024-02-03"), 0);
  EXPECT_EQ(compare("2024-02-03", "2024-02-04"), -1);
  EXPECT_EQ(compare("10000-01-01", "9999-12-31"), 1);
  EXPECT_EQ(compare("0044-03-15 BC", "0001-01-01"), -1);
  EXPECT_EQ(compare("0044-03-15 BC", "0044-03-14 BC"), 1);
  EXPECT_EQ(compare("infinity", "9999-12-31"), 1);
  EXPECT_EQ(compare("-infinity", "0044-03-14 BC"), -1);
  EXPECT_EQ(compare("2024-02-03T04:05:06.789", "2024-02-03 04:05:06.78"), 1);
  EXPECT_EQ(compare("2024-02-03T04:05:06.500", "2024-02-03T04:05:06.5"), 0);
  EXPECT_EQ(compare("2024-02-03T00:00:00", "2024-02-03"), 0);
  EXPECT_EQ(compare("2024-02-03T00:00:00.001Z", "2024-02-03"), 1);
  EXPECT_EQ(compare("2024-02-03T04:05:06Z", "2024-02-03T04:05:07Z"), -1);
}

TEST(Bound, WhatDoesNotCompareProvesNothing) {
  EXPECT_EQ(compare("2024-02-03T04:05:06", "2024-02-03T04:05:06Z"), 9);
  for (const char* value : {"", "abc", "1x", "--1", ".", "1e", "1e99999999999999999999", "0x10", "2024-02-03", " 1", "1 "})
    EXPECT_EQ(compare(value, "0"), 9) << value;
  for (const char* value : {"", "7", "2024-2-3", "2024-02-03T04:05", "2024-02-03T04:05:06.", "tomorrow", "2024-02-03Z"})
    EXPECT_EQ(compare(value, "2024-01-01"), 9) << value;
}

TEST(Bound, IsANumberOrATime) {
  for (const char* text : {"", "abc", ">0", "infinity", "NaN", "1,5", "2024-02-03T04:05:06+02", "2024-02", "true"})
    EXPECT_FALSE(Bound::parse(text)) << text;
  EXPECT_EQ(Bound::parse("1.50")->text(), Bound::parse("+15e-1")->text());
  EXPECT_EQ(Bound::parse("2024-02-03 04:05:06")->text(), "2024-02-03T04:05:06");
  for (const char* text : {"1.50", "+15e-1", "3", "2024-02-03 04:05:06"}) EXPECT_EQ(Bound::parse(text)->written(), text);
}

RC_GTEST_PROP(BoundProperties, IntegersCompareAsIntegers, (std::int64_t a, std::int64_t b)) {
  const int expected = a < b ? -1 : a > b ? 1 : 0;
  RC_ASSERT(compare(std::to_string(a), std::to_string(b)) == expected);
  RC_ASSERT(compare(std::to_string(a) + ".000", std::to_string(b)) == expected);
}

RC_GTEST_PROP(BoundProperties, AnyTextIsComparedOrNot, (const std::string& value)) {
  for (const char* bound : {"0", "2024-01-01"}) (void)compare(value, bound);
  (void)Bound::parse(value);
}

}  // namespace
}  // namespace evictd
