// Records that nobody should write: none ends the process, costs more than its size, or passes for what it is not.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <random>

#include "daemon/sources/kafka/text_forms.h"
#include "tests/unit/sources/kafka/envelope_support.h"

namespace evictd {
namespace {

using testing::HasSubstr;
using testing::Le;
using testing::SizeIs;

constexpr const char* kTopic = "shop.public.items";
constexpr const char* kDecimal = "org.apache.kafka.connect.data.Decimal";

// An insert with one column besides the key, whose type is `schema` (without its name).
std::string insert_with(const std::string& schema, const std::string& value, const std::string& before = "null") {
  return fmt::format(
      R"({{"schema":{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":[{{"type":"int32","field":"id"}},)"
      R"({{"field":"x",{}}}]}}]}},"payload":{{"before":{},"after":{{"id":1,"x":{}}},)"
      R"("source":{{"connector":"postgresql","schema":"public","table":"items"}},"op":"u"}}}})",
      schema, before, value);
}

std::string logical(const std::string& type, const std::string& name, const std::string& more = "") {
  return fmt::format(R"("type":"{}","name":"{}"{})", type, name, more);
}

std::string decoded(const std::string& value) {
  EnvelopeDecoder decoder;
  return decoded_text(decoder.decode(record_of(kTopic, R"({"id":1})", value)));
}

TEST(HostileRecord, ADecimalOfTheLowestScaleIsRefused) {
  for (const char* scale : {"-2147483648", "2147483647", "20001", "-20001"}) {
    const std::string parameters = fmt::format(R"(,"parameters":{{"scale":"{}"}})", scale);
    EXPECT_EQ(decoded(insert_with(logical("bytes", kDecimal, parameters), R"("AQ==")")),
              "error: 'after': column 'x': expected a decimal of reasonable size")
        << scale;
    EXPECT_EQ(decoded(insert_with(logical("struct", "io.debezium.data.VariableScaleDecimal"),
                                  fmt::format(R"({{"scale":{},"value":"AQ=="}})", scale))),
              "error: 'after': column 'x': expected a decimal of reasonable size")
        << scale;
  }
}

TEST(HostileRecord, TimesAtTheEndsOfTheirTypesAreTextsOrRefused) {
  const std::string lowest = "-9223372036854775808", highest = "9223372036854775807";
  for (const std::string& number : {lowest, highest}) {
    EXPECT_EQ(decoded(insert_with(logical("int64", "io.debezium.time.Date"), number)),
              "error: 'after': column 'x': expected a number of days");
  }
  EXPECT_EQ(timestamp_text(std::numeric_limits<std::int64_t>::min(), kMicros, ""), "290309-12-21 19:59:05.224192 BC");
  EXPECT_EQ(timestamp_text(std::numeric_limits<std::int64_t>::max(), kMicros, ""), "294247-01-10 04:00:54.775807");
  EXPECT_EQ(timestamp_text(std::numeric_limits<std::int64_t>::min(), kNanos, ""), "1677-09-21 00:12:43.145224192");
  for (const char* name : {"Time", "MicroTime", "NanoTime", "Timestamp", "MicroTimestamp", "NanoTimestamp"}) {
    for (const std::string& number : {lowest, highest})
      EXPECT_FALSE(decoded(insert_with(logical("int64", std::string("io.debezium.time.") + name), number)).empty());
  }
}

TEST(HostileRecord, ACommitTimeIsOneThatAClockMaySay) {
  EnvelopeDecoder decoder;
  for (const char* field : {"ts_ms", "ts_us", "ts_ns"}) {
    KafkaRecord record = record_of(kTopic, R"({"id":1})", "");
    record.timestamp_ms = std::numeric_limits<std::int64_t>::max();
    const std::string value = fmt::format(
        R"({{"before":null,"after":{{"id":1}},"source":{{"table":"items","schema":"public","{}":9223372036854775807}},"op":"c"}})",
        field);
    record.value = value;
    const auto change = decoder.decode(record);
    ASSERT_TRUE(change) << field;
    EXPECT_LE(change->commit_time.time_since_epoch(), std::chrono::hours(24) * 366 * 8030) << field;
  }
}

// The remainder by a prime, of a number's bytes and of its digits.
constexpr std::uint64_t kPrime = 1'000'000'007;
std::uint64_t remainder_of_bytes(std::string_view bytes) {
  std::uint64_t rest = 0;
  for (const char byte : bytes) rest = (rest * 256 + static_cast<unsigned char>(byte)) % kPrime;
  return rest;
}
std::uint64_t remainder_of_digits(std::string_view digits) {
  std::uint64_t rest = 0;
  for (const char digit : digits) rest = (rest * 10 + static_cast<unsigned>(digit - '0')) % kPrime;
  return rest;
}

TEST(DecimalText, IsExactAtEveryLength) {
  std::mt19937_64 random(7);
  for (const std::size_t size : {1u, 8u, 127u, 128u, 129u, 255u, 256u, 257u, 384u, 1000u, 4096u, 10'000u, 65'536u}) {
    for (const char fill : {'r', '\0', '\xff'}) {
      std::string bytes(size, fill);
      if (fill == 'r') std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<char>(random()); });
      bytes[0] = 0x41;  // positive, and of full length
      const auto text = decimal_text(bytes, 0);
      ASSERT_TRUE(text);
      EXPECT_EQ(text->find_first_not_of("0123456789"), std::string::npos);
      EXPECT_NE(text->front(), '0');
      EXPECT_EQ(remainder_of_digits(*text), remainder_of_bytes(bytes)) << size;
      // 0.4 digits a bit, less those of the first byte.
      EXPECT_NEAR(static_cast<double>(text->size()), static_cast<double>(size * 8) * 0.30103, 2.0) << size;
    }
  }
  EXPECT_EQ(decimal_text(std::string("\x01") + std::string(128, '\0'), 0)->substr(0, 20), "17976931348623159077");
}

