// Producing and administration for the tests, by librdkafka: Debian has no Python client for Kafka.
//
// clang-format off
//   kafka_tool BROKERS topics SECONDS
//   kafka_tool BROKERS create TOPIC PARTITIONS [SETTING VALUE]...
//   kafka_tool BROKERS delete TOPIC
//   kafka_tool BROKERS partitions TOPIC COUNT
//   kafka_tool BROKERS trim TOPIC PARTITION BEFORE_OFFSET
//   kafka_tool BROKERS allow NAME topic|group PRINCIPAL describe|read   and with it nobody else
//   kafka_tool BROKERS forget GROUP TOPIC PARTITIONS
//   kafka_tool BROKERS commit GROUP TOPIC PARTITION OFFSET
//   kafka_tool BROKERS offsets GROUP TOPIC PARTITIONS   "committed low high" by partition
//   kafka_tool BROKERS members GROUP                    "client.id topic[partition] ..." by member
//   kafka_tool BROKERS produce TOPIC PARTITION [commit|abort|leave]   lines "KEY VALUE" in hex; '-': null, '.': empty;
//                                                       all in one transaction, which may be left open
//   kafka_tool BROKERS drain TOPIC RECORDS              reads and discards; prints seconds
//   kafka_tool BROKERS cat TOPIC RECORDS                prints the values, a line each
// clang-format on
#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr int kTimeoutMs = 20'000;

[[noreturn]] void die(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(1);
}

rd_kafka_t* make(rd_kafka_type_t type, const std::string& brokers,
                 const std::vector<std::pair<std::string, std::string>>& more = {}) {
  char reason[512];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  rd_kafka_conf_set(conf, "bootstrap.servers", brokers.c_str(), reason, sizeof reason);
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
  for (const auto& [name, value] : more) {
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), reason, sizeof reason) !=
        RD_KAFKA_CONF_OK)
      die(reason);
  }
  rd_kafka_t* client = rd_kafka_new(type, conf, reason, sizeof reason);
  if (client == nullptr) die(reason);
  return client;
}

void print_members(const rd_kafka_ConsumerGroupDescription_t* group) {
  if (const auto* error = rd_kafka_ConsumerGroupDescription_error(group)) {
    die(rd_kafka_error_string(error));
  }
  for (std::size_t i = 0; i < rd_kafka_ConsumerGroupDescription_member_count(group); ++i) {
    const auto* member = rd_kafka_ConsumerGroupDescription_member(group, i);
    std::printf("%s", rd_kafka_MemberDescription_client_id(member));
    const auto* held =
        rd_kafka_MemberAssignment_partitions(rd_kafka_MemberDescription_assignment(member));
    for (int at = 0; held != nullptr && at < held->cnt; ++at) {
      std::printf(" %s[%d]", held->elems[at].topic, held->elems[at].partition);
    }
    std::printf("\n");
  }
}

// Runs one admin request and checks every part of its answer.
void admin(rd_kafka_t* client,
           const std::function<void(rd_kafka_AdminOptions_t*, rd_kafka_queue_t*)>& request) {
  rd_kafka_AdminOptions_t* options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_ANY);
  char reason[512];
  rd_kafka_AdminOptions_set_request_timeout(options, kTimeoutMs, reason, sizeof reason);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(client);
  request(options, queue);
  rd_kafka_event_t* event = rd_kafka_queue_poll(queue, kTimeoutMs + 1000);
  if (event == nullptr) die("no answer");
  if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
    die(rd_kafka_event_error_string(event));
  const auto check_topics = [](const rd_kafka_topic_result_t** results, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die(rd_kafka_topic_result_error_string(results[i]));
      }
    }
  };
  std::size_t count = 0;
  if (const auto* created = rd_kafka_event_CreateTopics_result(event)) {
    check_topics(rd_kafka_CreateTopics_result_topics(created, &count), count);
  } else if (const auto* deleted = rd_kafka_event_DeleteTopics_result(event)) {
    check_topics(rd_kafka_DeleteTopics_result_topics(deleted, &count), count);
  } else if (const auto* grown = rd_kafka_event_CreatePartitions_result(event)) {
    check_topics(rd_kafka_CreatePartitions_result_topics(grown, &count), count);
  } else if (const auto* described = rd_kafka_event_DescribeConsumerGroups_result(event)) {
    print_members(rd_kafka_DescribeConsumerGroups_result_groups(described, &count)[0]);
  } else if (const auto* allowed = rd_kafka_event_CreateAcls_result(event)) {
    const auto** results = rd_kafka_CreateAcls_result_acls(allowed, &count);
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto* error = rd_kafka_acl_result_error(results[i])) die(rd_kafka_error_string(error));
    }
  } else if (const auto* forgotten = rd_kafka_event_DeleteConsumerGroupOffsets_result(event)) {
    const auto* groups = rd_kafka_DeleteConsumerGroupOffsets_result_groups(forgotten, &count);
    const rd_kafka_error_t* error = rd_kafka_group_result_error(groups[0]);
    if (error != nullptr) die(rd_kafka_error_string(error));
    const auto* partitions = rd_kafka_group_result_partitions(groups[0]);
    for (int i = 0; partitions != nullptr && i < partitions->cnt; ++i) {
      if (partitions->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
        die(rd_kafka_err2str(partitions->elems[i].err));
    }
  }
  rd_kafka_event_destroy(event);
  rd_kafka_queue_destroy(queue);
  rd_kafka_AdminOptions_destroy(options);
}

