// The consumer against librdkafka's mock cluster.
#include "daemon/sources/kafka/kafka_source.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "tests/unit/sources/kafka/mock_kafka.h"

namespace evictd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr const char* kTopic = "shop.public.items";

KafkaOptions options_for(const MockKafka& kafka) {
  KafkaOptions options;
  options.brokers = kafka.brokers();
  options.group = "g";
  options.topics = {kTopic};
  options.revoke_drain = std::chrono::milliseconds(2000);
  // The mock's coordinator waits this long for members that do not come back.
  options.properties = {{"session.timeout.ms", "6000"}, {"heartbeat.interval.ms", "200"}};
  return options;
}

class KafkaSourceTest : public testing::Test {
 protected:
  KafkaSourceTest() { kafka.create_topic(kTopic, 1); }

  void produce(int id) {
    kafka.produce(kTopic, 0, fmt::format(R"({{"id":{}}})", id), insert_of(id, 700 + id));
  }
  // A group that has read before, and stands at the beginning.
  Record record_of_before() {
    kafka.commit("g", kTopic, 0, 0);
    return Record{};
  }

  MockKafka kafka;
};

TEST_F(KafkaSourceTest, FirstStartBeginsAtTheEndAndCommitsThat) {
  produce(1);
  Driver daemon(options_for(kafka));
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }))
      << "the end, before any record";
  produce(2);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_THAT(daemon.seen.changes, ElementsAre("insert public.items 2"));
  EXPECT_EQ(daemon.seen.connected.epoch, "debezium/shop");
  EXPECT_FALSE(daemon.seen.connected.has_snapshots);
}

// It says what was there when it was sent, however long it lay in its topic.
TEST_F(KafkaSourceTest, AHeartbeatIsOfTheTimeWhenItWasSent) {
  const std::string topic = "__debezium-heartbeat.shop";
  kafka.create_topic(topic, 1);
  KafkaOptions options = options_for(kafka);
  options.topics = {kTopic, topic};
  Driver daemon(options);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", topic, 0) == 0; }));
  for (const std::chrono::seconds age : {std::chrono::seconds(600), std::chrono::seconds(0)}) {
    const int before = daemon.seen.heartbeats;
    kafka.produce(topic, 0, R"({"serverName":"shop"})", R"({"ts_ms":1})", std::chrono::floor<SystemTime::duration>(std::chrono::system_clock::now() - age));
    ASSERT_TRUE(daemon.until([&] { return daemon.seen.heartbeats > before; }));
    const auto passed = std::chrono::steady_clock::now() - daemon.seen.last_heartbeat_sent;
    EXPECT_GE(passed, age);
    EXPECT_LT(passed, age + std::chrono::seconds(60));
  }
}

TEST_F(KafkaSourceTest, AServersTransactionTopicIsNoServerOfItsOwn) {
  kafka.create_topic("my.shop.public.items", 1);
  kafka.create_topic("my.shop.transaction", 1);
  KafkaOptions options = options_for(kafka);
  options.topics = {"my.shop.public.items", "my.shop.transaction"};
  Driver daemon(options);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  EXPECT_EQ(daemon.seen.connected.epoch, "debezium/my.shop");
}

TEST_F(KafkaSourceTest, OffsetsAreCommittedOnlyWhenAcknowledged) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  daemon.acknowledges = false;
  produce(1);
  produce(2);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 2; }));
  ASSERT_EQ(daemon.seen.commits.size(), 2u);
  EXPECT_EQ(daemon.seen.commits[0].value, 1u);
  EXPECT_EQ(daemon.seen.commits[1].value, 2u);
  daemon.source->acknowledge(daemon.seen.commits[0]);
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
  daemon.stop();
  EXPECT_EQ(kafka.committed("g", kTopic, 0), 1)
      << "closing must not commit what Redis has not answered";
}

TEST_F(KafkaSourceTest, ARestartDeliversWhatWasNotAcknowledged) {
  const Record record = record_of_before();
  {
    Driver first(options_for(kafka), record);
    first.acknowledges = false;
    produce(1);
    produce(2);
    ASSERT_TRUE(first.until([&] { return first.seen.changes.size() == 2; }));
    first.source->acknowledge(first.seen.commits[0]);
    first.step();
  }
  Driver second(options_for(kafka), record);
  ASSERT_TRUE(second.until([&] { return !second.seen.changes.empty(); }));
  EXPECT_THAT(second.seen.changes, ElementsAre("insert public.items 2"));
  EXPECT_EQ(second.seen.commits[0].value, 2u);
}

TEST_F(KafkaSourceTest, ATransactionHasTheSameIdAtEachDelivery) {
  const Record record = record_of_before();
  kafka.create_topic("my.public.items", 1);
  const std::string mysql =
      R"({"before":null,"after":{"id":1},"source":{"connector":"mysql","name":"my","db":"public","table":"items"},"op":"c"})";
  kafka.produce("my.public.items", 0, R"({"id":1})", mysql);
  kafka.commit("g", "my.public.items", 0, 0);
  KafkaOptions options = options_for(kafka);
  options.topics = {"my.public.items"};
  std::vector<Xid> xids;
  for (int run = 0; run < 2; ++run) {
    Driver daemon(options, record);
    daemon.acknowledges = false;
    ASSERT_TRUE(daemon.until([&] { return daemon.seen.xids.size() == 1; }));
    xids.push_back(daemon.seen.xids[0]);
  }
  EXPECT_EQ(xids[0], xids[1]);
  EXPECT_GT(number(xids[0]), 1ULL << 53) << "never comparable with a snapshot";
}

