#include "daemon/sources/kafka/kafka_client.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/base/special_file.h"
#include "daemon/sources/kafka/librdkafka.h"
#include "daemon/sources/kafka/wanted_topic.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::size_t kBatchRecords = 512;

// How long a client's end is waited for; it takes milliseconds when it comes at all.
constexpr std::chrono::seconds kDestroyPatience{2};

// Settings that differ from librdkafka's defaults. The user's own come after and win, except the
// refused ones.
constexpr std::pair<const char*, const char*> kDefaults[] = {
    {"client.id", "evictd"},
    {"partition.assignment.strategy", "cooperative-sticky"},
    // How soon a new topic or partition is noticed; until then its records wait in Kafka, they are
    // not lost.
    {"topic.metadata.refresh.interval.ms", "10000"},
    {"auto.commit.interval.ms", "1000"},
    {"queued.max.messages.kbytes", "16384"},
    {"fetch.wait.max.ms", "100"},
    // How soon a queue that was full is filled again. Unknown to librdkafka before 2.2: see
    // should_ask_for_ends().
    {"fetch.queue.backoff.ms", "10"},
    {"socket.keepalive.enable", "true"},
    // A broker that comes back is used again at once.
    {"reconnect.backoff.max.ms", "1000"},
    {"allow.auto.create.topics", "false"},
};

// What a guarantee rests on.
constexpr struct {
  const char* name;
  const char* value;
  const char* why;
} kPinned[] = {
    {"enable.auto.offset.store", "false", "an offset is stored when Redis has answered (G1)"},
    {"enable.auto.commit", "true", "stored offsets are committed in the background and on revoke"},
    {"auto.offset.reset", "error",
     "a lost offset is a gap that evictd repairs, not a place to skip to (G6)"},
    {"enable.partition.eof", "true", "what ends with no record, as every transaction of a producer does, is read up to its end"},
    {"check.crcs", "false",
     "librdkafka leaves out a batch with a wrong checksum and goes on; read, it is for 'on_poison' (G1)"},
};

constexpr const char* kOwnSettings[][2] = {
    {"bootstrap.servers", "brokers"}, {"metadata.broker.list", "brokers"}, {"group.id", "group"}};

struct ListDeleter {
  void operator()(rd_kafka_topic_partition_list_t* list) const {
    rd_kafka_topic_partition_list_destroy(list);
  }
};
using List = std::unique_ptr<rd_kafka_topic_partition_list_t, ListDeleter>;

List list_of(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets) {
  List list(rd_kafka_topic_partition_list_new(static_cast<int>(offsets.size())));
  for (const auto& [at, offset] : offsets) {
    rd_kafka_topic_partition_list_add(list.get(), at.topic.c_str(), at.partition)->offset = offset;
  }
  return list;
}

List list_of(const std::vector<TopicPartition>& partitions) {
  List list(rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size())));
  for (const TopicPartition& at : partitions) {
    rd_kafka_topic_partition_list_add(list.get(), at.topic.c_str(), at.partition);
  }
  return list;
}

std::vector<TopicPartition> partitions_of(const rd_kafka_topic_partition_list_t* list) {
  std::vector<TopicPartition> partitions;
  for (int i = 0; i < list->cnt; ++i)
    partitions.push_back({list->elems[i].topic, list->elems[i].partition});
  return partitions;
}