std::string unhex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

void check(rd_kafka_error_t* error) {
  if (error != nullptr) die(rd_kafka_error_string(error));
}

// `ending`: of the transaction that holds all of it; empty: none does.
void produce(const std::string& brokers, const std::string& topic, int partition, const std::string& ending) {
  std::vector<std::pair<std::string, std::string>> settings{{"linger.ms", "5"},
                                                            {"queue.buffering.max.messages", "1000000"},
                                                            {"queue.buffering.max.kbytes", "1048576"}};
  if (!ending.empty()) {
    settings.emplace_back("transactional.id", "kafka_tool-" + topic);
    settings.emplace_back("transaction.timeout.ms", "600000");
  }
  rd_kafka_t* client = make(RD_KAFKA_PRODUCER, brokers, settings);
  if (!ending.empty()) {
    check(rd_kafka_init_transactions(client, kTimeoutMs));
    check(rd_kafka_begin_transaction(client));
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    const std::size_t space = line.find(' ');
    const std::string key = line.substr(0, space), value = line.substr(space + 1);
    const std::string key_bytes = unhex(key), value_bytes = unhex(value);
    const auto pointer = [](const std::string& form, const std::string& bytes) -> void* {
      return form == "-" ? nullptr : const_cast<char*>(bytes.data());
    };
    for (;;) {
      const auto code = rd_kafka_producev(
          client, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
          RD_KAFKA_V_KEY(pointer(key, key_bytes), key_bytes.size()),
          RD_KAFKA_V_VALUE(pointer(value, value_bytes), value_bytes.size()),
          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
      if (code == RD_KAFKA_RESP_ERR_NO_ERROR) break;
      if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) die(rd_kafka_err2str(code));
      rd_kafka_poll(client, 100);
    }
  }
  if (rd_kafka_flush(client, 60'000) != RD_KAFKA_RESP_ERR_NO_ERROR)
    die("not everything was delivered");
  if (ending == "commit") check(rd_kafka_commit_transaction(client, kTimeoutMs));
  if (ending == "abort") check(rd_kafka_abort_transaction(client, kTimeoutMs));
  if (ending == "leave") std::_Exit(0);
  rd_kafka_destroy(client);
}

// The benchmark's yardstick: librdkafka's own consumer, which throws every record away.
void drain(const std::string& brokers, const std::string& topic, long records, bool print) {
  rd_kafka_t* client = make(RD_KAFKA_CONSUMER, brokers,
                            {{"group.id", "drain"},
                             {"enable.auto.commit", "false"},
                             // As rdkafka_performance does: its queue never stops the fetching.
                             {"queued.min.messages", "1000000"}});
  rd_kafka_poll_set_consumer(client);
  rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic.c_str(), 0)->offset = 0;
  rd_kafka_assign(client, list);
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_queue_t* queue = rd_kafka_queue_get_consumer(client);
  long seen = 0;
  std::chrono::steady_clock::time_point begin;
  std::vector<rd_kafka_message_t*> batch(512);
  while (seen < records) {
    // It waits so long for a batch that is not full: the last one, too.
    const ssize_t count = rd_kafka_consume_batch_queue(queue, 5, batch.data(), batch.size());
    if (seen == 0 && count > 0) begin = std::chrono::steady_clock::now();
    for (ssize_t i = 0; i < count; ++i) {
      if (batch[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) ++seen;
      if (print) {
        std::fwrite(batch[i]->payload, 1, batch[i]->len, stdout);
        std::fputc('\n', stdout);
      }
      rd_kafka_message_destroy(batch[i]);
    }
  }
  if (!print)
    std::printf("%.6f\n",
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  rd_kafka_queue_destroy(queue);
  rd_kafka_consumer_close(client);
  rd_kafka_destroy(client);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 3) die("usage: kafka_tool BROKERS COMMAND ...");
  const std::string& brokers = arguments[0];
  const std::string& command = arguments[1];
  const std::string& topic = arguments[2];
  const auto number = [&](std::size_t i) {
    return i < arguments.size() ? std::stol(arguments[i]) : 0;
  };
  char reason[512];
  if (command == "produce") return produce(brokers, topic, static_cast<int>(number(3)), arguments.size() > 4 ? arguments[4] : ""), 0;
  if (command == "drain") return drain(brokers, topic, number(3), false), 0;
  if (command == "cat") return drain(brokers, topic, number(3), true), 0;
  if (command == "topics") {
    rd_kafka_t* client = make(RD_KAFKA_PRODUCER, brokers);
    const rd_kafka_metadata_t* metadata = nullptr;
    const auto code =
        rd_kafka_metadata(client, 1, nullptr, &metadata, static_cast<int>(number(2)) * 1000);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) die(rd_kafka_err2str(code));
    for (int i = 0; i < metadata->topic_cnt; ++i) {
      std::printf("%s %d\n", metadata->topics[i].topic, metadata->topics[i].partition_cnt);
    }
    rd_kafka_metadata_destroy(metadata);
    return 0;
  }
  if (command == "offsets") {
    rd_kafka_t* client = make(RD_KAFKA_CONSUMER, brokers, {{"group.id", topic}});
    for (int partition = 0; partition < number(4); ++partition) {
      rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
      rd_kafka_topic_partition_list_add(list, arguments[3].c_str(), partition);
      auto code = rd_kafka_committed(client, list, kTimeoutMs);
      if (code != RD_KAFKA_RESP_ERR_NO_ERROR) die(rd_kafka_err2str(code));
      std::int64_t low = 0, high = 0;
      code = rd_kafka_query_watermark_offsets(client, arguments[3].c_str(), partition, &low, &high,
                                              kTimeoutMs);
      if (code != RD_KAFKA_RESP_ERR_NO_ERROR) die(rd_kafka_err2str(code));
      std::printf("%lld %lld %lld\n",
                  static_cast<long long>(list->elems[0].offset < 0 ? -1 : list->elems[0].offset),
                  static_cast<long long>(low), static_cast<long long>(high));
      rd_kafka_topic_partition_list_destroy(list);
    }
    return 0;
  }
  if (command == "commit") {
    rd_kafka_t* client = make(RD_KAFKA_CONSUMER, brokers, {{"group.id", topic}});
    rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, arguments.at(3).c_str(), static_cast<int>(number(4)))
        ->offset = number(5);
    const auto code = rd_kafka_commit(client, list, 0);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) die(rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
    return 0;
  }
  rd_kafka_t* client = make(RD_KAFKA_PRODUCER, brokers);
  admin(client, [&](rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
    if (command == "create") {
      rd_kafka_NewTopic_t* request = rd_kafka_NewTopic_new(
          topic.c_str(), static_cast<int>(number(3)), 1, reason, sizeof reason);
      for (std::size_t i = 4; i + 1 < arguments.size(); i += 2)
        rd_kafka_NewTopic_set_config(request, arguments[i].c_str(), arguments[i + 1].c_str());
      rd_kafka_CreateTopics(client, &request, 1, options, queue);
      rd_kafka_NewTopic_destroy(request);
    } else if (command == "delete") {
      rd_kafka_DeleteTopic_t* request = rd_kafka_DeleteTopic_new(topic.c_str());
      rd_kafka_DeleteTopics(client, &request, 1, options, queue);
      rd_kafka_DeleteTopic_destroy(request);
    } else if (command == "partitions") {
      rd_kafka_NewPartitions_t* request = rd_kafka_NewPartitions_new(
          topic.c_str(), static_cast<std::size_t>(number(3)), reason, sizeof reason);
      rd_kafka_CreatePartitions(client, &request, 1, options, queue);
      rd_kafka_NewPartitions_destroy(request);
    } else if (command == "trim") {
      rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
      rd_kafka_topic_partition_list_add(list, topic.c_str(), static_cast<int>(number(3)))->offset =
          number(4);
      rd_kafka_DeleteRecords_t* request = rd_kafka_DeleteRecords_new(list);
      rd_kafka_DeleteRecords(client, &request, 1, options, queue);
      rd_kafka_DeleteRecords_destroy(request);
      rd_kafka_topic_partition_list_destroy(list);
    } else if (command == "allow") {
      const auto kind = arguments.at(3) == "topic" ? RD_KAFKA_RESOURCE_TOPIC : RD_KAFKA_RESOURCE_GROUP;
      const auto operation = arguments.at(5) == "read" ? RD_KAFKA_ACL_OPERATION_READ : RD_KAFKA_ACL_OPERATION_DESCRIBE;
      rd_kafka_AclBinding_t* request = rd_kafka_AclBinding_new(
          kind, topic.c_str(), RD_KAFKA_RESOURCE_PATTERN_LITERAL, arguments.at(4).c_str(), "*", operation,
          RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, reason, sizeof reason);
      rd_kafka_CreateAcls(client, &request, 1, options, queue);
      rd_kafka_AclBinding_destroy(request);
    } else if (command == "members") {
      const char* group = topic.c_str();
      rd_kafka_DescribeConsumerGroups(client, &group, 1, options, queue);
    } else if (command == "forget") {
      rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
      for (int partition = 0; partition < number(4); ++partition) {
        rd_kafka_topic_partition_list_add(list, arguments[3].c_str(), partition);
      }
      rd_kafka_DeleteConsumerGroupOffsets_t* request =
          rd_kafka_DeleteConsumerGroupOffsets_new(topic.c_str(), list);
      rd_kafka_DeleteConsumerGroupOffsets(client, &request, 1, options, queue);
      rd_kafka_DeleteConsumerGroupOffsets_destroy(request);
      rd_kafka_topic_partition_list_destroy(list);
    } else {
      die("unknown command '" + command + "'");
    }
  });
  return 0;
}
