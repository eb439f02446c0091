#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/sources/kafka/doctor/check_findings.h"
#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

RuleSet rules_from(std::string_view text) {
  auto rules = RuleSet::parse(text, "rules.yaml");
  EXPECT_TRUE(rules) << rules.error().text;
  return std::move(*rules);
}

std::vector<std::string> texts(const Findings& findings) {
  std::vector<std::string> lines;
  for (const Finding& finding : findings) {
    constexpr const char* kSeverities[] = {"error", "warning", "info"};
    lines.push_back(finding.id + " " + kSeverities[static_cast<int>(finding.severity)] + " " +
                    finding.object + ": " + finding.cause);
  }
  return lines;
}

KeptRecord kept(std::optional<std::string> key, std::optional<std::string> value) {
  KeptRecord record;
  record.at = {"shop.public.items", 0};
  record.key = std::move(key);
  record.value = std::move(value);
  return record;
}

constexpr const char* kRules = "- {table: public.items, keys: ['i:{id}', 'slug:{slug}']}";

std::vector<std::string> sampled(std::vector<KeptRecord> records) {
  Findings findings;
  check_records(records, rules_from(kRules), findings);
  return texts(findings);
}

TEST(KafkaCheck, NamesAndPatternsThatFindNothing) {
  KafkaOptions options;
  options.topics = {"shop.public.items", "^nothing[.]"};
  Findings findings;
  check_topic_names(options, rules_from(kRules), {}, findings);
  EXPECT_THAT(texts(findings),
              ElementsAre("KF002 warning shop.public.items: the topic does not exist",
                          "KF002 warning ^nothing[.]: the pattern matches no topic"));
}

TEST(KafkaCheck, OneOfSeveralPatternsThatFindsNothing) {
  KafkaOptions options;
  options.topics = {"^shop[.]", "^shpo[.]"};
  Findings findings;
  check_topic_names(options, rules_from(kRules), {{"shop.public.items", 1}}, findings);
  EXPECT_THAT(texts(findings), ElementsAre("KF002 warning ^shpo[.]: the pattern matches no topic"));
}

TEST(KafkaCheck, TablesWithoutTopicAndTopicsWithoutRows) {
  KafkaOptions options;
  options.topics = {"^shop", "^__debezium"};
  Findings findings;
  check_topic_names(
      options, rules_from(kRules),
      {{"shop.public.orders", 1}, {"shop.transaction", 1}, {"__debezium-heartbeat.shop", 1}},
      findings);
  EXPECT_THAT(
      texts(findings),
      ElementsAre("KF002 info '__debezium-heartbeat.shop', 'shop.transaction': matched by "
                  "'topics', but carry no "
                  "rows: their records are ignored",
                  "KF002 warning public.items: a rule names it, but no topic is named after it"));
}

TEST(KafkaCheck, ATableMayBeCalledLikeATopicOfDebezium) {
  KafkaOptions options;
  options.topics = {"^shop"};
  Findings findings;
  check_topic_names(options, rules_from("- {table: public.message, keys: ['m:{id}']}"),
                    {{"shop.public.message", 1}, {"shop.message", 1}}, findings);
  EXPECT_THAT(texts(findings),
              ElementsAre("KF002 info 'shop.message': matched by 'topics', but carry no rows: "
                          "their records are ignored"));
  EXPECT_FALSE(is_control_topic("shop.public.transaction", {"public.transaction"}));
  EXPECT_TRUE(is_control_topic("shop.transaction", {"public.transaction"}));
}