// One line, for a person.
std::string message_of(rd_kafka_resp_err_t code, const char* detail) {
  std::string text = rd_kafka_err2str(code);
  if (detail != nullptr && *detail != '\0' && text != detail) text += std::string(": ") + detail;
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// What commit_beginning() writes beside an offset, for the other members of a group that is just
// beginning.
constexpr std::string_view kBeginning = "evictd began ";

std::string beginning_note(SystemTime now) {
  const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  return std::string(kBeginning) + std::to_string(since.count());
}

std::optional<SystemTime> time_of_note(std::string_view note) {
  if (!note.starts_with(kBeginning)) return std::nullopt;
  note.remove_prefix(kBeginning.size());
  std::int64_t milliseconds = 0;
  const auto [end, error] = std::from_chars(note.data(), note.data() + note.size(), milliseconds);
  if (error != std::errc{} || end != note.data() + note.size()) return std::nullopt;
  return SystemTime(std::chrono::milliseconds(milliseconds));
}

// A property that is a number, as it is in force.
std::size_t number_of(const rd_kafka_t* client, const char* property) {
  char text[32];
  std::size_t size = sizeof text;
  EVICTD_CHECK(rd_kafka_conf_get(rd_kafka_conf(const_cast<rd_kafka_t*>(client)), property, text, &size) ==
               RD_KAFKA_CONF_OK);
  return static_cast<std::size_t>(std::strtoull(text, nullptr, 10));
}

}  // namespace

std::vector<TopicPartition> partitions_of(const std::map<std::string, std::int32_t>& topics) {
  std::vector<TopicPartition> partitions;
  for (const auto& [topic, count] : topics) {
    for (std::int32_t partition = 0; partition < count; ++partition) partitions.push_back({topic, partition});
  }
  return partitions;
}

Result<KafkaConf> make_kafka_conf(const KafkaOptions& options) {
  char reason[512];
  KafkaConf conf(rd_kafka_conf_new());
  const auto set = [&](const std::string& name, const std::string& value) {
    return rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), reason, sizeof reason);
  };
  for (const auto& [name, value] : kDefaults) set(name, value);
  for (const auto& [name, value] : options.properties) {
    for (const auto& pinned : kPinned) {
      if (name == pinned.name) {
        return fail(ErrorKind::kUsage, fmt::format("the Kafka property '{}' cannot be set", name),
                    fmt::format("evictd sets it to '{}': {}", pinned.value, pinned.why));
      }
    }
    for (const auto& own : kOwnSettings) {
      if (name == own[0]) {
        return fail(ErrorKind::kUsage, fmt::format("the Kafka property '{}' cannot be set", name),
                    fmt::format("use '{}' of the 'kafka' section", own[1]));
      }
    }
    const auto why = name.starts_with("ssl.") && name.ends_with(".location") ? why_not_to_open(value) : std::nullopt;
    if (why) return fail(ErrorKind::kUsage, fmt::format("the Kafka property '{}': {}", name, *why), std::string(kSpecialFileHint));
    switch (set(name, value)) {
      case RD_KAFKA_CONF_OK:
        break;
      case RD_KAFKA_CONF_UNKNOWN:
        return fail(ErrorKind::kUsage, fmt::format("unknown Kafka property '{}'", name),
                    "librdkafka's CONFIGURATION.md lists them");
      case RD_KAFKA_CONF_INVALID:
        // librdkafka's own text repeats the value, which may be a password.
        return fail(ErrorKind::kUsage, fmt::format("bad value of the Kafka property '{}'", name),
                    "librdkafka's CONFIGURATION.md says what it may be");
    }
  }
  for (const auto& pinned : kPinned) set(pinned.name, pinned.value);
  if (set("bootstrap.servers", options.brokers) != RD_KAFKA_CONF_OK ||
      set("group.id", options.group) != RD_KAFKA_CONF_OK) {
    return fail(ErrorKind::kUsage, fmt::format("bad 'brokers' or 'group': {}", reason));
  }
  return conf;
}

Error kafka_error(rd_kafka_resp_err_t code, const char* detail) {
  Error error;
  error.text = "kafka: " + message_of(code, detail);
  switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
      error.kind = ErrorKind::kUsage;
      error.hint = "check security.protocol and sasl.* in 'properties'";
      break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
      error.kind = ErrorKind::kUsage;
      error.hint = "allow the user to read and describe the topics";
      break;
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
      error.kind = ErrorKind::kUsage;
      error.hint = "allow the user to read the consumer group";
      break;
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
      error.kind = ErrorKind::kFatal;
      error.hint = "another consumer uses the same group.instance.id; each evictd needs its own";
      break;
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
      error.kind = ErrorKind::kTransient;
      error.hint = "see that the brokers run, and that the addresses they advertise can be reached from here";
      break;
    default:
      error.kind = ErrorKind::kTransient;
  }
  return error;
}

