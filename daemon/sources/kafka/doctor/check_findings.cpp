#include "daemon/sources/kafka/doctor/check_findings.h"

#include <fmt/format.h>
#include <regex.h>

#include <algorithm>
#include <set>

#include "daemon/sources/kafka/envelope.h"
#include "daemon/sources/kafka/wanted_topic.h"

namespace evictd {
namespace {

// Of as many schemas that cannot be had `check` speaks; each may take seconds.
constexpr std::size_t kSchemasFailedMax = 3;

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "'" : ", '") + name + "'";
  return text;
}

// Whether Debezium's list of regular expressions, separated by commas, names the column: each the whole of "schema.table.column",
// in any case. One that POSIX cannot read may name any.
bool may_name(const std::string& list, const std::string& column) {
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::size_t first = list.find_first_not_of(' ', begin);
    const std::string one = first < end ? list.substr(first, end - first) : "";
    begin = end + 1;
    if (one.empty()) continue;
    regex_t pattern;
    if (regcomp(&pattern, ("^(" + one + ")$").c_str(), REG_EXTENDED | REG_NOSUB | REG_ICASE) != 0) return true;
    const bool matches = regexec(&pattern, column.c_str(), 0, nullptr, 0) == 0;
    regfree(&pattern);
    if (matches) return true;
  }
  return false;
}

// What one topic's records were seen to be.
struct Seen {
  EnvelopeDecoder decoder;
  bool is_reported = false;
  std::set<std::string> tables_without_old;  // of which updates came without the old row
  std::set<std::pair<std::string, std::string>> missing;  // table, column
  std::set<std::string> bare_numbers;  // columns whose JSON is a number although their type may be more
};

}  // namespace

void check_topic_names(const KafkaOptions& options, const RuleSet& rules,
                       const std::map<std::string, std::int32_t>& topics, Findings& findings, const TableTree* tree) {
  for (const std::string& wanted : options.topics) {
    const auto entry = WantedTopic::parse(wanted);
    if (!entry) continue;  // said before
    if (std::any_of(topics.begin(), topics.end(), [&](const auto& topic) { return entry->matches(topic.first); }))
      continue;
    if (!entry->is_pattern()) {
      findings.push_back({"KF002", Severity::kWarning, wanted, "the topic does not exist",
                          "correct 'topics'; evictd reads it as soon as it exists"});
    } else {
      findings.push_back(
          {"KF002", Severity::kWarning, wanted, "the pattern matches no topic",
           "correct 'topics'; evictd reads topics that match as soon as they exist"});
    }
  }
  const auto named = rules.tables();
  const std::set<std::string> mapped(named.begin(), named.end());
  std::set<std::string> control;
  bool all_are_named_by_table = !topics.empty();
  std::set<std::string> tables;
  for (const auto& [topic, partitions] : topics) {
    if (is_control_topic(topic, mapped)) {
      control.insert(topic);
      continue;
    }
    if (EnvelopeDecoder::table_of_topic(topic).empty()) all_are_named_by_table = false;
    for (const std::string& table : named) {
      if (is_topic_of(topic, table)) tables.insert(table);
    }
    if (tree == nullptr) continue;
    for (const auto& [below, above] : tree->above) {
      if (!is_topic_of(topic, below)) continue;
      for (const TableName& table : above) tables.insert(table.schema + "." + table.table);
    }
  }
  if (!control.empty()) {
    findings.push_back({"KF002", Severity::kInfo, joined(control),
                        "matched by 'topics', but carry no rows: their records are ignored", ""});
  }
  if (!all_are_named_by_table) return;
  for (const std::string& table : named) {
    if (tables.contains(table)) continue;
    findings.push_back({"KF002", Severity::kWarning, table,
                        "a rule names it, but no topic is named after it",
                        "correct 'topics' or the rule, or let the connector capture the table"});
  }
}

