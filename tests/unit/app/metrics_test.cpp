#include "daemon/app/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <sstream>

namespace evictd {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

RuleInfo rule(const std::string& name, const std::string& table = "products") {
  RuleInfo info;
  info.name = name;
  info.schema = "public";
  info.table = table;
  info.key_templates = {"row:{id}"};
  return info;
}

const Now kNow{SteadyTime(seconds(1000)), SystemTime(seconds(1'700'000'000))};

// "evictd_x{...} 1" for every series of one metric, in the order of the page.
std::vector<std::string> series(const Metrics& metrics, const std::string& name,
                                const Status* status = nullptr) {
  std::vector<std::string> found;
  std::istringstream page(metrics.text(status, kNow));
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with(name + "{") || line.starts_with(name + " ")) found.push_back(line);
  }
  return found;
}

Status connected_status() {
  Status status;
  status.flow.source_connected = true;
  status.flow.active = true;
  status.flow.last_heartbeat = kNow.steady - seconds(3);
  LaneStatus& lane = status.flow.lanes.emplace_back();
  lane.name = "redis";
  lane.is_connected = true;
  lane.lag = milliseconds(1500);
  lane.last_applied_commit = kNow.system - seconds(2);
  lane.held_transactions = 4;
  lane.held_bytes = 4096;
  status.source.lag_bytes = 100;
  status.source.slot_retained_bytes = 200;
  status.source.slot_safe_wal_bytes = 300;
  status.sinks.push_back({"redis", "localhost:6379/0", {}});
  status.sinks[0].sink.evicted_keys = 5;
  return status;
}

// The names are API: dashboards and alerts hold them. A change here is a change for users.
TEST(Metrics, NamesTypesAndLabelsAreFixed) {
  Metrics metrics("1.2.3");
  metrics.set_rules({rule("shop")});
  const Status status = connected_status();
  std::istringstream page(metrics.text(&status, kNow));
  std::vector<std::string> seen;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("# TYPE ")) seen.push_back(line.substr(7));
  }
  EXPECT_THAT(
      seen,
      testing::ElementsAre(
          "evictd_active gauge", "evictd_build_info gauge", "evictd_changes_total counter",
          "evictd_gap_unresolved gauge", "evictd_gaps_total counter",
          "evictd_heartbeat_age_seconds gauge", "evictd_inflight_bytes gauge",
          "evictd_inflight_transactions gauge", "evictd_invalidation_latency_seconds histogram",
          "evictd_invalidations_total counter", "evictd_lag_seconds gauge",
          "evictd_last_applied_commit_timestamp_seconds gauge",
          "evictd_log_dropped_lines_total counter", "evictd_loop_silence_seconds gauge",
          "evictd_negative_latency_total counter", "evictd_parked gauge", "evictd_ready gauge",
          "evictd_reconnects_total counter",
          "evictd_redis_connected gauge", "evictd_redis_errors_total counter",
          "evictd_redis_evicted_keys_total counter", "evictd_rules_reload_total counter",
          "evictd_settle_deletes_total counter", "evictd_slot_retained_bytes gauge",
          "evictd_slot_safe_wal_bytes gauge", "evictd_source_connected gauge",
          "evictd_source_lag_bytes gauge", "process_cpu_seconds_total counter", "process_max_fds gauge",
          "process_open_fds gauge", "process_resident_memory_bytes gauge", "process_start_time_seconds gauge",
          "process_virtual_memory_bytes gauge"));
}