Result<void> validate(const KafkaOptions& options) {
  for (const std::string& topic : options.topics) {
    if (auto wanted = WantedTopic::parse(topic); !wanted) return tl::unexpected(wanted.error());
  }
  auto conf = make_kafka_conf(options);
  if (!conf) return tl::unexpected(conf.error());
  return {};
}

struct KafkaClient::Impl {
  KafkaOptions options;
  rd_kafka_t* consumer = nullptr;
  rd_kafka_queue_t* records = nullptr;
  int event_descriptor = -1;
  KafkaClientHandler* handler = nullptr;  // during serve_events() and front()
  std::atomic<bool> closing = false;
  bool has_subscribed = false;
  std::atomic<bool> was_told_partitions = false;

  std::array<rd_kafka_message_t*, kBatchRecords> batch{};
  std::size_t batch_next = 0;
  std::size_t batch_size = 0;
  bool may_have_more = false;
  // Read since the ends were last asked for, and how much of it is half the queue.
  std::size_t read_bytes = 0, read_records = 0;
  std::size_t half_bytes = 0, half_records = 0;
  KafkaRecord record;
  bool reads_headers = false;  // they are parsed when asked for
  // Assigned partitions by topic handle: records of others are dropped.
  std::map<TopicPartition, std::int64_t> assigned;
  rd_kafka_topic_t* last_topic = nullptr;
  std::int32_t last_partition = -1;
  bool last_is_assigned = false;
  std::string last_topic_name;

  static void on_rebalance(rd_kafka_t* consumer, rd_kafka_resp_err_t code,
                           rd_kafka_topic_partition_list_t* list, void* opaque) {
    auto& self = *static_cast<Impl*>(opaque);
    const bool is_assign = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    if (is_assign) self.was_told_partitions = true;
    // While closing, the last revoke comes on the closing thread and needs no work of ours any
    // more.
    if (self.closing || self.handler == nullptr) {
      self.change_assignment(consumer, is_assign ? nullptr : list, false);
      return;
    }
    if (is_assign) {
      self.handler->on_assigned(partitions_of(list));
    } else {
      self.handler->on_revoked(partitions_of(list), rd_kafka_assignment_lost(consumer) != 0);
    }
  }

