// The judgements of `evictd check` that need no cluster: what topics, records and connector
// settings say. Pure.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/finding.h"
#include "daemon/sources/kafka/doctor/connect_rest.h"
#include "daemon/sources/kafka/doctor/kafka_admin.h"
#include "mapping/rules.h"

namespace evictd {

// KF002. `topics`: the existing ones that are subscribed. `tree`: what lies below the tables, whose topics are theirs; null: not known.
void check_topic_names(const KafkaOptions& options, const RuleSet& rules,
                       const std::map<std::string, std::int32_t>& topics, Findings& findings, const TableTree* tree = nullptr);

// KF005. At most one finding of a kind for each topic. True when some record came from PostgreSQL.
// `schemas`: what the registry has given; null: there is none. Records whose schema is not there are left out.
bool check_records(const std::vector<KeptRecord>& records, const RuleSet& rules,
                   Findings& findings, SchemaStore* schemas = nullptr, IdWidth id_width = IdWidth::kAuto);

// KF010. Asks the registry for the schemas of these records, and puts them into `schemas`.
using AskSchema = std::function<Result<RegisteredSchema>(std::uint64_t id)>;
void check_schemas(const std::vector<KeptRecord>& records, const AskSchema& ask, IdWidth id_width, SchemaStore& schemas,
                   Findings& findings);

// KF008. `tree`: what the database says; null: nobody asks it.
void check_tables(const TableTree* tree, const std::map<std::string, std::int32_t>& topics, Findings& findings);

// KF007.
void check_connectors(const ConnectorSettings& connectors, const KafkaOptions& options,
                      Findings& findings);

// KF007: columns that rules read and the connector masks or cuts short.
void check_altered_columns(const ConnectorSettings& connectors, const RuleSet& rules, Findings& findings);

}  // namespace evictd