TEST_F(KafkaSourceTest, NothingIsTakenWhileThePipelineIsFull) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  daemon.bytes_max = 0;
  for (int id = 1; id <= 3; ++id) produce(id);
  EXPECT_FALSE(daemon.until([&] { return !daemon.seen.changes.empty(); }, std::chrono::seconds(1)));
  daemon.bytes_max = 1;  // one record at a time
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  daemon.bytes_max = 1 << 20;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 3; }));
  EXPECT_THAT(daemon.seen.changes, ElementsAre("insert public.items 1", "insert public.items 2",
                                               "insert public.items 3"));
}

TEST_F(KafkaSourceTest, TellsSinceWhenAnOldRecordWasThere) {
  const Record record = record_of_before();
  produce(1);
  Driver daemon(options_for(kafka), record);
  const SteadyTime before = std::chrono::steady_clock::now();
  daemon.bytes_max = 0;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  daemon.bytes_max = 1 << 20;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  ASSERT_TRUE(daemon.seen.begun.known_since);
  EXPECT_GE(*daemon.seen.begun.known_since, before) << "before anybody has looked";
  EXPECT_LE(*daemon.seen.begun.known_since, std::chrono::steady_clock::now());
}

TEST_F(KafkaSourceTest, OfANewRecordItIsNotKnownHowLongItWasThere) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return daemon.source->status().state == "streaming"; }));
  SteadyTime produced{};
  int id = 0;
  // A look at the end may fall between a record and its delivery: not each time.
  ASSERT_TRUE(daemon.until([&] {
    const std::size_t seen = daemon.seen.changes.size();
    produced = std::chrono::steady_clock::now();
    produce(++id);
    if (!daemon.until([&] { return daemon.seen.changes.size() > seen; })) return true;
    EXPECT_GE(daemon.seen.begun.known_since.value_or(SteadyTime::max()), produced);
    return !daemon.seen.begun.known_since;
  }));
  EXPECT_FALSE(daemon.seen.begun.known_since);
}

// One record fills the queue. A fetch that is not begun again at once comes a second later: two minutes for these.
TEST_F(KafkaSourceTest, FetchingGoesOnAsSoonAsTheQueueIsRead) {
  constexpr int kRecords = 120;
  const Record record = record_of_before();
  for (int id = 1; id <= kRecords; ++id) kafka.produce(kTopic, 0, fmt::format(R"({{"id":{}}})", id), insert_of(id) + std::string(2000, ' '));
  KafkaOptions options = options_for(kafka);
  options.properties["queued.max.messages.kbytes"] = "1";
  options.properties["fetch.message.max.bytes"] = "2000";
  Driver daemon(options, record);
  EXPECT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == kRecords; }, std::chrono::seconds(40)))
      << daemon.seen.changes.size() << " records were read";
}

TEST_F(KafkaSourceTest, IgnoredRecordsMoveThePosition) {
  const Record record = record_of_before();
  std::string snapshot = insert_of(1);
  snapshot.replace(snapshot.find(R"("op":"c")"), 8, R"("op":"r")");
  kafka.produce(kTopic, 0, R"({"id":1})", snapshot);
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
  EXPECT_TRUE(daemon.seen.changes.empty());
  EXPECT_EQ(daemon.seen.begun.place, 0u) << "before its end, and not before what it follows";
}

TEST_F(KafkaSourceTest, SnapshotRowsInvalidateWhenAsked) {
  const Record record = record_of_before();
  std::string snapshot = insert_of(1);
  snapshot.replace(snapshot.find(R"("op":"c")"), 8, R"("op":"r")");
  kafka.produce(kTopic, 0, R"({"id":1})", snapshot);
  KafkaOptions options = options_for(kafka);
  options.on_snapshot = OnSnapshotEvent::kInvalidate;
  Driver daemon(options, record);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
}

TEST_F(KafkaSourceTest, PoisonIsPurgedKeptAndCommittedAfterwards) {
  const Record record = record_of_before();
  const std::string file =
      testing::TempDir() + "/evictd-dead-letters-" + std::to_string(::getpid());
  std::filesystem::remove(file);
  KafkaOptions options = options_for(kafka);
  options.dead_letter_file = file;
  kafka.produce(kTopic, 0, "k", "garbage");
  produce(2);
  Driver daemon(options, record);
  daemon.acknowledges = false;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_TRUE(daemon.seen.has("unknown: public.items"));
  EXPECT_EQ(daemon.seen.commits[0].value, 1u);
  EXPECT_EQ(daemon.source->status().kafka->poison_records, 1u);
  std::ifstream stream(file);
  std::stringstream content;
  content << stream.rdbuf();
  EXPECT_EQ(
      content.str(),
      "evictd-dead-letter topic=shop.public.items partition=0 offset=0 key_bytes=1 value_bytes=7 "
      "error=expected a JSON object, got 'garbage'\nkgarbage\n");
  std::filesystem::remove(file);
}

// Of the rules in force: those of a reload count from set_tables() on.
TEST_F(KafkaSourceTest, DecodesWhatTheRulesReadAndNothingElse) {
  const Record record = record_of_before();
  const auto produce = [&] { kafka.produce(kTopic, 0, R"({"id":1})",
                R"({"schema":{"type":"struct","fields":[{"type":"struct","field":"after","fields":[)"
                R"({"field":"day","type":"int32","name":"io.debezium.time.Date"},{"field":"other","type":"int32","name":"io.debezium.time.Date"}]}]},)"
                R"("payload":{"before":null,"after":{"day":1,"other":1},"source":{"schema":"public","table":"items"},"op":"c"}})"); };
  produce();
  const auto rules = RuleSet::parse("- {table: public.items, keys: ['i:{day}']}", "rules.yaml");
  ASSERT_TRUE(rules);
  Driver daemon(options_for(kafka), record);
  daemon.bytes_max = 0;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  daemon.source->check_rules(*rules);
  EXPECT_TRUE(daemon.source->take_rules_check().value());
  daemon.source->set_tables(rules->tables());
  daemon.bytes_max = 1 << 20;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_THAT(daemon.seen.values, ElementsAre("1970-01-02", "1"));
  // Tables that come without their rules: anything may be read.
  daemon.source->set_tables(rules->tables());
  produce();
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 2; }));
  EXPECT_THAT(daemon.seen.values, ElementsAre("1970-01-02", "1970-01-02"));
}