  static void on_commit(rd_kafka_t*, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* list, void* opaque) {
    const auto& self = *static_cast<Impl*>(opaque);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR || self.handler == nullptr) return;
    std::vector<TopicPartition> committed;
    for (int i = 0; i < list->cnt; ++i) {
      const rd_kafka_topic_partition_t& one = list->elems[i];
      if (one.err == RD_KAFKA_RESP_ERR_NO_ERROR && one.offset >= 0) committed.push_back({one.topic, one.partition});
    }
    self.handler->on_committed(committed);
  }

  static void on_error(rd_kafka_t* consumer, int code, const char* reason, void* opaque) {
    auto& self = *static_cast<Impl*>(opaque);
    if (self.handler == nullptr) return;
    auto error_code = static_cast<rd_kafka_resp_err_t>(code);
    char fatal[512] = "";
    if (error_code == RD_KAFKA_RESP_ERR__FATAL) {
      const auto original = rd_kafka_fatal_error(consumer, fatal, sizeof fatal);
      Error error = kafka_error(original, fatal);
      error.kind = ErrorKind::kFatal;
      self.handler->on_client_error(error);
      return;
    }
    const Error error = kafka_error(error_code, reason);
    if (error_code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) return self.handler->on_brokers_down(error);
    self.handler->on_client_error(error);
  }

  static void on_log(const rd_kafka_t*, int, const char*, const char*) {
  }  // errors come by on_error

  // `list` null: take nothing.
  rd_kafka_resp_err_t change_assignment(rd_kafka_t* of, rd_kafka_topic_partition_list_t* list, bool add) {
    const bool cooperative = std::string_view(rd_kafka_rebalance_protocol(of)) == "COOPERATIVE";
    if (!cooperative) return rd_kafka_assign(of, add ? list : nullptr);
    if (list == nullptr) return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_error_t* error =
        add ? rd_kafka_incremental_assign(of, list) : rd_kafka_incremental_unassign(of, list);
    if (error == nullptr) return RD_KAFKA_RESP_ERR_NO_ERROR;
    const auto code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    return code;
  }

  void drop_batch() {
    while (batch_next < batch_size) rd_kafka_message_destroy(batch[batch_next++]);
  }

  // What was fetched of a partition before it was given up must not be mixed with what is fetched
  // of it later.
  void drop_unassigned() {
    std::size_t kept = batch_next;
    for (std::size_t i = batch_next; i < batch_size; ++i) {
      if (batch[i]->rkt == nullptr || is_assigned(*batch[i])) {
        batch[kept++] = batch[i];
      } else {
        rd_kafka_message_destroy(batch[i]);
      }
    }
    batch_size = kept;
  }

  bool is_assigned(const rd_kafka_message_t& message) {
    if (message.rkt == last_topic && message.partition == last_partition) return last_is_assigned;
    last_topic = message.rkt;
    last_partition = message.partition;
    last_topic_name = rd_kafka_topic_name(message.rkt);
    last_is_assigned = assigned.contains({last_topic_name, message.partition});
    return last_is_assigned;
  }

  void forget_last() {
    last_topic = nullptr;
    last_partition = -1;
  }

  void report(const rd_kafka_message_t& message) {
    const std::string topic = message.rkt != nullptr ? rd_kafka_topic_name(message.rkt) : "";
    switch (message.err) {
      case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        handler->on_end_reached({topic, message.partition}, message.offset);
        return;
      case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
      case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        handler->on_offset_lost({topic, message.partition});
        return;
      case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
      case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
      case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        handler->on_topic_missing(topic);
        return;
      case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        if (topic.empty()) break;
        handler->on_topic_refused(topic, kafka_error(message.err, nullptr));
        return;
      default:
        break;
    }
    Error error = kafka_error(message.err, rd_kafka_message_errstr(&message));
    if (!topic.empty()) error.text += fmt::format(" (topic '{}')", topic);
    handler->on_client_error(error);
  }
};

KafkaClient::KafkaClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<KafkaClient>> KafkaClient::make(const KafkaOptions& options) {
  auto conf = make_kafka_conf(options);
  if (!conf) return tl::unexpected(conf.error());
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->reads_headers = options.registry.is_set();
  impl->event_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (impl->event_descriptor < 0) return fail(ErrorKind::kFatal, "cannot create an eventfd");
  rd_kafka_conf_set_opaque(conf->get(), impl.get());
  rd_kafka_conf_set_rebalance_cb(conf->get(), &Impl::on_rebalance);
  rd_kafka_conf_set_offset_commit_cb(conf->get(), &Impl::on_commit);
  rd_kafka_conf_set_error_cb(conf->get(), &Impl::on_error);
  rd_kafka_conf_set_log_cb(conf->get(), &Impl::on_log);
  char reason[512];
  impl->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf->get(), reason, sizeof reason);
  if (impl->consumer == nullptr) {
    ::close(impl->event_descriptor);
    return fail(ErrorKind::kUsage, fmt::format("kafka: {}", reason),
                "check 'properties' of the 'kafka' section");
  }
  conf->release();
  rd_kafka_poll_set_consumer(impl->consumer);
  impl->half_bytes = number_of(impl->consumer, "queued.max.messages.kbytes") * 1024 / 2;
  impl->half_records = number_of(impl->consumer, "queued.min.messages") / 2;
  impl->records = rd_kafka_queue_new(impl->consumer);
  // An eventfd takes eight bytes at a time.
  static const std::uint64_t kOne = 1;
  rd_kafka_queue_t* events = rd_kafka_queue_get_consumer(impl->consumer);
  rd_kafka_queue_io_event_enable(events, impl->event_descriptor, &kOne, sizeof kOne);
  rd_kafka_queue_destroy(events);
  rd_kafka_queue_io_event_enable(impl->records, impl->event_descriptor, &kOne, sizeof kOne);
  return std::unique_ptr<KafkaClient>(new KafkaClient(std::move(impl)));
}

