#include "daemon/sources/kafka/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/sources/kafka/envelope_support.h"

namespace evictd {
namespace {

constexpr std::string_view kTopic = "shop.public.products";
constexpr std::string_view kKey = R"({"id":1})";

// An envelope without schema, with a source block as the PostgreSQL connector writes it.
std::string envelope(std::string_view op, std::string_view before, std::string_view after) {
  return fmt::format(
      R"({{"before":{},"after":{},"source":{{"version":"3.1.0.Final","connector":"postgresql","name":"shop",)"
      R"("ts_ms":1700000000123,"snapshot":"false","db":"shop","sequence":"[\"1\",\"2\"]","ts_us":1700000000123456,)"
      R"("ts_ns":1700000000123456000,"schema":"public","table":"products","txId":757,"lsn":24023128,"xmin":null}},)"
      R"("transaction":null,"op":"{}","ts_ms":1700000000999}})",
      before, after, op);
}

class Envelope : public testing::Test {
 protected:
  std::string decode(std::optional<std::string_view> key, std::optional<std::string_view> value,
                     std::string_view topic = kTopic) {
    last_ = decoder_.decode(record_of(topic, key, value));
    return decoded_text(last_);
  }
  EnvelopeDecoder decoder_;
  Result<Decoded> last_;
};

TEST_F(Envelope, DecodesCreateUpdateAndDelete) {
  EXPECT_EQ(decode(kKey, envelope("c", "null", R"({"id":1,"name":"a"})")),
            "insert public.products new{id='1' name='a'}");
  EXPECT_EQ(decode(kKey, envelope("u", R"({"id":1,"name":"a"})", R"({"id":1,"name":"b"})")),
            "update public.products old{id='1' name='a'} new{id='1' name='b'}");
  EXPECT_EQ(decode(kKey, envelope("d", R"({"id":1,"name":"b"})", "null")),
            "delete public.products old{id='1' name='b'}");
}

TEST_F(Envelope, ReadsTransactionIdTimeAndOrigin) {
  ASSERT_EQ(decode(kKey, envelope("c", "null", R"({"id":1})")),
            "insert public.products new{id='1'}");
  EXPECT_EQ(last_->transaction_id, 757u);
  EXPECT_EQ(last_->commit_time.time_since_epoch().count(), 1'700'000'000'123'456);
  EXPECT_TRUE(last_->has_commit_time);
  EXPECT_EQ(last_->connector, "postgresql");
  EXPECT_EQ(last_->server, "shop");
}

TEST_F(Envelope, TakesTheRecordsTimeWhenTheSourceHasNone) {
  ASSERT_EQ(decode(kKey, R"({"before":null,"after":{"id":1},"op":"c"})"),
            "insert public.products new{id='1'}");
  EXPECT_EQ(last_->commit_time.time_since_epoch().count(), 1'700'000'000'000'000);
  EXPECT_FALSE(last_->has_commit_time);
}

TEST_F(Envelope, KeepsNumbersAsTheyAreWritten) {
  EXPECT_EQ(
      decode(
          kKey,
          envelope(
              "c", "null",
              R"({"id":9223372036854775807,"price":12.50,"big":123456789012345678901234567890})")),
      "insert public.products new{id='9223372036854775807' price='12.50' "
      "big='123456789012345678901234567890'}");
}

TEST_F(Envelope, UpdateWithoutOldRowNamesTheKeyAsIdentity) {
  ASSERT_EQ(decode(kKey, envelope("u", "null", R"({"id":1,"name":"b"})")),
            "update public.products new{id='1' name='b'}");
  EXPECT_TRUE(last_->change.relation->columns[0].in_identity);
  EXPECT_FALSE(last_->change.relation->columns[1].in_identity);
}

TEST_F(Envelope, DeleteUnderTheDefaultIdentityKnowsTheKeyOnly) {
  // Debezium fills the columns it has no old value for: null, or zero where the column is NOT NULL.
  EXPECT_EQ(
      decode(kKey,
             envelope("d", R"({"id":1,"name":null,"stock":0,"slug":"","on_sale":false})", "null")),
      "delete public.products old{id='1'}");
}

TEST_F(Envelope, WithoutASchemaAnOldValueMayBeADefault) {
  // name text NOT NULL DEFAULT 'a': as Debezium 3.1 writes it into the old row of every delete.
  const std::string gone = envelope("d", R"({"id":1,"name":"a","category":null})", "null");
  EXPECT_EQ(decode(kKey, gone), "delete public.products old{id='1'}");
  decode(kKey, envelope("u", "null", R"({"id":1,"name":"b","category":1})"));
  EXPECT_EQ(decode(kKey, gone), "delete public.products old{id='1'}");
}

TEST_F(Envelope, AnUpdateWithAnOldValueShowsThatMoreThanTheKeyIsSent) {
  decode(kKey, envelope("u", R"({"id":1,"name":"a","category":null})", R"({"id":1,"name":"b","category":null})"));
  EXPECT_EQ(decode(kKey, envelope("d", R"({"id":1,"name":"b","category":null})", "null")),
            "delete public.products old{id='1' name='b'}");
}

TEST_F(Envelope, WithASchemaDefaultsAreNotTakenForOldValues) {
  const std::string_view schema =
      R"({"type":"struct","fields":[{"type":"struct","field":"before","fields":[{"type":"int32","field":"id"},)"
      R"({"type":"string","optional":false,"default":"active","field":"status"},)"
      R"({"type":"string","optional":true,"default":"x","field":"note"},)"
      R"({"type":"int32","optional":false,"default":5,"field":"stock"},)"
      R"({"type":"string","optional":true,"field":"slug"}]}]})";
  const auto gone = [&](std::string_view row) {
    return decode(kKey, fmt::format(R"({{"schema":{},"payload":{}}})", schema, envelope("d", row, "null")));
  };
  EXPECT_EQ(gone(R"({"id":1,"status":"active","note":"x","stock":5,"slug":null})"),
            "delete public.products old{id='1'}");
  EXPECT_EQ(gone(R"({"id":1,"status":"gone","note":"x","stock":5,"slug":null})"),
            "delete public.products old{id='1' status='gone'}")
      << "of an index that serves as the identity";
  EXPECT_EQ(gone(R"({"id":1,"status":"active","note":null,"stock":5,"slug":"s"})"),
            "delete public.products old{id='1' status='active' note=NULL stock='5' slug='s'}")
      << "a column that may be NULL is sent under the identity FULL alone";
  EXPECT_EQ(gone(R"({"id":1,"status":"active","note":"x","stock":5,"slug":null})"),
            "delete public.products old{id='1' status='active' note='x' stock='5' slug=NULL}");
}

TEST_F(Envelope, AnUpdateWithAWholeOldRowShowsThatTheIdentityIsFull) {
  const std::string row = R"({"id":1,"name":"a","stock":7})";
  decode(kKey, envelope("u", row, row));
  EXPECT_EQ(decode(kKey, envelope("d", R"({"id":1,"name":null,"stock":0})", "null")),
            "delete public.products old{id='1' name=NULL stock='0'}");
}

TEST_F(Envelope, AnUpdateOfAnIndexedIdentityShowsNothing) {
  // REPLICA IDENTITY USING INDEX (name): the primary key itself was not sent.
  decode(kKey,
         envelope("u", R"({"id":0,"name":"a","stock":0})", R"({"id":1,"name":"b","stock":7})"));
  EXPECT_EQ(decode(kKey, envelope("d", R"({"id":1,"name":null,"stock":0})", "null")),
            "delete public.products old{id='1'}");
}

TEST_F(Envelope, OtherConnectorsSendWholeOldRows) {
  const std::string value =
      R"({"before":{"id":1,"name":null},"after":null,"source":{"connector":"mysql","name":"s","db":"shop","table":"products"},"op":"d"})";
  EXPECT_EQ(decode(kKey, value), "delete shop.products old{id='1' name=NULL}");
}

TEST_F(Envelope, PlaceholderOfUnchangedToastIsNotAValue) {
  EXPECT_EQ(
      decode(
          kKey,
          envelope(
              "u", "null",
              R"({"id":1,"body":"__debezium_unavailable_value",)"
              R"("tags":["__debezium_unavailable_value"],)"
              R"("numbers":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],)"
              R"("raw":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="})")),
      "update public.products new{id='1' body=UNCHANGED tags=UNCHANGED numbers=UNCHANGED "
      "raw=UNCHANGED}");
}

TEST_F(Envelope, SnapshotRowsAreMarked) {
  EXPECT_EQ(decode(kKey, envelope("r", "null", R"({"id":1})")),
            "snapshot insert public.products new{id='1'}");
}

TEST_F(Envelope, TheEndsOfASnapshotAreMarked) {
  const std::string of_the_stream = R"("snapshot":"false")";
  const auto end_of = [&](std::string_view mark) {
    std::string row = envelope("r", "null", R"({"id":1})");
    row.replace(row.find(of_the_stream), of_the_stream.size(), fmt::format(R"("snapshot":"{}")", mark));
    decode(kKey, row);
    const SnapshotEnd of_envelope = last_->snapshot_end;
    decode(kKey, fmt::format(R"({{"id":1,"__op":"r","__source_snapshot":"{}"}})", mark));
    EXPECT_EQ(last_->snapshot_end, of_envelope) << "flattened: " << mark;
    return of_envelope;
  };
  EXPECT_EQ(end_of("first"), SnapshotEnd::kFirst);
  EXPECT_EQ(end_of("last"), SnapshotEnd::kLast);
  EXPECT_EQ(end_of("first_in_data_collection"), SnapshotEnd::kFirstOfTable);
  EXPECT_EQ(end_of("last_in_data_collection"), SnapshotEnd::kLastOfTable);
  for (const char* mark : {"true", "incremental", "false", ""}) EXPECT_EQ(end_of(mark), SnapshotEnd::kNone) << mark;
}

TEST_F(Envelope, TruncateHasNoKeyAndNoRows) {
  EXPECT_EQ(decode(std::nullopt, envelope("t", "null", "null")), "truncate public.products");
}

TEST_F(Envelope, MessagesAreIgnored) {
  EXPECT_EQ(
      decode(
          R"({"prefix":"p"})",
          R"({"op":"m","ts_ms":1,"source":{"connector":"postgresql"},"message":{"prefix":"p","content":"YQ=="}})",
          "shop.message"),
      "message");
}

TEST_F(Envelope, ControlTopicsAreIgnored) {
  EXPECT_EQ(decode(R"({"serverName":"shop"})", R"({"ts_ms":1})", "__debezium-heartbeat.shop"),
            "heartbeat");
  EXPECT_EQ(decode(R"({"id":"1"})",
                   R"({"status":"BEGIN","id":"1","event_count":null,"data_collections":null})",
                   "shop.transaction"),
            "transaction marker");
  EXPECT_EQ(
      decode(
          R"({"databaseName":"shop"})",
          R"j({"source":{},"databaseName":"shop","schemaName":null,"ddl":"CREATE TABLE t(i int)","tableChanges":[]})j",
          "shop"),
      "schema change");
}

TEST_F(Envelope, ATableMayBeCalledTransaction) {
  const std::string value =
      R"({"before":null,"after":{"status":"BEGIN","id":1,"event_count":2},"op":"c"})";
  EXPECT_EQ(decode(kKey, value, "shop.public.transaction"),
            "insert public.transaction new{id='1' status='BEGIN' event_count='2'}");
}

TEST_F(Envelope, TombstoneAfterItsDeleteAddsNothing) {
  decode(kKey, envelope("d", R"({"id":1,"name":"b"})", "null"));
  EXPECT_EQ(decode(kKey, std::nullopt), "tombstone");
}

TEST_F(Envelope, TombstoneAloneIsADeleteByKey) {
  decode(kKey, envelope("c", "null", R"({"id":1,"name":"b"})"));
  EXPECT_EQ(decode(R"({"id":2})", std::nullopt), "delete public.products old{id='2'}");
  EXPECT_EQ(decode(R"({"id":2})", std::nullopt), "delete public.products old{id='2'}") << "again";
}

TEST_F(Envelope, TombstoneOfANewTopicTakesTheTableFromItsName) {
  EXPECT_EQ(decode(R"({"id":7})", std::nullopt, "a.b.inventory.orders"),
            "delete inventory.orders old{id='7'}");
  EXPECT_EQ(decode(R"({"id":7})", std::nullopt, "orders"),
            "error: expected a key of a known table with an empty value");
  EXPECT_EQ(decode(std::nullopt, std::nullopt),
            "error: expected a key of a known table with an empty value");
}

TEST_F(Envelope, SchemaOrNoneIsDecidedRecordByRecord) {
  const std::string with_schema =
      R"({"schema":{"type":"struct","fields":[{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},)"
      R"({"type":"int32","name":"io.debezium.time.Date","field":"day"}],"field":"before"},)"
      R"({"type":"struct","fields":[{"type":"int32","field":"id"},{"type":"int32","name":"io.debezium.time.Date","field":"day"}],)"
      R"("field":"after"}]},"payload":)" +
      envelope("c", "null", R"({"id":1,"day":19756})") + "}";
  EXPECT_EQ(decode(kKey, with_schema), "insert public.products new{id='1' day='2024-02-03'}");
  EXPECT_EQ(decode(kKey, with_schema), "insert public.products new{id='1' day='2024-02-03'}")
      << "the shortcut";
  EXPECT_EQ(decode(kKey, envelope("c", "null", R"({"id":1,"day":"2024-02-03"})")),
            "insert public.products new{id='1' day='2024-02-03'}");
  EXPECT_EQ(decode(kKey, with_schema), "insert public.products new{id='1' day='2024-02-03'}")
      << "and back";
  EXPECT_EQ(decode(R"({"schema":null,"payload":{"id":1}})", R"({"schema":null,"payload":null})"),
            "delete public.products old{id='1'}");
}

TEST_F(Envelope, ACutSchemaRecordIsAnErrorOnTheShortcutToo) {
  const std::string whole = R"({"schema":{"type":"struct","fields":[]},"payload":)" +
                            envelope("c", "null", R"({"id":1})") + "}";
  ASSERT_EQ(decode(kKey, whole), "insert public.products new{id='1'}");
  for (std::size_t cut = 1; cut < whole.size(); ++cut) {
    EXPECT_THAT(decode(kKey, whole.substr(0, cut)), testing::StartsWith("error: ")) << cut;
  }
  EXPECT_THAT(decode(kKey, whole + "}"), testing::StartsWith("error: "));
}

TEST_F(Envelope, CutAtEveryByteIsAnErrorNeverACrash) {
  const std::string whole = envelope("u", R"({"id":1,"name":"ä\n","p":{"a":[1,{"b":2}]}})",
                                     R"({"id":1,"name":"b","p":null})");
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    EXPECT_THAT(decode(kKey, whole.substr(0, cut)), testing::StartsWith("error: ")) << cut;
  }
}

TEST_F(Envelope, RelationsChangeOnlyWithTheTable) {
  decode(kKey, envelope("c", "null", R"({"id":1,"name":"b"})"));
  const std::uint64_t generation = last_->change.relation->generation;
  decode(kKey, envelope("u", R"({"id":1,"name":"b"})", R"({"id":1,"name":"c"})"));
  EXPECT_EQ(last_->change.relation->generation, generation);
  decoder_.take_retired();
  const Relation* old = last_->change.relation;
  EXPECT_EQ(decode(kKey, envelope("c", "null", R"({"id":1,"name":"b","color":"red"})")),
            "insert public.products new{id='1' name='b' color='red'}");
  EXPECT_NE(last_->change.relation->generation, generation);
  const auto retired = decoder_.take_retired();
  ASSERT_EQ(retired.size(), 1u);
  EXPECT_EQ(retired[0].get(), old);
}

TEST_F(Envelope, AColumnThatVanishedIsNotSent) {
  decode(kKey, envelope("c", "null", R"({"id":1,"name":"b","color":"red"})"));
  EXPECT_EQ(decode(kKey, envelope("c", "null", R"({"id":1,"color":"red"})")),
            "insert public.products new{id='1' color='red'}");
}

TEST_F(Envelope, TellsWhatItCannotRead) {
  EXPECT_EQ(decode(kKey, std::string("\0\0\0\0\1ab", 7)),
            "error: expected JSON, got the framing of Avro or Protobuf (first byte 0x00)");
  EXPECT_THAT(last_.error().hint,
              testing::HasSubstr("org.apache.kafka.connect.json.JsonConverter"));
  EXPECT_EQ(decode(kKey, std::string("\1ab", 3)),
            "error: expected JSON, got the framing of Avro or Protobuf (first byte 0x01)");
  EXPECT_EQ(decode(kKey, ""), "error: expected a JSON object, got an empty value");
  EXPECT_EQ(decode(kKey, "hello\x7fworld"), "error: expected a JSON object, got 'hello?world'");
  EXPECT_EQ(decode(kKey, envelope("x", "null", "null")),
            "error: expected an operation c, u, d, r, t or m, got 'x'");
  EXPECT_EQ(decode(kKey, envelope("c", "null", "null")),
            "error: expected 'after' in an event of operation 'c'");
  EXPECT_EQ(decode(kKey, envelope("c", "null", "7")), "error: 'after': expected an object");
  EXPECT_EQ(
      decode(
          kKey,
          R"({"specversion":"1.0","id":"1","source":"/x","type":"t","datacontenttype":"application/json","data":{}})"),
      "error: expected a Debezium event, got a CloudEvent");
  EXPECT_EQ(decode(kKey, R"({"schema":{},"payload":7})"), "error: expected an object as 'payload'");
  EXPECT_EQ(decode(kKey, R"({"id":1})", "products"),
            "error: expected a Debezium envelope with 'op', or a flattened row in a topic named "
            "'...schema.table'");
  EXPECT_EQ(decode(kKey, R"({"after":{"id":1},"op":"c"})", "products"),
            "error: expected 'source' with the table's name, or a topic named '...schema.table'");
}

TEST_F(Envelope, AValueThatDoesNotFitItsTypeNamesTheColumnNotTheValue) {
  const auto with_type = [](std::string_view type, std::string_view value) {
    return fmt::format(
        R"({{"schema":{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":)"
        R"([{{"field":"x",{}}}]}}]}},"payload":{{"op":"c","after":{{"x":{}}}}}}})",
        type, value);
  };
  EXPECT_EQ(
      decode(kKey, with_type(R"("type":"int32","name":"io.debezium.time.Date")", R"("secret")")),
      "error: 'after': column 'x': expected a number of days");
  EXPECT_EQ(
      decode(kKey, with_type(R"("type":"bytes","name":"org.apache.kafka.connect.data.Decimal")",
                             R"("*")")),
      "error: 'after': column 'x': expected a decimal in base64");
  EXPECT_EQ(decode(kKey, with_type(R"("type":"boolean")", "1")),
            "error: 'after': column 'x': expected true or false");
  EXPECT_EQ(decode(kKey, with_type(R"("type":"int64")", "1.5")),
            "error: 'after': column 'x': expected an integer");
  EXPECT_EQ(decode(kKey, with_type(R"("type":"string")", "1")),
            "error: 'after': column 'x': expected a string");
}

TEST_F(Envelope, KeysThatAreNotJsonNameNoIdentity) {
  ASSERT_EQ(decode("1", envelope("u", "null", R"({"id":1})")),
            "update public.products new{id='1'}");
  EXPECT_FALSE(last_->change.relation->columns[0].in_identity);
  EXPECT_EQ(decode("2", std::nullopt), "error: expected a JSON object as the key");
}

TEST_F(Envelope, FlattenedRowsAreUpdatesWithoutOldRow) {
  EXPECT_EQ(decode(kKey, R"({"id":1,"name":"a"})"), "update public.products new{id='1' name='a'}");
  EXPECT_EQ(
      decode(kKey,
             R"({"id":1,"name":"a","__op":"c","__source_ts_ms":1700000000123,"__source_txId":9})"),
      "insert public.products new{id='1' name='a'}");
  EXPECT_EQ(last_->transaction_id, 9u);
  EXPECT_EQ(last_->commit_time.time_since_epoch().count(), 1'700'000'000'123'000);
  EXPECT_EQ(decode(kKey, R"({"id":1,"name":null,"__deleted":"true"})"),
            "delete public.products old{id='1'}");
  EXPECT_EQ(decode(kKey, R"({"id":1,"name":"a","__deleted":"false"})"),
            "update public.products new{id='1' name='a'}");
  EXPECT_EQ(decode(kKey, R"({"id":1,"__op":"r"})"), "snapshot insert public.products new{id='1'}");
  EXPECT_TRUE(decoder_.traits(kTopic)->flattened);
  EXPECT_EQ(decode(R"({"id":4})", std::nullopt), "delete public.products old{id='4'}");
  EXPECT_EQ(decode(R"({"id":5})", "null"), "delete public.products old{id='5'}");
  EXPECT_EQ(decode(R"({"id":6})", R"({"schema":{"type":"struct","fields":[]},"payload":null})"),
            "delete public.products old{id='6'}");
  EXPECT_EQ(decode(std::nullopt, "null"), "error: expected a key of a known table with an empty value");
}

// Apicurio's ExtJsonConverter, readable form.
TEST_F(Envelope, ARecordThatNamesItsSchemaByNumberIsReadAsItsPayload) {
  const auto named = [](std::string_view payload) { return fmt::format(R"({{"schemaId":7,"payload":{}}})", payload); };
  const std::string key = named(R"({"id":1})");
  EXPECT_EQ(decode(key, named(envelope("u", R"({"id":1,"name":"a"})", R"({"id":1,"name":"b"})"))),
            "update public.products old{id='1' name='a'} new{id='1' name='b'}");
  EXPECT_TRUE(last_->change.relation->columns[0].in_identity);
  EXPECT_FALSE(decoder_.traits(kTopic)->with_schema);
  EXPECT_FALSE(decoder_.traits(kTopic)->flattened);
  EXPECT_EQ(decode(key, named(R"({"id":1,"name":"c"})")), "update public.products new{id='1' name='c'}");
  EXPECT_EQ(decode(named(R"({"id":9})"), named("null")), "delete public.products old{id='9'}");
  // A flattened row may have columns of these names; JSON comes as a text.
  EXPECT_EQ(decode(R"({"schemaId":7})", R"({"schemaId":7,"payload":"{}"})", "shop.public.outbox"),
            "update public.outbox new{schemaId='7' payload='{}'}");
}

TEST_F(Envelope, FlattenedRowsMayNameTheirTable) {
  EXPECT_EQ(decode(kKey, R"({"id":1,"__table":"orders","__schema":"sales"})", "all-events"),
            "update sales.orders new{id='1'}");
}

TEST_F(Envelope, OneTopicMayCarryManyTables) {
  const auto of_table = [](std::string_view table) {
    return fmt::format(
        R"({{"before":null,"after":{{"id":1}},"source":{{"schema":"public","table":"{}"}},"op":"c"}})",
        table);
  };
  EXPECT_EQ(decode(kKey, of_table("a"), "routed"), "insert public.a new{id='1'}");
  EXPECT_EQ(decode(kKey, of_table("b"), "routed"), "insert public.b new{id='1'}");
  EXPECT_EQ(decoder_.traits("routed")->tables, (std::set<std::string>{"public.a", "public.b"}));
}

TEST_F(Envelope, KnowsAHeartbeatWhateverItsTopicIsCalled) {
  EXPECT_EQ(decode(R"({"serverName":"shop"})", R"({"ts_ms":1700000000123})", "beats.shop"), "heartbeat");
  EXPECT_EQ(decode(R"({"schema":{"type":"struct"},"payload":{"serverName":"shop"}})",
                   R"({"schema":{"type":"struct"},"payload":{"ts_ms":1700000000123}})", "beats.shop"),
            "heartbeat");
}

TEST_F(Envelope, IgnoresATimeThatNoClockSays) {
  std::string value = envelope("c", "null", R"({"id":1})");
  for (const char* field : {"ts_us", "ts_ns"}) value.replace(value.find(field), 5, "other");
  value.replace(value.find("1700000000123"), 13, "9223372036854775807");
  ASSERT_EQ(decode(kKey, value), "insert public.products new{id='1'}");
  EXPECT_EQ(last_->commit_time.time_since_epoch().count(), 1'700'000'000'000'000) << "the record's own";
}

// Debezium 3.1 writes null for such a value when it is TOASTed and did not change.
TEST_F(Envelope, ANullArrayOfAnUpdateMayBeAValueThatWasNotSent) {
  const std::string_view schema =
      R"({"type":"struct","fields":[{"type":"struct","field":"after","fields":[{"type":"int32","field":"id"},)"
      R"({"type":"string","field":"name"},{"type":"array","items":{"type":"boolean"},"field":"flags"}]}]})";
  const auto with_schema = [&](const std::string& payload) {
    return fmt::format(R"({{"schema":{},"payload":{}}})", schema, payload);
  };
  EXPECT_EQ(decode(kKey, with_schema(envelope("c", "null", R"({"id":1,"name":null,"flags":null})"))),
            "insert public.products new{id='1' name=NULL flags=NULL}");
  EXPECT_EQ(decode(kKey, with_schema(envelope("u", "null", R"({"id":1,"name":null,"flags":null})"))),
            "update public.products new{id='1' name=NULL flags=UNCHANGED}");
  EXPECT_EQ(decode(kKey, with_schema(R"({"id":1,"name":"x","flags":null,"__op":"u"})"), "shop.public.flat"),
            "update public.flat new{id='1' name='x' flags=UNCHANGED}");
}

// A topic that a router fills with the tables of many shards.
TEST_F(Envelope, ForgetsTablesRatherThanGrow) {
  for (int round = 0; round < 2; ++round) {
    for (int shard = 0; shard < 1500; ++shard) {
      std::string value = envelope("c", "null", R"({"id":1})");
      value.replace(value.find(R"("products")"), 10, fmt::format(R"("shard{}")", shard));
      ASSERT_EQ(decode(kKey, value), fmt::format("insert public.shard{} new{{id='1'}}", shard));
      decoder_.take_retired();
    }
  }
  EXPECT_LE(decoder_.traits(kTopic)->tables.size(), 1025u);
  EXPECT_TRUE(decoder_.traits(kTopic)->has_more_tables) << "what the topic carries is not known";
}

}  // namespace
}  // namespace evictd