TEST(HostileRecord, WhatNoRuleReadsIsNotDecoded) {
  EnvelopeDecoder decoder;
  decoder.read_only(EnvelopeDecoder::ReadColumns{{"public.items", {"id"}}});
  const std::string long_decimal(87'000, 'A');
  const auto text = [&](const std::string& value) {
    return decoded_text(decoder.decode(record_of(kTopic, R"({"id":1})", value)));
  };
  EXPECT_EQ(text(insert_with(logical("bytes", kDecimal, R"(,"parameters":{"scale":"2"})"), '"' + long_decimal + '"')),
            "update public.items new{id='1' x='" + long_decimal + "'}");
  EXPECT_EQ(text(insert_with(logical("int64", "io.debezium.time.Date"), "-9223372036854775808")),
            "update public.items new{id='1' x='-9223372036854775808'}");
  EXPECT_EQ(text(insert_with(logical("int64", "io.debezium.time.Date"), "null")), "update public.items new{id='1' x=NULL}");
  // Rules that read it from now on.
  decoder.read_only(EnvelopeDecoder::ReadColumns{{"public.items", {"id", "x"}}});
  EXPECT_EQ(text(insert_with(logical("int64", "io.debezium.time.Date"), "1")),
            "update public.items new{id='1' x='1970-01-02'}");
  decoder.read_only(std::nullopt);
  EXPECT_EQ(text(insert_with(logical("int64", "io.debezium.time.Date"), "2")),
            "update public.items new{id='1' x='1970-01-03'}");
}

TEST(HostileRecord, ManyNewColumnsMakeOneRelation) {
  std::string row = R"({"id":1)";
  for (int column = 0; column < 4000; ++column) row += fmt::format(R"(,"c{}":1)", column);
  row += "}";
  EnvelopeDecoder decoder;
  const std::string value = fmt::format(
      R"({{"before":{},"after":{},"source":{{"connector":"postgresql","schema":"public","table":"items"}},"op":"u"}})", row, row);
  ASSERT_TRUE(decoder.decode(record_of(kTopic, R"({"id":1})", value)));
  EXPECT_THAT(decoder.take_retired(), SizeIs(Le(4u))) << "each copies all columns there are";
}

TEST(HostileRecord, NamesThatComeAgainAndAgainAreColumnsTooMany) {
  std::string row = R"({"id":1)", other = R"({"id":1)";
  for (int column = 0; column < 100'000; ++column) row += R"(,"a":1)", other += R"(,"b":1)";
  const auto update = [](const std::string& before, const std::string& after) {
    return fmt::format(
        R"({{"before":{},"after":{},"source":{{"connector":"postgresql","schema":"public","table":"items"}},"op":"u"}})",
        before, after);
  };
  EXPECT_EQ(decoded(update(other + "}", row + "}")), "error: 'after': expected at most 4096 columns");
  EXPECT_EQ(decoded(update(row + "}", R"({"id":1})")), "error: 'before': expected at most 4096 columns");
}

TEST(HostileRecord, ATextManyTimesAsLongAsItsRecordIsRefused) {
  std::string elements = R"([""])";
  for (int i = 0; i < 3000; ++i) elements.insert(1, R"("",)");
  const std::string bits =
      R"("type":"array","items":{"type":"bytes","name":"io.debezium.data.Bits","parameters":{"length":"65536"}})";
  EXPECT_EQ(decoded(insert_with(bits, elements)), "error: 'after': column 'x': expected values of reasonable size");
}

// ---- seeded

class Hostile {
 public:
  explicit Hostile(std::uint64_t seed) : random_(seed) {}

  std::string record() {
    const std::string schema = type(0);
    std::string text = insert_with(schema, value(0), below(3) == 0 ? R"({"id":1,"x":)" + value(0) + "}" : "null");
    if (below(4) == 0) {  // and broken besides
      for (std::uint64_t i = below(4); i > 0; --i) text[below(text.size())] = static_cast<char>(below(256));
    }
    if (below(8) == 0) text.resize(below(text.size()));
    return text;
  }

 private:
  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  template <std::size_t N>
  std::string one_of(const char* const (&list)[N]) {
    return list[below(N)];
  }

  std::string type(int depth) {
    static constexpr const char* kTypes[] = {"string", "int8",    "int32", "int64",  "float", "double",
                                             "boolean", "bytes", "struct", "map", "nonsense"};
    static constexpr const char* kNames[] = {"org.apache.kafka.connect.data.Decimal",
                                             "org.apache.kafka.connect.data.Date",
                                             "org.apache.kafka.connect.data.Time",
                                             "org.apache.kafka.connect.data.Timestamp",
                                             "io.debezium.data.VariableScaleDecimal",
                                             "io.debezium.time.Date",
                                             "io.debezium.time.MicroTime",
                                             "io.debezium.time.NanoTime",
                                             "io.debezium.time.MicroTimestamp",
                                             "io.debezium.time.NanoTimestamp",
                                             "io.debezium.time.ZonedTimestamp",
                                             "io.debezium.time.IsoDate",
                                             "io.debezium.time.IsoTime",
                                             "io.debezium.time.IsoTimestamp",
                                             "io.debezium.time.Interval",
                                             "io.debezium.data.Uuid",
                                             "io.debezium.data.Bits"};
    if (depth < 3 && below(4) == 0) return R"("type":"array","items":{)" + type(depth + 1) + "}";
    std::string text = R"("type":")" + one_of(kTypes) + "\"";
    if (below(5) != 0) text += R"(,"name":")" + one_of(kNames) + "\"";
    if (below(2) == 0) text += fmt::format(R"(,"parameters":{{"scale":"{}","length":"{}"}})", number(), number());
    if (below(3) == 0) text += R"(,"optional":true)";
    return text;
  }

  std::string number() {
    static constexpr const char* kNumbers[] = {
        "0", "-1", "1", "-0", "2147483647", "-2147483648", "2147483648", "-2147483649", "9223372036854775807",
        "-9223372036854775808", "9223372036854775808", "-2147472692", "9223372036825200000", "20000", "-20000", "1e308",
        "-1e-308", "1e999999999", "0.1", "65536", "86400000000", "4000000001"};
    return one_of(kNumbers);
  }

  std::string value(int depth) {
    static constexpr const char* kTexts[] = {
        "", "AQ==", "gA==", "/////w==", "not base64", "infinity", "-infinity", "2024-02-03T04:05:06Z",
        "-999999999-12-31T24:59:60.999999999-99:99", "+294247-01-10T04:00:25.2Z", "-5877611-06-21Z", "9999999999-01-01",
        "P999999999999999999YT999999999999999999H", "P-1DT-1.5S", "__debezium_unavailable_value",
        "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", "\\ud800", "\\u0000", "{}", "00:00:00Z"};
    switch (below(depth < 4 ? 9 : 5)) {
      case 0:
        return "null";
      case 1:
        return below(2) == 0 ? "true" : "false";
      case 2:
      case 3:
        return number();
      case 4:
        return '"' + one_of(kTexts) + '"';
      case 5:
      case 6: {
        std::string text = "[";
        for (std::uint64_t i = below(5); i > 0; --i) text += value(depth + 1) + (i > 1 ? "," : "");
        return text + "]";
      }
      case 7:
        return fmt::format(R"({{"scale":{},"value":"{}"}})", number(), one_of(kTexts));
      default:
        return R"({"x":)" + value(depth + 1) + "}";
    }
  }

  std::mt19937_64 random_;
};

