#include "tests/unit/sources/kafka/mock_kafka.h"

#include "daemon/flow/ledger.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace evictd {
namespace {

constexpr int kTimeoutMs = 10'000;

std::atomic<int> assignments_refused = 0;

rd_kafka_t* client_of(rd_kafka_type_t type, const std::string& brokers, const std::string& group) {
  char reason[512];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  rd_kafka_conf_set(conf, "bootstrap.servers", brokers.c_str(), reason, sizeof reason);
  if (!group.empty()) rd_kafka_conf_set(conf, "group.id", group.c_str(), reason, sizeof reason);
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
  rd_kafka_t* client = rd_kafka_new(type, conf, reason, sizeof reason);
  EXPECT_NE(client, nullptr) << reason;
  return client;
}

}  // namespace

void refuse_assignments(int count) { assignments_refused = count; }

MockKafka::MockKafka(int brokers) {
  producer_ = client_of(RD_KAFKA_PRODUCER, "", "");
  cluster_ = rd_kafka_mock_cluster_new(producer_, brokers);
  rd_kafka_brokers_add(producer_, rd_kafka_mock_cluster_bootstraps(cluster_));
}

MockKafka::~MockKafka() {
  rd_kafka_purge(producer_, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  rd_kafka_mock_cluster_destroy(cluster_);
  rd_kafka_destroy(producer_);
}

void MockKafka::create_topic(const std::string& topic, int partitions) {
  ASSERT_EQ(rd_kafka_mock_topic_create(cluster_, topic.c_str(), partitions, 1),
            RD_KAFKA_RESP_ERR_NO_ERROR);
}

void MockKafka::produce(const std::string& topic, int partition, const std::string& key,
                        const std::string& value, SystemTime sent) {
  const auto code =
      rd_kafka_producev(producer_, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
                        RD_KAFKA_V_KEY(key.data(), key.size()),
                        RD_KAFKA_V_VALUE(const_cast<char*>(value.data()), value.size()),
                        RD_KAFKA_V_TIMESTAMP(std::chrono::duration_cast<std::chrono::milliseconds>(sent.time_since_epoch()).count()),
                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
  ASSERT_EQ(code, RD_KAFKA_RESP_ERR_NO_ERROR) << rd_kafka_err2str(code);
  ASSERT_EQ(rd_kafka_flush(producer_, kTimeoutMs), RD_KAFKA_RESP_ERR_NO_ERROR);
}

void MockKafka::produce_null(const std::string& topic, int partition, const std::string& key) {
  const auto code =
      rd_kafka_producev(producer_, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
                        RD_KAFKA_V_KEY(key.data(), key.size()),
                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
  ASSERT_EQ(code, RD_KAFKA_RESP_ERR_NO_ERROR);
  ASSERT_EQ(rd_kafka_flush(producer_, kTimeoutMs), RD_KAFKA_RESP_ERR_NO_ERROR);
}

std::int64_t MockKafka::committed(const std::string& group, const std::string& topic,
                                  int partition) {
  rd_kafka_t* client = client_of(RD_KAFKA_CONSUMER, brokers(), group);
  rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic.c_str(), partition);
  EXPECT_EQ(rd_kafka_committed(client, list, kTimeoutMs), RD_KAFKA_RESP_ERR_NO_ERROR);
  const std::int64_t offset = list->elems[0].offset;
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_destroy(client);
  return offset < 0 ? -1 : offset;
}

void MockKafka::commit(const std::string& group, const std::string& topic, int partition,
                       std::int64_t offset, const std::string& note) {
  rd_kafka_t* client = client_of(RD_KAFKA_CONSUMER, brokers(), group);
  rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_t* element =
      rd_kafka_topic_partition_list_add(list, topic.c_str(), partition);
  element->offset = offset;
  if (!note.empty()) {
    element->metadata = ::strdup(note.c_str());
    element->metadata_size = note.size();
  }
  EXPECT_EQ(rd_kafka_commit(client, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_destroy(client);
}

void Recorder::on_connected(const SourceConnected& now) {
  connected = now;
  ++connections;
  lines.push_back("connected");
}

void Recorder::on_change(const Change& change) {
  constexpr const char* kNames[] = {"insert", "update", "delete", "truncate"};
  std::string line = kNames[static_cast<int>(change.operation)];
  line += " " + change.relation->qualified_name();
  for (const TableName& also : change.relation->also) line += "+" + also.schema + "." + also.table;
  const auto row = change.new_row.empty() ? change.old_row : change.new_row;
  if (!row.empty()) line += " " + std::string(row[0].text);
  values.clear();
  for (const Value& value : change.new_row) {
    if (value.state == ValueState::kText) values.emplace_back(value.text);
  }
  changes.push_back(line);
  lines.push_back(line);
  xids.push_back(begun.xid);
}

void Recorder::on_unknown_change(const UnknownChange& change) {
  std::string line = "unknown:";
  for (const std::string& table : change.tables) line += " " + table;
  lines.push_back(line);
}

void Recorder::on_commit(const Position& end) {
  ends[end.stream] = end.value;
  commits.push_back(end);
}

void Recorder::on_facts(const SourceFacts& facts) {
  Ledger ledger("0000000000000000", std::chrono::milliseconds(200));
  ledger.found(record);
  for (const Gap& gap : ledger.judge(facts)) {
    if (connections == 0) on_gap(gap);
  }
  std::set<std::string> on_record;
  if (record) {
    for (const auto& [name, position] : record->acknowledged) on_record.insert(name);
  }
  for (const auto& [name, begin] : streams) on_record.insert(name);
  source->proceed(on_record);
}

void Recorder::on_streams(const std::map<std::string, std::uint64_t>& begins) {
  EXPECT_GT(connections, 0);
  for (const auto& [name, begin] : begins) streams[name] = begin;
}

void Recorder::on_gap(const Gap& gap) {
  std::string line = "gap: " + gap.reason;
  for (const std::string& table : gap.tables) line += " " + table;
  lines.push_back(line);
}

bool Recorder::has(const std::string& line) const { return count(line) > 0; }
std::size_t Recorder::count(const std::string& line) const {
  return static_cast<std::size_t>(std::count(lines.begin(), lines.end(), line));
}

Driver::Driver(KafkaOptions options, std::optional<Record> record,
               std::unique_ptr<SnapshotPoll> snapshots, AskTableTree ask_table_tree)
    : source(make_kafka_source(std::move(options), std::move(snapshots), std::move(ask_table_tree))) {
  source->set_tables({"public.items", "public.orders"});
  seen.source = source.get();
  seen.record = std::move(record);
  if (seen.record && seen.record->epoch.empty()) seen.record->epoch = "debezium/shop";
  source->start(read_clocks());
}

Driver::~Driver() { stop(); }

void Driver::step() {
  Waiting waiting;
  source->wait_for(waiting, bytes_max > 0);
  constexpr std::chrono::milliseconds kStepMax{50};
  const SteadyTime now = read_clocks().steady;
  // The deadline may be the beginning of time, or its end.
  const auto left = std::clamp(waiting.deadline, now, now + kStepMax) - now;
  const auto timeout = static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(left).count());
  ::poll(waiting.descriptors.data(), waiting.descriptors.size(), timeout);
  source->step(read_clocks(), bytes_max, seen);
  if (acknowledges) acknowledge_all();
}

void Driver::acknowledge_all() {
  for (const auto& [stream, end] : seen.ends) source->acknowledge({stream, end});
}

bool Driver::until(const std::function<bool()>& condition, std::chrono::seconds deadline) {
  const SteadyTime end = read_clocks().steady + deadline;
  while (!condition()) {
    if (read_clocks().steady > end) return false;
    step();
  }
  return true;
}

void Driver::stop() {
  if (!source) return;
  const SteadyTime end = read_clocks().steady + std::chrono::seconds(20);
  while (!source->stop(read_clocks()) && read_clocks().steady < end) ::poll(nullptr, 0, 5);
  source.reset();
}

std::string insert_of(int id, int transaction) {
  return fmt::format(
      R"({{"before":null,"after":{{"id":{}}},"source":{{"connector":"postgresql","name":"shop",)"
      R"("schema":"public","table":"items","txId":{},"ts_ms":1700000000000}},"op":"c"}})",
      id, transaction);
}

}  // namespace evictd

// Stands in front of the library's function of the same name.
extern "C" rd_kafka_error_t* rd_kafka_incremental_assign(
    rd_kafka_t* consumer, const rd_kafka_topic_partition_list_t* partitions) {
  using Assign = rd_kafka_error_t* (*)(rd_kafka_t*, const rd_kafka_topic_partition_list_t*);
  static const auto library = reinterpret_cast<Assign>(::dlsym(RTLD_NEXT, "rd_kafka_incremental_assign"));
  if (partitions->cnt > 0 && evictd::assignments_refused > 0) {
    --evictd::assignments_refused;
    return rd_kafka_error_new(RD_KAFKA_RESP_ERR__CONFLICT, "refused by the test");
  }
  return library(consumer, partitions);
}
