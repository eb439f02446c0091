// librdkafka's mock cluster, a producer into it, and a driver for a Kafka source: what the consumer
// tests need.
#pragma once

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/sources/kafka/kafka_source.h"

namespace evictd {

class MockKafka {
 public:
  explicit MockKafka(int brokers = 1);
  ~MockKafka();

  std::string brokers() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }
  rd_kafka_mock_cluster_t* cluster() { return cluster_; }
  void create_topic(const std::string& topic, int partitions);
  // Returns when the cluster has it.
  // `sent`: the record's own timestamp; the beginning of time: now.
  void produce(const std::string& topic, int partition, const std::string& key, const std::string& value, SystemTime sent = {});
  void produce_null(const std::string& topic, int partition, const std::string& key);
  // What the group has committed, or -1.
  std::int64_t committed(const std::string& group, const std::string& topic, int partition);
  void commit(const std::string& group, const std::string& topic, int partition,
              std::int64_t offset, const std::string& note = "");

 private:
  rd_kafka_t* producer_;
  rd_kafka_mock_cluster_t* cluster_;
};

// From now on librdkafka refuses so many assignments of partitions, of whatever consumer in this process: the one
// answer of the library that the mock cluster has no way to bring about.
void refuse_assignments(int count);

// Writes down what a source says, and acknowledges as told.
class Recorder final : public SourceHandler {
 public:
  void on_connected(const SourceConnected& connected) override;
  void on_disconnected(const Error& error) override {
    lines.push_back("disconnected: " + error.text);
  }
  void on_standby(std::string_view holder) override {
    lines.push_back("standby: " + std::string(holder));
  }
  void on_facts(const SourceFacts& facts) override;
  void on_tables(const std::map<std::string, std::string>&) override {}
  void on_streams(const std::map<std::string, std::uint64_t>& begins) override;
  void on_failed(const Error& error) override { failed = error; }
  void on_begin(const TransactionBegin& begin) override { begun = begin; }
  void on_change(const Change& change) override;
  void on_unknown_change(const UnknownChange& change) override;
  void on_commit(const Position& end) override;
  void on_relation_gone(const Relation&) override {}
  void on_gap(const Gap& gap) override;
  void on_snapshot(const Snapshot& snapshot) override { snapshots.push_back(snapshot.to_string()); }
  void on_heartbeat(SteadyTime sent) override {
    ++heartbeats;
    last_heartbeat_sent = sent;
  }
  void on_keepalive(const Position&) override {}

  bool has(const std::string& line) const;
  std::size_t count(const std::string& line) const;

  Source* source = nullptr;
  std::optional<Record> record;  // what the one cache has
  std::vector<std::string> lines;  // "insert public.t 1", "gap: reason", ...
  std::vector<std::string> changes;
  std::vector<std::string> values;  // of the last change's new row, that are texts
  std::vector<Xid> xids;
  std::map<std::uint32_t, std::uint64_t> ends;  // last commit, by stream
  std::vector<Position> commits;
  std::map<std::string, std::uint64_t> streams;  // taken up, and where
  TransactionBegin begun;
  SourceConnected connected;
  int connections = 0;
  std::optional<Error> failed;
  std::vector<std::string> snapshots;
  int heartbeats = 0;
  SteadyTime last_heartbeat_sent{};
};

// One daemon's worth of source, driven with poll() like the loop does.
class Driver {
 public:
  explicit Driver(KafkaOptions options, std::optional<Record> record = std::nullopt,
                  std::unique_ptr<SnapshotPoll> snapshots = nullptr, AskTableTree ask_table_tree = {});
  ~Driver();

  // Steps until the condition holds; false after the deadline. (The mock's group rebalances in rounds of five seconds, and a member that
  // comes in the middle of one may need several.)
  bool until(const std::function<bool()>& condition,
             std::chrono::seconds deadline = std::chrono::seconds(60));
  void step();
  void acknowledge_all();
  void stop();

  std::size_t bytes_max = 1 << 20;
  bool acknowledges = true;  // at once, as a pipeline without anything to wait for
  Recorder seen;
  std::unique_ptr<Source> source;
};

// An insert into public.items, as Debezium writes it without schema.
std::string insert_of(int id, int transaction = 700);

}  // namespace evictd