bool check_records(const std::vector<KeptRecord>& records, const RuleSet& rules,
                   Findings& findings, SchemaStore* schemas, IdWidth id_width) {
  bool is_postgres = false;
  std::map<std::string, Seen> topics;
  const auto tables = rules.tables();
  std::map<std::string, std::set<std::string>> needed;      // table -> columns of templates
  std::map<std::string, std::set<std::string>> needed_old;  // those of the old row
  for (const ColumnNeed& need : column_needs(rules)) {
    const std::string table = rules.rules()[need.rule].qualified_table();
    needed[table].insert(need.column);
    if ((need.on_update_old || need.on_delete_old) && !need.is_condition)
      needed_old[table].insert(need.column);
  }
  for (const KeptRecord& kept : records) {
    Seen& seen = topics[kept.at.topic];
    seen.decoder.set_tables({tables.begin(), tables.end()});
    if (schemas != nullptr) seen.decoder.use_registry(schemas, id_width);
    const KafkaRecord record = kept.view();
    if (!seen.decoder.missing_schemas(record).empty()) continue;  // KF010 tells
    const auto decoded = seen.decoder.decode(record);
    if (!decoded) {
      if (!std::exchange(seen.is_reported, true)) {
        findings.push_back(
            {"KF005", Severity::kError,
             fmt::format("{} offset {}", kept.at.to_string(), kept.offset), decoded.error().text,
             decoded.error().hint.empty() ? "on_poison says what evictd does about such records"
                                          : decoded.error().hint});
      }
      continue;
    }
    if (decoded->kind != RecordKind::kChange && decoded->kind != RecordKind::kSnapshotRow) continue;
    is_postgres |= decoded->connector == "postgresql";
    const Change& change = decoded->change;
    const std::string table = change.relation->qualified_name();
    if (std::find(tables.begin(), tables.end(), table) == tables.end()) continue;
    if (change.operation == Operation::kUpdate && change.old_row.empty())
      seen.tables_without_old.insert(table);
    const auto row = change.new_row.empty() ? change.old_row : change.new_row;
    if (row.empty()) continue;
    for (const std::string& name : needed[table]) {
      const auto found =
          std::find_if(change.relation->columns.begin(), change.relation->columns.end(),
                       [&](const Column& one) { return one.name == name; });
      if (found == change.relation->columns.end()) {
        if (!change.new_row.empty() && seen.missing.emplace(table, name).second) {
          findings.push_back(
              {"KF005", Severity::kError, kept.at.topic,
               fmt::format("its rows of '{}' have no column '{}', which a rule reads", table, name),
               "correct the rule, or the connector's column.include.list"});
        }
        continue;
      }
      const Value& value = row[static_cast<std::size_t>(found - change.relation->columns.begin())];
      const bool is_number = value.state == ValueState::kText && !value.text.empty() &&
                             value.text.find_first_not_of("-0123456789") == std::string_view::npos;
      const TopicTraits* traits = seen.decoder.traits(kept.at.topic);
      if (is_number && !found->in_identity && !traits->with_schema && value.text.size() >= 5) {
        seen.bare_numbers.insert(name);
      }
    }
  }
  for (auto& [topic, seen] : topics) {
    const TopicTraits* traits = seen.decoder.traits(topic);
    if (traits == nullptr) continue;
    if (!seen.bare_numbers.empty()) {
      findings.push_back(
          {"KF005", Severity::kInfo, topic,
           fmt::format(
               "comes without a schema: should {} be a date or time, its keys hold the bare number",
               joined(seen.bare_numbers)),
           "set value.converter.schemas.enable=true, or time.precision.mode=isostring"});
    }
    if (traits->is_avro_without_names) {
      findings.push_back({"KF005", Severity::kWarning, topic,
                          "its Avro schema does not name Debezium's types: keys hold the bare numbers of dates and times that have "
                          "no type of Avro's own",
                          "set connect.meta.data=true on the converter (Confluent's), or time.precision.mode=isostring"});
    }
    if (traits->flattened) {
      findings.push_back({"KF005", Severity::kWarning, topic,
                          "is flattened by ExtractNewRecordState: old values are not sent, and a "
                          "truncate is not either",
                          "remove the transform; else rules that read columns outside the key "
                          "purge their patterns"});
    }
    for (const std::string& table : seen.tables_without_old) {
      const auto doubtful = needed_old.find(table);
      if (traits->flattened || doubtful == needed_old.end()) continue;
      findings.push_back(
          {"KF005", Severity::kWarning, topic,
           fmt::format("updates{} come without the old row; rules read old values of {}",
                       traits->tables.size() > 1 ? " of '" + table + "'" : "", joined(doubtful->second)),
           "ALTER TABLE ... REPLICA IDENTITY FULL, unless these are the key or never change "
           "(immutable)"});
    }
    if (traits->flattened && !traits->has_transactions) {
      findings.push_back({"KF005", Severity::kInfo, topic,
                          "its records name no transaction of PostgreSQL: each counts as visible when it is received",
                          "should PostgreSQL be behind it, add source.txId and source.connector to add.fields of the "
                          "transform"});
    }
    if (!traits->has_commit_times && !traits->tables.empty()) {
      findings.push_back(
          {"KF005", Severity::kInfo, topic,
           "its records have no commit time: lag is measured from when Kafka got them",
           "add source.ts_ms to add.fields of the transform"});
    }
  }
  return is_postgres;
}

