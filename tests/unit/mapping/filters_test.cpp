#include "mapping/filters.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

// The filtered text, or "bad value". Applied twice, since the machine keeps its buffers.
std::string apply(std::string_view name, const std::string& value, const char* argument = nullptr) {
  const Result<Filter> filter =
      make_filter(name, argument != nullptr, argument == nullptr ? "" : argument);
  if (!filter) return "error: " + filter.error().to_string();
  FilterMachine machine;
  std::string first = value;
  std::string second = value;
  const bool done = machine.apply(*filter, first);
  EXPECT_EQ(machine.apply(*filter, second), done);
  EXPECT_EQ(first, second);
  return done ? first : "bad value";
}

TEST(Filters, LowerAndUpperKnowUnicode) {
  EXPECT_EQ(apply("lower", "AbC-9"), "abc-9");
  EXPECT_EQ(apply("upper", "AbC-9"), "ABC-9");
  EXPECT_EQ(apply("lower", "ÄÖÉ ΑΒΓ ДОМ"), "äöé αβγ дом");
  EXPECT_EQ(apply("upper", "äöé αβγ дом"), "ÄÖÉ ΑΒΓ ДОМ");
  EXPECT_EQ(apply("upper", "straße 😀 中"), "STRAßE 😀 中");  // one character to one
  EXPECT_EQ(apply("lower", ""), "");
}

TEST(Filters, BytesThatAreNotUtf8AreKept) {
  EXPECT_EQ(apply("lower", "A\xff\xc3"), "a\xff\xc3");
  EXPECT_EQ(apply("upper", "a\xed\xa0\x80z"), "A\xed\xa0\x80Z");
}

TEST(Filters, Trim) {
  EXPECT_EQ(apply("trim", " \t a b\r\n "), "a b");
  EXPECT_EQ(apply("trim", "   "), "");
  EXPECT_EQ(apply("trim", ""), "");
  EXPECT_EQ(apply("trim", "x"), "x");
}

TEST(Filters, UrlEncode) {
  EXPECT_EQ(apply("urlencode", "a b/c?d=é~-._Z9"), "a%20b%2Fc%3Fd%3D%C3%A9~-._Z9");
}

// The sums of "abc" are those of the standards themselves (RFC 1321, FIPS 180-2).
TEST(Filters, Hashes) {
  EXPECT_EQ(apply("md5", "abc"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(apply("sha1", "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(apply("sha256", "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(apply("md5", ""), "d41d8cd98f00b204e9800998ecf8427e");
}

TEST(Filters, DatePrintsDatesAndTimestamps) {
  EXPECT_EQ(apply("date", "2024-02-03", "%Y-%m-%d"), "2024-02-03");
  EXPECT_EQ(apply("date", "2024-02-03T04:05:06.789Z", "%d.%m.%y %H:%M:%S"), "03.02.24 04:05:06");
  EXPECT_EQ(apply("date", "2024-02-03 04:05:06+00", "%Y%m%d%H"), "2024020304");
  EXPECT_EQ(apply("date", "2024-02-03", "%H:%M 100%%"), "00:00 100%");
  EXPECT_EQ(apply("date", "12024-02-03", "%Y/%y"), "12024/24");
}

TEST(Filters, DateCountsTheDaysOfTheYear) {
  EXPECT_EQ(apply("date", "2024-01-01", "%j"), "001");
  EXPECT_EQ(apply("date", "2024-12-31", "%j"), "366");
  EXPECT_EQ(apply("date", "2023-12-31", "%j"), "365");
  EXPECT_EQ(apply("date", "1900-03-01", "%j"), "060");
  EXPECT_EQ(apply("date", "2000-03-01", "%j"), "061");
}

TEST(Filters, DateRefusesWhatIsNoDate) {
  for (const char* value : {"", "today", "infinity", "0044-03-15 BC", "2024-13-01", "2024-00-01",
                            "2024-1-1", "2024-02-03x", "2024-02-03T25:00:00", "2024-02-03T04:05",
                            "2024-02-03T04:05:06!", "99-01-01"}) {
    EXPECT_EQ(apply("date", value, "%Y"), "bad value") << value;
  }
}

TEST(Filters, ErrorTexts) {
  EXPECT_EQ(apply("lowr", ""), "error: unknown filter 'lowr'\nhint: did you mean 'lower'?");
  EXPECT_EQ(apply("base64", ""),
            "error: unknown filter 'base64'\nhint: known filters: 'lower', 'upper', 'trim', "
            "'urlencode', 'md5', "
            "'sha1', 'sha256', 'date', 'default'");
  EXPECT_EQ(apply("lower", "", "x"), "error: the filter 'lower' takes no argument");
  EXPECT_EQ(apply("date", ""),
            "error: the filter 'date' needs an argument\nhint: write date('%Y-%m-%d')");
  EXPECT_EQ(apply("default", ""),
            "error: the filter 'default' needs an argument\nhint: write default('text')");
  EXPECT_EQ(apply("date", "", "%Y %q"),
            "error: unknown '%q' in a date format\nhint: known: %Y %y %m %d %j %H %M %S %%");
  EXPECT_EQ(apply("date", "", "%"),
            "error: unknown '%' in a date format\nhint: known: %Y %y %m %d %j %H %M %S %%");
}

}  // namespace
}  // namespace evictd