TEST(HostileRecord, WhateverItHoldsItIsAChangeOrAnError) {
  const char* given = std::getenv("EVICTD_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  SCOPED_TRACE(fmt::format("EVICTD_SEED={}", seed));
  Hostile hostile(seed);
  EnvelopeDecoder decoder;
  int changes = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = hostile.record();
    const auto result = decoder.decode(record_of(kTopic, R"({"id":1})", text));
    if (!result) {
      EXPECT_FALSE(result.error().text.empty());
      EXPECT_THAT(result.error().hint, testing::Not(HasSubstr("fault of evictd"))) << text;
      continue;
    }
    ++changes;
    const Change& change = result->change;
    if (change.relation == nullptr) continue;
    if (!change.new_row.empty()) { EXPECT_EQ(change.new_row.size(), change.relation->columns.size()) << text; }
    if (!change.old_row.empty()) { EXPECT_EQ(change.old_row.size(), change.relation->columns.size()) << text; }
    decoder.take_retired();
  }
  EXPECT_GT(changes, 1000);
}

// As MongoDB's connector sends documents, which anybody may claim to be. Read one inside the other, they would cost the square of
// their bytes, and end the process where the stack ends.
TEST(HostileRecord, ADateInADateInADateIsRefusedAtOnce) {
  constexpr int kDeep = 100'000;
  std::string date = "1";
  for (const auto* part : {R"({\"$date\":)", "}"}) {
    std::string many;
    for (int i = 0; i < kDeep; ++i) many += part;
    date = part[0] == '{' ? many + date : date + many;
  }
  const auto event = [](const std::string& op, const std::string& after) {
    return fmt::format(R"({{"op":"{}","source":{{"connector":"mongodb","db":"public","collection":"items"}},"after":{}}})", op, after);
  };
  EXPECT_EQ(decoded(event("c", fmt::format(R"("{{\"_id\":1,\"x\":{}}}")", date))), "error: 'after': column 'x': expected a date in '$date'");
  EnvelopeDecoder decoder;
  EXPECT_EQ(decoded_text(decoder.decode(record_of(kTopic, fmt::format(R"({{"id":"{}"}})", date), event("u", "null")))),
            "error: key column 'id': expected a date in '$date'");
  EXPECT_EQ(decoded(event("c", R"("{\"_id\":1,\"x\":{\"$date\":{\"$numberLong\":\"1558965508000\"}}}")")),
            "insert public.items new{_id='1' x='2019-05-27T13:58:28Z'}");
}

}  // namespace
}  // namespace evictd