void check_schemas(const std::vector<KeptRecord>& records, const AskSchema& ask, IdWidth id_width, SchemaStore& schemas,
                   Findings& findings) {
  EnvelopeDecoder decoder;
  decoder.use_registry(&schemas, id_width);
  std::set<std::uint64_t> failed;
  bool was_framed = false;
  for (const KeptRecord& kept : records) {
    for (const auto& needed : decoder.missing_schemas(kept.view())) {
      was_framed = true;
      if (failed.contains(needed.id) || failed.size() >= kSchemasFailedMax) continue;
      auto schema = ask(needed.id);
      if (schema) {
        schemas.keep(needed.id, std::move(*schema));
        continue;
      }
      failed.insert(needed.id);
      Error& error = schema.error();
      std::string hint = error.hint;
      if (needed.other_id != 0) {
        hint = fmt::format("the id was read from {} bytes, and is {} from {}: set kafka.registry.id if the converter writes those",
                           needed.id_bytes, needed.other_id, needed.id_bytes == 4 ? 8 : 4);
      }
      findings.push_back({"KF010", Severity::kError, fmt::format("{} offset {}", kept.at.to_string(), kept.offset), error.text,
                          hint.empty() ? "evictd stops before such a record until the registry has its schema" : hint,
                          error.kind == ErrorKind::kTransient});
    }
  }
  if (was_framed || schemas.size() > 0) return;
  findings.push_back({"KF010", Severity::kInfo, "kafka.registry",
                      "no record among the last ones names a schema: nothing was asked of the registry but whether it is there", ""});
}

void check_tables(const TableTree* tree, const std::map<std::string, std::int32_t>& topics, Findings& findings) {
  if (tree == nullptr) {
    findings.push_back({"KF008", Severity::kInfo, "postgres_url",
                        "is not set: what lies below the tables of the rules is not known, and events of INHERITS children "
                        "and of partitions do nothing for the tables above them; nor is it known whether a row filter leaves "
                        "out changes",
                        "set postgres_url to the database that the connector reads"});
    return;
  }
  for (const std::string& table : tree->filtered) {
    findings.push_back({"KF008", Severity::kError, table,
                        "the connector's publication leaves out rows of it (a row filter): their changes never reach Kafka",
                        "remove the filter: ALTER PUBLICATION ... SET TABLE without WHERE"});
  }
  for (const auto& [below, above] : tree->above) {
    if (tree->partitioned.contains(below)) continue;
    const bool is_child = tree->children.contains(below);
    const bool has_topic = [&, &table = below, &parents = above] {
      return std::any_of(topics.begin(), topics.end(), [&](const auto& topic) {
        return is_topic_of(topic.first, table) ||
               // Partitions whose events name the root (publish.via.partition.root).
               (!is_child && std::any_of(parents.begin(), parents.end(), [&](const TableName& parent) {
                 return is_topic_of(topic.first, parent.schema + "." + parent.table);
               }));
      });
    }();
    if (has_topic) continue;
    findings.push_back({"KF008", Severity::kWarning, below,
                        fmt::format("lies below '{}.{}', which a rule names, but no topic of 'topics' is named after {}",
                                    above.front().schema, above.front().table, is_child ? "it" : "either"),
                        "let 'topics' match its topic, and the connector capture it; a topic comes with the first event"});
  }
}

