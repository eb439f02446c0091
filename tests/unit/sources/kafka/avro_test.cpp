// Avro's reader, the frames, the store of schemas; and that Avro and JSON of one row give the same keys. The vectors are fastavro's
// (tests/data/avro), or stand here byte by byte as the specification has them.
#include "daemon/sources/kafka/avro.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/unit/sources/kafka/envelope_support.h"

namespace evictd {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

std::string file(const std::string& name) {
  std::ifstream stream(std::string(EVICTD_TEST_DATA) + "/avro/" + name);
  std::stringstream text;
  text << stream.rdbuf();
  std::string all = text.str();
  EXPECT_FALSE(all.empty()) << name;
  while (all.ends_with('\n')) all.pop_back();
  return all;
}

std::string bytes_of(std::string_view hex) {
  std::string bytes;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2) bytes += static_cast<char>(std::stoi(std::string(hex.substr(at, 2)), nullptr, 16));
  return bytes;
}

std::string framed(std::uint64_t id, std::string_view bytes, int width = 4) {
  std::string all(1, '\0');
  for (int at = width; at-- > 0;) all += static_cast<char>(id >> (8 * at) & 0xff);
  return all + std::string(bytes);
}

// The JSON of `bytes` under the schema, or what was wrong with either.
std::string json_of(std::string_view schema_text, std::string_view bytes) {
  const auto schema = AvroSchema::parse(schema_text);
  if (!schema) return "schema: " + schema.error().text;
  std::string json;
  if (const auto read = (*schema)->append_json(bytes, json); !read) return "error: " + read.error().text;
  return json;
}

RegisteredSchema registered(std::string_view text) {
  auto schema = AvroSchema::parse(text);
  EXPECT_TRUE(schema) << schema.error().text;
  return {schema.value_or(nullptr), false, text.size()};
}