// The scale and the number that took the process down.
TEST_F(KafkaSourceTest, ARecordOfNumbersOutOfReasonIsPoisonLikeAnyOther) {
  const Record record = record_of_before();
  const auto insert = [&](const char* type, const char* value) {
    kafka.produce(kTopic, 0, R"({"id":1})", fmt::format(
        R"({{"schema":{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":[{{"field":"x",{}}}]}}]}},)"
        R"("payload":{{"before":null,"after":{{"x":{}}},"source":{{"schema":"public","table":"items"}},"op":"c"}}}})", type, value));
  };
  insert(R"("type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"-2147483648"})", R"("AQ==")");
  insert(R"("type":"int64","name":"io.debezium.time.Date")", "-9223372036854775808");
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 2; }));
  EXPECT_EQ(daemon.seen.count("unknown: public.items"), 2u);
  EXPECT_EQ(daemon.source->status().kafka->poison_records, 2u);
  EXPECT_EQ(daemon.seen.begun.place, 1u);
}

TEST_F(KafkaSourceTest, PoisonMayStopEvictd) {
  const Record record = record_of_before();
  KafkaOptions options = options_for(kafka);
  options.on_poison = OnPoison::kStop;
  kafka.produce(kTopic, 0, "k", std::string("\0\0\0\0\1x", 6));
  Driver daemon(options, record);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.failed.has_value(); }));
  EXPECT_EQ(daemon.seen.failed->kind, ErrorKind::kFatal);
  EXPECT_EQ(daemon.seen.failed->text,
            "shop.public.items[0] offset 0: expected JSON, got the framing of Avro or Protobuf "
            "(first byte 0x00)");
  EXPECT_THAT(daemon.seen.failed->hint, HasSubstr("JsonConverter"));
  EXPECT_EQ(kafka.committed("g", kTopic, 0), 0);
}

TEST_F(KafkaSourceTest, PoisonMayBeSkipped) {
  const Record record = record_of_before();
  KafkaOptions options = options_for(kafka);
  options.on_poison = OnPoison::kSkip;
  kafka.produce(kTopic, 0, "k", "garbage");
  Driver daemon(options, record);
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
  EXPECT_FALSE(daemon.seen.has("unknown: public.items"));
  EXPECT_EQ(daemon.source->status().kafka->poison_records, 1u);
}

TEST_F(KafkaSourceTest, GarbageInATopicWithoutRuleIsNobodysConcern) {
  kafka.create_topic("shop.public.unmapped", 1);
  kafka.commit("g", "shop.public.unmapped", 0, 0);
  KafkaOptions options = options_for(kafka);
  options.topics = {"shop.public.unmapped"};
  kafka.produce("shop.public.unmapped", 0, "k", "garbage");
  Driver daemon(options, Record{});
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", "shop.public.unmapped", 0) == 1; }));
  EXPECT_EQ(daemon.source->status().kafka->poison_records, 0u);
}

TEST_F(KafkaSourceTest, ANewTopicIsReadFromItsFirstRecord) {
  KafkaOptions options = options_for(kafka);
  options.topics = {"^shop[.]"};
  options.properties["topic.metadata.refresh.interval.ms"] = "500";
  Driver daemon(options);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  kafka.create_topic("shop.public.orders", 1);
  std::string value = insert_of(5);
  value.replace(value.find("items"), 5, "orders");
  kafka.produce("shop.public.orders", 0, R"({"id":5})", value);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.has("insert public.orders 5"); }));
  EXPECT_EQ(daemon.seen.count("gap: offsets_lost public.orders"), 0u);
}

TEST_F(KafkaSourceTest, OffsetsThatAreGoneWhileTheRecordKnowsThePartitionAreAGap) {
  produce(1);
  Record record;
  {
    Driver before(options_for(kafka), record);
    ASSERT_TRUE(before.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
    produce(2);
    ASSERT_TRUE(before.until([&] { return kafka.committed("g", kTopic, 0) == 2; }));
    for (const auto& [stream, end] : before.seen.ends) record.acknowledged[before.source->stream_name(stream)] = end;
  }
  KafkaOptions options = options_for(kafka);
  options.group = "the same group after its offsets were deleted";
  Driver daemon(options, record);
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.changes.empty(); }));
  EXPECT_THAT(daemon.seen.lines,
              testing::IsSupersetOf({"gap: offsets_lost public.items", "unknown: public.items"}));
}

// Its topic may be deleted and made again, with what is committed, before anything is read from it.
TEST_F(KafkaSourceTest, APartitionOfWhichNothingWasReadIsOnRecordAllTheSame) {
  produce(1);
  Record record;
  {
    Driver before(options_for(kafka));
    before.bytes_max = 0;  // the caches have no room
    ASSERT_TRUE(before.until([&] { return !before.seen.streams.empty(); })) << "where it begins is a position";
    record.acknowledged = before.seen.streams;
    EXPECT_TRUE(before.seen.ends.empty());
  }
  EXPECT_THAT(record.acknowledged, ElementsAre(Pair("shop.public.items[0]", 1)));
  KafkaOptions options = options_for(kafka);
  options.group = "the same group after its offsets were deleted";
  Driver daemon(options, record);
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.changes.empty(); }));
  EXPECT_TRUE(daemon.seen.has("gap: offsets_lost public.items"));
}