void check_connectors(const ConnectorSettings& connectors, const KafkaOptions& options,
                      Findings& findings) {
  for (const auto& [name, settings] : connectors) {
    const auto value = [&settings = settings](const char* key, const char* otherwise) {
      const auto found = settings.find(key);
      return found == settings.end() ? std::string(otherwise) : found->second;
    };
    const std::string kind = value("connector.class", "");
    if (!kind.starts_with("io.debezium.")) continue;
    const std::string object = "connector '" + name + "'";
    if (value("skipped.operations", "t").find('t') != std::string::npos) {
      findings.push_back({"KF007", Severity::kWarning, object,
                          "skips truncate (skipped.operations): a TRUNCATE invalidates nothing",
                          "set skipped.operations=none"});
    }
    for (const auto& [letter, operation] : {std::pair("c", "an INSERT"), {"u", "an UPDATE"}, {"d", "a DELETE"}}) {
      const std::string skipped = "," + value("skipped.operations", "t") + ",";
      if (skipped.find("," + std::string(letter) + ",") == std::string::npos) continue;
      findings.push_back({"KF007", Severity::kError, object,
                          fmt::format("skips changes (skipped.operations): {} invalidates nothing", operation),
                          "set skipped.operations=none"});
    }
    if (value("unavailable.value.placeholder", "__debezium_unavailable_value") != "__debezium_unavailable_value") {
      findings.push_back({"KF007", Severity::kError, object,
                          "has a placeholder of its own for values that were not sent (unavailable.value.placeholder): "
                          "it is taken for a value, and keys are made of it",
                          "remove unavailable.value.placeholder"});
    }
    const std::string snapshot = value("snapshot.mode", "initial");
    if (options.on_snapshot == OnSnapshotEvent::kInvalidate &&
        (snapshot == "initial" || snapshot == "always")) {
      findings.push_back({"KF007", Severity::kWarning, object,
                          fmt::format("snapshot.mode={} sends every row, and on_snapshot: "
                                      "invalidate deletes them all from "
                                      "the cache",
                                      snapshot),
                          "set snapshot.mode=no_data, or on_snapshot: ignore"});
    }
    if (value("heartbeat.interval.ms", "0") == "0") {
      findings.push_back({"KF007", Severity::kWarning, object,
                          "sends no heartbeats: silence cannot be told from a connector that "
                          "stands still, and the slot "
                          "of an idle database holds WAL",
                          "set heartbeat.interval.ms=10000"});
    }
    for (const auto& [setting, chosen] : settings) {
      if (!setting.ends_with(".type") || chosen.find("ExtractNewRecordState") == std::string::npos) continue;
      const std::string transform = setting.substr(0, setting.size() - std::string_view("type").size());
      const auto of_transform = [&](const char* key, const char* otherwise) {
        return value((transform + key).c_str(), otherwise);
      };
      const std::string deletes = of_transform("delete.tombstone.handling.mode", "");
      // Without it, seen with 3.1, the older settings hold, and what they drop when they are not there either.
      const bool drops_tombstones = of_transform("drop.tombstones", "true") != "false" ||
                                    value("tombstones.on.delete", "true") == "false";
      const bool drops_deletes =
          deletes.empty() ? of_transform("delete.handling.mode", "drop") == "drop" && drops_tombstones : deletes == "drop";
      if (!drops_deletes) continue;
      findings.push_back({"KF007", Severity::kError, object,
                          fmt::format("flattens rows and drops deletes (delete.tombstone.handling.mode{}): a delete "
                                      "invalidates nothing",
                                      deletes.empty() ? " is not set" : ""),
                          "set delete.tombstone.handling.mode=rewrite of the transform"});
    }
    if (kind == "io.debezium.connector.postgresql.PostgresConnector" &&
        value("offset.mismatch.strategy", "no_validation") == "no_validation") {
      findings.push_back({"KF007", Severity::kInfo, object,
                          "makes its slot anew without a word when it is lost "
                          "(offset.mismatch.strategy): changes in "
                          "between never reach Kafka",
                          "watch the slot; after losing it run 'evictd purge'"});
    }
  }
}

void check_altered_columns(const ConnectorSettings& connectors, const RuleSet& rules, Findings& findings) {
  for (const auto& [name, settings] : connectors) {
    std::map<std::string, std::set<std::string>> altered;  // by setting: its name goes on with numbers, and a salt that is secret
    for (const auto& [setting, list] : settings) {
      for (const char* kind : {"column.mask.", "column.truncate."}) {
        if (!setting.starts_with(kind)) continue;
        for (const ColumnNeed& need : column_needs(rules)) {
          const std::string column = rules.rules()[need.rule].qualified_table() + "." + need.column;
          if (may_name(list, column)) altered[kind].insert(column);
        }
      }
    }
    for (const auto& [kind, columns] : altered) {
      findings.push_back({"KF007", Severity::kError, "connector '" + name + "'",
                          fmt::format("does not write {} as they are ({}...): keys are made of what it writes, and its changes may not show",
                                      joined(columns), kind),
                          fmt::format("remove these columns from {}..., or let the rules do without them", kind)});
    }
  }
}

}  // namespace evictd