TEST(KafkaCheck, ATableWhoseNameKafkaWritesInAnotherWayHasItsTopic) {
  const RuleSet rules = rules_from("- {table: 'public.\"a$b\"', keys: ['a:{id}']}\n- {table: 'public.\"we.ird\"', keys: ['w:{id}']}\n"
                                   "- {table: public.other, keys: ['o:{id}']}");
  KafkaOptions options;
  options.topics = {"^shop"};
  Findings findings;
  check_topic_names(options, rules, {{"shop.public.a_b", 1}, {"shop.public.we.ird", 1}}, findings);
  EXPECT_THAT(texts(findings),
              ElementsAre("KF002 warning public.other: a rule names it, but no topic is named after it"));
  EXPECT_TRUE(is_topic_of("shop.public.we.ird", "public.we.ird"));
  EXPECT_TRUE(is_topic_of("shop.app.v1.orders", "app.v1.orders"));
  EXPECT_FALSE(is_topic_of("shoppublic.items", "public.items"));
  EXPECT_FALSE(is_topic_of("public.items", "public.items")) << "Debezium always has a prefix";
  EXPECT_FALSE(is_topic_of("shop.public.a_b", "public.a.b"));
}

TEST(KafkaCheck, AColumnWithADotInItsNameIsThere) {
  Findings findings;
  check_records(
      {kept(R"({"id":1})",
            R"({"before":null,"after":{"id":1,"x.y":"a"},"source":{"connector":"postgresql","ts_ms":1700000000000,)"
            R"("schema":"public","table":"items"},"op":"c"})")},
      rules_from("- {table: public.items, keys: ['i:{\"x.y\"}']}"), findings);
  EXPECT_THAT(texts(findings), IsEmpty());
}

