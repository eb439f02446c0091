// `evictd check` for Kafka: KF001 to KF011, each with its cause and its fix. Blocks; opens its own
// connections; joins no group and commits nothing.
//
//   KF001 error    cannot reach the brokers, or may not read the topics or the group
//   KF002 warning  a name or pattern of 'topics' finds nothing, or no topic carries a rule's table
//   KF003 error    a committed offset is outside of what the partition holds: a gap
//   KF004 warning  a topic keeps its records for too short a time, or is compacted
//   KF005 error    the last record of a topic cannot be decoded; warning: what it cannot tell
//   KF006 warning  group.instance.id is in use; the poll interval is short
//   KF007 warning  how the Debezium connector is set, when 'connect_url' is given
//   KF011 warning  'dead_letter_file' cannot be written
//   KF010 error    the schema registry cannot be asked, or has no schema of a record
//   KF008 error    a row filter hides changes; warning, info: what lies below the rules' tables, and that it is not known
#pragma once

#include "daemon/base/finding.h"
#include "daemon/sources/kafka/kafka_source.h"
#include "mapping/rules.h"

namespace evictd {

// `ask_table_tree`: as make_kafka_source() has it.
Findings check_kafka(const KafkaOptions& options, const RuleSet& rules, const AskTableTree& ask_table_tree = {});

}  // namespace evictd