// librdkafka 2.0 aborts the process (rd_kafka_sticky_assignor_state_destroy) when a consumer is destroyed that was
// joining its group and had not been told its partitions. Such a one was closed and has left the group; the rest of
// it stays, known and untouched, until the process ends, which is what comes next.
KafkaClient::~KafkaClient() {
  impl_->drop_batch();
  if (impl_->has_subscribed && !impl_->was_told_partitions) {
    static std::vector<std::unique_ptr<Impl>> left_behind;
    left_behind.push_back(std::move(impl_));
    return;
  }
  end(std::move(impl_));
}

// librdkafka 2.0 may never return from rd_kafka_destroy() when a topic that the consumer was reading has been deleted: a
// partition that is gone keeps a reference to its broker, and the broker's thread waits for it (confluentinc/librdkafka,
// "Consumer hangs if closing together with deleting topic"). Whoever destroys must not wait with it: the group has been left by then, and the next client owes nothing to this one. A thread that hangs keeps its client until the process ends, one for each topic deleted under a reader at most.
void KafkaClient::end(std::unique_ptr<Impl> impl) {
  struct Ending {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_over = false;
  };
  const auto ending = std::make_shared<Ending>();
  const auto destroy = [ending, client = std::shared_ptr<Impl>(std::move(impl))] {
    rd_kafka_queue_destroy(client->records);
    rd_kafka_destroy(client->consumer);
    ::close(client->event_descriptor);
    const std::lock_guard lock(ending->mutex);
    ending->is_over = true;
    ending->changed.notify_all();
  };
  try {
    std::thread(destroy).detach();
  } catch (const std::system_error&) {
    destroy();  // threads are used up
    return;
  }
  std::unique_lock lock(ending->mutex);
  ending->changed.wait_for(lock, kDestroyPatience, [&] { return ending->is_over; });
}

int KafkaClient::descriptor() const { return impl_->event_descriptor; }

void KafkaClient::clear_descriptor() {
  std::uint64_t count = 0;
  if (::read(impl_->event_descriptor, &count, sizeof count) == sizeof count)
    impl_->may_have_more = true;
}

Result<void> KafkaClient::subscribe() {
  List topics(rd_kafka_topic_partition_list_new(1));
  for (const std::string& topic : impl_->options.topics) {
    rd_kafka_topic_partition_list_add(topics.get(), topic.c_str(), RD_KAFKA_PARTITION_UA);
  }
  impl_->has_subscribed = true;
  const auto code = rd_kafka_subscribe(impl_->consumer, topics.get());
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  Error error = kafka_error(code, nullptr);
  if (code == RD_KAFKA_RESP_ERR__INVALID_ARG) error.kind = ErrorKind::kUsage;
  return tl::unexpected(std::move(error).within("cannot subscribe"));
}

void KafkaClient::serve_events(KafkaClientHandler& handler) {
  impl_->handler = &handler;
  while (rd_kafka_message_t* message = rd_kafka_consumer_poll(impl_->consumer, 0)) {
    // Records go to their own queue; what comes here are errors of the consumer.
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) impl_->report(*message);
    rd_kafka_message_destroy(message);
  }
  impl_->handler = nullptr;
}