TEST(Avro, ReadsEachType) {
  EXPECT_EQ(json_of(R"("null")", ""), "null");
  EXPECT_EQ(json_of(R"("boolean")", "\1"), "true");
  EXPECT_EQ(json_of(R"("int")", "\x7f"), "-64");
  EXPECT_EQ(json_of(R"("int")", "\x80\x01"), "64");
  EXPECT_EQ(json_of(R"("long")", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "-9223372036854775808");
  EXPECT_EQ(json_of(R"("long")", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "9223372036854775807");
  EXPECT_EQ(json_of(R"("float")", "\0\0\x80\x3f"s), "1");
  EXPECT_EQ(json_of(R"("double")", bytes_of("9a9999999999b93f")), "0.1");
  EXPECT_EQ(json_of(R"("double")", bytes_of("000000000000f0ff")), R"("-Infinity")");
  EXPECT_EQ(json_of(R"("bytes")", "\6abc"), R"("YWJj")");
  EXPECT_EQ(json_of(R"("bytes")", "\2a"), R"("YQ==")");
  EXPECT_EQ(json_of(R"("string")", "\x0a\"\\\n\0b"s), R"("\"\\\u000a\u0000b")");
  EXPECT_EQ(json_of(R"({"type":"fixed","name":"f","size":2})", "ab"), R"("YWI=")");
  EXPECT_EQ(json_of(R"({"type":"enum","name":"e","symbols":["a","b"]})", "\2"), R"("b")");
  EXPECT_EQ(json_of(R"(["null","int"])", "\2\4"), "2");
  EXPECT_EQ(json_of(R"({"type":"array","items":"int"})", "\4\2\4\2\6\0"s), "[1,2,3]") << "in two blocks";
  EXPECT_EQ(json_of(R"({"type":"array","items":"int"})", "\3\4\2\4\0"s), "[1,2]") << "a block that tells its bytes";
  EXPECT_EQ(json_of(R"({"type":"map","values":"int"})", "\2\2k\2\0"s), R"({"k":1})");
  EXPECT_EQ(json_of(R"({"type":{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"int"}}]}})", "\2"), R"({"a":1})");
}

TEST(Avro, NamesAreThoseOfTheirNamespace) {
  constexpr std::string_view kSchema =
      R"({"type":"record","name":"Outer","namespace":"a.b","fields":[)"
      R"({"name":"one","type":{"type":"record","name":"x.Inner","fields":[{"name":"i","type":"int"}]}},)"
      R"({"name":"two","type":"x.Inner"},{"name":"three","type":{"type":"fixed","name":"F","size":1}},{"name":"four","type":"a.b.F"},)"
      R"({"name":"five","type":"F"}]})";
  EXPECT_EQ(json_of(kSchema, "\2\4abc"), R"({"one":{"i":1},"two":{"i":2},"three":"YQ==","four":"Yg==","five":"Yw=="})");
  EXPECT_THAT(json_of(R"({"type":"record","name":"r","fields":[{"name":"a","type":"other.Type"}]})", ""),
              HasSubstr("the schema names the type 'other.Type', and does not say what it is"));
}

TEST(Avro, ARecordMayHoldItsOwnKindAsDeepAsAllowed) {
  constexpr std::string_view kList = R"({"type":"record","name":"L","fields":[{"name":"v","type":"int"},{"name":"n","type":["null","L"]}]})";
  EXPECT_EQ(json_of(kList, "\2\2\4\0"s), R"({"v":1,"n":{"v":2,"n":null}})");
  std::string deep;
  for (int i = 0; i < 1'000'000; ++i) deep += "\2\2";
  EXPECT_THAT(json_of(kList, deep), HasSubstr("expected values that are not nested so deeply"));
  EXPECT_THAT(json_of(R"({"type":"record","name":"R","fields":[{"name":"r","type":"R"}]})", ""), HasSubstr("not nested so deeply"));
}

TEST(Avro, EveryByteMustBeUsed) {
  EXPECT_EQ(json_of(R"("int")", "\2x"), "error: expected the end of the record, got 1 more bytes than its schema tells");
  const std::string whole = bytes_of(file("update.hex"));
  const std::string schema = file("envelope.avsc");
  EXPECT_THAT(json_of(schema, whole), HasSubstr(R"("op":"u")"));
  EXPECT_THAT(json_of(schema, whole + '\0'), HasSubstr("1 more bytes"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(json_of(schema, std::string_view(whole).substr(0, size)), HasSubstr("error: ")) << "cut off at " << size;
  }
}

TEST(Avro, HostileBytesAreRefused) {
  EXPECT_THAT(json_of(R"("int")", "\xfe\xff\xff\xff\x7f"), HasSubstr("expected an integer")) << "of more than 32 bits";
  EXPECT_THAT(json_of(R"("long")", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), HasSubstr("expected an integer"));
  EXPECT_THAT(json_of(R"("boolean")", "\2"), HasSubstr("true or false"));
  EXPECT_THAT(json_of(R"("string")", "\x81\x01"), HasSubstr("expected a text")) << "of a negative length";
  EXPECT_THAT(json_of(R"("string")", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1a"), HasSubstr("expected a text"));
  EXPECT_THAT(json_of(R"(["null"])", "\2"), HasSubstr("one of the types of a union"));
  EXPECT_THAT(json_of(R"({"type":"enum","name":"e","symbols":["a"]})", "\1"), HasSubstr("one of the values of an enum"));
  EXPECT_THAT(json_of(R"({"type":"array","items":"null"})", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1\0"s), HasSubstr("values of reasonable size"))
      << "items of no bytes, for ever";
  EXPECT_THAT(json_of(R"({"type":"array","items":"int"})", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2"s), HasSubstr("a number of items"));
  const std::string large = R"({"type":"array","items":{"type":"record","name":"r","fields":[{"name":")" + std::string(10'000, 'n') +
                            R"(","type":"null"},{"name":"b","type":"boolean"}]}})";
  EXPECT_THAT(json_of(large, "\x80\x80\x04"s + std::string(32'768, '\1') + "\0"s), HasSubstr("values of reasonable size"))
      << "a byte that is a text of ten thousand";
}

TEST(Avro, HostileSchemasAreRefused) {
  std::string deep = R"("int")";
  for (int i = 0; i < 40; ++i) deep = R"({"type":"array","items":)" + deep + "}";
  EXPECT_THAT(json_of(deep, ""), HasSubstr("at most 32 types in one another"));
  EXPECT_THAT(json_of(std::string(100'000, '['), ""), HasSubstr("schema: "));
  EXPECT_THAT(json_of(std::string(AvroSchema::kTextBytesMax + 1, ' '), ""), HasSubstr("expected a schema of at most"));
  std::string many = "[";
  for (int i = 0; i < 30'000; ++i) many += R"("int",)";
  many.back() = ']';
  EXPECT_THAT(json_of(many, ""), HasSubstr("at most 20000 types"));
  EXPECT_THAT(json_of(R"({"type":"fixed","name":"f"})", ""), HasSubstr("'size'"));
  EXPECT_THAT(json_of(R"({"type":"record","name":"r"})", ""), HasSubstr("'fields'"));
  EXPECT_THAT(json_of(R"("int","int")", ""), HasSubstr("expected one schema"));
  EXPECT_THAT(json_of("<html>", ""), HasSubstr("schema: "));
}

// ---- frames

TEST(WireFormat, TellsTheWidthOfIds) {
  const auto text = [](std::string_view bytes, IdWidth width, SchemaHeader header = {}) {
    const Unframed got = unframe(bytes, header, width);
    constexpr const char* kNames[] = {"bare", "json", "schema", "broken", "guid", "global id"};
    return fmt::format("{} {}/{} '{}'", kNames[static_cast<int>(got.kind)], got.id, got.id_bytes, got.bytes);
  };
  EXPECT_EQ(text("{}", IdWidth::kAuto), "bare 0/0 '{}'");
  EXPECT_EQ(text(framed(7, "xyzw"), IdWidth::kAuto), "schema 7/4 'xyzw'");
  EXPECT_EQ(text(framed(7, "xy", 8), IdWidth::kAuto), "schema 7/8 'xy'");
  EXPECT_EQ(text(framed(7, "xy", 8), IdWidth::kEight), "schema 7/8 'xy'");
  EXPECT_EQ(text(framed(7, "xy"), IdWidth::kFour), "schema 7/4 'xy'");
  EXPECT_EQ(text("\0\0\0\0"s, IdWidth::kAuto), "broken 0/4 ''");
  EXPECT_EQ(text("\0\0\0\0\7"s, IdWidth::kEight), "broken 0/8 ''");
  EXPECT_EQ(text(framed(7, R"({"id":1})"), IdWidth::kAuto), R"(json 7/4 '{"id":1}')");
  EXPECT_EQ(text(framed(7, "{ \"id\":1}\n", 8), IdWidth::kAuto), "json 7/8 '{ \"id\":1}\n'");
  EXPECT_EQ(text("\1" + std::string(16, 'g'), IdWidth::kAuto), "guid 0/0 '\1gggggggggggggggg'");
  EXPECT_EQ(text("\2ab", IdWidth::kAuto, {SchemaHeader::Kind::kId, 9}), "schema 9/0 '\2ab'");
}

TEST(WireFormat, HeadersSpeakOfKeyAndValueApart) {
  SchemaHeaders headers;
  take_header("apicurio.value.globalId", "\0\0\0\0\0\0\0\5"s, headers);
  EXPECT_EQ(headers.value.kind, SchemaHeader::Kind::kGlobalId);
  take_header("apicurio.value.contentId", "\0\0\0\0\0\0\1\2"s, headers);
  take_header("apicurio.value.globalId", "\0\0\0\0\0\0\0\5"s, headers);
  take_header("apicurio.value.encoding", "BINARY", headers);
  take_header("other.key.contentId", "\0\0\0\0\0\0\0\1"s, headers);
  EXPECT_EQ(headers.value.kind, SchemaHeader::Kind::kId);
  EXPECT_EQ(headers.value.id, 258u);
  EXPECT_EQ(headers.key.kind, SchemaHeader::Kind::kNone);
  take_header("__key_schema_id", "\0\0\0\0\3"s, headers);
  EXPECT_EQ(headers.key.id, 3u);
  take_header("__key_schema_id", "\1" + std::string(16, 'g'), headers);
  EXPECT_EQ(headers.key.kind, SchemaHeader::Kind::kGuid);
}

// ---- the store

TEST(SchemaStore, IsBoundedInNumberAndSizeAndForgetsTheOldest) {
  SchemaStore store;
  for (std::uint64_t id = 1; id <= SchemaStore::kSchemasMax; ++id) store.keep(id, {nullptr, true, 10});
  ASSERT_NE(store.find(1), nullptr) << "used again";
  store.keep(5000, {nullptr, true, 10});
  EXPECT_EQ(store.size(), SchemaStore::kSchemasMax);
  EXPECT_TRUE(store.has(1));
  EXPECT_FALSE(store.has(2));
  store.keep(6000, {nullptr, true, SchemaStore::kBytesMax - 5});
  EXPECT_LE(store.bytes(), SchemaStore::kBytesMax + 10);
  EXPECT_TRUE(store.has(6000));
  EXPECT_LE(store.size(), 2u);
}

TEST(SchemaStore, ReadsWhatARegistryAnswers) {
  EXPECT_NE(parse_schema_answer(R"({"schema":"\"string\""})")->avro, nullptr);
  EXPECT_TRUE(parse_schema_answer(R"({"schemaType":"JSON","schema":"{}"})")->is_json);
  EXPECT_EQ(parse_schema_answer(R"({"schemaType":"PROTOBUF","schema":"x"})")->avro, nullptr);
  for (const char* wrong : {"", "<html>", "{}", "[1]", R"({"schema":{"type":"string"}})", R"({"schema":"{\"type\":\"no such\"}"})"}) {
    const auto answer = parse_schema_answer(wrong);
    ASSERT_FALSE(answer) << wrong;
    EXPECT_EQ(answer.error().kind, ErrorKind::kTransient) << "another answer may be right";
  }
}

// ---- events

class AvroEnvelope : public testing::Test {
 protected:
  AvroEnvelope() {
    schemas_.keep(1, registered(file("envelope.avsc")));
    schemas_.keep(2, registered(file("key.avsc")));
    schemas_.keep(3, {nullptr, true, 0});
    schemas_.keep(4, {nullptr, false, 0});
    avro_.use_registry(&schemas_, IdWidth::kAuto);
  }
  std::string decode(EnvelopeDecoder& decoder, std::optional<std::string> key, std::optional<std::string> value) {
    key_ = std::move(key);
    value_ = std::move(value);
    last_ = decoder.decode(record_of("shop.public.items", key_, value_));
    return decoded_text(last_);
  }

  const std::string update_ = bytes_of(file("update.hex"));
  SchemaStore schemas_;
  EnvelopeDecoder avro_;
  std::optional<std::string> key_, value_;
  Result<Decoded> last_;
};

constexpr std::string_view kUpdate =
    "update public.items old{id='7' big='9007199254740993' small='-3' slug='a \"b\"\\\n\xc3\xa9' ok='true' price='-12.34' free='100.000' "
    "real='-3.4e+38' dbl='0.1' day='2024-02-03' cday='1969-12-31' clock='23:59:59.999999' at='1969-12-31T23:59:59.999' "
    "zoned='2024-02-03T04:05:06.789Z' uid='b68a35a7-17ad-35b3-af2a-ae46edb4545a'";

TEST_F(AvroEnvelope, OneRowHasTheSameTextsInEveryEncoding) {
  EnvelopeDecoder json;
  const std::string expected = decode(json, R"({"id":7})", file("update_with_schema.json"));
  ASSERT_THAT(expected, HasSubstr(std::string(kUpdate)));
  EXPECT_EQ(decode(avro_, framed(2, bytes_of(file("key.hex"))), framed(1, update_)), expected);
  EXPECT_EQ(last_->transaction_id, 700u);
  EXPECT_EQ(last_->server, "shop");
  EXPECT_TRUE(last_->has_commit_time);
  EXPECT_TRUE(avro_.traits("shop.public.items")->with_schema);
  EXPECT_FALSE(avro_.traits("shop.public.items")->is_avro_without_names);
  EXPECT_EQ(decode(avro_, framed(2, bytes_of(file("key.hex")), 8), framed(1, update_, 8)), expected) << "ids of eight bytes";
  // Without a schema: what needs none.
  const std::string bare = decode(json, R"({"id":7})", file("update_bare.json"));
  for (const char* same : {"id='7'", "big='9007199254740993'", "slug='a \"b\"\\\n\xc3\xa9'", "ok='true'", "mood='happy'"}) {
    EXPECT_THAT(bare, HasSubstr(same));
    EXPECT_THAT(expected, HasSubstr(same));
  }
}

TEST_F(AvroEnvelope, KeyAndValueAreFramedApart) {
  const std::string value = framed(1, bytes_of(file("delete.hex")));
  const std::string by_avro = decode(avro_, framed(2, bytes_of(file("key.hex"))), value);
  EnvelopeDecoder other;
  other.use_registry(&schemas_, IdWidth::kAuto);
  EXPECT_EQ(decode(other, R"({"id":7})", value), by_avro) << "a key in JSON";
  EXPECT_THAT(by_avro, HasSubstr("delete public.items old{id='7'"));
  EXPECT_EQ(decode(avro_, framed(2, bytes_of(file("key.hex"))), std::nullopt), "tombstone");
  EXPECT_EQ(decode(avro_, framed(2, "\x10"), std::nullopt), "delete public.items old{id='8'}") << "alone, it is the delete";
  EXPECT_EQ(decode(avro_, framed(2, "\x10"), R"({"before":null,"after":{"id":8,"slug":"x"},"op":"c"})"),
            "insert public.items new{id='8' slug='x'}") << "a value in JSON";
}

TEST_F(AvroEnvelope, IdsMayComeInHeaders) {
  key_ = bytes_of(file("key.hex"));
  value_ = update_;
  KafkaRecord record = record_of("shop.public.items", key_, value_);
  record.schemas = {{SchemaHeader::Kind::kId, 2}, {SchemaHeader::Kind::kId, 1}};
  EXPECT_TRUE(avro_.missing_schemas(record).empty());
  EXPECT_THAT(decoded_text(avro_.decode(record)), HasSubstr(std::string(kUpdate)));
  record.schemas.value = {SchemaHeader::Kind::kGlobalId, 1};
  const auto decoded = avro_.decode(record);
  EXPECT_THAT(decoded_text(decoded), HasSubstr("got Apicurio's global id"));
  EXPECT_THAT(decoded.error().hint, HasSubstr("apicurio.registry.use-id=contentId"));
}

TEST_F(AvroEnvelope, JsonInAFrameNeedsNoSchema) {
  EnvelopeDecoder without;
  const std::string value = R"({"before":null,"after":{"id":1,"slug":"x"},"source":{"schema":"public","table":"items"},"op":"c"})";
  EXPECT_EQ(decode(without, framed(99, R"({"id":1})"), framed(98, value)), "insert public.items new{id='1' slug='x'}");
  EXPECT_EQ(decode(without, framed(99, R"({"id":1})", 8), framed(98, value, 8)), "insert public.items new{id='1' slug='x'}");
}

TEST_F(AvroEnvelope, TellsWhichSchemasAreMissing) {
  const std::string key = framed(8, "\2"), value = framed(9, "\2xyz");
  const auto missing = avro_.missing_schemas(record_of("shop.public.items", key, value));
  ASSERT_EQ(missing.size(), 2u);
  EXPECT_EQ(missing[0].id, 9u);
  EXPECT_EQ(missing[0].id_bytes, 4);
  EXPECT_EQ(missing[0].other_id, 0x90278797aULL) << "were they of eight bytes";
  EXPECT_EQ(missing[1].id, 8u);
  EXPECT_TRUE(avro_.missing_schemas(record_of("__debezium-heartbeat.shop", key, value)).empty());
  EXPECT_TRUE(EnvelopeDecoder().missing_schemas(record_of("shop.public.items", key, value)).empty());
}

TEST_F(AvroEnvelope, AWrongWidthIsToldWithItsHint) {
  avro_.use_registry(&schemas_, IdWidth::kFour);
  schemas_.keep(0, registered(R"({"type":"record","name":"r","fields":[{"name":"a","type":"int"}]})"));
  EXPECT_THAT(decode(avro_, std::nullopt, framed(1, update_, 8)), HasSubstr("Avro of schema 0: expected the end of the record"));
  EXPECT_EQ(last_.error().hint, "the id was read from 4 bytes: if the converter writes 8, set kafka.registry.id to that");
}

TEST_F(AvroEnvelope, WhatIsNeitherAvroNorJsonIsRefused) {
  EXPECT_THAT(decode(avro_, std::nullopt, framed(4, "\0\2x"s)), HasSubstr("expected Avro or JSON, got Protobuf (schema 4)"));
  EXPECT_THAT(last_.error().hint, HasSubstr("JsonConverter"));
  EXPECT_THAT(decode(avro_, std::nullopt, "\1" + std::string(16, 'g')), HasSubstr("got Avro or Protobuf with a GUID"));
  EnvelopeDecoder without;
  EXPECT_THAT(decode(without, std::nullopt, framed(1, update_)), HasSubstr("got the framing of Avro or Protobuf (first byte 0x00)"));
  EXPECT_THAT(last_.error().hint, HasSubstr("kafka.registry"));
}

TEST_F(AvroEnvelope, AnotherSchemaOfATopicBringsItsTypes) {
  const auto schema = [](const char* type) {
    return registered(fmt::format(R"({{"type":"record","name":"Value","fields":[{{"name":"id","type":"int"}},{{"name":"d","type":{}}}]}})", type));
  };
  schemas_.keep(20, schema(R"({"type":"int","connect.name":"io.debezium.time.Date"})"));
  schemas_.keep(21, schema(R"("int")"));
  schemas_.keep(22, schema(R"({"type":"int","logicalType":"date"})"));
  EXPECT_EQ(decode(avro_, std::nullopt, framed(20, "\2\4")), "update public.items new{id='1' d='1970-01-03'}");
  EXPECT_EQ(decode(avro_, std::nullopt, framed(21, "\2\4")), "update public.items new{id='1' d='2'}");
  EXPECT_TRUE(avro_.traits("shop.public.items")->is_avro_without_names);
  EXPECT_EQ(decode(avro_, std::nullopt, framed(22, "\2\4")), "update public.items new{id='1' d='1970-01-03'}") << "by Avro's own name";
}

TEST_F(AvroEnvelope, UnchangedValuesAndDefaultsAreKnown) {
  schemas_.keep(30, registered(
      R"({"type":"record","name":"Envelope","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","fields":[)"
      R"({"name":"id","type":"int"},{"name":"stock","type":{"type":"int","connect.default":5},"default":5},{"name":"b","type":["null","bytes"]},)"
      R"({"name":"real","type":"double","default":1.0}]}]},{"name":"after","type":["null","Value"]},{"name":"op","type":"string"}]})"));
  const std::string one = bytes_of("000000000000f03f");
  const std::string before = "\2\2\x0a\0"s + one;
  const std::string after = "\2\2\x0a\2\x38__debezium_unavailable_value" + one;
  EXPECT_EQ(decode(avro_, framed(2, "\2"), framed(30, before + after + "\2u")),
            "update public.items old{id='1'} new{id='1' stock='5' b=UNCHANGED real='1'}")
      << "an old row of nothing but defaults is believed for its key";
}

}  // namespace
}  // namespace evictd