TEST(Metrics, WhatARuleMayDoBeginsAtZero) {
  Metrics metrics("1");
  RuleInfo shop = rule("shop");
  metrics.set_rules({shop});
  EXPECT_THAT(series(metrics, "evictd_invalidations_total"),
              testing::ElementsAre(
                  R"(evictd_invalidations_total{cache="redis",kind="key",outcome="absent",rule="shop"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="key",outcome="deleted",rule="shop"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="purge",outcome="absent",rule="shop"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="purge",outcome="deleted",rule="shop"} 0)"));
  shop.name = "checked";
  shop.fill = FillMode::kChecked;
  shop.key_templates.clear();
  shop.tag_templates = {"category:{category_id}"};
  metrics.set_rules({shop});
  EXPECT_THAT(series(metrics, "evictd_invalidations_total"),
              testing::ElementsAre(
                  R"(evictd_invalidations_total{cache="redis",kind="purge",outcome="absent",rule="checked"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="purge",outcome="deleted",rule="checked"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="absent",rule="checked"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="deleted",rule="checked"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="kept",rule="checked"} 0)",
                  R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="replayed",rule="checked"} 0)"));
  EXPECT_THAT(
      series(metrics, "evictd_changes_total"),
      testing::ElementsAre(R"(evictd_changes_total{op="delete",table="public.products"} 0)",
                           R"(evictd_changes_total{op="insert",table="public.products"} 0)",
                           R"(evictd_changes_total{op="truncate",table="public.products"} 0)",
                           R"(evictd_changes_total{op="update",table="public.products"} 0)"));
  EXPECT_THAT(series(metrics, "evictd_unmappable_changes_total"), testing::IsEmpty());
  EXPECT_THAT(series(metrics, "evictd_settle_deletes_total"), testing::SizeIs(4));
  EXPECT_THAT(series(metrics, "evictd_rules_reload_total"),
              testing::ElementsAre(R"(evictd_rules_reload_total{outcome="failure"} 0)",
                                   R"(evictd_rules_reload_total{outcome="success"} 0)"));
  EXPECT_THAT(series(metrics, "evictd_reconnects_total"),
              testing::ElementsAre(R"(evictd_reconnects_total{peer="postgres"} 0)",
                                   R"(evictd_reconnects_total{peer="redis"} 0)"));
}

TEST(Metrics, CountsWhatThePipelineReports) {
  Metrics metrics("1");
  metrics.set_rules({rule("a"), rule("b")});
  metrics.changes("public.products", Operation::kUpdate, 7);
  metrics.invalidations("redis", rule("b"), InvalidationKind::kTag, Counts{3, 2, 1, 4});
  metrics.settle_deletes("redis", Counts{5, 0, 0, 0});
  metrics.unmappable(rule("a"), UnmappableReason::kNotSent);
  metrics.looked_up({rule("b"), false, 5, 12, 1, std::chrono::microseconds(700)});
  metrics.looked_up({rule("b"), true, 2, 0, 0, {}});
  metrics.gap("redis", "slot_lost");
  metrics.sink_error("redis", "timeout");
  metrics.reconnect("redis");
  metrics.rules_reloaded(true);
  metrics.rules_reloaded(false);
  metrics.rules_reloaded(false);
  const std::string page = metrics.text(nullptr, kNow);
  for (const char* line :
       {R"(evictd_changes_total{op="update",table="public.products"} 7)",
        R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="deleted",rule="b"} 3)",
        R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="absent",rule="b"} 2)",
        R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="kept",rule="b"} 1)",
        R"(evictd_invalidations_total{cache="redis",kind="tag",outcome="replayed",rule="b"} 4)",
        R"(evictd_invalidations_total{cache="redis",kind="key",outcome="deleted",rule="a"} 0)",
        R"(evictd_settle_deletes_total{cache="redis",outcome="deleted"} 5)",
        R"(evictd_unmappable_changes_total{reason="not_sent",rule="a"} 1)",
        R"(evictd_lookups_total{outcome="ok",rule="b"} 5)",
        R"(evictd_lookups_total{outcome="failed",rule="b"} 2)",
        R"(evictd_lookup_rows_total{rule="b"} 12)",
        R"(evictd_lookup_overflows_total{rule="b"} 1)",
        R"(evictd_lookup_seconds_count 2)",
        R"(evictd_gaps_total{cache="redis",reason="slot_lost"} 1)",
        R"(evictd_redis_errors_total{cache="redis",class="timeout"} 1)",
        R"(evictd_reconnects_total{peer="redis"} 1)",
        R"(evictd_rules_reload_total{outcome="success"} 1)",
        R"(evictd_rules_reload_total{outcome="failure"} 2)",
        R"(evictd_build_info{version="1"} 1)"}) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
}

TEST(Metrics, BucketsReachFromHalfAMillisecondToFiveMinutes) {
  Metrics metrics("1");
  metrics.invalidation_latency("redis", microseconds(500));  // on the bound: within it
  metrics.invalidation_latency("redis", microseconds(501));
  metrics.invalidation_latency("redis", seconds(301));
  metrics.flush();
  const std::vector<std::string> buckets =
      series(metrics, "evictd_invalidation_latency_seconds_bucket");
  EXPECT_THAT(buckets,
              testing::ElementsAre(R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.0005"} 1)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.001"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.002"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.005"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.01"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.02"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.05"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.1"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.2"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="0.5"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="1"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="2"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="5"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="10"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="20"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="60"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="120"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="300"} 2)",
                                   R"(evictd_invalidation_latency_seconds_bucket{cache="redis",le="+Inf"} 3)"));
  EXPECT_THAT(series(metrics, "evictd_invalidation_latency_seconds_count"),
              testing::ElementsAre(R"(evictd_invalidation_latency_seconds_count{cache="redis"} 3)"));
}

