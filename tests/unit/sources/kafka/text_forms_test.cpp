#include "daemon/sources/kafka/text_forms.h"

#include <gtest/gtest.h>

#include "daemon/sources/kafka/field_type.h"

namespace evictd {
namespace {

std::string unbase64(std::string_view text) { return decode_base64(text).value_or("not base64"); }

TEST(Base64, DecodesWithAndWithoutPadding) {
  EXPECT_EQ(unbase64("aGVsbG8="), "hello");
  EXPECT_EQ(unbase64("aGVsbG8"), "hello");
  EXPECT_EQ(unbase64(""), "");
  EXPECT_FALSE(decode_base64("a"));
  EXPECT_FALSE(decode_base64("a*b="));
}

TEST(DecimalText, KeepsTheScale) {
  EXPECT_EQ(decimal_text(unbase64("ZA=="), 2), "1.00");
  EXPECT_EQ(decimal_text(unbase64("AA=="), 2), "0.00");
  EXPECT_EQ(decimal_text(unbase64("/w=="), 2), "-0.01");
  EXPECT_EQ(decimal_text(unbase64("MDk="), 0), "12345");
  EXPECT_EQ(decimal_text(unbase64("AQ=="), -3), "1000");
  EXPECT_EQ(decimal_text("", 0), "0");
}

TEST(DecimalText, IsExactBeyondSixtyFourBits) {
  // 2^64 and -2^64, as BigInteger.toByteArray() writes them.
  EXPECT_EQ(decimal_text(std::string("\x01\0\0\0\0\0\0\0\0", 9), 0), "18446744073709551616");
  EXPECT_EQ(decimal_text(std::string("\xff\0\0\0\0\0\0\0\0", 9), 4), "-1844674407370955.1616");
  EXPECT_EQ(decimal_text(std::string("\x80", 1), 0), "-128");
}

TEST(IsoDateText, HasAnyYear) {
  EXPECT_EQ(iso_date_text("2024-02-03Z"), "2024-02-03");
  EXPECT_EQ(iso_date_text("+12024-01-01Z"), "12024-01-01");
  EXPECT_EQ(iso_date_text("-0043-03-15Z"), "0044-03-15 BC");
  EXPECT_EQ(iso_date_text("-5877611-06-21Z"), "infinity");
  EXPECT_EQ(iso_date_text("-5877611-06-22Z"), "-infinity");
  for (const char* bad : {"", "Z", "2024-02-3Z", "2024-13-01", "2024-02-03T", "24-02-03", "+-2024-02-03"})
    EXPECT_FALSE(iso_date_text(bad)) << bad;
}

TEST(IsoIntervalText, IsWrittenAsPostgresqlDoes) {
  EXPECT_EQ(iso_interval_text("P1Y2M3DT4H5M6.789S"), "1 year 2 mons 3 days 04:05:06.789");
  EXPECT_EQ(iso_interval_text("P0Y0M0DT-1H0M0S"), "-01:00:00");
  EXPECT_EQ(iso_interval_text("P0Y0M0DT0H0M0S"), "00:00:00");
  EXPECT_EQ(iso_interval_text("P0Y0M1DT0H0M0S"), "1 day");
  EXPECT_EQ(iso_interval_text("P-1Y-2M3DT4H5M6S"), "-1 years -2 mons +3 days 04:05:06");
  EXPECT_EQ(iso_interval_text("P0Y0M-1DT1H0M0S"), "-1 days +01:00:00");
  EXPECT_EQ(iso_interval_text("P0Y0M0DT-1H-2M-3.5S"), "-01:02:03.5");
  EXPECT_EQ(iso_interval_text("P0Y0M0DT0H0M-0.5S"), "-00:00:00.5");
  EXPECT_EQ(iso_interval_text("P0Y0M0DT100H0M0.100000S"), "100:00:00.1");
  for (const char* bad : {"", "1Y", "P1", "PT1Y", "P1H", "P1.5D", "PT1.5H", "P--1D", "P1W"})
    EXPECT_FALSE(iso_interval_text(bad)) << bad;
}

TEST(InfiniteText, IsWhatDebeziumWritesForInfinity) {
  EXPECT_EQ(infinite_days_text(-2'147'472'692), "infinity");
  EXPECT_EQ(infinite_days_text(-2'147'472'691), "-infinity");
  EXPECT_EQ(infinite_days_text(0), "");
  EXPECT_EQ(infinite_timestamp_text(9'223'372'036'825'200'000, kMicros), "infinity");
  EXPECT_EQ(infinite_timestamp_text(-9'223'372'036'832'400'000, kMicros), "-infinity");
  EXPECT_EQ(infinite_timestamp_text(9'223'372'036'825'200, kMillis), "infinity");
  EXPECT_EQ(infinite_timestamp_text(-9'223'372'036'832'400, kMillis), "-infinity");
  EXPECT_EQ(infinite_timestamp_text(0, kMicros), "");
  EXPECT_EQ(infinite_timestamp_text(9'223'372'036'825'200'000, kNanos), "") << "a date of the year 2262";
}

TEST(DecimalText, RefusesWhatIsOutOfReason) {
  EXPECT_FALSE(decimal_text("1", kDecimalScaleMax + 1));
  EXPECT_FALSE(decimal_text(std::string(kDecimalBytesMax + 1, '1'), 0));
}

TEST(FloatText, IsWhatPostgresPrints) {
  EXPECT_EQ(float8_text(1.5), "1.5");
  EXPECT_EQ(float8_text(1e14), "100000000000000");
  EXPECT_EQ(float8_text(1e15), "1e+15");
  EXPECT_EQ(float8_text(0.0001), "0.0001");
  EXPECT_EQ(float8_text(0.00001), "1e-05");
  EXPECT_EQ(float8_text(-1.25e-7), "-1.25e-07");
  EXPECT_EQ(float8_text(1.7976931348623157e308), "1.7976931348623157e+308");
  EXPECT_EQ(float8_text(0), "0");
  EXPECT_EQ(float8_text(-0.0), "-0");
  EXPECT_EQ(float4_text(123456.0F), "123456");
  EXPECT_EQ(float4_text(1234567.0F), "1.234567e+06");
  EXPECT_EQ(float4_text(0.1F), "0.1");
}

TEST(DateText, CoversTheCalendar) {
  EXPECT_EQ(date_text(0), "1970-01-01");
  EXPECT_EQ(date_text(19756), "2024-02-03");
  EXPECT_EQ(date_text(19782), "2024-02-29");
  EXPECT_EQ(date_text(-1), "1969-12-31");
  EXPECT_EQ(date_text(-719162), "0001-01-01");
  EXPECT_EQ(date_text(-719163), "0001-12-31 BC");
  EXPECT_EQ(date_text(2932897), "10000-01-01");
}

TEST(TimestampText, TrimsTheFraction) {
  EXPECT_EQ(timestamp_text(1706933045789, kMillis, ""), "2024-02-03 04:04:05.789");
  EXPECT_EQ(timestamp_text(1706933045000000, kMicros, "+00"), "2024-02-03 04:04:05+00");
  EXPECT_EQ(timestamp_text(1706933045000001000, kNanos, ""), "2024-02-03 04:04:05.000001");
  EXPECT_EQ(timestamp_text(-1, kMicros, ""), "1969-12-31 23:59:59.999999");
  EXPECT_EQ(time_text(86'399'999'999, kMicros), "23:59:59.999999");
  EXPECT_EQ(time_text(86'400'000'000, kMicros), "24:00:00");
}

TEST(ZonedTimestampText, ComesOutInUtc) {
  EXPECT_EQ(zoned_timestamp_text("2024-02-03T04:05:06.789Z"), "2024-02-03 04:05:06.789+00");
  EXPECT_EQ(zoned_timestamp_text("2024-02-03T04:05:06.700000Z"), "2024-02-03 04:05:06.7+00");
  EXPECT_EQ(zoned_timestamp_text("2024-02-03T04:05Z"), "2024-02-03 04:05:00+00");
  EXPECT_EQ(zoned_timestamp_text("2024-01-01T00:30:00+02:00"), "2023-12-31 22:30:00+00");
  EXPECT_EQ(zoned_timestamp_text("-0043-03-15T12:00:00Z"), "0044-03-15 12:00:00+00 BC");
  EXPECT_FALSE(zoned_timestamp_text("2024-02-03"));
  EXPECT_FALSE(zoned_timestamp_text("yesterday"));
  EXPECT_FALSE(zoned_timestamp_text("2024-02-03T04:05:06"));
  EXPECT_FALSE(zoned_timestamp_text("2024-13-03T04:05:06Z"));
}

TEST(BitText, PutsTheHighestBitFirst) {
  EXPECT_EQ(bit_text("\x05", 3), "101");
  EXPECT_EQ(bit_text("\x01\x02", 10), "1000000001");
}

TEST(ArrayElement, IsQuotedWherePostgresQuotes) {
  const auto literal = [](std::string_view element) {
    std::string text;
    append_array_element(text, element);
    return text;
  };
  EXPECT_EQ(literal("a"), "a");
  EXPECT_EQ(literal(""), "\"\"");
  EXPECT_EQ(literal("NULL"), "\"NULL\"");
  EXPECT_EQ(literal("a,b"), "\"a,b\"");
  EXPECT_EQ(literal("a\"\\"), "\"a\\\"\\\\\"");
}

}  // namespace
}  // namespace evictd
