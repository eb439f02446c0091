// What the files of this room that use librdkafka share: kafka_client.cpp and kafka_admin.cpp,
// nothing else.
#pragma once

#include <librdkafka/rdkafka.h>

#include <memory>

#include "daemon/sources/kafka/kafka_source.h"

namespace evictd {

struct KafkaConfDeleter {
  void operator()(rd_kafka_conf_t* conf) const { rd_kafka_conf_destroy(conf); }
};
using KafkaConf = std::unique_ptr<rd_kafka_conf_t, KafkaConfDeleter>;

// evictd's defaults, the user's properties, and what may not be changed, in this order.
Result<KafkaConf> make_kafka_conf(const KafkaOptions& options);

// What to do about a code of the library, and its text in one line.
Error kafka_error(rd_kafka_resp_err_t code, const char* detail);

// Of a record with headers; a look at each of them.
SchemaHeaders schema_headers(const rd_kafka_message_t& message);

}  // namespace evictd