TEST(KafkaCheck, OldValuesOfEachTableOfATopic) {
  const auto update = [](const char* table) {
    return kept(R"({"id":1})", std::string(R"({"before":null,"after":{"id":1,"slug":"a","name":"b"},"source":{"connector":"postgresql",)"
                                           R"("ts_ms":1700000000000,"schema":"public","table":")") + table + R"("},"op":"u"})");
  };
  Findings findings;
  check_records({update("items"), update("orders"), update("unmapped")},
                rules_from("- {table: public.items, keys: ['slug:{slug}']}\n- {table: public.orders, keys: ['name:{name}', 'g:{gone}']}"),
                findings);
  EXPECT_THAT(texts(findings),
              ElementsAre("KF005 error shop.public.items: its rows of 'public.orders' have no column 'gone', which a rule reads",
                          "KF005 warning shop.public.items: updates of 'public.items' come without the old row; rules "
                          "read old values of 'slug'",
                          "KF005 warning shop.public.items: updates of 'public.orders' come without the old row; rules "
                          "read old values of 'gone', 'name'"));
}

TEST(KafkaCheck, ARecordThatCannotBeDecoded) {
  EXPECT_THAT(sampled({kept("k", std::string("\0\0\0\0\1x", 6)), kept("k", "garbage")}),
              ElementsAre("KF005 error shop.public.items[0] offset 0: expected JSON, got the "
                          "framing of Avro or Protobuf "
                          "(first byte 0x00)"));
}

TEST(KafkaCheck, OldValuesThatAreNotSent) {
  EXPECT_THAT(
      sampled(
          {kept(R"({"id":1})",
                R"({"before":null,"after":{"id":1,"slug":"a"},"source":{"connector":"postgresql",)"
                R"("ts_ms":1700000000000,"schema":"public","table":"items"},"op":"u"})")}),
      ElementsAre("KF005 warning shop.public.items: updates come without the old row; rules read "
                  "old values of "
                  "'id', 'slug'"));
}

TEST(KafkaCheck, FlattenedRowsAndMissingColumns) {
  EXPECT_THAT(sampled({kept(R"({"id":1})", R"({"id":1})")}),
              ElementsAre("KF005 error shop.public.items: its rows of 'public.items' have no "
                          "column 'slug', which a rule "
                          "reads",
                          "KF005 warning shop.public.items: is flattened by ExtractNewRecordState: "
                          "old values are not "
                          "sent, and a truncate is not either",
                          "KF005 info shop.public.items: its records name no transaction of PostgreSQL: each counts as "
                          "visible when it is received",
                          "KF005 info shop.public.items: its records have no commit time: lag is "
                          "measured from when "
                          "Kafka got them"));
}

TEST(KafkaCheck, FlattenedRowsThatSayMore) {
  EXPECT_THAT(sampled({kept(R"({"id":1})",
                            R"({"id":1,"slug":"a","__source_ts_ms":1700000000000,"__source_txId":9,)"
                            R"("__source_connector":"postgresql"})")}),
              ElementsAre("KF005 warning shop.public.items: is flattened by ExtractNewRecordState: old values are not "
                          "sent, and a truncate is not either"));
}

TEST(KafkaCheck, NumbersThatMayBeDates) {
  EXPECT_THAT(
      sampled({kept(
          R"({"id":1})",
          R"({"before":null,"after":{"id":1,"slug":1706933106789},"source":{"connector":"postgresql",)"
          R"("ts_ms":1700000000000,"schema":"public","table":"items"},"op":"c"})")}),
      ElementsAre("KF005 info shop.public.items: comes without a schema: should 'slug' be a date "
                  "or time, its "
                  "keys hold the bare number"));
}

// The topics of a partitioned table are those of its partitions.
TEST(KafkaCheck, TopicsOfWhatLiesBelowAreTheTables) {
  KafkaOptions options;
  options.topics = {"^shop[.]"};
  const TableTree tree{{{"public.old", {{"public", "items"}}}}, {}};
  const RuleSet rules = rules_from("- {table: public.items, keys: ['i:{id}']}");
  for (const TableTree* known : {static_cast<const TableTree*>(nullptr), &tree}) {
    Findings findings;
    check_topic_names(options, rules, {{"shop.public.old", 1}}, findings, known);
    EXPECT_EQ(findings.size(), known == nullptr ? 1u : 0u);
  }
}

TEST(KafkaCheck, WhatTheDatabaseSaysOfTheTables) {
  Findings findings;
  check_tables(nullptr, {}, findings);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_THAT(findings[0].cause, testing::HasSubstr("is not set: what lies below the tables of the rules is not known"));
  findings.clear();
  const TableTree tree{{{"public.child", {{"public", "items"}}}, {"public.lost", {{"public", "orders"}}}}, {"public.items"}};
  check_tables(&tree, {{"shop.public.items", 1}}, findings);
  EXPECT_THAT(texts(findings),
              ElementsAre("KF008 error public.items: the connector's publication leaves out rows of it (a row filter): "
                          "their changes never reach Kafka",
                          "KF008 warning public.lost: lies below 'public.orders', which a rule names, but no topic of "
                          "'topics' is named after either"));
  // Debezium names a child by its own name, whatever it does with partitions; a partitioned one has no rows.
  findings.clear();
  TableTree deep = tree;
  deep.filtered.clear();
  deep.children = {"public.child"};
  deep.partitioned = {"public.lost"};
  check_tables(&deep, {{"shop.public.items", 1}}, findings);
  EXPECT_THAT(texts(findings), ElementsAre("KF008 warning public.child: lies below 'public.items', which a rule names, but no topic of 'topics' is named after it"));
  EXPECT_TRUE(check_records({kept(R"({"id":1})", R"({"before":null,"after":{"id":1,"slug":"a"},"source":{"connector":"postgresql",)"
                                  R"("ts_ms":1700000000000,"schema":"public","table":"items"},"op":"c"})")},
                            rules_from(kRules), findings));
}

std::vector<std::string> connector_findings(
    std::map<std::string, std::string> settings,
    OnSnapshotEvent on_snapshot = OnSnapshotEvent::kIgnore) {
  KafkaOptions options;
  options.on_snapshot = on_snapshot;
  Findings findings;
  check_connectors({{"shop", std::move(settings)}}, options, findings);
  return texts(findings);
}

std::vector<std::string> altered_columns(std::map<std::string, std::string> settings) {
  Findings findings;
  check_altered_columns({{"shop", std::move(settings)}}, rules_from(kRules), findings);
  return texts(findings);
}

TEST(KafkaCheck, ColumnsOfRulesThatTheConnectorAlters) {
  const auto finding = [](const std::string& columns, const std::string& kind) {
    return "KF007 error connector 'shop': does not write " + columns + " as they are (" + kind +
           "...): keys are made of what it writes, and its changes may not show";
  };
  EXPECT_THAT(altered_columns({{"column.mask.with.4.chars", "public.items.slug"}}),
              ElementsAre(finding("'public.items.slug'", "column.mask.")));
  EXPECT_THAT(altered_columns({{"column.mask.hash.SHA-256.with.salt.secret", R"(public\..*\.(secret|SLUG))"}}),
              ElementsAre(finding("'public.items.slug'", "column.mask."))) << "the salt is told to nobody";
  EXPECT_THAT(altered_columns({{"column.truncate.to.3.chars", "public.others.slug, public.items.(id|slug)"}}),
              ElementsAre(finding("'public.items.id', 'public.items.slug'", "column.truncate.")));
  EXPECT_THAT(altered_columns({{"column.mask.with.0.chars", "("}}),
              ElementsAre(finding("'public.items.id', 'public.items.slug'", "column.mask."))) << "what cannot be read may name any";
  EXPECT_THAT(altered_columns({{"column.mask.with.4.chars", "public.items.name,items.slug,public.items.slugs"},
                               {"column.include.list", "public.items.slug"}}),
              IsEmpty());
}

TEST(KafkaCheck, ConnectorSettings) {
  EXPECT_THAT(
      connector_findings({{"connector.class", "io.debezium.connector.mysql.MySqlConnector"}}),
      ElementsAre("KF007 warning connector 'shop': skips truncate (skipped.operations): a TRUNCATE "
                  "invalidates "
                  "nothing",
                  "KF007 warning connector 'shop': sends no heartbeats: silence cannot be told "
                  "from a connector "
                  "that stands still, and the slot of an idle database holds WAL"));
  const std::map<std::string, std::string> good = {
      {"connector.class", "io.debezium.connector.mysql.MySqlConnector"},
      {"skipped.operations", "none"},
      {"heartbeat.interval.ms", "1000"}};
  EXPECT_THAT(connector_findings(good), IsEmpty());
  EXPECT_THAT(
      connector_findings(good, OnSnapshotEvent::kInvalidate),
      ElementsAre(
          "KF007 warning connector 'shop': snapshot.mode=initial sends every row, and on_snapshot: "
          "invalidate deletes them all from the cache"));
  auto skipping = good;
  skipping["skipped.operations"] = "d,u";
  skipping["unavailable.value.placeholder"] = "gone";
  EXPECT_THAT(
      connector_findings(skipping),
      ElementsAre("KF007 error connector 'shop': skips changes (skipped.operations): an UPDATE invalidates nothing",
                  "KF007 error connector 'shop': skips changes (skipped.operations): a DELETE invalidates nothing",
                  "KF007 error connector 'shop': has a placeholder of its own for values that were not sent "
                  "(unavailable.value.placeholder): it is taken for a value, and keys are made of it"));
  EXPECT_THAT(connector_findings({{"connector.class", "org.example.Sink"}}), IsEmpty());
}

// What becomes of a delete is as Debezium 3.1 does it: tests/kafka/test_check.py.
TEST(KafkaCheck, FlattenedDeletesThatAreDropped) {
  const auto findings = [](const std::map<std::string, std::string>& more) {
    std::map<std::string, std::string> settings = {
        {"connector.class", "io.debezium.connector.mysql.MySqlConnector"},
        {"skipped.operations", "none"},
        {"heartbeat.interval.ms", "1000"},
        {"transforms.x.type", "io.debezium.transforms.ExtractNewRecordState"}};
    settings.insert(more.begin(), more.end());
    return connector_findings(std::move(settings));
  };
  const auto are_dropped = ElementsAre(
      "KF007 error connector 'shop': flattens rows and drops deletes (delete.tombstone.handling.mode): a delete "
      "invalidates nothing");
  const auto are_dropped_unasked = ElementsAre(
      "KF007 error connector 'shop': flattens rows and drops deletes (delete.tombstone.handling.mode is not set): a "
      "delete invalidates nothing");
  EXPECT_THAT(findings({{"transforms.x.delete.tombstone.handling.mode", "drop"}}), are_dropped);
  EXPECT_THAT(findings({{"transforms.x.delete.tombstone.handling.mode", "rewrite"}}), IsEmpty());
  EXPECT_THAT(findings({{"transforms.x.delete.tombstone.handling.mode", "tombstone"}, {"tombstones.on.delete", "false"}}),
              IsEmpty())
      << "the delete itself becomes the tombstone";
  EXPECT_THAT(findings({}), are_dropped_unasked);
  EXPECT_THAT(findings({{"transforms.another.delete.tombstone.handling.mode", "rewrite"}}), are_dropped_unasked);
  EXPECT_THAT(findings({{"transforms.x.delete.handling.mode", "drop"}}), are_dropped_unasked);
  EXPECT_THAT(findings({{"transforms.x.delete.handling.mode", "none"}}), IsEmpty());
  EXPECT_THAT(findings({{"transforms.x.delete.handling.mode", "rewrite"}}), IsEmpty());
  EXPECT_THAT(findings({{"transforms.x.drop.tombstones", "false"}}), IsEmpty());
  EXPECT_THAT(findings({{"transforms.x.drop.tombstones", "false"}, {"tombstones.on.delete", "false"}}),
              are_dropped_unasked);
}

TEST(KafkaCheck, ConnectorsAreReadFromTheRestAnswer) {
  const auto connectors = parse_connectors(
      R"({"shop":{"info":{"name":"shop","config":{"connector.class":"C","a.b":"1"},"tasks":[]}},"odd":{}})");
  ASSERT_TRUE(connectors);
  EXPECT_EQ(*connectors, (ConnectorSettings{{"shop", {{"connector.class", "C"}, {"a.b", "1"}}}}));
  EXPECT_FALSE(parse_connectors("<html>"));
  EXPECT_EQ(read_connectors("https://x").error().text,
            "expected 'http://host:port', got 'https://x'");
  for (const char* url : {"http://me:s3cret@x:8083", "https://me:s3cret@x:8083/", "me:s3cret@x"}) {
    EXPECT_EQ(read_connectors(url).error().text, "expected 'http://host:port', got an address with a user or password");
  }
}

TEST(CheckSchemas, TellsOfEachSchemaThatTheRegistryHasNot) {
  SchemaStore schemas;
  std::vector<KeptRecord> records(3);
  for (std::size_t i = 0; i < records.size(); ++i) {
    records[i].at = {"shop.public.items", 0};
    records[i].offset = static_cast<std::int64_t>(i);
  }
  records[0].value = std::string("\0\0\0\0\1\2", 6);
  records[1].value = std::string("\0\0\0\0\7\2\2\2\2\2", 10);
  records[2].value = records[1].value;
  std::vector<std::uint64_t> asked;
  const auto ask = [&](std::uint64_t id) -> Result<RegisteredSchema> {
    asked.push_back(id);
    if (id == 7) return fail(ErrorKind::kUsage, "it has no schema 7");
    return RegisteredSchema{nullptr, true, 1};
  };
  Findings findings;
  check_schemas(records, ask, IdWidth::kAuto, schemas, findings);
  EXPECT_THAT(texts(findings), ElementsAre("KF010 error shop.public.items[0] offset 1: it has no schema 7"));
  EXPECT_THAT(findings[0].fix, HasSubstr("the id was read from 4 bytes, and is 30098457090 from 8"));
  EXPECT_THAT(asked, ElementsAre(1u, 7u)) << "each once";
  EXPECT_TRUE(schemas.has(1));
}

TEST(CheckSchemas, SaysThatNothingNamesASchema) {
  SchemaStore schemas;
  Findings findings;
  KeptRecord record;
  record.value = "{}";
  check_schemas({record}, [](std::uint64_t) -> Result<RegisteredSchema> { return fail(ErrorKind::kUsage, "never asked"); }, IdWidth::kAuto,
                schemas, findings);
  EXPECT_THAT(texts(findings), ElementsAre("KF010 info kafka.registry: no record among the last ones names a schema: nothing was asked of "
                                           "the registry but whether it is there"));
}

}  // namespace
}  // namespace evictd