// Else it would be on record with nothing committed, which is a gap.
TEST_F(KafkaSourceTest, ANewPartitionsBeginningIsCommittedBeforeAnythingIsRead) {
  KafkaOptions options = options_for(kafka);
  options.topics = {"^shop[.]"};
  options.properties["topic.metadata.refresh.interval.ms"] = "500";
  Record record;
  {
    Driver before(options);
    ASSERT_TRUE(before.until([&] { return before.seen.connections == 1; }));
    kafka.create_topic("shop.public.orders", 1);
    ASSERT_TRUE(before.until([&] { return before.seen.streams.contains("shop.public.orders[0]"); }));
    ASSERT_TRUE(before.until([&] { return kafka.committed("g", "shop.public.orders", 0) == 0; }));
    record.acknowledged = before.seen.streams;
  }
  Driver daemon(options, record);
  ASSERT_TRUE(daemon.until([&] { return daemon.source->status().active; }));
  EXPECT_THAT(daemon.seen.lines, ElementsAre("connected"));
}

TEST_F(KafkaSourceTest, ACommittedOffsetBeyondTheEndIsAGap) {
  produce(1);
  kafka.commit("g", kTopic, 0, 500);
  Driver daemon(options_for(kafka), Record{});
  daemon.acknowledges = false;
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.changes.empty(); }));
  EXPECT_TRUE(daemon.seen.has("gap: topic_recreated public.items"));
  EXPECT_TRUE(daemon.seen.has("unknown: public.items"));
  EXPECT_EQ(kafka.committed("g", kTopic, 0), 500) << "found again until the purge is acknowledged";
  daemon.acknowledge_all();
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
}

TEST_F(KafkaSourceTest, RecordsDeletedPastTheCommittedOffsetAreAGap) {
  // The mock keeps about 5 MB of a partition.
  const std::string large = insert_of(1) + std::string(200'000, ' ');
  for (int i = 0; i < 60; ++i) kafka.produce(kTopic, 0, R"({"id":1})", large);
  kafka.commit("g", kTopic, 0, 1);
  Driver daemon(options_for(kafka), Record{});
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.changes.empty(); }));
  EXPECT_TRUE(daemon.seen.has("gap: offset_out_of_range public.items"));
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 60; }));
}

TEST_F(KafkaSourceTest, APartitionThatHadNoRecordWhereWeStoodIsAGapEvenWhenItHasOneAgain) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  produce(1);
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
  // As from a topic that was made again, and has grown past our offset before we look.
  constexpr int kFetch = 1;
  rd_kafka_mock_push_request_errors(kafka.cluster(), kFetch, 1, RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 2; }));
  EXPECT_EQ(daemon.seen.count("gap: offset_out_of_range public.items"), 1u);
  produce(2);
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 2; }));
}

TEST_F(KafkaSourceTest, AGroupThatHasReadBeforeWithARedisThatForgotIsAGap) {
  kafka.commit("g", kTopic, 0, 0);
  Driver daemon(options_for(kafka));
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  EXPECT_THAT(daemon.seen.lines, ElementsAre("gap: record_missing", "connected"));
}

std::string beginning(std::chrono::seconds ago) {
  const auto then = std::chrono::system_clock::now() - ago;
  return fmt::format(
      "evictd began {}",
      std::chrono::duration_cast<std::chrono::milliseconds>(then.time_since_epoch()).count());
}

TEST_F(KafkaSourceTest, AGroupThatAnotherDaemonHasJustBegunIsNoGap) {
  produce(1);
  kafka.commit("g", kTopic, 0, 1, beginning(std::chrono::seconds(2)));
  Driver daemon(options_for(kafka));
  produce(2);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_THAT(daemon.seen.lines, ElementsAre("connected", "insert public.items 2"));
}

TEST_F(KafkaSourceTest, AGroupThatBeganLongAgoIsAGapEvenWhenNothingWasReadSince) {
  kafka.commit("g", kTopic, 0, 0, beginning(std::chrono::seconds(120)));
  Driver daemon(options_for(kafka));
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  EXPECT_THAT(daemon.seen.lines, ElementsAre("gap: record_missing", "connected"));
}

TEST_F(KafkaSourceTest, TheFirstDaemonOfAGroupLeavesANoteForTheOthers) {
  produce(1);
  Driver first(options_for(kafka));
  ASSERT_TRUE(first.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
  Driver second(options_for(kafka));
  ASSERT_TRUE(first.until([&] {
    second.step();
    return second.seen.connections == 1;
  }));
  EXPECT_THAT(second.seen.lines, ElementsAre("connected"));
}

TEST_F(KafkaSourceTest, RestartReadsEverythingUnacknowledgedAgain) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  daemon.acknowledges = false;
  produce(1);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  daemon.source->restart(read_clocks());
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 2; }));
  EXPECT_THAT(daemon.seen.lines,
              ElementsAre("connected", "insert public.items 1",
                          "disconnected: kafka: everything not acknowledged is read again",
                          "connected", "insert public.items 1"));
}

TEST_F(KafkaSourceTest, ANewGroupsRestartBeforeItsCommitArrivesLosesNothing) {
  for (int i = 0; i < 50; ++i) {
    rd_kafka_resp_err_t errors[] = {RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS};
    rd_kafka_mock_push_request_errors_array(kafka.cluster(), 8 /* OffsetCommit */, 1, errors);
  }
  produce(1);
  Driver daemon(options_for(kafka));
  daemon.acknowledges = false;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  produce(2);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  ASSERT_EQ(kafka.committed("g", kTopic, 0), -1);
  daemon.source->restart(read_clocks());
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 2; }));
  EXPECT_THAT(daemon.seen.changes, ElementsAre("insert public.items 2", "insert public.items 2"));
  for (const std::string& line : daemon.seen.lines) EXPECT_FALSE(line.starts_with("gap")) << line;
}

