#include "daemon/sources/kafka/doctor/kafka_admin.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "daemon/sources/kafka/librdkafka.h"

namespace evictd {
namespace {

constexpr int kTimeoutMs = 10'000;

struct QueueDeleter {
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
};
struct EventDeleter {
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
};
using Event = std::unique_ptr<rd_kafka_event_t, EventDeleter>;

std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

}  // namespace

struct KafkaAdmin::Impl {
  rd_kafka_t* client = nullptr;
  std::string group;
  std::map<std::string, std::string> properties;

  // The answer to one request, or why there is none.
  template <typename Request>
  Result<Event> ask(const Request& request) const {
    const std::unique_ptr<rd_kafka_queue_t, QueueDeleter> queue(rd_kafka_queue_new(client));
    request(queue.get());
    Event event(rd_kafka_queue_poll(queue.get(), kTimeoutMs));
    if (!event) return tl::unexpected(kafka_error(RD_KAFKA_RESP_ERR__TIMED_OUT, nullptr));
    if (const auto code = rd_kafka_event_error(event.get()); code != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return tl::unexpected(kafka_error(code, rd_kafka_event_error_string(event.get())));
    }
    return event;
  }
};

KafkaAdmin::KafkaAdmin(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

KafkaAdmin::~KafkaAdmin() { rd_kafka_destroy(impl_->client); }

Result<std::unique_ptr<KafkaAdmin>> KafkaAdmin::make(const KafkaOptions& options) {
  auto conf = make_kafka_conf(options);
  if (!conf) return tl::unexpected(conf.error());
  auto impl = std::make_unique<Impl>();
  impl->group = options.group;
  std::size_t count = 0;
  const char** dump = rd_kafka_conf_dump(conf->get(), &count);
  for (std::size_t i = 0; i + 1 < count; i += 2) impl->properties[dump[i]] = dump[i + 1];
  rd_kafka_conf_dump_free(dump, count);
  rd_kafka_conf_set_log_cb(conf->get(), [](const rd_kafka_t*, int, const char*, const char*) {});
  char reason[512];
  impl->client = rd_kafka_new(RD_KAFKA_CONSUMER, conf->get(), reason, sizeof reason);
  if (impl->client == nullptr) {
    return fail(ErrorKind::kUsage, std::string("kafka: ") + reason,
                "check 'properties' of the 'kafka' section");
  }
  static_cast<void>(conf->release());
  return std::unique_ptr<KafkaAdmin>(new KafkaAdmin(std::move(impl)));
}

std::string KafkaAdmin::property(const std::string& name) const {
  const auto found = impl_->properties.find(name);
  return found == impl_->properties.end() ? "" : found->second;
}

Result<std::map<std::string, std::string>> KafkaAdmin::topic_settings(const std::string& topic) {
  rd_kafka_ConfigResource_t* resource =
      rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str());
  auto event = impl_->ask([&](rd_kafka_queue_t* queue) {
    rd_kafka_DescribeConfigs(impl_->client, &resource, 1, nullptr, queue);
  });
  rd_kafka_ConfigResource_destroy(resource);
  if (!event) return tl::unexpected(event.error());
  std::map<std::string, std::string> settings;
  std::size_t count = 0;
  const auto* result = rd_kafka_event_DescribeConfigs_result(event->get());
  const auto** resources = rd_kafka_DescribeConfigs_result_resources(result, &count);
  for (std::size_t i = 0; i < count; ++i) {
    if (const auto code = rd_kafka_ConfigResource_error(resources[i]);
        code != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return tl::unexpected(kafka_error(code, rd_kafka_ConfigResource_error_string(resources[i])));
    }
    std::size_t entries = 0;
    const auto** configs = rd_kafka_ConfigResource_configs(resources[i], &entries);
    for (std::size_t j = 0; j < entries; ++j) {
      settings[rd_kafka_ConfigEntry_name(configs[j])] =
          text_or_empty(rd_kafka_ConfigEntry_value(configs[j]));
    }
  }
  return settings;
}

Result<std::vector<GroupMember>> KafkaAdmin::group_members() {
  const char* groups[] = {impl_->group.c_str()};
  auto event = impl_->ask([&](rd_kafka_queue_t* queue) {
    rd_kafka_DescribeConsumerGroups(impl_->client, groups, 1, nullptr, queue);
  });
  if (!event) return tl::unexpected(event.error());
  std::vector<GroupMember> members;
  std::size_t count = 0;
  const auto* result = rd_kafka_event_DescribeConsumerGroups_result(event->get());
  const auto** found = rd_kafka_DescribeConsumerGroups_result_groups(result, &count);
  for (std::size_t i = 0; i < count; ++i) {
    if (const auto* error = rd_kafka_ConsumerGroupDescription_error(found[i])) {
      return tl::unexpected(kafka_error(rd_kafka_error_code(error), rd_kafka_error_string(error)));
    }
    const std::size_t size = rd_kafka_ConsumerGroupDescription_member_count(found[i]);
    for (std::size_t j = 0; j < size; ++j) {
      const auto* member = rd_kafka_ConsumerGroupDescription_member(found[i], j);
      members.push_back({text_or_empty(rd_kafka_MemberDescription_group_instance_id(member)),
                         text_or_empty(rd_kafka_MemberDescription_client_id(member)),
                         text_or_empty(rd_kafka_MemberDescription_host(member))});
    }
  }
  return members;
}

KafkaRecord KeptRecord::view() const {
  KafkaRecord record;
  record.topic = at.topic;
  record.partition = at.partition;
  record.offset = offset;
  record.key = key;
  record.value = value;
  record.timestamp_ms = timestamp_ms;
  record.schemas = schemas;
  return record;
}

Result<std::vector<KeptRecord>> KafkaAdmin::last_records(
    const std::vector<PartitionOffsets>& partitions, std::int64_t count) {
  rd_kafka_topic_partition_list_t* list =
      rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size()));
  std::int64_t wanted = 0;
  for (const PartitionOffsets& at : partitions) {
    const std::int64_t begin = std::max(at.low, at.high - count);
    if (begin >= at.high) continue;
    wanted += at.high - begin;
    rd_kafka_topic_partition_list_add(list, at.at.topic.c_str(), at.at.partition)->offset = begin;
  }
  rd_kafka_poll_set_consumer(impl_->client);
  const auto code = rd_kafka_assign(impl_->client, list);
  rd_kafka_topic_partition_list_destroy(list);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return tl::unexpected(kafka_error(code, nullptr));
  std::vector<KeptRecord> records;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kTimeoutMs);
  std::optional<Error> refused;
  while (!refused && static_cast<std::int64_t>(records.size()) < wanted &&
         std::chrono::steady_clock::now() < deadline) {
    rd_kafka_message_t* message = rd_kafka_consumer_poll(impl_->client, 200);
    if (message == nullptr) continue;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      KeptRecord& record = records.emplace_back();
      record.at = {rd_kafka_topic_name(message->rkt), message->partition};
      record.offset = message->offset;
      const auto bytes = [](const void* data, std::size_t size) -> std::optional<std::string> {
        if (data == nullptr) return std::nullopt;
        return std::string(static_cast<const char*>(data), size);
      };
      record.key = bytes(message->key, message->key_len);
      record.value = bytes(message->payload, message->len);
      record.timestamp_ms = std::max<std::int64_t>(0, rd_kafka_message_timestamp(message, nullptr));
      record.schemas = schema_headers(*message);
    } else if (message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
      // Others the library tries again by itself.
      refused = kafka_error(message->err, nullptr);
      if (message->rkt != nullptr) refused->text += fmt::format(" (topic '{}')", rd_kafka_topic_name(message->rkt));
    }
    rd_kafka_message_destroy(message);
  }
  rd_kafka_assign(impl_->client, nullptr);
  if (refused) return tl::unexpected(std::move(*refused));
  return records;
}

}  // namespace evictd