SchemaHeaders schema_headers(const rd_kafka_message_t& message) {
  SchemaHeaders found;
  rd_kafka_headers_t* headers = nullptr;  // the message's own
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return found;
  const char* name = nullptr;
  const void* bytes = nullptr;
  std::size_t size = 0;
  for (std::size_t at = 0; rd_kafka_header_get_all(headers, at, &name, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++at) {
    if (bytes != nullptr) take_header(name, {static_cast<const char*>(bytes), size}, found);
  }
  return found;
}

const KafkaRecord* KafkaClient::front(KafkaClientHandler& handler) {
  Impl& impl = *impl_;
  for (;;) {
    if (impl.batch_next == impl.batch_size) {
      const ssize_t count =
          rd_kafka_consume_batch_queue(impl.records, 0, impl.batch.data(), impl.batch.size());
      impl.batch_next = 0;
      impl.batch_size = count > 0 ? static_cast<std::size_t>(count) : 0;
      impl.may_have_more = impl.batch_size > 0;
      if (impl.batch_size == 0) return nullptr;
    }
    const rd_kafka_message_t& message = *impl.batch[impl.batch_next];
    if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      impl.handler = &handler;
      impl.report(message);
      impl.handler = nullptr;
      pop();
      continue;
    }
    if (!impl.is_assigned(message)) {
      pop();
      continue;
    }
    KafkaRecord& record = impl.record;
    record.topic = impl.last_topic_name;
    record.partition = message.partition;
    record.offset = message.offset;
    const auto bytes = [](const void* data, std::size_t size) -> std::optional<std::string_view> {
      if (data == nullptr) return std::nullopt;
      return std::string_view(static_cast<const char*>(data), size);
    };
    record.key = bytes(message.key, message.key_len);
    record.value = bytes(message.payload, message.len);
    const std::int64_t timestamp = rd_kafka_message_timestamp(&message, nullptr);
    record.timestamp_ms = timestamp > 0 ? timestamp : 0;
    if (impl.reads_headers) record.schemas = schema_headers(message);
    return &record;
  }
}

void KafkaClient::pop() {
  rd_kafka_message_t* message = impl_->batch[impl_->batch_next++];
  impl_->read_bytes += message->len + message->key_len;
  ++impl_->read_records;
  rd_kafka_message_destroy(message);
}

bool KafkaClient::may_have_more() const { return impl_->may_have_more; }

bool KafkaClient::should_ask_for_ends() {
  if (impl_->read_bytes < impl_->half_bytes && impl_->read_records < impl_->half_records) return false;
  impl_->read_bytes = impl_->read_records = 0;
  return true;
}

Result<void> KafkaClient::assign(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets) {
  for (const auto& [at, offset] : offsets) {
    // Before the fetch begins, so that no record of the partition takes the way of the events.
    rd_kafka_queue_t* queue =
        rd_kafka_queue_get_partition(impl_->consumer, at.topic.c_str(), at.partition);
    if (queue != nullptr) {
      rd_kafka_queue_forward(queue, impl_->records);
      rd_kafka_queue_destroy(queue);
    }
    impl_->assigned[at] = offset;
  }
  impl_->forget_last();
  const auto code = impl_->change_assignment(impl_->consumer, list_of(offsets).get(), true);
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  Error error = kafka_error(code, nullptr).within("cannot take the partitions that the group gives");
  error.kind = ErrorKind::kConnection;
  return tl::unexpected(std::move(error));
}

void KafkaClient::unassign(const std::vector<TopicPartition>& partitions) {
  for (const TopicPartition& at : partitions) impl_->assigned.erase(at);
  impl_->forget_last();
  impl_->drop_unassigned();
  impl_->change_assignment(impl_->consumer, list_of(partitions).get(), false);
}