// A partition that is ours in the group and that nobody reads would be a change lost, and no sign of it.
TEST_F(KafkaSourceTest, AnAssignmentThatLibrdkafkaRefusesIsAskedForAgain) {
  const Record record = record_of_before();
  produce(1);
  refuse_assignments(1);
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.changes.empty(); })) << testing::PrintToString(daemon.seen.lines);
  const std::string refused =
      "disconnected: cannot take the partitions that the group gives: kafka: Local: Conflicting use";
  EXPECT_THAT(daemon.seen.lines,
              ElementsAre("connected", refused, "connected", "insert public.items 1"));
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", kTopic, 0) == 1; }));
}

TEST_F(KafkaSourceTest, ABrokerThatIsAwayIsWaitedFor) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  rd_kafka_mock_broker_set_down(kafka.cluster(), 1);
  ASSERT_TRUE(daemon.until([&] { return daemon.source->status().problem.has_value(); }));
  EXPECT_FALSE(daemon.source->status().connected);
  rd_kafka_mock_broker_set_up(kafka.cluster(), 1);
  produce(1);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  ASSERT_TRUE(daemon.until([&] { return !daemon.source->status().problem; }));
  EXPECT_EQ(daemon.seen.connections, 1) << "librdkafka reconnects by itself";
}

TEST_F(KafkaSourceTest, AQuestionThatIsNotAnsweredShows) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  EXPECT_FALSE(daemon.source->status().problem);
  rd_kafka_mock_broker_set_rtt(kafka.cluster(), 1, 9000);
  std::string problem;
  ASSERT_TRUE(daemon.until([&] {
    problem = daemon.source->status().problem.value_or("");
    return problem.starts_with("kafka: no answer for");
  }, std::chrono::seconds(40))) << problem;
  EXPECT_THAT(problem, HasSubstr(" seconds: evictd asked which topics there are"));
  rd_kafka_mock_broker_set_rtt(kafka.cluster(), 1, 0);
  ASSERT_TRUE(daemon.until([&] { return !daemon.source->status().problem; }, std::chrono::seconds(40)));
}

// Garbage of a table whose topic is not named by its last two parts.
TEST_F(KafkaSourceTest, PoisonOfATableWithADotInItsNameIsPurged) {
  kafka.create_topic("shop.public.we.ird", 1);
  kafka.commit("g", "shop.public.we.ird", 0, 0);
  kafka.produce("shop.public.we.ird", 0, "k", "garbage");
  kafka.produce("shop.public.we.ird", 0, R"({"id":1})", R"({"id":1,"__op":"c"})");
  KafkaOptions options = options_for(kafka);
  options.topics = {"shop.public.we.ird", kTopic};
  Driver daemon(options, Record{});
  daemon.source->set_tables({"public.we.ird", "public.items"});
  ASSERT_TRUE(daemon.until([&] { return kafka.committed("g", "shop.public.we.ird", 0) == 2; }));
  EXPECT_EQ(daemon.seen.count("unknown: public.we.ird"), 1u);
  EXPECT_THAT(daemon.seen.changes, ElementsAre("insert public.we.ird 1"));
  EXPECT_EQ(daemon.seen.connected.epoch, "debezium/shop");
}

// ---- tables below those that rules name

// A database that can be told what to say.
struct FakeDatabase {
  std::mutex mutex;
  Result<TableTree> answer = TableTree{};
  int asked = 0;
  AskTableTree ask() {
    return [this](const std::vector<std::string>&) {
      const std::lock_guard lock(mutex);
      ++asked;
      return answer;
    };
  }
  void say(Result<TableTree> what) {
    const std::lock_guard lock(mutex);
    answer = std::move(what);
  }
  int count() {
    const std::lock_guard lock(mutex);
    return asked;
  }
};

class KafkaTablesTest : public KafkaSourceTest {
 protected:
  KafkaTablesTest() {
    kafka.create_topic(kChild, 1);
    kafka.commit("g", kChild, 0, 0);
    kafka.commit("g", kTopic, 0, 0);
    options = options_for(kafka);
    options.topics = {kTopic, kChild};
  }
  void produce_child(int id) {
    std::string value = insert_of(id);
    value.replace(value.find("items"), 5, "child");
    kafka.produce(kChild, 0, fmt::format(R"({{"id":{}}})", id), value);
  }
  static TableTree below_items() { return {{{"public.child", {{"public", "items"}}}}, {}}; }

  static constexpr const char* kChild = "shop.public.child";
  FakeDatabase database;
  KafkaOptions options;
};

TEST_F(KafkaTablesTest, AnEventOfAChildActsForTheTableAbove) {
  database.say(below_items());
  produce_child(1);
  produce(2);
  kafka.produce(kChild, 0, "k", "garbage");
  Driver daemon(options, Record{}, nullptr, database.ask());
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 2 && kafka.committed("g", kChild, 0) == 2; }));
  EXPECT_TRUE(daemon.seen.has("insert public.child+public.items 1"));
  EXPECT_TRUE(daemon.seen.has("insert public.items 2"));
  EXPECT_TRUE(daemon.seen.has("unknown: public.items"));
}

TEST_F(KafkaTablesTest, AChildThatIsMadeWhileEvictdRunsIsAskedForBeforeItsFirstEvent) {
  Driver daemon(options, Record{}, nullptr, database.ask());
  produce(1);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_EQ(database.count(), 1);
  database.say(below_items());
  produce_child(2);
  produce_child(3);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 3; }));
  EXPECT_THAT(daemon.seen.changes, ElementsAre("insert public.items 1", "insert public.child+public.items 2",
                                               "insert public.child+public.items 3"));
  EXPECT_EQ(database.count(), 2);
}

