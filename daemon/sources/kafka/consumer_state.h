// The inside of the Kafka source, split over
//   kafka_source.cpp     opening, assignment, revocation, closing
//   kafka_delivery.cpp   records into transactions
//   kafka_schemas.cpp    records that wait for the schema registry
// What is decided is decided by owners without threads, clocks and librdkafka, which the fields name; here is what follows from it.
//
//   idle -> opening -> judging -> joining -> streaming -> closing -> opening ...
//              |    (proceed)    (first assignment)   \-> stopped
//              \-> failed
#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/sources/kafka/beginnings.h"
#include "daemon/sources/kafka/broker_retries.h"
#include "daemon/sources/kafka/broker_watch.h"
#include "daemon/sources/kafka/dead_letters.h"
#include "daemon/sources/kafka/debezium_servers.h"
#include "daemon/sources/kafka/debezium_snapshots.h"
#include "daemon/sources/kafka/ending.h"
#include "daemon/sources/kafka/envelope.h"
#include "daemon/sources/kafka/helper_thread.h"
#include "daemon/sources/kafka/kafka_client.h"
#include "daemon/sources/kafka/kafka_source.h"
#include "daemon/sources/kafka/owed_to_group.h"
#include "daemon/sources/kafka/partitions.h"
#include "daemon/sources/kafka/schema_wait.h"
#include "daemon/sources/kafka/snapshot_turns.h"
#include "daemon/sources/kafka/table_places.h"

namespace evictd {

class KafkaSource final : public Source, private KafkaClientHandler {
 public:
  KafkaSource(KafkaOptions options, std::unique_ptr<SnapshotPoll> snapshots, AskTableTree ask_table_tree,
              std::unique_ptr<LookupSession> lookups);
  ~KafkaSource() override;

  void start(Now now) override;
  void proceed(const std::set<std::string>& on_record) override;
  void step(Now now, std::size_t bytes_max, SourceHandler& handler) override;
  void wait_for(Waiting& waiting, bool want_data) override;
  void acknowledge(const Position& end) override;
  void request_snapshot() override;
  void look_up(LookupRequest request, Now now) override;
  void set_tables(const std::vector<std::string>& tables) override;
  // Refuses nothing; what the rules read counts with the set_tables() that follows.
  void check_rules(const RuleSet& rules) override;
  void restart(Now now) override;
  bool stop(Now now) override;
  SourceStatus status() const override;
  bool is_shared() const override { return true; }
  std::string stream_name(std::uint32_t stream) const override { return partitions_.name_of_stream(stream); }

 private:
  enum class State { kIdle, kOpening, kJudging, kJoining, kStreaming, kClosing, kStopped, kFailed };

  // ---- kafka_source.cpp
  struct Opened {
    std::shared_ptr<KafkaClient> client;
    Beginnings::Found found;
  };
  void open();
  void opened(Result<Opened> result);
  void join();
  void announce_connection();
  void tell_streams();

  void on_assigned(std::vector<TopicPartition> partitions) override;
  void look_up_topics();
  void looked_up(Result<std::vector<PartitionOffsets>> result);
  void tell_missing(const TopicPartition& at, const Beginnings::Begin& begin);
  void on_revoked(std::vector<TopicPartition> partitions, bool lost) override;
  void drain();
  void give_back(const std::vector<TopicPartition>& partitions);
  void store_offsets();

  void on_client_error(const Error& error) override;
  void on_topic_missing(const std::string& topic) override;
  void on_topic_refused(const std::string& topic, const Error& error) override;
  void on_committed(const std::vector<TopicPartition>& partitions) override;
  void on_offset_lost(const TopicPartition& at) override;
  void on_end_reached(const TopicPartition& at, std::int64_t end) override;
  void probe_brokers();
  void find_vanished(const std::map<std::string, std::int32_t>& topics);
  void ask_for_ends();
  void measure();

  void disconnect(Error error);
  void close(State next);

  // ---- kafka_delivery.cpp
  void deliver(std::size_t bytes_max);
  // False: it has to wait for what the database says of its table, or for its schema.
  bool deliver_record(const KafkaRecord& record, Partition& partition);
  void deliver_missing(Partition& partition);
  bool deliver_poison(const KafkaRecord& record, Partition& partition, const Error& error);
  void commit(Partition& partition, std::int64_t next);
  void announce_ignored();
  void report_retired();
  Xid xid_of(const Decoded& decoded, const KafkaRecord& record, Partition& partition);
  Xid unique_xid(Partition& partition, std::int64_t offset, std::int64_t timestamp_ms);
  TopicTables tables_of_topic(const std::string& topic) const;
  bool is_nobodys(const std::string& topic, const TopicTables& tables) const;

  void ask_for_tables();
  void take_snapshots();
  void take_found();
  bool waits_for_database() const { return places_.waits() || (snapshots_ != nullptr && !snapshot_turns_.has_one()); }

  // ---- kafka_schemas.cpp
  bool must_wait_for_schemas(const std::vector<EnvelopeDecoder::NeededSchema>& missing, const KafkaRecord& record,
                             const TopicPartition& at);

  const KafkaOptions options_;
  std::unique_ptr<SnapshotPoll> snapshots_;
  std::unique_ptr<LookupSession> lookups_;
  const AskTableTree ask_table_tree_;
  SchemaStore schemas_;
  EnvelopeDecoder decoder_;
  DeadLetters dead_letters_;
  State state_ = State::kIdle;
  Now now_{};                         // of this step
  SourceHandler* handler_ = nullptr;  // inside step() only

  // One client, from opening to closing.
  std::shared_ptr<KafkaClient> client_;
  std::uint64_t session_ = 0;  // counts clients: what a helper's job says of an earlier one is dropped
  std::optional<std::set<std::string>> on_record_;  // streams that some cache has a position of; none: not judged, or joined by now
  bool is_announced_ = false;                       // on_connected was called for this client
  State after_close_ = State::kOpening;
  Ending ending_;
  BrokerRetries retries_;
  BrokerWatch broker_watch_;

  // What is read.
  Partitions partitions_;
  Beginnings beginnings_{partitions_};
  OwedToGroup owed_;
  DebeziumServers servers_;
  DebeziumSnapshots snapshots_of_debezium_;
  TablePlaces places_;
  std::optional<EnvelopeDecoder::ReadColumns> columns_to_come_;  // of rules that were checked, not set
  SnapshotTurns snapshot_turns_;
  SchemaWait schema_wait_;
  const std::shared_ptr<std::atomic<bool>> registry_is_cancelled_ = std::make_shared<std::atomic<bool>>(false);

  KafkaStatus numbers_;
  SteadyTime measure_at_ = SteadyTime::min();

  // Last: joined before what their jobs use is destroyed.
  HelperThread helper_;
  HelperThread database_helper_;
  HelperThread registry_helper_;
};

}  // namespace evictd