void KafkaClient::store(const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets) {
  // A partition that was revoked meanwhile is refused, which is as it should be.
  rd_kafka_offsets_store(impl_->consumer, list_of(offsets).get());
}

void KafkaClient::commit_stored(
    const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets) {
  if (offsets.empty()) return;
  rd_kafka_commit(impl_->consumer, list_of(offsets).get(), 1);
}

void KafkaClient::commit_beginning(
    const std::vector<std::pair<TopicPartition, std::int64_t>>& offsets, SystemTime now) {
  if (offsets.empty()) return;
  const std::string note = beginning_note(now);
  const List list = list_of(offsets);
  for (int i = 0; i < list->cnt; ++i) {
    // Freed with the list.
    list->elems[i].metadata = ::strdup(note.c_str());
    list->elems[i].metadata_size = note.size();
  }
  rd_kafka_commit(impl_->consumer, list.get(), 1);
}

std::optional<std::int64_t> KafkaClient::known_end(const TopicPartition& at) const {
  std::int64_t low = 0, high = 0;
  const auto code =
      rd_kafka_get_watermark_offsets(impl_->consumer, at.topic.c_str(), at.partition, &low, &high);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR || high < 0) return std::nullopt;
  return high;
}

Result<std::map<std::string, std::int32_t>> KafkaClient::matching_topics() {
  const rd_kafka_metadata_t* metadata = nullptr;
  const auto code = rd_kafka_metadata(impl_->consumer, 1, nullptr, &metadata, kCallTimeoutMs);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return tl::unexpected(kafka_error(code, nullptr).within("cannot list the topics"));
  }
  std::map<std::string, std::int32_t> topics;
  for (const std::string& wanted : impl_->options.topics) {
    const auto entry = WantedTopic::parse(wanted);
    if (!entry) continue;  // validate() refuses it
    for (int i = 0; i < metadata->topic_cnt; ++i) {
      const auto& topic = metadata->topics[i];
      if (entry->matches(topic.topic) && topic.err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        topics[topic.topic] = topic.partition_cnt;
    }
  }
  rd_kafka_metadata_destroy(metadata);
  return topics;
}

Result<std::vector<PartitionOffsets>> KafkaClient::look_up(
    const std::vector<TopicPartition>& partitions) {
  std::vector<PartitionOffsets> found;
  if (partitions.empty()) return found;
  const List list = list_of(partitions);
  if (const auto code = rd_kafka_committed(impl_->consumer, list.get(), kCallTimeoutMs);
      code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return tl::unexpected(kafka_error(code, nullptr).within("cannot read the committed offsets"));
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kLookUpMaxMs);
  for (int i = 0; i < list->cnt; ++i) {
    const auto& element = list->elems[i];
    if (std::chrono::steady_clock::now() >= deadline) {
      return tl::unexpected(kafka_error(RD_KAFKA_RESP_ERR__TIMED_OUT, nullptr)
                                .within(fmt::format("cannot find where {} partitions begin", list->cnt)));
    }
    PartitionOffsets offsets{{element.topic, element.partition}, std::nullopt, 0, 0};
    if (element.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return tl::unexpected(kafka_error(element.err, nullptr).within(offsets.at.to_string()));
    }
    if (element.offset >= 0) offsets.committed = element.offset;
    if (const auto code =
            rd_kafka_query_watermark_offsets(impl_->consumer, element.topic, element.partition,
                                             &offsets.low, &offsets.high, kCallTimeoutMs);
        code != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return tl::unexpected(kafka_error(code, nullptr).within(offsets.at.to_string()));
    }
    found.push_back(std::move(offsets));
  }
  return found;
}