TEST_F(KafkaTablesTest, WithoutAnAnswerNothingIsHandedOutAndReadinessSaysWhy) {
  database.say(fail(ErrorKind::kConnection, "connection refused"));
  produce_child(1);
  Driver daemon(options, Record{}, nullptr, database.ask());
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1 && database.count() >= 2; }));
  EXPECT_TRUE(daemon.seen.changes.empty());
  EXPECT_EQ(daemon.source->status().problem, "the tables of the database that 'postgres_url' names: connection refused");
  TableTree tree = below_items();
  tree.filtered = {"public.child"};
  database.say(tree);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_EQ(daemon.source->status().problem,
            "the connector's publication leaves out rows of 'public.child' (a row filter): their changes never reach Kafka");
}

TEST_F(KafkaSourceTest, AnUnreachableBrokerIsReportedOnceAndTriedAgain) {
  KafkaOptions options = options_for(kafka);
  options.brokers = "127.0.0.1:1";
  Driver daemon(options);
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.lines.empty(); }, std::chrono::seconds(30)));
  EXPECT_EQ(daemon.seen.lines[0],
            "disconnected: kafka: Local: Broker transport failure: 127.0.0.1:1/bootstrap: Connect to "
            "ipv4#127.0.0.1:1 failed: Connection refused");
  EXPECT_FALSE(daemon.seen.failed);
}

TEST_F(KafkaSourceTest, StopsInTheMiddleOfJoiningTheGroup) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "librdkafka 2.0 loses 256 bytes of its own here, which the sanitizer takes for ours";
#endif
  // The group never gets past handing out its partitions.
  constexpr int kSyncGroup = 14;
  for (int i = 0; i < 100; ++i) {
    rd_kafka_mock_push_request_errors(kafka.cluster(), kSyncGroup, 1,
                                      RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
  }
  Driver daemon(options_for(kafka));
  EXPECT_FALSE(daemon.until([&] { return daemon.seen.connections == 1; }, std::chrono::seconds(6)));
  EXPECT_EQ(daemon.source->status().state, "joining the group");
  daemon.stop();
}

TEST_F(KafkaSourceTest, LagCountsWhatIsNotAcknowledged) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  daemon.acknowledges = false;
  for (int id = 1; id <= 3; ++id) produce(id);
  ASSERT_TRUE(
      daemon.until([&] { return daemon.source->status().kafka->lag_messages[kTopic] == 3; }));
  daemon.acknowledges = true;
  ASSERT_TRUE(
      daemon.until([&] { return daemon.source->status().kafka->lag_messages[kTopic] == 0; }));
}

TEST_F(KafkaSourceTest, LateAcknowledgementsOfAnEarlierAssignmentAreIgnored) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  daemon.acknowledges = false;
  produce(1);
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  const Position position = daemon.seen.commits[0];
  daemon.source->acknowledge({position.stream, 77});  // never delivered
  daemon.source->acknowledge({position.stream + 1, 1});
  daemon.stop();
  EXPECT_EQ(kafka.committed("g", kTopic, 0), 0);
}

// The names have one hash in 32 bits.
TEST_F(KafkaSourceTest, APartitionIsNotAcknowledgedWithAnothersOffset) {
  const std::vector<std::string> topics = {"shop.public.t498252", "shop.public.t1041480"};
  KafkaOptions options = options_for(kafka);
  options.topics = topics;
  for (const std::string& topic : topics) {
    kafka.create_topic(topic, 1);
    kafka.commit("g", topic, 0, 0);
    kafka.produce(topic, 0, R"({"id":1})", insert_of(1));
  }
  Driver daemon(options, Record{});
  daemon.acknowledges = false;
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.commits.size() == 2; }));
  daemon.source->acknowledge(daemon.seen.commits[0]);
  const auto committed = [&] { return kafka.committed("g", topics[0], 0) + kafka.committed("g", topics[1], 0); };
  ASSERT_TRUE(daemon.until([&] { return committed() == 1; }));
  EXPECT_NE(daemon.seen.commits[0].stream, daemon.seen.commits[1].stream);
  daemon.source->acknowledge(daemon.seen.commits[1]);
  ASSERT_TRUE(daemon.until([&] { return committed() == 2; }));
}

// ---- several daemons of one group

class KafkaGroup : public testing::Test {
 protected:
  static constexpr int kPartitions = 4;
  KafkaGroup() {
    kafka.create_topic(kTopic, kPartitions);
    for (int partition = 0; partition < kPartitions; ++partition)
      kafka.commit("g", kTopic, partition, 0);
  }
  void produce_everywhere(int first, int count) {
    for (int id = first; id < first + count; ++id) {
      kafka.produce(kTopic, id % kPartitions, fmt::format(R"({{"id":{}}})", id), insert_of(id));
    }
  }
  MockKafka kafka;
};

TEST_F(KafkaGroup, ASecondDaemonTakesItsShareAndNothingIsLost) {
  Driver first(options_for(kafka), Record{});
  produce_everywhere(0, 20);
  ASSERT_TRUE(first.until([&] { return first.seen.changes.size() == 20; }));
  Driver second(options_for(kafka), Record{});
  const auto both = [&](const std::function<bool()>& condition) {
    return first.until(
        [&] {
          second.step();
          return condition();
        },
        std::chrono::seconds(40));
  };
  ASSERT_TRUE(both([&] {
    return second.source->status().active && second.source->status().kafka->rebalances > 0;
  }));
  produce_everywhere(20, 40);
  ASSERT_TRUE(both([&] {
    std::set<std::string> seen(first.seen.changes.begin(), first.seen.changes.end());
    seen.insert(second.seen.changes.begin(), second.seen.changes.end());
    return seen.size() == 60;
  }));
  EXPECT_FALSE(second.seen.changes.empty());
  // What was finished before the partitions moved is committed with them and not read again, unless the group moves
  // them faster than a starved member can commit: then it is a replay, of those twenty at most.
  EXPECT_LE(first.seen.changes.size() + second.seen.changes.size(), 60u + 20u);
}