TEST(Metrics, NegativeLatenciesAreClampedAndCounted) {
  Metrics metrics("1");
  metrics.invalidation_latency("redis", microseconds(-700));
  metrics.flush();
  EXPECT_THAT(series(metrics, "evictd_negative_latency_total"),
              testing::ElementsAre("evictd_negative_latency_total 1"));
  EXPECT_THAT(series(metrics, "evictd_invalidation_latency_seconds_sum"),
              testing::ElementsAre(R"(evictd_invalidation_latency_seconds_sum{cache="redis"} 0)"));
}

TEST(Metrics, LagIsThatOfEachCacheAndAbsentWhereNobodyKnows) {
  Metrics metrics("1");
  Status status = connected_status();
  EXPECT_THAT(series(metrics, "evictd_lag_seconds", &status),
              testing::ElementsAre(R"(evictd_lag_seconds{cache="redis"} 1.5)"));
  LaneStatus another = status.flow.lanes[0];
  another.name = "us";
  another.lag = milliseconds(0);
  status.flow.lanes.push_back(another);
  EXPECT_THAT(series(metrics, "evictd_lag_seconds", &status),
              testing::ElementsAre(R"(evictd_lag_seconds{cache="redis"} 1.5)", R"(evictd_lag_seconds{cache="us"} 0)"));
  status.flow.lanes.pop_back();
  EXPECT_THAT(series(metrics, "evictd_heartbeat_age_seconds", &status),
              testing::ElementsAre("evictd_heartbeat_age_seconds 3"));
  EXPECT_THAT(series(metrics, "evictd_last_applied_commit_timestamp_seconds", &status),
              testing::ElementsAre(R"(evictd_last_applied_commit_timestamp_seconds{cache="redis"} 1699999998)"));
}

TEST(Metrics, WhatIsUnknownIsAbsent) {
  Metrics metrics("1");
  const Status unknown;
  const std::string page = metrics.text(&unknown, kNow);
  for (const char* name :
       {"evictd_source_lag_bytes", "evictd_slot_retained_bytes", "evictd_slot_safe_wal_bytes",
        "evictd_last_applied_commit_timestamp_seconds", "evictd_heartbeat_age_seconds",
        "evictd_redis_evicted_keys_total"}) {
    EXPECT_THAT(page, Not(HasSubstr(name)));
  }
  EXPECT_THAT(page, HasSubstr("evictd_source_connected 0\n"));
  EXPECT_THAT(page, Not(HasSubstr("evictd_lag_seconds")));
}

TEST(Metrics, AnUnresolvedGapIsOneUnderItsReason) {
  Metrics metrics("1");
  Status status = connected_status();
  status.flow.lanes[0].gaps = {"slot_lost"};
  EXPECT_THAT(series(metrics, "evictd_gap_unresolved", &status),
              testing::Contains(R"(evictd_gap_unresolved{cache="redis",reason="slot_lost"} 1)"));
  status.flow.lanes[0].gaps = {"something_new"};
  EXPECT_THAT(
      series(metrics, "evictd_gap_unresolved", &status),
      testing::AllOf(testing::Contains(R"(evictd_gap_unresolved{cache="redis",reason="slot_lost"} 0)"),
                     testing::Contains(R"(evictd_gap_unresolved{cache="redis",reason="something_new"} 1)")));
}

// An alert on one reason must fire also while another is being repaired.
TEST(Metrics, SeveralUnresolvedGapsAreOneUnderEachReason) {
  Metrics metrics("1");
  Status status = connected_status();
  status.flow.lanes[0].gaps = {"slot_lost", "something_new"};
  const std::vector<std::string> seen = series(metrics, "evictd_gap_unresolved", &status);
  EXPECT_THAT(seen, testing::Contains(R"(evictd_gap_unresolved{cache="redis",reason="slot_lost"} 1)").Times(1));
  EXPECT_THAT(seen, testing::Contains(R"(evictd_gap_unresolved{cache="redis",reason="something_new"} 1)"));
  EXPECT_THAT(seen, testing::Contains(R"(evictd_gap_unresolved{cache="redis",reason="slot_moved"} 0)"));
  metrics.gap("redis", "slot_lost");
  metrics.gap("redis", "redis_rollback");
  EXPECT_THAT(series(metrics, "evictd_gaps_total"),
              testing::AllOf(testing::Contains(R"(evictd_gaps_total{cache="redis",reason="slot_lost"} 1)"),
                             testing::Contains(R"(evictd_gaps_total{cache="redis",reason="redis_rollback"} 1)"),
                             testing::SizeIs(16)));
}