Result<GroupHistory> KafkaClient::group_history(
    const std::map<std::string, std::int32_t>& topics) {
  GroupHistory history;
  const std::vector<TopicPartition> partitions = partitions_of(topics);
  if (partitions.empty()) return history;
  const List list = list_of(partitions);
  if (const auto code = rd_kafka_committed(impl_->consumer, list.get(), kCallTimeoutMs);
      code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return tl::unexpected(kafka_error(code, nullptr).within("cannot read the committed offsets"));
  }
  bool all_begin = true;
  for (int i = 0; i < list->cnt; ++i) {
    const auto& element = list->elems[i];
    if (element.offset < 0) continue;
    history.has_offsets = true;
    const auto noted = time_of_note(
        {static_cast<const char*>(element.metadata), element.metadata ? element.metadata_size : 0});
    all_begin &= noted.has_value();
    if (noted) history.began = std::min(history.began.value_or(*noted), *noted);
  }
  if (!all_begin) history.began.reset();
  return history;
}

Result<std::vector<std::pair<TopicPartition, std::int64_t>>> KafkaClient::committed(
    const std::vector<TopicPartition>& partitions) {
  std::vector<std::pair<TopicPartition, std::int64_t>> found;
  if (partitions.empty()) return found;
  const List list = list_of(partitions);
  if (const auto code = rd_kafka_committed(impl_->consumer, list.get(), kCallTimeoutMs);
      code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return tl::unexpected(kafka_error(code, nullptr).within("cannot read the committed offsets"));
  }
  for (int i = 0; i < list->cnt; ++i) {
    const auto& element = list->elems[i];
    if (element.offset >= 0) found.emplace_back(TopicPartition{element.topic, element.partition}, element.offset);
  }
  return found;
}

Result<std::vector<std::pair<TopicPartition, std::int64_t>>> KafkaClient::ends(
    const std::vector<TopicPartition>& partitions) {
  std::vector<std::pair<TopicPartition, std::int64_t>> found;
  if (partitions.empty()) return found;
  const List list = list_of(partitions);
  // The timestamp that the protocol's ListOffsets takes for the end.
  for (int i = 0; i < list->cnt; ++i) list->elems[i].offset = RD_KAFKA_OFFSET_END;
  if (const auto code = rd_kafka_offsets_for_times(impl_->consumer, list.get(), kCallTimeoutMs);
      code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return tl::unexpected(kafka_error(code, nullptr).within("cannot ask where the partitions end"));
  }
  for (int i = 0; i < list->cnt; ++i) {
    const auto& element = list->elems[i];
    TopicPartition at{element.topic, element.partition};
    if (element.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return tl::unexpected(kafka_error(element.err, nullptr).within(at.to_string()));
    }
    found.emplace_back(std::move(at), element.offset);
  }
  return found;
}

Error KafkaClient::explained(Error error) {
  // Takes the first error that says more than that nobody answers.
  class Reasons final : public KafkaClientHandler {
   public:
    void on_assigned(std::vector<TopicPartition>) override {}
    void on_revoked(std::vector<TopicPartition>, bool) override {}
    void on_committed(const std::vector<TopicPartition>&) override {}
    void on_offset_lost(const TopicPartition&) override {}
    void on_end_reached(const TopicPartition&, std::int64_t) override {}
    void on_topic_refused(const std::string&, const Error&) override {}
    void on_topic_missing(const std::string&) override {}
    void on_brokers_down(const Error&) override {}
    void on_client_error(const Error& found) override {
      if (!reason || (reason->kind == ErrorKind::kTransient && found.kind != reason->kind)) {
        reason = found;
      }
    }
    std::optional<Error> reason;
  };
  Reasons reasons;
  serve_events(reasons);
  if (!reasons.reason) return error;
  // "(after 7ms in state CONNECT)" would be another text, and another line in the log, each time.
  std::string& text = reasons.reason->text;
  text.resize(std::min(text.find(" (after "), text.size()));
  return *reasons.reason;
}

void KafkaClient::close() {
  impl_->closing = true;
  rd_kafka_consumer_close(impl_->consumer);
}

}  // namespace evictd