// What was delivered before, and is finished while another holds the partition, is told once.
TEST_F(KafkaGroup, APartitionGivenUpWithWorkInHandAndGotBackIsAcknowledged) {
  KafkaOptions options = options_for(kafka);
  options.revoke_drain = std::chrono::milliseconds(100);
  Driver first(options, Record{});
  first.acknowledges = false;
  produce_everywhere(0, kPartitions);
  ASSERT_TRUE(first.until([&] { return first.seen.changes.size() == kPartitions; }));
  const auto ends = first.seen.ends;
  {
    Driver second(options, Record{});
    second.acknowledges = false;
    ASSERT_TRUE(first.until([&] {
      second.step();
      return !second.seen.changes.empty();
    }, std::chrono::seconds(40)));
    for (const auto& [stream, end] : ends) first.source->acknowledge({stream, end});
  }
  const auto committed = [&] {
    std::int64_t sum = 0;
    for (int partition = 0; partition < kPartitions; ++partition) sum += kafka.committed("g", kTopic, partition);
    return sum;
  };
  EXPECT_TRUE(first.until([&] { return committed() == kPartitions; }, std::chrono::seconds(40)))
      << committed() << " of " << kPartitions;
  EXPECT_TRUE(first.until([&] { return first.source->status().kafka->lag_messages[kTopic] == 0; }));
}

// Members come and go while others look up what they were given. The eager protocol: the others here are cooperative.
TEST_F(KafkaGroup, NothingIsLostWhereAssignmentsAreTakenBackWhileTheyAreLookedUp) {
  KafkaOptions options = options_for(kafka);
  options.properties["partition.assignment.strategy"] = "range";
  options.revoke_drain = std::chrono::milliseconds(300);
  rd_kafka_mock_broker_set_rtt(kafka.cluster(), 1, 150);
  std::set<std::string> seen;
  std::vector<std::unique_ptr<Driver>> drivers;
  const auto collect = [&](const Driver& driver) {
    seen.insert(driver.seen.changes.begin(), driver.seen.changes.end());
    for (const std::string& line : driver.seen.lines) EXPECT_FALSE(line.starts_with("gap")) << line;
  };
  const auto run_for = [&](std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      for (auto& driver : drivers) driver->step();
    }
  };
  int produced = 0;
  for (int round = 0; round < 4; ++round) {
    drivers.push_back(std::make_unique<Driver>(options, Record{}));
    run_for(std::chrono::milliseconds(500 + round * 250));
    produce_everywhere(produced, 12);
    produced += 12;
    if (drivers.size() > 1 && round % 2 == 1) {
      collect(*drivers.front());
      drivers.erase(drivers.begin());
    }
  }
  const auto committed = [&] {
    for (int partition = 0; partition < kPartitions; ++partition) {
      if (kafka.committed("g", kTopic, partition) < produced / kPartitions) return false;
    }
    return true;
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!committed() && std::chrono::steady_clock::now() < deadline) run_for(std::chrono::milliseconds(500));
  EXPECT_TRUE(committed());
  for (const auto& driver : drivers) collect(*driver);
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(produced));
}

// Each of them writes the record, and a name that one left out would be gone from it.
TEST_F(KafkaGroup, EveryMemberKnowsWhatTheOthersHaveTakenUp) {
  KafkaOptions options = options_for(kafka);
  options.topics = {"^shop[.]"};
  options.properties["topic.metadata.refresh.interval.ms"] = "500";
  Driver first(options, Record{}), second(options, Record{});
  const auto until = [&](const std::function<bool()>& condition) {
    return first.until([&] {
      second.step();
      return condition();
    }, std::chrono::seconds(40));
  };
  ASSERT_TRUE(until([&] { return first.source->status().active && second.source->status().active; }));
  kafka.create_topic("shop.public.orders", 1);
  const std::string name = "shop.public.orders[0]";
  ASSERT_TRUE(until([&] { return first.seen.streams.contains(name) && second.seen.streams.contains(name); }));
}

TEST_F(KafkaGroup, APartitionIsGivenBackOnlyWhenWhatItDeliveredIsFinished) {
  produce_everywhere(0, 8);
  // The mock's coordinator expels a member that a busy machine kept from answering within its round; what that one had in hand is read
  // again. Whoever gives back too early does so each time.
  bool is_read_once = false;
  for (int attempt = 0; attempt < 4 && !is_read_once; ++attempt) {
    KafkaOptions patient = options_for(kafka);
    patient.group = fmt::format("g{}", attempt);
    patient.revoke_drain = std::chrono::seconds(30);  // a machine that stands still for a moment does not end it
    for (int partition = 0; partition < kPartitions; ++partition) kafka.commit(patient.group, kTopic, partition, 0);
    Driver first(patient, Record{});
    first.acknowledges = false;
    ASSERT_TRUE(first.until([&] { return first.seen.changes.size() == 8; }));
    KafkaOptions other = options_for(kafka);
    other.group = patient.group;
    Driver second(other, Record{});
    // The group asks for partitions back; while nothing is acknowledged they stay, up to revoke_drain.
    ASSERT_TRUE(first.until(
        [&] {
          second.step();
          return first.source->status().kafka->rebalances >= 2;
        },
        std::chrono::seconds(40)));
    const auto second_is_active = [&] {
      second.step();
      return second.source->status().active;
    };
    const bool has_waited = !first.until(second_is_active, std::chrono::seconds(6));
    first.acknowledges = true;
    ASSERT_TRUE(first.until(second_is_active, std::chrono::seconds(40)));
    is_read_once = has_waited && second.seen.changes.empty();
  }
  EXPECT_TRUE(is_read_once) << "committed before it was given back";
}