// increase() does not see a counter whose first value is 1: each reason that a room can report begins at 0.
TEST(Metrics, EveryReasonAndClassBeginsAtZero) {
  const std::string postgres = Metrics("1").text(nullptr, kNow);
  for (const char* reason :
       {"slot_missing", "slot_lost", "slot_moved", "epoch_changed", "publication_missing",
        "record_missing", "source_changed", "table_recreated", "table_added", "unpublished",
        "partitions_changed", "table_changed", "stream_incomplete", "redis_rollback", "redis_evicted", "parked"}) {
    EXPECT_THAT(postgres, HasSubstr(std::string("evictd_gaps_total{cache=\"redis\",reason=\"") + reason + "\"} 0"));
  }
  for (const char* error_class :
       {"connection", "timeout", "protocol", "tls", "loading", "busy", "oom", "misconf",
        "master_down", "no_replicas", "try_again", "read_only", "auth", "noperm", "cluster",
        "sentinels", "clients", "other", "moved", "set_back", "too_few_replicas", "unknown_command", "database",
        "protected"}) {
    EXPECT_THAT(postgres,
                HasSubstr(std::string("evictd_redis_errors_total{cache=\"redis\",class=\"") + error_class + "\"} 0"));
  }
  const std::string kafka = Metrics("1", "kafka").text(nullptr, kNow);
  for (const char* reason : {"offset_out_of_range", "offsets_lost", "topic_recreated",
                             "record_missing", "redis_rollback", "redis_evicted", "parked"}) {
    EXPECT_THAT(kafka, HasSubstr(std::string("evictd_gaps_total{cache=\"redis\",reason=\"") + reason + "\"} 0"));
  }
}

TEST(Metrics, FillsAndKafkaAreThereWhenTheyAreKnown) {
  Metrics metrics("1", "kafka");
  Status status = connected_status();
  EXPECT_THAT(metrics.text(&status, kNow), Not(HasSubstr("evictd_kafka_")));
  EXPECT_THAT(metrics.text(&status, kNow), Not(HasSubstr("evictd_fills_total")));
  status.sinks[0].sink.fills = {{"stored", 7}, {"rejected", 2}};
  KafkaStatus kafka;
  for (int i = 0; i < 250; ++i) kafka.lag_messages["topic" + std::to_string(1000 + i)] = 2;
  kafka.rebalances = 3;
  kafka.poison_records = 4;
  kafka.dead_letters_lost = 5;
  kafka.last_record_time = kNow.system - milliseconds(2500);
  status.source.kafka = kafka;
  const std::string page = metrics.text(&status, kNow);
  for (const char* line :
       {R"(evictd_fills_total{cache="redis",outcome="stored"} 7)", R"(evictd_fills_total{cache="redis",outcome="rejected"} 2)",
        R"(evictd_kafka_lag_messages{topic="topic1000"} 2)",
        R"(evictd_kafka_lag_messages{topic="other"} 100)", "evictd_kafka_rebalances_total 3",
        "evictd_kafka_poison_records_total 4", "evictd_kafka_dead_letters_lost_total 5",
        "evictd_kafka_record_age_seconds 2.5", R"(evictd_reconnects_total{peer="kafka"} 0)",
        R"(evictd_gaps_total{cache="redis",reason="offsets_lost"} 0)"}) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
  EXPECT_THAT(series(metrics, "evictd_kafka_lag_messages", &status), testing::SizeIs(201));
}

TEST(Metrics, EvictdIsReadyWhereReadyzSaysSo) {
  Metrics metrics("1");
  const Status ready = connected_status();
  EXPECT_THAT(metrics.text(&ready, kNow), HasSubstr("evictd_ready 1\n"));
  Status held_up = ready;
  held_up.flow.not_ready = {"orders of rule 'near': no such index"};
  Status reloads = ready;
  reloads.rules_to_come = "PostgreSQL is not connected";
  Status lacks = ready;
  lacks.source.problem = "the publication leaves out 'delete'";
  Status stops = ready;
  stops.stopping = true;
  for (const Status& status : {held_up, reloads, lacks, stops}) {
    EXPECT_FALSE(readiness_problems(status).empty());
    EXPECT_THAT(metrics.text(&status, kNow), HasSubstr("evictd_ready 0\n"));
  }
}

