// Every type of every connector, and recorded envelopes.
//
// The samples in tests/data/debezium of MongoDB, SQL Server and Oracle are built from the
// connectors' documentation, not recorded from a server; each says so in its own first line. Those
// of PostgreSQL and MariaDB are compared with the real connectors by tests/kafka.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/unit/sources/kafka/envelope_support.h"

namespace evictd {
namespace {

struct TypeCase {
  const char* schema;  // of the column, without "field"
  const char* json;
  const char* canonical;
};

class EnvelopeType : public testing::TestWithParam<TypeCase> {};

TEST_P(EnvelopeType, HasTheCanonicalText) {
  const TypeCase& param = GetParam();
  const std::string value = fmt::format(
      R"({{"schema":{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":)"
      R"([{{"field":"x",{}}}]}}]}},"payload":{{"op":"c","after":{{"x":{}}}}}}})",
      param.schema, param.json);
  EnvelopeDecoder decoder;
  EXPECT_EQ(decoded_text(decoder.decode(record_of("s.public.t", std::nullopt, value))),
            fmt::format("insert public.t new{{x={}}}", param.canonical));
}

constexpr TypeCase kTypes[] = {
    {R"("type":"int64")", "-9223372036854775808", "'-9223372036854775808'"},
    {R"("type":"boolean")", "true", "'true'"},
    {R"("type":"boolean")", "false", "'false'"},
    {R"("type":"string")", R"("a\"b\u00e4")", "'a\"b\u00e4'"},
    {R"("type":"string")", "null", "NULL"},
    {R"("type":"float")", "1.1", "'1.1'"},
    {R"("type":"double")", "1.0E10", "'10000000000'"},
    {R"("type":"double")", R"("NaN")", "'NaN'"},
    {R"("type":"double")", R"("-Infinity")", "'-Infinity'"},
    {R"("type":"bytes")", R"("3q2+7w==")", "'deadbeef'"},
    {R"("type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"})",
     R"("ZA==")", "'1.00'"},
    {R"("type":"struct","name":"io.debezium.data.VariableScaleDecimal","fields":[])",
     R"({"scale":3,"value":"BNI="})", "'1.234'"},
    {R"("type":"string")", R"("12.50")", "'12.50'"},  // decimal.handling.mode=string
    {R"("type":"double")", "12.5", "'12.5'"},         // decimal.handling.mode=double
    {R"("type":"int32","name":"io.debezium.time.Date")", "19756", "'2024-02-03'"},
    {R"("type":"int32","name":"org.apache.kafka.connect.data.Date")", "-1", "'1969-12-31'"},
    {R"("type":"int32","name":"io.debezium.time.Time")", "14706789", "'04:05:06.789'"},
    {R"("type":"int64","name":"io.debezium.time.MicroTime")", "14706789012", "'04:05:06.789012'"},
    {R"("type":"int64","name":"io.debezium.time.NanoTime")", "14706000000000", "'04:05:06'"},
    {R"("type":"int32","name":"org.apache.kafka.connect.data.Time")", "0", "'00:00:00'"},
    {R"("type":"int64","name":"io.debezium.time.Timestamp")", "1706933106789",
     "'2024-02-03T04:05:06.789'"},
    {R"("type":"int64","name":"io.debezium.time.MicroTimestamp")", "1706933106789012",
     "'2024-02-03T04:05:06.789012'"},
    {R"("type":"int64","name":"io.debezium.time.NanoTimestamp")", "1706933106000000000",
     "'2024-02-03T04:05:06'"},
    {R"("type":"int64","name":"org.apache.kafka.connect.data.Timestamp")", "1706933106000",
     "'2024-02-03T04:05:06'"},
    {R"("type":"string","name":"io.debezium.time.ZonedTimestamp")", R"("2024-02-03T04:05:06.789Z")",
     "'2024-02-03T04:05:06.789Z'"},
    {R"("type":"string","name":"io.debezium.time.ZonedTimestamp")",
     R"("2024-02-03T05:05:06+01:00")", "'2024-02-03T04:05:06Z'"},
    {R"("type":"string","name":"io.debezium.time.IsoDate")", R"("2024-02-03Z")", "'2024-02-03'"},
    {R"("type":"string","name":"io.debezium.time.IsoTime")", R"("04:05:06.789Z")",
     "'04:05:06.789'"},
    // As Debezium 3.1 writes PostgreSQL's infinities, and years that ISO 8601 signs.
    {R"("type":"int32","name":"io.debezium.time.Date")", "-2147472692", "'infinity'"},
    {R"("type":"int64","name":"io.debezium.time.MicroTimestamp")", "9223372036825200000", "'infinity'"},
    {R"("type":"int64","name":"io.debezium.time.Timestamp")", "-9223372036832400", "'-infinity'"},
    {R"("type":"string","name":"io.debezium.time.ZonedTimestamp")", R"("-infinity")", "'-infinity'"},
    {R"("type":"string","name":"io.debezium.time.IsoDate")", R"("-5877611-06-22Z")", "'-infinity'"},
    {R"("type":"string","name":"io.debezium.time.IsoDate")", R"("-0043-03-15Z")", "'0044-03-15 BC'"},
    {R"("type":"string","name":"io.debezium.time.IsoTimestamp")", R"("+294247-01-10T04:00:25.2Z")", "'infinity'"},
    {R"("type":"string","name":"io.debezium.time.IsoTimestamp")", R"("-0043-03-15T10:00:00Z")",
     "'0044-03-15T10:00:00 BC'"},
    {R"("type":"string","name":"io.debezium.time.Interval")", R"("P0Y0M3DT-4H0M0S")", "'3 days -04:00:00'"},
    {R"("type":"int64","name":"io.debezium.time.MicroTime")", "-3020399000000", "'-838:59:59'"},  // MySQL
    {R"("type":"string","name":"io.debezium.time.IsoTimestamp")", R"("2024-02-03T04:05:06.789Z")",
     "'2024-02-03T04:05:06.789'"},
    {R"("type":"string","name":"io.debezium.data.Uuid")",
     R"("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"},
    {R"("type":"string","name":"io.debezium.data.Json")", R"("{\"a\": [1, 2]}")",
     "'{\"a\":[1,2]}'"},
    {R"("type":"string","name":"io.debezium.data.Enum","parameters":{"allowed":"a,b"})", R"("b")",
     "'b'"},
    {R"("type":"string","name":"io.debezium.data.EnumSet","parameters":{"allowed":"a,b"})",
     R"("a,b")", "'a,b'"},
    {R"("type":"int32","name":"io.debezium.time.Year")", "2024", "'2024'"},
    {R"("type":"bytes","name":"io.debezium.data.Bits","parameters":{"length":"3"})", R"("BQ==")",
     "'101'"},
    {R"("type":"bytes","name":"io.debezium.data.Bits","parameters":{"length":"3"})", R"("")",
     "'000'"},
    {R"("type":"bytes","name":"io.debezium.data.Bits","parameters":{"length":"2147483647"})",
     R"("BQ==")", "'00000101'"},
    {R"("type":"array","items":{"type":"int32"})", "[1,2,null]", "'{1,2,NULL}'"},
    {R"("type":"array","items":{"type":"string"})", R"(["a","b c",""])", "'{a,\"b c\",\"\"}'"},
    {R"("type":"array","items":{"type":"boolean"})", "[true,false]", "'{t,f}'"},
    {R"("type":"array","items":{"type":"array","items":{"type":"int32"}})", "[[1,2],[3,4]]",
     "'{{1,2},{3,4}}'"},
    {R"("type":"array","items":{"type":"string"})", "[]", "'{}'"},
    {R"("type":"array","items":{"type":"string"})", R"(["__debezium_unavailable_value"])",
     "UNCHANGED"},
    {R"("type":"map","keys":{"type":"string"},"values":{"type":"string"})", R"({"a":"1"})",
     "'{\"a\":\"1\"}'"},
    // hstore, TOASTed and unchanged.
    {R"("type":"string","name":"io.debezium.data.Json")",
     R"("{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}")", "UNCHANGED"},
    {R"("type":"map","keys":{"type":"string"},"values":{"type":"string"})",
     R"({"__debezium_unavailable_value":"__debezium_unavailable_value"})", "UNCHANGED"},
};

INSTANTIATE_TEST_SUITE_P(Types, EnvelopeType, testing::ValuesIn(kTypes));

// What `{x.*}` makes of an element is what it makes of a column of that type.
TEST(EnvelopeArrays, ElementsAreOfTheirType) {
  const auto element_of = [](const std::string& items, const std::string& json) {
    const std::string value = fmt::format(R"({{"schema":{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":)"
                                          R"([{{"field":"x","type":"array","items":{{{}}}}}]}}]}},"payload":{{"op":"c","after":{{"x":{}}}}}}})",
                                          items, json);
    EnvelopeDecoder decoder;
    const auto decoded = decoder.decode(record_of("s.public.t", std::nullopt, value));
    EXPECT_TRUE(decoded) << items;
    return decoded->change.relation->columns.at(0).element;
  };
  EXPECT_EQ(element_of(R"("type":"boolean")", "[true]"), ValueType::kBoolean);
  EXPECT_EQ(element_of(R"("type":"array","items":{"type":"boolean"})", "[[true]]"), ValueType::kBoolean);
  EXPECT_EQ(element_of(R"("type":"int64","name":"io.debezium.time.MicroTimestamp")", "[0]"), ValueType::kTimestamp);
  EXPECT_EQ(element_of(R"("type":"string","name":"io.debezium.time.ZonedTimestamp")", R"(["2024-02-03T04:05:06Z"])"), ValueType::kTimestampTz);
  EXPECT_EQ(element_of(R"("type":"string","name":"io.debezium.data.Json")", R"(["{}"])"), ValueType::kJson);
  EXPECT_EQ(element_of(R"("type":"bytes")", R"(["3q0="])"), ValueType::kBytea);
  EXPECT_EQ(element_of(R"("type":"string")", R"(["a"])"), ValueType::kText);
}

// A sample file: comment lines with '#', then per record: topic, key, value, what it decodes to.
struct Sample {
  std::string topic, key, value, expected;
};

std::vector<Sample> samples(const std::string& name) {
  std::ifstream file(std::string(EVICTD_TEST_DATA) + "/debezium/" + name);
  EXPECT_TRUE(file) << name;
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  EXPECT_EQ(lines.size() % 4, 0u) << name
                                  << ": expected topic, key, value and result of each record";
  std::vector<Sample> found;
  for (std::size_t i = 0; i + 3 < lines.size(); i += 4)
    found.push_back({lines[i], lines[i + 1], lines[i + 2], lines[i + 3]});
  return found;
}

class EnvelopeSample : public testing::TestWithParam<const char*> {};

TEST_P(EnvelopeSample, DecodesAsDocumented) {
  EnvelopeDecoder decoder;
  const auto found = samples(GetParam());
  EXPECT_FALSE(found.empty());
  for (const Sample& sample : found) {
    const auto optional = [](const std::string& text) {
      return text == "-" ? std::nullopt : std::optional<std::string_view>(text);
    };
    EXPECT_EQ(decoded_text(decoder.decode(
                  record_of(sample.topic, optional(sample.key), optional(sample.value)))),
              sample.expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Connectors, EnvelopeSample,
                         testing::Values("mongodb.txt", "sqlserver.txt", "oracle.txt",
                                         "mysql.txt"));

}  // namespace
}  // namespace evictd