TEST_F(KafkaGroup, ADaemonThatDiesIsReadAgainFromItsLastAcknowledgement) {
  KafkaOptions options = options_for(kafka);
  {
    Driver first(options, Record{});
    first.acknowledges = false;
    produce_everywhere(0, 8);
    ASSERT_TRUE(first.until([&] { return first.seen.changes.size() == 8; }));
  }
  Driver second(options, Record{});
  ASSERT_TRUE(second.until([&] { return second.seen.changes.size() == 8; }));
}

// ---- snapshots

struct FakeSnapshots final : SnapshotPoll {
  void start(Now) override {}
  void step(Now) override {}
  void wait_for(Waiting&) override {}
  void request() override { ++requests; }
  std::optional<Snapshot> take() override { return std::exchange(answer, std::nullopt); }
  std::string problem() const override { return ""; }
  int requests = 0;
  std::optional<Snapshot> answer;
};

TEST_F(KafkaSourceTest, WaitsForASnapshotAndWidensTransactionIdsByIt) {
  const Record record = record_of_before();
  auto owned = std::make_unique<FakeSnapshots>();
  FakeSnapshots& snapshots = *owned;
  Driver daemon(options_for(kafka), record, std::move(owned));
  kafka.produce(kTopic, 0, R"({"id":1})", insert_of(1, 5));
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.connections == 1; }));
  EXPECT_TRUE(daemon.seen.connected.has_snapshots);
  EXPECT_EQ(snapshots.requests, 1);
  EXPECT_FALSE(daemon.until([&] { return !daemon.seen.changes.empty(); }, std::chrono::seconds(1)));
  snapshots.answer = Snapshot::parse("8589934590:8589934600:").value();  // 2^33 + 8
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_EQ(number(daemon.seen.xids[0]), (1ULL << 33) + 5);
  EXPECT_TRUE(daemon.seen.snapshots.empty()) << "nobody has asked for this one";
  daemon.source->request_snapshot();
  EXPECT_EQ(snapshots.requests, 2);
  snapshots.answer = Snapshot::parse("8589934591:8589934600:").value();
  ASSERT_TRUE(daemon.until([&] { return !daemon.seen.snapshots.empty(); }));
  EXPECT_THAT(daemon.seen.snapshots, ElementsAre("8589934591:8589934600:"));
}

TEST_F(KafkaSourceTest, WithoutADatabaseTransactionIdsStayNarrow) {
  const Record record = record_of_before();
  Driver daemon(options_for(kafka), record);
  kafka.produce(kTopic, 0, R"({"id":1})", insert_of(1, 5));
  ASSERT_TRUE(daemon.until([&] { return daemon.seen.changes.size() == 1; }));
  EXPECT_EQ(number(daemon.seen.xids[0]), (1ULL << 63) | 5);
}

// ---- settings

std::string refusal(const std::string& name, const std::string& value) {
  KafkaOptions options;
  options.brokers = "localhost:9092";
  options.topics = {"t"};
  options.properties = {{name, value}};
  const auto result = validate(options);
  return result ? "accepted" : result.error().to_string();
}

TEST(KafkaOptionsTest, RefuseWhatAGuaranteeRestsOn) {
  EXPECT_EQ(refusal("enable.auto.offset.store", "true"),
            "the Kafka property 'enable.auto.offset.store' cannot be set\n"
            "hint: evictd sets it to 'false': an offset is stored when Redis has answered (G1)");
  EXPECT_EQ(refusal("auto.offset.reset", "latest"),
            "the Kafka property 'auto.offset.reset' cannot be set\n"
            "hint: evictd sets it to 'error': a lost offset is a gap that evictd repairs, not a "
            "place to skip to (G6)");
  EXPECT_THAT(refusal("check.crcs", "true"), HasSubstr("the Kafka property 'check.crcs' cannot be set"));
  EXPECT_EQ(
      refusal("group.id", "x"),
      "the Kafka property 'group.id' cannot be set\nhint: use 'group' of the 'kafka' section");
}

TEST(KafkaOptionsTest, NameTheBadPropertyAndNeverItsValue) {
  EXPECT_EQ(
      refusal("sasl.pasword", "s3cret"),
      "unknown Kafka property 'sasl.pasword'\nhint: librdkafka's CONFIGURATION.md lists them");
  EXPECT_EQ(refusal("security.protocol", "s3cret"),
            "bad value of the Kafka property 'security.protocol'\n"
            "hint: librdkafka's CONFIGURATION.md says what it may be");
  EXPECT_EQ(refusal("group.instance.id", "evictd-1"), "accepted");
}

// librdkafka opens it by its name, and would wait there for whoever writes.
TEST(KafkaOptionsTest, APipeWhereAFileBelongsKeepsNobodyWaiting) {
  std::string name = (std::filesystem::temp_directory_path() / "evictd-pipe-XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const std::string pipe = name + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string property : {"ssl.ca.location", "ssl.certificate.location", "ssl.key.location"}) {
    EXPECT_THAT(refusal(property, pipe), HasSubstr("the Kafka property '" + property + "': expected a file, got a pipe, device or socket"));
  }
  std::filesystem::remove_all(name);
}

TEST(KafkaOptionsTest, CheckThePatterns) {
  KafkaOptions options;
  options.brokers = "localhost:9092";
  options.topics = {"^shop[.(]"};
  EXPECT_TRUE(validate(options));
  options.topics = {"^shop("};
  ASSERT_FALSE(validate(options));
  EXPECT_EQ(validate(options).error().text, "expected a regular expression, got '^shop('");
}

}  // namespace
}  // namespace evictd