TEST(Metrics, AReloadAddsAndRemovesRules) {
  Metrics metrics("1");
  metrics.set_rules({rule("stays"), rule("goes", "orders")});
  metrics.invalidations("redis", rule("stays"), InvalidationKind::kKey, Counts{3, 0, 0, 0});
  metrics.changes("public.products", Operation::kInsert, 2);
  metrics.set_rules({rule("comes", "reviews"), rule("stays")});
  const std::string page = metrics.text(nullptr, kNow);
  EXPECT_THAT(page, HasSubstr(R"({cache="redis",kind="key",outcome="deleted",rule="stays"} 3)"));
  EXPECT_THAT(page, HasSubstr(R"({cache="redis",kind="key",outcome="deleted",rule="comes"} 0)"));
  EXPECT_THAT(page, HasSubstr(R"({op="insert",table="public.products"} 2)"));
  EXPECT_THAT(page, HasSubstr(R"({op="insert",table="public.reviews"} 0)"));
  EXPECT_THAT(page, Not(HasSubstr("goes")));
  EXPECT_THAT(page, Not(HasSubstr("orders")));
  // What was under way for a rule that is gone no longer has a series; it must not land in
  // another's.
  metrics.invalidations("redis", rule("goes"), InvalidationKind::kKey, Counts{9, 0, 0, 0});
  EXPECT_THAT(metrics.text(nullptr, kNow), Not(HasSubstr("} 9")));
}

TEST(Metrics, LabelsAreBounded) {
  Metrics metrics("1");
  std::vector<RuleInfo> rules;
  for (int i = 0; i < 500; ++i) {
    rules.push_back(rule("r" + std::to_string(i), "t" + std::to_string(i)));
  }
  metrics.set_rules(rules);
  metrics.invalidations("redis", rules[499], InvalidationKind::kKey, Counts{2, 0, 0, 0});
  metrics.invalidations("redis", rules[300], InvalidationKind::kKey, Counts{1, 0, 0, 0});
  metrics.changes("public.t499", Operation::kDelete, 4);
  for (int i = 0; i < 100; ++i) metrics.sink_error("redis", "class" + std::to_string(i));
  const std::string page = metrics.text(nullptr, kNow);
  EXPECT_THAT(page, HasSubstr(R"({cache="redis",kind="key",outcome="deleted",rule="other"} 3)"));
  EXPECT_THAT(page, HasSubstr(R"({op="delete",table="other"} 4)"));
  EXPECT_THAT(series(metrics, "evictd_invalidations_total"), testing::SizeIs(201 * 4));
  EXPECT_THAT(series(metrics, "evictd_redis_errors_total"), testing::SizeIs(32));
}

TEST(Metrics, LabelValuesAreEscaped) {
  Metrics metrics("1");
  metrics.set_rules({rule("a\"b\\c\nd")});
  EXPECT_THAT(metrics.text(nullptr, kNow), HasSubstr(R"(rule="a\"b\\c\nd")"));
}

double value_of(const Metrics& metrics, const std::string& name) {
  const std::vector<std::string> found = series(metrics, name);
  return found.size() == 1 ? std::stod(found[0].substr(name.size())) : -1;
}

TEST(Metrics, TheProcessTellsWhatItUses) {
  const Metrics metrics("1.2.3");
  EXPECT_GT(value_of(metrics, "process_cpu_seconds_total"), 0);
  EXPECT_GT(value_of(metrics, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GE(value_of(metrics, "process_virtual_memory_bytes"), value_of(metrics, "process_resident_memory_bytes"));
  const auto now = static_cast<double>(std::time(nullptr));
  EXPECT_GT(value_of(metrics, "process_start_time_seconds"), now - 3600);
  EXPECT_LE(value_of(metrics, "process_start_time_seconds"), now + 2);
  const double before = value_of(metrics, "process_open_fds");
  const int one = open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(value_of(metrics, "process_open_fds"), before + 1);
  close(one);
  EXPECT_GE(value_of(metrics, "process_max_fds"), before);
}

// When descriptors run out, what they are used for is asked for.
TEST(Metrics, TheProcessTellsOfItsMemoryWithoutADescriptorToAskWith) {
  const Metrics metrics("1.2.3");
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{0, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const double memory = value_of(metrics, "process_resident_memory_bytes");
  const std::vector<std::string> descriptors = series(metrics, "process_open_fds");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_GT(memory, 1 << 20);
  EXPECT_TRUE(descriptors.empty()) << "not known is absent, never 0";
}

}  // namespace
}  // namespace evictd
