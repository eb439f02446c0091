#include "mapping/canonical.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

std::string canonical(ValueType type, std::string_view text) {
  std::string out = ">";  // what is there already is kept
  append_canonical(type, text, out);
  EXPECT_EQ(out[0], '>');
  return out.substr(1);
}

TEST(Canonical, TextIsAsSent) {
  EXPECT_EQ(canonical(ValueType::kText, "  A b\t"), "  A b\t");
  EXPECT_EQ(canonical(ValueType::kText, "1.00"), "1.00");
  EXPECT_EQ(canonical(ValueType::kText, ""), "");
  EXPECT_EQ(canonical(ValueType::kCanonical, "2024-02-03 04:05:06"), "2024-02-03 04:05:06");
}

TEST(Canonical, Boolean) {
  EXPECT_EQ(canonical(ValueType::kBoolean, "t"), "true");
  EXPECT_EQ(canonical(ValueType::kBoolean, "f"), "false");
  EXPECT_EQ(canonical(ValueType::kBoolean, "true"), "true");
}

TEST(Canonical, UuidIsLowerCase) {
  EXPECT_EQ(canonical(ValueType::kUuid, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
}

TEST(Canonical, TimestampHasATAndTheFractionAsSent) {
  EXPECT_EQ(canonical(ValueType::kTimestamp, "2024-02-03 04:05:06.789"), "2024-02-03T04:05:06.789");
  EXPECT_EQ(canonical(ValueType::kTimestamp, "2024-02-03 04:05:06"), "2024-02-03T04:05:06");
}

TEST(Canonical, TimestampTzEndsInZ) {
  EXPECT_EQ(canonical(ValueType::kTimestampTz, "2024-02-03 04:05:06.789+00"),
            "2024-02-03T04:05:06.789Z");
  EXPECT_EQ(canonical(ValueType::kTimestampTz, "2024-02-03 04:05:06+00:00"),
            "2024-02-03T04:05:06Z");
}

TEST(Canonical, AnotherZoneIsKeptSinceItIsAnotherMoment) {
  EXPECT_EQ(canonical(ValueType::kTimestampTz, "2024-02-03 04:05:06+02"), "2024-02-03T04:05:06+02");
  EXPECT_EQ(canonical(ValueType::kTimestampTz, "2024-02-03 04:05:06+05:30"),
            "2024-02-03T04:05:06+05:30");
}

TEST(Canonical, TimestampsWithoutACalendarDateAreKept) {
  EXPECT_EQ(canonical(ValueType::kTimestamp, "infinity"), "infinity");
  EXPECT_EQ(canonical(ValueType::kTimestampTz, "-infinity"), "-infinity");
  EXPECT_EQ(canonical(ValueType::kTimestampTz, ""), "");
}

TEST(Canonical, YearsBeforeChristKeepTheirEra) {
  EXPECT_EQ(canonical(ValueType::kTimestamp, "0044-03-15 12:00:00 BC"), "0044-03-15T12:00:00 BC");
  EXPECT_EQ(canonical(ValueType::kTimestampTz, "0044-03-15 12:00:00+00 BC"),
            "0044-03-15T12:00:00Z BC");
  EXPECT_EQ(canonical(ValueType::kDate, "0044-03-15 BC"), "0044-03-15 BC");
}

TEST(Canonical, ByteaIsHexWithoutItsMark) {
  EXPECT_EQ(canonical(ValueType::kBytea, "\\xDEadbe"), "deadbe");
  EXPECT_EQ(canonical(ValueType::kBytea, "\\x"), "");
}

TEST(Canonical, JsonIsCompactOutsideItsStrings) {
  EXPECT_EQ(canonical(ValueType::kJson, "{\"a\": [1,\n 2.50],\t\"b c\" : \"x  y\"}"),
            "{\"a\":[1,2.50],\"b c\":\"x  y\"}");
  EXPECT_EQ(canonical(ValueType::kJson, R"({"a": "say \"hi\" \\", "b": 1})"),
            R"({"a":"say \"hi\" \\","b":1})");
  EXPECT_EQ(canonical(ValueType::kJson, R"( "a \" b  c" )"), R"("a \" b  c")");
}

TEST(Canonical, BrokenJsonIsNotReadPastItsEnd) {
  EXPECT_EQ(canonical(ValueType::kJson, "{\"a"), "{\"a");
  EXPECT_EQ(canonical(ValueType::kJson, "\"\\"), "\"\\");
}

}  // namespace
}  // namespace evictd
